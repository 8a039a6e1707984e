//! What happens to one invocation, in the order in which it happens.
//!
//! **Knows:** each open invocation: accepted and not ended.
//! **Promises:** whatever removes one from the open ones says why, once.
//! **Gives up:** remembering those that have ended; what is still heard of them is stale.

use vocabulary::{Attempt, FunctionCard, FunctionId, InvocationId, Moment, OnEviction, VmId};

use super::fleet::Vm;
use super::open::{Function, Open, Running};
use super::{Dispatch, Ending, GivenUp, Output, Refusal, Submission, VmGone};
use crate::profile::Profile;

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
        let kinds = self.kinds(&submission.function);
        if let Some(why) = self.reason_to_refuse(&submission, kinds) {
            outputs.push(Output::Refuse { invocation: id, why });
            return;
        }
        let patience = self.patience(&submission);
        self.open.insert(id, Open::new(submission, self.now, patience));
        let function = submission.function.id;
        if self.queues.live(function) == 0 && self.is_settled() && self.try_to_send(id, kinds, outputs) {
            return;
        }
        if let Some(why) = self.reason_not_to_queue(&submission) {
            self.open.remove(&id);
            outputs.push(Output::Refuse { invocation: id, why });
            return;
        }
        self.queues.join(id, function, self.now, patience, false);
        self.try_head(function, outputs);
    }

    pub(super) fn patience(&self, submission: &Submission) -> Moment {
        let longest = self.now + self.settings.durable_patience;
        if submission.durable { submission.give_up_at.min(longest) } else { submission.give_up_at }
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
        function.gap = (function.last_used > Moment::ORIGIN).then(|| self.now.since(function.last_used));
        function.last_used = self.now;
        self.placement.arrived(self.now, card.id);
    }

    /// What another Controller knew of a function, if that is more than what is known here.
    pub(super) fn remember(&mut self, function: FunctionId, profile: Profile) {
        if self.functions.len() >= self.settings.functions_limit as usize
            && !self.functions.contains_key(&function)
        {
            self.forget_old_functions();
        }
        let now = self.now;
        let known = self.functions.entry(function).or_default();
        // It was asked for because somebody calls it.
        known.last_used = now;
        known.profile.learn_from(profile);
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
        let mut kept: Vec<_> =
            self.functions.values().filter_map(|function| Some(function.card?.application())).collect();
        kept.sort_unstable();
        self.applications.retain(|application, _| kept.binary_search(application).is_ok());
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
        // Nearly always this is its end. Where it is not, it is put back.
        let open = self.open.remove(&id);
        let running = open.as_ref().and_then(|open| open.on(vm, attempt));
        let slot = running.map_or_else(|| self.books.slot(vm), |running| Some(running.slot));
        // If a report has already shown that it was over, it has shown its sandbox, too.
        let sandbox_counted =
            running.is_some_and(|running| running.listed_by.is_some() && running.missing > 0);
        // What lives has not been told before.
        let is_news = |vm: &Vm| running.is_some() || !vm.just_ended.contains(&(id, attempt));
        if let Some(slot) = slot.filter(|&slot| is_news(&self.vms[slot])) {
            self.vms[slot].has_ended(id, attempt);
            if ending.sandbox_kept && !sandbox_counted {
                self.books.put_idle(ending.function, ending.revision, slot, 1);
            }
        }
        let Some(mut open) = open else {
            outputs.push(Output::Stale { invocation: id, attempt });
            return;
        };
        if !open.counts(attempt) {
            self.open.insert(id, open);
            outputs.push(Output::Stale { invocation: id, attempt });
            return;
        }
        self.learn(&ending, &open, false, outputs);
        if let Some(slot) = slot {
            self.vms[slot].ended_at(self.now);
        }
        let others: Vec<(VmId, Attempt)> = open
            .live()
            .map(|running| (running.vm, running.attempt))
            .filter(|&other| other != (vm, attempt))
            .collect();
        let function = open.submission.function.id;
        if let Some(ended) = open.take(attempt) {
            self.release(id, function, &ended);
        }
        if ending.outcome.is_none() && !others.is_empty() && !open.withdrawn {
            // Somebody else called it off, and its answer is not there: the other one's will be.
            self.open.insert(id, open);
            return self.tell_fence(id, outputs);
        }
        for (vm, attempt) in others {
            if let Some(other) = open.take(attempt) {
                self.release(id, function, &other);
            }
            outputs.push(Output::Cancel { vm, invocation: id, attempt });
        }
        self.queues.leave(id);
        outputs.push(Output::Forget(id));
    }

    /// An Invoker gave an attempt back unbegun.
    pub(super) fn handed_back(
        &mut self,
        vm: VmId,
        id: InvocationId,
        attempt: Attempt,
        outputs: &mut Vec<Output>,
    ) {
        if let Some(slot) = self.books.slot(vm) {
            self.vms[slot].has_ended(id, attempt);
            // What we believe of its room is wrong. Its next report, at most a second away, will put it right; until
            // then nothing goes there, or the two of us would play ball with the invocation.
            self.books.set_refusing(slot, true);
        }
        self.take_foreign(vm, id, attempt);
        if self.is_live(vm, id, attempt) {
            self.stop_running(id, attempt);
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
        let unbegun = self.is_live(vm, id, attempt);
        if unbegun {
            self.stop_running(id, attempt);
        }
        self.lose_vm(vm, VmGone::NoResponders, outputs);
        if unbegun {
            self.wait_again(id, outputs);
        }
    }

    /// Nobody waits for it any more.
    pub(super) fn withdrawn(&mut self, id: InvocationId, outputs: &mut Vec<Output>) {
        let Some(open) = self.open.get_mut(&id) else { return };
        if open.running.is_none() {
            return self.forget(id, outputs);
        }
        open.withdrawn = true;
        self.queues.leave(id);
        for &Running { vm, attempt, .. } in open.live() {
            outputs.push(Output::Cancel { vm, invocation: id, attempt });
        }
    }

    /// An attempt and perhaps part of its work are lost.
    pub(super) fn lose_attempt(&mut self, id: InvocationId, attempt: Attempt, outputs: &mut Vec<Output>) {
        let Some(lost) = self.stop_running(id, attempt) else { return };
        self.note_how_long_it_ran(id, &lost, lost.seen);
        let Some(open) = self.open.get_mut(&id) else { return };
        open.losses += 1;
        let waited = self.now.since(open.submitted);
        let attempt = open.attempt;
        let why = if open.running.is_some() || open.withdrawn {
            return self.wait_again(id, outputs);
        } else if open.submission.function.on_eviction == OnEviction::Never {
            GivenUp::LostAndNever { vm: lost.vm }
        } else if open.losses >= self.settings.attempts_limit.max(1) {
            GivenUp::TooManyAttempts { attempts: open.losses }
        } else {
            // It was not idle while it ran: it may wait for its second place as long as it might for its first.
            open.patience = open.patience.max(self.now + open.patience_for);
            return self.wait_again(id, outputs);
        };
        self.queues.leave(id);
        self.open.remove(&id);
        outputs.push(Output::GiveUp { invocation: id, attempt, why, waited });
    }

    /// One attempt is out of the books. If another lives, that one goes on; else it waits for a place again: accepted once,
    /// it is not refused now, however many wait, and it goes before them.
    pub(super) fn wait_again(&mut self, id: InvocationId, outputs: &mut Vec<Output>) {
        let Some(open) = self.open.get_mut(&id) else { return };
        if open.running.is_some() {
            self.tell_fence(id, outputs);
            return self.rerun_if_late(id, outputs);
        }
        if open.withdrawn {
            return self.forget(id, outputs);
        }
        open.waits_anew(self.now);
        open.declined = None;
        let (function, patience) = (open.submission.function.id, open.patience);
        // It may have waited for a second place already, with the first still there.
        self.queues.leave(id);
        self.queues.join(id, function, self.now, patience, true);
    }

    /// Tells the Frontend whose answers count, if that has changed.
    pub(super) fn tell_fence(&mut self, id: InvocationId, outputs: &mut Vec<Output>) {
        if let Some(open) = self.open.get_mut(&id) {
            open.tell_fence(id, outputs);
        }
    }

    /// Ends all who have lost patience.
    pub(super) fn give_up_waiting(&mut self, outputs: &mut Vec<Output>) {
        while let Some(id) = self.queues.expired(self.now) {
            self.queues.leave(id);
            let open = self.open.remove(&id).expect("who waits is open");
            let waited = self.now.since(open.since);
            outputs.push(Output::GiveUp {
                invocation: id,
                attempt: open.last_attempt(),
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

    pub(super) fn is_live(&self, vm: VmId, id: InvocationId, attempt: Attempt) -> bool {
        self.open.get(&id).is_some_and(|open| open.on(vm, attempt).is_some())
    }

    /// Takes a running attempt out of all books.
    pub(super) fn stop_running(&mut self, id: InvocationId, attempt: Attempt) -> Option<Running> {
        let open = self.open.get_mut(&id)?;
        let running = open.take(attempt)?;
        let function = open.submission.function.id;
        self.release(id, function, &running);
        Some(running)
    }

    fn release(&mut self, id: InvocationId, function: FunctionId, running: &Running) {
        self.books.release_own(running.slot, running.booked);
        self.vms[running.slot].open.remove(&id);
        self.in_flight -= 1;
        let function = self.function_mut(function);
        function.in_flight -= 1;
        if !running.warm {
            function.making.pop_front();
        }
    }

    pub(super) fn function_mut(&mut self, id: FunctionId) -> &mut Function {
        self.functions.entry(id).or_default()
    }
}
