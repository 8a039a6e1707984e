//! What remains of an invocation.

use serde::{Deserialize, Serialize};
use vocabulary::{Attempt, Grant, InvocationId, Outcome, Resources, Span, Usage, VmId};

use crate::{Answer, FunctionPath, Payload, Start};

/// Which stream a line was written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// One line that a function wrote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// When it was read: microseconds since the Unix epoch by the VM's clock.
    pub unix_us: u64,
    /// From where.
    pub stream: LogStream,
    /// The line, without its end.
    pub text: String,
}

/// Invoker (or Controller, for what never ran) -> store, on `windfall.record.<namespace>.<function>.<id>`.
///
/// The stream takes only the first record on a subject, so an invocation has one record however many attempts
/// it took. Kept as long and as large as the stream is configured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Which invocation.
    pub invocation: InvocationId,
    /// Which try ended it.
    pub attempt: Attempt,
    /// In whose records: the caller's namespace.
    pub namespace: String,
    /// What ran.
    pub path: FunctionPath,
    /// The version of the function, as users see it (`0.0.1`).
    pub version: String,
    /// The function's runtime, such as `python:3`.
    pub kind: String,
    /// How it ended.
    pub outcome: Outcome,
    /// JSON text: the result, or `{"error": ...}`.
    pub result: Payload,
    /// Whether its time limit ended it.
    pub timed_out: bool,
    /// Milliseconds since the Unix epoch, by the clock of who wrote the record.
    pub started_unix_ms: u64,
    /// As `started_unix_ms`.
    pub ended_unix_ms: u64,
    /// From acceptance to the start.
    pub waited: Span,
    /// Making the sandbox; zero when warm.
    pub init: Span,
    /// The run itself, without `init`.
    pub duration: Span,
    /// Cold or warm.
    pub start: Start,
    /// Where it ran; absent when it never did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vm: Option<VmId>,
    /// What the user asked for.
    pub reservation: Resources,
    /// The function's time limit.
    pub timeout: Span,
    /// The function's log limit, in MB as OpenWhisk counts it.
    pub log_limit_mb: u32,
    /// What it was granted; absent when it never ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grant: Option<Grant>,
    /// What it used.
    pub usage: Usage,
    /// What it wrote, where that is small enough for one message.
    pub logs: Vec<LogLine>,
    /// Whether the rest of what it wrote is in the object store under the invocation's id.
    #[serde(default)]
    pub logs_stored_apart: bool,
}

impl From<Record> for Answer {
    /// What its caller is told of it.
    fn from(record: Record) -> Self {
        Self {
            invocation: record.invocation,
            attempt: record.attempt,
            outcome: record.outcome,
            result: record.result,
            vm: record.vm,
            start: record.start,
            grant: record.grant,
            started_unix_ms: record.started_unix_ms,
            waited: record.waited,
            init: record.init,
            duration: record.duration,
            timed_out: record.timed_out,
        }
    }
}
