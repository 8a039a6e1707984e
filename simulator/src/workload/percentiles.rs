//! A distribution of which only some percentiles are known.
//!
//! **Promises:** its own percentiles, whatever is drawn between them.
//! **Gives up:** its mean. Between two percentiles it is drawn evenly in the logarithm, because durations and memory spread
//! over decades; the stretch from the 99th to the largest has more mass so than most real tails: over the 500 sampled
//! functions of Azure 2019 the mean comes out above the published one (`tests/traces.rs` prints by how much).

use crate::chance::Chance;

/// Known percentiles, ascending.
#[derive(Debug, Clone, PartialEq)]
pub struct Percentiles {
    /// (share of draws up to it, value)
    known: Vec<(f32, f32)>,
}

impl Percentiles {
    /// From (percent, value) in ascending order of both; `None` if they are not, or there is none.
    pub fn new(known: &[(f64, f64)]) -> Option<Self> {
        let ascending = known.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1);
        let sensible =
            known.iter().all(|&(percent, value)| (0.0..=100.0).contains(&percent) && value.is_finite());
        let known: Vec<(f32, f32)> =
            known.iter().map(|&(percent, value)| (percent as f32 / 100.0, value as f32)).collect();
        (ascending && sensible && !known.is_empty()).then_some(Self { known })
    }

    /// Always the same.
    pub fn always(value: f64) -> Self {
        Self { known: vec![(0.5, value as f32)] }
    }

    /// The value below which this share of draws lies. Outside of what is known: the nearest that is known.
    pub fn at(&self, share: f64) -> f64 {
        let after = self.known.partition_point(|&(known, _)| f64::from(known) < share);
        let Some(&(above, high)) = self.known.get(after) else { return self.largest() };
        let Some(&(below, low)) = after.checked_sub(1).and_then(|before| self.known.get(before)) else {
            return f64::from(high);
        };
        let [above, high, below, low] = [above, high, below, low].map(f64::from);
        let way = (share - below) / (above - below);
        if low > 0.0 { low * (high / low).powf(way) } else { low + (high - low) * way }
    }

    /// One draw.
    pub(crate) fn draw(&self, chance: &mut Chance) -> f64 {
        self.at(chance.unit())
    }

    /// The largest that is known.
    pub fn largest(&self) -> f64 {
        self.known.last().map_or(0.0, |&(_, value)| f64::from(value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_has_its_own_percentiles() {
        let known = [(0.0, 0.0), (25.0, 10.0), (50.0, 100.0), (99.0, 100.0), (100.0, 1e5)];
        let percentiles = Percentiles::new(&known).unwrap();
        for (percent, value) in known {
            assert!((percentiles.at(percent / 100.0) - value).abs() < 1e-3, "{percent}");
        }
        let mut chance = Chance::new(1, 1);
        let mut drawn: Vec<f64> = (0..100_001).map(|_| percentiles.draw(&mut chance)).collect();
        drawn.sort_by(f64::total_cmp);
        assert!((drawn[25_000] - 10.0).abs() < 0.3, "{}", drawn[25_000]);
        assert!((drawn[50_000] - 100.0).abs() < 1e-9);
        assert!(drawn[0] >= 0.0 && drawn[100_000] <= 1e5);
    }

    #[test]
    fn what_descends_is_none() {
        assert_eq!(Percentiles::new(&[(1.0, 5.0), (50.0, 4.0)]), None);
        assert_eq!(Percentiles::new(&[(50.0, 5.0), (50.0, 6.0)]), None);
        assert_eq!(Percentiles::new(&[(50.0, f64::NAN)]), None);
        assert_eq!(Percentiles::new(&[]), None);
        assert_eq!(Percentiles::always(3.0).at(0.001), 3.0);
    }
}
