//! How often a function is asked for.
//!
//! **Knows:** the moments of the last minute's arrivals, by the five seconds.
//! **Promises:** unbiased for steady arrivals, and falls to zero within a minute of silence without anybody
//! touching it. (The fork this follows divided by the last gap and never decayed; see B1 in the notes on it.)
//! **Gives up:** bursts shorter than a second. Who must react to one looks at what is in flight.

use vocabulary::{Moment, Span};

const BUCKETS: u64 = 12;
const BUCKET: Span = Span::seconds(5);

/// A sliding count over the last 55 to 60 seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rate {
    counts: [u32; BUCKETS as usize],
    /// All of them.
    sum: u64,
    /// Number of the newest bucket since the origin of time.
    newest: u64,
    /// First arrival after a silence of a whole window.
    since: Moment,
}

impl Rate {
    /// One more arrival.
    pub fn count(&mut self, now: Moment) {
        let bucket = now.0 / BUCKET.0;
        if self.total(bucket) == 0 {
            *self = Self { newest: bucket, since: now, ..Self::default() };
        }
        while self.newest < bucket {
            self.newest += 1;
            let left = std::mem::take(&mut self.counts[(self.newest % BUCKETS) as usize]);
            self.sum -= u64::from(left);
        }
        let count = &mut self.counts[(bucket % BUCKETS) as usize];
        if let Some(more) = count.checked_add(1) {
            *count = more;
            self.sum += 1;
        }
    }

    /// Arrivals per second, in thousandths.
    pub fn milli_hz(&self, now: Moment) -> u64 {
        let bucket = now.0 / BUCKET.0;
        let total = self.total(bucket);
        let window_start = Moment((bucket + 1).saturating_sub(BUCKETS) * BUCKET.0);
        // A lone first arrival is one per second for a moment, not a million.
        let seen_for = now.since(window_start.max(self.since)).max(Span::seconds(1));
        total * 1_000_000_000 / seen_for.0
    }

    /// Arrivals in the window that ends with this bucket.
    fn total(&self, bucket: u64) -> u64 {
        let age = bucket.saturating_sub(self.newest);
        let oldest = self.newest.saturating_sub(BUCKETS - 1);
        // Buckets that have left the window were not cleared, because nobody touched them.
        let left = oldest..(oldest + age.min(BUCKETS)).min(self.newest + 1);
        let left: u64 = left.map(|number| u64::from(self.counts[(number % BUCKETS) as usize])).sum();
        self.sum - left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Moment {
        Moment::ORIGIN + Span::seconds(1_000) + Span::millis(ms)
    }

    #[test]
    fn steady_arrivals_are_measured_without_bias() {
        let mut rate = Rate::default();
        for n in 0..3_000 {
            rate.count(at(n * 100));
            if n > 600 {
                let measured = rate.milli_hz(at(n * 100));
                assert!((9_900..=10_100).contains(&measured), "{measured} after {n}");
            }
        }
    }

    #[test]
    fn a_rare_function_is_not_taken_for_a_frequent_one() {
        let mut rate = Rate::default();
        let mut highest = 0;
        for n in 0..100 {
            rate.count(at(n * 20_000));
            if n > 3 {
                highest = highest.max(rate.milli_hz(at(n * 20_000)));
            }
        }
        assert!((40..=60).contains(&highest), "0.05 per second was measured as {highest} thousandths");
    }

    #[test]
    fn the_rate_falls_while_nobody_calls() {
        let mut rate = Rate::default();
        for n in 0..600 {
            rate.count(at(n * 100));
        }
        let mut last = rate.milli_hz(at(60_000));
        for second in 60..130 {
            let next = rate.milli_hz(at(second * 1_000));
            assert!(next <= last, "{next} after {last}");
            last = next;
        }
        assert_eq!(last, 0);
    }

    #[test]
    fn the_first_arrival_counts_as_one_per_second() {
        let mut rate = Rate::default();
        rate.count(at(0));
        assert_eq!(rate.milli_hz(at(0)), 1_000);
        assert_eq!(rate.milli_hz(at(4_000)), 250);
    }
}
