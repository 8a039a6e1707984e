//! Trouble whose victims the moment decides, and houses in which several decide.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use policies::provisioning::{self, Target};
use simulator::house::Fleet;
use simulator::machines::{self, Launches};
use simulator::plan::{Call, Calls, FunctionPlan, Work};
use simulator::trouble::{Fault, Ill, Trouble};
use simulator::{House, Report, play};
use vocabulary::{
    FunctionCard, FunctionId, Mebibytes, MilliCores, Moment, OnEviction, Resources, Revision, Span, VmKind,
};

const FUNCTIONS: u32 = 9;
const VM: Resources = Resources { cpu: MilliCores(4_000), memory: Mebibytes(4_096) };

fn at(ms: u64) -> Moment {
    Moment::ORIGIN + Span::millis(ms)
}

/// Callers who wait for their answers, one for each function, and call again a tenth of a second later.
struct Loops {
    next: BinaryHeap<Reverse<(Moment, u32)>>,
    runs: Span,
}

impl Loops {
    fn new(count: u32, runs_ms: u64) -> Self {
        let next = (0..count).map(|user| Reverse((at(3_000), user))).collect();
        Self { next, runs: Span::millis(runs_ms) }
    }
}

impl Calls for Loops {
    fn next_at(&self) -> Option<Moment> {
        self.next.peek().map(|&Reverse((at, _))| at)
    }

    fn take(&mut self) -> Call {
        let Reverse((_, user)) = self.next.pop().unwrap();
        let work = Work {
            io: self.runs,
            cpu: Span::ZERO,
            saturation: MilliCores(100),
            memory: Mebibytes(16),
            input_bytes: 0,
        };
        Call { function: user, work, user }
    }

    fn answered(&mut self, user: u32, now: Moment) {
        self.next.push(Reverse((now + Span::millis(100), user)));
    }
}

fn house(callers: u32, runs_ms: u64, vms: u32) -> House {
    let functions = (0..FUNCTIONS)
        .map(|app| FunctionPlan {
            name: format!("f{app}"),
            app,
            card: FunctionCard {
                id: FunctionId(u64::from(app) + 1),
                revision: Revision(1),
                reservation: Resources::new(100, 128),
                timeout: Span::seconds(60),
                on_eviction: OnEviction::Rerun,
                application: None,
            },
            cold_start: Span::millis(20),
        })
        .collect();
    let machines = machines::Fleet::constant(vms, VmKind::Harvest, VM)
        .with_launches(Launches::that_last(Span::seconds(2)));
    let mut house = House::new("test", functions, Box::new(Loops::new(callers, runs_ms)), Box::new(machines));
    house.fleet = Some(Fleet {
        settings: provisioning::Settings::default(),
        target: Target { vms, kind: VmKind::Harvest, size: VM },
        retire_grace: Span::seconds(30),
    });
    house.calls_until = at(20_000);
    house
}

fn with(mut house: House, troubles: impl IntoIterator<Item = (u64, Fault)>) -> Report {
    house.troubles = troubles.into_iter().map(|(ms, what)| Trouble { at: at(ms), draw: 7, what }).collect();
    let (report, _) = play(house);
    assert_eq!(report.violations, 0, "{report}");
    assert_eq!(report.answered, report.submitted, "{report}");
    report
}

#[test]
fn what_a_controller_knew_goes_with_it_and_the_next_one_is_given_it_again() {
    let calm = with(house(FUNCTIONS, 200, 2), []);
    let report = with(house(FUNCTIONS, 200, 2), [(8_050, Fault::ControllerGone)]);
    assert_eq!((report.troubles.made, report.troubles.left_out), (1, 0));
    assert!(report.troubles.resubmitted > 0, "{report}");
    // The next one is there after 0.4 s, and listens for 1.2 s before it sends anything.
    assert!(calm.latency.max_us < 300_000, "{calm}");
    assert!((1_400_000..2_200_000).contains(&report.latency.max_us), "{report}");
}

#[test]
fn of_three_controllers_one_may_freeze_and_only_its_functions_wait() {
    let mut three = house(FUNCTIONS, 200, 2);
    three.controllers = 3;
    let lasts = Span::seconds(4);
    let report = with(three, [(8_000, Fault::Controller(Ill::Frozen, lasts))]);
    assert!(report.troubles.resubmitted > 0, "{report}");
    // It is given up after 1.6 s, not waited for.
    assert!((1_100_000..2_500_000).contains(&report.latency.max_us), "{report}");
    let waited = report.functions.iter().filter(|function| function.latency.max_us > 500_000).count();
    assert!((1..FUNCTIONS as usize).contains(&waited), "{waited} of {FUNCTIONS} functions had to wait");
}

/// Runs that began, and calls.
fn runs_and_calls(report: &Report) -> (u64, u64) {
    let functions = report.functions.iter();
    functions.fold((0, 0), |(runs, calls), function| (runs + function.runs, calls + function.submitted))
}

#[test]
fn what_a_lost_controller_had_sent_is_taken_over_and_ends_there_and_runs_once() {
    // Whoever comes in its place, or whoever is there already; and one who is frozen and back before they end, or after.
    let gone = Fault::ControllerGone;
    let frozen = |ms| Fault::Controller(Ill::Frozen, Span::millis(ms));
    for (controllers, fault) in [(1, gone), (2, gone), (3, gone), (2, frozen(2_500)), (3, frozen(6_000))] {
        let mut some = house(FUNCTIONS, 4_000, 3);
        some.controllers = controllers;
        let report = with(some, [(9_500, fault)]);
        assert_eq!(report.troubles.made, 1);
        let (runs, calls) = runs_and_calls(&report);
        assert_eq!(
            (runs, report.decisions.again),
            (calls, 0),
            "{controllers} Controllers, {fault:?}: {report}"
        );
        assert!(report.decisions.adopted > 0, "{report}");
    }
}

#[test]
fn a_controller_that_freezes_for_about_as_long_as_a_silence_gives_up_no_vm() {
    for frozen in [1_500, 2_500, 3_000, 3_100, 3_300, 3_500, 4_000] {
        for begins in [8_000, 8_350, 8_700] {
            let mut three = house(FUNCTIONS, 700, 3);
            three.controllers = 2;
            let fault = Fault::Controller(Ill::Frozen, Span::millis(frozen));
            let report = with(three, [(begins, fault)]);
            assert_eq!(report.vms_lost, 0, "{frozen} ms from {begins}: {report}");
        }
    }
}

#[test]
fn what_is_lost_with_a_connection_is_made_good_and_every_call_is_answered() {
    let breaks = Ill::Breaks(Span::millis(150), Span::millis(700));
    for (ill, controllers) in
        [(Fault::Vm(breaks, Span::seconds(8)), 1), (Fault::Controller(breaks, Span::seconds(8)), 2)]
    {
        let mut some = house(FUNCTIONS, 200, 3);
        some.controllers = controllers;
        let report = with(some, [(6_000, ill)]);
        assert!((2_000_000..20_000_000).contains(&report.latency.max_us), "somebody waited for it: {report}");
    }
}

#[test]
fn what_a_controller_says_that_is_cut_off_comes_when_it_is_back_and_harms_nobody() {
    for controllers in 1..=3 {
        let mut some = house(FUNCTIONS, 200, 2);
        some.controllers = controllers;
        let report = with(some, [(8_000, Fault::Controller(Ill::CutOff, Span::seconds(5)))]);
        let alone = controllers == 1;
        assert_eq!(report.latency.max_us > 4_500_000, alone, "{controllers} Controllers: {report}");
    }
}

#[test]
fn messages_of_a_vm_are_late_each_way_and_no_longer_than_was_said() {
    let by = Span::millis(50);
    let late = |ill| (2_500, Fault::Vm(ill, Span::seconds(30)));
    let calm = with(house(1, 200, 1), []);
    let report = with(house(1, 200, 1), [late(Ill::Late(by, by))]);
    assert_eq!(report.latency.p50_us - calm.latency.p50_us, 100_000, "{report}");
    let drawn = with(house(FUNCTIONS, 200, 1), [late(Ill::Late(Span::millis(20), Span::millis(90)))]);
    assert!((240_000..390_000).contains(&drawn.latency.p50_us), "{drawn}");
    // Of a Controller it is the way to it and from it: once for the call, once for the run.
    let ill = Ill::Late(by, by);
    let report = with(house(1, 200, 1), [(2_500, Fault::Controller(ill, Span::seconds(30)))]);
    assert_eq!(report.latency.p50_us - calm.latency.p50_us, 100_000, "{report}");
}

#[test]
fn while_nobody_keeps_the_fleet_nobody_is_told_of_an_end_and_nothing_is_replaced() {
    let gone = (8_000, Fault::Gone { notice: None, after: Span::ZERO });
    let kept = with(house(FUNCTIONS, 200, 2), [gone]);
    let left = with(house(FUNCTIONS, 200, 2), [(7_500, Fault::MonitorGone(Span::seconds(6))), gone]);
    assert_eq!((kept.decisions.launches, left.decisions.launches), (1, 1), "{kept}\n{left}");
    assert!(kept.latency.max_us < 700_000, "{kept}");
    // It is found out by its silence.
    assert!((2_800_000..3_800_000).contains(&left.latency.max_us), "{left}");
    // The replacement came six seconds later.
    assert!(left.cores.capacity.sum() + 20_000_000 < kept.cores.capacity.sum(), "{kept}\n{left}");
}

#[test]
fn at_a_door_whose_keeper_is_frozen_people_wait_and_at_the_others_they_do_not() {
    let mut two = house(FUNCTIONS, 200, 2);
    two.doors = 2;
    let report = with(two, [(8_000, Fault::DoorFrozen(Span::seconds(3)))]);
    assert!((2_700_000..3_300_000).contains(&report.latency.max_us), "{report}");
    let many = report.submitted > 9 * 40;
    assert!(many && report.latency.p99_us > 1_000_000 && report.latency.p90_us < 300_000, "{report}");
}

#[test]
fn a_fault_for_which_nobody_is_there_is_left_out_and_counted() {
    // The only VM has another one all the time.
    let mut alone = house(FUNCTIONS, 200, 1);
    alone.calls_until = at(30_000);
    let late = Fault::Vm(Ill::Late(Span::ZERO, Span::millis(1)), Span::seconds(40));
    let report = with(alone, [(3_500, late), (4_000, Fault::Vm(Ill::Frozen, Span::seconds(1)))]);
    assert_eq!((report.troubles.made, report.troubles.left_out), (1, 1), "{report}");
}

#[test]
fn one_house_in_trouble_has_one_report() {
    let again = |seed| {
        let mut some = house(FUNCTIONS, 300, 3);
        (some.seed, some.controllers, some.doors) = (seed, 3, 2);
        let late = Ill::Late(Span::millis(5), Span::millis(80));
        with(
            some,
            [
                (5_000, Fault::ControllerGone),
                (6_000, Fault::Vm(late, Span::seconds(9))),
                (7_000, Fault::Controller(Ill::CutOff, Span::seconds(4))),
                (8_000, Fault::DoorFrozen(Span::seconds(2))),
            ],
        )
    };
    assert_eq!(again(1), again(1));
    assert_ne!(again(1), again(2));
}
