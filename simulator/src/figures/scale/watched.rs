//! A placement with a clock beside it.
//!
//! **Promises:** decides as the one inside does. Times are kept by eighths of an octave of nanoseconds.
//! **Gives up:** the clock's own time, some 30 ns in each decision.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use policies::placement::{Ask, Binding, Books, Choice, NoHome, Placement, Ran, Slot};
use vocabulary::{FunctionCard, FunctionId, Grant, Moment};

/// Of an octave.
const PARTS: u32 = 8;

#[derive(Debug, Default)]
struct Times {
    counts: Vec<u64>,
    count: u64,
    sum_ns: u64,
}

/// How long decisions took.
#[derive(Debug, Clone, Default)]
pub struct Decisions(Arc<Mutex<Times>>);

impl Decisions {
    fn took(&self, ns: u64) {
        let mut times = self.0.lock().expect("nobody panics while holding it");
        let at = bucket(ns);
        if times.counts.len() <= at {
            times.counts.resize(at + 1, 0);
        }
        times.counts[at] += 1;
        times.count += 1;
        times.sum_ns += ns;
    }

    /// So many.
    pub fn count(&self) -> u64 {
        self.0.lock().expect("nobody panics while holding it").count
    }

    /// Their mean, in microseconds.
    pub fn mean_us(&self) -> f64 {
        let times = self.0.lock().expect("nobody panics while holding it");
        times.sum_ns as f64 / times.count.max(1) as f64 / 1e3
    }

    /// So many per cent took at most this long, in microseconds, a twelfth more or less.
    pub fn percentile_us(&self, percent: f64) -> f64 {
        let times = self.0.lock().expect("nobody panics while holding it");
        let wanted = (times.count as f64 * percent / 100.0).ceil() as u64;
        let mut below = 0;
        for (at, count) in times.counts.iter().enumerate() {
            below += count;
            if below >= wanted {
                return middle_ns(at) / 1e3;
            }
        }
        0.0
    }
}

fn bucket(ns: u64) -> usize {
    ((ns.max(1) as f64).log2() * f64::from(PARTS)) as usize
}

fn middle_ns(bucket: usize) -> f64 {
    ((bucket as f64 + 0.5) / f64::from(PARTS)).exp2()
}

/// See the module.
pub struct Watched {
    inside: Box<dyn Placement>,
    decisions: Decisions,
}

impl Watched {
    /// This one, watched.
    pub fn new(inside: Box<dyn Placement>, decisions: Decisions) -> Self {
        Self { inside, decisions }
    }
}

impl Placement for Watched {
    fn place(&mut self, now: Moment, books: &Books, ask: &Ask) -> Result<Choice, NoHome> {
        let began = Instant::now();
        let choice = self.inside.place(now, books, ask);
        self.decisions.took(began.elapsed().as_nanos() as u64);
        choice
    }

    fn name(&self) -> &'static str {
        self.inside.name()
    }

    fn offer(&mut self, books: &Books, slot: Slot) {
        self.inside.offer(books, slot);
    }

    fn withdraw(&mut self, slot: Slot) {
        self.inside.withdraw(slot);
    }

    fn next_home(&mut self, books: &Books, ask: &Ask) -> Option<Slot> {
        self.inside.next_home(books, ask)
    }

    fn forget(&mut self, function: FunctionId) {
        self.inside.forget(function);
    }

    fn binding(&self) -> Binding {
        self.inside.binding()
    }

    fn gone(&mut self, slot: Slot) {
        self.inside.gone(slot);
    }

    fn grant(&mut self, books: &Books, function: &FunctionCard, grant: Grant) -> Grant {
        self.inside.grant(books, function, grant)
    }

    fn arrived(&mut self, now: Moment, function: FunctionId) {
        self.inside.arrived(now, function);
    }

    fn ended(&mut self, now: Moment, ran: &Ran) {
        self.inside.ended(now, ran);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_within_a_twelfth_of_what_was_told() {
        let decisions = Decisions::default();
        (1..=1_000).for_each(|us| decisions.took(us * 1_000));
        assert_eq!(decisions.count(), 1_000);
        assert!((decisions.mean_us() - 500.5).abs() < 1e-9);
        for (percent, us) in [(50.0, 500.0), (99.0, 990.0)] {
            let told = decisions.percentile_us(percent);
            assert!((told / us - 1.0).abs() < 0.09, "{percent}: {told}");
        }
        assert_eq!(Decisions::default().percentile_us(99.0), 0.0);
    }
}
