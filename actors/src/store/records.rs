//! Activation records: one per invocation, sent until they are stored.
//!
//! **Promises:** the first record of an invocation wins, whoever sends it and however often. What was taken by
//! [`Records::enqueue`] is sent again until JetStream has it; at most `store.record_backlog` wait, then the
//! caller waits. Everything is counted.
//! **Gives up:** records that wait in a process that dies; whoever needs more uses [`Records::write`] and answers
//! only after it. The oldest records go when the stream is full or they are old.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_nats::header::NATS_SEQUENCE;
use async_nats::jetstream::context::{Context, PublishAckFuture, PublishError, PublishErrorKind};
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::object_store::ObjectStore;
use async_nats::jetstream::stream::{DiscardPolicy, LastRawMessageErrorKind, Stream};
use bytes::Bytes;
use messages::{Answer, LogLine, Record, subjects};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use vocabulary::InvocationId;

use super::error::StoreError;
use super::taking::{self, Kept};
use super::{code, streams};
use crate::settings;

const STREAM: &str = "WINDFALL_RECORDS";
/// Where any copy of the stream answers, not its leader alone.
const COPIES: &str = "$JS.API.DIRECT.GET.WINDFALL_RECORDS";
const LOG_BUCKET: &str = "WINDFALL_LOGS";

/// Logs over so many bytes are kept apart, so that a record stays well below the server's `max_payload`.
const LOGS_IN_RECORD: usize = 512 << 10;

/// Header: when the invocation began, in milliseconds since the Unix epoch, so that lists need no bodies.
pub(super) const HEADER_STARTED: &str = "Windfall-Started";

/// A leader that has not answered for this long may be none.
const LEADER_ALONE: Duration = Duration::from_millis(500);

/// The longest pause between two attempts to store one record.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// What the record writer has done since the start.
#[derive(Debug, Default)]
pub struct RecordCounters {
    stored: AtomicU64,
    resent: AtomicU64,
    duplicates: AtomicU64,
    refused: AtomicU64,
    backlog: AtomicU64,
}

impl RecordCounters {
    /// Records acknowledged.
    pub fn stored(&self) -> u64 {
        self.stored.load(Ordering::Relaxed)
    }

    /// Attempts that came to nothing and were made again.
    pub fn resent(&self) -> u64 {
        self.resent.load(Ordering::Relaxed)
    }

    /// Records whose invocation had one already.
    pub fn duplicates(&self) -> u64 {
        self.duplicates.load(Ordering::Relaxed)
    }

    /// Records that can never be stored: too large even without their logs and result.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Records that wait now.
    pub fn backlog(&self) -> u64 {
        self.backlog.load(Ordering::Relaxed)
    }
}

struct Inner {
    context: Context,
    stream: Stream,
    logs: ObjectStore,
    counters: RecordCounters,
    places: Arc<Semaphore>,
    places_in_all: u32,
    /// What leaves together next.
    leaving: Mutex<Vec<Leaving>>,
    /// Whose turn it is to send: lists look for the newest at the end of the stream, so nobody overtakes many who wait.
    turn: tokio::sync::Mutex<()>,
}

/// A record as it is sent.
struct Prepared {
    invocation: InvocationId,
    subject: String,
    started: u64,
    bytes: Bytes,
}

/// A record in the background, with its place in the backlog.
struct Leaving {
    prepared: Prepared,
    place: OwnedSemaphorePermit,
}

/// Records in the background leave together, this often: one wake-up of the server and one of ours for all of them,
/// instead of one each beside the next invocation.
const DEPARTURES: Duration = Duration::from_millis(5);

/// How often [`Records::get_soon`] looks again.
const LOOKS: u32 = 5;

/// Which record an invocation has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// The one that was written.
    Now,
    /// The first one. It may be another attempt's, or our own, of which we had not heard that it was stored.
    Before,
}

/// When the next ones leave.
fn next_departure() -> tokio::time::Instant {
    static FIRST: std::sync::OnceLock<tokio::time::Instant> = std::sync::OnceLock::new();
    let first = *FIRST.get_or_init(tokio::time::Instant::now);
    let gone = first.elapsed().as_nanos() / DEPARTURES.as_nanos();
    first + DEPARTURES * (gone as u32 + 1)
}

/// All records. Copies share one backlog.
#[derive(Clone)]
pub struct Records {
    inner: Arc<Inner>,
}

impl Records {
    pub(super) async fn open(context: &Context, settings: &settings::Store) -> Result<Self, StoreError> {
        let age = Duration::from_secs(settings.record_age_h.saturating_mul(3600));
        let size = streams::mebibytes(settings.record_size_mib);
        let config =
            streams::history(STREAM, subjects::RECORD_ALL, age, settings.record_size_mib, settings.replicas);
        let stream = streams::ensure(context, config).await?;
        let config = streams::objects(LOG_BUCKET, settings.replicas, size, age, DiscardPolicy::Old);
        streams::ensure(context, config).await?;
        let logs = context
            .get_object_store(LOG_BUCKET)
            .await
            .map_err(|error| StoreError::of("opening the logs", &error))?;
        let places_in_all = u32::try_from(settings.record_backlog.clamp(1, Semaphore::MAX_PERMITS >> 1))
            .unwrap_or(u32::MAX >> 1);
        let inner = Inner {
            context: context.clone(),
            stream,
            logs,
            counters: RecordCounters::default(),
            places: Arc::new(Semaphore::new(places_in_all as usize)),
            places_in_all,
            leaving: Mutex::default(),
            turn: tokio::sync::Mutex::default(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Stores a record; resolves when it is acknowledged, or when the invocation turns out to have one already.
    /// Sends as often as needed: only a record that can never be stored fails.
    ///
    /// # Errors
    /// [`StoreError::TooLarge`].
    pub async fn write(&self, record: Record) -> Result<Written, StoreError> {
        let _place = self.place().await;
        self.inner.counters.backlog.fetch_add(1, Ordering::Relaxed);
        let prepared = self.prepare(record).await;
        let written = self.deliver(&prepared, None).await;
        self.inner.counters.backlog.fetch_sub(1, Ordering::Relaxed);
        written
    }

    /// Takes a record to be stored in the background; waits only while the backlog is full.
    pub async fn enqueue(&self, record: Record) {
        let place = self.place().await;
        self.inner.counters.backlog.fetch_add(1, Ordering::Relaxed);
        let prepared = self.prepare(record).await;
        let mut leaving = self.leaving();
        leaving.push(Leaving { prepared, place });
        if leaving.len() == 1 {
            tokio::spawn(self.clone().depart());
        }
    }

    fn leaving(&self) -> std::sync::MutexGuard<'_, Vec<Leaving>> {
        self.inner.leaving.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All that has come by the next departure is sent, and then acknowledged; one task for all of it.
    async fn depart(self) {
        tokio::time::sleep_until(next_departure()).await;
        let turn = self.inner.turn.lock().await;
        let leaving = std::mem::take(&mut *self.leaving());
        let mut sent = Vec::with_capacity(leaving.len());
        for one in leaving {
            match self.publish(&one.prepared).await {
                Ok(acknowledged) => sent.push((one, acknowledged)),
                Err(error) => self.go_on_alone(one, error),
            }
        }
        drop(turn);
        for (one, acknowledged) in sent {
            match acknowledged.await {
                Ok(_) => self.has_arrived(one),
                Err(error) => self.go_on_alone(one, error),
            }
        }
    }

    fn has_arrived(&self, one: Leaving) {
        taking::ours().took(Kept::Records);
        self.inner.counters.stored.fetch_add(1, Ordering::Relaxed);
        self.leaves_backlog(one.place);
    }

    fn leaves_backlog(&self, place: OwnedSemaphorePermit) {
        self.inner.counters.backlog.fetch_sub(1, Ordering::Relaxed);
        drop(place);
    }

    /// One that was not stored with the others is seen to by itself.
    fn go_on_alone(&self, one: Leaving, error: PublishError) {
        let this = self.clone();
        tokio::spawn(async move {
            // A record that can never be stored is counted and logged there.
            let _ = this.deliver(&one.prepared, Some(error)).await;
            this.leaves_backlog(one.place);
        });
    }

    /// Waits until nothing waits any more; false when `patience` ended first. For an orderly end.
    pub async fn flush(&self, patience: Duration) -> bool {
        tokio::time::timeout(patience, self.inner.places.acquire_many(self.inner.places_in_all)).await.is_ok()
    }

    /// What the writer has done.
    pub fn counters(&self) -> &RecordCounters {
        &self.inner.counters
    }

    /// The record of an invocation in its caller's namespace, logs included.
    ///
    /// # Errors
    /// The store does not answer, or the record is damaged.
    pub async fn get(&self, namespace: &str, invocation: InvocationId) -> Result<Option<Record>, StoreError> {
        let subject = subjects::record_by_id(namespace, invocation);
        let leader = self.at_the_leader(&subject, invocation);
        tokio::pin!(leader);
        let bytes = tokio::select! {
            read = &mut leader => read?,
            copy = self.copy(&subject) => Some(copy),
        };
        let Some(bytes) = bytes else { return Ok(None) };
        let mut record = decode(&bytes)?;
        if record.logs_stored_apart {
            record.logs = self.logs_apart(&record).await?;
        }
        Ok(Some(record))
    }

    /// What the leader of the stream has, which has everything that was acknowledged.
    async fn at_the_leader(
        &self,
        subject: &str,
        invocation: InvocationId,
    ) -> Result<Option<Bytes>, StoreError> {
        match self.inner.stream.get_last_raw_message_by_subject(subject).await {
            Ok(message) => Ok(Some(message.payload)),
            Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => Ok(None),
            Err(error) => Err(StoreError::of(&format!("reading the record of {invocation}"), &error)),
        }
    }

    /// What any other copy of the stream has, where its leader is slow to answer, as in an election. A copy may lack what
    /// was stored last, so it is believed only where it has something: this comes back with a record or not at all.
    async fn copy(&self, subject: &str) -> Bytes {
        let question = serde_json::json!({ "last_by_subj": subject }).to_string();
        let client = self.inner.context.client();
        loop {
            tokio::time::sleep(LEADER_ALONE).await;
            let asked = client.request(COPIES, question.clone().into());
            if let Ok(Ok(message)) = tokio::time::timeout(LEADER_ALONE, asked).await
                && message.headers.is_some_and(|headers| headers.get(NATS_SEQUENCE).is_some())
            {
                return message.payload;
            }
        }
    }

    /// As [`Records::get`], for whoever may just have had the answer: its record may still be on its way, so this looks
    /// a few times within a tenth of a second before it says that there is none.
    ///
    /// # Errors
    /// As [`Records::get`].
    pub async fn get_soon(
        &self,
        namespace: &str,
        invocation: InvocationId,
    ) -> Result<Option<Record>, StoreError> {
        for _ in 0..LOOKS {
            if let Some(record) = self.get(namespace, invocation).await? {
                return Ok(Some(record));
            }
            tokio::time::sleep(DEPARTURES * 4).await;
        }
        self.get(namespace, invocation).await
    }

    /// Stores a record, and has an answer say what the record of its invocation says: where another attempt's was there
    /// first, its caller is told of that one, under the attempt number that is valid now.
    ///
    /// # Errors
    /// As [`Records::write`] and [`Records::get`].
    pub async fn settle(&self, record: Record, answer: Answer) -> Result<Answer, StoreError> {
        let (namespace, invocation) = (record.namespace.clone(), record.invocation);
        if self.write(record).await? == Written::Now {
            return Ok(answer);
        }
        let first = self.get(&namespace, invocation).await?;
        Ok(first.map_or(answer.clone(), |first| Answer { attempt: answer.attempt, ..first.into() }))
    }

    /// Only what an invocation wrote.
    ///
    /// # Errors
    /// As [`Records::get`].
    pub async fn logs(
        &self,
        namespace: &str,
        invocation: InvocationId,
    ) -> Result<Option<Vec<LogLine>>, StoreError> {
        Ok(self.get(namespace, invocation).await?.map(|record| record.logs))
    }

    pub(super) fn stream(&self) -> &Stream {
        &self.inner.stream
    }

    async fn place(&self) -> tokio::sync::OwnedSemaphorePermit {
        Arc::clone(&self.inner.places).acquire_owned().await.expect("the backlog is never closed")
    }

    async fn logs_apart(&self, record: &Record) -> Result<Vec<LogLine>, StoreError> {
        let name = log_name(record);
        match code::read(&self.inner.logs, &name).await? {
            Some(bytes) => messages::decode(&bytes)
                .map_err(|error| StoreError::Damaged { what: name, detail: error.to_string() }),
            // They were older or larger than what is kept; the record outlived them.
            None => Ok(Vec::new()),
        }
    }

    async fn prepare(&self, mut record: Record) -> Prepared {
        if record.logs.iter().map(|line| line.text.len() + 32).sum::<usize>() > LOGS_IN_RECORD {
            // Apart, so that the future of everybody else, which is copied when its task is made, stays small.
            Box::pin(self.store_logs_apart(&mut record)).await;
        }
        Prepared {
            invocation: record.invocation,
            subject: subjects::record(&record.namespace, &record.path.name, record.invocation),
            started: record.started_unix_ms,
            bytes: messages::encode(&record),
        }
    }

    /// Sends a record until it is stored. `failed`: how a first attempt ended that was made already.
    async fn deliver(
        &self,
        prepared: &Prepared,
        mut failed: Option<PublishError>,
    ) -> Result<Written, StoreError> {
        let invocation = prepared.invocation;
        for attempt in 0_u32.. {
            let error = match failed.take() {
                Some(error) => error,
                None => match self.send(prepared).await {
                    Ok(()) => {
                        taking::ours().took(Kept::Records);
                        self.inner.counters.stored.fetch_add(1, Ordering::Relaxed);
                        return Ok(Written::Now);
                    }
                    Err(error) => error,
                },
            };
            match error.kind() {
                PublishErrorKind::WrongLastSequence => {
                    self.inner.counters.duplicates.fetch_add(1, Ordering::Relaxed);
                    return Ok(Written::Before);
                }
                PublishErrorKind::MaxPayloadExceeded => {
                    self.inner.counters.refused.fetch_add(1, Ordering::Relaxed);
                    let bytes = prepared.bytes.len();
                    tracing::error!(%invocation, bytes, "a record is too large to be stored");
                    break;
                }
                _ => self.pause(attempt, StoreError::of("storing a record", &error)).await,
            }
        }
        Err(StoreError::TooLarge { what: format!("the record of {invocation}") })
    }

    async fn send(&self, prepared: &Prepared) -> Result<(), PublishError> {
        self.publish(prepared).await?.await.map(drop)
    }

    async fn publish(&self, prepared: &Prepared) -> Result<PublishAckFuture, PublishError> {
        let message = PublishMessage::build()
            .payload(prepared.bytes.clone())
            .header(HEADER_STARTED, prepared.started.to_string())
            .expected_last_subject_sequence(0);
        self.inner.context.send_publish(prepared.subject.clone(), message).await
    }

    /// Counts a failed attempt, says so at the first and then ever more rarely, and waits a little.
    async fn pause(&self, attempt: u32, error: StoreError) {
        taking::ours().failed(Kept::Records, &error);
        let resent = self.inner.counters.resent.fetch_add(1, Ordering::Relaxed) + 1;
        if resent.is_power_of_two() {
            tracing::warn!(%error, resent, backlog = self.inner.counters.backlog(), "records are sent again");
        }
        tokio::time::sleep((Duration::from_millis(50) * (1 << attempt.min(6))).min(LONGEST_PAUSE)).await;
    }

    async fn store_logs_apart(&self, record: &mut Record) {
        let bytes = messages::encode(&record.logs);
        let name = log_name(record);
        for attempt in 0.. {
            match self.inner.logs.put(name.as_str(), &mut &bytes[..]).await {
                Ok(_) => break,
                Err(error) => self.pause(attempt, StoreError::of("storing logs", &error)).await,
            }
        }
        record.logs = Vec::new();
        record.logs_stored_apart = true;
    }
}

/// Each attempt's logs have their own name, so that the record that wins is shown with its own.
fn log_name(record: &Record) -> String {
    format!("{}.{}", record.invocation, record.attempt)
}

pub(super) fn decode(bytes: &[u8]) -> Result<Record, StoreError> {
    messages::decode(bytes)
        .map_err(|error| StoreError::Damaged { what: "a record".into(), detail: error.to_string() })
}
