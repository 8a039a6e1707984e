//! Lending inside reservations, rehearsed: what is lent comes back in time, and nothing is promised twice.

use std::collections::VecDeque;

use policies::allocation::{self, Allocator, Request};
use policies::residency::Lending;
use simulator::machines::Fleet;
use simulator::plan::{Call, Calls, FunctionPlan, Work};
use simulator::{House, Report, play};
use vocabulary::{
    FunctionCard, FunctionId, Grant, Mebibytes, MilliCores, Moment, OnEviction, Resources, Revision, Span,
    VmKind,
};

const MODES: [Lending; 3] = [Lending::Off, Lending::Hard, Lending::Elastic];
/// Reserves four cores.
const LENDER: u32 = 0;
/// Reserves one core, and can use eight.
const BORROWER: u32 = 1;

fn function(number: u32, reservation: Resources) -> FunctionPlan {
    FunctionPlan {
        name: format!("f{number}"),
        app: number,
        card: FunctionCard {
            id: FunctionId(u64::from(number) + 1),
            revision: Revision(1),
            reservation,
            timeout: Span::seconds(60),
            on_eviction: OnEviction::Rerun,
            application: None,
        },
        cold_start: Span::millis(400),
    }
}

struct Script(VecDeque<(u64, Call)>);

impl Calls for Script {
    fn next_at(&self) -> Option<Moment> {
        self.0.front().map(|&(ms, _)| Moment::ORIGIN + Span::millis(ms))
    }

    fn take(&mut self) -> Call {
        self.0.pop_front().unwrap().1
    }
}

/// Lenders are left with one core and so much memory, borrowers wish for eight cores.
struct Leaves(u32);

impl Allocator for Leaves {
    fn name(&self) -> &'static str {
        "leaves"
    }

    fn grant(&mut self, request: &Request<'_>) -> Grant {
        let reservation = request.reservation;
        if request.function == FunctionId(u64::from(LENDER) + 1) {
            let left = Resources::new(1_000, self.0);
            Grant::new(left, left)
        } else {
            Grant::new(reservation, Resources { cpu: MilliCores(8_000), ..reservation })
        }
    }
}

fn call(function: u32, io_ms: u64, cpu_ms: u64, cores: u32, memory: u32) -> Call {
    let work = Work {
        io: Span::millis(io_ms),
        cpu: Span::millis(cpu_ms),
        saturation: MilliCores::cores(cores),
        memory: Mebibytes(memory),
        input_bytes: 0,
    };
    Call { function, work, user: 0 }
}

/// On one VM of five cores: just what is reserved.
fn played(lending: Lending, leaves: u32, calls: &[(u64, Call)]) -> Report {
    let functions =
        vec![function(LENDER, Resources::new(4_000, 512)), function(BORROWER, Resources::new(1_000, 512))];
    let machines = Fleet::constant(1, VmKind::Harvest, Resources::new(5_000, 4_096));
    let script = Script(calls.iter().copied().collect());
    let mut house = House::new("lending", functions, Box::new(script), Box::new(machines));
    house.allocator = Box::new(Leaves(leaves));
    house.residency.lending = lending;
    let (report, _) = play(house);
    assert_eq!((report.violations, report.failed()), (0, 0), "{report}");
    report
}

/// The lender waits for two seconds and then wants all of its four cores for one second. Meanwhile the borrower has them.
fn a_change_of_mind(lending: Lending) -> Report {
    played(
        lending,
        512,
        &[(2_000, call(LENDER, 2_000, 4_000, 4, 100)), (2_500, call(BORROWER, 0, 40_000, 8, 100))],
    )
}

/// How much longer the lender's run took than alone, in milliseconds.
fn lost_ms(report: &Report) -> u64 {
    let lender = report.functions.iter().find(|group| group.name == "f0").unwrap();
    // Three messages and its sandbox are not its run.
    (lender.latency.max_us - 400_600 - 3_000_000) / 1_000
}

#[test]
fn a_lender_that_suddenly_needs_its_cores_has_them_back_within_fifty_milliseconds() {
    let (hard, elastic) = (a_change_of_mind(Lending::Hard), a_change_of_mind(Lending::Elastic));
    for report in [&hard, &elastic] {
        assert_eq!((report.lending.runs, report.lending.safeguarded), (2, 1), "{report}");
        // The borrower has had more than its core all the while that the lender waited.
        assert_eq!(report.lending.accelerated, 1, "{report}");
    }
    assert!(lost_ms(&hard) <= 50, "{}", lost_ms(&hard));
    // Weights need no look.
    assert!(lost_ms(&elastic) <= lost_ms(&hard) && lost_ms(&elastic) <= 20, "{}", lost_ms(&elastic));
}

#[test]
fn with_hard_ceilings_and_nothing_given_back_it_computes_on_no_more_than_it_was_left() {
    let off = a_change_of_mind(Lending::Off);
    assert_eq!((off.lending.safeguarded, off.lending.harvested), (0, 1), "{off}");
    // A core of four, and of that the borrower's higher ceiling has a part.
    assert!(lost_ms(&off) >= 3_000, "{}", lost_ms(&off));
}

#[test]
fn memory_that_is_asked_for_slowly_is_given_back_before_the_ceiling_is_met() {
    // 64 MiB are left of 512, and 400 are touched within four seconds.
    let report = played(Lending::Hard, 64, &[(2_000, call(LENDER, 8_000, 0, 1, 400))]);
    assert_eq!((report.lending.safeguarded, report.lending.starved), (1, 0), "{report}");
    assert_eq!(report.runs, 1);
}

#[test]
fn what_starves_between_two_looks_goes_again_with_all_that_it_reserved() {
    // 400 MiB within five milliseconds.
    let report = played(Lending::Hard, 64, &[(2_000, call(LENDER, 10, 0, 1, 400))]);
    assert_eq!((report.lending.starved, report.lending.runs, report.out_of_memory), (1, 1, 0), "{report}");
    assert_eq!((report.runs, report.further_attempts, report.lending.harvested), (2, 1, 0));
}

#[test]
fn what_needs_more_than_it_reserved_dies_of_it_whatever_was_lent() {
    let functions = vec![function(LENDER, Resources::new(4_000, 512))];
    for lending in MODES {
        let calls = Script([(2_000, call(LENDER, 8_000, 0, 1, 1_000))].into_iter().collect());
        let machines = Fleet::constant(1, VmKind::Harvest, Resources::new(5_000, 4_096));
        let mut house = House::new("lending", functions.clone(), Box::new(calls), Box::new(machines));
        (house.allocator, house.residency.lending) = (Box::new(Leaves(64)), lending);
        let (report, _) = play(house);
        assert_eq!((report.violations, report.out_of_memory, report.lending.starved), (0, 1, 0), "{report}");
    }
}

/// Ten functions for two minutes on VMs one of which shrinks to a quarter and comes back.
fn busy(allocator: &str, lending: Lending, seed: u64) -> House {
    let mut scenario = simulator::Scenario::from_toml(BUSY).unwrap();
    scenario.seed = seed;
    let mut house = scenario.house_in(None).unwrap();
    house.allocate_by(allocator, allocation::Settings::default(), lending).unwrap();
    house.keeps_decisions = true;
    house
}

const BUSY: &str = r#"
name = "busy"
length_seconds = 120
[workload]
kind = "sosp-mix"
users = 40
[[vms]]
count = 3
cpu_millicores = 8000
memory_mib = 32768
[[vms]]
cpu_millicores = 16000
memory_mib = 32768
changes = [{ at_seconds = 40, cpu_millicores = 4000 }, { at_seconds = 80, cpu_millicores = 16000 }]
"#;

#[test]
fn whoever_allocates_and_however_is_lent_nothing_is_promised_twice_and_a_replay_is_equal() {
    for allocator in allocation::NAMES {
        for lending in MODES {
            let (report, decisions) = play(busy(allocator, lending, 3));
            assert_eq!(report.violations, 0, "{allocator} {lending:?}: {report}");
            assert!(report.answered > 100, "{allocator} {lending:?}: {report}");
            assert_eq!(play(busy(allocator, lending, 3)), (report, decisions), "{allocator} {lending:?}");
        }
    }
}

#[test]
fn while_nobody_lends_nobody_is_looked_at() {
    let events = |allocator, lending| play(busy(allocator, lending, 1)).0.events;
    let none = events("fixed", Lending::Off);
    // Sandboxes in the making weigh less where something could be lent, so that some ends come at other moments, and more or fewer spares are
    // made: not one event in twenty. Looks would be several times as many events.
    let fixed = events("fixed", Lending::Elastic);
    assert!(fixed.abs_diff(none) * 20 < none, "{fixed} and {none}");
    let looked_at = events("oracle", Lending::Elastic);
    println!("nobody lends: {none} and {fixed} events; the oracle does: {looked_at}");
    assert!(looked_at > 2 * none, "{looked_at} and {none}");
}

#[test]
fn the_oracle_is_told_the_truth() {
    let fixed = play(busy("fixed", Lending::Off, 1)).0;
    let oracle = play(busy("oracle", Lending::Off, 1)).0;
    assert!(oracle.lending.harvested > 0 && fixed.lending.harvested == 0, "{oracle}");
    // Leaving what it cannot use slows down no usual run; VMs are fuller for it, so that single ones share cores with a sandbox that is
    // being made beside them, or with all others on the VM that shrinks.
    let (of_oracle, of_fixed) = (oracle.slowdown_of_run, fixed.slowdown_of_run);
    assert!(of_oracle.mean_permille <= of_fixed.mean_permille, "{of_oracle:?} {of_fixed:?}");
    assert!(of_oracle.p50_permille <= 1_000 && of_oracle.p99_permille < 1_500, "{of_oracle:?}");
}
