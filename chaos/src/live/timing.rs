//! How long trouble takes: until everybody knows, until a VM is empty, until placement follows.

use std::fmt;

use serde::Serialize;
use vocabulary::{Attempt, Span};

use super::observer::Sight;
use super::trouble::Seen;
use crate::events::Entry;
use crate::invariants::moves;

/// The median and the 99th percentile of a time; none where it was never taken.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Time {
    /// How often it was taken.
    pub count: usize,
    /// Half were not longer.
    pub p50_ms: Option<f64>,
    /// Of a hundred, 99 were not longer.
    pub p99_ms: Option<f64>,
}

impl Time {
    fn of(spans: Vec<Span>) -> Self {
        let spans = sorted(spans);
        Self { count: spans.len(), p50_ms: quantile(&spans, 50), p99_ms: quantile(&spans, 99) }
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |value: Option<f64>| value.map_or_else(|| "-".into(), |value| format!("{value:.0}"));
        write!(f, "{}, {} ({} times)", ms(self.p50_ms), ms(self.p99_ms), self.count)
    }
}

/// The times of one run.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Times {
    /// From a VM's end to the notice of its provider, who is the first to know.
    pub told: Time,
    /// From that notice to the next attempt on its way, where it was sent after it: this waits for room.
    pub waited: Time,
    /// From a metadata service that says that its VM will go to the notice that the VM passes on.
    pub heard: Time,
    /// From a VM's notice to the report in which it takes nothing new and runs nothing any more.
    pub drained: Time,
    /// VMs that were gone before they said so.
    pub ended_undrained: usize,
    /// From a change of a VM's quota to the report by which placement goes from then on.
    pub placed: Time,
    /// From a Controller's end to the first invocation that another is given of a function of its.
    pub moved: Time,
}

pub(super) fn times(trouble: &Seen, sight: &Sight, log: &[Entry]) -> Times {
    let since = |begin: Span, end: Span| Span(end.0.saturating_sub(begin.0));
    let told = trouble.deaths.iter().filter_map(|(vm, &death)| {
        let told = *sight.told.get(vm)?;
        (told >= death).then(|| since(death, told))
    });
    let waited = sight.runs.iter().filter_map(|((invocation, attempt), (_, again))| {
        let older = Attempt(attempt.0.checked_sub(1)?);
        let (vm, sent) = sight.runs.get(&(*invocation, older))?;
        let (death, told) = (trouble.deaths.get(vm)?, *sight.told.get(vm)?);
        (*death <= *again && told <= *again).then(|| since(told.max(*sent), *again))
    });
    let drained: Vec<Option<Span>> = trouble
        .notices
        .iter()
        .map(|(vm, &noticed)| {
            let mut looks = sight.looks.get(vm)?.iter().filter(|look| look.at >= noticed);
            looks.find(|look| look.is_drained).map(|look| since(noticed, look.at))
        })
        .collect();
    let placed = trouble.sizes.iter().filter_map(|(vm, cpu, changed)| {
        let mut looks = sight.looks.get(vm)?.iter().filter(|look| look.at >= *changed);
        // A quota is written in microseconds per period; what is read of it may be one off.
        looks.find(|look| look.cpu.0.abs_diff(cpu.0) <= 1).map(|look| since(*changed, look.at))
    });
    let heard = trouble.by_cloud.iter().filter_map(|(vm, &said)| Some(since(said, *sight.heard.get(vm)?)));
    Times {
        heard: Time::of(heard.collect()),
        told: Time::of(told.collect()),
        waited: Time::of(waited.collect()),
        ended_undrained: drained.iter().filter(|span| span.is_none()).count(),
        drained: Time::of(drained.into_iter().flatten().collect()),
        placed: Time::of(placed.collect()),
        moved: Time::of(moves(log)),
    }
}

pub(super) fn sorted(mut spans: Vec<Span>) -> Vec<Span> {
    spans.sort_unstable();
    spans
}

/// The value that so many hundredths of a sorted list do not exceed.
pub(super) fn quantile(sorted: &[Span], percent: usize) -> Option<f64> {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).map(|span| span.as_micros() as f64 / 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_one_of_the_values() {
        let spans: Vec<Span> = (1..=200).map(Span::millis).collect();
        assert_eq!(quantile(&spans, 50), Some(100.0));
        assert_eq!(quantile(&spans, 99), Some(198.0));
        assert_eq!(quantile(&spans[..1], 99), Some(1.0));
        assert_eq!(quantile(&[], 99), None);
    }
}
