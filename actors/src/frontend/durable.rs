//! The durable door: what JetStream has acknowledged is run until it has a record.
//!
//! **Promises:** a submission is acknowledged to JetStream only after its record is stored; one whose Frontend ends
//! is delivered to another, under the same invocation id. Delivery is at least once, the record is one.
//! **Gives up:** order between submissions.

use std::time::Duration;

use async_nats::jetstream::{self, AckKind};
use futures::StreamExt;
use messages::{
    BodyFormat, FunctionPath, HEADER_INVOCATION, HEADER_REPLY_TO, Payload, Record, RefusedWhy, Start, Submit,
};
use ractor::ActorRef;
use vocabulary::{Attempt, InvocationId, Outcome, Resources, Span, Usage};

use super::call::{Call, CallError, CallResult};
use super::desk::{HEADER_API_KEY, HEADER_TRANSACTION};
use super::nats_door::{Wrong, error_body, format_of, may_be_answered, path_of, reply_parts};
use super::recovery::answer_of;
use super::{FrontendMessage, Shell, Waiter};
use crate::bus::Bus;
use crate::clock::unix_ms;
use crate::intake::Credits;
use crate::metrics::Refusal;
use crate::store::Store;

/// What is put off comes back after this long.
const PUT_OFF: Duration = Duration::from_millis(500);
/// Pause after the durable stream could not be read.
const PULL_AGAIN: Duration = Duration::from_millis(500);

/// A delivery of the durable stream whose invocation is open.
pub struct DurableWaiter {
    delivery: jetstream::Message,
    reply_to: Option<String>,
    format: BodyFormat,
}

/// Takes deliveries for as long as there are places, and hands them to the Frontend.
pub(super) async fn pull(store: Store, frontend: ActorRef<FrontendMessage>, places: Credits) {
    loop {
        if let Err(error) = pull_once(&store, &frontend, &places).await {
            tracing::warn!(%error, "cannot read the durable stream; trying again");
        }
        tokio::time::sleep(PULL_AGAIN).await;
    }
}

async fn pull_once(
    store: &Store,
    frontend: &ActorRef<FrontendMessage>,
    places: &Credits,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let mut deliveries = store
        .submissions()
        .consumer()
        .stream()
        .max_messages_per_batch(64)
        .expires(Duration::from_secs(30))
        .heartbeat(Duration::from_secs(5))
        .messages()
        .await?;
    loop {
        places.take().await;
        let Some(delivery) = deliveries.next().await else {
            places.give_back();
            return Ok(());
        };
        match delivery {
            Ok(delivery) => frontend.cast(FrontendMessage::Durable(Box::new(delivery)))?,
            Err(error) => {
                places.give_back();
                return Err(error.into());
            }
        }
    }
}

impl Shell {
    pub(super) async fn durable_call(
        &mut self,
        me: &ActorRef<FrontendMessage>,
        delivery: jetstream::Message,
    ) {
        self.given.metrics.called_durably();
        let headers = delivery.headers.as_ref();
        let header = |name: &str| headers.and_then(|headers| headers.get(name)).map(ToString::to_string);
        let format = format_of(headers);
        let invocation = header(HEADER_INVOCATION)
            .and_then(|text| text.parse().ok())
            .unwrap_or_else(|| derived_id(&delivery));
        let transaction = header(HEADER_TRANSACTION).unwrap_or_default();
        let api_key = header(HEADER_API_KEY);
        let redelivered = delivery.info().is_ok_and(|info| info.delivered > 1);
        let waiter = Box::new(DurableWaiter {
            reply_to: header(HEADER_REPLY_TO).filter(|reply_to| may_be_answered(reply_to)),
            format: *format.as_ref().unwrap_or(&BodyFormat::Json),
            delivery,
        });

        if let Some(open) = self.book.get_mut(invocation) {
            match &mut open.waiter {
                // JetStream has lost patience, or the same submission came twice: it is open already, and the newest
                // delivery is the one that can be acknowledged.
                Waiter::Durable(known) if known.delivery.subject == waiter.delivery.subject => {
                    *known = waiter
                }
                // Somebody else chose the same id: they must not hear each other's answers.
                _ => waiter.put_off().await,
            }
            self.durable_places.give_back();
            return;
        }
        let call: Result<Call, Wrong> = format
            .map_err(|reason| (415, reason))
            .and_then(|format| self.read_door(&waiter.delivery.message, format))
            .map(|call| Call { invocation: Some(invocation), transaction, api_key, ..call });
        match call {
            Ok(call) => match self.given.desk.room().enter(call.payload.len()) {
                Ok(place) if redelivered => {
                    self.given.metrics.redelivered();
                    // Somebody may have finished it before: its record tells.
                    self.open_unrouted(call, Waiter::Durable(waiter), place);
                    self.look_up(me, vec![invocation]);
                }
                Ok(place) => self.open(call, Waiter::Durable(waiter), place).await,
                Err(_) => {
                    waiter.put_off().await;
                    self.durable_places.give_back();
                }
            },
            Err((_, reason)) => {
                self.given.metrics.refused(Refusal::BadRequest);
                let places = self.durable_places.clone();
                let (bus, store) = (self.given.bus.clone(), self.given.store.clone());
                tokio::spawn(async move {
                    waiter.end_unrun(&bus, &store, invocation, None, &reason).await;
                    places.give_back();
                });
            }
        }
    }
}

impl DurableWaiter {
    /// Acknowledges what has its record, puts off what has no room, and tells the reply subject if there is one.
    pub(super) async fn deliver(
        self: Box<Self>,
        bus: &Bus,
        store: &Store,
        submit: &Submit,
        result: CallResult,
    ) {
        match result {
            Ok(answer) => {
                self.acknowledge().await;
                self.tell(bus, submit.invocation, Ok(answer)).await;
            }
            Err(CallError::Refused { why: RefusedWhy::TooLarge, reason }) => {
                let (bus, store, submit) = (bus.clone(), store.clone(), submit.clone());
                tokio::spawn(async move {
                    self.end_unrun(&bus, &store, submit.invocation, Some(&submit), &reason).await;
                });
            }
            Err(_) => self.put_off().await,
        }
    }

    /// Tells JetStream that it goes on.
    pub(super) async fn in_progress(&self) {
        self.say(AckKind::Progress).await;
    }

    async fn acknowledge(&self) {
        self.say(AckKind::Ack).await;
    }

    async fn put_off(&self) {
        self.say(AckKind::Nak(Some(PUT_OFF))).await;
    }

    async fn say(&self, kind: AckKind) {
        if let Err(error) = self.delivery.ack_with(kind).await {
            // It will be delivered again, and its record found.
            tracing::warn!(%error, "could not speak to the durable stream");
        }
    }

    async fn tell(&self, bus: &Bus, invocation: InvocationId, result: CallResult) {
        if let Some(reply_to) = &self.reply_to {
            let (headers, body) = reply_parts(invocation, &result, self.format);
            if let Err(error) = bus.client().publish_with_headers(reply_to.clone(), headers, body).await {
                tracing::warn!(%error, "could not tell the reply subject of a durable invocation");
            }
        }
    }

    /// Ends an invocation that can never run, with a record that says why.
    async fn end_unrun(
        self: Box<Self>,
        bus: &Bus,
        store: &Store,
        invocation: InvocationId,
        submit: Option<&Submit>,
        reason: &str,
    ) {
        let path = submit.map(|submit| submit.path.clone()).or_else(|| path_of(&self.delivery.subject));
        let Some(path) = path else {
            // A subject that names nothing: nobody could ask for its record.
            tracing::warn!(subject = %self.delivery.subject, reason, "ended a durable submission that names no function");
            self.say(AckKind::Term).await;
            return;
        };
        let record = unrun_record(invocation, path, submit, reason);
        match store.records().write(record.clone()).await {
            Ok(()) => {
                self.acknowledge().await;
                self.tell(bus, invocation, Ok(answer_of(record))).await;
            }
            Err(error) => {
                tracing::warn!(%error, "could not store the record of a durable submission; it will come again");
                self.put_off().await;
            }
        }
    }
}

/// The record of an invocation that never ran.
pub(super) fn unrun_record(
    invocation: InvocationId,
    path: FunctionPath,
    submit: Option<&Submit>,
    reason: &str,
) -> Record {
    let now = unix_ms();
    Record {
        invocation,
        attempt: Attempt::FIRST,
        namespace: submit.map_or_else(|| path.namespace.clone(), |submit| submit.namespace.clone()),
        path,
        version: String::new(),
        kind: String::new(),
        outcome: Outcome::ApplicationError,
        result: Payload(error_body(reason)),
        timed_out: false,
        started_unix_ms: now,
        ended_unix_ms: now,
        waited: Span::ZERO,
        init: Span::ZERO,
        duration: Span::ZERO,
        start: Start::Warm,
        vm: None,
        reservation: submit.map_or(Resources::ZERO, |submit| submit.function.reservation),
        timeout: submit.map_or(Span::ZERO, |submit| submit.function.timeout),
        log_limit_mb: 0,
        grant: None,
        usage: Usage::default(),
        logs: Vec::new(),
        logs_stored_apart: false,
    }
}

/// The id of a submission that names none: from its time and place in the stream, so that every delivery of it gets
/// the same one.
fn derived_id(delivery: &jetstream::Message) -> InvocationId {
    match delivery.info() {
        Ok(info) => {
            let unix_ms = (info.published.unix_timestamp_nanos() / 1_000_000).max(0) as u64;
            InvocationId::new(unix_ms, u128::from(info.stream_sequence))
        }
        // Not a delivery of a consumer at all; it can be acknowledged by nobody and will not come again.
        Err(_) => crate::chance::invocation_id(),
    }
}
