//! What lives on this VM.
//!
//! **Knows:** each sandbox: whose, of which build, how large, and what it does.
//! **Promises:** what is booked and held is the sum over all sandboxes, kept up at every change.
//! **Gives up:** deciding. It finds; the machine chooses.

use std::collections::BTreeSet;

use vocabulary::{
    Attempt, FunctionCard, FunctionId, InvocationId, Mebibytes, Moment, Resources, Revision, WarmOnVm,
};

use super::SandboxId;
use super::idle::{Build, Idle, Resting};
use crate::hash::Map;
use crate::keep_alive::Rest;
use crate::sorted::Sorted;

/// What a sandbox does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Doing {
    /// It is being made; for this run, or for whoever comes.
    Making(Option<(InvocationId, Attempt)>),
    /// Its run is over; in the same step it is given another, comes to rest, or is stopped.
    Resting,
    /// It waits since then.
    Idle(Moment),
    /// It runs this, wanted or not.
    Running(InvocationId, Attempt),
}

/// One sandbox.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sandbox {
    pub function: FunctionCard,
    pub doing: Doing,
    /// What it may use at most.
    pub ceiling: Resources,
    /// What its run has booked; nothing without one.
    pub booked: Resources,
    /// When it was begun to be made.
    pub begun: Moment,
    /// Whether it has not run anything yet.
    pub unused: bool,
    /// What becomes of it; true only while it is idle.
    pub rest: Rest,
    /// Memory that nobody else may have: what its run has booked or, while it is idle, all that it may use.
    pub held: Mebibytes,
}

impl Sandbox {
    /// Whether it is of the same build.
    pub fn serves_build(&self, function: &FunctionCard) -> bool {
        (self.function.id, self.function.revision) == (function.id, function.revision)
    }

    fn build(&self) -> Build {
        (self.function.id, self.function.revision)
    }
}

/// All sandboxes of this VM.
#[derive(Debug, Default)]
pub(super) struct Sandboxes {
    all: Map<SandboxId, Sandbox>,
    sums: Sums,
    /// How many each function has, idle or not.
    per_function: Map<FunctionId, u32>,
    /// The newest build seen of each function that has or had a sandbox here.
    newest: Map<FunctionId, Newest>,
    last_id: u64,
}

/// The newest build of a function.
#[derive(Debug)]
struct Newest {
    revision: Revision,
    /// Whether older ones may be idle still.
    is_new: bool,
}

/// What all sandboxes are together, kept up at every change of one.
#[derive(Debug, Default)]
struct Sums {
    booked: Resources,
    /// In MiB; wide enough for any number of absurd ceilings.
    held: u64,
    /// Those that are being made.
    making: Sorted<SandboxId>,
    idle: Idle,
}

/// Builds of functions without a sandbox that are remembered.
const NEWEST_LIMIT: usize = 16_384;

impl Sandboxes {
    pub fn len(&self) -> usize {
        self.all.len()
    }

    pub fn get(&self, id: SandboxId) -> Option<&Sandbox> {
        self.all.get(&id)
    }

    /// What runs have booked.
    pub fn booked(&self) -> Resources {
        self.sums.booked
    }

    /// Memory in MiB that nobody else may have.
    pub fn held(&self) -> u64 {
        self.sums.held
    }

    /// The part of it that stopping all idle ones would free.
    pub fn held_idle(&self) -> u64 {
        self.sums.idle.held()
    }

    /// Being made, idle, running.
    pub fn counts(&self) -> [u32; 3] {
        let mut counts = [0; 3];
        for sandbox in self.all.values() {
            counts[match sandbox.doing {
                Doing::Making(_) => 0,
                Doing::Idle(_) | Doing::Resting => 1,
                Doing::Running(..) => 2,
            }] += 1;
        }
        counts
    }

    /// What it runs or is being made for.
    pub fn serves(&self, id: SandboxId) -> Option<(InvocationId, Attempt)> {
        match self.all.get(&id)?.doing {
            Doing::Running(invocation, attempt) | Doing::Making(Some((invocation, attempt))) => {
                Some((invocation, attempt))
            }
            Doing::Making(None) | Doing::Idle(_) | Doing::Resting => None,
        }
    }

    /// Whether no newer build of the function has been seen; remembers this one.
    pub fn is_newest(&mut self, function: FunctionId, revision: Revision) -> bool {
        self.newest_with(function, revision).revision == revision
    }

    fn newest_with(&mut self, function: FunctionId, revision: Revision) -> &mut Newest {
        if self.newest.len() >= NEWEST_LIMIT && !self.newest.contains_key(&function) {
            let living: BTreeSet<FunctionId> = self.all.values().map(|sandbox| sandbox.function.id).collect();
            self.newest.retain(|function, _| living.contains(function));
        }
        let newest = self.newest.entry(function).or_insert(Newest { revision, is_new: false });
        if revision > newest.revision {
            *newest = Newest { revision, is_new: true };
        }
        newest
    }

    /// Whether a newer build has been seen.
    pub fn is_outdated(&self, function: &FunctionCard) -> bool {
        self.newest.get(&function.id).is_some_and(|newest| newest.revision > function.revision)
    }

    /// The idle one of this build that was used last: the others may grow old and go.
    pub fn last_used(&self, function: FunctionId, revision: Revision) -> Option<SandboxId> {
        self.sums.idle.last_used((function, revision))
    }

    /// The idle one that is worth least, of equals the longest idle, but not this one. O(idle ones).
    pub fn least_worth(&self, sparing: Option<SandboxId>) -> Option<SandboxId> {
        self.sums.idle.least_worth(sparing)
    }

    /// The idle one that ends next, and when.
    pub fn next_end(&self) -> Option<(Moment, SandboxId)> {
        self.sums.idle.next_end()
    }

    /// Whether the function has any sandbox here.
    pub fn has_any(&self, function: FunctionId) -> bool {
        self.per_function.contains_key(&function)
    }

    /// Idle ones of a function that are of older builds, if this is its newest; remembers it. Whatever comes to rest after that is of none.
    pub fn outdated_by(&mut self, function: FunctionId, newest: Revision) -> Vec<SandboxId> {
        let known = self.newest_with(function, newest);
        if known.revision > newest || !std::mem::take(&mut known.is_new) {
            return Vec::new();
        }
        self.sums.idle.older_than((function, newest))
    }

    /// Sandboxes of this build that can serve, now or later.
    pub fn count(&self, function: &FunctionCard) -> u32 {
        self.all.values().filter(|sandbox| sandbox.serves_build(function)).count() as u32
    }

    /// Sandboxes that are being made, oldest first.
    pub fn making(&self) -> impl DoubleEndedIterator<Item = (SandboxId, &Sandbox)> {
        self.sums.making.iter().filter_map(|&id| Some((id, self.all.get(&id)?)))
    }

    /// What is idle, by build; appended.
    pub fn list_warm(&self, warm: &mut Vec<WarmOnVm>) {
        self.sums.idle.list(warm);
    }

    /// One more, being made.
    pub fn make(
        &mut self,
        now: Moment,
        function: FunctionCard,
        ceiling: Resources,
        run: Option<(InvocationId, Attempt)>,
        booked: Resources,
    ) -> SandboxId {
        self.last_id += 1;
        let id = SandboxId(self.last_id);
        let held = if run.is_some() { booked.memory } else { ceiling.memory };
        let rest = Rest { until: Moment::NEVER, worth: 0 };
        self.put(
            id,
            Sandbox {
                function,
                doing: Doing::Making(run),
                ceiling,
                booked,
                begun: now,
                unused: true,
                rest,
                held,
            },
        );
        id
    }

    /// It is gone.
    pub fn remove(&mut self, id: SandboxId) -> Option<Sandbox> {
        let sandbox = self.all.remove(&id)?;
        self.sums.take(id, &sandbox);
        if let Some(count) = self.per_function.get_mut(&sandbox.function.id) {
            *count -= 1;
            if *count == 0 {
                self.per_function.remove(&sandbox.function.id);
            }
        }
        Some(sandbox)
    }

    /// Changes one, and says how it is then; unknown ones are left alone. Never its function.
    pub fn change(&mut self, id: SandboxId, change: impl FnOnce(&mut Sandbox)) -> Option<&Sandbox> {
        let sandbox = self.all.get_mut(&id)?;
        self.sums.take(id, sandbox);
        change(sandbox);
        self.sums.add(id, sandbox);
        Some(sandbox)
    }

    fn put(&mut self, id: SandboxId, sandbox: Sandbox) {
        *self.per_function.entry(sandbox.function.id).or_insert(0) += 1;
        self.sums.add(id, &sandbox);
        self.all.insert(id, sandbox);
    }
}

impl Sums {
    #[inline]
    fn add(&mut self, id: SandboxId, sandbox: &Sandbox) {
        self.booked += sandbox.booked;
        self.held += u64::from(sandbox.held.0);
        match sandbox.doing {
            Doing::Making(_) => self.making.insert(id),
            Doing::Idle(since) => {
                let resting = Resting { since, id, rest: sandbox.rest };
                self.idle.put(sandbox.build(), resting, sandbox.held);
            }
            Doing::Resting | Doing::Running(..) => {}
        }
    }

    #[inline]
    fn take(&mut self, id: SandboxId, sandbox: &Sandbox) {
        self.booked -= sandbox.booked;
        self.held -= u64::from(sandbox.held.0);
        match sandbox.doing {
            Doing::Making(_) => self.making.remove(&id),
            Doing::Idle(since) => {
                let resting = Resting { since, id, rest: sandbox.rest };
                self.idle.take(sandbox.build(), &resting, sandbox.held);
            }
            Doing::Resting | Doing::Running(..) => {}
        }
    }
}
