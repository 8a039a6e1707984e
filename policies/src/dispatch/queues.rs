//! Who waits for a place.
//!
//! **Knows:** one first-in-first-out queue per function, since when each one waits and how long it will.
//! **Promises:** every step is logarithmic in the number that waits; functions take turns.
//! **Gives up:** limits. Who may join is decided by the caller.

use std::collections::{BTreeSet, VecDeque};

use vocabulary::{FunctionId, InvocationId, Moment, Span};

use crate::hash::Map;

/// Tells apart two stays of one invocation in the same queue.
type Ticket = u64;

#[derive(Debug, Clone, Copy)]
struct Waiting {
    function: FunctionId,
    ticket: Ticket,
    since: Moment,
    deadline: Moment,
}

#[derive(Debug, Default)]
struct Queue {
    /// Those who left are skipped when they come to the front; at most as many as wait, and a few more.
    entries: VecDeque<(Ticket, InvocationId)>,
    live: u32,
    declining: Option<Declining>,
}

/// All of a queue wait for a sandbox that is there, although another could be made.
#[derive(Debug, Clone, Copy)]
struct Declining {
    /// When that was last decided, and how many waited then.
    at: Moment,
    waiting: u32,
    /// How long they had waited for it by then, all together.
    waited: Span,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Queues {
    waiting: Map<InvocationId, Waiting>,
    queues: Map<FunctionId, Queue>,
    /// Whose turn it is; functions without a queue are skipped when they come to the front.
    rotation: VecDeque<FunctionId>,
    in_rotation: BTreeSet<FunctionId>,
    by_age: BTreeSet<(Moment, Ticket, InvocationId)>,
    deadlines: BTreeSet<(Moment, InvocationId)>,
    tickets: Ticket,
}

impl Queues {
    pub fn len(&self) -> u32 {
        self.waiting.len() as u32
    }

    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Functions with somebody waiting.
    pub fn functions(&self) -> u32 {
        self.queues.len() as u32
    }

    /// How many wait, of each function with somebody waiting; in no order that means anything.
    pub fn by_function(&self) -> impl Iterator<Item = (FunctionId, u32)> {
        self.queues.iter().map(|(&function, queue)| (function, queue.live))
    }

    /// How many of this function wait.
    pub fn live(&self, function: FunctionId) -> u32 {
        self.queues.get(&function).map_or(0, |queue| queue.live)
    }

    /// How long those of this function have waited, all together, for a sandbox that was there although another could have been made:
    /// since the queue was last empty, or one was made or had no room.
    pub fn declined(&self, function: FunctionId, now: Moment) -> Span {
        let declining = self.queues.get(&function).and_then(|queue| queue.declining);
        declining.map_or(Span::ZERO, |Declining { at, waiting, waited }| {
            waited + now.since(at).scaled(u64::from(waiting), 1)
        })
    }

    /// They wait on, although another could be made.
    pub fn decline(&mut self, function: FunctionId, now: Moment) {
        let waited = self.declined(function, now);
        if let Some(queue) = self.queues.get_mut(&function) {
            queue.declining = Some(Declining { at: now, waiting: queue.live, waited });
        }
    }

    /// One is made, or there is no room for one.
    pub fn decline_no_more(&mut self, function: FunctionId) {
        if let Some(queue) = self.queues.get_mut(&function) {
            queue.declining = None;
        }
    }

    /// Whether it waits.
    pub fn waits(&self, id: InvocationId) -> bool {
        self.waiting.contains_key(&id)
    }

    /// At the end, or (`front`) before all others of its function. Must not wait already.
    pub fn join(
        &mut self,
        id: InvocationId,
        function: FunctionId,
        since: Moment,
        deadline: Moment,
        front: bool,
    ) {
        self.tickets += 1;
        let ticket = self.tickets;
        let queue = self.queues.entry(function).or_default();
        if front {
            queue.entries.push_front((ticket, id));
        } else {
            queue.entries.push_back((ticket, id));
        }
        queue.live += 1;
        if self.in_rotation.insert(function) {
            self.rotation.push_back(function);
        }
        self.waiting.insert(id, Waiting { function, ticket, since, deadline });
        self.by_age.insert((since, ticket, id));
        self.deadlines.insert((deadline, id));
    }

    /// Whether it waited.
    #[inline]
    pub fn leave(&mut self, id: InvocationId) -> bool {
        !self.is_empty() && self.leave_if_waiting(id)
    }

    fn leave_if_waiting(&mut self, id: InvocationId) -> bool {
        let Some(Waiting { function, ticket, since, deadline }) = self.waiting.remove(&id) else {
            return false;
        };
        self.by_age.remove(&(since, ticket, id));
        self.deadlines.remove(&(deadline, id));
        let queue = self.queues.get_mut(&function).expect("who waits, waits in a queue");
        queue.live -= 1;
        if queue.live == 0 {
            self.queues.remove(&function);
        } else if queue.entries.front() == Some(&(ticket, id)) {
            queue.entries.pop_front();
        } else if queue.entries.len() > 2 * queue.live as usize + 16 {
            let waiting = &self.waiting;
            queue.entries.retain(|(ticket, id)| waiting.get(id).is_some_and(|w| w.ticket == *ticket));
        }
        true
    }

    /// Who of this function is next, and since when it waits.
    pub fn head(&mut self, function: FunctionId) -> Option<(InvocationId, Moment)> {
        let queue = self.queues.get_mut(&function)?;
        while let Some(&(ticket, id)) = queue.entries.front() {
            match self.waiting.get(&id) {
                Some(waiting) if waiting.ticket == ticket => return Some((id, waiting.since)),
                _ => queue.entries.pop_front(),
            };
        }
        None
    }

    /// Whose turn it is, without taking it.
    pub fn turn(&mut self) -> Option<FunctionId> {
        while let Some(function) = self.rotation.front().copied() {
            if self.queues.contains_key(&function) {
                return Some(function);
            }
            self.rotation.pop_front();
            self.in_rotation.remove(&function);
        }
        None
    }

    /// The function whose turn it was goes to the end.
    pub fn turn_taken(&mut self) {
        if let Some(function) = self.rotation.pop_front() {
            self.rotation.push_back(function);
        }
    }

    /// From the one that has waited longest.
    pub fn oldest(&self) -> impl Iterator<Item = (Moment, InvocationId)> {
        self.by_age.iter().map(|&(since, _, id)| (since, id))
    }

    /// When the next one loses patience.
    pub fn next_deadline(&self) -> Option<Moment> {
        self.deadlines.first().map(|&(deadline, _)| deadline).filter(|&deadline| deadline < Moment::NEVER)
    }

    /// Somebody who has lost patience by now.
    pub fn expired(&self, now: Moment) -> Option<InvocationId> {
        self.deadlines
            .first()
            .filter(|&&(deadline, _)| deadline <= now && deadline < Moment::NEVER)
            .map(|&(_, id)| id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const F: FunctionId = FunctionId(1);
    const G: FunctionId = FunctionId(2);

    fn join(queues: &mut Queues, id: u128, function: FunctionId, front: bool) {
        queues.join(InvocationId(id), function, Moment(id as u64), Moment(100 + id as u64), front);
    }

    fn head(queues: &mut Queues, function: FunctionId) -> Option<u128> {
        queues.head(function).map(|(id, _)| id.0)
    }

    #[test]
    fn who_came_first_goes_first_except_who_was_sent_back() {
        let mut queues = Queues::default();
        for id in 1..=3 {
            join(&mut queues, id, F, false);
        }
        join(&mut queues, 9, F, true);
        for expected in [9, 1, 2, 3] {
            assert_eq!(head(&mut queues, F), Some(expected));
            assert!(queues.leave(InvocationId(expected)));
        }
        assert!(queues.is_empty());
        assert_eq!(queues.turn(), None);
        assert!(!queues.leave(InvocationId(1)));
    }

    #[test]
    fn one_who_leaves_from_the_middle_and_comes_back_is_not_served_twice() {
        let mut queues = Queues::default();
        for id in 1..=3 {
            join(&mut queues, id, F, false);
        }
        queues.leave(InvocationId(2));
        join(&mut queues, 2, F, false);
        for expected in [1, 3, 2] {
            assert_eq!(head(&mut queues, F), Some(expected));
            queues.leave(InvocationId(expected));
        }
        assert_eq!(head(&mut queues, F), None);
    }

    #[test]
    fn functions_take_turns() {
        let mut queues = Queues::default();
        join(&mut queues, 1, F, false);
        join(&mut queues, 2, F, false);
        join(&mut queues, 3, G, false);
        assert_eq!(queues.turn(), Some(F));
        queues.turn_taken();
        assert_eq!(queues.turn(), Some(G));
        queues.turn_taken();
        assert_eq!(queues.turn(), Some(F));
        queues.leave(InvocationId(3));
        queues.turn_taken();
        assert_eq!(queues.turn(), Some(F));
        assert_eq!((queues.len(), queues.functions(), queues.live(F)), (2, 1, 2));
    }

    #[test]
    fn patience_ends_in_order_and_never_for_who_has_no_end() {
        let mut queues = Queues::default();
        join(&mut queues, 5, F, false);
        join(&mut queues, 4, G, false);
        queues.join(InvocationId(1), G, Moment(0), Moment::NEVER, false);
        assert_eq!(queues.next_deadline(), Some(Moment(104)));
        assert_eq!(queues.expired(Moment(103)), None);
        assert_eq!(queues.expired(Moment(104)), Some(InvocationId(4)));
        queues.leave(InvocationId(4));
        queues.leave(InvocationId(5));
        assert_eq!((queues.next_deadline(), queues.expired(Moment::NEVER)), (None, None));
        assert_eq!(queues.oldest().next(), Some((Moment(0), InvocationId(1))));
    }

    #[test]
    fn those_who_left_do_not_pile_up() {
        let mut queues = Queues::default();
        join(&mut queues, 0, F, false);
        for id in 1..10_000 {
            join(&mut queues, id, F, false);
            queues.leave(InvocationId(id));
        }
        assert!(queues.queues[&F].entries.len() < 32);
    }
}
