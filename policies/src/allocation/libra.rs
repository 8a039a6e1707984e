//! Libra (HPDC'23): what a run with an input of this size will use, the rest to the pool of its VM.
//!
//! **Knows:** for each function what runs used and how long they took, by size of input and all together.
//! **Promises:** a function's first runs are given the most there is, to see what it takes. Then, if size tells (nine of ten CPU and
//! memory peaks and nine tenths of the variance of durations, as the paper asks), a run is predicted by its size; if not, by the
//! 99th percentile of its peaks and the 5th of its durations. Less than the reservation: the rest goes to the pool until the
//! predicted end. More: that is a wish to the pool.
//! **Gives up:** the paper's random forests of depth 2 over one number. Each is a function of size with a few steps; ours has a
//! step per power of two ([`Profile::expect`](crate::profile::Profile::expect)), learns from every run instead of from a hundred
//! copies of the first input, which nobody can make of a stranger's call, and is judged by how it predicted each run before it
//! learned it.
//!
//! The pool and the safeguard on the VM (0.8, on the run that is going on) are those of every allocator here, in mode `hard`. Its
//! scheduler is not an allocator: what it maximises is [`coverage`].

use std::collections::BTreeMap;

use vocabulary::{FunctionId, Grant, Mebibytes, MilliCores, Moment, Resources, Span};

use super::options::Grid;
use super::{Allocator, Ended, Request};
use crate::profile::{Expectation, Sketch};

/// Runs with the most there is before anything is predicted. The paper does not say how many its window has; so many let
/// a quantile be more than the only value.
const WINDOW: u32 = 5;
/// Runs by which it is judged whether size tells; older ones count less and less.
const JUDGED: f64 = 64.0;
/// The paper's bar for both.
const GOOD: f64 = 0.9;

/// How well size has predicted so far. All sums forget.
#[derive(Debug, Clone, Copy, Default)]
struct Judgement {
    runs: f64,
    hits: f64,
    error_squared: f64,
    sum: f64,
    sum_squared: f64,
}

impl Judgement {
    fn see(&mut self, hit: bool, predicted: Span, was: Span) {
        let keep = 1.0 - 1.0 / JUDGED;
        let (predicted, was) = (predicted.as_seconds(), was.as_seconds());
        self.runs = self.runs * keep + 1.0;
        self.hits = self.hits * keep + f64::from(u8::from(hit));
        self.error_squared = self.error_squared * keep + (predicted - was) * (predicted - was);
        self.sum = self.sum * keep + was;
        self.sum_squared = self.sum_squared * keep + was * was;
    }

    fn size_tells(&self) -> bool {
        if self.runs < f64::from(WINDOW) {
            return false;
        }
        let variance = self.sum_squared - self.sum * self.sum / self.runs;
        self.hits >= GOOD * self.runs && self.error_squared <= (1.0 - GOOD) * variance
    }
}

#[derive(Debug, Clone, Default)]
struct Function {
    runs: u32,
    judgement: Judgement,
    cpu: Sketch,
    memory: Sketch,
    duration: Sketch,
    /// By size, before the run that it is to be judged by was learned.
    known: BTreeMap<u8, Expectation>,
}

/// See the module.
#[derive(Debug, Clone)]
pub struct Libra {
    grid: Grid,
    functions: BTreeMap<FunctionId, Function>,
}

impl Libra {
    /// Peaks are predicted in the steps of this grid.
    pub fn new(grid: Grid) -> Self {
        Self { grid, functions: BTreeMap::new() }
    }

    /// What holds this much, in whole steps.
    fn in_steps(&self, cpu: MilliCores, memory: Mebibytes) -> Resources {
        Resources {
            cpu: self.grid.cpu(self.grid.cpu_steps_for(cpu)),
            memory: self.grid.memory(self.grid.memory_steps_for(memory)),
        }
    }
}

fn digits(input_bytes: u32) -> u8 {
    (u32::BITS - input_bytes.leading_zeros()) as u8
}

impl Allocator for Libra {
    fn name(&self) -> &'static str {
        "libra"
    }

    fn grant(&mut self, request: &Request<'_>) -> Grant {
        let reservation = request.reservation;
        let most = self.grid.most(reservation);
        let function = self.functions.entry(request.function).or_default();
        if function.runs < WINDOW {
            return Grant::new(reservation, most);
        }
        let quantile = |sketch: &Sketch, thousandths| sketch.quantile(thousandths).unwrap_or(0);
        let narrow = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
        let by_size =
            function.judgement.size_tells().then(|| request.profile.expect(request.input_bytes)).flatten();
        let (cpu, memory, lasts) = match by_size {
            Some(expected) => (expected.saturation, expected.memory_high, expected.duration),
            None => (
                MilliCores(narrow(quantile(&function.cpu, 990))),
                Mebibytes(narrow(quantile(&function.memory, 990))),
                Span(quantile(&function.duration, 50)),
            ),
        };
        let mut predicted = self.in_steps(cpu, memory).min(most);
        let memory_is_safe =
            request.profile.expect(request.input_bytes).is_none_or(|expected| expected.memory_is_safe);
        if !request.may_rerun || !memory_is_safe {
            predicted.memory = predicted.memory.max(reservation.memory);
        }
        Grant { lasts, ..Grant::new(predicted.min(reservation), predicted) }
    }

    fn ended(&mut self, ended: &Ended<'_>) {
        if ended.starved {
            return;
        }
        let grid = self.grid;
        let steps = |cpu, memory| (grid.cpu_steps_for(cpu), grid.memory_steps_for(memory));
        let function = self.functions.entry(ended.function).or_default();
        let size = digits(ended.input_bytes);
        let usage = ended.usage;
        if let Some(known) = function.known.get(&size) {
            let was = steps(usage.cpu_peak, usage.memory_peak);
            let hit = steps(known.saturation, known.memory_high) == was;
            function.judgement.see(hit, known.duration, ended.duration);
        }
        if let Some(expected) = ended.profile.expect(ended.input_bytes) {
            function.known.insert(size, expected);
        }
        function.runs = function.runs.saturating_add(1);
        function.cpu.learn(u64::from(usage.cpu_peak.0));
        function.memory.learn(u64::from(usage.memory_peak.0));
        function.duration.learn(ended.duration.as_micros());
    }

    fn forget(&mut self, function: FunctionId) {
        self.functions.remove(&function);
    }
}

/// How much of what a run wants beyond its reservation a VM's pool would cover, in thousandths of want times time: CPU counts
/// nine tenths, memory one. `idle` is what lies in the pool, each part until it expires. (The released code computes the
/// reciprocal and still chooses the largest, so that it prefers the VMs that have least to lend.)
pub fn coverage(idle: &[(Resources, Moment)], now: Moment, wants: Resources, lasts: Span) -> u32 {
    let mut ends: Vec<Span> = idle.iter().map(|(_, until)| until.after(now).min(lasts)).collect();
    ends.push(lasts);
    ends.sort_unstable();
    let mut covered = [0_u128; 2];
    let mut from = Span::ZERO;
    for to in ends {
        let there: Resources =
            idle.iter().filter(|(_, until)| until.after(now) > from).map(|&(part, _)| part).sum();
        let length = u128::from((to - from).as_micros());
        covered[0] += u128::from(there.cpu.min(wants.cpu).0) * length;
        covered[1] += u128::from(there.memory.min(wants.memory).0) * length;
        from = to;
    }
    let share = |covered: u128, wanted: u32| {
        let all = u128::from(wanted) * u128::from(lasts.as_micros());
        // Who wants nothing has all of it.
        (covered * 1_000).checked_div(all).unwrap_or(1_000)
    };
    ((share(covered[0], wants.cpu.0) * 9 + share(covered[1], wants.memory.0)) / 10) as u32
}
