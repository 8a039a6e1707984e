//! The same calls in the simulator: what it foretells for a run is held against the run.
//!
//! **Knows:** what each function takes alone, as it was measured a moment before, and the settings of the live clusters.
//! **Promises:** the same policies, the same calls at the same moments, the same VMs, the same minute to learn from.
//! Quotas are handed out every 100 ms, as in life.
//! **Gives up:** what the simulator's physics leave out: that VMs get into each other's way on the machine that carries them all, and where
//! the kernel has each group's periods begin, which it draws: they are drawn [`TIMES`] times here, and the figures are means.

use policies::residency::Lending;
use policies::{allocation, placement};
use simulator::house::House;
use simulator::machines;
use simulator::physics::Quotas;
use simulator::plan::{self, FunctionPlan, VmPlan, Work};
use vocabulary::{
    ApplicationId, FunctionCard, FunctionId, MilliCores, Moment, OnEviction, Resources, Revision, Span,
    VmKind,
};

use super::alone::Needs;
use super::functions::KINDS;
use super::play::Call;
use super::shrinks::Change;
use super::table::Figures;
use super::{Contender, Fleet};

/// How often it is played, each time with other periods.
const TIMES: u64 = 5;

/// The first calls come when the house has stood for two seconds; between rounds there is time for all to end.
const BEGINS: Span = Span::seconds(2);
const BETWEEN: Span = Span::seconds(120);
const PATIENCE: Span = Span::seconds(3_600);

/// What is played, whoever allocates.
pub(super) struct Rehearsal<'a> {
    pub constants: allocation::Settings,
    pub fleet: Fleet,
    pub needs: &'a Needs,
    /// The first is not measured.
    pub rounds: &'a [Vec<Call>],
    /// In each round.
    pub changes: &'a [Change],
    /// Cores of the machine that carries the VMs.
    pub host: MilliCores,
}

impl Rehearsal<'_> {
    /// What the simulator says of one of them; nothing where it does not know it.
    pub fn foretell(&self, contender: &Contender) -> Option<Figures> {
        let played: Option<Vec<Figures>> = (1..=TIMES).map(|seed| self.once(contender, seed)).collect();
        played.map(|played| Figures::mean(&played))
    }

    fn once(&self, contender: &Contender, seed: u64) -> Option<Figures> {
        let fleet = &self.fleet;
        let size = Resources::new(fleet.vm_cpu, fleet.vm_memory);
        let plan = VmPlan {
            kind: VmKind::Harvest,
            starts_at: Moment::ORIGIN,
            size,
            changes: Vec::new(),
            gone: None,
        };
        let mut vms = vec![plan; fleet.vms as usize];
        let mut calls = Vec::new();
        let mut begins = BEGINS;
        let (mut measured_from, mut measured) = (BEGINS, Span::ZERO);
        for (number, round) in self.rounds.iter().enumerate() {
            if number == 1 {
                measured_from = begins;
            }
            let length = round.last().map_or(Span::ZERO, |call| Span::from(call.at));
            if number > 0 {
                measured += length;
            }
            calls.extend(round.iter().map(|call| (Moment::ORIGIN + begins + Span::from(call.at), *call)));
            for change in self.changes {
                let to = Resources { cpu: change.cpu, ..size };
                vms[change.vm].changes.push((Moment::ORIGIN + begins + Span::from(change.at), to));
            }
            begins = begins + length + BETWEEN;
        }
        let machines = machines::Fleet::new(vms, machines::Launches::none(), Vec::new());
        let functions = KINDS
            .iter()
            .enumerate()
            .map(|(at, kind)| plan_of(at, kind.reservation(fleet.vm_cpu), self.needs));
        let calls = Listed { calls, next: 0, needs: self.needs.clone() };
        let mut house =
            House::new(contender.label(), functions.collect(), Box::new(calls), Box::new(machines));
        house.seed = seed;
        house.quotas = Quotas::InPeriods { host: self.host };
        house.placement = placement::by_name(&contender.placement, &placement::Settings::default())?;
        let lending = Lending::by_name(&contender.lending)?;
        house.allocate_by(&contender.allocator, self.constants.clone(), lending)?;
        house.patience = PATIENCE;
        house.aftermath = PATIENCE;
        house.measure_from = Moment::ORIGIN + measured_from;
        let (report, _) = simulator::play(house);
        Some(Figures::of_report(&report, fleet, measured))
    }
}

fn plan_of(at: usize, reservation: Resources, needs: &Needs) -> FunctionPlan {
    FunctionPlan {
        name: KINDS[at].name.to_owned(),
        app: at as u32,
        card: FunctionCard {
            id: FunctionId(at as u64 + 1),
            revision: Revision(1),
            reservation,
            timeout: Span::seconds(300),
            on_eviction: OnEviction::default(),
            application: Some(ApplicationId(at as u64)),
        },
        cold_start: Span(needs[at][0].cold_us.max(1_000)),
    }
}

struct Listed {
    calls: Vec<(Moment, Call)>,
    next: usize,
    needs: Needs,
}

impl plan::Calls for Listed {
    fn next_at(&self) -> Option<Moment> {
        self.calls.get(self.next).map(|(at, _)| *at)
    }

    fn take(&mut self) -> plan::Call {
        let (_, call) = self.calls[self.next];
        self.next += 1;
        let kind = &KINDS[call.function];
        let alone = self.needs[call.function][call.size];
        let work = Work {
            io: Span::ZERO,
            cpu: Span(alone.cpu_us),
            saturation: alone.saturation.clamp(MilliCores(1), MilliCores::cores(kind.threads)),
            memory: alone.memory,
            input_bytes: kind.sizes[call.size],
        };
        plan::Call { function: call.function as u32, work, user: 0 }
    }
}
