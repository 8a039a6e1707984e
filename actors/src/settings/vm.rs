//! A VM and its sandboxes.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

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
    /// What it keeps of its memory for its agent and what that runs beside sandboxes, MiB; at most half of it. Where `capacity` is
    /// `fixed` what is offered is said outright. Providers of VMs on this machine add it to what they are asked for.
    pub headroom: u32,
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
    /// A run that uses so many thousandths of what it has left is given back the rest of its reservation. (With `elastic` it is stopped
    /// at nothing but its reservation, and is given back CPU when it uses a twentieth more than it has left.) 1 to 1,000,000; far above
    /// 1,000 nobody is ever given anything back while it runs: for comparisons.
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
            headroom: 64,
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
            lending: "elastic".into(),
            safeguard_permille: 800,
            queue_limit: 256,
            sandboxes_limit: 1024,
            python_spares: 2,
            metrics: "127.0.0.1:0".into(),
        }
    }
}
