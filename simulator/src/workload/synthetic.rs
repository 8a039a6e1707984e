//! A workload by chance, fitted to what is published of real ones.
//!
//! **Knows:** SOSP'21's characterisation of durations (`law`); how popularity falls off in a day of 17,577 applications of Azure;
//! the mix of triggers of the 2019 sample.
//! **Promises:** [`Synthetic::self_check`] prints published against generated. Twenty bytes for each function beside its plan, so
//! that a million fit; minute by minute, each function from a stream of its own.
//! **Gives up:** how applications depend on each other, and weeks.

mod law;
mod self_check;

use std::sync::Arc;

use vocabulary::{Mebibytes, Moment, Span};

pub use self_check::{Figure, SelfCheck};

use super::assumptions::{Described, asked_for};
use super::replay::{Batches, Event, Replay};
use super::{Assumptions, Workload, purpose};
use crate::chance::Chance;
use crate::plan::Work;
use law::{LONG_APPS, Law, SHORT_SHARE, bisect, normal_quantile};

/// Standard deviation of the logarithm of an application's calls in a day: a log-normal with it is within a factor of 2 of
/// the data from the most popular application to the 15,000th (`tests/traces.rs` prints it).
pub const POPULARITY_SIGMA: f64 = 3.4;
/// The trace of the characterisation lasts so long; whether an application has a long invocation is said of that time.
const OBSERVED_S: f64 = 14.0 * 86_400.0;
/// An application that has long invocations has so many in that time, if it is called so often: then one in 50 is missed.
const LONG_ONES: f64 = 4.0;
/// Share of invocations in applications that have no long one. Not published; the distribution of durations allows up to 0.8.
const SHORT_APPS_CALLS: f64 = 0.4;
/// How wide a function's durations are spread over the ranks of all durations.
const WITHIN: f64 = 0.15;
/// Of the functions of the 2019 sample (`s500`): 247 timers; 113 queues, events, storage and orchestrations, which come in
/// bursts; the rest is called by people and programs, with the time of day.
const TIMERS: f64 = 0.494;
const BURSTS: f64 = 0.226;
/// Bursts: one window of ten minutes in eight, then eight times as often.
const BURST_MINUTES: u64 = 10;
const BURST_FACTOR: f64 = 8.0;
/// Nothing that has more than this share of all calls is a burst.
const BURST_SHARE_MOST: f64 = 0.01;
/// Memory of applications (Shahrad et al., ATC'20): half use at most 170 MB, nine in ten at most 400.
const MEMORY_MEDIAN_MB: f64 = 170.0;
const MEMORY_SIGMA: f64 = 0.668;

/// A workload by chance.
#[derive(Debug, Clone, PartialEq)]
pub struct Synthetic {
    /// How many functions.
    pub functions: u32,
    /// In how many applications.
    pub apps: u32,
    /// Calls per second of all functions, on average over a day.
    pub per_second: f64,
    /// So long.
    pub length: Span,
    /// The first minute begins so long after the house.
    pub begins: Span,
    /// Swing of the time of day, for those who are called by people: 0.3 is 30 % more at its peak and 30 % less at night.
    pub daily_swing: f64,
}

impl Synthetic {
    /// The size and length of the trace that is characterised: 119 applications, 424 functions, two weeks, 1.98 million calls.
    pub fn f_small() -> Self {
        let length = Span::seconds(OBSERVED_S as u64);
        Self { apps: 119, ..Self::new(424, 1_980_951.0 / OBSERVED_S, length) }
    }

    /// So many functions, 3.56 to an application as in that trace.
    pub fn new(functions: u32, per_second: f64, length: Span) -> Self {
        let apps = ((f64::from(functions) / 3.56) as u32).max(1);
        Self { functions, apps, per_second, length, begins: Span::seconds(2), daily_swing: 0.3 }
    }

    /// Functions and calls.
    pub fn workload(&self, assumptions: &Assumptions, seed: u64) -> Workload {
        let (apps, law, functions) = self.draw(seed);
        let plan = |(place, function): (usize, &Function)| {
            let memory = asked_for(f64::from(function.memory_mib) * 1.3);
            let name = format!("f{place}");
            let known = Described { name: &name, app: apps[place], memory };
            assumptions.function(seed, place as u64, place, known)
        };
        let plans = functions.iter().enumerate().map(plan).collect();
        let mut notes = vec![
            format!(
                "synthetic: {} functions of {} applications, {} calls a second, durations as SOSP'21's F_Small, popularity log-normal ({POPULARITY_SIGMA})",
                self.functions, self.apps, self.per_second
            ),
            format!(
                "assumed: {:.0} % of functions are timers, {:.0} % come in bursts; a day swings by {:.0} %",
                TIMERS * 100.0,
                BURSTS * 100.0,
                self.daily_swing * 100.0
            ),
        ];
        notes.extend(assumptions.notes());
        let minutes = Minutes {
            functions: Arc::new(functions),
            law,
            assumptions: *assumptions,
            begins: Moment::ORIGIN + self.begins,
            minute: 0,
            length: self.length,
            daily_swing: self.daily_swing,
            seed,
        };
        Workload { functions: plans, calls: Box::new(Replay::new(minutes, None)), notes }
    }

    /// Shares of all calls, the most popular application first: by rank, so that the tail is as heavy as it should be under
    /// every seed.
    pub fn popularity(apps: u32) -> Vec<f64> {
        let weight = |app: u32| {
            let share = (f64::from(app) + 0.5) / f64::from(apps);
            (-POPULARITY_SIGMA * normal_quantile(share)).exp()
        };
        let weights: Vec<f64> = (0..apps).map(weight).collect();
        let sum: f64 = weights.iter().sum();
        weights.into_iter().map(|weight| weight / sum).collect()
    }

    /// The application of each function, the law of durations, and the functions.
    fn draw(&self, seed: u64) -> (Vec<u32>, Law, Vec<Function>) {
        let mut chance = Chance::new(seed, purpose::SYNTHETIC);
        let apps = self.apps.clamp(1, self.functions.max(1));
        let shares = Self::popularity(apps);
        let is_long = long_apps(&shares, &mut chance);
        let of_short: f64 =
            shares.iter().zip(&is_long).filter(|(_, long)| !**long).map(|(share, _)| share).sum();
        let law = Law::new(of_short);
        let long = long_shares(&shares, &is_long, self.per_second, &mut chance);
        let sizes = self.sizes(apps, &mut chance);
        let (mut of_app, mut functions) = (Vec::new(), Vec::new());
        for (app, &size) in sizes.iter().enumerate() {
            let harmonic: f64 = (1..=size).map(|rank| 1.0 / f64::from(rank)).sum();
            for rank in 1..=size {
                let share = shares[app] / f64::from(rank) / harmonic;
                of_app.push(app as u32);
                functions.push(Function {
                    per_second: (share * self.per_second) as f32,
                    from: 0.0,
                    width: 0.0,
                    long: if is_long[app] { long[app] as f32 } else { -1.0 },
                    memory_mib: memory(&mut chance),
                    arrivals: arrivals(share, &mut chance),
                });
            }
        }
        tile(&mut functions, self.per_second, of_short, &mut chance);
        (of_app, law, functions)
    }

    /// Functions of each application: one, and the rest by chance.
    fn sizes(&self, apps: u32, chance: &mut Chance) -> Vec<u32> {
        let mut sizes = vec![1; apps as usize];
        (apps..self.functions).for_each(|_| sizes[chance.below(apps.into()) as usize] += 1);
        sizes
    }
}

/// Which applications have long invocations: the published share of them, and of the calls what is left by [`SHORT_APPS_CALLS`]. Those
/// that have most of the calls are dealt in turn, the many others by chance.
fn long_apps(shares: &[f64], chance: &mut Chance) -> Vec<bool> {
    let mut long_left = (shares.len() as f64 * LONG_APPS).round() as usize;
    let (mut seen, mut short, mut is_long) = (0.0, 0.0, Vec::with_capacity(shares.len()));
    for (app, share) in shares.iter().enumerate() {
        let left = shares.len() - app;
        let picked = if app < shares.len() / 10 {
            short > SHORT_APPS_CALLS * seen || (app == 0 && shares.len() > 1)
        } else {
            chance.below(left as u64) < long_left as u64
        };
        let picked = picked && long_left > 0;
        long_left -= usize::from(picked);
        seen += share;
        short += if picked { 0.0 } else { *share };
        is_long.push(picked);
    }
    is_long
}

/// Of the invocations of each application with long ones, how many are long: spread over decades, at least so many that one is
/// seen, together as many as published.
fn long_shares(shares: &[f64], is_long: &[bool], per_second: f64, chance: &mut Chance) -> Vec<f64> {
    let least = |share: f64| (LONG_ONES / (share * per_second * OBSERVED_S)).min(1.0);
    let drawn: Vec<f64> = shares.iter().map(|_| 10_f64.powf(chance.between(-4.0, 0.0))).collect();
    let of = |app: usize, factor: f64| (drawn[app] * factor).clamp(least(shares[app]), 1.0);
    let apps = || (0..shares.len()).filter(|&app| is_long[app]);
    let all = |factor: f64| apps().map(|app| shares[app] * of(app, factor)).sum::<f64>();
    let exponent = bisect(8.0, -12.0, |exponent| all(10_f64.powf(exponent)) - (1.0 - SHORT_SHARE));
    (0..shares.len()).map(|app| of(app, 10_f64.powf(exponent))).collect()
}

/// Gives each function its place among the ranks of all durations, as wide as its share of them.
fn tile(functions: &mut [Function], per_second: f64, of_short: f64, chance: &mut Chance) {
    let mut order: Vec<u32> = (0..functions.len() as u32).collect();
    for at in 0..order.len() {
        let other = at + chance.below((order.len() - at) as u64) as usize;
        order.swap(at, other);
    }
    let (mut short, mut long) = (0.0, 0.0);
    for function in order {
        let function = &mut functions[function as usize];
        let share = f64::from(function.per_second) / per_second;
        let (at, width) = if function.long < 0.0 {
            (&mut short, share / of_short)
        } else {
            (&mut long, share * (1.0 - f64::from(function.long)) / (SHORT_SHARE - of_short))
        };
        (function.from, function.width) = (*at as f32, width as f32);
        *at += width;
    }
}

fn memory(chance: &mut Chance) -> u16 {
    let mib = MEMORY_MEDIAN_MB * (MEMORY_SIGMA * chance.normal()).exp();
    mib.clamp(32.0, 4_000.0) as u16
}

fn arrivals(share: f64, chance: &mut Chance) -> Arrivals {
    match chance.unit() {
        kind if kind <= TIMERS => Arrivals::Timer,
        kind if kind <= TIMERS + BURSTS && share < BURST_SHARE_MOST => Arrivals::Bursts,
        _ => Arrivals::Daily,
    }
}

/// When a function is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Arrivals {
    /// At equal distances.
    Timer,
    /// Much in some windows, not at all in the others.
    Bursts,
    /// As a Poisson stream, with the time of day.
    Daily,
}

/// All that is known of a function, beside its plan.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Function {
    per_second: f32,
    /// Its place among the ranks of the durations of its kind of application...
    from: f32,
    /// ...and how much of them it has.
    width: f32,
    /// Share of its invocations that are long; negative: its application has none.
    long: f32,
    memory_mib: u16,
    arrivals: Arrivals,
}

impl Function {
    fn seconds(&self, law: &Law, chance: &mut Chance) -> f64 {
        if f64::from(self.long) >= chance.unit() {
            return law.long(chance.unit());
        }
        // A step to either side, turned back at the ends, leaves the whole as even as it was.
        let at =
            f64::from(self.from) + f64::from(self.width) * chance.unit() + WITHIN * chance.between(-1.0, 1.0);
        let at = at.abs();
        let at = if at > 1.0 { 2.0 - at } else { at };
        if self.long < 0.0 { law.of_short_app(at) } else { law.short_of_long_app(at) }
    }
}

/// Draws the calls of one minute after the other.
struct Minutes {
    functions: Arc<Vec<Function>>,
    law: Law,
    assumptions: Assumptions,
    begins: Moment,
    minute: u64,
    length: Span,
    daily_swing: f64,
    seed: u64,
}

const MINUTE: Span = Span::seconds(60);

impl Minutes {
    /// Now in this many times the average.
    fn time_of_day(&self) -> f64 {
        let days = (self.minute as f64 + 0.5) / 1440.0;
        // Its mean is met at the beginning, the peak after a quarter of a day.
        1.0 + self.daily_swing * (std::f64::consts::TAU * days).sin()
    }

    /// Moments of this minute, in microseconds since it began, at which a function is called.
    fn moments(&self, place: u64, function: &Function, chance: &mut Chance, into: &mut Vec<u64>) {
        let mean = f64::from(function.per_second) * 60.0;
        let count = match function.arrivals {
            Arrivals::Timer => {
                let period = 60e6 / mean;
                let phase = Chance::one_of_many(self.seed, purpose::PHASE, place).unit() * period;
                let begins = self.minute as f64 * 60e6;
                let mut number = ((begins - phase) / period).ceil().max(0.0);
                while phase + number * period < begins + 60e6 {
                    into.push((phase + number * period - begins) as u64);
                    number += 1.0;
                }
                return;
            }
            Arrivals::Bursts => {
                let window = (place << 32) | (self.minute / BURST_MINUTES);
                let mut windows = Chance::one_of_many(self.seed, purpose::PHASE, window);
                let is_on = windows.unit() * BURST_FACTOR <= 1.0;
                if is_on { chance.poisson(mean * BURST_FACTOR) } else { 0 }
            }
            Arrivals::Daily => chance.poisson(mean * self.time_of_day()),
        };
        into.extend((0..count).map(|_| chance.below(MINUTE.as_micros())));
    }
}

impl Batches for Minutes {
    fn fill(&mut self, into: &mut Vec<Event>) -> bool {
        let since = Span(MINUTE.as_micros() * self.minute);
        if since >= self.length {
            return false;
        }
        let ends = self.begins + self.length;
        let mut moments = Vec::new();
        for (place, function) in self.functions.iter().enumerate() {
            let stream = ((place as u64) << 32) | self.minute;
            let mut chance = Chance::one_of_many(self.seed, purpose::CALLS, stream);
            self.moments(place as u64, function, &mut chance, &mut moments);
            for micros in moments.drain(..) {
                let at = self.begins + since + Span(micros);
                let seconds = function.seconds(&self.law, &mut chance);
                if at < ends {
                    into.push(Event::new(at, place as u32, Span((seconds * 1e6) as u64)));
                }
            }
        }
        into.sort_unstable();
        self.minute += 1;
        true
    }

    fn work(&self, event: Event) -> Work {
        let stream = (u64::from(event.function) << 40) ^ event.at.0;
        let mut chance = Chance::one_of_many(self.seed, purpose::WORK, stream);
        let usual = f64::from(self.functions[event.function as usize].memory_mib);
        let memory = Mebibytes((usual * chance.between(0.7, 1.3)) as u32);
        let behaviour = self.assumptions.behaviour(self.seed, event.function.into());
        self.assumptions.work(behaviour, event.duration(), memory)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_generated_is_what_is_published() {
        let check = Synthetic::f_small().self_check(1);
        println!("{check}");
        assert!((check.calls as f64 / 1_980_951.0 - 1.0).abs() < 0.02);
        assert!(check.worst() < 0.03, "{check}");
    }

    #[test]
    fn a_function_is_small_and_a_million_can_be_had() {
        assert!(size_of::<Function>() <= 20);
        let many = Synthetic::new(1_000_000, 500.0, Span::seconds(60));
        let (apps, _, functions) = many.draw(3);
        assert_eq!((functions.len(), apps.len()), (1_000_000, 1_000_000));
        let rate: f64 = functions.iter().map(|function| f64::from(function.per_second)).sum();
        assert!((rate / 500.0 - 1.0).abs() < 1e-3, "{rate}");
    }

    #[test]
    fn one_seed_one_workload() {
        let calls = |seed| {
            let mut workload =
                Synthetic::new(50, 20.0, Span::seconds(300)).workload(&Assumptions::default(), seed);
            let mut calls = Vec::new();
            while let Some(at) = workload.calls.next_at() {
                calls.push((at, workload.calls.take()));
            }
            calls
        };
        assert_eq!(calls(1), calls(1));
        assert_ne!(calls(1), calls(2));
        assert!(calls(1).is_sorted_by_key(|&(at, _)| at));
        assert!((3_000..9_000).contains(&calls(1).len()), "{}", calls(1).len());
    }

    #[test]
    fn timers_fire_at_equal_distances_and_bursts_leave_gaps() {
        let law = Law::new(0.4);
        let one = |arrivals, per_second| {
            let function =
                Function { per_second, from: 0.0, width: 1.0, long: -1.0, memory_mib: 100, arrivals };
            let mut minutes = Minutes {
                functions: Arc::new(vec![function]),
                law,
                assumptions: Assumptions::default(),
                begins: Moment::ORIGIN,
                minute: 0,
                length: Span::seconds(86_400),
                daily_swing: 0.3,
                seed: 1,
            };
            let mut events = Vec::new();
            while minutes.fill(&mut events) {}
            events.into_iter().map(|event| event.at.0).collect::<Vec<u64>>()
        };
        let timer = one(Arrivals::Timer, 0.01);
        assert!((863..=865).contains(&timer.len()));
        assert!(timer.windows(2).all(|pair| (pair[1] - pair[0]).abs_diff(100_000_000) < 50));
        let gaps =
            |moments: &[u64]| moments.windows(2).filter(|pair| pair[1] - pair[0] > 600_000_000).count();
        let (bursts, daily) = (one(Arrivals::Bursts, 0.1), one(Arrivals::Daily, 0.1));
        for calls in [bursts.len(), daily.len()] {
            assert!((6_000..12_000).contains(&calls), "{calls}");
        }
        assert!(gaps(&bursts) > 5 && gaps(&daily) == 0);
        // The peak is after a quarter of the day, the valley after three.
        let within =
            |from: u64| daily.iter().filter(|&&at| (from..from + 21_600_000_000).contains(&at)).count();
        assert!(within(10_800_000_000) as f64 > 1.4 * within(54_000_000_000) as f64);
    }
}
