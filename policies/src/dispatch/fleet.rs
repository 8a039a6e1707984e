//! VMs that report, get notice, or are lost.
//!
//! **Knows:** what each VM last said of itself, and what we sent there.
//! **Promises:** a report never takes away what is on its way to the VM, nor counts twice what is on its way back.
//! **Gives up:** exactness between two reports where VMs also work for others.

use std::collections::BTreeMap;

use vocabulary::{
    Attempt, FunctionId, InvocationId, Moment, Resources, Span, VmId, VmKind, VmStanding, VmStatus,
};

use super::shrinks::Shrinks;
use super::{Again, Dispatch, Output, VmGone};
use crate::placement::Slot;
use crate::row::Row;

/// Endings that are remembered between two reports of one VM.
const JUST_ENDED_LIMIT: usize = 1_024;

/// A VM that reports.
#[derive(Debug)]
pub(super) struct Vm {
    pub kind: VmKind,
    pub standing: VmStanding,
    /// When it will be evicted.
    pub notice: Option<Moment>,
    pub silent_at: Moment,
    /// How old it was when.
    pub age: (Moment, Span),
    /// Up to which age it is counted in the rate of evictions, and at which it was evicted.
    pub watched: Span,
    pub evicted_at: Option<Span>,
    /// How its size has changed.
    pub shrinks: Shrinks,
    /// Our attempts there.
    pub open: Row<InvocationId, Attempt>,
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
    /// How old it is.
    pub fn age_at(&self, now: Moment) -> Span {
        self.age.1 + now.since(self.age.0)
    }

    /// A run of ours has ended there.
    pub fn ended_at(&mut self, now: Moment) {
        if let Some(last) = self.ended.replace(now) {
            let gap = now.since(last);
            // The last eight or so.
            self.pace = Some(self.pace.map_or(gap, |pace| Span((pace.0 * 7 + gap.0) / 8)));
        }
    }

    fn forget_endings_before_the_last_report(&mut self) {
        let old = self.ended_before_last_report.min(self.just_ended.len());
        if old > 0 {
            self.just_ended.drain(..old);
        }
        self.ended_before_last_report = self.just_ended.len();
    }

    pub fn has_ended(&mut self, id: InvocationId, attempt: Attempt) {
        if self.just_ended.len() < JUST_ENDED_LIMIT {
            self.just_ended.push((id, attempt));
        }
    }
}

impl Dispatch {
    /// A VM described itself.
    pub(super) fn vm_reported(&mut self, status: &VmStatus, outputs: &mut Vec<Output>) -> Slot {
        let slot = self.known_slot(status);
        self.books.set_capacity(slot, status.capacity);
        let book = &self.vms[slot];
        let stood_open = book.standing == VmStanding::Open && book.notice.is_none();
        if stood_open && status.standing == VmStanding::Draining {
            // The way of a notice, without a deadline. This report does not list as idle any more what was.
            self.placement.withdraw(slot);
            self.books.set_takes_work(slot, false);
            self.prewarm_elsewhere(slot, outputs);
        }
        let book = &mut self.vms[slot];
        book.shrinks.see(self.now, status.capacity.cpu);
        book.standing = status.standing;
        book.silent_at = self.now + self.settings.vm_silence;
        self.silences.push_back((book.silent_at, slot));
        self.forget_broken_silences();
        self.books.set_refusing(slot, false);
        self.reconcile(status, slot, outputs);
        self.offer_or_withdraw(slot);
        self.rerun_what_will_not_end(slot, outputs);
        self.look_at_evictions();
        slot
    }

    /// Silences are in order, because each is as long as any other. Those that a later report broke are in the way only
    /// at the front.
    fn forget_broken_silences(&mut self) {
        while let Some(&(silent_at, slot)) = self.silences.front()
            && self.vms.get(slot).is_none_or(|book| book.silent_at != silent_at)
        {
            self.silences.pop_front();
        }
    }

    fn known_slot(&mut self, status: &VmStatus) -> Slot {
        if let Some(slot) = self.books.slot(status.vm) {
            return slot;
        }
        let slot = self.books.add(status.vm, status.kind, status.capacity);
        self.vms.put(
            slot,
            Vm {
                kind: status.kind,
                standing: status.standing,
                age: (self.now, Span::ZERO),
                watched: Span::ZERO,
                evicted_at: None,
                notice: self.early_notices.remove(&status.vm),
                silent_at: Moment::ORIGIN,
                shrinks: Shrinks::default(),
                open: Row::default(),
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
    pub(super) fn offer_or_withdraw(&mut self, slot: Slot) {
        let book = &self.vms[slot];
        let takes_work = book.standing == VmStanding::Open && book.notice.is_none();
        if takes_work {
            self.books.set_takes_work(slot, true);
            self.placement.offer(&self.books, slot);
            self.missing.came(self.books.kind(slot));
        } else if self.books.takes_work(slot) {
            self.books.set_takes_work(slot, false);
            self.placement.withdraw(slot);
        }
    }

    /// Brings our books in line with what the VM says, except for what has crossed the report on the way.
    fn reconcile(&mut self, status: &VmStatus, slot: Slot, outputs: &mut Vec<Output>) {
        let book = &mut self.vms[slot];
        if !book.foreign.is_empty() {
            for (id, attempt) in std::mem::take(&mut book.foreign).into_keys() {
                self.foreign.remove(&(id, attempt, status.vm));
            }
        }
        self.reports += 1;
        let (mut rebooked, mut wanted) = (Vec::new(), Vec::new());
        let mut ours_listed = 0;
        for running in &status.running {
            let (id, attempt) = (running.invocation, running.attempt);
            let mut ours = self.open.get_mut(&id);
            if let Some(known) = ours.as_deref_mut().and_then(|open| open.on_mut(status.vm, attempt)) {
                (known.listed_by, known.missing, known.seen) = (Some(self.reports), 0, self.now);
                ours_listed += 1;
                if known.booked != running.grant.booked {
                    rebooked.push((id, attempt, running.grant.booked));
                }
                continue;
            }
            if book.just_ended.contains(&(id, attempt)) {
                continue;
            }
            book.foreign.insert((id, attempt), running.grant.booked);
            self.foreign.insert((id, attempt, status.vm));
            match ours {
                // We have given it to another meanwhile; its answer would be dropped.
                Some(open) if !open.counts(attempt) => {
                    outputs.push(Output::Cancel { vm: status.vm, invocation: id, attempt });
                }
                Some(open) if Self::wants(open, attempt) => wanted.push((id, attempt)),
                _ => {}
            }
            let function = self.functions.entry(running.function.id).or_default();
            function.card = function.card.or(Some(running.function));
        }
        self.books.set_foreign(slot, book.foreign.values().copied().sum());
        for (id, attempt, booked) in rebooked {
            if let Some(running) = self.open.get_mut(&id).and_then(|open| open.on_mut(status.vm, attempt)) {
                // Its VM has given it back what it had lent.
                self.books.release_own(slot, running.booked);
                self.books.book_own(slot, booked);
                running.booked = booked;
            }
        }
        ours_listed += wanted.len();
        if !wanted.is_empty() {
            self.adopt_listed(slot, wanted, outputs);
        }
        let book = &mut self.vms[slot];
        book.forget_endings_before_the_last_report();
        // Nearly always all of ours that are there were listed, and what is idle is what was believed.
        let on_their_way = (ours_listed < book.open.len()).then(|| self.find_missing(slot, outputs));
        let on_their_way = on_their_way.filter(|on_their_way| !on_their_way.is_empty());
        if on_their_way.is_none() && self.books.shows_what_was_believed(slot, &status.warm) {
            return;
        }
        let shown = status.warm.iter().map(|warm| {
            // What the VM has not seen when it wrote this will take one of these.
            let taken =
                on_their_way.as_ref().and_then(|taken| taken.get(&warm.function)).copied().unwrap_or(0);
            (warm.function, warm.revision, warm.idle.saturating_sub(taken))
        });
        if status.warm.is_sorted_by_key(|warm| (warm.function, warm.revision)) {
            self.books.show_idle(slot, shown);
        } else {
            self.books.clear_idle(slot);
            shown
                .for_each(|(function, revision, count)| self.books.put_idle(function, revision, slot, count));
        }
    }

    /// Attempts of ours that this report does not list: on their way there, over and on their way back, or lost.
    /// Returns those on their way there, by function.
    fn find_missing(&mut self, slot: Slot, outputs: &mut Vec<Output>) -> BTreeMap<FunctionId, u32> {
        let vm = self.books.vm(slot);
        let mut on_their_way = BTreeMap::new();
        let mut lost = Vec::new();
        for (&id, &attempt) in self.vms[slot].open.iter() {
            let Some(open) = self.open.get_mut(&id) else { continue };
            let (submitted, function) = (open.submitted, open.submission.function.id);
            let Some(running) = open.on_mut(vm, attempt) else { continue };
            if running.listed_by == Some(self.reports) {
                continue;
            }
            running.missing += 1;
            if running.missing >= self.settings.lost_reports.max(1)
                && self.now.since(running.seen) >= self.settings.lost_after
            {
                lost.push((submitted, id, attempt));
            } else if running.listed_by.is_none() {
                *on_their_way.entry(function).or_insert(0) += 1;
            }
        }
        // The oldest joins its queue's front last.
        lost.sort_unstable();
        for (_, id, attempt) in lost.into_iter().rev() {
            // If it is merely late, it must not begin now.
            outputs.push(Output::Cancel { vm, invocation: id, attempt });
            self.lose_attempt(id, attempt, outputs);
            if self.open.contains_key(&id) {
                self.note_called_off(id, attempt);
                outputs.push(Output::Again { invocation: id, why: Again::Forgotten });
            }
        }
        on_their_way
    }

    /// Gives up every VM that has been silent for too long.
    pub(super) fn give_up_silent_vms(&mut self, outputs: &mut Vec<Output>) {
        while let Some(&(silent_at, slot)) = self.silences.front()
            && silent_at <= self.now
            && self.vigil.hears_from() <= self.now
        {
            self.silences.pop_front();
            if self.vms.get(slot).is_some_and(|book| book.silent_at == silent_at) {
                self.lose_vm(self.books.vm(slot), VmGone::Silent, outputs);
            }
        }
    }

    /// A VM is gone, with everything on it.
    pub(super) fn lose_vm(&mut self, vm: VmId, why: VmGone, outputs: &mut Vec<Output>) {
        self.note_eviction(vm);
        let Some(slot) = self.books.slot(vm) else { return };
        let here = self.vms[slot].open.iter();
        let mut open: Vec<_> =
            here.filter_map(|(&id, &attempt)| Some((self.open.get(&id)?.submitted, id, attempt))).collect();
        open.sort_unstable();
        outputs.push(Output::VmGone { vm, why, open_attempts: open.len() as u32 });
        if self.books.takes_work(slot) {
            self.books.set_takes_work(slot, false);
            self.placement.withdraw(slot);
        }
        self.placement.gone(slot);
        // The oldest joins its queue's front last.
        for (_, id, attempt) in open.into_iter().rev() {
            self.lose_attempt(id, attempt, outputs);
        }
        let gone = self.vms.take(slot).expect("it was found above");
        self.books.remove(slot);
        self.forget_broken_silences();
        for (id, attempt) in gone.foreign.into_keys() {
            self.foreign.remove(&(id, attempt, vm));
        }
    }

    /// The newest attempt of it that runs somewhere and is not ours.
    pub(super) fn foreign_attempt(&self, id: InvocationId) -> Option<(Attempt, VmId)> {
        let all = (id, Attempt(0), VmId(0))..=(id, Attempt(u32::MAX), VmId(u64::MAX));
        self.foreign.range(all).next_back().map(|&(_, attempt, vm)| (attempt, vm))
    }

    /// What it has booked is no longer counted as another's.
    pub(super) fn take_foreign(&mut self, vm: VmId, id: InvocationId, attempt: Attempt) -> Option<Resources> {
        if self.foreign.is_empty() {
            return None;
        }
        let slot = self.books.slot(vm)?;
        let book = &mut self.vms[slot];
        let booked = book.foreign.remove(&(id, attempt))?;
        self.foreign.remove(&(id, attempt, vm));
        self.books.set_foreign(slot, book.foreign.values().copied().sum());
        Some(booked)
    }
}
