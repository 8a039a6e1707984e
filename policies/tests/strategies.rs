//! What the reliability strategies keep on harvest VMs, and what they lose there, on applications with heavy tails.
//!
//! **Knows:** each invocation is assigned by what was learned before it, so that nobody knows the future. It is lost if its VM is
//! given notice while it runs, except in its last `GRACE` seconds.
//! **Promises:** the same invocations for every strategy; losses are expected values, so that no chance of evictions is in them.
//! **Gives up:** places: there is always room on either kind of VM. Durations are drawn, not SOSP'21's; the published shares are of its
//! trace.
//!
//! Lost for good is what was lost where nothing is run again: SOSP'21 has no second run, ours has one where the function allows it.
//! So that it can be seen what is the assignment's work and what the second run's, each strategy is played both ways, and with
//! one function in ten that must not run twice, or all of them.
//! `cargo test -p policies --test strategies -- --nocapture` prints the table (`docs/figures/strategies.md`).

use policies::reliability::{self, Case, GRACE, Hazard, Rate, Tails};
use vocabulary::{FunctionCard, FunctionId, OnEviction, Resources, Revision, Span, VmKind};

struct Chance(u64);

impl Chance {
    fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn normal(&mut self) -> f64 {
        (-2.0 * (1.0 - self.unit()).ln()).sqrt() * (std::f64::consts::TAU * self.unit()).cos()
    }
}

const APPS: usize = 300;
const INVOCATIONS: usize = 400_000;
const LIMIT: f64 = 600.0;
/// A hundred times as many evictions as SOSP'21 measured: a mean life of 61.5 days made 14.76 hours.
const LIFE: Span = Span::seconds(53_136);

/// Few applications are called often and are short, many are rare and long: (weight, median in seconds, sigma).
fn applications(chance: &mut Chance) -> Vec<(f64, f64, f64)> {
    (0..APPS)
        .map(|_| {
            let median = 10_f64.powf(-3.0 + 4.6 * chance.unit());
            (1.0 / (0.02 + median) * (0.1 + chance.unit()), median, 0.6 + chance.unit())
        })
        .collect()
}

/// Which functions must not run twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Never {
    OneInTen,
    All,
}

fn card(app: usize, never: Never) -> FunctionCard {
    FunctionCard {
        id: FunctionId(app as u64),
        revision: Revision(1),
        reservation: Resources::new(1_000, 256),
        timeout: Span::seconds(LIMIT as u64),
        on_eviction: if never == Never::All || app.is_multiple_of(10) {
            OnEviction::Never
        } else {
            OnEviction::Rerun
        },
        application: None,
    }
}

/// What came of a strategy.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Outcome {
    /// Share of computation on harvest VMs.
    share: f64,
    /// Share of invocations that are lost once.
    hit: f64,
    /// Share of invocations that are lost for good where what may run again does, once.
    lost: f64,
    /// Share of computation on harvest VMs that is in vain, at most: all of a run that is hit.
    wasted: f64,
}

fn play(strategy: &str, never: Never, seed: u64) -> Outcome {
    let strategy = reliability::by_name(strategy).unwrap();
    let mut chance = Chance(seed);
    let apps = applications(&mut chance);
    let mut sums: Vec<f64> = Vec::new();
    for &(weight, ..) in &apps {
        sums.push(weight + sums.last().copied().unwrap_or(0.0));
    }
    let mut tails = vec![Tails::default(); APPS];
    // What the fleet has shown in a while.
    let mut hazard = Hazard::new(Span::seconds(24 * 3_600));
    for _ in 0..200 {
        hazard.watched(Span::ZERO, LIFE);
        hazard.evicted(LIFE);
    }
    let (evictions, truth) = (hazard.overall(), Rate::once_in(LIFE).0 as f64 / 1e9);
    let (mut on_harvest, mut all, mut once, mut lost, mut wasted) = (0.0, 0.0, 0.0, 0.0, 0.0);
    for _ in 0..INVOCATIONS {
        let draw = chance.unit() * sums[APPS - 1];
        let app = sums.partition_point(|&sum| sum <= draw).min(APPS - 1);
        let (_, median, sigma) = apps[app];
        let seconds = (median * (sigma * chance.normal()).exp()).min(LIMIT);
        let function = card(app, never);
        let (application, ran) = (&tails[app], Span::ZERO);
        let kinds = strategy.kinds(Case { function: &function, application, ran, evictions });
        all += seconds;
        if kinds.first() == VmKind::Harvest {
            on_harvest += seconds;
            let hit = truth * (seconds - GRACE.as_seconds()).max(0.0);
            let again = function.on_eviction != OnEviction::Never;
            once += hit;
            lost += if again { hit * hit } else { hit };
            wasted += hit * seconds;
        }
        tails[app].learn(Span((seconds * 1e6) as u64));
    }
    let calls = INVOCATIONS as f64;
    Outcome {
        share: on_harvest / all,
        hit: once / calls,
        lost: lost / calls,
        wasted: wasted / on_harvest.max(1.0),
    }
}

const STRATEGIES: [&str; 5] =
    ["no-failure", "bounded(99.9)", "bounded(99)", "live-and-let-die", "expected-loss(0.1)"];

#[test]
fn by_expected_loss_nine_tenths_stay_on_harvest_vms_and_fewer_are_lost_than_with_any_of_sosp21() {
    println!(
        "| seed | must not run twice | strategy | computation on harvest VMs | lost, nothing run again | lost, with a second run | in vain |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- |");
    for seed in [1, 2, 3] {
        for never in [Never::OneInTen, Never::All] {
            let outcomes = STRATEGIES.map(|name| play(name, never, seed));
            for (name, Outcome { share, hit, lost, wasted }) in STRATEGIES.into_iter().zip(outcomes) {
                println!(
                    "| {seed} | {never:?} | {name} | {:.1} % | {hit:.1e} | {lost:.1e} | {wasted:.1e} |",
                    share * 100.0
                );
            }
            let [no_failure, bounded, looser, all, ours] = outcomes;
            // SOSP'21's rank as published: who keeps more there is hit more.
            let theirs = [no_failure, bounded, looser, all];
            assert!(
                theirs.is_sorted_by(|a, b| a.share <= b.share && a.hit <= b.hit),
                "seed {seed}: {theirs:?}"
            );
            assert!(ours.share >= 0.9, "seed {seed}: {ours:?}");
            assert!(ours.hit <= 1e-3, "no more than bounded(99.9) allows, seed {seed}: {ours:?}");
            if never == Never::OneInTen {
                // As SOSP'21 plays it, without a second run, against ours with one.
                assert!(ours.lost <= bounded.hit, "seed {seed}: {ours:?} {bounded:?}");
            }
        }
    }
}
