//! What every role counts.

use super::{Counter, Gauge, Metrics};
use crate::store::taking;

/// Messages, records and actors, in every role.
pub struct Common {
    decode_failures: Counter,
    records_stored: Counter,
    records_backlog: Gauge,
    actor_restarts: Counter,
}

impl Common {
    pub(super) fn new(metrics: &Metrics) -> Self {
        metrics.counter_of(
            "windfall_malformed_traces",
            "Trace headers of callers that were no W3C Trace Context and were ignored",
            crate::telemetry::malformed_traces,
        );
        metrics.counters_of(
            "windfall_store_refusals",
            "Writes that the store did not take, because it has no room or does not answer",
            "why",
            ["no_room", "no_answer"],
            || taking::ours().refusals(),
        );
        metrics.gauges_of(
            "windfall_store_stalled_seconds",
            "Since when nothing of a kind was taken by the store, though it was sent; 0 while it is",
            "what",
            taking::KINDS,
            || taking::ours().stalled_for().map(|time| time.as_secs_f64()),
        );
        Self {
            decode_failures: metrics
                .counter("windfall_decode_failures", "Messages that could not be decoded and were dropped"),
            records_stored: metrics
                .counter("windfall_records_stored", "Records of invocations that the store has acknowledged"),
            records_backlog: metrics.gauge(
                "windfall_records_backlog",
                "Records that wait in this process for the store to acknowledge them",
                1.0,
            ),
            actor_restarts: metrics.counter(
                "windfall_actor_restarts",
                "Actors that crashed and were started again by their supervisor",
            ),
        }
    }

    /// Bytes from outside were not the message they should have been.
    pub fn decode_failed(&self) {
        self.decode_failures.one();
    }

    /// The store acknowledged a record.
    pub fn record_stored(&self) {
        self.records_stored.one();
    }

    /// So many records wait for the store.
    pub fn records_backlog(&self, records: usize) {
        self.records_backlog.set(records as u64);
    }

    /// A crashed actor was started again.
    pub fn actor_restarted(&self) {
        self.actor_restarts.one();
    }
}
