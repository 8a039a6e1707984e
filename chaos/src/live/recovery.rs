//! Since when the house has been well again.
//!
//! **Knows:** when the last fault was over, and what the Resource Monitor has listed since.
//! **Promises:** the moment is seen while it happens, at most a tenth of a second late, however long the storm goes on afterwards. The fleet
//! is whole only where everybody who counts has been heard of lately, and for as long as every look finds it so.
//! **Gives up:** what nobody lists. A VM that falls silent counts for a report and a half.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use messages::FleetVm;
use vocabulary::{Span, VmId, VmStanding};

use super::House;
use super::trouble::Trouble;

/// How often one looks while the fleet is not whole...
const LOOK: Duration = Duration::from_millis(100);
/// ...and while it is.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// A VM reports once a second, and may be late.
const HEARD_WITHIN: Span = Span::millis(1_500);

/// See the module.
#[derive(Clone, Default)]
pub(super) struct Recovery(Arc<Mutex<Health>>);

/// What is known of the time since the last fault.
#[derive(Debug, Default)]
struct Health {
    fault: Option<Span>,
    whole: Option<Span>,
}

impl Health {
    /// A look that was asked for then, when this was the last fault, and answered at that moment.
    fn looked(&mut self, fault: Option<Span>, asked: Span, answered: Span, is_whole: bool) {
        if fault != self.fault {
            *self = Self { fault, whole: None };
        }
        if !is_whole {
            self.whole = None;
        } else if self.fault.is_none_or(|fault| asked >= fault) {
            self.whole.get_or_insert(answered);
        }
    }
}

impl Recovery {
    /// Looks until it is dropped.
    pub async fn keep(self, house: House, trouble: Trouble, wanted: usize) -> Infallible {
        loop {
            let (fault, asked) = (trouble.locked().last_fault, trouble.clock.now());
            let is_whole = is_whole(&house, &trouble, wanted).await;
            self.locked().looked(fault, asked, trouble.clock.now(), is_whole);
            let until = tokio::time::Instant::now() + if is_whole { LOOK_AGAIN } else { LOOK };
            while tokio::time::Instant::now() < until && trouble.locked().last_fault == fault {
                tokio::time::sleep(LOOK.min(until - tokio::time::Instant::now())).await;
            }
        }
    }

    /// Since when the fleet has been whole, where this was the last fault.
    pub fn whole_since(&self, fault: Option<Span>) -> Option<Span> {
        let health = self.locked();
        health.whole.filter(|_| health.fault == fault)
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, Health> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether there are as many VMs as wanted.
pub(super) async fn is_whole(house: &House, trouble: &Trouble, wanted: usize) -> bool {
    let vms = house.fleet().await.vms;
    vms.iter().filter(|vm| counts(vm, &trouble.locked().deaths)).count() >= wanted
}

/// Whether it takes work, as far as anybody can know: who was killed is listed until that is noticed.
fn counts(vm: &FleetVm, deaths: &BTreeMap<VmId, Span>) -> bool {
    vm.standing == Some(VmStanding::Open)
        && vm.silent.is_some_and(|silent| silent <= HEARD_WITHIN)
        && !deaths.contains_key(&vm.vm)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Span {
        Span::millis(ms)
    }

    #[test]
    fn well_since_the_first_look_after_the_last_fault_that_finds_all_and_not_since_the_end_of_the_storm() {
        let mut health = Health::default();
        for ms in (0..5_000).step_by(100) {
            let fault = (ms >= 400).then_some(at(400));
            health.looked(fault, at(ms), at(ms + 3), ms >= 700);
        }
        assert_eq!(health.whole, Some(at(703)));
    }

    #[test]
    fn what_was_asked_before_the_fault_says_nothing_of_the_time_after_it() {
        let mut health = Health::default();
        health.looked(Some(at(400)), at(399), at(450), true);
        assert_eq!(health.whole, None);
        health.looked(Some(at(400)), at(460), at(462), true);
        assert_eq!(health.whole, Some(at(462)));
        health.looked(Some(at(900)), at(890), at(901), true);
        assert_eq!((health.fault, health.whole), (Some(at(900)), None), "it was well after another fault");
    }

    #[test]
    fn who_falls_ill_again_is_well_only_since_after_that() {
        let mut health = Health::default();
        for (ms, is_whole) in [(100, true), (200, true), (300, false), (400, true), (500, true)] {
            health.looked(None, at(ms), at(ms + 1), is_whole);
        }
        assert_eq!(health.whole, Some(at(401)));
    }

    #[test]
    fn the_dead_and_the_silent_are_listed_and_do_not_count() {
        let listed = |vm: u64, standing, silent: u64| FleetVm {
            vm: VmId(vm),
            kind: vocabulary::VmKind::Harvest,
            capacity: vocabulary::Resources::new(1_000, 1_024),
            used: vocabulary::Resources::ZERO,
            standing: Some(standing),
            running: 0,
            warm: 0,
            silent: Some(at(silent)),
            age: at(10_000),
            pid: 0,
            metrics: String::new(),
            capacity_source: String::new(),
            notice: None,
            hindrance: messages::Hindrance::default(),
        };
        let deaths = BTreeMap::from([(VmId(2), at(5))]);
        assert!(counts(&listed(1, VmStanding::Open, 900), &deaths));
        assert!(!counts(&listed(2, VmStanding::Open, 900), &deaths), "killed");
        assert!(!counts(&listed(1, VmStanding::Open, 2_000), &deaths), "not heard of");
        assert!(!counts(&listed(1, VmStanding::Draining, 100), &deaths), "leaves");
    }
}
