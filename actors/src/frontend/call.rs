//! One call at a door: what every door hands to the Frontend, and what it gets back.

use std::sync::Arc;

use bytes::Bytes;
use messages::{Answer, RefusedWhy, TraceContext};
use vocabulary::{InvocationId, Span};

use crate::store::FunctionDefinition;

/// A call, authenticated and with its function found.
#[derive(Debug, Clone)]
pub struct Call {
    /// In whose name: the caller's namespace.
    pub namespace: String,
    /// What to run.
    pub function: Arc<FunctionDefinition>,
    /// The argument as JSON text, with the function's own parameters merged in.
    pub payload: Bytes,
    /// The size of its input, where the function names a field for that.
    pub input_size: Option<u32>,
    /// The id the caller chose; else one is made.
    pub invocation: Option<InvocationId>,
    /// OpenWhisk's transaction id.
    pub transaction: String,
    /// The caller's key, where the function is given it.
    pub api_key: Option<String>,
    /// The caller's trace.
    pub trace: Option<TraceContext>,
}

/// Why a call has no answer (yet).
#[derive(Debug, Clone, thiserror::Error)]
pub enum CallError {
    /// The house did not take it; nothing has run.
    #[error("{reason}")]
    Refused {
        /// For programs.
        why: RefusedWhy,
        /// For people.
        reason: String,
    },
    /// It was taken and goes on; the record will tell.
    #[error("invocation {invocation} is still running after {waited}")]
    StillRunning {
        /// Which.
        invocation: InvocationId,
        /// How long the caller waited.
        waited: Span,
    },
    /// There is no Controller, or NATS is away.
    #[error("{reason}")]
    Unavailable {
        /// For people.
        reason: String,
    },
}

/// What a blocking call comes back with.
pub type CallResult = Result<Answer, CallError>;
