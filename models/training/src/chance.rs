//! Chance that can be repeated.
//!
//! **Promises:** the same seed, the same draws, on every machine whose logarithms round alike.
//! **Gives up:** secrecy.

/// SplitMix64 (Steele, Lea and Flood, 2014): small, and the same everywhere.
#[derive(Debug, Clone)]
pub struct Chance(u64);

impl Chance {
    /// The stream of a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The stream of one of many: of an iteration, an episode.
    pub fn one_of_many(seed: u64, which: u64) -> Self {
        let mut first = Self(seed ^ which.wrapping_mul(0xd134_2543_de82_ef95));
        Self(first.draw())
    }

    /// 64 bits.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// At least 0, below 1, in 24 bits: what an f32 holds without rounding.
    pub fn unit(&mut self) -> f32 {
        (self.draw() >> 40) as f32 / (1u32 << 24) as f32
    }

    /// Between `-bound` and `bound`.
    pub fn within(&mut self, bound: f32) -> f32 {
        (2.0 * self.unit() - 1.0) * bound
    }

    /// Evenly between the two.
    pub fn between(&mut self, least: f64, most: f64) -> f64 {
        least + (most - least) * f64::from(self.unit())
    }

    /// Evenly in its logarithm.
    pub fn fold(&mut self, least: f64, most: f64) -> f64 {
        self.between(least.ln(), most.ln()).exp()
    }

    /// Below `end`, which is not 0.
    pub fn below(&mut self, end: usize) -> usize {
        ((u128::from(self.draw()) * end as u128) >> 64) as usize
    }

    /// One of them.
    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    /// True so often.
    pub fn happens(&mut self, share: f64) -> bool {
        f64::from(self.unit()) < share
    }

    /// Mean 0, standard deviation 1 (Box and Muller).
    pub fn normal(&mut self) -> f64 {
        let (first, second) = (1.0 - f64::from(self.unit()), f64::from(self.unit()));
        (-2.0 * first.ln()).sqrt() * (std::f64::consts::TAU * second).cos()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_have_their_means_and_streams_differ() {
        let mut chance = Chance::new(3);
        let (mut unit, mut normal, mut squares) = (0.0, 0.0, 0.0);
        for _ in 0..100_000 {
            unit += f64::from(chance.unit()) / 1e5;
            let drawn = chance.normal();
            normal += drawn / 1e5;
            squares += drawn * drawn / 1e5;
        }
        assert!((unit - 0.5).abs() < 0.01 && normal.abs() < 0.02 && (squares - 1.0).abs() < 0.03);
        assert_ne!(Chance::one_of_many(1, 1).draw(), Chance::one_of_many(1, 2).draw());
        assert!((0..1_000).map(|_| chance.fold(0.1, 10.0)).all(|drawn| (0.1..=10.0).contains(&drawn)));
    }
}
