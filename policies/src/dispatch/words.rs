//! What the Controller's mind hears and says.

use vocabulary::{
    Attempt, FunctionCard, FunctionId, Grant, InvocationId, Moment, Outcome, Resources, Revision, Span,
    Usage, VmId, VmKind, VmStatus,
};

use crate::allocation::Truth;
use crate::profile::{Expectation, Profile};

/// Everything that can happen, seen from the Controller.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "the fields are named by their types")]
pub enum Input {
    /// A VM described itself (first contact, every second, and on a change).
    VmReported(VmStatus),
    /// What a VM's sandboxes use, all together; comes with each report. Most policies look at bookings only.
    VmUses { vm: VmId, used: Resources },
    /// How long a VM has lived; comes with the first report that is heard of it. Without it, its age is counted from there.
    VmAge { vm: VmId, age: Span },
    /// A VM will be evicted at `deadline`; with `None` the eviction was called off.
    VmNoticed { vm: VmId, deadline: Option<Moment> },
    /// A VM is gone (its process ended, or the Resource Monitor says so).
    VmLost(VmId),
    /// A Frontend wants this run. A repeated submission of a known invocation changes nothing.
    Submitted(Submission),
    /// NATS had no responders for the `Run`: the VM is gone.
    Bounced { vm: VmId, invocation: InvocationId, attempt: Attempt },
    /// The VM gave it back unbegun.
    HandedBack { vm: VmId, invocation: InvocationId, attempt: Attempt },
    /// The VM does not begin an attempt that was sent there or taken over: it knows `newest` of that invocation, which runs there
    /// or does not any more.
    Known { vm: VmId, invocation: InvocationId, attempt: Attempt, newest: Attempt, runs: bool },
    /// The Invoker ended an attempt.
    Finished { vm: VmId, ending: Ending },
    /// The kernel killed an attempt for want of memory, and not because it wanted more than its reservation: part of that
    /// had been lent, or the VM had no more. It goes again, with all that was reserved.
    Starved { vm: VmId, ending: Ending },
    /// What a Controller before this one had learned of a function.
    Remembered { function: FunctionId, profile: Box<Profile> },
    /// Nobody waits for it any more.
    Withdrawn(InvocationId),
    /// The moment asked for by [`Dispatch::next_wakeup`] has come.
    Woke,
}

/// What the Controller must know of a submission.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Submission {
    /// Which invocation.
    pub invocation: InvocationId,
    /// Of which function.
    pub function: FunctionCard,
    /// The attempt to begin with: 1, or more when a Frontend submits again what a Controller forgot, so that no
    /// Invoker takes the new try for one it has seen. Never assume that a first attempt is number 1.
    pub first_attempt: Attempt,
    /// Size of the argument in bytes.
    pub input_bytes: u32,
    /// After this moment nobody waits for a place any more.
    pub give_up_at: Moment,
    /// Durable submissions are put off, never refused for lack of room in the function's queue or of a VM.
    pub durable: bool,
    /// What it truly needs, as only a rehearsal can know.
    pub truth: Option<Truth>,
}

/// How an attempt ended, with what was learned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ending {
    /// Which invocation.
    pub invocation: InvocationId,
    /// Which try of it.
    pub attempt: Attempt,
    /// Of which function.
    pub function: FunctionId,
    /// Of which build.
    pub revision: Revision,
    /// `None`: it was cancelled.
    pub outcome: Option<Outcome>,
    /// Whether a sandbox had to be made.
    pub cold: bool,
    /// Making the sandbox; zero when warm.
    pub init: Span,
    /// The run itself.
    pub duration: Span,
    /// What it used.
    pub usage: Usage,
    /// Whether its sandbox stays there, idle.
    pub sandbox_kept: bool,
    /// Size of the argument in bytes.
    pub input_bytes: u32,
}

/// A run that has ended, with what it was granted and what had been expected of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// How it ended.
    pub ending: Ending,
    /// Whether it was killed for want of memory that was taken from its reservation.
    pub starved: bool,
    /// What the user asked for.
    pub reservation: Resources,
    /// What it was granted.
    pub grant: Grant,
    /// From submission to the start of its run.
    pub waited: Span,
    /// What was known of such runs before this one; `None`: nothing.
    pub expected: Option<Expectation>,
}

/// Everything the Controller can ask of the world.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "the fields are named by their types")]
pub enum Output {
    /// To the VM's Invoker.
    Run { vm: VmId, invocation: InvocationId, attempt: Attempt, grant: Grant, waited: Span },
    /// To the Frontend: not taken; nothing else will follow for this invocation.
    Refuse { invocation: InvocationId, why: Refusal },
    /// To the Frontend and the store: it was taken, but cannot be run to an end. Nothing else will follow.
    GiveUp { invocation: InvocationId, attempt: Attempt, why: GivenUp, waited: Span },
    /// To the Frontend, before the next `Run`: answers of attempts before `oldest_valid` are void, except those of `also`.
    Fence { invocation: InvocationId, oldest_valid: Attempt, also: Option<Attempt> },
    /// It has ended (an answer went straight to the Frontend): what is held for it can be forgotten.
    Forget(InvocationId),
    /// To a VM's Invoker: kill or forget this attempt.
    Cancel { vm: VmId, invocation: InvocationId, attempt: Attempt },
    /// To a VM's Invoker: this attempt, which another Controller has sent, is ours now, and its end is to be told to us.
    Adopt { vm: VmId, invocation: InvocationId, attempt: Attempt },
    /// To a VM's Invoker: have `count` sandboxes of the function.
    Prewarm { vm: VmId, function: FunctionCard, count: u32 },
    /// To the log and the counters: the VM was given up, with so many attempts on it.
    VmGone { vm: VmId, why: VmGone, open_attempts: u32 },
    /// An answer or ending of an attempt that is no longer the current one was dropped; to the counters.
    Stale { invocation: InvocationId, attempt: Attempt },
    /// A run has ended; to whoever learns from it. Only with [`Settings::tells_runs`](super::Settings::tells_runs).
    Ran(Box<Seen>),
    /// It will be dispatched again, and not because its VM is gone; to the counters.
    Again { invocation: InvocationId, why: Again },
}

/// Why an invocation is dispatched again although its VM is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Again {
    /// It should not end before its VM's eviction. Where it runs, it goes on; the first answer wins.
    Notice,
    /// Its VM does not know of it: the message was lost.
    Forgotten,
}

/// Why a VM was given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum VmGone {
    /// It has not reported for too long.
    Silent,
    /// NATS knows nobody who listens for it.
    NoResponders,
    /// Somebody who knows said so.
    Told,
}

/// Why a submission is not taken. Each variant is something the caller would do differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages name the fields")]
pub enum Refusal {
    /// Try later.
    #[error("the function already has {limit} invocations waiting for a place")]
    FunctionQueueFull { limit: u32 },
    /// Try later.
    #[error("{limit} invocations are already waiting for a place")]
    QueueFull { limit: u32 },
    /// Try later; somebody must start VMs.
    #[error("no VM takes work at the moment")]
    NoVm,
    /// Try later; somebody must start VMs of this kind, or choose another reliability strategy.
    #[error("no {} VM takes work at the moment, and it may run on no other (controller.reliability)", word(*.kind))]
    NoVmOfKind { kind: VmKind },
    /// Ask for less.
    #[error("a reservation of {needs} is more than any VM has ({largest} at most)")]
    TooLarge { needs: Resources, largest: Resources },
}

/// Why an accepted invocation ends without an answer of its function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages name the fields")]
pub enum GivenUp {
    /// It waited for a place for as long as its caller allowed.
    #[error("no place was found within {waited}")]
    Waited { waited: Span },
    /// Its VM is gone and its function forbids a second run.
    #[error("its VM {vm} was lost and the function must not run twice (on-eviction: never)")]
    LostAndNever { vm: VmId },
    /// Its VMs were lost again and again.
    #[error("it lost its VM {attempts} times")]
    TooManyAttempts { attempts: u32 },
    /// Its VM had no memory left and its function forbids a second run.
    #[error("its VM {vm} ran out of memory and the function must not run twice (on-eviction: never)")]
    StarvedAndNever { vm: VmId },
    /// It needs more than any VM has had for long.
    #[error("no VM it may run on has been large enough for {needs} within {within} ({largest} at most)")]
    TooLarge { needs: Resources, largest: Resources, within: Span },
}

fn word(kind: VmKind) -> &'static str {
    match kind {
        VmKind::Regular => "regular",
        VmKind::Harvest => "harvest",
    }
}
