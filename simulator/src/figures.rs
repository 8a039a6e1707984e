//! The published figures, played again: the paper, its policy in our rehearsal, and ours beside them.
//!
//! **Knows:** what is published ([`Figure`], one file each), and how large a rehearsal is asked for ([`Size`]).
//! **Promises:** equal sizes give equal figures, to the last digit, whatever the number of threads; every figure names what it
//! was made of and says in words which of its goals hold and which do not. Files are put in place whole or not at all.
//! **Gives up:** choosing for the reader: what is assumed twice is played twice and stands twice in the table.

mod balancers;
mod chart;
mod cost;
mod curve;
mod document;
mod reading;
mod sensitivity;
mod sosp;

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Serialize;
use serde_json::Value;

pub use chart::{Chart, Line};
pub use document::{Files, WriteError, markdown, write};
pub use reading::{Crossing, Summary, crossing};

use crate::house::House;
use crate::report::Report;
use crate::runs::{Job, Progress, play_all};
use crate::workload::TraceError;

/// How large a rehearsal is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Size {
    /// Fewer loads, fewer seeds: all figures within five minutes on two cores.
    pub quick: bool,
    /// So many seeds instead of the figure's own choice.
    pub seeds: Option<u64>,
    /// The folder of traces, if there is one: then clusters that change do so as released, not as drawn.
    pub traces: Option<PathBuf>,
}

impl Size {
    /// The seeds to play, from 1 on.
    pub fn seeds(&self, quick: u64, full: u64) -> std::ops::RangeInclusive<u64> {
        1..=self.seeds.unwrap_or(if self.quick { quick } else { full })
    }
}

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

/// What a figure comes to.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Drawn {
    /// The figure's name.
    pub name: &'static str,
    /// What is drawn, and where it is published.
    pub about: &'static str,
    /// What was measured, what was assumed, where it comes from: a sentence each.
    pub notes: Vec<String>,
    /// Which goals hold, which do not: a sentence each.
    pub findings: Vec<String>,
    /// Runs that broke, each with the line that repeats it: bugs. Their cells are missing from everything above.
    pub broken: Vec<String>,
    /// For people.
    #[serde(skip)]
    pub tables: Vec<Table>,
    /// For people's eyes.
    #[serde(skip)]
    pub charts: Vec<Chart>,
    /// For programs: by cluster, then by policy.
    pub values: BTreeMap<String, BTreeMap<String, Value>>,
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

/// One figure of a paper.
pub trait Figure: Sync {
    /// What it is called on the command line.
    fn name(&self) -> &'static str;
    /// What is drawn, and where it is published.
    fn about(&self) -> &'static str;
    /// The runs that it takes at most.
    fn cells(&self, size: &Size) -> Vec<Cell>;
    /// Whether a cell is played, once all of smaller load have been. A curve that has left the plot is not followed: a house
    /// that is far beyond what it can bear costs most to play and tells least.
    fn goes_on(&self, cell: &Cell, played: &[Played]) -> bool {
        let _ = (cell, played);
        true
    }
    /// What is played in one of them, and a sentence for each of its sources.
    fn house(&self, cell: &Cell, size: &Size) -> Result<(House, Vec<String>), TraceError>;
    /// What they come to; by load, and then in the order of [`Figure::cells`].
    fn draw(&self, played: &[Played], size: &Size, notes: Vec<String>) -> Drawn;
}

/// All figures, in the order in which they are played.
pub const ALL: [&dyn Figure; 3] = [&balancers::Balancers, &cost::Cost, &sensitivity::Sensitivity];

/// The figure of this name.
pub fn by_name(name: &str) -> Option<&'static dyn Figure> {
    ALL.into_iter().find(|figure| figure.name() == name)
}

/// Why there is no figure.
#[derive(Debug, thiserror::Error)]
pub enum FigureError {
    /// Something is wrong with the traces.
    #[error("{0}; without --traces the clusters that change are drawn by chance instead")]
    Trace(#[from] TraceError),
}

/// Plays all of a figure's runs and draws it.
pub fn play(
    figure: &'static dyn Figure,
    size: &Size,
    threads: usize,
    progress: &(dyn Fn(Progress<'_>) + Sync),
) -> Result<Drawn, FigureError> {
    let cells = figure.cells(size);
    // Each is built once before anything is played: what is wrong with a trace is said at once, as an error and not as a broken
    // run. A source that says another sentence for each load or seed is quoted once.
    let mut notes: Vec<String> = Vec::new();
    let mut of_cluster = BTreeMap::new();
    for cell in &cells {
        if of_cluster.insert(cell.cluster.clone(), ()).is_none() {
            notes.extend(figure.house(cell, size)?.1);
        }
    }
    let mut seen = std::collections::BTreeSet::new();
    notes.retain(|note| seen.insert(note.clone()));
    let job = |cell: &Cell| {
        let (cell, size) = (cell.clone(), size.clone());
        Job {
            label: format!("{} {} {} {}", cell.cluster, cell.policy, cell.load, cell.seed),
            repeat: format!(
                "windfall simulate figures --only {} --seeds {}{}",
                figure.name(),
                cell.seed,
                if size.quick { " --quick" } else { "" }
            ),
            build: Box::new(move || figure.house(&cell, &size).expect("it was read a moment ago").0),
        }
    };
    let of = cells.len();
    let mut rounds: BTreeMap<u32, Vec<Cell>> = BTreeMap::new();
    cells.into_iter().for_each(|cell| rounds.entry(cell.load).or_default().push(cell));
    let mut played: Vec<Played> = Vec::new();
    let mut broken = Vec::new();
    let mut passed = 0;
    for mut round in rounds.into_values() {
        let all = round.len();
        round.retain(|cell| figure.goes_on(cell, &played));
        let before = passed + all - round.len();
        let in_all = |at: Progress<'_>| progress(Progress { label: at.label, done: before + at.done, of });
        let results = play_all(round.iter().map(job).collect(), threads, &in_all);
        for (cell, result) in round.into_iter().zip(results) {
            match result {
                Ok(report) => played.push(Played { cell, report }),
                Err(error) => broken.push(error.to_string()),
            }
        }
        passed += all;
    }
    Ok(Drawn { broken, ..figure.draw(&played, size, notes) })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The balancers, with a handful of users.
    struct Small;

    impl Figure for Small {
        fn name(&self) -> &'static str {
            balancers::Balancers.name()
        }
        fn about(&self) -> &'static str {
            balancers::Balancers.about()
        }
        fn cells(&self, size: &Size) -> Vec<Cell> {
            let mut cells = balancers::Balancers.cells(size);
            cells.retain(|cell| cell.cluster == "Active" && cell.load <= 100 && cell.policy != "vanilla");
            cells.iter_mut().for_each(|cell| cell.load /= 25);
            cells
        }
        fn goes_on(&self, cell: &Cell, played: &[Played]) -> bool {
            assert!(played.iter().all(|one| one.cell.load < cell.load), "smaller loads come first");
            !(cell.policy == "jsq-sosp21" && cell.load > 2)
        }
        fn house(&self, cell: &Cell, size: &Size) -> Result<(House, Vec<String>), TraceError> {
            balancers::Balancers.house(cell, size)
        }
        fn draw(&self, played: &[Played], size: &Size, notes: Vec<String>) -> Drawn {
            balancers::Balancers.draw(played, size, notes)
        }
    }

    #[test]
    fn figures_have_names_of_their_own_and_are_found_by_them() {
        for figure in ALL {
            assert_eq!(by_name(figure.name()).unwrap().name(), figure.name());
            let cells = figure.cells(&Size { quick: true, ..Size::default() });
            assert!(!cells.is_empty());
            let distinct: std::collections::BTreeSet<&Cell> = cells.iter().collect();
            assert_eq!(distinct.len(), cells.len(), "{}: no run is played twice", figure.name());
            assert!(cells.len() < figure.cells(&Size::default()).len(), "{}: quick is less", figure.name());
        }
        assert!(by_name("").is_none());
    }

    #[test]
    fn equal_sizes_give_equal_figures_whatever_the_threads_and_all_of_it_reaches_the_files() {
        let size = Size { quick: true, seeds: Some(2), traces: None };
        let [one, three] = [1, 3].map(|threads| play(&Small, &size, threads, &|_| {}).unwrap());
        assert_eq!(one, three);

        let folder = tempfile::tempdir().unwrap();
        let files = Files { out: folder.path().join("docs"), json: folder.path().join("numbers.json") };
        write(&[one], "the command", &files).unwrap();
        let json: Value = serde_json::from_str(&std::fs::read_to_string(&files.json).unwrap()).unwrap();
        assert_eq!(json["made_by"], "the command");
        let active = &json["balancers"]["Active"];
        assert_eq!(active["mws-sosp21"]["paper"], 18.0);
        assert_eq!(active["mws"]["paper"], Value::Null);
        for (policy, points) in [
            ("mws", 2),
            ("mws+profile", 2),
            ("mws+profile+greedy-dual", 2),
            ("mws-sosp21", 2),
            ("jsq-sosp21", 1),
        ] {
            let policy = &active[policy];
            assert_eq!(policy["points"].as_array().unwrap().len(), points);
            assert_eq!(policy["points"][0]["users"], 2);
            assert_eq!(policy["calls_per_second_at_p99_50s"]["seeds"], 2);
            assert!(policy["points"][0]["latency_s_p99"]["mean"].as_f64().unwrap() > 1.0);
        }
        let page = std::fs::read_to_string(files.out.join("README.md")).unwrap();
        for part in
            ["the command", "| Active | mws-sosp21 | 18.0 |", "balancers-active-p99.svg", "401 functions"]
        {
            assert!(page.contains(part), "{part} is missing in:\n{page}");
        }
        assert!(files.out.join("balancers-active-cold.svg").exists());
    }

    #[test]
    fn one_run_of_every_figure_breaks_nothing_and_reaches_its_table_and_its_values() {
        let size = Size { quick: true, seeds: Some(1), traces: None };
        for figure in ALL {
            let mut cell = figure.cells(&size).swap_remove(0);
            cell.load = 3;
            let (house, notes) = figure.house(&cell, &size).unwrap();
            let (report, _) = crate::world::play(house);
            assert_eq!(report.violations, 0, "{}: {:?}", figure.name(), report.first_violations);
            assert!(report.answered > 300, "{}: {report}", figure.name());
            let drawn = figure.draw(&[Played { cell: cell.clone(), report }], &size, notes);
            assert!(drawn.values[&cell.cluster].contains_key(&cell.policy), "{}", figure.name());
            let page = markdown(&drawn);
            assert!(page.contains(&format!("| {} | {} |", cell.cluster, cell.policy)), "{page}");
        }
    }

    #[test]
    fn a_folder_without_the_trace_is_refused_before_anything_is_played() {
        let folder = tempfile::tempdir().unwrap();
        let size = Size { quick: true, traces: Some(folder.path().into()), ..Size::default() };
        let played = play(&balancers::Balancers, &size, 1, &|_| panic!("nothing is played"));
        let Err(FigureError::Trace(error)) = played else { panic!("it is not there") };
        assert!(error.to_string().contains("sosp21_harvest_vm_cores"), "{error}");
    }
}
