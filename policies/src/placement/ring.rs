//! The ring that gives every function a home among the VMs.
//!
//! **Knows:** which VMs take work, and how many points each has: about one per core, so that a large VM is home to
//! more functions than a small one.
//! **Promises:** ownership is that of the `hashring` crate with a hasher that never changes; a VM that comes or goes
//! moves only the homes it takes or leaves. A VM that wavers between two sizes does not move homes at every step.
//! **Gives up:** exact balance (one point per core is a coarse weight), and points that collide: among 160,000 points
//! of 64 bits that happens once in a billion rings, and costs one point.
//!
//! The crate answers "who owns this key" but cannot be walked, so the same points stand, under the same hasher, in
//! a sorted vector beside it.

use std::hash::{BuildHasher, BuildHasherDefault, Hash, Hasher};

use hashring::HashRing;
use vocabulary::{FunctionId, Resources, VmId};

use super::{BySlot, Slot};
use crate::hash::Fixed;

type FixedBuilder = BuildHasherDefault<Fixed>;

/// More points than this bring nothing but memory.
const POINTS_LIMIT: u32 = 128;

/// A VM's n-th point.
#[derive(Debug, Clone, Copy)]
struct Point {
    vm: VmId,
    replica: u32,
    slot: Slot,
}

impl Hash for Point {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        (self.vm, self.replica).hash(hasher);
    }
}

#[derive(Debug, Clone, Copy)]
struct Member {
    vm: VmId,
    points: u32,
}

/// See the module.
pub(super) struct Ring {
    owners: HashRing<Point, FixedBuilder>,
    /// The same points, sorted by hash, then VM.
    points: Vec<(u64, Slot)>,
    members: BySlot<Member>,
    /// How many there are.
    len: usize,
    points_per_core: u32,
    epoch: u64,
}

impl Ring {
    pub fn new(points_per_core: u32) -> Self {
        Self {
            owners: HashRing::with_hasher(FixedBuilder::default()),
            points: Vec::new(),
            members: BySlot::default(),
            len: 0,
            points_per_core: points_per_core.max(1),
            epoch: 0,
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
        self.members.put(slot, Member { vm, points: wanted });
        if wanted > before {
            self.add_points(slot, vm, before..wanted);
        } else {
            self.remove_points(slot, vm, wanted..before);
        }
        self.epoch += 1;
    }

    /// A VM leaves.
    pub fn remove(&mut self, slot: Slot) {
        if let Some(member) = self.members.take(slot) {
            self.len -= 1;
            self.remove_points(slot, member.vm, 0..member.points);
            self.epoch += 1;
        }
    }

    /// The VM at which a function is at home.
    pub fn home(&self, function: FunctionId) -> Option<Slot> {
        self.owners.get(&function).map(|point| point.slot)
    }

    /// Where in the sorted points a function's walk begins.
    pub fn start(&self, function: FunctionId) -> usize {
        let key = FixedBuilder::default().hash_one(function);
        let start = self.points.partition_point(|&(hash, _)| hash < key);
        if start == self.points.len() { 0 } else { start }
    }

    /// The owner of the point `steps` after `start`; `None` after a full turn.
    pub fn owner_after(&self, start: usize, steps: usize) -> Option<Slot> {
        (steps < self.points.len()).then(|| {
            let at = start + steps;
            self.points[if at < self.points.len() { at } else { at - self.points.len() }].1
        })
    }

    fn points_for(&self, capacity: Resources) -> u32 {
        (capacity.cpu.0 / 1_000).saturating_mul(self.points_per_core).clamp(1, POINTS_LIMIT)
    }

    fn add_points(&mut self, slot: Slot, vm: VmId, replicas: std::ops::Range<u32>) {
        let new: Vec<Point> = replicas.map(|replica| Point { vm, replica, slot }).collect();
        self.points.extend(new.iter().map(|point| (FixedBuilder::default().hash_one(point), slot)));
        // Two sorted runs: the standard sort merges them in linear time.
        self.points.sort_by_key(|&(hash, _)| hash);
        self.owners.batch_add(new);
    }

    fn remove_points(&mut self, slot: Slot, vm: VmId, replicas: std::ops::Range<u32>) {
        let mut hashes = Vec::new();
        for replica in replicas {
            let point = Point { vm, replica, slot };
            hashes.push(FixedBuilder::default().hash_one(point));
            self.owners.remove(&point);
        }
        self.points.retain(|&(hash, owner)| owner != slot || !hashes.contains(&hash));
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

    fn agrees_everywhere(ring: &Ring) {
        for id in 0..2_000 {
            let function = FunctionId(id);
            assert_eq!(ring.home(function), ring.owner_after(ring.start(function), 0), "{function}");
        }
    }

    #[test]
    fn the_crate_and_the_sorted_points_agree_on_every_home() {
        let mut ring = ring(&[1, 4, 16, 2, 8, 64, 3]);
        agrees_everywhere(&ring);
        ring.remove(Slot(5));
        agrees_everywhere(&ring);
        ring.set(Slot(2), VmId(3), Resources::new(4_000, 1));
        agrees_everywhere(&ring);
        ring.set(Slot(0), VmId(1), Resources::new(32_000, 1));
        agrees_everywhere(&ring);
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
        assert_eq!(ring.owner_after(ring.start(FunctionId(1)), 0), None);
        assert_eq!(ring.len(), 0);
    }
}
