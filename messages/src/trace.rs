//! W3C Trace Context, carried so that one trace tells the whole story of an invocation.

use serde::{Deserialize, Serialize};

/// The caller's trace, as in the `traceparent` and `tracestate` headers. Absent when nobody traces: an
/// untraced call pays nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraceContext {
    /// `00-<trace id>-<span id>-<flags>`.
    pub traceparent: String,
    /// Vendor data, passed on as it came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tracestate: Option<String>,
}
