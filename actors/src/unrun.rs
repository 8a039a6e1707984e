//! The record of an invocation that ends without an answer of its function.

use bytes::Bytes;
use messages::{FunctionPath, Payload, Record, Start, Submit};
use vocabulary::{Attempt, InvocationId, Outcome, Resources, Span, Usage};

use crate::clock::unix_ms;

/// How it ended.
pub(crate) struct Unrun<'a> {
    /// The last attempt that there was, or would have been.
    pub attempt: Attempt,
    /// Whose fault it is.
    pub outcome: Outcome,
    /// Why, for its caller.
    pub reason: &'a str,
    /// How long it waited for its place.
    pub waited: Span,
}

/// What it says where the function was known.
pub(crate) fn record(submit: &Submit, unrun: &Unrun<'_>) -> Record {
    Record {
        namespace: submit.namespace.clone(),
        reservation: submit.function.reservation,
        timeout: submit.function.timeout,
        ..record_of_unknown(submit.invocation, submit.path.clone(), unrun)
    }
}

/// What it says where only its name is known.
pub(crate) fn record_of_unknown(invocation: InvocationId, path: FunctionPath, unrun: &Unrun<'_>) -> Record {
    let now = unix_ms();
    Record {
        invocation,
        attempt: unrun.attempt,
        namespace: path.namespace.clone(),
        path,
        version: String::new(),
        kind: String::new(),
        outcome: unrun.outcome,
        result: Payload(error_body(unrun.reason)),
        timed_out: false,
        started_unix_ms: now,
        ended_unix_ms: now,
        waited: unrun.waited,
        init: Span::ZERO,
        duration: Span::ZERO,
        start: Start::Warm,
        vm: None,
        reservation: Resources::ZERO,
        timeout: Span::ZERO,
        log_limit_mb: 0,
        grant: None,
        usage: Usage::default(),
        logs: Vec::new(),
        logs_stored_apart: false,
    }
}

/// An error as functions tell theirs.
pub(crate) fn error_body(reason: &str) -> Bytes {
    serde_json::json!({ "error": reason }).to_string().into()
}
