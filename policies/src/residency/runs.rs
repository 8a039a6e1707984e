//! What is asked for: runs that begin, wait, end, or go back.
//!
//! **Knows:** the machine's own state.
//! **Promises:** a run takes, in this order: the idle sandbox of its build that was used last; one of its build that is being
//! made for nobody; a new one, for which idle ones, the least worth first, are stopped if their memory is needed.
//! **Gives up:** overtaking. Who does not fit makes those behind wait, so that a large one is not starved.

use vocabulary::{Attempt, ControllerId, FunctionCard, Grant, InvocationId, Moment, Resources, VmStanding};

use super::sandboxes::{Doing, Sandbox};
use super::{HandBackWhy, Known, Lending, Output, Residency, SandboxId, StopWhy};

/// One attempt that was asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Run {
    pub invocation: InvocationId,
    pub attempt: Attempt,
    pub function: FunctionCard,
    pub grant: Grant,
    /// When it came.
    pub arrived: Moment,
    /// It was told to end; its end is awaited.
    pub killed: bool,
}

impl Residency {
    /// A Controller wants this run here.
    pub(super) fn asked_to_run(&mut self, from: ControllerId, run: Run, outputs: &mut Vec<Output>) {
        let Run { invocation, attempt, .. } = run;
        let newest_here = self.attempt_here(invocation);
        let is_news = self.seen.note(self.now, invocation, attempt);
        if !is_news || newest_here.is_some_and(|here| here >= attempt) {
            outputs.push(Output::Duplicate { invocation, attempt });
            // Whoever sent it waits for it. It may be another Controller than the one that sent the first.
            let known = self.known(invocation, attempt);
            outputs.push(Output::Asked { by: from, invocation, attempt, known });
            return;
        }
        if newest_here.is_some() {
            self.supersede(invocation, outputs);
        }
        self.keep_alive.called(self.now, run.function.id);
        let released = self.settings.admission.is_released();
        if self.standing == VmStanding::Draining && !released {
            outputs.push(Output::HandBack { invocation, attempt, why: HandBackWhy::Draining });
            return;
        }
        for outdated in self.sandboxes.outdated_by(run.function.id, run.function.revision) {
            self.stop(outdated, StopWhy::Outdated, outputs);
        }
        if !run.grant.booked.fits_in(self.capacity) && !released {
            outputs.push(Output::HandBack { invocation, attempt, why: HandBackWhy::NoRoom });
        } else if self.queue.is_empty() && self.try_to_begin(run, outputs) {
            // It runs, or its sandbox is being made.
        } else if !released && !self.may_wait(&run) {
            outputs.push(Output::HandBack { invocation, attempt, why: HandBackWhy::NoRoom });
        } else if self.queue.len() >= self.settings.queue_limit as usize {
            outputs.push(Output::HandBack { invocation, attempt, why: HandBackWhy::QueueFull });
        } else {
            self.queue.push_back(run);
        }
    }

    /// Whether a run that finds no room may wait for some. What is about to be free (runs that were told to end, sandboxes that
    /// are being made for nobody) its Controller counts on, rightly. Beyond that Controllers that do not know of one another have
    /// sent more than there is: one of their runs may wait, so that whoever is new here gets a turn; the others go back at once to
    /// where they can still go anywhere.
    fn may_wait(&self, run: &Run) -> bool {
        let ends: Resources =
            self.runs.values().filter(|(_, run)| run.killed).map(|(_, run)| run.grant.booked).sum();
        self.queue.is_empty()
            || (self.all_that_is_asked_for() - ends + run.grant.booked).fits_in(self.capacity)
    }

    fn attempt_here(&self, invocation: InvocationId) -> Option<Attempt> {
        let begun = self.runs.get(&invocation).map(|(_, run)| run.attempt);
        begun.or_else(|| self.queue.attempt(invocation))
    }

    /// What is known of an invocation, and of this attempt at least.
    pub(super) fn known(&self, invocation: InvocationId, attempt: Attempt) -> Known {
        let begun = self.runs.get(&invocation).filter(|(_, run)| !run.killed).map(|(_, run)| run.attempt);
        match begun.or_else(|| self.queue.attempt(invocation)) {
            Some(here) if here >= attempt => Known::Here(here),
            _ => Known::Past(self.seen.newest(invocation).map_or(attempt, |newest| newest.max(attempt))),
        }
    }

    /// A newer attempt has come: the Controller has given up the one that is here.
    fn supersede(&mut self, invocation: InvocationId, outputs: &mut Vec<Output>) {
        let why = HandBackWhy::Superseded;
        if let Some(run) = self.queue.remove(invocation) {
            outputs.push(Output::HandBack { invocation, attempt: run.attempt, why });
        }
        let Some((sandbox, run)) = self.runs.remove(&invocation) else { return };
        if self.detach(sandbox) {
            outputs.push(Output::HandBack { invocation, attempt: run.attempt, why });
        } else if !run.killed {
            outputs.push(Output::Kill { sandbox, invocation, attempt: run.attempt });
        }
    }

    /// Takes its run from a sandbox that is still being made; says whether it was.
    fn detach(&mut self, sandbox: SandboxId) -> bool {
        let making = self.sandboxes.get(sandbox).is_some_and(|s| matches!(s.doing, Doing::Making(_)));
        if making {
            self.sandboxes.change(sandbox, |sandbox| {
                sandbox.doing = Doing::Making(None);
                sandbox.booked = Resources::ZERO;
            });
        }
        making
    }

    /// Nobody waits for attempts of this invocation up to this one.
    pub(super) fn cancelled(&mut self, invocation: InvocationId, up_to: Attempt, outputs: &mut Vec<Output>) {
        self.seen.note(self.now, invocation, up_to);
        let why = HandBackWhy::Cancelled;
        if self.queue.attempt(invocation).is_some_and(|attempt| attempt <= up_to)
            && let Some(run) = self.queue.remove(invocation)
        {
            outputs.push(Output::HandBack { invocation, attempt: run.attempt, why });
        }
        let Some(&(sandbox, run)) = self.runs.get(&invocation).filter(|(_, run)| run.attempt <= up_to) else {
            return;
        };
        if self.detach(sandbox) {
            self.runs.remove(&invocation);
            outputs.push(Output::HandBack { invocation, attempt: run.attempt, why });
        } else if !run.killed {
            self.runs.insert(invocation, (sandbox, Run { killed: true, ..run }));
            outputs.push(Output::Kill { sandbox, invocation, attempt: run.attempt });
        }
    }

    /// Those that wait begin, in their order, as far as they fit.
    pub(super) fn begin_what_fits(&mut self, outputs: &mut Vec<Output>) {
        while let Some(&run) = self.queue.front()
            && self.try_to_begin(run, outputs)
        {
            self.queue.pop_front();
        }
    }

    /// Who has waited for too long goes back. Those who came first are in front.
    pub(super) fn hand_back_what_waits(&mut self, outputs: &mut Vec<Output>) {
        while self.next_hand_back().is_some_and(|due| due <= self.now)
            && let Some(Run { invocation, attempt, .. }) = self.queue.pop_front()
        {
            outputs.push(Output::HandBack { invocation, attempt, why: HandBackWhy::NoRoom });
        }
    }

    /// When the first of those who wait goes back. Released invokers keep what they were sent.
    pub(super) fn next_hand_back(&self) -> Option<Moment> {
        let waits = self.queue.front().filter(|_| !self.settings.admission.is_released());
        waits.map(|run| run.arrived + self.settings.wait_limit)
    }

    fn try_to_begin(&mut self, run: Run, outputs: &mut Vec<Output>) -> bool {
        let booked = run.grant.booked;
        if !self.cpu_admits(booked.cpu) {
            return false;
        }
        if let Some(idle) = self.sandboxes.last_used(run.function.id, run.function.revision)
            && self.make_room(u64::from(booked.memory.0), Some(idle), outputs)
        {
            self.execute(idle, run, false, outputs);
            return true;
        }
        let spare = self
            .sandboxes
            .making()
            .find(|(_, sandbox)| sandbox.doing == Doing::Making(None) && sandbox.serves_build(&run.function));
        if let Some((spare, sandbox)) = spare {
            let more = u64::from((booked.memory - sandbox.held).0);
            if self.make_room(more, None, outputs) {
                self.sandboxes.change(spare, |sandbox| {
                    sandbox.doing = Doing::Making(Some((run.invocation, run.attempt)));
                    (sandbox.booked, sandbox.held) = (booked, booked.memory);
                });
                self.runs.insert(run.invocation, (spare, run));
                return true;
            }
        }
        let memory = u64::from(booked.memory.0);
        let room = if self.measures_memory() {
            self.make_measured_room(memory, outputs)
        } else {
            self.make_room(memory, None, outputs)
        };
        if !room || !self.make_seat(outputs) {
            return false;
        }
        // Who lends may use all that it reserved until it begins; making a sandbox is not what was measured.
        let ceiling = match self.settings.lending {
            Lending::Off => run.grant.ceiling,
            _ => run.function.reservation.max(run.grant.booked),
        };
        let made_for = Some((run.invocation, run.attempt));
        let sandbox = self.sandboxes.make(self.now, run.function, ceiling, made_for, booked);
        let weight = self.weight_in_making();
        outputs.push(Output::Start { sandbox, function: run.function, ceiling, weight });
        self.runs.insert(run.invocation, (sandbox, run));
        true
    }

    fn execute(&mut self, id: SandboxId, run: Run, cold: bool, outputs: &mut Vec<Output>) {
        let Run { invocation, attempt, mut grant, .. } = run;
        self.sandboxes.change(id, |sandbox| {
            sandbox.doing = Doing::Running(invocation, attempt);
            sandbox.unused = false;
            sandbox.ceiling = grant.ceiling;
            (sandbox.booked, sandbox.held) = (grant.booked, grant.booked.memory);
        });
        self.runs.insert(invocation, (id, run));
        if self.settings.lending != Lending::Off {
            self.begin_lending(id, &run, outputs);
            (grant.ceiling, grant.weight) = self.allowed(id);
        }
        outputs.push(Output::Execute { sandbox: id, invocation, attempt, grant, cold });
    }

    /// A sandbox that was being made is ready.
    pub(super) fn sandbox_ready(&mut self, id: SandboxId, outputs: &mut Vec<Output>) {
        let Some(Doing::Making(made_for)) = self.sandboxes.get(id).map(|sandbox| sandbox.doing) else {
            return;
        };
        if let Some(&Sandbox { function, begun, .. }) = self.sandboxes.get(id) {
            self.keep_alive.made(function.id, self.now.since(begun));
        }
        match made_for.and_then(|(invocation, _)| self.runs.get(&invocation).copied()) {
            Some((_, run)) => self.execute(id, run, true, outputs),
            None => self.serve_or_rest(id, outputs),
        }
    }

    /// A sandbox that was being made came to nothing.
    pub(super) fn sandbox_failed(&mut self, id: SandboxId) {
        if let Some(Doing::Making(made_for)) = self.sandboxes.get(id).map(|sandbox| sandbox.doing) {
            self.remove(id);
            if let Some((invocation, _)) = made_for {
                self.runs.remove(&invocation);
            }
        }
    }

    /// A sandbox has ended its run.
    pub(super) fn run_ended(&mut self, id: SandboxId, kept: bool, outputs: &mut Vec<Output>) {
        let Some(Doing::Running(invocation, _)) = self.sandboxes.get(id).map(|sandbox| sandbox.doing) else {
            return;
        };
        if self.runs.get(&invocation).is_some_and(|(on, _)| *on == id) {
            self.runs.remove(&invocation);
        }
        self.end_lending(id);
        if kept {
            self.serve_or_rest(id, outputs);
        } else {
            self.remove(id);
        }
    }

    /// An idle sandbox was found dead.
    pub(super) fn sandbox_died(&mut self, id: SandboxId) {
        if self.sandboxes.get(id).is_some_and(|sandbox| matches!(sandbox.doing, Doing::Idle(_))) {
            self.remove(id);
        }
    }

    /// A sandbox without a run takes one whose own is still being made, or becomes idle, or ends.
    fn serve_or_rest(&mut self, id: SandboxId, outputs: &mut Vec<Output>) {
        let resting = self.sandboxes.change(id, |sandbox| {
            sandbox.doing = Doing::Resting;
            sandbox.booked = Resources::ZERO;
        });
        let Some(&Sandbox { function, ceiling, unused, .. }) = resting else { return };
        if self.sandboxes.is_outdated(&function) {
            return self.stop(id, StopWhy::Outdated, outputs);
        }
        let released = self.settings.admission.is_released();
        if self.standing == VmStanding::Draining && !released {
            return self.stop(id, StopWhy::Draining, outputs);
        }
        let waits = self
            .sandboxes
            .making()
            .filter(|_| !released)
            .filter(|(_, other)| other.serves_build(&function))
            .find_map(|(other, making)| match making.doing {
                Doing::Making(Some((invocation, _))) => Some((other, invocation, making.booked.memory)),
                _ => None,
            });
        if let Some((other, invocation, memory)) = waits
            && self.make_room(u64::from(memory.0), Some(id), outputs)
            && let Some(&(_, run)) = self.runs.get(&invocation)
        {
            self.detach(other);
            return self.execute(id, run, false, outputs);
        }
        let ceiling = ceiling.memory;
        if self.make_room(u64::from(ceiling.0), Some(id), outputs) {
            let rest = self.keep_alive.rests(self.now, &function, unused);
            self.sandboxes.change(id, |sandbox| {
                sandbox.doing = Doing::Idle(self.now);
                (sandbox.held, sandbox.rest) = (ceiling, rest);
            });
        } else {
            self.stop(id, StopWhy::MemoryNeeded, outputs);
        }
    }

    /// Stops idle sandboxes, the least worth first, until so many MiB are free; none if that would not do. `sparing`
    /// stays, but what it holds counts as free. The JSQ fork stops none.
    fn make_room(&mut self, needed: u64, sparing: Option<SandboxId>, outputs: &mut Vec<Output>) -> bool {
        if self.measures_memory() {
            return true;
        }
        let spared = sparing.and_then(|id| self.sandboxes.get(id));
        let is_idle = spared.is_some_and(|spared| matches!(spared.doing, Doing::Idle(_)));
        let spared = spared.map_or(0, |spared| u64::from(spared.held.0));
        let not_idle = self.sandboxes.held() - self.sandboxes.held_idle() - if is_idle { 0 } else { spared };
        let capacity = u64::from(self.capacity.memory.0);
        if not_idle + needed > capacity {
            return false;
        }
        while self.sandboxes.held() - spared + needed > capacity {
            if !self.settings.admission.stops_idle() {
                return false;
            }
            let Some(least) = self.sandboxes.least_worth(sparing) else { return false };
            self.evict(least, outputs);
        }
        true
    }

    /// Stops the idle sandbox that is worth least if there are as many as there may be.
    fn make_seat(&mut self, outputs: &mut Vec<Output>) -> bool {
        if self.sandboxes.len() < self.settings.sandboxes_limit as usize {
            return true;
        }
        let Some(least) = self.sandboxes.least_worth(None) else { return false };
        self.evict(least, outputs);
        self.sandboxes.len() < self.settings.sandboxes_limit as usize
    }

    pub(super) fn stop(&mut self, sandbox: SandboxId, why: StopWhy, outputs: &mut Vec<Output>) {
        self.remove(sandbox);
        outputs.push(Output::Stop { sandbox, why });
    }

    /// Stops an idle one because its memory is needed.
    pub(super) fn evict(&mut self, sandbox: SandboxId, outputs: &mut Vec<Output>) {
        if let Some(sandbox) = self.sandboxes.get(sandbox) {
            self.keep_alive.evicted(sandbox.rest.worth);
        }
        self.stop(sandbox, StopWhy::MemoryNeeded, outputs);
    }

    fn remove(&mut self, sandbox: SandboxId) {
        if let Some(Sandbox { function, .. }) = self.sandboxes.remove(sandbox)
            && !self.sandboxes.has_any(function.id)
        {
            self.keep_alive.left(function.id);
        }
    }

    /// Ends what has been idle for too long, and makes what will be called for.
    pub(super) fn keep_alive_and_prewarm(&mut self, outputs: &mut Vec<Output>) {
        while let Some((until, sandbox)) = self.sandboxes.next_end()
            && until <= self.now
        {
            self.stop(sandbox, StopWhy::Expired, outputs);
        }
        while let Some(function) = self.keep_alive.prewarm(self.now) {
            self.prewarm(function, 1, outputs);
        }
    }

    /// The VM's size is now this.
    pub(super) fn resized(&mut self, capacity: Resources, outputs: &mut Vec<Output>) {
        self.capacity = capacity;
        if self.settings.admission.is_released() {
            return;
        }
        while self.sandboxes.held() > u64::from(capacity.memory.0)
            && let Some(least) = self.sandboxes.least_worth(None)
        {
            self.evict(least, outputs);
        }
        // What is not begun goes back, the newest first, until the rest could run at once.
        while !self.all_that_is_asked_for().fits_in(capacity)
            && let Some(Run { invocation, attempt, .. }) = self.queue.pop_back()
        {
            outputs.push(Output::HandBack { invocation, attempt, why: HandBackWhy::NoRoom });
        }
        while !self.sandboxes.booked().fits_in(capacity)
            && self.hand_back_newest_unbegun(HandBackWhy::NoRoom, outputs)
        {}
    }

    fn all_that_is_asked_for(&self) -> Resources {
        self.sandboxes.booked() + self.queue.asks_for()
    }

    /// Gives back the run of the newest sandbox that is still being made for one.
    fn hand_back_newest_unbegun(&mut self, why: HandBackWhy, outputs: &mut Vec<Output>) -> bool {
        let newest = self.sandboxes.making().rev().find_map(|(id, sandbox)| match sandbox.doing {
            Doing::Making(Some((invocation, attempt))) => Some((id, invocation, attempt)),
            _ => None,
        });
        let Some((sandbox, invocation, attempt)) = newest else { return false };
        self.detach(sandbox);
        self.runs.remove(&invocation);
        outputs.push(Output::HandBack { invocation, attempt, why });
        true
    }

    /// Take nothing new and hand back what waits; or take work again.
    pub(super) fn told_to_stand(&mut self, standing: VmStanding, outputs: &mut Vec<Output>) {
        self.standing = standing;
        if standing == VmStanding::Open || self.settings.admission.is_released() {
            return;
        }
        let why = HandBackWhy::Draining;
        while let Some(Run { invocation, attempt, .. }) = self.queue.pop_front() {
            outputs.push(Output::HandBack { invocation, attempt, why });
        }
        while self.hand_back_newest_unbegun(why, outputs) {}
        while let Some(idle) = self.sandboxes.least_worth(None) {
            self.stop(idle, StopWhy::Draining, outputs);
        }
    }

    /// Have so many sandboxes of this function, as far as there is room that nobody uses.
    pub(super) fn prewarm(&mut self, function: FunctionCard, count: u32, outputs: &mut Vec<Output>) {
        if self.standing == VmStanding::Draining || !self.sandboxes.is_newest(function.id, function.revision)
        {
            return;
        }
        let ceiling = function.reservation;
        for _ in self.sandboxes.count(&function)..count {
            let room =
                self.sandboxes.held() + u64::from(ceiling.memory.0) <= u64::from(self.capacity.memory.0);
            if !room || self.sandboxes.len() >= self.settings.sandboxes_limit as usize {
                return;
            }
            let sandbox = self.sandboxes.make(self.now, function, ceiling, None, Resources::ZERO);
            let weight = self.weight_in_making();
            outputs.push(Output::Start { sandbox, function, ceiling, weight });
        }
    }
}
