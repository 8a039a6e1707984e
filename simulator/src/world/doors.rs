//! The doors: which Controller has a call, and what becomes of it when that one is not there.
//!
//! **Knows:** which Controllers are believed to be there, and what waits at a door whose keeper does nothing.
//! **Promises:** what a live Frontend does (`actors/src/frontend/controllers.rs`, `actors/src/frontend/recovery.rs`): the owner of a function is drawn by
//! rendezvous among those; one is struck off when a submission finds nobody there or when it has not announced itself for 1.6 s; what
//! it had goes to the next owner, under the attempts that still count. What its Controller has forgotten and nobody has answered is
//! submitted again after a while, under attempts of its own. Who has come to a door stays there.
//! **Gives up:** doors that believe otherwise than others, and doors that are gone.

use vocabulary::FunctionId;

use super::controllers::Seat;
use super::*;

/// Controllers announce themselves so often...
const ANNOUNCED: Span = Span::millis(500);
/// ...and are given up after so long without.
const SILENCE: Span = Span::millis(1_600);
/// What nothing was heard of for so long is asked after.
const ASKED_AFTER: Span = Span::seconds(5);
/// Attempts of one submission, before those of the next.
const ATTEMPTS: u32 = 1_000;

/// See the module.
pub(super) struct Doors {
    known: Vec<Seat>,
    keepers: Vec<Keeper>,
    chance: Chance,
}

/// Who keeps a door.
#[derive(Default)]
struct Keeper {
    /// He does nothing: calls that he should submit, and answers that he should pass on.
    frozen: Option<(Vec<InvocationId>, Vec<Message>)>,
}

impl Doors {
    pub fn new(house: &House) -> Self {
        let keepers = (0..house.doors.max(1)).map(|_| Keeper::default()).collect();
        Self { known: Vec::new(), keepers, chance: Chance::new(house.seed, 0x646f_6f72) }
    }

    /// To whom the next call comes.
    pub fn any(&mut self) -> u16 {
        let count = self.keepers.len() as u64;
        if count > 1 { self.chance.below(count) as u16 } else { 0 }
    }

    /// A keeper who is well, from now on frozen.
    pub fn freeze(&mut self, draw: u32) -> Option<u16> {
        let well: Vec<usize> =
            (0..self.keepers.len()).filter(|&door| self.keepers[door].frozen.is_none()).collect();
        let &chosen = well.get(draw as usize % well.len().max(1))?;
        self.keepers[chosen].frozen = Some(Default::default());
        u16::try_from(chosen).ok()
    }

    pub fn hears_of(&mut self, seat: Seat) -> bool {
        let is_new = !self.known.contains(&seat);
        if is_new {
            self.known.push(seat);
        }
        is_new
    }

    fn knows(&self, seat: Seat) -> bool {
        self.known.contains(&seat)
    }

    fn owner(&self, function: FunctionId) -> Option<Seat> {
        if let [only] = self.known[..] {
            return Some(only);
        }
        self.known.iter().copied().max_by_key(|seat| {
            (Chance::one_of_many(function.0, OWNER, seat.id().0).below(u64::MAX), seat.id().0)
        })
    }
}

/// The purpose of chance by which owners are drawn.
const OWNER: u64 = 0x006f_776e_6572;

impl World {
    /// Sends a call to whoever owns its function; if nobody does, it waits for somebody to be heard.
    pub(super) fn submit(&mut self, invocation: InvocationId) {
        let Some(open) = self.callers.get(invocation).filter(|open| !open.done) else { return };
        if let Some((calls, _)) = &mut self.doors.keepers[usize::from(open.door)].frozen {
            return calls.push(invocation);
        }
        let function = self.house.functions[open.call.function as usize].card.id;
        open.controller = self.doors.owner(function);
        let Some(seat) = open.controller else { return };
        open.contested |= open.asked.is_some_and(|before| before != seat);
        open.asked = Some(seat);
        open.held_by |= seat.bit();
        let first = open.first_attempt;
        self.send(Message::ToController(seat, Letter::Submitted(invocation, first)));
    }

    /// An answer comes to the door, and is passed on if its keeper does anything.
    pub(super) fn door_passes_on(&mut self, invocation: InvocationId, answer: Message) -> Option<Message> {
        let open = self.callers.get(invocation)?;
        match &mut self.doors.keepers[usize::from(open.door)].frozen {
            Some((_, answers)) => {
                answers.push(answer);
                None
            }
            None => Some(answer),
        }
    }

    /// A keeper goes on as if nothing had been.
    pub(super) fn door_thaws(&mut self, door: u16) {
        let Some((calls, answers)) = self.doors.keepers[usize::from(door)].frozen.take() else { return };
        for answer in answers {
            self.arrives(answer);
        }
        for invocation in calls {
            self.submit(invocation);
        }
    }

    /// A Controller falls silent: three announcements later it is struck off.
    pub(super) fn door_misses(&mut self, seat: Seat) {
        let now = self.now;
        let Some(controller) = self.controllers.get(usize::from(seat.place)) else { return };
        let since_last = now.since(controller.began).0 % ANNOUNCED.0;
        self.agenda.plan(now + (SILENCE - Span(since_last)), Timer::Silent(seat));
    }

    /// It is back, and will announce itself.
    pub(super) fn door_expects(&mut self, seat: Seat) {
        let now = self.now;
        let Some(controller) = self.seated(seat) else { return };
        let since_last = now.since(controller.began).0 % ANNOUNCED.0;
        self.agenda.plan(now + Span(ANNOUNCED.0 - since_last), Timer::Announced(seat));
    }

    /// So long nothing was heard of it, unless it has come back since.
    pub(super) fn door_counts(&mut self, seat: Seat) {
        let is_away = |way: &controllers::Way| matches!(way, controllers::Way::Away { .. });
        if self.seated(seat).is_none_or(|controller| is_away(&controller.way)) {
            self.door_strikes(seat);
        }
    }

    pub(super) fn door_hears(&mut self, seat: Seat) {
        let is_there = self.seated(seat).is_some_and(|it| !matches!(it.way, controllers::Way::Away { .. }));
        if is_there && self.doors.hears_of(seat) {
            self.reroute_orphans();
        }
    }

    fn door_strikes(&mut self, seat: Seat) {
        if self.doors.knows(seat) {
            self.doors.known.retain(|known| *known != seat);
            self.reroute_orphans();
        }
    }

    /// What came for one who is gone. A submission that finds nobody is told so.
    pub(super) fn nobody_hears(&mut self, seat: Seat, letter: Letter) {
        if let Letter::Submitted(invocation, _) = letter {
            // Nobody took it, unless whoever came in its place has it by now.
            if let Some(open) = self.callers.get(invocation)
                && open.controller.is_none_or(|now| now.place != seat.place || now == seat)
            {
                open.held_by &= !seat.bit();
            }
            self.door_strikes(seat);
            self.callers.forget_if_done(invocation);
        }
    }

    fn reroute_orphans(&mut self) {
        for invocation in self.callers.all() {
            let Some(open) = self.callers.get(invocation).filter(|open| !open.done) else { continue };
            if open.controller.is_some_and(|seat| self.doors.knows(seat)) {
                continue;
            }
            if open.controller.is_some() {
                self.tally.resubmitted();
            }
            open.first_attempt = open.first_attempt.max(open.oldest_valid);
            self.submit(invocation);
        }
    }

    /// Whose answers count from now on. What is older than what was heard last is not listened to.
    pub(super) fn fenced(&mut self, invocation: InvocationId, oldest_valid: Attempt, also: Option<Attempt>) {
        if let Some(open) = self.callers.get(invocation)
            && oldest_valid >= open.oldest_valid
        {
            (open.oldest_valid, open.also_valid) = (oldest_valid, also);
        }
    }

    /// Its Controllers have forgotten it, and its caller waits.
    pub(super) fn will_ask_after(&mut self, invocation: InvocationId) {
        if self.has_trouble {
            let number = self.mail.put(Message::Missed(invocation));
            self.agenda.plan(self.now + ASKED_AFTER, Timer::Arrives(number));
        }
    }

    pub(super) fn asks_after(&mut self, invocation: InvocationId) {
        let Some(open) = self.callers.get(invocation).filter(|open| !open.done && open.held_by == 0) else {
            return;
        };
        open.first_attempt = Attempt((open.first_attempt.0 / ATTEMPTS + 1) * ATTEMPTS + 1);
        self.tally.resubmitted();
        self.submit(invocation);
    }
}
