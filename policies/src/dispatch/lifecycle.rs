//! What happens to one invocation, in the order in which it happens.
//!
//! **Knows:** each open invocation: accepted and not ended.
//! **Promises:** whatever removes one from the open ones says why, once.
//! **Gives up:** remembering those that have ended; what is still heard of them is stale.

use std::collections::VecDeque;

use vocabulary::{
    Attempt, FunctionCard, FunctionId, Grant, InvocationId, MilliCores, Moment, OnEviction, Resources, VmId,
};

use super::{Dispatch, Ending, GivenUp, Output, Refusal, Submission, VmGone};
use crate::placement::Slot;
use crate::profile::Profile;

/// What is known of a function.
#[derive(Debug, Default)]
pub(super) struct Function {
    /// As it came with its newest submission or report.
    pub card: Option<FunctionCard>,
    pub profile: Profile,
    /// Its attempts that were sent out.
    pub in_flight: u32,
    /// When those of them were sent for which a sandbox is probably still being made.
    pub making: VecDeque<Moment>,
    pub last_used: Moment,
}

/// An invocation that was accepted and has not ended.
#[derive(Debug)]
pub(super) struct Open {
    pub submission: Submission,
    pub submitted: Moment,
    /// Since when it has waited, if it waits.
    pub since: Moment,
    /// Until when it may wait.
    pub patience: Moment,
    /// The last attempt that was sent out; before that, the one before the submission's first.
    pub attempt: Attempt,
    /// How many of its attempts were lost.
    pub losses: u32,
    /// Nobody wants its answer any more.
    pub withdrawn: bool,
    /// Decided when it is first tried to be placed, and again after a loss.
    pub grant: Option<Grant>,
    /// It was killed for want of memory: nothing is taken from it again.
    pub starved: bool,
    /// `None`: it waits.
    pub running: Option<Running>,
}

impl Open {
    /// Whether any attempt of this submission was sent out.
    pub fn was_sent(&self) -> bool {
        self.attempt >= self.submission.first_attempt
    }
}

/// An attempt that was sent out.
#[derive(Debug, Clone, Copy)]
pub(super) struct Running {
    pub vm: VmId,
    pub slot: Slot,
    pub booked: Resources,
    pub warm: bool,
    /// When it was sent, or last listed in a report.
    pub seen: Moment,
    /// Whether a report has listed it.
    pub listed: bool,
    /// Reports in a row that did not list it.
    pub missing: u32,
}

impl Dispatch {
    /// A Frontend wants this run.
    pub(super) fn submitted(&mut self, submission: Submission, outputs: &mut Vec<Output>) {
        let id = submission.invocation;
        if self.open.contains_key(&id) {
            return;
        }
        self.function_arrived(&submission.function);
        if self.adopt(submission, outputs) {
            return;
        }
        if let Some(why) = self.reason_to_refuse(&submission) {
            outputs.push(Output::Refuse { invocation: id, why });
            return;
        }
        self.open.insert(
            id,
            Open {
                submission,
                submitted: self.now,
                since: self.now,
                patience: submission.give_up_at,
                attempt: Attempt(submission.first_attempt.0.saturating_sub(1)),
                losses: 0,
                withdrawn: false,
                grant: None,
                starved: false,
                running: None,
            },
        );
        let function = submission.function.id;
        if self.queues.live(function) == 0 && self.is_settled() && self.try_to_send(id, outputs) {
            return;
        }
        if let Some(why) = self.reason_not_to_queue(&submission) {
            self.open.remove(&id);
            outputs.push(Output::Refuse { invocation: id, why });
            return;
        }
        self.queues.join(id, function, self.now, submission.give_up_at, false);
        self.try_head(function, outputs);
    }

    fn function_arrived(&mut self, card: &FunctionCard) {
        if self.functions.len() >= self.settings.functions_limit as usize
            && !self.functions.contains_key(&card.id)
        {
            self.forget_old_functions();
        }
        let function = self.functions.entry(card.id).or_default();
        if function.card.is_none_or(|known| known.revision <= card.revision) {
            function.card = Some(*card);
        }
        function.profile.arrived(self.now);
        function.last_used = self.now;
        self.placement.arrived(self.now, card.id);
    }

    /// Makes room for new functions: a sixteenth of those that are not in use goes, the longest unused first.
    fn forget_old_functions(&mut self) {
        let mut unused: Vec<(Moment, FunctionId)> = self
            .functions
            .iter()
            .filter(|(id, function)| function.in_flight == 0 && self.queues.live(**id) == 0)
            .map(|(id, function)| (function.last_used, *id))
            .collect();
        unused.sort_unstable();
        unused.truncate(unused.len() / 16 + 1);
        for (_, id) in unused {
            self.functions.remove(&id);
            self.placement.forget(id);
            self.allocator.forget(id);
        }
    }

    /// An attempt that another Controller sent out, or we before a restart, and that a VM still lists, is ours now.
    /// One whose answer the Frontend would drop is called off instead.
    fn adopt(&mut self, submission: Submission, outputs: &mut Vec<Output>) -> bool {
        let id = submission.invocation;
        let Some((attempt, vm)) = self.foreign_attempt(id) else { return false };
        if attempt < submission.first_attempt {
            outputs.push(Output::Cancel { vm, invocation: id, attempt });
            return false;
        }
        let slot = self.vms[&vm].slot;
        let Some(booked) = self.take_foreign(vm, id, attempt) else { return false };
        self.books.book_own(slot, booked);
        let vm_book = self.vms.get_mut(&vm).expect("it was found a line above");
        vm_book.open.insert(id, ());
        self.in_flight += 1;
        self.function_mut(submission.function.id).in_flight += 1;
        let running = Running { vm, slot, booked, warm: true, seen: self.now, listed: true, missing: 0 };
        self.open.insert(
            id,
            Open {
                submission,
                submitted: self.now,
                since: self.now,
                patience: submission.give_up_at,
                attempt,
                losses: 0,
                withdrawn: false,
                grant: None,
                starved: false,
                running: Some(running),
            },
        );
        true
    }

    fn reason_to_refuse(&self, submission: &Submission) -> Option<Refusal> {
        let needs = submission.function.reservation;
        if submission.durable || !self.is_settled() {
            return None;
        }
        if self.books.open() == 0 {
            let hopeless = self.now.since(self.last_open) > self.settings.no_vm_grace;
            return hopeless.then_some(Refusal::NoVm);
        }
        // Where a VM need not have room, only memory can never do: without it no container begins.
        let least = if self.binds_early() { Resources { cpu: MilliCores::ZERO, ..needs } } else { needs };
        let too_large = !self.books.could_ever_hold(least);
        too_large.then(|| Refusal::TooLarge { needs, largest: self.books.largest() })
    }

    fn reason_not_to_queue(&self, submission: &Submission) -> Option<Refusal> {
        let (all, of_function) = (self.settings.queue_limit, self.settings.function_queue_limit);
        if self.queues.len() >= all {
            Some(Refusal::QueueFull { limit: all })
        } else if !submission.durable && self.queues.live(submission.function.id) >= of_function {
            Some(Refusal::FunctionQueueFull { limit: of_function })
        } else {
            None
        }
    }

    /// An Invoker says how an attempt ended.
    pub(super) fn finished(&mut self, vm: VmId, ending: Ending, outputs: &mut Vec<Output>) {
        let Ending { invocation: id, attempt, .. } = ending;
        self.take_foreign(vm, id, attempt);
        let told_twice = self.vms.get(&vm).is_some_and(|book| book.just_ended.contains(&(id, attempt)));
        let current = self.open.get(&id).filter(|open| open.was_sent() && attempt >= open.attempt);
        let running = current.and_then(|open| open.running);
        let is_current = current.is_some();
        // If a report has already shown that it was over, it has shown its sandbox, too.
        let sandbox_counted = running.is_some_and(|running| running.listed && running.missing > 0);
        if ending.sandbox_kept && !told_twice && !sandbox_counted {
            self.sandbox_is_idle(vm, &ending);
        }
        if !told_twice && let Some(book) = self.vms.get_mut(&vm) {
            book.has_ended(id, attempt);
        }
        if !is_current {
            outputs.push(Output::Stale { invocation: id, attempt });
            return;
        }
        self.learn(&ending, false);
        if let Some(book) = self.vms.get_mut(&vm) {
            book.ended_at(self.now);
        }
        let current_attempt = self.open[&id].attempt;
        if let Some(running) = self.stop_running(id)
            && (running.vm != vm || current_attempt != attempt)
        {
            outputs.push(Output::Cancel { vm: running.vm, invocation: id, attempt: current_attempt });
        }
        self.forget(id, outputs);
    }

    /// An Invoker gave an attempt back unbegun.
    pub(super) fn handed_back(
        &mut self,
        vm: VmId,
        id: InvocationId,
        attempt: Attempt,
        outputs: &mut Vec<Output>,
    ) {
        if let Some(book) = self.vms.get_mut(&vm) {
            book.has_ended(id, attempt);
            // What we believe of its room is wrong. Its next report, at most a second away, will put it right; until
            // then nothing goes there, or the two of us would play ball with the invocation.
            let slot = book.slot;
            self.books.set_refusing(slot, true);
        }
        self.take_foreign(vm, id, attempt);
        if self.is_current(vm, id, attempt) {
            self.stop_running(id);
            self.wait_again(id, outputs);
        } else {
            outputs.push(Output::Stale { invocation: id, attempt });
        }
    }

    /// Nobody listens at this VM: it is gone, and this attempt has never reached it.
    pub(super) fn bounced(
        &mut self,
        vm: VmId,
        id: InvocationId,
        attempt: Attempt,
        outputs: &mut Vec<Output>,
    ) {
        let unbegun = self.is_current(vm, id, attempt);
        if unbegun {
            self.stop_running(id);
        }
        self.lose_vm(vm, VmGone::NoResponders, outputs);
        if unbegun {
            self.wait_again(id, outputs);
        }
    }

    /// Nobody waits for it any more.
    pub(super) fn withdrawn(&mut self, id: InvocationId, outputs: &mut Vec<Output>) {
        let Some(open) = self.open.get_mut(&id) else { return };
        match open.running {
            Some(running) => {
                open.withdrawn = true;
                let attempt = open.attempt;
                outputs.push(Output::Cancel { vm: running.vm, invocation: id, attempt });
            }
            None => self.forget(id, outputs),
        }
    }

    /// An attempt and perhaps part of its work are lost.
    pub(super) fn lose_attempt(&mut self, id: InvocationId, outputs: &mut Vec<Output>) {
        let Some(running) = self.stop_running(id) else { return };
        let Some(open) = self.open.get_mut(&id) else { return };
        open.losses += 1;
        let waited = self.now.since(open.submitted);
        let attempt = open.attempt;
        if open.withdrawn {
            return self.forget(id, outputs);
        }
        let why = if open.submission.function.on_eviction == OnEviction::Never {
            GivenUp::LostAndNever { vm: running.vm }
        } else if open.losses >= self.settings.attempts_limit.max(1) {
            GivenUp::TooManyAttempts { attempts: open.losses }
        } else {
            // It was not idle while it ran: it may wait for its second place as long as it might for its first.
            open.patience =
                open.submission.give_up_at.max(self.now + open.submission.give_up_at.since(open.submitted));
            return self.wait_again(id, outputs);
        };
        self.open.remove(&id);
        outputs.push(Output::GiveUp { invocation: id, attempt, why, waited });
    }

    /// Accepted once, it is not refused now, however many wait; it goes before them.
    pub(super) fn wait_again(&mut self, id: InvocationId, outputs: &mut Vec<Output>) {
        let Some(open) = self.open.get_mut(&id) else { return };
        if open.withdrawn {
            return self.forget(id, outputs);
        }
        open.since = self.now;
        open.grant = None;
        let (function, patience) = (open.submission.function.id, open.patience);
        self.queues.join(id, function, self.now, patience, true);
    }

    /// Ends all who have lost patience.
    pub(super) fn give_up_waiting(&mut self, outputs: &mut Vec<Output>) {
        while let Some(id) = self.queues.expired(self.now) {
            self.queues.leave(id);
            let open = self.open.remove(&id).expect("who waits is open");
            let waited = self.now.since(open.since);
            outputs.push(Output::GiveUp {
                invocation: id,
                attempt: open.attempt.max(open.submission.first_attempt),
                why: GivenUp::Waited { waited },
                waited: self.now.since(open.submitted),
            });
        }
    }

    /// It has ended, and somebody knows its answer or nobody wants it.
    pub(super) fn forget(&mut self, id: InvocationId, outputs: &mut Vec<Output>) {
        self.queues.leave(id);
        if self.open.remove(&id).is_some() {
            outputs.push(Output::Forget(id));
        }
    }

    pub(super) fn is_current(&self, vm: VmId, id: InvocationId, attempt: Attempt) -> bool {
        self.open.get(&id).is_some_and(|open| {
            open.attempt == attempt && open.running.is_some_and(|running| running.vm == vm)
        })
    }

    /// Takes a running attempt out of all books.
    pub(super) fn stop_running(&mut self, id: InvocationId) -> Option<Running> {
        let open = self.open.get_mut(&id)?;
        let running = open.running.take()?;
        let function = open.submission.function.id;
        self.books.release_own(running.slot, running.booked);
        if let Some(book) = self.vms.get_mut(&running.vm) {
            book.open.remove(&id);
        }
        self.in_flight -= 1;
        let function = self.function_mut(function);
        function.in_flight -= 1;
        if !running.warm {
            function.making.pop_front();
        }
        Some(running)
    }

    pub(super) fn function_mut(&mut self, id: FunctionId) -> &mut Function {
        self.functions.entry(id).or_default()
    }
}
