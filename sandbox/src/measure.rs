//! What one run used.
//!
//! **Knows:** the counters of the sandbox that runs.
//! **Promises:** a run shorter than 20 ms costs three readings in all; a longer one is sampled once per CFS
//! period, so that a quota of one core is never seen as a peak of two.
//! **Gives up:** peaks shorter than a period.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;
use vocabulary::{Mebibytes, MilliCores, Span, Usage};

use crate::hold::Hold;

/// Runs that end before this are not sampled.
const FIRST_TICK: Duration = Duration::from_millis(20);
/// The kernel's CFS period.
const NEXT_TICK: Duration = Duration::from_millis(100);
/// A shorter piece at the end of a run says nothing of a rate.
const PIECE_MIN: Duration = Duration::from_millis(20);

/// Measures one run.
pub(crate) struct Meter {
    hold: Arc<Hold>,
    started: Instant,
    cpu_before: Span,
    last: Option<(Instant, Span)>,
    cpu_peak: MilliCores,
    memory_peak: u64,
}

impl Meter {
    /// Starts measuring. `idle` is how long ago the last run ended: after a while its last reading is no
    /// longer good for this one.
    pub(crate) fn start(hold: Arc<Hold>, idle: Duration) -> Self {
        if idle > Duration::from_millis(10)
            && let Some(now) = hold.cpu_time()
        {
            hold.cpu_seen.store(now.as_micros(), Ordering::Relaxed);
        }
        let cpu_before = Span(hold.cpu_seen.load(Ordering::Relaxed));
        let started = Instant::now();
        Self { hold, started, cpu_before, last: None, cpu_peak: MilliCores::ZERO, memory_peak: 0 }
    }

    /// When to call [`Meter::tick`] for the first time.
    pub(crate) fn first_tick(&self, started: Instant) -> Instant {
        started + FIRST_TICK
    }

    /// Takes a sample; returns when to take the next.
    pub(crate) fn tick(&mut self, now: Instant) -> Instant {
        if let Some(cpu) = self.hold.cpu_time() {
            self.see(now, cpu);
        }
        if self.hold.dials.is_none()
            && let Some(memory) = self.hold.memory()
        {
            self.memory_peak = self.memory_peak.max(memory);
        }
        now + NEXT_TICK
    }

    /// Ends measuring.
    pub(crate) fn finish(mut self) -> (Usage, Span) {
        let now = Instant::now();
        let duration = Span::from(now - self.started);
        let cpu_after = self.hold.cpu_time().unwrap_or(self.cpu_before).max(self.cpu_before);
        self.hold.cpu_seen.store(cpu_after.as_micros(), Ordering::Relaxed);
        let cpu_time = cpu_after - self.cpu_before;
        let was_sampled = self.last.is_some();
        if self.last.is_some_and(|(at, _)| now - at >= PIECE_MIN) {
            self.see(now, cpu_after);
        }
        let mean = rate(cpu_time, duration);
        let throttled = if was_sampled {
            let after = self.hold.throttled().as_micros();
            Span(after.saturating_sub(self.hold.throttled_seen.swap(after, Ordering::Relaxed)))
        } else {
            Span::ZERO
        };
        let memory = self.hold.memory_peak().or_else(|| self.hold.memory()).unwrap_or(0);
        let usage = Usage {
            cpu_time,
            cpu_peak: self.cpu_peak.max(mean),
            memory_peak: Mebibytes::holding(self.memory_peak.max(memory)),
            throttled,
            // Who lends knows that, not who measures.
            safeguarded: false,
        };
        (usage, duration)
    }

    fn see(&mut self, now: Instant, cpu: Span) {
        if let Some((at, before)) = self.last {
            self.cpu_peak = self.cpu_peak.max(rate(cpu - before, Span::from(now - at)));
        }
        self.last = Some((now, cpu));
    }
}

/// CPU time over a span, in thousandths of a core, rounded to the nearest.
fn rate(cpu: Span, over: Span) -> MilliCores {
    let over = over.as_micros().max(1);
    let rate = (u128::from(cpu.as_micros()) * 1000 + u128::from(over / 2)) / u128::from(over);
    MilliCores(u32::try_from(rate).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_the_time_is_half_a_core() {
        assert_eq!(rate(Span::millis(50), Span::millis(100)), MilliCores(500));
        assert_eq!(rate(Span::millis(200), Span::millis(100)), MilliCores(2000));
        assert_eq!(rate(Span::ZERO, Span::ZERO), MilliCores::ZERO);
    }
}
