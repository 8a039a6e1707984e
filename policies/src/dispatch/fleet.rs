//! VMs that report, get notice, or are lost.
//!
//! **Knows:** what each VM last said of itself, and what we sent there.
//! **Promises:** a report never takes away what is on its way to the VM, nor counts twice what is on its way back.
//! **Gives up:** exactness between two reports where VMs also work for others.

use std::collections::BTreeMap;

use vocabulary::{Attempt, FunctionId, InvocationId, Moment, Resources, Span, VmId, VmStanding, VmStatus};

use super::shrinks::Shrinks;
use super::{Dispatch, Ending, Output, VmGone};
use crate::hash::Map;
use crate::placement::{Ask, Slot};

/// Endings that are remembered between two reports of one VM.
const JUST_ENDED_LIMIT: usize = 1_024;
/// Notices that are kept for VMs not heard of yet.
const EARLY_NOTICES_LIMIT: usize = 1_024;

/// A VM that reports.
#[derive(Debug)]
pub(super) struct Vm {
    pub slot: Slot,
    pub standing: VmStanding,
    /// When it will be evicted.
    pub notice: Option<Moment>,
    pub silent_at: Moment,
    /// How its size has changed.
    pub shrinks: Shrinks,
    /// Our attempts there.
    pub open: Map<InvocationId, ()>,
    /// Attempts there that are not ours (any more).
    pub foreign: BTreeMap<(InvocationId, Attempt), Resources>,
    /// What has ended there since the report before the last: a report that was written before may still list it.
    pub just_ended: Vec<(InvocationId, Attempt)>,
    ended_before_last_report: usize,
    /// When a run ended there last, and the time between two endings lately.
    ended: Option<Moment>,
    pub pace: Option<Span>,
}

impl Vm {
    /// A run of ours has ended there.
    pub fn ended_at(&mut self, now: Moment) {
        if let Some(last) = self.ended.replace(now) {
            let gap = now.since(last);
            // The last eight or so.
            self.pace = Some(self.pace.map_or(gap, |pace| Span((pace.0 * 7 + gap.0) / 8)));
        }
    }

    pub fn has_ended(&mut self, id: InvocationId, attempt: Attempt) {
        if self.just_ended.len() < JUST_ENDED_LIMIT {
            self.just_ended.push((id, attempt));
        }
    }
}

impl Dispatch {
    /// A VM described itself.
    pub(super) fn vm_reported(&mut self, status: &VmStatus, outputs: &mut Vec<Output>) {
        let slot = self.known_slot(status);
        self.books.set_capacity(slot, status.capacity);
        let book = self.vms.get_mut(&status.vm).expect("known_slot has just made it");
        book.shrinks.see(self.now, status.capacity.cpu);
        book.standing = status.standing;
        let silent_at = self.now + self.settings.vm_silence;
        self.silences.remove(&(book.silent_at, status.vm));
        book.silent_at = silent_at;
        self.silences.insert((silent_at, status.vm));
        self.books.set_refusing(slot, false);
        self.reconcile(status, slot, outputs);
        self.offer_or_withdraw(status.vm);
    }

    fn known_slot(&mut self, status: &VmStatus) -> Slot {
        if let Some(book) = self.vms.get(&status.vm) {
            return book.slot;
        }
        let slot = self.books.add(status.vm, status.kind, status.capacity);
        self.vms.insert(
            status.vm,
            Vm {
                slot,
                standing: status.standing,
                notice: self.early_notices.remove(&status.vm),
                silent_at: Moment::ORIGIN,
                shrinks: Shrinks::default(),
                open: Map::default(),
                foreign: BTreeMap::new(),
                just_ended: Vec::new(),
                ended_before_last_report: 0,
                ended: None,
                pace: None,
            },
        );
        slot
    }

    /// Placement sees exactly the VMs that are open and have no notice.
    fn offer_or_withdraw(&mut self, vm: VmId) {
        let Some(book) = self.vms.get(&vm) else { return };
        let slot = book.slot;
        let takes_work = book.standing == VmStanding::Open && book.notice.is_none();
        if takes_work {
            self.books.set_takes_work(slot, true);
            self.placement.offer(&self.books, slot);
            self.last_open = self.now;
        } else if self.books.takes_work(slot) {
            self.books.set_takes_work(slot, false);
            self.placement.withdraw(slot);
        }
    }

    /// Brings our books in line with what the VM says, except for what has crossed the report on the way.
    fn reconcile(&mut self, status: &VmStatus, slot: Slot, outputs: &mut Vec<Output>) {
        let book = self.vms.get_mut(&status.vm).expect("a VM that reported is known");
        let mut just_ended = std::mem::take(&mut book.just_ended);
        for (id, attempt) in std::mem::take(&mut book.foreign).into_keys() {
            self.foreign.remove(&(id, attempt, status.vm));
        }
        let mut listed = BTreeMap::new();
        let mut rebooked = Vec::new();
        for running in &status.running {
            listed.insert(running.invocation, running.attempt);
            let (id, attempt) = (running.invocation, running.attempt);
            let ours = self.open.get(&id);
            let is_current = ours.is_some_and(|open| {
                open.attempt == attempt && open.running.is_some_and(|running| running.vm == status.vm)
            });
            if is_current {
                rebooked.push((id, running.grant.booked));
                continue;
            }
            if just_ended.contains(&(id, attempt)) {
                continue;
            }
            book.foreign.insert((id, attempt), running.grant.booked);
            self.foreign.insert((id, attempt, status.vm));
            if ours.is_some_and(|open| attempt < open.attempt) {
                // We have given it to another meanwhile; its answer would be dropped.
                outputs.push(Output::Cancel { vm: status.vm, invocation: id, attempt });
            }
            let function = self.functions.entry(running.function.id).or_default();
            function.card = function.card.or(Some(running.function));
        }
        self.books.set_foreign(slot, book.foreign.values().copied().sum());
        for (id, booked) in rebooked {
            if let Some(running) = self.open.get_mut(&id).and_then(|open| open.running.as_mut())
                && running.booked != booked
            {
                // Its VM has given it back what it had lent.
                self.books.release_own(slot, running.booked);
                self.books.book_own(slot, booked);
                running.booked = booked;
            }
        }
        just_ended.drain(..book.ended_before_last_report.min(just_ended.len()));
        book.ended_before_last_report = just_ended.len();
        book.just_ended = just_ended;
        let on_their_way = self.find_missing(status.vm, &listed, outputs);
        self.books.clear_idle(slot);
        for warm in &status.warm {
            // What the VM has not seen when it wrote this will take one of these.
            let taken = on_their_way.get(&warm.function).copied().unwrap_or(0);
            self.books.put_idle(warm.function, warm.revision, slot, warm.idle.saturating_sub(taken));
        }
    }

    /// Attempts of ours that the report does not list: on their way there, over and on their way back, or lost.
    /// Returns those on their way there, by function.
    fn find_missing(
        &mut self,
        vm: VmId,
        listed: &BTreeMap<InvocationId, Attempt>,
        outputs: &mut Vec<Output>,
    ) -> BTreeMap<FunctionId, u32> {
        let mut on_their_way = BTreeMap::new();
        let mut lost = Vec::new();
        for &id in self.vms[&vm].open.keys() {
            let Some(open) = self.open.get_mut(&id) else { continue };
            let Some(running) = &mut open.running else { continue };
            if listed.get(&id) == Some(&open.attempt) {
                (running.listed, running.missing, running.seen) = (true, 0, self.now);
                continue;
            }
            running.missing += 1;
            if running.missing >= self.settings.lost_reports.max(1)
                && self.now.since(running.seen) >= self.settings.lost_after
            {
                lost.push((open.since, id, open.attempt));
            } else if !running.listed {
                *on_their_way.entry(open.submission.function.id).or_insert(0) += 1;
            }
        }
        // The order of the map must not decide who goes first: the oldest joins its queue's front last.
        lost.sort_unstable();
        for (_, id, attempt) in lost.into_iter().rev() {
            // If it is merely late, it must not begin now.
            outputs.push(Output::Cancel { vm, invocation: id, attempt });
            self.lose_attempt(id, outputs);
        }
        on_their_way
    }

    /// A VM will be evicted, or not after all.
    pub(super) fn vm_noticed(&mut self, vm: VmId, deadline: Option<Moment>, outputs: &mut Vec<Output>) {
        let Some(book) = self.vms.get_mut(&vm) else {
            self.notice_early(vm, deadline);
            return;
        };
        let is_news = book.notice.is_none() && deadline.is_some();
        book.notice = deadline;
        self.offer_or_withdraw(vm);
        if is_news {
            self.prewarm_elsewhere(vm, outputs);
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

    /// The functions that are most at home on a VM that will go get sandboxes where they will go next.
    fn prewarm_elsewhere(&mut self, vm: VmId, outputs: &mut Vec<Output>) {
        let mut here: BTreeMap<FunctionId, u32> = BTreeMap::new();
        let book = &self.vms[&vm];
        for id in book.open.keys() {
            if let Some(open) = self.open.get(id) {
                *here.entry(open.submission.function.id).or_insert(0) += 1;
            }
        }
        for function in self.books.functions_idle_at(book.slot) {
            here.entry(function).or_insert(0);
        }
        let mut ranked: Vec<_> = here
            .into_iter()
            .filter_map(|(id, running)| {
                let function = self.functions.get(&id)?;
                let used = (running, function.profile.rate_milli_hz(self.now));
                Some((std::cmp::Reverse(used), id, function.card?, running))
            })
            .collect();
        ranked.sort_unstable_by_key(|&(used, id, ..)| (used, id));
        for (_, id, card, running) in ranked.into_iter().take(self.settings.prewarm_functions as usize) {
            let ask =
                Ask { function: id, revision: card.revision, demand: card.reservation, concurrency_milli: 0 };
            let Some(slot) = self.placement.next_home(&self.books, &ask) else { continue };
            let next = self.books.vm(slot);
            let idle_there = self.books.idle(id, card.revision, slot);
            let runs_there = self.vms[&next]
                .open
                .keys()
                .filter(|other| self.open.get(other).is_some_and(|o| o.submission.function.id == id))
                .count() as u32;
            let count = idle_there + runs_there + running.max(1);
            outputs.push(Output::Prewarm { vm: next, function: card, count });
        }
    }

    /// Gives up every VM that has been silent for too long.
    pub(super) fn give_up_silent_vms(&mut self, outputs: &mut Vec<Output>) {
        while let Some(&(silent_at, vm)) = self.silences.first()
            && silent_at <= self.now
            && self.overslept <= self.now
        {
            self.lose_vm(vm, VmGone::Silent, outputs);
        }
    }

    /// A VM is gone, with everything on it.
    pub(super) fn lose_vm(&mut self, vm: VmId, why: VmGone, outputs: &mut Vec<Output>) {
        let Some(book) = self.vms.get(&vm) else { return };
        let (slot, silent_at) = (book.slot, book.silent_at);
        self.silences.remove(&(silent_at, vm));
        let mut open: Vec<_> =
            book.open.keys().filter_map(|id| Some((self.open.get(id)?.submitted, *id))).collect();
        open.sort_unstable();
        outputs.push(Output::VmGone { vm, why, open_attempts: open.len() as u32 });
        if self.books.takes_work(slot) {
            self.books.set_takes_work(slot, false);
            self.placement.withdraw(slot);
        }
        self.placement.gone(slot);
        // The oldest joins its queue's front last.
        for (_, id) in open.into_iter().rev() {
            self.lose_attempt(id, outputs);
        }
        let gone = self.vms.remove(&vm).expect("it was found above");
        for (id, attempt) in gone.foreign.into_keys() {
            self.foreign.remove(&(id, attempt, vm));
        }
        self.books.remove(slot);
    }

    /// A sandbox has become idle there.
    pub(super) fn sandbox_is_idle(&mut self, vm: VmId, ending: &Ending) {
        if let Some(book) = self.vms.get(&vm) {
            self.books.put_idle(ending.function, ending.revision, book.slot, 1);
        }
    }

    /// The newest attempt of it that runs somewhere and is not ours.
    pub(super) fn foreign_attempt(&self, id: InvocationId) -> Option<(Attempt, VmId)> {
        let all = (id, Attempt(0), VmId(0))..=(id, Attempt(u32::MAX), VmId(u64::MAX));
        self.foreign.range(all).next_back().map(|&(_, attempt, vm)| (attempt, vm))
    }

    /// What it has booked is no longer counted as another's.
    pub(super) fn take_foreign(&mut self, vm: VmId, id: InvocationId, attempt: Attempt) -> Option<Resources> {
        let book = self.vms.get_mut(&vm)?;
        let booked = book.foreign.remove(&(id, attempt))?;
        self.foreign.remove(&(id, attempt, vm));
        self.books.set_foreign(book.slot, book.foreign.values().copied().sum());
        Some(booked)
    }
}
