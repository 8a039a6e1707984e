//! What SOSP'21's experiments have in common: the mix of functions, the clusters, and who decides.
//!
//! **Knows:** each policy under its name in the tables.
//! **Promises:** each released balancer has its own invoker and controller around it (`policies::released`); functions have the
//! released names, VMs the released ids on the ring.
//! **Gives up:** knowing which VM had which size. The released script hands the series of cores out in the order in which a folder
//! lists its files; here each seed has another.

use policies::placement::jsq_sosp21::JsqSosp21;
use policies::placement::mws_sosp21::MwsSosp21;
use policies::placement::vanilla::Vanilla;
use policies::placement::{self, Binding, Hashes, Placement};
use policies::released;
use policies::residency::Lending;
use vocabulary::{Mebibytes, Moment, Resources, Span};

use super::{Cell, Size};
use crate::chance::Chance;
use crate::house::House;
use crate::machines::{Fleet, Launches, MEMORY_PER_CORE, SospSet};
use crate::plan::{FunctionPlan, Machines, VmPlan};
use crate::workload::{SospMix, TraceError};

/// What the released start-up script of these VMs (`scripts/startup.sh`) writes as their memory, whatever the cores: that of the
/// D32s_v3 on which the paper emulated each of them.
const HOST_MEMORY: Mebibytes = Mebibytes(128 * 1024);

/// Ids of the ten invokers, from the released configuration (`config/perf_comp_harv_openwhisk.json`): they were drawn once. A third
/// of the ring belongs to the first.
const RING_IDS: [u16; 10] = [107, 135, 178, 191, 194, 281, 349, 364, 443, 449];

/// In the same file: two, on one machine, with a reverse proxy that takes them in turn.
const CONTROLLERS: usize = 2;

/// Purpose of chance.
const SHUFFLE: u64 = 301;

/// Who decides where, and with how much.
pub struct Policy {
    /// Its name in tables.
    pub name: &'static str,
    placement: &'static str,
    allocator: &'static str,
    lending: Lending,
    /// Of ours; the released invokers have their own ten minutes.
    keep_alive: &'static str,
}

const fn released(name: &'static str) -> Policy {
    Policy { name, placement: name, allocator: "fixed", lending: Lending::Off, keep_alive: "fixed" }
}

/// What is learned of a function is booked with elastic lending, as a cluster does it that is told nothing else.
const fn ours(
    name: &'static str,
    allocator: &'static str,
    lending: Lending,
    keep_alive: &'static str,
) -> Policy {
    Policy { name, placement: "mws", allocator, lending, keep_alive }
}

/// All that are compared.
pub const POLICIES: [Policy; 6] = [
    released("mws-sosp21"),
    released("jsq-sosp21"),
    released("vanilla"),
    ours("mws", "fixed", Lending::Off, "fixed"),
    ours("mws+profile", "profile", Lending::Elastic, "fixed"),
    ours("mws+profile+greedy-dual", "profile", Lending::Elastic, "greedy-dual"),
];

/// The house of a cell whose load is a number of users; `whole_host`: every VM has its host's memory, whatever its cores.
pub fn house(
    cell: &Cell,
    set: SospSet,
    whole_host: bool,
    size: &Size,
) -> Result<(House, Vec<String>), TraceError> {
    let policy = policy(&cell.policy);
    let workload = SospMix::of_users(cell.load).workload(cell.seed);
    let (machines, mut notes) = machines(&cell.cluster, set, whole_host, size, cell.seed)?;
    let many = "as many users as the load tells";
    let one = format!("{} users", cell.load);
    notes.extend(workload.notes.iter().map(|note| note.replace(&one, many)));
    let label = format!("{} {} {}", cell.cluster, cell.policy, cell.load);
    let mut house = House::new(label, workload.functions, workload.calls, Box::new(machines));
    house.seed = cell.seed;
    decide(&mut house, policy);
    // Nobody gives up in the paper; whoever waits for an hour here is counted as having failed.
    house.patience = Span::seconds(3_600);
    // What a released balancer has bound to a VM that shrank stays there, if it takes the whole day.
    house.aftermath = Span::seconds(24 * 3_600);
    house.measure_from = Moment::ORIGIN + Span::seconds(2);
    // The script waits for five seconds, then reads.
    house.read_at = SospSet::length() + Span::seconds(2 + 5);
    Ok((house, notes))
}

/// The policy of this name.
pub fn policy(name: &str) -> &'static Policy {
    POLICIES.iter().find(|policy| policy.name == name).expect("a cell of ours")
}

/// Puts a policy in charge of a house that has its functions, with the invoker and controller that belong to it.
pub fn decide(house: &mut House, policy: &Policy) {
    let placed = placed(policy.placement, &house.functions);
    house.checks_bookings = placed.binding() == Binding::Late;
    house.placement = placed;
    house.allocate_by(policy.allocator, Default::default(), policy.lending).expect("a listed allocator");
    released::fit_dispatch(policy.placement, &mut house.dispatch);
    released::fit_residency(policy.placement, &mut house.residency);
    house.keep_alive = policy.keep_alive.into();
}

/// The released balancers find homes by names and ids as they did in the paper's cluster.
fn placed(name: &str, functions: &[FunctionPlan]) -> Box<dyn Placement> {
    let settings = placement::Settings::default();
    let names = functions.iter().map(|function| (function.card.id, function.name.as_str()));
    match name {
        "mws-sosp21" => Box::new(MwsSosp21::with(Hashes::of_guests(names), &RING_IDS, CONTROLLERS)),
        "jsq-sosp21" => Box::new(JsqSosp21::of(CONTROLLERS as u32)),
        "vanilla" => Box::new(Vanilla::with(&settings, Hashes::of_guests(names))),
        _ => placement::by_name(name, &settings).expect("a listed placement"),
    }
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
    let mut given = fleet.given();
    Chance::new(seed, SHUFFLE).shuffle(&mut given);
    if !whole_host {
        notes.push(format!("{}: {} MiB of memory to a core, as sold", cluster, MEMORY_PER_CORE.0));
        return Ok((Fleet::new(given, Launches::none(), Vec::new()), notes));
    }
    notes.push(format!(
        "{}: every VM has {} MiB of memory, its host's (D32s_v3), however many cores it has at the moment",
        cluster, HOST_MEMORY.0
    ));
    let whole = |size: Resources| Resources { memory: HOST_MEMORY, ..size };
    let given = given.into_iter().map(|plan| VmPlan {
        size: whole(plan.size),
        changes: plan.changes.into_iter().map(|(at, size)| (at, whole(size))).collect(),
        ..plan
    });
    Ok((Fleet::new(given.collect(), Launches::none(), Vec::new()), notes))
}
