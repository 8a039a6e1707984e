//! One key-value bucket: reads from the leader, writes that say what they expect.

use async_nats::HeaderMap;
use async_nats::jetstream::context::{Context, PublishErrorKind};
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::stream::{Config, LastRawMessageErrorKind, Stream};
use bytes::Bytes;

use super::error::StoreError;
use super::streams;
use super::taking::{self, Kept};

/// NATS's own header on a key that was removed.
pub(super) const OPERATION: &str = "KV-Operation";

/// A key's last entry.
pub(super) struct Entry {
    pub revision: u64,
    /// None where the key was removed.
    pub value: Option<Bytes>,
}

#[derive(Clone)]
pub(super) struct Bucket {
    name: &'static str,
    context: Context,
    pub(super) stream: Stream,
}

impl Bucket {
    pub(super) async fn open(
        context: &Context,
        name: &'static str,
        replicas: usize,
    ) -> Result<Self, StoreError> {
        Self::open_as(context, name, streams::key_value(name, replicas)).await
    }

    /// With a configuration of its own, made from that of a key-value bucket.
    pub(super) async fn open_as(
        context: &Context,
        name: &'static str,
        config: Config,
    ) -> Result<Self, StoreError> {
        let stream = streams::ensure(context, config).await?;
        Ok(Self { name, context: context.clone(), stream })
    }

    /// Subject of one key, or of all with `>`.
    pub(super) fn subject(&self, key: &str) -> String {
        format!("$KV.{}.{key}", self.name)
    }

    /// The key in a subject of this bucket.
    pub(super) fn key<'a>(&self, subject: &'a str) -> Option<&'a str> {
        subject.strip_prefix("$KV.")?.strip_prefix(self.name)?.strip_prefix('.')
    }

    /// The last entry, asked of the stream's leader: what was acknowledged before is seen.
    pub(super) async fn read(&self, key: &str) -> Result<Option<Entry>, StoreError> {
        match self.stream.get_last_raw_message_by_subject(&self.subject(key)).await {
            Ok(message) => {
                let removed = is_removal(&message.headers);
                Ok(Some(Entry { revision: message.sequence, value: (!removed).then_some(message.payload) }))
            }
            Err(error) if matches!(error.kind(), LastRawMessageErrorKind::NoMessageFound) => Ok(None),
            Err(error) => Err(StoreError::of(&format!("reading {key}"), &error)),
        }
    }

    /// Writes if the key's last revision is `expected`; `None`: if there is no such key (any more).
    pub(super) async fn write(
        &self,
        key: &str,
        value: Bytes,
        expected: Option<u64>,
    ) -> Result<u64, StoreError> {
        match self.publish(key, PublishMessage::build().payload(value.clone()), expected.unwrap_or(0)).await {
            Err(StoreError::Conflict { what }) if expected.is_none() => {
                // A removed key leaves a marker, over which it may be made anew.
                match self.read(key).await? {
                    Some(Entry { revision, value: None }) => {
                        self.publish(key, PublishMessage::build().payload(value), revision).await
                    }
                    _ => Err(StoreError::Conflict { what }),
                }
            }
            other => other,
        }
    }

    /// Writes whatever the key's last revision is.
    pub(super) async fn put(&self, key: &str, value: Bytes) -> Result<u64, StoreError> {
        self.send(key, PublishMessage::build().payload(value)).await
    }

    /// Removes if the key's last revision is `expected`.
    pub(super) async fn remove(&self, key: &str, expected: u64) -> Result<u64, StoreError> {
        self.publish(key, PublishMessage::build().header(OPERATION, "DEL"), expected).await
    }

    async fn publish(&self, key: &str, message: PublishMessage, expected: u64) -> Result<u64, StoreError> {
        self.send(key, message.expected_last_subject_sequence(expected)).await
    }

    async fn send(&self, key: &str, message: PublishMessage) -> Result<u64, StoreError> {
        let acknowledgement = match self.context.send_publish(self.subject(key), message).await {
            Ok(pending) => pending.await,
            Err(error) => Err(error),
        };
        match acknowledgement {
            Ok(acknowledgement) => {
                taking::ours().took(Kept::Entries);
                Ok(acknowledgement.sequence)
            }
            Err(error) => {
                let error = match error.kind() {
                    PublishErrorKind::WrongLastSequence => StoreError::Conflict { what: key.to_owned() },
                    PublishErrorKind::MaxPayloadExceeded => StoreError::TooLarge { what: key.to_owned() },
                    _ => StoreError::of(&format!("writing {key}"), &error),
                };
                taking::ours().failed(Kept::Entries, &error);
                Err(error)
            }
        }
    }
}

/// Whether a message marks its key as removed.
pub(super) fn is_removal(headers: &HeaderMap) -> bool {
    headers.get(OPERATION).is_some_and(|operation| matches!(operation.as_str(), "DEL" | "PURGE"))
        || headers.get("Nats-Marker-Reason").is_some()
}
