//! Sandboxes that are made before anybody waits for them.
//!
//! **Knows:** which functions have run where, how long they run, and how far apart their calls come.
//! **Promises:** the functions that are most at home on a VM that will go have sandboxes where they will go next. And a function whose
//! calls are likely to overlap has one sandbox more than is busy, a spare, while half of the fleet's cores are free: whoever comes
//! second would wait for longer than making one takes, or make one for itself.
//! **Gives up:** knowing whether it was worth it. A spare takes the cores of its making, which are free, and memory that nobody uses:
//! Invokers stop nothing for it.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use vocabulary::{FunctionCard, FunctionId, Span};

use super::{Dispatch, Output};
use crate::placement::Slot;

/// Two calls that follow each other within so many times the length of a run may overlap the next time: one in so many does, where they
/// come by chance. Up to here a cold start that is saved costs five core seconds of making at fifty users of SOSP'21's mix; from here to twice
/// as much it costs sixteen.
const OVERLAP: u64 = 32;

impl Dispatch {
    /// The functions that are most at home on a VM that will go get sandboxes where they will go next.
    pub(super) fn prewarm_elsewhere(&mut self, slot: Slot, outputs: &mut Vec<Output>) {
        let mut here: BTreeMap<FunctionId, u32> = BTreeMap::new();
        for id in self.vms[slot].open.keys() {
            if let Some(open) = self.open.get(id) {
                *here.entry(open.submission.function.id).or_insert(0) += 1;
            }
        }
        for function in self.books.functions_idle_at(slot) {
            here.entry(function).or_insert(0);
        }
        let mut ranked: Vec<_> = here
            .into_iter()
            .filter_map(|(id, running)| {
                let function = self.functions.get(&id)?;
                let used = (running, function.profile.rate_milli_hz(self.now));
                Some((Reverse(used), id, function.card?, running))
            })
            .collect();
        ranked.sort_unstable_by_key(|&(used, id, ..)| (used, id));
        for (_, _, card, running) in ranked.into_iter().take(self.settings.prewarm_functions as usize) {
            self.prewarm_where_it_goes_next(&card, running.max(1), outputs);
        }
    }

    /// One of this function has just been sent to a sandbox that was warm: perhaps it was the last one, and the next call comes before
    /// this one has ended.
    pub(super) fn make_a_spare(&mut self, card: &FunctionCard, outputs: &mut Vec<Output>) {
        let (capacity, free) = self.books.open_resources();
        if !self.settings.makes_spares || u64::from(free.cpu.0) * 2 < u64::from(capacity.cpu.0) {
            return;
        }
        let now = self.now;
        let Some(function) = self.functions.get_mut(&card.id) else { return };
        let (Some(init), Some(duration)) = (function.profile.init(), function.profile.duration()) else {
            return;
        };
        let overlaps = function.gap.is_some_and(|gap| gap <= duration.scaled(OVERLAP, 1));
        if duration <= init || !overlaps || function.spare_until > now {
            return;
        }
        if self.books.idle_anywhere(card.id, card.revision).iter().any(|&(_, count)| count > 0) {
            return;
        }
        // Until it is made and a report has shown it, there is no need for another.
        function.spare_until = now + init + Span::seconds(1);
        self.prewarm_where_it_goes_next(card, 1, outputs);
    }

    /// So many more than run or are idle there.
    fn prewarm_where_it_goes_next(&mut self, card: &FunctionCard, more: u32, outputs: &mut Vec<Output>) {
        let Some(slot) = self.next_home(card, self.kinds(card)) else { return };
        let vm = self.books.vm(slot);
        let there = self.books.idle(card.id, card.revision, slot) + self.running_at(slot, card.id);
        outputs.push(Output::Prewarm { vm, function: *card, count: there + more });
    }

    fn running_at(&self, slot: Slot, function: FunctionId) -> u32 {
        let there = self.vms[slot].open.keys();
        there.filter(|id| self.open.get(id).is_some_and(|o| o.submission.function.id == function)).count()
            as u32
    }
}
