//! What waits here for room.
//!
//! **Knows:** each run that was taken and has not begun, in the order in which they came; each invocation stands here once.
//! **Promises:** who is here, and what all of them ask for, is told without looking at them: the released invokers of SOSP'21 take
//! whatever they are sent, and then tens of thousands wait.
//! **Gives up:** speed where one leaves from the middle, which is rare: it was called off, or a newer attempt of it has come.

use std::collections::VecDeque;

use vocabulary::{Attempt, InvocationId, Mebibytes, MilliCores, Resources};

use super::runs::Run;
use crate::hash::Map;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    runs: VecDeque<Run>,
    attempts: Map<InvocationId, Attempt>,
    /// In thousandths of a core and in MiB; wide enough for any number of absurd bookings.
    cpu: u64,
    memory: u64,
}

impl Waiting {
    pub fn len(&self) -> usize {
        self.runs.len()
    }

    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// From the one that came first.
    pub fn iter(&self) -> impl Iterator<Item = &Run> {
        self.runs.iter()
    }

    pub fn front(&self) -> Option<&Run> {
        self.runs.front()
    }

    /// Which attempt of it waits.
    pub fn attempt(&self, invocation: InvocationId) -> Option<Attempt> {
        self.attempts.get(&invocation).copied()
    }

    /// What all of them ask for.
    pub fn asks_for(&self) -> Resources {
        let narrow = |sum: u64| u32::try_from(sum).unwrap_or(u32::MAX);
        Resources { cpu: MilliCores(narrow(self.cpu)), memory: Mebibytes(narrow(self.memory)) }
    }

    /// Behind all others; no other attempt of it may wait.
    pub fn push_back(&mut self, run: Run) {
        let other = self.attempts.insert(run.invocation, run.attempt);
        debug_assert!(other.is_none(), "two attempts of one invocation wait on one VM");
        self.cpu += u64::from(run.grant.booked.cpu.0);
        self.memory += u64::from(run.grant.booked.memory.0);
        self.runs.push_back(run);
    }

    pub fn pop_front(&mut self) -> Option<Run> {
        let run = self.runs.pop_front()?;
        self.left(&run);
        Some(run)
    }

    pub fn pop_back(&mut self) -> Option<Run> {
        let run = self.runs.pop_back()?;
        self.left(&run);
        Some(run)
    }

    /// Takes one out, wherever it stands.
    pub fn remove(&mut self, invocation: InvocationId) -> Option<Run> {
        self.attempt(invocation)?;
        let at = self.runs.iter().position(|run| run.invocation == invocation)?;
        let run = self.runs.remove(at)?;
        self.left(&run);
        Some(run)
    }

    fn left(&mut self, run: &Run) {
        self.attempts.remove(&run.invocation);
        self.cpu -= u64::from(run.grant.booked.cpu.0);
        self.memory -= u64::from(run.grant.booked.memory.0);
    }
}
