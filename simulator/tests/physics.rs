//! What a VM does to the work on it, against hand-computed cases and against a naive integrator.

#[path = "physics/bench.rs"]
mod bench;

use bench::{Bench, load};
use proptest::prelude::*;
use simulator::physics::{CORE_US, Fate, Load, Quotas, RUNTIME_MEMORY};
use vocabulary::{Mebibytes, MilliCores, Moment, Resources, Span};

/// Quotas flow.
fn vm(millicores: u32) -> Bench {
    Bench::with_quotas(millicores, Quotas::Flow)
}

#[test]
fn alone_a_run_takes_its_waiting_and_its_computing_at_what_it_may_and_can_use() {
    for (saturation, ceiling, expected) in
        [(1_000, 1_000, 300), (4_000, 1_000, 300), (1_000, 4_000, 300), (2_000, 4_000, 200), (500, 250, 900)]
    {
        let mut bench = vm(8_000);
        bench.begin_as(0, load(100, 200, saturation, ceiling), 0);
        assert_eq!(bench.ends(), [(0, expected * 1_000, Fate::Done)], "{saturation} {ceiling}");
    }
}

#[test]
fn two_on_one_core_share_it_and_who_is_left_has_it_alone() {
    let mut bench = vm(1_000);
    bench.begin_as(0, load(0, 100, 1_000, 1_000), 0);
    bench.begin_as(50_000, load(0, 100, 1_000, 1_000), 1);
    // The first has 50 ms left when the second comes: both at half speed until 150 ms; then 50 ms are left of the second.
    assert_eq!(bench.ends(), [(0, 150_000, Fate::Done), (1, 200_000, Fate::Done)]);
}

#[test]
fn a_weight_of_three_has_three_quarters() {
    let mut bench = vm(1_000);
    let heavy = Load { weight: 3, ..load(0, 75, 1_000, 1_000) };
    let light = Load { weight: 1, ..load(0, 75, 1_000, 1_000) };
    bench.begin_as(0, heavy, 0);
    bench.begin_as(0, light, 1);
    // 75 ms at three quarters are 100 ms; the other has 50 ms left then.
    assert_eq!(bench.ends(), [(0, 100_000, Fate::Done), (1, 150_000, Fate::Done)]);
}

#[test]
fn who_waits_is_in_nobodys_way() {
    let mut bench = vm(1_000);
    bench.begin_as(0, load(0, 100, 1_000, 1_000), 0);
    bench.begin_as(0, load(100, 100, 1_000, 1_000), 1);
    assert_eq!(bench.ends(), [(0, 100_000, Fate::Done), (1, 200_000, Fate::Done)]);
}

#[test]
fn a_shrunken_vm_is_slower_and_a_grown_one_fast_again() {
    let mut bench = vm(2_000);
    bench.begin_as(0, load(0, 200, 1_000, 1_000), 0);
    bench.begin_as(0, load(0, 200, 1_000, 1_000), 1);
    bench.until(100_000);
    bench.machine.set_capacity(Moment(100_000), MilliCores(500), &mut bench.plans);
    bench.until(200_000);
    bench.machine.set_capacity(Moment(200_000), MilliCores(2_000), &mut bench.plans);
    // 100 ms done, 100 ms at a quarter, then 75 ms.
    assert_eq!(bench.ends(), [(0, 275_000, Fate::Done), (1, 275_000, Fate::Done)]);
}

#[test]
fn what_is_killed_frees_its_cpu_at_once() {
    let mut bench = vm(1_000);
    let first = bench.begin_as(0, load(0, 100, 1_000, 1_000), 0);
    bench.begin_as(0, load(0, 100, 1_000, 1_000), 1);
    bench.until(100_000);
    let killed = bench.machine.kill(Moment(100_000), first, &mut bench.plans).unwrap();
    assert_eq!((killed.fate, killed.delivered), (Fate::Killed, 50_000 * CORE_US));
    assert_eq!(bench.ends(), [(1, 150_000, Fate::Done)]);
}

#[test]
fn too_little_memory_kills_where_the_ramp_crosses_the_ceiling_and_a_larger_ceiling_in_time_saves() {
    let small = Load { ceiling: Resources::new(1_000, 58), ..load(0, 1_000, 1_000, 1_000) };
    let mut bench = vm(1_000);
    bench.begin_as(0, small, 0);
    // From 16 to 100 MiB in the first half of 1,000 ms; 58 is half of the way.
    assert_eq!(RUNTIME_MEMORY, Mebibytes(16));
    assert_eq!(bench.ends(), [(0, 250_000, Fate::OutOfMemory)]);
    assert_eq!(bench.ended[0].1.usage.memory_peak, Mebibytes(58));

    let mut bench = vm(1_000);
    let task = bench.begin_as(0, small, 0);
    bench.until(200_000);
    let ceiling = Resources::new(1_000, 100);
    bench.machine.resize(Moment(200_000), task, ceiling, 1_000, &mut bench.plans);
    assert_eq!(bench.ends(), [(0, 1_000_000, Fate::Done)]);
    assert_eq!(bench.ended[0].1.usage.memory_peak, Mebibytes(100));
}

#[test]
fn a_run_that_takes_too_long_is_ended_crowded_or_not() {
    let hasty = Load { timeout: Span::millis(150), ..load(0, 100, 1_000, 1_000) };
    let mut bench = vm(500);
    bench.begin_as(0, hasty, 0);
    assert_eq!(bench.ends(), [(0, 150_000, Fate::TimedOut)]);
    let mut bench = vm(1_000);
    bench.begin_as(0, Load { timeout: Span::millis(50), ..hasty }, 0);
    assert_eq!(bench.ends(), [(0, 50_000, Fate::TimedOut)]);
}

#[test]
fn usage_is_what_the_live_meter_would_see() {
    // 100 ms of waiting and 200 ms at two cores, of four that it could use.
    let mut bench = vm(8_000);
    bench.begin_as(0, load(100, 400, 4_000, 2_000), 0);
    bench.ends();
    let usage = bench.ended[0].1.usage;
    assert_eq!(usage.cpu_time, Span::millis(400));
    assert_eq!(usage.cpu_peak, MilliCores(2_000));
    assert_eq!(usage.throttled, Span::millis(100), "half of each period it had used up its quota");
    assert_eq!(usage.memory_peak, Mebibytes(100));
    // Too short to be sampled: the peak is the mean.
    let mut bench = vm(8_000);
    bench.begin_as(0, load(5, 10, 1_000, 1_000), 0);
    bench.ends();
    assert_eq!(bench.ended[0].1.usage.cpu_peak, MilliCores(666));
}

#[derive(Debug, Clone)]
enum Step {
    Begin { io: u64, cpu: u64, saturation: u32, ceiling: u32, weight: u64 },
    Capacity(u32),
    Resize { which: usize, ceiling: u32, weight: u64 },
}

fn steps() -> impl Strategy<Value = Vec<(u64, Step)>> {
    let begin = (0_u64..60, 0_u64..200, 1_u32..8, 1_u32..8, 1_u64..5).prop_map(
        |(io, cpu, saturation, ceiling, weight)| Step::Begin {
            io,
            cpu,
            saturation: saturation * 500,
            ceiling: ceiling * 500,
            weight,
        },
    );
    let capacity = (0_u32..10).prop_map(|cores| Step::Capacity(cores * 500));
    let resize = (0_usize..20, 1_u32..8, 1_u64..5).prop_map(|(which, ceiling, weight)| Step::Resize {
        which,
        ceiling: ceiling * 500,
        weight,
    });
    prop::collection::vec((0_u64..50, prop_oneof![4 => begin, 1 => capacity, 1 => resize]), 1..25)
}

/// One run of the naive integrator: everything in steps of 100 us, in floating point.
struct Naive {
    io: f64,
    cpu: f64,
    saturation: f64,
    ceiling: f64,
    weight: f64,
    ended: Option<f64>,
}

/// Shares by trying levels: bisection, nothing in common with the machine's way.
fn naive_rates(capacity: f64, runs: &[&Naive]) -> Vec<f64> {
    let limit = |run: &Naive| run.saturation.min(run.ceiling);
    if runs.iter().map(|run| limit(run)).sum::<f64>() <= capacity {
        return runs.iter().map(|run| limit(run)).collect();
    }
    let (mut low, mut high) = (0.0, 1e6);
    for _ in 0..80 {
        let level = (low + high) / 2.0;
        let given: f64 = runs.iter().map(|run| limit(run).min(level * run.weight)).sum();
        if given > capacity { high = level } else { low = level }
    }
    runs.iter().map(|run| limit(run).min(low * run.weight)).collect()
}

fn naive(steps: &[(u64, Step)]) -> Vec<Option<f64>> {
    const STEP: f64 = 0.1;
    let (mut runs, mut capacity, mut now): (Vec<Naive>, f64, f64) = (Vec::new(), 2.0, 0.0);
    let mut pass = |runs: &mut Vec<Naive>, capacity: f64, until: f64| {
        while now < until - STEP / 2.0 && (until < 1e5 || runs.iter().any(|run| run.ended.is_none())) {
            now += STEP;
            for run in runs.iter_mut().filter(|run| run.ended.is_none() && run.io > 1e-9) {
                run.io -= STEP;
                if run.io <= 1e-9 && run.cpu <= 1e-9 {
                    run.ended = Some(now);
                }
            }
            let computes = |run: &&Naive| run.ended.is_none() && run.io <= 1e-9;
            let rates = naive_rates(capacity, &runs.iter().filter(computes).collect::<Vec<_>>());
            let mut rates = rates.into_iter();
            for run in runs.iter_mut() {
                if computes(&&*run) {
                    run.cpu -= rates.next().unwrap() * STEP;
                    if run.cpu <= 1e-9 {
                        run.ended = Some(now);
                    }
                }
            }
        }
    };
    let mut at = 0;
    for (after, step) in steps {
        at += after;
        pass(&mut runs, capacity, at as f64);
        match *step {
            Step::Begin { io, cpu, saturation, ceiling, weight } => runs.push(Naive {
                io: io as f64,
                cpu: cpu as f64,
                saturation: f64::from(saturation) / 1e3,
                ceiling: f64::from(ceiling) / 1e3,
                weight: weight as f64,
                ended: (io == 0 && cpu == 0).then_some(at as f64),
            }),
            Step::Capacity(millicores) => capacity = f64::from(millicores) / 1e3,
            Step::Resize { which, ceiling, weight } => {
                let count = runs.len().max(1);
                if let Some(run) = runs.get_mut(which % count) {
                    (run.ceiling, run.weight) = (f64::from(ceiling) / 1e3, weight as f64);
                }
            }
        }
    }
    // In the end there is enough for all.
    pass(&mut runs, 100.0, 1e6);
    runs.into_iter().map(|run| run.ended).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn the_machine_agrees_with_a_naive_integrator_and_gives_no_more_than_it_has(steps in steps()) {
        let mut bench = vm(2_000);
        let (mut at, mut tasks) = (0, Vec::new());
        let mut asked = 0;
        for (after, step) in &steps {
            at += after * 1_000;
            bench.until(at);
            let now = Moment(at);
            match *step {
                Step::Begin { io, cpu, saturation, ceiling, weight } => {
                    let number = tasks.len();
                    asked += cpu * 1_000 * CORE_US;
                    let load = Load { weight, ..load(io, cpu, saturation, ceiling) };
                    tasks.push(bench.begin_as(at, load, number));
                }
                Step::Capacity(cpu) => bench.machine.set_capacity(now, MilliCores(cpu), &mut bench.plans),
                Step::Resize { which, ceiling, weight } if !tasks.is_empty() => {
                    let which = which % tasks.len();
                    // A place may be another's by now: only those that still run are resized.
                    if bench.ended.iter().all(|(_, ended)| ended.payload != which) {
                        let ceiling = Resources::new(ceiling, 100);
                        bench.machine.resize(now, tasks[which], ceiling, weight, &mut bench.plans);
                    }
                }
                Step::Resize { .. } => {}
            }
        }
        bench.until(at);
        bench.machine.set_capacity(Moment(at), MilliCores(100_000), &mut bench.plans);
        let ends = bench.ends();
        let naive = naive(&steps);
        prop_assert_eq!(ends.len(), naive.len());
        let last = ends.iter().map(|&(_, at, _)| at).max().unwrap_or(0);
        let given = bench.machine.read(Moment(last.max(at)));
        prop_assert!(given.delivered <= given.could);
        prop_assert_eq!(given.delivered, asked, "work done is work asked for");
        for ((number, at, fate), naive) in ends.into_iter().zip(naive) {
            prop_assert_eq!(fate, Fate::Done);
            let (exact, naive) = (at as f64 / 1e3, naive.unwrap());
            // A step of the integrator for each change of the set that it has been through.
            let tolerance = 0.1 * (steps.len() as f64 * 2.0 + 2.0) + exact * 1e-3;
            prop_assert!((exact - naive).abs() <= tolerance, "run {number}: {exact} ms, naively {naive} ms");
        }
    }
}
