//! What runs used: a stream that Controllers write and that training reads.
//!
//! **Promises:** over `store.usage_size_mib`, and after `store.usage_age_h`, the oldest go; what is damaged is skipped and counted; of one
//! batch that came twice one is read.
//! **Gives up:** completeness: a batch that the store does not take is missing.

use std::collections::HashSet;
use std::time::Duration;

use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, ReplayPolicy, pull};
use async_nats::jetstream::context::Context;
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::stream::Stream;
use futures::StreamExt;
use messages::{UsageBatch, subjects};

use super::error::StoreError;
use super::{Store, streams};

/// Longest silence of a stream that still has something to send.
const SILENCE: Duration = Duration::from_secs(5);
/// Batches that are asked for at once.
const AT_ONCE: usize = 256;

/// The stream. Copies are cheap.
#[derive(Clone)]
pub struct UsageStream {
    context: Context,
    stream: Stream,
}

/// What was read.
#[derive(Debug, Default)]
pub struct UsageRead {
    /// In the order in which they were stored.
    pub batches: Vec<UsageBatch>,
    /// Messages that are no batches.
    pub damaged: u64,
}

impl Store {
    /// The stream, made where it is missing; `None` where none of it is to be kept. Only those who ask pay for it.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn usage(&self) -> Result<Option<UsageStream>, StoreError> {
        let settings = &self.kept.settings;
        if settings.usage_size_mib == 0 {
            return Ok(None);
        }
        let age = Duration::from_secs(settings.usage_age_h.saturating_mul(3_600));
        let config = streams::history(
            "WINDFALL_USAGE",
            subjects::USAGE_ALL,
            age,
            settings.usage_size_mib,
            settings.replicas,
        );
        let stream = streams::ensure(&self.kept.context, config).await?;
        Ok(Some(UsageStream { context: self.kept.context.clone(), stream }))
    }
}

impl UsageStream {
    /// Has JetStream keep a batch.
    ///
    /// # Errors
    /// It does not; nothing is tried again.
    pub async fn write(&self, batch: &UsageBatch) -> Result<(), StoreError> {
        let message = PublishMessage::build().payload(messages::encode(batch));
        let sent = self.context.send_publish(subjects::usage(batch.controller), message).await;
        let acknowledged = match sent {
            Ok(pending) => pending.await,
            Err(error) => Err(error),
        };
        acknowledged.map(drop).map_err(|error| StoreError::of("keeping what runs used", &error))
    }

    /// Everything that is kept now, the newest `most` runs of it at most.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn read(&self, most: usize) -> Result<UsageRead, StoreError> {
        const READING: &str = "reading what runs used";
        let broken = |error: &(dyn std::error::Error + 'static)| StoreError::of(READING, error);
        let silent = || StoreError::Unreachable { doing: READING.into(), detail: "it fell silent".into() };
        let config = pull::Config {
            deliver_policy: DeliverPolicy::All,
            ack_policy: AckPolicy::None,
            replay_policy: ReplayPolicy::Instant,
            inactive_threshold: SILENCE,
            ..Default::default()
        };
        let consumer = self.stream.create_consumer(config).await.map_err(|error| broken(&error))?;
        let mut left = consumer.cached_info().num_pending;
        let mut read = UsageRead::default();
        let mut known = HashSet::new();
        let mut runs = 0;
        while left > 0 {
            let fetched = consumer.fetch().max_messages(AT_ONCE).messages().await;
            let mut messages = fetched.map_err(|error| broken(&error))?;
            let before = left;
            while let Some(message) =
                tokio::time::timeout(SILENCE, messages.next()).await.map_err(|_| silent())?
            {
                let message = message.map_err(|error| broken(error.as_ref()))?;
                left = left.saturating_sub(1);
                let Ok(batch) = messages::decode::<UsageBatch>(&message.payload) else {
                    read.damaged += 1;
                    continue;
                };
                if known.insert((batch.controller, batch.sequence)) {
                    runs += batch.runs.len();
                    read.batches.push(batch);
                }
            }
            // What has expired meanwhile never comes.
            if left == before {
                break;
            }
        }
        let mut first = 0;
        while runs > most && first < read.batches.len() {
            runs -= read.batches[first].runs.len();
            first += 1;
        }
        read.batches.drain(..first);
        Ok(read)
    }
}
