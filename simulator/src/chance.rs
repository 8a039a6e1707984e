//! Chance that can be repeated.
//!
//! **Knows:** a seed and a purpose.
//! **Promises:** one stream per purpose, so that a new draw here does not shuffle everything there.
//! **Gives up:** secrecy, and equality across machines whose mathematical libraries round logarithms differently.

use vocabulary::Span;

/// SplitMix64 (Steele, Lea, Flood 2014): small, fast, and good enough to draw arrivals.
#[derive(Debug, Clone)]
pub(crate) struct Chance {
    state: u64,
}

impl Chance {
    /// The stream of this seed for this purpose.
    pub fn new(seed: u64, purpose: u64) -> Self {
        let mut chance = Self { state: seed ^ purpose.wrapping_mul(0xd134_2543_de82_ef95) };
        chance.draw();
        chance
    }

    fn draw(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Above 0, at most 1.
    fn unit(&mut self) -> f64 {
        ((self.draw() >> 11) + 1) as f64 / (1_u64 << 53) as f64
    }

    /// Below the limit, which is at least 1; so small limits that the bias does not matter.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.draw() % limit.max(1)
    }

    /// The gap to the next arrival of a Poisson stream.
    pub fn gap(&mut self, per_second: f64) -> Span {
        Span((-self.unit().ln() / per_second * 1e6) as u64)
    }

    /// A log-normal span with this mean; `sigma` is the standard deviation of its logarithm.
    pub fn log_normal(&mut self, mean: Span, sigma: f64) -> Span {
        // Box and Muller; the second of the pair is not kept, so that every call draws the same number of times.
        let normal = (-2.0 * self.unit().ln()).sqrt() * (std::f64::consts::TAU * self.unit()).cos();
        let span = mean.as_micros() as f64 * (sigma * normal - sigma * sigma / 2.0).exp();
        Span((span as u64).max(1))
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
    }
}
