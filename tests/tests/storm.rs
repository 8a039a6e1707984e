//! Storms of half a minute and, as root, one of two minutes, from fixed seeds; `sh chaos/storm.sh` is the long one.
#![allow(missing_docs)]

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use chaos::live::{Report, function, functions, play};
use chaos::scenario::Scenario;
use windfall_tests::{Cluster, Plan, binary, is_root};

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
async fn nothing_is_lost_or_kept_twice_when_connections_break_and_lose_what_is_on_its_way() {
    let report = storm(include_str!("../../chaos/scenarios/breaks.toml"), 1).await;
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

#[test]
fn nothing_is_lost_or_kept_twice_in_a_storm_of_two_minutes_on_machines_with_networks_of_their_own() {
    let may = |words: &[&str]| {
        Command::new(words[0]).args(&words[1..]).status().is_ok_and(|status| status.success())
    };
    if !is_root() || !may(&["unshare", "--net", "--mount", "ip", "link"]) {
        println!(
            "skipped: only root, where namespaces may be made, can evict machines with networks of their own"
        );
        return;
    }
    let house = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut storm = Command::new("sh");
    storm
        .args(["chaos/storm.sh", "--short", "--seed", "1"])
        .current_dir(house)
        .env("WINDFALL_BINARY", binary());
    let output = storm.output().expect("sh runs");
    let said = String::from_utf8_lossy(&output.stdout);
    println!("{said}");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("| evictions | 20 |") && said.contains("| faults made, left out | 30, 0 |"));
}
