//! The Controllers: who they are, what became of each, and what they hear and say because of that.
//!
//! **Knows:** each one's mind, and what waits for one who is frozen or cut off.
//! **Promises:** what is meant for one that is gone never reaches the one that came in its place. Nothing is lost of one who is away,
//! and its order stays. A new one is given what the old one had learned of functions, as the store gives it to a live one.
//! **Gives up:** the last second of that, which a live one has not written yet.

use policies::residency::{End, Known, Say};
use vocabulary::ControllerId;

use super::absence::{Late, Towards};
use super::breaks::{Brittle, Fate};
use super::*;

/// A Controller: the how manieth in which place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seat {
    pub place: u16,
    pub life: u16,
}

impl Seat {
    pub const FIRST: Self = Self { place: 0, life: 0 };

    /// Its bit among those who have an invocation.
    pub fn bit(self) -> u32 {
        1 << self.place
    }

    pub fn id(self) -> ControllerId {
        ControllerId((u64::from(self.life) << 16) + u64::from(self.place) + 1)
    }

    /// Whose id that is.
    pub fn of(controller: ControllerId) -> Self {
        let number = controller.0 - 1;
        Self { place: number as u16, life: (number >> 16) as u16 }
    }
}

/// How an attempt has left a VM, as its Controllers are told.
#[derive(Debug, Clone, Copy)]
pub(super) enum Left {
    Ended { starved: bool, ending: Ending },
    HandedBack,
}

impl Left {
    fn letter(self, vm: VmId, invocation: InvocationId, attempt: Attempt) -> Letter {
        match self {
            Self::Ended { starved: true, ending } => Letter::Starved { vm, ending },
            Self::Ended { starved: false, ending } => Letter::Finished { vm, ending },
            Self::HandedBack => Letter::HandedBack { vm, invocation, attempt },
        }
    }
}

/// What becomes of one.
pub(super) enum Way {
    Open,
    Late(Late),
    Brittle(Brittle<Message>),
    Away { is_frozen: bool, heard: Vec<Letter>, said: Vec<Message> },
    Gone,
}

pub(super) struct Controller {
    pub seat: Seat,
    pub dispatch: Dispatch,
    pub wakes: Option<Moment>,
    /// What each VM said it has, in the report that it saw last.
    pub offered: Vec<Resources>,
    pub way: Way,
    /// A fault has it.
    pub busy: bool,
    /// It announces itself every half second from then on.
    pub began: Moment,
}

impl Controller {
    pub fn new(seat: Seat, dispatch: Dispatch, began: Moment) -> Self {
        Self { seat, dispatch, wakes: None, offered: Vec::new(), way: Way::Open, busy: false, began }
    }

    pub fn is_there(&self) -> bool {
        !matches!(self.way, Way::Gone)
    }

    pub fn offered_by(&mut self, vm: VmId) -> &mut Resources {
        let index = vm.0 as usize;
        if self.offered.len() <= index {
            self.offered.resize(index + 1, Resources::ZERO);
        }
        &mut self.offered[index]
    }
}

/// One more mind with the policies of these names.
fn another_mind(house: &House, names: Names) -> Dispatch {
    let known = "a house in which Controllers come names policies that there are";
    let placement = policies::placement::by_name(names.placement, &policies::placement::Settings::default())
        .expect(known);
    let allocator =
        policies::allocation::by_name(names.allocation, &policies::allocation::Settings::default())
            .expect(known);
    Dispatch::new(house.dispatch.clone(), placement, allocator)
}

impl World {
    /// Those beside the first.
    pub(super) fn plan_controllers(&mut self) {
        for place in 1..self.house.controllers.max(1) {
            let seat = Seat { place: place as u16, life: 0 };
            let mind = another_mind(&self.house, self.names);
            self.controllers.push(Controller::new(seat, mind, self.now));
            self.doors.hears_of(seat);
        }
    }

    /// The one who sits there, if it is still the same.
    pub(super) fn seated(&mut self, seat: Seat) -> Option<&mut Controller> {
        let controller = self.controllers.get_mut(usize::from(seat.place))?;
        (controller.seat == seat && controller.is_there()).then_some(controller)
    }

    /// All of them, whatever has become of them.
    pub(super) fn seats(&self) -> impl Iterator<Item = Seat> + use<> {
        let seats: Vec<Seat> = self.controllers.iter().map(|controller| controller.seat).collect();
        seats.into_iter()
    }

    /// A message for a Controller has come.
    pub(super) fn controller_hears(&mut self, seat: Seat, letter: Letter) {
        let Some(controller) = self.controllers.get_mut(usize::from(seat.place)) else { return };
        match &mut controller.way {
            _ if controller.seat != seat => self.nobody_hears(seat, letter),
            Way::Gone => self.nobody_hears(seat, letter),
            Way::Open => self.controller_reads(seat, letter),
            Way::Away { heard, .. } => heard.push(letter),
            Way::Brittle(brittle) => match brittle.hears() {
                Ok(()) => self.controller_reads(seat, letter),
                Err(deaf) => self.controller_misses(seat, letter, deaf),
            },
            Way::Late(late) => {
                let at = late.comes(Towards::Him, self.now, &mut self.lateness);
                let number = self.mail.put(Message::ToController(seat, letter));
                self.agenda.plan(at, Timer::Comes(number));
            }
        }
    }

    /// A Controller says something.
    pub(super) fn controller_sends(&mut self, seat: Seat, message: Message) {
        let leaves = self.now + self.house.network.delay;
        match self.controllers.get_mut(usize::from(seat.place)).map(|controller| &mut controller.way) {
            Some(Way::Away { said, .. }) => said.push(message),
            Some(Way::Brittle(brittle)) => match brittle.says(message) {
                Fate::Through(message) => self.send(message),
                Fate::Lost(message) => self.message_is_lost(message),
                Fate::Kept => {}
            },
            Some(Way::Late(late)) => {
                let at = late.comes(Towards::House, leaves, &mut self.lateness);
                let number = self.mail.put(message);
                self.agenda.plan(at, Timer::Arrives(number));
            }
            _ => self.send(message),
        }
    }

    /// A Controller says whose answers count: where nothing is in its way before anything else is heard, as one connection has it.
    pub(super) fn controller_fences(
        &mut self,
        seat: Seat,
        invocation: InvocationId,
        oldest_valid: Attempt,
        also: Option<Attempt>,
    ) {
        match self.seated(seat).map(|controller| &controller.way) {
            Some(Way::Away { .. } | Way::Late(_) | Way::Brittle(_)) => {
                if let Some(open) = self.callers.get(invocation) {
                    open.contested = true;
                }
                self.controller_sends(seat, Message::Fence { invocation, oldest_valid, also });
            }
            _ => self.fenced(invocation, oldest_valid, also),
        }
    }

    /// A VM says to whoever sent it a run, and to whoever has taken that over, what became of it.
    pub(super) fn vm_answers(&mut self, vm: VmId, (invocation, attempt): (InvocationId, Attempt), end: Left) {
        if !self.has_trouble {
            return self
                .vm_sends(vm, Message::ToController(Seat::FIRST, end.letter(vm, invocation, attempt)));
        }
        let sender = self.senders.remove(&(vm, invocation, attempt)).unwrap_or(Seat::FIRST);
        let now = self.now;
        let others = self.vm(vm).map(|vm| match end {
            Left::Ended { ending, .. } if ending.outcome.is_none() => {
                vm.told.called_off((invocation, attempt))
            }
            Left::Ended { .. } => vm.told.left(now, (invocation, attempt), End::Ran(end)),
            Left::HandedBack => vm.told.left(now, (invocation, attempt), End::HandedBack),
        });
        let others = others.unwrap_or_default().into_iter().map(Seat::of).filter(|&other| other != sender);
        for seat in std::iter::once(sender).chain(others) {
            self.vm_sends(vm, Message::ToController(seat, end.letter(vm, invocation, attempt)));
        }
    }

    /// Somebody asks a VM for an attempt that does not begin for him.
    pub(super) fn vm_is_asked(
        &mut self,
        vm: VmId,
        by: ControllerId,
        (invocation, attempt): (InvocationId, Attempt),
        known: Known,
    ) {
        if !self.has_trouble {
            return;
        }
        let Some(asked) = self.vm(vm) else { return };
        let say = asked.told.asked(by, (invocation, attempt), known);
        let known = |newest, runs| Letter::Known { vm, invocation, attempt, newest, runs };
        let letter = match say {
            Say::Later => return,
            Say::Again(End::Ran(left)) => left.letter(vm, invocation, attempt),
            Say::Again(End::HandedBack) => Left::HandedBack.letter(vm, invocation, attempt),
            Say::Known(Known::Here(newest)) => known(newest, true),
            Say::Known(Known::Past(newest)) => known(newest, false),
        };
        self.vm_sends(vm, Message::ToController(Seat::of(by), letter));
    }

    /// Everybody who decides is told.
    pub(super) fn vm_tells_all(&mut self, vm: VmId, letter: impl Fn() -> Letter) {
        for seat in self.seats() {
            self.vm_sends(vm, Message::ToController(seat, letter()));
        }
    }

    pub(super) fn controller_leaves(&mut self, seat: Seat, is_frozen: bool) {
        let Some(controller) = self.seated(seat) else { return };
        controller.way = Way::Away { is_frozen, heard: Vec::new(), said: Vec::new() };
        self.door_misses(seat);
    }

    pub(super) fn controller_returns(&mut self, seat: Seat) {
        let Some(controller) = self.seated(seat) else { return };
        let Way::Away { heard, said, .. } = std::mem::replace(&mut controller.way, Way::Open) else { return };
        for message in said {
            self.send(message);
        }
        for letter in heard {
            self.controller_reads(seat, letter);
        }
        // What it wished to be woken for has passed.
        let now = self.now;
        if let Some(controller) = self.seated(seat)
            && controller.wakes.is_some_and(|at| at <= now)
        {
            controller.wakes = None;
            self.tell_controller(seat, dispatch::Input::Woke);
        }
        self.door_expects(seat);
    }

    pub(super) fn controller_late(&mut self, seat: Seat, by: Option<(Span, Span)>) {
        let Some(controller) = self.seated(seat) else { return };
        match (&mut controller.way, by) {
            (way @ Way::Open, Some((from, to))) => *way = Way::Late(Late::by(from, to)),
            (Way::Late(late), by) => late.becomes(by),
            _ => {}
        }
    }

    /// It is gone, with all that it knew of invocations.
    pub(super) fn controller_dies(&mut self, seat: Seat) {
        let Some(controller) = self.seated(seat) else { return };
        controller.way = Way::Gone;
        self.callers.without(seat);
        self.door_misses(seat);
    }

    /// Another comes in its place.
    pub(super) fn controller_rises(&mut self, place: u16) {
        let now = self.now;
        let mut mind = another_mind(&self.house, self.names);
        let old = &mut self.controllers[usize::from(place)];
        for plan in &self.house.functions {
            if let Some(profile) = old.dispatch.profile(plan.card.id) {
                let (function, profile) = (plan.card.id, Box::new(profile.clone()));
                mind.handle(now, dispatch::Input::Remembered { function, profile }, &mut Vec::new());
            }
        }
        let seat = Seat { life: old.seat.life + 1, ..old.seat };
        *old = Controller::new(seat, mind, now);
        self.keep_the_wish_of(seat);
        self.door_hears(seat);
    }
}
