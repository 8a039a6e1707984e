//! Chance that can be repeated.
//!
//! **Knows:** a seed, a purpose, and where one purpose has many streams, which of them.
//! **Promises:** one stream per purpose, so that a new draw here does not shuffle everything there; what has a number of its
//! own (a function, a user, a minute) has a stream of its own, so that leaving one out does not change the others.
//! **Gives up:** secrecy, and equality across machines whose mathematical libraries round logarithms differently.

use policies::chance::SplitMix64;
use vocabulary::Span;

/// What the rehearsal draws.
#[derive(Debug, Clone)]
pub(crate) struct Chance(SplitMix64);

impl Chance {
    /// The stream of this seed for this purpose.
    pub fn new(seed: u64, purpose: u64) -> Self {
        let mut chance = Self(SplitMix64::new(seed ^ purpose.wrapping_mul(0xd134_2543_de82_ef95)));
        chance.draw();
        chance
    }

    /// The stream of one of many: of a function, a user, a minute of a function.
    pub fn one_of_many(seed: u64, purpose: u64, which: u64) -> Self {
        let mut of_purpose = Self::new(seed, purpose).0.one_of_many(which);
        Self::new(of_purpose.any(), which)
    }

    fn draw(&mut self) -> u64 {
        self.0.any()
    }

    /// Above 0, at most 1.
    pub fn unit(&mut self) -> f64 {
        ((self.draw() >> 11) + 1) as f64 / (1_u64 << 53) as f64
    }

    /// At least 0, below `end`, which must not be 0. The bias of the multiplication is below `end / 2^64`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.0.below(end)
    }

    /// Any order, each as likely.
    pub fn shuffle<T>(&mut self, things: &mut [T]) {
        for last in (1..things.len()).rev() {
            things.swap(last, self.below(last as u64 + 1) as usize);
        }
    }

    /// At least `least`, at most `most`.
    pub fn between(&mut self, least: f64, most: f64) -> f64 {
        least + (most - least) * self.unit()
    }

    /// Exponential with this mean.
    pub fn exponential(&mut self, mean: f64) -> f64 {
        -self.unit().ln() * mean
    }

    /// Mean 0, standard deviation 1 (Box and Muller; the second of the pair is not kept, so that every call draws the same
    /// number of times).
    pub fn normal(&mut self) -> f64 {
        (-2.0 * self.unit().ln()).sqrt() * (std::f64::consts::TAU * self.unit()).cos()
    }

    /// How many things of a Poisson process with this mean happen. From 64 on by its normal approximation.
    pub fn poisson(&mut self, mean: f64) -> u32 {
        if mean >= 64.0 {
            return (mean + mean.sqrt() * self.normal()).round().max(0.0) as u32;
        }
        let (limit, mut product, mut count) = ((-mean).exp(), self.unit(), 0);
        while product > limit {
            product *= self.unit();
            count += 1;
        }
        count
    }

    /// `expected` on average: rounded down, or up by chance.
    pub fn rounded(&mut self, expected: f64) -> u32 {
        let down = expected.floor();
        down as u32 + u32::from(self.unit() <= expected - down)
    }

    /// The gap to the next arrival of a Poisson stream.
    pub fn gap(&mut self, per_second: f64) -> Span {
        Span((self.exponential(1.0) / per_second * 1e6) as u64)
    }

    /// A log-normal span with this mean; `sigma` is the standard deviation of its logarithm.
    pub fn log_normal(&mut self, mean: Span, sigma: f64) -> Span {
        let normal = self.normal();
        let span = mean.as_micros() as f64 * (sigma * normal - sigma * sigma / 2.0).exp();
        Span((span as u64).max(1))
    }
}

/// Draws indices by weight in constant time (Walker's alias method): twelve bytes for each.
#[derive(Debug, Clone)]
pub(crate) struct Weighted {
    /// Up to here the index itself, beyond it the other one.
    cut: Vec<f64>,
    other: Vec<u32>,
}

impl Weighted {
    /// From weights that are not negative and not all 0.
    pub fn new(weights: &[f64]) -> Self {
        let mean = weights.iter().sum::<f64>() / weights.len() as f64;
        let mut cut: Vec<f64> = weights.iter().map(|weight| weight / mean).collect();
        let mut other: Vec<u32> = (0..weights.len() as u32).collect();
        let (mut poor, mut rich): (Vec<u32>, Vec<u32>) =
            other.iter().partition(|&&at| cut[at as usize] < 1.0);
        while let (Some(&least), Some(&most)) = (poor.last(), rich.last()) {
            poor.pop();
            other[least as usize] = most;
            cut[most as usize] -= 1.0 - cut[least as usize];
            if cut[most as usize] < 1.0 {
                rich.pop();
                poor.push(most);
            }
        }
        Self { cut, other }
    }

    /// One index.
    pub fn pick(&self, chance: &mut Chance) -> usize {
        let at = chance.below(self.cut.len() as u64) as usize;
        if chance.unit() <= self.cut[at] { at } else { self.other[at] as usize }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mean(spans: impl Iterator<Item = Span>) -> f64 {
        let (sum, count) = spans.fold((0.0, 0.0), |(sum, n), span| (sum + span.as_seconds(), n + 1.0));
        sum / count
    }

    #[test]
    fn arrivals_come_at_their_rate() {
        let mut chance = Chance::new(1, 1);
        let gap = mean((0..100_000).map(|_| chance.gap(20.0)));
        assert!((0.049..0.051).contains(&gap), "{gap}");
    }

    #[test]
    fn durations_have_their_mean_whatever_their_spread() {
        for sigma in [0.0, 0.5, 1.0] {
            let mut chance = Chance::new(2, 1);
            let duration = mean((0..200_000).map(|_| chance.log_normal(Span::seconds(2), sigma)));
            assert!((1.96..2.04).contains(&duration), "{duration} with sigma {sigma}");
        }
    }

    #[test]
    fn streams_of_different_purposes_differ() {
        assert_ne!(Chance::new(1, 1).draw(), Chance::new(1, 2).draw());
        assert_eq!(Chance::new(1, 1).draw(), Chance::new(1, 1).draw());
        assert_ne!(Chance::one_of_many(1, 1, 0).draw(), Chance::one_of_many(1, 1, 1).draw());
        assert_ne!(Chance::one_of_many(1, 1, 0).draw(), Chance::one_of_many(2, 1, 0).draw());
        // Neighbours are no shifted copies of one another.
        let (mut first, mut second) = (Chance::one_of_many(1, 1, 7), Chance::one_of_many(1, 1, 8));
        let (first, second): (Vec<u64>, Vec<u64>) =
            ((0..64).map(|_| first.draw()).collect(), (0..64).map(|_| second.draw()).collect());
        assert!(first.iter().all(|draw| !second.contains(draw)));
    }

    #[test]
    fn counts_have_their_mean_small_and_large() {
        for mean in [0.3, 5.0, 63.0, 64.0, 900.0] {
            let mut chance = Chance::new(3, 1);
            let drawn = (0..20_000).map(|_| f64::from(chance.poisson(mean))).sum::<f64>() / 20_000.0;
            assert!((drawn / mean - 1.0).abs() < 0.02, "{drawn} for {mean}");
        }
    }

    #[test]
    fn what_is_rounded_by_chance_has_its_mean() {
        for mean in [0.3, 5.0, 63.7] {
            let mut chance = Chance::new(3, 1);
            let rounded = (0..20_000).map(|_| f64::from(chance.rounded(mean))).sum::<f64>() / 20_000.0;
            assert!((rounded / mean - 1.0).abs() < 0.03, "{rounded} for {mean}");
        }
    }

    #[test]
    fn the_heavy_are_picked_as_often_as_their_weight_says() {
        let weights = [5.0, 0.0, 1.0, 2.0, 2.0];
        let (weighted, mut chance) = (Weighted::new(&weights), Chance::new(4, 1));
        let mut picked = [0.0; 5];
        for _ in 0..100_000 {
            picked[weighted.pick(&mut chance)] += 1e-4;
        }
        for (picked, weight) in picked.iter().zip(weights) {
            assert!((picked - weight).abs() < 0.05, "{picked} for {weight}");
        }
    }
}
