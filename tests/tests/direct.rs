//! Callers at the NATS door are answered by the VM itself, where nobody can have given that up; else through their Frontend.
#![allow(missing_docs)]

use std::time::Duration;

use serde_json::json;
use tokio::task::JoinHandle;
use vocabulary::VmId;
use windfall_tests::functions::{SLEEP, small};
use windfall_tests::{Cluster, NatsAnswer, Plan, eventually};

const VM: VmId = VmId(0x51);

/// Says what it is given, and fails where it is told to.
const ECHO: &str =
    "def main(args):\n    return {'error': 'as told'} if args.get('fails') else {'said': args}\n";

async fn answers(cluster: &Cluster, name: &str) -> u64 {
    let body = cluster.http.get("/metrics").await.body;
    let page = String::from_utf8_lossy(&body).into_owned();
    let of_name = page.lines().filter(|line| line.starts_with(name));
    of_name.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
}

/// Waits until the Frontend has counted that many answers, and returns how many of them a VM has given itself.
async fn by_vms_of(cluster: &Cluster, all: u64) -> u64 {
    eventually("the Frontend has heard of every answer", async || {
        answers(cluster, "windfall_answers_total").await == all
    })
    .await;
    answers(cluster, "windfall_answers_by_vms_total").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_hears_his_vm_and_finds_his_record_in_the_store() {
    let cluster = Cluster::start().await;
    cluster.http.deploy("echo", &small(ECHO)).await;
    let (nats, store) = (cluster.nats().await, cluster.store().await);
    for number in 0..40 {
        let fails = number % 4 == 3;
        let argument = json!({ "number": number, "fails": fails });
        let packed = rmp_serde::to_vec_named(&argument).expect("MessagePack");
        let answer = if number % 2 == 0 {
            nats.call("echo", &argument).await
        } else {
            nats.ask("echo", &[("Content-Type", "application/msgpack")], packed).await
        };
        let answer = answer.expect("an answer");
        let invocation = answer.id.parse().expect("an id");
        let record = store.records().get_soon("guest", invocation).await.expect("a store").expect("a record");
        let body: serde_json::Value = if number % 2 == 0 {
            answer.json()
        } else {
            rmp_serde::from_slice(&answer.body).expect("MessagePack")
        };
        let wanted = if fails { json!({ "error": "as told" }) } else { json!({ "said": argument }) };
        assert_eq!((&body, answer.status == "success"), (&wanted, !fails), "{answer:?}");
        let kept: serde_json::Value = serde_json::from_slice(&record.result.0).expect("JSON");
        assert_eq!((kept, record.outcome.as_str()), (wanted, answer.status.as_str()));
        assert!(answer.vm.starts_with(&record.vm.expect("a VM").to_string()), "{answer:?}");
    }
    assert_eq!(by_vms_of(&cluster, 40).await, 40);
    // HTTP callers have nobody but their Frontend.
    cluster.http.result("echo", &json!({})).await;
    assert_eq!(by_vms_of(&cluster, 41).await, 40);
    eventually("no call is left open", async || answers(&cluster, "windfall_open_invocations").await == 0)
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_wants_all_answers_through_the_frontend_has_them() {
    let settings = vec![("frontend.direct_answers", "false".to_owned())];
    let cluster = Cluster::of(Plan { settings, ..Plan::default() }).await;
    cluster.http.deploy("echo", &small(ECHO)).await;
    let nats = cluster.nats().await;
    for _ in 0..5 {
        let answer = nats.call("echo", &json!({})).await.expect("an answer");
        assert_eq!(answer.status, "success", "{answer:?}");
    }
    assert_eq!(by_vms_of(&cluster, 5).await, 0);
}

/// A call that runs.
async fn begin(cluster: &Cluster, seconds: f64) -> JoinHandle<NatsAnswer> {
    let nats = cluster.nats().await;
    let call =
        tokio::spawn(
            async move { nats.call("sleep", &json!({ "seconds": seconds })).await.expect("an answer") },
        );
    eventually("it runs", async || cluster.fleet().await.iter().any(|vm| vm.running == 1)).await;
    call
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vm_that_slept_or_is_to_go_speaks_through_the_frontend() {
    let mut cluster = Cluster::of(Plan { vms: 0, ..Plan::default() }).await;
    cluster.http.deploy("sleep", &small(SLEEP)).await;
    cluster.launch_vm(VM, 1_000, 1_024);
    eventually("the VM is open", async || !cluster.open_vms().await.is_empty()).await;
    let went_well = |answer: NatsAnswer| assert_eq!(answer.status, "success", "{answer:?}");
    went_well(begin(&cluster, 1.5).await.await.expect("no panic"));
    assert_eq!(by_vms_of(&cluster, 1).await, 1, "while all is well");

    // Shorter than the silence after which it would be given up, but how should it know?
    let call = begin(&cluster, 1.5).await;
    cluster.freeze(&VM.to_string(), true);
    tokio::time::sleep(Duration::from_millis(2_200)).await;
    cluster.freeze(&VM.to_string(), false);
    went_well(call.await.expect("no panic"));
    assert_eq!(by_vms_of(&cluster, 2).await, 1, "after a sleep");
    went_well(begin(&cluster, 1.5).await.await.expect("no panic"));
    assert_eq!(by_vms_of(&cluster, 3).await, 2, "what comes after a sleep is not in doubt");

    let call = begin(&cluster, 3.0).await;
    cluster.operate(&["vm", "drain", &VM.to_string()]).await;
    went_well(call.await.expect("no panic"));
    assert_eq!(by_vms_of(&cluster, 4).await, 2, "while it drains");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_has_his_answer_though_his_frontend_dies_meanwhile() {
    let mut cluster = Cluster::start().await;
    cluster.http.deploy("sleep", &small(SLEEP)).await;
    let call = begin(&cluster, 1.5).await;
    cluster.kill("frontend-0");
    let answer = call.await.expect("no panic");
    assert_eq!(answer.status, "success", "{answer:?}");
    cluster.start_again("frontend-0");
    cluster.is_ready().await;
    assert_eq!(cluster.http.records("sleep").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_vm_told_its_caller_in_its_last_moment_has_one_record_all_the_same() {
    let cluster = Cluster::of(Plan { vms: 1, ..Plan::default() }).await;
    cluster.http.deploy("echo", &small(ECHO)).await;
    let (nats, store) = (cluster.nats().await, cluster.store().await);
    let mut by_frontend = 0;
    // Records leave every five milliseconds: of a few VMs that die at once after an answer most take one with them.
    for tries in 1..=12 {
        eventually("there is a VM", async || cluster.open_vms().await.len() == 1).await;
        let vm = cluster.open_vms().await.remove(0);
        let argument = json!({ "try": tries });
        let answer = nats.call("echo", &argument).await.expect("an answer");
        cluster.kill_vm(&vm);
        assert_eq!((answer.status.as_str(), answer.json()), ("success", json!({ "said": argument })));
        let invocation = answer.id.parse().expect("an id");
        eventually("it has a record", async || {
            store.records().get("guest", invocation).await.is_ok_and(|record| record.is_some())
        })
        .await;
        let record = store.records().get("guest", invocation).await.expect("a store").expect("a record");
        assert_eq!((record.outcome.as_str(), record.attempt.0, record.vm), ("success", 1, Some(vm.vm)));
        if record.result.0 == "{}" {
            let says = &record.logs.first().expect("a line of the log").text;
            assert!(says.contains("its caller has been told"), "{says}");
            by_frontend += 1;
        }
        if by_frontend == 2 {
            break;
        }
        eventually("its loss is known", async || cluster.fleet().await.iter().all(|other| other.vm != vm.vm))
            .await;
    }
    assert!(by_frontend > 0, "no VM died before it had stored its record");
    assert_eq!(cluster.http.records("echo").await, answers(&cluster, "windfall_answers_total").await);
}
