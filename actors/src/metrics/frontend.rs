//! What a Frontend counts.

use std::sync::Arc;

use messages::RefusedWhy;
use opentelemetry::KeyValue;
use vocabulary::{Outcome, Span};

use super::instruments::TIMES;
use super::{Common, Counter, Gauge, Histogram, Metrics};

/// Why a call was turned away at a door.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The function's queue or the Controller's is full.
    QueueFull,
    /// There is no VM that takes work.
    NoVm,
    /// No VM is large enough.
    TooLarge,
    /// The Controller is leaving or does not own the function.
    NotMine,
    /// This Frontend has as many open invocations, or holds as many bytes, as it may.
    FrontendFull,
    /// The namespace has used up its rate or its concurrency.
    NamespaceLimit,
    /// There is no Controller, or NATS is away.
    Unavailable,
    /// It waited for a place until its patience ended.
    PatienceEnded,
    /// Wrong key.
    Unauthorized,
    /// The request was malformed, too large, or for a function that does not exist.
    BadRequest,
}

impl Refusal {
    pub(super) const NAMES: [&'static str; 10] = [
        "queue_full",
        "no_vm",
        "too_large",
        "not_mine",
        "frontend_full",
        "namespace_limit",
        "unavailable",
        "patience_ended",
        "unauthorized",
        "bad_request",
    ];
}

impl From<RefusedWhy> for Refusal {
    fn from(why: RefusedWhy) -> Self {
        match why {
            RefusedWhy::QueueFull => Self::QueueFull,
            RefusedWhy::NoVm => Self::NoVm,
            RefusedWhy::TooLarge => Self::TooLarge,
            RefusedWhy::NotMine => Self::NotMine,
        }
    }
}

/// One counter of refusals per reason; the Controller has the same.
pub(super) fn refusals(metrics: &Metrics, door: &'static str) -> [Counter; 10] {
    metrics.counter_series(
        "windfall_refusals",
        "Calls that were turned away before anything ran, by who refused and why",
        Refusal::NAMES.map(|why| vec![KeyValue::new("door", door), KeyValue::new("why", why)]),
    )
}

/// Names of outcomes as labels, in the order of their codes.
pub(super) const OUTCOMES: [&str; 4] = ["success", "application_error", "developer_error", "internal_error"];

/// Where a call came in.
const DOORS: [&str; 3] = ["http", "nats", "durable"];

/// A Frontend's instruments.
pub struct FrontendMetrics {
    /// What every role counts.
    pub common: Common,
    calls: [Counter; 3],
    answers: [Counter; 4],
    answer_time: Histogram,
    refusals: [Counter; 10],
    still_running: Counter,
    stale_answers: Counter,
    resubmissions: Counter,
    redelivered: Counter,
    recorded_for_lost_vms: Counter,
    recent_answers_dropped: Counter,
    open: Gauge,
    held: Gauge,
    controllers: Gauge,
    http_responses: [Counter; 5],
}

impl FrontendMetrics {
    /// Its instruments, all at 0.
    pub fn new(metrics: &Metrics) -> Arc<Self> {
        Arc::new(Self {
            common: Common::new(metrics),
            calls: metrics.counters("windfall_calls", "Calls that came in, by door", "door", DOORS),
            answers: metrics.counters(
                "windfall_answers",
                "Invocations whose answer reached this Frontend, by outcome",
                "outcome",
                OUTCOMES,
            ),
            answer_time: metrics.histogram(
                "windfall_answer_time_seconds",
                "From a call's arrival at the Frontend to its answer",
                TIMES,
            ),
            refusals: refusals(metrics, "frontend"),
            still_running: metrics.counter(
                "windfall_still_running",
                "Blocking calls that stopped waiting and were told the invocation's id instead",
            ),
            stale_answers: metrics.counter(
                "windfall_stale_answers",
                "Answers to an older attempt, or after the first valid one, that were dropped",
            ),
            resubmissions: metrics.counter(
                "windfall_resubmissions",
                "Invocations submitted again because their Controller was lost",
            ),
            redelivered: metrics.counter(
                "windfall_durable_redeliveries",
                "Durable invocations that JetStream delivered again",
            ),
            recorded_for_lost_vms: metrics.counter(
                "windfall_records_for_lost_vms",
                "Records of answered calls that this Frontend stored because their VM was lost before it had",
            ),
            recent_answers_dropped: metrics.counter(
                "windfall_recent_answers_dropped",
                "Answers of the last second that were not remembered for want of room",
            ),
            open: metrics.gauge("windfall_open_invocations", "Invocations open at this Frontend", 1.0),
            held: metrics.gauge("windfall_held_bytes", "Bytes of arguments held for open invocations", 1.0),
            controllers: metrics.gauge(
                "windfall_controllers",
                "Controllers alive, as seen by this Frontend",
                1.0,
            ),
            http_responses: metrics.counters(
                "windfall_http_responses",
                "HTTP responses by class of status",
                "class",
                ["1xx", "2xx", "3xx", "4xx", "5xx"],
            ),
        })
    }

    /// A call came in over HTTP.
    pub fn called_by_http(&self) {
        self.calls[0].one();
    }

    /// A call came in over NATS request-reply.
    pub fn called_by_nats(&self) {
        self.calls[1].one();
    }

    /// A durable submission was taken from its stream.
    pub fn called_durably(&self) {
        self.calls[2].one();
    }

    /// An invocation's answer came, so long after the call.
    pub fn answered(&self, outcome: Outcome, span: Span) {
        self.answers[outcome as usize].one();
        self.answer_time.took(span);
    }

    /// A call was turned away.
    pub fn refused(&self, why: Refusal) {
        self.refusals[why as usize].one();
    }

    /// A blocking call was told the id instead of the result.
    pub fn still_running(&self) {
        self.still_running.one();
    }

    /// An answer was dropped: it belongs to an older attempt, or another one came first.
    pub fn stale_answer(&self) {
        self.stale_answers.one();
    }

    /// An invocation was submitted again to another Controller.
    pub fn resubmitted(&self) {
        self.resubmissions.one();
    }

    /// JetStream delivered a durable invocation again.
    pub fn redelivered(&self) {
        self.redelivered.one();
    }

    /// A lost VM's record was stored here.
    pub fn recorded_for_lost_vm(&self) {
        self.recorded_for_lost_vms.one();
    }

    /// So many answers were forgotten early.
    pub fn recent_answers_dropped(&self, count: u64) {
        self.recent_answers_dropped.add(count);
    }

    /// So many invocations are open, holding so many bytes of arguments.
    pub fn open(&self, invocations: usize, held_bytes: usize) {
        self.open.set(invocations as u64);
        self.held.set(held_bytes as u64);
    }

    /// So many Controllers are alive.
    pub fn controllers(&self, alive: usize) {
        self.controllers.set(alive as u64);
    }

    /// An HTTP response was sent with this status.
    pub fn http_response(&self, status: u16) {
        if let Some(counter) = self.http_responses.get(usize::from(status / 100).wrapping_sub(1)) {
            counter.one();
        }
    }
}
