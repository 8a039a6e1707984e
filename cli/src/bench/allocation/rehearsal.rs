//! The same calls in the simulator: what it foretells for a run is held against the run.
//!
//! **Knows:** what each function takes alone, as it was measured a moment before, and the settings of the live clusters.
//! **Promises:** the same policies, the same calls at the same moments, the same VMs, the same minute to learn from.
//! **Gives up:** what the simulator's physics leave out: quotas are handed out every 100 ms in life and flow evenly there, and the
//! machine that carries the VMs is never short of CPU there.

use policies::residency::Lending;
use policies::{allocation, placement};
use simulator::house::House;
use simulator::machines;
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

/// The first calls come when the house has stood for two seconds; between rounds there is time for all to end.
const BEGINS: Span = Span::seconds(2);
const BETWEEN: Span = Span::seconds(120);
const PATIENCE: Span = Span::seconds(3_600);

/// What the simulator says of these rounds, the first of which is not measured.
pub(super) fn foretell(
    contender: &Contender,
    constants: &allocation::Settings,
    fleet: &Fleet,
    needs: &Needs,
    rounds: &[Vec<Call>],
    changes: &[Change],
) -> Option<Figures> {
    let size = Resources::new(fleet.vm_cpu, fleet.vm_memory);
    let plan =
        VmPlan { kind: VmKind::Harvest, starts_at: Moment::ORIGIN, size, changes: Vec::new(), gone: None };
    let mut vms = vec![plan; fleet.vms as usize];
    let mut calls = Vec::new();
    let mut begins = BEGINS;
    let mut measured_from = BEGINS;
    for (number, round) in rounds.iter().enumerate() {
        if number == 1 {
            measured_from = begins;
        }
        let length = round.last().map_or(Span::ZERO, |call| Span::from(call.at));
        calls.extend(round.iter().map(|call| (Moment::ORIGIN + begins + Span::from(call.at), *call)));
        for change in changes {
            let to = Resources { cpu: change.cpu, ..size };
            vms[change.vm].changes.push((Moment::ORIGIN + begins + Span::from(change.at), to));
        }
        begins = begins + length + BETWEEN;
    }
    let machines = machines::Fleet::new(vms, machines::Launches::none(), Vec::new());
    let functions =
        KINDS.iter().enumerate().map(|(at, kind)| plan_of(at, kind.reservation(fleet.vm_cpu), needs));
    let calls = Listed { calls, next: 0, needs: needs.clone() };
    let mut house = House::new(contender.label(), functions.collect(), Box::new(calls), Box::new(machines));
    house.seed = 1;
    house.placement = placement::by_name(&contender.placement, &placement::Settings::default())?;
    house.allocator = allocation::by_name(&contender.allocator, constants)?;
    house.residency.lending = Lending::by_name(&contender.lending)?;
    house.patience = PATIENCE;
    house.aftermath = PATIENCE;
    house.measure_from = Moment::ORIGIN + measured_from;
    let (report, _) = simulator::play(house);
    Some(Figures::of_report(&report))
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
            saturation: alone.saturation.max(MilliCores(1)),
            memory: alone.memory,
            input_bytes: kind.sizes[call.size],
        };
        plan::Call { function: call.function as u32, work, user: 0 }
    }
}
