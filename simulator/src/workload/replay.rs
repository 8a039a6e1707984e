//! Calls at times that are known beforehand, whatever becomes of them.
//!
//! **Knows:** a source that hands out calls in batches, a minute of a trace at a time.
//! **Promises:** in order of time; no more than a batch is in memory.
//! **Gives up:** answers: who is in a trace does not wait for them.

use vocabulary::{Moment, Span};

use crate::plan::{Call, Calls, Work};

/// One call of a trace, in sixteen bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Event {
    /// When.
    pub at: Moment,
    /// Index among the functions.
    pub function: u32,
    /// In tens of microseconds: up to eleven hours fit.
    tens_of_micros: u32,
}

impl Event {
    /// One call.
    pub fn new(at: Moment, function: u32, duration: Span) -> Self {
        let tens_of_micros = u32::try_from(duration.as_micros().div_ceil(10)).unwrap_or(u32::MAX);
        Self { at, function, tens_of_micros }
    }

    /// How long it takes with its reservation to itself.
    pub fn duration(self) -> Span {
        Span(u64::from(self.tens_of_micros) * 10)
    }
}

/// A source of calls.
pub(crate) trait Batches: Send {
    /// Appends the next ones, in order of time, none before those of earlier batches. `false`: there are no more.
    fn fill(&mut self, into: &mut Vec<Event>) -> bool;
    /// What a call needs.
    fn work(&self, event: Event) -> Work;
}

/// Hands out the calls of a source one by one.
pub(crate) struct Replay<B> {
    batches: B,
    buffer: Vec<Event>,
    next: usize,
    left: u64,
}

impl<B: Batches> Replay<B> {
    /// At most `most` calls.
    pub fn new(batches: B, most: Option<u64>) -> Self {
        let mut replay = Self { batches, buffer: Vec::new(), next: 0, left: most.unwrap_or(u64::MAX) };
        replay.refill();
        replay
    }

    fn refill(&mut self) {
        while self.next == self.buffer.len() {
            self.buffer.clear();
            self.next = 0;
            if !self.batches.fill(&mut self.buffer) {
                return;
            }
        }
    }
}

impl<B: Batches> Calls for Replay<B> {
    fn next_at(&self) -> Option<Moment> {
        self.buffer.get(self.next).filter(|_| self.left > 0).map(|event| event.at)
    }

    fn take(&mut self) -> Call {
        let event = self.buffer[self.next];
        self.next += 1;
        self.left -= 1;
        self.refill();
        Call { function: event.function, work: self.batches.work(event), user: 0 }
    }
}
