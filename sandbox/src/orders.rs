//! What is asked of a sandbox, and what it tells: the words between an Invoker and its sandboxes, in the
//! order a function process meets them.
//!
//! **Knows:** nothing; these are plain values.
//! **Promises:** whose fault a failure is can always be told: [`StartError::is_developers`] and
//! [`Verdict::is_developers`].
//! **Gives up:** the texts that clients of OpenWhisk see; whoever writes the record words them.

use std::io;

use bytes::Bytes;
use vocabulary::{MilliCores, Resources, Span, Usage};

use crate::Kind;

/// A function's code as its user gave it.
#[derive(Debug, Clone)]
pub struct Code {
    /// Source text, a zip archive or an executable; already decoded from base64.
    pub bytes: Bytes,
    /// Whether `bytes` are a zip or an executable rather than source text.
    pub binary: bool,
    /// Names these bytes among all code: the key of the cache of unpacked code. 1 to 128 characters of
    /// `[A-Za-z0-9_-]`.
    pub digest: String,
}

/// Everything needed to start one sandbox.
#[derive(Debug, Clone)]
pub struct StartOrder {
    /// Its name, unique among the sandboxes of this Workshop: 1 to 63 characters of `[a-z0-9-]`. Also the
    /// name of its control group and its host name.
    pub name: String,
    /// Which runtime.
    pub kind: Kind,
    /// What to run.
    pub code: Code,
    /// The function's entry point; `main` if not given. Native functions have none.
    pub main: Option<String>,
    /// Variables that are set before the code is loaded, on top of `PATH`, `HOME`, `TMPDIR` and `LANG`.
    pub env: Vec<(String, String)>,
    /// What the kernel lets it use, until [`Limits::set_ceiling`](crate::Limits::set_ceiling) says otherwise.
    pub ceiling: Resources,
    /// Its part of the CPU where there is not enough for all, until [`Limits::set_weight`](crate::Limits::set_weight) says otherwise.
    pub weight: MilliCores,
    /// The longest loading the code may take.
    pub timeout: Span,
    /// The most that loading may log, in bytes of text.
    pub log_limit: u64,
}

/// Why there is no sandbox. Each variant tells the caller whose fault it is and what to do next.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Host's: this VM lacks the runtime; start it on another one.
    #[error("no runtime for {kind} on this machine; it has {available}")]
    NoRuntime {
        /// What was asked for.
        kind: Kind,
        /// What there is, for people.
        available: String,
    },
    /// Developer's: the code could not be unpacked, or is not what its kind needs.
    #[error("{message}")]
    BadCode {
        /// What is wrong, for the function's developer.
        message: String,
    },
    /// Developer's: the code could not be loaded.
    #[error("{message}")]
    Init {
        /// What the runtime says, for the function's developer.
        message: String,
        /// What was logged meanwhile.
        logs: Vec<LogLine>,
        /// How long it took to fail.
        took: Span,
    },
    /// Developer's: loading took longer than [`StartOrder::timeout`].
    #[error("loading the code took longer than {took}")]
    TimedOut {
        /// What was logged meanwhile.
        logs: Vec<LogLine>,
        /// How long it was given.
        took: Span,
    },
    /// Developer's: loading needed more memory than the ceiling.
    #[error("loading the code exhausted its memory")]
    OutOfMemory {
        /// What was logged meanwhile.
        logs: Vec<LogLine>,
        /// How long it took to fail.
        took: Span,
    },
    /// Developer's: the process ended while loading the code.
    #[error("the function did not initialize and exited")]
    Exited {
        /// What was logged meanwhile.
        logs: Vec<LogLine>,
        /// How long it took to fail.
        took: Span,
    },
    /// Host's: every slot for a sandbox is taken; stop one first.
    #[error("all {limit} slots for sandboxes are taken; stop one, or raise the limit of sandboxes")]
    Full {
        /// How many slots there are.
        limit: u32,
    },
    /// Host's: the machine failed us. Another VM may do better.
    #[error("could not {doing}: {source}")]
    Host {
        /// What we were doing, as the rest of "could not ...".
        doing: String,
        /// What the machine said.
        source: io::Error,
    },
}

impl StartError {
    /// Whether the function's code is to blame (and starting it again would end the same way) rather than
    /// this machine.
    pub fn is_developers(&self) -> bool {
        !matches!(self, Self::NoRuntime { .. } | Self::Full { .. } | Self::Host { .. })
    }

    /// What was logged before it failed; nothing where no code ran.
    pub fn take_logs(&mut self) -> Vec<LogLine> {
        match self {
            Self::Init { logs, .. }
            | Self::TimedOut { logs, .. }
            | Self::OutOfMemory { logs, .. }
            | Self::Exited { logs, .. } => std::mem::take(logs),
            Self::NoRuntime { .. } | Self::BadCode { .. } | Self::Full { .. } | Self::Host { .. } => {
                Vec::new()
            }
        }
    }

    pub(crate) fn host(doing: impl Into<String>, source: io::Error) -> Self {
        Self::Host { doing: doing.into(), source }
    }
}

/// What a function may know of the invocation it serves. Sent with every run, and set as `__OW_*`.
#[derive(Debug, Clone, Default)]
pub struct RunContext {
    /// The caller's namespace.
    pub namespace: String,
    /// `/namespace/name`, fully qualified.
    pub action_name: String,
    /// Such as `0.0.1`.
    pub action_version: String,
    /// 32 lower-case hexadecimal digits.
    pub activation_id: String,
    /// The transaction that led here, for support.
    pub transaction_id: String,
    /// When the run must have ended: milliseconds since the Unix epoch.
    pub deadline_unix_ms: u64,
    /// The caller's key, only if the function asks for it.
    pub api_key: Option<String>,
    /// Where this house's HTTP door is, for functions that call others.
    pub api_host: Option<String>,
    /// W3C trace context of the run.
    pub traceparent: Option<String>,
}

/// One run.
#[derive(Debug, Clone)]
pub struct RunOrder {
    /// The argument: one JSON value. Passed on as it is, except that newlines (which JSON allows only
    /// between its tokens) become spaces.
    pub payload: Bytes,
    /// What the function may know.
    pub context: RunContext,
    /// The longest the run may take; then everything in the sandbox is killed.
    pub timeout: Span,
    /// The most the run may log, in bytes of text; the rest is discarded and one line says so.
    pub log_limit: u64,
    /// The longest answer, in bytes.
    pub result_limit: u64,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It answered: one line of JSON, an object or an array, without its newline. Whether an object's
    /// `error` makes it an application error is for the reader to say.
    Answered(Bytes),
    /// Developer's: the runtime says that the function broke, and how.
    Broke {
        /// For the function's developer.
        message: String,
    },
    /// Developer's: it took longer than [`RunOrder::timeout`] and was killed.
    TimedOut,
    /// Developer's: it needed more memory than its ceiling and was killed by the kernel.
    OutOfMemory,
    /// Developer's: its process ended without an answer.
    Exited,
    /// Developer's: it answered something else than one JSON object or array.
    BadAnswer {
        /// The first 1,024 bytes of it.
        truncated: Bytes,
        /// What is wrong with it, for the function's developer.
        why: String,
    },
    /// Developer's: its answer is longer than [`RunOrder::result_limit`].
    TooLarge {
        /// The answer up to the limit.
        truncated: Bytes,
        /// How long it would have been, in bytes.
        length: u64,
    },
    /// Nobody's: it was killed through [`Limits::kill`](crate::Limits::kill).
    Killed,
    /// Nobody's: the kernel killed it within its own ceiling, because the VM had no more memory. Run it elsewhere.
    VmFull,
    /// Nobody's: the sandbox had died since its last run and the function never saw this one. Run it in
    /// a fresh sandbox; only a sandbox that has answered before ever says this.
    NeverRan,
}

impl Verdict {
    /// Whether the function's code is to blame.
    pub fn is_developers(&self) -> bool {
        !matches!(self, Self::Answered(_) | Self::Killed | Self::VmFull | Self::NeverRan)
    }
}

/// What came of a run.
#[derive(Debug, Clone)]
pub struct RunReport {
    /// How it ended.
    pub verdict: Verdict,
    /// What the function wrote to stdout and stderr before it ended, in the order it was read.
    pub logs: Vec<LogLine>,
    /// Lines that appeared after the last run's answer and before this run. They belong to neither and
    /// are dropped; this is their number.
    pub late_lines: u32,
    /// What it used.
    pub usage: Usage,
    /// From the moment the order was written to the moment the verdict was known.
    pub duration: Span,
    /// Whether the sandbox can run again. If not, stop it.
    pub reusable: bool,
}

/// Where a line was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Stream {
    /// As OpenWhisk's logs name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// One line that a function wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// When it was read: microseconds since the Unix epoch.
    pub unix_us: u64,
    /// Where it was written.
    pub stream: Stream,
    /// The line without its newline; bytes that are not UTF-8 are replaced.
    pub text: String,
}
