//! How many VMs there should be: the Resource Monitor's mind.
//!
//! **Knows:** the target, what the provider lists, and which VMs report.
//! **Promises:** as many VMs that take work as the target says: what is missing is launched at once, also for a VM that has
//! been given notice but still lives; one launch per missing VM; an id is never used for two VMs.
//! **Gives up:** exchanging VMs of the wrong kind or size: a changed target holds for those launched from then on. And
//! knowing the load; the target is set by others.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};
use vocabulary::{Moment, Resources, Span, VmId, VmKind, VmStanding, VmStatus};

/// Everything that can happen, seen from the Resource Monitor.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "the fields are named by their types")]
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
#[expect(missing_docs, reason = "the fields are named by their types")]
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

/// How far a VM has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Launched or listed, not heard of yet; how long that may last.
    Starting { until: Moment },
    /// It reports and takes work; when it will have been silent for too long.
    Up { silent_at: Moment },
    /// It reports, but takes nothing new: it drains or has been given notice.
    Leaving { silent_at: Moment },
}

#[derive(Debug, Clone, Copy)]
struct Vm {
    stage: Stage,
    noticed: bool,
}

/// VMs that were given up are remembered, so that a last word of theirs does not bring them back.
const GONE_LIMIT: usize = 1_024;

/// The Resource Monitor's mind.
#[derive(Debug)]
pub struct Provisioning {
    settings: Settings,
    target: Target,
    next_id: u64,
    now: Moment,
    vms: BTreeMap<VmId, Vm>,
    gone: VecDeque<VmId>,
    /// Nothing is launched before; `None` before the first input. The provider's first list ends it.
    look_first: Option<Moment>,
    /// Failed launches in a row, and until when the next one is put off.
    failures: u32,
    backoff: Moment,
}

impl Provisioning {
    /// A mind that knows no VM yet. It launches nothing before the provider has said which VMs exist
    /// ([`Input::Listed`], an empty list will do), or has not said so for as long as a VM may be silent. VMs get ids from
    /// `first_free` upwards, and above every id it hears of.
    pub fn new(settings: Settings, target: Target, first_free: u64) -> Self {
        Self {
            settings,
            target,
            next_id: first_free,
            now: Moment::ORIGIN,
            vms: BTreeMap::new(),
            gone: VecDeque::new(),
            look_first: None,
            failures: 0,
            backoff: Moment::ORIGIN,
        }
    }

    /// Takes one input and appends what should follow. `now` never goes back; if it does, it is taken to stand still.
    pub fn handle(&mut self, now: Moment, input: Input, outputs: &mut Vec<Output>) {
        self.now = self.now.max(now);
        self.look_first.get_or_insert(self.now + self.settings.vm_silence);
        match input {
            Input::VmReported(status) => self.reported(&status),
            Input::VmNoticed { vm, deadline } => self.noticed(vm, deadline.is_some()),
            Input::Listed(vms) => self.listed(&vms),
            Input::VmEnded(vm) => self.ended(vm, outputs),
            Input::LaunchFailed(vm) => self.launch_failed(vm),
            Input::Target(target) => self.target = target,
            Input::Woke => {}
        }
        self.retire_silent(outputs);
        if self.look_first.is_some_and(|until| until <= self.now) {
            self.launch_missing(outputs);
            self.retire_surplus(outputs);
        }
    }

    /// When to call again with [`Input::Woke`] if nothing happens before.
    pub fn next_wakeup(&self) -> Option<Moment> {
        let Some(look_first) = self.look_first else { return Some(Moment::ORIGIN) };
        let silences = self.vms.values().map(|vm| match vm.stage {
            Stage::Starting { until: at }
            | Stage::Up { silent_at: at }
            | Stage::Leaving { silent_at: at } => at,
        });
        let backoff = (self.may_launch() > 0).then_some(self.backoff.max(look_first));
        silences.chain(backoff).min()
    }

    /// The id that the next launch will get.
    pub fn next_id(&self) -> VmId {
        VmId(self.next_id)
    }

    /// VMs that take work or soon will, and VMs that are leaving.
    pub fn counts(&self) -> (u32, u32) {
        let leaving = self.vms.values().filter(|vm| matches!(vm.stage, Stage::Leaving { .. })).count() as u32;
        (self.vms.len() as u32 - leaving, leaving)
    }

    fn missing(&self) -> u32 {
        self.target.vms.saturating_sub(self.counts().0)
    }

    fn reported(&mut self, status: &VmStatus) {
        if self.gone.contains(&status.vm) {
            return;
        }
        self.never_use(status.vm);
        let silent_at = self.now + self.settings.vm_silence;
        let stage = Stage::Up { silent_at };
        let vm = self.vms.entry(status.vm).or_insert(Vm { stage, noticed: false });
        if matches!(vm.stage, Stage::Starting { .. }) {
            self.failures = 0;
            self.backoff = Moment::ORIGIN;
        }
        let leaves = vm.noticed || status.standing == VmStanding::Draining;
        vm.stage = if leaves { Stage::Leaving { silent_at } } else { stage };
    }

    fn noticed(&mut self, vm: VmId, noticed: bool) {
        let silent_at = self.now + self.settings.vm_silence;
        let Some(vm) = self.vms.get_mut(&vm) else { return };
        vm.noticed = noticed;
        vm.stage = match vm.stage {
            Stage::Starting { .. } if noticed => Stage::Leaving { silent_at },
            Stage::Up { silent_at } if noticed => Stage::Leaving { silent_at },
            Stage::Leaving { silent_at } if !noticed => Stage::Up { silent_at },
            stage => stage,
        };
    }

    /// The provider's word brings VMs in, never out: it may be older than our last launch, and who is gone falls silent.
    fn listed(&mut self, listed: &[VmId]) {
        let stage = Stage::Starting { until: self.now + self.settings.launch_patience };
        for &vm in listed {
            self.never_use(vm);
            if !self.gone.contains(&vm) {
                self.vms.entry(vm).or_insert(Vm { stage, noticed: false });
            }
        }
        self.look_first = Some(Moment::ORIGIN);
    }

    fn ended(&mut self, vm: VmId, outputs: &mut Vec<Output>) {
        self.never_use(vm);
        if let Some(known) = self.vms.get(&vm) {
            if matches!(known.stage, Stage::Starting { .. }) {
                self.put_off();
            }
            self.retire(vm, RetireWhy::Ended, outputs);
        }
    }

    fn launch_failed(&mut self, vm: VmId) {
        if self.vms.remove(&vm).is_some() {
            self.remember_gone(vm);
            self.put_off();
        }
    }

    /// The next launch waits, longer with every failure in a row.
    fn put_off(&mut self) {
        let pause = self.settings.backoff_first.scaled(1 << self.failures.min(32), 1);
        self.failures = self.failures.saturating_add(1);
        self.backoff = self.now + pause.min(self.settings.backoff_longest);
    }

    fn retire_silent(&mut self, outputs: &mut Vec<Output>) {
        let silent: Vec<(VmId, bool)> = self
            .vms
            .iter()
            .filter_map(|(&id, vm)| match vm.stage {
                Stage::Starting { until } => (until <= self.now).then_some((id, true)),
                Stage::Up { silent_at } | Stage::Leaving { silent_at } => {
                    (silent_at <= self.now).then_some((id, false))
                }
            })
            .collect();
        for (vm, never_came_up) in silent {
            if never_came_up {
                self.put_off();
            }
            self.retire(vm, RetireWhy::Silent, outputs);
        }
    }

    /// What is missing; but after a failure one launch tries the ground, and when that VM reports, the rest follows.
    fn may_launch(&self) -> u32 {
        let trying = || self.vms.values().any(|vm| matches!(vm.stage, Stage::Starting { .. }));
        match self.failures {
            0 => self.missing(),
            _ if trying() => 0,
            _ => self.missing().min(1),
        }
    }

    fn launch_missing(&mut self, outputs: &mut Vec<Output>) {
        if self.backoff > self.now {
            return;
        }
        let stage = Stage::Starting { until: self.now + self.settings.launch_patience };
        for _ in 0..self.may_launch() {
            let vm = VmId(self.next_id);
            self.next_id += 1;
            self.vms.insert(vm, Vm { stage, noticed: false });
            outputs.push(Output::Launch { vm, kind: self.target.kind, size: self.target.size });
        }
    }

    /// First those that have not come up yet, then the newest.
    fn retire_surplus(&mut self, outputs: &mut Vec<Output>) {
        let surplus = self.counts().0.saturating_sub(self.target.vms) as usize;
        let mut candidates: Vec<(bool, VmId)> = self
            .vms
            .iter()
            .filter(|(_, vm)| !matches!(vm.stage, Stage::Leaving { .. }))
            .map(|(&id, vm)| (matches!(vm.stage, Stage::Starting { .. }), id))
            .collect();
        candidates.sort_unstable_by_key(|&candidate| std::cmp::Reverse(candidate));
        for (_, vm) in candidates.into_iter().take(surplus) {
            self.retire(vm, RetireWhy::Surplus, outputs);
        }
    }

    fn retire(&mut self, vm: VmId, why: RetireWhy, outputs: &mut Vec<Output>) {
        self.vms.remove(&vm);
        self.remember_gone(vm);
        outputs.push(Output::Retire { vm, why });
    }

    fn remember_gone(&mut self, vm: VmId) {
        if self.gone.len() >= GONE_LIMIT {
            self.gone.pop_front();
        }
        self.gone.push_back(vm);
    }

    fn never_use(&mut self, vm: VmId) {
        self.next_id = self.next_id.max(vm.0.saturating_add(1));
    }
}

#[cfg(test)]
mod tests;
