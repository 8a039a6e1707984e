//! One strategy on one workload, over the seeds: as a row, and for programs.
//!
//! **Knows:** what came of it under each seed.
//! **Promises:** one row for each strategy and each answer to which functions must not run twice, in one order.
//! **Gives up:** judging; the figure does.

use serde_json::json;

use super::super::{Summary, whose};
use super::outcome::{Never, Outcome, Played};
use super::traffic::Workload;
use super::{PAPERS, STRATEGIES};

/// Published shares of computation on harvest VMs, of the paper's four in order.
const PUBLISHED: [f64; PAPERS] = [12.0, 28.0, 45.7, 100.0];

/// See the module.
pub struct Row {
    pub workload: Workload,
    pub strategy: &'static str,
    pub never: Never,
    pub share: Summary,
    pub kept: Summary,
    pub hit: Summary,
    pub lost: Summary,
    pub lost_here: Summary,
    pub wasted: Summary,
}

/// The row of these.
pub fn find<'a>(rows: &'a [Row], workload: Workload, strategy: &str, never: Never) -> Option<&'a Row> {
    rows.iter().find(|row| (row.workload, row.strategy, row.never) == (workload, strategy, never))
}

/// A small number, with its spread where there is one.
pub fn small(summary: &Summary) -> String {
    match summary.seeds {
        _ if summary.most == 0.0 => "0".into(),
        0 | 1 => format!("{:.1e}", summary.mean),
        _ => format!("{:.1e} ({:.1e} to {:.1e})", summary.mean, summary.least, summary.most),
    }
}

impl Row {
    pub const HEADS: [&'static str; 10] = [
        "workload",
        "may run twice",
        "strategy",
        "paper: on harvest VMs",
        "here: computation on harvest VMs",
        "less second runs elsewhere",
        "lost, nothing run again",
        "lost, with a second run",
        "lost, as this house runs again",
        "in vain",
    ];

    /// All of a workload.
    pub fn all(workload: Workload, played: &[Played]) -> Vec<Self> {
        let of = |(which, never): (usize, Never)| {
            STRATEGIES.iter().enumerate().map(move |(at, &strategy)| {
                let outcomes: Vec<Outcome> = played.iter().map(|played| played.outcomes[at][which]).collect();
                Self::of(workload, strategy, never, &outcomes)
            })
        };
        Never::EACH.into_iter().enumerate().flat_map(of).collect()
    }

    fn of(workload: Workload, strategy: &'static str, never: Never, outcomes: &[Outcome]) -> Self {
        let over = |value: fn(&Outcome) -> f64| Summary::of(&outcomes.iter().map(value).collect::<Vec<_>>());
        Self {
            workload,
            strategy,
            never,
            share: over(|outcome| outcome.share),
            kept: over(|outcome| outcome.kept),
            hit: over(|outcome| outcome.hit),
            lost: over(|outcome| outcome.lost),
            lost_here: over(|outcome| outcome.lost_here),
            wasted: over(|outcome| outcome.wasted),
        }
    }

    fn place(&self) -> usize {
        STRATEGIES.iter().position(|&name| name == self.strategy).expect("rows are of listed strategies")
    }

    pub fn is_the_papers(&self) -> bool {
        self.place() < PAPERS
    }

    pub fn published(&self) -> Option<f64> {
        PUBLISHED.get(self.place()).copied().filter(|_| self.workload == Workload::FLarge)
    }

    /// Where it stands in the JSON.
    pub fn cluster(&self) -> String {
        let name = self.workload.name();
        match self.never {
            Never::Tenth => name.to_owned(),
            Never::OneInTen => format!("{name}, one in ten must not run twice, whichever"),
            Never::All => format!("{name}, none may run twice"),
        }
    }

    pub fn cells(&self) -> Vec<String> {
        vec![
            self.workload.name().into(),
            if self.never == Never::All { "none" } else { "nine in ten" }.into(),
            self.strategy.into(),
            self.published().map_or_else(|| "-".into(), |share| format!("{share} %")),
            format!("{} %", self.share.text(1)),
            format!("{} %", self.kept.text(1)),
            small(&self.hit),
            small(&self.lost),
            small(&self.lost_here),
            small(&self.wasted),
        ]
    }

    pub fn json(&self) -> serde_json::Value {
        json!({
            "whose": whose(!self.is_the_papers()),
            "paper_harvest_share_percent": self.published(),
            "harvest_share_percent": self.share,
            "harvest_share_less_second_runs_percent": self.kept,
            "lost_where_nothing_runs_again": self.hit,
            "lost_with_a_second_run": self.lost,
            "lost_as_this_house_runs_again": self.lost_here,
            "computation_in_vain": self.wasted,
        })
    }
}
