//! What the released balancers of the SOSP'21 authors share: the profile of a function, its rate, and its hash.
//!
//! **Knows:** what each run used, and when invocations arrived.
//! **Promises:** the arithmetic of the released code, defects included (the numbers are those of our notes on it): means over
//! a life-time that never forget, a length of 1 ms for who has not run yet (B9), and a rate measured over windows that were
//! written in seconds and compared with milliseconds (B1).
//! **Gives up:** being right. What we believe in stands in [`crate::profile`].
//!
//! Source: zyqCSL/openwhisk_archive, `Distribution.scala`, `ActionLoadRecord.scala`, `CommonLoadBalancer.scala`.

use vocabulary::{FunctionCard, FunctionId, Grant, MilliCores, Moment, Resources, Span, Usage};

use crate::hash::{Map, fixed};

/// CPU histogram: bins of a tenth of a core, up to 40 cores.
const BINS: usize = 400;
/// The percentile of the histogram from which the limit is made.
const LIMIT_PERCENTILE: u64 = 99;
/// Whole cores that a container may have.
const LIMIT_CORES: (u64, u64) = (1, 4);
/// A container's cores before it is profiled, if its user did not ask for more.
const LIMIT_UNPROFILED: u64 = 2;

/// What was learned of a function.
#[derive(Debug, Clone)]
pub(super) struct Profile {
    rules: Rules,
    histogram: Vec<u32>,
    runs: u64,
    /// Microseconds of all runs.
    sum_time: u128,
    /// The same, each times its tenths of a core.
    sum_cpu_time: u128,
    known: Option<Known>,
}

/// Where the two forks differ.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules {
    /// Completions between two refreshes.
    pub refresh: u64,
    /// Of the first run's CPU: the limit, and what is taken to be used; and of its time. In tenths.
    pub first_limit: u64,
    pub first_use: u64,
    pub first_time: u64,
}

impl Rules {
    /// MWS: twice and one and a half times what the first run showed, refreshed every five.
    pub const MWS: Self = Self { refresh: 5, first_limit: 20, first_use: 15, first_time: 15 };
    /// JSQ: about what the first run showed, refreshed every hundred.
    pub const JSQ: Self = Self { refresh: 100, first_limit: 10, first_use: 10, first_time: 10 };
}

#[derive(Debug, Clone, Copy)]
struct Known {
    limit_cores: u64,
    use_tenths: u64,
    time: Span,
}

impl Profile {
    pub fn new(rules: Rules) -> Self {
        Self { rules, histogram: Vec::new(), runs: 0, sum_time: 0, sum_cpu_time: 0, known: None }
    }

    /// A run has ended.
    pub fn ended(&mut self, duration: Span, usage: &Usage) {
        let time = u128::from(duration.as_micros().max(1));
        let tenths = (u128::from(usage.cpu_time.as_micros()) * 10).div_ceil(time).min(BINS as u128) as u64;
        self.runs += 1;
        self.sum_time = self.sum_time.saturating_add(time);
        self.sum_cpu_time = self.sum_cpu_time.saturating_add(time.saturating_mul(u128::from(tenths)));
        if self.histogram.len() <= tenths as usize {
            self.histogram.resize(tenths as usize + 1, 0);
        }
        let bin = &mut self.histogram[tenths as usize];
        *bin = bin.saturating_add(1);
        let Rules { refresh, first_limit, first_use, first_time } = self.rules;
        if self.runs == 1 {
            self.known = Some(Known {
                limit_cores: whole_cores(tenths * first_limit),
                use_tenths: whole_cores(tenths * first_use) * 10,
                time: duration.scaled(first_time, 10),
            });
        } else if self.runs.is_multiple_of(refresh) {
            self.known = Some(Known {
                limit_cores: whole_cores(self.percentile_tenths() * 15),
                use_tenths: self.sum_cpu_time.div_ceil(self.sum_time) as u64,
                time: Span(u64::try_from(self.sum_time / u128::from(self.runs)).unwrap_or(u64::MAX)),
            });
        }
    }

    /// The bin below which, itself included, are 99 of 100 runs.
    fn percentile_tenths(&self) -> u64 {
        let wanted = (self.runs * LIMIT_PERCENTILE).div_ceil(100);
        let mut below = 0;
        for (tenths, &runs) in self.histogram.iter().enumerate() {
            below += u64::from(runs);
            if below >= wanted {
                return tenths as u64;
            }
        }
        BINS as u64
    }

    /// What one run is taken to use.
    pub fn cpu(&self) -> MilliCores {
        let tenths = self.known.map_or(10, |known| known.use_tenths);
        MilliCores(u32::try_from(tenths * 100).unwrap_or(u32::MAX))
    }

    /// How long one run is taken to last.
    pub fn time(&self) -> Span {
        self.known.map_or(Span::millis(1), |known| known.time)
    }

    /// What the container may use at most.
    pub fn limit(&self, reservation: Resources) -> MilliCores {
        let asked = u64::from(reservation.cpu.0).div_ceil(1_000);
        let unprofiled = asked.max(LIMIT_UNPROFILED).clamp(LIMIT_CORES.0, LIMIT_CORES.1);
        let cores = self.known.map_or(unprofiled, |known| known.limit_cores);
        MilliCores::cores(cores as u32)
    }

    /// What is counted and what is allowed.
    pub fn grant(&self, function: &FunctionCard) -> Grant {
        let memory = function.reservation.memory;
        Grant::new(
            Resources { cpu: self.cpu(), memory },
            Resources { cpu: self.limit(function.reservation), memory },
        )
    }
}

/// Where OpenWhisk's own hash puts functions, which it makes of their names; of those whose name is not told, their id is hashed.
/// Names that differ in their last digits, as the fifty copies of a function in the authors' experiments do, are neighbours by
/// this hash: they fill one part of a ring and leave another empty.
#[derive(Debug, Clone, Default)]
pub struct Hashes(Map<FunctionId, u32>);

impl Hashes {
    /// Of these functions in the namespace `guest`: `generateHash` of the released balancers.
    pub fn of_guests<'a>(names: impl Iterator<Item = (FunctionId, &'a str)>) -> Self {
        let hash = |name: &str| (java_hash("guest") ^ java_hash(&format!("guest/{name}"))).unsigned_abs();
        Self(names.map(|(function, name)| (function, hash(name))).collect())
    }

    pub(super) fn of(&self, function: FunctionId) -> u64 {
        self.0.get(&function).map_or_else(|| fixed(&function), |&hash| hash.into())
    }
}

/// `String.hashCode`, for names of one byte per letter.
fn java_hash(text: &str) -> i32 {
    text.bytes().fold(0, |hash: i32, byte| hash.wrapping_mul(31).wrapping_add(byte.into()))
}

/// Hundredths of a core, rounded up to whole ones from 1 to 4.
fn whole_cores(hundredths: u64) -> u64 {
    hundredths.div_ceil(100).clamp(LIMIT_CORES.0, LIMIT_CORES.1)
}

/// How often a function is asked for, as `ActionLoadRecord` has it (B1): the windows of "10" and "60" are milliseconds, so
/// that this is about one divided by the last gap, and never falls while nobody calls. And it is a quotient of two `Long`s, so
/// that it is whole calls per second: whoever is called less than once a second looks as if nobody called, except after two
/// calls within one.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Rate {
    begun: Option<Moment>,
    count: u64,
    /// Arrivals, and in how long.
    last: (u64, Span),
    /// Whether the first window is over.
    settled: bool,
}

impl Rate {
    /// One more arrival.
    pub fn count(&mut self, now: Moment) {
        let Some(begun) = self.begun else {
            self.begun = Some(now);
            return;
        };
        self.count += 1;
        let elapsed = now.since(begun);
        let window = Span::millis(if self.settled { 60 } else { 10 });
        if elapsed > window {
            (self.last, self.settled) = ((self.count, elapsed), true);
            (self.begun, self.count) = (Some(now), 0);
        }
    }

    /// How many run at once, by Little's law, times `amount`; with so many controllers that each see their part.
    pub fn times(&self, controllers: u64, time: Span, amount: u32) -> u64 {
        let (count, elapsed) = self.last;
        let per_second = count * 1_000 / (elapsed.as_micros() / 1_000).max(1);
        let many = u128::from(per_second * controllers) * u128::from(time.as_micros()) * u128::from(amount);
        u64::try_from(many / 1_000_000).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use vocabulary::{Mebibytes, OnEviction, Revision};

    use super::*;
    use crate::chance::Chance;

    fn run(profile: &mut Profile, ms: u64, cpu_ms: u64) {
        let usage = Usage {
            cpu_time: Span::millis(cpu_ms),
            cpu_peak: MilliCores(0),
            memory_peak: Mebibytes(0),
            throttled: Span::ZERO,
            safeguarded: false,
        };
        profile.ended(Span::millis(ms), &usage);
    }

    const ASKED: Resources = Resources { cpu: MilliCores(1_000), memory: Mebibytes(256) };

    #[test]
    fn names_are_hashed_as_java_does_it() {
        // "Aa" and "BB" are the well-known pair that Java cannot tell apart.
        assert_eq!((java_hash("Aa"), java_hash("BB"), java_hash("")), (2_112, 2_112, 0));
        assert_eq!(java_hash("guest"), 98_708_952);
        let names = [(FunctionId(1), "pyaes-10"), (FunctionId(2), "pyaes-11")];
        let hashes = Hashes::of_guests(names.into_iter());
        assert_eq!(hashes.of(FunctionId(1)).abs_diff(hashes.of(FunctionId(2))), 1, "neighbours");
        assert_eq!(hashes.of(FunctionId(3)), fixed(&FunctionId(3)));
    }

    #[test]
    fn a_function_that_never_ran_looks_free() {
        let profile = Profile::new(Rules::MWS);
        assert_eq!(profile.time(), Span::millis(1));
        assert_eq!(profile.cpu(), MilliCores(1_000));
        assert_eq!(profile.limit(ASKED), MilliCores(2_000));
        assert_eq!(profile.limit(Resources::new(9_000, 1)), MilliCores(4_000));
    }

    #[test]
    fn the_first_run_is_multiplied_and_every_fifth_refreshes() {
        let mut profile = Profile::new(Rules::MWS);
        // 0.84 of a core, counted as 0.9. Limit: ceil(2.0 * 0.9) = 2. Use: ceil(1.5 * 0.9) = 2. Time: 1.5 * 100 ms.
        run(&mut profile, 100, 84);
        assert_eq!(profile.limit(ASKED), MilliCores(2_000));
        assert_eq!(profile.cpu(), MilliCores(2_000));
        assert_eq!(profile.time(), Span::millis(150));
        // Three more change nothing; the fifth makes it
        // use = (100*0.9 + 3*200*1.5 + 300*0.3) / (100 + 600 + 300) = 1080 / 1000 = 1.08, up to a tenth: 1.1;
        // time = 1000 ms / 5; limit = ceil(1.5 * 1.5) = 3.
        for _ in 0..3 {
            run(&mut profile, 200, 300);
        }
        assert_eq!(profile.time(), Span::millis(150));
        run(&mut profile, 300, 90);
        assert_eq!(profile.cpu(), MilliCores(1_100));
        assert_eq!(profile.time(), Span::millis(200));
        assert_eq!(profile.limit(ASKED), MilliCores(3_000));
    }

    #[test]
    fn one_wild_run_of_a_hundred_does_not_raise_the_limit_two_do() {
        let mut profile = Profile::new(Rules::MWS);
        (0..99).for_each(|_| run(&mut profile, 100, 50));
        run(&mut profile, 100, 300);
        assert_eq!(profile.limit(ASKED), MilliCores(1_000), "ceil(1.5 * 0.5)");
        (0..4).for_each(|_| run(&mut profile, 100, 300));
        run(&mut profile, 100, 50);
        assert_eq!(profile.limit(ASKED), MilliCores(4_000), "ceil(1.5 * 3.0), at most 4");
    }

    #[test]
    fn the_other_fork_takes_the_first_run_as_it_is() {
        let mut profile = Profile::new(Rules::JSQ);
        run(&mut profile, 100, 84);
        assert_eq!((profile.limit(ASKED), profile.cpu()), (MilliCores(1_000), MilliCores(1_000)));
        (0..98).for_each(|_| run(&mut profile, 100, 200));
        assert_eq!(profile.cpu(), MilliCores(1_000), "not before a hundred");
        run(&mut profile, 100, 200);
        assert_eq!(profile.cpu(), MilliCores(2_000), "1.989, up to a tenth");
    }

    #[test]
    fn what_is_counted_is_the_use_and_what_is_allowed_is_the_limit() {
        let function = FunctionCard {
            id: FunctionId(1),
            revision: Revision(1),
            reservation: ASKED,
            timeout: Span::seconds(1),
            on_eviction: OnEviction::Rerun,
            application: None,
        };
        let grant = Profile::new(Rules::MWS).grant(&function);
        assert_eq!(grant.booked, Resources::new(1_000, 256));
        assert_eq!(grant.ceiling, Resources::new(2_000, 256));
    }

    #[test]
    fn the_rate_of_who_is_called_seldom_is_nought_but_after_two_calls_within_a_second() {
        // Poisson streams: the mean of whole parts of one by the gap, seen at arrivals. Nothing near the truth anywhere.
        for (per_second, seen) in [(0.05, 0.12), (0.5, 1.2), (2.0, 3.6), (10.0, 12.4)] {
            let mut chance = Chance::new(3, "arrivals");
            let (mut rate, mut now, mut sum, mut nought) = (Rate::default(), Moment::ORIGIN, 0.0, 0);
            let arrivals = 200_000;
            for _ in 0..arrivals {
                let uniform = (chance.next() >> 11) as f64 / (1_u64 << 53) as f64;
                now = now + Span((-(1.0 - uniform).ln() / per_second * 1e6) as u64);
                rate.count(now);
                let estimate = rate.times(1, Span::seconds(1), 1);
                sum += estimate as f64;
                nought += u32::from(estimate == 0);
            }
            let (mean, nought) = (sum / f64::from(arrivals), f64::from(nought) / f64::from(arrivals));
            assert!((mean / seen - 1.0).abs() < 0.15, "{per_second}: {mean}, not {seen}");
            // A gap of more than a second: e^-rate of them.
            assert!((nought - (-per_second).exp()).abs() < 0.03, "{per_second}: {nought} of them are 0");
        }
    }

    #[test]
    fn the_rate_never_falls_while_nobody_calls() {
        let mut rate = Rate::default();
        rate.count(Moment::ORIGIN);
        rate.count(Moment::ORIGIN + Span::millis(50));
        // One in 50 ms is twenty per second, for ever.
        assert_eq!(rate.times(1, Span::seconds(1), 1), 20);
        // A gap of 59 ms is within the second "window": not looked at.
        rate.count(Moment::ORIGIN + Span::millis(109));
        assert_eq!(rate.times(1, Span::seconds(1), 1), 20);
        rate.count(Moment::ORIGIN + Span::millis(111));
        assert_eq!(
            rate.times(2, Span::seconds(61), 1_000),
            2 * 32 * 61_000,
            "two in 61 ms, rounded down, at each of two"
        );
    }
}
