//! One number for all that a run decided and counted: for changes that must not change a decision, before and after.
//!
//!     cargo run --release -p simulator --example digest > before; ...; cargo run --release -p simulator --example digest | diff before -
//!
//! Twenty-odd small houses in which much goes wrong: VMs that shrink and are evicted, messages that overtake each other, all
//! placements, allocators with lending, the released invokers' admission, the other keep-alives, a fleet that is kept up.

use policies::residency::{Admission, Lending};
use policies::{allocation, fleet, placement, provisioning};
use simulator::house::{Fleet, Network};
use simulator::machines::{Fleet as MachineFleet, Harvest, Lifetime, MEMORY_PER_CORE};
use simulator::plan::{Machines, VmPlan};
use simulator::workload::{Assumptions, SospMix, Synthetic};
use simulator::{House, play};
use vocabulary::{Moment, OnEviction, Resources, Span, VmKind};

const VMS: u32 = 12;
const LENGTH: Span = Span::seconds(400);

/// Functions of all popularities on harvest VMs that live some minutes and change all the time; a Resource Monitor keeps their
/// number up.
fn rough(seed: u64) -> House {
    let workload = Synthetic::new(300, 12.0, LENGTH).workload(&Assumptions::default(), seed);
    let until = Moment::ORIGIN + LENGTH;
    let lifetime = Lifetime::exponential(Span::seconds(900));
    let model = Harvest {
        lifetime,
        changes: 50.0,
        mean_cores: 8.0,
        start_up: Span::seconds(20),
        until,
        ..Harvest::default()
    };
    let machines = model.fleet(VMS, seed);
    let mut house = House::new("rough", workload.functions, workload.calls, Box::new(machines));
    house.seed = seed;
    house.calls_until = until;
    house.keeps_decisions = true;
    house.fleet = Some(Fleet {
        settings: provisioning::Settings::default(),
        target: provisioning::Target {
            vms: VMS,
            kind: VmKind::Harvest,
            size: Resources::new(8_000, 8 * MEMORY_PER_CORE.0),
        },
        retire_grace: Span::seconds(30),
    });
    house
}

/// The same with some regular VMs, and functions of which some must not run twice, or only once their VM is gone.
fn mixed(seed: u64) -> House {
    let mut house = rough(seed);
    house.name = "mixed".into();
    for (at, function) in house.functions.iter_mut().enumerate() {
        function.card.on_eviction = [OnEviction::Rerun, OnEviction::RerunAtLoss, OnEviction::Never][at % 3];
    }
    house.machines = Box::new(WithRegular(house.machines));
    house
}

struct WithRegular(Box<dyn Machines>);

impl Machines for WithRegular {
    fn given(&mut self) -> Vec<VmPlan> {
        let size = Resources::new(8_000, 8 * MEMORY_PER_CORE.0);
        let mut given = MachineFleet::constant(3, VmKind::Regular, size).given();
        given.extend(self.0.given());
        given
    }

    fn launch(&mut self, now: Moment, kind: VmKind, size: Resources) -> Option<VmPlan> {
        self.0.launch(now, kind, size)
    }
}

/// Closed-loop users and what SOSP'21's authors had them call, on fewer VMs than they need.
fn users(seed: u64) -> House {
    let workload = SospMix::of_users(120).workload(seed);
    let model = Harvest { lifetime: Lifetime::forever(), changes: 50.0, ..Harvest::default() };
    let mut house = House::new("users", workload.functions, workload.calls, Box::new(model.fleet(10, seed)));
    house.seed = seed;
    house.calls_until = Moment::ORIGIN + LENGTH;
    house.keeps_decisions = true;
    house
}

fn placed(mut house: House, name: &str) -> House {
    house.name = format!("{} {name}", house.name);
    house.placement = placement::by_name(name, &placement::Settings::default()).expect("a listed placement");
    house
}

fn lending(mut house: House, name: &str, lending: Lending) -> House {
    house.name = format!("{} {name} {lending:?}", house.name);
    house.allocate_by(name, allocation::Settings::default(), lending).expect("a listed allocator");
    house
}

fn released(name: &str, admission: Admission) -> House {
    let mut house = placed(users(5), name);
    house.name = format!("{} {admission:?}", house.name);
    house.residency.admission = admission;
    house
}

fn houses() -> Vec<House> {
    let mut houses: Vec<House> = placement::NAMES.into_iter().map(|name| placed(rough(1), name)).collect();
    houses.extend(["mws", "jsq"].map(|name| placed(users(2), name)));
    houses.extend(["mws", "jsq"].map(|name| {
        let mut house = placed(rough(3), name);
        house.name += " jitter";
        house.network = Network { delay: Span::micros(200), jitter: Span::millis(40) };
        house
    }));
    houses.push(lending(rough(4), "profile", Lending::Elastic));
    houses.push(lending(rough(4), "profile-lent", Lending::Hard));
    houses.push(lending(users(4), "libra", Lending::Hard));
    houses.push(lending(users(4), "profile", Lending::Elastic));
    houses.push(lending(placed(users(4), "jsq"), "greedy", Lending::Off));
    houses.push(released("mws-sosp21", Admission::Measured { cpu_permille: 900 }));
    houses.push(released("jsq-sosp21", Admission::Overbooked { cpu_permille: 1_500 }));
    houses.push(released("vanilla", Admission::MemoryOnly));
    houses.extend(["hybrid-histogram", "greedy-dual"].map(|name| {
        let mut house = rough(6);
        house.name = format!("{} {name}", house.name);
        house.keep_alive = name.to_owned();
        house
    }));
    houses.extend(fleet::NAMES.map(|name| {
        let mut house = rough(7);
        house.name = format!("{} {name}", house.name);
        let settings = fleet::Settings { idle_for: Span::seconds(20), ..fleet::Settings::default() };
        house.fleet_rule = fleet::by_name(name, &settings);
        house
    }));
    houses.push(mixed(8));
    houses
}

/// FNV-1a.
fn hash(text: &str) -> u64 {
    text.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

fn main() {
    for house in houses() {
        let (report, decisions) = play(house);
        let decisions = decisions.expect("these houses keep theirs");
        println!(
            "{:016x} {:016x} {:>8} events {:>6} calls {:>3} lost {:>5} again {:>6} resizes, {} violations: {}",
            hash(&format!("{report:?}")),
            hash(&decisions.to_string()),
            report.events,
            report.submitted,
            report.vms_evicted,
            report.further_attempts,
            report.decisions.resizes,
            report.violations,
            report.name,
        );
    }
}
