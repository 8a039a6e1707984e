//! The record of an invocation that was answered.

use messages::{Answer, FunctionPath, LogLine, Record};
use vocabulary::{FunctionCard, Usage};

use crate::store::FunctionDefinition;

/// In whose name which function ran.
pub(crate) struct Called<'a> {
    pub namespace: &'a str,
    pub path: &'a FunctionPath,
    pub card: &'a FunctionCard,
    /// None where it could not be read any more.
    pub definition: Option<&'a FunctionDefinition>,
}

/// What it says.
pub(crate) fn record(called: &Called<'_>, answer: &Answer, usage: Usage, logs: Vec<LogLine>) -> Record {
    let Called { namespace, path, card, definition } = *called;
    let took = (answer.init + answer.duration).as_micros().div_ceil(1_000);
    // What the caller was told began when its sandbox began.
    let started_unix_ms = answer.started_unix_ms.saturating_sub(answer.init.as_millis());
    Record {
        invocation: answer.invocation,
        attempt: answer.attempt,
        namespace: namespace.to_owned(),
        path: path.clone(),
        version: definition.map(|definition| definition.version.to_string()).unwrap_or_default(),
        kind: definition.map(|definition| definition.kind.clone()).unwrap_or_default(),
        outcome: answer.outcome,
        result: answer.result.clone(),
        timed_out: answer.timed_out,
        started_unix_ms,
        ended_unix_ms: started_unix_ms + took,
        waited: answer.waited,
        init: answer.init,
        duration: answer.duration,
        start: answer.start,
        vm: answer.vm,
        reservation: card.reservation,
        timeout: card.timeout,
        log_limit_mb: definition.map_or(0, |definition| definition.limits.logs_mb),
        grant: answer.grant,
        usage,
        logs,
        logs_stored_apart: false,
    }
}
