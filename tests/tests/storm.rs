//! Storms of half a minute, from fixed seeds; `sh chaos/storm.sh` is the long one.
#![allow(missing_docs)]

use std::sync::Arc;

use chaos::live::{Report, function, functions, play};
use chaos::scenario::Scenario;
use windfall_tests::{Cluster, Plan};

async fn storm(text: &str, seed: u64) -> Report {
    let scenario = Scenario::from_toml(text).expect("it is checked");
    let plan = Plan {
        vms: scenario.vms,
        frontends: scenario.house.frontends as usize,
        controllers: scenario.house.controllers as usize,
        monitors: scenario.house.monitors as usize,
        wires: true,
        clocks: true,
        ..Plan::default()
    };
    let cluster = Cluster::of(plan).await;
    for name in functions(&scenario) {
        cluster.http.deploy(&name, &function()).await;
    }
    let file = format!("windfall-storm-{}-{}.jsonl", scenario.name, std::process::id());
    let log = std::env::temp_dir().join(file);
    println!("scenario {}, seed {seed}, event log {}", scenario.name, log.display());
    let say = Arc::new(|line: String| println!("{line}"));
    let report = play(&cluster.house().await, &scenario, seed, &log, say).await.expect("it is played");
    println!("{report}");
    assert!(report.is_good(), "seed {seed}, event log {}", log.display());
    assert_eq!(report.failed, 0, "{:?}", report.left_out);
    assert!(report.accepted > 50 && report.ended == report.accepted);
    let _ = std::fs::remove_file(log);
    report
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_or_kept_twice_when_vms_die_are_warned_and_hang_under_load() {
    let report = storm(include_str!("../../chaos/scenarios/quick.toml"), 4).await;
    assert_eq!(report.evictions, 3, "{:?}", report.left_out);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_or_kept_twice_when_ways_are_cut_and_whoever_decides_sleeps() {
    let report = storm(include_str!("../../chaos/scenarios/links-quick.toml"), 3).await;
    assert_eq!(report.left_out, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_or_kept_twice_when_wall_clocks_jump_by_hours_and_back() {
    if chaos::clocks::library().is_none() {
        println!("skipped: libfaketime is not here (Debian's package of that name)");
        return;
    }
    let report = storm(include_str!("../../chaos/scenarios/clocks.toml"), 1).await;
    assert_eq!(report.left_out, [""; 0]);
}
