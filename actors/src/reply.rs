//! An answer as callers at the NATS door see it, whoever gives it: the result as body, the rest in headers.

use async_nats::HeaderMap;
use bytes::Bytes;
use messages::{Answer, BodyFormat, HEADER_CONTENT_TYPE, HEADER_INVOCATION, HEADER_STATUS, HEADER_VM, Start};
use vocabulary::InvocationId;

use crate::frontend::argument;

/// What every reply carries.
pub(crate) fn headers(invocation: InvocationId, format: BodyFormat) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(HEADER_INVOCATION, invocation.to_string());
    if format == BodyFormat::MessagePack {
        headers.insert(HEADER_CONTENT_TYPE, format.content_type());
    }
    headers
}

/// Headers and body of an answer.
pub(crate) fn of(invocation: InvocationId, answer: &Answer, format: BodyFormat) -> (HeaderMap, Bytes) {
    let mut headers = headers(invocation, format);
    headers.insert(HEADER_STATUS, answer.outcome.as_str());
    if let Some(vm) = where_it_ran(answer) {
        headers.insert(HEADER_VM, vm);
    }
    (headers, argument::write(&answer.result.0, format))
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
