//! Which applications stay on harvest VMs, and what that loses: SOSP'21's reliability strategies and ours.
//!
//! **Knows:** three workloads (`traffic`): one made so that it has what is published of the trace that the paper calls `F_Large`; one with
//! what is published of `F_Small`; and, where there is a folder of traces, a real one.
//! **Promises:** each invocation is assigned by what was learned before it, by the strategies of `policies` that run in production; the
//! first half only teaches, the second is counted (`outcome`). An invocation is lost if its VM is given notice while it runs, except
//! in its last 30 s. Losses are expected values, so that no chance of evictions is in them.
//! **Gives up:** places: there is always room on either kind of VM.

mod frontier;
mod outcome;
mod row;
mod traffic;

use super::{Drawn, Figure, FigureError, Goal, Size, Stage, Table, Values};
use crate::runs::Progress;
use outcome::{Never, Played};
use row::{Row, find};
use traffic::Workload;

/// See the module.
pub struct Strategies;

/// The paper's four; and ours, by how little it may lose: the first is the default.
const STRATEGIES: [&str; 9] = [
    "no-failure",
    BOUNDED,
    "bounded(99)",
    "live-and-let-die",
    OURS,
    "expected-loss(0.01)",
    "expected-loss(0.001)",
    "expected-loss(0.0001)",
    "expected-loss(0)",
];
const OURS: &str = "expected-loss(0.1)";
const BOUNDED: &str = "bounded(99.9)";

/// How many of them are the paper's.
const PAPERS: usize = 4;

fn workloads(size: &Size) -> Vec<Workload> {
    let real = size.traces.as_ref().map(|_| Workload::S500);
    [Workload::FLarge, Workload::FSmall].into_iter().chain(real).collect()
}

impl Figure for Strategies {
    fn name(&self) -> &'static str {
        "strategies"
    }

    fn about(&self) -> &'static str {
        "How much of the computation each reliability strategy of SOSP'21, and ours, keeps on harvest VMs, and what is lost there, where VMs are \
         evicted a hundred times as often as published (with published lives all losses are a hundredth). Published: 12, 28, 45.7 and 100 % of the \
         computation on harvest VMs."
    }

    fn most_runs(&self, stage: &Stage<'_>) -> usize {
        workloads(stage.size).len() * stage.size.seeds(5, 2).count()
    }

    fn play(&self, stage: &Stage<'_>) -> Result<Drawn, FigureError> {
        let (size, of) = (stage.size, self.most_runs(stage));
        let (mut rows, mut notes, mut findings) = (Vec::new(), Vec::new(), Vec::new());
        let mut done = 0;
        for workload in workloads(size) {
            let (mut played, mut shape): (Vec<Played>, Vec<_>) = (Vec::new(), Vec::new());
            for seed in size.seeds(5, 2) {
                let traffic = workload.traffic(size, seed)?;
                played.push(outcome::play(&STRATEGIES, &traffic));
                shape.push(traffic.short_shares());
                if notes.last() != Some(&traffic.note) {
                    notes.push(traffic.note);
                }
                done += 1;
                (stage.progress)(Progress { label: workload.name(), done, of });
            }
            findings.push(workload.self_check(&shape));
            findings.push(frontier::of_a_tenth(workload, &played));
            rows.extend(Row::all(workload, &played));
        }
        if size.traces.is_none() {
            notes.push("no real workload: it needs --traces".into());
        }
        Ok(self.draw(&rows, notes, findings))
    }
}

impl Strategies {
    fn draw(&self, rows: &[Row], notes: Vec<String>, mut findings: Vec<String>) -> Drawn {
        let mut table = Table::new("What stays on harvest VMs, and what is lost", &Row::HEADS);
        let mut values = Values::new();
        let mut goals = Vec::new();
        for row in rows {
            let strategy = row.strategy;
            if row.never != Never::OneInTen && (row.is_the_papers() || strategy == OURS) {
                table.rows.push(row.cells());
            }
            values.entry(row.cluster()).or_default().insert(strategy.into(), row.json());
            if let Some(published) = row.published().filter(|_| row.never == Never::Tenth) {
                goals.push(Goal {
                    of: format!("{}, on harvest VMs under `{strategy}`", row.workload.name()),
                    paper: format!("{published} %"),
                    rerun: format!("{} %", row.share.text(1)),
                    ..Goal::default()
                });
            }
        }
        let mut charts = Vec::new();
        for workload in [Workload::FLarge, Workload::FSmall, Workload::S500] {
            let name = workload.name();
            let at = |strategy| find(rows, workload, strategy, Never::Tenth);
            let (Some(ours), Some(bounded)) = (at(OURS), at(BOUNDED)) else { continue };
            goals.push(Goal {
                of: format!("{name}, on harvest VMs under `{OURS}`"),
                rerun: format!("{:.1} % ({BOUNDED})", bounded.share.mean),
                ours: format!("{} %", ours.share.text(1)),
                wanted: "at least 90 %".into(),
                met: Some(ours.share.mean >= 90.0),
                ..Goal::default()
            });
            goals.push(Goal {
                of: format!("{name}, invocations lost for good"),
                paper: format!("at most 1e-3 ({BOUNDED}, worst case)"),
                rerun: format!("{:.1e} ({BOUNDED}, no second run, as there)", bounded.hit.mean),
                ours: format!("{:.1e}", ours.lost.mean),
                wanted: format!("no more than {BOUNDED}"),
                met: Some(ours.lost.mean <= bounded.hit.mean),
            });
            goals.extend(frontier::goals(rows, workload));
            charts.push(frontier::chart(rows, workload));
            findings.extend(frontier::second_runs(rows, workload));
            if let (Some(ours), Some(bounded)) =
                (find(rows, workload, OURS, Never::All), find(rows, workload, BOUNDED, Never::All))
            {
                findings.push(format!(
                    "{name}: where no function may run twice, `{OURS}` keeps {:.1} % on harvest VMs and loses {:.1e}, `{BOUNDED}` {:.1} % and {:.1e}: what \
                     saves invocations is the second run, what the strategy adds is that long ones which must not have one go to regular VMs.",
                    ours.share.mean, ours.lost.mean, bounded.share.mean, bounded.lost.mean
                ));
            }
        }
        findings.extend(frontier::WHAT_THIS_HOUSE_DOES.map(String::from));
        Drawn {
            name: self.name(),
            about: self.about(),
            notes,
            goals,
            findings,
            tables: vec![table, frontier::table(rows)],
            charts,
            values,
            ..Drawn::default()
        }
    }
}
