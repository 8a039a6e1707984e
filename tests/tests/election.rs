//! Three servers of NATS, of which one dies that leads what is stored.
#![allow(missing_docs)]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use async_nats::jetstream;
use futures::TryStreamExt;
use serde_json::json;
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

/// Has streams that the first server leads, to which everybody is connected, led by another.
async fn away_from_the_first(cluster: &Cluster) -> BTreeMap<String, String> {
    let nats = cluster.nats().await.client;
    let jetstream = jetstream::new(nats.clone());
    for _ in 0..60 {
        let leaders = leaders(&jetstream).await;
        let held: Vec<_> = leaders.iter().filter(|(_, leader)| *leader == "nats-server").collect();
        if held.is_empty() && leaders.values().all(|leader| !leader.is_empty()) {
            return leaders;
        }
        for (stream, _) in held {
            let subject = format!("$JS.API.STREAM.LEADER.STEPDOWN.{stream}");
            nats.request(subject, "".into()).await.expect("an answer");
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    panic!("the first server keeps leading");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "where the server that dies leads submissions, the load does not end within three minutes afterwards: not understood yet"]
async fn calls_go_on_while_those_who_store_elect_a_leader_and_every_call_has_its_record() {
    let mut cluster = Cluster::of(Plan { servers: 3, controllers: 2, ..Plan::default() }).await;
    cluster.http.deploy("sleep", &small(SLEEP)).await;
    let callers = [(Through::Http, 3), (Through::Nats, 3), (Through::Durable, 2)];
    let load = Load::start(&cluster, "sleep", json!({ "seconds": 0.1 }), &callers).await;
    load.goes_on(40).await;
    let leaders = away_from_the_first(&cluster).await;
    let led = |server: &str| leaders.values().filter(|leader| *leader == server).count();
    let victim = if led("nats-server-1") >= led("nats-server-2") { "nats-server-1" } else { "nats-server-2" };
    println!("{victim} leads {} of {} streams: {leaders:?}", led(victim), leaders.len());
    let vms: Vec<_> = cluster.open_vms().await.iter().map(|vm| vm.vm).collect();
    let door = cluster.nats().await;
    cluster.kill(victim);

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
    let done = load.finish().await;
    done.each_has_one_record(&cluster).await;
    let after: Vec<_> = cluster.open_vms().await.iter().map(|vm| vm.vm).collect();
    assert_eq!(vms, after, "nobody was taken for dead");
    let durable = cluster.nats().await;
    eventually("durable calls are taken", async || {
        durable.submit("sleep", &[], &json!({ "seconds": 0.01 })).await.is_ok()
    })
    .await;
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
