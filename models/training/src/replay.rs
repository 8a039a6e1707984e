//! Lessons from what a cluster's own functions used.
//!
//! **Knows:** runs that have ended: when their calls came, what they were reserved, and what they took and used; and how large the fleet was.
//! **Promises:** a house plays minutes of these calls, drawn by a seed, a little denser or thinner than they came; what it is examined
//! with came later than what it learns from. The same record and the same seed, the same house.
//! **Gives up:** what a run would have done otherwise: it computes and waits as it did, faster or slower with what it is given. Where a
//! run was held back, its [`wanted_cpu`] says how many cores it could have used.

use std::collections::BTreeMap;

use policies::allocation::Allocator;
use policies::profile::{cpu_mean, wanted_cpu};
use policies::residency::Lending;
use simulator::House;
use simulator::plan::{Call, FunctionPlan, VmPlan, Work};
use vocabulary::{FunctionId, Mebibytes, MilliCores, Moment, Resources, Span, Usage, VmKind};

use crate::chance::Chance;
use crate::course::{Given, Listed, plan};

/// The first calls come when the VMs have reported.
const BEGINS: Span = Span::seconds(2);
/// A lesson is so much of the record.
const LENGTH: Span = Span::seconds(90);
/// Fewer runs teach nothing.
pub const RUNS_LEAST: usize = 20;
/// Calls of one house at most.
const CALLS_MOST: usize = 2_000;
/// Of a record, so many hundredths are learned from, and the rest is for the examination.
const LEARNED_FROM: u64 = 75;
/// A function whose sandboxes were never made in the record.
const COLD: Span = Span::millis(500);

/// A run that has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ran {
    /// When it was called, counted from any moment.
    pub called: Moment,
    /// Of which function.
    pub function: FunctionId,
    /// What its user asked for.
    pub reservation: Resources,
    /// Size of its input.
    pub input_bytes: u32,
    /// Making its sandbox; zero when warm.
    pub init: Span,
    /// The run itself.
    pub duration: Span,
    /// What it used.
    pub usage: Usage,
}

/// Why there is nothing to learn from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooFew {
    /// Runs that there are.
    pub runs: usize,
}

impl std::fmt::Display for TooFew {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} runs are kept, and {RUNS_LEAST} are the least to learn from", self.runs)
    }
}

impl std::error::Error for TooFew {}

/// See the module.
#[derive(Debug, Clone, PartialEq)]
pub struct Recorded {
    functions: Vec<FunctionPlan>,
    /// In order, from the beginning of the record on.
    calls: Vec<(Span, Call)>,
    vms: u32,
    size: Resources,
}

impl Recorded {
    /// Of runs in any order, on so many VMs that have so much together.
    pub fn of(runs: &[Ran], vms: u32, capacity: Resources) -> Result<Self, TooFew> {
        if runs.len() < RUNS_LEAST {
            return Err(TooFew { runs: runs.len() });
        }
        let mut runs = runs.to_vec();
        runs.sort_by_key(|run| (run.called, run.function, run.duration));
        let first = runs[0].called;
        let mut numbers = BTreeMap::new();
        let mut functions: Vec<FunctionPlan> = Vec::new();
        let mut calls = Vec::with_capacity(runs.len());
        for run in &runs {
            let number = *numbers.entry(run.function).or_insert_with(|| {
                functions.push(plan(functions.len() as u32, run.reservation, COLD));
                functions.len() as u32 - 1
            });
            let function = &mut functions[number as usize];
            // Its newest definition.
            function.card.reservation = run.reservation;
            if run.init > Span::ZERO {
                function.cold_start = run.init;
            }
            calls.push((run.called.since(first), Call { function: number, work: work(run), user: 0 }));
        }
        let vms = vms.max(1);
        let largest = runs.iter().fold(Resources::ZERO, |most, run| most.max(run.reservation));
        let size =
            Resources { cpu: MilliCores(capacity.cpu.0 / vms), memory: Mebibytes(capacity.memory.0 / vms) };
        Ok(Self { functions, calls, vms, size: size.max(largest) })
    }

    /// Runs that are in it, and functions.
    pub fn size(&self) -> (usize, usize) {
        (self.calls.len(), self.functions.len())
    }

    /// From the first call to the last.
    pub fn length(&self) -> Span {
        self.calls.last().map_or(Span::ZERO, |&(at, _)| at)
    }

    /// A house for a lesson, or for the examination.
    pub fn house(&self, seed: u64, examined: bool, allocator: Box<dyn Allocator>) -> House {
        let mut chance = Chance::one_of_many(seed, 0x7265_706c_6179);
        let split = self.length().scaled(LEARNED_FROM, 100);
        let (from, to) = if examined { (split, self.length()) } else { (Span::ZERO, split) };
        // A short record has one window only: all of its part.
        let length = LENGTH.min(to - from).max(Span::millis(1));
        let latest = (to - from) - length;
        let begins = from + latest.scaled(chance.below(1_001) as u64, 1_000);
        let denser = (chance.fold(0.5, 2.0) * 1_000.0) as u64;
        let mut calls: Vec<(Moment, Call)> = self
            .calls
            .iter()
            .filter(|(at, _)| (begins..=begins + length).contains(at))
            .map(|&(at, call)| (Moment::ORIGIN + BEGINS + (at - begins).scaled(1_000, denser), call))
            .collect();
        calls.truncate(CALLS_MOST);
        let vm = || VmPlan {
            kind: VmKind::Regular,
            starts_at: Moment::ORIGIN,
            size: self.size,
            changes: Vec::new(),
            gone: None,
        };
        let vms = (0..self.vms).map(|_| vm()).collect();
        let calls = Box::new(Listed::new(calls));
        let mut house =
            House::new(format!("record {seed}"), self.functions.clone(), calls, Box::new(Given(vms)));
        house.seed = seed;
        house.allocator = allocator;
        house.residency.lending = Lending::Elastic;
        house.patience = Span::seconds(7_200);
        house.aftermath = Span::seconds(7_200);
        house
    }
}

/// It computed at the rate that it reached, and waited for the rest of its time.
fn work(run: &Ran) -> Work {
    let mean = cpu_mean(run.duration, &run.usage);
    let reached = run.usage.cpu_peak.max(mean).max(MilliCores(1));
    let computing = run.usage.cpu_time.scaled(1_000, reached.0.into()).min(run.duration);
    Work {
        io: run.duration - computing,
        cpu: run.usage.cpu_time.max(Span(1)),
        saturation: wanted_cpu(run.duration, &run.usage).max(MilliCores(10)),
        memory: run.usage.memory_peak.max(Mebibytes(1)).min(run.reservation.memory),
        input_bytes: run.input_bytes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A call each half second for two minutes, of two functions in turn; 0.2 s, of which a half is waiting.
    fn record() -> Vec<Ran> {
        (0..240)
            .map(|number: u64| Ran {
                called: Moment::ORIGIN + Span::millis(500 * number),
                function: FunctionId(number % 2 + 70),
                reservation: Resources::new(1_000, 256),
                input_bytes: 10,
                init: Span::ZERO,
                duration: Span::millis(200),
                usage: Usage {
                    cpu_time: Span::millis(100),
                    cpu_peak: MilliCores(1_000),
                    memory_peak: Mebibytes(40),
                    ..Usage::default()
                },
            })
            .collect()
    }

    #[test]
    fn a_house_plays_what_was_recorded_and_the_examination_what_came_later() {
        let recorded = Recorded::of(&record(), 2, Resources::new(2_000, 2_048)).unwrap();
        assert_eq!(recorded.size(), (240, 2));
        let fixed =
            || policies::allocation::by_name("fixed", &policies::allocation::Settings::default()).unwrap();
        let report = |seed, examined| simulator::play(recorded.house(seed, examined, fixed())).0;
        let lesson = report(1, false);
        assert_eq!(lesson.failed(), 0);
        // Ninety of a hundred and twenty seconds are learned from, at the pace that chance gives.
        assert!((150..=181).contains(&lesson.submitted), "{}", lesson.submitted);
        let ran = lesson.run.p50_us as f64 / 1e6;
        assert!((0.19..0.21).contains(&ran), "a run takes {ran} s");
        assert_eq!(lesson, report(1, false), "the same seed, the same house");
        assert!((50..=61).contains(&report(1, true).submitted));
    }

    #[test]
    fn few_runs_are_refused_with_how_many_there_are() {
        let refused = Recorded::of(&record()[..7], 1, Resources::ZERO).unwrap_err();
        assert!(refused.to_string().contains('7'), "{refused}");
        let one_moment: Vec<Ran> =
            record().into_iter().map(|run| Ran { called: Moment::ORIGIN, ..run }).collect();
        let recorded = Recorded::of(&one_moment, 0, Resources::ZERO).unwrap();
        let allocator = policies::allocation::by_name("fixed", &policies::allocation::Settings::default());
        assert_eq!(simulator::play(recorded.house(1, true, allocator.unwrap())).0.failed(), 0);
    }
}
