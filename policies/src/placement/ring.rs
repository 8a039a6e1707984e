//! The ring that gives every function a home among the VMs.
//!
//! **Knows:** which VMs take work, and how many points each has: about one per core, so that a large VM is home to
//! more functions than a small one.
//! **Promises:** ownership is that of the `hashring` crate with a hasher that never changes; a VM that comes or goes
//! moves only the homes it takes or leaves. A VM that wavers between two sizes does not move homes at every step. VMs that join
//! together cost one merge of their points, when a walk next begins.
//! **Gives up:** exact balance (one point per core is a coarse weight), and points that collide: among 160,000 points
//! of 64 bits that happens once in a billion rings, and costs one point.
//!
//! The crate answers "who owns this key" but cannot be walked, and sorts all points anew for each VM. So the same points stand, under
//! the same hasher, in a sorted vector, on which all walks go; the crate's ring is made of them when it is asked
//! ([`Ring::home`]), which debug builds do wherever a walk begins.

use std::cell::OnceCell;
use std::hash::{BuildHasherDefault, Hash, Hasher};

use hashring::HashRing;
use vocabulary::{FunctionId, Resources, VmId};

use super::{BySlot, Slot};
use crate::hash::{Fixed, fixed};

/// More points than this bring nothing but memory.
const POINTS_LIMIT: u32 = 128;

/// A VM's n-th point, as the crate hashes it.
#[derive(Debug, Clone, Copy)]
struct Owner {
    vm: VmId,
    replica: u32,
    slot: Slot,
}

impl Hash for Owner {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        (self.vm, self.replica).hash(hasher);
    }
}

type Owners = HashRing<Owner, BuildHasherDefault<Fixed>>;

/// The same, as walks need it.
#[derive(Debug, Clone, Copy)]
struct Point {
    hash: u64,
    slot: Slot,
    replica: u32,
}

#[derive(Debug, Clone, Copy)]
struct Member {
    vm: VmId,
    points: u32,
}

impl Member {
    /// Its points from this one on.
    fn owners(self, slot: Slot, from: u32) -> impl Iterator<Item = Owner> {
        (from..self.points).map(move |replica| Owner { vm: self.vm, replica, slot })
    }
}

/// See the module.
pub(super) struct Ring {
    /// Sorted by hash.
    points: Vec<Point>,
    /// Those that have joined since a walk last began.
    fresh: Vec<Point>,
    members: BySlot<Member>,
    /// How many there are.
    len: usize,
    points_per_core: u32,
    epoch: u64,
    /// The crate's ring of this epoch, if it was asked.
    owners: OnceCell<Owners>,
}

impl Ring {
    pub fn new(points_per_core: u32) -> Self {
        Self {
            points: Vec::new(),
            fresh: Vec::new(),
            members: BySlot::default(),
            len: 0,
            points_per_core: points_per_core.max(1),
            epoch: 0,
            owners: OnceCell::new(),
        }
    }

    /// Changes whenever a home may have moved.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// VMs on the ring.
    pub fn len(&self) -> usize {
        self.len
    }

    /// A VM joins, or has another size now.
    pub fn set(&mut self, slot: Slot, vm: VmId, capacity: Resources) {
        let before = self.members.get(slot).map_or(0, |member| member.points);
        let wanted = self.points_for(capacity);
        // Within half to double of what it was weighted for, a harvested VM keeps its points.
        if before > 0 && wanted * 2 > before && wanted < before * 2 {
            return;
        }
        if wanted == before {
            return;
        }
        self.len += usize::from(before == 0);
        let member = Member { vm, points: wanted };
        self.members.put(slot, member);
        let joining = member.owners(slot, before).map(|owner| Point {
            hash: fixed(&owner),
            slot,
            replica: owner.replica,
        });
        self.fresh.extend(joining);
        if wanted < before {
            self.take_points(slot, wanted);
        }
        self.changed();
    }

    /// A VM leaves.
    pub fn remove(&mut self, slot: Slot) {
        if self.members.take(slot).is_some() {
            self.len -= 1;
            self.take_points(slot, 0);
            self.changed();
        }
    }

    fn changed(&mut self) {
        self.epoch += 1;
        self.owners = OnceCell::new();
    }

    /// The VM at which a function is at home, by the crate.
    pub fn home(&self, function: FunctionId) -> Option<Slot> {
        let owners = self.owners.get_or_init(|| {
            let mut owners = Owners::with_hasher(BuildHasherDefault::default());
            owners.batch_add(self.members.iter().flat_map(|(slot, member)| member.owners(slot, 0)).collect());
            owners
        });
        owners.get(&function).map(|owner| owner.slot)
    }

    /// Where in the sorted points a function's walk begins; it goes on with [`Ring::owner_after`] until the epoch changes.
    pub fn start(&mut self, function: FunctionId) -> usize {
        self.merge();
        let key = fixed(&function);
        let start = self.points.partition_point(|point| point.hash < key);
        if start == self.points.len() { 0 } else { start }
    }

    /// The owner of the point `steps` after `start`; `None` after a full turn.
    pub fn owner_after(&self, start: usize, steps: usize) -> Option<Slot> {
        debug_assert!(self.fresh.is_empty(), "a walk begins at `start` of the same epoch");
        (steps < self.points.len()).then(|| {
            let at = start + steps;
            self.points[if at < self.points.len() { at } else { at - self.points.len() }].slot
        })
    }

    fn points_for(&self, capacity: Resources) -> u32 {
        (capacity.cpu.0 / 1_000).saturating_mul(self.points_per_core).clamp(1, POINTS_LIMIT)
    }

    /// Puts those that have joined where they belong.
    fn merge(&mut self) {
        if self.fresh.is_empty() {
            return;
        }
        self.fresh.sort_by_key(|point| point.hash);
        self.points.append(&mut self.fresh);
        // Two sorted runs: the standard sort merges them in linear time.
        self.points.sort_by_key(|point| point.hash);
    }

    /// Takes a VM's points out, from this one on.
    fn take_points(&mut self, slot: Slot, from: u32) {
        let stays = |point: &Point| point.slot != slot || point.replica < from;
        self.points.retain(stays);
        self.fresh.retain(stays);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring(cores: &[u32]) -> Ring {
        let mut ring = Ring::new(1);
        for (index, &cores) in cores.iter().enumerate() {
            ring.set(Slot(index as u32), VmId(index as u64 + 1), Resources::new(cores * 1_000, 1_024));
        }
        ring
    }

    fn agrees_everywhere(ring: &mut Ring) {
        for id in 0..2_000 {
            let function = FunctionId(id);
            let start = ring.start(function);
            assert_eq!(ring.home(function), ring.owner_after(start, 0), "{function}");
        }
    }

    #[test]
    fn the_crate_and_the_sorted_points_agree_on_every_home() {
        let mut ring = ring(&[1, 4, 16, 2, 8, 64, 3]);
        agrees_everywhere(&mut ring);
        ring.remove(Slot(5));
        agrees_everywhere(&mut ring);
        ring.set(Slot(2), VmId(3), Resources::new(4_000, 1));
        agrees_everywhere(&mut ring);
        ring.set(Slot(0), VmId(1), Resources::new(32_000, 1));
        agrees_everywhere(&mut ring);
    }

    #[test]
    fn who_joins_and_leaves_before_anybody_walks_leaves_no_point_and_a_slot_may_be_anothers() {
        let mut ring = ring(&[8, 8, 8, 8]);
        agrees_everywhere(&mut ring);
        ring.set(Slot(4), VmId(5), Resources::new(16_000, 1));
        ring.remove(Slot(4));
        ring.remove(Slot(1));
        ring.set(Slot(1), VmId(9), Resources::new(32_000, 1));
        ring.set(Slot(0), VmId(1), Resources::new(2_000, 1));
        agrees_everywhere(&mut ring);
        let owned: Vec<Slot> = (0..).map_while(|steps| ring.owner_after(0, steps)).collect();
        let of = |slot| owned.iter().filter(|&&owner| owner == Slot(slot)).count();
        assert_eq!([0, 1, 2, 3, 4].map(of), [2, 32, 8, 8, 0]);
        assert!(ring.points.is_sorted_by_key(|point| point.hash));
    }

    #[test]
    fn a_large_vm_is_home_to_more_functions_than_a_small_one() {
        let ring = ring(&[4, 64]);
        let at_large = (0..10_000).filter(|&id| ring.home(FunctionId(id)) == Some(Slot(1))).count();
        assert!(at_large > 8_000, "{at_large}");
    }

    #[test]
    fn only_the_homes_at_a_lost_vm_move() {
        let mut ring = ring(&[8; 10]);
        let before: Vec<_> = (0..1_000).map(|id| ring.home(FunctionId(id))).collect();
        ring.remove(Slot(3));
        for (id, before) in before.into_iter().enumerate() {
            let after = ring.home(FunctionId(id as u64));
            if before == Some(Slot(3)) {
                assert_ne!(after, before);
            } else {
                assert_eq!(after, before);
            }
        }
    }

    #[test]
    fn a_vm_that_wavers_keeps_its_homes() {
        let mut ring = ring(&[8, 8, 8]);
        let epoch = ring.epoch();
        for cores in [9, 7, 12, 5, 8] {
            ring.set(Slot(1), VmId(2), Resources::new(cores * 1_000, 1_024));
        }
        assert_eq!(ring.epoch(), epoch);
        ring.set(Slot(1), VmId(2), Resources::new(2_000, 1_024));
        assert_ne!(ring.epoch(), epoch);
    }

    #[test]
    fn an_empty_ring_is_nobodys_home() {
        let mut ring = ring(&[1]);
        ring.remove(Slot(0));
        assert_eq!(ring.home(FunctionId(1)), None);
        let start = ring.start(FunctionId(1));
        assert_eq!(ring.owner_after(start, 0), None);
        assert_eq!(ring.len(), 0);
    }
}
