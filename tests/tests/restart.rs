//! What dies comes back, and nothing that was accepted is lost meanwhile.
#![allow(missing_docs)]

use std::time::Duration;

use serde_json::json;
use windfall_tests::functions::{ECHO, SLEEP, python, small};
use windfall_tests::load::{Fate, Load, Through};
use windfall_tests::{Cluster, Plan, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn after_a_crash_of_nats_everything_accepted_has_its_record_and_nobody_hangs() {
    let mut cluster = Cluster::start().await;
    cluster.http.deploy("sleep", &small(SLEEP)).await;
    let vms: Vec<_> = cluster.open_vms().await.iter().map(|vm| vm.vm).collect();
    let callers = [(Through::Http, 10), (Through::Nats, 10), (Through::Durable, 4)];
    let load = Load::start(&cluster, "sleep", json!({ "seconds": 0.1 }), &callers).await;
    load.goes_on(60).await;
    cluster.kill("nats-server");
    tokio::time::sleep(Duration::from_secs(1)).await;
    cluster.start_again("nats-server");
    // Nobody is restarted: all find the server again by themselves.
    load.goes_on(100).await;
    // Callers at the NATS door may lose their answer with the connection; whoever calls by HTTP is answered or told
    // to try again. Neither may hang, which is what `finish` looks at.
    let done = load.finish().await;
    for fate in &done.fates {
        if let Fate::Answered { status, .. } = fate {
            assert_eq!(status, "success", "{fate:?}");
        }
    }
    for fate in &done.fates {
        // A durable answer goes out once, and may have gone to a server that was not there; the record is kept.
        if let Fate::Accepted { id } = fate {
            let record = cluster.http.record(id).await;
            assert_eq!(record["response"]["status"], "success", "{record}");
        }
    }
    done.each_has_one_record(&cluster).await;
    // The fleet is the same: nobody was taken for dead because nobody could be heard.
    let after: Vec<_> = cluster.open_vms().await.iter().map(|vm| vm.vm).collect();
    assert_eq!(vms, after);
    cluster.is_ready().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_of_the_only_controller_loses_nothing() {
    let mut cluster = Cluster::start().await;
    cluster.http.deploy("sleep", &small(SLEEP)).await;
    let callers = [(Through::Http, 10), (Through::Nats, 10), (Through::Durable, 2)];
    let load = Load::start(&cluster, "sleep", json!({ "seconds": 0.2 }), &callers).await;
    for _ in 0..2 {
        load.goes_on(40).await;
        cluster.kill("controller-0");
        tokio::time::sleep(Duration::from_millis(300)).await;
        cluster.start_again("controller-0");
    }
    load.goes_on(60).await;
    let done = load.finish().await;
    done.all_were_answered_once_with_success(&cluster).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_controllers_one_takes_over_what_the_other_had() {
    let mut cluster = Cluster::of(Plan { controllers: 2, ..Plan::default() }).await;
    // Several functions, so that each Controller owns some.
    let names = ["one", "two", "three", "four"];
    let mut loads = Vec::new();
    for name in names {
        cluster.http.deploy(name, &small(SLEEP)).await;
        let callers = [(Through::Http, 1), (Through::Nats, 1), (Through::Durable, 1)];
        loads.push(Load::start(&cluster, name, json!({ "seconds": 0.2 }), &callers).await);
    }
    for load in &loads {
        load.goes_on(5).await;
    }
    cluster.kill("controller-1");
    for load in &loads {
        load.goes_on(10).await;
    }
    cluster.start_again("controller-1");
    for load in loads {
        load.goes_on(10).await;
        load.finish().await.all_were_answered_once_with_success(&cluster).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_frontend_had_accepted_is_finished_by_the_other() {
    let mut cluster = Cluster::of(Plan { frontends: 2, ..Plan::default() }).await;
    cluster.http.deploy("sleep", &small(SLEEP)).await;
    let other = cluster.http_of(1);
    eventually("the other Frontend knows the function", async || {
        other.call("sleep", &json!({ "seconds": 0 })).await.status == 200
    })
    .await;
    // Accepted by the first, and under way at whichever of the two JetStream gave it to.
    let mut accepted = Vec::new();
    for number in 0..30 {
        accepted
            .push((number, cluster.http.submit("sleep", &json!({ "seconds": 0.3, "number": number })).await));
    }
    cluster.kill("frontend-0");
    for (number, id) in &accepted {
        let record = other.record(id).await;
        assert_eq!(record["response"]["result"]["number"], json!(number), "{record}");
    }
    let known = other.ids_of("sleep").await;
    for (_, id) in &accepted {
        assert_eq!(known.iter().filter(|other| other == &id).count(), 1, "{id}");
    }
    // The door that is left goes on, and so does the one that comes back.
    assert_eq!(other.result("sleep", &json!({ "a": 1 })).await, json!({ "a": 1 }));
    cluster.start_again("frontend-0");
    cluster.is_ready().await;
    assert_eq!(cluster.http.result("sleep", &json!({ "a": 2 })).await, json!({ "a": 2 }));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_frontends_share_the_work_and_agree_on_functions() {
    let cluster = Cluster::of(Plan { frontends: 2, ..Plan::default() }).await;
    let doors = [cluster.http_of(0), cluster.http_of(1)];
    for number in 0..5 {
        // Made at one, called at the other at once.
        let name = format!("echo-{number}");
        doors[number % 2].deploy(&name, &python(ECHO)).await;
        assert_eq!(
            doors[(number + 1) % 2].result(&name, &json!({ "n": number })).await,
            json!({ "n": number })
        );
    }
    cluster.http.deploy("sleep", &small(SLEEP)).await;
    let callers = [(Through::Http, 20), (Through::Nats, 20), (Through::Durable, 2)];
    let load = Load::at(&cluster, &doors, "sleep", json!({ "seconds": 0.05 }), &callers).await;
    load.goes_on(200).await;
    load.finish().await.all_were_answered_once_with_success(&cluster).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_of_the_resource_monitor_costs_no_vm() {
    let mut cluster = Cluster::start().await;
    cluster.http.deploy("echo", &small(ECHO)).await;
    let before: Vec<_> = cluster.open_vms().await.iter().map(|vm| (vm.vm, vm.pid)).collect();
    cluster.kill("resource-monitor");
    assert_eq!(cluster.http.result("echo", &json!({ "a": 1 })).await, json!({ "a": 1 }));
    cluster.start_again("resource-monitor");
    cluster.is_ready().await;
    let after: Vec<_> = cluster.open_vms().await.iter().map(|vm| (vm.vm, vm.pid)).collect();
    assert_eq!(before, after);
    // It looks after those that it did not start: one that dies is replaced.
    cluster.kill_vm(&cluster.open_vms().await[0]);
    eventually("the fleet is whole again", async || {
        let vms = cluster.open_vms().await;
        vms.len() == 2 && vms.iter().all(|vm| vm.vm != before[0].0)
    })
    .await;
    assert_eq!(cluster.http.result("echo", &json!({ "a": 2 })).await, json!({ "a": 2 }));
}
