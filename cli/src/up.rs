//! `windfall up`: a whole cluster on this machine.
//!
//! **Knows:** which processes there are, in which order they start and end.
//! **Promises:** when it says that the cluster is ready, it takes work; when it ends, by Ctrl-C, SIGTERM or failure,
//! everything that it started has ended; two never share a data folder.
//! **Gives up:** more than one machine.

mod data_folder;
mod demo;
mod house;
mod leftovers;
mod nats_server;
mod ports;
mod ready;
mod samples;
mod welcome;

use std::path::PathBuf;
use std::time::Duration;

use actors::bus::Bus;
use actors::store::{Credentials, NamespaceLimits, Store};
use clap::Args;
use nix::sys::signal::Signal;
use tokio::signal::unix::{SignalKind, signal};

use crate::client::{Client, Endpoint};
use crate::configuration::{Configuration, Entry, Flags, Source, to_toml};
use crate::failure::{Exit, Failure, Outcome};
use crate::output::{note, tell};
use house::{House, Order};

pub use data_folder::DataFolder;
use data_folder::{FIRST_NAMESPACE, HOUSE_USER, Key, Secrets};
pub use welcome::READY;

/// How long nats-server may take to answer for the first time; longer when it has much to read.
const NATS_PATIENCE: Duration = Duration::from_secs(60);
/// How long doors and fleet may take, on top of what a VM may take to launch.
const CLUSTER_PATIENCE: Duration = Duration::from_secs(30);
/// How long the Resource Monitor may take to end, with its VMs.
const FLEET_STOP_PATIENCE: Duration = Duration::from_secs(20);
/// How long any other process may take to end.
const STOP_PATIENCE: Duration = Duration::from_secs(8);

/// Its flags.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub struct Up {
    /// Where everything is kept that outlives it
    #[arg(long, value_name = "DIR", env = "WINDFALL_DATA", default_value = ".windfall")]
    data: PathBuf,
    /// Address of the HTTP door [default: 127.0.0.1:3233, or a free port if that is taken]
    #[arg(long, value_name = "HOST:PORT")]
    http: Option<String>,
    /// Use this NATS server instead of starting one
    #[arg(long, value_name = "URL")]
    nats_url: Option<String>,
    /// Port of the private nats-server [default: 4222, or a free one if that is taken]
    #[arg(long, value_name = "PORT", conflicts_with = "nats_url")]
    nats_port: Option<u16>,
    /// How many VMs [default: 3]
    #[arg(long, value_name = "N")]
    vms: Option<u32>,
    /// CPU of each, thousandths of a core [default: 1000]
    #[arg(long, value_name = "MILLICORES")]
    vm_cpu: Option<u32>,
    /// Memory of each, MiB [default: 1024]
    #[arg(long, value_name = "MIB")]
    vm_memory: Option<u32>,
    /// How functions find their VMs: mws, jsq, or one of other systems (a wrong name lists them)
    #[arg(long)]
    placement: Option<String>,
    /// Frontend and Controller in one process: a call takes one message fewer, and the two end together
    #[arg(long)]
    together: bool,
    /// Deploy the sample functions and call each by HTTP and by NATS
    #[arg(long)]
    demo: bool,
    /// Run the demo, stop everything, and exit 0 only if all of it worked
    #[arg(long)]
    once: bool,
}

const HELP: &str = "\
Starts a private nats-server with JetStream (unless --nats-url is given), a Frontend, a Controller and a Resource
Monitor, which starts the VMs. Each is a process of its own; their logs are in the data folder. Ctrl-C stops all of
them and nothing else. Needs a nats-server 2.11 or newer: in the data folder's bin, on PATH, or named by
WINDFALL_NATS_SERVER.

Examples:
  windfall up                           three VMs of one core, on 127.0.0.1:3233
  windfall up --demo                    the same, with sample functions to look at
  windfall up --vms 5 --vm-cpu 500 --data /tmp/other --http 127.0.0.1:3300";

/// Why the cluster ends.
enum End {
    /// Somebody asked for it.
    Asked(&'static str),
    /// The demo is over.
    Done,
    /// Something failed.
    Failed(Failure),
}

/// Carries it out.
pub async fn run(up: Up, mut flags: Flags) -> Outcome {
    // Before anything is started, so that no signal is missed.
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let asked = async move {
        tokio::select! {
            _ = interrupt.recv() => "Ctrl-C",
            _ = terminate.recv() => "SIGTERM",
            _ = hangup.recv() => "SIGHUP",
        }
    };
    tokio::pin!(asked);

    flags.also("frontend.http", up.http.as_ref(), "--http");
    flags.also("nats.url", up.nats_url.as_ref(), "--nats-url");
    flags.also("resource_monitor.vms", up.vms, "--vms");
    flags.also("resource_monitor.cpu", up.vm_cpu, "--vm-cpu");
    flags.also("resource_monitor.memory", up.vm_memory, "--vm-memory");
    flags.also("controller.placement", up.placement.as_ref(), "--placement");
    flags.also("frontend.with_controller", up.together.then_some(true), "--together");
    let configuration = Configuration::load(&flags)?;
    let folder = DataFolder::open(&up.data)?;
    let _lock = folder.lock()?;
    let mut cluster = Cluster::plan(&up, configuration, folder)?;
    tell!("Starting a cluster; its logs are in {}", cluster.folder.path("log").display());

    let mut house = House::new(cluster.folder.clone());
    let end = tokio::select! {
        biased;
        why = &mut asked => End::Asked(why),
        end = cluster.live(&up, &mut house) => end,
    };
    match &end {
        End::Asked(why) => tell!("\n{why}: stopping the cluster"),
        End::Done => tell!("The demo is over; stopping the cluster"),
        End::Failed(_) => note!("stopping what was started"),
    }
    cluster.stop(house).await;
    match end {
        End::Failed(failure) => Err(failure),
        // Whoever wanted the demo did not get it.
        End::Asked(_) if up.once => Err(Failure::new(Exit::Failed, "stopped before the demo was over")),
        _ => Ok(()),
    }
}

/// One cluster on this machine.
struct Cluster {
    configuration: Configuration,
    folder: DataFolder,
    secrets: Secrets,
    /// The program and port of the private nats-server, if there is one.
    server: Option<(PathBuf, u16)>,
    /// What people should know about ports that were not free.
    remarks: Vec<String>,
}

impl Cluster {
    /// Decides on programs and ports. Nothing is started yet.
    fn plan(up: &Up, mut configuration: Configuration, folder: DataFolder) -> Outcome<Self> {
        let secrets = folder.secrets()?;
        let left = leftovers::end(&secrets.cluster, &[]);
        let mut remarks = Vec::new();
        if left > 0 {
            remarks.push(format!("ended {left} processes that an earlier `windfall up` had left here"));
        }
        if !nix::unistd::geteuid().is_root() {
            remarks.push(
                "WITHOUT ROOT, VMS AND SANDBOXES ARE NOT CONFINED: run only functions that you trust"
                    .to_owned(),
            );
        }
        let may_move = *configuration.source("frontend.http") == Source::Default;
        let wanted = configuration.settings.frontend.http.clone();
        let http = ports::address(&wanted, may_move, "--http")?;
        if http != wanted {
            remarks.push(format!("{wanted} is taken, so the HTTP door is at {http}"));
            set(&mut configuration, "frontend.http", &http);
        }
        set(&mut configuration, "resource_monitor.cluster", &secrets.cluster);
        set(&mut configuration, "resource_monitor.folder", &folder.path("vms").display().to_string());
        let external = *configuration.source("nats.url") != Source::Default;
        let server = if external {
            None
        } else {
            let program = nats_server::find(&folder)?;
            let port = ports::nats(up.nats_port)?;
            if up.nats_port.is_none() && port != ports::NATS {
                remarks.push(format!("port {} is taken, so NATS is at port {port}", ports::NATS));
            }
            set(&mut configuration, "nats.url", &format!("nats://127.0.0.1:{port}"));
            set(&mut configuration, "nats.user", HOUSE_USER);
            set(&mut configuration, "nats.password", &secrets.nats_password);
            Some((program, port))
        };
        Ok(Self { configuration, folder, secrets, server, remarks })
    }

    /// Starts everything, shows it, and keeps it alive until something ends it.
    async fn live(&mut self, up: &Up, house: &mut House) -> End {
        let bus = match self.start(house).await {
            Ok(bus) => bus,
            Err(failure) => return End::Failed(failure),
        };
        let shown = self.show(up, &bus);
        tokio::select! {
            ended = shown => match ended {
                Ok(()) if up.once => return End::Done,
                Ok(()) => {}
                Err(failure) => return End::Failed(failure),
            },
            never = house.keep() => match never {},
        }
        match house.keep().await {}
    }

    async fn start(&mut self, house: &mut House) -> Outcome<Bus> {
        if let Some((program, port)) = self.server.clone() {
            self.folder.write_private(nats_server::USERS, &nats_server::users(&self.secrets))?;
            let text = nats_server::configuration(&self.folder, port);
            self.folder.write_private(nats_server::CONFIGURATION, &text)?;
            house.start(self.nats_order(program))?;
        }
        let settings = self.configuration.settings.clone();
        let bus = tokio::select! {
            bus = ready::nats(&settings.nats, NATS_PATIENCE) => bus?,
            failure = house.someone_dies() => return Err(failure),
        };
        // Streams, buckets and the first namespace are made here, once, before the roles look for them.
        let store = Store::open(&bus, &settings.store).await?;
        let guest = self.guest();
        let credentials = Credentials { uuid: guest.uuid.clone(), key: guest.key.clone() };
        store.namespaces().create(FIRST_NAMESPACE, Some(credentials), NamespaceLimits::default()).await?;

        let settings_file = self.folder.write_settings(&to_toml(&self.configuration.entries))?;
        for (name, patience) in [
            ("frontend", STOP_PATIENCE),
            ("controller", STOP_PATIENCE),
            ("resource-monitor", FLEET_STOP_PATIENCE),
        ] {
            if name == "controller" && settings.frontend.with_controller {
                continue;
            }
            house.start(self.role_order(name, &settings_file, patience)?)?;
        }
        self.folder.announce(&self.api(), &settings.nats.url, &guest)?;
        let fleet = &settings.resource_monitor;
        let vms = if fleet.provider == "none" { 0 } else { fleet.vms };
        let patience = CLUSTER_PATIENCE + Duration::from_millis(fleet.launch_patience_ms);
        let api = self.api();
        tokio::select! {
            fleet = ready::cluster(&bus, &api, vms, patience) => fleet?,
            failure = house.someone_dies() => return Err(failure),
        };
        Ok(bus)
    }

    /// Tells people what there is, and runs the demo if they want it.
    async fn show(&self, up: &Up, bus: &Bus) -> Outcome {
        let guest = self.guest();
        let endpoint = Endpoint {
            base: self.api(),
            base_from: "windfall up".into(),
            auth: format!("{}:{}", guest.uuid, guest.key),
            auth_from: "windfall up".into(),
            namespace: Some(FIRST_NAMESPACE.into()),
            nats_url: Some(self.configuration.settings.nats.url.clone()),
        };
        for remark in &self.remarks {
            tell!("Note: {remark}");
        }
        let fleet = ready::fleet(bus).await.unwrap_or_default();
        tell!("{}", welcome::status(&endpoint, &self.folder, &fleet, self.server.is_some()));
        if up.demo || up.once {
            let client = Client::of(endpoint.clone())?;
            let settings = &self.configuration.settings;
            demo::run(&client, &settings.nats.url, &settings.vm, &self.folder).await?;
        }
        if !up.once {
            tell!("{}", welcome::how_to(&endpoint, &self.folder, up.demo));
        }
        Ok(())
    }

    /// Ends everything: the fleet first, NATS last, then what nobody looked after.
    async fn stop(&self, mut house: House) {
        for name in house.names() {
            house.stop(name).await;
            if name == "resource-monitor" {
                let left = leftovers::end(&self.secrets.cluster, &house.pids());
                if left > 0 {
                    note!("killed {left} VM processes that had not ended");
                }
            }
        }
        leftovers::end(&self.secrets.cluster, &[]);
    }

    fn guest(&self) -> Key {
        self.secrets
            .namespaces
            .get(FIRST_NAMESPACE)
            .cloned()
            .expect("made with the secrets, and never removed")
    }

    /// The address at which clients on this machine reach the HTTP door.
    fn api(&self) -> String {
        let frontend = &self.configuration.settings.frontend;
        let (host, port) = frontend.http.rsplit_once(':').unwrap_or((&frontend.http, "3233"));
        let host = match host {
            "0.0.0.0" | "[::]" => "127.0.0.1",
            host => host,
        };
        format!("http://{host}:{port}")
    }

    fn nats_order(&self, program: PathBuf) -> Order {
        let configuration = self.folder.path(nats_server::CONFIGURATION).display().to_string();
        Order {
            name: "nats-server",
            program,
            arguments: vec!["--config".into(), configuration],
            environment: self.marks(),
            hidden: Vec::new(),
            stop_with: Signal::SIGTERM,
            patience: STOP_PATIENCE,
        }
    }

    fn role_order(
        &self,
        name: &'static str,
        settings: &std::path::Path,
        patience: Duration,
    ) -> Outcome<Order> {
        let mut environment = self.marks();
        // The settings in force are all in the file: what stands in our environment is in it already, and VMs,
        // which inherit this environment, are told what is theirs by the Resource Monitor.
        environment.push(("WINDFALL_CONFIG".into(), settings.display().to_string()));
        let onnx = self.folder.path("lib/libonnxruntime.so");
        if std::env::var_os("WINDFALL_ONNXRUNTIME").is_none() && onnx.exists() {
            environment.push(("WINDFALL_ONNXRUNTIME".into(), onnx.display().to_string()));
        }
        let hidden = std::env::vars_os().filter_map(|(name, _)| {
            let name = name.into_string().ok()?;
            let is_setting = name.starts_with("WINDFALL_") && name["WINDFALL_".len()..].contains("__");
            (is_setting || name == "WINDFALL_AUTH").then_some(name)
        });
        Ok(Order {
            name,
            program: std::env::current_exe()?,
            arguments: vec![name.into()],
            environment,
            hidden: hidden.collect(),
            stop_with: Signal::SIGTERM,
            patience,
        })
    }

    fn marks(&self) -> Vec<(String, String)> {
        vec![(leftovers::MARK.to_owned(), self.secrets.cluster.clone())]
    }
}

/// Changes one value, in the settings and in the list of what is in force.
fn set(configuration: &mut Configuration, key: &str, value: &str) {
    let settings = &mut configuration.settings;
    match key {
        "frontend.http" => settings.frontend.http = value.to_owned(),
        "resource_monitor.cluster" => settings.resource_monitor.cluster = value.to_owned(),
        "resource_monitor.folder" => settings.resource_monitor.folder = value.into(),
        "nats.url" => settings.nats.url = value.to_owned(),
        "nats.user" => settings.nats.user = value.to_owned(),
        "nats.password" => settings.nats.password = value.to_owned(),
        other => unreachable!("{other} is not changed by `windfall up`"),
    }
    let entry = Entry { value: value.into(), source: Source::Flag("windfall up".into()) };
    configuration.entries.insert(key.to_owned(), entry);
}
