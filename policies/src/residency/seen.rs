//! Which attempts have been seen.
//!
//! **Knows:** the highest attempt of each invocation that was asked for, or called off, in the last minutes.
//! **Promises:** bounded memory. What is new is written behind all others, and what is old leaves in front. Beside that only a place in a
//! table of a few bytes for each is looked at, so that thousands may be remembered which are not in the processor's caches.
//! **Gives up:** duplicates that come later than that. By then the Frontend has forgotten the invocation, too.

use std::collections::VecDeque;

use vocabulary::{Attempt, InvocationId, Moment, Span};

use crate::hash::folded;

/// See the module.
#[derive(Debug)]
pub(super) struct Seen {
    /// In the order of their moments; what was noted again stands here twice, and only the later one is found.
    notes: VecDeque<Note>,
    /// The number of the first of them. They are numbered as they come, from 0 again after four billion.
    first: u32,
    /// By what is left of its hash: the number of the last note of such an invocation, if that has not left. A power of two of them, twice
    /// as many as there are notes or more.
    last: Vec<u32>,
    kept_for: Span,
    limit: usize,
}

#[derive(Debug)]
struct Note {
    at: Moment,
    id: InvocationId,
    /// The highest up to then.
    attempt: Attempt,
    /// The number of the note before it of those that share its place in `last`, if that has not left.
    before: u32,
}

impl Seen {
    pub fn new(kept_for: Span, limit: u32) -> Self {
        let limit = limit.max(1) as usize;
        Self { notes: VecDeque::new(), first: 0, last: vec![0], kept_for, limit }
    }

    /// Notes this attempt; says whether it is newer than all seen of its invocation.
    pub fn note(&mut self, now: Moment, id: InvocationId, attempt: Attempt) -> bool {
        if self.notes.len() * 2 >= self.last.len() {
            self.make_room();
        }
        let place = self.place(id);
        let highest = self.newest_at(place, id);
        let number = self.first.wrapping_add(self.notes.len() as u32);
        let before = std::mem::replace(&mut self.last[place], number);
        let newest = highest.map_or(attempt, |highest| highest.max(attempt));
        self.notes.push_back(Note { at: now, id, attempt: newest, before });
        highest.is_none_or(|highest| attempt > highest)
    }

    /// The newest attempt of this invocation that is remembered.
    pub fn newest(&self, id: InvocationId) -> Option<Attempt> {
        self.newest_at(self.place(id), id)
    }

    fn newest_at(&self, place: usize, id: InvocationId) -> Option<Attempt> {
        let mut number = self.last[place];
        let mut behind = self.notes.len();
        // A number that is no older than the one before it is that of a note which has left, four billion notes ago.
        while let at = number.wrapping_sub(self.first) as usize
            && at < behind
        {
            let note = &self.notes[at];
            if note.id == id {
                return Some(note.attempt);
            }
            (number, behind) = (note.before, at);
        }
        None
    }

    /// Forgets what is too old or too much.
    pub fn forget_old(&mut self, now: Moment) {
        while let Some(note) = self.notes.front()
            && (now.since(note.at) >= self.kept_for || self.notes.len() > self.limit)
        {
            self.notes.pop_front();
            self.first = self.first.wrapping_add(1);
        }
    }

    fn place(&self, id: InvocationId) -> usize {
        folded(&id) as usize & (self.last.len() - 1)
    }

    /// Twice as many places; every note finds its own anew.
    fn make_room(&mut self) {
        // Where nothing stands, the number is that of a note which has left.
        self.last = vec![self.first.wrapping_sub(1); (self.last.len() * 2).max(16)];
        let mut number = self.first;
        for at in 0..self.notes.len() {
            let place = self.place(self.notes[at].id);
            self.notes[at].before = std::mem::replace(&mut self.last[place], number);
            number = number.wrapping_add(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ID: InvocationId = InvocationId(1);

    #[test]
    fn an_attempt_counts_once_and_an_older_one_never() {
        let mut seen = Seen::new(Span::seconds(60), 10);
        assert!(seen.note(Moment(0), ID, Attempt(2)));
        assert!(!seen.note(Moment(1), ID, Attempt(2)));
        assert!(!seen.note(Moment(2), ID, Attempt(1)));
        assert!(seen.note(Moment(3), ID, Attempt(3)));
    }

    #[test]
    fn what_is_asked_for_again_is_remembered_longer() {
        let mut seen = Seen::new(Span::seconds(60), 10);
        seen.note(Moment::ORIGIN, ID, Attempt(1));
        seen.note(Moment::ORIGIN + Span::seconds(50), ID, Attempt(1));
        seen.forget_old(Moment::ORIGIN + Span::seconds(70));
        assert!(!seen.note(Moment::ORIGIN + Span::seconds(70), ID, Attempt(1)));
        seen.forget_old(Moment::ORIGIN + Span::seconds(200));
        assert!(seen.notes.is_empty() && seen.newest(ID).is_none());
    }

    #[test]
    fn no_more_than_the_limit_is_remembered() {
        let mut seen = Seen::new(Span::seconds(60), 10);
        for id in 0..100 {
            seen.note(Moment(id), InvocationId(id.into()), Attempt(1));
            seen.forget_old(Moment(id));
        }
        assert_eq!(seen.notes.len(), 10);
    }

    proptest! {
        #[test]
        fn it_remembers_what_a_plain_list_does(
            // Numbers begin again after four billion.
            first in prop_oneof![Just(0), Just(u32::MAX - 20)],
            steps in prop::collection::vec((0_u64..8, 0_u128..40, 1_u32..4), 0..300),
        ) {
            let (kept_for, limit) = (Span(60), 25);
            let mut seen = Seen { first, ..Seen::new(kept_for, limit) };
            let (mut list, mut now) = (Vec::new(), Moment(1_000));
            for (passed, id, attempt) in steps {
                now = now + Span(passed);
                let (id, attempt) = (InvocationId(id), Attempt(attempt));
                let highest = list.iter().filter(|&&(_, of, _)| of == id).map(|&(.., highest)| highest).max();
                prop_assert_eq!(seen.newest(id), highest);
                prop_assert_eq!(seen.note(now, id, attempt), highest.is_none_or(|highest| attempt > highest));
                list.push((now, id, attempt.max(highest.unwrap_or(attempt))));
                seen.forget_old(now);
                list.retain(|&(at, ..)| now.since(at) < kept_for);
                list.drain(..list.len().saturating_sub(limit as usize));
            }
        }
    }
}
