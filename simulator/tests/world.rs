//! What holds in every rehearsal: replay, conservation, and physics seen from the outside.

use std::collections::VecDeque;

use policies::provisioning::{self, Target};
use simulator::house::{Fleet, Network};
use simulator::plan::{Absence, Call, Calls, FunctionPlan, Gone, Machines, Recall, VmPlan, Work};
use simulator::{FIRST_LIGHT, House, Scenario, play};
use vocabulary::{
    FunctionCard, FunctionId, Mebibytes, MilliCores, Moment, OnEviction, Resources, Revision, Span, VmId,
    VmKind,
};

fn at(ms: u64) -> Moment {
    Moment::ORIGIN + Span::millis(ms)
}

fn function(app: u32, reservation: Resources) -> FunctionPlan {
    FunctionPlan {
        name: format!("f{app}"),
        app,
        card: FunctionCard {
            id: FunctionId(u64::from(app) + 1),
            revision: Revision(1),
            reservation,
            timeout: Span::seconds(60),
            on_eviction: OnEviction::Rerun,
            application: None,
        },
        cold_start: Span::millis(400),
    }
}

/// A call of function 0 that computes for so long on one core.
fn computes(ms: u64, memory: u32) -> Call {
    let work = Work {
        io: Span::ZERO,
        cpu: Span::millis(ms),
        saturation: MilliCores(1_000),
        memory: Mebibytes(memory),
        input_bytes: 0,
    };
    Call { function: 0, work, user: 0 }
}

struct Script(VecDeque<(Moment, Call)>);

impl Calls for Script {
    fn next_at(&self) -> Option<Moment> {
        self.0.front().map(|&(at, _)| at)
    }

    fn take(&mut self) -> Call {
        self.0.pop_front().unwrap().1
    }
}

/// One caller who calls again a second after every answer, a hundred times.
struct Thinker {
    next: Option<Moment>,
    left: u32,
}

impl Calls for Thinker {
    fn next_at(&self) -> Option<Moment> {
        self.next
    }

    fn take(&mut self) -> Call {
        self.next = None;
        self.left -= 1;
        Call { user: 7, ..computes(100, 100) }
    }

    fn answered(&mut self, user: u32, now: Moment) {
        assert_eq!(user, 7);
        self.next = (self.left > 0).then(|| now + Span::seconds(1));
    }
}

struct Provider {
    given: Vec<VmPlan>,
    /// Those that are launched start so much later; none are to be had without it.
    starts_after: Option<Span>,
}

impl Machines for Provider {
    fn given(&mut self) -> Vec<VmPlan> {
        std::mem::take(&mut self.given)
    }

    fn launch(&mut self, now: Moment, kind: VmKind, size: Resources) -> Option<VmPlan> {
        let starts_at = now + self.starts_after?;
        Some(VmPlan { kind, starts_at, size, changes: Vec::new(), gone: None })
    }
}

fn vm(cores: u32) -> VmPlan {
    VmPlan {
        kind: VmKind::Harvest,
        starts_at: Moment::ORIGIN,
        size: Resources::new(cores * 1_000, 4_096),
        changes: Vec::new(),
        gone: None,
    }
}

fn house(calls: impl Calls + 'static, given: Vec<VmPlan>) -> House {
    let functions = vec![function(0, Resources::new(1_000, 256))];
    House::new("test", functions, Box::new(calls), Box::new(Provider { given, starts_after: None }))
}

fn script(calls: impl IntoIterator<Item = (u64, Call)>) -> Script {
    Script(calls.into_iter().map(|(ms, call)| (at(ms), call)).collect())
}

#[test]
fn a_cold_and_a_warm_call_take_what_one_adds_up_by_hand() {
    let (report, _) =
        play(house(script([(2_000, computes(100, 100)), (5_000, computes(100, 100))]), vec![vm(4)]));
    assert_eq!((report.violations, report.answered, report.cold_runs), (0, 2, 1), "{report}");
    // Three messages of 200 us each, the run, and once the sandbox.
    assert_eq!((report.latency.p50_us, report.latency.max_us), (100_600, 500_600));
    assert_eq!(report.slowdown.p50_permille, 1_006);
    assert_eq!(report.cores.useful.harvest_core_us, 200_000);
    assert_eq!(report.cores.making.harvest_core_us, 400_000);
    assert_eq!(report.cores.used.sum(), 600_000);
    assert_eq!(report.cores.capacity.harvest_core_us, 4 * report.played_us);
}

#[test]
fn a_call_with_too_little_memory_is_answered_with_its_death() {
    let (report, _) = play(house(script([(2_000, computes(1_000, 496))]), vec![vm(4)]));
    // From 16 to 496 MiB in half of a second; 256 MiB are allowed, which is half of the way.
    assert_eq!((report.violations, report.answered, report.out_of_memory), (0, 1, 1), "{report}");
    assert_eq!(report.latency.max_us, 400_600 + 250_000);
    assert_eq!(report.failed(), 1);
    assert_eq!((report.functions[0].failed, report.functions[0].succeeded), (1, 0));
}

#[test]
fn a_closed_loop_goes_on_from_answer_to_answer() {
    let calls = Thinker { next: Some(at(2_000)), left: 100 };
    let (report, _) = play(house(calls, vec![vm(4)]));
    assert_eq!((report.violations, report.submitted, report.answered), (0, 100, 100), "{report}");
    let expected = 2_000_000 + 99 * 1_000_000 + 100 * 100_600 + 400_000;
    assert_eq!(report.played_us, expected);
}

#[test]
fn what_an_evicted_vm_had_done_is_wasted_and_done_again_elsewhere() {
    let doomed = VmPlan { gone: Some(Gone { at: at(3_400), notice: Span::ZERO }), ..vm(4) };
    let later = VmPlan { starts_at: at(3_000), ..vm(4) };
    let (report, _) = play(house(script([(2_000, computes(5_000, 100))]), vec![doomed, later]));
    assert_eq!((report.violations, report.answered, report.further_attempts), (0, 1, 1), "{report}");
    assert_eq!((report.vms_evicted, report.vms_lost), (1, 1));
    // It ran from 2.4004 s to 3.4 s.
    assert_eq!(report.cores.wasted.sum(), 999_600);
    assert_eq!(report.cores.useful.sum(), 5_000_000);
}

/// Two VMs, of which the first is away from the third to the tenth second; the call is begun there before.
fn with_absence(is_frozen: bool, computes_ms: u64) -> House {
    let mut house = house(script([(2_000, computes(computes_ms, 100))]), vec![vm(4), vm(4)]);
    house.absences =
        [1, 2].map(|vm| (VmId(vm), Absence { from: at(3_000), to: at(10_000), is_frozen })).into();
    house
}

#[test]
fn a_vm_that_is_cut_off_works_on_and_is_heard_when_it_is_back() {
    let (report, _) = play(with_absence(false, 4_000));
    assert_eq!((report.violations, report.answered), (0, 1), "{report}");
    // It was done at 6.4 s and is heard at 10 s. By then it was given up: its answer counts only if nobody has been told to do
    // it again, which is done as soon as a VM is there.
    assert!((7_900_000..13_000_000).contains(&report.latency.max_us), "{report}");
}

#[test]
fn a_frozen_vm_goes_on_where_it_was_unless_somebody_else_was_faster() {
    let (report, _) = play(with_absence(true, 4_000));
    assert_eq!((report.violations, report.answered), (0, 1), "{report}");
    // Six tenths of a second before it froze, the rest after ten seconds.
    assert!((10_000_000..15_000_000).contains(&report.latency.max_us), "{report}");
}

#[test]
fn one_of_two_that_is_away_is_given_up_and_its_call_run_by_the_other_and_answered_once() {
    for is_frozen in [false, true] {
        let calls: Vec<_> = (0..40).map(|n| (2_000 + n * 25, computes(1_500, 100))).collect();
        let mut house = house(script(calls), vec![vm(8), vm(8)]);
        house.absences = vec![(VmId(1), Absence { from: at(2_800), to: at(12_000), is_frozen })];
        let (report, _) = play(house);
        assert_eq!((report.violations, report.answered), (0, 40), "{report}");
        assert!(report.latency.max_us < 9_000_000, "nobody waits for it to be back: {report}");
    }
}

#[test]
fn a_notice_that_is_called_off_leaves_a_vm_that_takes_work_again() {
    let mut house = house(script([(3_000, computes(100, 100)), (6_000, computes(100, 100))]), vec![vm(4)]);
    house.recalls = vec![(VmId(1), Recall { at: at(2_000), deadline: at(32_000), called_off: at(5_000) })];
    let (report, _) = play(house);
    assert_eq!((report.violations, report.answered), (0, 2), "{report}");
    assert!(
        (2_000_000..3_000_000).contains(&report.latency.max_us),
        "the first waited for the call-off: {report}"
    );
}

#[test]
fn a_resource_monitor_replaces_what_is_evicted_after_the_start_up_time() {
    let doomed = VmPlan { gone: Some(Gone { at: at(40_000), notice: Span::seconds(30) }), ..vm(4) };
    let calls = script((0..600).map(|n| (2_000 + n * 100, computes(50, 100))));
    let mut house = house(calls, vec![doomed]);
    house.machines =
        Box::new(Provider { given: house.machines.given(), starts_after: Some(Span::seconds(8)) });
    house.fleet = Some(Fleet {
        settings: provisioning::Settings::default(),
        target: Target { vms: 1, kind: VmKind::Regular, size: Resources::new(4_000, 4_096) },
        retire_grace: Span::seconds(30),
    });
    let (report, _) = play(house);
    assert_eq!((report.violations, report.vms_started), (0, 2), "{report}");
    assert_eq!((report.decisions.launches, report.vms_evicted), (1, 1));
    assert_eq!(report.answered, 600, "{report}");
    // Those called between the notice at 10 s and the replacement at 18 s wait for it.
    assert!(report.latency.max_us > 7_500_000 && report.latency.max_us < 10_500_000, "{report}");
    assert!(report.cores.capacity.regular_core_us > 0);
}

#[test]
fn what_is_before_the_cut_is_played_and_not_measured() {
    let calls = || script((0..100).map(|n| (2_000 + n * 100, computes(50, 100))));
    let mut house = house(calls(), vec![vm(4)]);
    house.measure_from = at(7_000);
    let (report, _) = play(house);
    assert_eq!((report.violations, report.submitted, report.cold_runs), (0, 50, 0), "{report}");
    assert_eq!(report.latency.max_us, 50_600);
    assert_eq!(report.cores.capacity.sum(), 4 * (report.played_us - 7_000_000));
}

#[test]
fn cpu_given_never_exceeds_what_there_was_and_all_of_it_is_accounted_for() {
    for seed in 1..6 {
        let mut scenario = Scenario::from_toml(FIRST_LIGHT).unwrap();
        scenario.seed = seed;
        scenario.functions.iter_mut().for_each(|function| function.per_second *= 3.0);
        let (report, _) = play(scenario.house_in(None).unwrap());
        assert_eq!(report.violations, 0, "seed {seed}: {report}");
        let cores = report.cores;
        assert!(cores.used.sum() <= cores.capacity.sum() && cores.booked.sum() <= cores.capacity.sum());
        let parts = cores.useful.sum() + cores.wasted.sum() + cores.making.sum();
        // Each is rounded down by itself; and what still runs when the last call has ended is in none of the parts.
        assert!(parts <= cores.used.sum() + 4, "seed {seed}: {cores:?}");
        assert!(parts + 1_000_000 > cores.used.sum(), "seed {seed}: {cores:?}");
        let of_functions: u64 = report.functions.iter().map(|group| group.used.sum()).sum();
        assert!(of_functions.abs_diff(cores.useful.sum() + cores.wasted.sum()) < 50);
    }
}

#[test]
fn with_messages_that_overtake_each_other_nothing_is_lost_either() {
    for seed in 1..6 {
        let mut house =
            Scenario { seed, ..Scenario::from_toml(FIRST_LIGHT).unwrap() }.house_in(None).unwrap();
        house.network = Network { delay: Span::micros(200), jitter: Span::millis(20) };
        let (report, _) = play(house);
        assert_eq!(report.violations, 0, "seed {seed}: {report}");
        assert_eq!(report.answered + report.lost_and_never, report.submitted, "seed {seed}: {report}");
    }
}

#[test]
fn decisions_can_be_held_against_those_of_another_run() {
    let decided = |seed, placement: &str| {
        let scenario = Scenario::from_toml(FIRST_LIGHT).unwrap();
        let mut house =
            Scenario { seed, placement: placement.to_owned(), ..scenario }.house_in(None).unwrap();
        house.keeps_decisions = true;
        play(house).1.unwrap()
    };
    let (once, again, other) = (decided(1, "mws"), decided(1, "mws"), decided(1, "jsq"));
    assert_eq!(once, again);
    assert_eq!(once.part_at(&again), None);
    let Some((Some(mine), Some(others))) = once.part_at(&other) else {
        panic!("two policies decide the same")
    };
    assert_eq!(mine.call, others.call, "up to there both sent the same calls");
    assert!(once.to_string().lines().next().unwrap().contains("call 1 attempt 1 of fn-"), "{once}");
}
