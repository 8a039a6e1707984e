//! The two minds, the messages between them, and who hears them.

use std::collections::{BTreeMap, BTreeSet};

use policies::dispatch::{self, Dispatch, Ending, Submission};
use policies::keep_alive;
use policies::placement::{self, Binding};
use policies::released;
use policies::residency::{self, Admission, HandBackWhy, Known, Lending, Residency};
use policies::safeguard::Sample;
use vocabulary::{
    Attempt, ControllerId, FunctionCard, FunctionId, InvocationId, Mebibytes, MilliCores, Moment, OnEviction,
    Outcome, Resources, Revision, Span, Usage, VmId, VmKind, VmStatus,
};

/// The only Controller of these worlds.
const ME: ControllerId = ControllerId(1);

/// SplitMix64: all chance in a case comes from its seed.
pub(super) struct Chance(u64);

impl Chance {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    pub(super) fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

/// A message or an effect on its way.
#[derive(Debug, Clone)]
pub(super) enum Event {
    ToController(dispatch::Input),
    ToVm(VmId, residency::Input),
    /// The VM writes a report now.
    Report(VmId),
    /// An answer reaches the Frontend.
    Answer(InvocationId, Attempt),
    /// An eviction that was announced comes.
    Evicted(VmId),
}

/// What a Frontend knows of a call.
#[derive(Debug, Default)]
pub(super) struct Call {
    /// Answers of attempts before `oldest_valid` are void, except `also`'s.
    pub(super) oldest_valid: Option<Attempt>,
    pub(super) also: Option<Attempt>,
    /// The one that was passed on.
    pub(super) answered: Option<Attempt>,
    /// Where each attempt was sent.
    pub(super) sent: BTreeMap<Attempt, VmId>,
}

impl Call {
    pub(super) fn counts(&self, attempt: Attempt) -> bool {
        self.oldest_valid.is_none_or(|oldest| attempt >= oldest) || self.also == Some(attempt)
    }
}

pub(super) struct Vm {
    pub(super) residency: Residency,
    pub(super) capacity: Resources,
    pub(super) begun: BTreeSet<(InvocationId, Attempt)>,
    pub(super) draining: bool,
}

pub(super) struct World {
    pub(super) chance: Chance,
    /// How many submissions may come at once.
    pub(super) rush: u64,
    pub(super) now: Moment,
    pub(super) dispatch: Dispatch,
    pub(super) vms: BTreeMap<VmId, Vm>,
    pub(super) next_vm: u64,
    pub(super) next_invocation: u128,
    pub(super) events: BTreeMap<(Moment, u64), Event>,
    pub(super) order: u64,
    /// In every accepted or refused submission: how often it ended.
    pub(super) ends: BTreeMap<InvocationId, u32>,
    pub(super) cards: BTreeMap<InvocationId, FunctionCard>,
    pub(super) attempts: BTreeMap<InvocationId, Attempt>,
    pub(super) calls: BTreeMap<InvocationId, Call>,
    /// VMs that the Controller has given up, and those whose notice it has heard.
    pub(super) given_up: BTreeSet<VmId>,
    pub(super) noticed: BTreeSet<VmId>,
    /// How often something was run again beside its first attempt.
    pub(super) reruns: u32,
    pub(super) last_capacity: BTreeMap<VmId, Resources>,
    pub(super) trouble: bool,
    /// The name of the placement, and whether it promises that no VM gets more than it offers.
    pub(super) algorithm: &'static str,
    pub(super) keeps_to_room: bool,
    pub(super) lending: Lending,
    /// Where each attempt was sent, and the most that may be booked for it there: with lending, all that it reserved.
    pub(super) promised: BTreeMap<(InvocationId, Attempt), (VmId, Resources)>,
    pub(super) log: Vec<String>,
}

pub(super) fn card(function: u64) -> FunctionCard {
    FunctionCard {
        id: FunctionId(function),
        revision: Revision(1),
        reservation: Resources::new(500 * (1 + function as u32 % 4), 128 << (function % 3)),
        timeout: Span::seconds(10),
        on_eviction: match function % 5 {
            4 => OnEviction::Never,
            3 => OnEviction::RerunAtLoss,
            _ => OnEviction::Rerun,
        },
        application: None,
    }
}

impl World {
    pub(super) fn new(seed: u64, algorithm: &'static str, allocation: &str, lending: Lending) -> Self {
        let placement = placement::by_name(algorithm, &placement::Settings::default()).unwrap();
        let keeps_to_room = placement.binding() == Binding::Late;
        let allocator =
            policies::allocation::by_name(allocation, &policies::allocation::Settings::default()).unwrap();
        let mut settings =
            dispatch::Settings { queue_limit: 60, function_queue_limit: 25, ..dispatch::Settings::default() };
        released::fit_dispatch(algorithm, &mut settings);
        let mut chance = Chance(seed);
        let mut world = Self {
            rush: chance.below(4) * 4,
            chance,
            now: Moment::ORIGIN,
            dispatch: Dispatch::new(settings, placement, allocator),
            vms: BTreeMap::new(),
            next_vm: 1,
            next_invocation: 1,
            events: BTreeMap::new(),
            order: 0,
            ends: BTreeMap::new(),
            cards: BTreeMap::new(),
            attempts: BTreeMap::new(),
            calls: BTreeMap::new(),
            given_up: BTreeSet::new(),
            noticed: BTreeSet::new(),
            reruns: 0,
            last_capacity: BTreeMap::new(),
            trouble: true,
            algorithm,
            lending,
            promised: BTreeMap::new(),
            keeps_to_room,
            log: Vec::new(),
        };
        for _ in 0..3 {
            world.new_vm();
        }
        world
    }

    pub(super) fn after(&mut self, ms: u64, event: Event) {
        self.order += 1;
        self.events.insert((self.now + Span::millis(ms), self.order), event);
    }

    pub(super) fn new_vm(&mut self) {
        let id = VmId(self.next_vm);
        self.next_vm += 1;
        let capacity = Resources::new(1_000 * (2 + self.chance.below(7) as u32), 2_048);
        let mut settings = residency::Settings { queue_limit: 8, ..Default::default() };
        released::fit_residency(self.algorithm, &mut settings);
        settings.keep_alive = Span::seconds(5);
        settings.lending = self.lending;
        let name = keep_alive::NAMES[self.chance.below(keep_alive::NAMES.len() as u64) as usize];
        let keep_alive = keep_alive::by_name(name, settings.keep_alive).unwrap();
        let residency = Residency::with_keep_alive(settings, capacity, keep_alive);
        let vm = Vm { residency, capacity, begun: BTreeSet::new(), draining: false };
        self.vms.insert(id, vm);
        self.after(1, Event::Report(id));
    }

    pub(super) fn submit(&mut self) {
        let invocation = InvocationId(self.next_invocation);
        self.next_invocation += 1;
        self.ends.insert(invocation, 0);
        let function = card(self.chance.below(12));
        self.cards.insert(invocation, function);
        let submission = Submission {
            invocation,
            function,
            first_attempt: Attempt::FIRST,
            input_bytes: 10,
            give_up_at: self.now + Span::seconds(1 + self.chance.below(20)),
            durable: self.chance.one_in(5),
            truth: None,
        };
        let submitted = Event::ToController(dispatch::Input::Submitted(submission));
        if self.chance.one_in(10) {
            self.after(3, submitted.clone());
        }
        self.after(0, submitted);
    }

    pub(super) fn tell_controller(&mut self, input: dispatch::Input) {
        self.log.push(format!("{:?} <- {input:?}", self.now));
        if let dispatch::Input::Submitted(submission) = &input
            && self.ends[&submission.invocation] > 0
        {
            return; // A Frontend that has its answer does not ask again.
        }
        match &input {
            dispatch::Input::VmReported(status) => {
                self.last_capacity.insert(status.vm, status.capacity);
                self.given_up.remove(&status.vm);
            }
            dispatch::Input::VmNoticed { vm, deadline: Some(_) } => drop(self.noticed.insert(*vm)),
            dispatch::Input::VmNoticed { vm, deadline: None } => drop(self.noticed.remove(vm)),
            _ => {}
        }
        let booked_before: BTreeMap<VmId, Resources> = self.booked_by_us();
        let mut outputs = Vec::new();
        self.dispatch.handle(self.now, input, &mut outputs);
        let mut sent_to = BTreeSet::new();
        for output in outputs {
            self.log.push(format!("    -> {output:?}"));
            self.carry_out(output, &mut sent_to);
        }
        self.no_vm_is_promised_more_than_it_offers(&sent_to, &booked_before);
        for (id, ends) in &self.ends {
            assert!(*ends <= 1, "{id} ended {ends} times");
        }
    }

    pub(super) fn carry_out(&mut self, output: dispatch::Output, sent_to: &mut BTreeSet<VmId>) {
        use dispatch::Output as O;
        match output {
            O::Run { vm, invocation, attempt, grant, .. } => {
                let last = self.attempts.insert(invocation, attempt);
                assert!(last.is_none_or(|last| attempt > last), "{invocation}: {attempt} after {last:?}");
                self.at_most_two_attempts_live(invocation, attempt);
                self.calls.entry(invocation).or_default().sent.insert(attempt, vm);
                assert_eq!(self.ends[&invocation], 0, "{invocation} was sent after its end");
                sent_to.insert(vm);
                let most = self.cards[&invocation].reservation.max(grant.booked);
                self.promised.insert((invocation, attempt), (vm, most));
                let delay = self.chance.below(5);
                if !self.vms.contains_key(&vm) {
                    if self.chance.one_in(2) {
                        let input = dispatch::Input::Bounced { vm, invocation, attempt };
                        self.after(delay, Event::ToController(input));
                    }
                    return;
                }
                let function = self.cards[&invocation];
                let run =
                    Event::ToVm(vm, residency::Input::Run { from: ME, invocation, attempt, function, grant });
                if self.trouble && self.chance.one_in(20) {
                    self.after(delay + 50, run.clone()); // twice
                }
                if !(self.trouble && self.chance.one_in(30)) {
                    self.after(delay, run);
                }
            }
            O::Fence { invocation, oldest_valid, also } => {
                let call = self.calls.entry(invocation).or_default();
                assert!(call.oldest_valid.is_none_or(|before| oldest_valid >= before), "a fence went back");
                (call.oldest_valid, call.also) = (Some(oldest_valid), also);
            }
            O::Refuse { invocation, .. } => {
                assert!(!self.attempts.contains_key(&invocation), "refused after it was sent");
                *self.ends.get_mut(&invocation).unwrap() += 1;
            }
            O::GiveUp { invocation, .. } | O::Forget(invocation) => {
                *self.ends.get_mut(&invocation).unwrap() += 1;
            }
            O::Cancel { vm, invocation, attempt } => {
                let delay = self.chance.below(5);
                self.after(delay, Event::ToVm(vm, residency::Input::Cancel { invocation, attempt }));
            }
            O::Adopt { vm, invocation, attempt } => {
                let delay = self.chance.below(5);
                self.after(delay, Event::ToVm(vm, residency::Input::Adopted { by: ME, invocation, attempt }));
            }
            O::Prewarm { vm, function, count } => {
                self.after(1, Event::ToVm(vm, residency::Input::Prewarm { function, count }));
            }
            O::VmGone { vm, .. } => {
                self.last_capacity.remove(&vm);
                self.given_up.insert(vm);
                self.noticed.remove(&vm);
            }
            O::Again { why: dispatch::Again::Notice, .. } => self.reruns += 1,
            O::Stale { .. } | O::Again { .. } | O::Ran(_) => {}
        }
    }

    /// The Frontend passes on the first answer that counts.
    pub(super) fn answered(&mut self, invocation: InvocationId, attempt: Attempt) {
        let call = self.calls.entry(invocation).or_default();
        if call.answered.is_none() && call.counts(attempt) {
            call.answered = Some(attempt);
        }
    }

    pub(super) fn tell_vm(&mut self, id: VmId, input: residency::Input) {
        let Some(vm) = self.vms.get_mut(&id) else { return };
        self.log.push(format!("{:?} {id} <- {input:?}", self.now));
        if let residency::Input::Capacity(capacity) = input {
            vm.capacity = capacity;
        }
        let gives_back = matches!(input, residency::Input::Sampled { .. });
        let (was_booked, was_size) = (vm.residency.booked(), vm.capacity);
        let mut outputs = Vec::new();
        vm.residency.handle(self.now, input, &mut outputs);
        for output in outputs {
            self.log.push(format!("    {id} -> {output:?}"));
            self.vm_does(id, output);
        }
        let booked = self.vms[&id].residency.booked();
        assert!(
            released::admission(self.algorithm) != Admission::Booked
                || gives_back
                || booked.fits_in(was_size)
                || booked.fits_in(was_booked),
            "{id} has {was_size}, had booked {was_booked}, now {booked}"
        );
    }

    pub(super) fn vm_does(&mut self, id: VmId, output: residency::Output) {
        use residency::{Input as I, Output as O};
        match output {
            O::Start { sandbox, .. } => {
                let delay = 20 + self.chance.below(400);
                self.after(delay, Event::ToVm(id, I::SandboxReady(sandbox)));
            }
            O::Execute { sandbox, invocation, attempt, grant, cold } => {
                let vm = self.vms.get_mut(&id).unwrap();
                assert!(vm.begun.insert((invocation, attempt)), "{invocation} {attempt} was begun twice");
                let function = self.cards[&invocation];
                let duration = 1 + self.chance.below(700);
                let kept = !self.chance.one_in(15);
                let reserved = function.reservation.memory;
                let starves =
                    self.lending != Lending::Off && grant.booked.memory < reserved && self.chance.one_in(10);
                let kept = kept && !starves;
                self.after(duration, Event::ToVm(id, I::RunEnded { sandbox, kept }));
                if self.lending != Lending::Off {
                    let sample = Sample {
                        cpu: MilliCores(self.chance.below(1_500) as u32),
                        memory: Mebibytes(self.chance.below(150) as u32),
                        ..Sample::default()
                    };
                    let during = self.chance.below(duration);
                    self.after(during, Event::ToVm(id, I::Sampled { sandbox, sample }));
                }
                let usage = Usage {
                    cpu_time: Span::millis(duration / 2),
                    cpu_peak: MilliCores(100 + self.chance.below(900) as u32),
                    memory_peak: Mebibytes(20 + self.chance.below(60) as u32),
                    throttled: Span::millis(if self.chance.one_in(5) { duration } else { 0 }),
                    safeguarded: self.chance.one_in(20),
                };
                let ending = Ending {
                    invocation,
                    attempt,
                    function: function.id,
                    revision: function.revision,
                    outcome: Some(Outcome::Success),
                    cold,
                    init: Span::millis(if cold { 200 } else { 0 }),
                    duration: Span::millis(duration),
                    usage,
                    sandbox_kept: kept,
                    input_bytes: 10,
                };
                let finished = Event::ToController(if starves {
                    dispatch::Input::Starved { vm: id, ending }
                } else {
                    dispatch::Input::Finished { vm: id, ending }
                });
                let delay = duration + self.chance.below(20);
                self.after(duration + 1, Event::Answer(invocation, attempt));
                if self.trouble && self.chance.one_in(20) {
                    self.after(delay + 500, finished.clone()); // twice
                }
                if !(self.trouble && self.chance.one_in(30)) {
                    self.after(delay, finished);
                }
            }
            O::HandBack { why: HandBackWhy::Superseded, .. } => {}
            O::Asked { by: _, invocation, attempt, known } => {
                let (newest, runs) = match known {
                    // What runs here is listed, and its end is told to the only one who decides.
                    Known::Here(here) if here == attempt => return,
                    Known::Here(here) => (here, true),
                    Known::Past(newest) => (newest, false),
                };
                // It has ended, and that was told, or will be.
                let begun = self.vms.get(&id).is_some_and(|vm| vm.begun.contains(&(invocation, attempt)));
                if !begun {
                    let known = dispatch::Input::Known { vm: id, invocation, attempt, newest, runs };
                    self.after(2, Event::ToController(known));
                }
            }
            O::HandBack { invocation, attempt, .. } => {
                let input = dispatch::Input::HandedBack { vm: id, invocation, attempt };
                self.after(2, Event::ToController(input));
            }
            // The run was given its end when it began; a kill would only bring it forward.
            O::Kill { .. } | O::Stop { .. } | O::Resize { .. } | O::Duplicate { .. } => {}
        }
    }

    pub(super) fn report(&mut self, id: VmId) {
        let Some(vm) = self.vms.get(&id) else { return };
        let status = VmStatus {
            vm: id,
            kind: VmKind::Harvest,
            capacity: vm.capacity,
            standing: vm.residency.standing(),
            warm: vm.residency.warm(),
            running: vm.residency.running(),
        };
        let used = Resources::new(500 * vm.residency.gauges().running, 50 * vm.residency.gauges().running);
        let reported = vm.residency.used_recently();
        self.after(0, Event::ToVm(id, residency::Input::Uses(used)));
        let delay = self.chance.below(4);
        self.after(delay, Event::ToController(dispatch::Input::VmReported(status)));
        self.after(delay, Event::ToController(dispatch::Input::VmUses { vm: id, used: reported }));
        self.after(1_000, Event::Report(id));
    }

    /// One event, or a wakeup if that is due before.
    pub(super) fn step(&mut self) -> bool {
        let next = self.events.first_key_value().map(|(&(at, _), _)| at);
        let mut wakeups: Vec<(Moment, Option<VmId>)> = Vec::new();
        wakeups.extend(self.dispatch.next_wakeup().map(|at| (at, None)));
        for (&id, vm) in &self.vms {
            wakeups.extend(vm.residency.next_wakeup().map(|at| (at, Some(id))));
        }
        if let Some(&(at, who)) = wakeups.iter().min()
            && next.is_none_or(|next| at < next)
        {
            self.now = self.now.max(at);
            match who {
                None => self.tell_controller(dispatch::Input::Woke),
                Some(vm) => self.tell_vm(vm, residency::Input::Woke),
            }
            let again = if who.is_none() { self.dispatch.next_wakeup() } else { None };
            assert!(again.is_none_or(|again| again > self.now), "it would wake for ever at {again:?}");
            return true;
        }
        let Some(((at, _), event)) = self.events.pop_first() else { return false };
        self.now = self.now.max(at);
        match event {
            Event::ToController(input) => self.tell_controller(input),
            Event::ToVm(vm, input) => self.tell_vm(vm, input),
            Event::Report(vm) => self.report(vm),
            Event::Answer(invocation, attempt) => self.answered(invocation, attempt),
            Event::Evicted(vm) => drop(self.vms.remove(&vm)),
        }
        true
    }
}
