//! The Controller, and what its callers and its VMs tell it.

use policies::dispatch::{self, GivenUp};

use super::callers::{Answered, serial};
use super::*;

impl World {
    /// Somebody calls.
    pub(super) fn call(&mut self) {
        let call = self.house.calls.take();
        let measured = self.now >= self.house.measure_from;
        let invocation = self.callers.open(self.now, call, measured);
        self.tally.submitted(call.function, measured);
        self.send(Message::ToController(Letter::Submitted(invocation)));
    }

    pub(super) fn controller_reads(&mut self, letter: Letter) {
        use dispatch::Input as I;
        let input = match letter {
            Letter::Submitted(invocation) => {
                let Some(open) = self.callers.get(invocation) else { return };
                let function = self.house.functions[open.call.function as usize].card;
                I::Submitted(Submission {
                    invocation,
                    function,
                    first_attempt: Attempt::FIRST,
                    input_bytes: open.call.work.input_bytes,
                    give_up_at: self.now + self.house.patience,
                    durable: false,
                    truth: Some(open.call.work.truth(function.reservation.cpu)),
                })
            }
            Letter::Finished { vm, ending } => I::Finished { vm, ending },
            Letter::Starved { vm, ending } => I::Starved { vm, ending },
            Letter::HandedBack { vm, invocation, attempt } => I::HandedBack { vm, invocation, attempt },
            Letter::Bounced { vm, invocation, attempt } => I::Bounced { vm, invocation, attempt },
            Letter::Noticed { vm, deadline } => I::VmNoticed { vm, deadline },
            Letter::Lost(vm) => I::VmLost(vm),
        };
        self.tell_controller(input);
    }

    pub(super) fn wake_controller(&mut self) {
        // An earlier wish may have been overtaken by one that was more urgent.
        if self.controller_wakes == Some(self.now) {
            self.controller_wakes = None;
            self.tell_controller(dispatch::Input::Woke);
        }
    }

    /// A VM's report reaches the Controller, with what it uses.
    pub(super) fn report_arrives(&mut self, status: u32, used: Resources) {
        let mut outputs = std::mem::take(&mut self.controller_outputs);
        let told = &self.statuses[status as usize];
        let vm = told.vm;
        *self.offered_by(vm) = self.statuses[status as usize].capacity;
        self.dispatch.vm_reports(self.now, &self.statuses[status as usize], used, &mut outputs);
        self.carry_out(&mut outputs);
        self.controller_outputs = outputs;
        self.keep_the_controllers_wish();
        self.report_to_fleet(status);
        self.statuses_free.push(status);
    }

    fn offered_by(&mut self, vm: VmId) -> &mut Resources {
        let index = vm.0 as usize;
        if self.offered.len() <= index {
            self.offered.resize(index + 1, Resources::ZERO);
        }
        &mut self.offered[index]
    }

    fn tell_controller(&mut self, input: dispatch::Input) {
        let mut outputs = std::mem::take(&mut self.controller_outputs);
        self.dispatch.handle(self.now, input, &mut outputs);
        self.carry_out(&mut outputs);
        self.controller_outputs = outputs;
        self.keep_the_controllers_wish();
    }

    fn keep_the_controllers_wish(&mut self) {
        if let Some(at) = self.dispatch.next_wakeup()
            && self.controller_wakes.is_none_or(|planned| at < planned)
        {
            let at = at.max(self.now);
            self.controller_wakes = Some(at);
            self.agenda.plan(at, Timer::WakeController);
        }
    }

    fn carry_out(&mut self, outputs: &mut Vec<dispatch::Output>) {
        use dispatch::Output as O;
        for output in outputs.drain(..) {
            match output {
                O::Run { vm, invocation, attempt, grant, .. } => {
                    self.run_is_sent(vm, invocation, attempt, grant)
                }
                O::Refuse { invocation, .. } => {
                    self.closes(invocation, Some(|tally, call| tally.refused(call)));
                }
                O::GiveUp { invocation, why, .. } => {
                    let count: fn(&mut Tally, u32) = match why {
                        GivenUp::Waited { .. } => |tally, call| tally.waited_too_long(call),
                        GivenUp::LostAndNever { .. } | GivenUp::StarvedAndNever { .. } => {
                            |tally, call| tally.lost_and_never(call)
                        }
                        GivenUp::TooManyAttempts { .. } => |tally, call| tally.lost_too_often(call),
                        GivenUp::TooLarge { .. } => |tally, call| tally.refused(call),
                    };
                    self.closes(invocation, Some(count));
                }
                O::Fence { invocation, oldest_valid, also } => {
                    self.tally.decisions.fences += 1;
                    if let Some(open) = self.callers.get(invocation) {
                        (open.oldest_valid, open.also_valid) = (oldest_valid, also);
                    }
                }
                O::Forget(invocation) => self.closes(invocation, None),
                O::Cancel { vm, invocation, attempt } => {
                    self.tally.decisions.cancels += 1;
                    self.send(Message::ToVm(vm, residency::Input::Cancel { invocation, attempt }));
                }
                O::Prewarm { vm, function, count } => {
                    self.tally.decisions.prewarms += 1;
                    self.send(Message::ToVm(vm, residency::Input::Prewarm { function, count }));
                }
                O::VmGone { .. } => self.tally.vm_given_up(),
                // Of what was learned a rehearsal needs no record: it knows what is true.
                O::Ran(_) => {}
                O::Stale { .. } => self.tally.decisions.stale += 1,
                O::Again { .. } => self.tally.decisions.again += 1,
            }
        }
    }

    fn run_is_sent(&mut self, vm: VmId, invocation: InvocationId, attempt: Attempt, grant: Grant) {
        self.tally.decisions.runs += 1;
        if self.house.checks_bookings {
            let offers = *self.offered_by(vm);
            let fits = self.dispatch.booked_on(vm).is_some_and(|books| books.booked_by_us.fits_in(offers));
            self.must(fits, || format!("{vm} is promised more than it offers, with {invocation} {attempt}"));
        }
        let now = self.now;
        let Some(open) = self.callers.get(invocation).filter(|open| !open.closed) else {
            return self.must(false, || format!("{invocation} was sent out after its end"));
        };
        let is_valid = open.oldest_valid == attempt;
        let (first, measured, waited) = (!open.sent, open.measured, now.since(open.since));
        open.sent = true;
        let function = self.house.functions[open.call.function as usize].card;
        self.tally.sent(first, measured, waited);
        self.must(is_valid, || format!("{invocation} {attempt} was sent out, other answers being valid"));
        if let Some(decisions) = &mut self.decisions {
            let call = serial(invocation);
            decisions.0.push(Decision { at: now, call, attempt, function: function.id, vm, grant });
        }
        if self.vm(vm).is_some() {
            self.send(Message::ToVm(vm, residency::Input::Run { invocation, attempt, function, grant }));
        } else {
            // NATS knows that nobody listens there.
            self.tally.decisions.bounced += 1;
            self.send(Message::ToController(Letter::Bounced { vm, invocation, attempt }));
        }
    }

    /// The Controller's last word on an invocation; `failed` where there will be no answer.
    fn closes(&mut self, invocation: InvocationId, failed: Option<fn(&mut Tally, u32)>) {
        let Some(open) = self.callers.get(invocation).filter(|open| !open.closed) else {
            return self.must(false, || format!("{invocation} ended twice"));
        };
        open.closed = true;
        let (call, measured, was_done) = (open.call, open.measured, open.done);
        // Where its answer was faster than the news that its VM is lost, its caller has that.
        if let Some(count) = failed
            && !was_done
        {
            open.done = true;
            self.tally.ended += 1;
            if measured {
                count(&mut self.tally, call.function);
            }
            self.house.calls.answered(call.user, self.now);
        }
        self.callers.forget_if_done(invocation);
    }

    /// An answer reaches its caller.
    pub(super) fn answered(&mut self, invocation: InvocationId, attempt: Attempt, how: Answered, init: Span) {
        let now = self.now;
        let Some(open) = self.callers.get(invocation) else { return };
        if !open.counts(attempt) || open.done {
            return;
        }
        open.done = true;
        let open = *open;
        self.tally.ended += 1;
        if open.measured {
            let card = self.house.functions[open.call.function as usize].card;
            self.tally.answered(&open, &card, now.since(open.since), how);
            if now <= self.house.read_at {
                self.tally.read(now.since(open.since), init);
            }
        }
        self.house.calls.answered(open.call.user, now);
        self.callers.forget_if_done(invocation);
    }
}
