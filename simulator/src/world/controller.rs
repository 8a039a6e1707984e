//! The Controller, and what its callers and its VMs tell it.

use policies::dispatch::{self, GivenUp};

use super::callers::{Answered, serial};
use super::controllers::{Controller, Seat, Way};
use super::*;

impl World {
    /// Somebody calls.
    pub(super) fn call(&mut self) {
        let call = self.house.calls.take();
        let measured = self.now >= self.house.measure_from;
        let durable = self.house.calls.is_durable(call.user);
        let invocation = self.callers.open(self.now, call, self.doors.any(), measured, durable);
        self.tally.submitted(call.function, measured);
        self.submit(invocation);
        self.expect_the_next_call();
    }

    /// A call was made, or answered: the next one may come at another time than was thought.
    pub(super) fn expect_the_next_call(&mut self) {
        self.next_call = self.house.calls.next_at().filter(|&at| at < self.house.calls_until);
    }

    pub(super) fn controller_reads(&mut self, seat: Seat, letter: Letter) {
        use dispatch::Input as I;
        let input = match letter {
            Letter::Submitted(invocation, first_attempt) => {
                let Some(open) = self.callers.get(invocation) else { return };
                let function = self.house.functions[open.call.function as usize].card;
                I::Submitted(Submission {
                    invocation,
                    function,
                    first_attempt,
                    input_bytes: open.call.work.input_bytes,
                    give_up_at: if open.durable { Moment::NEVER } else { self.now + self.house.patience },
                    durable: open.durable,
                    truth: Some(open.call.work.truth(function.reservation.cpu)),
                })
            }
            Letter::Finished { vm, ending } => I::Finished { vm, ending },
            Letter::Starved { vm, ending } => I::Starved { vm, ending },
            Letter::HandedBack { vm, invocation, attempt } => I::HandedBack { vm, invocation, attempt },
            Letter::Bounced { vm, invocation, attempt } => I::Bounced { vm, invocation, attempt },
            Letter::Known { vm, invocation, attempt, newest, runs } => {
                I::Known { vm, invocation, attempt, newest, runs }
            }
            Letter::Noticed { vm, deadline } => I::VmNoticed { vm, deadline },
            Letter::Lost(vm) => I::VmLost(vm),
            Letter::Reported(report) => return self.controller_reads_report(seat, &report.0, report.1),
        };
        self.tell_controller(seat, input);
    }

    pub(super) fn wake_controller(&mut self, seat: Seat) {
        let now = self.now;
        // An earlier wish may have been overtaken by one that was more urgent, and who is frozen hears no alarm.
        if let Some(controller) = self.seated(seat)
            && controller.wakes == Some(now)
            && !matches!(controller.way, Way::Away { is_frozen: true, .. })
        {
            controller.wakes = None;
            self.tell_controller(seat, dispatch::Input::Woke);
        }
    }

    /// A VM's report, with what it uses.
    pub(super) fn controller_reads_report(&mut self, seat: Seat, told: &VmStatus, used: Resources) {
        let (now, mut outputs) = (self.now, std::mem::take(&mut self.controller_outputs));
        let Some(controller) = self.seated(seat) else { return };
        *controller.offered_by(told.vm) = told.capacity;
        controller.dispatch.vm_reports(now, told, used, &mut outputs);
        self.carry_out(seat, &mut outputs);
        self.controller_outputs = outputs;
        self.keep_the_wish_of(seat);
    }

    pub(super) fn tell_controller(&mut self, seat: Seat, input: dispatch::Input) {
        let (now, mut outputs) = (self.now, std::mem::take(&mut self.controller_outputs));
        let Some(controller) = self.seated(seat) else { return };
        controller.dispatch.handle(now, input, &mut outputs);
        self.carry_out(seat, &mut outputs);
        self.controller_outputs = outputs;
        self.keep_the_wish_of(seat);
    }

    pub(super) fn keep_the_wish_of(&mut self, seat: Seat) {
        let now = self.now;
        let Some(Controller { dispatch, wakes, .. }) = self.seated(seat) else { return };
        if let Some(at) = dispatch.next_wakeup()
            && wakes.is_none_or(|planned| at < planned)
        {
            let at = at.max(now);
            *wakes = Some(at);
            self.agenda.plan(at, Timer::WakeController(seat));
        }
    }

    fn carry_out(&mut self, seat: Seat, outputs: &mut Vec<dispatch::Output>) {
        use dispatch::Output as O;
        for output in outputs.drain(..) {
            match output {
                O::Run { vm, invocation, attempt, grant, .. } => {
                    self.run_is_sent(seat, vm, invocation, attempt, grant)
                }
                O::Refuse { invocation, .. } => {
                    self.closes(seat, invocation, Some(|tally, call| tally.refused(call)));
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
                    self.closes(seat, invocation, Some(count));
                }
                O::Fence { invocation, oldest_valid, also } => {
                    self.tally.decisions.fences += 1;
                    self.controller_fences(seat, invocation, oldest_valid, also);
                }
                O::Forget(invocation) => self.closes(seat, invocation, None),
                O::Cancel { vm, invocation, attempt } => {
                    self.tally.decisions.cancels += 1;
                    let cancel = residency::Input::Cancel { invocation, attempt };
                    self.controller_sends(seat, Message::ToVm(vm, cancel));
                }
                O::Adopt { vm, invocation, attempt } => {
                    self.tally.decisions.adopted += 1;
                    let adopted = residency::Input::Adopted { by: seat.id(), invocation, attempt };
                    self.controller_sends(seat, Message::ToVm(vm, adopted));
                }
                O::Prewarm { vm, function, count } => {
                    self.tally.decisions.prewarms += 1;
                    let prewarm = residency::Input::Prewarm { function, count };
                    self.controller_sends(seat, Message::ToVm(vm, prewarm));
                }
                O::VmGone { vm, .. } => self.tally.vm_given_up(vm),
                // Of what was learned a rehearsal needs no record: it knows what is true.
                O::Ran(_) => {}
                O::Stale { .. } => self.tally.decisions.stale += 1,
                O::Again { .. } => self.tally.decisions.again += 1,
            }
        }
    }

    fn run_is_sent(
        &mut self,
        seat: Seat,
        vm: VmId,
        invocation: InvocationId,
        attempt: Attempt,
        grant: Grant,
    ) {
        self.tally.decisions.runs += 1;
        if self.house.checks_bookings
            && let Some(controller) = self.seated(seat)
        {
            let offers = *controller.offered_by(vm);
            let fits =
                controller.dispatch.booked_on(vm).is_none_or(|books| books.booked_by_us.fits_in(offers));
            self.must(fits, || format!("{vm} is promised more than it offers, with {invocation} {attempt}"));
        }
        let now = self.now;
        let Some(open) = self.callers.get(invocation).filter(|open| open.held_by & seat.bit() != 0) else {
            return self.must(false, || format!("{invocation} was sent out after its end"));
        };
        let is_valid = open.contested
            || open.oldest_valid == attempt
            || (open.first_attempt == attempt && open.counts(attempt));
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
            if self.has_trouble {
                self.senders.entry((vm, invocation, attempt)).or_insert(seat);
            }
            let run = residency::Input::Run { from: seat.id(), invocation, attempt, function, grant };
            self.controller_sends(seat, Message::ToVm(vm, run));
        } else {
            // NATS knows that nobody listens there.
            self.tally.decisions.bounced += 1;
            self.send(Message::ToController(seat, Letter::Bounced { vm, invocation, attempt }));
        }
    }

    /// A Controller's last word on an invocation; `failed` where there will be no answer.
    fn closes(&mut self, seat: Seat, invocation: InvocationId, failed: Option<fn(&mut Tally, u32)>) {
        let Some(open) = self.callers.get(invocation).filter(|open| open.held_by & seat.bit() != 0) else {
            return self.must(false, || format!("{invocation} ended twice"));
        };
        open.held_by &= !seat.bit();
        let (call, measured, waits) = (open.call, open.measured, !open.done);
        let is_owner = open.controller == Some(seat);
        // Where its answer was faster than the news that its VM is lost, its caller has that.
        if let Some(count) = failed
            && waits
            && is_owner
        {
            open.done = true;
            self.tally.ended += 1;
            if measured {
                count(&mut self.tally, call.function);
            }
            self.house.calls.answered(call.user, self.now);
            self.expect_the_next_call();
        } else if waits && open.held_by == 0 {
            self.will_ask_after(invocation);
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
        self.expect_the_next_call();
        self.callers.forget_if_done(invocation);
    }
}
