//! Keeping sandboxes as a cache keeps objects: never for a time, always by worth.
//!
//! **Knows:** how often each function was called here since it last had no sandbox, how long making one took, how large it is.
//! **Promises:** the sandbox of the least `clock + frequency * cost / size` goes first, and only when memory is needed. The
//! clock is the worth of what went last, so that what has not been called since ages against what has.
//! **Gives up:** memory for anything else: it is full before anything goes. The worth of a function's other idle sandboxes is
//! not raised when one of them is called; they are raised when they are used themselves.
//!
//! Source: Fuerst, Sharma, "FaasCache: Keeping Serverless Computing Alive with Greedy-Dual Caching", ASPLOS 2021 (after
//! Cherkasova's Greedy-Dual-Size-Frequency, 1998). Cost is the time of making a sandbox, in microseconds; size is its memory.

use vocabulary::{FunctionCard, FunctionId, Moment, Span};

use super::{KeepAlive, Rest};
use crate::hash::Map;

/// What is known of a function that has sandboxes here.
#[derive(Debug, Clone, Copy, Default)]
struct Known {
    calls: u64,
    cost: Span,
}

/// See the module.
#[derive(Debug, Default)]
pub struct GreedyDual {
    clock: u64,
    functions: Map<FunctionId, Known>,
}

impl KeepAlive for GreedyDual {
    fn name(&self) -> &'static str {
        "greedy-dual"
    }

    fn called(&mut self, _now: Moment, function: FunctionId) {
        self.functions.entry(function).or_default().calls += 1;
    }

    fn made(&mut self, function: FunctionId, took: Span) {
        self.functions.entry(function).or_default().cost = took;
    }

    fn rests(&mut self, _now: Moment, function: &FunctionCard, _unused: bool) -> Rest {
        let Known { calls, cost } = self.functions.get(&function.id).copied().unwrap_or_default();
        let size = u64::from(function.reservation.memory.0.max(1));
        let value = calls.saturating_mul(cost.as_micros()) / size;
        Rest { until: Moment::NEVER, worth: self.clock.saturating_add(value) }
    }

    fn evicted(&mut self, worth: u64) {
        self.clock = self.clock.max(worth);
    }

    fn left(&mut self, function: FunctionId) {
        self.functions.remove(&function);
    }
}

#[cfg(test)]
mod tests {
    use vocabulary::{OnEviction, Resources, Revision};

    use super::*;

    fn card(id: u64, memory: u32) -> FunctionCard {
        FunctionCard {
            id: FunctionId(id),
            revision: Revision(1),
            reservation: Resources::new(1_000, memory),
            timeout: Span::seconds(1),
            on_eviction: OnEviction::Rerun,
            application: None,
        }
    }

    #[test]
    fn worth_is_clock_plus_frequency_times_cost_by_size() {
        let mut keep = GreedyDual::default();
        keep.made(FunctionId(1), Span::millis(512));
        (0..3).for_each(|_| keep.called(Moment::ORIGIN, FunctionId(1)));
        // 0 + 3 * 512,000 / 256
        let rest = keep.rests(Moment::ORIGIN, &card(1, 256), false);
        assert_eq!(rest, Rest { until: Moment::NEVER, worth: 6_000 });
        keep.evicted(10_000);
        assert_eq!(keep.rests(Moment::ORIGIN, &card(1, 256), false).worth, 16_000);
        keep.evicted(9_000);
        assert_eq!(
            keep.rests(Moment::ORIGIN, &card(1, 512), false).worth,
            13_000,
            "the clock never goes back"
        );
    }

    #[test]
    fn a_function_without_sandboxes_begins_anew() {
        let mut keep = GreedyDual::default();
        keep.made(FunctionId(1), Span::millis(512));
        keep.called(Moment::ORIGIN, FunctionId(1));
        keep.left(FunctionId(1));
        assert_eq!(keep.rests(Moment::ORIGIN, &card(1, 256), false).worth, 0);
    }
}
