//! Connections that break again and again, and lose what is on its way.
//!
//! **Knows:** of each such connection how far it is: whole, breaking, or being made again.
//! **Promises:** what is said or told while it breaks is lost, and nobody knows. While it is made again, nobody listens there, and whoever expects
//! somebody is told so, as NATS does; what is said meanwhile comes when it is whole, in its order.
//! **Gives up:** half a message; and what a Frontend loses, whose connection does not break here.

use super::*;

/// What is on its way for so long before a connection breaks is lost (`chaos/src/wires.rs`)...
const BREAKING: Span = Span::millis(20);
/// ...and so soon the next one is made (`actors/src/bus.rs`).
const MADE_AGAIN: Span = Span::millis(60);

/// How far it is.
enum Stage<T> {
    Whole,
    Breaking,
    /// With what was said meanwhile.
    MadeAgain(Vec<T>),
}

/// A connection that breaks. `T` is what its owner says.
pub(super) struct Brittle<T> {
    every: (Span, Span),
    stage: Stage<T>,
    /// It breaks no more.
    is_over: bool,
}

impl<T> Brittle<T> {
    pub fn new(from: Span, to: Span) -> Self {
        Self { every: (from, to), stage: Stage::Whole, is_over: false }
    }

    /// What becomes of what its owner says: it comes through; it is kept here, or lost.
    pub fn says(&mut self, what: T) -> Fate<T> {
        match &mut self.stage {
            Stage::Whole => Fate::Through(what),
            Stage::Breaking => Fate::Lost(what),
            Stage::MadeAgain(said) => {
                said.push(what);
                Fate::Kept
            }
        }
    }

    /// Whether its owner hears; if not, whether it is known that nobody listens.
    pub fn hears(&self) -> Result<(), Deaf> {
        match self.stage {
            Stage::Whole => Ok(()),
            Stage::Breaking => Err(Deaf::Unknown),
            Stage::MadeAgain(_) => Err(Deaf::Known),
        }
    }

    /// It breaks no more; says whether it is whole already.
    pub fn ends(&mut self) -> bool {
        self.is_over = true;
        matches!(self.stage, Stage::Whole)
    }

    /// The next stage: after how long the one after it comes, if there is one, and what was kept.
    fn turns(&mut self, chance: &mut Chance) -> (Option<Span>, Vec<T>) {
        match std::mem::replace(&mut self.stage, Stage::Whole) {
            Stage::Whole if self.is_over => (None, Vec::new()),
            Stage::Whole => {
                self.stage = Stage::Breaking;
                (Some(BREAKING), Vec::new())
            }
            Stage::Breaking => {
                self.stage = Stage::MadeAgain(Vec::new());
                (Some(MADE_AGAIN), Vec::new())
            }
            Stage::MadeAgain(said) => {
                let lives = (!self.is_over).then(|| lives(self.every, chance));
                (lives, said)
            }
        }
    }
}

fn lives((from, to): (Span, Span), chance: &mut Chance) -> Span {
    Span(from.0 + chance.below(to.0.saturating_sub(from.0) + 1))
}

/// What becomes of something that is said.
pub(super) enum Fate<T> {
    Through(T),
    Kept,
    Lost(T),
}

/// Why somebody does not hear.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Deaf {
    Unknown,
    Known,
}

impl World {
    pub(super) fn vm_breaks(&mut self, id: VmId, every: Option<(Span, Span)>) {
        let first = every.map(|every| lives(every, &mut self.lateness));
        let now = self.now;
        let Some(vm) = self.vm(id) else { return };
        match every {
            Some((from, to)) => vm.brittle = Some(Brittle::new(from, to)),
            None if vm.brittle.as_mut().is_some_and(Brittle::ends) => vm.brittle = None,
            None => {}
        }
        if let Some(first) = first {
            self.agenda.plan(now + first, Timer::BreaksVm(id));
        }
    }

    pub(super) fn vm_connection_turns(&mut self, id: VmId) {
        let Some(vm) = self.vms.get_mut(id.0 as usize).and_then(Option::as_deref_mut) else { return };
        let Some(brittle) = &mut vm.brittle else { return };
        let (next, said) = brittle.turns(&mut self.lateness);
        match next {
            Some(next) => self.agenda.plan(self.now + next, Timer::BreaksVm(id)),
            None => vm.brittle = None,
        }
        said.into_iter().for_each(|what| self.travels(what));
    }

    /// Something that a VM has said will never arrive.
    pub(super) fn is_lost(&mut self, arrival: Timer) {
        match arrival {
            Timer::Arrives(number) => drop(self.mail.take(number)),
            Timer::ReportArrives { status, .. } => self.statuses_free.push(status),
            _ => {}
        }
    }

    /// A VM was told something and does not hear it.
    pub(super) fn vm_misses(&mut self, id: VmId, input: residency::Input, deaf: Deaf) {
        if let residency::Input::Run { from, invocation, attempt, .. } = input
            && deaf == Deaf::Known
        {
            let bounced = Letter::Bounced { vm: id, invocation, attempt };
            self.send(Message::ToController(Seat::of(from), bounced));
        }
    }

    pub(super) fn controller_breaks(&mut self, seat: Seat, every: Option<(Span, Span)>) {
        let first = every.map(|every| lives(every, &mut self.lateness));
        let now = self.now;
        let Some(controller) = self.seated(seat) else { return };
        let is_whole_for_good = match (&mut controller.way, every) {
            (way @ controllers::Way::Open, Some((from, to))) => {
                *way = controllers::Way::Brittle(Brittle::new(from, to));
                false
            }
            (controllers::Way::Brittle(brittle), None) => brittle.ends(),
            _ => false,
        };
        if is_whole_for_good {
            controller.way = controllers::Way::Open;
        }
        if let Some(first) = first {
            self.agenda.plan(now + first, Timer::BreaksController(seat));
        }
    }

    pub(super) fn controller_connection_turns(&mut self, seat: Seat) {
        let Some(controller) = self.controllers.get_mut(usize::from(seat.place)) else { return };
        let controllers::Way::Brittle(brittle) = &mut controller.way else { return };
        if controller.seat != seat {
            return;
        }
        let (next, said) = brittle.turns(&mut self.lateness);
        let is_whole = brittle.hears().is_ok();
        match next {
            Some(next) => self.agenda.plan(self.now + next, Timer::BreaksController(seat)),
            None => controller.way = controllers::Way::Open,
        }
        said.into_iter().for_each(|message| self.send(message));
        if is_whole {
            // Whoever found nobody has struck it off until it is heard.
            self.door_expects(seat);
        }
    }

    /// Something that a Controller has said will never arrive.
    pub(super) fn message_is_lost(&mut self, message: Message) {
        if let Message::Fence { invocation, .. } = message
            && let Some(open) = self.callers.get(invocation)
        {
            open.contested = true;
        }
    }

    /// A Controller was told something and does not hear it.
    pub(super) fn controller_misses(&mut self, seat: Seat, letter: Letter, deaf: Deaf) {
        match (letter, deaf) {
            (letter, Deaf::Known) => self.nobody_hears(seat, letter),
            (Letter::Submitted(invocation, _), Deaf::Unknown) => {
                if let Some(open) = self.callers.get(invocation) {
                    open.held_by &= !seat.bit();
                }
                self.will_ask_after(invocation);
            }
            _ => {}
        }
    }
}
