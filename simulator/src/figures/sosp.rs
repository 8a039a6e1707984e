//! What SOSP'21's experiments have in common: the mix of functions, the clusters, and who decides.
//!
//! **Knows:** each policy under its name in the tables.
//! **Promises:** each released balancer has its own invoker and controller around it (`policies::released`).
//! **Gives up:** knowing the memory of the paper's VMs; whoever plays says which is assumed.

use policies::placement::{self, Binding};
use policies::{allocation, released};
use vocabulary::{Mebibytes, Moment, Resources, Span};

use super::{Cell, Size};
use crate::house::House;
use crate::machines::{Fleet, Launches, MEMORY_PER_CORE, SospSet};
use crate::plan::{Machines, VmPlan};
use crate::workload::{SospMix, TraceError};

/// A D32s_v3, on which the paper emulated each of its VMs.
const HOST_MEMORY: Mebibytes = Mebibytes(128 * 1024);

/// Who decides where, and with how much.
pub struct Policy {
    /// Its name in tables.
    pub name: &'static str,
    placement: &'static str,
    allocator: &'static str,
}

/// All that are compared.
pub const POLICIES: [Policy; 5] = [
    Policy { name: "mws-sosp21", placement: "mws-sosp21", allocator: "fixed" },
    Policy { name: "jsq-sosp21", placement: "jsq-sosp21", allocator: "fixed" },
    Policy { name: "vanilla", placement: "vanilla", allocator: "fixed" },
    Policy { name: "mws", placement: "mws", allocator: "fixed" },
    Policy { name: "mws+profile", placement: "mws", allocator: "profile" },
];

/// The house of a cell whose load is a number of users; `whole_host`: every VM has its host's memory, whatever its cores.
pub fn house(
    cell: &Cell,
    set: SospSet,
    whole_host: bool,
    size: &Size,
) -> Result<(House, Vec<String>), TraceError> {
    let policy = POLICIES.iter().find(|policy| policy.name == cell.policy).expect("a cell of ours");
    let workload = SospMix::of_users(cell.load).workload(cell.seed);
    let (machines, mut notes) = machines(&cell.cluster, set, whole_host, size, cell.seed)?;
    let many = "as many users as the load tells";
    let one = format!("{} users", cell.load);
    notes.extend(workload.notes.iter().map(|note| note.replace(&one, many)));
    let placed = placement::by_name(policy.placement, &placement::Settings::default());
    let placed = placed.expect("a listed placement");
    let late = placed.binding() == Binding::Late;
    let label = format!("{} {} {}", cell.cluster, cell.policy, cell.load);
    let mut house = House::new(label, workload.functions, workload.calls, Box::new(machines));
    house.seed = cell.seed;
    house.placement = placed;
    house.allocator =
        allocation::by_name(policy.allocator, &allocation::Settings::default()).expect("a listed allocation");
    released::fit_dispatch(policy.placement, &mut house.dispatch);
    released::fit_residency(policy.placement, &mut house.residency);
    house.checks_bookings = late;
    // Nobody gives up in the paper; whoever waits for an hour here is counted as having failed.
    house.patience = Span::seconds(3_600);
    // What a released balancer has bound to a VM that shrank stays there, if it takes the whole day.
    house.aftermath = Span::seconds(24 * 3_600);
    house.measure_from = Moment::ORIGIN + Span::seconds(2);
    Ok((house, notes))
}

fn machines(
    cluster: &str,
    set: SospSet,
    whole_host: bool,
    size: &Size,
    seed: u64,
) -> Result<(Fleet, Vec<String>), TraceError> {
    let mut fleet = set.fleet(size.traces.as_deref(), seed)?;
    let mut notes = fleet.notes.clone();
    if !whole_host {
        notes.push(format!("{}: {} MiB of memory to a core, as sold", cluster, MEMORY_PER_CORE.0));
        return Ok((fleet, notes));
    }
    notes.push(format!(
        "{}: every VM has {} MiB of memory, its host's (D32s_v3), however many cores it has at the moment",
        cluster, HOST_MEMORY.0
    ));
    let whole = |size: Resources| Resources { memory: HOST_MEMORY, ..size };
    let given = fleet.given().into_iter().map(|plan| VmPlan {
        size: whole(plan.size),
        changes: plan.changes.into_iter().map(|(at, size)| (at, whole(size))).collect(),
        ..plan
    });
    Ok((Fleet::new(given.collect(), Launches::none(), Vec::new()), notes))
}
