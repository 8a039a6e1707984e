//! What the Controller's mind asks for, carried out.

use std::time::SystemTime;

use messages::{
    Adopt, Answer, Cancel, Fence, Prewarm, Refused, RefusedWhy, Reply, Run, Start, VmLost, subjects,
};
use policies::dispatch::{Again, GivenUp, Output, Refusal, VmGone};
use vocabulary::{Attempt, InvocationId, Outcome, Span, VmId};

use super::Shell;
use crate::metrics::Redispatch;
use crate::telemetry;
use crate::unrun::{self, Unrun};

impl Shell {
    pub(super) async fn carry_out(&mut self, output: Output) {
        match output {
            Output::Run { vm, invocation, attempt, grant, waited } => {
                self.run(vm, invocation, attempt, grant, waited).await;
            }
            Output::Refuse { invocation, why } => {
                if let Some(submit) = self.held.remove(invocation) {
                    self.refuse(&submit.reply_to, invocation, refused_why(&why), why.to_string()).await;
                }
            }
            Output::GiveUp { invocation, attempt, why, waited } => {
                self.give_up(invocation, attempt, why, waited).await
            }
            Output::Fence { invocation, oldest_valid, also } => {
                if let Some(submit) = self.held.get_mut(invocation) {
                    let fence = Reply::Fence(Fence { invocation, oldest_valid, also });
                    self.given.bus.send(submit.reply_to.clone(), &fence).await;
                }
            }
            Output::Forget(invocation) => drop(self.held.remove(invocation)),
            Output::Cancel { vm, invocation, attempt } => {
                self.given.bus.send(subjects::vm_cancel(vm), &Cancel { invocation, attempt }).await;
            }
            Output::Adopt { vm, invocation, attempt } => {
                self.given.metrics.adopted();
                let adopt = Adopt { controller: self.id, invocation, attempt };
                self.given.bus.send(subjects::vm_adopt(vm), &adopt).await;
            }
            Output::Prewarm { vm, function, count } => {
                if let Some(path) = self.paths.get(&function.id).cloned() {
                    self.given.metrics.prewarmed();
                    self.given.bus.send(subjects::vm_prewarm(vm), &Prewarm { function, path, count }).await;
                }
            }
            Output::VmGone { vm, why, open_attempts } => {
                tracing::warn!(%vm, ?why, open_attempts, "gave up a VM");
                self.reports_seen.remove(&vm);
                self.given.bus.send(subjects::ANNOUNCE_LOST.into(), &VmLost { vm }).await;
                let why = match why {
                    VmGone::Silent => Redispatch::VmSilent,
                    VmGone::NoResponders => Redispatch::NoResponders,
                    VmGone::Told => Redispatch::VmEnded,
                };
                for _ in 0..open_attempts {
                    self.given.metrics.redispatched(why);
                }
            }
            Output::Ran(seen) => {
                self.drift.saw(&seen, &self.given.metrics);
                let now = self.now();
                self.usage.ran(now, &seen);
            }
            Output::Stale { .. } => self.given.metrics.stale_ending(),
            Output::Again { why: Again::Notice, .. } => self.given.metrics.redispatched(Redispatch::Notice),
            Output::Again { why: Again::Forgotten, .. } => {
                self.given.metrics.redispatched(Redispatch::Forgotten);
            }
        }
    }

    async fn run(
        &mut self,
        vm: VmId,
        invocation: InvocationId,
        attempt: Attempt,
        grant: vocabulary::Grant,
        waited: Span,
    ) {
        let Some(submit) = self.held.get_mut(invocation) else { return };
        self.given.metrics.dispatched(waited);
        let trace = if telemetry::on() && submit.trace.is_some() {
            let now = SystemTime::now();
            let began = now.checked_sub(waited.into()).unwrap_or(now);
            let attributes = vec![
                opentelemetry::KeyValue::new("windfall.vm", vm.to_string()),
                opentelemetry::KeyValue::new("windfall.attempt", i64::from(attempt.0)),
            ];
            telemetry::record("queue", submit.trace.as_ref(), began, now, attributes);
            submit.trace.clone()
        } else {
            submit.trace.clone()
        };
        let run = Run {
            invocation,
            attempt,
            controller: self.id,
            function: submit.function,
            path: submit.path.clone(),
            namespace: submit.namespace.clone(),
            reply_to: submit.reply_to.clone(),
            grant,
            waited,
            payload: submit.payload.clone(),
            input_size: submit.input_size,
            durable: submit.durable,
            api_key: submit.api_key.clone(),
            transaction: submit.transaction.clone(),
            trace,
        };
        let bounce = subjects::controller_bounce(self.id, vm, invocation, attempt);
        self.given.bus.send_expecting(subjects::vm_run(vm), bounce, &run).await;
    }

    pub(super) async fn refuse(
        &mut self,
        reply_to: &str,
        invocation: InvocationId,
        why: RefusedWhy,
        reason: String,
    ) {
        self.given.metrics.refused(why);
        let refused = Reply::Refused(Refused { invocation, why, reason });
        self.given.bus.send(reply_to.to_owned(), &refused).await;
    }

    /// Ends what was taken and cannot be run, with a record and an answer that say why.
    async fn give_up(&mut self, invocation: InvocationId, attempt: Attempt, why: GivenUp, waited: Span) {
        let Some(submit) = self.held.remove(invocation) else { return };
        self.given.metrics.gave_up();
        tracing::warn!(%invocation, %why, "gave up an invocation");
        let reason = why.to_string();
        let outcome = Outcome::InternalError;
        let record = unrun::record(&submit, &Unrun { attempt, outcome, reason: &reason, waited });
        let answer = Answer {
            invocation,
            attempt,
            outcome,
            result: record.result.clone(),
            vm: None,
            start: Start::Warm,
            grant: None,
            started_unix_ms: record.started_unix_ms,
            waited,
            init: Span::ZERO,
            duration: Span::ZERO,
            timed_out: false,
        };
        let (bus, store) = (self.given.bus.clone(), self.given.store.clone());
        // Off the deciding path: a store that is slow must not hold up other invocations.
        tokio::spawn(async move {
            // Some attempt may have stored its record and been lost with its answer: the record decides.
            match store.records().settle(record, answer).await {
                Ok(answer) => bus.send(submit.reply_to, &Reply::Answer(answer)).await,
                Err(error) => tracing::warn!(%error, %invocation, "could not store a record"),
            }
        });
    }
}

/// What a caller should do about a refusal.
fn refused_why(why: &Refusal) -> RefusedWhy {
    match why {
        Refusal::FunctionQueueFull { .. } | Refusal::QueueFull { .. } => RefusedWhy::QueueFull,
        Refusal::NoVm | Refusal::NoVmOfKind { .. } => RefusedWhy::NoVm,
        Refusal::TooLarge { .. } => RefusedWhy::TooLarge,
    }
}
