//! Durable submissions: a work queue that refuses when it is full, and the one consumer all Frontends share.

use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::jetstream::consumer::{AckPolicy, Consumer, pull};
use async_nats::jetstream::context::{Context, PublishErrorKind};
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::stream::{Config, DiscardPolicy, RetentionPolicy, Stream};
use bytes::Bytes;
use messages::subjects;

use super::error::StoreError;
use super::streams;
use super::taking::{self, Kept};
use crate::settings;

/// A Frontend that says nothing of a submission for this long has lost it; it is delivered again. Whoever works
/// on one says so more often than that.
pub const ACKNOWLEDGE_WITHIN: Duration = Duration::from_secs(30);

/// A submission that is sent again within this time, with the same `Nats-Msg-Id`, is dropped by JetStream.
pub const DUPLICATE_WINDOW: Duration = Duration::from_secs(120);

/// Submissions that all Frontends together may have in hand.
const IN_HAND: i64 = 100_000;

/// The queue. Copies are cheap.
#[derive(Clone)]
pub struct Submissions {
    context: Context,
    stream: Stream,
    consumer: Consumer<pull::Config>,
}

impl Submissions {
    pub(super) async fn open(context: &Context, settings: &settings::Store) -> Result<Self, StoreError> {
        let stream = streams::ensure(
            context,
            Config {
                name: "WINDFALL_SUBMIT".into(),
                subjects: vec![subjects::SUBMIT_ALL.into(), subjects::ACCEPT_ALL.into()],
                retention: RetentionPolicy::WorkQueue,
                discard: DiscardPolicy::New,
                max_bytes: streams::mebibytes(settings.submit_size_mib),
                max_messages_per_subject: -1,
                duplicate_window: DUPLICATE_WINDOW,
                num_replicas: settings.replicas,
                allow_direct: true,
                ..Default::default()
            },
        )
        .await?;
        let config = pull::Config {
            durable_name: Some(subjects::FRONTENDS.into()),
            ack_policy: AckPolicy::Explicit,
            ack_wait: ACKNOWLEDGE_WITHIN,
            max_deliver: -1,
            max_ack_pending: IN_HAND,
            ..Default::default()
        };
        let consumer = stream
            .create_consumer(config)
            .await
            .map_err(|error| StoreError::of("making the submissions' consumer", &error))?;
        Ok(Self { context: context.clone(), stream, consumer })
    }

    /// The consumer from which every Frontend takes.
    pub fn consumer(&self) -> &Consumer<pull::Config> {
        &self.consumer
    }

    /// The stream itself, for counts.
    pub fn stream(&self) -> &Stream {
        &self.stream
    }

    /// Accepts a submission: resolves once JetStream has acknowledged it. `id`, where given, makes it idempotent
    /// for two minutes.
    ///
    /// # Errors
    /// [`StoreError::NoSpace`] when `store.submit_size_mib` is used up.
    pub async fn publish(
        &self,
        subject: String,
        headers: HeaderMap,
        payload: Bytes,
        id: Option<&str>,
    ) -> Result<(), StoreError> {
        const DOING: &str = "submitting";
        let mut message = PublishMessage::build().payload(payload).headers(headers);
        if let Some(id) = id {
            message = message.message_id(id);
        }
        let acknowledgement = match self.context.send_publish(subject, message).await {
            Ok(pending) => pending.await,
            Err(error) => Err(error),
        };
        match acknowledgement {
            Ok(_) => {
                taking::ours().took(Kept::Submissions);
                Ok(())
            }
            Err(error) if error.kind() == PublishErrorKind::MaxPayloadExceeded => {
                Err(StoreError::TooLarge { what: "the submission".into() })
            }
            Err(error) => {
                let error = StoreError::of(DOING, &error);
                taking::ours().failed(Kept::Submissions, &error);
                Err(error)
            }
        }
    }

    /// How many wait or are in hand.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn open_count(&self) -> Result<u64, StoreError> {
        let info = self.stream.get_info().await;
        Ok(info.map_err(|error| StoreError::of("counting submissions", &error))?.state.messages)
    }
}
