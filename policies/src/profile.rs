//! What has been learned of a function.
//!
//! **Knows:** when its invocations arrived, and how each that ended went.
//! **Promises:** follows a function that changes: the rate falls to nothing while it is idle, means forget with a
//! memory of sixteen invocations, peaks and quantiles decay. Whole numbers only, so that every machine learns the same.
//! Large inputs are told from small ones ([`Profile::expect`]); what is told of all together is for who must not care.
//! **Gives up:** what a run needs beside the size of its input, and everything older than some hundred runs. A function
//! takes about 400 bytes and 300 more for each size of input that it is called with, 6 KB at most.

mod bucket;
mod kept;
mod rate;
mod sketch;

use serde::{Deserialize, Serialize};
use vocabulary::{Mebibytes, MilliCores, Moment, Span, Usage};

pub use bucket::{BUCKETS, Bucket, Expectation};
pub use rate::Rate;
pub use sketch::{BINS, Sketch};

use bucket::{Buckets, Seen, wanted};

/// A mean that forgets, and a peak that decays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Learned {
    /// In sixteenths, so that small steps are not lost in rounding.
    mean_16: u64,
    /// The highest value seen, falling by a sixty-fourth of its distance to each lower one.
    peak_64: u64,
    /// How many values were seen, up to the length of the memory.
    seen: u32,
}

/// Values after which a mean has forgotten most of what was before: a function that changes is known again after
/// a few dozen calls, and a single outlier moves the mean by a sixteenth.
const MEMORY: u64 = 16;

impl Learned {
    fn learn(&mut self, value: u64) {
        let value_16 = value.saturating_mul(16);
        self.seen = self.seen.saturating_add(1).min(MEMORY as u32);
        let weight = u64::from(self.seen);
        // The plain mean at first, then an exponentially weighted one.
        self.mean_16 = if value_16 >= self.mean_16 {
            self.mean_16 + (value_16 - self.mean_16) / weight
        } else {
            self.mean_16 - (self.mean_16 - value_16) / weight
        };
        let value_64 = value.saturating_mul(64);
        self.peak_64 = value_64.max(self.peak_64 - self.peak_64.saturating_sub(value_64) / 64);
    }

    /// The mean of what was seen lately; `None` before anything was.
    pub fn mean(&self) -> Option<u64> {
        (self.seen > 0).then_some(self.mean_16.saturating_add(8) / 16)
    }

    /// The highest of what was seen lately; `None` before anything was.
    pub fn peak(&self) -> Option<u64> {
        (self.seen > 0).then_some(self.peak_64.div_ceil(64))
    }
}

/// What has been learned of a function. Serializable, so that a new Controller need not learn anew; the rate is
/// not kept, it is known again within a minute.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Profile {
    #[serde(skip)]
    arrivals: Rate,
    duration_us: Learned,
    init_us: Learned,
    cpu_mean_millicores: Learned,
    cpu_peak_millicores: Learned,
    memory_peak_mib: Learned,
    runs: u64,
    cold_runs: u64,
    buckets: Buckets,
    /// Runs that were killed for want of memory that had been taken from their reservation.
    starved: u32,
    /// Runs to go before memory may be taken from it again.
    memory_pause: u32,
}

/// For so many runs after the first one that was killed for want of lent memory, a function's memory is left alone; each
/// further one doubles it...
const MEMORY_PAUSE: u32 = 64;
/// ...so often at most.
const MEMORY_PAUSE_DOUBLED: u32 = 6;

impl Profile {
    /// An invocation was asked for.
    pub fn arrived(&mut self, now: Moment) {
        self.arrivals.count(now);
    }

    /// A run has ended; `init` is `None` when its sandbox was warm.
    pub fn ended(&mut self, duration: Span, init: Option<Span>, usage: Usage) {
        self.learn(duration, cpu_mean(duration, &usage), init, usage);
    }

    fn learn(&mut self, duration: Span, cpu_mean: MilliCores, init: Option<Span>, usage: Usage) {
        self.runs = self.runs.saturating_add(1);
        self.duration_us.learn(duration.as_micros());
        if let Some(init) = init {
            self.cold_runs = self.cold_runs.saturating_add(1);
            self.init_us.learn(init.as_micros());
        }
        self.cpu_mean_millicores.learn(u64::from(cpu_mean.0));
        self.cpu_peak_millicores.learn(u64::from(usage.cpu_peak.0));
        self.memory_peak_mib.learn(u64::from(usage.memory_peak.0));
    }

    /// The same, for an input of this size, which may need more or less than another.
    pub fn ended_with(&mut self, input_bytes: u32, duration: Span, init: Option<Span>, usage: Usage) {
        let cpu_mean = cpu_mean(duration, &usage);
        self.learn(duration, cpu_mean, init, usage);
        self.memory_pause = self.memory_pause.saturating_sub(1);
        self.buckets.learn(input_bytes, &Seen { duration, cpu_mean, usage }, self.runs);
    }

    /// A run was killed for want of memory that had been taken from its reservation.
    pub fn starved(&mut self) {
        self.memory_pause = MEMORY_PAUSE << self.starved.min(MEMORY_PAUSE_DOUBLED);
        self.starved = self.starved.saturating_add(1);
    }

    /// What a run with an input of this size will need; `None` while nothing like it was seen.
    pub fn expect(&self, input_bytes: u32) -> Option<Expectation> {
        self.buckets.expect(input_bytes, self.memory_pause == 0)
    }

    /// The same for whoever gives back at once what was guessed wrongly: one run is enough to go by, and speaks for inputs of most sizes.
    pub fn guess(&self, input_bytes: u32) -> Option<Expectation> {
        self.buckets.guess(input_bytes, self.memory_pause == 0)
    }

    /// Invocations per second, in thousandths, over the last minute.
    pub fn rate_milli_hz(&self, now: Moment) -> u64 {
        self.arrivals.milli_hz(now)
    }

    /// Mean length of a run; `None` before the first has ended.
    pub fn duration(&self) -> Option<Span> {
        self.duration_us.mean().map(Span)
    }

    /// The longest of the recent runs.
    pub fn duration_peak(&self) -> Option<Span> {
        self.duration_us.peak().map(Span)
    }

    /// Mean time to make a sandbox; `None` before the first was made.
    pub fn init(&self) -> Option<Span> {
        self.init_us.mean().map(Span)
    }

    /// Mean CPU rate while running.
    pub fn cpu_mean(&self) -> Option<MilliCores> {
        self.cpu_mean_millicores.mean().map(|mean| MilliCores(narrow(mean)))
    }

    /// The highest CPU rate of the recent runs.
    pub fn cpu_peak(&self) -> Option<MilliCores> {
        self.cpu_peak_millicores.peak().map(|peak| MilliCores(narrow(peak)))
    }

    /// The highest memory use of the recent runs.
    pub fn memory_peak(&self) -> Option<Mebibytes> {
        self.memory_peak_mib.peak().map(|peak| Mebibytes(narrow(peak)))
    }

    /// Runs that have ended, and how many of them needed a new sandbox.
    pub fn runs(&self) -> (u64, u64) {
        (self.runs, self.cold_runs)
    }

    /// How many run at once on average, in thousandths, by Little's law: rate times duration.
    pub fn concurrency_milli(&self, now: Moment) -> u64 {
        let duration = self.duration().unwrap_or(Span::ZERO);
        duration.scaled(self.rate_milli_hz(now), 1_000_000).as_micros()
    }
}

/// The CPU rate that a run reached, or would have if it had not been held back.
pub fn wanted_cpu(duration: Span, usage: &Usage) -> MilliCores {
    MilliCores(narrow(wanted(&Seen { duration, cpu_mean: cpu_mean(duration, usage), usage: *usage })))
}

/// The CPU rate of a run over all of its time.
pub fn cpu_mean(duration: Span, usage: &Usage) -> MilliCores {
    MilliCores(narrow(usage.cpu_time.scaled(1_000, duration.as_micros().max(1)).as_micros()))
}

fn narrow(value: u64) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(cpu_ms: u64, memory: u32) -> Usage {
        Usage {
            cpu_time: Span::millis(cpu_ms),
            cpu_peak: MilliCores(900),
            memory_peak: Mebibytes(memory),
            throttled: Span::ZERO,
            safeguarded: false,
        }
    }

    #[test]
    fn the_first_run_is_believed_at_once() {
        let mut profile = Profile::default();
        assert_eq!(profile.duration(), None);
        profile.ended(Span::millis(200), Some(Span::millis(50)), usage(100, 64));
        assert_eq!(profile.duration(), Some(Span::millis(200)));
        assert_eq!(profile.init(), Some(Span::millis(50)));
        assert_eq!(profile.cpu_mean(), Some(MilliCores(500)));
        assert_eq!(profile.memory_peak(), Some(Mebibytes(64)));
        assert_eq!(profile.runs(), (1, 1));
    }

    #[test]
    fn a_function_that_changes_is_known_again_after_a_few_dozen_calls() {
        let mut profile = Profile::default();
        for _ in 0..1_000 {
            profile.ended(Span::millis(1_000), None, usage(500, 512));
        }
        for _ in 0..64 {
            profile.ended(Span::millis(100), None, usage(50, 64));
        }
        let duration = profile.duration().unwrap();
        assert!(duration < Span::millis(120), "{duration}");
        assert!(profile.memory_peak().unwrap() > Mebibytes(128), "a peak is forgotten more slowly");
        for _ in 0..1_000 {
            profile.ended(Span::millis(100), None, usage(50, 64));
        }
        assert!(profile.memory_peak().unwrap() <= Mebibytes(66));
    }

    #[test]
    fn impossible_measurements_do_not_panic() {
        let mut profile = Profile::default();
        let absurd = Usage {
            cpu_time: Span::FOREVER,
            cpu_peak: MilliCores(u32::MAX),
            memory_peak: Mebibytes(u32::MAX),
            throttled: Span::FOREVER,
            safeguarded: false,
        };
        for _ in 0..3 {
            profile.ended(Span::ZERO, Some(Span::FOREVER), absurd);
            profile.ended(Span::FOREVER, None, Usage::default());
        }
        assert!(profile.duration().is_some());
    }

    #[test]
    fn concurrency_is_rate_times_duration() {
        let mut profile = Profile::default();
        for second in 0..60 {
            for _ in 0..10 {
                profile.arrived(Moment::ORIGIN + Span::seconds(second));
            }
        }
        profile.ended(Span::millis(500), None, usage(1, 1));
        let concurrency = profile.concurrency_milli(Moment::ORIGIN + Span::seconds(60));
        assert!((4_500..=5_500).contains(&concurrency), "{concurrency}");
    }

    #[test]
    fn a_profile_survives_the_store_without_its_rate() {
        let mut profile = Profile::default();
        profile.ended_with(100, Span::millis(500), None, usage(1, 1));
        let kept = serde_json::to_string(&profile).unwrap();
        assert_eq!(serde_json::from_str::<Profile>(&kept).unwrap(), profile);
    }

    #[test]
    fn after_a_run_died_of_lent_memory_the_functions_memory_is_left_alone_each_time_for_longer() {
        let mut profile = Profile::default();
        let safe_after = |profile: &mut Profile| {
            (1..).find(|_| {
                profile.ended_with(10, Span::millis(10), None, usage(1, 64));
                profile.expect(10).unwrap().memory_is_safe
            })
        };
        assert_eq!(safe_after(&mut profile), Some(1));
        profile.starved();
        assert_eq!(safe_after(&mut profile), Some(64));
        profile.starved();
        assert_eq!(safe_after(&mut profile), Some(128));
    }

    #[test]
    fn the_largest_profile_is_a_few_kilobytes() {
        let mut profile = Profile::default();
        for n in 0..20_000_u64 {
            let wild = Usage {
                cpu_peak: MilliCores((n * 7_919 % 64_000) as u32),
                memory_peak: Mebibytes((n * 104_729 % 8_192) as u32),
                ..Usage::default()
            };
            profile.ended_with(1 << (n % 32), Span(n * n * 31), None, wild);
        }
        assert!(serde_json::to_vec(&profile).unwrap().len() < 16_384, "as text");
        let held = BUCKETS * (size_of::<Bucket>() + 3 * 4 * (BINS + 8)) + size_of::<Profile>();
        assert!(held < 7_000, "{held} bytes");
    }
}
