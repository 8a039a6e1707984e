//! What runs used, on its way to the stream that training reads.
//!
//! **Knows:** the runs that ended since the last batch.
//! **Promises:** one batch a second at most, beside everything else; no more runs in it than are configured, the rest is counted in the
//! next one. A batch that is not stored is counted and forgotten.
//! **Gives up:** the last second of a Controller that dies.

use std::sync::Arc;

use messages::{RunUsage, UsageBatch};
use policies::dispatch::{Gauges, Seen};
use tokio::sync::Semaphore;
use vocabulary::{ControllerId, Moment, Outcome};

use crate::clock::unix_ms;
use crate::metrics::ControllerMetrics;
use crate::store::UsageStream;

/// See the module.
pub(super) struct UsageLog {
    stream: Option<UsageStream>,
    metrics: Arc<ControllerMetrics>,
    most: usize,
    /// Each with the moment at which it was told.
    ended: Vec<(Moment, RunUsage)>,
    skipped: u64,
    sequence: u64,
    sending: Arc<Semaphore>,
}

impl UsageLog {
    pub fn new(stream: Option<UsageStream>, most: u32, metrics: Arc<ControllerMetrics>) -> Self {
        let sending = Arc::new(Semaphore::new(1));
        Self { stream, metrics, most: most as usize, ended: Vec::new(), skipped: 0, sequence: 0, sending }
    }

    /// A run has ended.
    pub fn ran(&mut self, now: Moment, seen: &Seen) {
        if self.stream.is_none() {
            return;
        }
        if self.ended.len() >= self.most {
            self.skipped += 1;
            return self.metrics.usage_skipped();
        }
        let ending = &seen.ending;
        let run = RunUsage {
            function: ending.function,
            reservation: seen.reservation,
            grant: seen.grant,
            input_bytes: ending.input_bytes,
            ended_before: vocabulary::Span::ZERO,
            waited: seen.waited,
            init: ending.init,
            duration: ending.duration,
            usage: ending.usage,
            answered: ending.outcome == Some(Outcome::Success),
            starved: seen.starved,
        };
        self.ended.push((now, run));
    }

    /// Time to send.
    pub fn send(&mut self, now: Moment, id: ControllerId, gauges: impl FnOnce() -> Gauges) {
        let Some(stream) = &self.stream else { return };
        if self.ended.is_empty() {
            return;
        }
        // The last one is still on its way: the store is slow, and need not be hurried.
        let Ok(permit) = Arc::clone(&self.sending).try_acquire_owned() else { return };
        self.sequence += 1;
        let gauges = gauges();
        let batch = UsageBatch {
            controller: id,
            sequence: self.sequence,
            sent_unix_ms: unix_ms(),
            vms: gauges.vms_open,
            capacity: gauges.capacity,
            skipped: std::mem::take(&mut self.skipped),
            runs: self
                .ended
                .drain(..)
                .map(|(at, run)| RunUsage { ended_before: now.since(at), ..run })
                .collect(),
        };
        let (stream, metrics) = (stream.clone(), Arc::clone(&self.metrics));
        tokio::spawn(async move {
            match stream.write(&batch).await {
                Ok(()) => metrics.usage_stored(batch.runs.len() as u64),
                Err(error) => {
                    metrics.usage_not_stored(batch.runs.len() as u64);
                    tracing::warn!(%error, runs = batch.runs.len(), "what runs used could not be kept");
                }
            }
            drop(permit);
        });
    }
}
