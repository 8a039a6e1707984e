//! How far runs are from what was expected of them.
//!
//! **Knows:** for each run that has ended what its profile had said before.
//! **Promises:** each is counted in a distribution of measured over expected; and for each measure there is one number that says how far off
//! the recent runs were: 1 where all were as expected, 2 where they were half or double.
//! **Gives up:** saying which function drifts: metrics have no labels that grow.

use policies::dispatch::Seen;
use policies::profile::wanted_cpu;

use crate::metrics::ControllerMetrics;

/// Runs that the number remembers, as one that forgets.
const MEMORY: f64 = 256.0;
/// Expectations of fewer runs say nothing.
const RUNS_LEAST: u32 = 4;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Drift {
    /// Of duration, CPU and memory: runs seen, up to the memory, and the mean of the logarithm's size.
    means: [(f64, f64); 3],
}

impl Drift {
    /// A run has ended.
    pub fn saw(&mut self, seen: &Seen, metrics: &ControllerMetrics) {
        // One that was killed says nothing of what it needed.
        let Some(expected) = seen.expected.filter(|expected| expected.runs >= RUNS_LEAST && !seen.starved)
        else {
            return;
        };
        let (duration, usage) = (seen.ending.duration, &seen.ending.usage);
        let measured = [
            (duration.as_seconds(), expected.duration.as_seconds()),
            (f64::from(wanted_cpu(duration, usage).0), f64::from(expected.cpu_median.0)),
            (f64::from(usage.memory_peak.0), f64::from(expected.memory_median.0)),
        ];
        for (place, (measured, expected)) in measured.into_iter().enumerate() {
            // Of nothing, nothing is a multiple: what nobody measures here is left out.
            if measured <= 0.0 || expected <= 0.0 {
                continue;
            }
            let ratio = measured / expected;
            let (seen, mean) = &mut self.means[place];
            *seen = (*seen + 1.0).min(MEMORY);
            *mean += (ratio.ln().abs() - *mean) / *seen;
            metrics.drifted(place, ratio, mean.exp());
        }
    }
}

#[cfg(test)]
mod tests {
    use policies::dispatch::Ending;
    use policies::profile::Profile;
    use vocabulary::{
        Attempt, FunctionId, Grant, InvocationId, Mebibytes, MilliCores, Outcome, Resources, Revision, Span,
        Usage,
    };

    use super::*;
    use crate::metrics::Metrics;

    fn usage(duration: Span, memory: u32) -> Usage {
        Usage {
            cpu_time: duration,
            cpu_peak: MilliCores(1_000),
            memory_peak: Mebibytes(memory),
            ..Usage::default()
        }
    }

    #[test]
    fn a_function_that_becomes_slower_shows_and_one_that_does_not_does_not() {
        let metrics = Metrics::new("controller", "1", &crate::settings::Telemetry::default()).unwrap();
        let counts = ControllerMetrics::new(&metrics);
        let (mut drift, mut profile) = (Drift::default(), Profile::default());
        let reservation = Resources::new(1_000, 256);
        let mut run = |ms: u64| {
            let duration = Span::millis(ms);
            let ending = Ending {
                invocation: InvocationId(1),
                attempt: Attempt(1),
                function: FunctionId(1),
                revision: Revision(1),
                outcome: Some(Outcome::Success),
                cold: false,
                init: Span::ZERO,
                duration,
                usage: usage(duration, 100),
                sandbox_kept: true,
                input_bytes: 10,
            };
            let seen = Seen {
                ending,
                starved: false,
                reservation,
                grant: Grant::fixed(reservation),
                waited: Span::ZERO,
                expected: profile.expect(10),
            };
            drift.saw(&seen, &counts);
            profile.ended_with(10, duration, None, ending.usage);
        };
        let of = |name: &str| -> f64 {
            let text = metrics.text();
            let line = text.lines().find(|line| line.starts_with(name)).expect("the line is there");
            line.rsplit(' ').next().unwrap().parse().unwrap()
        };
        let duration = "windfall_drift_ratio{measure=\"duration\"}";
        assert_eq!(of(duration), 0.0, "nothing was expected yet");
        (0..20).for_each(|_| run(100));
        assert!((0.99..1.13).contains(&of(duration)), "{}", of(duration));
        (0..6).for_each(|_| run(400));
        assert!(of(duration) > 1.3, "{}", of(duration));
        assert!(of("windfall_drift_ratio{measure=\"memory\"}") < 1.13);
        assert!(of("windfall_measured_over_expected_count{measure=\"duration\"}") >= 20.0);
    }
}
