//! How long lists of records take in a full stream. Measured by hand:
//! `cargo test -p actors --test lists -- --ignored --nocapture`
#![allow(missing_docs)]

mod common;

use std::time::{Duration, Instant};

use actors::settings;
use actors::store::{RecordQuery, Store};
use async_nats::HeaderMap;
use common::{NatsServer, eventually};
use messages::{Record, Start, subjects};
use vocabulary::{Attempt, InvocationId, Outcome, Resources, Span, Usage};

const RECORDS: u64 = 150_000;

fn record(number: u64, started: u64) -> Record {
    Record {
        invocation: InvocationId::new(started, u128::from(number)),
        attempt: Attempt(1),
        namespace: "guest".into(),
        path: messages::FunctionPath { namespace: "guest".into(), name: "hello".into() },
        version: "0.0.1".into(),
        kind: "python:3".into(),
        outcome: Outcome::Success,
        result: b"{}".to_vec().into(),
        timed_out: false,
        started_unix_ms: started,
        ended_unix_ms: started + 1,
        waited: Span::ZERO,
        init: Span::ZERO,
        duration: Span::millis(1),
        start: Start::Warm,
        vm: None,
        reservation: Resources::new(250, 256),
        timeout: Span::seconds(60),
        log_limit_mb: 10,
        grant: None,
        usage: Usage::default(),
        logs: Vec::new(),
        logs_stored_apart: false,
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement, half a minute long"]
async fn lists_in_a_stream_of_150_000_records() {
    let server = NatsServer::start();
    let bus = server.bus("lists").await;
    let store = Store::open(&bus, &settings::Store::default()).await.expect("a store");
    let began = actors::clock::unix_ms();
    for number in 0..RECORDS {
        let record = record(number, actors::clock::unix_ms());
        let mut headers = HeaderMap::new();
        headers.insert("Windfall-Started", record.started_unix_ms.to_string());
        let subject = subjects::record("guest", "hello", record.invocation);
        let body = messages::encode(&record);
        bus.client().publish_with_headers(subject, headers, body).await.expect("published");
    }
    bus.client().flush().await.expect("flushed");
    let query = RecordQuery { namespace: "guest".into(), limit: 30, ..RecordQuery::default() };
    eventually("all are stored", async || {
        tokio::time::sleep(Duration::from_millis(200)).await;
        store.records().count(&query).await.unwrap_or_default() == RECORDS
    })
    .await;
    let ended = actors::clock::unix_ms();
    println!("{RECORDS} records stored within {} ms", ended - began);
    let early = began + (ended - began) / 20;
    let asked = [
        ("the newest 30", query.clone()),
        ("upto, early in the stream", RecordQuery { upto: Some(early), ..query.clone() }),
        ("upto, in its middle", RecordQuery { upto: Some((began + ended) / 2), ..query.clone() }),
        ("since, early in the stream", RecordQuery { since: Some(early), ..query.clone() }),
        ("one millisecond", RecordQuery { since: Some(early), upto: Some(early), ..query.clone() }),
    ];
    for (name, query) in asked {
        let before = Instant::now();
        let found = store.records().list(&query, |record| record.started_unix_ms).await.expect("a list");
        println!("{name:>28}: {:>4} found in {:?}", found.len(), before.elapsed());
        assert!(!found.is_empty());
        assert!(found.iter().all(|started| query.upto.is_none_or(|upto| *started <= upto)));
    }
    let before = Instant::now();
    let count = store.records().count(&RecordQuery { since: Some(began), ..query }).await.expect("a count");
    println!("{:>28}: {count} in {:?}", "a count since the beginning", before.elapsed());
}
