//! Processes that are told to end, as in an upgrade of the house one by one, under load: nobody notices.
#![allow(missing_docs)]

use std::time::{Duration, Instant};

use serde_json::json;
use windfall_tests::functions::{SLEEP, small};
use windfall_tests::load::{Load, Through};
use windfall_tests::{Cluster, Plan, annotation, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn each_process_of_the_house_ends_in_order_and_comes_back_and_no_caller_notices() {
    let settings = vec![("resource_monitor.on_stop", "keep".to_owned())];
    let plan = Plan { frontends: 2, controllers: 2, settings, ..Plan::default() };
    let mut cluster = Cluster::of(plan).await;
    cluster.http.deploy("sleep", &small(SLEEP)).await;
    let (leaving, staying) = (cluster.http_of(0), cluster.http_of(1));
    let callers = [(Through::Http, 3), (Through::Nats, 6), (Through::Durable, 3)];
    let argument = json!({ "seconds": 0.1 });
    let load = Load::at(&cluster, &[staying], "sleep", argument, &callers).await;
    load.goes_on(40).await;
    let vms: Vec<_> = cluster.open_vms().await.iter().map(|vm| vm.vm).collect();
    for name in ["frontend-0", "controller-0", "controller-1", "resource-monitor"] {
        // Somebody is in the middle of a call at the door that closes.
        let http = leaving.clone();
        let long = tokio::spawn(async move { http.call("sleep", &json!({ "seconds": 2 })).await });
        load.goes_on(10).await;
        let told = Instant::now();
        cluster.terminate(name).await;
        println!("{name} ended in order after {:?}", told.elapsed());
        let reply = long.await.expect("no panic");
        assert_eq!(reply.status, 200, "while {name} ended: {reply:?}");
        load.goes_on(30).await;
        cluster.start_again(name);
        cluster.is_ready().await;
        load.goes_on(30).await;
    }
    let after: Vec<_> = cluster.open_vms().await.iter().map(|vm| vm.vm).collect();
    assert_eq!(vms, after, "the fleet stayed");
    load.finish().await.all_were_answered_once_with_success(&cluster).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_end_before_its_frontend_is_told_so_and_is_run_once_all_the_same() {
    let settings = vec![("frontend.leave_ms", "1000".to_owned())];
    let mut cluster = Cluster::of(Plan { settings, ..Plan::default() }).await;
    cluster.http.deploy("sleep", &small(SLEEP)).await;
    let argument = json!({ "seconds": 5 });
    let (http, nats) = (cluster.http.clone(), cluster.nats().await);
    let by_http = tokio::spawn({
        let argument = argument.clone();
        async move { http.call("sleep", &argument).await }
    });
    let by_nats = tokio::spawn({
        let (nats, argument) = (nats.clone(), argument.clone());
        async move { nats.call("sleep", &argument).await.expect("an answer") }
    });
    let accepted = cluster.http.submit("sleep", &argument).await;
    eventually("all three run", async || {
        cluster.open_vms().await.iter().map(|vm| vm.running).sum::<u32>() == 3
    })
    .await;
    cluster.terminate("frontend-0").await;
    let told = by_http.await.expect("no panic");
    assert_eq!(told.status, 503, "{told:?}");
    let error = told.error();
    assert!(error.contains("may go on, and its record will tell"), "{error}");
    let id = error.split(' ').find(|word| word.len() == 32).expect("an id").to_owned();
    let refused = by_nats.await.expect("no panic");
    assert_eq!((refused.status.as_str(), refused.code), ("refused", 503), "{refused:?}");
    cluster.start_again("frontend-0");
    cluster.is_ready().await;
    let began = Instant::now();
    for id in [&id, &refused.id, &accepted] {
        let record = cluster.http.record(id).await;
        assert_eq!(record["response"]["success"], json!(true), "{record}");
        let ours = annotation(&record, "windfall").expect("what Windfall did").clone();
        assert_eq!(ours["attempt"], json!(1), "{ours}");
    }
    eventually("the durable stream has heard that it has ended", async || {
        cluster.store().await.submissions().open_count().await.is_ok_and(|open| open == 0)
    })
    .await;
    println!(
        "all have their records, and nothing is open, {:?} after the door opened again",
        began.elapsed()
    );
    assert!(began.elapsed() < Duration::from_secs(20), "it did not wait for JetStream's patience");
}
