//! The store against a real nats-server.
#![allow(missing_docs)]

mod common;

use std::sync::LazyLock;
use std::time::Duration;

use actors::settings;
use actors::store::{
    Credentials, FunctionDefinition, FunctionLimits, JsonText, NamespaceLimits, Parameter, RecordQuery,
    Store, StoreError, Version,
};
use bytes::Bytes;
use common::{NatsServer, eventually};
use futures::StreamExt;
use messages::{FunctionPath, LogLine, LogStream, Record, Start};
use vocabulary::{Attempt, InvocationId, Outcome, Resources, Revision, Span, Usage};

async fn store(server: &NatsServer, name: &str) -> Store {
    Store::open(&server.bus(name).await, &settings::Store::default()).await.expect("an open store")
}

fn function(namespace: &str, name: &str) -> FunctionDefinition {
    FunctionDefinition {
        id: FunctionDefinition::new_id(),
        revision: Revision(0),
        namespace: namespace.into(),
        name: name.into(),
        version: Version::FIRST,
        kind: "python:3".into(),
        main: String::new(),
        binary: false,
        code: None,
        parameters: vec![Parameter { key: "a".into(), value: JsonText("[1]".into()), init: false }],
        annotations: Vec::new(),
        limits: FunctionLimits {
            timeout_ms: 1000,
            memory_mb: 256,
            logs_mb: 1,
            concurrency: 1,
            cpu_millicores: 250,
        },
        publish: false,
        updated_unix_ms: 5,
    }
}

fn path(namespace: &str, name: &str) -> FunctionPath {
    FunctionPath { namespace: namespace.into(), name: name.into() }
}

/// When these tests began: records lie in the stream near the time at which they start.
static BASE: LazyLock<u64> = LazyLock::new(actors::clock::unix_ms);

fn record(number: u64, function: &str) -> Record {
    Record {
        invocation: InvocationId::new(*BASE + number, u128::from(number)),
        attempt: Attempt::FIRST,
        namespace: "guest".into(),
        path: path("guest", function),
        version: "0.0.1".into(),
        kind: "python:3".into(),
        outcome: Outcome::Success,
        result: Bytes::from_static(b"{}").into(),
        timed_out: false,
        started_unix_ms: *BASE + number,
        ended_unix_ms: *BASE + number + 5,
        waited: Span::millis(1),
        init: Span::ZERO,
        duration: Span::millis(5),
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

fn query() -> RecordQuery {
    RecordQuery { namespace: "guest".into(), limit: 30, ..Default::default() }
}

async fn starts(store: &Store, query: &RecordQuery) -> Vec<u64> {
    store.records().list(query, |record| record.started_unix_ms - *BASE).await.expect("a list")
}

#[tokio::test(flavor = "multi_thread")]
async fn many_processes_may_open_the_store_at_once() {
    let server = NatsServer::start();
    let buses =
        futures::future::join_all((0..8).map(|n| server.bus(if n == 0 { "first" } else { "other" }))).await;
    let settings = settings::Store::default();
    let opened = futures::future::join_all(buses.iter().map(|bus| Store::open(bus, &settings))).await;
    for store in opened {
        store.expect("every one of them opens");
    }
    // And with other limits, which are adapted in place.
    let smaller = settings::Store { record_size_mib: 64, record_age_h: 1, ..settings::Store::default() };
    Store::open(&buses[0], &smaller).await.expect("adapted");
    let context = async_nats::jetstream::new(buses[0].client().clone());
    let stream = context.get_stream("WINDFALL_RECORDS").await.unwrap();
    assert_eq!(stream.cached_info().config.max_bytes, 64 << 20);
    assert_eq!(stream.cached_info().config.max_age, Duration::from_secs(3600));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_cannot_keep_what_is_asked_says_what_to_do() {
    let off = NatsServer::start_with("");
    let error = Store::open(&off.bus("t").await, &settings::Store::default()).await.err().unwrap();
    assert!(matches!(error, StoreError::JetStreamOff), "{error}");

    let small = NatsServer::start_with("jetstream { store_dir: \"FOLDER/js\", max_file_store: 1MB }");
    let error = Store::open(&small.bus("t").await, &settings::Store::default()).await.err().unwrap();
    assert!(matches!(error, StoreError::NoSpace { .. }), "{error:?}");

    let alone = NatsServer::start();
    let three = settings::Store { replicas: 3, ..settings::Store::default() };
    let error = Store::open(&alone.bus("t").await, &three).await.err().unwrap();
    assert!(matches!(error, StoreError::TooFewNodes { replicas: 3, .. }), "{error:?}");

    let taken = NatsServer::start();
    let bus = taken.bus("t").await;
    let config = async_nats::jetstream::stream::Config {
        name: "OTHER".into(),
        subjects: vec!["windfall.>".into()],
        ..Default::default()
    };
    async_nats::jetstream::new(bus.client().clone()).create_stream(config).await.unwrap();
    let error = Store::open(&bus, &settings::Store::default()).await.err().unwrap();
    assert!(matches!(error, StoreError::InTheWay { .. }), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_function_is_seen_by_every_process_and_updates_do_not_cross() {
    let server = NatsServer::start();
    let (one, other) = (store(&server, "one").await, store(&server, "other").await);
    let created = one.functions().put(function("guest", "a b/c"), None).await.unwrap();
    assert_eq!(one.functions().get(&created.path()), Some(created.clone()));
    eventually("the other process sees it", async || other.functions().get(&created.path()).is_some()).await;

    let again = one.functions().put(function("guest", "a b/c"), None).await;
    assert!(matches!(again, Err(StoreError::Conflict { .. })), "{again:?}");
    let updated = other.functions().put((*created).clone(), Some(created.revision)).await.unwrap();
    assert_eq!(updated.id, created.id);
    assert!(updated.revision > created.revision);
    let stale = one.functions().put((*created).clone(), Some(created.revision)).await;
    assert!(matches!(stale, Err(StoreError::Conflict { .. })), "{stale:?}");

    // A process that was told of a revision gets at least that one, whatever it knew.
    let fetched = one.functions().fetch(&created.path(), updated.revision).await.unwrap().unwrap();
    assert_eq!(fetched, updated);
    assert_eq!(one.functions().fetch(&path("guest", "none"), Revision(1)).await.unwrap(), None);

    assert!(one.functions().delete(&created.path(), created.revision).await.is_err());
    one.functions().delete(&created.path(), updated.revision).await.unwrap();
    assert_eq!(one.functions().get(&created.path()), None);
    eventually("the other forgets it", async || other.functions().get(&created.path()).is_none()).await;
    assert_eq!(other.functions().fetch(&created.path(), updated.revision).await.unwrap(), None);
    // Made again under the same name it is another one.
    let reborn = other.functions().put(function("guest", "a b/c"), None).await.unwrap();
    assert_ne!(reborn.id, created.id);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_that_create_the_same_function_one_wins() {
    let server = NatsServer::start();
    let (one, other) = (store(&server, "one").await, store(&server, "other").await);
    for round in 0..20 {
        let name = format!("f{round}");
        let (a, b) = tokio::join!(
            one.functions().put(function("guest", &name), None),
            other.functions().put(function("guest", &name), None)
        );
        assert_eq!(usize::from(a.is_ok()) + usize::from(b.is_ok()), 1, "round {round}");
    }
    // The last one may be the other's, of which this one hears a moment later.
    eventually("all are listed", async || one.functions().list("guest", None).len() == 20).await;
    assert!(one.functions().list("guest", Some("f1")).is_empty());
    assert!(one.functions().list("gues", None).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_process_knows_every_function_before_it_begins() {
    let server = NatsServer::start();
    let one = store(&server, "one").await;
    let puts = (0..300).map(|n| {
        let one = &one;
        async move { one.functions().put(function("guest", &format!("f{n}")), None).await.map(drop) }
    });
    for result in futures::future::join_all(puts).await {
        result.unwrap();
    }
    let late = store(&server, "late").await;
    assert_eq!(late.functions().all().len(), 300);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_that_cannot_be_read_is_skipped_and_counted() {
    let server = NatsServer::start();
    let one = store(&server, "one").await;
    let context = async_nats::jetstream::new(server.bus("vandal").await.client().clone());
    for (subject, value) in
        [("$KV.WINDFALL_FUNCTIONS.guest.bad", "nonsense"), ("$KV.WINDFALL_FUNCTIONS.odd", "x")]
    {
        context.publish(subject, value.into()).await.unwrap().await.unwrap();
    }
    one.functions().put(function("guest", "good"), None).await.unwrap();
    eventually("both are counted", async || one.functions().unreadable() == 2).await;
    assert_eq!(one.functions().list("guest", None).len(), 1);
    assert_eq!(store(&server, "late").await.functions().all().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn code_comes_back_as_it_was_put() {
    let server = NatsServer::start();
    let one = store(&server, "one").await;
    for size in [0, 1, 1 << 20, (5 << 20) + 3] {
        let code: Bytes = (0..size).map(|n: usize| (n * 7) as u8).collect::<Vec<_>>().into();
        let digest = one.code().put(code.clone()).await.unwrap();
        assert_eq!(one.code().put(code.clone()).await.unwrap(), digest);
        assert!(one.code().get(&digest).await.unwrap() == code, "{size}");
    }
    let missing = one.code().get(&"0".repeat(64)).await;
    assert!(matches!(missing, Err(StoreError::Damaged { .. })), "{missing:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn code_without_a_function_is_swept_and_can_be_put_again() {
    let server = NatsServer::start();
    let one = store(&server, "one").await;
    let kept = one.code().put(Bytes::from_static(b"kept")).await.unwrap();
    let orphan = one.code().put(Bytes::from_static(b"orphan")).await.unwrap();
    let referenced = std::iter::once(kept.clone()).collect();
    assert_eq!(one.code().sweep(&referenced, Duration::from_secs(3600)).await.unwrap(), 0);
    tokio::time::sleep(Duration::from_millis(50)).await;
    let other = store(&server, "other").await;
    assert_eq!(
        other.code().sweep(&referenced, Duration::from_millis(1)).await.unwrap(),
        0,
        "it has not seen it before"
    );
    assert_eq!(one.code().sweep(&referenced, Duration::from_millis(1)).await.unwrap(), 1);
    assert!(one.code().get(&kept).await.is_ok());
    assert!(one.code().get(&orphan).await.is_err());
    one.code().put(Bytes::from_static(b"orphan")).await.unwrap();
    assert_eq!(one.code().get(&orphan).await.unwrap(), "orphan");
}

#[tokio::test(flavor = "multi_thread")]
async fn code_over_the_configured_size_is_refused_with_what_to_do() {
    let server = NatsServer::start();
    let settings = settings::Store { code_size_mib: 1, ..settings::Store::default() };
    let one = Store::open(&server.bus("one").await, &settings).await.unwrap();
    let error = one.code().put(vec![7; 3 << 20].into()).await.unwrap_err();
    assert!(matches!(error, StoreError::NoSpace { .. }), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_opens_its_own_namespace_only() {
    let server = NatsServer::start();
    let (one, other) = (store(&server, "one").await, store(&server, "other").await);
    let limits = NamespaceLimits::default();
    let guest = one.namespaces().create("guest", None, limits).await.unwrap();
    let known =
        one.namespaces().authenticate(&guest.uuid, &guest.key).expect("it opens at once where it was made");
    assert_eq!(known.namespace, "guest");
    eventually("and everywhere soon", async || {
        other.namespaces().authenticate(&guest.uuid.to_uppercase(), &guest.key).is_some()
    })
    .await;
    let stranger = Credentials::random();
    for (uuid, key) in [
        (&guest.uuid, &stranger.key),
        (&stranger.uuid, &guest.key),
        (&guest.uuid, &guest.key[..63].to_owned()),
        (&guest.uuid, &String::new()),
    ] {
        assert!(one.namespaces().authenticate(uuid, key).is_none());
    }
    // Given again: the same; to another namespace: refused; with other limits: adapted.
    assert_eq!(other.namespaces().create("guest", Some(guest.clone()), limits).await.unwrap(), guest);
    let stolen = other.namespaces().create("thief", Some(guest.clone()), limits).await;
    assert!(matches!(stolen, Err(StoreError::Conflict { .. })), "{stolen:?}");
    let fewer = NamespaceLimits { invocations_per_minute: Some(1), concurrent_invocations: None };
    one.namespaces().create("guest", Some(guest.clone()), fewer).await.unwrap();
    assert_eq!(one.namespaces().authenticate(&guest.uuid, &guest.key).unwrap().limits, fewer);
    assert!(one.namespaces().revoke(&guest.uuid).await.unwrap());
    assert!(!one.namespaces().revoke(&guest.uuid).await.unwrap());
    assert!(one.namespaces().authenticate(&guest.uuid, &guest.key).is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_record_of_an_invocation_wins() {
    let server = NatsServer::start();
    let (one, other) = (store(&server, "one").await, store(&server, "other").await);
    let first = record(1, "hello");
    one.records().write(first.clone()).await.unwrap();
    let mut second = first.clone();
    second.attempt = Attempt(2);
    second.outcome = Outcome::InternalError;
    other.records().write(second).await.unwrap();
    assert_eq!(other.records().counters().duplicates(), 1);
    assert_eq!(other.records().get("guest", first.invocation).await.unwrap(), Some(first.clone()));
    assert_eq!(other.records().get("stranger", first.invocation).await.unwrap(), None);
    assert_eq!(other.records().get("guest", InvocationId(5)).await.unwrap(), None);

    // At the same moment, many times: always one.
    for number in 10..40 {
        let (mut a, mut b) = (record(number, "race"), record(number, "race"));
        (a.attempt, b.attempt) = (Attempt(1), Attempt(2));
        let (x, y) = tokio::join!(one.records().write(a), other.records().write(b));
        x.unwrap();
        y.unwrap();
    }
    let stored = one.records().counters().stored() + other.records().counters().stored();
    let duplicates = one.records().counters().duplicates() + other.records().counters().duplicates();
    assert_eq!((stored, duplicates), (31, 31));
}

#[tokio::test(flavor = "multi_thread")]
async fn large_logs_are_kept_apart_and_come_back_with_their_record() {
    let server = NatsServer::start();
    let one = store(&server, "one").await;
    let mut chatty = record(1, "chatty");
    chatty.logs = (0..3000)
        .map(|n| LogLine { unix_us: n, stream: LogStream::Stdout, text: format!("{n} {}", "x".repeat(1000)) })
        .collect();
    one.records().write(chatty.clone()).await.unwrap();
    let read = one.records().get("guest", chatty.invocation).await.unwrap().unwrap();
    assert!(read.logs_stored_apart);
    assert!(read.logs == chatty.logs);
    assert_eq!(one.records().logs("guest", chatty.invocation).await.unwrap().unwrap().len(), 3000);
}

#[tokio::test(flavor = "multi_thread")]
async fn records_are_listed_newest_first_within_every_window() {
    let server = NatsServer::start();
    let one = store(&server, "one").await;
    let total = 5_000;
    for number in 0..total {
        // One in a thousand is of another function, whose list must look far back.
        one.records().enqueue(record(number, if number % 1000 == 7 { "rare" } else { "common" })).await;
    }
    assert!(one.records().flush(Duration::from_secs(60)).await);
    assert_eq!(one.records().counters().stored(), total);
    assert_eq!(one.records().counters().backlog(), 0);

    let newest: Vec<u64> = (total - 30..total).rev().collect();
    assert_eq!(starts(&one, &query()).await, newest);
    let second_page = RecordQuery { skip: 30, limit: 10, ..query() };
    assert_eq!(starts(&one, &second_page).await, (total - 40..total - 30).rev().collect::<Vec<_>>());
    let rare = RecordQuery { function: Some("rare".into()), limit: 200, ..query() };
    assert_eq!(starts(&one, &rare).await, [4007, 3007, 2007, 1007, 7]);
    let span = RecordQuery { since: Some(*BASE + 100), upto: Some(*BASE + 105), ..query() };
    assert_eq!(starts(&one, &span).await, [105, 104, 103, 102, 101, 100]);
    assert_eq!(one.records().count(&span).await.unwrap(), 6);
    assert_eq!(one.records().count(&query()).await.unwrap(), total);
    assert_eq!(one.records().count(&rare).await.unwrap(), 5);
    for edge in [0, u64::MAX] {
        let none = RecordQuery { since: Some(u64::MAX - edge), upto: Some(edge), ..query() };
        assert_eq!(starts(&one, &none).await.len(), if edge == 0 { 0 } else { 30 });
    }
    let beyond = RecordQuery { skip: 1_000_000, ..query() };
    assert!(starts(&one, &beyond).await.is_empty());
    let nobody = RecordQuery { namespace: "nobody".into(), ..query() };
    assert!(starts(&one, &nobody).await.is_empty());
    assert_eq!(one.records().count(&nobody).await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_ended_last_does_not_overtake_a_rush_before_it() {
    let server = NatsServer::start();
    let one = store(&server, "one").await;
    let watcher = server.bus("watcher").await;
    let mut sent = watcher.client().subscribe("windfall.record.>").await.unwrap();
    watcher.client().flush().await.unwrap();
    // Takes longer to be sent than the time between two departures.
    let total = 5_000;
    for number in 0..total {
        one.records().enqueue(record(number, "rush")).await;
    }
    assert!(one.records().flush(Duration::from_secs(60)).await);
    let mut order = Vec::new();
    while (order.len() as u64) < total {
        let message = sent.next().await.expect("the connection is there");
        order.push(messages::decode::<Record>(&message.payload).unwrap().started_unix_ms - *BASE);
    }
    assert!(order.is_sorted(), "{:?}", order.windows(2).find(|pair| pair[0] > pair[1]));
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_survives_a_restart_of_the_server() {
    let mut server = NatsServer::start();
    let (one, other) = (store(&server, "one").await, store(&server, "other").await);
    let kept = one.functions().put(function("guest", "kept"), None).await.unwrap();
    let removed = one.functions().put(function("guest", "removed"), None).await.unwrap();
    let guest = one.namespaces().create("guest", None, NamespaceLimits::default()).await.unwrap();
    one.records().write(record(1, "before")).await.unwrap();

    server.kill();
    // While it is away, what is known is still known, and records wait.
    assert!(other.functions().get(&kept.path()).is_some());
    assert!(other.namespaces().authenticate(&guest.uuid, &guest.key).is_some());
    for number in 2..50 {
        one.records().enqueue(record(number, "during")).await;
    }
    assert_eq!(one.records().counters().backlog(), 48);
    server.go();

    assert!(one.records().flush(Duration::from_secs(60)).await, "every record that waited is stored");
    assert_eq!(starts(&one, &RecordQuery { limit: 200, ..query() }).await.len(), 49);
    one.functions().delete(&removed.path(), removed.revision).await.unwrap();
    let new = one.functions().put(function("guest", "new"), None).await.unwrap();
    eventually("the watch goes on", async || {
        other.functions().get(&new.path()).is_some() && other.functions().get(&removed.path()).is_none()
    })
    .await;
    assert!(other.functions().get(&kept.path()).is_some());
    assert!(other.namespaces().authenticate(&guest.uuid, &guest.key).is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_server_lost_is_forgotten_after_its_return() {
    let mut server = NatsServer::start();
    let one = store(&server, "one").await;
    for name in ["a", "b", "c"] {
        one.functions().put(function("guest", name), None).await.unwrap();
    }
    server.kill();
    server.forget_everything();
    server.go();
    let fresh = store(&server, "fresh").await;
    fresh.functions().put(function("guest", "b"), None).await.unwrap();
    eventually("only what is stored is known", async || {
        one.functions().list("guest", None).iter().map(|function| function.name.clone()).eq(["b"])
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_backlog_makes_the_writer_wait_and_loses_nothing() {
    let mut server = NatsServer::start();
    let settings = settings::Store { record_backlog: 10, ..settings::Store::default() };
    let one = Store::open(&server.bus("one").await, &settings).await.unwrap();
    server.kill();
    for number in 0..10 {
        one.records().enqueue(record(number, "f")).await;
    }
    let eleventh =
        tokio::time::timeout(Duration::from_millis(300), one.records().enqueue(record(10, "f"))).await;
    assert!(eleventh.is_err(), "the backlog is bounded");
    server.go();
    one.records().enqueue(record(11, "f")).await;
    assert!(one.records().flush(Duration::from_secs(60)).await);
    assert_eq!(one.records().count(&query()).await.unwrap(), 11);
}

#[tokio::test(flavor = "multi_thread")]
async fn submissions_wait_until_they_are_acknowledged_and_are_refused_when_full() {
    use futures::StreamExt;
    let mut server = NatsServer::start();
    let settings = settings::Store { submit_size_mib: 1, ..settings::Store::default() };
    let one = Store::open(&server.bus("one").await, &settings).await.unwrap();
    let subject = messages::subjects::submit("guest", "hello");
    let publish = async |payload: Bytes, id: Option<&str>| {
        one.submissions().publish(subject.clone(), async_nats::HeaderMap::new(), payload, id).await
    };
    publish(Bytes::from_static(b"{}"), Some("id")).await.unwrap();
    publish(Bytes::from_static(b"{}"), Some("id")).await.unwrap();
    assert_eq!(one.submissions().open_count().await.unwrap(), 1, "the same id is the same submission");

    server.kill();
    server.go();
    let message = tokio::time::timeout(Duration::from_secs(30), async {
        loop {
            let batch = one.submissions().consumer().fetch().max_messages(1).messages().await;
            if let Ok(mut batch) = batch
                && let Some(Ok(message)) = batch.next().await
            {
                return message;
            }
        }
    });
    let message = message.await.expect("it survived the restart");
    assert_eq!(message.subject.as_str(), subject);
    message.double_ack().await.unwrap();
    assert_eq!(one.submissions().open_count().await.unwrap(), 0);

    let mut refused = None;
    for _ in 0..20 {
        if let Err(error) = publish(vec![b' '; 100_000].into(), None).await {
            refused = Some(error);
            break;
        }
    }
    assert!(matches!(refused, Some(StoreError::NoSpace { .. })), "{refused:?}");
}
