//! Who goes next, and where to.
//!
//! **Knows:** who waits, and the books.
//! **Promises:** functions take turns; a function whose sandbox has just become idle may go before its turn if that
//! costs the next one no more waiting than a cold start costs, and room on a VM goes first to those whose sandbox is idle
//! there, by a cold start and a quarter of the longest wait. One who has waited too long gets a VM that is kept free until it
//! fits (see `starving`). Nobody waits for a sandbox, busy or on a full VM, longer than making another would take from when there was room for it, and
//! where some of a function wait at any time while there is room, one more is made when they have waited for several such times together.
//! **Gives up:** trying everybody after every event: after a few in vain, the rest follows a millisecond later.

use vocabulary::{FunctionId, InvocationId, Moment, Span, VmId};

use super::open::Running;
use super::{Dispatch, Output};
use crate::placement::{Ask, Binding, Choice, Slot};
use crate::reliability::Kinds;

/// Between two looks at those for whom there was no time.
const NEXT_LOOK: Span = Span::millis(1);
/// A sandbox is worth so many times the waiting that making it would be: it takes cores from everybody, and who waits takes none.
const WORTH_WAITING: u64 = 8;
/// So many VMs with an idle sandbox are looked at.
const IDLE: usize = 8;
/// So many functions with an idle sandbox on a VM are looked at when there is room on it.
const OVERTAKING: usize = 512;

impl Dispatch {
    /// Sends it out if there is a place and no sandbox worth waiting for. Early binding finds a place on any VM that takes
    /// work, and waits for nothing.
    pub(super) fn try_to_send(&mut self, id: InvocationId, kinds: Kinds, outputs: &mut Vec<Output>) -> bool {
        let Some(ask) = self.ask(id, kinds) else { return false };
        for kind in self.kinds_to_try(kinds, ask.demand) {
            let Ok(choice) = self.placement.place(self.now, &self.books, &Ask { kind, ..ask }) else {
                continue;
            };
            if !choice.warm && !self.binds_early() && self.is_better_off_waiting(id, &Ask { kind, ..ask }) {
                return false;
            }
            self.send(id, choice, outputs);
            return true;
        }
        self.queues.decline_no_more(ask.function);
        self.note_whether_its_reservation_fits(id, kinds);
        false
    }

    pub(super) fn binds_early(&self) -> bool {
        self.placement.binding() == Binding::Early
    }

    /// What it needs, where these are the kinds of VMs that it may run on.
    pub(super) fn ask(&mut self, id: InvocationId, kinds: Kinds) -> Option<Ask> {
        let (grant, card) = self.granted(id, kinds)?;
        let function = self.functions.entry(card.id).or_default();
        // What is in flight answers a burst at once, the rate answers the hour.
        let at_once = u64::from(function.in_flight) + 1;
        let concurrency_milli = function.profile.concurrency_milli(self.now).max(at_once * 1_000);
        let demand = grant.booked;
        let (kind, ends) = (kinds.first(), self.ends_where_it_is_kept_free(id));
        Some(Ask { function: card.id, revision: card.revision, demand, concurrency_milli, kind, ends })
    }

    /// Whether a sandbox of its function should be free before a new one could be made: one that is busy, or one that is idle
    /// on a full VM. Bounded by the time that making one takes, from the first time on that one could have been made: before that
    /// it waits for room, and would do so with any sandbox. Where the queue never empties, each of many short calls is soon served and
    /// would rightly wait, for ever: so another is made once all of them together have waited for as much as it is worth.
    pub(super) fn is_better_off_waiting(&mut self, id: InvocationId, ask: &Ask) -> bool {
        if !self.settings.wait_for_warm {
            return false;
        }
        let ahead = u64::from(self.queues.live(ask.function).max(1));
        let Some(function) = self.functions.get_mut(&ask.function) else { return false };
        let (Some(init), Some(duration)) = (function.profile.init(), function.profile.duration()) else {
            return false;
        };
        while function.making.front().is_some_and(|&begun| self.now.since(begun) > init) {
            function.making.pop_front();
        }
        let busy = u64::from(function.in_flight).saturating_sub(function.making.len() as u64);
        let Some(open) = self.open.get(&id) else { return false };
        let declined = open.declined.unwrap_or(self.now);
        let together = self.queues.declined(ask.function, self.now);
        if self.now.since(declined) >= init || together >= init.scaled(WORTH_WAITING, 1) {
            return false;
        }
        let is_better = (busy > 0 && duration.scaled(ahead, busy) < init)
            || self.room_beside_an_idle_one(ask).is_some_and(|wait| wait.scaled(ahead, 1) < init);
        if is_better && let Some(open) = self.open.get_mut(&id) {
            open.declined = Some(declined);
            self.queues.decline(ask.function, self.now);
        }
        is_better
    }

    /// How long it should take until there is room on some VM that has a sandbox of the function idle.
    fn room_beside_an_idle_one(&self, ask: &Ask) -> Option<Span> {
        let idle = self.books.idle_anywhere(ask.function, ask.revision).iter();
        let full = idle.filter(|&&(slot, count)| {
            count > 0 && self.books.accepts(slot, ask.kind) && ask.demand.fits_in(self.books.capacity(slot))
        });
        full.take(IDLE).filter_map(|&(slot, _)| self.until_there_is_room(slot, ask)).min()
    }

    /// How long it should take until there is room on this VM: as many endings as free what is missing, at the pace at which runs have
    /// ended there lately.
    fn until_there_is_room(&self, slot: Slot, ask: &Ask) -> Option<Span> {
        let vm = &self.vms[slot];
        let missing = self.books.booked(slot) + ask.demand - self.books.capacity(slot);
        let own = self.books.booked_by_us(slot);
        let runs = vm.open.len() as u64;
        let endings =
            |missing: u32, booked: u32| (u64::from(missing) * runs).div_ceil(u64::from(booked.max(1))).max(1);
        let needed = endings(missing.cpu.0, own.cpu.0).max(endings(missing.memory.0, own.memory.0));
        (runs >= needed).then_some(vm.pace?.scaled(needed, 1))
    }

    pub(super) fn send(&mut self, id: InvocationId, choice: Choice, outputs: &mut Vec<Output>) {
        let Choice { vm, slot, warm } = choice;
        let waited_in_queue = self.queues.leave(id);
        let open = self.open.get_mut(&id).expect("only open invocations are sent");
        let mut grant = open.grant.expect("a place is sought only for a grant");
        if open.hoped > grant.booked.cpu {
            let free = self.books.capacity(slot).cpu - self.books.booked(slot).cpu;
            grant.booked.cpu = grant.booked.cpu.max(open.hoped.min(free));
            open.grant = Some(grant);
        }
        let card = open.submission.function;
        open.attempt = open.attempt.next();
        let attempt = open.attempt;
        let waited = self.now.since(open.since);
        debug_assert!(open.older.is_none(), "two attempts live at most");
        let (sent, seen, booked) = (self.now, self.now, grant.booked);
        open.older = open.running;
        open.running =
            Some(Running { attempt, vm, slot, booked, warm, sent, seen, listed_by: None, missing: 0 });
        open.tell_fence(id, outputs);
        self.books.book_own(slot, grant.booked);
        if warm {
            self.books.take_idle(card.id, card.revision, slot);
        }
        self.vms[slot].open.insert(id, attempt);
        self.in_flight += 1;
        if self.books.held().is_some_and(|hold| hold.slot == slot && hold.by != card.id) {
            self.went_before += 1;
        }
        let now = self.now;
        let function = self.function_mut(card.id);
        function.in_flight += 1;
        if !warm {
            function.making.push_back(now);
            self.queues.decline_no_more(card.id);
        }
        if waited_in_queue && self.books.held().is_some_and(|hold| hold.by == card.id) {
            self.books.hold(None);
        }
        outputs.push(Output::Run { vm, invocation: id, attempt, grant, waited });
        if warm {
            self.make_a_spare(&card, outputs);
        }
    }

    /// Tries the first of a function's queue; says whether it went.
    pub(super) fn try_head(&mut self, function: FunctionId, outputs: &mut Vec<Output>) -> bool {
        if !self.is_settled() {
            return false;
        }
        let Some((id, _)) = self.queues.head(function) else { return false };
        let Some(kinds) = self.kinds_of(id) else { return false };
        let sent = self.try_to_send(id, kinds, outputs);
        self.note_whether_placeable(function);
        if !sent
            && let Some(declined) = self.open.get(&id).and_then(|open| open.declined)
            && let Some(init) = self.functions.get(&function).and_then(|function| function.profile.init())
            && declined + init > self.now
        {
            // The same function may stand here with an earlier head; waking for that one does no harm.
            self.head_looks.insert((declined + init, function));
        }
        sent
    }

    /// Heads that have waited long enough for a busy sandbox, or for more than they reserved.
    pub(super) fn end_waits(&mut self, outputs: &mut Vec<Output>) {
        while let Some(&(until, function)) = self.head_looks.first()
            && until <= self.now
        {
            self.head_looks.pop_first();
            while self.try_head(function, outputs) {}
        }
    }

    /// Sends out who can go. `freed`: where something has just ended, and of which function.
    pub(super) fn pump(&mut self, freed: Option<(VmId, FunctionId)>, outputs: &mut Vec<Output>) {
        if self.queues.is_empty() {
            return self.keep_nothing_free();
        }
        if !self.is_settled() {
            return;
        }
        if let Some(hold) = self.books.held() {
            self.try_head(hold.by, outputs);
        }
        if let Some((vm, function)) = freed {
            if self.may_go_before_its_turn(function) {
                self.try_head(function, outputs);
            }
            self.serve_whose_sandbox_is_idle_at(vm, outputs);
        }
        if self.pumped != self.books.version() {
            self.pumped = self.books.version();
            self.pass_left = self.queues.functions() as usize;
        }
        let mut vain = 0;
        while self.pass_left > 0 && vain < self.settings.tries_per_event.max(1) {
            let Some(function) = self.queues.turn() else { break };
            if self.try_head(function, outputs) {
                // Somebody went: all others may try again.
                self.pass_left = self.queues.functions() as usize;
            } else {
                self.pass_left -= 1;
                vain += 1;
            }
            if self.queues.turn() == Some(function) {
                self.queues.turn_taken();
            }
        }
        self.pump_due = (self.pass_left > 0 && !self.queues.is_empty()).then(|| self.now + NEXT_LOOK);
        self.look_after_the_oldest(outputs);
    }

    /// Nobody waits.
    pub(super) fn keep_nothing_free(&mut self) {
        self.books.hold(None);
        self.pump_due = None;
    }

    fn may_go_before_its_turn(&mut self, function: FunctionId) -> bool {
        let Some((_, since)) = self.queues.head(function) else { return false };
        let Some(turn) = self.queues.turn() else { return false };
        let Some((_, others)) = self.queues.head(turn) else { return false };
        let saved = self.functions.get(&function).and_then(|function| function.profile.init());
        since <= others + saved.unwrap_or(Span::ZERO)
    }

    /// Room on a VM goes to those whose sandbox is idle there rather than to whose turn it is, who would need a new one: the more
    /// cores go into making sandboxes, the longer all wait. They overtake by a cold start and a quarter of the longest wait.
    fn serve_whose_sandbox_is_idle_at(&mut self, vm: VmId, outputs: &mut Vec<Output>) {
        if !self.settings.wait_for_warm || self.binds_early() {
            return;
        }
        let Some(slot) = self.books.slot(vm).filter(|&slot| self.books.accepts(slot, self.books.kind(slot)))
        else {
            return;
        };
        let Some((oldest, id)) = self.queues.oldest().next() else { return };
        let spared = self.open.get(&id).and_then(|open| self.functions.get(&open.submission.function.id));
        let spared = spared.and_then(|function| function.profile.init()).unwrap_or(Span::ZERO);
        let latest = oldest + spared + self.now.since(oldest).scaled(1, 4);
        let here: Vec<FunctionId> = self.books.functions_idle_at(slot).take(OVERTAKING).collect();
        let mut candidates: Vec<(Moment, FunctionId)> = here
            .into_iter()
            .filter_map(|function| {
                let (id, since) = self.queues.head(function)?;
                let revision = self.open.get(&id)?.submission.function.revision;
                let is_warm = self.books.idle(function, revision, slot) > 0;
                (is_warm && since <= latest).then_some((since, function))
            })
            .collect();
        candidates.sort_unstable();
        let mut vain = 0;
        for (_, function) in candidates {
            if !self.try_head(function, outputs) {
                vain += 1;
            }
            if vain >= self.settings.tries_per_event.max(1) {
                break;
            }
        }
    }

    /// When those who wait should be looked at again, if nothing happens before.
    pub(super) fn next_look_at_the_waiting(&self) -> Option<Moment> {
        if !self.is_settled() {
            return self.settled;
        }
        let starving = self
            .queues
            .oldest()
            .next()
            .filter(|_| !self.binds_early())
            .map(|(since, _)| (since + self.settings.starvation_after).max(self.starving_checked));
        [self.pump_due, starving].into_iter().flatten().min()
    }
}
