//! One VM: its Invoker's mind, and the machine under it.

use policies::hash::Map;
use policies::keep_alive;
use policies::residency::{self, HandBackWhy, Residency, SandboxId, StopWhy, Told};
use vocabulary::{Mebibytes, Outcome, VmStanding};

use super::absence::{Away, Late};
use super::breaks::Brittle;
use super::callers::{Answered, serial};
use super::controllers::Left;
use super::tally::Lent;
use super::watch::Watch;
use super::*;
use crate::physics::{
    CORE_US, Ended, Fate, Load, Machine, PERIOD, Quota, Quotas, RUNTIME_MEMORY, TaskId, Window,
};

/// What a task is for.
#[derive(Clone, Copy)]
pub(super) enum For {
    Making(SandboxId),
    Run(Running),
}

#[derive(Clone, Copy)]
pub(super) struct Running {
    sandbox: SandboxId,
    invocation: InvocationId,
    attempt: Attempt,
    /// Of its function.
    number: u32,
    cold: bool,
    init: Span,
    /// What it was begun with.
    grant: Grant,
}

/// A sandbox, as the machine sees it.
pub(super) struct Body {
    pub task: Option<TaskId>,
    /// What it holds while it is idle.
    memory: Mebibytes,
    /// Its quota, as the last run has left it.
    quota: Quota,
}

/// A VM that is up.
pub(super) struct Vm {
    pub residency: Residency,
    pub kind: VmKind,
    pub size: Resources,
    booked: Resources,
    wakes: Option<Moment>,
    pub machine: Machine<For>,
    pub bodies: Map<SandboxId, Body>,
    pub watch: Watch,
    /// Memory of idle sandboxes.
    pub idle: Mebibytes,
    pub window: Window,
    pub sampled: Moment,
    /// How long the sandbox that is just ready took.
    init: Span,
    /// It ends as soon as it runs nothing.
    pub leaves: bool,
    /// It has been given notice.
    pub noticed: bool,
    /// Nobody hears of it.
    pub away: Option<Away>,
    /// It is heard late, or was.
    pub late: Option<Late>,
    /// Its connection breaks.
    pub brittle: Option<Brittle<Timer>>,
    /// A fault has it.
    pub busy: bool,
    /// Who hears how runs end that others have sent.
    pub told: Told<Left>,
}

impl World {
    pub(super) fn vm(&mut self, id: VmId) -> Option<&mut Vm> {
        self.vms.get_mut(id.0 as usize)?.as_deref_mut()
    }

    /// What a plan says of a VM's life.
    pub(super) fn plan_vm(&mut self, id: VmId, plan: VmPlan) {
        self.agenda.plan(plan.starts_at, Timer::Starts(self.coming.len() as u32));
        for &(at, size) in &plan.changes {
            self.agenda.plan(at, Timer::Changes(id, size));
        }
        if let Some(gone) = plan.gone {
            if gone.notice > Span::ZERO {
                let noticed = (gone.at - gone.notice).max(plan.starts_at);
                self.agenda.plan(noticed, Timer::Notice(id, gone.at));
            }
            self.agenda.plan(gone.at, Timer::Gone(id));
        }
        self.coming.push(Some((id, plan)));
    }

    pub(super) fn vm_starts(&mut self, index: u32) {
        let Some((id, plan)) = self.coming[index as usize].take() else { return };
        let settings = self.house.residency.clone();
        let keep_alive = keep_alive::by_name(&self.house.keep_alive, settings.keep_alive);
        let keep_alive = keep_alive.expect("a house names a rule for idle sandboxes that there is");
        let (quotas, phase) = (self.house.quotas, self.phase(id, None));
        let vm = Vm {
            residency: Residency::with_keep_alive(settings, plan.size, keep_alive),
            kind: plan.kind,
            size: plan.size,
            booked: Resources::ZERO,
            wakes: None,
            machine: Machine::with_quotas(self.now, plan.size.cpu, quotas, phase),
            bodies: Map::default(),
            watch: Watch::default(),
            idle: Mebibytes::ZERO,
            window: Window::default(),
            sampled: self.now,
            init: Span::ZERO,
            leaves: false,
            noticed: false,
            away: None,
            late: None,
            brittle: None,
            busy: false,
            told: Told::default(),
        };
        let place = id.0 as usize;
        if self.vms.len() <= place {
            self.vms.resize_with(place + 1, || None);
        }
        self.vms[place] = Some(Box::new(vm));
        self.tally.vm_started(self.now, plan.kind, plan.size.cpu);
        self.reports(id, true);
    }

    /// Where the quota periods of a VM begin, or of a sandbox on it: the kernel draws it for each group
    /// (`init_cfs_bandwidth`, `kernel/sched/fair.c`), so that not all of them go on at once.
    fn phase(&self, id: VmId, sandbox: Option<SandboxId>) -> Span {
        if self.house.quotas == Quotas::Flow {
            return Span::ZERO;
        }
        let which = id.0 << 32 | sandbox.map_or(0, |sandbox| sandbox.0 + 1);
        Span(Chance::one_of_many(self.house.seed, 0x0070_6861_7365, which).below(PERIOD.0))
    }

    pub(super) fn vm_changes(&mut self, id: VmId, size: Resources) {
        let now = self.now;
        let Some(vm) = self.vms.get_mut(id.0 as usize).and_then(Option::as_deref_mut) else {
            if let Some((_, plan)) = self.coming.iter_mut().flatten().find(|(coming, _)| *coming == id) {
                plan.size = size;
            }
            return;
        };
        self.tally.vm_resized(now, vm.kind, vm.size.cpu, size.cpu);
        vm.size = size;
        if !vm.away.as_ref().is_some_and(Away::is_frozen) {
            vm.machine.set_capacity(now, size.cpu, &mut self.plans);
        }
        self.keep_plans(id);
        self.tell_vm(id, residency::Input::Capacity(size));
        self.reports(id, false);
    }

    /// It will be gone at the deadline.
    pub(super) fn vm_noticed(&mut self, id: VmId, deadline: Moment) {
        let Some(vm) = self.vm(id) else { return };
        vm.noticed = true;
        self.vm_tells_all(id, || Letter::Noticed { vm: id, deadline: Some(deadline) });
        self.notice_to_fleet(id, Some(deadline));
        self.tell_vm(id, residency::Input::Standing(VmStanding::Draining));
        self.reports(id, false);
    }

    /// Its notice is called off.
    pub(super) fn vm_may_stay(&mut self, id: VmId) {
        let Some(vm) = self.vm(id) else { return };
        vm.noticed = false;
        self.vm_tells_all(id, || Letter::Noticed { vm: id, deadline: None });
        self.notice_to_fleet(id, None);
        self.tell_vm(id, residency::Input::Standing(VmStanding::Open));
        self.reports(id, false);
    }

    /// It is gone, with all that was on it.
    pub(super) fn vm_gone(&mut self, id: VmId) {
        let now = self.now;
        let Some(mut vm) = self.vms.get_mut(id.0 as usize).and_then(Option::take) else {
            let is_it =
                |coming: &&mut Option<(VmId, VmPlan)>| coming.as_ref().is_some_and(|(of, _)| *of == id);
            if let Some(coming) = self.coming.iter_mut().find(is_it) {
                *coming = None;
            }
            return;
        };
        for lost in vm.machine.lose_all(now) {
            match lost.payload {
                For::Run(run) => self.tally.run_ended(now, vm.kind, run.number, lost.delivered, false),
                For::Making(_) => self.tally.made(now, vm.kind, lost.delivered),
            }
        }
        self.tally.used(now, vm.kind, vm.machine.read(now).delivered);
        self.tally.vm_ended(now, vm.kind, vm.size.cpu, vm.booked.cpu);
        if !vm.leaves {
            self.tally.vm_vanished();
        }
        self.vm_end_to_fleet(id);
    }

    /// The world ends: what is still there is counted up to now.
    pub(super) fn close_vm_books(&mut self, id: VmId) {
        let now = self.now;
        let Some(mut vm) = self.vms.get_mut(id.0 as usize).and_then(Option::take) else { return };
        self.tally.used(now, vm.kind, vm.machine.read(now).delivered);
        self.tally.vm_ended(now, vm.kind, vm.size.cpu, vm.booked.cpu);
    }

    /// It may finish what it runs until the deadline; see `fleet`.
    pub(super) fn vm_retires(&mut self, id: VmId, deadline: Moment) {
        let Some(vm) = self.vm(id) else { return };
        vm.leaves = true;
        self.agenda.plan(deadline, Timer::Gone(id));
        self.vm_noticed(id, deadline);
        self.leave_if_empty(id);
    }

    fn leave_if_empty(&mut self, id: VmId) {
        if self.vm(id).is_some_and(|vm| vm.leaves && vm.booked == Resources::ZERO) {
            self.agenda.plan(self.now, Timer::Gone(id));
        }
    }

    pub(super) fn wake_vm(&mut self, id: VmId) {
        let now = self.now;
        if let Some(vm) = self.vm(id)
            && vm.wakes == Some(now)
        {
            vm.wakes = None;
            self.tell_vm(id, residency::Input::Woke);
        }
    }

    pub(super) fn tell_vm(&mut self, id: VmId, input: residency::Input) {
        let now = self.now;
        let Some(vm) = self.vms.get_mut(id.0 as usize).and_then(Option::as_deref_mut) else { return };
        let mut outputs = std::mem::take(&mut self.vm_outputs);
        // A sample may give back what was lent, though it has been promised to others.
        let owed = match input {
            residency::Input::Sampled { .. } => vm.residency.pool().idle() + vm.residency.pool().lent(),
            _ => Resources::ZERO,
        };
        vm.residency.handle(now, input, &mut outputs);
        let (before, booked, size) = (vm.booked, vm.residency.booked(), vm.size);
        if before != booked {
            vm.booked = booked;
            self.tally.booked(now, vm.kind, before.cpu, booked.cpu);
        }
        if let Some(at) = vm.residency.next_wakeup()
            && vm.wakes.is_none_or(|planned| at < planned)
        {
            let at = at.max(now);
            vm.wakes = Some(at);
            self.agenda.plan(at, Timer::WakeVm(id));
        }
        let leaves = vm.leaves;
        if self.house.checks_bookings {
            // A shrink leaves alone what runs, but nothing is added to it.
            self.must(booked.fits_in(size) || booked.fits_in(before + owed), || {
                format!("{id} has {size} and booked {booked}, after {before}")
            });
        }
        for output in outputs.drain(..) {
            self.vm_says(id, output);
        }
        self.vm_outputs = outputs;
        self.keep_plans(id);
        self.wish_to_look(id);
        if leaves {
            self.leave_if_empty(id);
        }
    }

    pub(super) fn keep_plans(&mut self, id: VmId) {
        if self.plans.is_empty() {
            return;
        }
        for plan in self.plans.drain(..) {
            if plan.at < Moment::NEVER {
                self.agenda.plan(plan.at, Timer::Look(id, plan.look));
            }
        }
    }

    fn vm_says(&mut self, id: VmId, output: residency::Output) {
        use residency::Output as O;
        let now = self.now;
        let phase = match output {
            O::Start { sandbox, .. } => self.phase(id, Some(sandbox)),
            _ => Span::ZERO,
        };
        let Some(vm) = self.vms.get_mut(id.0 as usize).and_then(Option::as_deref_mut) else { return };
        match output {
            O::Start { sandbox, function, weight, .. } => {
                self.tally.decisions.sandboxes_made += 1;
                let measured = self.house.measured.as_mut().and_then(|those| those.making(id, function.id));
                let alone = self.house.function(function.id).cold_start;
                let load =
                    measured.map_or_else(|| Load::making(alone, weight), |took| Load::made_in(took, weight));
                let task = vm.machine.begin(now, load, For::Making(sandbox), &mut self.plans);
                let quota = Quota::new(phase);
                vm.bodies.insert(sandbox, Body { task: Some(task), memory: RUNTIME_MEMORY, quota });
            }
            O::Execute { sandbox, invocation, attempt, grant, cold } => {
                self.executes(id, sandbox, invocation, attempt, grant, cold);
            }
            O::HandBack { invocation, attempt, why: HandBackWhy::Superseded } => {
                self.senders.remove(&(id, invocation, attempt));
                vm.told.called_off((invocation, attempt));
            }
            O::HandBack { invocation, attempt, .. } => {
                self.tally.decisions.handed_back += 1;
                self.vm_answers(id, (invocation, attempt), Left::HandedBack);
            }
            O::Asked { by, invocation, attempt, known } => {
                self.vm_is_asked(id, by, (invocation, attempt), known);
            }
            O::Stop { sandbox, why } => {
                self.tally.stopped(why);
                if let Some(body) = vm.bodies.remove(&sandbox) {
                    vm.idle -= body.memory;
                }
            }
            O::Kill { sandbox, .. } => {
                self.tally.decisions.kills += 1;
                let task = vm.bodies.get(&sandbox).and_then(|body| body.task);
                if let Some(ended) = task.and_then(|task| vm.machine.kill(now, task, &mut self.plans)) {
                    self.task_ended(id, ended);
                }
            }
            O::Resize { sandbox, ceiling, weight } => {
                self.tally.decisions.resizes += 1;
                if let Some(task) = vm.bodies.get(&sandbox).and_then(|body| body.task) {
                    vm.machine.resize(now, task, ceiling, u64::from(weight.0), &mut self.plans);
                }
            }
            O::Duplicate { .. } => self.tally.decisions.duplicates += 1,
        }
    }

    fn executes(
        &mut self,
        id: VmId,
        sandbox: SandboxId,
        invocation: InvocationId,
        attempt: Attempt,
        grant: Grant,
        cold: bool,
    ) {
        let now = self.now;
        let Some(open) = self.callers.get(invocation).copied() else {
            // Nobody waits any more, and what it would have done is forgotten with its call. It takes no time.
            let ended = residency::Input::RunEnded { sandbox, kept: true };
            self.send(Message::ToVm(id, ended));
            return;
        };
        let number = open.call.function;
        let function = self.house.functions[number as usize].card;
        self.tally.began(number, cold, open.measured);
        let Some(vm) = self.vms.get_mut(id.0 as usize).and_then(Option::as_deref_mut) else { return };
        let init = if cold { std::mem::take(&mut vm.init) } else { Span::ZERO };
        let work = open.call.work;
        let Some(body) = vm.bodies.get_mut(&sandbox) else { return };
        vm.idle -= body.memory;
        let load = Load {
            work,
            ceiling: grant.ceiling,
            weight: u64::from(grant.cpu_weight().0),
            timeout: function.timeout,
            resident: body.memory,
            quota: body.quota,
        };
        let run = Running { sandbox, invocation, attempt, number, cold, init, grant };
        body.task = Some(vm.machine.begin(now, load, For::Run(run), &mut self.plans));
    }

    /// A plan has come due: what has ended there?
    pub(super) fn look(&mut self, id: VmId, look: Look) {
        let now = self.now;
        while let Some(vm) = self.vms.get_mut(id.0 as usize).and_then(Option::as_deref_mut)
            && let Some(ended) = vm.machine.look(now, look, &mut self.plans)
        {
            self.task_ended(id, ended);
        }
        self.keep_plans(id);
    }

    fn task_ended(&mut self, id: VmId, ended: Ended<For>) {
        match ended.payload {
            For::Making(sandbox) => self.made(id, sandbox, ended),
            For::Run(run) => self.run_ended(id, run, ended),
        }
    }

    fn made(&mut self, id: VmId, sandbox: SandboxId, ended: Ended<For>) {
        let Some(vm) = self.vm(id) else { return };
        let kind = vm.kind;
        vm.init = ended.duration;
        if let Some(body) = vm.bodies.get_mut(&sandbox) {
            body.task = None;
            vm.idle += body.memory;
        }
        self.tally.made(self.now, kind, ended.delivered);
        self.tell_vm(id, residency::Input::SandboxReady(sandbox));
    }

    fn run_ended(&mut self, id: VmId, run: Running, ended: Ended<For>) {
        let kept = ended.fate == Fate::Done;
        let lends = self.house.residency.lending != residency::Lending::Off;
        let function = &self.house.functions[run.number as usize].card;
        let FunctionCard { id: of, revision, reservation, .. } = *function;
        let Some(vm) = self.vms.get_mut(id.0 as usize).and_then(Option::as_deref_mut) else { return };
        let kind = vm.kind;
        let has = if lends { vm.residency.grant_on(run.sandbox) } else { None };
        let safeguarded = lends && vm.residency.was_safeguarded(run.sandbox);
        let starved =
            ended.fate == Fate::OutOfMemory && has.is_some_and(|has| has.booked.memory < reservation.memory);
        if kept {
            if let Some(body) = vm.bodies.get_mut(&run.sandbox) {
                body.task = None;
                body.memory = body.memory.max(ended.usage.memory_peak);
                body.quota = ended.quota;
                vm.idle += body.memory;
            }
        } else {
            vm.bodies.remove(&run.sandbox);
        }
        if ended.fate == Fate::Done {
            let asked = ended.work.cpu.0.saturating_mul(CORE_US);
            self.must(ended.delivered == asked, || {
                format!("{} succeeded with {} of {asked} done", run.invocation, ended.delivered)
            });
        }
        let (outcome, how) = match ended.fate {
            Fate::Done => (Some(Outcome::Success), Some(Answered::WithSuccess)),
            // With all of its reservation it might have gone well: its Controller has it run again.
            Fate::OutOfMemory if starved => (Some(Outcome::DeveloperError), None),
            Fate::OutOfMemory => (Some(Outcome::DeveloperError), Some(Answered::OutOfMemory)),
            Fate::TimedOut => (Some(Outcome::DeveloperError), Some(Answered::TimedOut)),
            Fate::Killed => (None, None),
        };
        let open = self.callers.get(run.invocation);
        let measured = open.as_ref().is_some_and(|open| open.measured);
        let counts = open.is_some_and(|open| how.is_some() && !open.done && open.counts(run.attempt));
        self.tally.run_ended(self.now, kind, run.number, ended.delivered, counts);
        let Running { sandbox, invocation, attempt, cold, init, grant, .. } = run;
        let work = ended.work;
        let here = (ended.duration, vocabulary::Usage { safeguarded, ..ended.usage });
        let those = self.house.measured.as_mut();
        let (duration, usage) = those.and_then(|those| those.run(serial(invocation))).unwrap_or(here);
        if measured {
            let done = kept && counts;
            // Where nothing was known of it, what it left was seen while it ran.
            let (left, took) = (has.unwrap_or(grant).harvested(reservation), ended.duration);
            let lent = Lent { reservation, left, work, took, safeguarded, starved, done };
            self.tally.ran(&lent);
        }
        if let Some(how) = how {
            self.vm_sends(id, Message::Answer { invocation, attempt, how, init });
        }
        let ending = Ending {
            invocation,
            attempt,
            function: of,
            revision,
            outcome,
            cold,
            init,
            duration,
            usage,
            sandbox_kept: kept,
            input_bytes: work.input_bytes,
        };
        self.vm_answers(id, (invocation, attempt), Left::Ended { starved, ending });
        if kept {
            self.tell_vm(id, residency::Input::RunEnded { sandbox, kept });
        } else {
            // Burying the dead is the Invoker's next turn.
            self.agenda.plan(self.now, Timer::Buried(id, sandbox));
        }
    }
}

impl Tally {
    fn stopped(&mut self, why: StopWhy) {
        let count = match why {
            StopWhy::Expired => &mut self.decisions.stopped_expired,
            StopWhy::MemoryNeeded => &mut self.decisions.stopped_for_memory,
            StopWhy::Outdated | StopWhy::Draining => &mut self.decisions.stopped_otherwise,
        };
        *count += 1;
    }
}
