//! A few things in order, side by side.
//!
//! **Knows:** its members.
//! **Promises:** the order of a `BTreeSet`. A step is a binary search and a move of what stands behind: for the dozens of sandboxes
//! of one VM, most of which come last, that is less than a tree costs; nothing is allocated once it has its size.
//! **Gives up:** many thousands, among which a tree is faster.

use std::ops::Deref;

/// See the module.
#[derive(Debug, Clone)]
pub(crate) struct Sorted<T>(Vec<T>);

impl<T> Default for Sorted<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: Ord> Sorted<T> {
    /// One more, if it is not there already.
    pub fn insert(&mut self, new: T) {
        if self.0.last().is_none_or(|last| *last < new) {
            return self.0.push(new);
        }
        if let Err(place) = self.0.binary_search(&new) {
            self.0.insert(place, new);
        }
    }

    /// Takes it out, if it is there.
    pub fn remove(&mut self, old: &T) {
        if self.0.last() == Some(old) {
            self.0.pop();
            return;
        }
        if let Ok(place) = self.0.binary_search(old) {
            self.0.remove(place);
        }
    }
}

/// To be read it is a slice.
impl<T> Deref for Sorted<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_a_set_in_order(steps in prop::collection::vec((any::<bool>(), 0_u8..30), 0..200)) {
            let (mut sorted, mut set) = (Sorted::default(), BTreeSet::new());
            for (comes, member) in steps {
                if comes {
                    sorted.insert(member);
                    set.insert(member);
                } else {
                    sorted.remove(&member);
                    set.remove(&member);
                }
                prop_assert!(sorted.iter().eq(&set), "{sorted:?} is not {set:?}");
            }
        }
    }
}
