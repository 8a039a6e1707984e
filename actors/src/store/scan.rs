//! Lists of records, newest first.
//!
//! **Promises:** the server works in proportion to what is looked for: windows that double, from the end of the
//! stream back, of which only headers are sent, and no more of them than were asked for; then only the records
//! that are shown are read.
//! **Gives up:** an order by start that is exact across pages: records lie in the order in which invocations
//! *ended*, and what is read of them is put in the order of their starts. With `upto`, records of what began before
//! it are looked for among the 8,192 that were stored next, and within an hour; who ran longer than that is missing
//! in such a list. A count between two times, and a list whose matches lie far back, stop after 200,000 records
//! were looked at.

use std::time::{Duration, SystemTime};

use async_nats::jetstream::consumer::{AckPolicy, Consumer, DeliverPolicy, Info, ReplayPolicy, pull};
use futures::{StreamExt, TryStreamExt};
use messages::{Record, subjects};

use super::error::{StoreError, chain};
use super::records::{HEADER_STARTED, Records, decode};

/// Which records are looked for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RecordQuery {
    /// The caller's namespace.
    pub namespace: String,
    /// Only of this function: `name` or `package/name`.
    pub function: Option<String>,
    /// Only what began at this time or later, milliseconds since the Unix epoch.
    pub since: Option<u64>,
    /// Only what began at this time or earlier.
    pub upto: Option<u64>,
    /// So many of the newest are left out.
    pub skip: usize,
    /// At most so many.
    pub limit: usize,
}

/// Messages of the first window; chosen so that a common page costs one round.
const FIRST_WINDOW: u64 = 2_048;

/// A list stops looking back after so many messages of its filter, and shows what it found.
const LOOKED_AT_LIMIT: usize = 200_000;

/// A record is stored at most so long after its invocation began: time limits, and NATS being away.
const STORED_WITHIN: Duration = Duration::from_secs(3600);

/// Among so many records that were stored after a moment, those are looked for that began before it. A bound on the
/// work: within an hour a busy house stores millions.
const STORED_NEXT: u64 = 8_192;

/// Headers that are asked for at once.
const HEADERS_AT_ONCE: u64 = 4_096;

/// An abandoned consumer goes after this long.
const ABANDONED: Duration = Duration::from_secs(5);

/// Clocks of VMs and of the server differ by less than this.
const CLOCKS_DIFFER: Duration = Duration::from_secs(60);

/// Longest silence of a consumer that still has something to send: its messages may have expired meanwhile.
const SILENCE: Duration = Duration::from_secs(2);

/// So often a window is read before a list fails.
const WINDOW_TRIES: u32 = 3;

/// Pause before a consumer that was not found is asked once more.
const HEARD_OF: Duration = Duration::from_millis(100);

/// Records that are read at once.
const READ_AT_ONCE: usize = 8;

/// A record that was found: its place in the stream and its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Found {
    sequence: u64,
    started_unix_ms: u64,
}

impl RecordQuery {
    fn subject(&self) -> String {
        match &self.function {
            Some(function) => subjects::records_of_function(&self.namespace, function),
            None => subjects::records_of(&self.namespace),
        }
    }

    fn matches(&self, found: &Found) -> bool {
        self.since.is_none_or(|since| found.started_unix_ms >= since)
            && self.upto.is_none_or(|upto| found.started_unix_ms <= upto)
    }
}

impl Records {
    /// The newest records that match, each made smaller by `shape` as soon as it is read, so that a list of
    /// summaries never holds the results and logs of all. Logs that are kept apart are not read.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn list<T>(
        &self,
        query: &RecordQuery,
        shape: impl Fn(Record) -> T,
    ) -> Result<Vec<T>, StoreError> {
        if query.limit == 0 {
            return Ok(Vec::new());
        }
        let wanted = query.skip.saturating_add(query.limit);
        let mut found = self.find(query, wanted).await?;
        found.sort_by_key(|one| std::cmp::Reverse((one.started_unix_ms, one.sequence)));
        let page = found.into_iter().skip(query.skip).take(query.limit);
        let reads = page.map(|found| {
            let shape = &shape;
            async move { Ok::<_, StoreError>(self.at(found.sequence).await?.map(shape)) }
        });
        futures::stream::iter(reads)
            .buffered(READ_AT_ONCE)
            .try_filter_map(async |record| Ok(record))
            .try_collect()
            .await
    }

    /// How many records match.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn count(&self, query: &RecordQuery) -> Result<u64, StoreError> {
        if query.since.is_none() && query.upto.is_none() {
            // The server counts without sending anything.
            let all = DeliverPolicy::All;
            return Ok(self.look(query.subject(), all).await?.num_pending);
        }
        Ok(self.find(query, usize::MAX).await?.len() as u64)
    }

    /// The newest `wanted` matches, or more: whatever the last window had.
    async fn find(&self, query: &RecordQuery, wanted: usize) -> Result<Vec<Found>, StoreError> {
        let state =
            self.stream().get_info().await.map_err(|error| StoreError::of("listing records", &error))?.state;
        let mut found: Vec<Found> = Vec::new();
        let mut looked_at = 0;
        let mut window = if wanted == usize::MAX { u64::MAX } else { FIRST_WINDOW };
        let mut end = match query.upto {
            Some(upto) => {
                let within = self.place_of(upto, STORED_WITHIN.as_millis() as i64);
                let next = self.place_of(upto, 0);
                let (within, next) = futures::try_join!(within, next)?;
                within.min(next.saturating_add(STORED_NEXT)).min(state.last_sequence)
            }
            None => state.last_sequence,
        };
        let first = match query.since {
            Some(since) => self.place_of(since, -(CLOCKS_DIFFER.as_millis() as i64)).await? + 1,
            None => 1,
        };
        let first = first.max(state.first_sequence).max(1);
        while end >= first && state.messages > 0 {
            let start = end.saturating_sub(window - 1).max(first);
            let part = self.window(query, start, end).await?;
            looked_at += part.len();
            found.extend(part.into_iter().filter(|one| query.matches(one)));
            if found.len() >= wanted || looked_at >= LOOKED_AT_LIMIT || start <= first {
                break;
            }
            end = start - 1;
            window = window.saturating_mul(2);
        }
        Ok(found)
    }

    /// The last place in the stream before a moment, given in milliseconds since the Unix epoch and an offset.
    async fn place_of(&self, unix_ms: u64, offset_ms: i64) -> Result<u64, StoreError> {
        // The server counts nanoseconds in 64 bits, which end in 2262.
        const LATEST: u64 = 9_000_000_000_000;
        let unix_ms = unix_ms.min(LATEST).saturating_add_signed(offset_ms).min(LATEST);
        let start_time = (SystemTime::UNIX_EPOCH + Duration::from_millis(unix_ms)).into();
        let info = self.look(String::new(), DeliverPolicy::ByStartTime { start_time }).await?;
        Ok(info.delivered.stream_sequence)
    }

    /// What the server would send, without having it sent.
    async fn look(&self, filter_subject: String, deliver_policy: DeliverPolicy) -> Result<Info, StoreError> {
        let consumer = self.consumer(filter_subject, deliver_policy).await?;
        let info = consumer.cached_info().clone();
        self.forget(&info.name).await;
        Ok(info)
    }

    async fn consumer(
        &self,
        filter_subject: String,
        deliver_policy: DeliverPolicy,
    ) -> Result<Consumer<pull::Config>, StoreError> {
        let config = pull::Config {
            description: Some("windfall: list".into()),
            filter_subject,
            deliver_policy,
            ack_policy: AckPolicy::None,
            replay_policy: ReplayPolicy::Instant,
            inactive_threshold: ABANDONED,
            headers_only: true,
            memory_storage: true,
            num_replicas: 1,
            ..Default::default()
        };
        self.stream().create_consumer(config).await.map_err(|error| StoreError::of("listing records", &error))
    }

    /// A consumer that is not needed any more would also go by itself.
    async fn forget(&self, consumer: &str) {
        let _ = self.stream().delete_consumer(consumer).await;
    }

    /// Headers of all messages of the filter from `start` to `end`. They are asked for in parts: a consumer that pushes
    /// would send everything behind `end` as well before it hears that nobody wants it.
    ///
    /// In a cluster the consumer lives on one server, of which the one we are connected to may hear a little later than
    /// we do, or never again: a window that cannot be read is read anew by another consumer.
    async fn window(&self, query: &RecordQuery, start: u64, end: u64) -> Result<Vec<Found>, StoreError> {
        let mut tries = 0;
        loop {
            let from = DeliverPolicy::ByStartSequence { start_sequence: start };
            let consumer = self.consumer(query.subject(), from).await?;
            let found = read_window(&consumer, end).await;
            self.forget(&consumer.cached_info().name).await;
            tries += 1;
            match found {
                Err(StoreError::Unreachable { .. }) if tries < WINDOW_TRIES => {}
                found => return found,
            }
        }
    }

    /// The record at a place in the stream; `None` if it has expired.
    async fn at(&self, sequence: u64) -> Result<Option<Record>, StoreError> {
        use async_nats::jetstream::stream::RawMessageErrorKind;
        match self.stream().get_raw_message(sequence).await {
            Ok(message) => decode(&message.payload).map(Some),
            Err(error) => match error.kind() {
                RawMessageErrorKind::NoMessageFound => Ok(None),
                _ => Err(StoreError::of("listing records", &error)),
            },
        }
    }
}

async fn read_window(consumer: &Consumer<pull::Config>, end: u64) -> Result<Vec<Found>, StoreError> {
    const DOING: &str = "listing records";
    let mut found: Vec<Found> = Vec::new();
    let mut pending = consumer.cached_info().num_pending;
    let mut next = 0;
    let mut asked_twice = false;
    'fetches: while pending > 0 && next <= end && found.len() < LOOKED_AT_LIMIT {
        let wanted = HEADERS_AT_ONCE.min(pending).min((end - next.min(end)).saturating_add(1));
        let fetched = consumer.fetch().max_messages(wanted as usize).messages().await;
        let mut messages = fetched.map_err(|error| StoreError::of(DOING, &error))?;
        let mut came = 0;
        while let Ok(Some(message)) = tokio::time::timeout(SILENCE, messages.next()).await {
            let message = match message {
                Ok(message) => message,
                Err(_) if came == 0 && !asked_twice => {
                    asked_twice = true;
                    tokio::time::sleep(HEARD_OF).await;
                    continue 'fetches;
                }
                Err(error) => return Err(StoreError::of(DOING, error.as_ref())),
            };
            let info = message.info().map_err(|error| StoreError::Damaged {
                what: "a record".into(),
                detail: chain(error.as_ref()),
            })?;
            came += 1;
            pending = info.pending;
            next = info.stream_sequence + 1;
            if info.stream_sequence > end {
                break;
            }
            let started = message.headers.as_ref().and_then(|headers| headers.get(HEADER_STARTED));
            found.push(Found {
                sequence: info.stream_sequence,
                started_unix_ms: started.and_then(|text| text.as_str().parse().ok()).unwrap_or_default(),
            });
        }
        if came == 0 {
            // What was pending has expired meanwhile.
            break;
        }
    }
    Ok(found)
}
