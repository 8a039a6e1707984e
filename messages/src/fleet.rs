//! Who is alive, how large, and who must go.

use serde::{Deserialize, Serialize};
use vocabulary::{
    Attempt, ControllerId, Demand, FrontendId, FunctionCard, InvocationId, Resources, Revision, Span, VmId,
    VmKind, VmStanding, VmStatus,
};

use crate::FunctionPath;

/// VM -> Controllers and Resource Monitor, on `windfall.report.vm-<id>`: every second, and at once when
/// something changed. A report that is lost is made good by the next; one that is older than the last one seen
/// (by `sequence`) is dropped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Grows by one with each report of this VM.
    pub sequence: u64,
    /// The VM as it sees itself.
    pub status: VmStatus,
    /// What its sandboxes use now, all together.
    pub used: Resources,
    /// Process id of the VM's agent where it is a process on the same machine as its provider; else 0.
    #[serde(default)]
    pub pid: u32,
    /// Where its `/metrics` are, `host:port`; empty where it has none.
    #[serde(default)]
    pub metrics: String,
    /// How long it has lived.
    pub age: Span,
    /// What is enforced there, in a sentence.
    #[serde(default)]
    pub enforcement: String,
    /// What limits its CPU and what its memory, as `kvp/memory`; empty from a VM that does not say.
    #[serde(default)]
    pub capacity_source: String,
    /// The notice of eviction that stands.
    #[serde(default)]
    pub notice: Option<StandingNotice>,
    /// What kept it from working in the last second.
    #[serde(default)]
    pub hindrance: Hindrance,
    /// How long the store has not taken what it writes there, its records above all; absent while it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store_stalled: Option<Span>,
}

/// A notice of eviction as a VM repeats it in its reports, for whoever missed the [`Notice`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StandingNotice {
    /// How much time is left, counted from sending.
    pub time_left: Span,
    /// As in [`Notice::source`].
    pub source: String,
}

/// How much of a second was lost to others, as the VM's kernel counts it. What it does not count is zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Hindrance {
    /// CPU time that the hypervisor took away, all CPUs together.
    #[serde(default)]
    pub stolen: Span,
    /// Time in which the VM's own CPU quota held something back.
    #[serde(default)]
    pub throttled: Span,
    /// Time in which something waited for a CPU.
    #[serde(default)]
    pub cpu_pressure: Span,
    /// Time in which something waited for memory.
    #[serde(default)]
    pub memory_pressure: Span,
}

/// VM -> Controllers and Resource Monitor, on `windfall.notice.vm-<id>`: "I shall be evicted".
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// Who must go.
    pub vm: VmId,
    /// How much time is left, counted from sending. Absent: the eviction was called off.
    pub time_left: Option<Span>,
    /// Who said so (`azure`, `aws`, `gcp`, `sigterm`, `operator`); or [`LEFT`].
    pub source: String,
}

/// The source of a VM's last words, with no time left: it ends now, and with it whatever still runs there.
pub const LEFT: &str = "left";

/// Anyone -> VM, on `windfall.vm-<id>.drain`: "finish what you run, hand back what waits, take nothing new".
/// Answered with the VM's own [`Report`].
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Drain {
    /// Whether to leave once nothing runs any more.
    #[serde(default)]
    pub then_leave: bool,
}

/// Anyone -> VM, on `windfall.vm-<id>.evict`: "you will be evicted", or "not after all". The VM gives [`Notice`] of it
/// to everyone, stops working at the deadline whatever runs then, and answers with that [`Notice`]. The last one counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evict {
    /// How much time is left, counted from sending. Absent: the eviction is called off.
    pub time_left: Option<Span>,
}

/// Controller -> VM, on `windfall.vm-<id>.prewarm`: "have sandboxes of this ready". Best effort.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prewarm {
    /// Of which function.
    pub function: FunctionCard,
    /// Where its definition is found.
    pub path: FunctionPath,
    /// How many in all should be there.
    pub count: u32,
}

/// Invoker -> Controller, on `windfall.controller-<id>.handback`: "these I cannot run; they have not begun".
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HandBack {
    /// Who speaks.
    pub vm: VmId,
    /// What goes back.
    pub items: Vec<HandedBack>,
}

/// One item of a [`HandBack`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct HandedBack {
    /// Which invocation.
    pub invocation: InvocationId,
    /// Which try.
    pub attempt: Attempt,
}

/// Controller -> Frontends, on `windfall.announce.controller`: every half second. Three missed ones, or "no
/// responders", and its functions belong to the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ControllerAlive {
    /// Who.
    pub controller: ControllerId,
    /// Last words: "I stop now".
    #[serde(default)]
    pub leaving: bool,
}

/// Controller -> Frontends, on `windfall.announce.lost`: "I have given this VM up". What it had answered last may have no
/// record yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct VmLost {
    /// Which.
    pub vm: VmId,
}

/// Controller -> Resource Monitor, on `windfall.demand.controller-<id>`: every two seconds, "this is what I am asked for".
/// One that is lost is made good by the next; what was said ten seconds ago counts no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Demanded {
    /// Who speaks.
    pub controller: ControllerId,
    /// What its functions need, by the kind of VM they should have.
    pub demand: Demand,
}

/// Frontend -> everyone, on `windfall.announce.frontend`: every half second.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FrontendAlive {
    /// Who.
    pub frontend: FrontendId,
    /// Who calls there, the busiest namespaces, so that limits hold across Frontends.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub calls: Vec<NamespaceCalls>,
}

/// What one namespace does at one Frontend.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamespaceCalls {
    /// Who.
    pub namespace: String,
    /// The minute that is counted, from the Unix epoch, by the Frontend's clock.
    pub minute: u64,
    /// Calls in it so far.
    pub calls: u64,
    /// Calls that are open.
    pub open: u64,
}

/// Frontend -> all Frontends, on `windfall.announce.functions` (request): "a definition has changed; say when you serve
/// it". Whoever changed it answers its user when all have, or after a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CatchUp {
    /// At which revision of the bucket.
    pub revision: Revision,
}

/// A Frontend's reply to [`CatchUp`]: "mine are as new as that".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaughtUp {
    /// Who.
    pub frontend: FrontendId,
}

/// Resource Monitor -> whoever asks on `windfall.fleet.list` (request with an empty body).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct FleetList {
    /// Every VM known, by id.
    pub vms: Vec<FleetVm>,
    /// How long the store has not taken what the Resource Monitor or some VM writes there, the longest of them; absent while it
    /// does, and from builds that do not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store_stalled: Option<Span>,
}

/// One VM of the fleet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FleetVm {
    /// Which.
    pub vm: VmId,
    /// Regular or harvest.
    pub kind: VmKind,
    /// What it has now; zero until its first report.
    pub capacity: Resources,
    /// What its sandboxes use now.
    pub used: Resources,
    /// Whether it takes work; absent until its first report.
    pub standing: Option<VmStanding>,
    /// Invocations it runs or holds.
    pub running: u32,
    /// Idle sandboxes.
    pub warm: u32,
    /// Since its last report; absent before the first.
    pub silent: Option<Span>,
    /// How long it has lived.
    pub age: Span,
    /// The agent's process id where known; else 0.
    pub pid: u32,
    /// Where its `/metrics` are.
    pub metrics: String,
    /// As in [`Report::capacity_source`].
    #[serde(default)]
    pub capacity_source: String,
    /// The notice of eviction that stands, with the time that is left now.
    #[serde(default)]
    pub notice: Option<StandingNotice>,
    /// As in [`Report::hindrance`].
    #[serde(default)]
    pub hindrance: Hindrance,
}
