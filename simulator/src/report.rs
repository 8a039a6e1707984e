//! What came of a rehearsal.
//!
//! **Knows:** what the world counted.
//! **Promises:** equal for equal scenarios; printed, one line per thing.
//! **Gives up:** per-function figures and time series, so far.

use std::fmt;

use serde::Serialize;
use vocabulary::Span;

/// Percentiles of a set of spans, in microseconds; all 0 when it is empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Latency {
    /// Half took at most this long.
    pub p50_us: u64,
    /// Nine in ten.
    pub p90_us: u64,
    /// Ninety-nine in a hundred.
    pub p99_us: u64,
    /// All.
    pub max_us: u64,
}

impl Latency {
    /// Nearest-rank percentiles.
    pub(crate) fn of(mut spans: Vec<u64>) -> Self {
        spans.sort_unstable();
        let percentile = |percent: usize| {
            let rank = (spans.len() * percent).div_ceil(100);
            spans.get(rank.saturating_sub(1)).copied().unwrap_or(0)
        };
        Self {
            p50_us: percentile(50),
            p90_us: percentile(90),
            p99_us: percentile(99),
            max_us: percentile(100),
        }
    }
}

impl fmt::Display for Latency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [p50, p90, p99, max] = [self.p50_us, self.p90_us, self.p99_us, self.max_us].map(Span);
        write!(f, "p50 {p50}, p90 {p90}, p99 {p99}, max {max}")
    }
}

/// What came of a rehearsal.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Report {
    /// The scenario's.
    pub name: String,
    /// The scenario's.
    pub placement: String,
    /// The scenario's.
    pub seed: u64,
    /// Virtual time from the first event to the last.
    pub played_us: u64,
    /// Events that were played.
    pub events: u64,
    /// Invocations that arrived.
    pub submitted: u64,
    /// Those with an answer.
    pub answered: u64,
    /// Those that were not taken.
    pub refused: u64,
    /// Those that waited for longer than they might.
    pub waited_too_long: u64,
    /// Those whose VM was lost, and whose function forbids a second run.
    pub lost_and_never: u64,
    /// Those that lost too many VMs.
    pub lost_too_often: u64,
    /// Runs that began, and how many of them needed a new sandbox.
    pub runs: u64,
    /// See `runs`.
    pub cold_runs: u64,
    /// Attempts beyond each invocation's first.
    pub further_attempts: u64,
    /// VMs that were given up.
    pub vms_lost: u64,
    /// From submission to answer.
    pub latency: Latency,
    /// From submission to the first `Run`.
    pub wait: Latency,
    /// How often something was not as it must be; 0 unless there is a bug.
    pub violations: u64,
    /// What the first of them were, in words.
    pub first_violations: Vec<String>,
}

impl Report {
    /// Runs that needed a new sandbox, in thousandths.
    pub fn cold_permille(&self) -> u64 {
        self.cold_runs * 1_000 / self.runs.max(1)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cold = self.cold_permille();
        writeln!(f, "scenario          {} ({}, seed {})", self.name, self.placement, self.seed)?;
        writeln!(f, "played            {} in {} events", Span(self.played_us), self.events)?;
        writeln!(f, "invocations       {} submitted, {} answered", self.submitted, self.answered)?;
        writeln!(
            f,
            "not answered      {} refused, {} waited too long, {} lost and never to run twice, {} lost too often",
            self.refused, self.waited_too_long, self.lost_and_never, self.lost_too_often
        )?;
        writeln!(f, "latency           {}", self.latency)?;
        writeln!(f, "wait for a place  {}", self.wait)?;
        writeln!(
            f,
            "cold starts       {} of {} runs ({}.{} %)",
            self.cold_runs,
            self.runs,
            cold / 10,
            cold % 10
        )?;
        writeln!(f, "further attempts  {}, after {} lost VMs", self.further_attempts, self.vms_lost)?;
        write!(f, "violations        {}", self.violations)?;
        for violation in &self.first_violations {
            write!(f, "\n  {violation}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_were_seen() {
        let latency = Latency::of((1..=200).rev().collect());
        assert_eq!(latency, Latency { p50_us: 100, p90_us: 180, p99_us: 198, max_us: 200 });
        assert_eq!(Latency::of(vec![7]), Latency { p50_us: 7, p90_us: 7, p99_us: 7, max_us: 7 });
        assert_eq!(Latency::of(vec![]), Latency::default());
    }
}
