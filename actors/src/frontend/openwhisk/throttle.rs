//! How often and how many at once: limits of each namespace.
//!
//! **Promises:** a call that is refused costs no place; a place is given back when its guard is dropped.
//! **Gives up:** a common count over several Frontends: each counts what comes in at its own doors.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use crate::settings::Limits;
use crate::store::NamespaceLimits;

const WINDOW: Duration = Duration::from_secs(60);

/// Why a call has to wait. The texts are OpenWhisk's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Throttled {
    /// The rate is used up until the minute ends.
    #[error("Too many requests in the last minute (count: {count}, allowed: {allowed}).")]
    Rate {
        /// With this one.
        count: u64,
        /// Per minute.
        allowed: u64,
        /// Seconds until the minute ends.
        seconds_left: u32,
    },
    /// As many as may be are open.
    #[error("Too many concurrent requests in flight (count: {count}, allowed: {allowed}).")]
    Concurrency {
        /// With this one.
        count: u64,
        /// At once.
        allowed: u64,
    },
}

/// Counts of all namespaces that have called.
pub struct Throttle {
    per_minute: u64,
    at_once: u64,
    started: Instant,
    meters: RwLock<HashMap<String, Arc<Meter>>>,
}

#[derive(Default)]
struct Meter {
    /// The minute since the start in the upper half, calls in it in the lower: one word, changed at once.
    minute: AtomicU64,
    open: AtomicU64,
}

/// A place among the open calls of a namespace.
pub struct Place(Arc<Meter>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Throttle {
    /// With the limits of everybody who has none of their own.
    pub fn new(limits: &Limits) -> Self {
        Self {
            per_minute: limits.invocations_per_minute,
            at_once: limits.concurrent_invocations,
            started: Instant::now(),
            meters: RwLock::default(),
        }
    }

    /// Counts a call of `namespace` in; only a namespace that was authenticated, so that the counts stay as few
    /// as there are namespaces.
    ///
    /// # Errors
    /// Over one of its limits.
    pub fn enter(&self, namespace: &str, own: &NamespaceLimits) -> Result<Place, Throttled> {
        self.enter_at(namespace, own, self.started.elapsed())
    }

    fn enter_at(
        &self,
        namespace: &str,
        own: &NamespaceLimits,
        since_start: Duration,
    ) -> Result<Place, Throttled> {
        let meter = self.meter(namespace);
        let at_once = own.concurrent_invocations.unwrap_or(self.at_once);
        let count = meter.open.fetch_add(1, Ordering::Relaxed) + 1;
        let place = Place(Arc::clone(&meter));
        if count > at_once {
            return Err(Throttled::Concurrency { count, allowed: at_once });
        }
        let per_minute = own.invocations_per_minute.unwrap_or(self.per_minute);
        let count = meter.count(since_start.as_secs() / WINDOW.as_secs());
        if count > per_minute {
            let seconds_left = (WINDOW.as_secs() - since_start.as_secs() % WINDOW.as_secs()) as u32;
            return Err(Throttled::Rate { count, allowed: per_minute, seconds_left });
        }
        Ok(place)
    }

    fn meter(&self, namespace: &str) -> Arc<Meter> {
        if let Some(meter) = self.meters.read().unwrap_or_else(PoisonError::into_inner).get(namespace) {
            return Arc::clone(meter);
        }
        let mut meters = self.meters.write().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(meters.entry(namespace.to_owned()).or_default())
    }
}

impl Meter {
    /// Counts one in and says how many there are in this minute.
    fn count(&self, minute: u64) -> u64 {
        const LOW: u64 = u32::MAX as u64;
        let fresh = (minute & LOW) << 32;
        let counted = |word: u64| {
            let counted = if word & !LOW == fresh { word & LOW } else { 0 };
            Some(fresh | counted.saturating_add(1).min(LOW))
        };
        let before =
            self.minute.fetch_update(Ordering::Relaxed, Ordering::Relaxed, counted).unwrap_or_default();
        counted(before).unwrap_or_default() & LOW
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn throttle(per_minute: u64, at_once: u64) -> Throttle {
        Throttle::new(&Limits {
            invocations_per_minute: per_minute,
            concurrent_invocations: at_once,
            ..Limits::default()
        })
    }

    #[test]
    fn the_rate_is_used_up_and_comes_back_with_the_next_minute() {
        let throttle = throttle(2, 10);
        let own = NamespaceLimits::default();
        let enter = |at| throttle.enter_at("a", &own, Duration::from_secs(at)).err();
        assert_eq!(enter(10), None);
        assert_eq!(enter(11), None);
        assert_eq!(enter(20), Some(Throttled::Rate { count: 3, allowed: 2, seconds_left: 40 }));
        assert!(
            throttle.enter_at("b", &own, Duration::from_secs(20)).is_ok(),
            "another namespace has its own"
        );
        assert_eq!(enter(60), None);
    }

    #[test]
    fn places_are_given_back() {
        let throttle = throttle(100, 1);
        let own = NamespaceLimits::default();
        let place = throttle.enter("a", &own).unwrap();
        assert_eq!(throttle.enter("a", &own).err(), Some(Throttled::Concurrency { count: 2, allowed: 1 }));
        drop(place);
        assert!(throttle.enter("a", &own).is_ok());
    }

    #[test]
    fn a_namespace_with_a_limit_of_none_runs_nothing() {
        let throttle = throttle(100, 100);
        let none = NamespaceLimits { invocations_per_minute: Some(0), concurrent_invocations: None };
        assert!(matches!(throttle.enter("a", &none), Err(Throttled::Rate { allowed: 0, .. })));
    }
}
