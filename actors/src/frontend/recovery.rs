//! What was open for long: ask the Controller, then the records, then submit again.
//!
//! Core NATS may lose an answer with a connection. Whoever waits for it must not wait for ever, and must not be
//! told twice: the record of the invocation decides.

use std::time::Duration;

use messages::{Answer, Inquiry, Unknown, subjects};
use ractor::ActorRef;
use vocabulary::InvocationId;

use super::{FrontendMessage, Shell};

/// How long a Controller may take to say what it has.
const INQUIRY_PATIENCE: Duration = Duration::from_secs(2);
/// An ending may still be on its way when the Controller has forgotten it: let it arrive.
pub(super) const GRACE: Duration = Duration::from_millis(300);
/// Where the records could not be read, they are asked again after this long.
const LOOK_AGAIN: Duration = Duration::from_millis(500);
/// Ids in one question.
const IDS_AT_ONCE: usize = 1_000;

impl Shell {
    /// Asks Controllers after what has been open for long.
    pub(super) fn inquire(&mut self, me: &ActorRef<FrontendMessage>) {
        let now = self.now();
        for (controller, invocations) in self.book.take_silent(now) {
            for some in invocations.chunks(IDS_AT_ONCE) {
                let (me, client) = (me.clone(), self.given.bus.client().clone());
                let question = messages::encode(&Inquiry { invocations: some.to_vec() });
                tokio::spawn(async move {
                    let asked = client.request(subjects::controller_inquire(controller), question);
                    // A Controller that does not answer is found out by its silence.
                    if let Ok(Ok(reply)) = tokio::time::timeout(INQUIRY_PATIENCE, asked).await
                        && let Ok(unknown) = messages::decode::<Unknown>(&reply.payload)
                        && !unknown.invocations.is_empty()
                    {
                        let _ = me.cast(FrontendMessage::Missing(unknown.invocations));
                    }
                });
            }
        }
    }

    /// Looks for the records of what is open here, after a while; each comes back as [`FrontendMessage::Recovered`]. The
    /// first that cannot be read ends it, because each might take seconds to fail: it and the rest come back together,
    /// to be looked for again.
    pub(super) fn look_up(
        &mut self,
        me: &ActorRef<FrontendMessage>,
        invocations: Vec<InvocationId>,
        after: Duration,
    ) {
        let asked: Vec<_> = invocations
            .into_iter()
            .filter_map(|invocation| {
                self.book.get_mut(invocation).map(|open| (invocation, open.submit.namespace.clone()))
            })
            .collect();
        let (me, store) = (me.clone(), self.given.store.clone());
        tokio::spawn(async move {
            tokio::time::sleep(after).await;
            for (place, (invocation, namespace)) in asked.iter().enumerate() {
                match store.records().get(namespace, *invocation).await {
                    Ok(record) => {
                        let answer = record.map(|record| Box::new(record.into()));
                        let _ = me.cast(FrontendMessage::Recovered { invocation: *invocation, answer });
                    }
                    Err(error) => {
                        let rest: Vec<_> = asked[place..].iter().map(|(invocation, _)| *invocation).collect();
                        tracing::warn!(%error, %invocation, open = rest.len(), "cannot look for records; trying again");
                        let _ = me.cast(FrontendMessage::NotRead(rest));
                        return;
                    }
                }
            }
        });
    }

    /// Nobody else asks after what was never submitted, so whoever could not be looked for is looked for again.
    pub(super) fn look_again(&mut self, me: &ActorRef<FrontendMessage>, invocations: Vec<InvocationId>) {
        self.look_up(me, invocations, LOOK_AGAIN);
    }

    pub(super) async fn recovered(&mut self, invocation: InvocationId, answer: Option<Box<Answer>>) {
        match answer {
            Some(answer) => {
                if let Some(open) = self.book.take_if(invocation, true) {
                    self.deliver(open, Ok(*answer)).await;
                }
            }
            None => {
                if let Some(open) = self.book.get_mut(invocation) {
                    // One that came in a moment ago may be submitted for the first time.
                    if open.was_submitted() {
                        self.given.metrics.resubmitted();
                        open.submit_again();
                    }
                    self.route(invocation).await;
                }
            }
        }
    }
}
