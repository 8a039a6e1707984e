//! VMs that must go, and what runs there.
//!
//! **Knows:** when each VM goes, and how long what runs there has run.
//! **Promises:** at a notice nothing new goes there, its functions get sandboxes elsewhere, and what should not end in time
//! is run again elsewhere at once if its function allows that, while it goes on: the first answer wins. What should end in
//! time is left alone, and judged again with every report. A notice that is called off takes all of it back. The strategy in force
//! hears how long it has run, and may want another kind of VM for the second run.
//! **Gives up:** a third attempt while two live.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use vocabulary::{FunctionId, InvocationId, Moment, OnEviction, Span, VmId};

use super::open::{Function, Running};
use super::{Again, Dispatch, Output};
use crate::placement::{Ask, Slot};
use crate::reliability::in_time;

/// Notices that are kept for VMs not heard of yet.
const EARLY_NOTICES_LIMIT: usize = 1_024;

/// When its run itself should have begun.
fn begun(running: &Running, function: &Function) -> Moment {
    let init = if running.warm { Span::ZERO } else { function.profile.init().unwrap_or(Span::ZERO) };
    running.sent + init
}

impl Dispatch {
    /// A VM will be evicted, or not after all.
    pub(super) fn vm_noticed(&mut self, vm: VmId, deadline: Option<Moment>, outputs: &mut Vec<Output>) {
        let Some(slot) = self.books.slot(vm) else {
            self.notice_early(vm, deadline);
            return;
        };
        let book = &mut self.vms[slot];
        let is_news = book.notice.is_none() && deadline.is_some();
        book.notice = deadline;
        self.offer_or_withdraw(slot);
        if is_news {
            self.note_eviction(vm);
            self.prewarm_elsewhere(slot, outputs);
        }
        match deadline {
            Some(_) => self.rerun_what_will_not_end(slot, outputs),
            None => self.call_off_reruns(vm, outputs),
        }
    }

    fn notice_early(&mut self, vm: VmId, deadline: Option<Moment>) {
        let now = self.now;
        self.early_notices.retain(|_, deadline| now.since(*deadline) < Span::seconds(60));
        match deadline {
            Some(deadline) if self.early_notices.len() < EARLY_NOTICES_LIMIT => {
                self.early_notices.insert(vm, deadline);
            }
            _ => {
                self.early_notices.remove(&vm);
            }
        }
    }

    /// Runs again elsewhere what should not end before this VM goes. The oldest goes first.
    pub(super) fn rerun_what_will_not_end(&mut self, slot: Slot, outputs: &mut Vec<Output>) {
        let book = &self.vms[slot];
        if book.notice.is_none() {
            return;
        }
        let mut late: Vec<(Moment, InvocationId)> = book
            .open
            .keys()
            .filter(|&&id| self.will_be_late(id))
            .filter_map(|id| Some((self.open.get(id)?.submitted, *id)))
            .collect();
        late.sort_unstable();
        // Each joins its queue's front: the oldest last, to be there first.
        for &(_, id) in late.iter().rev() {
            self.join_again(id, outputs);
        }
        for (_, id) in late {
            if let Some(function) = self.open.get(&id).map(|open| open.submission.function.id) {
                self.try_head(function, outputs);
            }
        }
    }

    /// The same for one whose other attempt was lost.
    pub(super) fn rerun_if_late(&mut self, id: InvocationId, outputs: &mut Vec<Output>) {
        if self.will_be_late(id) {
            self.join_again(id, outputs);
        }
    }

    /// Whether its only attempt is one that should not end before its VM goes, and that may be run again.
    fn will_be_late(&self, id: InvocationId) -> bool {
        let Some(open) = self.open.get(&id) else { return false };
        let Some(running) = open.running.filter(|_| open.older.is_none()) else { return false };
        let card = &open.submission.function;
        let deadline = self.vms[running.slot].notice;
        let (Some(deadline), Some(function)) = (deadline, self.functions.get(&card.id)) else { return false };
        if !self.settings.rerun_at_notice
            || card.on_eviction != OnEviction::Rerun
            || open.withdrawn
            || self.queues.waits(id)
        {
            return false;
        }
        let begun = begun(&running, function);
        let ran = self.now.since(begun);
        let left = deadline.since(self.now.max(begun));
        in_time::miss_milli(self.tails(function), ran, left) >= self.settings.rerun_risk_milli
    }

    /// An attempt of it will not end: so long it has run, when it was known to.
    pub(super) fn note_how_long_it_ran(&mut self, id: InvocationId, running: &Running, until: Moment) {
        let Some(open) = self.open.get_mut(&id) else { return };
        let Some(function) = self.functions.get(&open.submission.function.id) else { return };
        open.ran = open.ran.max(until.since(begun(running, function)));
    }

    fn join_again(&mut self, id: InvocationId, outputs: &mut Vec<Output>) {
        if let Some(running) = self.open.get(&id).and_then(|open| open.running) {
            self.note_how_long_it_ran(id, &running, self.now);
        }
        let Some(open) = self.open.get_mut(&id) else { return };
        open.since = self.now;
        open.grant = None;
        let function = open.submission.function.id;
        // It waits for as long as the attempt that runs does.
        self.queues.join(id, function, self.now, Moment::NEVER, true);
        outputs.push(Output::Again { invocation: id, why: Again::Notice });
    }

    /// The eviction was called off: what ran there goes on alone.
    fn call_off_reruns(&mut self, vm: VmId, outputs: &mut Vec<Output>) {
        self.forget_eviction(vm);
        let Some(slot) = self.books.slot(vm) else { return };
        let mut here: Vec<InvocationId> = self.vms[slot].open.keys().copied().collect();
        here.sort_unstable();
        for id in here {
            let Some(open) = self.open.get(&id) else { continue };
            let newer = open.running.filter(|_| open.older.is_some_and(|older| older.vm == vm));
            self.queues.leave(id);
            if let Some(newer) = newer {
                self.stop_running(id, newer.attempt);
                outputs.push(Output::Cancel { vm: newer.vm, invocation: id, attempt: newer.attempt });
                self.tell_fence(id, outputs);
            }
        }
    }

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
        for (_, id, card, running) in ranked.into_iter().take(self.settings.prewarm_functions as usize) {
            let kinds = self.kinds_to_try(self.kinds(&card), card.reservation);
            let ask = |kind| Ask {
                function: id,
                revision: card.revision,
                demand: card.reservation,
                concurrency_milli: 0,
                kind,
            };
            let mut next_homes = kinds.filter_map(|kind| self.placement.next_home(&self.books, &ask(kind)));
            let Some(slot) = next_homes.next() else { continue };
            drop(next_homes);
            let next = self.books.vm(slot);
            let there = self.books.idle(id, card.revision, slot) + self.running_at(slot, id);
            outputs.push(Output::Prewarm { vm: next, function: card, count: there + running.max(1) });
        }
    }

    fn running_at(&self, slot: Slot, function: FunctionId) -> u32 {
        let there = self.vms[slot].open.keys();
        there.filter(|id| self.open.get(id).is_some_and(|o| o.submission.function.id == function)).count()
            as u32
    }
}
