//! What crosses NATS, in the order an invocation meets it.
//!
//! **Knows:** every message, every subject, and how both become bytes.
//! **Promises:** MessagePack *maps*, so that yesterday's reader skips a field that today's writer added; a
//! released message keeps its bytes (`golden/`). Spans cross the wire, moments never do. A decoder of
//! outside bytes returns an error and takes no more memory than the bytes it was given.
//! **Gives up:** compactness: a map is a few times larger than an array of the same fields.
//!
//! The story of one invocation: [`Submit`] -> [`Run`] -> [`Answer`] -> [`Finishes`] -> [`Record`]; beside it
//! the VM speaks of itself ([`Report`], [`Notice`], [`HandBack`]) and the house keeps count of who is alive
//! ([`ControllerAlive`], [`FleetList`]). What runs used is kept for training ([`UsageBatch`]).

mod codec;
mod door;
mod fleet;
mod invocation;
mod payload;
mod record;
pub mod subjects;
mod trace;
mod usage;

pub use codec::{DecodeError, decode, encode};
pub use door::{
    BodyFormat, HEADER_CONTENT_TYPE, HEADER_INVOCATION, HEADER_REPLY_TO, HEADER_STATUS, HEADER_TRACEPARENT,
    HEADER_TRACESTATE, HEADER_VM,
};
pub use fleet::{
    CatchUp, CaughtUp, ControllerAlive, Demanded, Drain, Evict, FleetList, FleetVm, FrontendAlive, HandBack,
    HandedBack, Hindrance, LEFT, NamespaceCalls, Notice, Prewarm, Report, StandingNotice, VmLost,
};
pub use invocation::{
    Adopt, Answer, Cancel, Ended, Fence, Finished, Finishes, FunctionPath, Inquiry, Known, Refused,
    RefusedWhy, Reply, Run, Start, Submit, Unknown,
};
pub use payload::Payload;
pub use record::{LogLine, LogStream, Record};
pub use trace::TraceContext;
pub use usage::{RunUsage, UsageBatch};
