//! What another Controller has sent out, or we before a restart, and is ours now.
//!
//! **Knows:** attempts that VMs list and that are not ours.
//! **Promises:** one that still counts is not sent again, whether its invocation was submitted before its VM listed it or after; its VM is told
//! to whom its end is to be told, and says at once if it is not there any more.
//! **Gives up:** attempts that have begun since their VM's last report. A submission that does not find them is sent out, and if it
//! comes to another VM it runs there, too.

use vocabulary::{Attempt, InvocationId, VmId};

use super::open::{Open, Running};
use super::{Again, Dispatch, Output, Submission};
use crate::placement::Slot;

impl Dispatch {
    /// Takes over an attempt of what is submitted, if a VM lists one. One whose answer the Frontend would drop is called off instead.
    pub(super) fn adopt(&mut self, submission: Submission, outputs: &mut Vec<Output>) -> bool {
        let id = submission.invocation;
        let Some((attempt, vm)) = self.foreign_attempt(id) else { return false };
        if attempt < submission.first_attempt {
            outputs.push(Output::Cancel { vm, invocation: id, attempt });
            return false;
        }
        let Some(slot) = self.books.slot(vm) else { return false };
        let patience = self.patience(&submission);
        self.open.insert(id, Open::new(submission, self.now, patience));
        self.take_over(id, attempt, slot, outputs)
    }

    /// Takes over what a VM has just listed and what waits here, for this Controller to have heard of all VMs or for a place.
    pub(super) fn adopt_listed(
        &mut self,
        slot: Slot,
        wanted: Vec<(InvocationId, Attempt)>,
        outputs: &mut Vec<Output>,
    ) {
        for (id, attempt) in wanted {
            self.take_over(id, attempt, slot, outputs);
        }
    }

    /// Whether what waits should be taken over with this attempt of it, which a VM lists.
    pub(super) fn wants(open: &Open, attempt: Attempt) -> bool {
        let waits = open.running.is_none() && !open.withdrawn;
        waits && open.counts(attempt) && open.called_off != Some(attempt)
    }

    /// An attempt that a VM has and we have not sent there is ours from now on.
    fn take_over(
        &mut self,
        id: InvocationId,
        attempt: Attempt,
        slot: Slot,
        outputs: &mut Vec<Output>,
    ) -> bool {
        let vm = self.books.vm(slot);
        let booked = self.take_foreign(vm, id, attempt);
        let Some(open) = self.open.get_mut(&id) else { return false };
        // Until its VM has listed it, it has what any other would be given.
        let booked = booked.unwrap_or(open.submission.function.reservation);
        let (now, function) = (self.now, open.submission.function.id);
        // A report has listed it, or its VM has said so.
        let (warm, listed_by, missing) = (true, Some(self.reports), 0);
        let running = Running { attempt, vm, slot, booked, warm, sent: now, seen: now, listed_by, missing };
        match open.running.replace(running) {
            Some(newer) if newer.attempt > attempt => {
                open.running = Some(newer);
                open.older = Some(running);
            }
            other => open.older = other,
        }
        open.attempt = open.attempt.max(attempt);
        self.books.book_own(slot, booked);
        self.vms[slot].open.insert(id, attempt);
        self.in_flight += 1;
        self.function_mut(function).in_flight += 1;
        self.queues.leave(id);
        outputs.push(Output::Adopt { vm, invocation: id, attempt });
        true
    }

    /// A VM does not begin this attempt, or has not got it any more. What it has instead is taken over; else it goes again.
    pub(super) fn known_there(
        &mut self,
        vm: VmId,
        id: InvocationId,
        attempt: Attempt,
        newest: Attempt,
        runs: bool,
        outputs: &mut Vec<Output>,
    ) {
        let slot = self.books.slot(vm).filter(|_| self.is_live(vm, id, attempt));
        let (Some(slot), Some(open)) = (slot, self.open.get_mut(&id)) else {
            outputs.push(Output::Stale { invocation: id, attempt });
            return;
        };
        // What goes out after that must be newer than what is known there.
        open.attempt = open.attempt.max(newest);
        let lives_elsewhere = open.live().any(|other| other.attempt == newest);
        if runs && newest > attempt && open.counts(newest) && !lives_elsewhere {
            self.stop_running(id, attempt);
            self.take_over(id, newest, slot, outputs);
            return;
        }
        self.vms[slot].has_ended(id, attempt);
        self.lose_attempt(id, attempt, outputs);
        if self.open.contains_key(&id) {
            outputs.push(Output::Again { invocation: id, why: Again::Forgotten });
        }
    }

    /// When something was called off on a VM that may still list it.
    pub(super) fn note_called_off(&mut self, id: InvocationId, attempt: Attempt) {
        if let Some(open) = self.open.get_mut(&id) {
            open.called_off = Some(attempt);
        }
    }
}
