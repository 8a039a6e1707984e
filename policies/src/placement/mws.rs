//! The minimum worker set: few VMs per function, so that its sandboxes stay warm; enough of them, so that it fits.
//!
//! **Knows:** a ring on which every function has a home, the books, and how many of a function run at once.
//! **Promises:** the worker set is the smallest run of ring successors from home whose total capacity, times the target
//! utilisation, covers the demand. It grows at once and shrinks at most every 30 s. A decision costs O(worker set) and
//! allocates nothing, however many VMs there are, while the ring stands still.
//! **Gives up:** the emptiest VM. Load gathers at the home end of the set, so that the far end cools down and can be
//! left; capacities are kept by the bookings, not by spreading.
//!
//! Regular and harvest VMs have a ring each, and a function that may run on both has a home and a worker set on either:
//! to walk one ring past all VMs of the other kind would cost more the fewer there are of one.
//!
//! Different from the released code of the paper (its defects by the numbers under which our notes keep them): demand is
//! compared with *total* capacity, not with what is left of it, which counted running work twice (B2); the rate decays
//! (B1, see `profile`); an idle sandbox is looked for (B3); what is in flight is booked (B4); ring points are weighted (B5);
//! homes move when a VM is withdrawn, at the notice (B7); a VM with few cores is as good as any for what fits (B10).

use vocabulary::{FunctionId, Moment, Resources, VmId, VmKind};

use super::ring::Ring;
use super::{Ask, Books, Choice, NoHome, Placement, Settings, Slot};
use crate::hash::Map;

/// How well a VM suits. Smaller is better, compared top to bottom: the order of the fields *is* the policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Score {
    is_cold: bool,     // A warm sandbox beats everything.
    outside_set: bool, // Then the VMs that serve the function now.
    steps: u32,        // Then the nearest to home: load gathers there, the far end may cool down.
    vm: VmId,          // Ties always end the same way.
}

/// Idle sandboxes outside the set that are looked at in one decision.
const STRAYS: usize = 32;

/// A function's worker set, and the successors of its home as far as they have been walked.
#[derive(Debug, Clone, Default)]
struct WorkerSet {
    /// The ring's epoch for which the next four are true.
    epoch: Option<u64>,
    /// Different VMs in ring order from home.
    successors: Vec<Slot>,
    /// Where in the ring's points the walk began, how many points it has passed, and whether it came round.
    start: usize,
    walked: usize,
    all_round: bool,
    /// So many successors serve the function now.
    size: usize,
    /// The largest size that was needed since `since`.
    needed: usize,
    since: Moment,
}

/// VMs of one kind.
struct Side {
    ring: Ring,
    sets: Map<FunctionId, WorkerSet>,
}

/// See the module.
pub struct Mws {
    settings: Settings,
    /// By kind.
    sides: [Side; 2],
    /// Marks VMs already passed while a walk goes on; by slot, the number of the walk that passed.
    passed: Vec<u64>,
    walks: u64,
}

impl Mws {
    /// On empty rings.
    pub fn new(settings: Settings) -> Self {
        let side = || Side { ring: Ring::new(settings.points_per_core), sets: Map::default() };
        Self { sides: [side(), side()], settings, passed: Vec::new(), walks: 0 }
    }

    /// How many VMs of this kind serve the function now; 0 before its first invocation there.
    pub fn set_size(&self, kind: VmKind, function: FunctionId) -> usize {
        self.sides[kind as usize].sets.get(&function).map_or(0, |set| set.size)
    }

    /// The function's home among the VMs of this kind.
    pub fn home(&self, kind: VmKind, function: FunctionId) -> Option<Slot> {
        self.sides[kind as usize].ring.home(function)
    }
}

impl Placement for Mws {
    fn name(&self) -> &'static str {
        "mws"
    }

    fn offer(&mut self, books: &Books, slot: Slot) {
        let ring = &mut self.sides[books.kind(slot) as usize].ring;
        ring.set(slot, books.vm(slot), books.capacity(slot));
        if self.passed.len() <= slot.index() {
            self.passed.resize(slot.index() + 1, 0);
        }
    }

    fn withdraw(&mut self, slot: Slot) {
        self.sides.iter_mut().for_each(|side| side.ring.remove(slot));
    }

    fn place(&mut self, now: Moment, books: &Books, ask: &Ask) -> Result<Choice, NoHome> {
        let Self { settings, sides, passed, walks } = self;
        let mut walk = Walk::of(sides, passed, walks, ask);
        walk.resize(now, books, ask, settings);
        let inside = walk.inside(books, ask);
        let best = match inside {
            Some((score, _)) if !score.is_cold => inside,
            _ => [walk.strays(books, ask), inside].into_iter().flatten().min(),
        };
        let (score, slot) = best
            .or_else(|| walk.beyond(books, ask, settings.spill_reach))
            .ok_or_else(|| NoHome::of(books, ask))?;
        Ok(Choice { vm: score.vm, slot, warm: !score.is_cold })
    }

    fn next_home(&mut self, books: &Books, ask: &Ask) -> Option<Slot> {
        let reach = self.settings.spill_reach.max(1) as usize;
        let mut walk = Walk::of(&mut self.sides, &mut self.passed, &mut self.walks, ask);
        let fits = |slot: &Slot| books.has_room(*slot, ask);
        (0..reach).map_while(|steps| walk.successor(steps)).find(fits).or_else(|| {
            // Everything near is full: where it would belong is still the best guess.
            walk.successor(0)
        })
    }

    fn forget(&mut self, function: FunctionId) {
        self.sides.iter_mut().for_each(|side| drop(side.sets.remove(&function)));
    }
}

/// One decision's view of one worker set.
struct Walk<'a> {
    ring: &'a mut Ring,
    passed: &'a mut Vec<u64>,
    walks: &'a mut u64,
    set: &'a mut WorkerSet,
}

impl<'a> Walk<'a> {
    /// Of the function that asks, among the VMs of the kind it asks for.
    fn of(sides: &'a mut [Side; 2], passed: &'a mut Vec<u64>, walks: &'a mut u64, ask: &Ask) -> Self {
        let Side { ring, sets } = &mut sides[ask.kind as usize];
        let mut walk = Self { ring, passed, walks, set: sets.entry(ask.function).or_default() };
        walk.begin(ask.function);
        walk
    }

    /// Forgets the successors if the ring has changed.
    fn begin(&mut self, function: FunctionId) {
        if self.set.epoch == Some(self.ring.epoch()) {
            return;
        }
        self.set.epoch = Some(self.ring.epoch());
        self.set.successors.clear();
        self.set.start = self.ring.start(function);
        self.set.walked = 0;
        self.set.all_round = false;
        debug_assert_eq!(self.ring.home(function), self.ring.owner_after(self.set.start, 0));
    }

    /// The VM `steps` after home; walks the ring no further than needed, and never twice.
    #[inline]
    fn successor(&mut self, steps: usize) -> Option<Slot> {
        if let Some(&slot) = self.set.successors.get(steps) {
            return Some(slot);
        }
        self.walk_to(steps)
    }

    fn walk_to(&mut self, steps: usize) -> Option<Slot> {
        if self.set.all_round {
            return None;
        }
        *self.walks += 1;
        for slot in &self.set.successors {
            self.passed[slot.index()] = *self.walks;
        }
        while self.set.successors.len() <= steps {
            let owner = self.ring.owner_after(self.set.start, self.set.walked);
            self.set.walked += 1;
            match owner {
                Some(slot) if self.passed[slot.index()] != *self.walks => {
                    self.passed[slot.index()] = *self.walks;
                    self.set.successors.push(slot);
                    self.set.all_round = self.set.successors.len() == self.ring.len();
                }
                Some(_) => {}
                None => self.set.all_round = true,
            }
            if self.set.all_round {
                break;
            }
        }
        self.set.successors.get(steps).copied()
    }

    /// Finds how many successors are needed, and lets the set grow or, every 30 s, shrink to it.
    fn resize(&mut self, now: Moment, books: &Books, ask: &Ask, settings: &Settings) {
        let need = Resources {
            cpu: ask.demand.cpu.scaled(ask.concurrency_milli, 1_000),
            memory: ask.demand.memory.scaled(ask.concurrency_milli, 1_000),
        };
        let utilisation = u64::from(settings.target_utilisation.clamp(1, 1_000));
        let mut total = Resources::ZERO;
        let mut needed = 0;
        while let Some(slot) = self.successor(needed) {
            needed += 1;
            let capacity = books.capacity(slot);
            // A VM too small for even one adds nothing, but is a step on the way.
            if ask.demand.fits_in(capacity) {
                total += Resources {
                    cpu: capacity.cpu.scaled(utilisation, 1_000),
                    memory: capacity.memory.scaled(utilisation, 1_000),
                };
                if need.fits_in(total) {
                    break;
                }
            }
        }
        let set = &mut *self.set;
        if needed > set.size {
            (set.size, set.needed, set.since) = (needed, needed, now);
            return;
        }
        set.needed = set.needed.max(needed);
        if now.since(set.since) >= settings.shrink_interval {
            (set.size, set.needed, set.since) = (set.needed, needed, now);
        }
    }

    /// The best VM of the set.
    fn inside(&mut self, books: &Books, ask: &Ask) -> Option<(Score, Slot)> {
        let idle = books.idle_anywhere(ask.function, ask.revision);
        let mut best = None;
        for steps in 0..self.set.size {
            let Some(slot) = self.successor(steps) else { break };
            let is_cold = !is_idle(idle, slot);
            if (is_cold && best.is_some()) || !books.has_room(slot, ask) {
                continue;
            }
            best =
                Some((Score { is_cold, outside_set: false, steps: steps as u32, vm: books.vm(slot) }, slot));
            if !is_cold {
                break;
            }
        }
        best
    }

    /// An idle sandbox on a VM that has left the set, or was never in it.
    fn strays(&self, books: &Books, ask: &Ask) -> Option<(Score, Slot)> {
        let idle = books.idle_anywhere(ask.function, ask.revision);
        idle.iter()
            .filter(|&&(_, count)| count > 0)
            .take(STRAYS)
            .filter(|&&(slot, _)| books.has_room(slot, ask))
            .map(|&(slot, _)| {
                (Score { is_cold: false, outside_set: true, steps: u32::MAX, vm: books.vm(slot) }, slot)
            })
            .min()
    }

    /// The next VM along the ring, beyond the set, with room for a cold start.
    fn beyond(&mut self, books: &Books, ask: &Ask, reach: u32) -> Option<(Score, Slot)> {
        let first = self.set.size;
        for steps in first..first + reach as usize {
            let slot = self.successor(steps)?;
            if books.has_room(slot, ask) {
                let steps = steps as u32;
                return Some((Score { is_cold: true, outside_set: true, steps, vm: books.vm(slot) }, slot));
            }
        }
        None
    }
}

fn is_idle(idle: &[(Slot, u32)], slot: Slot) -> bool {
    idle.binary_search_by_key(&slot, |&(at, _)| at).is_ok_and(|found| idle[found].1 > 0)
}

#[cfg(test)]
mod tests;
