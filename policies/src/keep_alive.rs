//! How long an idle sandbox lives, which goes first when its memory is needed, and when one is made before it is called for.
//!
//! **Knows:** what happens on one VM: calls, how long sandboxes took to make, when they became idle.
//! **Promises:** the same inputs in the same order give the same answers.
//! **Gives up:** the other VMs. A function that is called elsewhere looks idle here; where it should be called is
//! [`placement`](crate::placement)'s affair.

pub mod fixed;
pub mod greedy_dual;
pub mod hybrid_histogram;

use std::fmt;

use vocabulary::{FunctionCard, FunctionId, Moment, Span};

/// What becomes of a sandbox that is idle from now on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rest {
    /// It is stopped then, or now if that is over. [`Moment::NEVER`]: only when its memory is needed.
    pub until: Moment,
    /// The least worth goes first when memory is needed; of equals, the longest idle.
    pub worth: u64,
}

/// Decides about idle sandboxes on one VM.
pub trait KeepAlive: Send + fmt::Debug {
    /// Its name in configuration, metrics and tables.
    fn name(&self) -> &'static str;

    /// A run of this function begins here.
    fn called(&mut self, now: Moment, function: FunctionId) {
        let _ = (now, function);
    }

    /// A sandbox of this function took so long to make.
    fn made(&mut self, function: FunctionId, took: Span) {
        let _ = (function, took);
    }

    /// A sandbox is idle from now on, after a run or (`unused`) because it was made for nobody yet.
    fn rests(&mut self, now: Moment, function: &FunctionCard, unused: bool) -> Rest;

    /// An idle sandbox of this worth was stopped because its memory was needed.
    fn evicted(&mut self, worth: u64) {
        let _ = worth;
    }

    /// The function has no sandbox here any more.
    fn left(&mut self, function: FunctionId) {
        let _ = function;
    }

    /// When a sandbox is to be made before it is called for.
    fn next_prewarm(&self) -> Option<Moment> {
        None
    }

    /// A function of which one is to be made by now; each is named once.
    fn prewarm(&mut self, now: Moment) -> Option<FunctionCard> {
        let _ = now;
        None
    }
}

/// The algorithms that [`by_name`] knows; the first is the default.
pub const NAMES: [&str; 3] = ["fixed", "hybrid-histogram", "greedy-dual"];

/// The algorithm of this name. `keep_alive` is that of `fixed`.
pub fn by_name(name: &str, keep_alive: Span) -> Option<Box<dyn KeepAlive>> {
    match name {
        "fixed" => Some(Box::new(fixed::Fixed::new(keep_alive))),
        "hybrid-histogram" => Some(Box::new(hybrid_histogram::HybridHistogram::default())),
        "greedy-dual" => Some(Box::new(greedy_dual::GreedyDual::default())),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_listed_algorithm_exists_under_its_own_name() {
        for name in NAMES {
            assert_eq!(by_name(name, Span::ZERO).unwrap().name(), name);
        }
        assert!(by_name("", Span::ZERO).is_none());
    }
}
