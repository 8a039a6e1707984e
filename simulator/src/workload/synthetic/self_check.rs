//! Published against generated.
//!
//! **Promises:** what is generated is counted call by call, not computed from what went in.
//! **Gives up:** more than is published.

use std::fmt;

use vocabulary::Span;

use super::Synthetic;
use super::law::{LONG_APPS, LONG_APPS_TIME, LONG_FROM_S, LONG_TIME, SHORT_SHARE};

/// One figure.
#[derive(Debug, Clone, PartialEq)]
pub struct Figure {
    /// Of what.
    pub what: &'static str,
    /// As published.
    pub published: f64,
    /// As generated.
    pub generated: f64,
}

/// All figures.
#[derive(Debug, Clone, PartialEq)]
pub struct SelfCheck {
    /// Repeats it.
    pub seed: u64,
    /// How many calls were counted.
    pub calls: u64,
    /// Published against generated.
    pub figures: Vec<Figure>,
}

impl SelfCheck {
    /// How far the worst one is off.
    pub fn worst(&self) -> f64 {
        let off = self.figures.iter().map(|figure| (figure.generated - figure.published).abs());
        off.fold(0.0, f64::max)
    }
}

impl fmt::Display for SelfCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:44} {:>9} {:>9} {:>7}",
            "synthetic workload (SOSP'21, F_Small)", "published", "generated", "off by"
        )?;
        for Figure { what, published, generated } in &self.figures {
            let off = (generated - published) * 100.0;
            writeln!(f, "{what:44} {:>8.1}% {:>8.1}% {off:>+6.1}%", published * 100.0, generated * 100.0)?;
        }
        write!(f, "{} calls, seed {}", self.calls, self.seed)
    }
}

impl Synthetic {
    /// Plays all calls and counts.
    pub fn self_check(&self, seed: u64) -> SelfCheck {
        let mut workload = self.workload(&super::Assumptions::default(), seed);
        let apps = workload.functions.last().map_or(0, |function| function.app as usize + 1);
        let (mut time, mut has_long) = (vec![0.0; apps], vec![false; apps]);
        let steps = [
            ("invocations of 1 ms or less", 1e-3, 0.33),
            ("invocations of 35 ms or less", 35e-3, 0.50),
            ("invocations of 100 ms or less", 0.1, 0.62),
            ("invocations of 1 s or less", 1.0, 0.88),
            ("invocations of 30 s or less", LONG_FROM_S, SHORT_SHARE),
        ];
        let (mut below, mut calls, mut long_time) = ([0_u64; 5], 0_u64, 0.0);
        while workload.calls.next_at().is_some() {
            let call = workload.calls.take();
            let app = workload.functions[call.function as usize].app as usize;
            let seconds = duration(&call.work).as_seconds();
            calls += 1;
            steps
                .iter()
                .zip(&mut below)
                .for_each(|((_, most, _), below)| *below += u64::from(seconds <= *most));
            time[app] += seconds;
            if seconds > LONG_FROM_S {
                long_time += seconds;
                has_long[app] = true;
            }
        }
        let all: f64 = time.iter().sum();
        let of_long_apps: f64 =
            time.iter().zip(&has_long).filter(|(_, is_long)| **is_long).map(|(t, _)| t).sum();
        let called = time.iter().filter(|&&time| time > 0.0).count() as f64;
        let share = |part: f64, of: f64| if of > 0.0 { part / of } else { 0.0 };
        let step = |((what, _, published), below)| Figure {
            what,
            published,
            generated: share(below as f64, calls as f64),
        };
        let mut figures: Vec<Figure> = steps.into_iter().zip(below).map(step).collect();
        let long_apps = has_long.iter().filter(|is_long| **is_long).count() as f64;
        for (what, published, generated) in [
            ("time in invocations longer than 30 s", LONG_TIME, share(long_time, all)),
            ("applications with one longer than 30 s", LONG_APPS, share(long_apps, called)),
            ("time in those applications", LONG_APPS_TIME, share(of_long_apps, all)),
        ] {
            figures.push(Figure { what, published, generated });
        }
        SelfCheck { seed, calls, figures }
    }
}

/// With its reservation, which is a core.
fn duration(work: &crate::plan::Work) -> Span {
    work.io + work.cpu
}
