//! The figures of a round, those of several rounds together, and the table in which live and foretold stand beside each other.
//!
//! **Knows:** what each run took, and what it takes alone.
//! **Promises:** the columns of `docs/figures/lending.md`, with the same meanings but one: *accelerated* is a tenth less time than
//! alone, not a hundredth, because real runs differ by more than a hundredth by themselves. What `fixed` shows in the columns of
//! slowdown and acceleration is what the machine's own unrest makes of nothing.
//! **Gives up:** judging.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};
use simulator::Report;
use simulator::comparisons::Seeds;
use vocabulary::Span;

use super::alone::Needs;
use super::functions::{KINDS, SIZES};
use super::play::Played;
use super::{Contender, Fleet};

/// A run that takes less than this part of its time alone was accelerated.
const ACCELERATED: f64 = 0.9;

/// One round, or what is foretold of all.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) struct Figures {
    /// The run against the same run alone at its reservation.
    pub mean_slowdown: f64,
    pub p99_slowdown: f64,
    /// The largest slowdown, less one.
    pub worst_percent: f64,
    pub p99_run_s: f64,
    /// From call to answer.
    pub p99_latency_s: f64,
    /// From call to answer, against the run alone.
    pub mean_slowdown_of_latency: f64,
    /// Shares of runs, in per cent.
    pub harvested_percent: f64,
    pub accelerated_percent: f64,
    pub safeguarded_percent: f64,
    /// Runs that were not their invocation's first.
    pub again: f64,
    /// CPU that runs used of what the VMs had.
    pub used_percent: f64,
    pub failed: f64,
}

impl Figures {
    /// Of a round that was played.
    pub fn of_round(played: &Played, needs: &Needs, fleet: &Fleet) -> Self {
        let alone = |run: &super::play::Ran| needs[run.call.function][run.call.size].duration_us as f64;
        let runs = &played.runs;
        let all = |of: &dyn Fn(&super::play::Ran) -> f64| {
            let mut values: Vec<f64> = runs.iter().map(of).collect();
            values.sort_by(f64::total_cmp);
            values
        };
        let share = |of: &dyn Fn(&super::play::Ran) -> bool| {
            100.0 * runs.iter().filter(|run| of(run)).count() as f64 / runs.len().max(1) as f64
        };
        let slowdowns = all(&|run| run.duration.as_micros() as f64 / alone(run));
        let of_latency = all(&|run| run.latency.as_micros() as f64 / alone(run));
        let used: f64 = runs.iter().map(|run| run.cpu_time.as_seconds()).sum();
        let there = f64::from(fleet.vms) * f64::from(fleet.vm_cpu) / 1e3 * played.length.as_secs_f64();
        Self {
            mean_slowdown: mean(&slowdowns),
            p99_slowdown: p99(&slowdowns),
            worst_percent: (slowdowns.last().copied().unwrap_or(1.0) - 1.0).max(0.0) * 100.0,
            p99_run_s: p99(&all(&|run| run.duration.as_seconds())),
            p99_latency_s: p99(&all(&|run| run.latency.as_secs_f64())),
            mean_slowdown_of_latency: mean(&of_latency),
            harvested_percent: share(&|run| run.harvested),
            accelerated_percent: share(&|run| (run.duration.as_micros() as f64) < ACCELERATED * alone(run)),
            safeguarded_percent: share(&|run| run.safeguarded),
            again: runs.iter().filter(|run| run.again).count() as f64,
            used_percent: 100.0 * used / there.max(1e-9),
            failed: played.failed as f64,
        }
    }

    /// Of a rehearsal in which calls came for so long, the pauses between rounds left out.
    pub fn of_report(report: &Report, fleet: &Fleet, length: Span) -> Self {
        let times = |permille: u64| permille as f64 / 1e3;
        let share = |part: u64| 100.0 * part as f64 / report.lending.runs.max(1) as f64;
        // The curve has the slowdown below which so many per cent of runs are.
        let curve = &report.slowdown_of_run_curve;
        let used = report.cores.used.sum() as f64 / 1e6;
        let there = f64::from(fleet.vms) * f64::from(fleet.vm_cpu) / 1e3 * length.as_seconds();
        let accelerated = curve.iter().filter(|&&slowdown| times(slowdown) < ACCELERATED).count();
        Self {
            mean_slowdown: times(report.slowdown_of_run.mean_permille),
            p99_slowdown: times(report.slowdown_of_run.p99_permille),
            worst_percent: (times(report.slowdown_of_run.max_permille) - 1.0).max(0.0) * 100.0,
            p99_run_s: report.run.p99_us as f64 / 1e6,
            p99_latency_s: report.latency.p99_us as f64 / 1e6,
            mean_slowdown_of_latency: times(report.slowdown_of_reservation.mean_permille),
            harvested_percent: share(report.lending.harvested),
            accelerated_percent: 100.0 * accelerated.saturating_sub(1) as f64
                / curve.len().saturating_sub(1).max(1) as f64,
            safeguarded_percent: share(report.lending.safeguarded),
            again: report.further_attempts as f64,
            used_percent: 100.0 * used / there.max(1e-9),
            failed: report.failed() as f64,
        }
    }

    /// Of several.
    pub fn mean(all: &[Self]) -> Self {
        let of = |figure: fn(&Self) -> f64| mean(&all.iter().map(figure).collect::<Vec<_>>());
        Self {
            mean_slowdown: of(|f| f.mean_slowdown),
            p99_slowdown: of(|f| f.p99_slowdown),
            worst_percent: of(|f| f.worst_percent),
            p99_run_s: of(|f| f.p99_run_s),
            p99_latency_s: of(|f| f.p99_latency_s),
            mean_slowdown_of_latency: of(|f| f.mean_slowdown_of_latency),
            harvested_percent: of(|f| f.harvested_percent),
            accelerated_percent: of(|f| f.accelerated_percent),
            safeguarded_percent: of(|f| f.safeguarded_percent),
            again: of(|f| f.again),
            used_percent: of(|f| f.used_percent),
            failed: of(|f| f.failed),
        }
    }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

fn p99(sorted: &[f64]) -> f64 {
    let rank = (sorted.len() * 99).div_ceil(100).max(1);
    sorted.get(rank - 1).copied().unwrap_or(0.0)
}

/// One contender: its rounds, and what was foretold.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Row {
    pub placement: String,
    pub allocator: String,
    pub lending: String,
    pub rounds: Vec<Figures>,
    pub foretold: Option<Figures>,
    /// How far the foretold mean slowdown is from the one of all rounds together, in per cent of the latter.
    pub error_percent: Option<f64>,
}

impl Row {
    pub fn new(contender: &Contender, rounds: Vec<Figures>, foretold: Option<Figures>) -> Self {
        let live = mean(&rounds.iter().map(|round| round.mean_slowdown).collect::<Vec<_>>());
        let error = |foretold: Figures| 100.0 * (foretold.mean_slowdown - live).abs() / live.max(1e-9);
        Self {
            placement: contender.placement.clone(),
            allocator: contender.allocator.clone(),
            lending: contender.lending.clone(),
            error_percent: foretold.map(error),
            rounds,
            foretold,
        }
    }

    fn cells(&self) -> Vec<String> {
        let over = |of: fn(&Figures) -> f64, places| {
            Seeds::of(&self.rounds.iter().map(of).collect::<Vec<_>>()).text(places)
        };
        COLUMNS.iter().map(|&(_, of, places)| over(of, places)).collect()
    }

    fn cells_foretold(&self) -> Option<Vec<String>> {
        let foretold = self.foretold?;
        Some(COLUMNS.iter().map(|&(_, of, places)| format!("*{:.places$}*", of(&foretold))).collect())
    }
}

type Column = (&'static str, fn(&Figures) -> f64, usize);

const COLUMNS: [Column; 12] = [
    ("mean slowdown", |f| f.mean_slowdown, 2),
    ("P99 slowdown", |f| f.p99_slowdown, 2),
    ("worst degradation, %", |f| f.worst_percent, 0),
    ("P99 of runs, s", |f| f.p99_run_s, 2),
    ("P99 latency, s", |f| f.p99_latency_s, 2),
    ("mean slowdown, waiting and cold starts included", |f| f.mean_slowdown_of_latency, 2),
    ("harvested, %", |f| f.harvested_percent, 1),
    ("accelerated, %", |f| f.accelerated_percent, 1),
    ("safeguarded, %", |f| f.safeguarded_percent, 1),
    ("run again", |f| f.again, 1),
    ("CPU used, %", |f| f.used_percent, 1),
    ("failed", |f| f.failed, 1),
];

/// The rows as Markdown; what was foretold stands below each in italics.
pub(super) fn markdown(rows: &[Row]) -> String {
    let mut text = String::from("| placement | allocator | lending |");
    for (name, ..) in COLUMNS {
        let _ = write!(text, " {name} |");
    }
    text.push_str(" error of the foretold mean slowdown, % |\n|");
    text.push_str(&" --- |".repeat(COLUMNS.len() + 4));
    text.push('\n');
    for row in rows {
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | |",
            row.placement,
            row.allocator,
            row.lending,
            row.cells().join(" | ")
        );
        if let (Some(cells), Some(error)) = (row.cells_foretold(), row.error_percent) {
            let _ = writeln!(text, "| *foretold* | | | {} | {error:.0} |", cells.join(" | "));
        }
    }
    text
}

/// What each function takes alone, as Markdown.
pub(super) fn needs(needs: &Needs, vm_cpu: u32) -> String {
    let mut text = String::from(
        "| function | what | reserved | alone, s, by size of input | CPU it uses then, millicores | memory, MiB |\n\
         | --- | --- | --- | --- | --- | --- |\n",
    );
    for (kind, sizes) in KINDS.iter().zip(needs) {
        let seconds: Vec<String> =
            (0..SIZES).map(|size| format!("{:.2}", sizes[size].duration_us as f64 / 1e6)).collect();
        let used: Vec<String> = (0..SIZES)
            .map(|size| (sizes[size].cpu_us * 1_000 / sizes[size].duration_us.max(1)).to_string())
            .collect();
        let memory = sizes.iter().map(|alone| alone.memory.0).max().unwrap_or(0);
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} | {memory} |",
            kind.name,
            kind.what,
            kind.reservation(vm_cpu),
            seconds.join(", "),
            used.join(", "),
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use vocabulary::{Mebibytes, MilliCores};

    use super::super::alone::Alone;
    use super::super::play::{Call, Ran};
    use super::*;

    fn played(slowdowns: &[f64]) -> Played {
        let runs = slowdowns.iter().map(|slowdown| Ran {
            call: Call { at: Duration::ZERO, function: 0, size: 0 },
            latency: Duration::from_micros((2e6 * slowdown) as u64),
            duration: Span((1e6 * slowdown) as u64),
            init: None,
            cpu_time: Span::millis(150),
            memory: 10,
            harvested: *slowdown == 1.0,
            safeguarded: *slowdown > 1.0,
            again: false,
        });
        Played { runs: runs.collect(), length: Duration::from_secs(1), ..Played::default() }
    }

    #[test]
    fn figures_are_what_their_names_say() {
        let alone = Alone {
            duration_us: 1_000_000,
            cpu_us: 150_000,
            memory: Mebibytes(10),
            saturation: MilliCores(150),
            cold_us: 1,
        };
        let fleet = Fleet { vms: 3, vm_cpu: 500, vm_memory: 1_024, shrinking: false };
        let figures = Figures::of_round(&played(&[1.0, 0.5, 1.5, 1.0, 0.95]), &vec![[alone; SIZES]], &fleet);
        assert!((figures.mean_slowdown - 0.99).abs() < 1e-6 && figures.p99_slowdown == 1.5);
        assert!((figures.worst_percent - 50.0).abs() < 1e-6);
        assert!((figures.mean_slowdown_of_latency - 1.98).abs() < 1e-6);
        let shares = (figures.harvested_percent, figures.accelerated_percent, figures.safeguarded_percent);
        assert_eq!(shares, (40.0, 20.0, 20.0));
        assert!((figures.used_percent - 50.0).abs() < 1e-6, "{figures:?}");
    }

    #[test]
    fn the_error_is_that_of_the_mean_over_all_rounds() {
        let contender =
            Contender { placement: "mws".into(), allocator: "fixed".into(), lending: "off".into() };
        let fleet = Fleet { vms: 1, vm_cpu: 1, vm_memory: 1, shrinking: false };
        let figures = Figures::of_round(&Played::default(), &Vec::new(), &fleet);
        let of = |mean_slowdown| Figures { mean_slowdown, ..figures };
        let row = Row::new(&contender, vec![of(0.9), of(1.1)], Some(of(0.85)));
        assert!((row.error_percent.unwrap() - 15.0).abs() < 1e-6);
        assert!(markdown(&[row]).contains("| 15 |"));
    }
}
