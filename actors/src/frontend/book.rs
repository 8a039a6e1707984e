//! The book of open calls.
//!
//! **Knows:** every call that has been taken and not answered, and where it was sent.
//! **Promises:** a call leaves the book once.
//! **Gives up:** nothing by itself; what is overdue is named, and the Frontend ends it.

use std::collections::HashMap;
use std::sync::Arc;

use messages::{Fence, Submit};
use vocabulary::{Attempt, ControllerId, InvocationId, Moment, Span};

use super::Waiter;
use super::desk::Place;
use crate::store::FunctionDefinition;
use crate::telemetry::ActiveSpan;

/// An open call is asked after when nothing was heard of it for this long: its answer may be lost.
const ASK_AFTER: Span = Span::seconds(5);
/// A durable delivery is confirmed to JetStream this often, well within its `ack_wait`.
const CONFIRM_EVERY: Span = Span::seconds(10);
/// Without a Controller a call that nobody has been asked to run is given up after this long.
const WITHOUT_CONTROLLER: Span = Span::seconds(10);
/// What an overdue call is allowed beyond its patience and its time limits.
const SLACK: Span = Span::seconds(15);
/// Attempts that one submission may use up before the next submission's first: more than `attempts_limit` allows.
const ATTEMPTS_PER_SUBMISSION: u32 = 1_000;

/// One open call.
pub(super) struct Open {
    /// As it was sent, to be sent again.
    pub submit: Submit,
    /// What it is that shall run.
    pub definition: Arc<FunctionDefinition>,
    /// Who waits.
    pub waiter: Waiter,
    /// Who was asked to have it run; none while no Controller is known.
    pub controller: Option<ControllerId>,
    /// Whether some Controller was asked.
    pub routed: bool,
    /// Answers of attempts before this one are void...
    pub oldest_valid: Attempt,
    /// ...except of this one, whose VM has been given notice.
    pub also_valid: Option<Attempt>,
    /// When it was taken.
    pub since: Moment,
    /// When it was last submitted or asked after.
    pub checked: Moment,
    /// When JetStream was last told that it goes on.
    pub confirmed: Moment,
    /// After this it is given up.
    pub due: Moment,
    /// Its trace.
    pub span: Option<ActiveSpan>,
    _place: Place,
}

impl Open {
    pub(super) fn new(
        submit: Submit,
        definition: Arc<FunctionDefinition>,
        waiter: Waiter,
        place: Place,
        span: Option<ActiveSpan>,
        now: Moment,
        patience: Span,
    ) -> Self {
        // Initialisation and run may each take the whole limit.
        let due = if submit.durable {
            Moment::NEVER
        } else {
            now + patience + submit.function.timeout.scaled(2, 1) + SLACK
        };
        Self {
            definition,
            waiter,
            controller: None,
            routed: false,
            oldest_valid: submit.first_attempt,
            also_valid: None,
            since: now,
            checked: now,
            confirmed: now,
            due,
            span,
            submit,
            _place: place,
        }
    }

    /// Hears which answers count from now on. One that is older than what was heard last is not listened to.
    pub(super) fn fence(&mut self, fence: Fence) {
        if fence.oldest_valid >= self.oldest_valid {
            (self.oldest_valid, self.also_valid) = (fence.oldest_valid, fence.also);
        }
    }

    /// Whether an answer of this attempt counts.
    pub(super) fn counts(&self, attempt: Attempt) -> bool {
        attempt >= self.oldest_valid || self.also_valid == Some(attempt)
    }

    /// Whether a Controller may have heard of it, be it from another Frontend.
    pub(super) fn was_submitted(&self) -> bool {
        self.routed || matches!(&self.waiter, Waiter::Durable(waiter) if waiter.redelivered)
    }

    /// Prepares a submission to another Controller. What the lost one has sent out may still be running, and the new
    /// one takes it over if a VM says so; only what was fenced off must not count again.
    pub(super) fn submit_elsewhere(&mut self) {
        self.submit.first_attempt = self.submit.first_attempt.max(self.oldest_valid);
    }

    /// Prepares another submission of what its Controller has forgotten and the records do not know: its attempts must
    /// be ones that no Invoker can take for those it has seen.
    pub(super) fn submit_again(&mut self) {
        let used = self.submit.first_attempt.0 / ATTEMPTS_PER_SUBMISSION;
        self.submit.first_attempt = Attempt((used + 1) * ATTEMPTS_PER_SUBMISSION + 1);
    }
}

/// All open calls of one Frontend.
#[derive(Default)]
pub(super) struct Book {
    open: HashMap<InvocationId, Open>,
}

impl Book {
    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    pub(super) fn insert(&mut self, invocation: InvocationId, open: Open) {
        self.open.insert(invocation, open);
    }

    pub(super) fn get_mut(&mut self, invocation: InvocationId) -> Option<&mut Open> {
        self.open.get_mut(&invocation)
    }

    /// Takes all out.
    pub(super) fn take_all(&mut self) -> Vec<Open> {
        std::mem::take(&mut self.open).into_values().collect()
    }

    /// Takes a call out, if `condition` holds.
    pub(super) fn take_if(&mut self, invocation: InvocationId, condition: bool) -> Option<Open> {
        condition.then(|| self.open.remove(&invocation)).flatten()
    }

    /// Calls whose Controller is unknown or not alive, oldest first.
    pub(super) fn orphans(&self, is_alive: impl Fn(ControllerId) -> bool) -> Vec<InvocationId> {
        self.those(|open| !open.controller.is_some_and(&is_alive))
    }

    /// Calls that have been waited for longer than anything they may wait for.
    pub(super) fn overdue(&self, now: Moment) -> Vec<InvocationId> {
        self.those(|open| {
            let nobody_asked = !open.routed && !open.submit.durable;
            open.due <= now || (nobody_asked && now.since(open.since) >= WITHOUT_CONTROLLER)
        })
    }

    /// Calls that should be asked after, by Controller; notes that they have been.
    pub(super) fn take_silent(&mut self, now: Moment) -> HashMap<ControllerId, Vec<InvocationId>> {
        let mut asked: HashMap<_, Vec<_>> = HashMap::new();
        for (invocation, open) in &mut self.open {
            if let Some(controller) = open.controller
                && now.since(open.checked) >= ASK_AFTER
            {
                open.checked = now;
                asked.entry(controller).or_default().push(*invocation);
            }
        }
        asked
    }

    /// Durable calls of which JetStream should hear that they go on; notes that it has.
    pub(super) fn durable_unconfirmed(&mut self, now: Moment) -> Vec<&Open> {
        let mut due = Vec::new();
        for open in self.open.values_mut() {
            if open.submit.durable && now.since(open.confirmed) >= CONFIRM_EVERY {
                open.confirmed = now;
                due.push(&*open);
            }
        }
        due
    }

    fn those(&self, condition: impl Fn(&Open) -> bool) -> Vec<InvocationId> {
        let mut found: Vec<_> =
            self.open.iter().filter(|(_, open)| condition(open)).map(|(invocation, _)| *invocation).collect();
        found.sort_unstable();
        found
    }
}
