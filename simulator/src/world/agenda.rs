//! What will happen, in order.
//!
//! **Knows:** events with their moments.
//! **Promises:** the earliest first; of those at one moment, the one that was planned first. Messages that all take the same
//! time come out as they went in, so they stand in a row and cost no search, as does what happens again every second in a row of its
//! own; the rest is in a heap. Nothing is allocated per event.
//! **Gives up:** taking back. Who plans anew ignores what was planned before.

use std::cmp::Ordering;
use std::collections::{BinaryHeap, VecDeque};

use vocabulary::Moment;

/// See the module.
pub(super) struct Agenda<T> {
    order: u64,
    row: VecDeque<Planned<T>>,
    seconds: VecDeque<Planned<T>>,
    heap: BinaryHeap<Planned<T>>,
    /// Of each of the three, when its first one happens: asked for at every event, and changed for one of them.
    firsts: [Turn; 3],
}

/// When, and as the how manieth it was planned: one number, which is compared at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Turn(u128);

impl Turn {
    /// There is none.
    const NONE: Turn = Turn(u128::MAX);

    fn new(at: Moment, order: u64) -> Self {
        Self(u128::from(at.0) << 64 | u128::from(order))
    }

    fn at(self) -> Moment {
        Moment((self.0 >> 64) as u64)
    }
}

/// Where the next event stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Row = 0,
    Seconds = 1,
    Heap = 2,
}

/// The next event, as [`Agenda::pop`] wants it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Next {
    pub at: Moment,
    place: Place,
}

struct Planned<T> {
    turn: Turn,
    what: T,
}

impl<T> PartialEq for Planned<T> {
    fn eq(&self, other: &Self) -> bool {
        self.turn == other.turn
    }
}

impl<T> Eq for Planned<T> {}

impl<T> PartialOrd for Planned<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Planned<T> {
    /// The standard heap gives the greatest first.
    fn cmp(&self, other: &Self) -> Ordering {
        other.turn.cmp(&self.turn)
    }
}

impl<T> Agenda<T> {
    pub fn new() -> Self {
        let heap = BinaryHeap::new();
        Self { order: 0, row: VecDeque::new(), seconds: VecDeque::new(), heap, firsts: [Turn::NONE; 3] }
    }

    /// At any moment.
    #[inline]
    pub fn plan(&mut self, at: Moment, what: T) {
        let planned = self.planned(at, Place::Heap, what);
        self.heap.push(planned);
    }

    /// Never before what already stands in the row.
    #[inline]
    pub fn follow(&mut self, at: Moment, what: T) {
        debug_assert!(self.row.back().is_none_or(|last| last.turn.at() <= at), "the row is in order");
        let planned = self.planned(at, Place::Row, what);
        self.row.push_back(planned);
    }

    /// Once more, never before what already stands in that row.
    #[inline]
    pub fn again(&mut self, at: Moment, what: T) {
        debug_assert!(self.seconds.back().is_none_or(|last| last.turn.at() <= at), "the row is in order");
        let planned = self.planned(at, Place::Seconds, what);
        self.seconds.push_back(planned);
    }

    #[inline]
    fn planned(&mut self, at: Moment, place: Place, what: T) -> Planned<T> {
        self.order += 1;
        let turn = Turn::new(at, self.order);
        let first = &mut self.firsts[place as usize];
        *first = turn.min(*first);
        Planned { turn, what }
    }

    /// What happens next, and when; at [`Moment::NEVER`] if nothing does.
    #[inline]
    pub fn next(&self) -> Next {
        let [row, seconds, heap] = self.firsts;
        if row < seconds && row < heap {
            Next { at: row.at(), place: Place::Row }
        } else if seconds < heap {
            Next { at: seconds.at(), place: Place::Seconds }
        } else {
            Next { at: heap.at(), place: Place::Heap }
        }
    }

    /// Takes it out. Nothing may have been planned since [`Agenda::next`] said so.
    #[inline]
    pub fn pop(&mut self, next: Next) -> Option<T> {
        let (popped, first) = match next.place {
            Place::Row => (self.row.pop_front(), self.row.front()),
            Place::Seconds => (self.seconds.pop_front(), self.seconds.front()),
            Place::Heap => (self.heap.pop(), self.heap.peek()),
        };
        self.firsts[next.place as usize] = first.map_or(Turn::NONE, |first| first.turn);
        popped.map(|popped| popped.what)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earliest_comes_first_and_of_equals_the_one_planned_first() {
        let mut agenda: Agenda<u32> = Agenda::new();
        agenda.plan(Moment(5), 1);
        agenda.follow(Moment(5), 2);
        agenda.plan(Moment(3), 3);
        agenda.follow(Moment(7), 4);
        agenda.plan(Moment(7), 5);
        agenda.again(Moment(5), 7);
        agenda.plan(Moment(5), 6);
        let mut seen = Vec::new();
        let mut last = Moment::ORIGIN;
        while let next = agenda.next()
            && let Some(what) = agenda.pop(next)
        {
            assert!(next.at >= last && next.at < Moment::NEVER);
            last = next.at;
            seen.push(what);
        }
        assert_eq!(seen, [3, 1, 2, 7, 6, 4, 5]);
        assert_eq!(agenda.next().at, Moment::NEVER);
    }
}
