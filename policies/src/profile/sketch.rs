//! The shape of a distribution, in a handful of bytes.
//!
//! **Knows:** how many of the recent values fell into each bin; there are eight bins between a power of two and the next,
//! so a quantile is at most an eighth too high, and never too low.
//! **Promises:** whole numbers only, the same on every machine; at most [`BINS`] bins of 4 bytes, whatever is seen; forgets: after
//! a hundred and twenty-eight values what was before counts half, and a lone outlier is gone after some two hundred and fifty.
//! **Gives up:** what libraries of sketches have and this does not need: merging across machines, and billions of values.
//! None that we found forgets and stays with integers: DDSketch takes logarithms in floating point, which differ in the last
//! digit from machine to machine, and an HDR histogram takes kilobytes before the first value.

use serde::{Deserialize, Serialize};

/// Bins of one sketch at most. Where more would be needed, the two neighbours with the fewest values become the upper one.
pub const BINS: usize = 24;
/// What one value counts for when it is new: it can be halved twice before it is gone.
const NEW: u16 = 4;
/// When all together count for so much, everything is halved.
const FULL: u32 = 128 * NEW as u32;

/// See the module.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<(u16, u16)>", into = "Vec<(u16, u16)>")]
pub struct Sketch {
    /// Number and weight of each bin that is not empty, by number.
    bins: Vec<(u16, u16)>,
    /// Of all of them together.
    weight: u32,
}

impl From<Vec<(u16, u16)>> for Sketch {
    fn from(bins: Vec<(u16, u16)>) -> Self {
        let weight = weight_of(&bins);
        Self { bins, weight }
    }
}

impl From<Sketch> for Vec<(u16, u16)> {
    fn from(sketch: Sketch) -> Self {
        sketch.bins
    }
}

impl Sketch {
    /// One more value.
    pub fn learn(&mut self, value: u64) {
        let bin = bin_of(value);
        match self.bins.binary_search_by_key(&bin, |&(number, _)| number) {
            Ok(at) => self.bins[at].1 = self.bins[at].1.saturating_add(NEW),
            Err(at) => {
                self.bins.insert(at, (bin, NEW));
                if self.bins.len() > BINS {
                    self.merge_two();
                }
            }
        }
        self.weight += u32::from(NEW);
        if self.weight >= FULL {
            self.halve();
        }
    }

    fn halve(&mut self) {
        self.bins.retain_mut(|(_, weight)| {
            *weight /= 2;
            *weight > 0
        });
        self.weight = weight_of(&self.bins);
    }

    /// The least value that so many thousandths of the recent values do not exceed; `None` before the first.
    pub fn quantile(&self, thousandths: u32) -> Option<u64> {
        let last = self.bins.last()?.0;
        let rank = (u64::from(self.weight) * u64::from(thousandths.min(1_000))).div_ceil(1_000).max(1);
        let mut below = 0;
        let found = self.bins.iter().find(|&&(_, weight)| {
            below += u64::from(weight);
            below >= rank
        });
        Some(highest_in(found.map_or(last, |&(bin, _)| bin)))
    }

    /// Whether it is one that [`Sketch::learn`] could have made: what comes from a store may be anything.
    pub(super) fn is_sound(&self) -> bool {
        self.bins.len() <= BINS
            && self.bins.is_sorted_by(|one, next| one.0 < next.0)
            && self.bins.iter().all(|&(number, weight)| number <= bin_of(u64::MAX) && weight > 0)
            && self.weight < FULL
    }

    /// Whether nothing was seen.
    pub fn is_empty(&self) -> bool {
        self.bins.is_empty()
    }

    fn merge_two(&mut self) {
        let pair = |at: usize| u32::from(self.bins[at].1) + u32::from(self.bins[at + 1].1);
        let Some(at) = (0..self.bins.len() - 1).min_by_key(|&at| pair(at)) else { return };
        let (_, lower) = self.bins.remove(at);
        self.bins[at].1 = self.bins[at].1.saturating_add(lower);
    }
}

/// What comes from a store may be anything.
fn weight_of(bins: &[(u16, u16)]) -> u32 {
    bins.iter().map(|&(_, weight)| u32::from(weight)).fold(0, u32::saturating_add)
}

fn bin_of(value: u64) -> u16 {
    if value < 8 {
        return value as u16;
    }
    let exponent = value.ilog2();
    let eighth = (value >> (exponent - 3)) & 7;
    ((exponent - 2) * 8) as u16 + eighth as u16
}

/// The highest value that falls into a bin.
fn highest_in(bin: u16) -> u64 {
    if bin < 8 {
        return u64::from(bin);
    }
    let exponent = u32::from(bin) / 8 + 2;
    let next = u128::from(8 + bin % 8 + 1) << (exponent - 3);
    u64::try_from(next - 1).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_falls_into_a_bin_that_ends_at_most_an_eighth_above_it() {
        let interesting = (0..64).flat_map(|bits| [-1_i128, 0, 1, 3].map(|more| (1_i128 << bits) + more));
        for value in interesting.filter_map(|value| u64::try_from(value).ok()).chain(0..2_000) {
            let highest = highest_in(bin_of(value));
            assert!(highest >= value && highest - value <= value / 8, "{value} is counted as {highest}");
            assert_eq!(bin_of(highest), bin_of(value));
        }
        assert_eq!(highest_in(bin_of(u64::MAX)), u64::MAX);
    }

    #[test]
    fn quantiles_are_those_of_a_sorted_list_or_an_eighth_more() {
        let mut sketch = Sketch::default();
        let mut sorted: Vec<u64> = (0..100).map(|n| 100 + (n * 7_919 % 100) * (n % 7 + 1)).collect();
        sorted.iter().for_each(|&value| sketch.learn(value));
        sorted.sort_unstable();
        for (thousandths, at) in [(0, 0), (50, 4), (500, 49), (900, 89), (990, 98), (1_000, 99)] {
            let (exact, told) = (sorted[at], sketch.quantile(thousandths).unwrap());
            assert!(told >= exact && told <= exact + exact / 8, "{thousandths}: {exact}, told {told}");
        }
    }

    #[test]
    fn of_values_all_over_the_place_quantiles_are_never_too_low() {
        let mut sketch = Sketch::default();
        let mut sorted: Vec<u64> = (0..100_u64).map(|n| 1 << (n * 7_919 % 50)).collect();
        sorted.iter().for_each(|&value| sketch.learn(value));
        sorted.sort_unstable();
        for (thousandths, at) in [(500, 49), (900, 89), (990, 98), (1_000, 99)] {
            assert!(sketch.quantile(thousandths).unwrap() >= sorted[at]);
        }
    }

    #[test]
    fn a_lone_outlier_is_remembered_for_a_hundred_values_and_then_forgotten() {
        let mut sketch = Sketch::default();
        sketch.learn(10_000);
        for _ in 0..100 {
            sketch.learn(10);
        }
        assert!(sketch.quantile(1_000).unwrap() >= 10_000);
        assert_eq!(sketch.quantile(900), Some(10));
        for _ in 0..160 {
            sketch.learn(10);
        }
        assert_eq!(sketch.quantile(1_000), Some(10));
    }

    #[test]
    fn it_never_takes_more_than_its_bins() {
        let mut sketch = Sketch::default();
        for n in 0..10_000_u64 {
            sketch.learn(n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (n % 60));
            assert!(
                sketch.bins.len() <= BINS && sketch.is_sound() && sketch.weight == weight_of(&sketch.bins)
            );
        }
        assert!(sketch.bins.is_sorted());
    }
}
