//! W3C Trace Context, level 2: `traceparent` and `tracestate` as text and back.
//!
//! **Promises:** whatever a caller sends, the answer is a context or none; what is no context is counted.

use std::str::FromStr;
use std::sync::atomic::Ordering;

use messages::TraceContext;
use opentelemetry::trace::{SpanContext, SpanId, TraceFlags, TraceId, TraceState};

use super::MALFORMED;

/// A `tracestate` longer than this is not carried along; the specification asks for at least 512 characters.
const TRACESTATE_MAX: usize = 512;

/// A caller's trace as it came in headers, checked. `None` where there is no header, or where it is no
/// `traceparent`: then the specification asks to start anew, and it is counted.
pub fn accept(traceparent: Option<&str>, tracestate: Option<&str>) -> Option<TraceContext> {
    let traceparent = traceparent?.trim();
    if parse(traceparent).is_none() {
        MALFORMED.fetch_add(1, Ordering::Relaxed);
        return None;
    }
    // A tracestate that is none or too long is dropped alone; the trace goes on.
    let tracestate = tracestate
        .map(str::trim)
        .filter(|state| !state.is_empty() && state.len() <= TRACESTATE_MAX)
        .filter(|state| TraceState::from_str(state).is_ok())
        .map(str::to_owned);
    Some(TraceContext { traceparent: traceparent.to_owned(), tracestate })
}

/// The parent that a message names; malformed ones are counted.
pub(super) fn parent(context: &TraceContext) -> Option<SpanContext> {
    let Some((trace, span, flags)) = parse(&context.traceparent) else {
        MALFORMED.fetch_add(1, Ordering::Relaxed);
        return None;
    };
    let state = context
        .tracestate
        .as_deref()
        .filter(|state| state.len() <= TRACESTATE_MAX)
        .and_then(|state| TraceState::from_str(state).ok())
        .unwrap_or_default();
    Some(SpanContext::new(trace, span, flags, true, state))
}

/// A span as others name it.
pub(super) fn format(span: &SpanContext) -> TraceContext {
    let state = span.trace_state().header();
    TraceContext {
        traceparent: format!(
            "00-{}-{}-{:02x}",
            span.trace_id(),
            span.span_id(),
            span.trace_flags() & TraceFlags::SAMPLED
        ),
        tracestate: (!state.is_empty()).then_some(state),
    }
}

/// `version "-" trace-id "-" parent-id "-" flags`, lower-case hexadecimal. A version we do not know may go on
/// after the flags; version 00 may not, and ff is none.
fn parse(text: &str) -> Option<(TraceId, SpanId, TraceFlags)> {
    let bytes = text.as_bytes();
    let well_formed = bytes.len() >= 55
        && bytes[..55].iter().enumerate().all(|(at, byte)| match at {
            2 | 35 | 52 => *byte == b'-',
            _ => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
        });
    if !well_formed {
        return None;
    }
    match &text[..2] {
        "ff" => return None,
        "00" if bytes.len() != 55 => return None,
        _ if bytes.len() > 55 && bytes[55] != b'-' => return None,
        _ => {}
    }
    let trace = TraceId::from_hex(&text[3..35]).ok().filter(|id| *id != TraceId::INVALID)?;
    let span = SpanId::from_hex(&text[36..52]).ok().filter(|id| *id != SpanId::INVALID)?;
    let flags = u8::from_str_radix(&text[53..55], 16).ok()?;
    Some((trace, span, TraceFlags::new(flags)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_trace_context_comes_back_as_it_went() {
        let context = TraceContext {
            traceparent: GOOD.into(),
            tracestate: Some("rojo=00f067aa0ba902b7,congo=t61".into()),
        };
        assert_eq!(format(&parent(&context).unwrap()), context);
    }

    #[test]
    fn an_unsampled_parent_stays_unsampled() {
        let context = TraceContext { traceparent: GOOD.replace("-01", "-00"), tracestate: None };
        assert!(!parent(&context).unwrap().is_sampled());
    }

    #[test]
    fn a_version_to_come_is_read_as_far_as_it_is_known() {
        assert!(parse(&GOOD.replacen("00", "cc", 1)).is_some());
        assert!(parse(&format!("{}-what-the-future-brings", GOOD.replacen("00", "cc", 1))).is_some());
        assert!(parse(&format!("{}.x", GOOD.replacen("00", "cc", 1))).is_none());
    }

    #[test]
    fn what_is_no_traceparent_is_ignored_and_counted() {
        let before = crate::telemetry::malformed_traces();
        let wrong = [
            "",
            "00",
            "x",
            &GOOD.to_uppercase(),
            &GOOD.replacen("00", "ff", 1),
            &format!("{GOOD}-more"),
            &GOOD.replace("00f067aa0ba902b7", "0000000000000000"),
            &GOOD.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)),
            &GOOD.replace('-', "_"),
            &GOOD[..54],
            &"日本".repeat(20),
        ];
        for text in wrong {
            assert_eq!(accept(Some(text), None), None, "{text}");
        }
        assert!(crate::telemetry::malformed_traces() >= before + wrong.len() as u64);
        assert_eq!(accept(None, Some("a=b")), None);
    }

    #[test]
    fn a_wrong_tracestate_is_dropped_and_the_trace_goes_on() {
        for state in ["", "no equals sign", &"k=v,".repeat(1000)] {
            let context = accept(Some(GOOD), Some(state)).unwrap();
            assert_eq!(context.tracestate, None, "{state}");
        }
        assert_eq!(accept(Some(GOOD), Some("a=b")).unwrap().tracestate.as_deref(), Some("a=b"));
    }
}
