//! Which sandboxes live on this VM, and which of them runs what: the Invoker's mind.

use serde::{Deserialize, Serialize};
use vocabulary::{
    Attempt, FunctionCard, FunctionId, Grant, InvocationId, Moment, Resources, Revision, RunningOnVm, Span, VmStanding, WarmOnVm,
};

/// A sandbox on this VM, numbered from 1 as they are made; never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SandboxId(pub u64);

/// Everything that can happen, seen from the Invoker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// A Controller wants this run here.
    Run { invocation: InvocationId, attempt: Attempt, function: FunctionCard, grant: Grant },
    /// Nobody waits for attempts of this invocation up to this one.
    Cancel { invocation: InvocationId, attempt: Attempt },
    /// A sandbox that was being made is ready.
    SandboxReady(SandboxId),
    /// A sandbox that was being made came to nothing; the shell has answered the invocation that waited for it,
    /// if any.
    SandboxFailed(SandboxId),
    /// A sandbox has ended its run; `kept` says whether it can serve another.
    RunEnded { sandbox: SandboxId, kept: bool },
    /// An idle sandbox was found dead.
    SandboxDied(SandboxId),
    /// The VM's size is now this.
    Capacity(Resources),
    /// Take nothing new and hand back what waits; or, with `Open`, take work again.
    Standing(VmStanding),
    /// Have so many sandboxes of this function.
    Prewarm { function: FunctionCard, count: u32 },
    /// The moment asked for by [`Residency::next_wakeup`] has come.
    Woke,
}

/// Everything the Invoker's mind can ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// Make a sandbox, with this ceiling; `SandboxReady` or `SandboxFailed` must follow.
    Start { sandbox: SandboxId, function: FunctionCard, ceiling: Resources },
    /// Run it there, after setting the sandbox's ceiling to the grant's; `RunEnded` must follow. `cold`: the
    /// sandbox was made for it.
    Execute { sandbox: SandboxId, invocation: InvocationId, attempt: Attempt, grant: Grant, cold: bool },
    /// End an idle sandbox.
    Stop { sandbox: SandboxId, why: StopWhy },
    /// Kill what runs there; `RunEnded` must follow.
    Kill { sandbox: SandboxId, invocation: InvocationId, attempt: Attempt },
    /// To the Controller that sent it: not begun, run it elsewhere.
    HandBack { invocation: InvocationId, attempt: Attempt, why: HandBackWhy },
    /// Change what a running or idle sandbox may use.
    Resize { sandbox: SandboxId, ceiling: Resources },
    /// A repeated or outdated `Run` was dropped; to the counters.
    Duplicate { invocation: InvocationId, attempt: Attempt },
}

/// Why an idle sandbox is ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum StopWhy {
    /// Idle for longer than the keep-alive.
    Expired,
    /// Its memory is needed.
    MemoryNeeded,
    /// A newer build of its function has come.
    Outdated,
    /// The VM drains.
    Draining,
}

/// Why work goes back unbegun.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum HandBackWhy {
    /// The VM takes nothing new.
    Draining,
    /// It does not fit any more.
    NoRoom,
    /// Too much waits here already.
    QueueFull,
    /// Nobody waits for it any more.
    Cancelled,
}

/// The Invoker's limits and constants.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// An idle sandbox lives this long.
    pub keep_alive: Span,
    /// Runs that may wait here for room.
    pub queue_limit: u32,
    /// Sandboxes that may exist at once.
    pub sandboxes_limit: u32,
}
