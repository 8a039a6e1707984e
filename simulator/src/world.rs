//! The world in which the minds are rehearsed: time, messages, VMs and callers.
//!
//! **Knows:** everything, unlike those who live in it.
//! **Promises:** events happen in the order of their moments, then of their causes. What must stay true is checked after
//! every one.
//! **Gives up:** see the crate.

use std::collections::BTreeMap;

use policies::dispatch::{self, Dispatch, Ending, GivenUp, Submission};
use policies::residency::{self, Residency};
use policies::{allocation, placement};
use vocabulary::{
    Attempt, FunctionCard, FunctionId, InvocationId, Mebibytes, MilliCores, Moment, Outcome, Resources,
    Revision, Span, Usage, VmId, VmKind, VmStanding, VmStatus,
};

use crate::chance::Chance;
use crate::report::{Latency, Report};
use crate::scenario::Scenario;

/// Violations that are put into words; the rest is only counted.
const TOLD: usize = 20;
/// How long after the last arrival the world goes on at most.
const AFTERMATH: Span = Span::seconds(600);
const BETWEEN_REPORTS: Span = Span::seconds(1);

/// Something that happens at a moment.
enum Event {
    /// A caller invokes this function.
    Arrival(usize),
    /// A message reaches the Controller.
    ToController(dispatch::Input),
    /// The Controller wanted to be woken.
    WakeController,
    /// A message reaches a VM, or something happens on it.
    ToVm(VmId, residency::Input),
    /// A VM wanted to be woken.
    WakeVm(VmId),
    /// A run is over on a VM: the answer goes out.
    Ended {
        vm: VmId,
        sandbox: residency::SandboxId,
        ending: Ending,
    },
    /// An answer reaches its caller.
    Answer(InvocationId, Attempt),
    /// A VM reports; `again`: and will in a second.
    Reports {
        vm: VmId,
        again: bool,
    },
    Starts {
        vm: VmId,
        kind: VmKind,
        size: Resources,
    },
    Changes {
        vm: VmId,
        size: Resources,
    },
    Noticed {
        vm: VmId,
        left: Span,
    },
    Gone(VmId),
}

struct Vm {
    residency: Residency,
    kind: VmKind,
    size: Resources,
    wakes: Option<Moment>,
}

struct Function {
    card: FunctionCard,
    per_second: f64,
    mean: Span,
    sigma: f64,
    arrivals: Chance,
    durations: Chance,
}

/// An invocation, as its caller sees it.
struct Call {
    function: usize,
    since: Moment,
    /// The attempt from which on answers count.
    oldest_valid: Attempt,
    /// Besides, those of this one count.
    also_valid: Option<Attempt>,
    sent: bool,
    /// The Controller has said the last word.
    closed: bool,
    answered: bool,
    /// It was refused or given up.
    failed: bool,
}

pub(crate) struct World {
    now: Moment,
    order: u64,
    events: BTreeMap<(Moment, u64), Event>,
    dispatch: Dispatch,
    controller_wakes: Option<Moment>,
    vms: BTreeMap<VmId, Vm>,
    functions: Vec<Function>,
    calls: BTreeMap<InvocationId, Call>,
    /// What each VM said it has, in the report that the Controller saw last.
    offered: BTreeMap<VmId, Resources>,
    arrivals_end: Moment,
    patience: Span,
    cold_start: Span,
    message: Span,
    keep_alive: Span,
    latencies: Vec<u64>,
    waits: Vec<u64>,
    report: Report,
}

fn seconds(seconds: f64) -> Span {
    Span((seconds * 1e6) as u64)
}

impl World {
    pub fn new(scenario: &Scenario) -> Self {
        let placement = placement::by_name(&scenario.placement, &placement::Settings::default());
        let allocator = allocation::by_name(&scenario.allocation);
        let dispatch = Dispatch::new(
            dispatch::Settings::default(),
            placement.expect("a scenario is checked when it is read"),
            allocator.expect("a scenario is checked when it is read"),
        );
        let mut world = Self {
            now: Moment::ORIGIN,
            order: 0,
            events: BTreeMap::new(),
            dispatch,
            controller_wakes: None,
            vms: BTreeMap::new(),
            functions: functions(scenario),
            calls: BTreeMap::new(),
            offered: BTreeMap::new(),
            // Callers come when the house has stood for two seconds, as the live demo's do.
            arrivals_end: Moment::ORIGIN + Span::seconds(2) + seconds(scenario.length_seconds),
            patience: seconds(scenario.patience_seconds),
            cold_start: seconds(scenario.cold_start_ms / 1e3),
            message: Span(scenario.message_us),
            keep_alive: seconds(scenario.keep_alive_seconds),
            latencies: Vec::new(),
            waits: Vec::new(),
            report: Report {
                name: scenario.name.clone(),
                placement: scenario.placement.clone(),
                seed: scenario.seed,
                ..Report::default()
            },
        };
        world.plan_vms(scenario);
        for function in 0..world.functions.len() {
            world.plan_arrival(function, Span::seconds(2));
        }
        world
    }

    fn plan_vms(&mut self, scenario: &Scenario) {
        let mut id = 0;
        for vms in &scenario.vms {
            for _ in 0..vms.count {
                id += 1;
                let vm = VmId(id);
                let size = Resources::new(vms.cpu_millicores, vms.memory_mib);
                self.plan(seconds(vms.starts_at_seconds), Event::Starts { vm, kind: vms.kind, size });
                let mut memory = vms.memory_mib;
                for change in &vms.changes {
                    memory = change.memory_mib.unwrap_or(memory);
                    let size = Resources::new(change.cpu_millicores, memory);
                    self.plan(seconds(change.at_seconds), Event::Changes { vm, size });
                }
                if let Some(gone) = vms.gone_at_seconds {
                    self.plan(seconds(gone), Event::Gone(vm));
                    if vms.notice_seconds > 0.0 {
                        let left = seconds(vms.notice_seconds);
                        self.plan(seconds(gone) - left, Event::Noticed { vm, left });
                    }
                }
            }
        }
    }

    fn plan_arrival(&mut self, function: usize, not_before: Span) {
        let gap = {
            let function = &mut self.functions[function];
            function.arrivals.gap(function.per_second)
        };
        if self.now + not_before + gap < self.arrivals_end {
            self.plan(not_before + gap, Event::Arrival(function));
        }
    }

    fn plan(&mut self, after: Span, event: Event) {
        self.order += 1;
        self.events.insert((self.now + after, self.order), event);
    }

    pub fn play(mut self) -> Report {
        let last = self.arrivals_end + AFTERMATH;
        while let Some(((at, _), event)) = self.events.pop_first() {
            let is_over = at > self.arrivals_end && self.calls.is_empty();
            if is_over || at > last {
                break;
            }
            self.now = at;
            self.report.events += 1;
            self.happens(event);
        }
        self.conclude()
    }

    fn happens(&mut self, event: Event) {
        match event {
            Event::Arrival(function) => self.call(function),
            Event::ToController(input) => self.tell_controller(input),
            Event::WakeController => {
                // An earlier wish may have been overtaken by one that was more urgent.
                if self.controller_wakes == Some(self.now) {
                    self.controller_wakes = None;
                    self.tell_controller(dispatch::Input::Woke);
                }
            }
            Event::ToVm(vm, input) => self.tell_vm(vm, input),
            Event::WakeVm(vm) => {
                if let Some(known) = self.vms.get_mut(&vm)
                    && known.wakes == Some(self.now)
                {
                    known.wakes = None;
                    self.tell_vm(vm, residency::Input::Woke);
                }
            }
            Event::Ended { vm, sandbox, ending } => self.run_ended(vm, sandbox, ending),
            Event::Answer(invocation, attempt) => self.answered(invocation, attempt),
            Event::Reports { vm, again } => self.reports(vm, again),
            Event::Starts { vm, kind, size } => {
                let settings = residency::Settings { keep_alive: self.keep_alive, ..Default::default() };
                let residency = Residency::new(settings, size);
                self.vms.insert(vm, Vm { residency, kind, size, wakes: None });
                self.reports(vm, true);
            }
            Event::Changes { vm, size } => {
                if let Some(known) = self.vms.get_mut(&vm) {
                    known.size = size;
                    self.tell_vm(vm, residency::Input::Capacity(size));
                    self.reports(vm, false);
                }
            }
            Event::Noticed { vm, left } => {
                if self.vms.contains_key(&vm) {
                    let deadline = Some(self.now + left);
                    let noticed = dispatch::Input::VmNoticed { vm, deadline };
                    self.plan(self.message, Event::ToController(noticed));
                    self.tell_vm(vm, residency::Input::Standing(VmStanding::Draining));
                    self.reports(vm, false);
                }
            }
            Event::Gone(vm) => {
                self.vms.remove(&vm);
            }
        }
    }

    fn call(&mut self, function: usize) {
        self.plan_arrival(function, Span::ZERO);
        self.report.submitted += 1;
        let invocation = InvocationId(u128::from(self.report.submitted));
        let call = Call {
            function,
            since: self.now,
            oldest_valid: Attempt::FIRST,
            also_valid: None,
            sent: false,
            closed: false,
            answered: false,
            failed: false,
        };
        self.calls.insert(invocation, call);
        let submission = Submission {
            invocation,
            function: self.functions[function].card,
            first_attempt: Attempt::FIRST,
            input_bytes: 100,
            give_up_at: self.now + self.message + self.patience,
            durable: false,
        };
        self.plan(self.message, Event::ToController(dispatch::Input::Submitted(submission)));
    }

    fn tell_controller(&mut self, input: dispatch::Input) {
        if let dispatch::Input::VmReported(status) = &input {
            self.offered.insert(status.vm, status.capacity);
        }
        let mut outputs = Vec::new();
        self.dispatch.handle(self.now, input, &mut outputs);
        for output in outputs {
            self.controller_says(output);
        }
        if let Some(at) = self.dispatch.next_wakeup()
            && self.controller_wakes.is_none_or(|planned| at < planned)
        {
            let at = at.max(self.now);
            self.controller_wakes = Some(at);
            self.plan(at.since(self.now), Event::WakeController);
        }
    }

    fn controller_says(&mut self, output: dispatch::Output) {
        use dispatch::Output as O;
        match output {
            O::Run { vm, invocation, attempt, grant, .. } => self.run_is_sent(vm, invocation, attempt, grant),
            O::Refuse { invocation, .. } => {
                self.report.refused += 1;
                self.closes(invocation, true);
            }
            O::GiveUp { invocation, why, .. } => {
                match why {
                    GivenUp::Waited { .. } => self.report.waited_too_long += 1,
                    GivenUp::LostAndNever { .. } => self.report.lost_and_never += 1,
                    GivenUp::TooManyAttempts { .. } => self.report.lost_too_often += 1,
                    GivenUp::TooLarge { .. } => self.report.refused += 1,
                }
                self.closes(invocation, true);
            }
            O::Fence { invocation, oldest_valid, also } => {
                if let Some(call) = self.calls.get_mut(&invocation) {
                    (call.oldest_valid, call.also_valid) = (oldest_valid, also);
                }
            }
            O::Forget(invocation) => self.closes(invocation, false),
            O::Cancel { vm, invocation, attempt } => {
                self.plan(self.message, Event::ToVm(vm, residency::Input::Cancel { invocation, attempt }));
            }
            O::Prewarm { vm, function, count } => {
                self.plan(self.message, Event::ToVm(vm, residency::Input::Prewarm { function, count }));
            }
            O::VmGone { vm, .. } => {
                self.report.vms_lost += 1;
                self.offered.remove(&vm);
            }
            O::Stale { .. } | O::Again { .. } => {}
        }
    }

    fn run_is_sent(
        &mut self,
        vm: VmId,
        invocation: InvocationId,
        attempt: Attempt,
        grant: vocabulary::Grant,
    ) {
        let fits = self
            .dispatch
            .booked_on(vm)
            .is_some_and(|books| self.offered.get(&vm).is_some_and(|&size| books.booked_by_us.fits_in(size)));
        self.must(fits, || format!("{vm} is promised more than it offers, with {invocation} {attempt}"));
        let known = self.calls.get_mut(&invocation).filter(|call| !call.closed);
        let Some(call) = known else {
            return self.must(false, || format!("{invocation} was sent out after its end"));
        };
        let is_valid = call.oldest_valid == attempt;
        if call.sent {
            self.report.further_attempts += 1;
        } else {
            self.waits.push(self.now.since(call.since).as_micros());
            call.sent = true;
        }
        let function = self.functions[call.function].card;
        self.must(is_valid, || format!("{invocation} {attempt} was sent out, other answers being valid"));
        if self.vms.contains_key(&vm) {
            let run = residency::Input::Run { invocation, attempt, function, grant };
            self.plan(self.message, Event::ToVm(vm, run));
        } else {
            // NATS knows that nobody listens there.
            let bounced = dispatch::Input::Bounced { vm, invocation, attempt };
            self.plan(self.message, Event::ToController(bounced));
        }
    }

    /// The Controller's last word on an invocation.
    fn closes(&mut self, invocation: InvocationId, failed: bool) {
        let Some(call) = self.calls.get_mut(&invocation).filter(|call| !call.closed) else {
            return self.must(false, || format!("{invocation} ended twice"));
        };
        call.closed = true;
        call.failed = failed;
        self.forget_if_done(invocation);
    }

    fn answered(&mut self, invocation: InvocationId, attempt: Attempt) {
        let Some(call) = self.calls.get_mut(&invocation) else { return };
        let counts = attempt >= call.oldest_valid || call.also_valid == Some(attempt);
        if !counts || call.answered || call.failed {
            return;
        }
        call.answered = true;
        self.report.answered += 1;
        self.latencies.push(self.now.since(call.since).as_micros());
        self.forget_if_done(invocation);
    }

    fn forget_if_done(&mut self, invocation: InvocationId) {
        if self.calls.get(&invocation).is_some_and(|call| call.closed && (call.answered || call.failed)) {
            self.calls.remove(&invocation);
        }
    }

    fn tell_vm(&mut self, id: VmId, input: residency::Input) {
        let Some(vm) = self.vms.get_mut(&id) else { return };
        let before = vm.residency.booked();
        let mut outputs = Vec::new();
        vm.residency.handle(self.now, input, &mut outputs);
        let (booked, size) = (vm.residency.booked(), vm.size);
        if let Some(at) = vm.residency.next_wakeup()
            && vm.wakes.is_none_or(|planned| at < planned)
        {
            let at = at.max(self.now);
            vm.wakes = Some(at);
            self.plan(at.since(self.now), Event::WakeVm(id));
        }
        // A shrink leaves alone what runs, but nothing is added to it.
        self.must(booked.fits_in(size) || booked.fits_in(before), || {
            format!("{id} has {size} and booked {booked}, after {before}")
        });
        for output in outputs {
            self.vm_says(id, output);
        }
    }

    fn vm_says(&mut self, vm: VmId, output: residency::Output) {
        use residency::Output as O;
        match output {
            O::Start { sandbox, .. } => {
                self.plan(self.cold_start, Event::ToVm(vm, residency::Input::SandboxReady(sandbox)));
            }
            O::Execute { sandbox, invocation, attempt, cold, .. } => {
                self.begins(vm, sandbox, invocation, attempt, cold);
            }
            O::HandBack { invocation, attempt, .. } => {
                let back = dispatch::Input::HandedBack { vm, invocation, attempt };
                self.plan(self.message, Event::ToController(back));
            }
            // What is killed runs to its end here: its time was drawn, and nobody waits for its answer.
            O::Kill { .. } | O::Stop { .. } | O::Resize { .. } | O::Duplicate { .. } => {}
        }
    }

    fn begins(
        &mut self,
        vm: VmId,
        sandbox: residency::SandboxId,
        invocation: InvocationId,
        attempt: Attempt,
        cold: bool,
    ) {
        self.report.runs += 1;
        self.report.cold_runs += u64::from(cold);
        // Whoever is not waited for any more runs all the same; of which function it was is on its ticket.
        let Some(function) = self.calls.get(&invocation).map(|call| call.function) else {
            let kept = residency::Input::RunEnded { sandbox, kept: true };
            return self.plan(Span::ZERO, Event::ToVm(vm, kept));
        };
        let function = &mut self.functions[function];
        let duration = function.durations.log_normal(function.mean, function.sigma);
        let ending = Ending {
            invocation,
            attempt,
            function: function.card.id,
            revision: function.card.revision,
            outcome: Some(Outcome::Success),
            cold,
            init: if cold { self.cold_start } else { Span::ZERO },
            duration,
            usage: Usage {
                cpu_time: duration.scaled(u64::from(function.card.reservation.cpu.0), 1_000),
                cpu_peak: function.card.reservation.cpu,
                memory_peak: function.card.reservation.memory,
                throttled: Span::ZERO,
            },
            sandbox_kept: true,
            input_bytes: 100,
        };
        self.plan(duration, Event::Ended { vm, sandbox, ending });
    }

    fn run_ended(&mut self, vm: VmId, sandbox: residency::SandboxId, ending: Ending) {
        if !self.vms.contains_key(&vm) {
            return;
        }
        self.plan(self.message, Event::Answer(ending.invocation, ending.attempt));
        self.plan(self.message, Event::ToController(dispatch::Input::Finished { vm, ending }));
        self.tell_vm(vm, residency::Input::RunEnded { sandbox, kept: true });
    }

    fn reports(&mut self, id: VmId, again: bool) {
        let Some(vm) = self.vms.get(&id) else { return };
        let status = VmStatus {
            vm: id,
            kind: vm.kind,
            capacity: vm.size,
            standing: vm.residency.standing(),
            warm: vm.residency.warm(),
            running: vm.residency.running(),
        };
        self.plan(self.message, Event::ToController(dispatch::Input::VmReported(status)));
        if again {
            self.plan(BETWEEN_REPORTS, Event::Reports { vm: id, again });
        }
    }

    fn must(&mut self, holds: bool, otherwise: impl FnOnce() -> String) {
        if holds {
            return;
        }
        self.report.violations += 1;
        if self.report.first_violations.len() < TOLD {
            let violation = format!("after {}: {}", Span(self.now.0), otherwise());
            self.report.first_violations.push(violation);
        }
    }

    fn conclude(mut self) -> Report {
        let unended: Vec<InvocationId> = self.calls.keys().copied().collect();
        for invocation in unended {
            self.must(false, || format!("{invocation} never ended"));
        }
        let ended = self.report.answered
            + self.report.refused
            + self.report.waited_too_long
            + self.report.lost_and_never
            + self.report.lost_too_often;
        let submitted = self.report.submitted;
        self.must(ended == submitted, || format!("{submitted} were submitted and {ended} ended"));
        self.report.played_us = self.now.0;
        self.report.latency = Latency::of(std::mem::take(&mut self.latencies));
        self.report.wait = Latency::of(std::mem::take(&mut self.waits));
        self.report
    }
}

fn functions(scenario: &Scenario) -> Vec<Function> {
    let mut functions = Vec::new();
    for kind in &scenario.functions {
        for _ in 0..kind.copies {
            let id = functions.len() as u64 + 1;
            functions.push(Function {
                card: FunctionCard {
                    id: FunctionId(id),
                    revision: Revision(1),
                    reservation: Resources {
                        cpu: MilliCores(kind.cpu_millicores),
                        memory: Mebibytes(kind.memory_mib),
                    },
                    timeout: Span::seconds(300),
                    on_eviction: kind.on_eviction,
                    application: None,
                },
                per_second: kind.per_second,
                mean: seconds(kind.mean_ms / 1e3),
                sigma: kind.sigma,
                arrivals: Chance::new(scenario.seed, 2 * id),
                durations: Chance::new(scenario.seed, 2 * id + 1),
            });
        }
    }
    functions
}
