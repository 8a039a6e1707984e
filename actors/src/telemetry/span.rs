//! Spans with explicit parents and times, for the way of an invocation.
//!
//! A `tracing` span would do the same through a registry, a few locks and a guard that must not cross an `await`;
//! here nothing happens at all unless the call is traced.

use std::borrow::Cow;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use messages::TraceContext;
use opentelemetry::trace::{Span as _, SpanBuilder, SpanContext, SpanKind, Status, TraceContextExt, Tracer};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::trace::Span;

use super::{SAMPLE, TRACER, on, w3c};

/// A name and a value on a span.
pub type Attribute = KeyValue;

/// A span that has begun. Ends when told, or when dropped.
pub struct ActiveSpan {
    span: Span,
}

impl ActiveSpan {
    /// For the message that goes to whoever does the next part.
    pub fn context(&self) -> TraceContext {
        w3c::format(self.span.span_context())
    }

    /// Says something about it.
    pub fn attribute(&mut self, name: &'static str, value: impl Into<opentelemetry::Value>) {
        self.span.set_attribute(KeyValue::new(name, value));
    }

    /// Something happened in it, now.
    pub fn event(&mut self, name: impl Into<Cow<'static, str>>, attributes: Vec<Attribute>) {
        self.span.add_event(name, attributes);
    }

    /// What it stands for has failed.
    pub fn failed(&mut self, reason: impl Into<Cow<'static, str>>) {
        self.span.set_status(Status::error(reason));
    }

    /// It is over.
    pub fn end(mut self) {
        self.span.end();
    }
}

/// Begins a span at a door: below the caller's trace where that is sampled, else, for the configured share of calls
/// that bring no trace, one that opens a trace of its own. `None` means: hand on the caller's trace as it came.
pub fn start(name: &'static str, parent: Option<&TraceContext>, kind: SpanKind) -> Option<ActiveSpan> {
    if !on() {
        return None;
    }
    let parent = match parent {
        Some(context) => match w3c::parent(context) {
            Some(parent) if parent.is_sampled() => Context::new().with_remote_span_context(parent),
            Some(_) => return None,
            None => root()?,
        },
        None => root()?,
    };
    build(SpanBuilder::from_name(name).with_kind(kind), &parent)
}

/// Begins a span below one of another process; `None` where there is none or it is not sampled. Unlike [`start`]
/// it never opens a trace.
pub fn child(name: &'static str, parent: Option<&TraceContext>, kind: SpanKind) -> Option<ActiveSpan> {
    if !on() {
        return None;
    }
    build(SpanBuilder::from_name(name).with_kind(kind), &below(parent?)?)
}

/// Tells of a span that is over already, such as a wait whose end one only then knows. Returns its own context,
/// for spans below it.
pub fn record(
    name: &'static str,
    parent: Option<&TraceContext>,
    start: SystemTime,
    end: SystemTime,
    attributes: Vec<Attribute>,
) -> Option<TraceContext> {
    if !on() {
        return None;
    }
    let builder = SpanBuilder::from_name(name)
        .with_kind(SpanKind::Internal)
        .with_start_time(start)
        .with_attributes(attributes);
    let mut span = build(builder, &below(parent?)?)?;
    let context = span.context();
    span.span.end_with_timestamp(end.max(start));
    Some(context)
}

fn build(builder: SpanBuilder, parent: &Context) -> Option<ActiveSpan> {
    let span = TRACER.get()?.build_with_context(builder, parent);
    span.is_recording().then_some(ActiveSpan { span })
}

fn below(parent: &TraceContext) -> Option<Context> {
    let parent: SpanContext = w3c::parent(parent)?;
    parent.is_sampled().then(|| Context::new().with_remote_span_context(parent))
}

/// An empty context where the draw says that this call opens a trace.
fn root() -> Option<Context> {
    (draw() <= SAMPLE.load(Ordering::Relaxed) && SAMPLE.load(Ordering::Relaxed) > 0).then(Context::new)
}

/// Evenly spread numbers (SplitMix64 over a shared count). Nobody can steer anything by guessing them.
fn draw() -> u64 {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let mut x = COUNT.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::draw;

    #[test]
    fn the_draw_is_even_enough_to_sample_by() {
        let below_a_tenth = (0..100_000).filter(|_| draw() < u64::MAX / 10).count();
        assert!((9_000..11_000).contains(&below_a_tenth), "{below_a_tenth}");
    }
}
