//! Three servers of NATS, of which one dies that leads what is stored.
#![allow(missing_docs)]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use async_nats::jetstream;
use futures::TryStreamExt;
use serde_json::{Value, json};
use windfall_tests::functions::{SLEEP, small};
use windfall_tests::load::{Load, Through};
use windfall_tests::{Cluster, Plan, eventually};

/// An election begins four to nine seconds after the leader was last heard.
const ELECTION: Duration = Duration::from_secs(12);
/// Longer than this nobody waits for an answer that needs nothing stored.
const PATIENCE: Duration = Duration::from_secs(3);

/// Who leads which stream.
async fn leaders(jetstream: &jetstream::Context) -> BTreeMap<String, String> {
    let streams: Vec<_> = jetstream.streams().try_collect().await.expect("streams");
    let leader = |info: jetstream::stream::Info| {
        (info.config.name, info.cluster.and_then(|cluster| cluster.leader).unwrap_or_default())
    };
    streams.into_iter().map(leader).collect()
}

/// Has one server lead every stream and consumer, so that its death stops all that is stored.
async fn led_by(server: &str, jetstream: &jetstream::Context) {
    for _ in 0..60 {
        let elsewhere: Vec<_> =
            leaders(jetstream).await.into_iter().filter(|(_, leader)| leader != server).collect();
        if elsewhere.is_empty() {
            return;
        }
        for (stream, _) in elsewhere {
            let wanted = json!({ "placement": { "preferred": server } });
            let _: Value = jetstream
                .request(format!("STREAM.LEADER.STEPDOWN.{stream}"), &wanted)
                .await
                .expect("an answer");
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    panic!("{server} does not lead everything: {:?}", leaders(jetstream).await);
}

/// Three servers, two Controllers, and callers by every door.
async fn under_load() -> (Cluster, Load) {
    let cluster = Cluster::of(Plan { servers: 3, controllers: 2, ..Plan::default() }).await;
    cluster.http.deploy("sleep", &small(SLEEP)).await;
    let callers = [(Through::Http, 3), (Through::Nats, 3), (Through::Durable, 2)];
    let load = Load::start(&cluster, "sleep", json!({ "seconds": 0.1 }), &callers).await;
    load.goes_on(40).await;
    (cluster, load)
}

async fn durable_calls_are_taken(cluster: &Cluster) {
    let door = cluster.nats().await;
    eventually("durable calls are taken", async || {
        door.submit("sleep", &[], &json!({ "seconds": 0.01 })).await.is_ok()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_go_on_while_those_who_store_elect_a_leader_and_every_call_has_its_record() {
    let victim = "nats-server-1";
    let (mut cluster, load) = under_load().await;
    let door = cluster.nats().await;
    led_by(victim, &jetstream::new(door.client.clone())).await;
    let vms: Vec<_> = cluster.open_vms().await.iter().map(|vm| vm.vm).collect();
    let before = door.call("sleep", &json!({ "seconds": 0.05 })).await.expect("an answer");
    cluster.http.record(&before.id).await;
    cluster.kill(victim);

    let asked = Instant::now();
    let read = cluster.http.get(&format!("/api/v1/namespaces/_/activations/{}", before.id)).await;
    println!("a record was read {:?} after the leader died", asked.elapsed());
    assert_eq!(read.status, 200, "the other servers have it, too: {read:?}");
    assert!(asked.elapsed() < PATIENCE, "{:?}", asked.elapsed());
    let (began, mut calls, mut longest) = (Instant::now(), 0_u32, Duration::ZERO);
    let mut stored_after = None;
    while began.elapsed() < ELECTION || stored_after.is_none() {
        let asked = Instant::now();
        let answer = door.call("sleep", &json!({ "seconds": 0.05 })).await.expect("an answer");
        assert_eq!(answer.status, "success", "{answer:?} {:?} after the leader died", began.elapsed());
        (calls, longest) = (calls + 1, longest.max(asked.elapsed()));
        if stored_after.is_none() && leader_of_all(&door.client, victim).await {
            stored_after = Some(began.elapsed());
        }
        assert!(began.elapsed() < Duration::from_secs(60), "nobody is elected");
    }
    println!("{calls} calls meanwhile, the longest {longest:?}; all streams led after {stored_after:?}");
    assert!(longest < PATIENCE, "{longest:?}");

    cluster.start_again(victim);
    load.goes_on(60).await;
    load.finish().await.each_is_accounted_for(&cluster).await;
    let after: Vec<_> = cluster.open_vms().await.iter().map(|vm| vm.vm).collect();
    assert_eq!(vms, after, "nobody was taken for dead");
    let log = cluster.log("resource-monitor");
    assert_eq!(
        log.matches("this Resource Monitor leads").count(),
        1,
        "its lease ran out, and nobody else led: {log}"
    );
    durable_calls_are_taken(&cluster).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everybody_goes_to_another_server_when_theirs_dies_and_every_call_has_its_record() {
    let theirs = "nats-server";
    let (mut cluster, load) = under_load().await;
    led_by(theirs, &jetstream::new(cluster.nats().await.client)).await;
    cluster.kill(theirs);
    let began = Instant::now();
    load.goes_on(60).await;
    println!("sixty calls ended {:?} after the server of everybody died", began.elapsed());
    tokio::time::sleep(ELECTION).await;
    cluster.start_again(theirs);
    load.goes_on(60).await;
    // An answer that was told while whoever listens for it went to another server is in its record.
    load.finish().await.each_has_one_record(&cluster).await;
    durable_calls_are_taken(&cluster).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_server_is_restarted_in_turn_and_every_call_has_its_record() {
    let (mut cluster, load) = under_load().await;
    let vms: Vec<_> = cluster.open_vms().await.iter().map(|vm| vm.vm).collect();
    let client = cluster.nats().await.client;
    for server in ["nats-server-2", "nats-server-1", "nats-server"] {
        cluster.terminate(server).await;
        load.goes_on(30).await;
        cluster.start_again(server);
        let began = Instant::now();
        eventually("every copy of every stream is as new as its leader's", async || in_step(&client).await)
            .await;
        println!("{server} is back and in step after {:?}", began.elapsed());
        load.goes_on(30).await;
    }
    // An answer that was told while whoever listens for it went to another server is in its record.
    load.finish().await.each_has_one_record(&cluster).await;
    let after: Vec<_> = cluster.open_vms().await.iter().map(|vm| vm.vm).collect();
    assert_eq!(vms, after, "nobody was taken for dead");
    durable_calls_are_taken(&cluster).await;
}

/// Whether every stream has a leader and two copies that follow it.
async fn in_step(client: &async_nats::Client) -> bool {
    let jetstream = jetstream::new(client.clone());
    let streams = tokio::time::timeout(Duration::from_secs(1), jetstream.streams().try_collect::<Vec<_>>());
    let Ok(Ok(streams)) = streams.await else { return false };
    !streams.is_empty()
        && streams.iter().all(|info| {
            info.cluster.as_ref().is_some_and(|cluster| {
                cluster.leader.as_ref().is_some_and(|leader| !leader.is_empty())
                    && cluster.replicas.len() == 2
                    && cluster.replicas.iter().all(|replica| replica.current && !replica.offline)
            })
        })
}

/// Whether every stream has a leader that lives.
async fn leader_of_all(client: &async_nats::Client, dead: &str) -> bool {
    let jetstream = jetstream::new(client.clone());
    let streams =
        tokio::time::timeout(Duration::from_millis(500), jetstream.streams().try_collect::<Vec<_>>());
    let Ok(Ok(streams)) = streams.await else { return false };
    !streams.is_empty()
        && streams.iter().all(|info| {
            let leader = info.cluster.as_ref().and_then(|cluster| cluster.leader.as_deref());
            leader.is_some_and(|leader| !leader.is_empty() && leader != dead)
        })
}
