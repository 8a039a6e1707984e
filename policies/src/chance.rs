//! Chance that can be repeated.
//!
//! **Knows:** a seed.
//! **Promises:** the same seed gives the same numbers, for ever and on every machine (SplitMix64).
//! **Gives up:** secrecy: who has seen one number knows all that follow. One stream per purpose, so that a new draw here does
//! not shuffle everything there.

/// A stream of numbers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Chance(u64);

impl Chance {
    /// The stream of this purpose under this seed.
    pub fn new(seed: u64, purpose: &str) -> Self {
        let named = purpose.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        Self(seed ^ named)
    }

    /// Any number.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `limit`, which must not be 0.
    pub fn below(&mut self, limit: usize) -> usize {
        // The high half of the product: as even as 64 bits allow, and without a division.
        ((u128::from(self.next()) * limit as u128) >> 64) as usize
    }

    /// Normally distributed around 0 with this deviation, by the sum of twelve uniform numbers: whole numbers only, and
    /// never further than six deviations away.
    pub fn normal(&mut self, deviation: u64) -> i64 {
        let twelve: i64 = (0..12).map(|_| (self.next() >> 44) as i64).sum();
        let centred = twelve - 6 * (1 << 20);
        centred * i64::try_from(deviation).unwrap_or(i64::MAX / (1 << 24)) / (1 << 20)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn purposes_do_not_share_a_stream_and_a_stream_repeats() {
        let draw = |purpose| Chance::new(7, purpose).next();
        assert_eq!(draw("here"), draw("here"));
        assert_ne!(draw("here"), draw("there"));
    }

    #[test]
    fn below_is_even_and_normal_is_centred() {
        let mut chance = Chance::new(1, "test");
        let mut counts = [0; 10];
        (0..10_000).for_each(|_| counts[chance.below(10)] += 1);
        assert!(counts.iter().all(|&n| (900..=1_100).contains(&n)), "{counts:?}");
        let drawn: Vec<i64> = (0..10_000).map(|_| chance.normal(1_000)).collect();
        let mean = drawn.iter().sum::<i64>() / 10_000;
        let variance = drawn.iter().map(|x| x * x).sum::<i64>() / 10_000;
        assert!(mean.abs() < 40, "{mean}");
        assert!((950_000..=1_050_000).contains(&variance), "{variance}");
    }
}
