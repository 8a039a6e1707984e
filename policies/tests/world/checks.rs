//! What must stay true.

use std::collections::{BTreeMap, BTreeSet};

use policies::residency::Lending;
use vocabulary::{Attempt, InvocationId, OnEviction, Resources, VmId};

use super::house::World;

impl World {
    pub(super) fn booked_by_us(&self) -> BTreeMap<VmId, Resources> {
        let vms = self.last_capacity.keys();
        vms.filter_map(|&vm| Some((vm, self.dispatch.booked_on(vm)?.booked_by_us))).collect()
    }

    /// Except what was there before a shrink: but nothing is added to that.
    pub(super) fn no_vm_is_promised_more_than_it_offers(
        &self,
        sent_to: &BTreeSet<VmId>,
        before: &BTreeMap<VmId, Resources>,
    ) {
        if !self.keeps_to_room {
            return;
        }
        for (vm, booked) in self.booked_by_us() {
            let capacity = self.last_capacity[&vm];
            if sent_to.contains(&vm) {
                assert!(booked.fits_in(capacity), "{vm} has {capacity}, we sent {booked}");
            } else if !booked.fits_in(capacity) {
                // What was lent may have gone back to who reserved it, after its room was promised to others.
                let reserved: Resources =
                    self.promised.values().filter(|(on, _)| *on == vm).map(|&(_, most)| most).sum();
                let before = before.get(&vm).copied().unwrap_or(Resources::ZERO);
                let bound = if self.lending == Lending::Off { before } else { before.max(reserved) };
                assert!(booked.fits_in(bound), "{vm} is overbooked, and got more");
            }
        }
    }

    /// The one that is sent now, and one beside it whose VM is there and must go.
    pub(super) fn at_most_two_attempts_live(&self, invocation: InvocationId, newest: Attempt) {
        let Some(call) = self.calls.get(&invocation) else {
            return assert_eq!(
                newest,
                Attempt::FIRST,
                "{invocation} was sent without a word to the Frontend"
            );
        };
        assert!(call.counts(newest), "{invocation} {newest} was sent, and its answer would be void");
        let others: Vec<_> = call.sent.iter().filter(|&(&attempt, _)| call.counts(attempt)).collect();
        assert!(others.len() <= 1, "{invocation} {newest} is sent beside {others:?}");
        for (attempt, vm) in others {
            let must_go = self.noticed.contains(vm) && !self.given_up.contains(vm);
            assert!(must_go, "{invocation} {newest} is sent while {attempt} may run on {vm}");
            let rerun = self.cards[&invocation].on_eviction == OnEviction::Rerun;
            assert!(rerun, "{invocation} must not run twice at once");
        }
    }

    pub(super) fn every_accepted_invocation_ended_exactly_once(&self) {
        for (id, ends) in &self.ends {
            assert_eq!(*ends, 1, "{id} ended {ends} times");
        }
        for (id, call) in &self.calls {
            // Whoever must not run twice at once has had one attempt after the other.
            let answered = call.answered.is_none_or(|attempt| call.sent.contains_key(&attempt));
            assert!(answered, "{id} was answered by an attempt that was never sent: {call:?}");
        }
        let gauges = self.dispatch.gauges();
        assert_eq!((gauges.waiting, gauges.in_flight), (0, 0));
        assert_eq!(gauges.booked, Resources::ZERO, "something stayed in the books");
    }
}
