//! Balancers under growing load: SOSP'21's figures 12, 13 and 15.
//!
//! **Knows:** the three clusters, the mix of functions, and what was published of three balancers.
//! **Promises:** each released balancer has its own invoker and controller around it (`policies::released`); every policy is given
//! the same calls with the same work.
//! **Gives up:** knowing the memory of the paper's VMs. Their cores were emulated on hosts of 128 GB, and 4 GiB to a core is what
//! such a VM would have if one bought it; both are played, and where they differ the difference is theirs.

mod published;
mod story;

use policies::placement::{self, Binding};
use policies::{allocation, released};
use vocabulary::{Mebibytes, Moment, Resources, Span};

use super::{Cell, Drawn, Figure, Played, Size};
use crate::house::House;
use crate::machines::{Fleet, Launches, MEMORY_PER_CORE, SospSet};
use crate::plan::{Machines, VmPlan};
use crate::workload::{SospMix, TraceError};

/// See the module.
pub struct Balancers;

/// A D32s_v3, on which the paper emulated each of its VMs.
const HOST_MEMORY: Mebibytes = Mebibytes(128 * 1024);

/// Where it is played: a cluster, with the memory that is assumed for its VMs.
struct Place {
    name: &'static str,
    set: SospSet,
    /// Every VM has its host's memory, whatever its cores.
    whole_host: bool,
}

const PLACES: [Place; 6] = [
    Place { name: "Normal", set: SospSet::Normal, whole_host: true },
    Place { name: "Active", set: SospSet::Active, whole_host: true },
    Place { name: "Dedicated", set: SospSet::Dedicated, whole_host: true },
    Place { name: "Normal, 4 GiB a core", set: SospSet::Normal, whole_host: false },
    Place { name: "Active, 4 GiB a core", set: SospSet::Active, whole_host: false },
    Place { name: "Dedicated, 4 GiB a core", set: SospSet::Dedicated, whole_host: false },
];

/// Who decides where, and with how much.
struct Policy {
    name: &'static str,
    placement: &'static str,
    allocator: &'static str,
}

const POLICIES: [Policy; 5] = [
    Policy { name: "mws-sosp21", placement: "mws-sosp21", allocator: "fixed" },
    Policy { name: "jsq-sosp21", placement: "jsq-sosp21", allocator: "fixed" },
    Policy { name: "vanilla", placement: "vanilla", allocator: "fixed" },
    Policy { name: "mws", placement: "mws", allocator: "fixed" },
    Policy { name: "mws+profile", placement: "mws", allocator: "profile" },
];

/// Users: the paper's levels, and beyond them where the better ones of today still hold.
const LOADS: [u32; 14] = [10, 25, 50, 75, 100, 125, 150, 175, 200, 225, 250, 275, 300, 350];
const QUICK_LOADS: [u32; 6] = [50, 100, 150, 200, 250, 300];

/// A curve is followed until so many of its points are over the limit: the first is needed, the second shows how it bends.
const POINTS_BEYOND: usize = 2;

impl Figure for Balancers {
    fn name(&self) -> &'static str {
        "balancers"
    }

    fn about(&self) -> &'static str {
        "P99 and cold starts against load for the balancers of SOSP'21 (its figures 12, 13 and 15): 401 functions of nine kinds on ten \
         VMs for twenty minutes. What is compared is the load at which the P99 reaches 50 s, by straight lines between the loads, as the published \
         curves were read."
    }

    fn cells(&self, size: &Size) -> Vec<Cell> {
        let loads: &[u32] = if size.quick { &QUICK_LOADS } else { &LOADS };
        let mut cells = Vec::new();
        for place in PLACES.iter().filter(|place| !size.quick || place.whole_host) {
            for policy in &POLICIES {
                for &load in loads {
                    for seed in size.seeds(1, 3) {
                        cells.push(Cell {
                            cluster: place.name.into(),
                            policy: policy.name.into(),
                            load,
                            seed,
                        });
                    }
                }
            }
        }
        cells
    }

    fn goes_on(&self, cell: &Cell, played: &[Played]) -> bool {
        let same = |one: &&Played| {
            let one = &one.cell;
            (&one.cluster, &one.policy, one.seed) == (&cell.cluster, &cell.policy, cell.seed)
        };
        let over = played.iter().filter(same).filter(|one| story::is_over(one)).count();
        over < POINTS_BEYOND
    }

    fn house(&self, cell: &Cell, size: &Size) -> Result<(House, Vec<String>), TraceError> {
        let place = PLACES.iter().find(|place| place.name == cell.cluster).expect("a cell of ours");
        let policy = POLICIES.iter().find(|policy| policy.name == cell.policy).expect("a cell of ours");
        let workload = SospMix::of_users(cell.load).workload(cell.seed);
        let (machines, mut notes) = machines(place, size, cell.seed)?;
        let many = format!("{} to {} users", LOADS[0], LOADS[LOADS.len() - 1]);
        let one = format!("{} users", cell.load);
        notes.extend(workload.notes.iter().map(|note| note.replace(&one, &many)));
        let placed = placement::by_name(policy.placement, &placement::Settings::default());
        let placed = placed.expect("a listed placement");
        let late = placed.binding() == Binding::Late;
        let label = format!("{} {} {}", cell.cluster, cell.policy, cell.load);
        let mut house = House::new(label, workload.functions, workload.calls, Box::new(machines));
        house.seed = cell.seed;
        house.placement = placed;
        house.allocator = allocation::by_name(policy.allocator, &allocation::Settings::default())
            .expect("a listed allocation");
        released::fit_dispatch(policy.placement, &mut house.dispatch);
        released::fit_residency(policy.placement, &mut house.residency);
        house.checks_bookings = late;
        // Nobody gives up in the paper; whoever waits for an hour here is counted as having failed.
        house.patience = Span::seconds(3_600);
        house.aftermath = Span::seconds(3_600);
        house.measure_from = Moment::ORIGIN + Span::seconds(2);
        Ok((house, notes))
    }

    fn draw(&self, played: &[Played], notes: Vec<String>) -> Drawn {
        story::draw(self, played, notes)
    }
}

fn machines(place: &Place, size: &Size, seed: u64) -> Result<(Fleet, Vec<String>), TraceError> {
    let mut fleet = place.set.fleet(size.traces.as_deref(), seed)?;
    let mut notes = fleet.notes.clone();
    if !place.whole_host {
        notes.push(format!("{}: {} MiB of memory to a core, as sold", place.name, MEMORY_PER_CORE.0));
        return Ok((fleet, notes));
    }
    notes.push(format!(
        "{}: every VM has {} MiB of memory, its host's (D32s_v3), however many cores it has at the moment",
        place.name, HOST_MEMORY.0
    ));
    let whole = |size: Resources| Resources { memory: HOST_MEMORY, ..size };
    let given = fleet.given().into_iter().map(|plan| VmPlan {
        size: whole(plan.size),
        changes: plan.changes.into_iter().map(|(at, size)| (at, whole(size))).collect(),
        ..plan
    });
    Ok((Fleet::new(given.collect(), Launches::none(), Vec::new()), notes))
}
