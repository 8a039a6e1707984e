//! How long invocations take, with their tail.
//!
//! **Knows:** each duration that was learned, by the quarter of an octave; and exactly, how many were longer than the grace
//! period, by how much, and the longest.
//! **Promises:** few bytes for a function that always takes about as long; old durations count half after every 65,536 new
//! ones, except for the longest, which is kept.
//! **Gives up:** telling apart durations within a fifth of each other, and all below a millisecond.

use vocabulary::Span;

use super::GRACE;

/// After so many, all counts are halved.
const MEMORY: u32 = 65_536;

/// See the module.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tails {
    /// How many fell into each bucket, sorted by bucket; most functions need a few.
    counts: Vec<(u8, u32)>,
    seen: u32,
    /// How many were longer than the grace period, and by how much together.
    over: u32,
    excess_us: u64,
    longest: Span,
}

impl Tails {
    /// Of what has never ended.
    pub const NOTHING: Tails =
        Tails { counts: Vec::new(), seen: 0, over: 0, excess_us: 0, longest: Span::ZERO };

    /// One more.
    pub fn learn(&mut self, duration: Span) {
        let bucket = bucket(duration);
        match self.counts.binary_search_by_key(&bucket, |&(at, _)| at) {
            Ok(found) => self.counts[found].1 += 1,
            Err(place) => self.counts.insert(place, (bucket, 1)),
        }
        self.seen += 1;
        if duration > GRACE {
            self.over += 1;
            self.excess_us = self.excess_us.saturating_add((duration - GRACE).as_micros());
        }
        self.longest = self.longest.max(duration);
        if self.seen >= MEMORY {
            self.halve();
        }
    }

    fn halve(&mut self) {
        self.counts.retain_mut(|(_, count)| {
            *count /= 2;
            *count > 0
        });
        self.seen = self.counts.iter().map(|&(_, count)| count).sum();
        // What was seen at all must not become invisible by rounding.
        self.over = self.over.div_ceil(2).min(self.seen);
        self.excess_us = self.excess_us.div_ceil(2);
    }

    /// How many are remembered.
    pub fn seen(&self) -> u32 {
        self.seen
    }

    /// How many of them were longer than the grace period.
    pub fn over_grace(&self) -> u32 {
        self.over
    }

    /// The longest ever.
    pub fn longest(&self) -> Span {
        self.longest
    }

    /// By how much one invocation is longer than the grace period, on average over all: those that end within it count 0.
    /// `None` before any was seen.
    pub fn mean_excess(&self) -> Option<Span> {
        (self.seen > 0).then(|| Span(self.excess_us / u64::from(self.seen)))
    }

    /// How many took at least about this long: a bucket's all or none, by its upper end.
    pub fn at_least(&self, duration: Span) -> u32 {
        let first = bucket(duration);
        self.counts.iter().filter(|&&(at, _)| at >= first).map(|&(_, count)| count).sum()
    }
}

/// Four buckets per doubling, from a millisecond on: the octave, and which quarter of it.
fn bucket(duration: Span) -> u8 {
    let millis = duration.as_millis();
    if millis == 0 {
        return 0;
    }
    let octave = millis.ilog2();
    let quarter = duration.scaled(4, 1_000 << octave).0 as u32 - 4;
    (1 + octave * 4 + quarter.min(3)).min(u32::from(u8::MAX)) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_grow_by_a_quarter_of_an_octave() {
        assert_eq!((bucket(Span::ZERO), bucket(Span(999))), (0, 0));
        assert_eq!((bucket(Span::millis(1)), bucket(Span(1_249)), bucket(Span(1_250))), (1, 1, 2));
        assert_eq!((bucket(Span(1_999)), bucket(Span::millis(2)), bucket(Span(2_500))), (4, 5, 6));
        let mut last = 0;
        for power in 0..64 {
            let next = bucket(Span(1 << power));
            assert!(next >= last, "2^{power}");
            last = next;
        }
        assert!(bucket(Span::FOREVER) < u8::MAX);
    }

    #[test]
    fn what_is_longer_than_the_grace_period_is_counted_exactly() {
        let mut tails = Tails::default();
        for seconds in [1, 30, 31, 60] {
            tails.learn(Span::seconds(seconds));
        }
        assert_eq!((tails.seen(), tails.over_grace(), tails.longest()), (4, 2, Span::seconds(60)));
        // One and thirty seconds over, among four.
        assert_eq!(tails.mean_excess(), Some(Span::millis(7_750)));
        assert_eq!((tails.at_least(Span::seconds(20)), tails.at_least(Span::seconds(55))), (3, 1));
        assert_eq!(Tails::default().mean_excess(), None);
    }

    #[test]
    fn old_durations_fade_and_the_longest_stays() {
        let mut tails = Tails::default();
        (0..200).for_each(|_| tails.learn(Span::seconds(100)));
        (0..20 * MEMORY).for_each(|_| tails.learn(Span::millis(5)));
        assert!(tails.at_least(Span::seconds(90)) <= 1, "{tails:?}");
        assert!(tails.seen() < MEMORY);
        assert_eq!((tails.over_grace(), tails.longest()), (1, Span::seconds(100)));
    }
}
