//! Hashing that is the same in every run and on every machine.
//!
//! **Knows:** nothing but the bytes it is given.
//! **Promises:** equal inputs hash equally, today and tomorrow, here and in the simulator; two Controllers agree
//! on every home without talking.
//! **Gives up:** defence against chosen keys. Ids are made by the house itself, not by its callers.

#![expect(clippy::disallowed_types, reason = "the one place where a HashMap gets its fixed hasher")]

use std::hash::{BuildHasher, BuildHasherDefault, Hash, Hasher};
use std::marker::PhantomData;

/// A map for the hot path. Its order means nothing: look up, insert and remove, but never let what comes out of
/// an iteration reach an output or a choice.
pub type Map<K, V> = std::collections::HashMap<K, V, BuildHasherDefault<Folded>>;

/// The hash of one thing.
pub(crate) fn fixed(thing: &impl Hash) -> u64 {
    BuildHasherDefault::<Fixed>::default().hash_one(thing)
}

/// The hash of one thing, as a map has it.
pub(crate) fn folded(thing: &impl Hash) -> u64 {
    BuildHasherDefault::<Folded>::default().hash_one(thing)
}

/// The first digits of pi behind the point: something to begin with that is not 0, which no multiplication changes.
const PI: u64 = 0x243f_6a88_85a3_08d3;

/// 2^64 divided by the golden ratio, odd; the increment of SplitMix64.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// How words are mixed.
pub trait Mix {
    /// Before the first word.
    const BEGIN: u64;
    /// One more word.
    fn word(state: u64, word: u64) -> u64;
    /// Two more that belong together.
    fn two_words(state: u64, low: u64, high: u64) -> u64 {
        Self::word(Self::word(state, low), high)
    }
    /// After the last.
    fn end(state: u64) -> u64;
}

/// The mixing of maps, which are looked into a few dozen times per invocation. One multiplication per word, or two, of which the upper
/// half is folded into the lower: all bits depend on all, as a map needs it, which is less than a ring does.
#[derive(Debug, Clone, Copy)]
pub struct Folding;

impl Mix for Folding {
    const BEGIN: u64 = PI;

    fn word(state: u64, word: u64) -> u64 {
        Self::two_words(state, word, 0)
    }

    fn two_words(state: u64, low: u64, high: u64) -> u64 {
        let product = u128::from(state ^ low) * u128::from(GOLDEN ^ high);
        product as u64 ^ (product >> 64) as u64
    }

    fn end(state: u64) -> u64 {
        state
    }
}

/// The mixing of a ring: each word is multiplied and folded, the end is mixed thoroughly (the finaliser of SplitMix64), so that
/// neighbouring ids land far apart.
#[derive(Debug, Clone, Copy)]
pub struct Thorough;

impl Mix for Thorough {
    const BEGIN: u64 = 0;

    fn word(state: u64, word: u64) -> u64 {
        let state = (state.rotate_left(23) ^ word).wrapping_mul(GOLDEN);
        state ^ (state >> 29)
    }

    fn end(state: u64) -> u64 {
        let mut mixed = state.wrapping_add(GOLDEN);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

/// A 64-bit hasher without a key, word by word.
#[derive(Debug, Clone, Copy)]
pub struct Words<M> {
    state: u64,
    mix: PhantomData<M>,
}

/// The hasher of maps.
pub type Folded = Words<Folding>;

/// The hasher of rings.
pub type Fixed = Words<Thorough>;

impl<M: Mix> Default for Words<M> {
    fn default() -> Self {
        Self { state: M::BEGIN, mix: PhantomData }
    }
}

impl<M: Mix> Words<M> {
    fn word(&mut self, word: u64) {
        self.state = M::word(self.state, word);
    }
}

impl<M: Mix> Hasher for Words<M> {
    fn write(&mut self, bytes: &[u8]) {
        bytes.chunks(8).for_each(|chunk| {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.word(u64::from_le_bytes(word));
        });
        self.word(bytes.len() as u64);
    }

    fn write_u32(&mut self, value: u32) {
        self.word(u64::from(value));
    }

    fn write_u64(&mut self, value: u64) {
        self.word(value);
    }

    fn write_u128(&mut self, value: u128) {
        self.state = M::two_words(self.state, value as u64, (value >> 64) as u64);
    }

    fn finish(&self) -> u64 {
        M::end(self.state)
    }
}

#[cfg(test)]
mod tests {
    use vocabulary::{InvocationId, VmId};

    use super::*;

    #[test]
    fn the_hash_of_a_vm_is_the_same_for_ever() {
        // If this number changes, every home of every function moves when a cluster is upgraded.
        assert_eq!(
            BuildHasherDefault::<Fixed>::default().hash_one((VmId(7), 3_u32)),
            9_867_294_997_581_096_600
        );
    }

    #[test]
    fn what_a_map_looks_at_differs_for_ids_that_differ_in_a_few_bits() {
        let hash = |id: u128| BuildHasherDefault::<Folded>::default().hash_one(InvocationId(id));
        for shift in [0, 32, 64, 80] {
            // A map takes its place from the lowest bits and tells neighbours apart by the highest seven.
            let (mut places, mut tags) = ([0; 64], [0; 128]);
            for id in 0..6_400_u128 {
                let hash = hash(id << shift);
                places[(hash % 64) as usize] += 1;
                tags[(hash >> 57) as usize] += 1;
            }
            assert!(places.iter().all(|&n| (50..=150).contains(&n)), "shifted by {shift}: {places:?}");
            assert!(tags.iter().all(|&n| (15..=95).contains(&n)), "shifted by {shift}: {tags:?}");
        }
    }

    #[test]
    fn neighbouring_ids_land_in_all_sixteenths_of_the_ring() {
        let hash = |id| BuildHasherDefault::<Fixed>::default().hash_one(VmId(id));
        let mut sixteenths = [0; 16];
        for id in 0..1_600 {
            sixteenths[(hash(id) >> 60) as usize] += 1;
        }
        assert!(sixteenths.iter().all(|&n| (60..=140).contains(&n)), "{sixteenths:?}");
    }
}
