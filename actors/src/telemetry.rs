//! Logs for people, traces for the story of one invocation.
//!
//! **Knows:** the log filter and format, the OTLP endpoint, W3C Trace Context.
//! **Promises:** one trace per invocation, over every process it meets: whoever hands it on puts
//! [`ActiveSpan::context`] into the message, whoever gets it passes that to [`child`]. With no endpoint set, or for
//! a call that is not sampled, a span costs one load of an atomic and a comparison. A trace header that is none is
//! ignored and counted, never an error. Log lines and spans are sent by threads of their own; nothing waits for
//! them.
//! **Gives up:** spans that come faster than they can be sent: the queue is bounded and drops.
//!
//! Two ways lead to the same exporter. The way of an invocation uses [`start`], [`child`] and [`record`], which
//! take explicit parents and times; everything else uses `tracing` spans, which `tracing-opentelemetry` turns into
//! spans and which also stand before every log line.

mod panics;
mod span;
mod w3c;

pub use panics::log_panics;
pub use span::{ActiveSpan, Attribute, child, record, start};
pub use w3c::accept;

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::WithExportConfig;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracer, SdkTracerProvider,
};
use tracing_subscriber::filter::{EnvFilter, FilterExt, LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, fmt};

use crate::settings;

/// Spans that may wait to be sent; the SDK's own 2,048 is filled by a burst of a few hundred invocations.
const SPANS_WAITING: usize = 65_536;

/// Whether spans are sent at all.
static ON: AtomicBool = AtomicBool::new(false);
/// Trace headers that were none.
static MALFORMED: AtomicU64 = AtomicU64::new(0);
/// Share of calls without a trace that get one, of `u64::MAX`.
static SAMPLE: AtomicU64 = AtomicU64::new(0);
static TRACER: OnceLock<SdkTracer> = OnceLock::new();

/// Whether traces are sent anywhere. Cheap enough to ask everywhere.
pub fn on() -> bool {
    ON.load(Ordering::Relaxed)
}

/// Trace headers of callers that were ignored because they are no W3C Trace Context.
pub fn malformed_traces() -> u64 {
    MALFORMED.load(Ordering::Relaxed)
}

/// Why there are no logs or traces.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The log filter is none.
    #[error("telemetry.log = '{filter}' is not a log filter: {reason}. Try 'info' or 'info,actors=debug'")]
    Filter {
        /// As configured.
        filter: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The log format is none.
    #[error("telemetry.log_format = '{0}' is neither 'text' nor 'json'")]
    Format(String),
    /// The share is none.
    #[error("telemetry.sample = {0} is not between 0 and 1")]
    Sample(f64),
    /// The exporter could not be made.
    #[error(
        "cannot send traces to {endpoint}: {reason}. Is telemetry.otlp_endpoint of the form http://host:4318?"
    )]
    Otlp {
        /// As configured.
        endpoint: String,
        /// What the exporter said.
        reason: String,
    },
    /// Somebody else has set up logs in this process.
    #[error("logs are already set up in this process: {0}")]
    Twice(String),
}

/// Keeps traces flowing. [`Telemetry::stop`] it before the process ends, or the last spans are lost.
pub struct Telemetry {
    provider: Option<SdkTracerProvider>,
}

impl Telemetry {
    /// Sends what is still waiting, for at most `patience`, and ends. Blocks: call it off the runtime
    /// (`spawn_blocking`) or after it.
    pub fn stop(self, patience: Duration) {
        ON.store(false, Ordering::Relaxed);
        if let Some(provider) = self.provider
            && let Err(error) = provider.shutdown_with_timeout(patience)
        {
            tracing::warn!(%error, "the last spans could not be sent");
        }
    }
}

/// Sets up logs, traces and the logging of panics for this process; once. `role` and `instance` are what traces
/// call this process (`windfall-controller`, `controller-1f`).
pub fn init(settings: &settings::Telemetry, role: &str, instance: &str) -> Result<Telemetry, TelemetryError> {
    if !(0.0..=1.0).contains(&settings.sample) {
        return Err(TelemetryError::Sample(settings.sample));
    }
    let filter = EnvFilter::builder().parse(&settings.log).map_err(|error| TelemetryError::Filter {
        filter: settings.log.clone(),
        reason: error.to_string(),
    })?;
    let provider = match settings.otlp_endpoint.as_str() {
        "" => None,
        endpoint => Some(exporting(endpoint, role, instance)?),
    };
    let traces = provider.as_ref().map(|provider| {
        tracing_opentelemetry::layer()
            .with_tracer(provider.tracer("windfall"))
            .with_threads(false)
            .with_location(false)
            .with_filter(not_our_own_transport().and(LevelFilter::INFO))
    });
    let lines: Box<dyn Layer<_> + Send + Sync> = match settings.log_format.as_str() {
        // To stderr, so that a command's own output stays clean.
        "text" => Box::new(fmt::layer().with_writer(std::io::stderr).with_ansi(false)),
        "json" => {
            Box::new(fmt::layer().json().flatten_event(true).with_writer(std::io::stderr).with_ansi(false))
        }
        other => return Err(TelemetryError::Format(other.to_owned())),
    };
    Registry::default()
        .with(lines.with_filter(filter))
        .with(traces)
        .try_init()
        .map_err(|error| TelemetryError::Twice(error.to_string()))?;
    log_panics();
    if let Some(provider) = &provider {
        SAMPLE.store((settings.sample * u64::MAX as f64) as u64, Ordering::Relaxed);
        // A second `set` cannot happen: `try_init` above succeeds once per process.
        let _ = TRACER.set(provider.tracer("windfall"));
        ON.store(true, Ordering::Relaxed);
    }
    Ok(Telemetry { provider })
}

/// Where one signal (`traces`, `metrics`) goes: OTLP's path below the configured endpoint, unless it is there.
pub(crate) fn signal_endpoint(endpoint: &str, signal: &str) -> String {
    let base = endpoint.trim_end_matches('/');
    let base = base.split("/v1/").next().unwrap_or(base);
    format!("{base}/v1/{signal}")
}

fn exporting(endpoint: &str, role: &str, instance: &str) -> Result<SdkTracerProvider, TelemetryError> {
    // The blocking client: the batch processor sends from a thread of its own, which has no runtime.
    let exporter = opentelemetry_otlp::SpanExporter::builder()
        .with_http()
        .with_endpoint(signal_endpoint(endpoint, "traces"))
        .build()
        .map_err(|error| TelemetryError::Otlp { endpoint: endpoint.to_owned(), reason: error.to_string() })?;
    let batches = BatchConfigBuilder::default()
        .with_max_queue_size(SPANS_WAITING)
        .with_max_export_batch_size(2_048)
        .with_scheduled_delay(Duration::from_secs(1))
        .build();
    Ok(SdkTracerProvider::builder()
        .with_resource(resource(role, instance))
        .with_span_processor(BatchSpanProcessor::builder(exporter).with_batch_config(batches).build())
        // Which calls are traced is drawn in `start`, before a span is built; what is built is sent.
        .with_sampler(Sampler::ParentBased(Box::new(Sampler::AlwaysOn)))
        .build())
}

/// Who sends: a process of a role.
pub(crate) fn resource(role: &str, instance: &str) -> Resource {
    Resource::builder_empty()
        .with_attributes([
            KeyValue::new("service.name", format!("windfall-{role}")),
            KeyValue::new("service.namespace", "windfall"),
            KeyValue::new("service.instance.id", instance.to_owned()),
            KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
        ])
        .build()
}

/// Sending spans must not make spans.
fn not_our_own_transport() -> Targets {
    ["hyper", "hyper_util", "h2", "reqwest", "opentelemetry", "opentelemetry_sdk", "opentelemetry_otlp"]
        .into_iter()
        .fold(Targets::new().with_default(LevelFilter::TRACE), |targets, noisy| {
            targets.with_target(noisy, LevelFilter::OFF)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_endpoint_may_be_given_with_or_without_its_path() {
        for given in ["http://h:4318", "http://h:4318/", "http://h:4318/v1/traces"] {
            assert_eq!(signal_endpoint(given, "metrics"), "http://h:4318/v1/metrics");
        }
    }

    #[test]
    fn a_wrong_setting_says_what_would_be_right() {
        let of = |change: fn(&mut settings::Telemetry)| {
            let mut settings = settings::Telemetry::default();
            change(&mut settings);
            init(&settings, "test", "test-1").err().unwrap().to_string()
        };
        assert!(of(|s| s.sample = 1.5).contains("between 0 and 1"));
        assert!(of(|s| s.log_format = "xml".into()).contains("neither 'text' nor 'json'"));
        assert!(of(|s| s.log = "actors=loud".into()).contains("Try 'info'"));
    }

    #[test]
    fn nothing_is_traced_while_no_endpoint_is_set() {
        assert!(!on());
        assert!(start("call", None, opentelemetry::trace::SpanKind::Server).is_none());
    }
}
