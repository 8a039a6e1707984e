//! The sets on which allocators are compared.
//!
//! **Knows:** the folder of traces: Freyr's test, and two tables of Azure 2019 (500 functions sampled from all of them, and the
//! thousand of Freyr's authors).
//! **Promises:** of the tables, minutes of their second half.
//! **Gives up:** whole days: ten minutes of a table are played, the second five of them measured.

use std::path::Path;

use super::lending::{Arrivals, Contender, Knowledge, Set, Unplayed};
use super::overview::Played;
use crate::runs::Progress;
use crate::workload::{Azure2019, Freyr, Lendable, Reserved, S500_JUDGE, Selection, TraceError};

/// The arrivals of Freyr's test, below the folder of traces.
pub const FREYR_ARRIVALS: &str = "functions/azure2019_freyr10_invocations_per_min.csv";
/// Minutes of a table that are played.
const MINUTES: u32 = 10;
/// Minutes of the second table; it has sixty.
const FREYR1000_FROM: u32 = 30;

/// A set with its title, and whether all contenders are played on it or those few that tell most.
pub struct Titled {
    /// For people.
    pub title: String,
    /// For the command line.
    pub name: &'static str,
    /// What is played.
    pub set: Set,
    /// Whether all contenders are.
    pub with_all: bool,
}

impl Titled {
    /// Whether it goes by this name, which may end in the number of nodes: `s500`, or `s500-10`; or has this title.
    pub fn is_called(&self, name: &str) -> bool {
        name == self.name || name == format!("{}-{}", self.name, self.set.nodes) || name == self.title
    }

    /// All rows of it, with these beside those that it is played with anyway.
    pub fn play(
        &self,
        trained: &[Contender],
        seeds: u64,
        threads: usize,
        progress: &(dyn Fn(Progress<'_>) + Sync),
    ) -> Result<Played, Unplayed> {
        let mut contenders = if self.with_all { Contender::all() } else { Contender::few() };
        contenders.extend(trained.iter().cloned());
        self.play_only(&contenders, seeds, threads, progress)
    }

    /// Only the rows of these.
    pub fn play_only(
        &self,
        contenders: &[Contender],
        seeds: u64,
        threads: usize,
        progress: &(dyn Fn(Progress<'_>) + Sync),
    ) -> Result<Played, Unplayed> {
        Ok(Played {
            set: self.name.to_owned(),
            title: self.title.clone(),
            nodes: self.set.nodes,
            seeds,
            inputs_vary: self.set.input_spread > 0.0,
            rows: self.set.rows(contenders, seeds, threads, progress)?,
        })
    }

    /// So many runs for each seed.
    pub fn contenders(&self, trained: usize) -> usize {
        (if self.with_all { Contender::all().len() } else { Contender::few().len() }) + trained
    }
}

/// Freyr's test: 10 nodes.
pub fn freyr(traces: &Path) -> Result<Vec<Titled>, TraceError> {
    let arrivals = Freyr::read(&traces.join(FREYR_ARRIVALS))?;
    let mut sets = Vec::new();
    for (reserved, with_all, name, whose) in [
        (Reserved::Paper, true, "freyr", "the paper's reservations"),
        (Reserved::Code, false, "freyr-code", "the released code's reservations"),
    ] {
        for (knowledge, known) in [(Knowledge::OneMinute, "one minute"), (Knowledge::None, "nothing")] {
            for (input_spread, inputs) in [(0.0, "always the same"), (0.8, "log-normal (sigma 0.8)")] {
                let arrivals = Arrivals::Freyr(arrivals.clone(), reserved);
                sets.push(Titled {
                    title: format!("Freyr's test, {whose}, inputs {inputs}, {known} seen before"),
                    name,
                    set: Set { arrivals, nodes: 10, input_spread, knowledge },
                    with_all,
                });
            }
        }
    }
    Ok(sets)
}

/// The tables: 1, 10 and 50 nodes, asked for nine tenths of their cores.
pub fn tables(traces: &Path) -> Result<Vec<Titled>, TraceError> {
    let read = |name: &str| {
        let file = |what: &str| traces.join(format!("functions/azure2019_{name}_{what}.csv.gz"));
        Azure2019::read(&file("functions"), &file("invocations_per_min"))
    };
    let mut sets = Vec::new();
    for (name, from) in [("s500", S500_JUDGE.start), ("freyr1000", FREYR1000_FROM)] {
        let trace = read(name)?;
        for nodes in [1, 10, 50] {
            for (input_spread, inputs) in [(0.0, "always the same"), (1.0, "that vary as durations do")] {
                let selection = Selection::minutes(from..from + MINUTES);
                let arrivals =
                    Arrivals::Table(Lendable { trace: trace.clone(), selection, load_permille: 900 });
                sets.push(Titled {
                    title: format!("Azure 2019 ({name}), {nodes} nodes, inputs {inputs}"),
                    name,
                    set: Set { arrivals, nodes, input_spread, knowledge: Knowledge::OneMinute },
                    with_all: false,
                });
            }
        }
    }
    Ok(sets)
}
