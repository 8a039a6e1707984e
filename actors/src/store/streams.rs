//! Streams made or adapted by whoever comes first.
//!
//! **Promises:** any number of processes may do this at once and end with the same stream; a stream that is as
//! wanted is left alone, so that a thousand VMs that start do not write a thousand times.
//! **Gives up:** changing what JetStream cannot change (subjects of another's stream, storage type).

use std::time::Duration;

use async_nats::jetstream::context::{
    Context, ContextBuilder, CreateStreamErrorKind, GetStreamErrorKind, RequestErrorKind,
};
use async_nats::jetstream::stream::{Config, DiscardPolicy, Stream};
use async_nats::jetstream::{ErrorCode, account};

use super::error::{StoreError, chain};
use crate::bus::Bus;

/// How long the server may take to answer one request about a stream or to acknowledge one message.
const PATIENCE: Duration = Duration::from_secs(5);

/// Creating a stream may have to wait for a cluster to choose a leader.
const ATTEMPTS: u32 = 5;

pub(super) fn context(bus: &Bus) -> Context {
    ContextBuilder::new().timeout(PATIENCE).ack_timeout(PATIENCE).build(bus.client().clone())
}

/// Says in clear words when JetStream is not there.
pub(super) async fn check(context: &Context) -> Result<(), StoreError> {
    for attempt in 1.. {
        let answer: Result<async_nats::jetstream::response::Response<account::Account>, _> =
            context.request("INFO", b"").await;
        match answer {
            Ok(async_nats::jetstream::response::Response::Ok(_)) => break,
            Ok(async_nats::jetstream::response::Response::Err { error }) => {
                return Err(StoreError::of_server("asking for the account", &error));
            }
            // A server that has just started answers so for a moment, before its JetStream is up.
            Err(_) if attempt < ATTEMPTS => pause(attempt).await,
            Err(error) if error.kind() == RequestErrorKind::NoResponders => {
                return Err(StoreError::JetStreamOff);
            }
            Err(error) => return Err(StoreError::of("asking for the account", &error)),
        }
    }
    Ok(())
}

/// The stream as `wanted`, made if there is none.
pub(super) async fn ensure(context: &Context, wanted: Config) -> Result<Stream, StoreError> {
    let doing = format!("making stream {}", wanted.name);
    let mut last = None;
    for attempt in 1..=ATTEMPTS {
        if attempt > 1 {
            pause(attempt).await;
        }
        match context.get_stream(&wanted.name).await {
            Ok(stream) if is_as(&stream.cached_info().config, &wanted) => return Ok(stream),
            Ok(stream) => {
                let adapted = adapt(stream.cached_info().config.clone(), &wanted);
                match context.update_stream(adapted).await {
                    Ok(_) => continue,
                    Err(error) => last = Some(refusal(&doing, &wanted, &error)),
                }
            }
            Err(error) => match error.kind() {
                GetStreamErrorKind::JetStream(server)
                    if server.error_code() == ErrorCode::STREAM_NOT_FOUND =>
                {
                    match context.create_stream(wanted.clone()).await {
                        Ok(stream) => return Ok(stream),
                        // Somebody else was faster, with other limits.
                        Err(error) if is_name_taken(&error.kind()) => continue,
                        Err(error) => last = Some(refusal(&doing, &wanted, &error)),
                    }
                }
                _ => last = Some(StoreError::of(&doing, &error)),
            },
        }
        if last.as_ref().is_some_and(|error| !error.is_passing()) {
            break;
        }
    }
    Err(last.unwrap_or(StoreError::Refused {
        doing,
        detail: "other processes keep changing it; do all of them have the same [store] settings?".into(),
    }))
}

fn is_name_taken(kind: &CreateStreamErrorKind) -> bool {
    matches!(kind, CreateStreamErrorKind::JetStream(error) if error.error_code() == ErrorCode::STREAM_NAME_EXIST)
}

/// Whether what we care about is as wanted; the rest is the operator's.
fn is_as(found: &Config, wanted: &Config) -> bool {
    adapt(found.clone(), wanted) == *found
}

fn adapt(found: Config, wanted: &Config) -> Config {
    Config {
        subjects: wanted.subjects.clone(),
        max_bytes: wanted.max_bytes,
        max_age: wanted.max_age,
        max_messages_per_subject: wanted.max_messages_per_subject,
        num_replicas: wanted.num_replicas,
        discard: wanted.discard,
        duplicate_window: wanted.duplicate_window,
        allow_direct: wanted.allow_direct,
        allow_rollup: wanted.allow_rollup,
        ..found
    }
}

fn refusal(doing: &str, wanted: &Config, error: &(dyn std::error::Error + 'static)) -> StoreError {
    match StoreError::of(doing, error) {
        StoreError::Refused { detail, .. }
            if detail.contains("replicas") || detail.contains("no suitable peers") =>
        {
            StoreError::TooFewNodes { replicas: wanted.num_replicas, detail: chain(error) }
        }
        StoreError::Refused { .. } => {
            StoreError::InTheWay { stream: wanted.name.clone(), detail: chain(error) }
        }
        other => other,
    }
}

async fn pause(attempt: u32) {
    tokio::time::sleep(Duration::from_millis(100 << attempt.min(4))).await;
}

/// A stream of what has happened: over its size, and after its age, the oldest go.
pub(super) fn history(name: &str, subjects: &str, age: Duration, size_mib: u64, replicas: usize) -> Config {
    Config {
        name: name.into(),
        subjects: vec![subjects.into()],
        max_age: age,
        max_bytes: mebibytes(size_mib),
        discard: DiscardPolicy::Old,
        max_messages_per_subject: -1,
        duplicate_window: Duration::from_secs(120).min(age.max(Duration::from_secs(1))),
        num_replicas: replicas,
        allow_direct: true,
        ..Default::default()
    }
}

/// A key-value bucket's stream, laid out as every NATS client expects it.
pub(super) fn key_value(bucket: &str, replicas: usize) -> Config {
    Config {
        name: format!("KV_{bucket}"),
        subjects: vec![format!("$KV.{bucket}.>")],
        max_messages_per_subject: 1,
        max_bytes: -1,
        discard: DiscardPolicy::New,
        duplicate_window: Duration::from_secs(120),
        num_replicas: replicas,
        allow_rollup: true,
        deny_delete: true,
        allow_direct: true,
        ..Default::default()
    }
}

/// An object store's stream, laid out as every NATS client expects it.
pub(super) fn objects(
    bucket: &str,
    replicas: usize,
    max_bytes: i64,
    max_age: Duration,
    discard: DiscardPolicy,
) -> Config {
    Config {
        name: format!("OBJ_{bucket}"),
        subjects: vec![format!("$O.{bucket}.C.>"), format!("$O.{bucket}.M.>")],
        max_bytes,
        max_age,
        discard,
        max_messages_per_subject: -1,
        duplicate_window: Duration::from_secs(120).min(if max_age.is_zero() {
            Duration::MAX
        } else {
            max_age
        }),
        num_replicas: replicas,
        allow_rollup: true,
        allow_direct: true,
        ..Default::default()
    }
}

/// MiB as the bytes of a stream's limit.
pub(super) fn mebibytes(mib: u64) -> i64 {
    i64::try_from(mib.saturating_mul(1 << 20)).unwrap_or(i64::MAX)
}
