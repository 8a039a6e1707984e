//! VMs that must go, and what runs there.
//!
//! **Knows:** when each VM goes, and how long what runs there has run.
//! **Promises:** at a notice nothing new goes there, its functions get sandboxes elsewhere (see `prewarming`), and what should not end in time
//! is run again elsewhere at once if its function allows that, while it goes on: the first answer wins. What should end in
//! time is left alone, and judged again with every report. A notice that is called off takes all of it back. The strategy in force
//! hears how long it has run, and may want another kind of VM for the second run.
//! **Gives up:** a third attempt while two live.

use vocabulary::{InvocationId, Moment, OnEviction, Span, VmId};

use super::open::{Function, Running};
use super::{Again, Dispatch, Output};
use crate::placement::Slot;
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
        open.waits_anew(self.now);
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
}
