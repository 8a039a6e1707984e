//! Allocators under the same calls: how much is lent, and what it does to those who lend and to those who borrow.
//!
//! **Knows:** 268 calls in a minute on nodes of 8 cores and 32 GB, as published; or other functions and minutes, from Azure's tables
//! ([`Lendable`]); what a call takes alone at its reservation.
//! **Promises:** all contenders have the same calls in the same slots. What profiles know they learn from the calls
//! themselves, either in the minute that is measured (`Knowledge::None`) or from one more, at other moments and not measured,
//! before it (`Knowledge::OneMinute`); of a table the second half is measured. Models come trained, on none of this.
//! **Gives up:** the functions' real needs, which are published nowhere; `workload::Freyr` says what is assumed.

use std::fmt::Write as _;
use std::sync::Arc;

use policies::allocation::{self, Allocator};
use policies::residency::Lending;
use serde::Serialize;
use vocabulary::{Moment, Resources, Span, VmKind};

use super::Seeds;
use crate::house::House;
use crate::machines;
use crate::plan::{Call, Calls, FunctionPlan};
use crate::report::Report;
use crate::runs::{Job, Progress, RunError, play_all};
use crate::workload::{Freyr, Lendable, Reserved, TraceError};

/// A node of the paper's.
const NODE: Resources =
    Resources { cpu: vocabulary::MilliCores(8_000), memory: vocabulary::Mebibytes(32_768) };
/// The first calls come when the house has stood for two seconds.
const BEGINS: Span = Span::seconds(2);
/// The measured minute begins so long after the other: by then that is over.
const BETWEEN: Span = Span::seconds(300);
/// Everybody waits as long as it takes: who is refused would have no slowdown.
const PATIENCE: Span = Span::seconds(3_600);
/// A threshold that nobody reaches.
const NEVER: u32 = 1_001;

/// Who is compared.
#[derive(Clone)]
pub struct Contender {
    /// For the table.
    pub name: String,
    /// What becomes of what it leaves.
    pub lending: Lending,
    /// Whether what is lent is given back to those who come near to what they have left. The oracle knows that they need no more.
    pub safeguarded: bool,
    /// Makes one for each run.
    pub allocator: Arc<dyn Fn() -> Box<dyn Allocator> + Send + Sync>,
}

impl Contender {
    /// One of `policies::allocation::NAMES`, with its default constants.
    pub fn named(name: &'static str, lending: Lending) -> Self {
        let constants = allocation::Settings { lending, ..allocation::Settings::default() };
        let allocator = move || allocation::by_name(name, &constants);
        assert!(allocator().is_some(), "there is no allocator '{name}'");
        Self {
            name: name.to_owned(),
            lending,
            safeguarded: name != "oracle",
            allocator: Arc::new(move || allocator().expect("it was there")),
        }
    }

    /// Those that need the longest to play left out: what a table of a fleet is made with.
    pub fn few() -> Vec<Self> {
        let mut few = vec![Self::named("fixed", Lending::Off), Self::named("greedy-freyr22", Lending::Off)];
        few.push(Self::named("ensure", Lending::Hard));
        few.extend(
            ["greedy", "libra", "profile-lent", "profile"].map(|name| Self::named(name, Lending::Elastic)),
        );
        few.push(Self::named("oracle", Lending::Elastic));
        few
    }

    /// Every published algorithm, ours and the bound, with hard ceilings and elastic ones; and the two baselines as released, which
    /// give nothing back.
    pub fn all() -> Vec<Self> {
        let mut all = vec![Self::named("fixed", Lending::Off)];
        all.extend(["greedy-freyr22", "ensure-freyr22"].map(|name| Self::named(name, Lending::Off)));
        for name in ["greedy", "ensure", "libra", "profile-lent", "profile", "oracle"] {
            all.extend([Lending::Hard, Lending::Elastic].map(|lending| Self::named(name, lending)));
        }
        all
    }
}

/// What is known of the functions when measuring begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Knowledge {
    /// Nothing; sandboxes are cold.
    None,
    /// What one minute of the same functions has shown; sandboxes are warm.
    OneMinute,
}

/// Who calls.
#[derive(Debug, Clone)]
pub enum Arrivals {
    /// Freyr's test, with these reservations.
    Freyr(Freyr, Reserved),
    /// Functions and minutes of a table; the second half of the minutes is measured. Whatever the spread of inputs is, if it is not 0,
    /// they vary as the table says.
    Table(Lendable),
}

/// Functions, their calls, and from when on these are measured.
type Called = (Vec<FunctionPlan>, Box<dyn Calls>, Span);

/// What is played.
#[derive(Clone)]
pub struct Set {
    /// Who calls.
    pub arrivals: Arrivals,
    /// So many nodes.
    pub nodes: u32,
    /// Standard deviation of the logarithm of the inputs' sizes; 0: always the same.
    pub input_spread: f64,
    /// When measuring begins.
    pub knowledge: Knowledge,
}

/// One row.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// Whose.
    pub name: String,
    /// How was lent.
    pub lending: Lending,
    /// The run against the same run alone at its reservation: mean,
    pub mean_slowdown: Seeds,
    /// ninety-ninth percentile,
    pub p99_slowdown: Seeds,
    /// and worst, as what it is above one, in per cent; 0: nobody was slowed down.
    pub worst_percent: Seeds,
    /// From call to answer.
    pub p99_latency_s: Seeds,
    /// The run itself.
    pub p99_run_s: Seeds,
    /// From call to answer, against the run alone at its reservation.
    pub mean_slowdown_of_latency: Seeds,
    /// That over the elastic oracle's, where it was played, too.
    pub of_oracle: Option<f64>,
    /// Shares of runs in per cent; see `report::Lending`.
    pub harvested_percent: Seeds,
    /// See above.
    pub accelerated_percent: Seeds,
    /// See above.
    pub safeguarded_percent: Seeds,
    /// Killed for want of memory that was lent, and run again.
    pub starved: Seeds,
    /// CPU that was used of what there was, from the first measured call to the last answer.
    pub used_percent: Seeds,
    /// Seeds that were played.
    pub seeds: usize,
    /// The slowdowns of the first of them, in thousandths: the values at 0, 1, 2, ... 100 per cent.
    pub curve: Vec<u64>,
}

impl Set {
    /// The calls of one run, and from when on they are measured.
    fn workload(&self, seed: u64) -> Result<Called, TraceError> {
        let (freyr, reserved) = match &self.arrivals {
            Arrivals::Freyr(freyr, reserved) => (freyr, *reserved),
            Arrivals::Table(table) => {
                let cores = self.nodes * NODE.cpu.0 / 1_000;
                let workload = table.workload(cores, self.input_spread > 0.0, seed)?;
                let minutes = table.selection.minutes.as_ref().map_or(0, |minutes| minutes.len() as u64);
                let half = table.selection.begins + table.selection.minute.scaled(minutes, 2);
                return Ok((workload.functions, workload.calls, half));
            }
        };
        let mut begins = BEGINS;
        let mut calls: Vec<Box<dyn Calls>> = Vec::new();
        if self.knowledge == Knowledge::OneMinute {
            let before = freyr.workload(reserved, self.input_spread, begins, seed + 1_000);
            calls.push(before.calls);
            begins = BEGINS + BETWEEN;
        }
        let workload = freyr.workload(reserved, self.input_spread, begins, seed);
        calls.push(workload.calls);
        Ok((workload.functions, Box::new(InTurn(calls)), begins))
    }

    /// The house of one run.
    pub fn house(&self, contender: &Contender, seed: u64) -> Result<House, TraceError> {
        let (functions, calls, begins) = self.workload(seed)?;
        let machines = machines::Fleet::constant(self.nodes, VmKind::Regular, NODE);
        let name = format!("{} {:?}", contender.name, contender.lending);
        let mut house = House::new(name, functions, calls, Box::new(machines));
        house.seed = seed;
        house.allocator = (contender.allocator)();
        house.residency.lending = contender.lending;
        if !contender.safeguarded {
            house.residency.safeguard.threshold = NEVER;
        }
        house.patience = PATIENCE;
        house.aftermath = PATIENCE;
        house.measure_from = Moment::ORIGIN + begins;
        Ok(house)
    }

    /// One row for each contender, over seeds from 1 on.
    pub fn rows(
        &self,
        contenders: &[Contender],
        seeds: u64,
        threads: usize,
        progress: &(dyn Fn(Progress<'_>) + Sync),
    ) -> Result<Vec<Row>, Unplayed> {
        // What is wrong with a trace is said before anything is played.
        self.workload(1)?;
        let mut jobs = Vec::new();
        for contender in contenders {
            for seed in 1..=seeds {
                let (set, contender) = (self.clone(), contender.clone());
                let label = format!("{} {:?}, seed {seed}", contender.name, contender.lending);
                let repeat = format!("windfall simulate lending --seeds {seed}");
                let build = move || set.house(&contender, seed).expect("its trace was read a moment ago");
                jobs.push(Job { label, repeat, build: Box::new(build) });
            }
        }
        let reports = play_all(jobs, threads, progress).into_iter().collect::<Result<Vec<_>, _>>()?;
        let rows = contenders.iter().zip(reports.chunks(seeds.max(1) as usize));
        let mut rows: Vec<Row> = rows.map(|(contender, reports)| Row::of(contender, reports)).collect();
        let oracle = rows.iter().find(|row| row.name == "oracle" && row.lending == Lending::Elastic);
        if let Some(oracle) = oracle.map(|row| row.mean_slowdown_of_latency.mean) {
            rows.iter_mut().for_each(|row| row.of_oracle = Some(row.mean_slowdown_of_latency.mean / oracle));
        }
        Ok(rows)
    }
}

/// Why there are no rows.
#[derive(Debug, thiserror::Error)]
pub enum Unplayed {
    /// Something is wrong with a trace.
    #[error("{0}")]
    Trace(#[from] TraceError),
    /// A run broke: a bug.
    #[error("{0}")]
    Run(#[from] RunError),
}

/// One after the other.
struct InTurn(Vec<Box<dyn Calls>>);

impl Calls for InTurn {
    fn next_at(&self) -> Option<Moment> {
        self.0.iter().find_map(|calls| calls.next_at())
    }

    fn take(&mut self) -> Call {
        let next = self.0.iter_mut().find(|calls| calls.next_at().is_some());
        next.expect("taken only when there is one").take()
    }
}

impl Row {
    fn of(contender: &Contender, reports: &[Report]) -> Self {
        let over =
            |figure: &dyn Fn(&Report) -> f64| Seeds::of(&reports.iter().map(figure).collect::<Vec<_>>());
        let share = |of: fn(&Report) -> u64| {
            over(&|report| 100.0 * of(report) as f64 / report.lending.runs.max(1) as f64)
        };
        let times = |permille: u64| permille as f64 / 1e3;
        Self {
            name: contender.name.clone(),
            lending: contender.lending,
            mean_slowdown: over(&|report| times(report.slowdown_of_run.mean_permille)),
            p99_slowdown: over(&|report| times(report.slowdown_of_run.p99_permille)),
            worst_percent: over(&|report| {
                (times(report.slowdown_of_run.max_permille) - 1.0).max(0.0) * 100.0
            }),
            p99_latency_s: over(&|report| report.latency.p99_us as f64 / 1e6),
            p99_run_s: over(&|report| report.run.p99_us as f64 / 1e6),
            mean_slowdown_of_latency: over(&|report| times(report.slowdown_of_reservation.mean_permille)),
            of_oracle: None,
            harvested_percent: share(|report| report.lending.harvested),
            accelerated_percent: share(|report| report.lending.accelerated),
            safeguarded_percent: share(|report| report.lending.safeguarded),
            starved: over(&|report| report.lending.starved as f64),
            used_percent: over(&|report| report.cores.used_permille() as f64 / 10.0),
            seeds: reports.len(),
            curve: reports.first().map(|report| report.slowdown_of_run_curve.clone()).unwrap_or_default(),
        }
    }
}

/// What the papers print: name, mean slowdown, P99 slowdown, worst degradation, P99 latency, shares.
const PUBLISHED: [[&str; 8]; 5] = [
    ["Fixed (Freyr's paper)", "1.00", "", "", "28", "", "", ""],
    ["Greedy (Freyr's paper)", "1.12", "1.58", "> 60", "25", "", "", ""],
    ["ENSURE (Freyr's paper)", "1.78", "4.5", "> 500", "38", "", "", ""],
    ["Freyr", "0.82", "< 1.06", "6", "< 19", "38.8", "39.2", "21.8"],
    ["Libra (its paper, its own functions)", "", "", "2", "39 % below Freyr's", "", "", ""],
];

/// The rows as Markdown, with the published ones below.
pub fn markdown(rows: &[Row]) -> String {
    let mut text = String::from(
        "| allocator | lending | mean slowdown | P99 slowdown | worst degradation, % | P99 of runs, s | P99 latency, s | mean slowdown, waiting and cold starts included | times the oracle's | harvested, % | accelerated, % | safeguarded, % | starved | CPU used, % |\n\
         | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n",
    );
    for row in rows {
        let mode = Lending::NAMES[row.lending as usize];
        let cells = [
            row.mean_slowdown.text(2),
            row.p99_slowdown.text(2),
            row.worst_percent.text(1),
            row.p99_run_s.text(1),
            row.p99_latency_s.text(1),
            row.mean_slowdown_of_latency.text(2),
            row.of_oracle.map_or_else(String::new, |times| format!("{times:.2}")),
            row.harvested_percent.text(1),
            row.accelerated_percent.text(1),
            row.safeguarded_percent.text(1),
            row.starved.text(1),
            row.used_percent.text(1),
        ];
        let _ = writeln!(text, "| {} | {mode} | {} |", row.name, cells.join(" | "));
    }
    for [name, mean, p99, worst, latency, harvested, accelerated, safeguarded] in PUBLISHED {
        let _ = writeln!(
            text,
            "| *{name}* | | {mean} | {p99} | {worst} | {latency} | | | | {harvested} | {accelerated} | {safeguarded} | | |"
        );
    }
    text
}
