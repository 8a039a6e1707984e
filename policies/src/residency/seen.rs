//! Which attempts have been seen.
//!
//! **Knows:** the highest attempt of each invocation that was asked for, or called off, in the last minutes.
//! **Promises:** bounded memory.
//! **Gives up:** duplicates that come later than that. By then the Frontend has forgotten the invocation, too.

use std::collections::VecDeque;
use std::collections::hash_map::Entry;

use vocabulary::{Attempt, InvocationId, Moment, Span};

use crate::hash::Map;

/// See the module.
#[derive(Debug)]
pub(super) struct Seen {
    highest: Map<InvocationId, (Attempt, Moment)>,
    /// In the order of their moments; an entry that has been renewed since stands here twice.
    order: VecDeque<(Moment, InvocationId)>,
    kept_for: Span,
    limit: usize,
}

impl Seen {
    pub fn new(kept_for: Span, limit: u32) -> Self {
        Self { highest: Map::default(), order: VecDeque::new(), kept_for, limit: limit.max(1) as usize }
    }

    /// Notes this attempt; says whether it is newer than all seen of its invocation.
    pub fn note(&mut self, now: Moment, id: InvocationId, attempt: Attempt) -> bool {
        self.order.push_back((now, id));
        match self.highest.entry(id) {
            Entry::Vacant(entry) => {
                entry.insert((attempt, now));
                true
            }
            Entry::Occupied(mut entry) => {
                let (highest, noted) = entry.get_mut();
                let is_newer = attempt > *highest;
                (*highest, *noted) = (attempt.max(*highest), now);
                is_newer
            }
        }
    }

    /// The newest attempt of this invocation that is remembered.
    pub fn newest(&self, id: InvocationId) -> Option<Attempt> {
        self.highest.get(&id).map(|&(attempt, _)| attempt)
    }

    /// Forgets what is too old or too much.
    pub fn forget_old(&mut self, now: Moment) {
        while let Some(&(noted, id)) = self.order.front()
            && (now.since(noted) >= self.kept_for || self.order.len() > self.limit)
        {
            self.order.pop_front();
            if let Entry::Occupied(entry) = self.highest.entry(id)
                && entry.get().1 == noted
            {
                entry.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
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
        assert!(seen.highest.is_empty() && seen.order.is_empty());
    }

    #[test]
    fn no_more_than_the_limit_is_remembered() {
        let mut seen = Seen::new(Span::seconds(60), 10);
        for id in 0..100 {
            seen.note(Moment(id), InvocationId(id.into()), Attempt(1));
            seen.forget_old(Moment(id));
        }
        assert_eq!(seen.highest.len(), 10);
    }
}
