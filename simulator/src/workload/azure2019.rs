//! Azure Functions, 2019: for each function how often it was called in each minute, and how long and how much memory it took.
//!
//! **Knows:** a table of functions (percentiles of duration and memory) and a table of counts, tied by the function's id. The columns
//! may be named as in the data set that was published (Shahrad et al., ATC'20) or as in the joint samples made of it.
//! **Promises:** within a minute a function's calls are evenly spread, each duration is drawn from its percentiles; minute by
//! minute, so that a day of any number of calls needs memory for one minute.
//! **Gives up:** what happens within a minute, and that calls of one function depend on each other.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use vocabulary::{Mebibytes, Moment, Span};

use super::assumptions::{Described, asked_for};
use super::replay::{Batches, Event, Replay};
use super::speedup::Speedup;
use super::table::{Row, Table};
use super::{Assumptions, Percentiles, Selection, Subset, TraceError, Workload, purpose};
use crate::chance::Chance;
use crate::plan::Work;

/// Two tables of Azure Functions, 2019, shared by all runs that play them.
#[derive(Debug, Clone)]
pub struct Azure2019 {
    file: PathBuf,
    functions: Arc<Vec<Known>>,
    /// Which minutes, ascending.
    minutes: Arc<Vec<u32>>,
    /// Of each function, one minute after the other.
    counts: Arc<Vec<u32>>,
}

/// A function of the tables.
#[derive(Debug, Clone)]
struct Known {
    name: String,
    app: u32,
    duration_ms: Percentiles,
    memory_mib: Option<Percentiles>,
    /// Columns that hold a 1 in its row.
    marks: Vec<String>,
}

const DURATION: [u32; 7] = [0, 1, 25, 50, 75, 99, 100];
const MEMORY: [u32; 7] = [1, 5, 25, 50, 75, 95, 100];
/// The table is of megabytes.
const MIB_PER_MB: f64 = 1e6 / 1_048_576.0;

/// Percentiles in columns.
struct Columns(Vec<(f64, usize)>);

impl Columns {
    fn duration(table: &Table) -> Result<Self, TraceError> {
        let column = |percent: u32| {
            let names = [format!("dur_p{percent}_ms"), format!("percentile_Average_{percent}")];
            Ok((f64::from(percent), table.column(&names.each_ref().map(String::as_str))?))
        };
        DURATION.into_iter().map(column).collect::<Result<_, _>>().map(Self)
    }

    /// Memory was not measured of every function.
    fn memory(table: &Table) -> Option<Self> {
        let column = |percent: u32| {
            let names = [format!("mem_p{percent}_mb"), format!("AverageAllocatedMb_pct{percent}")];
            Some((f64::from(percent), table.optional(&names.each_ref().map(String::as_str))?))
        };
        MEMORY.into_iter().map(column).collect::<Option<_>>().map(Self)
    }

    fn read(&self, row: &Row<'_>, factor: f64) -> Result<Percentiles, TraceError> {
        let values = self.0.iter().map(|&(percent, column)| Ok((percent, row.number(column)? * factor)));
        let values: Vec<(f64, f64)> = values.collect::<Result<_, TraceError>>()?;
        Percentiles::new(&values).ok_or_else(|| {
            let at = values.windows(2).position(|pair| pair[1].1 < pair[0].1).unwrap_or(0);
            row.refused(self.0[at + 1].1, "is below the percentile before", "percentiles should not descend")
        })
    }

    fn all_empty(&self, row: &Row<'_>) -> bool {
        self.0.iter().all(|&(_, column)| row.text(column).is_empty())
    }
}

impl Azure2019 {
    /// Reads the table of functions and the table of counts.
    pub fn read(functions: &Path, invocations: &Path) -> Result<Self, TraceError> {
        let (known, places) = read_functions(functions)?;
        let mut table = Table::open(invocations)?;
        let name = table.column(&["func_id", "HashFunction"])?;
        let minutes = table.numbered();
        if minutes.is_empty() || minutes.windows(2).any(|pair| pair[0].0 >= pair[1].0) {
            let advice = "name one column for each minute by its number, ascending";
            return Err(TraceError::of_file(invocations, "its minutes are missing or out of order", advice));
        }
        let mut counts = vec![0; known.len() * minutes.len()];
        let mut has_counts = vec![false; known.len()];
        while let Some(row) = table.next_row()? {
            let Some(&place) = places.get(row.name(name)?) else {
                let advice = format!("add it to {}, or leave it out here", functions.display());
                return Err(row.refused(name, "is not in the table of functions", &advice));
            };
            if std::mem::replace(&mut has_counts[place], true) {
                return Err(row.refused(name, "has a row already", "give each function one row"));
            }
            for (at, &(_, column)) in minutes.iter().enumerate() {
                counts[place * minutes.len() + at] = row.whole(column)?;
            }
        }
        Ok(Self {
            file: invocations.to_owned(),
            functions: Arc::new(known),
            minutes: Arc::new(minutes.into_iter().map(|(minute, _)| minute).collect()),
            counts: Arc::new(counts),
        })
    }

    /// How many functions there are.
    pub fn len(&self) -> usize {
        self.functions.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.functions.is_empty()
    }

    /// Its minutes, ascending.
    pub fn minutes(&self) -> &[u32] {
        &self.minutes
    }

    /// Calls of all functions in all minutes.
    pub fn calls(&self) -> u64 {
        self.counts.iter().map(|&count| u64::from(count)).sum()
    }

    /// Counts of one function, minute by minute.
    pub(crate) fn counts_of(&self, function: usize) -> &[u32] {
        &self.counts[function * self.minutes.len()..][..self.minutes.len()]
    }

    /// What is played of it. The function's user asked for the next multiple of 128 MiB above the largest use that was seen.
    pub fn workload(
        &self,
        selection: &Selection,
        assumptions: &Assumptions,
        seed: u64,
    ) -> Result<Workload, TraceError> {
        let minutes: Vec<usize> =
            (0..self.minutes.len()).filter(|&at| selection.has_minute(self.minutes[at])).collect();
        let called = |function| minutes.iter().map(|&at| u64::from(self.counts_of(function)[at])).sum();
        let called: Vec<u64> = (0..self.len()).map(called).collect();
        let marked = |place: usize| match &selection.functions {
            Subset::Marked(column) => self.functions[place].marks.contains(column),
            _ => true,
        };
        let chosen = selection.chosen(&called, marked);
        let in_trace: u64 = chosen.iter().map(|&function| called[function]).sum();
        if in_trace == 0 || selection.rate <= 0.0 {
            let advice = "choose minutes and functions that the table has, and a rate above 0";
            return Err(TraceError::of_file(&self.file, "nothing is left of it after the selection", advice));
        }
        let plan = |(place, &old): (usize, &usize)| {
            let known = &self.functions[old];
            let memory = known
                .memory_mib
                .as_ref()
                .map_or(assumptions.memory_reserved, |memory| asked_for(memory.largest()));
            assumptions.function(
                seed,
                old as u64,
                place,
                Described { name: &known.name, app: known.app, memory },
            )
        };
        let functions = chosen.iter().enumerate().map(plan).collect();
        let mut notes = vec![format!(
            "{}: {in_trace} calls of {} functions in {} minutes, times {}",
            self.file.file_name().unwrap_or_default().to_string_lossy(),
            chosen.len(),
            minutes.len(),
            selection.rate
        )];
        notes.push("assumed: calls evenly spread within a minute, durations independent".to_owned());
        notes.extend(assumptions.notes());
        let behaviours = chosen.iter().map(|&old| assumptions.behaviour(seed, old as u64)).collect();
        let minutes = Minutes {
            trace: self.clone(),
            selection: selection.clone(),
            assumptions: *assumptions,
            chosen,
            behaviours,
            minutes,
            next: 0,
            seed,
        };
        Ok(Workload { functions, calls: Box::new(Replay::new(minutes, selection.calls_max)), notes })
    }
}

fn read_functions(file: &Path) -> Result<(Vec<Known>, BTreeMap<String, usize>), TraceError> {
    let mut table = Table::open(file)?;
    let name = table.column(&["func_id", "HashFunction"])?;
    let app = table.optional(&["HashApp"]);
    let duration = Columns::duration(&table)?;
    let memory = Columns::memory(&table);
    let marks = table.beginning_with("in_");
    let (mut functions, mut places, mut apps) = (Vec::new(), BTreeMap::new(), BTreeMap::new());
    while let Some(row) = table.next_row()? {
        let place = functions.len();
        if places.insert(row.name(name)?.to_owned(), place).is_some() {
            return Err(row.refused(name, "has a row already", "give each function one row"));
        }
        let next_app = apps.len() as u32;
        let app = app.map_or(place as u32, |app| *apps.entry(row.text(app).to_owned()).or_insert(next_app));
        let memory_mib = match &memory {
            Some(memory) if !memory.all_empty(&row) => Some(memory.read(&row, MIB_PER_MB)?),
            _ => None,
        };
        let marks = marks.iter().filter(|&&(_, column)| row.text(column) == "1");
        functions.push(Known {
            name: row.text(name).to_owned(),
            app,
            duration_ms: duration.read(&row, 1.0)?,
            memory_mib,
            marks: marks.map(|(name, _)| name.clone()).collect(),
        });
    }
    Ok((functions, places))
}

/// Draws the calls of one minute after the other.
struct Minutes {
    trace: Azure2019,
    selection: Selection,
    assumptions: Assumptions,
    chosen: Vec<usize>,
    behaviours: Vec<Speedup>,
    /// Places among the trace's minutes.
    minutes: Vec<usize>,
    next: usize,
    seed: u64,
}

impl Batches for Minutes {
    fn fill(&mut self, into: &mut Vec<Event>) -> bool {
        let Some(&at) = self.minutes.get(self.next) else { return false };
        let number = u64::from(self.trace.minutes[at] - self.trace.minutes[self.minutes[0]]);
        let minute = self.selection.minute.as_micros();
        let begins = Moment::ORIGIN + self.selection.begins + Span(minute * number);
        self.next += 1;
        for (place, &function) in self.chosen.iter().enumerate() {
            let count = self.trace.counts_of(function)[at];
            if count == 0 {
                continue;
            }
            let stream = ((function as u64) << 24) | u64::from(self.trace.minutes[at]);
            let mut chance = Chance::one_of_many(self.seed, purpose::CALLS, stream);
            let durations = &self.trace.functions[function].duration_ms;
            for _ in 0..self.selection.calls(count, &mut chance) {
                let at = begins + Span(chance.below(minute.max(1)));
                let duration = Span((durations.draw(&mut chance) * 1e3) as u64);
                into.push(Event::new(at, place as u32, duration));
            }
        }
        into.sort_unstable();
        true
    }

    fn work(&self, event: Event) -> Work {
        let place = event.function as usize;
        let memory = match &self.trace.functions[self.chosen[place]].memory_mib {
            Some(memory) => {
                let stream = ((self.chosen[place] as u64) << 40) ^ event.at.0;
                let mut chance = Chance::one_of_many(self.seed, purpose::WORK, stream);
                Mebibytes(memory.draw(&mut chance).ceil() as u32)
            }
            None => self.assumptions.memory_used,
        };
        self.assumptions.work(self.behaviours[place], event.duration(), memory)
    }
}
