//! What a Controller holds for invocations that have not ended: enough to send them out again.

use std::collections::HashMap;

use messages::Submit;
use vocabulary::{InvocationId, Resources};

/// Submissions by invocation, bounded in bytes. (Their number is bounded by the mind's queues and the VMs' capacity.)
pub(super) struct Held {
    submissions: HashMap<InvocationId, Submit>,
    bytes: usize,
    bytes_limit: usize,
    reserved: Resources,
}

impl Held {
    pub(super) fn new(limit_mib: usize) -> Self {
        Self {
            submissions: HashMap::new(),
            bytes: 0,
            bytes_limit: limit_mib << 20,
            reserved: Resources::ZERO,
        }
    }

    pub(super) fn has_room(&self, submit: &Submit) -> bool {
        self.bytes + submit.payload.0.len() <= self.bytes_limit
    }

    pub(super) fn insert(&mut self, submit: Submit) {
        self.bytes += submit.payload.0.len();
        self.reserved += submit.function.reservation;
        self.submissions.insert(submit.invocation, submit);
    }

    pub(super) fn remove(&mut self, invocation: InvocationId) -> Option<Submit> {
        let submit = self.submissions.remove(&invocation)?;
        self.bytes -= submit.payload.0.len();
        self.reserved -= submit.function.reservation;
        Some(submit)
    }

    pub(super) fn get_mut(&mut self, invocation: InvocationId) -> Option<&mut Submit> {
        self.submissions.get_mut(&invocation)
    }

    pub(super) fn contains(&self, invocation: InvocationId) -> bool {
        self.submissions.contains_key(&invocation)
    }

    pub(super) fn len(&self) -> usize {
        self.submissions.len()
    }

    /// What the users of all these asked for.
    pub(super) fn reserved(&self) -> Resources {
        self.reserved
    }
}
