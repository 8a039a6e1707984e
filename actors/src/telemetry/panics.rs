//! A panic as a log line, with the span it happened in.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::panic::PanicHookInfo;
use std::sync::Once;

use opentelemetry::trace::TraceContextExt;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

/// Logs every panic of this process as an error: where, why, in which span and trace. What follows (ractor ends
/// the actor and tells its supervisor; tokio ends the task) is unchanged. Doing it twice changes nothing.
pub fn log_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| std::panic::set_hook(Box::new(log)));
}

fn log(info: &PanicHookInfo<'_>) {
    let reason = info.payload_as_str().unwrap_or("no reason given");
    let place = info.location().map(ToString::to_string).unwrap_or_default();
    let thread = std::thread::current();
    let thread = thread.name().unwrap_or("unnamed");
    // The span and its fields stand before the line; the trace's id is what one searches for elsewhere.
    let context = Span::current().context();
    let span = context.span();
    let trace = span.span_context();
    let trace = if trace.is_valid() { trace.trace_id().to_string() } else { String::new() };
    let backtrace = Backtrace::capture();
    let backtrace = match backtrace.status() {
        BacktraceStatus::Captured => backtrace.to_string(),
        _ => String::new(),
    };
    tracing::error!(%reason, %place, thread, trace, backtrace, "panicked");
}
