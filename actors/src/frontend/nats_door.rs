//! The NATS door: request-reply for any NATS client, and results by id.
//!
//! Who may publish here is NATS's own business (its users and permissions); what arrives has been let in.

use async_nats::HeaderMap;
use bytes::Bytes;
use futures::StreamExt;
use messages::{
    Answer, BodyFormat, FunctionPath, HEADER_CONTENT_TYPE, HEADER_INVOCATION, HEADER_STATUS,
    HEADER_TRACEPARENT, HEADER_TRACESTATE, HEADER_VM, RefusedWhy, Start, TraceContext, subjects,
};
use vocabulary::InvocationId;

use super::argument;
use super::call::{Call, CallError, CallResult};
use super::input_size::size_of_input;
use super::{Shell, Waiter, throttle};
use crate::bus::Bus;
use crate::metrics::Refusal;
use crate::store::Store;
use crate::unrun::error_body;

/// Headers by which NATS's service tools recognise an error.
const HEADER_ERROR: &str = "Nats-Service-Error";
const HEADER_ERROR_CODE: &str = "Nats-Service-Error-Code";

/// Questions for results that are looked up at once.
const RESULT_LOOKUPS: usize = 64;

/// A caller at the NATS door.
pub struct NatsWaiter {
    reply: Option<async_nats::Subject>,
    format: BodyFormat,
    /// Its place among the open calls of its namespace.
    place: Option<throttle::Place>,
}

impl NatsWaiter {
    /// The answer, or why there is none, to the caller's reply subject.
    pub(super) async fn deliver(self, bus: &Bus, invocation: InvocationId, result: CallResult) {
        let Some(reply) = self.reply else { return };
        let (headers, body) = reply_parts(invocation, &result, self.format);
        if let Err(error) = bus.client().publish_with_headers(reply, headers, body).await {
            tracing::warn!(%error, "could not answer at the NATS door");
        }
    }
}

/// An answer as NATS callers see it: the result as body, the rest in headers.
pub(super) fn reply_parts(
    invocation: InvocationId,
    result: &CallResult,
    format: BodyFormat,
) -> (HeaderMap, Bytes) {
    let mut headers = HeaderMap::new();
    headers.insert(HEADER_INVOCATION, invocation.to_string());
    if format == BodyFormat::MessagePack {
        headers.insert(HEADER_CONTENT_TYPE, format.content_type());
    }
    match result {
        Ok(answer) => {
            headers.insert(HEADER_STATUS, answer.outcome.as_str());
            if let Some(vm) = where_it_ran(answer) {
                headers.insert(HEADER_VM, vm);
            }
            (headers, argument::write(&answer.result.0, format))
        }
        Err(error) => {
            headers.insert(HEADER_STATUS, "refused");
            headers.insert(HEADER_ERROR_CODE, error_code(error).to_string());
            let reason = error.to_string();
            // A header is one line.
            headers.insert(HEADER_ERROR, reason.replace(['\r', '\n'], " "));
            (headers, argument::write(&error_body(&reason), format))
        }
    }
}

fn where_it_ran(answer: &Answer) -> Option<String> {
    let start = match answer.start {
        Start::Warm => "warm",
        Start::Cold => "cold",
    };
    answer.vm.map(|vm| match answer.grant {
        Some(grant) => {
            format!("{vm} {start} cpu={} memory={}", grant.ceiling.cpu.0, grant.ceiling.memory.0)
        }
        None => format!("{vm} {start}"),
    })
}

/// The HTTP code that says the same.
pub(super) fn error_code(error: &CallError) -> u16 {
    match error {
        CallError::Refused { why: RefusedWhy::QueueFull, .. } => 429,
        CallError::Refused { why: RefusedWhy::TooLarge, .. } => 400,
        CallError::Refused { why: RefusedWhy::NoVm | RefusedWhy::NotMine, .. }
        | CallError::Unavailable { .. } => 503,
        CallError::StillRunning { .. } => 202,
    }
}

/// The format that a message's headers name; the text that none of ours matches, otherwise.
pub(super) fn format_of(headers: Option<&HeaderMap>) -> Result<BodyFormat, String> {
    match headers.and_then(|headers| headers.get(HEADER_CONTENT_TYPE)) {
        None => Ok(BodyFormat::Json),
        Some(named) => BodyFormat::of(named.as_str()).ok_or_else(|| {
            format!("{HEADER_CONTENT_TYPE} '{named}' is neither application/json nor application/msgpack")
        }),
    }
}

/// The trace that a message's headers carry.
pub(super) fn trace_of(headers: Option<&HeaderMap>) -> Option<TraceContext> {
    let headers = headers?;
    Some(TraceContext {
        traceparent: headers.get(HEADER_TRACEPARENT)?.to_string(),
        tracestate: headers.get(HEADER_TRACESTATE).map(ToString::to_string),
    })
}

/// The function that a door's subject names: its last two tokens.
pub(super) fn path_of(subject: &str) -> Option<FunctionPath> {
    let mut tokens = subject.rsplit('.');
    let name = subjects::name(tokens.next()?)?;
    let namespace = subjects::name(tokens.next()?)?;
    Some(FunctionPath { namespace, name })
}

/// Whether an answer may be published there. The house may publish anywhere and its callers may not, so a caller must
/// not have it speak on the house's own subjects in its place.
pub(super) fn may_be_answered(reply: &str) -> bool {
    let reserved = ["windfall.", "_WINDFALL", "$"];
    reply.starts_with("windfall.reply.") || !reserved.iter().any(|prefix| reply.starts_with(prefix))
}

/// What a door found wrong before anything was accepted: code and text.
pub(super) type Wrong = (u16, String);

impl Shell {
    pub(super) async fn nats_call(&mut self, message: async_nats::Message) {
        self.given.metrics.called_by_nats();
        if message.reply.as_ref().is_some_and(|reply| !may_be_answered(reply)) {
            self.given.metrics.refused(Refusal::BadRequest);
            return tracing::warn!(reply = ?message.reply, "dropped a call whose answer would go to the house itself");
        }
        let format = format_of(message.headers.as_ref());
        let mut waiter = NatsWaiter {
            reply: message.reply.clone(),
            format: *format.as_ref().unwrap_or(&BodyFormat::Json),
            place: None,
        };
        match format.map_err(|reason| (415, reason)).and_then(|format| self.read_door(&message, format)) {
            Ok(call) => match self.given.desk.room().enter(call.payload.len()) {
                Ok(place) => match self.given.desk.throttle().enter_without_key(&call.namespace) {
                    Ok(in_namespace) => {
                        waiter.place = Some(in_namespace);
                        self.open(call, Waiter::Nats(waiter), place).await;
                    }
                    Err(throttled) => {
                        self.given.metrics.refused(Refusal::NamespaceLimit);
                        waiter.refuse(&self.given.bus, 429, throttled.to_string()).await;
                    }
                },
                Err(error) => {
                    self.given.metrics.refused(Refusal::FrontendFull);
                    waiter.refuse(&self.given.bus, error_code(&error), error.to_string()).await;
                }
            },
            Err((code, reason)) => {
                self.given.metrics.refused(Refusal::BadRequest);
                waiter.refuse(&self.given.bus, code, reason).await;
            }
        }
    }

    /// The call in a message of a NATS door.
    pub(super) fn read_door(&self, message: &async_nats::Message, format: BodyFormat) -> Result<Call, Wrong> {
        let missing = || (404, "The requested resource does not exist.".to_owned());
        let path = path_of(&message.subject).ok_or_else(missing)?;
        let function = self.given.store.functions().get(&path).ok_or_else(missing)?;
        let payload = argument::read(message.payload.clone(), format, self.given.settings.limits.payload_max)
            .map_err(|error| match error {
                argument::ArgumentError::TooLarge { .. } => (413, error.to_string()),
                _ => (400, error.to_string()),
            })?;
        let payload = function.merge(&payload);
        Ok(Call {
            namespace: path.namespace,
            input_size: size_of_input(&function, &payload),
            payload,
            function,
            invocation: None,
            transaction: String::new(),
            api_key: None,
            trace: trace_of(message.headers.as_ref()),
        })
    }
}

impl NatsWaiter {
    /// A refusal before anything was accepted.
    async fn refuse(self, bus: &Bus, code: u16, reason: String) {
        let Some(reply) = self.reply else { return };
        let mut headers = HeaderMap::new();
        headers.insert(HEADER_STATUS, "refused");
        headers.insert(HEADER_ERROR_CODE, code.to_string());
        headers.insert(HEADER_ERROR, reason.replace(['\r', '\n'], " "));
        let body = argument::write(&error_body(&reason), self.format);
        if let Err(error) = bus.client().publish_with_headers(reply, headers, body).await {
            tracing::warn!(%error, "could not answer at the NATS door");
        }
    }
}

/// Answers questions for results by id on `windfall.result.<namespace>`.
pub(super) async fn answer_results(questions: async_nats::Subscriber, bus: Bus, store: Store) {
    questions
        .for_each_concurrent(RESULT_LOOKUPS, |question| {
            let (bus, store) = (bus.clone(), store.clone());
            async move {
                if question.reply.as_ref().is_some_and(|reply| !may_be_answered(reply)) {
                    return;
                }
                let format = format_of(question.headers.as_ref()).unwrap_or_default();
                let waiter = NatsWaiter { reply: question.reply.clone(), format, place: None };
                let namespace = question.subject.rsplit('.').next().and_then(subjects::name);
                let asked = std::str::from_utf8(&question.payload).ok().map(str::trim);
                let Some((namespace, invocation)) =
                    namespace.zip(asked.and_then(|text| text.parse::<InvocationId>().ok()))
                else {
                    let reason = "the body must be an invocation id: 32 lower-case hexadecimal digits";
                    return waiter.refuse(&bus, 400, reason.into()).await;
                };
                match store.records().get_soon(&namespace, invocation).await {
                    Ok(Some(record)) => waiter.deliver(&bus, invocation, Ok(record.into())).await,
                    Ok(None) => {
                        let reason = "no record of this invocation: it is unknown, still running, or too old";
                        waiter.refuse(&bus, 404, reason.into()).await;
                    }
                    Err(error) => waiter.refuse(&bus, 503, error.to_string()).await,
                }
            }
        })
        .await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_names_a_function() {
        let path = path_of("windfall.invoke.guest.a=20b").unwrap();
        assert_eq!((path.namespace.as_str(), path.name.as_str()), ("guest", "a b"));
        assert_eq!(path_of("windfall.invoke.guest.a=2"), None);
    }

    #[test]
    fn no_caller_speaks_through_the_house() {
        for theirs in ["_INBOX.a.b", "windfall.reply.guest.x", "my.subject", "_R_.x"] {
            assert!(may_be_answered(theirs), "{theirs}");
        }
        for ours in [
            "windfall.vm-1.drain",
            "windfall.report.vm-1",
            "$JS.API.STREAM.DELETE.X",
            "_WINDFALL.x",
            "$SYS.x",
        ] {
            assert!(!may_be_answered(ours), "{ours}");
        }
    }

    #[test]
    fn a_refusal_carries_code_and_reason() {
        let refused = Err(CallError::Refused { why: RefusedWhy::QueueFull, reason: "full\nup".into() });
        let (headers, body) = reply_parts(InvocationId(1), &refused, BodyFormat::Json);
        assert_eq!(headers.get(HEADER_ERROR_CODE).unwrap().as_str(), "429");
        assert_eq!(headers.get(HEADER_ERROR).unwrap().as_str(), "full up");
        assert_eq!(body, r#"{"error":"full\nup"}"#);
    }
}
