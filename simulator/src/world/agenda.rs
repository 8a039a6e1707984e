//! What will happen, in order.
//!
//! **Knows:** events with their moments.
//! **Promises:** the earliest first; of those at one moment, the one that was planned first. Messages that all take the same
//! time come out as they went in, so they stand in a row and cost no search; the rest is in a heap. Nothing is allocated
//! per event.
//! **Gives up:** taking back. Who plans anew ignores what was planned before.

use std::cmp::Ordering;
use std::collections::{BinaryHeap, VecDeque};

use vocabulary::Moment;

/// See the module. `R` is what stands in the row, `H` what lies in the heap.
pub(super) struct Agenda<R, H> {
    order: u64,
    row: VecDeque<(Moment, u64, R)>,
    heap: BinaryHeap<Planned<H>>,
}

/// What happens next.
pub(super) enum Next<R, H> {
    Row(R),
    Heap(H),
}

struct Planned<H> {
    at: Moment,
    order: u64,
    what: H,
}

impl<H> PartialEq for Planned<H> {
    fn eq(&self, other: &Self) -> bool {
        self.order == other.order
    }
}

impl<H> Eq for Planned<H> {}

impl<H> PartialOrd for Planned<H> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<H> Ord for Planned<H> {
    /// The standard heap gives the greatest first.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.order).cmp(&(self.at, self.order))
    }
}

impl<R, H> Agenda<R, H> {
    pub fn new() -> Self {
        Self { order: 0, row: VecDeque::new(), heap: BinaryHeap::new() }
    }

    /// At any moment.
    #[inline]
    pub fn plan(&mut self, at: Moment, what: H) {
        self.order += 1;
        self.heap.push(Planned { at, order: self.order, what });
    }

    /// Never before what already stands in the row.
    #[inline]
    pub fn follow(&mut self, at: Moment, what: R) {
        debug_assert!(self.row.back().is_none_or(|&(last, ..)| last <= at), "the row is in order");
        self.order += 1;
        self.row.push_back((at, self.order, what));
    }

    /// When the next thing happens.
    #[inline]
    pub fn next_at(&self) -> Option<Moment> {
        let row = self.row.front().map(|&(at, ..)| at);
        let heap = self.heap.peek().map(|planned| planned.at);
        match (row, heap) {
            (Some(row), Some(heap)) => Some(row.min(heap)),
            (row, heap) => row.or(heap),
        }
    }

    /// The next thing that happens.
    #[inline]
    pub fn pop(&mut self) -> Option<(Moment, Next<R, H>)> {
        let row = self.row.front().map(|&(at, order, _)| (at, order));
        let heap = self.heap.peek().map(|planned| (planned.at, planned.order));
        let from_row = match (row, heap) {
            (Some(row), Some(heap)) => row < heap,
            (row, _) => row.is_some(),
        };
        if from_row {
            self.row.pop_front().map(|(at, _, what)| (at, Next::Row(what)))
        } else {
            self.heap.pop().map(|planned| (planned.at, Next::Heap(planned.what)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earliest_comes_first_and_of_equals_the_one_planned_first() {
        let mut agenda: Agenda<u32, u32> = Agenda::new();
        agenda.plan(Moment(5), 1);
        agenda.follow(Moment(5), 2);
        agenda.plan(Moment(3), 3);
        agenda.follow(Moment(7), 4);
        agenda.plan(Moment(7), 5);
        agenda.plan(Moment(5), 6);
        let mut seen = Vec::new();
        while let Some(at) = agenda.next_at() {
            let (popped, what) = agenda.pop().unwrap();
            assert_eq!(at, popped);
            seen.push(match what {
                Next::Row(what) | Next::Heap(what) => what,
            });
        }
        assert_eq!(seen, [3, 1, 2, 6, 4, 5]);
    }
}
