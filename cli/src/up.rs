//! `windfall up`: a whole cluster on this machine.
//!
//! **Knows:** which processes there are, in which order they start and end.
//! **Promises:** when it says that the cluster is ready, it takes work; when it ends, by Ctrl-C, SIGTERM or failure,
//! everything that it started has ended; two never share a data folder.
//! **Gives up:** more than one machine.

mod data_folder;
mod demo;
mod disk;
mod house;
mod leftovers;
mod nats_server;
mod network;
mod orders;
mod ports;
mod ready;
mod samples;
mod welcome;

use std::path::PathBuf;
use std::time::Duration;

use actors::bus::Bus;
use actors::store::{Credentials, NamespaceLimits, Store};
use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use crate::client::{Client, Endpoint};
use crate::configuration::{Configuration, Entry, Flags, Source, to_toml};
use crate::failure::{Exit, Failure, Outcome};
use crate::output::{note, tell};
use house::House;
use network::Bridge;
use orders::Orders;

pub use data_folder::DataFolder;
use data_folder::{FIRST_NAMESPACE, HOUSE_USER, Key, Secrets};
pub use welcome::READY;

/// How long nats-server may take to answer for the first time; longer when it has much to read.
const NATS_PATIENCE: Duration = Duration::from_secs(60);
/// How long doors and fleet may take, on top of what a VM may take to launch.
const CLUSTER_PATIENCE: Duration = Duration::from_secs(30);

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
    /// Where VMs come from: process, netns, docker, ec2, command, or none [default: process]
    #[arg(long)]
    provider: Option<String>,
    /// How functions find their VMs: mws, jsq, or one of other systems (a wrong name lists them)
    #[arg(long)]
    placement: Option<String>,
    /// How many Frontends; each further one has an HTTP door of its own, on a free port
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=16))]
    frontends: u32,
    /// How many Controllers
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=16))]
    controllers: u32,
    /// How many Resource Monitors, of which one leads
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=16))]
    monitors: u32,
    /// Have every process reach NATS through a wire that `windfall chaos` can cut and make slow
    #[arg(long)]
    wires: bool,
    /// Load libfaketime into every process, so that `windfall chaos` can turn its wall clock
    #[arg(long)]
    clocks: bool,
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
    flags.also("resource_monitor.provider", up.provider.as_ref(), "--provider");
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
    /// The private nats-server, if there is one.
    server: Option<Server>,
    /// Where the house finds its wires to NATS, if it has any.
    wires: Option<String>,
    /// What lets clocks be turned, if that is wanted.
    faketime: Option<PathBuf>,
    /// HTTP doors of further Frontends.
    doors: Vec<String>,
    /// Of VMs with a network of their own; kept until everything has ended.
    _bridge: Option<Bridge>,
    /// What people should know about ports that were not free.
    remarks: Vec<String>,
}

/// A private nats-server.
#[derive(Debug, Clone)]
struct Server {
    program: PathBuf,
    host: String,
    port: u16,
}

impl Cluster {
    /// Decides on programs and ports. No process is started yet.
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
        if *configuration.source("frontend.leave_ms") == Source::Default {
            // Whoever presses Ctrl-C watches.
            set(&mut configuration, "frontend.leave_ms", "4000");
        }
        set(&mut configuration, "resource_monitor.cluster", &secrets.cluster);
        set(&mut configuration, "resource_monitor.folder", &folder.path("vms").display().to_string());
        let external = *configuration.source("nats.url") != Source::Default;
        let bridge = if configuration.settings.resource_monitor.provider == "netns" {
            let (bridge, netns) = Bridge::make(&configuration, &secrets.cluster)?;
            set(&mut configuration, "netns.subnet", &netns.subnet);
            set(&mut configuration, "netns.bridge", &netns.bridge);
            Some(bridge)
        } else {
            None
        };
        let server = if external {
            None
        } else {
            let program = nats_server::find(&folder)?;
            // VMs with a network of their own reach the bridge and nothing else of this machine.
            let host = bridge.as_ref().map_or_else(|| "127.0.0.1".to_owned(), Bridge::host);
            let port = ports::nats(&host, up.nats_port)?;
            if up.nats_port.is_none() && port != ports::NATS {
                remarks.push(format!("port {} is taken, so NATS is at port {port}", ports::NATS));
            }
            set(&mut configuration, "nats.url", &format!("nats://{host}:{port}"));
            set(&mut configuration, "nats.user", HOUSE_USER);
            set(&mut configuration, "nats.password", &secrets.nats_password);
            Some(Server { program, host, port })
        };
        let mut wires = None;
        if up.wires {
            let Some(server) = &server else {
                return Err(Failure::usage("--wires needs a private nats-server: leave --nats-url out"));
            };
            wires = Some(ports::free(&server.host)?);
        }
        let faketime = if up.clocks { ::chaos::clocks::library() } else { None };
        if up.clocks && faketime.is_none() {
            remarks.push(
                "NO CLOCK CAN BE TURNED: libfaketime is not here (Debian's package of that name; WINDFALL_FAKETIME names \
                 it where it is elsewhere)"
                    .to_owned(),
            );
        }
        let host = http.rsplit_once(':').map_or("127.0.0.1", |(host, _)| host);
        let doors = (1..up.frontends).map(|_| ports::free(host)).collect::<Outcome<Vec<_>>>()?;
        remarks.extend(doors.iter().map(|door| format!("there is one more HTTP door, at {door}")));
        Ok(Self { configuration, folder, secrets, server, wires, faketime, doors, _bridge: bridge, remarks })
    }

    /// Starts everything, shows it, and keeps it alive until something ends it.
    async fn live(&mut self, up: &Up, house: &mut House) -> End {
        let bus = match self.start(up, house).await {
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

    async fn start(&mut self, up: &Up, house: &mut House) -> Outcome<Bus> {
        if let Some(Server { program, host, port }) = self.server.clone() {
            self.folder.write_private(nats_server::USERS, &nats_server::users(&self.secrets))?;
            let text = nats_server::configuration(&self.folder, &host, port);
            self.folder.write_private(nats_server::CONFIGURATION, &text)?;
            house.start(self.orders().nats(program))?;
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

        if let Some(wires) = self.wires.clone() {
            set(&mut self.configuration, "nats.url", &format!("nats://{wires}"));
        }
        let settings_file = self.folder.write_settings(&to_toml(&self.configuration.entries))?;
        let orders = self.orders();
        if let (Some(wires), Some(Server { host, port, .. })) = (&self.wires, &self.server) {
            house.start(orders.wires(&settings_file, wires, &format!("{host}:{port}"))?)?;
            tokio::select! {
                wired = ready::nats(&self.configuration.settings.nats, NATS_PATIENCE) => drop(wired?),
                failure = house.someone_dies() => return Err(failure),
            };
        }
        let controllers = if settings.frontend.with_controller { 0 } else { up.controllers };
        for (role, count) in
            [("frontend", up.frontends), ("controller", controllers), (orders::FLEET, up.monitors)]
        {
            for number in 1..=count {
                let mut order = orders.role(role, number, &settings_file)?;
                if let Some(library) = &self.faketime {
                    let file = self.folder.path(&format!("{}.clock", order.name));
                    order.environment.extend(::chaos::clocks::environment(library, &file)?);
                }
                if let Some(door) = number.checked_sub(2).and_then(|further| self.doors.get(further as usize))
                    && role == "frontend"
                {
                    order.environment.push(("WINDFALL_FRONTEND__HTTP".into(), door.clone()));
                }
                house.start(order)?;
            }
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
            nats_url: Some(self.nats_url()),
        };
        for remark in &self.remarks {
            tell!("Note: {remark}");
        }
        let fleet = ready::fleet(bus).await.unwrap_or_default();
        tell!("{}", welcome::status(&endpoint, &self.folder, &fleet, self.server.is_some()));
        if up.demo || up.once {
            let client = Client::of(endpoint.clone())?;
            let settings = &self.configuration.settings;
            demo::run(&client, &self.nats_url(), &settings.vm, &self.folder).await?;
        }
        if !up.once {
            tell!("{}", welcome::how_to(&endpoint, &self.folder, up.demo));
        }
        Ok(())
    }

    /// Ends everything: the fleet first, NATS last, then what nobody looked after.
    async fn stop(&self, mut house: House) {
        for role in house.roles() {
            house.stop(role).await;
            if role == orders::FLEET {
                let left = leftovers::end(&self.secrets.cluster, &house.pids());
                if left > 0 {
                    note!("killed {left} VM processes that had not ended");
                }
            }
        }
        leftovers::end(&self.secrets.cluster, &[]);
        if self.faketime.is_some() {
            ::chaos::clocks::clear_away();
        }
    }

    fn guest(&self) -> Key {
        self.secrets
            .namespaces
            .get(FIRST_NAMESPACE)
            .cloned()
            .expect("made with the secrets, and never removed")
    }

    /// Where everybody but the house itself finds NATS.
    fn nats_url(&self) -> String {
        match &self.server {
            Some(Server { host, port, .. }) => format!("nats://{host}:{port}"),
            None => self.configuration.settings.nats.url.clone(),
        }
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

    fn orders(&self) -> Orders<'_> {
        let leave = Duration::from_millis(self.configuration.settings.frontend.leave_ms);
        Orders { folder: &self.folder, cluster: &self.secrets.cluster, leave }
    }
}

/// Changes one value, in the settings and in the list of what is in force.
fn set(configuration: &mut Configuration, key: &str, value: &str) {
    let settings = &mut configuration.settings;
    match key {
        "frontend.http" => settings.frontend.http = value.to_owned(),
        "frontend.leave_ms" => settings.frontend.leave_ms = value.parse().expect("a number of ours"),
        "resource_monitor.cluster" => settings.resource_monitor.cluster = value.to_owned(),
        "resource_monitor.folder" => settings.resource_monitor.folder = value.into(),
        "nats.url" => settings.nats.url = value.to_owned(),
        "netns.subnet" => settings.netns.subnet = value.to_owned(),
        "netns.bridge" => settings.netns.bridge = value.to_owned(),
        "nats.user" => settings.nats.user = value.to_owned(),
        "nats.password" => settings.nats.password = value.to_owned(),
        other => unreachable!("{other} is not changed by `windfall up`"),
    }
    let entry = Entry { value: value.into(), source: Source::Flag("windfall up".into()) };
    configuration.entries.insert(key.to_owned(), entry);
}
