//! What a role counts, as Prometheus text and, where an endpoint is set, over OTLP.
//!
//! **Knows:** one meter provider per role, which feeds both.
//! **Promises:** whoever counts only adds to an atomic (or, for a distribution, to a bucket bound beforehand): no
//! label is looked up and nothing is allocated on the way of an invocation. A line that can be asked for is there
//! from the start, as 0, so that an alert on it works before its first event.
//! **Gives up:** labels that grow with users: nothing is counted per function, namespace or invocation. Those
//! questions are for traces and records.
//!
//! Names are `windfall_<thing>_<unit>` in Prometheus's base units (seconds, bytes, cores); counters end in
//! `_total`. The words are those of ARCHITECTURE.md.

mod common;
mod controller;
mod frontend;
mod instruments;
mod invoker;
mod page;
mod resource_monitor;

pub use common::Common;
pub use controller::{ControllerMetrics, Redispatch};
pub use frontend::{FrontendMetrics, Refusal};
pub use instruments::{Counter, Gauge, Histogram};
pub use invoker::{Asked, InvokerMetrics, Machine, Ran, SandboxEnd};
pub use page::{Page, serve};
pub use resource_monitor::ResourceMonitorMetrics;

use std::time::Duration;

use opentelemetry::metrics::{Meter, MeterProvider};
use opentelemetry_otlp::WithExportConfig;
use opentelemetry_sdk::metrics::{PeriodicReader, SdkMeterProvider};
use prometheus::{Encoder, Registry, TextEncoder};

use crate::bus::Bus;
use crate::settings::Telemetry;

/// How often counts are sent over OTLP.
const OTLP_INTERVAL: Duration = Duration::from_secs(10);

/// Why a role has no metrics.
#[derive(Debug, thiserror::Error)]
pub enum MetricsError {
    /// The Prometheus page could not be made; a bug, since it depends on nothing outside.
    #[error("cannot set up the metrics page: {0}")]
    Page(String),
    /// The OTLP exporter could not be made.
    #[error(
        "cannot send metrics to {endpoint}: {reason}. Is telemetry.otlp_endpoint of the form http://host:4318?"
    )]
    Otlp {
        /// As configured.
        endpoint: String,
        /// What the exporter said.
        reason: String,
    },
    /// The address of `/metrics` cannot be had.
    #[error("cannot listen on {address} for /metrics: {source}. Is the port taken? Port 0 takes a free one")]
    Listen {
        /// As configured.
        address: String,
        /// What the system said.
        source: std::io::Error,
    },
}

/// All instruments of one role. Kept for as long as the role lives; copies share it.
#[derive(Clone)]
pub struct Metrics {
    registry: Registry,
    provider: SdkMeterProvider,
    meter: Meter,
}

impl Metrics {
    /// Instruments for `role` (`frontend`, `controller`, `vm`, `resource-monitor`) named `instance`.
    ///
    /// With `telemetry.otlp_endpoint` set they are also sent there every ten seconds, from a thread of their own.
    pub fn new(role: &'static str, instance: &str, telemetry: &Telemetry) -> Result<Self, MetricsError> {
        let registry = Registry::new();
        let page = opentelemetry_prometheus::exporter()
            .with_registry(registry.clone())
            .without_units()
            .scope_info_enabled(false)
            .without_target_info()
            .build()
            .map_err(|error| MetricsError::Page(error.to_string()))?;
        let mut provider = SdkMeterProvider::builder()
            .with_resource(crate::telemetry::resource(role, instance))
            .with_reader(page);
        if !telemetry.otlp_endpoint.is_empty() {
            let exporter = opentelemetry_otlp::MetricExporter::builder()
                .with_http()
                .with_endpoint(crate::telemetry::signal_endpoint(&telemetry.otlp_endpoint, "metrics"))
                .build()
                .map_err(|error| MetricsError::Otlp {
                    endpoint: telemetry.otlp_endpoint.clone(),
                    reason: error.to_string(),
                })?;
            provider =
                provider.with_reader(PeriodicReader::builder(exporter).with_interval(OTLP_INTERVAL).build());
        }
        let provider = provider.build();
        let meter = provider.meter("windfall");
        let metrics = Self { registry, provider, meter };
        let build = metrics.gauges(
            "windfall_build_info",
            "1; the label says which version of Windfall this is",
            1.0,
            "version",
            [env!("CARGO_PKG_VERSION")],
        );
        build[0].set(1);
        Ok(metrics)
    }

    /// The page as Prometheus reads it (text format 0.0.4).
    pub fn text(&self) -> String {
        let mut text = Vec::new();
        let families = self.registry.gather();
        if let Err(error) = TextEncoder::new().encode(&families, &mut text) {
            tracing::warn!(%error, "could not write the metrics page");
        }
        String::from_utf8(text).unwrap_or_default()
    }

    /// Sends what is still to be sent over OTLP. Blocks for at most a few seconds; call it off the runtime.
    pub fn flush(&self) {
        if let Err(error) = self.provider.force_flush() {
            tracing::debug!(%error, "could not send the last metrics");
        }
    }

    /// Counts what belongs to the connection to NATS.
    pub fn watch_bus(&self, bus: &Bus) {
        let bus = bus.clone();
        self.counter_of(
            "windfall_nats_reconnects",
            "Times the connection to NATS was lost and made again",
            move || bus.reconnects(),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vocabulary::{Outcome, Span};

    fn metrics() -> Metrics {
        Metrics::new("frontend", "frontend-1", &Telemetry::default()).unwrap()
    }

    #[test]
    fn what_is_counted_stands_on_the_page_with_its_name_and_help() {
        let metrics = metrics();
        let frontend = FrontendMetrics::new(&metrics);
        frontend.answered(Outcome::Success, Span::millis(3));
        frontend.answered(Outcome::Success, Span::millis(30));
        let text = metrics.text();
        assert!(text.contains("# HELP windfall_answers_total "), "{text}");
        assert!(text.contains("windfall_answers_total{outcome=\"success\"} 2"), "{text}");
        assert!(text.contains("windfall_answer_time_seconds_bucket{le=\"0.005\"} 1"), "{text}");
        assert!(text.contains("windfall_answer_time_seconds_count 2"), "{text}");
    }

    #[test]
    fn every_line_is_there_before_its_first_event() {
        let metrics = metrics();
        let _frontend = FrontendMetrics::new(&metrics);
        let _controller = ControllerMetrics::new(&metrics);
        let text = metrics.text();
        for line in [
            "windfall_answers_total{outcome=\"internal_error\"} 0",
            "windfall_refusals_total{door=\"frontend\",why=\"queue_full\"} 0",
            "windfall_stale_answers_total 0",
            "windfall_redispatches_total{why=\"vm_silent\"} 0",
            "windfall_queue_depth 0",
        ] {
            assert!(text.contains(line), "{line} is missing in\n{text}");
        }
    }

    #[test]
    fn gauges_are_shown_in_base_units() {
        let metrics = metrics();
        let invoker = InvokerMetrics::new(&metrics);
        invoker.capacity(vocabulary::Resources::new(1500, 2));
        let text = metrics.text();
        assert!(text.contains("windfall_vm_capacity_cpu_cores 1.5"), "{text}");
        assert!(text.contains("windfall_vm_capacity_memory_bytes 2097152"), "{text}");
        invoker.capacity(vocabulary::Resources::new(1500, 2));
        invoker.capacity(vocabulary::Resources::new(1400, 2));
        assert!(metrics.text().contains("windfall_vm_capacity_changes_total 2"));
    }

    #[test]
    fn every_metric_carries_the_name_of_the_house() {
        let metrics = metrics();
        let _all = (
            FrontendMetrics::new(&metrics),
            InvokerMetrics::new(&metrics),
            ResourceMonitorMetrics::new(&metrics),
        );
        for line in metrics.text().lines().filter(|line| !line.starts_with('#')) {
            assert!(line.starts_with("windfall_"), "{line}");
        }
    }
}
