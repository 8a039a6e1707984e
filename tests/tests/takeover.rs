//! A Controller dies or sleeps while others' work goes on: what it had sent out runs once, and no VM is given up for it.
#![allow(missing_docs)]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use messages::{Adopt, Finishes, HandBack, Known, Run, decode, encode, subjects};
use serde_json::json;
use tokio::task::JoinSet;
use vocabulary::{Attempt, ControllerId, InvocationId};
use windfall_tests::functions::{SLEEP, small};
use windfall_tests::{Cluster, Plan, eventually};

/// Whoever is gone is missed after 1.6 s; what is forgotten was once sent again two reports and two seconds later.
const UNTIL_IT_WOULD_RUN_AGAIN: Duration = Duration::from_secs(5);

/// How often each invocation was sent to a VM, and what was sent last.
type Sent = Arc<Mutex<BTreeMap<InvocationId, Vec<Run>>>>;

async fn watch_runs(cluster: &Cluster) -> Sent {
    let (sent, client) = (Sent::default(), cluster.nats().await.client);
    let mut runs = client.subscribe("windfall.*.run").await.expect("the server is there");
    client.flush().await.expect("it listens now");
    let seen = Arc::clone(&sent);
    tokio::spawn(async move {
        while let Some(message) = runs.next().await {
            let run: Run = decode(&message.payload).expect("a Run");
            seen.lock().unwrap().entry(run.invocation).or_default().push(run);
        }
        drop(client);
    });
    sent
}

/// So many calls of several functions, each of so many seconds, which all have begun and been reported.
async fn begin(cluster: &Cluster, sent: &Sent, seconds: f32) -> JoinSet<u16> {
    let before = sent.lock().unwrap().len();
    let mut calls = JoinSet::new();
    for number in 0..4 {
        let http = cluster.http.clone();
        calls.spawn(async move {
            http.call(&format!("sleep{number}"), &json!({ "seconds": seconds })).await.status
        });
    }
    eventually("all have been sent out", async || sent.lock().unwrap().len() == before + 4).await;
    eventually("all have been reported", async || {
        cluster.fleet().await.iter().map(|vm| vm.running).sum::<u32>() == 4
    })
    .await;
    calls
}

async fn each_ran_once(calls: JoinSet<u16>, sent: &Sent) {
    assert!(calls.join_all().await.iter().all(|status| *status == 200));
    tokio::time::sleep(UNTIL_IT_WOULD_RUN_AGAIN).await;
    for (invocation, runs) in sent.lock().unwrap().iter() {
        let attempts: Vec<_> = runs.iter().map(|run| (run.attempt, run.controller)).collect();
        assert_eq!(runs.len(), 1, "{invocation} was sent out again: {attempts:?}");
    }
}

async fn deploy(cluster: &Cluster) {
    for number in 0..4 {
        cluster.http.deploy(&format!("sleep{number}"), &small(SLEEP)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_only_controller_had_sent_runs_once_though_it_dies_meanwhile() {
    let mut cluster = Cluster::start().await;
    deploy(&cluster).await;
    let sent = watch_runs(&cluster).await;
    let calls = begin(&cluster, &sent, 5.0).await;
    cluster.kill("controller-0");
    tokio::time::sleep(Duration::from_millis(300)).await;
    cluster.start_again("controller-0");
    each_ran_once(calls, &sent).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_of_two_controllers_had_sent_runs_once_though_it_dies_or_sleeps_meanwhile() {
    let mut cluster = Cluster::of(Plan { controllers: 2, ..Plan::default() }).await;
    deploy(&cluster).await;
    let sent = watch_runs(&cluster).await;
    for name in ["controller-0", "controller-1"] {
        let calls = begin(&cluster, &sent, 5.0).await;
        cluster.freeze(name, true);
        tokio::time::sleep(Duration::from_millis(2_500)).await;
        cluster.freeze(name, false);
        each_ran_once(calls, &sent).await;
    }
    let calls = begin(&cluster, &sent, 5.0).await;
    cluster.kill("controller-1");
    each_ran_once(calls, &sent).await;
    // They do not hang with the one that is left, either.
    let calls = begin(&cluster, &sent, 4.0).await;
    each_ran_once(calls, &sent).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_controller_that_sleeps_for_about_as_long_as_a_silence_gives_up_no_vm() {
    let mut cluster = Cluster::start().await;
    deploy(&cluster).await;
    let sent = watch_runs(&cluster).await;
    let calls = begin(&cluster, &sent, 30.0).await;
    for slept in [2_200, 2_600, 2_900, 3_050, 3_200, 3_400] {
        // Reports come once a second, at no moment of ours.
        tokio::time::sleep(Duration::from_millis(1_300)).await;
        cluster.freeze("controller-0", true);
        tokio::time::sleep(Duration::from_millis(slept)).await;
        cluster.freeze("controller-0", false);
        tokio::time::sleep(Duration::from_millis(200)).await;
        let log = cluster.log("controller-0");
        assert!(!log.contains("gave up a VM"), "after {slept} ms: {log}");
    }
    each_ran_once(calls, &sent).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vm_answers_whoever_asks_for_a_run_that_it_knows() {
    let cluster = Cluster::of(Plan { vms: 1, ..Plan::default() }).await;
    deploy(&cluster).await;
    let sent = watch_runs(&cluster).await;
    let vm = cluster.open_vms().await[0].vm;
    let client = cluster.nats().await.client;
    // Somebody who decides, too.
    let me = ControllerId(0x77);
    let subscribe = async |subject: String| client.subscribe(subject).await.expect("the server is there");
    let mut finished = subscribe(subjects::controller_finished(me)).await;
    let mut handed_back = subscribe(subjects::controller_handback(me)).await;
    let mut known = subscribe(subjects::controller_known(me)).await;
    client.flush().await.expect("it listens now");
    let calls = begin(&cluster, &sent, 3.0).await;
    let runs: Vec<Run> = sent.lock().unwrap().values().map(|runs| runs[0].clone()).collect();
    let ask = async |run: &Run, attempt: Attempt| {
        let run = Run { controller: me, attempt, ..run.clone() };
        client.publish(subjects::vm_run(vm), encode(&run)).await.expect("sent");
    };
    let adopt = async |run: &Run| {
        let (invocation, attempt) = (run.invocation, run.attempt);
        let adopt = Adopt { controller: me, invocation, attempt };
        client.publish(subjects::vm_adopt(vm), encode(&adopt)).await.expect("sent");
    };
    let said = async |from: &mut async_nats::Subscriber| -> Bytes {
        let next = tokio::time::timeout(Duration::from_secs(10), from.next());
        next.await.expect("in time").expect("the server is there").payload
    };

    // An older attempt than the one that is here.
    let older = Attempt(runs[0].attempt.0 - 1);
    ask(&runs[0], older).await;
    let (invocation, newest) = (runs[0].invocation, runs[0].attempt);
    let told: Known = decode(&said(&mut known).await).expect("Known");
    assert_eq!(told, Known { vm, invocation, attempt: older, newest, runs: true });
    // What was never here.
    let stranger = Run { invocation: InvocationId(1), attempt: Attempt(4), ..runs[0].clone() };
    adopt(&stranger).await;
    let told: Known = decode(&said(&mut known).await).expect("Known");
    let nowhere =
        Known { vm, invocation: InvocationId(1), attempt: Attempt(4), newest: Attempt(4), runs: false };
    assert_eq!(told, nowhere);
    // One by a second Run, one by taking it over; of both the end is told, and of those it has not asked for nothing.
    ask(&runs[0], runs[0].attempt).await;
    adopt(&runs[1]).await;
    let mut ended = Vec::new();
    while ended.len() < 2 {
        let told: Finishes = decode(&said(&mut finished).await).expect("Finishes");
        ended.extend(told.endings.iter().map(|ending| ending.invocation));
    }
    ended.sort_unstable();
    let mut wanted = vec![runs[0].invocation, runs[1].invocation];
    wanted.sort_unstable();
    assert_eq!(ended, wanted);
    assert!(calls.join_all().await.iter().all(|status| *status == 200));
    // Whoever asks for what has just ended is told again.
    for again in 0..2 {
        if again == 0 {
            ask(&runs[2], runs[2].attempt).await
        } else {
            adopt(&runs[3]).await
        }
        let told: Finishes = decode(&said(&mut finished).await).expect("Finishes");
        assert_eq!(told.endings[0].invocation, runs[2 + again].invocation);
    }
    // And of what went back it hears that it did.
    let full = Run { invocation: InvocationId(2), attempt: Attempt(1), ..runs[0].clone() };
    let huge = vocabulary::Grant::fixed(vocabulary::Resources::new(64_000, 128));
    ask(&Run { grant: huge, ..full.clone() }, Attempt(1)).await;
    adopt(&full).await;
    for _ in 0..2 {
        let told: HandBack = decode(&said(&mut handed_back).await).expect("HandBack");
        assert!(told.items.iter().all(|item| item.invocation == InvocationId(2)));
        if told.items.len() == 2 {
            break;
        }
    }
}
