//! Invocations for the strategies: of which application, and how long.
//!
//! **Knows:** what is published of the two traces that the paper characterises, neither of which is public as it was used.
//! **Promises:** [`Workload::FLarge`] has the published shares of *applications* with long invocations (20.6 % have one longer than 30 s,
//! 16.7 % more than one in a thousand, 12.3 % more than one in a hundred), and the shares of *computation* from which the published
//! shares on harvest VMs follow if each strategy knows the distributions: 12, 28 and 45.7 %. So those are put in, not found; what is
//! found is what strategies that learn make of it, and what is lost.
//! **Gives up:** how often applications of `F_Large` are called relative to each other, beyond those shares.
//!
//! That 12, 28 and 45.7 % are of `F_Large` is our reading: in `F_Small` applications with a long invocation have 99.7 % of all execution
//! time, so that `no-failure` could keep no more than 0.3 % there.

use std::path::Path;

use vocabulary::Span;

use super::super::Size;
use crate::chance::{Chance, Weighted};
use crate::workload::{
    self, Assumptions, Azure2019, S500_JUDGE, S500_LEARN, Selection, Synthetic, TraceError,
};

const GRACE_S: f64 = 30.0;
/// The longest invocation.
pub const LONGEST_S: f64 = 3_600.0;
/// Purpose of chance.
const PURPOSE: u64 = 311;

/// Whose invocations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Workload {
    /// Made to the published shares.
    FLarge,
    /// As characterised.
    FSmall,
    /// Azure 2019: learned on the half that is for learning, counted on the half that is for judging.
    S500,
}

/// What one invocation costs.
#[derive(Debug, Clone, Copy)]
pub struct Cost {
    /// Its length.
    pub seconds: f64,
    /// By how much it is longer than the grace period.
    pub excess: f64,
    /// That, squared.
    pub excess_squared: f64,
    /// It, times the length.
    pub excess_seconds: f64,
}

/// Invocations in order.
pub struct Traffic {
    /// Of so many applications.
    pub apps: u32,
    /// Application and seconds.
    pub calls: Vec<(u32, f32)>,
    /// So many of the first only teach.
    pub learned: usize,
    /// Where they are from.
    pub note: String,
    /// What to expect of an application's invocations, where it is known: then no chance of single long ones is in the result.
    pub expected: Vec<Cost>,
}

impl Traffic {
    /// What this invocation costs, or should.
    pub fn cost(&self, app: u32, seconds: f32) -> Cost {
        self.expected.get(app as usize).copied().unwrap_or_else(|| {
            let seconds = f64::from(seconds);
            let excess = (seconds - GRACE_S).max(0.0);
            Cost { seconds, excess, excess_squared: excess * excess, excess_seconds: excess * seconds }
        })
    }

    /// Computation, in per cent, of applications that have no invocation longer than 30 s, at most one in a thousand, at most one in a
    /// hundred: what strategies that knew everything beforehand would keep.
    pub fn short_shares(&self) -> [f64; 3] {
        let mut by_app = vec![(0_u64, 0_u64, 0.0); self.apps as usize];
        for &(app, seconds) in &self.calls {
            let cost = self.cost(app, seconds);
            let sum = &mut by_app[app as usize];
            *sum = (sum.0 + 1, sum.1 + u64::from(f64::from(seconds) > GRACE_S), sum.2 + cost.seconds);
        }
        let all: f64 = by_app.iter().map(|sum| sum.2).sum();
        [0.0, 1e-3, 1e-2].map(|most| {
            let kept = by_app.iter().filter(|sum| sum.1 as f64 <= most * sum.0 as f64);
            100.0 * kept.map(|sum| sum.2).sum::<f64>() / all.max(1e-9)
        })
    }
}

impl Workload {
    /// For tables and programs.
    pub fn name(self) -> &'static str {
        match self {
            Self::FLarge => "F_Large, made",
            Self::FSmall => "F_Small, made",
            Self::S500 => "s500",
        }
    }

    /// Its invocations under a seed.
    pub fn traffic(self, size: &Size, seed: u64) -> Result<Traffic, TraceError> {
        match self {
            Self::FLarge => Ok(f_large(size.pick(2_000_000, 1_000_000, 20_000), seed)),
            Self::FSmall => Ok(f_small(size.pick(14 * 24, 7 * 24, 2), seed)),
            Self::S500 => s500(size.traces.as_deref().expect("only played where there is one"), seed),
        }
    }

    /// What is in it, beside what is published of it.
    pub fn self_check(self, shapes: &[[f64; 3]]) -> String {
        let mean = |at: usize| shapes.iter().map(|shape| shape[at]).sum::<f64>() / shapes.len().max(1) as f64;
        let published = match self {
            Self::FLarge => "12, 28 and 45.7 %, to which it is made",
            Self::FSmall => "0.3 % of the first",
            Self::S500 => "nothing",
        };
        format!(
            "{}: applications without an invocation over 30 s, with at most one in a thousand, with at most one in a hundred, have {:.1}, {:.1} and \
             {:.1} % of the computation (published: {published}). Strategies that knew every application would keep just that.",
            self.name(),
            mean(0),
            mean(1),
            mean(2)
        )
    }
}

/// Applications by how many of their invocations are long.
struct Class {
    /// Share of the applications, and of the computation: sums and differences of the published numbers.
    apps: f64,
    computation: f64,
    /// Least and most of the invocations that are long.
    long: (f64, f64),
    /// Least and most of the medians' logarithms (of ten, in seconds). Those with few long invocations must be called so often that these are
    /// seen, and so are short.
    median: (f64, f64),
}

const CLASSES: [Class; 4] = [
    Class { apps: 0.794, computation: 0.12, long: (0.0, 0.0), median: (-2.5, 0.7) },
    Class { apps: 0.039, computation: 0.16, long: (3e-4, 9e-4), median: (-2.5, -1.0) },
    Class { apps: 0.044, computation: 0.177, long: (1.2e-3, 9e-3), median: (-2.5, 0.0) },
    Class { apps: 0.123, computation: 0.543, long: (1.5e-2, 1.0), median: (-2.5, 0.7) },
];
const F_LARGE_APPS: u32 = 600;

/// An application of it: a log-normal body cut at 30 s, and beyond it Pareto's tail with exponent 1, cut at an hour.
struct App {
    median: f64,
    sigma: f64,
    long: f64,
}

impl App {
    fn seconds(&self, chance: &mut Chance) -> f64 {
        if chance.unit() < self.long {
            let cut = 1.0 - GRACE_S / LONGEST_S;
            return GRACE_S / (1.0 - chance.unit() * cut);
        }
        loop {
            let seconds = self.median * (self.sigma * chance.normal()).exp();
            if seconds <= GRACE_S {
                return seconds;
            }
        }
    }

    fn expected(&self, chance: &mut Chance) -> Cost {
        const DRAWS: u32 = 2_000;
        let body = App { long: 0.0, ..*self };
        let short = (0..DRAWS).map(|_| body.seconds(chance)).sum::<f64>() / f64::from(DRAWS);
        let scale = 1.0 / (1.0 / GRACE_S - 1.0 / LONGEST_S);
        let long = scale * (LONGEST_S / GRACE_S).ln();
        let seconds_squared = scale * (LONGEST_S - GRACE_S);
        let excess_seconds = seconds_squared - GRACE_S * long;
        let excess_squared = seconds_squared - 2.0 * GRACE_S * long + GRACE_S * GRACE_S;
        Cost {
            seconds: (1.0 - self.long) * short + self.long * long,
            excess: self.long * (long - GRACE_S),
            excess_squared: self.long * excess_squared,
            excess_seconds: self.long * excess_seconds,
        }
    }
}

fn f_large(calls: usize, seed: u64) -> Traffic {
    let mut chance = Chance::new(seed, PURPOSE);
    let mut class_of: Vec<usize> = (0..F_LARGE_APPS)
        .map(|app| {
            let share = (f64::from(app) + 0.5) / f64::from(F_LARGE_APPS);
            let mut below = 0.0;
            CLASSES
                .iter()
                .position(|class| {
                    below += class.apps;
                    share < below
                })
                .unwrap_or(CLASSES.len() - 1)
        })
        .collect();
    chance.shuffle(&mut class_of);
    let apps: Vec<App> = class_of
        .iter()
        .map(|&class| {
            let Class { long: (least, most), median: (shortest, longest), .. } = CLASSES[class];
            App {
                median: 10_f64.powf(chance.between(shortest, longest)),
                sigma: chance.between(0.4, 1.2),
                long: if most > 0.0 { least * (most / least).powf(chance.unit()) } else { 0.0 },
            }
        })
        .collect();
    let expected: Vec<Cost> = apps.iter().map(|app| app.expected(&mut chance)).collect();
    // Within a class computation is spread evenly in the logarithm over a decade; then each class has its published share of it.
    let mut weights: Vec<f64> = apps.iter().map(|_| 10_f64.powf(chance.between(0.0, 1.0))).collect();
    for (class, &Class { computation: share, .. }) in CLASSES.iter().enumerate() {
        let of_class = |app: &usize| class_of[*app] == class;
        let sum: f64 = (0..apps.len()).filter(of_class).map(|app| weights[app]).sum();
        (0..apps.len()).filter(of_class).for_each(|app| weights[app] *= share / sum);
    }
    let rates: Vec<f64> = weights.iter().zip(&expected).map(|(weight, cost)| weight / cost.seconds).collect();
    let pick = Weighted::new(&rates);
    let calls = (0..calls)
        .map(|_| {
            let app = pick.pick(&mut chance);
            (app as u32, apps[app].seconds(&mut chance) as f32)
        })
        .collect::<Vec<_>>();
    let note = format!(
        "F_Large, made: {F_LARGE_APPS} applications with the published shares of applications and of computation; {} invocations, the first half to learn from",
        calls.len()
    );
    Traffic { apps: F_LARGE_APPS, learned: calls.len() / 2, calls, note, expected }
}

fn f_small(hours: u64, seed: u64) -> Traffic {
    let synthetic = Synthetic { length: Span::seconds(hours * 3_600), ..Synthetic::f_small() };
    let played = synthetic.workload(&Assumptions::default(), seed);
    let (apps, calls) = drain(played);
    let note = format!(
        "F_Small, made: the synthetic workload with the published durations; {hours} hours, {} invocations, the first half to learn from",
        calls.len()
    );
    Traffic { apps, learned: calls.len() / 2, calls, note, expected: Vec::new() }
}

/// One day is known; the seed draws the durations from its percentiles.
fn s500(traces: &Path, seed: u64) -> Result<Traffic, TraceError> {
    let file = |what: &str| traces.join(format!("functions/azure2019_s500_{what}.csv.gz"));
    let trace = Azure2019::read(&file("functions"), &file("invocations_per_min"))?;
    let play = |minutes| trace.workload(&Selection::minutes(minutes), &Assumptions::default(), seed);
    let (apps, mut calls) = drain(play(S500_LEARN)?);
    let learned = calls.len();
    calls.extend(drain(play(S500_JUDGE)?).1);
    let note = format!(
        "s500: {learned} invocations of minutes 480 to 719 to learn from, {} of minutes 720 to 959 counted; durations from the percentiles of each function",
        calls.len() - learned
    );
    Ok(Traffic { apps, learned, calls, note, expected: Vec::new() })
}

/// Applications, and all calls: all of a duration is CPU on one core.
fn drain(mut played: workload::Workload) -> (u32, Vec<(u32, f32)>) {
    let apps = played.functions.iter().map(|function| function.app + 1).max().unwrap_or(0);
    let mut calls = Vec::new();
    while played.calls.next_at().is_some() {
        let call = played.calls.take();
        let app = played.functions[call.function as usize].app;
        calls.push((app, (call.work.cpu + call.work.io).as_seconds() as f32));
    }
    (apps, calls)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_made_has_the_published_shares_of_applications_and_of_computation() {
        let traffic = f_large(1_000_000, 1);
        for (share, published) in traffic.short_shares().into_iter().zip([12.0, 28.0, 45.7]) {
            // Where one is called seldom, what is seen of it is not quite what it is.
            assert!((share - published).abs() < 4.0, "{share}, published {published}");
        }
        assert!((1.0 - CLASSES[0].apps - 0.206).abs() < 1e-9, "20.6 % of applications have a long one");
        assert!((CLASSES.iter().map(|class| class.apps).sum::<f64>() - 1.0).abs() < 1e-9);
        assert!((CLASSES.iter().map(|class| class.computation).sum::<f64>() - 1.0).abs() < 1e-9);
        assert!(traffic.calls.iter().all(|&(_, seconds)| f64::from(seconds) <= LONGEST_S + 1.0));
    }

    #[test]
    fn the_expected_cost_of_a_tail_is_what_many_draws_come_to() {
        let app = App { median: 1.0, sigma: 0.5, long: 0.3 };
        let mut chance = Chance::new(1, PURPOSE);
        let expected = app.expected(&mut chance);
        let draws = 400_000;
        let (mut seconds, mut excess, mut squared) = (0.0, 0.0, 0.0);
        for _ in 0..draws {
            let one = app.seconds(&mut chance);
            let over = (one - GRACE_S).max(0.0);
            (seconds, excess, squared) = (seconds + one, excess + over, squared + over * over);
        }
        assert!((seconds / f64::from(draws) / expected.seconds - 1.0).abs() < 0.02);
        assert!((excess / f64::from(draws) / expected.excess - 1.0).abs() < 0.02);
        assert!((squared / f64::from(draws) / expected.excess_squared - 1.0).abs() < 0.05);
    }
}
