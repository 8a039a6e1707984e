//! What has been learned of a function for inputs of about one size.
//!
//! **Knows:** how long runs took, how much CPU they wanted, how much memory they held, and how many were seen.
//! **Promises:** a run that was held back at its ceiling counts as one that wanted more, never as one that was content with it;
//! what is told errs upwards. At most [`BUCKETS`] sizes per function, three sketches each: 300 bytes while runs are
//! alike, 500 at worst, so a function never takes more than 6 KB.
//! A size of which little is known is judged by all larger ones together, because a smaller input does not need more; one beyond
//! the largest, by all, where these are alike: a function that uses one core for small inputs and for large ones will use
//! one for those a little beyond, whatever it is that it does with them for longer.
//! **Gives up:** inputs that differ in anything but size, and sizes seen long ago: the one unused longest makes room.

use serde::{Deserialize, Serialize};
use vocabulary::{Mebibytes, MilliCores, Span, Usage};

use super::narrow;
use super::sketch::Sketch;

/// Input sizes of one function that are told apart at most.
pub const BUCKETS: usize = 12;
/// A run was held back if the kernel stopped it for more than a fiftieth of its time: less is what one thread that is
/// woken at the wrong moment of a period sees.
const HELD_BACK: u64 = 50;
/// A size without runs of its own is judged by the next larger one, if that is at most four times as large.
const NEIGHBOUR: u8 = 2;

/// Sizes are alike in what the highest of one is at most so many thousandths of the lowest of another: two steps of a sketch.
const ALIKE: u64 = 1_270;
/// So many runs of other sizes speak for one of which fewer are known...
const KIN_RUNS: u32 = 4;
/// ...and for inputs at most sixteen times as large as the largest of them.
const KIN_BEYOND: u8 = 4;

/// Runs with inputs from one power of two up to the next.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Bucket {
    /// How many binary digits the size has.
    size: u8,
    runs: u32,
    /// Runs since the last one to which its reservation had to be given back.
    calm: u32,
    duration_us: Sketch,
    /// CPU rates that runs reached, or would have.
    wanted_millicores: Sketch,
    memory_mib: Sketch,
    /// Sum of the CPU means, in sixteenths, forgetting as it goes.
    cpu_mean_16: u64,
    /// The function's count of runs at the last one of this size.
    last: u64,
}

/// What to expect of a run; see [`Profile::expect`](super::Profile::expect).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expectation {
    /// Runs with inputs of this size that were seen.
    pub runs: u32,
    /// Runs of this size since the last one to which its reservation had to be given back while it ran.
    pub calm_runs: u32,
    /// How little is known, in thousandths: 1,000 before the first run, 500 after three, 100 after a hundred.
    pub uncertainty: u32,
    /// Median time of a run.
    pub duration: Span,
    /// Nineteen of twenty take longer.
    pub duration_low: Span,
    /// Nineteen of twenty are shorter.
    pub duration_high: Span,
    /// Mean CPU rate.
    pub cpu_mean: MilliCores,
    /// CPU rate that half of the runs reach, or would.
    pub cpu_median: MilliCores,
    /// More CPU than this did not help nine of ten runs: their saturation point.
    pub saturation: MilliCores,
    /// The highest CPU rate that any recent run reached, or would have.
    pub cpu_high: MilliCores,
    /// The highest memory use of the recent runs.
    pub memory_high: Mebibytes,
    /// Half of the runs held less.
    pub memory_median: Mebibytes,
    /// Whether memory may be taken from it: not for a while after that has killed a run.
    pub memory_is_safe: bool,
}

/// A run that has ended, seen by its profile.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen {
    pub duration: Span,
    pub cpu_mean: MilliCores,
    pub usage: Usage,
}

impl Bucket {
    fn learn(&mut self, seen: &Seen, function_runs: u64) {
        let cpu_16 = u64::from(seen.cpu_mean.0) * 16;
        self.runs = self.runs.saturating_add(1);
        let weight = u64::from(self.runs.min(16));
        self.cpu_mean_16 = (self.cpu_mean_16 * (weight - 1) + cpu_16) / weight;
        self.calm = if seen.usage.safeguarded { 0 } else { self.calm.saturating_add(1) };
        self.duration_us.learn(seen.duration.as_micros());
        self.wanted_millicores.learn(wanted(seen));
        self.memory_mib.learn(u64::from(seen.usage.memory_peak.0));
        self.last = function_runs;
    }

    fn is_sound(&self) -> bool {
        u32::from(self.size) <= u32::BITS
            && self.cpu_mean_16 <= u64::from(u32::MAX) * 16
            && [&self.duration_us, &self.wanted_millicores, &self.memory_mib]
                .into_iter()
                .all(|sketch| sketch.is_sound())
    }

    fn expect(&self, distance: u8, memory_is_safe: bool) -> Option<Expectation> {
        let of = |sketch: &Sketch, thousandths| sketch.quantile(thousandths);
        let cpu = |thousandths| Some(MilliCores(narrow(of(&self.wanted_millicores, thousandths)?)));
        let runs = self.runs >> distance;
        Some(Expectation {
            runs,
            calm_runs: self.calm >> distance,
            uncertainty: (1_000 / (u64::from(runs) + 1).isqrt()) as u32,
            duration: Span(of(&self.duration_us, 500)?),
            duration_low: Span(of(&self.duration_us, 50)?),
            duration_high: Span(of(&self.duration_us, 950)?),
            cpu_mean: MilliCores(narrow(self.cpu_mean_16.div_ceil(16))),
            cpu_median: cpu(500)?,
            saturation: cpu(900)?,
            cpu_high: cpu(1_000)?,
            memory_high: Mebibytes(narrow(of(&self.memory_mib, 1_000)?)),
            memory_median: Mebibytes(narrow(of(&self.memory_mib, 500)?)),
            memory_is_safe,
        })
    }
}

/// The CPU rate that a run reached, or would have. The kernel counts the time for which it stopped a group on each
/// processor, so that time over the length of the run is how many more cores would have been busy. A guess from a run
/// that was stopped all the time is taken in steps: at least a quarter more than it had, and at most four times as much.
pub(super) fn wanted(seen: &Seen) -> u64 {
    let peak = u64::from(seen.usage.cpu_peak.max(seen.cpu_mean).0);
    let (stopped, wall) = (seen.usage.throttled.as_micros(), seen.duration.as_micros().max(1));
    if stopped.saturating_mul(HELD_BACK) <= wall {
        return peak;
    }
    let more = u64::try_from(u128::from(stopped) * 1_000 / u128::from(wall)).unwrap_or(u64::MAX);
    peak.saturating_add(more).clamp(peak + peak / 4, peak.saturating_mul(4))
}

/// All sizes of one function.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Buckets {
    /// By size.
    all: Vec<Bucket>,
}

/// How many binary digits a size has; 0 for nothing.
fn size_of(input_bytes: u32) -> u8 {
    (u32::BITS - input_bytes.leading_zeros()) as u8
}

impl Buckets {
    pub fn learn(&mut self, input_bytes: u32, seen: &Seen, function_runs: u64) {
        let size = size_of(input_bytes);
        let at = match self.all.binary_search_by_key(&size, |bucket| bucket.size) {
            Ok(at) => at,
            Err(_) => {
                if self.all.len() >= BUCKETS {
                    let oldest = (0..self.all.len()).min_by_key(|&at| self.all[at].last);
                    oldest.map(|at| self.all.remove(at));
                }
                let at = self.all.partition_point(|bucket| bucket.size < size);
                self.all.insert(at, Bucket { size, ..Bucket::default() });
                at
            }
        };
        self.all[at].learn(seen, function_runs);
    }

    /// Whether [`Buckets::learn`] could have made them.
    pub fn is_sound(&self) -> bool {
        self.all.len() <= BUCKETS
            && self.all.is_sorted_by(|one, next| one.size < next.size)
            && self.all.iter().all(Bucket::is_sound)
    }

    /// Of all that was seen, only so much counts any more: half for each halving.
    pub fn halve(&mut self, halvings: u32) {
        for bucket in &mut self.all {
            bucket.runs = bucket.runs.checked_shr(halvings).unwrap_or(0);
            bucket.calm = bucket.calm.checked_shr(halvings).unwrap_or(0);
        }
    }

    /// By runs of this size; where there are none, by those of the next larger one, which counts for less; where these are too
    /// few, by what is known of other sizes.
    pub fn expect(&self, input_bytes: u32, memory_is_safe: bool) -> Option<Expectation> {
        self.judged_by(input_bytes, KIN_RUNS, memory_is_safe)
    }

    /// The same, where one run is enough to speak for its size, for smaller ones, and for inputs sixteen times as large; of memory only where two
    /// sizes are alike in it. For whoever gives back at once what was guessed wrongly.
    pub fn guess(&self, input_bytes: u32, memory_is_safe: bool) -> Option<Expectation> {
        self.judged_by(input_bytes, 1, memory_is_safe)
    }

    fn judged_by(&self, input_bytes: u32, enough: u32, memory_is_safe: bool) -> Option<Expectation> {
        let size = size_of(input_bytes);
        let from = self.all.partition_point(|bucket| bucket.size < size);
        let near = (self.all.get(from))
            .filter(|next| next.size - size <= NEIGHBOUR)
            .and_then(|next| next.expect(next.size - size, memory_is_safe));
        if near.is_some_and(|near| near.runs >= enough) {
            return near;
        }
        let last = self.all.last()?;
        let kin = if size <= last.size {
            Self::together(&self.all[from..], enough, memory_is_safe)
        } else if size <= last.size + KIN_BEYOND {
            Self::together(&self.all, enough, memory_is_safe)
                .filter(|_| enough < KIN_RUNS || self.all.len() > 1)
                .and_then(|kin| self.alike(kin))
        } else {
            None
        };
        kin.or(near)
    }

    /// The most that any of these sizes needs; how long it takes, and how much more would be of use, as the first of them says.
    fn together(sizes: &[Bucket], enough: u32, memory_is_safe: bool) -> Option<Expectation> {
        let all = || sizes.iter().filter_map(|bucket| bucket.expect(0, memory_is_safe));
        let like = all().next()?;
        let runs = all().map(|one| one.runs).fold(0, u32::saturating_add);
        if runs < enough {
            return None;
        }
        // One size that needed its reservation back speaks for all.
        let shaken = all().filter(|one| one.calm_runs < one.runs).map(|one| one.calm_runs).min();
        let most = |of: fn(&Expectation) -> MilliCores| all().map(|one| of(&one)).max().unwrap_or_default();
        Some(Expectation {
            runs,
            calm_runs: shaken.unwrap_or(runs),
            uncertainty: (1_000 / (u64::from(runs) + 1).isqrt()) as u32,
            cpu_mean: most(|one| one.cpu_mean),
            cpu_median: most(|one| one.cpu_median),
            cpu_high: most(|one| one.cpu_high),
            memory_high: all().map(|one| one.memory_high).max().unwrap_or_default(),
            memory_median: all().map(|one| one.memory_median).max().unwrap_or_default(),
            ..like
        })
    }

    /// What all sizes need together, for one beyond them: of CPU if they are alike in that, of memory if in that, too.
    fn alike(&self, kin: Expectation) -> Option<Expectation> {
        let least = |of: fn(&Expectation) -> u32| {
            let all = self.all.iter().filter_map(|bucket| bucket.expect(0, true));
            all.map(|one| u64::from(of(&one))).min().unwrap_or(0)
        };
        let are_alike = |most: u32, least: u64| u64::from(most) * 1_000 <= least * ALIKE;
        let cpu = are_alike(kin.cpu_high.0, least(|one| one.cpu_high.0));
        let memory = self.all.len() > 1 && are_alike(kin.memory_high.0, least(|one| one.memory_high.0));
        cpu.then_some(Expectation { memory_is_safe: kin.memory_is_safe && memory, ..kin })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(duration_ms: u64, cpu: u32, memory: u32, throttled_ms: u64) -> Seen {
        Seen {
            duration: Span::millis(duration_ms),
            cpu_mean: MilliCores(cpu / 2),
            usage: Usage {
                cpu_time: Span::ZERO,
                cpu_peak: MilliCores(cpu),
                memory_peak: Mebibytes(memory),
                throttled: Span::millis(throttled_ms),
                safeguarded: false,
            },
        }
    }

    fn learned(all: &[(u32, Seen)]) -> Buckets {
        let mut buckets = Buckets::default();
        for (number, (input_bytes, seen)) in all.iter().enumerate() {
            buckets.learn(*input_bytes, seen, number as u64);
        }
        buckets
    }

    #[test]
    fn large_inputs_are_told_from_small_ones() {
        let buckets = learned(&[(10, seen(5, 500, 40, 0)), (10_000, seen(900, 3_900, 400, 0))]);
        let small = buckets.expect(10, true).unwrap();
        let large = buckets.expect(12_000, true).unwrap();
        assert!(small.duration < Span::millis(6) && small.saturation < MilliCores(570));
        assert!(large.duration >= Span::millis(900) && large.memory_high >= Mebibytes(400));
    }

    #[test]
    fn a_size_never_seen_is_judged_by_a_little_larger_ones_only() {
        let buckets = learned(&[(1_000, seen(5, 500, 40, 0)), (1_000, seen(5, 500, 40, 0))]);
        assert_eq!(buckets.expect(1_000, true).unwrap().runs, 2);
        assert_eq!(buckets.expect(400, true).unwrap().runs, 1, "half as sure");
        assert_eq!(buckets.expect(100, true), None, "too far away");
        assert_eq!(buckets.expect(2_000, true), None, "a larger one may need more");
    }

    #[test]
    fn one_run_is_enough_for_a_guess_about_any_size_that_is_not_much_larger() {
        let buckets = learned(&[(1_000, seen(5, 500, 40, 0))]);
        for near in [1, 400, 1_000, 16_000] {
            let guess = buckets.guess(near, true).unwrap();
            assert!(guess.runs == 1 && guess.cpu_high <= MilliCores(570), "{near}: {guess:?}");
        }
        assert_eq!(buckets.guess(100_000, true), None, "who knows");
        assert!(!buckets.guess(16_000, true).unwrap().memory_is_safe, "nobody has seen how it grows");
        assert_eq!(buckets.expect(1, true), None);
        assert_eq!(Buckets::default().guess(1, true), None);
    }

    #[test]
    fn a_size_of_which_little_is_known_is_judged_by_all_larger_ones() {
        let mut all: Vec<_> = (0..3).map(|_| (10_000, seen(50, 1_000, 100, 0))).collect();
        all.extend([(100_000, seen(500, 2_000, 300, 0)), (100, seen(5, 3_000, 400, 0))]);
        let small = learned(&all).expect(1_000, true).unwrap();
        assert_eq!((small.runs, small.calm_runs, small.memory_is_safe), (4, 4, true));
        assert!(
            small.cpu_high >= MilliCores(2_000) && small.cpu_high < MilliCores(2_300),
            "{:?}",
            small.cpu_high
        );
        assert!(small.saturation < MilliCores(1_150), "more would help the largest only");
        assert!(small.duration < Span::millis(57) && small.memory_high >= Mebibytes(300));
        let mut shaken = all.clone();
        shaken[3].1.usage.safeguarded = true;
        assert_eq!(learned(&shaken).expect(1_000, true).unwrap().calm_runs, 0, "one speaks for all");
    }

    #[test]
    fn a_size_beyond_the_largest_is_judged_by_the_others_where_these_are_alike() {
        let mut all: Vec<_> = (0..4).map(|_| (100, seen(5, 1_000, 40, 0))).collect();
        assert_eq!(learned(&all).expect(1_000, true), None, "one size says nothing of others");
        all.push((1_000, seen(500, 1_050, 300, 0)));
        let beyond = learned(&all).expect(10_000, true).unwrap();
        assert!(
            beyond.cpu_high >= MilliCores(1_050) && !beyond.memory_is_safe,
            "memory grows with the input"
        );
        assert_eq!(learned(&all).expect(1_000_000, true), None, "too far beyond all that was seen");
        all.push((2_000, seen(500, 4_000, 300, 0)));
        assert_eq!(learned(&all).expect(10_000, true), None, "the large ones need more");
    }

    #[test]
    fn a_run_that_was_held_back_wanted_more_than_it_had() {
        // Four threads on a quota of one core, for a second: stopped for three core seconds.
        let four = learned(&[(1, seen(1_000, 1_000, 40, 3_000))]).expect(1, true).unwrap();
        assert!((4_000..=4_500).contains(&four.saturation.0), "{:?}", four.saturation);
        let one = learned(&[(1, seen(1_000, 1_000, 40, 10))]).expect(1, true).unwrap();
        assert!(one.saturation < MilliCores(1_130), "a hiccup of the scheduler is no demand");
        let a_little = learned(&[(1, seen(1_000, 1_000, 40, 30))]).expect(1, true).unwrap();
        assert!(a_little.saturation >= MilliCores(1_250), "a small step is a step");
    }

    #[test]
    fn uncertainty_falls_with_what_was_seen() {
        let mut last = 1_001;
        for count in [1, 3, 15, 99] {
            let runs: Vec<_> = (0..count).map(|_| (1, seen(5, 500, 40, 0))).collect();
            let uncertainty = learned(&runs).expect(1, true).unwrap().uncertainty;
            assert!(uncertainty < last);
            last = uncertainty;
        }
        assert_eq!(last, 100);
    }

    #[test]
    fn the_size_that_was_not_seen_for_longest_makes_room() {
        let mut buckets = Buckets::default();
        for size in 0..30_u32 {
            buckets.learn(1 << size, &seen(5, 500, 40, 0), u64::from(size));
        }
        assert_eq!(buckets.all.len(), BUCKETS);
        assert_eq!(buckets.all.first().map(|oldest| oldest.size), Some(19));
        assert!(buckets.expect(1 << 29, true).is_some());
        assert!(buckets.all.is_sorted_by_key(|bucket| bucket.size));
    }
}
