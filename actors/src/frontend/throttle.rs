//! How often and how many at once: limits of each namespace, at both doors.
//!
//! **Knows:** what came in here, and what the other Frontends said half a second ago of theirs.
//! **Promises:** a call that is refused costs no place; a place is given back when its guard is dropped.
//! **Gives up:** an exact count over several Frontends: what the others took since they last spoke is not counted yet,
//! so that together they may let in what comes to them within half a second beyond a limit. Submissions that come straight
//! to the durable stream are bounded by its size, not here.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use messages::NamespaceCalls;

use crate::clock::unix_ms;
use crate::settings::Limits;
use crate::store::{Namespace, NamespaceLimits};

const WINDOW: Duration = Duration::from_secs(60);

/// Namespaces of which the other Frontends are told.
const TOLD: usize = 1_000;

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
    meters: RwLock<HashMap<String, Arc<Meter>>>,
}

#[derive(Default)]
struct Meter {
    /// The minute in the upper half, calls in it in the lower: one word, changed at once.
    minute: AtomicU64,
    open: AtomicU64,
    /// The same of all other Frontends together.
    minute_elsewhere: AtomicU64,
    open_elsewhere: AtomicU64,
    /// For whoever comes without a key: the most that any key of the namespace may do.
    own: RwLock<NamespaceLimits>,
}

const LOW: u64 = u32::MAX as u64;

/// A minute and a count in one word.
fn packed(minute: u64, count: u64) -> u64 {
    ((minute & LOW) << 32) | count.min(LOW)
}

/// The count in a word, if it is of that minute.
fn count_in(word: u64, minute: u64) -> u64 {
    if word >> 32 == minute & LOW { word & LOW } else { 0 }
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
            meters: RwLock::default(),
        }
    }

    /// Counts a call of `namespace` in; only a namespace that was authenticated, so that the counts stay as few
    /// as there are namespaces.
    ///
    /// # Errors
    /// Over one of its limits.
    pub fn enter(&self, namespace: &str, own: &NamespaceLimits) -> Result<Place, Throttled> {
        self.enter_at(&self.meter(namespace), own, Duration::from_millis(unix_ms()))
    }

    /// As [`Throttle::enter`], for a call without a key whose function exists.
    ///
    /// # Errors
    /// Over one of its limits.
    pub fn enter_without_key(&self, namespace: &str) -> Result<Place, Throttled> {
        let meter = self.meter(namespace);
        let own = *meter.own.read().unwrap_or_else(PoisonError::into_inner);
        self.enter_at(&meter, &own, Duration::from_millis(unix_ms()))
    }

    /// Takes over what namespaces may do that have limits of their own.
    pub fn learn_limits<'a>(&self, namespaces: impl Iterator<Item = &'a Namespace>) {
        let mut most: HashMap<&str, NamespaceLimits> = HashMap::new();
        for namespace in namespaces {
            let limits = namespace.limits;
            most.entry(&namespace.namespace)
                .and_modify(|most| {
                    let larger = |a: Option<u64>, b: Option<u64>| Some(a?.max(b?));
                    most.invocations_per_minute =
                        larger(most.invocations_per_minute, limits.invocations_per_minute);
                    most.concurrent_invocations =
                        larger(most.concurrent_invocations, limits.concurrent_invocations);
                })
                .or_insert(limits);
        }
        for (namespace, limits) in most {
            let known = self.meters.read().unwrap_or_else(PoisonError::into_inner).contains_key(namespace);
            if known || limits != NamespaceLimits::default() {
                *self.meter(namespace).own.write().unwrap_or_else(PoisonError::into_inner) = limits;
            }
        }
    }

    /// Who calls here, the busiest first, for the other Frontends.
    pub fn calls(&self) -> Vec<NamespaceCalls> {
        let minute = unix_ms() / WINDOW.as_millis() as u64;
        let meters = self.meters.read().unwrap_or_else(PoisonError::into_inner);
        let mut calls: Vec<_> = meters
            .iter()
            .map(|(namespace, meter)| NamespaceCalls {
                namespace: namespace.clone(),
                minute,
                calls: count_in(meter.minute.load(Ordering::Relaxed), minute),
                open: meter.open.load(Ordering::Relaxed),
            })
            .filter(|calls| calls.calls > 0 || calls.open > 0)
            .collect();
        calls.sort_by(|a, b| (b.calls, b.open, &a.namespace).cmp(&(a.calls, a.open, &b.namespace)));
        calls.truncate(TOLD);
        calls
    }

    /// What all other Frontends have said last.
    pub fn learn_elsewhere<'a>(&self, said: impl Iterator<Item = &'a NamespaceCalls>) {
        let minute = unix_ms() / WINDOW.as_millis() as u64;
        let mut sums: HashMap<&str, (u64, u64)> = HashMap::new();
        for said in said {
            let (calls, open) = sums.entry(&said.namespace).or_default();
            *calls += if said.minute == minute { said.calls } else { 0 };
            *open += said.open;
        }
        for (namespace, meter) in &*self.meters.read().unwrap_or_else(PoisonError::into_inner) {
            let (calls, open) = sums.remove(namespace.as_str()).unwrap_or_default();
            meter.minute_elsewhere.store(packed(minute, calls), Ordering::Relaxed);
            meter.open_elsewhere.store(open, Ordering::Relaxed);
        }
        // Those who have not called here yet; they have been authenticated there.
        for (namespace, (calls, open)) in sums {
            let meter = self.meter(namespace);
            meter.minute_elsewhere.store(packed(minute, calls), Ordering::Relaxed);
            meter.open_elsewhere.store(open, Ordering::Relaxed);
        }
    }

    fn enter_at(
        &self,
        meter: &Arc<Meter>,
        own: &NamespaceLimits,
        since_epoch: Duration,
    ) -> Result<Place, Throttled> {
        let at_once = own.concurrent_invocations.unwrap_or(self.at_once);
        let elsewhere = meter.open_elsewhere.load(Ordering::Relaxed);
        let count = meter.open.fetch_add(1, Ordering::Relaxed) + 1 + elsewhere;
        let place = Place(Arc::clone(meter));
        if count > at_once {
            return Err(Throttled::Concurrency { count, allowed: at_once });
        }
        let per_minute = own.invocations_per_minute.unwrap_or(self.per_minute);
        let count = meter.count(since_epoch.as_secs() / WINDOW.as_secs());
        if count > per_minute {
            let seconds_left = (WINDOW.as_secs() - since_epoch.as_secs() % WINDOW.as_secs()) as u32;
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
    /// Counts one in and says how many there are in this minute, here and elsewhere.
    fn count(&self, minute: u64) -> u64 {
        let counted = |word: u64| Some(packed(minute, count_in(word, minute) + 1));
        let before =
            self.minute.fetch_update(Ordering::Relaxed, Ordering::Relaxed, counted).unwrap_or_default();
        let elsewhere = count_in(self.minute_elsewhere.load(Ordering::Relaxed), minute);
        count_in(before, minute) + 1 + elsewhere
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
        let enter = |at| throttle.enter_at(&throttle.meter("a"), &own, Duration::from_secs(at)).err();
        assert_eq!(enter(10), None);
        assert_eq!(enter(11), None);
        assert_eq!(enter(20), Some(Throttled::Rate { count: 3, allowed: 2, seconds_left: 40 }));
        assert!(
            throttle.enter_at(&throttle.meter("b"), &own, Duration::from_secs(20)).is_ok(),
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

    #[test]
    fn what_others_let_in_counts_here_until_they_say_otherwise() {
        let (here, there) = (throttle(100, 2), throttle(100, 2));
        let own = NamespaceLimits::default();
        let open_there = there.enter("a", &own).unwrap();
        here.learn_elsewhere(there.calls().iter());
        let _open_here = here.enter("a", &own).unwrap();
        assert_eq!(here.enter("a", &own).err(), Some(Throttled::Concurrency { count: 3, allowed: 2 }));
        drop(open_there);
        here.learn_elsewhere(there.calls().iter());
        assert!(here.enter("a", &own).is_ok());
        here.learn_elsewhere([].iter());
        assert_eq!(here.calls()[0].calls, 2, "what was refused for its concurrency is not in the rate");
    }

    #[test]
    fn without_a_key_the_most_that_any_key_may_do_counts() {
        let throttle = throttle(100, 100);
        throttle.meter("a").own.write().unwrap().invocations_per_minute = Some(1);
        assert!(throttle.enter_without_key("a").is_ok());
        let refused = throttle.enter_without_key("a").err();
        assert!(matches!(refused, Some(Throttled::Rate { allowed: 1, .. })), "{refused:?}");
    }
}
