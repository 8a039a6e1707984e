//! The doors: who is let in, what is refused and why, and how they behave when many come at once.
#![allow(missing_docs)]

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

use actors::store::NamespaceLimits;
use futures::StreamExt;
use serde_json::{Value, json};
use windfall_tests::functions::{ECHO, SLEEP, python, with};
use windfall_tests::load::{Load, Through};
use windfall_tests::{Cluster, NatsAnswer, Plan, annotation, binary, eventually};

const ACTIONS: &str = "/api/v1/namespaces/_/actions";

#[tokio::test(flavor = "multi_thread")]
async fn fifty_callers_at_once_are_all_served() {
    let cluster = Cluster::start().await;
    let cpu = json!({ "limits": { "memory": 128, "cpu": 100 } });
    cluster.http.deploy("echo", &with(python(ECHO), cpu)).await;
    let load = Load::start(&cluster, "echo", json!({}), &[(Through::Http, 25), (Through::Nats, 25)]).await;
    load.goes_on(1_000).await;
    load.finish().await.all_were_answered_once_with_success(&cluster).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_says_so_and_what_it_took_is_served() {
    let settings = vec![("controller.function_queue_limit", "3".to_owned())];
    let cluster = Cluster::of(Plan { vms: 1, settings, ..Plan::default() }).await;
    let large = json!({ "limits": { "memory": 128, "cpu": 1_000 } });
    cluster.http.deploy("sleep", &with(python(SLEEP), large)).await;
    cluster.http.call("sleep", &json!({})).await;
    let nats = cluster.nats().await;
    let calls: Vec<_> = (0..20)
        .map(|number| {
            let (http, nats) = (cluster.http.clone(), nats.clone());
            tokio::spawn(async move {
                let argument = json!({ "seconds": 1 });
                if number % 2 == 0 {
                    let reply = http.call("sleep", &argument).await;
                    let reason = if reply.status == 200 { String::new() } else { reply.error() };
                    (reply.status, reason)
                } else {
                    let answer = nats.call("sleep", &argument).await.expect("an answer");
                    let reason = answer.json()["error"].as_str().unwrap_or_default().to_owned();
                    (if answer.status == "success" { 200 } else { answer.code }, reason)
                }
            })
        })
        .collect();
    let mut statuses: BTreeMap<u16, Vec<String>> = BTreeMap::new();
    for call in calls {
        let (status, reason) = call.await.expect("no panic");
        statuses.entry(status).or_default().push(reason);
    }
    let served = statuses.remove(&200).unwrap_or_default().len();
    let refused = statuses.remove(&429).unwrap_or_default();
    assert!(statuses.is_empty(), "neither served nor told to come back: {statuses:?}");
    // One runs and three wait; more may come in as places become free.
    assert!((4..20).contains(&served) && served + refused.len() == 20, "{served} served, {refused:?}");
    assert!(refused.iter().all(|reason| reason.contains("invocations waiting for a place")), "{refused:?}");
    // What is durable is put off instead, and ends.
    let mut ids = Vec::new();
    for _ in 0..8 {
        ids.push(cluster.http.submit("sleep", &json!({ "seconds": 0.1 })).await);
    }
    for id in ids {
        assert_eq!(cluster.http.record(&id).await["response"]["status"], "success");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_vms_callers_are_told_and_what_is_durable_waits_for_one() {
    let settings =
        vec![("resource_monitor.provider", "none".to_owned()), ("frontend.patience_ms", "1500".to_owned())];
    let mut cluster = Cluster::of(Plan { vms: 0, settings, ..Plan::default() }).await;
    cluster.http.deploy("echo", &python(ECHO)).await;
    let (http, nats) = (cluster.http.clone(), cluster.nats().await);
    let reply = http.call("echo", &json!({})).await;
    assert_eq!(reply.status, 500, "{reply:?}");
    let error = reply.json()["response"]["result"]["error"].to_string();
    assert!(error.contains("no place was found within 1.5"), "{error}");
    let answer = nats.call("echo", &json!({})).await.expect("an answer");
    assert_eq!(answer.status, "whisk internal error");
    assert!(answer.json()["error"].as_str().is_some_and(|error| error.contains("no place")), "{answer:?}");
    // Who was told that it goes on (202) finds a record, even if nothing could run it.
    let reply = http.post(&format!("{ACTIONS}/echo?blocking=true&timeout=200"), &json!({})).await;
    assert_eq!(reply.status, 202, "{reply:?}");
    let record = http.record(&reply.id()).await;
    assert_eq!(record["response"]["success"], json!(false), "{record}");
    let id = http.submit("echo", &json!({ "a": 1 })).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    cluster.launch_vm(vocabulary::VmId(0xabc), 1_000, 1_024);
    let record = http.record(&id).await;
    assert_eq!(record["response"]["result"], json!({ "a": 1 }), "what was accepted waited for it");
    assert_eq!(http.result("echo", &json!({ "a": 2 })).await, json!({ "a": 2 }));
    // What no VM could hold is refused at once.
    http.deploy("huge", &with(python(ECHO), json!({ "limits": { "cpu": 64_000 } }))).await;
    let reply = http.call("huge", &json!({})).await;
    assert_eq!(reply.status, 400, "{reply:?}");
    assert!(reply.error().contains("64"), "{reply:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn names_of_every_legal_shape_work_at_every_door_and_illegal_ones_are_refused() {
    let cluster = Cluster::start().await;
    let (http, nats) = (&cluster.http, cluster.nats().await);
    let small = with(python(ECHO), json!({ "limits": { "memory": 128, "cpu": 50 } }));
    let longest = "n".repeat(256);
    for (name, in_url) in [
        ("a b", "a%20b"),
        ("AbC", "AbC"),
        ("aBc", "aBc"),
        ("x@y.z & w-1_", "x@y.z%20%26%20w-1_"),
        ("1", "1"),
        ("_", "_"),
        (&longest, &longest),
    ] {
        http.deploy(in_url, &small).await;
        let reply = http.call(in_url, &json!({ "name": name })).await;
        assert_eq!(reply.status, 200, "{name}: {reply:?}");
        assert_eq!(reply.json()["name"], json!(name));
        let answer = nats.call(name, &json!({ "name": name })).await.expect("an answer");
        assert_eq!((answer.status.as_str(), answer.json()), ("success", json!({ "name": name })));
        assert_eq!(http.record(&answer.id).await["name"], json!(name));
    }
    let too_long = "n".repeat(257);
    for in_url in ["%20", "hi%2Bthere", "$hola", "dora%3F", "-x", ".x", "x%20", "a%00b", "a%0Ab", &too_long] {
        let reply = http.put(&format!("{ACTIONS}/{in_url}"), &small).await;
        assert_eq!(reply.status, 400, "{in_url}: {reply:?}");
        reply.error();
    }
    // Two functions whose names differ only in case are two.
    http.deploy("AbC", &python("def main(args):\n    return {'other': True}")).await;
    assert_eq!(http.result("aBc", &json!({})).await, json!({}));
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_comes_in_with_a_wrong_key_or_a_body_that_is_none() {
    let cluster = Cluster::start().await;
    let (http, nats) = (&cluster.http, cluster.nats().await);
    http.deploy("echo", &python(ECHO)).await;
    let (user, key) = http.key.split_once(':').expect("uuid:key");
    let other_key = format!("{user}:{}", key.chars().rev().collect::<String>());
    for wrong in ["", &other_key, &format!("{user}:"), "nobody:nothing", &format!("{key}:{user}")] {
        let reply = http.with_key(wrong).call("echo", &json!({})).await;
        assert_eq!(reply.status, 401, "{wrong}");
        assert!(reply.error().contains("authentication is invalid"));
        assert!(reply.header("www-authenticate").is_some_and(|value| value.starts_with("Basic")));
    }
    let unknown = http.call("nothing", &json!({})).await;
    assert_eq!((unknown.status, unknown.error()), (404, "The requested resource does not exist.".into()));
    let unknown = nats.call("nothing", &json!({})).await.expect("an answer");
    assert_eq!((unknown.status.as_str(), unknown.code), ("refused", 404));

    let json_type = [("content-type", "application/json")];
    let path = format!("{ACTIONS}/echo?blocking=true&result=true");
    for wrong in [&b"{"[..], b"[]", b"7", b"null", b"{\"a\":}", b"{}{}", b"\xff\xfe", b"{\"a\":\"\xff\"}"] {
        let reply = http.send("POST", &path, &json_type, wrong).await.expect("an answer");
        assert_eq!(reply.status, 400, "{wrong:?}");
        let answer = nats.ask("echo", &[], wrong).await.expect("an answer");
        assert_eq!((answer.status.as_str(), answer.code), ("refused", 400), "{wrong:?}");
    }
    let packed = [("Content-Type", "application/msgpack")];
    let deep = b"\x81\xa1a".repeat(200_000);
    for wrong in [&[0xc1][..], &[0x81, 0xa1], &[0x90], &[0x81, 1, 2], &[0xdf, 0xff, 0xff, 0xff, 0xff], &deep]
    {
        let answer = nats.ask("echo", &packed, wrong.to_vec()).await.expect("an answer");
        assert_eq!(
            (answer.status.as_str(), answer.code),
            ("refused", 400),
            "{:?}",
            &wrong[..wrong.len().min(9)]
        );
        let told: Value = rmp_serde::from_slice(&answer.body).expect("a refusal in the caller's format");
        assert!(told["error"].as_str().is_some_and(|error| error.contains("MessagePack")), "{told}");
    }
    let answer = nats.ask("echo", &[("Content-Type", "text/csv")], "a,b").await.expect("an answer");
    assert_eq!((answer.status.as_str(), answer.code), ("refused", 415));
    // After all of that the doors still serve.
    assert_eq!(http.result("echo", &json!({ "a": 1 })).await, json!({ "a": 1 }));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_durable_submission_that_cannot_run_ends_with_a_record_that_says_why() {
    let cluster = Cluster::start().await;
    let nats = cluster.nats().await;
    let id = "0193b1c0ffee0000000000000000dead";
    nats.submit("nothing", &[("Windfall-Invocation", id)], &json!({})).await.expect("accepted");
    let record = cluster.http.record(id).await;
    assert_eq!(record["response"]["success"], json!(false));
    assert!(
        record["response"]["result"]["error"].as_str().is_some_and(|error| error.contains("not exist")),
        "{record}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_submission_that_comes_twice_under_one_id_has_one_record_and_is_answered_twice() {
    let cluster = Cluster::start().await;
    let counting = "runs = 0\ndef main(args):\n    global runs\n    runs += 1\n    return {'runs': runs}";
    cluster.http.deploy("counting", &python(counting)).await;
    let nats = cluster.nats().await;
    let id = "0193b1c0ffee00000000000000007a1c";
    let header = [("Windfall-Invocation", id), ("Windfall-Reply-To", "windfall.reply.guest.twice")];
    let mut answers = nats.client.subscribe("windfall.reply.guest.twice").await.expect("subscribed");
    nats.submit("counting", &header, &json!({})).await.expect("accepted");
    let first = cluster.http.record(id).await;
    assert_eq!(first["response"]["result"], json!({ "runs": 1 }));
    // The VM that ran it would know it again: let another one be asked.
    let vm =
        annotation(&first, "windfall").expect("what Windfall did")["vm"].as_str().expect("text").to_owned();
    cluster.operate(&["vm", "drain", &vm]).await;
    eventually("it is known to drain", async || {
        cluster.open_vms().await.iter().all(|open| open.vm.to_string() != vm)
    })
    .await;
    nats.submit("counting", &header, &json!({})).await.expect("accepted");
    // Both are answered, with the same.
    for _ in 0..2 {
        let answer = tokio::time::timeout(windfall_tests::PATIENCE, answers.next()).await.expect("in time");
        assert_eq!(NatsAnswer::of(&answer.expect("a message")).json(), json!({ "runs": 1 }));
    }
    assert_eq!(cluster.http.record(id).await, first);
    assert_eq!(cluster.http.records("counting").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn where_another_attempt_has_left_its_record_the_caller_is_told_what_that_says() {
    let cluster = Cluster::start().await;
    cluster.http.deploy("echo", &python(ECHO)).await;
    let nats = cluster.nats().await;
    // Ids from before a Frontend's connection are looked up at once; this one is new enough to be run.
    tokio::time::sleep(Duration::from_secs(6)).await;
    let id = vocabulary::InvocationId::new(actors::clock::unix_ms(), 0x7a1c);
    let ran = cluster.http.submit("echo", &json!({ "attempt": "lost" })).await;
    cluster.http.record(&ran).await;
    let store = cluster.store().await;
    let lost = store.records().get("guest", ran.parse().expect("an id")).await.expect("a store");
    let lost = messages::Record { invocation: id, ..lost.expect("a record") };
    store.records().write(lost).await.expect("stored");
    let id = id.to_string();
    let mut answers = nats.client.subscribe("windfall.reply.guest.lost").await.expect("subscribed");
    let headers = [
        ("Windfall-Invocation", id.as_str()),
        ("Nats-Msg-Id", &id),
        ("Windfall-Reply-To", "windfall.reply.guest.lost"),
    ];
    nats.submit("echo", &headers, &json!({ "attempt": "valid" })).await.expect("accepted");
    let answer = tokio::time::timeout(windfall_tests::PATIENCE, answers.next()).await.expect("in time");
    let answer = NatsAnswer::of(&answer.expect("a message")).json();
    assert_eq!(answer, json!({ "attempt": "lost" }), "one story for the caller and the record");
    assert_eq!(cluster.http.record(&id).await["response"]["result"], answer);
}

#[tokio::test(flavor = "multi_thread")]
async fn namespaces_that_choose_the_same_id_do_not_hear_each_other() {
    let cluster = Cluster::start().await;
    let other = cluster.namespace("other", NamespaceLimits::default()).await;
    let id = "0193b1c0ffee00000000000000005a3e";
    let mut answers = Vec::new();
    for (namespace, http) in [("guest", &cluster.http), ("other", &other)] {
        http.deploy("sleep", &with(python(SLEEP), json!({ "limits": { "memory": 128, "cpu": 100 } }))).await;
        let nats = cluster.nats_of(namespace).await;
        let reply_to = format!("windfall.reply.{namespace}.same");
        answers.push((namespace, http, nats.client.subscribe(reply_to.clone()).await.expect("subscribed")));
        nats.client.flush().await.expect("flushed");
        let headers = [("Windfall-Invocation", id), ("Windfall-Reply-To", reply_to.as_str())];
        // Long enough for both to be open at once.
        let argument = json!({ "seconds": 1.5, "secret of": namespace });
        nats.submit("sleep", &headers, &argument).await.expect("accepted");
    }
    for (namespace, http, mut heard) in answers {
        let answer = tokio::time::timeout(windfall_tests::PATIENCE, heard.next()).await.expect("in time");
        assert_eq!(NatsAnswer::of(&answer.expect("a message")).json()["secret of"], namespace);
        assert_eq!(http.record(id).await["response"]["result"]["secret of"], namespace);
    }
}

#[test]
fn a_bad_value_stops_every_role_at_start_and_names_key_and_source() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("own.toml");
    std::fs::write(&file, "[controller]\nplacement = \"dice\"\n").expect("written");
    for (role, variables, parts) in [
        (
            "frontend",
            vec![("WINDFALL_FRONTEND__HTTP", "nowhere")],
            vec!["frontend.http", "WINDFALL_FRONTEND__HTTP"],
        ),
        (
            "controller",
            vec![("WINDFALL_CONFIG", file.to_str().expect("text"))],
            vec!["controller.placement", "own.toml", "mws"],
        ),
        (
            "resource-monitor",
            vec![("WINDFALL_RESOURCE_MONITOR__PROVIDER", "magic")],
            vec!["resource_monitor.provider", "process"],
        ),
        ("vm", vec![("WINDFALL_VM__KIND", "lunar")], vec!["vm.kind", "harvest"]),
        (
            "vm",
            vec![("WINDFALL_VM__KEEP_ALIVE_MS", "-1")],
            vec!["vm.keep_alive_ms", "WINDFALL_VM__KEEP_ALIVE_MS"],
        ),
        ("vm", vec![("WINDFALL_VM__COLOUR", "red")], vec!["vm.colour", "no such key"]),
    ] {
        let mut command = Command::new(binary());
        command.arg(role).env_clear().current_dir(folder.path()).envs(variables);
        let output = command.output().expect("the binary runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{role}: {said}");
        for part in parts {
            assert!(said.contains(part), "{role}: '{part}' is missing in: {said}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_limit_is_named_when_it_is_reached() {
    let settings = vec![("frontend.open_limit", "2".to_owned())];
    let cluster = Cluster::of(Plan { settings, ..Plan::default() }).await;
    cluster
        .http
        .deploy("sleep", &with(python(SLEEP), json!({ "limits": { "memory": 128, "cpu": 100 } })))
        .await;
    let calls: Vec<_> = (0..6)
        .map(|_| {
            let http = cluster.http.clone();
            tokio::spawn(async move { http.call("sleep", &json!({ "seconds": 2 })).await })
        })
        .collect();
    let mut refused = 0;
    for call in calls {
        let reply = call.await.expect("no panic");
        if reply.status != 200 {
            assert_eq!(reply.status, 429, "{reply:?}");
            assert!(reply.error().contains("frontend.open_limit"), "{reply:?}");
            refused += 1;
        }
    }
    assert_eq!(refused, 4);
    eventually("places are given back", async || cluster.http.call("sleep", &json!({})).await.status == 200)
        .await;
}
