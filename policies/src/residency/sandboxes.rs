//! What lives on this VM.
//!
//! **Knows:** each sandbox: whose, of which build, how large, and what it does.
//! **Promises:** what is booked and held is the sum over all sandboxes, kept up at every change.
//! **Gives up:** deciding. It finds; the machine chooses.

use std::collections::{BTreeMap, BTreeSet};

use vocabulary::{
    Attempt, FunctionCard, FunctionId, InvocationId, Mebibytes, Moment, Resources, Revision, WarmOnVm,
};

use super::SandboxId;
use crate::keep_alive::Rest;

/// What a sandbox does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Doing {
    /// It is being made; for this run, or for whoever comes.
    Making(Option<(InvocationId, Attempt)>),
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
}

/// All sandboxes of this VM.
#[derive(Debug, Default)]
pub(super) struct Sandboxes {
    all: BTreeMap<SandboxId, Sandbox>,
    /// Idle ones by build, then since when.
    idle: BTreeSet<(FunctionId, Revision, Moment, SandboxId)>,
    /// The same by worth, then age.
    idle_by_worth: BTreeSet<(u64, Moment, SandboxId)>,
    /// The same by when they end.
    idle_by_end: BTreeSet<(Moment, SandboxId)>,
    /// How many each function has, idle or not.
    per_function: BTreeMap<FunctionId, u32>,
    /// The newest build seen of each function that has or had a sandbox here.
    newest: BTreeMap<FunctionId, Revision>,
    last_id: u64,
    booked: Resources,
    /// In MiB; wide enough for any number of absurd ceilings.
    held: u64,
    held_idle: u64,
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
        self.booked
    }

    /// Memory in MiB that nobody else may have.
    pub fn held(&self) -> u64 {
        self.held
    }

    /// The part of it that stopping all idle ones would free.
    pub fn held_idle(&self) -> u64 {
        self.held_idle
    }

    /// Being made, idle, running.
    pub fn counts(&self) -> [u32; 3] {
        let mut counts = [0; 3];
        for sandbox in self.all.values() {
            counts[match sandbox.doing {
                Doing::Making(_) => 0,
                Doing::Idle(_) => 1,
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
            Doing::Making(None) | Doing::Idle(_) => None,
        }
    }

    /// Whether no newer build of the function has been seen; remembers this one.
    pub fn is_newest(&mut self, function: FunctionId, revision: Revision) -> bool {
        if self.newest.len() >= NEWEST_LIMIT && !self.newest.contains_key(&function) {
            let living: BTreeSet<FunctionId> = self.all.values().map(|sandbox| sandbox.function.id).collect();
            self.newest.retain(|function, _| living.contains(function));
        }
        let newest = self.newest.entry(function).or_insert(revision);
        *newest = revision.max(*newest);
        *newest == revision
    }

    /// Whether a newer build has been seen.
    pub fn is_outdated(&self, function: &FunctionCard) -> bool {
        self.newest.get(&function.id).is_some_and(|&newest| newest > function.revision)
    }

    /// The idle one of this build that was used last: the others may grow old and go.
    pub fn last_used(&self, function: FunctionId, revision: Revision) -> Option<SandboxId> {
        let build = (function, revision, Moment::ORIGIN, SandboxId(0))
            ..=(function, revision, Moment::NEVER, SandboxId(u64::MAX));
        self.idle.range(build).next_back().map(|&(.., id)| id)
    }

    /// The idle one that is worth least, but not this one.
    pub fn least_worth(&self, sparing: Option<SandboxId>) -> Option<SandboxId> {
        self.idle_by_worth.iter().map(|&(.., id)| id).find(|&id| Some(id) != sparing)
    }

    /// The idle one that ends next, and when.
    pub fn next_end(&self) -> Option<(Moment, SandboxId)> {
        self.idle_by_end.first().copied()
    }

    /// Whether the function has any sandbox here.
    pub fn has_any(&self, function: FunctionId) -> bool {
        self.per_function.contains_key(&function)
    }

    /// Idle ones of older builds of a function.
    pub fn outdated(&self, function: FunctionId, newest: Revision) -> Vec<SandboxId> {
        let older = (function, Revision(0), Moment::ORIGIN, SandboxId(0))
            ..(function, newest, Moment::ORIGIN, SandboxId(0));
        self.idle.range(older).map(|&(.., id)| id).collect()
    }

    /// Sandboxes of this build that can serve, now or later.
    pub fn count(&self, function: &FunctionCard) -> u32 {
        self.all.values().filter(|sandbox| sandbox.serves_build(function)).count() as u32
    }

    /// Sandboxes that are being made, oldest first.
    pub fn making(&self) -> impl DoubleEndedIterator<Item = (SandboxId, &Sandbox)> {
        self.all
            .iter()
            .filter(|(_, sandbox)| matches!(sandbox.doing, Doing::Making(_)))
            .map(|(&id, sandbox)| (id, sandbox))
    }

    /// What is idle, by build; appended.
    pub fn list_warm(&self, warm: &mut Vec<WarmOnVm>) {
        for &(function, revision, ..) in &self.idle {
            match warm.last_mut() {
                Some(last) if (last.function, last.revision) == (function, revision) => last.idle += 1,
                _ => warm.push(WarmOnVm { function, revision, idle: 1 }),
            }
        }
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
        self.booked -= sandbox.booked;
        self.held -= u64::from(sandbox.held.0);
        if let Doing::Idle(since) = sandbox.doing {
            self.held_idle -= u64::from(sandbox.held.0);
            self.idle.remove(&(sandbox.function.id, sandbox.function.revision, since, id));
            self.idle_by_worth.remove(&(sandbox.rest.worth, since, id));
            self.idle_by_end.remove(&(sandbox.rest.until, id));
        }
        if let Some(count) = self.per_function.get_mut(&sandbox.function.id) {
            *count -= 1;
            if *count == 0 {
                self.per_function.remove(&sandbox.function.id);
            }
        }
        Some(sandbox)
    }

    /// Changes one; unknown ones are left alone.
    pub fn change(&mut self, id: SandboxId, change: impl FnOnce(&mut Sandbox)) {
        if let Some(mut sandbox) = self.remove(id) {
            change(&mut sandbox);
            self.put(id, sandbox);
        }
    }

    fn put(&mut self, id: SandboxId, sandbox: Sandbox) {
        self.booked += sandbox.booked;
        self.held += u64::from(sandbox.held.0);
        if let Doing::Idle(since) = sandbox.doing {
            self.held_idle += u64::from(sandbox.held.0);
            self.idle.insert((sandbox.function.id, sandbox.function.revision, since, id));
            self.idle_by_worth.insert((sandbox.rest.worth, since, id));
            self.idle_by_end.insert((sandbox.rest.until, id));
        }
        *self.per_function.entry(sandbox.function.id).or_insert(0) += 1;
        self.all.insert(id, sandbox);
    }
}
