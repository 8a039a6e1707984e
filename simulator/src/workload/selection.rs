//! Which part of a trace is played.
//!
//! **Promises:** what is left out does not change what is left; learning and judging can be kept on different minutes.
//! **Gives up:** a rate that is scaled keeps the trace's bursts: each call is left out or repeated by chance of its own.

use std::ops::Range;

use vocabulary::Span;

use crate::chance::Chance;
use crate::workload::purpose;

/// Which part of a trace is played, and how dense.
#[derive(Debug, Clone, PartialEq)]
pub struct Selection {
    /// Minutes of the trace, as it numbers them; all of them if not given.
    pub minutes: Option<Range<u32>>,
    /// Which functions.
    pub functions: Subset,
    /// Calls per call of the trace.
    pub rate: f64,
    /// No function has more calls in a minute.
    pub per_minute_max: Option<u32>,
    /// No more calls in all.
    pub calls_max: Option<u64>,
    /// The first minute begins so long after the house.
    pub begins: Span,
    /// How long a minute of the trace is played.
    pub minute: Span,
}

/// Which functions of a trace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subset {
    /// All.
    All,
    /// Those that have a 1 in this column of the table of functions.
    Marked(String),
    /// So many of those that are called most in the chosen minutes.
    MostCalled(usize),
    /// So many, by chance of this seed.
    Chosen(usize, u64),
}

/// The minutes of the default sample (`s500`) on which policies may be tuned and models trained...
pub const S500_LEARN: Range<u32> = 480..720;
/// ...and those on which they are judged, and nothing else.
pub const S500_JUDGE: Range<u32> = 720..960;

impl Default for Selection {
    fn default() -> Self {
        Self {
            minutes: None,
            functions: Subset::All,
            rate: 1.0,
            per_minute_max: None,
            calls_max: None,
            begins: Span::seconds(2),
            minute: Span::seconds(60),
        }
    }
}

impl Selection {
    /// Only these minutes.
    pub fn minutes(minutes: Range<u32>) -> Self {
        Self { minutes: Some(minutes), ..Self::default() }
    }

    /// Whether a minute is played.
    pub(crate) fn has_minute(&self, minute: u32) -> bool {
        self.minutes.as_ref().is_none_or(|minutes| minutes.contains(&minute))
    }

    /// How many calls are made of `count` calls of one function in one minute.
    pub(crate) fn calls(&self, count: u32, chance: &mut Chance) -> u32 {
        if count == 0 {
            return 0;
        }
        let scaled = if self.rate == 1.0 { count } else { chance.rounded(f64::from(count) * self.rate) };
        scaled.min(self.per_minute_max.unwrap_or(u32::MAX))
    }

    /// The places of the chosen among functions that are called `called` times; ascending. `marked` tells of
    /// [`Subset::Marked`].
    pub(crate) fn chosen(&self, called: &[u64], marked: impl Fn(usize) -> bool) -> Vec<usize> {
        let mut places: Vec<usize> = (0..called.len()).collect();
        match &self.functions {
            Subset::All => {}
            Subset::Marked(_) => places.retain(|&place| marked(place)),
            Subset::MostCalled(most) => {
                places.sort_by_key(|&place| (u64::MAX - called[place], place));
                places.truncate(*most);
            }
            Subset::Chosen(most, seed) => {
                let mut chance = Chance::new(*seed, purpose::CHOICE);
                for place in 0..places.len().min(*most) {
                    let other = place as u64 + chance.below((places.len() - place) as u64);
                    places.swap(place, other as usize);
                }
                places.truncate(*most);
            }
        }
        places.sort_unstable();
        places
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn learning_and_judging_share_no_minute() {
        assert!(S500_LEARN.clone().all(|minute| !S500_JUDGE.contains(&minute)));
        assert_eq!(S500_LEARN.len() + S500_JUDGE.len(), 480);
    }

    #[test]
    fn subsets_are_what_they_say() {
        let called = [5, 0, 9, 9, 1];
        let of = |functions| Selection { functions, ..Selection::default() }.chosen(&called, |at| at == 4);
        assert_eq!(of(Subset::All), [0, 1, 2, 3, 4]);
        assert_eq!(of(Subset::Marked("in".into())), [4]);
        assert_eq!(of(Subset::MostCalled(2)), [2, 3]);
        assert_eq!(of(Subset::Chosen(3, 1)).len(), 3);
        assert_eq!(of(Subset::Chosen(3, 1)), of(Subset::Chosen(3, 1)));
        assert_ne!(of(Subset::Chosen(3, 1)), of(Subset::Chosen(3, 2)));
        assert_eq!(of(Subset::Chosen(9, 1)).len(), 5);
    }

    #[test]
    fn a_rate_is_met_on_average_and_a_cap_always() {
        let mut chance = Chance::new(1, 1);
        let half = Selection { rate: 0.5, ..Selection::default() };
        let calls: u32 = (0..10_000).map(|_| half.calls(1, &mut chance)).sum();
        assert!((4_850..5_150).contains(&calls), "{calls}");
        let capped = Selection { rate: 3.0, per_minute_max: Some(7), ..Selection::default() };
        assert_eq!(capped.calls(5, &mut chance), 7);
        assert_eq!(capped.calls(0, &mut chance), 0);
    }
}
