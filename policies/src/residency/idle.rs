//! Which sandboxes of this VM are idle.
//!
//! **Knows:** each of them: of which build, since when, what becomes of it, and how much memory it holds.
//! **Promises:** the one of a build that was used last is found by one search among the builds, and so is the place of one that comes to
//! rest; what is told of all of them is kept up.
//! **Gives up:** a short way to the one that is worth least or ends next: all are looked at where memory is short, or where the one that
//! would have ended next is used.

use vocabulary::{FunctionId, Mebibytes, Moment, Revision, WarmOnVm};

use super::SandboxId;
use crate::keep_alive::Rest;
use crate::sorted::Sorted;

/// Of which function, and which of its builds.
pub(super) type Build = (FunctionId, Revision);

/// An idle sandbox, in the order in which they came to rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Resting {
    pub since: Moment,
    pub id: SandboxId,
    pub rest: Rest,
}

impl Resting {
    fn end(&self) -> (Moment, SandboxId) {
        (self.rest.until, self.id)
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Idle {
    /// In order. Where nothing is left of one, most likely something is in a moment.
    builds: Vec<(Build, Sorted<Resting>)>,
    /// In MiB; wide enough for any number of absurd ceilings.
    held: u64,
    next_end: Option<(Moment, SandboxId)>,
}

/// So many builds come before those are forgotten of which nothing is left.
const NEW_BUILDS: usize = 16;

impl Idle {
    /// Memory in MiB that all of them hold.
    pub fn held(&self) -> u64 {
        self.held
    }

    /// The one that ends next, and when.
    pub fn next_end(&self) -> Option<(Moment, SandboxId)> {
        self.next_end
    }

    /// The one of this build that was used last: the others may grow old and go.
    pub fn last_used(&self, build: Build) -> Option<SandboxId> {
        let place = self.place(build).ok()?;
        self.builds[place].1.last().map(|last| last.id)
    }

    /// The one that is worth least, of equals the longest idle, but not this one. O(all).
    pub fn least_worth(&self, sparing: Option<SandboxId>) -> Option<SandboxId> {
        let others = self.all().filter(|idle| Some(idle.id) != sparing);
        others.min_by_key(|idle| (idle.rest.worth, idle.since, idle.id)).map(|least| least.id)
    }

    /// Those of older builds of a function.
    pub fn older_than(&self, (function, newest): Build) -> Vec<SandboxId> {
        let from = self.builds.partition_point(|((of, _), _)| *of < function);
        let older = self.builds[from..].iter().take_while(|(build, _)| *build < (function, newest));
        older.flat_map(|(_, idle)| idle.iter()).map(|idle| idle.id).collect()
    }

    /// How many of each build; appended in order.
    pub fn list(&self, warm: &mut Vec<WarmOnVm>) {
        for &((function, revision), ref idle) in &self.builds {
            if !idle.is_empty() {
                warm.push(WarmOnVm { function, revision, idle: idle.len() as u32 });
            }
        }
    }

    /// One more.
    pub fn put(&mut self, build: Build, resting: Resting, held: Mebibytes) {
        self.held += u64::from(held.0);
        let end = resting.end();
        self.next_end = Some(self.next_end.map_or(end, |next| next.min(end)));
        let place = self.place(build).unwrap_or_else(|place| self.put_build(build, place));
        self.builds[place].1.insert(resting);
    }

    /// It is idle no more.
    pub fn take(&mut self, build: Build, resting: &Resting, held: Mebibytes) {
        self.held -= u64::from(held.0);
        if let Ok(place) = self.place(build) {
            self.builds[place].1.remove(resting);
        }
        if self.next_end == Some(resting.end()) {
            self.next_end = self.all().map(Resting::end).min();
        }
    }

    fn put_build(&mut self, build: Build, place: usize) -> usize {
        self.builds.insert(place, (build, Sorted::default()));
        if !self.builds.len().is_multiple_of(NEW_BUILDS) {
            return place;
        }
        let is_of_use = |(of, idle): &(Build, Sorted<Resting>)| *of == build || !idle.is_empty();
        self.builds.retain(is_of_use);
        self.builds.partition_point(|(of, _)| *of < build)
    }

    fn place(&self, build: Build) -> Result<usize, usize> {
        self.builds.binary_search_by_key(&build, |&(of, _)| of)
    }

    fn all(&self) -> impl Iterator<Item = &Resting> {
        self.builds.iter().flat_map(|(_, idle)| idle.iter())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn build(function: u64, revision: u64) -> Build {
        (FunctionId(function), Revision(revision))
    }

    fn resting(since: u64, id: u64) -> Resting {
        let rest = Rest { until: Moment(since + 100), worth: 0 };
        Resting { since: Moment(since), id: SandboxId(id), rest }
    }

    fn of(all: &[(Build, Resting)]) -> Idle {
        let mut idle = Idle::default();
        all.iter().for_each(|&(build, resting)| idle.put(build, resting, Mebibytes(10)));
        idle
    }

    #[test]
    fn the_last_one_used_is_that_of_its_own_build() {
        let (old, new) = (build(1, 1), build(1, 2));
        let idle = of(&[(new, resting(5, 1)), (new, resting(7, 2)), (old, resting(9, 3))]);
        assert_eq!(idle.last_used(new), Some(SandboxId(2)));
        assert_eq!(idle.last_used(old), Some(SandboxId(3)));
        assert_eq!(idle.last_used(build(2, 1)), None);
        assert_eq!(idle.older_than(new), [SandboxId(3)]);
        assert!(idle.older_than(old).is_empty());
    }

    #[test]
    fn the_next_end_is_that_of_those_that_are_left() {
        let all = [(build(1, 1), resting(5, 1)), (build(2, 1), resting(3, 2)), (build(3, 1), resting(4, 3))];
        let mut idle = of(&all);
        for (id, end, left) in [(2, 103, 20), (3, 104, 10), (1, 105, 0)] {
            assert_eq!(idle.next_end(), Some((Moment(end), SandboxId(id))));
            let (build, resting) = all.iter().find(|(_, resting)| resting.id == SandboxId(id)).unwrap();
            idle.take(*build, resting, Mebibytes(10));
            assert_eq!(idle.held(), left);
        }
        assert_eq!(idle.next_end(), None);
    }

    #[test]
    fn builds_of_which_nothing_is_left_are_not_listed_and_do_not_pile_up() {
        let mut idle = of(&[(build(500, 1), resting(0, 0)), (build(500, 1), resting(1, 1))]);
        for id in 2..1_000 {
            idle.put(build(id, 1), resting(id, id), Mebibytes(10));
            idle.take(build(id, 1), &resting(id, id), Mebibytes(10));
            assert!(idle.builds.len() <= NEW_BUILDS, "{}", idle.builds.len());
        }
        let mut warm = Vec::new();
        idle.list(&mut warm);
        assert_eq!(warm, [WarmOnVm { function: FunctionId(500), revision: Revision(1), idle: 2 }]);
    }
}
