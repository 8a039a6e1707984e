//! The published figures, played again: the paper, its policy in our rehearsal, and ours beside them.
//!
//! **Knows:** what is published ([`Figure`], one file each), and how large a rehearsal is asked for ([`Size`]).
//! **Promises:** equal sizes give equal figures, to the last digit, whatever the number of threads, except for what a clock or the
//! operating system measured, which stands under `measured`; every figure names what it was made of and says in words which of its
//! goals hold and which do not. Files are put in place whole or not at all, each figure's as soon as it is there.
//! **Gives up:** choosing for the reader: what is assumed twice is played twice and stands twice in the table.

mod azure;
mod balancers;
mod cells;
mod chart;
mod cost;
mod curve;
mod document;
mod freyr;
mod reading;
mod scale;
mod sensitivity;
mod sosp;
mod strategies;

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Serialize;
use serde_json::Value;

pub use balancers::Balancers;
pub use cells::{Cell, Cells, Played};
pub use chart::{Chart, Line};
pub use document::{Files, WriteError, markdown, write};
pub use reading::{Crossing, Summary, crossing, percent};

use crate::comparisons::lending::{Contender, Unplayed};
use crate::runs::Progress;
use crate::workload::TraceError;

/// How much is played.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Amount {
    /// For the record.
    #[default]
    Full,
    /// Fewer loads, fewer seeds: all figures within five minutes on two cores.
    Quick,
    /// So little that it proves only that every figure comes out.
    Tiny,
}

/// How large a rehearsal is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Size {
    /// How much is played.
    pub amount: Amount,
    /// So many seeds instead of the figure's own choice.
    pub seeds: Option<u64>,
    /// The folder of traces, if there is one: then clusters that change do so as released, and calls come as recorded; else both are
    /// drawn by chance.
    pub traces: Option<PathBuf>,
}

impl Size {
    /// One of these, by how much is played.
    pub fn pick<T>(&self, full: T, quick: T, tiny: T) -> T {
        match self.amount {
            Amount::Full => full,
            Amount::Quick => quick,
            Amount::Tiny => tiny,
        }
    }

    /// The seeds to play, from 1 on; with a tiny amount it is one.
    pub fn seeds(&self, full: u64, quick: u64) -> std::ops::RangeInclusive<u64> {
        1..=self.seeds.unwrap_or(self.pick(full, quick, 1))
    }

    /// The flags that ask for it again, except for the folder of traces, which is of this machine.
    pub fn flags(&self) -> String {
        let mut flags = self.pick("", " --quick", " --tiny").to_owned();
        if let Some(seeds) = self.seeds {
            flags += &format!(" --seeds {seeds}");
        }
        if self.traces.is_some() {
            flags += " --traces DIR";
        }
        flags
    }
}

/// Everything that a figure is played with.
pub struct Stage<'a> {
    /// How large.
    pub size: &'a Size,
    /// Runs at once.
    pub threads: usize,
    /// Allocators beside the named ones: trained models, which are read elsewhere.
    pub contenders: &'a [Contender],
    /// Told after every run.
    pub progress: &'a (dyn Fn(Progress<'_>) + Sync),
}

/// What a figure comes to.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Drawn {
    /// The figure's name.
    pub name: &'static str,
    /// What is drawn, and where it is published.
    pub about: &'static str,
    /// What was measured, what was assumed, where it comes from: a sentence each.
    pub notes: Vec<String>,
    /// What was hoped for, each with what came of it.
    pub goals: Vec<Goal>,
    /// What else is to be seen, and what does not come out as published: a sentence each.
    pub findings: Vec<String>,
    /// Runs that broke, each with the line that repeats it: bugs. Their cells are missing from everything above.
    pub broken: Vec<String>,
    /// For people.
    #[serde(skip)]
    pub tables: Vec<Table>,
    /// For people's eyes.
    #[serde(skip)]
    pub charts: Vec<Chart>,
    /// For programs: by cluster or workload, then by policy.
    pub values: Values,
}

/// Whose policy a number is of, for programs.
pub fn whose(is_ours: bool) -> &'static str {
    if is_ours { "ours" } else { "the paper's, played again" }
}

/// By cluster or workload, then by policy.
pub type Values = BTreeMap<String, BTreeMap<String, Value>>;

/// One line of the table over all figures: the paper, its policy here, ours. Empty: there is nothing of the kind.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Goal {
    /// Of what: the cluster, and the number with its unit.
    pub of: String,
    /// What is published.
    pub paper: String,
    /// The published policy, played again here.
    pub rerun: String,
    /// Ours.
    pub ours: String,
    /// What ours should come to.
    pub wanted: String,
    /// Whether it does; `None`: nothing is wanted, it is only told.
    pub met: Option<bool>,
}

/// Rows under heads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// What it shows.
    pub title: String,
    /// One for each column.
    pub heads: Vec<String>,
    /// As many cells as there are heads.
    pub rows: Vec<Vec<String>>,
}

impl Table {
    /// Empty, with these heads.
    pub fn new(title: impl Into<String>, heads: &[&str]) -> Self {
        let heads = heads.iter().map(ToString::to_string).collect();
        Self { title: title.into(), heads, rows: Vec::new() }
    }
}

/// One figure of a paper, or of ours.
pub trait Figure: Sync {
    /// What it is called on the command line.
    fn name(&self) -> &'static str;
    /// What is drawn, and where it is published.
    fn about(&self) -> &'static str;
    /// The runs that it takes at most.
    fn most_runs(&self, stage: &Stage<'_>) -> usize;
    /// Plays and draws it.
    fn play(&self, stage: &Stage<'_>) -> Result<Drawn, FigureError>;
}

/// All figures, in the order in which they are played and told.
pub static ALL: [&dyn Figure; 7] = [
    &balancers::Balancers,
    &cost::Cost,
    &strategies::Strategies,
    &freyr::Freyr,
    &sensitivity::Sensitivity,
    &azure::Azure,
    &scale::Scale,
];

/// The figure of this name.
pub fn by_name(name: &str) -> Option<&'static dyn Figure> {
    ALL.into_iter().find(|figure| figure.name() == name)
}

/// Why there is no figure.
#[derive(Debug, thiserror::Error)]
pub enum FigureError {
    /// Something is wrong with the traces.
    #[error("{0}; without --traces what is not there is drawn by chance instead")]
    Trace(#[from] TraceError),
    /// A run that stands for a whole figure broke: a bug.
    #[error("{0}")]
    Run(#[from] crate::runs::RunError),
}

impl From<Unplayed> for FigureError {
    fn from(unplayed: Unplayed) -> Self {
        match unplayed {
            Unplayed::Trace(error) => Self::Trace(error),
            Unplayed::Run(error) => Self::Run(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stage<'a>(size: &'a Size, threads: usize) -> Stage<'a> {
        Stage { size, threads, contenders: &[], progress: &|_| {} }
    }

    #[test]
    fn figures_have_names_of_their_own_and_are_found_by_them_and_quick_is_less() {
        let sizes = [Amount::Full, Amount::Quick, Amount::Tiny];
        for figure in ALL {
            assert_eq!(by_name(figure.name()).unwrap().name(), figure.name());
            let runs = sizes.map(|amount| figure.most_runs(&stage(&Size { amount, ..Size::default() }, 1)));
            assert!(
                runs.is_sorted_by(|more, less| more >= less) && runs[2] > 0,
                "{}: {runs:?}",
                figure.name()
            );
        }
        assert!(by_name("").is_none());
    }

    #[test]
    fn a_folder_without_the_trace_is_refused_before_anything_is_played() {
        let folder = tempfile::tempdir().unwrap();
        let size = Size { amount: Amount::Tiny, traces: Some(folder.path().into()), ..Size::default() };
        for (figure, file) in
            [("balancers", "sosp21_harvest_vm_cores"), ("freyr", "freyr10"), ("azure", "s500")]
        {
            let nothing = |_: Progress<'_>| panic!("nothing is played");
            let stage = Stage { progress: &nothing, ..stage(&size, 1) };
            let Err(FigureError::Trace(error)) = by_name(figure).unwrap().play(&stage) else {
                panic!("{figure}: it is not there")
            };
            assert!(error.to_string().contains(file), "{error}");
        }
    }

    #[test]
    fn the_flags_say_all_that_matters_and_nothing_of_this_machine() {
        let size = Size { amount: Amount::Quick, seeds: Some(2), traces: Some("/somewhere".into()) };
        assert_eq!(size.flags(), " --quick --seeds 2 --traces DIR");
        assert_eq!(Size::default().flags(), "");
    }
}
