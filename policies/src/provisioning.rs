//! How many VMs there should be: the Resource Monitor's mind.
//!
//! **Knows:** the rule of the fleet ([`fleet`](crate::fleet)), what the provider lists, which VMs report, and what Controllers ask
//! for.
//! **Promises:** what the rule wants is launched at once and once, also for a VM that has been given notice but still lives; an
//! id is never used for two VMs; who is to leave finishes its runs first, where the rule says so. Where a provider refuses,
//! the next launch waits, longer with each refusal, and one VM tries the ground for the others.
//! **Gives up:** exchanging VMs of the wrong kind or size: a changed target holds for those launched from then on.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde::{Deserialize, Serialize};
use vocabulary::{ControllerId, Demand, Moment, Resources, Span, VmId, VmKind, VmStanding, VmStatus};

use crate::fleet::{self, Fleet, Member, Order, View, count::Count};
use crate::vigil::Vigil;

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
    /// There should be so many VMs from now on, whatever the rule was.
    Target(Target),
    /// A Controller sums up what it is asked for.
    Demanded { controller: ControllerId, demand: Demand },
    /// The moment asked for by [`Provisioning::next_wakeup`] has come.
    Woke,
}

/// Everything it can ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are named by their types")]
pub enum Output {
    /// Start a VM under this id (also the token that makes the start idempotent).
    Launch { vm: VmId, kind: VmKind, size: Resources },
    /// Tell this VM to take nothing new and finish what it has. It is retired when it has, or sooner if it falls silent.
    Drain { vm: VmId },
    /// Make sure that this VM is gone.
    Retire { vm: VmId, why: RetireWhy },
}

/// Why a VM is retired.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RetireWhy {
    /// It fell silent.
    Silent,
    /// It is not needed any more.
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
    /// What a Controller has said counts for so long. They say it every two seconds.
    pub demand_for: Span,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            vm_silence: Span::seconds(3),
            launch_patience: Span::seconds(60),
            backoff_first: Span::seconds(1),
            backoff_longest: Span::seconds(60),
            demand_for: Span::seconds(10),
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

impl Stage {
    /// When something follows from it if nothing is heard.
    fn ends(self) -> Moment {
        match self {
            Self::Starting { until: at } | Self::Up { silent_at: at } | Self::Leaving { silent_at: at } => at,
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Vm {
    stage: Stage,
    noticed: bool,
    /// As it was ordered, or as it last said; `None`: the provider lists it, and it has said nothing yet.
    known: Option<(VmKind, Resources)>,
    running: u32,
    /// How it said that it stands.
    stands: VmStanding,
    /// We have told it to drain, last at this moment.
    drains: bool,
    told_at: Moment,
}

impl Vm {
    fn new(stage: Stage, known: Option<(VmKind, Resources)>) -> Self {
        let (stands, told_at) = (VmStanding::Open, Moment::ORIGIN);
        Self { stage, noticed: false, known, running: 0, stands, drains: false, told_at }
    }
}

/// The rule is not asked again sooner than this unless something happens.
const RULE_PAUSE: Span = Span::millis(100);
/// Who was told to drain and says that it is open is told again after this.
const TOLD_AGAIN: Span = Span::seconds(2);
/// VMs that were given up are remembered, so that a last word of theirs does not bring them back.
const GONE_LIMIT: usize = 1_024;

/// The Resource Monitor's mind.
pub struct Provisioning {
    settings: Settings,
    rule: Box<dyn Fleet>,
    /// What a VM is taken for that has not said what it is.
    usual: (VmKind, Resources),
    demands: BTreeMap<ControllerId, (Moment, Demand)>,
    next_id: u64,
    now: Moment,
    /// Whether we were late ourselves: then nobody is called silent.
    vigil: Vigil,
    vms: BTreeMap<VmId, Vm>,
    /// Of each, when its stage ends: who has been silent for too long stands first, however many there are.
    ends: BTreeSet<(Moment, VmId)>,
    /// Those that were told to drain.
    drain: BTreeSet<VmId>,
    gone: VecDeque<VmId>,
    /// The same, to look up.
    gone_set: BTreeSet<VmId>,
    /// Nothing is launched before; `None` before the first input. The provider's first list ends it.
    look_first: Option<Moment>,
    /// Failed launches in a row, and until when the next one is put off.
    failures: u32,
    backoff: Moment,
    /// The rule wanted VMs when it was asked last, and they had to wait.
    put_off: bool,
    /// Something has happened since then that a rule may mind; most reports say nothing new.
    changed: bool,
}

impl Provisioning {
    /// A mind that knows no VM yet. It launches nothing before the provider has said which VMs exist
    /// ([`Input::Listed`], an empty list will do), or has not said so for as long as a VM may be silent. VMs get ids from
    /// `first_free` upwards, and above every id it hears of.
    pub fn new(settings: Settings, target: Target, first_free: u64) -> Self {
        Self {
            settings,
            rule: Box::new(Count(target)),
            usual: (target.kind, target.size),
            demands: BTreeMap::new(),
            next_id: first_free,
            now: Moment::ORIGIN,
            vigil: Vigil::default(),
            vms: BTreeMap::new(),
            ends: BTreeSet::new(),
            drain: BTreeSet::new(),
            gone: VecDeque::new(),
            gone_set: BTreeSet::new(),
            look_first: None,
            failures: 0,
            backoff: Moment::ORIGIN,
            put_off: false,
            changed: true,
        }
    }

    /// The same, with this rule instead of a plain number of VMs.
    pub fn with_rule(mut self, rule: Box<dyn Fleet>) -> Self {
        self.rule = rule;
        self
    }

    /// Takes one input and appends what should follow. `now` never goes back; if it does, it is taken to stand still.
    pub fn handle(&mut self, now: Moment, input: Input, outputs: &mut Vec<Output>) {
        let wish = self.wish();
        self.pass_time(now);
        if matches!(input, Input::Woke) && wish.is_none_or(|wish| self.now < wish) {
            // Nothing is due. It was to see whether we sleep.
            return;
        }
        self.changed |= !matches!(input, Input::VmReported(_) | Input::Woke);
        match input {
            Input::VmReported(status) => self.reported(&status),
            Input::VmNoticed { vm, deadline } => self.noticed(vm, deadline.is_some()),
            Input::Listed(vms) => self.listed(&vms),
            Input::VmEnded(vm) => self.ended(vm, outputs),
            Input::LaunchFailed(vm) => self.launch_failed(vm),
            Input::Target(target) => {
                self.rule = Box::new(Count(target));
                self.usual = (target.kind, target.size);
            }
            Input::Demanded { controller, demand } => {
                self.demands.insert(controller, (self.now, demand));
            }
            Input::Woke => {}
        }
        self.see_to_the_rest(outputs);
    }

    /// [`Input::VmReported`], for who keeps the report.
    pub fn vm_reports(&mut self, now: Moment, status: &VmStatus, outputs: &mut Vec<Output>) {
        self.pass_time(now);
        self.reported(status);
        self.see_to_the_rest(outputs);
    }

    fn pass_time(&mut self, now: Moment) {
        let now = self.now.max(now);
        self.vigil.awake(now, self.next_wakeup(), self.settings.vm_silence.scaled(1, 2));
        self.now = now;
        self.look_first.get_or_insert(self.now + self.settings.vm_silence);
    }

    fn see_to_the_rest(&mut self, outputs: &mut Vec<Output>) {
        self.retire_silent(outputs);
        self.retire_drained(outputs);
        if self.look_first.is_some_and(|until| until <= self.now) {
            self.follow_the_rule(outputs);
        }
    }

    /// When to call again with [`Input::Woke`] if nothing happens before.
    pub fn next_wakeup(&self) -> Option<Moment> {
        let looks = if self.ends.is_empty() { None } else { self.vigil.wish() };
        [self.wish(), looks].into_iter().flatten().min()
    }

    fn wish(&self) -> Option<Moment> {
        let Some(look_first) = self.look_first else { return Some(Moment::ORIGIN) };
        let silence = self.ends.first().map(|&(at, _)| at.max(self.vigil.hears_from()));
        let first = (look_first > self.now).then_some(look_first);
        let backoff = (self.put_off && first.is_none()).then_some(self.backoff);
        let rule = self.rule.next_look().filter(|_| first.is_none()).map(|at| at.max(self.now + RULE_PAUSE));
        [silence, first, backoff, rule].into_iter().flatten().min()
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

    fn reported(&mut self, status: &VmStatus) {
        if self.gone_set.contains(&status.vm) {
            return;
        }
        self.never_use(status.vm);
        let silent_at = self.now + self.settings.vm_silence;
        let stage = Stage::Up { silent_at };
        let mut vm = self.vms.get(&status.vm).copied().unwrap_or(Vm::new(stage, None));
        let before = (vm.known, vm.stands, std::mem::discriminant(&vm.stage));
        vm.known = Some((status.kind, status.capacity));
        vm.running = status.running.len() as u32;
        if matches!(vm.stage, Stage::Starting { .. }) {
            self.failures = 0;
            self.backoff = Moment::ORIGIN;
        }
        let leaves = vm.noticed || vm.drains || status.standing == VmStanding::Draining;
        vm.stands = status.standing;
        vm.stage = if leaves { Stage::Leaving { silent_at } } else { stage };
        self.changed |= before != (vm.known, vm.stands, std::mem::discriminant(&vm.stage));
        self.keep(status.vm, vm);
    }

    /// What is known of a VM from now on.
    fn keep(&mut self, id: VmId, vm: Vm) {
        if let Some(before) = self.vms.insert(id, vm) {
            self.ends.remove(&(before.stage.ends(), id));
        }
        self.ends.insert((vm.stage.ends(), id));
        if vm.drains {
            self.drain.insert(id);
        }
    }

    fn forget(&mut self, id: VmId) -> bool {
        let Some(before) = self.vms.remove(&id) else { return false };
        self.ends.remove(&(before.stage.ends(), id));
        self.drain.remove(&id);
        true
    }

    fn noticed(&mut self, id: VmId, noticed: bool) {
        let silent_at = self.now + self.settings.vm_silence;
        let Some(mut vm) = self.vms.get(&id).copied() else { return };
        vm.noticed = noticed;
        vm.stage = match vm.stage {
            Stage::Starting { .. } if noticed => Stage::Leaving { silent_at },
            Stage::Up { silent_at } if noticed => Stage::Leaving { silent_at },
            Stage::Leaving { silent_at } if !noticed && !vm.drains => Stage::Up { silent_at },
            stage => stage,
        };
        self.keep(id, vm);
    }

    /// The provider's word brings VMs in, never out: it may be older than our last launch, and who is gone falls silent.
    fn listed(&mut self, listed: &[VmId]) {
        let stage = Stage::Starting { until: self.now + self.settings.launch_patience };
        for &vm in listed {
            self.never_use(vm);
            if !self.gone_set.contains(&vm) && !self.vms.contains_key(&vm) {
                self.keep(vm, Vm::new(stage, None));
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
        if self.forget(vm) {
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
        let now = self.now;
        if now < self.vigil.hears_from() {
            return;
        }
        let silent = self.ends.iter().take_while(|&&(at, _)| at <= now).map(|&(_, id)| id);
        // By id, whoever fell silent first.
        let mut silent: Vec<(VmId, bool)> =
            silent.map(|id| (id, matches!(self.vms[&id].stage, Stage::Starting { .. }))).collect();
        silent.sort_unstable();
        for (vm, never_came_up) in silent {
            if never_came_up {
                self.put_off();
            }
            self.retire(vm, RetireWhy::Silent, outputs);
        }
    }

    /// Who was told to drain and has nothing left goes; who has not heard it is told again.
    fn retire_drained(&mut self, outputs: &mut Vec<Output>) {
        let draining: Vec<(VmId, Vm)> = self.drain.iter().map(|&id| (id, self.vms[&id])).collect();
        for (id, vm) in draining {
            match (vm.stands, vm.running) {
                (VmStanding::Draining, 0) => self.retire(id, RetireWhy::Surplus, outputs),
                (VmStanding::Open, _) if vm.told_at + TOLD_AGAIN <= self.now => self.drain(id, outputs),
                _ => {}
            }
        }
    }

    fn drain(&mut self, id: VmId, outputs: &mut Vec<Output>) {
        let (now, silent_at) = (self.now, self.now + self.settings.vm_silence);
        let Some(mut vm) = self.vms.get(&id).copied() else { return };
        (vm.drains, vm.told_at) = (true, now);
        if let Stage::Up { silent_at } = vm.stage {
            vm.stage = Stage::Leaving { silent_at };
        } else if let Stage::Starting { .. } = vm.stage {
            vm.stage = Stage::Leaving { silent_at };
        }
        self.keep(id, vm);
        outputs.push(Output::Drain { vm: id });
    }

    fn follow_the_rule(&mut self, outputs: &mut Vec<Output>) {
        let now = self.now;
        let is_due =
            self.rule.next_look().is_some_and(|at| at <= now) || (self.put_off && self.backoff <= now);
        if !self.changed && !is_due {
            return;
        }
        self.demands.retain(|_, (said, _)| now.since(*said) < self.settings.demand_for);
        // Of a VM that is listed and has said nothing yet, nobody knows how large it is; the next report tells.
        let waits = |vm: &Vm| {
            vm.known.is_none()
                && matches!(vm.stage, Stage::Starting { until } if now + self.settings.launch_patience < until + self.settings.vm_silence)
        };
        if self.rule.needs_sizes() && self.vms.values().any(waits) {
            return;
        }
        let vms: Vec<Member> = self.vms.iter().map(|(&id, vm)| self.member(id, vm)).collect();
        let demand = self.demands.values().map(|&(_, demand)| demand).reduce(Demand::and);
        let mut orders = Vec::new();
        self.rule.look(now, View { vms: &vms, demand }, &mut orders);
        (self.put_off, self.changed) = (false, false);
        for order in orders {
            match order {
                Order::Launch { kind, size, count } => self.launch(kind, size, count, outputs),
                Order::Drain(vm) => self.drain(vm, outputs),
                Order::Retire(vm) => self.retire(vm, RetireWhy::Surplus, outputs),
            }
        }
    }

    fn member(&self, id: VmId, vm: &Vm) -> Member {
        let (kind, size) = vm.known.unwrap_or(self.usual);
        let stage = match vm.stage {
            Stage::Starting { .. } => fleet::Stage::Starting,
            Stage::Up { .. } => fleet::Stage::Open,
            Stage::Leaving { .. } => fleet::Stage::Leaving,
        };
        Member { vm: id, kind, size, stage, running: vm.running }
    }

    /// After a failure one launch tries the ground, and when that VM reports, the rest follows.
    fn launch(&mut self, kind: VmKind, size: Resources, count: u32, outputs: &mut Vec<Output>) {
        if self.backoff > self.now {
            self.put_off = true;
            return;
        }
        let trying = self.vms.values().any(|vm| matches!(vm.stage, Stage::Starting { .. }));
        let count = match self.failures {
            0 => count,
            _ if trying => 0,
            _ => count.min(1),
        };
        let stage = Stage::Starting { until: self.now + self.settings.launch_patience };
        for _ in 0..count {
            let vm = VmId(self.next_id);
            self.next_id += 1;
            self.keep(vm, Vm::new(stage, Some((kind, size))));
            outputs.push(Output::Launch { vm, kind, size });
        }
    }

    fn retire(&mut self, vm: VmId, why: RetireWhy, outputs: &mut Vec<Output>) {
        self.forget(vm);
        self.changed = true;
        self.remember_gone(vm);
        outputs.push(Output::Retire { vm, why });
    }

    fn remember_gone(&mut self, vm: VmId) {
        if self.gone.len() >= GONE_LIMIT
            && let Some(oldest) = self.gone.pop_front()
        {
            self.gone_set.remove(&oldest);
        }
        if self.gone_set.insert(vm) {
            self.gone.push_back(vm);
        }
    }

    fn never_use(&mut self, vm: VmId) {
        self.next_id = self.next_id.max(vm.0.saturating_add(1));
    }
}

#[cfg(test)]
mod tests;
