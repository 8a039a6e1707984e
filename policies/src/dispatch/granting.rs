//! How much an invocation is given, and what is learned when it has ended.
//!
//! **Knows:** the function's profile, the fleet's totals, and the allocator's answer.
//! **Promises:** the allocator is asked once for each time that an invocation waits for a place, and hears how each run ended
//! that it granted. What was killed for want of memory goes again once with all that it reserved, and nothing is taken from
//! it then.
//! Who is granted more than it reserved waits for a place that has as much, no longer than that is worth, counted from when its reservation
//! would have fitted; then it takes the first place that has its reservation, and what is free there beside.
//! **Gives up:** asking anew while it waits: what is granted is right for the fleet as it was.

use vocabulary::{
    FunctionCard, Grant, InvocationId, MilliCores, Moment, OnEviction, Outcome, Resources, Span, VmId, VmKind,
};

use super::open::Open;
use super::{Dispatch, Ending, GivenUp, Output, Seen, Submission};
use crate::allocation::{Ended, Fleet, Home, Request};
use crate::placement::{Ask, Binding, Ran, Slot};
use crate::reliability::Kinds;

/// How much sooner a run should end with what was booked for it above its reservation, if it can use all of that.
fn saved(grant: &Grant, reservation: Resources) -> Option<Span> {
    let more = grant.booked.cpu - reservation.cpu;
    let saved = grant.lasts.scaled(more.0.into(), reservation.cpu.0.max(1).into());
    (more > MilliCores::ZERO).then_some(saved)
}

/// What a function asks for as a user reserved it.
fn of_its_reservation(card: &FunctionCard, kind: VmKind) -> Ask {
    let FunctionCard { id: function, revision, reservation: demand, .. } = *card;
    Ask { function, revision, demand, concurrency_milli: 0, kind, ends: Moment::NEVER }
}

impl Dispatch {
    /// What it gets, decided now or when it was first tried, where these kinds of VMs are those it may run on.
    pub(super) fn granted(&mut self, id: InvocationId, kinds: Kinds) -> Option<(Grant, FunctionCard)> {
        let open = self.open.get(&id)?;
        let (submission, fitted) = (open.submission, open.fitted);
        let (granted, starved) = (open.grant, open.starved);
        let card = submission.function;
        let early = self.placement.binding() == Binding::Early;
        if let Some(grant) = granted
            && (early || self.could_ever_hold(kinds, grant.booked))
        {
            let hopes_until = fitted.zip(self.hopes_for(&grant, card.reservation));
            if hopes_until.is_none_or(|(fitted, at_most)| self.now < fitted + at_most) {
                return Some((grant, card));
            }
            let settled = Grant { booked: grant.booked.min(card.reservation), ..grant };
            let open = self.open.get_mut(&id)?;
            (open.grant, open.hoped) = (Some(settled), grant.booked.cpu);
            return Some((settled, card));
        }
        // An allocator that gives more than any VM has gives what was asked for instead.
        let fixed = Grant::fixed(card.reservation);
        let grant = if granted.is_some() || starved { fixed } else { self.ask_allocator(&submission, kinds) };
        let grant = self.placement.grant(&self.books, &card, grant);
        let grant = if early || self.could_ever_hold(kinds, grant.booked) { grant } else { fixed };
        self.open.get_mut(&id)?.grant = Some(grant);
        Some((grant, card))
    }

    /// For how long it is worth while to wait for more than was reserved, where the reservation would fit.
    fn hopes_for(&self, grant: &Grant, reservation: Resources) -> Option<Span> {
        let (thousandths, saved) = self.allocator.settles_after().zip(saved(grant, reservation))?;
        Some(saved.scaled(thousandths.into(), 1_000))
    }

    /// There was no place for it. If it wants more than it reserved, and that much would fit, its patience begins: before that it is not
    /// its wish that keeps it waiting.
    pub(super) fn note_whether_its_reservation_fits(&mut self, id: InvocationId, kinds: Kinds) {
        let Some(open) = self.open.get(&id) else { return };
        let (card, fitted) = (open.submission.function, open.fitted);
        let Some(at_most) = open.grant.and_then(|grant| self.hopes_for(&grant, card.reservation)) else {
            return;
        };
        let fitted = match fitted {
            Some(fitted) => fitted,
            None if self.reservation_fits(&card, kinds) => self.now,
            None => return,
        };
        if let Some(open) = self.open.get_mut(&id) {
            open.fitted = Some(fitted);
        }
        if fitted + at_most > self.now {
            self.head_looks.insert((fitted + at_most, card.id));
        }
    }

    fn reservation_fits(&mut self, card: &FunctionCard, kinds: Kinds) -> bool {
        self.kinds_to_try(kinds, card.reservation).any(|kind| {
            let ask = of_its_reservation(card, kind);
            self.placement.next_home(&self.books, &ask).is_some_and(|slot| self.books.has_room(slot, &ask))
        })
    }

    fn ask_allocator(&mut self, submission: &Submission, kinds: Kinds) -> Grant {
        let card = submission.function;
        let (capacity, free) = self.books.open_resources();
        let home = self.allocator.looks_ahead().then(|| self.home_of(&card, kinds)).flatten();
        let function = self.functions.entry(card.id).or_default();
        self.allocator.grant(&Request {
            now: self.now,
            invocation: submission.invocation,
            function: card.id,
            reservation: card.reservation,
            input_bytes: submission.input_bytes,
            profile: &function.profile,
            may_rerun: card.on_eviction != OnEviction::Never,
            in_flight: self.in_flight,
            in_flight_of_function: function.in_flight,
            waiting: self.queues.len(),
            fleet: Fleet { capacity, free },
            home,
            truth: submission.truth,
        })
    }

    /// Where a function goes next: on a VM of the first kind that has one for it.
    pub(super) fn next_home(&mut self, card: &FunctionCard, kinds: Kinds) -> Option<Slot> {
        self.kinds_to_try(kinds, card.reservation).find_map(|kind| {
            let ask = of_its_reservation(card, kind);
            self.placement.next_home(&self.books, &ask)
        })
    }

    fn home_of(&mut self, card: &FunctionCard, kinds: Kinds) -> Option<Home> {
        let slot = self.next_home(card, kinds)?;
        let capacity = self.books.capacity(slot);
        Some(Home {
            capacity,
            headroom: capacity - self.books.booked(slot),
            shrink_per_minute: self.vms[slot].shrinks.per_minute(self.now),
        })
    }

    /// A run has ended: the profile learns, then the allocator.
    pub(super) fn learn(&mut self, ending: &Ending, open: &Open, starved: bool, outputs: &mut Vec<Output>) {
        let ran = matches!(
            ending.outcome,
            Some(Outcome::Success | Outcome::ApplicationError | Outcome::DeveloperError)
        );
        let Some(function) = self.functions.get_mut(&ending.function) else { return };
        let tells = self.settings.tells_runs;
        let expected = if tells { function.profile.expect(ending.input_bytes) } else { None };
        if starved {
            function.profile.starved();
        } else if ran {
            let init = ending.cold.then_some(ending.init);
            let Ending { function: id, duration, usage, input_bytes, .. } = *ending;
            function.profile.ended_with(input_bytes, duration, init, usage);
            if let Some(card) = function.card {
                self.applications.entry(card.application()).or_default().learn(duration);
            }
            if function.card.is_none_or(|card| card.application.is_some()) {
                function.tails.learn(duration);
            }
            self.placement.ended(self.now, &Ran { function: id, duration, usage });
        } else {
            return;
        }
        let Open { submission, submitted, grant: Some(grant), .. } = *open else { return };
        let waited = self.now.since(submitted) - ending.init - ending.duration;
        let reservation = submission.function.reservation;
        if tells {
            let seen = Seen { ending: *ending, starved, reservation, grant, waited, expected };
            outputs.push(Output::Ran(Box::new(seen)));
        }
        self.allocator.ended(&Ended {
            now: self.now,
            invocation: ending.invocation,
            function: ending.function,
            reservation,
            grant,
            input_bytes: ending.input_bytes,
            answered: ending.outcome == Some(Outcome::Success),
            starved,
            waited,
            init: ending.init,
            duration: ending.duration,
            usage: ending.usage,
            profile: &function.profile,
        });
    }

    /// It was killed for want of memory that should have been its own.
    pub(super) fn starved(&mut self, vm: VmId, ending: &Ending, outputs: &mut Vec<Output>) {
        let (id, attempt) = (ending.invocation, ending.attempt);
        self.take_foreign(vm, id, attempt);
        let slot = self.books.slot(vm);
        if let Some(slot) = slot {
            self.vms[slot].has_ended(id, attempt);
            self.vms[slot].ended_at(self.now);
        }
        if !self.is_live(vm, id, attempt) {
            outputs.push(Output::Stale { invocation: id, attempt });
            return;
        }
        // Where nothing had been taken it was the VM that had no more: the function is not to blame.
        let open = self.open[&id].clone();
        let reservation = open.submission.function.reservation;
        let was_lent = open.grant.is_some_and(|grant| grant.booked.memory < reservation.memory);
        if was_lent {
            self.learn(ending, &open, true, outputs);
        } else if let Some(slot) = slot {
            // It carries more than is booked on it. Nothing goes there before it has reported, or the two would kill each
            // other in turn.
            self.books.set_refusing(slot, true);
        }
        self.stop_running(id, attempt);
        let Some(open) = self.open.get_mut(&id) else { return };
        open.starved = true;
        open.losses += 1;
        let (losses, waited) = (open.losses, self.now.since(open.submitted));
        let why = if open.withdrawn && open.running.is_none() {
            return self.forget(id, outputs);
        } else if open.running.is_some() {
            // Another attempt of it lives.
            return self.wait_again(id, outputs);
        } else if open.submission.function.on_eviction == OnEviction::Never {
            GivenUp::StarvedAndNever { vm }
        } else if losses >= self.settings.attempts_limit.max(2) {
            GivenUp::TooManyAttempts { attempts: losses }
        } else {
            return self.wait_again(id, outputs);
        };
        self.queues.leave(id);
        self.open.remove(&id);
        outputs.push(Output::GiveUp { invocation: id, attempt, why, waited });
    }
}
