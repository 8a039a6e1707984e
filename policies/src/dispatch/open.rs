//! What is known of a function, of an invocation, and of its attempts.
//!
//! **Knows:** each open invocation: accepted and not ended; and what its Frontend was told about whose answers count.
//! **Promises:** what counts as an answer here is what counts as one there.
//! **Gives up:** nothing; what happens to them stands in `lifecycle`.

use std::collections::VecDeque;

use vocabulary::{Attempt, FunctionCard, Grant, InvocationId, MilliCores, Moment, Resources, Span, VmId};

use super::{Output, Submission};
use crate::placement::Slot;
use crate::profile::Profile;
use crate::reliability::Tails;

/// What is known of a function.
#[derive(Debug, Default)]
pub(super) struct Function {
    /// As it came with its newest submission or report.
    pub card: Option<FunctionCard>,
    pub profile: Profile,
    /// How long its runs have taken, where it is not an application by itself; else that application's are its own.
    pub tails: Tails,
    /// Its attempts that were sent out.
    pub in_flight: u32,
    /// When those of them were sent for which a sandbox is probably still being made.
    pub making: VecDeque<Moment>,
    pub last_used: Moment,
    /// Between its last two calls.
    pub gap: Option<Span>,
    /// No other spare sandbox of it is made before.
    pub spare_until: Moment,
    /// Since when somebody has waited whom no VM could hold.
    pub unplaceable_since: Option<Moment>,
}

/// An invocation that was accepted and has not ended.
#[derive(Debug, Clone)]
pub(super) struct Open {
    pub submission: Submission,
    pub submitted: Moment,
    /// Since when it has waited, if it waits.
    pub since: Moment,
    /// Until when it may wait, and how long it may wait each time.
    pub patience: Moment,
    pub patience_for: Span,
    /// The last attempt that was sent out; before that, the one before the submission's first.
    pub attempt: Attempt,
    /// What the Frontend was told: answers of this attempt and later ones count...
    pub oldest_valid: Attempt,
    /// ...and of this one, which still runs on a VM that has been given notice.
    pub also_valid: Option<Attempt>,
    /// Its VM was told to forget this one: if it lists it all the same, that will end.
    pub called_off: Option<Attempt>,
    /// How many of its attempts were lost.
    pub losses: u32,
    /// How long one of them had run at least, or one that should not end in time.
    pub ran: Span,
    /// Nobody wants its answer any more.
    pub withdrawn: bool,
    /// Since when it has waited for a sandbox of its function although another could have been made.
    pub declined: Option<Moment>,
    /// Decided when it is first tried to be placed, and again after a loss.
    pub grant: Option<Grant>,
    /// Since when its reservation would have fitted somewhere, while it waits for a place that has more for it.
    pub fitted: Option<Moment>,
    /// It has settled for its reservation, and takes up to so much where there is as much when it goes; zero: it has not.
    pub hoped: MilliCores,
    /// It was killed for want of memory: nothing is taken from it again.
    pub starved: bool,
    /// The newest attempt that lives; `None`: it waits.
    pub running: Option<Running>,
    /// The one before it, on a VM that must go.
    pub older: Option<Running>,
}

impl Open {
    /// One that has not been sent out.
    pub fn new(submission: Submission, now: Moment, give_up_at: Moment) -> Self {
        Self {
            submission,
            submitted: now,
            since: now,
            patience: give_up_at,
            patience_for: give_up_at.since(now),
            attempt: Attempt(submission.first_attempt.0.saturating_sub(1)),
            oldest_valid: submission.first_attempt,
            also_valid: None,
            called_off: None,
            losses: 0,
            ran: Span::ZERO,
            withdrawn: false,
            declined: None,
            grant: None,
            fitted: None,
            hoped: MilliCores::ZERO,
            starved: false,
            running: None,
            older: None,
        }
    }

    /// It waits from now on, and what it gets is decided anew.
    pub fn waits_anew(&mut self, now: Moment) {
        self.since = now;
        (self.grant, self.fitted, self.hoped) = (None, None, MilliCores::ZERO);
    }

    /// Whether any attempt of this submission was sent out.
    pub fn was_sent(&self) -> bool {
        self.attempt >= self.submission.first_attempt
    }

    /// The last attempt that was sent out, or the first that would have been.
    pub fn last_attempt(&self) -> Attempt {
        self.attempt.max(self.submission.first_attempt)
    }

    /// Whether the Frontend takes an answer of this attempt.
    pub fn counts(&self, attempt: Attempt) -> bool {
        attempt >= self.oldest_valid || self.also_valid == Some(attempt)
    }

    /// Attempts that live, the older first.
    pub fn live(&self) -> impl Iterator<Item = &Running> {
        self.older.iter().chain(&self.running)
    }

    /// This attempt, if it lives on this VM.
    pub fn on(&self, vm: VmId, attempt: Attempt) -> Option<&Running> {
        self.live().find(|running| running.vm == vm && running.attempt == attempt)
    }

    /// The same, to change it.
    pub fn on_mut(&mut self, vm: VmId, attempt: Attempt) -> Option<&mut Running> {
        let all = self.older.iter_mut().chain(&mut self.running);
        all.into_iter().find(|running| running.vm == vm && running.attempt == attempt)
    }

    /// Takes an attempt out; the older one takes the place of the newest.
    pub fn take(&mut self, attempt: Attempt) -> Option<Running> {
        if self.running.is_some_and(|running| running.attempt == attempt) {
            let older = self.older.take();
            return std::mem::replace(&mut self.running, older);
        }
        self.older.take_if(|running| running.attempt == attempt)
    }

    /// Tells the Frontend whose answers count, if that has changed.
    pub fn tell_fence(&mut self, id: InvocationId, outputs: &mut Vec<Output>) {
        if self.fence() {
            let (oldest_valid, also) = (self.oldest_valid, self.also_valid);
            outputs.push(Output::Fence { invocation: id, oldest_valid, also });
        }
    }

    /// Decides anew whose answers count; says whether that has changed. While nothing of it lives, the last answer that
    /// counted would still be welcome.
    fn fence(&mut self) -> bool {
        let Some(newest) = self.running else { return false };
        let before = (self.oldest_valid, self.also_valid);
        if newest.attempt == self.attempt {
            self.oldest_valid = newest.attempt;
            self.also_valid = self.older.map(|older| older.attempt);
        } else {
            // The newest was lost, and the one before it has survived it.
            self.oldest_valid = self.attempt.next();
            self.also_valid = Some(newest.attempt);
        }
        before != (self.oldest_valid, self.also_valid)
    }
}

/// An attempt that was sent out and lives, as far as we know.
#[derive(Debug, Clone, Copy)]
pub(super) struct Running {
    pub attempt: Attempt,
    pub vm: VmId,
    pub slot: Slot,
    pub booked: Resources,
    pub warm: bool,
    pub sent: Moment,
    /// When it was sent, or last listed in a report.
    pub seen: Moment,
    /// The number of the last report that has listed it.
    pub listed_by: Option<u64>,
    /// Reports in a row that did not list it.
    pub missing: u32,
}
