//! What a rehearsal is given: the functions, the work in each call, and what becomes of the machines.
//!
//! **Knows:** shapes only. `workload` fills in functions and calls (from traces, closed-loop users or chance), `machines` the
//! fates of VMs; `world` plays them.
//! **Promises:** a call's work is drawn when the call is made, not when it runs: every policy is given the same work.
//! **Gives up:** functions that behave otherwise on another kind of machine.

use policies::allocation::Truth;
use policies::safeguard::Sample;
use vocabulary::{
    FunctionCard, FunctionId, Mebibytes, MilliCores, Moment, Resources, Span, Usage, VmId, VmKind,
};

/// A function, with what only the world knows of it.
#[derive(Debug, Clone, PartialEq)]
pub struct FunctionPlan {
    /// For people and reports.
    pub name: String,
    /// Of which application: reliability strategies choose the kind of VM by application.
    pub app: u32,
    /// As the policies see it.
    pub card: FunctionCard,
    /// Making a sandbox on an idle machine.
    pub cold_start: Span,
}

/// What one call needs, whoever runs it.
///
/// Alone on enough cores it takes `io + cpu / min(ceiling, saturation)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Work {
    /// Time that no core shortens: waiting for others.
    pub io: Span,
    /// CPU time, as on one core.
    pub cpu: Span,
    /// More CPU than this is of no use to it.
    pub saturation: MilliCores,
    /// The most memory that it touches; with less it is killed.
    pub memory: Mebibytes,
    /// Size of its argument.
    pub input_bytes: u32,
}

impl Work {
    /// How long it takes alone with so many cores: up to the first whole microsecond at which it has had everything, as a run ends. (Rounded
    /// down, a run of a hundred microseconds would be a hundredth slower than itself.)
    pub fn alone_on(&self, cpu: MilliCores) -> Span {
        let cpu = u64::from(cpu.min(self.saturation).0).max(1);
        Span(self.io.0.saturating_add(self.cpu.0.saturating_mul(1_000).div_ceil(cpu)).max(1))
    }

    /// As an allocator is told that may know it; so much CPU is reserved.
    pub fn truth(&self, reserved: MilliCores) -> Truth {
        let Self { saturation, memory, .. } = *self;
        let (duration, reserved) = (self.alone_on(saturation), self.alone_on(reserved));
        Truth { saturation, memory, duration, reserved }
    }
}

/// One call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Call {
    /// Index among the functions.
    pub function: u32,
    /// What it needs.
    pub work: Work,
    /// Who calls; given back to [`Calls::answered`].
    pub user: u32,
}

/// Where calls come from.
pub trait Calls {
    /// When the next call is made, as far as is known now. An answer may bring it forward, never put it off.
    fn next_at(&self) -> Option<Moment>;
    /// The call that is made at [`Calls::next_at`].
    fn take(&mut self) -> Call;
    /// Whether what this user calls is durable: once taken it waits for a place for as long as it must.
    fn is_durable(&self, user: u32) -> bool {
        let _ = user;
        false
    }
    /// A caller has its answer, or was refused; closed-loop users think of their next call then.
    fn answered(&mut self, user: u32, now: Moment) {
        let _ = (user, now);
    }
}

/// What was measured in a live house one by one, where that is to be played.
pub trait Measured {
    /// How long the next sandbox of this function takes to make on this VM; `None`: as its [`FunctionPlan`] says, on what cores there are.
    fn making(&mut self, vm: VmId, function: FunctionId) -> Option<Span>;
    /// What a Controller is told of the run of the how manieth call, counted from 1: how long it took, and what it used. `None`: what it
    /// did here.
    fn run(&mut self, call: u64) -> Option<(Span, Usage)>;
    /// What an Invoker sees now of the run of such a call that lends, or may. `None`: what is to be seen here.
    fn sample(&mut self, now: Moment, call: u64) -> Option<Sample>;
}

/// How a VM comes, changes and goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VmPlan {
    /// How it is bought.
    pub kind: VmKind,
    /// From then on it reports.
    pub starts_at: Moment,
    /// What it has then.
    pub size: Resources,
    /// What it has later, in order of time.
    pub changes: Vec<(Moment, Resources)>,
    /// Its end, if it has one.
    pub gone: Option<Gone>,
}

/// The end of a VM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gone {
    /// When.
    pub at: Moment,
    /// So long before that it is told; zero: not at all.
    pub notice: Span,
}

/// A time in which a VM is there and nobody hears of it. What it says and what it is told meanwhile comes when it is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Absence {
    /// When it begins.
    pub from: Moment,
    /// When it is over.
    pub to: Moment,
    /// Whether it does nothing meanwhile, as a frozen VM; else it works on, cut off.
    pub is_frozen: bool,
}

/// A notice that is called off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recall {
    /// When it is given.
    pub at: Moment,
    /// When the VM would have been gone.
    pub deadline: Moment,
    /// When it is called off.
    pub called_off: Moment,
}

/// Where VMs come from.
pub trait Machines {
    /// Those that there are, or will be without anybody's asking.
    fn given(&mut self) -> Vec<VmPlan>;
    /// The Resource Monitor asks for another; `None`: there is none to be had.
    fn launch(&mut self, now: Moment, kind: VmKind, size: Resources) -> Option<VmPlan>;
}
