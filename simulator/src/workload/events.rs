//! A trace that names every single call: `t_s,func_id,duration_ms`, or Azure's format of 2021.
//!
//! **Promises:** sixteen bytes a call.
//! **Gives up:** memory and applications where the file has none; see [`Assumptions`].

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use vocabulary::{Mebibytes, Moment, Span};

use super::assumptions::Described;
use super::replay::{Batches, Replay};
use super::speedup::Speedup;
use super::table::Table;
use super::{Assumptions, Selection, TraceError, Workload, purpose};
use crate::chance::Chance;
use crate::plan::Work;

pub use super::replay::Event;

/// A trace of single calls, shared by all runs that play it.
#[derive(Debug, Clone)]
pub struct Events {
    file: PathBuf,
    functions: Arc<Vec<Seen>>,
    events: Arc<Vec<Event>>,
}

/// A function that was seen in a trace.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    name: String,
    app: u32,
}

/// Gives names numbers in the order of their first coming.
#[derive(Default)]
struct Numbers(HashMap<String, u32>);

impl Numbers {
    fn of(&mut self, name: &str) -> (u32, bool) {
        if let Some(&number) = self.0.get(name) {
            return (number, false);
        }
        let number = self.0.len() as u32;
        self.0.insert(name.to_owned(), number);
        (number, true)
    }
}

impl Events {
    /// Reads `t_s,func_id,duration_ms`, one call a row, in order of time. Every function is an application of its own.
    pub fn read(file: &Path) -> Result<Self, TraceError> {
        let mut table = Table::open(file)?;
        let at = table.column(&["t_s"])?;
        let function = table.column(&["func_id"])?;
        let duration = table.column(&["duration_ms"])?;
        let (mut numbers, mut functions, mut events) = (Numbers::default(), Vec::new(), Vec::new());
        let mut before = Moment::ORIGIN;
        while let Some(row) = table.next_row()? {
            let now = Moment((row.number(at)? * 1e6).round() as u64);
            if now < before {
                let advice = "sort the rows by time ('sort -t, -k1,1g' without the header)";
                return Err(row.refused(at, "is earlier than the row before", advice));
            }
            before = now;
            let name = row.name(function)?;
            let (number, is_new) = numbers.of(name);
            if is_new {
                functions.push(Seen { name: name.to_owned(), app: number });
            }
            events.push(Event::new(now, number, Span((row.number(duration)? * 1e3).round() as u64)));
        }
        Ok(Self { file: file.to_owned(), functions: Arc::new(functions), events: Arc::new(events) })
    }

    /// Reads Azure's format of 2021: `app,func,end_timestamp,duration`, both in seconds, in any order. A call begins at its end
    /// less its duration; the earliest begins the trace.
    pub fn read_azure2021(file: &Path) -> Result<Self, TraceError> {
        let mut table = Table::open(file)?;
        let app = table.column(&["app"])?;
        let function = table.column(&["func"])?;
        let end = table.column(&["end_timestamp"])?;
        let duration = table.column(&["duration"])?;
        let (mut numbers, mut apps, mut functions) = (Numbers::default(), Numbers::default(), Vec::new());
        // Signed: those that ended early in the trace began before it.
        let mut begun: Vec<(i64, u32, Span)> = Vec::new();
        while let Some(row) = table.next_row()? {
            let (app_number, _) = apps.of(row.name(app)?);
            let (number, is_new) = numbers.of(row.name(function)?);
            if is_new {
                functions.push(Seen { name: row.name(function)?.to_owned(), app: app_number });
            }
            let duration = (row.number(duration)? * 1e6).round();
            let begins = (row.number(end)? * 1e6).round() - duration;
            begun.push((begins as i64, number, Span(duration as u64)));
        }
        begun.sort_unstable();
        let first = begun.first().map_or(0, |&(begins, ..)| begins);
        let event =
            |(begins, number, duration)| Event::new(Moment((begins - first) as u64), number, duration);
        let events = begun.into_iter().map(event).collect();
        Ok(Self { file: file.to_owned(), functions: Arc::new(functions), events: Arc::new(events) })
    }

    /// All calls.
    pub fn events(&self) -> &[Event] {
        &self.events
    }

    /// How many functions and applications were seen.
    pub fn counts(&self) -> (usize, usize) {
        let mut apps: Vec<u32> = self.functions.iter().map(|function| function.app).collect();
        apps.sort_unstable();
        apps.dedup();
        (self.functions.len(), apps.len())
    }

    /// What is played of it. [`super::Subset::Marked`] has no column to look at here and selects nothing.
    pub fn workload(
        &self,
        selection: &Selection,
        assumptions: &Assumptions,
        seed: u64,
    ) -> Result<Workload, TraceError> {
        let minute = |event: &Event| (event.at.0 / 60_000_000) as u32;
        let mut called = vec![0_u64; self.functions.len()];
        let played = || self.events.iter().filter(|event| selection.has_minute(minute(event)));
        played().for_each(|event| called[event.function as usize] += 1);
        let chosen = selection.chosen(&called, |_| false);
        let mut new_place = vec![None; self.functions.len()];
        for (place, &old) in chosen.iter().enumerate() {
            new_place[old] = Some(place as u32);
        }
        let first_minute = selection.minutes.as_ref().map_or(0, |minutes| u64::from(minutes.start));
        let mut events = Vec::new();
        let mut in_minute = vec![(u32::MAX, 0_u32); self.functions.len()];
        for (number, event) in played().enumerate() {
            let Some(function) = new_place[event.function as usize] else { continue };
            let mut chance = Chance::one_of_many(seed, purpose::CALLS, number as u64);
            let (last, count) = &mut in_minute[event.function as usize];
            if *last != minute(event) {
                (*last, *count) = (minute(event), 0);
            }
            let most = selection.per_minute_max.unwrap_or(u32::MAX).saturating_sub(*count);
            let times = Selection { per_minute_max: Some(most), ..selection.clone() }.calls(1, &mut chance);
            *count += times;
            let since = Span(event.at.0 - first_minute * 60_000_000);
            let scaled = since.scaled(selection.minute.as_micros(), 60_000_000);
            let at = Moment::ORIGIN + selection.begins + scaled;
            events.extend((0..times).map(|_| Event::new(at, function, event.duration())));
        }
        if events.is_empty() {
            let advice = "choose minutes and functions that the trace has, or a higher rate";
            return Err(TraceError::of_file(&self.file, "nothing is left of it after the selection", advice));
        }
        let functions = chosen.iter().enumerate().map(|(place, &old)| {
            let seen = &self.functions[old];
            let known = Described { name: &seen.name, app: seen.app, memory: assumptions.memory_reserved };
            assumptions.function(seed, old as u64, place, known)
        });
        let functions = functions.collect();
        let behaviours = chosen.iter().map(|&old| assumptions.behaviour(seed, old as u64)).collect();
        let mut notes = vec![format!(
            "{}: {} calls of {} functions",
            self.file.file_name().unwrap_or_default().to_string_lossy(),
            events.len(),
            chosen.len()
        )];
        notes.extend(assumptions.notes());
        let memory = assumptions.memory_used;
        notes.push(format!(
            "assumed: every call uses {memory} of the {} it reserved",
            assumptions.memory_reserved
        ));
        let list = List { events: Some(events), behaviours, assumptions: *assumptions, memory };
        Ok(Workload { functions, calls: Box::new(Replay::new(list, selection.calls_max)), notes })
    }
}

/// All calls of a trace at once.
struct List {
    events: Option<Vec<Event>>,
    behaviours: Vec<Speedup>,
    assumptions: Assumptions,
    memory: Mebibytes,
}

impl Batches for List {
    fn fill(&mut self, into: &mut Vec<Event>) -> bool {
        let Some(events) = self.events.take() else { return false };
        *into = events;
        true
    }

    fn work(&self, event: Event) -> Work {
        self.assumptions.work(self.behaviours[event.function as usize], event.duration(), self.memory)
    }
}
