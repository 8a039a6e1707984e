//! Figures that are made of many runs: by cluster, policy, load and seed.
//!
//! **Knows:** what has been played, and what a figure wants to be played next.
//! **Promises:** round after round until a figure wants no more, so that it may look where its curves bend and play only there; what
//! comes out does not depend on the threads. What is wrong with a trace is said before anything is played.
//! **Gives up:** a run that breaks: it is named, and missing from the figure.

use std::collections::BTreeSet;

use super::{Drawn, Figure, FigureError, Size, Stage, Summary};
use crate::house::House;
use crate::report::Report;
use crate::runs::{Job, Progress, play_all};
use crate::workload::TraceError;

/// One run of a figure.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cell {
    /// Where it is played.
    pub cluster: String,
    /// Who decides.
    pub policy: String,
    /// How much is asked for; the figure says of what.
    pub load: u32,
    /// All chance.
    pub seed: u64,
}

/// A cell and what came of it.
pub struct Played {
    /// Which.
    pub cell: Cell,
    /// What.
    pub report: Report,
}

impl Played {
    /// A number of each of these, over their seeds.
    pub fn over(played: &[&Self], value: impl Fn(&Report) -> f64) -> Summary {
        Summary::of(&played.iter().map(|one| value(&one.report)).collect::<Vec<_>>())
    }
}

/// A figure that is made of cells.
pub trait Cells: Copy + Send + Sync + 'static {
    /// See [`Figure::name`].
    fn name(&self) -> &'static str;
    /// See [`Figure::about`].
    fn about(&self) -> &'static str;
    /// The runs that it takes at most.
    fn most(&self, size: &Size) -> usize;
    /// What is played next, given what has been played; nothing: it is all there. What broke is not among the played: a cell that is
    /// asked for again is not played again.
    fn next(&self, size: &Size, played: &[Played]) -> Vec<Cell>;
    /// What is played in one of them, and a sentence for each of its sources.
    fn house(&self, cell: &Cell, size: &Size) -> Result<(House, Vec<String>), TraceError>;
    /// What they come to; in the order in which they were asked for.
    fn draw(&self, played: &[Played], size: &Size, notes: Vec<String>) -> Drawn;
}

impl<T: Cells> Figure for T {
    fn name(&self) -> &'static str {
        Cells::name(self)
    }

    fn about(&self) -> &'static str {
        Cells::about(self)
    }

    fn most_runs(&self, stage: &Stage<'_>) -> usize {
        self.most(stage.size)
    }

    fn play(&self, stage: &Stage<'_>) -> Result<Drawn, FigureError> {
        let size = stage.size;
        let notes = notes(self, size)?;
        let of = self.most(size);
        let (mut played, mut broken): (Vec<Played>, Vec<String>) = (Vec::new(), Vec::new());
        let mut asked: BTreeSet<Cell> = BTreeSet::new();
        loop {
            let mut round = self.next(size, &played);
            round.retain(|cell| asked.insert(cell.clone()));
            if round.is_empty() {
                return Ok(Drawn { broken, ..self.draw(&played, size, notes) });
            }
            let before = asked.len() - round.len();
            let in_all = |at: Progress<'_>| {
                (stage.progress)(Progress { label: at.label, done: before + at.done, of });
            };
            let jobs = round.iter().map(|cell| job(*self, cell, size)).collect();
            for (cell, result) in round.into_iter().zip(play_all(jobs, stage.threads, &in_all)) {
                match result {
                    Ok(report) => played.push(Played { cell, report }),
                    Err(error) => broken.push(error.to_string()),
                }
            }
        }
    }
}

/// Each cluster is built once before anything is played. A source that says the same sentence of several is quoted once.
fn notes<T: Cells>(figure: &T, size: &Size) -> Result<Vec<String>, TraceError> {
    let (mut clusters, mut seen) = (BTreeSet::new(), BTreeSet::new());
    let mut notes = Vec::new();
    for cell in figure.next(size, &[]) {
        if clusters.insert(cell.cluster.clone()) {
            notes.extend(figure.house(&cell, size)?.1);
        }
    }
    notes.retain(|note| seen.insert(note.clone()));
    Ok(notes)
}

fn job<T: Cells>(figure: T, cell: &Cell, size: &Size) -> Job {
    let (cell, size) = (cell.clone(), size.clone());
    let again = Size { seeds: Some(cell.seed), ..size.clone() };
    Job {
        label: format!("{} {} {} {}", cell.cluster, cell.policy, cell.load, cell.seed),
        repeat: format!("windfall simulate figures --only {}{}", Cells::name(&figure), again.flags()),
        build: Box::new(move || figure.house(&cell, &size).expect("it was read a moment ago").0),
    }
}
