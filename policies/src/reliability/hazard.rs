//! How often harvest VMs are evicted, by their age.
//!
//! **Knows:** a lifetime that the operator expects, and since then every VM of this fleet: how long it was watched at which
//! age, and at which age it was evicted.
//! **Promises:** begins with the operator's word, weighed as one eviction; what is seen outweighs it soon. Ages of which little
//! is known are judged like the fleet as a whole.
//! **Gives up:** the hour of the day, and evictions that come in groups.

use vocabulary::Span;

/// Evictions of one VM per time, in billionths per second: a mean lifetime of one day is 11,574.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Rate(pub u64);

impl Rate {
    /// One eviction per this time.
    pub fn once_in(span: Span) -> Self {
        Self(rate(1, span))
    }

    /// How probable an eviction is within this time, in billionths; small ones add up, so it is the rate times the time.
    pub fn within(self, span: Span) -> u64 {
        span.scaled(self.0, 1_000_000).as_micros().min(1_000_000_000)
    }
}

/// Where one range of ages ends and the next begins. Providers that evict young VMs first, or all at the age of a day
/// (GCP), show between these.
const AGES: [Span; 6] = [
    Span::seconds(60),
    Span::seconds(600),
    Span::seconds(3_600),
    Span::seconds(6 * 3_600),
    Span::seconds(20 * 3_600),
    Span::seconds(24 * 3_600),
];

#[derive(Debug, Clone, Copy, Default)]
struct Range {
    evictions: u64,
    watched: Span,
}

/// See the module.
#[derive(Debug, Clone)]
pub struct Hazard {
    expected_life: Span,
    ranges: [Range; AGES.len() + 1],
}

impl Hazard {
    /// Nothing seen yet.
    pub fn new(expected_life: Span) -> Self {
        Self { expected_life: expected_life.max(Span::seconds(1)), ranges: Default::default() }
    }

    /// A VM was watched from this age to that.
    pub fn watched(&mut self, from: Span, to: Span) {
        let mut begin = Span::ZERO;
        for (range, end) in self.ranges.iter_mut().zip(AGES.into_iter().chain([Span::FOREVER])) {
            range.watched += to.min(end) - from.max(begin);
            begin = end;
        }
    }

    /// A VM was evicted at this age.
    pub fn evicted(&mut self, age: Span) {
        self.ranges[range_of(age)].evictions += 1;
    }

    /// It was not, after all.
    pub fn not_evicted(&mut self, age: Span) {
        let range = &mut self.ranges[range_of(age)];
        range.evictions = range.evictions.saturating_sub(1);
    }

    /// At any age.
    pub fn overall(&self) -> Rate {
        let evictions: u64 = self.ranges.iter().map(|range| range.evictions).sum();
        let watched: Span = self.ranges.iter().map(|range| range.watched).sum();
        Rate(rate(evictions + 1, watched + self.expected_life))
    }

    /// At this age: what was seen there, and the fleet as a whole with the weight of two evictions.
    pub fn at(&self, age: Span) -> Rate {
        let range = self.ranges[range_of(age)];
        let as_all = Span(2_000_000_000_000_000 / self.overall().0.max(1));
        Rate(rate(range.evictions + 2, range.watched + as_all))
    }
}

fn range_of(age: Span) -> usize {
    AGES.partition_point(|&end| end <= age)
}

fn rate(evictions: u64, watched: Span) -> u64 {
    let per_second = u128::from(evictions) * 1_000_000_000_000_000 / u128::from(watched.as_micros().max(1));
    u64::try_from(per_second).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Span = Span::seconds(3_600);
    const DAY: Span = Span::seconds(24 * 3_600);

    fn about(rate: Rate, once_in: Span) -> bool {
        let expected = Rate::once_in(once_in).0;
        rate.0.abs_diff(expected) <= expected / 50
    }

    #[test]
    fn nothing_seen_it_is_what_the_operator_expects_at_every_age() {
        let hazard = Hazard::new(DAY);
        assert_eq!(hazard.overall(), Rate(11_574));
        for age in [Span::ZERO, HOUR, DAY, DAY.scaled(30, 1)] {
            assert!(about(hazard.at(age), DAY), "{:?}", hazard.at(age));
        }
        assert_eq!(hazard.overall().within(Span::seconds(10)), 115_740);
    }

    #[test]
    fn what_is_seen_outweighs_what_was_expected() {
        let mut hazard = Hazard::new(DAY);
        for _ in 0..1_000 {
            hazard.watched(Span::ZERO, DAY.scaled(10, 1));
            hazard.evicted(DAY.scaled(10, 1));
        }
        assert!(about(hazard.overall(), DAY.scaled(10, 1)));
        // They all died old.
        assert!(hazard.at(HOUR) < Rate::once_in(DAY.scaled(10, 1)));
        assert!(about(hazard.at(DAY.scaled(2, 1)), DAY.scaled(9, 1)));
    }

    #[test]
    fn vms_that_end_at_the_age_of_a_day_are_dangerous_before_it() {
        let mut hazard = Hazard::new(DAY);
        for _ in 0..100 {
            hazard.watched(Span::ZERO, Span::seconds(23 * 3_600));
            hazard.evicted(Span::seconds(23 * 3_600));
        }
        assert!(hazard.at(HOUR.scaled(21, 1)) > Rate(20 * hazard.at(HOUR.scaled(8, 1)).0));
    }

    #[test]
    fn a_life_is_spread_over_the_ages_it_was_watched_at() {
        let mut hazard = Hazard::new(DAY);
        hazard.watched(Span::seconds(50), Span::seconds(700));
        let watched: Vec<u64> = hazard.ranges.iter().map(|range| range.watched.0 / 1_000_000).collect();
        assert_eq!(watched, [10, 540, 100, 0, 0, 0, 0]);
        hazard.watched(DAY, Span::FOREVER);
        assert!(hazard.overall().0 < 10, "absurd ages do not overflow");
    }
}
