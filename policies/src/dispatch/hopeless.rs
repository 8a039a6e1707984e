//! Waiting without any VM: who waits and has not begun hears so in time, and may try again.
//!
//! **Knows:** since when no VM has taken work.
//! **Promises:** after the grace nobody is left to wait for its patience to end without a VM in sight, as nobody is taken
//! then either; what is durable waits, and what has run in part ends as its function allows.

use vocabulary::{InvocationId, Moment};

use super::{Dispatch, Output, Refusal};

impl Dispatch {
    /// Refuses all who wait, have never been sent and are not durable, once per time without VMs.
    pub(super) fn refuse_without_vms(&mut self, outputs: &mut Vec<Output>) {
        let Some(from) = self.hopeless_from() else { return };
        if self.now < from {
            return;
        }
        self.hopeless_told = true;
        let open = &self.open;
        let refusable =
            |id: &InvocationId| open.get(id).is_some_and(|open| !open.submission.durable && !open.was_sent());
        let hopeless: Vec<_> = self.queues.oldest().map(|(_, id)| id).filter(refusable).collect();
        for id in hopeless {
            self.queues.leave(id);
            self.open.remove(&id);
            outputs.push(Output::Refuse { invocation: id, why: Refusal::NoVm });
        }
    }

    /// When those who wait now lose hope; `None` while there are VMs, nobody waits, or they have been told.
    pub(super) fn hopeless_from(&self) -> Option<Moment> {
        let settled = self.settled?;
        let waits = !self.hopeless_told && !self.queues.is_empty() && self.books.open() == 0;
        waits.then(|| settled.max(self.last_open + self.settings.no_vm_grace))
    }
}
