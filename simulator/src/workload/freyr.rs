//! Freyr's test: ten functions, sixty seconds, 268 calls.
//!
//! **Knows:** what each user reserves, in the paper and in the released code, which differ; how many processes each function works
//! with (`parallel`, from its fixed arguments); and the rule by which arrivals were sampled from Azure's table of 2019.
//! **Promises:** each slot of the table is played as one second, as the paper did. Arrivals to learn from can be sampled by the
//! same rule from other functions.
//! **Gives up:** what the functions really need, which is published nowhere. Assumed: the effective ceiling of cores is
//! `parallel`; each process does the whole of the argument's size. One figure speaks for it: sixteen processes of `alu` at seven
//! seconds each take 28 s on the paper's four cores, and 28 s is the published P99 under fixed allocation.

use std::collections::BTreeMap;
use std::path::Path;

use vocabulary::{
    ApplicationId, FunctionCard, FunctionId, Mebibytes, MilliCores, Moment, OnEviction, Resources, Revision,
    Span,
};

use super::replay::{Batches, Event, Replay};
use super::table::Table;
use super::{Azure2019, TraceError, Workload, purpose};
use crate::chance::Chance;
use crate::plan::{FunctionPlan, Work};

/// Slots of a test, each a minute of Azure's table played as a second.
const SLOTS: usize = 60;
/// The sampling rule: no more calls in a slot...
const SLOT_MOST: u32 = 10;
/// ...and this many in all.
const CALLS: std::ops::RangeInclusive<u32> = 20..=40;

/// Whose table of reservations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reserved {
    /// The paper's: 4 cores and 512 MB, 8 and 1024 for three of them.
    Paper,
    /// The released code's: 1 or 2 cores, 64 to 384 MB.
    Code,
}

/// One of the ten.
struct Kind {
    name: &'static str,
    /// Cores and MB in the paper.
    paper: (u32, u32),
    /// Cores and MB in the code.
    code: (u32, u32),
    parallel: u32,
    /// Assumed: seconds of one process.
    process_s: f64,
    /// Assumed: touched memory.
    memory: u32,
    /// Making a sandbox with the libraries that it imports, from Iluvatar's cold overheads of the like.
    cold_ms: u64,
}

const fn kind(
    name: &'static str,
    paper: (u32, u32),
    code: (u32, u32),
    parallel: u32,
    process_s: f64,
    memory: u32,
    cold_ms: u64,
) -> Kind {
    Kind { name, paper, code, parallel, process_s, memory, cold_ms }
}

/// In the order of the paper's table.
const KINDS: [Kind; 10] = [
    kind("dh", (4, 512), (2, 128), 8, 1.0, 110, 1177),
    kind("eg", (4, 512), (1, 64), 2, 2.0, 50, 1177),
    kind("ip", (4, 512), (2, 256), 2, 3.0, 200, 1297),
    kind("vp", (8, 1024), (2, 384), 1, 8.0, 300, 1546),
    kind("ir", (8, 1024), (2, 384), 1, 4.0, 360, 4146),
    kind("knn", (4, 512), (2, 256), 6, 1.0, 150, 1851),
    kind("alu", (4, 512), (1, 128), 16, 7.0, 90, 1177),
    kind("ms", (4, 512), (1, 128), 6, 5.0, 120, 1177),
    kind("gd", (4, 512), (1, 256), 2, 3.0, 150, 1851),
    kind("dv", (8, 1024), (2, 384), 4, 1.0, 200, 1851),
];

/// Cores that are reserved in the paper, and cores that are of use, of each.
pub(super) fn shapes() -> [(u32, u32); 10] {
    KINDS.map(|kind| (kind.paper.0, kind.parallel))
}

/// One call, for who knows what its function does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Drawn {
    /// When, from the beginning.
    pub at: Span,
    /// Which of the ten, in the order of [`Freyr::slots`].
    pub function: usize,
    /// Which of its inputs: a number below 1,000, each as likely.
    pub input: u32,
}

/// Arrivals of the ten functions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Freyr {
    /// Of each function, calls in each slot.
    slots: Vec<[u32; SLOTS]>,
    source: String,
}

impl Freyr {
    /// Reads the table of arrivals (columns `HashFunction` with the short names of the functions, and one for each slot).
    pub fn read(file: &Path) -> Result<Self, TraceError> {
        let mut table = Table::open(file)?;
        let name = table.column(&["HashFunction", "function"])?;
        let columns = table.numbered();
        if columns.len() != SLOTS {
            let what = format!("has {} numbered columns", columns.len());
            return Err(TraceError::of_file(file, what, format!("name {SLOTS} of them, one for each slot")));
        }
        let mut rows: BTreeMap<String, [u32; SLOTS]> = BTreeMap::new();
        while let Some(row) = table.next_row()? {
            if !KINDS.iter().any(|kind| kind.name == row.text(name)) {
                let names = KINDS.map(|kind| kind.name).join(", ");
                return Err(row.refused(name, "is none of Freyr's functions", &format!("they are {names}")));
            }
            let mut slots = [0; SLOTS];
            for (slot, &(_, column)) in slots.iter_mut().zip(&columns) {
                *slot = row.whole(column)?;
            }
            if rows.insert(row.text(name).to_owned(), slots).is_some() {
                return Err(row.refused(name, "has a row already", "give each function one row"));
            }
        }
        let slots = KINDS.iter().map(|kind| {
            rows.remove(kind.name).ok_or_else(|| {
                let what = format!("has no row for '{}'", kind.name);
                TraceError::of_file(file, what, "give each of the ten functions a row, of zeros if need be")
            })
        });
        let source = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Self { slots: slots.collect::<Result<_, _>>()?, source })
    }

    /// Arrivals by the rule of the test's, from functions of another table: 60 minutes in a row with at most 10 calls in each, and
    /// 20 to 40 in all. `None`: nothing in the table is so.
    pub fn sampled(trace: &Azure2019, minutes: std::ops::Range<u32>, seed: u64) -> Option<Self> {
        let known: Vec<usize> =
            (0..trace.minutes().len()).filter(|&at| minutes.contains(&trace.minutes()[at])).collect();
        let mut fitting = Vec::new();
        for function in 0..trace.len() {
            let counts = trace.counts_of(function);
            for window in known.windows(SLOTS).step_by(SLOTS / 2) {
                let (from, to) = (window[0], window[SLOTS - 1]);
                let counts = &counts[from..=to];
                let is_fitting = counts.iter().all(|&count| count <= SLOT_MOST);
                if is_fitting && counts.len() == SLOTS && CALLS.contains(&counts.iter().sum()) {
                    fitting.push((function, from));
                }
            }
        }
        if fitting.is_empty() {
            return None;
        }
        let mut chance = Chance::new(seed, purpose::CHOICE);
        let pick = |_: &Kind| {
            let (function, from) = fitting[chance.below(fitting.len() as u64) as usize];
            let mut slots = [0; SLOTS];
            slots.copy_from_slice(&trace.counts_of(function)[from..from + SLOTS]);
            slots
        };
        Some(Self { slots: KINDS.iter().map(pick).collect(), source: format!("sampled with seed {seed}") })
    }

    /// Arrivals by chance, for where there is no table: each function is called 20 to 40 times, at moments that have nothing to do
    /// with one another, and not more often in a slot than the rule allows.
    pub fn synthetic(seed: u64) -> Self {
        let mut chance = Chance::new(seed, purpose::CHOICE);
        let pick = |_: &Kind| {
            let mut slots = [0; SLOTS];
            let mut left = CALLS.start() + chance.below(u64::from(CALLS.end() - CALLS.start() + 1)) as u32;
            while left > 0 {
                let slot = &mut slots[chance.below(SLOTS as u64) as usize];
                if *slot < SLOT_MOST {
                    (*slot, left) = (*slot + 1, left - 1);
                }
            }
            slots
        };
        Self { slots: KINDS.iter().map(pick).collect(), source: format!("by chance, seed {seed}") }
    }

    /// The calls of the first `slots` slots with a moment each, in order, where a slot takes so long: for who plays them with functions
    /// of its own.
    pub fn moments(&self, slots: usize, slot: Span, seed: u64) -> Vec<Drawn> {
        let mut drawn = Vec::new();
        for (function, counts) in self.slots.iter().enumerate() {
            let mut chance = Chance::one_of_many(seed, purpose::CALLS, function as u64);
            for (number, &count) in counts.iter().enumerate().take(slots) {
                for _ in 0..count {
                    let at = Span(slot.0 * number as u64 + chance.below(slot.0.max(1)));
                    drawn.push(Drawn { at, function, input: chance.below(1_000) as u32 });
                }
            }
        }
        drawn.sort_unstable();
        drawn
    }

    /// The functions' short names, with the calls of each in each slot.
    pub fn slots(&self) -> impl Iterator<Item = (&'static str, &[u32; SLOTS])> {
        KINDS.iter().map(|kind| kind.name).zip(&self.slots)
    }

    /// Where the arrivals are from.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// How many calls there are.
    pub fn calls(&self) -> u32 {
        self.slots.iter().flatten().sum()
    }

    /// The functions and the calls. `input_spread` is the standard deviation of the logarithm of the inputs' sizes: 0 as in
    /// the released evaluation, where the arguments of a function never change; above it, work grows with the input.
    pub fn workload(&self, reserved: Reserved, input_spread: f64, begins: Span, seed: u64) -> Workload {
        let mut events = Vec::new();
        for (function, slots) in self.slots.iter().enumerate() {
            let mut chance = Chance::one_of_many(seed, purpose::CALLS, function as u64);
            for (slot, &count) in slots.iter().enumerate() {
                let begins = Moment::ORIGIN + begins + Span::seconds(slot as u64);
                for _ in 0..count {
                    let at = begins + Span(chance.below(1_000_000));
                    // The duration is drawn when it is asked for the work.
                    events.push(Event::new(at, function as u32, Span::ZERO));
                }
            }
        }
        events.sort_unstable();
        let functions = KINDS.iter().enumerate().map(|(at, kind)| plan(at, kind, reserved)).collect();
        let notes = vec![
            format!("Freyr's test ({}): {} calls of ten functions in 60 s, reservations of the {reserved:?}", self.source, self.calls()),
            "assumed: cores are of use up to `parallel`; seconds of one process are estimates, no need is published".to_owned(),
            format!("inputs: {}", if input_spread == 0.0 { "always the same, as released".to_owned() } else { format!("log-normal, sigma {input_spread}") }),
        ];
        let calls = Replay::new(List { events: Some(events), input_spread, seed }, None);
        Workload { functions, calls: Box::new(calls), notes }
    }
}

fn plan(at: usize, kind: &Kind, reserved: Reserved) -> FunctionPlan {
    let (cores, memory) = match reserved {
        Reserved::Paper => kind.paper,
        Reserved::Code => kind.code,
    };
    FunctionPlan {
        name: kind.name.to_owned(),
        app: at as u32,
        card: FunctionCard {
            id: FunctionId(at as u64 + 1),
            revision: Revision(1),
            reservation: Resources::new(cores * 1000, memory),
            timeout: Span::seconds(600),
            on_eviction: OnEviction::default(),
            application: Some(ApplicationId(at as u64)),
        },
        cold_start: Span::millis(kind.cold_ms),
    }
}

struct List {
    events: Option<Vec<Event>>,
    input_spread: f64,
    seed: u64,
}

impl Batches for List {
    fn fill(&mut self, into: &mut Vec<Event>) -> bool {
        let Some(events) = self.events.take() else { return false };
        *into = events;
        true
    }

    fn work(&self, event: Event) -> Work {
        let kind = &KINDS[event.function as usize];
        let stream = (u64::from(event.function) << 40) ^ event.at.0;
        let mut chance = Chance::one_of_many(self.seed, purpose::WORK, stream);
        let size = (self.input_spread * chance.normal()).exp();
        // Even at its usual input no two runs are the same: five in a hundred.
        let noise = (0.05 * chance.normal()).exp();
        let cpu_s = kind.process_s * f64::from(kind.parallel) * size * noise;
        let memory = (f64::from(kind.memory) * size.powf(0.5)) as u32;
        Work {
            io: Span::ZERO,
            cpu: Span((cpu_s * 1e6) as u64),
            saturation: MilliCores::cores(kind.parallel),
            memory: Mebibytes(memory.clamp(16, kind.code.1)),
            input_bytes: (1e4 * size) as u32,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn every_slot_once() -> Freyr {
        Freyr { slots: vec![[1; SLOTS]; 10], source: "one a second".into() }
    }

    #[test]
    fn arrivals_by_chance_keep_to_the_rule_and_to_their_seed() {
        for seed in 0..50 {
            let freyr = Freyr::synthetic(seed);
            assert_eq!(freyr, Freyr::synthetic(seed));
            for (name, slots) in freyr.slots() {
                let calls = slots.iter().sum();
                assert!(CALLS.contains(&calls), "seed {seed}: {name} is called {calls} times");
                assert!(slots.iter().all(|&slot| slot <= SLOT_MOST), "seed {seed}: {name}");
            }
        }
        assert_ne!(Freyr::synthetic(1), Freyr::synthetic(2));
    }

    #[test]
    fn a_slot_is_a_second() {
        let mut workload = every_slot_once().workload(Reserved::Paper, 0.0, Span::ZERO, 1);
        let mut seen = vec![[0; SLOTS]; 10];
        while let Some(at) = workload.calls.next_at() {
            seen[workload.calls.take().function as usize][(at.0 / 1_000_000) as usize] += 1;
        }
        assert_eq!(seen, every_slot_once().slots);
    }

    #[test]
    fn the_papers_p99_under_fixed_allocation_is_what_alu_takes_on_its_four_cores() {
        let mut workload = every_slot_once().workload(Reserved::Paper, 0.0, Span::ZERO, 1);
        let mut took = Vec::new();
        while workload.calls.next_at().is_some() {
            let call = workload.calls.take();
            let plan = &workload.functions[call.function as usize];
            let cores = plan.card.reservation.cpu.min(call.work.saturation).0;
            took.push(call.work.cpu.as_seconds() / f64::from(cores) * 1e3);
            assert!(call.work.memory <= plan.card.reservation.memory, "{}", plan.name);
        }
        took.sort_by(f64::total_cmp);
        let p99 = took[took.len() * 99 / 100];
        assert!((26.0..33.0).contains(&p99), "{p99}");
    }

    #[test]
    fn reservations_are_the_papers_or_the_codes() {
        let of = |reserved| {
            let functions = every_slot_once().workload(reserved, 0.0, Span::ZERO, 1).functions;
            functions.into_iter().map(|plan| plan.card.reservation).collect::<Vec<_>>()
        };
        assert_eq!(of(Reserved::Paper)[3], Resources::new(8000, 1024));
        assert_eq!(of(Reserved::Code)[6], Resources::new(1000, 128));
    }

    #[test]
    fn inputs_vary_only_if_they_are_told_to() {
        let spread = |input_spread| {
            let mut workload = every_slot_once().workload(Reserved::Paper, input_spread, Span::ZERO, 1);
            let (mut least, mut most) = (f64::INFINITY, 0.0_f64);
            while workload.calls.next_at().is_some() {
                let call = workload.calls.take();
                if call.function == 6 {
                    (least, most) =
                        (least.min(call.work.cpu.as_seconds()), most.max(call.work.cpu.as_seconds()));
                }
            }
            most / least
        };
        assert!(spread(0.0) < 1.4 && spread(0.8) > 5.0);
    }
}
