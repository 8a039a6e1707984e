//! What is drawn, against what is published of it.

use std::path::PathBuf;

use simulator::machines::{Harvest, Lifetime, Spot};
use simulator::plan::{Machines, VmPlan};
use vocabulary::{Moment, Span};

const DAY: Span = Span::seconds(86_400);

fn plans(model: &Harvest, count: u32, seed: u64) -> Vec<VmPlan> {
    model.fleet(count, seed).given()
}

/// Published, drawn, and the most that they may differ.
fn near(what: &str, published: f64, drawn: f64, within: f64) {
    println!("{what:44} published {published:7.3}  drawn {drawn:7.3}  off by {:+7.3}", drawn - published);
    assert!((drawn - published).abs() <= within, "{what}: published {published}, drawn {drawn}");
}

#[test]
fn harvest_vms_change_as_published() {
    // Long enough for the longest interval, and nobody dies meanwhile.
    let model = Harvest {
        lifetime: Lifetime::forever(),
        until: Moment::ORIGIN + Span::seconds(400 * 86_400),
        ..Harvest::default()
    };
    let seed = 11;
    println!("seed {seed}");
    let plans = plans(&model, 600, seed);
    let never = plans.iter().filter(|plan| plan.changes.is_empty()).count() as f64 / plans.len() as f64;
    near("VMs that never change", 0.351, never, 0.05);
    let (mut intervals, mut sizes) = (Vec::new(), Vec::new());
    for plan in &plans {
        let (mut since, mut had) = (plan.starts_at, plan.size);
        for &(at, size) in &plan.changes {
            intervals.push(at.since(since).as_seconds());
            sizes.push((f64::from(size.cpu.0) - f64::from(had.cpu.0)) / 1000.0);
            (since, had) = (at, size);
            assert!((2_000..=40_000).contains(&size.cpu.0));
            assert_eq!(u64::from(size.memory.0), u64::from(size.cpu.0) * 4096 / 1000);
        }
    }
    intervals.sort_by(f64::total_cmp);
    let below = |seconds: f64| {
        intervals.partition_point(|&interval| interval < seconds) as f64 / intervals.len() as f64
    };
    near("intervals below a minute", 0.10, below(60.0), 0.01);
    near("intervals below ten minutes", 0.30, below(600.0), 0.01);
    near("intervals below an hour", 0.65, below(3_600.0), 0.02);
    near("intervals below a day", 0.97, below(86_400.0), 0.01);
    let mean = intervals.iter().sum::<f64>() / intervals.len() as f64;
    near("mean interval, hours", 17.8, mean / 3_600.0, 1.8);
    let size = sizes.iter().map(|size| size.abs()).sum::<f64>() / sizes.len() as f64;
    near("mean size of a change, cores", 12.0, size, 1.5);
    near(
        "share that grows",
        0.5,
        sizes.iter().filter(|&&s| s > 0.0).count() as f64 / sizes.len() as f64,
        0.02,
    );
    near("largest change, cores", 30.0, sizes.iter().fold(0.0, |most, size| size.abs().max(most)), 1.0);
}

#[test]
fn harvest_vms_are_evicted_as_published_and_a_hundred_times_as_often_if_wished() {
    let of = |rate: f64| {
        let model = Harvest { lifetime: Lifetime::harvest().times(rate), ..Harvest::default() };
        let plans = plans(&model, 4_000, 3);
        let gone: Vec<_> = plans.iter().filter_map(|plan| plan.gone).collect();
        assert!(gone.iter().all(|gone| gone.notice == Span::seconds(30)));
        gone.len() as f64 / 4_000.0
    };
    near("evicted within a day", 0.08, of(1.0), 0.015);
    near("the same, ten times as often", 1.0 - 0.92_f64.powi(10), of(10.0), 0.03);
    assert!(of(100.0) > 0.99);
}

#[test]
fn knobs_change_what_they_name_and_nothing_else() {
    let model = Harvest::default();
    let usual = plans(&model, 200, 5);
    let noticed_late = plans(&Harvest { notice: Span::ZERO, ..model.clone() }, 200, 5);
    for (usual, late) in usual.iter().zip(&noticed_late) {
        assert_eq!((usual.size, &usual.changes), (late.size, &late.changes));
        assert_eq!(usual.gone.map(|gone| gone.at), late.gone.map(|gone| gone.at));
    }
    let alike = plans(&Harvest { spread: 0.0, ..model.clone() }, 200, 5);
    assert!(alike.iter().all(|plan| plan.size == alike[0].size && plan.changes.is_empty()));
    for (usual, alike) in usual.iter().zip(&alike) {
        assert_eq!(usual.gone.map(|gone| gone.at), alike.gone.map(|gone| gone.at));
    }
    let variance = |plans: &[VmPlan]| {
        let cores: Vec<f64> = plans.iter().map(|plan| f64::from(plan.size.cpu.0) / 1e3).collect();
        let mean = cores.iter().sum::<f64>() / cores.len() as f64;
        cores.iter().map(|cores| (cores - mean).powi(2)).sum::<f64>() / cores.len() as f64
    };
    let half = plans(&Harvest { spread: 0.5, ..model.clone() }, 200, 5);
    assert!((variance(&half) / variance(&usual) - 0.25).abs() < 0.05);
    assert_eq!(plans(&model, 200, 5), usual, "one seed, one fleet");
    assert_ne!(plans(&model, 200, 6), usual);
}

#[test]
fn the_nth_vm_that_is_asked_for_has_one_fate_whenever_it_is_asked_for() {
    let lifetime = Lifetime::harvest().times(50.0);
    let model =
        Harvest { lifetime, until: Moment::ORIGIN + Span::seconds(40 * 86_400), ..Harvest::default() };
    let fates = |moments: [u64; 3]| {
        let mut fleet = model.fleet(0, 1);
        moments.map(|seconds| {
            let now = Moment::ORIGIN + Span::seconds(seconds);
            let plan = fleet.launch(now, vocabulary::VmKind::Harvest, vocabulary::Resources::ZERO).unwrap();
            assert_eq!(plan.starts_at, now + Span::seconds(60));
            (plan.size, plan.gone.map(|gone| gone.at.since(plan.starts_at)))
        })
    };
    assert_eq!(fates([0, 10, 20]), fates([5, 500, 501]));
}

#[test]
fn preemptible_lives_are_read_as_the_quantiles_that_stand_in_for_them() {
    let Some(folder) = std::env::var_os("WINDFALL_TRACES").map(PathBuf::from) else {
        println!("skipped: WINDFALL_TRACES does not name the folder of traces");
        return;
    };
    let lives = folder.join("vms/gcp_preemptible_lifetimes_2019.csv.gz");
    let (read, quantiles) = (Lifetime::read_preemptible(&lives).unwrap(), Lifetime::gcp_preemptible());
    for hours in [1.0, 6.0, 12.0, 23.9] {
        let age = Span((hours * 3.6e9) as u64);
        near(&format!("live longer than {hours} h"), quantiles.survival(age), read.survival(age), 0.01);
    }
    assert_eq!(read.hazard(DAY, Span::seconds(1)), 1.0);
    let spot = Spot::read(&folder.join("prices/aws_spot_advisor_2025-06-28.csv.gz")).unwrap();
    near("AWS: interrupted within a month", Spot::published().monthly(), spot.monthly(), 0.005);
    near("AWS: median saving", Spot::published().saving, spot.saving, 0.015);
}
