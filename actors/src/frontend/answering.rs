//! How an open call ends: answered through the Frontend, answered by its VM, refused, or given up; once, whatever the waiter.

use std::sync::Arc;

use messages::{Answer, Heard, Payload, RefusedWhy, Reply, Submit};
use vocabulary::{Outcome, Span, VmId};

use super::book::Open;
use super::call::{CallError, CallResult};
use super::lately::Delivered;
use super::{Shell, Waiter};
use crate::bus::is_no_responders;
use crate::unrun::{self, Unrun};

impl Shell {
    pub(super) async fn reply(&mut self, message: async_nats::Message) {
        if is_no_responders(&message) {
            let invocation = message.subject.rsplit('.').next().and_then(|token| token.parse().ok());
            if let Some(invocation) = invocation {
                self.controller_gone(invocation).await;
            }
            return;
        }
        match messages::decode::<Reply>(&message.payload) {
            Ok(Reply::Answer(answer)) => self.answered(answer).await,
            Ok(Reply::Refused(refused)) => self.refused(refused).await,
            Ok(Reply::Fence(fence)) => {
                if let Some(open) = self.book.get_mut(fence.invocation) {
                    open.fence(fence);
                }
            }
            Err(error) => {
                self.given.metrics.common.decode_failed();
                tracing::warn!(%error, subject = %message.subject, "dropped a reply");
            }
        }
    }

    pub(super) async fn answered(&mut self, answer: Answer) {
        let valid = self.book.get_mut(answer.invocation).is_some_and(|open| open.counts(answer.attempt));
        match self.book.take_if(answer.invocation, valid) {
            Some(open) => {
                let vm = Delivered::before_its_record(&open, &answer);
                if vm.is_none() {
                    self.deliver(open, Ok(answer)).await;
                    return;
                }
                let definition = Arc::clone(&open.definition);
                let submit = self.deliver(open, Ok(answer.clone())).await;
                self.remember(vm, Delivered { submit, definition, answer });
            }
            None => self.given.metrics.stale_answer(),
        }
    }

    /// Who has his answer waits no more, whichever attempt it was of.
    pub(super) fn heard(&mut self, message: &async_nats::Message) {
        let now = self.now();
        let Some(heard) = self.credits.redeem::<Heard>(message, &self.given.metrics.common) else { return };
        for answer in heard.answers {
            let Some(open) = self.book.take_if(answer.invocation, true) else {
                self.given.metrics.stale_answer();
                continue;
            };
            self.given.metrics.heard_from_a_vm(answer.outcome, now.since(open.since));
            let vm = Delivered::before_its_record(&open, &answer);
            let Open { submit, definition, span, .. } = open;
            if let Some(span) = span {
                span.end();
            }
            let submit = Submit { payload: Payload::default(), ..submit };
            self.remember(vm, Delivered { submit, definition, answer });
        }
    }

    /// What was told of a VM, in case that is lost before it has stored the record.
    fn remember(&mut self, vm: Option<VmId>, delivered: Delivered) {
        if let Some(vm) = vm {
            let dropped = self.lately.remember(self.now(), vm, delivered.bytes(), delivered);
            self.given.metrics.recent_answers_dropped(dropped);
        }
    }

    pub(super) async fn refused(&mut self, refused: messages::Refused) {
        if refused.why == RefusedWhy::NotMine {
            self.controller_gone(refused.invocation).await;
            return;
        }
        if let Some(open) = self.book.take_if(refused.invocation, true) {
            self.given.metrics.refused(refused.why.into());
            let error = CallError::Refused { why: refused.why, reason: refused.reason };
            self.deliver(open, Err(error)).await;
        }
    }

    /// Ends an open call: exactly once for each, whatever the waiter. Gives back what was submitted, without its argument.
    pub(super) async fn deliver(&mut self, open: Open, result: CallResult) -> Submit {
        let now = self.now();
        if let Ok(answer) = &result {
            self.given.metrics.answered(answer.outcome, now.since(open.since));
        }
        if let Some(span) = open.span {
            span.end();
        }
        match open.waiter {
            Waiter::Desk(sender) => {
                // The waiter may have gone, with a 202. What has run has its record; what has not gets one.
                if let Err(Err(error)) = sender.send(result) {
                    self.keep_unrun(open.submit.clone(), now.since(open.since), error.to_string());
                }
            }
            Waiter::Nats(waiter) => waiter.deliver(&self.given.bus, open.submit.invocation, result).await,
            Waiter::Durable(waiter) => {
                waiter.deliver(&self.given.bus, &self.given.store, &open.submit, result).await;
                self.durable_places.give_back();
            }
        }
        Submit { payload: Payload::default(), ..open.submit }
    }

    /// Nobody hears any more that it was not run: its record must say so.
    fn keep_unrun(&self, submit: Submit, waited: Span, reason: String) {
        let store = self.given.store.clone();
        tokio::spawn(async move {
            let (attempt, outcome) = (submit.first_attempt, Outcome::InternalError);
            let record = unrun::record(&submit, &Unrun { attempt, outcome, reason: &reason, waited });
            if let Err(error) = store.records().write(record).await {
                tracing::warn!(%error, invocation = %submit.invocation, "could not store a record");
            }
        });
    }
}
