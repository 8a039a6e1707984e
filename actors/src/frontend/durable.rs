//! The durable door: what JetStream has acknowledged is run until it has a record.
//!
//! **Promises:** a submission is acknowledged to JetStream only after its record is stored; one whose Frontend ends
//! is delivered to another, under the same invocation id. Delivery is at least once, the record is one.
//! **Gives up:** order between submissions.

use std::time::Duration;

use async_nats::header::NATS_MESSAGE_ID;
use async_nats::jetstream::consumer::pull;
use async_nats::jetstream::{self, AckKind};
use futures::{FutureExt, StreamExt};
use messages::{BodyFormat, HEADER_INVOCATION, HEADER_REPLY_TO, RefusedWhy, Submit, subjects};
use ractor::ActorRef;
use tokio::sync::watch;
use vocabulary::{Attempt, InvocationId, Outcome, Span};

use super::call::{Call, CallError, CallResult};
use super::desk::{HEADER_API_KEY, HEADER_TRANSACTION};
use super::nats_door::{Wrong, format_of, may_be_answered, path_of, reply_parts};
use super::recovery::GRACE;
use super::{FrontendMessage, Shell, Waiter};
use crate::bus::Bus;
use crate::intake::{Credits, is_true};
use crate::metrics::Refusal;
use crate::store::{DUPLICATE_WINDOW, Store};
use crate::unrun::{self, Unrun};

/// Clocks of those who submit and of the server differ by less than this.
const CLOCKS_DIFFER: Duration = Duration::from_secs(5);
/// What is put off comes back after this long.
const PUT_OFF: Duration = Duration::from_millis(500);
/// Pause after the durable stream could not be read.
const PULL_AGAIN: Duration = Duration::from_millis(500);

/// A delivery of the durable stream whose invocation is open.
pub struct DurableWaiter {
    delivery: jetstream::Message,
    reply_to: Option<String>,
    format: BodyFormat,
    /// Whether another Frontend may have submitted it to its Controller.
    pub(super) redelivered: bool,
}

/// Takes deliveries for as long as there are places, and hands them to the Frontend. When the door closes, what has come and was
/// not handed over goes back at once, for another Frontend.
pub(super) async fn pull(
    store: Store,
    frontend: ActorRef<FrontendMessage>,
    places: Credits,
    mut closing: watch::Receiver<bool>,
) {
    let mut deliveries = None;
    tokio::select! {
        () = pull_for_ever(&store, &frontend, &places, &mut deliveries) => {}
        () = is_true(&mut closing) => {}
    }
    while let Some(Some(Ok(delivery))) =
        deliveries.as_mut().map(|deliveries| deliveries.next().now_or_never().flatten())
    {
        let _ = delivery.ack_with(AckKind::Nak(None)).await;
    }
    let _ = frontend.cast(FrontendMessage::DoorClosed);
}

async fn pull_for_ever(
    store: &Store,
    frontend: &ActorRef<FrontendMessage>,
    places: &Credits,
    deliveries: &mut Option<pull::Stream>,
) {
    loop {
        if let Err(error) = pull_once(store, frontend, places, deliveries).await {
            tracing::warn!(%error, "cannot read the durable stream; trying again");
        }
        tokio::time::sleep(PULL_AGAIN).await;
    }
}

async fn pull_once(
    store: &Store,
    frontend: &ActorRef<FrontendMessage>,
    places: &Credits,
    deliveries: &mut Option<pull::Stream>,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let stream = store
        .submissions()
        .consumer()
        .stream()
        .max_messages_per_batch(64)
        .expires(Duration::from_secs(30))
        .heartbeat(Duration::from_secs(5))
        .messages()
        .await?;
    let deliveries = deliveries.insert(stream);
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
        let chosen: Option<InvocationId> = header(HEADER_INVOCATION).and_then(|text| text.parse().ok());
        let invocation = chosen.unwrap_or_else(|| derived_id(&delivery));
        // Only what came through a Frontend's own door may say in whose name it speaks; others' headers are not read.
        let accepted = subjects::is_accepted(&delivery.subject);
        let internal = |name: &str| header(name).filter(|_| accepted);
        let transaction = internal(HEADER_TRANSACTION).unwrap_or_default();
        let api_key = internal(HEADER_API_KEY);
        let redelivered = delivery.info().is_ok_and(|info| info.delivered > 1);
        let is_first = chosen.is_none_or(|chosen| {
            header(NATS_MESSAGE_ID.as_ref()).is_some_and(|sent| sent == chosen.to_string())
                && is_surely_new(chosen, published_unix_ms(&delivery), self.connected_unix_ms())
        });
        let waiter = Box::new(DurableWaiter {
            reply_to: header(HEADER_REPLY_TO).filter(|reply_to| may_be_answered(reply_to)),
            format: *format.as_ref().unwrap_or(&BodyFormat::Json),
            redelivered,
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
                    // Somebody may have finished it before: its record tells, and may still be on its way.
                    self.open_unrouted(call, Waiter::Durable(waiter), place);
                    self.look_up(me, vec![invocation], GRACE);
                }
                Ok(place) if !is_first => {
                    // Its sender may have sent it before, and it may have ended since.
                    self.open_unrouted(call, Waiter::Durable(waiter), place);
                    self.look_up(me, vec![invocation], Duration::ZERO);
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
        let (attempt, outcome) = (Attempt::FIRST, Outcome::ApplicationError);
        let unrun = Unrun { attempt, outcome, reason, waited: Span::ZERO };
        let record = match submit {
            Some(submit) => unrun::record(submit, &unrun),
            None => unrun::record_of_unknown(invocation, path, &unrun),
        };
        match store.records().settle(record.clone(), record.into()).await {
            Ok(answer) => {
                self.acknowledge().await;
                self.tell(bus, invocation, Ok(answer)).await;
            }
            Err(error) => {
                tracing::warn!(%error, "could not store the record of a durable submission; it will come again");
                self.put_off().await;
            }
        }
    }
}

/// Whether JetStream itself would have dropped this submission, had it been sent before. Within its window it drops what
/// comes again under one `Nats-Msg-Id`, and nobody can have sent an id before the time that stands in it. A server that
/// was restarted has forgotten what it had seen, so an id from before our connection does not count.
///
/// Whoever puts another time into an id than the present one can make only its own work run twice.
fn is_surely_new(id: InvocationId, published_unix_ms: u64, connected_unix_ms: u64) -> bool {
    let made = id.unix_ms();
    let window = (DUPLICATE_WINDOW - CLOCKS_DIFFER).as_millis() as u64;
    let clocks_differ = CLOCKS_DIFFER.as_millis() as u64;
    made <= published_unix_ms + clocks_differ
        && made + window >= published_unix_ms
        && made >= connected_unix_ms + clocks_differ
}

/// When JetStream took a submission; the beginning of time if it did not say.
fn published_unix_ms(delivery: &jetstream::Message) -> u64 {
    delivery.info().map_or(0, |info| (info.published.unix_timestamp_nanos() / 1_000_000).max(0) as u64)
}

/// The id of a submission that names none: from its time and place in the stream, so that every delivery of it gets
/// the same one.
fn derived_id(delivery: &jetstream::Message) -> InvocationId {
    match delivery.info() {
        Ok(info) => InvocationId::new(published_unix_ms(delivery), u128::from(info.stream_sequence)),
        // Not a delivery of a consumer at all; it can be acknowledged by nobody and will not come again.
        Err(_) => crate::chance::invocation_id(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONNECTED: u64 = 1_700_000_000_000;
    const PUBLISHED: u64 = CONNECTED + 1_000_000;

    fn is_new(made: u64) -> bool {
        is_surely_new(InvocationId::new(made, 7), PUBLISHED, CONNECTED)
    }

    #[test]
    fn an_id_of_the_present_is_new_and_one_that_may_have_been_sent_before_is_not() {
        assert!(is_new(PUBLISHED));
        assert!(is_new(PUBLISHED + 4_000), "clocks differ");
        assert!(is_new(PUBLISHED - 110_000), "JetStream would have dropped a repetition");
        assert!(!is_new(PUBLISHED - 120_000), "it may have been sent before JetStream's window");
        assert!(!is_new(PUBLISHED + 10_000), "no clock says so");
        assert!(!is_new(0), "an id without a time");
        assert!(
            !is_surely_new(InvocationId::new(PUBLISHED, 7), PUBLISHED, PUBLISHED - 1_000),
            "the server was restarted"
        );
    }
}
