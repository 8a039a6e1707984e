//! Which applications stay on harvest VMs, and what that loses: SOSP'21's reliability strategies and ours.
//!
//! **Knows:** three workloads (`traffic`): one made so that it has what is published of the trace that the paper calls `F_Large`; one with
//! what is published of `F_Small`; and, where there is a folder of traces, a real one.
//! **Promises:** each invocation is assigned by what was learned before it, by the strategies of `policies` that run in production; the
//! first half only teaches, the second is counted. An invocation is lost if its VM is given notice while it runs, except in its
//! last 30 s. Losses are expected values, so that no chance of evictions is in them.
//! **Gives up:** places: there is always room on either kind of VM.

mod traffic;

use policies::reliability::{self, Case, Hazard, Rate, Tails};
use serde_json::json;
use vocabulary::{FunctionCard, FunctionId, OnEviction, Resources, Revision, Span, VmKind};

use super::{Drawn, Figure, FigureError, Goal, Size, Stage, Summary, Table, Values, whose};
use crate::runs::Progress;
use traffic::{Traffic, Workload};

/// See the module.
pub struct Strategies;

/// The paper's four and ours.
const STRATEGIES: [&str; 5] =
    ["no-failure", "bounded(99.9)", "bounded(99)", "live-and-let-die", "expected-loss(0.1)"];
const OURS: &str = STRATEGIES[4];

/// Published shares of computation on harvest VMs, in the order above.
const PUBLISHED: [Option<f64>; 5] = [Some(12.0), Some(28.0), Some(45.7), Some(100.0), None];

/// A hundred times as many evictions as SOSP'21 measured: a mean life of 61.5 days made 14.76 hours.
const LIFE: Span = Span::seconds(53_136);

/// No run of an application's functions is allowed to take longer.
const TIMEOUT: Span = Span::seconds(3_600);

/// Which functions must not run twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Never {
    OneInTen,
    All,
}

/// What came of a strategy.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
struct Outcome {
    /// Share of computation on harvest VMs, in per cent.
    share: f64,
    /// Share of invocations that are lost where nothing is run again.
    hit: f64,
    /// Share of invocations that are lost for good where what may run again does, once.
    lost: f64,
    /// Share of computation on harvest VMs that is in vain, at most: all of a run that is hit.
    wasted: f64,
}

fn card(app: u32, never: Never) -> FunctionCard {
    let forbidden = never == Never::All || app.is_multiple_of(10);
    FunctionCard {
        id: FunctionId(u64::from(app) + 1),
        revision: Revision(1),
        reservation: Resources::new(1_000, 256),
        timeout: TIMEOUT,
        on_eviction: if forbidden { OnEviction::Never } else { OnEviction::Rerun },
        application: None,
    }
}

fn outcome(strategy: &str, never: Never, traffic: &Traffic) -> Outcome {
    let strategy = reliability::by_name(strategy).expect("a listed strategy");
    let mut tails = vec![Tails::default(); traffic.apps as usize];
    // What the fleet has shown in a while.
    let mut hazard = Hazard::new(Span::seconds(24 * 3_600));
    for _ in 0..200 {
        hazard.watched(Span::ZERO, LIFE);
        hazard.evicted(LIFE);
    }
    let (evictions, truth) = (hazard.overall(), Rate::once_in(LIFE).0 as f64 / 1e9);
    let (mut on_harvest, mut all, mut calls) = (0.0, 0.0, 0_u64);
    let mut sum = Outcome::default();
    for (at, &(app, seconds)) in traffic.calls.iter().enumerate() {
        if at >= traffic.learned {
            let function = card(app, never);
            let application = &tails[app as usize];
            let kinds = strategy.kinds(Case { function: &function, application, ran: Span::ZERO, evictions });
            let cost = traffic.cost(app, seconds);
            (all, calls) = (all + cost.seconds, calls + 1);
            if kinds.first() == VmKind::Harvest {
                on_harvest += cost.seconds;
                let hit = truth * cost.excess;
                sum.hit += hit;
                sum.lost += if function.on_eviction == OnEviction::Never { hit } else { hit * hit };
                sum.wasted += truth * cost.excess_seconds;
            }
        }
        tails[app as usize].learn(Span((f64::from(seconds) * 1e6) as u64));
    }
    let calls = calls.max(1) as f64;
    Outcome {
        share: 100.0 * on_harvest / f64::max(all, 1e-9),
        hit: sum.hit / calls,
        lost: sum.lost / calls,
        wasted: sum.wasted / f64::max(on_harvest, 1e-9),
    }
}

/// One strategy on one workload, over the seeds.
struct Row {
    workload: Workload,
    strategy: &'static str,
    never: Never,
    share: Summary,
    hit: Summary,
    lost: Summary,
    wasted: Summary,
}

impl Row {
    fn of(workload: Workload, strategy: &'static str, never: Never, outcomes: &[Outcome]) -> Self {
        let over = |value: fn(&Outcome) -> f64| Summary::of(&outcomes.iter().map(value).collect::<Vec<_>>());
        Self {
            workload,
            strategy,
            never,
            share: over(|outcome| outcome.share),
            hit: over(|outcome| outcome.hit),
            lost: over(|outcome| outcome.lost),
            wasted: over(|outcome| outcome.wasted),
        }
    }

    fn published(&self) -> Option<f64> {
        let place = STRATEGIES.iter().position(|&name| name == self.strategy)?;
        PUBLISHED[place].filter(|_| self.workload == Workload::FLarge)
    }

    fn cells(&self) -> Vec<String> {
        let small = |summary: &Summary| match summary.seeds {
            0 | 1 => format!("{:.1e}", summary.mean),
            _ => format!("{:.1e} ({:.1e} to {:.1e})", summary.mean, summary.least, summary.most),
        };
        vec![
            self.workload.name().into(),
            if self.never == Never::All { "none" } else { "nine in ten" }.into(),
            self.strategy.into(),
            self.published().map_or_else(|| "-".into(), |share| format!("{share} %")),
            format!("{} %", self.share.text(1)),
            small(&self.hit),
            small(&self.lost),
            small(&self.wasted),
        ]
    }

    fn json(&self) -> serde_json::Value {
        json!({
            "whose": whose(self.strategy == OURS),
            "paper_harvest_share_percent": self.published(),
            "harvest_share_percent": self.share,
            "lost_where_nothing_runs_again": self.hit,
            "lost_with_a_second_run": self.lost,
            "computation_in_vain": self.wasted,
        })
    }
}

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
            let mut by_policy: Vec<Vec<Outcome>> = vec![Vec::new(); STRATEGIES.len() * 2];
            let mut shape = Vec::new();
            for seed in size.seeds(5, 2) {
                let traffic = workload.traffic(size, seed)?;
                for (at, outcomes) in by_policy.iter_mut().enumerate() {
                    let never = if at < STRATEGIES.len() { Never::OneInTen } else { Never::All };
                    outcomes.push(outcome(STRATEGIES[at % STRATEGIES.len()], never, &traffic));
                }
                shape.push(traffic.short_shares());
                if notes.last() != Some(&traffic.note) {
                    notes.push(traffic.note);
                }
                done += 1;
                (stage.progress)(Progress { label: workload.name(), done, of });
            }
            findings.push(workload.self_check(&shape));
            for (at, outcomes) in by_policy.iter().enumerate() {
                let never = if at < STRATEGIES.len() { Never::OneInTen } else { Never::All };
                rows.push(Row::of(workload, STRATEGIES[at % STRATEGIES.len()], never, outcomes));
            }
        }
        if size.traces.is_none() {
            notes.push("no real workload: it needs --traces".into());
        }
        Ok(self.draw(&rows, notes, findings))
    }
}

impl Strategies {
    fn draw(&self, rows: &[Row], notes: Vec<String>, mut findings: Vec<String>) -> Drawn {
        let heads = [
            "workload",
            "may run twice",
            "strategy",
            "paper: on harvest VMs",
            "here: computation on harvest VMs",
            "lost, nothing run again",
            "lost, with a second run",
            "in vain",
        ];
        let mut table = Table::new("What stays on harvest VMs, and what is lost", &heads);
        let mut values = Values::new();
        let mut goals = Vec::new();
        let find = |workload, strategy, never| {
            rows.iter().find(|row| (row.workload, row.strategy, row.never) == (workload, strategy, never))
        };
        for row in rows {
            table.rows.push(row.cells());
            let cluster = match row.never {
                Never::OneInTen => row.workload.name().to_owned(),
                Never::All => format!("{}, none may run twice", row.workload.name()),
            };
            values.entry(cluster).or_default().insert(row.strategy.into(), row.json());
            if let Some(published) = row.published().filter(|_| row.never == Never::OneInTen) {
                goals.push(Goal {
                    of: format!("{}, on harvest VMs under `{}`", row.workload.name(), row.strategy),
                    paper: format!("{published} %"),
                    rerun: format!("{} %", row.share.text(1)),
                    ..Goal::default()
                });
            }
        }
        for workload in [Workload::FLarge, Workload::FSmall, Workload::S500] {
            let at = |strategy| find(workload, strategy, Never::OneInTen);
            let (Some(ours), Some(bounded)) = (at(OURS), at("bounded(99.9)")) else { continue };
            goals.push(Goal {
                of: format!("{}, on harvest VMs under `{OURS}`", workload.name()),
                rerun: format!("{:.1} % (bounded(99.9))", bounded.share.mean),
                ours: format!("{} %", ours.share.text(1)),
                wanted: "at least 90 %".into(),
                met: Some(ours.share.mean >= 90.0),
                ..Goal::default()
            });
            goals.push(Goal {
                of: format!("{}, invocations lost for good", workload.name()),
                paper: "at most 1e-3 (bounded(99.9), worst case)".into(),
                rerun: format!("{:.1e} (bounded(99.9), no second run, as there)", bounded.hit.mean),
                ours: format!("{:.1e}", ours.lost.mean),
                wanted: "no more than bounded(99.9)".into(),
                met: Some(ours.lost.mean <= bounded.hit.mean),
            });
            if let (Some(ours), Some(bounded)) =
                (find(workload, OURS, Never::All), find(workload, "bounded(99.9)", Never::All))
            {
                findings.push(format!(
                    "{}: where no function may run twice, `{OURS}` keeps {:.1} % on harvest VMs and loses {:.1e}, `bounded(99.9)` {:.1} % and {:.1e}: what \
                     saves invocations is the second run, what the strategy adds is that long ones which must not have one go to regular VMs.",
                    workload.name(), ours.share.mean, ours.lost.mean, bounded.share.mean, bounded.lost.mean
                ));
            }
        }
        Drawn {
            name: self.name(),
            about: self.about(),
            notes,
            goals,
            findings,
            tables: vec![table],
            values,
            ..Drawn::default()
        }
    }
}
