//! Functions of Azure's tables that have something to lend: called as in the table, with needs like those of Freyr's ten.
//!
//! **Knows:** a table of functions and calls, and which of Freyr's kinds stands for each function (drawn by the seed): so many cores
//! are reserved, so many are of use.
//! **Promises:** with its reservation to itself a call takes what the table says; memory and its reservation are the table's. With
//! inputs that vary a call's size tells how long it takes, up to five per cent; with inputs that do not, every call of a function takes
//! its median. The fleet is asked for a given share of its cores, by making calls more or less often.
//! **Gives up:** calls of more than a minute, which are played as a minute: one of an hour would be all that is measured. Cores,
//! sizes of inputs and what they mean are in no table; here they are assumed.

use vocabulary::{MilliCores, Span};

use super::freyr;
use super::{Assumptions, Azure2019, Selection, TraceError, Workload, purpose};
use crate::chance::Chance;
use crate::plan::{Call, Calls, FunctionPlan, Work};

/// The longest call.
const LONGEST: Span = Span::seconds(60);

/// See the module.
#[derive(Debug, Clone)]
pub struct Lendable {
    /// The table.
    pub trace: Azure2019,
    /// Which minutes and functions of it; its rate is replaced.
    pub selection: Selection,
    /// Of the fleet's cores so many thousandths are asked for, on average.
    pub load_permille: u32,
}

/// What stands for a function of the table.
#[derive(Debug, Clone, Copy)]
struct Need {
    reserved: MilliCores,
    saturation: MilliCores,
    /// Of its calls in the table.
    median: Span,
}

impl Lendable {
    /// The calls for a fleet of so many cores.
    pub fn workload(&self, cores: u32, varies: bool, seed: u64) -> Result<Workload, TraceError> {
        let plain = Selection { rate: 1.0, ..self.selection.clone() };
        let assumptions = Assumptions::default();
        let mut table = self.trace.workload(&plain, &assumptions, seed)?;
        let mut durations: Vec<Vec<Span>> = vec![Vec::new(); table.functions.len()];
        while table.calls.next_at().is_some() {
            let call = table.calls.take();
            durations[call.function as usize].push(duration(&call));
        }
        let kinds = freyr::shapes();
        let need = |(plan, durations): (&FunctionPlan, &mut Vec<Span>)| {
            durations.sort_unstable();
            let name =
                plan.name.bytes().fold(0_u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
            let mut chance = Chance::one_of_many(seed, purpose::CHOICE, name);
            let (reserved, parallel) = kinds[chance.below(kinds.len() as u64) as usize];
            let median = durations.get(durations.len() / 2).copied().unwrap_or(Span::ZERO);
            Need { reserved: MilliCores::cores(reserved), saturation: MilliCores::cores(parallel), median }
        };
        let needs: Vec<Need> = table.functions.iter().zip(&mut durations).map(need).collect();
        let asked: f64 = needs
            .iter()
            .zip(&durations)
            .map(|(need, durations)| {
                let cores = f64::from(need.reserved.min(need.saturation).0) / 1e3;
                let seconds = |span: &Span| span.as_seconds();
                let fixed = need.median.as_seconds() * durations.len() as f64;
                cores * if varies { durations.iter().map(seconds).sum() } else { fixed }
            })
            .sum();
        let length = self.trace.minutes().iter().filter(|&&minute| plain.has_minute(minute)).count();
        let there = f64::from(cores) * length as f64 * plain.minute.as_seconds();
        let rate = f64::from(self.load_permille) / 1e3 * there / asked.max(1e-9);
        let mut table = self.trace.workload(&Selection { rate, ..plain }, &assumptions, seed)?;
        for (plan, need) in table.functions.iter_mut().zip(&needs) {
            plan.card.reservation.cpu = need.reserved;
            plan.card.timeout = Span::seconds(600);
        }
        table.notes.push(format!(
            "assumed: reserved cores and cores of use as one of Freyr's ten functions, calls of at most a minute, {} of {cores} cores asked for",
            f64::from(self.load_permille) / 1e3
        ));
        let calls = Needing { calls: table.calls, needs, varies, seed, made: 0 };
        Ok(Workload { calls: Box::new(calls), ..table })
    }
}

/// What a call takes in the table, where everything is computing on one core.
fn duration(call: &Call) -> Span {
    call.work.cpu.min(LONGEST)
}

struct Needing {
    calls: Box<dyn Calls + Send>,
    needs: Vec<Need>,
    varies: bool,
    seed: u64,
    made: u64,
}

impl Calls for Needing {
    fn next_at(&self) -> Option<vocabulary::Moment> {
        self.calls.next_at()
    }

    fn take(&mut self) -> Call {
        let call = self.calls.take();
        let need = self.needs[call.function as usize];
        self.made += 1;
        let mut chance = Chance::one_of_many(self.seed, purpose::WORK, self.made);
        let noise = (0.05 * chance.normal()).exp();
        let size = if self.varies { duration(&call) } else { need.median };
        let size = size.max(Span::micros(100));
        let used = f64::from(need.reserved.min(need.saturation).0) / 1e3;
        let work = Work {
            io: Span::ZERO,
            cpu: Span(((size.as_seconds() * used * noise * 1e6) as u64).max(1)),
            saturation: need.saturation,
            // A byte for each microsecond, so that sizes are as far apart as what they mean.
            input_bytes: u32::try_from(size.as_micros()).unwrap_or(u32::MAX),
            ..call.work
        };
        Call { work, ..call }
    }
}
