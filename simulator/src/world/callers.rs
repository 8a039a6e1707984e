//! Those who have called and wait for an answer.
//!
//! **Knows:** each call until its caller and every Controller that was given it are done with it.
//! **Promises:** an invocation's id says where its call is kept, and ids grow with time; a call that has ended is not taken for
//! the next one in its place.
//! **Gives up:** remembering.

use vocabulary::{Attempt, InvocationId, Moment};

use super::controllers::Seat;
use crate::plan::Call;

/// What an answer says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answered {
    WithSuccess,
    OutOfMemory,
    TimedOut,
}

/// A call.
#[derive(Debug, Clone, Copy)]
pub(super) struct Open {
    serial: u64,
    pub call: Call,
    pub since: Moment,
    /// The attempt from which on answers count.
    pub oldest_valid: Attempt,
    /// Besides, those of this one count.
    pub also_valid: Option<Attempt>,
    pub sent: bool,
    /// At which door its caller stands.
    pub door: u16,
    /// Who was asked last to have it run; none while nobody is known.
    pub controller: Option<Seat>,
    /// The same, whatever has become of him.
    pub asked: Option<Seat>,
    /// Somebody else was asked before, or the door hears late which answers count: what a Controller does may be void.
    pub contested: bool,
    /// Controllers that have not said their last word on it, by their places.
    pub held_by: u32,
    /// The attempt to begin with.
    pub first_attempt: Attempt,
    /// It was answered, refused or given up: its caller is done.
    pub done: bool,
    /// It counts.
    pub measured: bool,
    /// Its caller waits for as long as it takes.
    pub durable: bool,
}

impl Open {
    /// Whether an answer of this attempt counts.
    pub fn counts(&self, attempt: Attempt) -> bool {
        attempt >= self.oldest_valid || self.also_valid == Some(attempt)
    }
}

/// All of them.
#[derive(Default)]
pub(super) struct Callers {
    slots: Vec<Option<Open>>,
    free: Vec<u32>,
    made: u64,
    open: usize,
}

/// The number of the call, counted from 1.
pub(super) fn serial(id: InvocationId) -> u64 {
    (id.0 >> 32) as u64
}

impl Callers {
    pub fn is_empty(&self) -> bool {
        self.open == 0
    }

    /// Those whose call has not ended.
    pub fn all(&self) -> Vec<InvocationId> {
        let mut all: Vec<_> = self
            .slots
            .iter()
            .enumerate()
            .filter_map(|(slot, open)| Some(id(open.as_ref()?.serial, slot)))
            .collect();
        all.sort_unstable();
        all
    }

    pub fn open(
        &mut self,
        now: Moment,
        call: Call,
        door: u16,
        measured: bool,
        durable: bool,
    ) -> InvocationId {
        self.made += 1;
        self.open += 1;
        let open = Open {
            serial: self.made,
            call,
            since: now,
            oldest_valid: Attempt::FIRST,
            also_valid: None,
            sent: false,
            door,
            controller: None,
            asked: None,
            contested: false,
            held_by: 0,
            first_attempt: Attempt::FIRST,
            done: false,
            measured,
            durable,
        };
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            (self.slots.len() - 1) as u32
        });
        self.slots[slot as usize] = Some(open);
        id(self.made, slot as usize)
    }

    #[inline]
    pub fn get(&mut self, id: InvocationId) -> Option<&mut Open> {
        let open = self.slots.get_mut(id.0 as u32 as usize)?.as_mut()?;
        (open.serial == serial(id)).then_some(open)
    }

    /// Whoever sat there knows of nothing any more.
    pub fn without(&mut self, seat: Seat) {
        for invocation in self.all() {
            if let Some(open) = self.get(invocation) {
                open.held_by &= !seat.bit();
            }
            self.forget_if_done(invocation);
        }
    }

    /// Forgets it if nobody will ask for it any more.
    pub fn forget_if_done(&mut self, id: InvocationId) {
        if self.get(id).is_some_and(|open| open.held_by == 0 && open.done) {
            let slot = id.0 as u32;
            self.slots[slot as usize] = None;
            self.free.push(slot);
            self.open -= 1;
        }
    }
}

fn id(serial: u64, slot: usize) -> InvocationId {
    InvocationId(u128::from(serial) << 32 | slot as u128)
}
