//! The Resource Monitor and its fleet.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

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
