//! Each function by its own idle times: unloaded after a run, loaded again shortly before it is likely to be called.
//!
//! **Knows:** for each function, how long it was idle between the end of a run and the next call: a histogram of minutes.
//! **Promises:** with a telling histogram, a sandbox exists from the 5th percentile of idle times, less a tenth, until the
//! 99th, and a tenth; if the first of these is less than a minute, it is kept from the end of the run. Without one (few
//! values, too even, or mostly out of range) it is kept for the whole range of the histogram.
//! **Gives up:** the ARIMA model that the paper asks for functions whose idle times are mostly longer than the range: for
//! those the sandbox is kept for the range, which is the paper's own fallback. Idle times are those seen on this VM.
//!
//! Source: Shahrad et al., "Serverless in the Wild", USENIX ATC 2020, section 4: range 4 h, bins of 1 min, 5th and 99th
//! percentile rounded outwards, margin 10 %, representative if the coefficient of variation of the bin counts is at least 2,
//! and not more than half of the values out of range.

use std::collections::{BTreeMap, BTreeSet};

use vocabulary::{FunctionCard, FunctionId, Moment, Span};

use super::{KeepAlive, Rest};

/// One bin.
const BIN: Span = Span::seconds(60);
/// Bins: four hours.
const BINS: usize = 240;
/// All that the histogram covers.
const RANGE: Span = Span::seconds(60 * BINS as u64);
/// The percentiles between which a sandbox exists.
const HEAD: u64 = 5;
const TAIL: u64 = 99;
/// Earlier and later by so many hundredths.
const MARGIN: u64 = 10;
/// Functions that are remembered; then the one whose sandbox would end first goes.
const FUNCTIONS: usize = 16_384;

/// What is known of a function.
#[derive(Debug, Default)]
struct Known {
    /// Up to the highest bin in use.
    bins: Vec<u32>,
    /// Of the bins: their sum, and the sum of their squares.
    inside: u64,
    squares: u128,
    /// Longer than the range.
    outside: u64,
    /// When its last run ended, if it has not been called since.
    ended: Option<Moment>,
    /// When a sandbox is to be made.
    prewarm: Option<Moment>,
    /// Until when it then lives.
    until: Moment,
}

/// From the end of a run: when to have a sandbox again, and until when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Window {
    from: Span,
    to: Span,
}

impl Known {
    fn idle_for(&mut self, idle: Span) {
        let bin = (idle.0 / BIN.0) as usize;
        if bin >= BINS {
            self.outside += 1;
            return;
        }
        if self.bins.len() <= bin {
            self.bins.resize(bin + 1, 0);
        }
        let count = &mut self.bins[bin];
        self.squares += 2 * u128::from(*count) + 1;
        *count = count.saturating_add(1);
        self.inside += 1;
    }

    /// Whether the histogram says more than that calls come at any time.
    fn is_telling(&self) -> bool {
        // CV >= 2: variance / mean^2 >= 4, with mean = inside / BINS and variance = squares / BINS - mean^2.
        let total = u128::from(self.inside);
        let concentrated = self.squares * BINS as u128 >= 5 * total * total;
        self.inside > 0 && self.outside <= self.inside && concentrated
    }

    fn window(&self) -> Window {
        if !self.is_telling() {
            return Window { from: Span::ZERO, to: RANGE };
        }
        let head = self.bin_at(HEAD) as u64;
        let tail = self.bin_at(TAIL) as u64 + 1;
        Window {
            from: Span(BIN.0 * head).scaled(100 - MARGIN, 100),
            to: Span(BIN.0 * tail).scaled(100 + MARGIN, 100),
        }
    }

    /// The bin in which this percentile of what is in range lies.
    fn bin_at(&self, percentile: u64) -> usize {
        let wanted = (self.inside * percentile).div_ceil(100).max(1);
        let mut below = 0;
        for (bin, &count) in self.bins.iter().enumerate() {
            below += u64::from(count);
            if below >= wanted {
                return bin;
            }
        }
        BINS - 1
    }
}

/// See the module.
#[derive(Debug, Default)]
pub struct HybridHistogram {
    functions: BTreeMap<FunctionId, Known>,
    /// What is to be made, with the function's card.
    prewarms: BTreeSet<(Moment, FunctionId)>,
    cards: BTreeMap<FunctionId, FunctionCard>,
}

impl HybridHistogram {
    fn known(&mut self, function: FunctionId) -> &mut Known {
        if self.functions.len() >= FUNCTIONS && !self.functions.contains_key(&function) {
            let oldest = self.functions.iter().map(|(&id, known)| (known.until, id)).min();
            if let Some((_, oldest)) = oldest {
                self.put_off(oldest, None);
                self.functions.remove(&oldest);
                self.cards.remove(&oldest);
            }
        }
        self.functions.entry(function).or_default()
    }

    /// A sandbox of this function is to be made then, not at any other time.
    fn put_off(&mut self, function: FunctionId, to: Option<Moment>) {
        let Some(known) = self.functions.get_mut(&function) else { return };
        if let Some(before) = known.prewarm.take() {
            self.prewarms.remove(&(before, function));
        }
        known.prewarm = to;
        if let Some(at) = to {
            self.prewarms.insert((at, function));
        }
    }
}

impl KeepAlive for HybridHistogram {
    fn name(&self) -> &'static str {
        "hybrid-histogram"
    }

    fn called(&mut self, now: Moment, function: FunctionId) {
        let known = self.known(function);
        // Whoever is called again before it has ended was not idle.
        if let Some(ended) = known.ended.take() {
            known.idle_for(now.since(ended));
        }
        self.put_off(function, None);
    }

    fn rests(&mut self, now: Moment, function: &FunctionCard, unused: bool) -> Rest {
        let known = self.known(function.id);
        let window = known.window();
        if unused {
            // Made beforehand: for the window that was expected, or asked for by the Controller, for the range of its own.
            let until = if known.until > now { known.until } else { now + window.to };
            return Rest { until, worth: 0 };
        }
        (known.ended, known.until) = (Some(now), now + window.to);
        if window.from == Span::ZERO {
            self.put_off(function.id, None);
            return Rest { until: now + window.to, worth: 0 };
        }
        self.put_off(function.id, Some(now + window.from));
        self.cards.insert(function.id, *function);
        Rest { until: now, worth: 0 }
    }

    fn next_prewarm(&self) -> Option<Moment> {
        self.prewarms.first().map(|&(at, _)| at)
    }

    fn prewarm(&mut self, now: Moment) -> Option<FunctionCard> {
        let &(at, function) = self.prewarms.first()?;
        if at > now {
            return None;
        }
        self.put_off(function, None);
        self.cards.get(&function).copied()
    }
}

#[cfg(test)]
mod tests {
    use vocabulary::{OnEviction, Resources, Revision};

    use super::*;

    const F: FunctionCard = FunctionCard {
        id: FunctionId(1),
        revision: Revision(1),
        reservation: Resources { cpu: vocabulary::MilliCores(1_000), memory: vocabulary::Mebibytes(128) },
        timeout: Span::seconds(1),
        on_eviction: OnEviction::Rerun,
        application: None,
    };

    fn minutes(minutes: u64) -> Span {
        Span::seconds(60 * minutes)
    }

    /// Called after each of these idle times; the runs take no time.
    fn after(idle: impl IntoIterator<Item = Span>) -> (HybridHistogram, Moment, Rest) {
        let mut keep = HybridHistogram::default();
        let mut now = Moment::ORIGIN;
        keep.called(now, F.id);
        let mut rest = keep.rests(now, &F, false);
        for idle in idle {
            now = now + idle;
            keep.called(now, F.id);
            rest = keep.rests(now, &F, false);
        }
        (keep, now, rest)
    }

    #[test]
    fn before_anything_is_known_it_is_kept_for_the_range() {
        let (keep, now, rest) = after([]);
        assert_eq!(rest.until, now + minutes(240));
        assert_eq!(keep.next_prewarm(), None);
    }

    #[test]
    fn a_function_called_every_half_hour_is_unloaded_and_made_again_in_time() {
        let (mut keep, now, rest) = after(vec![minutes(30); 20]);
        assert_eq!(rest.until, now, "stopped at once");
        // The bin of 30 min: from 30 * 0.9 = 27 min to 31 * 1.1 = 34.1 min.
        assert_eq!(keep.next_prewarm(), Some(now + minutes(27)));
        assert_eq!(keep.prewarm(now + minutes(26)), None);
        assert_eq!(keep.prewarm(now + minutes(27)), Some(F));
        assert_eq!(keep.prewarm(now + minutes(27)), None, "once");
        let loaded = keep.rests(now + minutes(27), &F, true);
        assert_eq!(loaded.until, now + Span::seconds(2_046));
    }

    #[test]
    fn a_function_called_within_the_minute_stays_until_its_longest_idle_time() {
        // 95 of 100 within a minute, the rest after 5: the 5th percentile is bin 0, the 99th bin 5: until 6 * 1.1 = 6.6 min.
        let idle = (0..100).map(|n| if n % 20 == 0 { minutes(5) } else { Span::seconds(10) });
        let (keep, now, rest) = after(idle);
        assert_eq!(rest.until, now + Span::seconds(396));
        assert_eq!(keep.next_prewarm(), None);
    }

    #[test]
    fn the_ends_of_the_percentiles_do_not_count() {
        // One of a hundred after 200 min is beyond the 99th percentile; three of a hundred at 1 min are below the 5th.
        let idle = (0..100).map(|n| match n {
            7 => minutes(200),
            1..=3 => minutes(1),
            _ => minutes(20),
        });
        let (keep, now, _) = after(idle);
        assert_eq!(keep.next_prewarm(), Some(now + minutes(18)));
        assert_eq!(keep.functions[&F.id].window().to, Span::seconds(21 * 66));
    }

    #[test]
    fn idle_times_that_are_all_over_the_range_tell_nothing() {
        let (keep, now, rest) = after((0..240).map(minutes));
        assert!(!keep.functions[&F.id].is_telling());
        assert_eq!(rest.until, now + minutes(240));
    }

    #[test]
    fn a_histogram_of_which_most_is_out_of_range_tells_nothing() {
        let idle = (0..20).map(|n| if n % 3 == 0 { minutes(10) } else { minutes(300) });
        let (_, now, rest) = after(idle);
        assert_eq!(rest.until, now + minutes(240));
    }

    #[test]
    fn a_coefficient_of_variation_of_two_is_where_a_histogram_begins_to_tell() {
        // k bins with one each: CV^2 = 240/k - 1, which is 4 at k = 48.
        for (bins, telling) in [(48, true), (49, false)] {
            let mut known = Known::default();
            (0..bins).for_each(|bin| known.idle_for(minutes(bin)));
            assert_eq!(known.is_telling(), telling, "{bins}");
        }
    }

    #[test]
    fn a_call_before_the_prewarming_puts_it_off() {
        let (mut keep, now, _) = after(vec![minutes(30); 20]);
        keep.called(now + minutes(3), F.id);
        assert_eq!(keep.next_prewarm(), None);
    }

    #[test]
    fn no_more_than_the_limit_is_remembered() {
        let mut keep = HybridHistogram::default();
        for id in 0..FUNCTIONS as u64 + 10 {
            let card = FunctionCard { id: FunctionId(id), ..F };
            keep.called(Moment(id), card.id);
            keep.rests(Moment(id), &card, false);
        }
        assert_eq!(keep.functions.len(), FUNCTIONS);
        assert!(!keep.functions.contains_key(&FunctionId(3)));
    }
}
