//! Where an invocation goes, when, and what happens when its VM does not come back: the Controller's mind.

use serde::{Deserialize, Serialize};
use vocabulary::{
    Attempt, FunctionCard, FunctionId, Grant, InvocationId, Mebibytes, Moment, Outcome, Resources, Revision,
    Span, Usage, VmId, VmStatus,
};

/// Everything that can happen, seen from the Controller.
#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    /// A VM described itself (first contact, every second, and on a change).
    VmReported(VmStatus),
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
    /// The Invoker ended an attempt.
    Finished { vm: VmId, ending: Ending },
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
    /// First.
    pub first_attempt: Attempt,
    /// Size of the argument in bytes.
    pub input_bytes: u32,
    /// After this moment nobody waits for a place any more.
    pub give_up_at: Moment,
    /// Durable submissions are put off, never refused for lack of room in the function's queue or of a VM.
    pub durable: bool,
}

/// How an attempt ended, with what was learned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ending {
    pub invocation: InvocationId,
    pub attempt: Attempt,
    pub function: FunctionId,
    pub revision: Revision,
    /// `None`: it was cancelled.
    pub outcome: Option<Outcome>,
    /// Whether a sandbox had to be made.
    pub cold: bool,
    /// Making the sandbox; zero when warm.
    pub init: Span,
    /// The run itself.
    pub duration: Span,
    pub usage: Usage,
    /// Whether its sandbox stays there, idle.
    pub sandbox_kept: bool,
    pub input_bytes: u32,
}

/// Everything the Controller can ask of the world.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// To the VM's Invoker.
    Run { vm: VmId, invocation: InvocationId, attempt: Attempt, grant: Grant, waited: Span },
    /// To the Frontend: not taken; nothing else will follow for this invocation.
    Refuse { invocation: InvocationId, why: Refusal },
    /// To the Frontend and the store: it was taken, but cannot be run to an end. Nothing else will follow.
    GiveUp { invocation: InvocationId, attempt: Attempt, why: GivenUp, waited: Span },
    /// To the Frontend, before the next `Run`: answers of attempts before `oldest_valid` are void.
    Fence { invocation: InvocationId, oldest_valid: Attempt },
    /// It has ended (an answer went straight to the Frontend): what is held for it can be forgotten.
    Forget(InvocationId),
    /// To a VM's Invoker: kill or forget this attempt.
    Cancel { vm: VmId, invocation: InvocationId, attempt: Attempt },
    /// To a VM's Invoker: have `count` sandboxes of the function.
    Prewarm { vm: VmId, function: FunctionCard, count: u32 },
    /// To the log and the counters: the VM was given up, with so many attempts on it.
    VmGone { vm: VmId, why: VmGone, open_attempts: u32 },
    /// An answer or ending of an attempt that is no longer the current one was dropped; to the counters.
    Stale { invocation: InvocationId, attempt: Attempt },
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
    /// Ask for less.
    #[error("a reservation of {needs} is more than any VM has ({largest} at most)")]
    TooLarge { needs: Resources, largest: Resources },
}

/// Why an accepted invocation ends without an answer of its function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
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
}

/// The Controller's limits and constants. Take what you do not want to set from [`Settings::default`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// A VM that has not reported for this long is given up. Three missed reports by default.
    pub vm_silence: Span,
    /// Invocations that may wait, all together.
    pub queue_limit: u32,
    /// Invocations of one function that may wait.
    pub function_queue_limit: u32,
    /// Tries of one invocation that may be lost before it is given up; at least 1.
    pub attempts_limit: u32,
    /// An attempt that its VM's reports have not listed for this long...
    pub lost_after: Span,
    /// ...and for this many reports in a row was lost on the way: it is dispatched again.
    pub lost_reports: u32,
    /// A new Controller sends nothing out for this long, so that every VM can first say what it already runs.
    /// A little more than the time between two reports.
    pub settle: Span,
    /// After the last VM was seen, submissions still wait for the next one for this long before they are refused.
    pub no_vm_grace: Span,
    /// Whether to wait for a busy sandbox where that is sooner than making another.
    pub wait_for_warm: bool,
    /// When the oldest waiting invocation has waited this long, a VM is kept free for it.
    pub starvation_after: Span,
    /// Functions whose sandboxes are made anew elsewhere when their VM is given notice.
    pub prewarm_functions: u32,
    /// Waiting functions that are tried in vain after one event before the rest is put off by a millisecond.
    pub tries_per_event: u32,
    /// Functions whose profile is kept.
    pub functions_limit: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            vm_silence: Span::seconds(3),
            queue_limit: 100_000,
            function_queue_limit: 10_000,
            attempts_limit: 5,
            lost_after: Span::seconds(2),
            lost_reports: 2,
            settle: Span::millis(1_200),
            no_vm_grace: Span::seconds(10),
            wait_for_warm: true,
            starvation_after: Span::seconds(1),
            prewarm_functions: 16,
            tries_per_event: 8,
            functions_limit: 100_000,
        }
    }
}

/// What can be counted at a glance, for `/metrics`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Gauges {
    /// Invocations that wait for a place.
    pub waiting: u32,
    /// Functions with at least one waiting invocation.
    pub functions_waiting: u32,
    /// How long the oldest of them has waited.
    pub oldest_wait: Span,
    /// VMs that take work.
    pub vms_open: u32,
    /// VMs that finish what they have.
    pub vms_draining: u32,
    /// What the open VMs have.
    pub capacity: Resources,
    /// What is booked on all VMs, by us and by others.
    pub booked: Resources,
    /// Attempts that were sent out and have not ended.
    pub in_flight: u32,
}

use crate::allocation::Allocator;
use crate::placement::Placement;
use crate::profile::Profile;

/// The Controller's mind.
pub struct Dispatch {
    settings: Settings,
    placement: Box<dyn Placement>,
    allocator: Box<dyn Allocator>,
}

impl Dispatch {
    /// A mind that knows no VM and no function yet.
    pub fn new(settings: Settings, placement: Box<dyn Placement>, allocator: Box<dyn Allocator>) -> Self {
        Self { settings, placement, allocator }
    }

    /// Takes one input and appends what should follow. `now` never goes back; if it does, it is taken to stand still.
    pub fn handle(&mut self, now: Moment, input: Input, outputs: &mut Vec<Output>) {
        let _ = (now, input, outputs, &self.settings, &self.placement, &self.allocator);
    }

    /// When to call again with [`Input::Woke`] if nothing happens before.
    pub fn next_wakeup(&self) -> Option<Moment> {
        None
    }

    /// What has been learned of a function.
    pub fn profile(&self, _function: FunctionId) -> Option<&Profile> {
        None
    }

    /// What can be counted at a glance.
    pub fn gauges(&self) -> Gauges {
        Gauges::default()
    }
}
