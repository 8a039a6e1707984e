//! A few things by their keys, in order, side by side.
//!
//! **Knows:** its members.
//! **Promises:** what a `BTreeMap` does. A step is a binary search and a move of what stands behind, and no search where the key comes
//! after all others, as the id of a new invocation does; nothing is allocated once it has its size.
//! **Gives up:** many thousands, among which a tree is faster.

/// See the module.
#[derive(Debug, Clone)]
pub(crate) struct Row<K, V>(Vec<(K, V)>);

impl<K, V> Default for Row<K, V> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<K: Ord, V> Row<K, V> {
    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn get(&self, key: &K) -> Option<&V> {
        self.place(key).ok().map(|place| &self.0[place].1)
    }

    pub fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        self.place(key).ok().map(|place| &mut self.0[place].1)
    }

    /// In the place of what was there under this key, if anything was.
    pub fn insert(&mut self, key: K, value: V) {
        match self.place(&key) {
            Ok(place) => self.0[place].1 = value,
            Err(place) => self.0.insert(place, (key, value)),
        }
    }

    pub fn remove(&mut self, key: &K) -> Option<V> {
        self.place(key).ok().map(|place| self.0.remove(place).1)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.0.iter().map(|(key, value)| (key, value))
    }

    pub fn keys(&self) -> impl Iterator<Item = &K> {
        self.iter().map(|(key, _)| key)
    }

    pub fn values(&self) -> impl Iterator<Item = &V> {
        self.iter().map(|(_, value)| value)
    }

    fn place(&self, key: &K) -> Result<usize, usize> {
        match self.0.last() {
            Some((last, _)) if key <= last => self.0.binary_search_by(|(at, _)| at.cmp(key)),
            _ => Err(self.0.len()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_a_map_in_order(steps in prop::collection::vec((0_u8..3, 0_u8..30, any::<u32>()), 0..200)) {
            let (mut row, mut map) = (Row::default(), BTreeMap::new());
            for (step, key, value) in steps {
                match step {
                    0 => prop_assert_eq!(row.remove(&key), map.remove(&key)),
                    1 => {
                        row.insert(key, value);
                        map.insert(key, value);
                    }
                    _ => {
                        prop_assert_eq!(row.get(&key), map.get(&key));
                        prop_assert_eq!(row.get_mut(&key), map.get_mut(&key));
                    }
                }
                prop_assert!(row.iter().eq(&map) && row.len() == map.len(), "{row:?} is not {map:?}");
                prop_assert!(row.keys().eq(map.keys()) && row.values().eq(map.values()));
            }
        }
    }
}
