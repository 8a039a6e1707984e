//! A profile that was kept somewhere and comes back.
//!
//! **Knows:** what [`Profile`]'s own hand could have written, and how old it is.
//! **Promises:** bytes that nobody of ours wrote are told from a profile before they can do harm: whatever
//! [`Profile::is_sound`] lets pass can be asked and taught like any other. Of two, the one that has seen more runs is right.
//! **Gives up:** mending what is damaged. A function is known again after three runs.

use super::Profile;

impl Profile {
    /// Whether it is one that could have been learned.
    pub fn is_sound(&self) -> bool {
        self.runs >= self.cold_runs && self.buckets.is_sound()
    }

    /// What is left of it after so many half lives in which nobody looked: everything that it says, of half as many runs for
    /// each. So a function that was not called for long has to show anew that it is what it was.
    pub fn aged(mut self, halvings: u32) -> Self {
        self.buckets.halve(halvings);
        self
    }

    /// Takes over what another Controller has learned, if that is more than what was learned here. The rate stays as it is: it
    /// is of what arrives here and now. Says whether it did.
    pub fn learn_from(&mut self, kept: Profile) -> bool {
        let is_more = kept.runs > self.runs;
        if is_more {
            let arrivals = self.arrivals;
            *self = Profile { arrivals, ..kept };
        }
        is_more
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use vocabulary::{Mebibytes, MilliCores, Moment, Span, Usage};

    use super::*;

    fn usage(cpu: u32) -> Usage {
        Usage { cpu_peak: MilliCores(cpu), memory_peak: Mebibytes(64), ..Usage::default() }
    }

    fn after(runs: u64) -> Profile {
        let mut profile = Profile::default();
        for run in 0..runs {
            profile.ended_with((run % 9_000) as u32, Span::millis(run), None, usage((run % 7) as u32 * 100));
        }
        profile
    }

    #[test]
    fn whatever_was_learned_is_sound() {
        for runs in [0, 1, 2, 100, 20_000] {
            assert!(after(runs).is_sound(), "after {runs} runs");
        }
    }

    #[test]
    fn the_one_that_has_seen_more_is_taken_over_and_the_rate_is_not() {
        let mut here = after(10);
        here.arrived(Moment::ORIGIN);
        let rate = here.rate_milli_hz(Moment::ORIGIN);
        assert!(!here.learn_from(after(10)) && !here.learn_from(after(9)));
        assert!(here.learn_from(after(11)));
        assert_eq!((here.runs().0, here.rate_milli_hz(Moment::ORIGIN)), (11, rate));
    }

    #[test]
    fn what_is_old_is_believed_less() {
        let mut profile = Profile::default();
        for _ in 0..64 {
            profile.ended_with(100, Span::millis(5), None, usage(100));
        }
        let before = profile.expect(100).unwrap();
        let after = profile.clone().aged(3).expect(100).unwrap();
        assert_eq!((before.runs, after.runs), (64, 8));
        assert!(after.uncertainty > before.uncertainty && after.cpu_high == before.cpu_high);
        assert_eq!(profile.aged(40).expect(100).unwrap().runs, 0);
    }

    proptest! {
        /// Bytes that were changed on the way are no profile, or one that does no harm.
        #[test]
        fn nothing_that_passes_for_sound_can_make_us_stumble(
            runs in 0_u64..400,
            damage in prop::collection::vec((any::<prop::sample::Index>(), any::<char>()), 1..4),
        ) {
            let mut text: Vec<char> = serde_json::to_string(&after(runs)).unwrap().chars().collect();
            for (at, with) in damage {
                let digit = char::from(b'0' + (with as u32 % 10) as u8);
                let at = at.index(text.len());
                // Mostly numbers change: what is no JSON any more tells nothing new.
                text[at] = if text[at].is_ascii_digit() { digit } else { with };
            }
            let text: String = text.into_iter().collect();
            if let Ok(mut profile) = serde_json::from_str::<Profile>(&text) && profile.is_sound() {
                for size in [0, 1, 500, 8_999, u32::MAX] {
                    let _ = profile.expect(size);
                    profile.ended_with(size, Span::millis(3), Some(Span::millis(9)), usage(50));
                    profile.starved();
                }
                let _ = (profile.duration(), profile.cpu_peak(), profile.concurrency_milli(Moment::ORIGIN));
                prop_assert!(profile.is_sound());
            }
        }
    }

    #[test]
    fn numbers_beyond_all_sense_are_no_profile() {
        let sound = serde_json::to_value(after(3)).unwrap();
        let damaged = |pointer: &str, value: serde_json::Value| {
            let mut text = sound.clone();
            *text.pointer_mut(pointer).unwrap_or_else(|| panic!("{pointer}")) = value;
            serde_json::from_value::<Profile>(text).map(|profile| profile.is_sound())
        };
        let weighs = |bins: Vec<(u16, u16)>| serde_json::to_value(bins).unwrap();
        assert!(damaged("/runs", 3.into()).unwrap());
        assert!(!damaged("/cold_runs", 4.into()).unwrap());
        assert!(!damaged("/buckets/0/cpu_mean_16", u64::MAX.into()).unwrap());
        assert!(!damaged("/buckets/0/size", 99.into()).unwrap());
        for bins in [
            vec![(9, 0)],
            vec![(9, 1), (9, 1)],
            vec![(9, 1), (8, 1)],
            vec![(600, 1)],
            vec![(1, 60_000)],
            (0..30).map(|bin| (bin, 1)).collect(),
        ] {
            assert!(!damaged("/buckets/0/duration_us", weighs(bins.clone())).unwrap(), "{bins:?}");
        }
        let twice = serde_json::json!([sound["buckets"][0], sound["buckets"][0]]);
        assert!(!damaged("/buckets", twice).unwrap());
    }
}
