//! How many VMs there should be: the Resource Monitor's mind.

use serde::{Deserialize, Serialize};
use vocabulary::{Moment, Resources, Span, VmId, VmKind, VmStatus};

/// Everything that can happen, seen from the Resource Monitor.
#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    /// A VM described itself.
    VmReported(VmStatus),
    /// A VM will be evicted.
    VmNoticed { vm: VmId, deadline: Option<Moment> },
    /// The provider says which VMs exist (started or starting).
    Listed(Vec<VmId>),
    /// The provider says that a VM has ended.
    VmEnded(VmId),
    /// The provider could not start a VM.
    LaunchFailed(VmId),
    /// The target has been changed.
    Target(Target),
    /// The moment asked for by [`Provisioning::next_wakeup`] has come.
    Woke,
}

/// Everything it can ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Start a VM under this id (also the token that makes the start idempotent).
    Launch { vm: VmId, kind: VmKind, size: Resources },
    /// Make sure that this VM is gone.
    Retire { vm: VmId, why: RetireWhy },
}

/// Why a VM is retired.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RetireWhy {
    /// It fell silent.
    Silent,
    /// There are more than the target.
    Surplus,
    /// It was evicted or ended; what is left of it is cleaned up.
    Ended,
}

/// How large the fleet should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// So many VMs.
    pub vms: u32,
    /// Of this kind.
    pub kind: VmKind,
    /// Of this size when they start.
    pub size: Resources,
}

/// Its constants. Take what you do not want to set from [`Settings::default`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// A VM that has not reported for this long is retired and replaced.
    pub vm_silence: Span,
    /// A VM may take this long from launch to first report.
    pub launch_patience: Span,
    /// First pause after a failed launch; doubles with each further one.
    pub backoff_first: Span,
    /// Longest pause.
    pub backoff_longest: Span,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            vm_silence: Span::seconds(3),
            launch_patience: Span::seconds(60),
            backoff_first: Span::seconds(1),
            backoff_longest: Span::seconds(60),
        }
    }
}

/// The Resource Monitor's mind.
pub struct Provisioning {
    settings: Settings,
    target: Target,
    next_id: u64,
}

impl Provisioning {
    /// A mind that knows no VM yet. It launches nothing before the provider has said which VMs exist
    /// ([`Input::Listed`], an empty list will do). VMs get ids from `first_free` upwards, never used again.
    pub fn new(settings: Settings, target: Target, first_free: u64) -> Self {
        Self { settings, target, next_id: first_free }
    }

    /// Takes one input and appends what should follow. `now` never goes back; if it does, it is taken to stand still.
    pub fn handle(&mut self, now: Moment, input: Input, outputs: &mut Vec<Output>) {
        let _ = (now, input, outputs, &self.settings, &self.target);
    }

    /// When to call again with [`Input::Woke`] if nothing happens before.
    pub fn next_wakeup(&self) -> Option<Moment> {
        None
    }

    /// The id that the next launch will get.
    pub fn next_id(&self) -> VmId {
        VmId(self.next_id)
    }
}
