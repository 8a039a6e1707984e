//! Which notice stands, when several sources speak.
//!
//! **Promises:** the earliest deadline holds; who calls off takes back only its own word; saying the same again
//! changes nothing. It outlives the Harvest Monitor, so that the next one still knows.
//! **Gives up:** differences of less than a quarter of a second between two words of one source.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use vocabulary::Span;

use super::{Noticed, Said};

const SAME: Duration = Duration::from_millis(250);

/// What every source has said last.
#[derive(Debug, Default)]
pub struct Standing {
    /// By the source's place.
    deadlines: BTreeMap<usize, (Instant, &'static str)>,
    /// Sources that have said it may end.
    soft: BTreeMap<usize, &'static str>,
}

/// What has changed by a word.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::harvest_monitor) enum Change {
    /// Nothing.
    None,
    /// Another deadline holds, or none any more.
    Notice(Noticed),
    /// A soft notice.
    Soft(&'static str),
}

impl Standing {
    /// A source has spoken.
    pub(in crate::harvest_monitor) fn heard(
        &mut self,
        now: Instant,
        place: usize,
        source: &'static str,
        said: Said,
    ) -> Change {
        let before = self.deadline();
        match said {
            Said::WillEnd(left) => {
                self.deadlines.insert(place, (now + Duration::from(left), source));
            }
            Said::CalledOff => {
                self.deadlines.remove(&place);
                self.soft.remove(&place);
            }
            Said::MayEnd => {
                return match self.soft.insert(place, source) {
                    Some(_) => Change::None,
                    None => Change::Soft(source),
                };
            }
        }
        match (before, self.deadline()) {
            (None, None) => Change::None,
            (Some((before, from)), Some((after, to)))
                if from == to && before.max(after) - before.min(after) < SAME =>
            {
                Change::None
            }
            (_, Some((deadline, source))) => Change::Notice(noticed(now, deadline, source)),
            (Some(_), None) => Change::Notice(Noticed { time_left: None, source }),
        }
    }

    /// The notice that stands.
    pub(in crate::harvest_monitor) fn now(&self, now: Instant) -> Option<Noticed> {
        self.deadline().map(|(deadline, source)| noticed(now, deadline, source))
    }

    fn deadline(&self) -> Option<(Instant, &'static str)> {
        self.deadlines.values().min().copied()
    }
}

fn noticed(now: Instant, deadline: Instant, source: &'static str) -> Noticed {
    Noticed { time_left: Some(Span::from(deadline.saturating_duration_since(now))), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stands(left: u64, source: &'static str) -> Change {
        Change::Notice(Noticed { time_left: Some(Span::seconds(left)), source })
    }

    #[test]
    fn the_earliest_deadline_holds_and_each_calls_off_its_own() {
        let (mut standing, now) = (Standing::default(), Instant::now());
        let said = |left| Said::WillEnd(Span::seconds(left));
        assert_eq!(standing.heard(now, 0, "sigterm", said(30)), stands(30, "sigterm"));
        assert_eq!(standing.heard(now, 1, "azure", said(60)), Change::None);
        assert_eq!(standing.heard(now, 1, "azure", said(10)), stands(10, "azure"));
        assert_eq!(standing.heard(now, 1, "azure", Said::CalledOff), stands(30, "sigterm"));
        assert_eq!(standing.heard(now, 1, "azure", Said::CalledOff), Change::None);
        let off = Change::Notice(Noticed { time_left: None, source: "sigterm" });
        assert_eq!(standing.heard(now, 0, "sigterm", Said::CalledOff), off);
        assert_eq!(standing.now(now), None);
    }

    #[test]
    fn a_second_sigterm_means_now() {
        let (mut standing, now) = (Standing::default(), Instant::now());
        standing.heard(now, 0, "sigterm", Said::WillEnd(Span::seconds(30)));
        assert_eq!(standing.heard(now, 0, "sigterm", Said::WillEnd(Span::ZERO)), stands(0, "sigterm"));
    }

    #[test]
    fn a_soft_notice_is_told_once_and_sets_no_deadline() {
        let (mut standing, now) = (Standing::default(), Instant::now());
        assert_eq!(standing.heard(now, 0, "aws", Said::MayEnd), Change::Soft("aws"));
        assert_eq!(standing.heard(now, 0, "aws", Said::MayEnd), Change::None);
        assert_eq!(standing.now(now), None);
    }
}
