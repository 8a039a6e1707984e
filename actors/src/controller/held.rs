//! What a Controller holds for invocations that have not ended: enough to send them out again.

use std::collections::HashMap;

use bytes::Bytes;
use messages::{Payload, Record, Start, Submit};
use vocabulary::{Attempt, InvocationId, Outcome, Resources, Span, Usage};

/// Submissions by invocation, bounded in bytes. (Their number is bounded by the mind's queues and the VMs' capacity.)
pub(super) struct Held {
    submissions: HashMap<InvocationId, Submit>,
    bytes: usize,
    bytes_limit: usize,
    reserved: Resources,
}

impl Held {
    pub(super) fn new(limit_mib: usize) -> Self {
        Self {
            submissions: HashMap::new(),
            bytes: 0,
            bytes_limit: limit_mib << 20,
            reserved: Resources::ZERO,
        }
    }

    pub(super) fn has_room(&self, submit: &Submit) -> bool {
        self.bytes + submit.payload.0.len() <= self.bytes_limit
    }

    pub(super) fn insert(&mut self, submit: Submit) {
        self.bytes += submit.payload.0.len();
        self.reserved += submit.function.reservation;
        self.submissions.insert(submit.invocation, submit);
    }

    pub(super) fn remove(&mut self, invocation: InvocationId) -> Option<Submit> {
        let submit = self.submissions.remove(&invocation)?;
        self.bytes -= submit.payload.0.len();
        self.reserved -= submit.function.reservation;
        Some(submit)
    }

    pub(super) fn get_mut(&mut self, invocation: InvocationId) -> Option<&mut Submit> {
        self.submissions.get_mut(&invocation)
    }

    pub(super) fn contains(&self, invocation: InvocationId) -> bool {
        self.submissions.contains_key(&invocation)
    }

    pub(super) fn len(&self) -> usize {
        self.submissions.len()
    }

    /// What the users of all these asked for.
    pub(super) fn reserved(&self) -> Resources {
        self.reserved
    }
}

/// The record of an invocation that ends here, without an answer of its function.
pub(super) fn record_of(
    submit: &Submit,
    attempt: Attempt,
    reason: &str,
    waited: Span,
    now_unix_ms: u64,
) -> Record {
    let result = serde_json::json!({ "error": reason }).to_string();
    Record {
        invocation: submit.invocation,
        attempt,
        namespace: submit.namespace.clone(),
        path: submit.path.clone(),
        version: String::new(),
        kind: String::new(),
        outcome: Outcome::InternalError,
        result: Payload(Bytes::from(result)),
        timed_out: false,
        started_unix_ms: now_unix_ms,
        ended_unix_ms: now_unix_ms,
        waited,
        init: Span::ZERO,
        duration: Span::ZERO,
        start: Start::Warm,
        vm: None,
        reservation: submit.function.reservation,
        timeout: submit.function.timeout,
        log_limit_mb: 0,
        grant: None,
        usage: Usage::default(),
        logs: Vec::new(),
        logs_stored_apart: false,
    }
}
