//! One run: in the sandbox, then the answer, then the rest.
//!
//! The answer goes out before anything else is done. For a durable invocation the record is stored first, because
//! the answer is what its submission is acknowledged on; and for one that was sent out before, so that its caller and its
//! record tell of the same attempt.

use std::future::Future;
use std::sync::Arc;
use std::time::SystemTime;

use messages::{Answer, Ended, Finished, LogStream, Payload, Record, Reply, Run, Start};
use opentelemetry::KeyValue;
use policies::residency::SandboxId;
use ractor::ActorRef;
use sandbox::{LogLine, RunContext, RunOrder, Sandbox, Stream, Verdict};
use vocabulary::{Attempt, Grant, Moment, Span, Usage};

use super::lending::Owed;
use super::making::{Failure, log_limit};
use super::outcome::of_verdict;
use super::outgoing::Outgoing;
use super::{Arguments, InvokerMessage};
use crate::clock::unix_ms;
use crate::metrics;
use crate::ran::{self, Called};
use crate::store::FunctionDefinition;
use crate::telemetry;

/// A run that this VM has been given.
pub(super) struct RunHere {
    pub run: Run,
    pub arrived: Moment,
}

/// A run that has ended.
pub struct Ran {
    pub(super) here: Arc<RunHere>,
    pub(super) id: SandboxId,
    /// For the next run; none if it is gone.
    pub(super) sandbox: Option<Box<dyn Sandbox>>,
    /// Whether its Controller is told how it ended; if not, it never ran and should be run elsewhere.
    pub(super) told: bool,
}

/// Everything a run needs.
pub(super) struct Begin {
    pub given: Arc<Arguments>,
    pub me: ActorRef<InvokerMessage>,
    pub outgoing: Outgoing,
    pub here: Arc<RunHere>,
    pub id: SandboxId,
    pub sandbox: Box<dyn Sandbox>,
    pub definition: Arc<FunctionDefinition>,
    pub grant: Grant,
    /// What is owed to it, if it lends.
    pub owed: Option<Arc<Owed>>,
    pub start: Start,
    pub init: Span,
    pub init_logs: Vec<LogLine>,
}

/// Begins; the actor hears [`InvokerMessage::Ran`].
pub(super) fn begin(begin: Begin) {
    tokio::spawn(run(begin));
}

async fn run(begin: Begin) {
    let Begin { given, me, outgoing, here, id, mut sandbox, definition, grant, owed, start, init, init_logs } =
        begin;
    let run = &here.run;
    let here_since = given.clock.now().since(here.arrived);
    let waited = run.waited + (here_since - init);
    let started_unix_ms = unix_ms();
    let span = traced(run, start, init);
    let order = RunOrder {
        payload: run.payload.0.clone(),
        context: RunContext {
            namespace: run.namespace.clone(),
            action_name: format!("/{}/{}", run.path.namespace, run.path.name),
            action_version: definition.version.to_string(),
            activation_id: run.invocation.to_string(),
            transaction_id: run.transaction.clone(),
            deadline_unix_ms: started_unix_ms + run.function.timeout.as_millis(),
            api_key: run.api_key.clone(),
            api_host: None,
            traceparent: span.as_ref().map(|span| span.context().traceparent),
        },
        timeout: run.function.timeout,
        log_limit: log_limit(&definition),
        result_limit: given.settings.limits.payload_max as u64,
    };
    let mut report = sandbox.run(order).await;
    drop(span);
    if given.workshop.is_closing() && has_died(&report.verdict) {
        // It died with its VM, whose Controllers are told of that, and not by a mistake of its function. They have it run
        // again, or end it, as it allows; the time it took here tells nothing.
        return;
    }
    report.usage.safeguarded = owed.as_ref().is_some_and(|owed| owed.was_given_back());
    // With all of its reservation it might have gone well, as it might on a VM that has it: its Controller has it run again.
    let was_lent = report.verdict == Verdict::OutOfMemory && owed.is_some_and(|owed| owed.memory());
    let vm_is_full = report.verdict == Verdict::VmFull;
    if was_lent || vm_is_full {
        if was_lent {
            given.metrics.starved();
        } else {
            given.metrics.killed_by_a_full_vm();
        }
        let finished = Finished {
            ended: Ended::Starved,
            start,
            init,
            duration: report.duration,
            usage: report.usage,
            ..cancelled(run)
        };
        outgoing.finished(run.controller, finished);
        tokio::spawn(sandbox.stop());
        let _ = me.cast(InvokerMessage::Ran(Box::new(Ran { here, id, sandbox: None, told: true })));
        return;
    }
    let cancelled_here = report.verdict == Verdict::Killed;
    let Some(told) = of_verdict(report.verdict, run.function.timeout) else {
        // Killed because nobody waits for it, or the sandbox had died before: then it has not run.
        if cancelled_here {
            outgoing.finished(run.controller, cancelled(run));
        }
        tokio::spawn(sandbox.stop());
        let told = cancelled_here;
        let _ = me.cast(InvokerMessage::Ran(Box::new(Ran { here, id, sandbox: None, told })));
        return;
    };
    let answer = Answer {
        invocation: run.invocation,
        attempt: run.attempt,
        outcome: told.outcome,
        result: Payload(told.result),
        vm: Some(given.vm),
        start,
        grant: Some(grant),
        started_unix_ms,
        waited,
        init,
        duration: report.duration,
        timed_out: told.timed_out,
    };
    let finished = Finished {
        invocation: run.invocation,
        attempt: run.attempt,
        function: run.function.id,
        revision: run.function.revision,
        ended: Ended::Answered(told.outcome),
        start,
        init,
        duration: report.duration,
        usage: report.usage,
        sandbox_kept: report.reusable,
        input_bytes: run.input_bytes(),
    };
    // Collected before the answer is sent, so that both are told in one write.
    outgoing.finished(run.controller, finished);
    let record_first = must_be_recorded_first(run);
    if !record_first {
        given.bus.send(run.reply_to.clone(), &Reply::Answer(answer.clone())).await;
    }
    let kept = if report.reusable {
        Some(sandbox)
    } else {
        tokio::spawn(sandbox.stop());
        None
    };
    let ran = Ran { here: Arc::clone(&here), id, sandbox: kept, told: true };
    let _ = me.cast(InvokerMessage::Ran(Box::new(ran)));
    // The answer is written to the server before anything else is done here.
    tokio::task::yield_now().await;
    given.metrics.ran(&metrics::Ran {
        outcome: told.outcome,
        start,
        waited: here_since - init,
        init,
        duration: report.duration,
        grant,
        usage: report.usage,
        timed_out: told.timed_out,
        out_of_memory: told.out_of_memory,
    });
    let mut logs = init_logs;
    logs.extend(report.logs);
    let record = record_of(run, &answer, Some(&definition), report.usage, logs);
    let reply_to = run.reply_to.clone();
    let answer_after = record_first.then_some(answer);
    drop((here, definition));
    keep_record(&given, record, reply_to, answer_after).await;
}

/// Whether a run ended with its process instead of by itself.
fn has_died(verdict: &Verdict) -> bool {
    match verdict {
        Verdict::Exited
        | Verdict::Killed
        | Verdict::OutOfMemory
        | Verdict::VmFull
        | Verdict::NeverRan
        | Verdict::BadAnswer { .. } => true,
        Verdict::Answered(_) | Verdict::Broke { .. } | Verdict::TimedOut | Verdict::TooLarge { .. } => false,
    }
}

/// A durable submission is acknowledged on its answer; and of an invocation that was sent out before, another attempt's
/// record may be there.
fn must_be_recorded_first(run: &Run) -> bool {
    run.durable || run.attempt > Attempt::FIRST
}

/// Stores the record; an answer that waits for it follows, and says what the record says.
async fn keep_record(given: &Arguments, record: Record, reply_to: String, answer_after: Option<Answer>) {
    let Some(answer) = answer_after else { return given.store.records().enqueue(record).await };
    let invocation = record.invocation;
    // Apart, so that the future of those who need not wait, which is copied when its task is made, stays small.
    match Box::pin(given.store.records().settle(record, answer)).await {
        Ok(answer) => given.bus.send_bytes(reply_to, messages::encode(&Reply::Answer(answer))).await,
        // Unanswered, so it will be delivered again, or asked after.
        Err(error) => tracing::warn!(%error, %invocation, "could not store a record before its answer"),
    }
}

/// The span of a run and, where one was made for it, of its sandbox.
fn traced(run: &Run, start: Start, init: Span) -> Option<telemetry::ActiveSpan> {
    if !telemetry::on() {
        return None;
    }
    let trace = run.trace.as_ref();
    if start == Start::Cold {
        let now = SystemTime::now();
        let began = now.checked_sub(init.into()).unwrap_or(now);
        telemetry::record("cold start", trace, began, now, Vec::<KeyValue>::new());
    }
    let mut span = telemetry::child("run", trace, opentelemetry::trace::SpanKind::Internal)?;
    span.attribute("windfall.attempt", i64::from(run.attempt.0));
    span.attribute("windfall.start", if start == Start::Cold { "cold" } else { "warm" });
    Some(span)
}

/// The ending of a run that was killed or forgotten because nobody waits for it.
pub(super) fn cancelled(run: &Run) -> Finished {
    Finished {
        invocation: run.invocation,
        attempt: run.attempt,
        function: run.function.id,
        revision: run.function.revision,
        ended: Ended::Cancelled,
        start: Start::Warm,
        init: Span::ZERO,
        duration: Span::ZERO,
        usage: Usage::default(),
        sandbox_kept: false,
        input_bytes: run.input_bytes(),
    }
}

/// What follows a sandbox that the function's own code kept from starting: the ending for the Controller, and what
/// tells the caller and the store.
pub(super) fn failed_to_start(
    given: &Arc<Arguments>,
    here: &Arc<RunHere>,
    failure: Failure,
) -> (Finished, impl Future<Output = ()> + Send + 'static) {
    let run = &here.run;
    let waited = run.waited + (given.clock.now().since(here.arrived) - failure.took);
    let answer = Answer {
        invocation: run.invocation,
        attempt: run.attempt,
        outcome: failure.outcome,
        result: Payload(failure.result),
        vm: Some(given.vm),
        start: Start::Cold,
        grant: Some(run.grant),
        started_unix_ms: unix_ms().saturating_sub(failure.took.as_millis()),
        waited,
        init: failure.took,
        duration: Span::ZERO,
        timed_out: failure.timed_out,
    };
    given.metrics.ran(&metrics::Ran {
        outcome: failure.outcome,
        start: Start::Cold,
        waited: Span::ZERO,
        init: failure.took,
        duration: Span::ZERO,
        grant: run.grant,
        usage: Usage::default(),
        timed_out: failure.timed_out,
        out_of_memory: failure.out_of_memory,
    });
    telemetry::record("cold start", run.trace.as_ref(), failure.began, SystemTime::now(), Vec::new());
    let finished = Finished {
        ended: Ended::Answered(failure.outcome),
        start: Start::Cold,
        init: failure.took,
        ..cancelled(run)
    };
    let record = record_of(run, &answer, failure.definition.as_deref(), Usage::default(), failure.logs);
    let (given, here) = (Arc::clone(given), Arc::clone(here));
    let telling = async move {
        let answer_after = if must_be_recorded_first(&here.run) {
            Some(answer)
        } else {
            given.bus.send(here.run.reply_to.clone(), &Reply::Answer(answer)).await;
            None
        };
        keep_record(&given, record, here.run.reply_to.clone(), answer_after).await;
    };
    (finished, telling)
}

fn record_of(
    run: &Run,
    answer: &Answer,
    definition: Option<&FunctionDefinition>,
    usage: Usage,
    logs: Vec<LogLine>,
) -> Record {
    let called = Called { namespace: &run.namespace, path: &run.path, card: &run.function, definition };
    ran::record(&called, answer, usage, logs.into_iter().map(wire_line).collect())
}

fn wire_line(line: LogLine) -> messages::LogLine {
    let stream = match line.stream {
        Stream::Stdout => LogStream::Stdout,
        Stream::Stderr => LogStream::Stderr,
    };
    messages::LogLine { unix_us: line.unix_us, stream, text: line.text }
}
