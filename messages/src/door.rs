//! What users of the NATS door see: headers and body formats. Promises to strangers, so they change last.

/// Header: format of the body, `application/json` (the default) or `application/msgpack`. The answer comes in
/// the format of the request.
pub const HEADER_CONTENT_TYPE: &str = "Content-Type";
/// Header: 32 lower-case hexadecimal digits. On a durable submission the caller may choose the invocation's id
/// with it: it then has one record, and is run once, however often it is sent. Whoever sends the id as `Nats-Msg-Id`
/// as well, with the present time in its first 12 digits, spares the house a look for its record.
/// On every answer it names the invocation.
pub const HEADER_INVOCATION: &str = "Windfall-Invocation";
/// Header on a durable submission: subject to which the answer is published as well. (The NATS reply subject
/// belongs to JetStream's acknowledgement.)
pub const HEADER_REPLY_TO: &str = "Windfall-Reply-To";
/// Header on every answer: `success`, `application error`, `action developer error`, `whisk internal error`, or
/// `refused`.
pub const HEADER_STATUS: &str = "Windfall-Status";
/// Header on every answer: the VM that ran it, and `warm` or `cold`.
pub const HEADER_VM: &str = "Windfall-Vm";
/// W3C Trace Context.
pub const HEADER_TRACEPARENT: &str = "traceparent";
/// W3C Trace Context.
pub const HEADER_TRACESTATE: &str = "tracestate";

/// Format of a body at the NATS door.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum BodyFormat {
    /// `application/json`.
    #[default]
    Json,
    /// `application/msgpack`.
    MessagePack,
}

impl BodyFormat {
    /// What a content type means; `None` where it is neither.
    pub fn of(content_type: &str) -> Option<Self> {
        let essence = content_type.split(';').next().unwrap_or_default().trim();
        match essence.to_ascii_lowercase().as_str() {
            "" | "application/json" | "text/json" => Some(Self::Json),
            "application/msgpack" | "application/x-msgpack" | "application/vnd.msgpack" => {
                Some(Self::MessagePack)
            }
            _ => None,
        }
    }

    /// Its content type.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::MessagePack => "application/msgpack",
        }
    }
}
