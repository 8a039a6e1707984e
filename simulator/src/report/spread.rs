//! How a measured quantity is spread.
//!
//! **Knows:** every value, as long as they are few; then how many fell into each of its buckets.
//! **Promises:** count, sum, least and most are always exact; percentiles are values that were seen while they are few, and else
//! at most 1/64 above one that was seen (1/16 in a coarse one).
//! **Gives up:** the order of the values.

/// How exact a spread is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Grain {
    /// So many values are kept as they are.
    exact: usize,
    /// Logarithm of the buckets per doubling.
    bits: u32,
}

const FINE: Grain = Grain { exact: 2_048, bits: 6 };
/// Small enough that one for each of many functions stays in the processor's caches.
const COARSE: Grain = Grain { exact: 128, bits: 4 };

/// See the module.
#[derive(Debug, Clone)]
pub struct Spread {
    grain: Grain,
    few: Vec<u64>,
    /// Empty until there are more than a few.
    buckets: Vec<u32>,
    count: u64,
    sum: u128,
    /// Of no value it is the highest that there is.
    least: u64,
    most: u64,
}

impl Default for Spread {
    fn default() -> Self {
        Self::of_grain(FINE)
    }
}

impl Spread {
    /// One of many.
    pub fn coarse() -> Self {
        Self::of_grain(COARSE)
    }

    fn of_grain(grain: Grain) -> Self {
        Self { grain, few: Vec::new(), buckets: Vec::new(), count: 0, sum: 0, least: u64::MAX, most: 0 }
    }

    /// One more value.
    pub fn add(&mut self, value: u64) {
        self.least = self.least.min(value);
        self.most = self.most.max(value);
        self.count += 1;
        self.sum += u128::from(value);
        match self.buckets.get_mut(index(value, self.grain.bits)) {
            Some(bucket) => *bucket = bucket.saturating_add(1),
            None => self.add_aside(value),
        }
    }

    /// A value for which there is no bucket, or none yet.
    #[cold]
    fn add_aside(&mut self, value: u64) {
        if self.buckets.is_empty() && self.few.len() < self.grain.exact {
            return self.few.push(value);
        }
        for few in std::mem::take(&mut self.few) {
            self.bucket(few);
        }
        self.bucket(value);
    }

    /// All values of another of the same grain.
    pub fn merge(&mut self, other: &Spread) {
        assert_eq!(self.grain, other.grain, "what differs in grain has no buckets in common");
        if other.count == 0 {
            return;
        }
        if other.buckets.is_empty() {
            other.few.iter().for_each(|&value| self.add(value));
            return;
        }
        self.least = self.least.min(other.least);
        self.most = self.most.max(other.most);
        self.count += other.count;
        self.sum += other.sum;
        for few in std::mem::take(&mut self.few) {
            self.bucket(few);
        }
        if self.buckets.len() < other.buckets.len() {
            self.buckets.resize(other.buckets.len(), 0);
        }
        for (mine, &others) in self.buckets.iter_mut().zip(&other.buckets) {
            *mine = mine.saturating_add(others);
        }
    }

    fn bucket(&mut self, value: u64) {
        let index = index(value, self.grain.bits);
        if let Some(bucket) = self.buckets.get_mut(index) {
            *bucket = bucket.saturating_add(1);
        } else {
            self.buckets.resize(index, 0);
            self.buckets.push(1);
        }
    }

    /// How many.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Their mean, rounded to the nearest; 0 without any.
    pub fn mean(&self) -> u64 {
        let count = u128::from(self.count.max(1));
        u64::try_from((self.sum + count / 2) / count).unwrap_or(u64::MAX)
    }

    /// The largest; 0 without any.
    pub fn most(&self) -> u64 {
        self.most
    }

    /// Nearest-rank percentiles, in the order in which they are asked for (rising), each in hundred-thousandths; 0 without
    /// values.
    pub fn percentiles<const N: usize>(&self, asked: [u64; N]) -> [u64; N] {
        let mut found = [0; N];
        if self.count == 0 {
            return found;
        }
        let mut few = self.few.clone();
        few.sort_unstable();
        let (mut passed, mut index) = (0, 0);
        for (found, asked) in found.iter_mut().zip(asked) {
            let rank = (u128::from(self.count) * u128::from(asked)).div_ceil(100_000).max(1) as u64;
            if self.buckets.is_empty() {
                *found = few[(rank - 1) as usize];
                continue;
            }
            while index < self.buckets.len() && passed + u64::from(self.buckets[index]) < rank {
                passed += u64::from(self.buckets[index]);
                index += 1;
            }
            *found = highest(index, self.grain.bits).clamp(self.least, self.most);
        }
        found
    }
}

/// Values below twice the buckets per doubling have a bucket each; above, each doubling has as many.
fn index(value: u64, bits: u32) -> usize {
    let doublings = (u64::BITS - value.leading_zeros()).saturating_sub(bits + 1);
    ((u64::from(doublings) << bits) + (value >> doublings)) as usize
}

/// The highest value of a bucket.
fn highest(index: usize, bits: u32) -> u64 {
    let index = index as u64;
    let doublings = (index >> bits).saturating_sub(1);
    let first = (index - (doublings << bits)) << doublings;
    first + ((1 << doublings) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: impl IntoIterator<Item = u64>) -> Spread {
        let mut spread = Spread::default();
        values.into_iter().for_each(|value| spread.add(value));
        spread
    }

    #[test]
    fn percentiles_of_few_are_values_that_were_seen() {
        let spread = of((1..=200).rev());
        assert_eq!(spread.percentiles([50_000, 90_000, 99_000, 100_000]), [100, 180, 198, 200]);
        assert_eq!(of([7]).percentiles([0, 50_000, 100_000]), [7, 7, 7]);
        assert_eq!(of([]).percentiles([50_000]), [0]);
    }

    #[test]
    fn percentiles_of_many_are_near_and_never_below() {
        let spread = of((1..=100_000).map(|n| n * 17));
        for percent in [1, 10, 50, 90, 99] {
            let exact = percent * 1_000 * 17;
            let [found] = spread.percentiles([percent * 1_000]);
            assert!(found >= exact && found <= exact + exact / 64 + 1, "{percent} %: {found} for {exact}");
        }
        assert_eq!(spread.percentiles([100_000]), [1_700_000]);
        assert_eq!(spread.mean(), 850_009);
    }

    #[test]
    fn every_value_is_in_its_bucket() {
        let mut values: Vec<u64> =
            (0..63).flat_map(|bit| [(1 << bit) - 1, 1 << bit, (1 << bit) + 1]).collect();
        values.push(u64::MAX);
        for (value, bits) in values.into_iter().flat_map(|value| [(value, 4), (value, 6)]) {
            let at = index(value, bits);
            assert!(highest(at, bits) >= value, "{value}");
            assert!(at == 0 || highest(at - 1, bits) < value, "{value}");
        }
    }

    #[test]
    fn two_together_are_as_one() {
        let (few, many) = (of(0..100), of((0..10_000).map(|n| n * 3)));
        let mut one = few.clone();
        one.merge(&many);
        let mut other = many.clone();
        other.merge(&few);
        assert_eq!((one.count(), one.mean(), one.most()), (10_100, other.mean(), other.most()));
        assert_eq!(one.percentiles([10_000, 99_000]), other.percentiles([10_000, 99_000]));
    }
}
