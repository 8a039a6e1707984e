//! What one run used.
//!
//! **Knows:** the counters of the sandbox that runs.
//! **Promises:** a run shorter than 20 ms costs three readings in all; a longer one is sampled once per CFS
//! period, so that a quota of one core is never seen as a peak of two. Of runs shorter than two milliseconds only the
//! first few, the first after a longer one, and then each sixteenth is read; the others are taken to have used CPU at the
//! rate of the last that was, and what they really used goes into the next reading, so that the sum is right.
//! **Gives up:** peaks shorter than a period, and telling very short runs of one sandbox from each other: a reading of three
//! counters takes as long as such a run.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
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

/// Runs that end before this need not be read each.
const SHORT: Duration = Duration::from_millis(2);
/// The first runs of a sandbox are read each, and then one in so many.
const READ_FIRST: u32 = 4;
const READ_ONE_IN: u32 = 16;

/// What a sandbox uses between two runs closer than this is taken to belong to the second.
const IDLE_MAX: Duration = Duration::from_millis(10);
/// The same where runs are short and most are guessed: a reading at their beginning would cost more than they do.
const IDLE_MAX_SHORT: Duration = Duration::from_millis(100);

/// What is known of the short runs of one sandbox. One run at a time, so nothing here races.
#[derive(Debug, Default)]
pub(crate) struct ShortRuns {
    /// Runs since the sandbox was made.
    runs: AtomicU32,
    /// Time in runs since the last reading, in microseconds.
    unread_us: AtomicU64,
    /// Whether the last reading was of a short run: only such a one says something of another.
    alike: AtomicBool,
    /// As last read.
    cpu_millicores: AtomicU32,
    memory_mib: AtomicU32,
}

impl ShortRuns {
    /// What a run that has just ended after `took` is taken to have used, if it need not be read.
    fn guess(&self, took: Duration) -> Option<Usage> {
        let run = self.runs.fetch_add(1, Ordering::Relaxed);
        let alike = took < SHORT && self.alike.load(Ordering::Relaxed);
        if !alike || run < READ_FIRST || run.is_multiple_of(READ_ONE_IN) {
            return None;
        }
        let took_us = Span::from(took).as_micros();
        self.unread_us.fetch_add(took_us, Ordering::Relaxed);
        let rate = self.cpu_millicores.load(Ordering::Relaxed);
        Some(Usage {
            cpu_time: Span(took_us * u64::from(rate) / 1_000),
            cpu_peak: MilliCores(rate),
            memory_peak: Mebibytes(self.memory_mib.load(Ordering::Relaxed)),
            ..Usage::default()
        })
    }

    /// How long after its last run what was read then is still good. Runs that will be guessed need it less.
    fn patience(&self) -> Duration {
        if self.alike.load(Ordering::Relaxed) { IDLE_MAX_SHORT } else { IDLE_MAX }
    }

    /// CPU time of a run of `took`, of what was used in it and in those before it that were not read.
    fn share(&self, used: Span, took: Span) -> Span {
        let unread = self.unread_us.swap(0, Ordering::Relaxed);
        used.scaled(took.as_micros().max(1), took.as_micros().max(1) + unread)
    }

    fn has_been_read(&self, took: Duration, usage: &Usage, mean: MilliCores) {
        self.alike.store(took < SHORT, Ordering::Relaxed);
        self.cpu_millicores.store(mean.0, Ordering::Relaxed);
        self.memory_mib.store(usage.memory_peak.0, Ordering::Relaxed);
    }
}

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
        if idle > hold.short_runs.patience()
            && let Some(now) = hold.cpu_time()
        {
            hold.cpu_seen.store(now.as_micros(), Ordering::Relaxed);
            hold.short_runs.unread_us.store(0, Ordering::Relaxed);
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
        let took = now - self.started;
        let duration = Span::from(took);
        if let Some(usage) = self.hold.short_runs.guess(took) {
            return (usage, duration);
        }
        let cpu_after = self.hold.cpu_time().unwrap_or(self.cpu_before).max(self.cpu_before);
        self.hold.cpu_seen.store(cpu_after.as_micros(), Ordering::Relaxed);
        let cpu_time = self.hold.short_runs.share(cpu_after - self.cpu_before, duration);
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
        self.hold.short_runs.has_been_read(took, &usage, mean);
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
    fn short_runs_are_guessed_and_their_sum_is_right() {
        let short = ShortRuns::default();
        let took = Duration::from_millis(1);
        let mut told = Span::ZERO;
        // What the counter says: each run uses 0.4 ms of CPU, on average; the counter is read where nothing is guessed.
        let (mut unseen, mut read) = (Span::ZERO, 0);
        for _ in 0..64 {
            unseen += Span(400);
            match short.guess(took) {
                Some(usage) => told += usage.cpu_time,
                None => {
                    let used = short.share(std::mem::take(&mut unseen), Span::from(took));
                    let usage = Usage { cpu_time: used, memory_peak: Mebibytes(3), ..Usage::default() };
                    short.has_been_read(took, &usage, rate(used, Span::from(took)));
                    told += used;
                    read += 1;
                }
            }
        }
        assert_eq!(read, 4 + 3, "the first four, and each sixteenth after them");
        assert!((25_000..=26_000).contains(&told.as_micros()), "64 times 0.4 ms, and {told} were told");
        let guessed = short.guess(took).is_none().then(|| short.guess(took)).flatten().unwrap();
        assert_eq!((guessed.cpu_peak, guessed.memory_peak), (MilliCores(400), Mebibytes(3)));
    }

    #[test]
    fn a_run_that_is_not_short_is_read_and_so_is_the_next() {
        let short = ShortRuns::default();
        let took = Duration::from_millis(1);
        short.has_been_read(took, &Usage::default(), MilliCores(1));
        assert!((0..5).filter(|_| short.guess(took).is_some()).count() == 1, "the fifth is guessed");
        assert!(short.guess(SHORT).is_none());
        short.has_been_read(SHORT, &Usage::default(), MilliCores(1));
        assert!(short.guess(took).is_none(), "nothing is known of short ones now");
    }

    #[test]
    fn half_the_time_is_half_a_core() {
        assert_eq!(rate(Span::millis(50), Span::millis(100)), MilliCores(500));
        assert_eq!(rate(Span::millis(200), Span::millis(100)), MilliCores(2000));
        assert_eq!(rate(Span::ZERO, Span::ZERO), MilliCores::ZERO);
    }
}
