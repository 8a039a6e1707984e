//! What was accepted leaves a trace, runs once, and speaks in nobody else's name.
#![allow(missing_docs)]

mod common;

use std::time::Duration;

use async_nats::HeaderMap;
use common::eventually;
use common::house::{House, action, python};
use messages::{HEADER_INVOCATION, HEADER_REPLY_TO, subjects};
use serde_json::{Value, json};
use vocabulary::InvocationId;

/// A submission by a client of NATS that wants its answer on `answers`.
async fn submit(house: &House, name: &str, headers: &[(&str, &str)]) -> Value {
    let client = house.server.bus("a user").await.client().clone();
    let mut answers = client.subscribe("answers").await.unwrap();
    let mut all = HeaderMap::new();
    all.insert(HEADER_REPLY_TO, "answers");
    for (header, value) in headers {
        all.insert(*header, *value);
    }
    let taken = async_nats::jetstream::new(client)
        .publish_with_headers(subjects::submit("guest", name), all, json!({"n": 1}).to_string().into())
        .await;
    taken.unwrap().await.expect("it was taken");
    let answer = tokio::time::timeout(Duration::from_secs(20), futures::StreamExt::next(&mut answers)).await;
    serde_json::from_slice(&answer.expect("an answer in time").expect("an answer").payload).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_submission_that_is_sent_again_after_its_end_is_not_run_again() {
    let house = House::start().await;
    house.action("echo").await;
    // Of this moment, of long ago, and without a time at all.
    let now = InvocationId::new(actors::clock::unix_ms(), 1);
    for id in [now, InvocationId::new(1_700_000_000_000, 2), InvocationId(3)] {
        let id = id.to_string();
        let runs = || {
            let submitted = house.submitted.lock().unwrap();
            submitted.iter().filter(|submit| submit.invocation.to_string() == id).count()
        };
        let first = submit(&house, "echo", &[(HEADER_INVOCATION, &id)]).await;
        assert_eq!((first["n"].clone(), runs()), (json!(1), 1));
        let again = submit(&house, "echo", &[(HEADER_INVOCATION, &id)]).await;
        assert_eq!(again, first, "the same answer");
        assert_eq!(runs(), 1, "{id} was run again");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_hands_in_a_key_or_a_transaction_that_is_not_the_houses() {
    let house = House::start().await;
    let mut with_key = python("def main(args): return args");
    with_key["annotations"] = json!([{"key": "provide-api-key", "value": true}]);
    house.http.put(&action("echo"), &with_key).await;
    submit(&house, "echo", &[("Windfall-Api-Key", "somebody:else"), ("Windfall-Transaction", "forged")])
        .await;
    let by_nats = house.last_submit();
    assert_eq!((by_nats.api_key, by_nats.transaction.as_str()), (None, ""));

    let reply = house.http.post(&action("echo"), &json!({})).await;
    assert_eq!(reply.status, 202);
    eventually("it is submitted", async || house.submitted.lock().unwrap().len() == 2).await;
    let by_http = house.last_submit();
    assert_eq!(by_http.api_key, Some(house.guest.as_text()));
    assert_eq!(reply.header("x-request-id"), Some(by_http.transaction.as_str()));
}

async fn record_of(house: &House, id: &Value) -> Value {
    let path = format!("/api/v1/namespaces/_/activations/{}", id.as_str().unwrap());
    eventually("it has a record", async || house.http.get(&path).await.status == 200).await;
    house.http.get(&path).await.json()
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_controller_a_caller_hears_so_or_finds_a_record_that_says_so() {
    let house = House::without_controller().await;
    house.action("echo").await;
    let (patient, hasty) = (action("echo?blocking=true"), action("echo?blocking=true&timeout=500"));
    let (body, began) = (json!({}), std::time::Instant::now());
    let (patient, hasty) = tokio::join!(house.http.post(&patient, &body), house.http.post(&hasty, &body));
    assert_eq!(patient.status, 503, "{patient:?}");
    assert!(patient.error().contains("no Controller"), "{patient:?}");
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    assert_eq!(hasty.status, 202);
    let record = record_of(&house, &hasty.json()["activationId"]).await;
    assert_eq!(record["response"]["status"], "whisk internal error");
    let error = record["response"]["result"]["error"].as_str().unwrap();
    assert!(error.contains("no Controller"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_after_its_caller_was_sent_away_has_a_record() {
    let house = House::start().await;
    house.action("given-up").await;
    let sent_away = house.http.post(&action("given-up?blocking=true&timeout=200"), &json!({})).await;
    assert_eq!(sent_away.status, 202);
    let record = record_of(&house, &sent_away.json()["activationId"]).await;
    assert_eq!(record["response"]["result"]["error"], "because of the test");
    let waited = house.http.post(&action("given-up?blocking=true"), &json!({})).await;
    assert_eq!(waited.status, 503);
}
