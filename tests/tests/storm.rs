//! A storm in half a minute, from a fixed seed; `sh chaos/storm.sh` is the long one.
#![allow(missing_docs)]

use std::sync::Arc;

use chaos::live::{LONG, SHORT, function, play};
use chaos::scenario::Scenario;
use windfall_tests::{Cluster, Plan};

const SEED: u64 = 4;

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_or_kept_twice_when_vms_die_are_warned_and_hang_under_load() {
    let scenario =
        Scenario::from_toml(include_str!("../../chaos/scenarios/quick.toml")).expect("it is checked");
    let cluster = Cluster::of(Plan { vms: scenario.vms, ..Plan::default() }).await;
    for name in [SHORT, LONG] {
        cluster.http.deploy(name, &function()).await;
    }
    let log = std::env::temp_dir().join(format!("windfall-storm-{}.jsonl", std::process::id()));
    println!("scenario quick, seed {SEED}, event log {}", log.display());
    let say = Arc::new(|line: String| println!("{line}"));
    let report = play(&cluster.house().await, &scenario, SEED, &log, say).await.expect("it is played");
    println!("{report}");
    assert!(report.is_good(), "seed {SEED}, event log {}", log.display());
    assert_eq!((report.evictions, report.failed), (3, 0), "{:?}", report.left_out);
    assert!(report.accepted > 50 && report.ended == report.accepted);
    let _ = std::fs::remove_file(log);
}
