//! Quotas that are handed out in periods, against cases that one works out by hand and against a naive integrator.

#[path = "physics/bench.rs"]
mod bench;

use bench::{Bench, load};
use proptest::prelude::*;
use simulator::physics::{CORE_US, Ended, Fate, Load, Quota, Quotas};
use vocabulary::{MilliCores, Moment, Resources, Span};

/// A VM on a host of two cores.
fn vm(millicores: u32) -> Bench {
    Bench::with_quotas(millicores, Quotas::InPeriods { host: MilliCores(2_000) })
}

/// When the only run on a VM of two cores ends, in ms.
fn ends_alone(begins: u64, load: Load) -> u64 {
    let mut bench = vm(2_000);
    bench.begin_as(begins * 1_000, load, 0);
    let ends = bench.ends();
    assert_eq!((ends.len(), ends[0].2), (1, Fate::Done));
    ends[0].1 / 1_000
}

#[test]
fn sixty_milliseconds_at_half_a_core_take_110_where_the_period_is_fresh() {
    // 50 ms, a pause of 50 ms, 10 ms.
    assert_eq!(ends_alone(0, load(0, 60, 1_000, 500)), 110);
}

#[test]
fn what_fits_into_the_period_is_not_slowed_down_at_all() {
    assert_eq!(ends_alone(0, load(0, 40, 1_000, 500)), 40);
    // And who begins shortly before the boundary has two quotas.
    assert_eq!(ends_alone(60, load(0, 90, 1_000, 500)), 60 + 90);
}

#[test]
fn who_needs_no_more_than_its_quota_flows() {
    assert_eq!(ends_alone(0, load(0, 60, 500, 500)), 120);
    assert_eq!(ends_alone(30, load(20, 60, 1_000, 1_000)), 30 + 20 + 60);
}

#[test]
fn two_threads_use_it_up_twice_as_fast_and_four_no_faster_on_two_cores() {
    // 25 ms on both cores, a pause of 75 ms, and 5 ms on both.
    assert_eq!(ends_alone(0, load(0, 60, 2_000, 500)), 105);
    assert_eq!(ends_alone(0, load(0, 60, 4_000, 500)), 105);
}

/// A run on the sandbox of the one before.
fn after(before: &Ended<usize>, load: Load) -> Load {
    Load { quota: before.quota, ..load }
}

#[test]
fn a_run_finds_what_the_one_before_has_left_of_the_period() {
    let mut bench = vm(2_000);
    bench.begin_as(0, load(0, 40, 1_000, 500), 0);
    bench.until(40_000);
    let first = bench.ended[0].1;
    // 10 ms are left; then a pause until 100 ms, and 30 ms.
    bench.begin_as(40_000, after(&first, load(0, 40, 1_000, 500)), 1);
    assert_eq!(bench.ends()[1], (1, 130_000, Fate::Done));
    assert_eq!(bench.ended[1].1.usage.throttled, Span::millis(50));
    // Another sandbox has a quota of its own.
    let mut bench = vm(2_000);
    bench.begin_as(0, load(0, 40, 1_000, 500), 0);
    bench.begin_as(40_000, load(0, 40, 1_000, 500), 1);
    assert_eq!(bench.ends()[1], (1, 80_000, Fate::Done));
}

#[test]
fn runs_in_a_row_take_what_a_slower_core_would_take() {
    let mut bench = vm(2_000);
    let one = load(0, 30, 1_000, 250);
    bench.begin_as(0, one, 0);
    for number in 1..100 {
        while bench.ended.len() < number {
            let next = bench.plans.iter().map(|plan| plan.at.0).min().unwrap();
            bench.until(next);
        }
        let (at, last) = bench.ended[number - 1];
        bench.begin_as(at, after(&last, one), number);
    }
    let ends = bench.ends();
    let all: u64 = ends.last().unwrap().1;
    // A hundred runs of 30 ms at a quarter of a core are 12 s; the last does not wait for the end of its period.
    assert!((11_900_000..=12_000_000).contains(&all), "{all}");
}

#[test]
fn a_quota_that_is_written_in_the_middle_of_a_period_is_whole_at_once() {
    let mut bench = vm(2_000);
    let task = bench.begin_as(0, load(0, 100, 1_000, 500), 0);
    // Stopped since 50 ms; from 60 ms on it may use 20 ms, from 100 ms on again, and at 200 ms it needs 10 ms more.
    bench.until(60_000);
    bench.machine.resize(Moment(60_000), task, Resources::new(200, 100), 200, &mut bench.plans);
    assert_eq!(bench.machine.sample(Moment(70_000), task).unwrap().given, 60_000 * CORE_US);
    assert_eq!(bench.ends(), [(0, 210_000, Fate::Done)]);
    // The same again is not written.
    let mut bench = vm(2_000);
    let task = bench.begin_as(0, load(0, 60, 1_000, 500), 0);
    bench.until(60_000);
    bench.machine.resize(Moment(60_000), task, Resources::new(500, 200), 500, &mut bench.plans);
    assert_eq!(bench.ends(), [(0, 110_000, Fate::Done)]);
}

#[test]
fn a_crowded_vm_stops_all_when_its_own_quota_is_used_up() {
    let mut bench = vm(500);
    for number in 0..3 {
        bench.begin_as(0, load(0, 40, 1_000, 500), number);
    }
    // Three on two cores: 50 ms of CPU are used up after 25 ms, each having had 16 2/3 of its 40. From 100 ms on the same; the
    // 20 ms that are left are done from 200 ms on, on two cores.
    let ends = bench.ends();
    for (number, at, fate) in ends {
        assert_eq!((at.abs_diff(210_000) <= 2, fate), (true, Fate::Done), "{number} at {at}");
    }
}

#[test]
fn a_vm_that_shrinks_goes_on_with_its_new_quota_at_once() {
    let mut bench = vm(1_000);
    bench.begin_as(0, load(0, 180, 2_000, 2_000), 0);
    bench.until(60_000);
    // 100 ms had been used by 50 ms. A quarter of a core: 25 ms at once, on both cores, and the same at 100, 200 and 300 ms; 5 are left for 400.
    bench.machine.set_capacity(Moment(60_000), MilliCores(250), &mut bench.plans);
    assert_eq!(bench.ends(), [(0, 302_500, Fate::Done)]);
    let reading = bench.machine.read(Moment(302_500));
    assert!(reading.delivered <= reading.could, "{reading:?}");
}

#[test]
fn who_works_at_a_pace_makes_up_what_it_missed() {
    // A tenth of a core on a VM that another stops from 25 to 100 ms: at 100 ms it has missed 7.5 ms of CPU.
    let mut bench = vm(500);
    bench.begin_as(0, load(0, 40, 100, 500), 0);
    bench.begin_as(0, load(0, 50, 2_000, 500), 1);
    let ends = bench.ends();
    assert!(ends[0].1.abs_diff(400_000) <= 10, "as if there had been no pause: {ends:?}");
    assert!(ends[1].1 > 100_000, "{ends:?}");
}

#[test]
fn the_meter_sees_what_was_used_in_its_samples() {
    let used = |cpu| {
        let mut bench = vm(2_000);
        bench.begin_as(0, load(0, cpu, 1_000, 500), 0);
        bench.ends();
        let usage = bench.ended[0].1.usage;
        assert_eq!(usage.cpu_time, Span::millis(cpu));
        (usage.cpu_peak, usage.throttled)
    };
    // Ends at 510 ms: over a hundred milliseconds it never has more than its quota, and 260 in 510 over all.
    assert_eq!(used(260), (MilliCores(509), Span::millis(250)));
    // Ends at 550 ms: in the 30 ms after the last sample it had a whole core, and the live meter takes that for a peak.
    assert_eq!(used(300), (MilliCores(1_000), Span::millis(250)));
}

/// One run: begins, CPU, threads, ceiling in quarters of a core, phase of its sandbox.
type Run = (u64, u64, u64, u64, u64);

/// In steps of 10 us, of which each gives a core 10 units: who may goes on until a quota is used up. Two runs on two cores at most: nobody's part
/// is a fraction.
fn naive(capacity: u64, runs: &[Run]) -> Vec<u64> {
    let each = |quarters: u64| quarters * 25_000;
    let mut left: Vec<u64> = runs.iter().map(|run| run.1 * 1_000).collect();
    let mut quotas: Vec<u64> = runs.iter().map(|run| each(run.3)).collect();
    let (mut of_vm, mut ended, mut step) = (each(capacity), vec![0; runs.len()], 0_u64);
    while ended.contains(&0) {
        let ms = step / 100;
        let begins = |phase: u64| step.is_multiple_of(100) && ms % 100 == phase;
        if begins(0) {
            of_vm = each(capacity);
        }
        for (quota, run) in quotas.iter_mut().zip(runs).filter(|(_, run)| begins(run.4)) {
            *quota = each(run.3);
        }
        let may = |index: &usize| runs[*index].0 <= ms && left[*index] > 0 && quotas[*index] > 0;
        let turn: Vec<usize> = (0..runs.len()).filter(may).collect();
        let cores = if turn.len() == 2 { 1 } else { 2 };
        let given: Vec<u64> =
            turn.iter().map(|&index| (runs[index].2.min(cores) * 10).min(quotas[index])).collect();
        let together: u64 = given.iter().sum();
        step += 1;
        if of_vm >= together {
            of_vm -= together;
            for (index, given) in turn.into_iter().zip(given) {
                left[index] = left[index].saturating_sub(given);
                quotas[index] -= given;
                if left[index] == 0 {
                    ended[index] = step * 10;
                }
            }
        }
    }
    ended
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn periods_agree_with_a_naive_integrator(
        capacity in 1_u64..8,
        mut runs in prop::collection::vec((0_u64..120, 1_u64..80, 1_u64..3, 1_u64..8, 0_u64..100), 1..3),
    ) {
        runs.sort_unstable();
        let mut bench = vm(250 * capacity as u32);
        for (number, &(at, cpu, threads, ceiling, phase)) in runs.iter().enumerate() {
            let one = load(0, cpu, 1_000 * threads as u32, 250 * ceiling as u32);
            let one = Load { weight: 1, quota: Quota::new(Span::millis(phase)), ..one };
            bench.begin_as(at * 1_000, one, number);
        }
        let naive = naive(capacity, &runs);
        for (number, at, fate) in bench.ends() {
            prop_assert_eq!(fate, Fate::Done);
            prop_assert!(at.abs_diff(naive[number]) <= 10, "run {}: {} us, naively {} us", number, at, naive[number]);
        }
    }
}
