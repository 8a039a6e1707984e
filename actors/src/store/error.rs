//! What can go wrong with what is kept, and what to do about it.

use async_nats::jetstream::{self, ErrorCode};

/// Why the store did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Every stream needs it.
    #[error(
        "JetStream is off: start nats-server with `-js -sd FOLDER`, or enable jetstream for the account Windfall uses"
    )]
    JetStreamOff,
    /// Disk, memory or an account's limits are used up.
    #[error(
        "JetStream has no room ({doing}): {detail}. Free disk space, raise max_file_store or the account's limits, or lower the sizes under [store]"
    )]
    NoSpace {
        /// What we were doing.
        doing: String,
        /// What the server said.
        detail: String,
    },
    /// The cluster is too small.
    #[error(
        "JetStream cannot keep {replicas} copies ({detail}): set store.replicas to at most the number of JetStream nodes"
    )]
    TooFewNodes {
        /// What was asked for.
        replicas: usize,
        /// What the server said.
        detail: String,
    },
    /// A stream of that name exists and cannot be made into ours.
    #[error(
        "stream {stream} exists and cannot be adapted ({detail}): give Windfall a NATS account of its own, or remove that stream"
    )]
    InTheWay {
        /// Its name.
        stream: String,
        /// What the server said.
        detail: String,
    },
    /// Nobody answered in time. It may or may not have been done.
    #[error(
        "JetStream did not answer ({doing}): {detail}. Is a nats-server reachable, has its disk room, and has its cluster a leader?"
    )]
    Unreachable {
        /// What we were doing.
        doing: String,
        /// What the client said.
        detail: String,
    },
    /// Somebody else wrote first; read again and decide anew.
    #[error("{what} was changed by somebody else at the same time")]
    Conflict {
        /// What was to be written.
        what: String,
    },
    /// The server takes no message of that size.
    #[error("{what} is too large for one message: raise max_payload of nats-server or make it smaller")]
    TooLarge {
        /// What was to be written.
        what: String,
    },
    /// It is listed, but its bytes are not there or not what they should be.
    #[error("{what} is damaged or incomplete in the store: {detail}")]
    Damaged {
        /// What was read.
        what: String,
        /// What is wrong with it.
        detail: String,
    },
    /// The server refused for another reason.
    #[error("JetStream refused ({doing}): {detail}")]
    Refused {
        /// What we were doing.
        doing: String,
        /// What the server said.
        detail: String,
    },
}

impl StoreError {
    /// Whether trying again later may help without anybody doing anything.
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Conflict { .. })
    }

    /// What a refusal of the server means.
    pub(super) fn of_server(doing: &str, error: &jetstream::Error) -> Self {
        let (doing, detail) = (doing.to_owned(), error.to_string());
        match error.error_code() {
            ErrorCode::JETSTREAM_NOT_ENABLED | ErrorCode::JETSTREAM_NOT_ENABLED_FOR_ACCOUNT => {
                Self::JetStreamOff
            }
            ErrorCode::INSUFFICIENT_RESOURCES
            | ErrorCode::STORAGE_RESOURCES_EXCEEDED
            | ErrorCode::MEMORY_RESOURCES_EXCEEDED
            | ErrorCode::ACCOUNT_RESOURCES_EXCEEDED
            | ErrorCode::TEMP_STORAGE_FAILED
            | ErrorCode::STREAM_STORE_FAILED => Self::NoSpace { doing, detail },
            ErrorCode::STREAM_WRONG_LAST_SEQUENCE | ErrorCode::STREAM_WRONG_LAST_SEQUENCE_CONSTANT => {
                Self::Conflict { what: doing }
            }
            ErrorCode::STREAM_MESSAGE_EXCEEDS_MAXIMUM => Self::TooLarge { what: doing },
            _ => Self::Refused { doing, detail },
        }
    }

    /// What a failure of the client means; the server's own error code is looked for in its causes.
    pub(crate) fn of(doing: &str, error: &(dyn std::error::Error + 'static)) -> Self {
        let mut cause = Some(error);
        while let Some(error) = cause {
            if let Some(server) = server_error(error) {
                return Self::of_server(doing, &server);
            }
            cause = error.source();
        }
        Self::Unreachable { doing: doing.to_owned(), detail: chain(error) }
    }
}

/// The server's own error where this one carries it: the client puts it into the kind of some of its errors
/// and into the source of others.
fn server_error(error: &(dyn std::error::Error + 'static)) -> Option<jetstream::Error> {
    use jetstream::context::{CreateStreamError, CreateStreamErrorKind, GetStreamError, GetStreamErrorKind};
    use jetstream::stream::{ConsumerError, ConsumerErrorKind, LastRawMessageError, LastRawMessageErrorKind};
    if let Some(error) = error.downcast_ref::<jetstream::Error>() {
        return Some(error.clone());
    }
    if let Some(error) = error.downcast_ref::<CreateStreamError>()
        && let CreateStreamErrorKind::JetStream(error) = error.kind()
    {
        return Some(error);
    }
    if let Some(error) = error.downcast_ref::<GetStreamError>()
        && let GetStreamErrorKind::JetStream(error) = error.kind()
    {
        return Some(error);
    }
    if let Some(error) = error.downcast_ref::<ConsumerError>()
        && let ConsumerErrorKind::JetStream(error) = error.kind()
    {
        return Some(error);
    }
    if let Some(error) = error.downcast_ref::<LastRawMessageError>()
        && let LastRawMessageErrorKind::JetStream(error) = error.kind()
    {
        return Some(error);
    }
    None
}

/// An error with its causes, in one line; causes that repeat what was said are left out.
pub(super) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let part = error.to_string();
        if !text.contains(&part) {
            text.push_str(": ");
            text.push_str(&part);
        }
        cause = error.source();
    }
    text
}
