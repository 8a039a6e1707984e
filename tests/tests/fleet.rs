//! How many VMs there are, and of which kind: as the load and the reliability strategy have it.
#![allow(missing_docs)]

use std::time::{Duration, Instant};

use serde_json::json;
use vocabulary::VmKind;
use windfall_tests::functions::{SLEEP, python, small, with};
use windfall_tests::load::{Load, Through};
use windfall_tests::{Cluster, Plan, annotation, eventually};

/// One VM of one core at first, at most four, and nobody stays for long without work.
fn follows_the_load(strategy: &str) -> Plan {
    let settings = vec![
        ("resource_monitor.fleet", "load-aware".to_owned()),
        ("resource_monitor.most_cpu", "4000".to_owned()),
        ("resource_monitor.most_memory", "8192".to_owned()),
        ("resource_monitor.idle_for_ms", "3000".to_owned()),
        ("controller.reliability", strategy.to_owned()),
    ];
    Plan { vms: 1, settings, ..Plan::default() }.everybody_its_reservation()
}

async fn kinds(cluster: &Cluster) -> (usize, usize) {
    let vms = cluster.open_vms().await;
    let of = |kind| vms.iter().filter(|vm| vm.kind == kind).count();
    (of(VmKind::Harvest), of(VmKind::Regular))
}

/// On which kind of VM a call was run, of those that are there now.
async fn kind_of(cluster: &Cluster, id: &str) -> VmKind {
    let record = cluster.http.record(id).await;
    let ours = annotation(&record, "windfall").expect("what Windfall did").clone();
    let fleet = cluster.fleet().await;
    let vm = fleet.iter().find(|vm| ours["vm"] == json!(vm.vm.to_string()));
    vm.unwrap_or_else(|| panic!("{ours} is of none of {fleet:?}")).kind
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fleet_grows_while_calls_wait_and_shrinks_when_nobody_calls() {
    let cluster = Cluster::of(follows_the_load("live-and-let-die")).await;
    let half = json!({ "limits": { "memory": 128, "cpu": 500 } });
    cluster.http.deploy("sleep", &with(python(SLEEP), half)).await;
    let load = Load::start(&cluster, "sleep", json!({ "seconds": 0.5 }), &[(Through::Nats, 12)]).await;
    eventually("as many VMs as it may have", async || kinds(&cluster).await == (4, 0)).await;
    load.goes_on(60).await;
    assert_eq!(kinds(&cluster).await, (4, 0), "no more than the most");
    load.finish().await.all_were_answered_once_with_success(&cluster).await;
    let idle = Instant::now();
    while kinds(&cluster).await != (1, 0) {
        assert!(idle.elapsed() < Duration::from_secs(240), "{:?}", cluster.open_vms().await);
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    println!("down to one VM {:?} after the last call", idle.elapsed());
    let door = cluster.nats().await;
    let answer = door.call("sleep", &json!({ "seconds": 0.1 })).await.expect("an answer");
    assert_eq!(answer.status, "success", "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_run_for_longer_than_a_notice_has_a_regular_vm_until_it_is_known_to_be_short() {
    for strategy in ["no-failure", "bounded(99.9)"] {
        let cluster = Cluster::of(follows_the_load(strategy)).await;
        assert_eq!(kinds(&cluster).await, (1, 0));
        let limited = json!({ "limits": { "memory": 128, "cpu": 100, "timeout": 20_000 } });
        cluster.http.deploy("bounded", &with(python(SLEEP), limited)).await;
        cluster.http.deploy("unknown", &small(SLEEP)).await;
        let door = cluster.nats().await;
        let call = async |name: &str| {
            let answer = door.call(name, &json!({ "seconds": 0.05 })).await.expect("an answer");
            assert_eq!(answer.status, "success", "{answer:?}");
            kind_of(&cluster, &answer.id).await
        };
        assert_eq!(call("bounded").await, VmKind::Harvest, "its time limit is shorter than a notice");
        let asked = Instant::now();
        assert_eq!(call("unknown").await, VmKind::Regular, "it might run for longer");
        println!("{strategy}: a regular VM was started for it within {:?}", asked.elapsed());
        assert_eq!(kinds(&cluster).await, (1, 1));
        assert_eq!(call("unknown").await, VmKind::Harvest, "it is known to be short");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fleet_of_none_has_one_as_soon_as_somebody_calls() {
    let mut plan = Plan { vms: 0, ..follows_the_load("expected-loss") };
    let none = ["resource_monitor.least_cpu", "resource_monitor.least_memory"];
    plan.settings.extend(none.map(|least| (least, "0".to_owned())));
    let cluster = Cluster::of(plan).await;
    cluster.http.deploy("sleep", &small(SLEEP)).await;
    // Longer than a VM is waited for after the last one was there.
    tokio::time::sleep(Duration::from_secs(11)).await;
    assert_eq!(kinds(&cluster).await, (0, 0));
    let door = cluster.nats().await;
    let asked = Instant::now();
    let answer = door.call("sleep", &json!({ "seconds": 0.05 })).await.expect("an answer");
    assert_eq!(answer.status, "success", "{answer:?}");
    println!("from no VM to an answer: {:?}", asked.elapsed());
}
