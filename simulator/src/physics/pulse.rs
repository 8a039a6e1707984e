//! What one task is to its quota where that is handed out in periods.
//!
//! **Knows:** its sandbox's quota, when it began to compute, what the live meter would have seen.
//! **Promises:** a task that can use a core or more goes at the speed that it is let. One that cannot works at a pace, because what it
//! works on comes at its own time: after a pause it takes a core until it has made up what it missed.
//! **Gives up:** tasks that wait for the same length after each step, and so lose the time of every pause.

use vocabulary::{Moment, Span};

use super::quota::Quota;
use super::task::{BETWEEN_SAMPLES, FIRST_SAMPLE};
use super::{CORE_US, Delivered, Rate};

/// One core: what a single thread takes.
const CORE: Rate = CORE_US;

/// See the module.
#[derive(Debug, Clone)]
pub(super) struct Pulse {
    pub quota: Quota,
    /// When it began to compute.
    since: Option<Moment>,
    /// Since when it has been held back.
    held: Option<Moment>,
    stopped: Span,
    meter: Meter,
}

impl Pulse {
    pub fn new(now: Moment, quota: Quota) -> Self {
        let meter = Meter { next: now + FIRST_SAMPLE, last: None, peak: 0 };
        Self { quota, since: None, held: None, stopped: Span::ZERO, meter }
    }

    /// So much was given, evenly; so much had been given before.
    pub fn pass(&mut self, from: Moment, to: Moment, before: Delivered, given: Delivered) {
        self.quota.spend(from, to, given);
        self.meter.pass(from, to, before, given);
    }

    /// What it would take of this much; nothing if it is held back. The kernel counts a pause when it is over (`unthrottle_cfs_rq`,
    /// `kernel/sched/fair.c`).
    pub fn wish(&mut self, now: Moment, could: Rate, done: Delivered) -> Rate {
        self.quota.roll(now);
        let since = *self.since.get_or_insert(now);
        let wish = if could < CORE && behind(since, now, could, done) > 0 { CORE } else { could };
        if !self.quota.allows(wish) {
            self.held.get_or_insert(now);
            return 0;
        }
        if let Some(held) = self.held.take() {
            self.stopped += now.since(held);
        }
        wish
    }

    /// When that may be otherwise.
    pub fn next(&self, now: Moment, rate: Rate, could: Rate, done: Delivered) -> Moment {
        if self.held.is_some() {
            return self.quota.next(now);
        }
        let stops = self.quota.lasts(now, rate);
        let missed = self.since.map_or(0, |since| behind(since, now, could, done));
        if could < rate && missed > 0 { stops.min(now + Span(missed.div_ceil(rate - could))) } else { stops }
    }

    /// How long it has been held back, as the kernel's counters tell.
    pub fn stopped(&self) -> Span {
        self.stopped
    }

    /// The most CPU that the live meter has seen it use, if it ends now.
    pub fn peak(&self, now: Moment, done: Delivered) -> Rate {
        self.meter.peak_at(now, done)
    }
}

/// What one that works at this pace has missed; less than a microsecond's is nothing.
fn behind(since: Moment, now: Moment, pace: Rate, done: Delivered) -> Delivered {
    let missed = pace.saturating_mul(now.since(since).0).saturating_sub(done);
    if missed < CORE { 0 } else { missed }
}

/// Samples as the live meter takes them (`sandbox/src/measure.rs`).
#[derive(Debug, Clone)]
struct Meter {
    next: Moment,
    last: Option<(Moment, Delivered)>,
    peak: Rate,
}

impl Meter {
    fn pass(&mut self, from: Moment, to: Moment, before: Delivered, given: Delivered) {
        while self.next <= to {
            let (into, passed) = (self.next.since(from).0, to.since(from).0);
            let part = u128::from(given) * u128::from(into) / u128::from(passed);
            let now = before + part as Delivered;
            self.peak = self.peak_at(self.next, now);
            self.last = Some((self.next, now));
            self.next = self.next + BETWEEN_SAMPLES;
        }
    }

    /// A piece that is shorter than the first says nothing of a rate.
    fn peak_at(&self, now: Moment, done: Delivered) -> Rate {
        match self.last {
            Some((at, before)) if now.since(at) >= FIRST_SAMPLE => {
                self.peak.max((done - before) / now.since(at).0)
            }
            _ => self.peak,
        }
    }
}
