//! The same trouble under virtual time: the scenario's house, its callers, and its timetable, as the simulator plays them.
//!
//! **Knows:** a scenario and a seed.
//! **Promises:** the timetable's moments and draws; victims are drawn as a live run draws them, when their fault begins. Callers are the live
//! ones: as many, each with the same functions and the same lengths of runs from the seed, each waiting for his answer before he
//! calls again, or submitting durably. What does not come here is named and counted ([`Plan::unplayed`]).
//! **Gives up:** the work of the doors, the store and NATS, and what two busy cores make of a house: times of live runs are
//! longer by that.

mod callers;
mod faults;

use std::collections::BTreeMap;

use policies::{dispatch, provisioning};
use simulator::house::Fleet;
use simulator::machines::{self, Launches};
use simulator::plan::FunctionPlan;
use simulator::{House, Report};
use vocabulary::{
    ApplicationId, FunctionCard, FunctionId, Mebibytes, MilliCores, Moment, OnEviction, Resources, Revision,
    Span, VmKind,
};

use crate::scenario::Scenario;
use crate::timetable::timetable;
use callers::Callers;

/// What live VMs have: `chaos/storm.sh`.
const VM: Resources = Resources { cpu: MilliCores(1_000), memory: Mebibytes(1_024) };
/// What live functions have: `chaos::live::function`.
const FUNCTION: Resources = Resources { cpu: MilliCores(100), memory: Mebibytes(128) };
const TIMEOUT: Span = Span::seconds(120);
/// From the order to the first report of a VM, as live ones of `netns` took it on the machine of docs/chaos.md.
const START_UP: Span = Span::seconds(2);
/// Making a sandbox for Python without one in reserve (docs/performance.md).
const COLD_START: Span = Span::millis(20);
/// The house has stood for so long when the scenario begins. Live it is waited for.
const BEFORE: Span = Span::seconds(3);
/// What is open at the end is waited for so long: a call's patience and its function's time, twice.
const AFTERMATH: Span = Span::seconds(300);

/// The two kinds of functions, as [`Report::apps`] has them.
pub const KINDS: [&str; 2] = ["short", "long"];

/// What will be played.
pub struct Plan {
    /// The house, with its callers and its trouble.
    pub house: House,
    /// Faults that are played.
    pub played: u32,
    /// Faults that have no place in a rehearsal: how many for which reason.
    pub unplayed: BTreeMap<&'static str, u32>,
}

/// Works it out.
pub fn plan(scenario: &Scenario, seed: u64) -> Plan {
    let begin = Moment::ORIGIN + BEFORE;
    let storm = begin + Span::seconds(scenario.calm_s);
    let end = storm + Span::seconds(scenario.storm_s);
    let faults::Played { troubles, unplayed } = faults::played(&timetable(scenario, seed), storm);
    let machines = machines::Fleet::constant(scenario.vms, VmKind::Harvest, VM)
        .with_launches(Launches::that_last(START_UP));
    let calls = Callers::new(scenario, seed, begin);
    let mut house =
        House::new(scenario.name.clone(), functions(scenario), Box::new(calls), Box::new(machines));
    house.seed = seed;
    (house.doors, house.controllers) = (scenario.house.frontends, scenario.house.controllers);
    // As `actors/src/settings/controller.rs` has them.
    house.dispatch = dispatch::Settings {
        queue_limit: 10_000,
        function_queue_limit: 1_000,
        attempts_limit: 10,
        ..dispatch::Settings::default()
    };
    house.fleet = Some(Fleet {
        settings: provisioning::Settings {
            launch_patience: Span::seconds(30),
            ..provisioning::Settings::default()
        },
        target: provisioning::Target { vms: scenario.vms, kind: VmKind::Harvest, size: VM },
        retire_grace: Span::seconds(30),
    });
    house.calls_until = end;
    house.aftermath = AFTERMATH;
    let played = troubles.len() as u32;
    house.troubles = troubles;
    Plan { house, played, unplayed }
}

/// Plays it.
pub fn play(plan: Plan) -> Report {
    simulator::play(plan.house).0
}

/// So many of either kind, each with sandboxes of its own: the short ones first.
fn functions(scenario: &Scenario) -> Vec<FunctionPlan> {
    let all =
        (0..).zip(KINDS).flat_map(|(app, kind)| (1..=scenario.house.functions).map(move |n| (app, kind, n)));
    (1..)
        .zip(all)
        .map(|(id, (app, kind, number))| FunctionPlan {
            name: format!("{kind}-{number}"),
            app,
            card: FunctionCard {
                id: FunctionId(id),
                revision: Revision(1),
                reservation: FUNCTION,
                timeout: TIMEOUT,
                on_eviction: OnEviction::Rerun,
                application: Some(ApplicationId(id)),
            },
            cold_start: COLD_START,
        })
        .collect()
}

#[cfg(test)]
mod tests;
