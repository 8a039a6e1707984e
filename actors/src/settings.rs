//! What can be configured, with its defaults. The binary fills these from file, environment and flags; nothing
//! else reads configuration.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Everything, as it stands in `windfall.toml`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The message bus.
    pub nats: Nats,
    /// What is kept, and how long.
    pub store: Store,
    /// The doors.
    pub frontend: Frontend,
    /// Placement, allocation and queues.
    pub controller: Controller,
    /// What `controller.allocation` is given.
    pub allocation: Allocation,
    /// The fleet.
    pub resource_monitor: ResourceMonitor,
    /// The provider `netns`.
    pub netns: Netns,
    /// The provider `docker`.
    pub docker: Docker,
    /// The provider `ec2`.
    pub ec2: Ec2,
    /// The provider `command`.
    pub command: Command,
    /// A VM and its sandboxes.
    pub vm: Vm,
    /// What users may ask for, per function and per namespace.
    pub limits: Limits,
    /// Logs, traces, metrics.
    pub telemetry: Telemetry,
}

/// How to reach NATS.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Nats {
    /// Servers, `nats://host:port`, comma-separated.
    pub url: String,
    /// User of the house's own account; empty for none.
    pub user: String,
    /// Its password.
    pub password: String,
    /// Credentials file (`.creds`), instead of user and password.
    pub credentials: Option<PathBuf>,
}

impl Default for Nats {
    fn default() -> Self {
        Self {
            url: "nats://127.0.0.1:4222".into(),
            user: String::new(),
            password: String::new(),
            credentials: None,
        }
    }
}

/// Streams and buckets. Sizes are limits, not reservations.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Store {
    /// Copies of every stream and bucket, 1 to 5: 3 survives the loss of a node.
    pub replicas: usize,
    /// Activation records older than this are removed, in hours.
    pub record_age_h: u64,
    /// Activation records over this many MiB are removed, oldest first.
    pub record_size_mib: u64,
    /// Records that may wait in one process for NATS to take them; beyond it, work waits.
    pub record_backlog: usize,
    /// Durable submissions that may wait, in MiB; beyond it JetStream refuses them.
    pub submit_size_mib: u64,
    /// Code of all functions, in MiB.
    pub code_size_mib: u64,
    /// What Controllers have learned of functions, in MiB; over it, what was not written for longest goes. 0: none of it is kept.
    pub profile_size_mib: u64,
    /// What has been learned of a function that nobody has called for so long is forgotten, in hours.
    pub profile_age_h: u64,
}

impl Default for Store {
    fn default() -> Self {
        Self {
            replicas: 1,
            record_age_h: 7 * 24,
            record_size_mib: 1024,
            record_backlog: 4096,
            submit_size_mib: 512,
            code_size_mib: 4096,
            profile_size_mib: 64,
            profile_age_h: 30 * 24,
        }
    }
}

/// The doors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Frontend {
    /// Address of the HTTP door.
    pub http: String,
    /// What clients are told to use as API host; derived from `http` when empty.
    pub api_host: String,
    /// Whether the process is a Controller too: a call then takes one message and two wake-ups fewer, and the two end
    /// together.
    pub with_controller: bool,
    /// Longest time a blocking HTTP call waits before it becomes a 202, in ms.
    pub blocking_wait_ms: u64,
    /// Invocations that may be open at this Frontend; beyond it 429.
    pub open_limit: usize,
    /// Bytes of arguments that may be held for open invocations, in MiB; beyond it 429.
    pub held_mib: usize,
    /// Bytes of answers of the last second that are kept in case their VM is lost before it has stored their records, in MiB.
    pub recent_mib: usize,
    /// Durable invocations that this Frontend has in flight at once.
    pub durable_in_flight: usize,
    /// Longest time an invocation may wait for a place before it is given up, in ms.
    pub patience_ms: u64,
}

impl Default for Frontend {
    fn default() -> Self {
        Self {
            http: "127.0.0.1:3233".into(),
            api_host: String::new(),
            with_controller: false,
            blocking_wait_ms: 60_000,
            open_limit: 10_000,
            held_mib: 512,
            recent_mib: 32,
            durable_in_flight: 256,
            patience_ms: 60_000,
        }
    }
}

/// The deciding part.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Controller {
    /// One of `policies::placement::NAMES`; those of other systems are there to be compared with.
    pub placement: String,
    /// How much an invocation gets: one of `policies::allocation::NAMES`, or `learned`, which asks `model`; what they are given
    /// stands in `[allocation]`.
    pub allocation: String,
    /// The model file of `learned`; `models/allocator.md` says how it was made.
    pub model: PathBuf,
    /// On which kinds of VMs what may run: `expected-loss`, `expected-loss(x)`, `no-failure`, `bounded(x)` or
    /// `live-and-let-die`; x is a percentage.
    pub reliability: String,
    /// Whether what should not end before its VM's eviction is run again elsewhere at the notice, where its function's
    /// annotation `on-eviction` allows it; the first answer wins. Else at the loss.
    pub rerun_at_notice: bool,
    /// How long a harvest VM is expected to live, in hours, until the fleet has been watched for long enough.
    pub harvest_life_hours: u64,
    /// Invocations that may wait, all together.
    pub queue_limit: u32,
    /// Invocations of one function that may wait.
    pub function_queue_limit: u32,
    /// Bytes of arguments that may be held for invocations that have not ended, in MiB; beyond it 429.
    pub held_mib: usize,
    /// Tries of one invocation before it is given up.
    pub attempts_limit: u32,
    /// A VM that has not reported for this long is given up, in ms.
    pub vm_silence_ms: u64,
    /// A durable invocation that no VM is large enough for ends after this long, in ms.
    pub unplaceable_grace_ms: u64,
    /// A durable invocation waits for a place no longer than this, in ms.
    pub durable_patience_ms: u64,
    /// Profiles of functions that are written to the store in a second at most; those that change more often are written later,
    /// as they are then.
    pub profile_writes_per_second: u32,
    /// What the store says of a function counts half as much for each so many hours in which nobody has called it.
    pub profile_half_life_h: u64,
    /// Address of `/metrics`; `127.0.0.1:0` takes a free port, empty means none.
    pub metrics: String,
}

impl Default for Controller {
    fn default() -> Self {
        Self {
            placement: "mws".into(),
            allocation: "fixed".into(),
            model: "models/allocator.onnx".into(),
            reliability: "expected-loss".into(),
            rerun_at_notice: true,
            harvest_life_hours: 24,
            queue_limit: 10_000,
            function_queue_limit: 1_000,
            held_mib: 1024,
            attempts_limit: 10,
            vm_silence_ms: 3_000,
            unplaceable_grace_ms: 600_000,
            durable_patience_ms: 86_400_000,
            profile_writes_per_second: 50,
            profile_half_life_h: 7 * 24,
            metrics: "127.0.0.1:0".into(),
        }
    }
}

/// The constants of allocation; see `policies::allocation::Settings`, whose defaults these are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Allocation {
    /// A run that uses so many thousandths of what it has needs more. (What gives back while a run goes on is
    /// `vm.safeguard_permille`.)
    pub threshold_permille: u32,
    /// What can be granted: CPU in steps of so many millicores...
    pub cpu_step: u32,
    /// ...up to so many of them.
    pub cpu_steps: u32,
    /// And memory in steps of so many MiB...
    pub memory_step: u32,
    /// ...up to so many of them.
    pub memory_steps: u32,
    /// `profile`: runs of an input size that are seen before anything is taken from the next, and again after one to which its
    /// reservation had to be given back.
    pub calibration_runs: u32,
    /// `profile`: what is added to what is expected when nothing is known, in thousandths; less with every run.
    pub doubt_permille: u32,
    /// `profile`: what is taken is at least so many thousandths of a reservation, or nothing.
    pub worthwhile_permille: u32,
    /// `profile`: how a function comes to more CPU than it reserved: `waits` for a VM where all that it can use can be booked, books
    /// what is `free` where it would go first, or is `lent` what lies idle there.
    pub above: String,
    /// `profile` with `waits`: for so many thousandths of the time that more would save it.
    pub patience_permille: u32,
}

impl Default for Allocation {
    fn default() -> Self {
        let policies::allocation::Settings {
            grid,
            threshold,
            calibration_runs,
            doubt,
            worthwhile,
            above,
            patience,
        } = policies::allocation::Settings::default();
        Self {
            threshold_permille: threshold,
            cpu_step: grid.cpu_step.0,
            cpu_steps: grid.cpu_steps,
            memory_step: grid.memory_step.0,
            memory_steps: grid.memory_steps,
            calibration_runs,
            doubt_permille: doubt,
            worthwhile_permille: worthwhile,
            above: above.name().to_owned(),
            patience_permille: patience,
        }
    }
}

impl Allocation {
    /// As the policies take them.
    pub fn constants(&self) -> policies::allocation::Settings {
        policies::allocation::Settings {
            grid: policies::allocation::options::Grid {
                cpu_step: vocabulary::MilliCores(self.cpu_step),
                cpu_steps: self.cpu_steps,
                memory_step: vocabulary::Mebibytes(self.memory_step),
                memory_steps: self.memory_steps,
            },
            threshold: self.threshold_permille,
            calibration_runs: self.calibration_runs,
            doubt: self.doubt_permille,
            worthwhile: self.worthwhile_permille,
            above: policies::allocation::Above::by_name(&self.above).unwrap_or_default(),
            patience: self.patience_permille,
        }
    }
}

/// The fleet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ResourceMonitor {
    /// Where VMs come from: `process` (of this machine), `netns` (the same, each with a network and processes of its own),
    /// `docker` (containers), `ec2` (instances of AWS), `command` (any program), or `none` for VMs that are started by hand.
    pub provider: String,
    /// Whether VMs end when the Resource Monitor that leads is stopped in good order: `retire`, `keep`, or `auto`: those of
    /// `process`, `netns` and `docker` do. With several Resource Monitors it must be `keep`.
    pub on_stop: String,
    /// Name of the cluster, so that two on one machine never touch each other's VMs.
    pub cluster: String,
    /// Folder in which the providers `process` and `netns` keep their VMs.
    pub folder: PathBuf,
    /// Whether VMs of the provider `process` write logs of their own (in `folder`), instead of to our standard error.
    pub log_files: bool,
    /// So many VMs.
    pub vms: u32,
    /// How many there should be: `count` (as many as `vms` says), `load-aware` (as the load needs, within the limits below), or
    /// `sosp21` (the released rule: at least `least_cpu`, whatever the load).
    pub fleet: String,
    /// The least that a fleet of another rule than `count` has, all VMs together: CPU, millicores.
    pub least_cpu: u32,
    /// And memory, MiB.
    pub least_memory: u32,
    /// The most that it has: CPU, millicores.
    pub most_cpu: u32,
    /// And memory, MiB.
    pub most_memory: u32,
    /// Price of a harvest VM's core per hour, in thousandths of a regular one's.
    pub harvest_price: u32,
    /// What the fleet may cost per hour, in thousandths of a regular core; 0 for whatever is needed.
    pub budget: u64,
    /// `load-aware`: a VM that is not needed stays for so long, in ms.
    pub idle_for_ms: u64,
    /// `harvest` or `regular`, where `fleet` is `count`.
    pub kind: String,
    /// CPU of a new VM, millicores.
    pub cpu: u32,
    /// Memory of a new VM, MiB.
    pub memory: u32,
    /// A VM may take this long from launch to its first report, in ms.
    pub launch_patience_ms: u64,
    /// Address of `/metrics`.
    pub metrics: String,
}

impl Default for ResourceMonitor {
    fn default() -> Self {
        Self {
            provider: "process".into(),
            on_stop: "auto".into(),
            cluster: "local".into(),
            folder: ".windfall/vms".into(),
            log_files: true,
            vms: 3,
            fleet: "count".into(),
            least_cpu: 1_000,
            least_memory: 1_024,
            most_cpu: 1_000_000,
            most_memory: 4_000_000,
            harvest_price: 250,
            budget: 0,
            idle_for_ms: 300_000,
            kind: "harvest".into(),
            cpu: 1000,
            memory: 1024,
            launch_patience_ms: 30_000,
            metrics: "127.0.0.1:0".into(),
        }
    }
}

/// VMs with a network of their own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Netns {
    /// Their network; the host has its first address. NATS must listen there.
    pub subnet: String,
    /// A bridge that is there, has that address, and stays; one of our own when empty.
    pub bridge: String,
    /// `auto` (the system's, else one of our own, else none), `off`, or where it is mounted.
    pub lxcfs: String,
}

impl Default for Netns {
    fn default() -> Self {
        Self { subnet: "10.99.0.0/16".into(), bridge: String::new(), lxcfs: "auto".into() }
    }
}

/// VMs that are containers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Docker {
    /// Where the Docker Engine listens.
    pub socket: PathBuf,
    /// An image whose entry point is `windfall`.
    pub image: String,
    /// The network of the containers; `host`, `bridge`, or a name.
    pub network: String,
    /// Folders of the host that every VM sees, as `/from:/to:ro`, separated by blanks.
    pub binds: String,
    /// Whether a first process of Docker's own looks after orphans.
    pub init: bool,
}

impl Default for Docker {
    fn default() -> Self {
        Self {
            socket: "/var/run/docker.sock".into(),
            image: String::new(),
            network: "bridge".into(),
            binds: String::new(),
            init: true,
        }
    }
}

/// VMs that are instances of EC2. Credentials are those of the environment (`AWS_ACCESS_KEY_ID` and so on).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Ec2 {
    /// Such as `eu-north-1`.
    pub region: String,
    /// Where the API is; AWS's own when empty.
    pub endpoint: String,
    /// The image, `ami-...`: with systemd, cloud-init and `program`.
    pub image: String,
    /// Of every instance. Of several, with commas between them, AWS takes for each VM what is cheap and, of spot capacity, least
    /// likely to be interrupted; the image must have `curl` then.
    pub instance_type: String,
    /// `subnet-...`; the default one when empty. Several where there are several instance types.
    pub subnet: String,
    /// `sg-...`; the default one when empty.
    pub security_group: String,
    /// Name of a key pair to log in with; none when empty.
    pub key: String,
    /// Name of an instance profile; none when empty.
    pub profile: String,
    /// `windfall` on the instance.
    pub program: String,
    /// One line of shell that an instance runs first, to fetch `program` for example.
    pub prepare: String,
}

impl Default for Ec2 {
    fn default() -> Self {
        Self {
            region: String::new(),
            endpoint: String::new(),
            image: String::new(),
            instance_type: "m5.large".into(),
            subnet: String::new(),
            security_group: String::new(),
            key: String::new(),
            profile: String::new(),
            program: "windfall".into(),
            prepare: ":".into(),
        }
    }
}

impl Ec2 {
    /// All types that may be taken.
    pub fn instance_types(&self) -> Vec<&str> {
        listed(&self.instance_type)
    }

    /// All subnets that may be taken; an empty one stands for the default.
    pub fn subnets(&self) -> Vec<&str> {
        let all = listed(&self.subnet);
        if all.is_empty() { vec![""] } else { all }
    }
}

fn listed(text: &str) -> Vec<&str> {
    text.split(',').map(str::trim).filter(|one| !one.is_empty()).collect()
}

/// VMs that any program makes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Command {
    /// The program and its first arguments, separated by blanks.
    pub program: String,
    /// How long one call of it may take, in ms.
    pub timeout_ms: u64,
}

impl Default for Command {
    fn default() -> Self {
        Self { program: String::new(), timeout_ms: 120_000 }
    }
}

/// One VM.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Vm {
    /// Its id (`vm-1f`); a random one when empty.
    pub id: String,
    /// `harvest` or `regular`.
    pub kind: String,
    /// Where capacity is read: `auto` (the smallest of its cgroup, the online CPUs, what a Hyper-V host gives, and the
    /// machine's memory), or `fixed` (the two values below).
    pub capacity: String,
    /// CPU, millicores, where `capacity` is `fixed`.
    pub cpu: u32,
    /// Memory, MiB, where `capacity` is `fixed`.
    pub memory: u32,
    /// The cgroup that is this VM, below each controller's mount point; empty: the agent's own group's parent
    /// where that is a VM group, else none.
    pub cgroup: String,
    /// How often capacity is looked at, in ms. A look costs some tens of microseconds.
    pub capacity_poll_ms: u64,
    /// Where Hyper-V's host tells a harvest VM how many cores it has; nothing where there is no such file.
    pub kvp: Option<PathBuf>,
    /// Which cloud's notices are heard: `auto` (what the machine's firmware says), `azure`, `aws`, `gcp`, or `none`.
    /// SIGTERM and `windfall vm evict` are always heard.
    pub notices: String,
    /// Where the cloud's metadata service is.
    pub metadata: String,
    /// How often it is asked, in ms. (GCP is asked to answer when something changes.)
    pub notice_poll_ms: u64,
    /// This VM's name in Azure's events; the metadata service is asked for it when empty.
    pub azure_name: String,
    /// What AWS's recommendation to rebalance leads to: `note` (it is logged and counted) or `drain` (the VM takes
    /// nothing new and another is launched).
    pub on_rebalance: String,
    /// Where sandboxes and cached code are kept.
    pub scratch: Option<PathBuf>,
    /// `auto` or `off`: whether sandboxes are confined by namespaces and cgroups where that is possible.
    pub enforce: String,
    /// First user id of sandboxes; each gets its own.
    pub uid_base: u32,
    /// Python interpreter; found on PATH when empty.
    pub python: Option<PathBuf>,
    /// Node; found on PATH when empty.
    pub node: Option<PathBuf>,
    /// Its process id as its provider sees it, where that is another one than it sees itself; else 0.
    pub outer_pid: u32,
    /// From the first SIGTERM to the end of the process, in ms; it ends sooner when nothing runs any more.
    pub sigterm_grace_ms: u64,
    /// What becomes of idle sandboxes: one of `policies::keep_alive::NAMES`.
    pub keep_alive: String,
    /// With `fixed`: an idle sandbox lives this long, in ms.
    pub keep_alive_ms: u64,
    /// What becomes of the part of a reservation that a grant leaves: `off` (grants are done as they come), `hard` (lent through a
    /// pool; a lender is held to what it has left until it needs more) or `elastic` (a lender keeps its ceiling and goes before
    /// others by weight; only its booking shrinks).
    pub lending: String,
    /// A run that uses so many thousandths of what it has left is given back the rest of its reservation.
    pub safeguard_permille: u32,
    /// Runs that may wait on the VM.
    pub queue_limit: u32,
    /// Sandboxes at once.
    pub sandboxes_limit: u32,
    /// Python processes that wait, made in advance, to become a sandbox; each holds about 2 MiB. 0: none.
    pub python_spares: usize,
    /// Address of `/metrics`.
    pub metrics: String,
}

impl Default for Vm {
    fn default() -> Self {
        Self {
            id: String::new(),
            kind: "harvest".into(),
            capacity: "auto".into(),
            cpu: 1000,
            memory: 1024,
            cgroup: String::new(),
            capacity_poll_ms: 50,
            kvp: Some("/var/lib/hyperv/.kvp_pool_0".into()),
            notices: "auto".into(),
            metadata: "http://169.254.169.254".into(),
            notice_poll_ms: 1_000,
            azure_name: String::new(),
            on_rebalance: "note".into(),
            scratch: None,
            enforce: "auto".into(),
            uid_base: 1_000_000,
            python: None,
            node: None,
            outer_pid: 0,
            sigterm_grace_ms: 30_000,
            keep_alive: "fixed".into(),
            keep_alive_ms: 600_000,
            lending: "off".into(),
            safeguard_permille: 800,
            queue_limit: 256,
            sandboxes_limit: 1024,
            python_spares: 2,
            metrics: "127.0.0.1:0".into(),
        }
    }
}

/// What users may ask for. Defaults are OpenWhisk's where it has one; see `GET /` and `/api/v1/namespaces/_/limits`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// CPU reservation of a function that names none, millicores.
    pub cpu_default: u32,
    /// Smallest CPU reservation, millicores.
    pub cpu_min: u32,
    /// Largest CPU reservation, millicores.
    pub cpu_max: u32,
    /// Memory reservation of a function that names none, MB.
    pub memory_default: u32,
    /// Smallest memory reservation, MB.
    pub memory_min: u32,
    /// Largest memory reservation, MB.
    pub memory_max: u32,
    /// Time limit of a function that names none, ms.
    pub timeout_default_ms: u64,
    /// Smallest time limit, ms.
    pub timeout_min_ms: u64,
    /// Largest time limit, ms.
    pub timeout_max_ms: u64,
    /// Log limit of a function that names none, MB.
    pub logs_default: u32,
    /// Largest log limit, MB.
    pub logs_max: u32,
    /// Largest argument, result, parameters or annotations, bytes.
    pub payload_max: usize,
    /// Largest code, bytes.
    pub code_max: usize,
    /// Invocations per minute of one namespace.
    pub invocations_per_minute: u64,
    /// Invocations of one namespace that may be open at once.
    pub concurrent_invocations: u64,
    /// Largest page of a list.
    pub list_max: usize,
    /// Page of a list that names no limit.
    pub list_default: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            cpu_default: 250,
            cpu_min: 10,
            cpu_max: 64_000,
            memory_default: 256,
            memory_min: 128,
            memory_max: 512,
            timeout_default_ms: 60_000,
            timeout_min_ms: 100,
            timeout_max_ms: 300_000,
            logs_default: 10,
            logs_max: 10,
            payload_max: 1 << 20,
            code_max: 48 << 20,
            // OpenWhisk's 60 and 30 are for a shared public host; whoever runs Windfall for strangers sets them.
            invocations_per_minute: 1_000_000,
            concurrent_invocations: 10_000,
            list_max: 200,
            list_default: 30,
        }
    }
}

/// What can be seen from outside.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Telemetry {
    /// Log filter, as `info` or `info,actors=debug`.
    pub log: String,
    /// `text` or `json`.
    pub log_format: String,
    /// OTLP endpoint over HTTP (`http://host:4318`); empty: no traces.
    pub otlp_endpoint: String,
    /// Share of invocations without a caller's trace that are traced, 0 to 1.
    pub sample: f64,
}

impl Default for Telemetry {
    fn default() -> Self {
        Self { log: "info".into(), log_format: "text".into(), otlp_endpoint: String::new(), sample: 1.0 }
    }
}

impl Frontend {
    /// What clients and functions are told to use as API host.
    pub fn api_host(&self) -> String {
        if self.api_host.is_empty() { format!("http://{}", self.http) } else { self.api_host.clone() }
    }
}
