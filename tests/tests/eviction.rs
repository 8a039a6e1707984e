//! VMs that are taken away, shrink, or are told to go, under load: every answer is counted.
#![allow(missing_docs)]

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::json;
use vocabulary::{Mebibytes, MilliCores};
use windfall_tests::functions::{SLEEP, python, small, with};
use windfall_tests::load::{Load, Through};
use windfall_tests::{Cluster, Plan, annotation, eventually};

/// Small, so that several fit on a VM of one core and 1 GiB.
#[tokio::test(flavor = "multi_thread")]
async fn no_answer_is_lost_or_given_twice_when_vms_are_killed_under_load() {
    let cluster = Cluster::of(Plan { vms: 3, ..Plan::default() }).await;
    cluster.http.deploy("sleep", &small(SLEEP)).await;
    let first: BTreeSet<_> = cluster.open_vms().await.iter().map(|vm| vm.vm).collect();
    let load = Load::start(
        &cluster,
        "sleep",
        json!({ "seconds": 0.1 }),
        &[(Through::Http, 25), (Through::Nats, 25), (Through::Durable, 4)],
    )
    .await;
    // The busiest, twice, while everybody calls.
    for _ in 0..2 {
        load.goes_on(60).await;
        let mut vms = cluster.open_vms().await;
        vms.sort_by_key(|vm| (vm.running, vm.vm));
        cluster.kill_vm(vms.last().expect("somebody lives"));
    }
    load.goes_on(100).await;
    let done = load.finish().await;
    done.all_were_answered_once_with_success(&cluster).await;
    // Their places are taken by VMs that never were before.
    eventually("the fleet is whole again", async || cluster.open_vms().await.len() == 3).await;
    let last: BTreeSet<_> = cluster.open_vms().await.iter().map(|vm| vm.vm).collect();
    assert_eq!(last.difference(&first).count(), 2, "{first:?} became {last:?}");
    assert!(
        last.difference(&first).all(|new| first.iter().all(|old| new > old)),
        "an id was used again: {last:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drained_vm_finishes_its_work_and_goes() {
    let cluster = Cluster::of(Plan { vms: 2, ..Plan::default() }).await;
    cluster.http.deploy("sleep", &small(SLEEP)).await;
    let load =
        Load::start(&cluster, "sleep", json!({ "seconds": 0.2 }), &[(Through::Http, 10), (Through::Nats, 5)])
            .await;
    load.goes_on(40).await;
    let mut vms = cluster.open_vms().await;
    vms.sort_by_key(|vm| (vm.running, vm.vm));
    let drained = vms.last().expect("somebody lives").vm;
    let said = cluster.operate(&["vm", "drain", &drained.to_string(), "--leave"]).await;
    assert!(said.contains(&format!("{drained} drains")), "{said}");
    eventually("it has left, and another is there instead", async || {
        let vms = cluster.open_vms().await;
        vms.len() == 2 && vms.iter().all(|vm| vm.vm != drained)
    })
    .await;
    load.goes_on(40).await;
    let done = load.finish().await;
    done.all_were_answered_once_with_success(&cluster).await;
    // Nothing had to be run again: whatever it had begun it finished, whatever waited went back.
    for id in done.ids().take(60) {
        let record = cluster.http.record(id).await;
        let ours = annotation(&record, "windfall").expect("what Windfall did").clone();
        assert!(record["response"]["status"] == "success", "{ours}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vm_that_gets_sigterm_goes_when_it_has_nothing_left_or_its_grace_is_over() {
    const GRACE: Duration = Duration::from_secs(5);
    let settings = vec![("vm.sigterm_grace_ms", GRACE.as_millis().to_string())];
    let cluster = Cluster::of(Plan { vms: 2, settings, ..Plan::default() }).await;
    cluster.http.deploy("short", &small(SLEEP)).await;
    let load = Load::start(&cluster, "short", json!({ "seconds": 0.2 }), &[(Through::Nats, 8)]).await;
    load.goes_on(20).await;
    let has_ended = async |vm: &messages::FleetVm| {
        let process = format!("/proc/{}", vm.pid);
        eventually("its process has ended", async || !std::path::Path::new(&process).exists()).await;
    };
    let goes_after = async |vm: &messages::FleetVm| {
        let asked = std::time::Instant::now();
        cluster.terminate_vm(vm);
        has_ended(vm).await;
        asked.elapsed()
    };
    let is_evicted = async |vm: &messages::FleetVm| {
        let asked = std::time::Instant::now();
        let time = format!("{}s", GRACE.as_secs());
        cluster.operate(&["vm", "evict", &vm.vm.to_string(), "--in", &time]).await;
        has_ended(vm).await;
        asked.elapsed()
    };
    let mut vms = cluster.open_vms().await;
    vms.sort_by_key(|vm| (vm.running, vm.vm));
    let busy = vms.last().expect("somebody lives");
    let left = goes_after(busy).await;
    assert!(left < GRACE, "short runs end, and nothing keeps it: {left:?}");
    eventually("another is there instead", async || {
        let vms = cluster.open_vms().await;
        vms.len() == 2 && vms.iter().all(|vm| vm.vm != busy.vm)
    })
    .await;
    load.goes_on(20).await;
    load.finish().await.all_were_answered_once_with_success(&cluster).await;

    // Only now it is known how long they take, so the first is not run again before its VM goes.
    for (function, by_hand) in [("long", false), ("longer", true)] {
        cluster.http.deploy(function, &small(SLEEP)).await;
        let http = cluster.http.clone();
        let call = tokio::spawn(async move { http.call(function, &json!({ "seconds": 9 })).await });
        let busy = async || cluster.open_vms().await.into_iter().find(|vm| vm.running == 1);
        eventually("it runs", async || busy().await.is_some()).await;
        let vm = busy().await.expect("it still runs");
        let left = if by_hand { is_evicted(&vm).await } else { goes_after(&vm).await };
        assert!(left >= GRACE - Duration::from_millis(500), "what runs has the whole grace: {left:?}");
        let reply = call.await.expect("no panic");
        assert_eq!(reply.status, 200, "it was run again elsewhere: {reply:?}");
        assert_eq!(cluster.http.records(function).await, 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vm_that_shrinks_says_so_and_is_given_less() {
    if !windfall_tests::is_root() {
        println!("skipped: a VM's size is its control group, which needs root");
        return;
    }
    let cluster = Cluster::of(Plan { vms: 1, ..Plan::default() }.everybody_its_reservation()).await;
    let cpu = json!({ "limits": { "memory": 128, "cpu": 400 } });
    cluster.http.deploy("sleep", &with(python(SLEEP), cpu)).await;
    let vm = cluster.open_vms().await.remove(0);
    assert_eq!(vm.capacity.cpu, MilliCores(1000));
    let group = cluster.group_of(vm.vm);
    let resized = async |to: u32| {
        group.set_cpu(Some(MilliCores(to))).expect("root may");
        eventually("the VM reports its new size", async || {
            cluster.fleet().await.iter().any(|vm| vm.capacity.cpu == MilliCores(to))
        })
        .await;
    };
    let at_once = async || at_once(&cluster, "sleep").await;
    assert_eq!(at_once().await, 2, "two of 400 in 1,000");
    resized(500).await;
    assert_eq!(at_once().await, 1, "one of 400 in 500");
    resized(1700).await;
    assert_eq!(at_once().await, 4, "four of 400 in 1,700");
}

/// How many of a function run at once, seen from the reports while six are asked for.
async fn at_once(cluster: &Cluster, function: &'static str) -> u32 {
    let calls: Vec<_> = (0..6)
        .map(|_| {
            let http = cluster.http.clone();
            tokio::spawn(async move { http.call(function, &json!({ "seconds": 2.2 })).await })
        })
        .collect();
    let mut most = 0;
    while !calls.iter().all(|call| call.is_finished()) {
        most = cluster.fleet().await.iter().map(|vm| vm.running).max().unwrap_or(0).max(most);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    for call in calls {
        let reply = call.await.expect("no panic");
        assert_eq!(reply.status, 200, "{reply:?}");
    }
    most
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vm_that_loses_memory_stops_idle_sandboxes_and_is_given_less() {
    if !windfall_tests::is_root() {
        println!("skipped: a VM's size is its control group, which needs root");
        return;
    }
    let cluster = Cluster::of(Plan { vms: 1, ..Plan::default() }.everybody_its_reservation()).await;
    let memory = json!({ "limits": { "memory": 256, "cpu": 100 } });
    cluster.http.deploy("sleep", &with(python(SLEEP), memory)).await;
    let vm = cluster.open_vms().await.remove(0);
    assert_eq!(vm.capacity.memory, Mebibytes(1024));
    let group = cluster.group_of(vm.vm);
    let resized = async |to: u32| {
        // What the agent itself needs comes on top (`vm.headroom`).
        group.set_memory(Some(Mebibytes(to + 64))).expect("root may");
        eventually("the VM reports its new size", async || {
            cluster.fleet().await.iter().any(|vm| vm.capacity.memory == Mebibytes(to))
        })
        .await;
    };
    assert_eq!(at_once(&cluster, "sleep").await, 4, "four of 256 in 1,024");
    let keeps = async |warm: u32| {
        eventually("so many idle sandboxes are kept", async || {
            cluster.open_vms().await.first().is_some_and(|vm| vm.warm == warm)
        })
        .await;
    };
    keeps(4).await;
    resized(300).await;
    keeps(1).await;
    assert_eq!(at_once(&cluster, "sleep").await, 1, "one of 256 in 300");
    resized(800).await;
    assert_eq!(at_once(&cluster, "sleep").await, 3, "three of 256 in 800");
    // Half of it goes while three run: they end, and the rest waits for what is left.
    let calls = tokio::spawn({
        let http = cluster.http.clone();
        async move {
            let argument = json!({ "seconds": 2 });
            futures::future::join_all((0..5).map(|_| http.call("sleep", &argument))).await
        }
    });
    eventually("three run", async || cluster.fleet().await.iter().any(|vm| vm.running == 3)).await;
    resized(520).await;
    for reply in calls.await.expect("no panic") {
        assert_eq!(reply.status, 200, "{reply:?}");
    }
    assert_eq!(at_once(&cluster, "sleep").await, 2, "two of 256 in 520");
    assert_eq!(cluster.open_vms().await[0].vm, vm.vm, "it is the same VM");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_must_not_run_twice_ends_with_a_record_that_says_why() {
    let cluster = Cluster::of(Plan { vms: 2, ..Plan::default() }).await;
    let never = json!({ "annotations": [{ "key": "on-eviction", "value": "never" }] });
    cluster.http.deploy("once", &with(small(SLEEP), never)).await;
    cluster.http.deploy("again", &small(SLEEP)).await;
    let nats = cluster.nats().await;
    let id = "0193b1c0ffee000000000000000e71c7";
    nats.submit("once", &[("Windfall-Invocation", id)], &json!({ "seconds": 30 })).await.expect("accepted");
    let (http, of_nats) = (cluster.http.clone(), nats.clone());
    let once = tokio::spawn(async move { http.call("once", &json!({ "seconds": 30 })).await });
    let again = tokio::spawn(async move { of_nats.call("again", &json!({ "seconds": 8 })).await });
    eventually("all three run", async || cluster.fleet().await.iter().map(|vm| vm.running).sum::<u32>() == 3)
        .await;
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    for vm in cluster.open_vms().await.iter().filter(|vm| vm.running > 0) {
        cluster.kill_vm(vm);
    }
    let reply = once.await.expect("no panic");
    assert_eq!(reply.status, 500, "{reply:?}");
    for id in [reply.id().as_str(), id] {
        let record = cluster.http.record(id).await;
        assert_eq!(record["response"]["status"], "whisk internal error", "{record}");
        let error = record["response"]["result"]["error"].as_str().expect("text");
        assert!(error.to_lowercase().contains("lost") || error.contains("evict"), "{error}");
    }
    // By default it is run again.
    let answer = again.await.expect("no panic").expect("an answer");
    assert_eq!(answer.status, "success");
    let record = cluster.http.record(&answer.id).await;
    let attempt = annotation(&record, "windfall").expect("what Windfall did")["attempt"].as_u64();
    assert!(attempt >= Some(2), "{record}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_would_not_end_in_time_is_run_again_at_the_notice_and_the_first_answer_wins() {
    let cluster = Cluster::of(Plan { vms: 2, ..Plan::default() }).await;
    cluster.http.deploy("long", &small(SLEEP)).await;
    let nats = cluster.nats().await;
    for (evicted, winner) in [(false, 1), (true, 2)] {
        let (http, began) = (cluster.http.clone(), std::time::Instant::now());
        let call = tokio::spawn(async move { http.call("long", &json!({ "seconds": 7 })).await });
        let busy = async || cluster.open_vms().await.into_iter().find(|vm| vm.running == 1);
        eventually("it runs", async || busy().await.is_some()).await;
        tokio::time::sleep(Duration::from_secs(2)).await;
        let vm = busy().await.expect("it still runs");
        let notice = messages::Notice {
            vm: vm.vm,
            time_left: Some(vocabulary::Span::seconds(2)),
            source: "test".into(),
        };
        let subject = messages::subjects::vm_notice(vm.vm);
        nats.client.publish(subject, messages::encode(&notice)).await.expect("sent");
        let both_run = async || cluster.fleet().await.iter().map(|vm| vm.running).sum::<u32>() == 2;
        eventually("two attempts race", both_run).await;
        assert!(began.elapsed() < Duration::from_secs(6), "the second began when the first had ended");
        if evicted {
            cluster.kill_vm(&vm);
        }
        let reply = call.await.expect("no panic");
        assert_eq!(reply.status, 200, "{reply:?}");
        let record = cluster.http.record(&reply.id()).await;
        let ours = annotation(&record, "windfall").expect("what Windfall did").clone();
        assert_eq!(ours["attempt"].as_u64(), Some(winner), "{ours}");
        let nobody_runs = async || cluster.fleet().await.iter().all(|vm| vm.running == 0);
        eventually("the other attempt was called off", nobody_runs).await;
        // The VM goes, and another takes its place.
        if !evicted {
            cluster.kill_vm(&vm);
        }
        let whole = async || cluster.open_vms().await.iter().filter(|other| other.vm != vm.vm).count() == 2;
        eventually("the fleet is whole again", whole).await;
    }
    assert_eq!(cluster.http.records("long").await, 2, "one record each");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_vm_answered_in_its_last_moment_has_the_record_of_it_all_the_same() {
    let cluster = Cluster::of(Plan { vms: 1, ..Plan::default() }).await;
    cluster.http.deploy("echo", &small("def main(args):\n    return {'said': args}\n")).await;
    let (nats, store) = (cluster.nats().await, cluster.store().await);
    let (mut calls, mut by_frontend) = (0, 0);
    // Records leave every five milliseconds: of a few VMs that die at once after an answer most take one with them.
    while by_frontend < 2 {
        calls += 1;
        assert!(calls <= 12, "of twelve VMs {by_frontend} died before they had stored their record");
        eventually("there is a VM", async || cluster.open_vms().await.len() == 1).await;
        let vm = cluster.open_vms().await.remove(0);
        let argument = json!({ "call": calls });
        let answer = if calls % 2 == 0 {
            cluster.http.result("echo", &argument).await
        } else {
            nats.call("echo", &argument).await.expect("an answer").json()
        };
        cluster.kill_vm(&vm);
        assert_eq!(answer, json!({ "said": argument }));
        eventually("it has a record", async || cluster.http.records("echo").await == calls).await;
        let id = cluster.http.ids_of("echo").await.remove(0);
        let invocation = id.parse().expect("an id");
        let record = store.records().get("guest", invocation).await.expect("a store").expect("a record");
        let kept: serde_json::Value = serde_json::from_slice(&record.result.0).expect("JSON");
        assert_eq!((kept, record.attempt.0, record.vm), (answer, 1, Some(vm.vm)));
        by_frontend += u32::from(record.logs.iter().any(|line| line.text.contains("The VM was lost")));
        eventually("its loss is known", async || cluster.fleet().await.iter().all(|other| other.vm != vm.vm))
            .await;
    }
    println!("{by_frontend} of {calls} VMs took a record with them");
}
