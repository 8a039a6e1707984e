//! The two papers together: lending inside reservations, on harvest VMs that shrink while it goes on.
//!
//! **Knows:** SOSP'21's users and mix of functions on its `Active` VMs, which change 67 times in twenty minutes.
//! **Promises:** the four houses differ in placement (`mws` or the paper's `jsq`) and in lending (`profile` with elastic ceilings, or
//! everybody its reservation) only, and are given users in the same steps.
//! **Gives up:** what is between two steps: throughput at the limit is drawn straight between the last below it and the first above.

use std::fmt::Write as _;
use std::path::Path;

use policies::placement;
use policies::residency::Lending;
use vocabulary::{Mebibytes, Moment, Span};

use super::Seeds;
use crate::house::House;
use crate::machines::SospSet;
use crate::report::Report;
use crate::runs::{Job, Progress, RunError, play_all};
use crate::workload::SospMix;

/// The paper's limit.
const LIMIT_S: f64 = 50.0;
const LENGTH: Span = Span::seconds(1_200);
const MEASURED_FROM: Span = Span::seconds(120);
/// Users, in steps.
const USERS: [u32; 5] = [50, 100, 150, 200, 250];
/// MiB per core of the VMs: a D series VM's.
const MEMORY_PER_CORE: Mebibytes = Mebibytes(4_096);

/// One of the four: (placement, allocator, lending).
type Levels = (&'static str, &'static str, Lending);

const HOUSES: [Levels; 6] = [
    ("jsq", "fixed", Lending::Off),
    ("jsq", "profile", Lending::Elastic),
    ("mws", "fixed", Lending::Off),
    ("mws", "profile", Lending::Hard),
    ("mws", "profile", Lending::Elastic),
    ("mws", "oracle", Lending::Elastic),
];

/// One of the houses.
pub fn house((placed, allocator, lending): Levels, users: u32, traces: Option<&Path>, seed: u64) -> House {
    let workload = SospMix::of_users(users).workload(seed);
    let machines = SospSet::Active.fleet_with(traces, seed, MEMORY_PER_CORE).unwrap_or_else(|_| {
        SospSet::Active.fleet_with(None, seed, MEMORY_PER_CORE).expect("what is drawn needs no file")
    });
    let mut house = House::new(placed, workload.functions, workload.calls, Box::new(machines));
    house.seed = seed;
    house.placement =
        placement::by_name(placed, &placement::Settings::default()).expect("there is such a placement");
    house.allocate_by(allocator, Default::default(), lending).expect("there is such an allocator");
    if allocator == "oracle" {
        house.residency.safeguard.threshold = 1_001;
    }
    house.patience = Span::seconds(600);
    house.measure_from = Moment::ORIGIN + MEASURED_FROM;
    house.calls_until = Moment::ORIGIN + LENGTH;
    house
}

/// Answered calls in a second.
fn throughput(report: &Report) -> f64 {
    let measured = LENGTH.as_seconds() - MEASURED_FROM.as_seconds();
    (report.submitted - report.failed()) as f64 / measured
}

/// Where P99 reaches the limit.
fn throughput_at_limit(reports: &[Report]) -> f64 {
    let p99 = |report: &Report| report.latency.p99_us as f64 / 1e6;
    let Some(above) = reports.iter().position(|report| p99(report) > LIMIT_S) else {
        return reports.last().map_or(0.0, throughput);
    };
    let Some(below) = above.checked_sub(1).map(|below| &reports[below]) else { return 0.0 };
    let above = &reports[above];
    let part = (LIMIT_S - p99(below)) / (p99(above) - p99(below));
    throughput(below) + part * (throughput(above) - throughput(below))
}

/// How many runs the table takes.
pub fn runs(seeds: u64) -> u64 {
    (HOUSES.len() * USERS.len()) as u64 * seeds
}

/// The table as Markdown.
pub fn table(
    traces: Option<&Path>,
    seeds: u64,
    threads: usize,
    progress: &(dyn Fn(Progress<'_>) + Sync),
) -> Result<String, RunError> {
    let mut jobs = Vec::new();
    for levels in HOUSES {
        for seed in 1..=seeds {
            for users in USERS {
                let label = format!("{levels:?}, {users} users, seed {seed}");
                let repeat = "windfall simulate lending --only both-levels".to_owned();
                let traces = traces.map(Path::to_path_buf);
                let build = move || house(levels, users, traces.as_deref(), seed);
                jobs.push(Job { label, repeat, build: Box::new(build) });
            }
        }
    }
    let reports = play_all(jobs, threads, progress).into_iter().collect::<Result<Vec<_>, _>>()?;
    let mut text = String::from(
        "| placement | allocation | lending | calls/s at P99 = 50 s | P99 at 150 users, s | mean slowdown of runs there | worst degradation there, % | harvested, % | safeguarded, % | starved |\n\
         | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n",
    );
    for (levels, of_levels) in HOUSES.iter().zip(reports.chunks(USERS.len() * seeds.max(1) as usize)) {
        let by_seed: Vec<&[Report]> = of_levels.chunks(USERS.len()).collect();
        let over = |figure: &dyn Fn(&[Report]) -> f64| {
            Seeds::of(&by_seed.iter().map(|reports| figure(reports)).collect::<Vec<_>>())
        };
        let there = |figure: fn(&Report) -> f64| over(&|reports| figure(&reports[2]));
        let share = |part: u64, report: &Report| 100.0 * part as f64 / report.lending.runs.max(1) as f64;
        let harvested = over(&|reports| share(reports[2].lending.harvested, &reports[2]));
        let safeguarded = over(&|reports| share(reports[2].lending.safeguarded, &reports[2]));
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} | {} | {} | {} | {} | {} |",
            levels.0,
            levels.1,
            Lending::NAMES[levels.2 as usize],
            over(&throughput_at_limit).text(1),
            there(|report| report.latency.p99_us as f64 / 1e6).text(1),
            there(|report| report.slowdown_of_run.mean_permille as f64 / 1e3).text(2),
            there(|report| (report.slowdown_of_run.max_permille as f64 / 10.0 - 100.0).max(0.0)).text(0),
            harvested.text(1),
            safeguarded.text(1),
            there(|report| report.lending.starved as f64).text(0),
        );
    }
    Ok(text)
}
