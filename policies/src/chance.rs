//! Chance that can be repeated.
//!
//! **Knows:** a seed.
//! **Promises:** the same seed gives the same numbers, for ever and on every machine.
//! **Gives up:** secrecy: who has seen one number knows all that follow. One stream per purpose, so that a new draw here does
//! not shuffle everything there.

/// The generator of the whole project (Steele, Lea, Flood 2014): small, fast, and good enough to draw arrivals. Who needs more
/// kinds of numbers builds them of these.
#[derive(Debug, Clone, Copy)]
pub struct SplitMix64(u64);

impl SplitMix64 {
    /// From any state; states that differ in one bit give streams that have nothing in common.
    pub const fn new(state: u64) -> Self {
        Self(state)
    }

    /// The stream of this purpose under this seed.
    pub fn of(seed: u64, purpose: &str) -> Self {
        let named = purpose.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        Self(seed ^ named)
    }

    /// Another stream, one for each of many things.
    #[must_use]
    pub const fn one_of_many(self, which: u64) -> Self {
        Self(self.0 ^ which.wrapping_mul(0x9fb2_1c65_1e98_df25))
    }

    /// Any number.
    pub fn any(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`, which must not be 0: the high half of the product, without a division. Its bias is below `end / 2^64`.
    pub fn below(&mut self, end: u64) -> u64 {
        ((u128::from(self.any()) * u128::from(end)) >> 64) as u64
    }

    /// A number from `low` to `high`, both included; `low` where the two are the wrong way round.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        match high.checked_sub(low).map(|width| width.checked_add(1)) {
            Some(Some(width)) => low + self.below(width),
            Some(None) => self.any(),
            None => low,
        }
    }
}

/// What the policies draw.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Chance(SplitMix64);

impl Chance {
    /// The stream of this purpose under this seed.
    pub fn new(seed: u64, purpose: &str) -> Self {
        Self(SplitMix64::of(seed, purpose))
    }

    /// Any number.
    pub fn next(&mut self) -> u64 {
        self.0.any()
    }

    /// A number below `limit`, which must not be 0.
    pub fn below(&mut self, limit: usize) -> usize {
        self.0.below(limit as u64) as usize
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
    fn both_ends_are_drawn_and_the_whole_range_does_not_overflow() {
        let mut chance = SplitMix64::of(1, "test");
        let drawn: Vec<u64> = (0..100).map(|_| chance.between(3, 5)).collect();
        assert_eq!((drawn.iter().min(), drawn.iter().max()), (Some(&3), Some(&5)));
        assert_eq!((chance.between(7, 7), chance.between(7, 1)), (7, 7));
        chance.between(0, u64::MAX);
    }

    #[test]
    fn the_generator_is_the_published_one() {
        // The first numbers of the reference implementation (Vigna, splitmix64.c) from state 1234567.
        let mut chance = SplitMix64::new(1_234_567);
        let first = [chance.any(), chance.any(), chance.any()];
        assert_eq!(first, [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]);
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
