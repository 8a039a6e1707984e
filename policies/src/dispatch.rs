//! Where an invocation goes, when, and what happens when its VM does not come back: the Controller's mind.
//!
//! **Knows:** what was submitted to it, what it sent where, and what the VMs reported.
//! **Promises:** every submission ends exactly once, with [`Output::Forget`], [`Output::GiveUp`] or [`Output::Refuse`]; the
//! attempts of one invocation grow strictly, each after the [`Output::Fence`] that says which still count: the newest, and
//! beside it at most one whose VM has been given notice; no VM is sent more than it offers, as last reported. No function
//! waits for ever because others are smaller or more, and none for a VM that never comes.
//! What another Controller has sent out and a VM lists is taken over, not run again, when it is submitted here.
//! **Gives up:** knowing what happened on a VM between its last report and its loss: what was there is run again, unless
//! its function forbids it.
//!
//! The files beside: `lifecycle` (what happens to one invocation), `open` (what is known of it), `granting` (how much), `sending`
//! (who goes next, and where to), `starving` (who has waited too long, and who may go before it all the same), `prewarming` (what is made before anybody waits for it), `fleet` (VMs that report or are lost), `eviction` (VMs that must go, and what runs there),
//! `vms` (which kinds of VMs a function may run on), `shrinks` (how much VMs tend to lose), `queues` (who waits), `hopeless`
//! (who waits without any VM), `adoption` (what another Controller has sent out), `demand` (what is asked of the fleet), `words` (what is heard and said).

mod adoption;
mod demand;
mod eviction;
mod fleet;
mod granting;
mod hopeless;
mod lifecycle;
mod open;
mod prewarming;
mod queues;
mod sending;
mod shrinks;
mod starving;
mod vms;
mod words;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde::{Deserialize, Serialize};
use vocabulary::{ApplicationId, Attempt, FunctionId, InvocationId, Moment, Resources, Span, VmId, VmStatus};

use crate::allocation::Allocator;
use crate::allocation::learned::Learned;
use crate::hash::Map;
use crate::placement::{Books, BySlot, Placement, Slot};
use crate::profile::Profile;
use crate::reliability::{self, Hazard, Rate, Reliability, Tails};
use crate::vigil::Vigil;

use fleet::Vm;
use hopeless::Missing;
use open::{Function, Open};
use queues::Queues;

pub use words::{Again, Ending, GivenUp, Input, Output, Refusal, Seen, Submission, VmGone};

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
    /// Where no VM is there that a submission may run on, it waits for one for this long before it is refused.
    pub no_vm_grace: Span,
    /// A durable submission that no VM could hold waits for a larger one for this long before it ends.
    pub unplaceable_grace: Span,
    /// A durable submission waits for a place no longer than this, whatever the reason.
    pub durable_patience: Span,
    /// Whether what should not end before its VM's eviction is run again elsewhere at the notice, where its function allows
    /// it; else at the loss. SOSP'21 does neither.
    pub rerun_at_notice: bool,
    /// From this probability on, in thousandths, it is taken not to end in time. A second run costs work that may be in vain,
    /// no second run costs the rest of the notice: one in four is where the caller's time is worth more.
    pub rerun_risk_milli: u32,
    /// How long a harvest VM is expected to live, before this fleet has been watched long enough to know better. A day
    /// is pessimistic: SOSP'21 measured 61.5 days on average.
    pub expected_life: Span,
    /// Whether to wait for a busy sandbox where that is sooner than making another.
    pub wait_for_warm: bool,
    /// When the oldest waiting invocation has waited this long, a VM is kept free for it.
    pub starvation_after: Span,
    /// Functions whose sandboxes are made anew elsewhere when their VM is given notice.
    pub prewarm_functions: u32,
    /// Whether a function whose calls are likely to overlap has one sandbox more than is busy while half of the fleet is free.
    pub makes_spares: bool,
    /// Waiting functions that are tried in vain after one event before the rest is put off by a millisecond.
    pub tries_per_event: u32,
    /// Functions whose profile is kept.
    pub functions_limit: u32,
    /// Whether each run that has ended is told, with what was expected of it ([`Output::Ran`]).
    pub tells_runs: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            vm_silence: Span::seconds(3),
            queue_limit: 100_000,
            function_queue_limit: 10_000,
            attempts_limit: 10,
            lost_after: Span::seconds(2),
            lost_reports: 2,
            settle: Span::millis(1_200),
            no_vm_grace: Span::seconds(10),
            unplaceable_grace: Span::seconds(600),
            durable_patience: Span::seconds(24 * 3_600),
            rerun_at_notice: true,
            rerun_risk_milli: 250,
            expected_life: Span::seconds(24 * 3_600),
            wait_for_warm: true,
            starvation_after: Span::seconds(1),
            prewarm_functions: 16,
            makes_spares: true,
            tries_per_event: 8,
            functions_limit: 100_000,
            tells_runs: false,
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
    /// VMs that are kept free for one who has waited too long.
    pub kept_free: u32,
    /// Attempts that were sent to such a VM because they should have ended in time, until now.
    pub went_before: u64,
}

/// The Controller's mind.
pub struct Dispatch {
    settings: Settings,
    placement: Box<dyn Placement>,
    allocator: Box<dyn Allocator>,
    reliability: Box<dyn Reliability>,
    now: Moment,
    /// Nothing is sent before; `None` before the first input.
    settled: Option<Moment>,
    books: Books,
    vms: BySlot<Vm>,
    /// When each VM will have been silent for too long.
    silences: VecDeque<(Moment, Slot)>,
    /// The number of the last report, of whichever VM.
    reports: u64,
    /// Notices for VMs that have not reported yet.
    early_notices: BTreeMap<VmId, Moment>,
    /// VMs that are wanted and are not there.
    missing: Missing,
    /// Whether we were late ourselves: then no VM is called silent.
    vigil: Vigil,
    /// Attempts that VMs list and that are not ours (any more).
    foreign: BTreeSet<(InvocationId, Attempt, VmId)>,
    functions: Map<FunctionId, Function>,
    applications: Map<ApplicationId, Tails>,
    /// How often harvest VMs are evicted; at the ages they have now; and when that was last looked at.
    hazard: Hazard,
    evictions: Rate,
    evictions_checked: Moment,
    open: Map<InvocationId, Open>,
    in_flight: u32,
    /// See [`Gauges::went_before`].
    went_before: u64,
    queues: Queues,
    /// When to look at heads of queues again, which wait for a busy sandbox or for more than they reserved.
    head_looks: BTreeSet<(Moment, FunctionId)>,
    /// Functions with somebody waiting whom no VM could hold, and when they are given up.
    unplaceable: BTreeSet<(Moment, FunctionId)>,
    /// The books' version for which the waiting were last gone through, and how many are left to go through.
    pumped: u64,
    pass_left: usize,
    pump_due: Option<Moment>,
    starving_checked: Moment,
    /// See [`Dispatch::next_wakeup`]; the same until the next input.
    wish: Moment,
    /// The earliest of such wishes since we were woken for one: so long an alarm is only to see whether we sleep.
    woken_for: Moment,
}

impl Dispatch {
    /// A mind that knows no VM and no function yet. Its reliability strategy is the default one.
    pub fn new(settings: Settings, placement: Box<dyn Placement>, allocator: Box<dyn Allocator>) -> Self {
        Self {
            books: Books::new(settings.functions_limit),
            hazard: Hazard::new(settings.expected_life),
            evictions: Rate::once_in(settings.expected_life),
            evictions_checked: Moment::ORIGIN,
            settings,
            placement,
            allocator,
            reliability: reliability::by_name(reliability::NAMES[0]).expect("the default has a name"),
            now: Moment::ORIGIN,
            settled: None,
            vms: BySlot::default(),
            silences: VecDeque::new(),
            reports: 0,
            early_notices: BTreeMap::new(),
            missing: Missing::default(),
            vigil: Vigil::default(),
            foreign: BTreeSet::new(),
            functions: Map::default(),
            applications: Map::default(),
            open: Map::default(),
            in_flight: 0,
            went_before: 0,
            queues: Queues::default(),
            head_looks: BTreeSet::new(),
            unplaceable: BTreeSet::new(),
            pumped: 0,
            pass_left: 0,
            pump_due: None,
            starving_checked: Moment::ORIGIN,
            wish: Moment::NEVER,
            woken_for: Moment::NEVER,
        }
    }

    /// The same, with this reliability strategy.
    pub fn with_reliability(mut self, reliability: Box<dyn Reliability>) -> Self {
        self.reliability = reliability;
        self
    }

    /// Takes one input and appends what should follow. `now` never goes back; if it does, it is taken to stand still.
    pub fn handle(&mut self, now: Moment, input: Input, outputs: &mut Vec<Output>) {
        self.pass_time(now);
        if matches!(input, Input::Woke) {
            if self.now < self.woken_for {
                // Nothing was due. It was to see whether we sleep.
                return;
            }
            self.woken_for = Moment::NEVER;
        }
        let mut freed = None;
        match input {
            Input::VmReported(status) => {
                self.vm_reported(&status, outputs);
            }
            Input::VmUses { vm, used } => {
                if let Some(slot) = self.books.slot(vm) {
                    self.books.uses(slot, used);
                }
            }
            Input::VmAge { vm, age } => self.vm_has_lived(vm, age),
            Input::VmNoticed { vm, deadline } => self.vm_noticed(vm, deadline, outputs),
            Input::VmLost(vm) => self.lose_vm(vm, VmGone::Told, outputs),
            Input::Submitted(submission) => self.submitted(submission, outputs),
            Input::Bounced { vm, invocation, attempt } => self.bounced(vm, invocation, attempt, outputs),
            Input::HandedBack { vm, invocation, attempt } => {
                self.handed_back(vm, invocation, attempt, outputs);
            }
            Input::Known { vm, invocation, attempt, newest, runs } => {
                self.known_there(vm, invocation, attempt, newest, runs, outputs);
            }
            Input::Finished { vm, ending } => {
                freed = Some((vm, ending.function));
                self.finished(vm, ending, outputs);
            }
            Input::Starved { vm, ending } => {
                freed = Some((vm, ending.function));
                self.starved(vm, &ending, outputs);
            }
            Input::Remembered { function, profile } => self.remember(function, *profile),
            Input::Withdrawn(invocation) => self.withdrawn(invocation, outputs),
            Input::Woke => {}
        }
        self.see_to_the_rest(freed, outputs);
    }

    /// [`Input::VmReported`] and [`Input::VmUses`] in one, for who keeps the report.
    pub fn vm_reports(&mut self, now: Moment, status: &VmStatus, used: Resources, outputs: &mut Vec<Output>) {
        self.pass_time(now);
        let slot = self.vm_reported(status, outputs);
        self.books.uses(slot, used);
        self.see_to_the_rest(None, outputs);
    }

    fn see_to_the_rest(&mut self, freed: Option<(VmId, FunctionId)>, outputs: &mut Vec<Output>) {
        self.give_up_silent_vms(outputs);
        let for_those_who_wait = if self.nobody_waits() {
            self.keep_nothing_free();
            Moment::NEVER
        } else {
            self.see_to_those_who_wait(freed, outputs);
            self.next_for_those_who_wait()
        };
        self.wish = self.end_of_silence().min(for_those_who_wait);
        self.woken_for = self.woken_for.min(self.wish);
    }

    /// Nor is anything remembered of somebody who did.
    fn nobody_waits(&self) -> bool {
        self.queues.is_empty() && self.unplaceable.is_empty() && self.head_looks.is_empty()
    }

    fn see_to_those_who_wait(&mut self, freed: Option<(VmId, FunctionId)>, outputs: &mut Vec<Output>) {
        if !self.queues.is_empty() {
            self.give_up_waiting(outputs);
        }
        self.give_up_unplaceable(outputs);
        if !self.queues.is_empty() {
            self.note_missing();
            self.refuse_without_vms(outputs);
        }
        self.end_waits(outputs);
        self.pump(freed, outputs);
    }

    /// When to call again with [`Input::Woke`] if nothing happens before.
    pub fn next_wakeup(&self) -> Option<Moment> {
        let looks = if self.silences.is_empty() { None } else { self.vigil.wish() };
        let next = self.wish.min(looks.unwrap_or(Moment::NEVER));
        (next < Moment::NEVER).then_some(next)
    }

    /// When the next VM will have been silent for too long.
    fn end_of_silence(&self) -> Moment {
        self.silences.front().map_or(Moment::NEVER, |&(moment, _)| moment.max(self.vigil.hears_from()))
    }

    fn next_for_those_who_wait(&self) -> Moment {
        let mut next = self.next_unplaceable().unwrap_or(Moment::NEVER);
        if !self.queues.is_empty() {
            next = next.min(self.queues.next_deadline().unwrap_or(Moment::NEVER));
            next = next.min(self.next_look_at_the_waiting().unwrap_or(Moment::NEVER));
            next = next.min(self.hopeless_from().unwrap_or(Moment::NEVER));
        }
        if let Some(&(until, _)) = self.head_looks.first() {
            next = next.min(until);
        }
        next
    }

    /// Invocations that wait for a place.
    pub fn waiting(&self) -> u32 {
        self.queues.len()
    }

    /// What has been learned of a function.
    pub fn profile(&self, function: FunctionId) -> Option<&Profile> {
        self.functions.get(&function).map(|function| &function.profile)
    }

    /// The allocator whose model can be another while it runs, if that is the one in force.
    pub fn with_model(&mut self) -> Option<&mut Learned> {
        self.allocator.with_model()
    }

    /// What can be counted at a glance. O(VMs).
    pub fn gauges(&self) -> Gauges {
        let slots = || self.books.vms();
        let open = self.books.open();
        Gauges {
            waiting: self.queues.len(),
            functions_waiting: self.queues.functions(),
            oldest_wait: self.queues.oldest().next().map_or(Span::ZERO, |(since, _)| self.now.since(since)),
            vms_open: open,
            vms_draining: self.books.len() - open,
            capacity: slots()
                .filter(|&slot| self.books.takes_work(slot))
                .map(|slot| self.books.capacity(slot))
                .sum(),
            booked: slots().map(|slot| self.books.booked(slot)).sum(),
            in_flight: self.in_flight,
            kept_free: self.books.held().is_some().into(),
            went_before: self.went_before,
        }
    }

    /// Where a VM stands in the eyes of placement: what it has, and what is booked on it, by us and in all.
    pub fn booked_on(&self, vm: VmId) -> Option<VmBooking> {
        let slot = self.books.slot(vm)?;
        Some(VmBooking {
            capacity: self.books.capacity(slot),
            booked_by_us: self.books.booked_by_us(slot),
            booked: self.books.booked(slot),
        })
    }

    fn pass_time(&mut self, now: Moment) {
        let now = now.max(self.now);
        // If the process was stopped for a while, reports are waiting behind this input. Nobody is silent yet.
        self.vigil.awake(now, self.next_wakeup(), self.settings.vm_silence.scaled(1, 2));
        self.now = now;
        if self.settled.is_none() {
            self.settled = Some(now + self.settings.settle);
        }
    }

    fn is_settled(&self) -> bool {
        self.settled.is_some_and(|settled| self.now >= settled)
    }
}

/// What placement believes of one VM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct VmBooking {
    /// What it said it has.
    pub capacity: Resources,
    /// What our open attempts have booked there.
    pub booked_by_us: Resources,
    /// The same, with what other Controllers have there.
    pub booked: Resources,
}

#[cfg(test)]
mod tests;
