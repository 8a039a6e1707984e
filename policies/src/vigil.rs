//! Whether it was we who slept, and not those of whom nothing was heard.
//!
//! **Knows:** when we were awake last, and when we wished to be woken after that.
//! **Promises:** whoever is awake half a second later than he wished has slept: he judges nobody's silence before what waits for him
//! can have been heard. Whoever waits for reports wishes to be woken each second, so no sleep longer than a second and a half goes
//! unnoticed; what a shorter one hides is less than the silence of a VM.
//! **Gives up:** telling a sleep from hard work that takes as long. Either way something waits unheard.

use vocabulary::{Moment, Span};

/// Whoever waits for reports, of which each VM sends one a second, wishes to be woken so often.
const LOOK: Span = Span::seconds(1);
/// Who is woken so much later than he wished has slept.
const OVERSLEPT: Span = Span::millis(500);

/// See the module.
#[derive(Debug, Clone, Copy)]
pub struct Vigil {
    looks_every: Span,
    /// When we were awake last, if we have been.
    last: Option<Moment>,
    /// Until then we have not heard what waited for us.
    deaf_until: Moment,
}

impl Default for Vigil {
    fn default() -> Self {
        Self::that_looks_every(LOOK)
    }
}

impl Vigil {
    /// Of one who is woken so often at least.
    pub fn that_looks_every(span: Span) -> Self {
        Self { looks_every: span, last: None, deaf_until: Moment::ORIGIN }
    }

    /// We are awake. `wish`: when we wished to be woken, as [`Vigil::wish`] and whatever else there was said. What waits for us is heard
    /// within `hears`.
    pub fn awake(&mut self, now: Moment, wish: Option<Moment>, hears: Span) {
        if self.last.is_some() && wish.is_some_and(|wish| now.since(wish) > OVERSLEPT) {
            self.deaf_until = now + hears;
        }
        self.last = Some(now);
    }

    /// Nothing can be heard now; what waits then is heard within `hears` from now at the earliest.
    pub fn deaf(&mut self, now: Moment, hears: Span) {
        self.deaf_until = now + hears;
    }

    /// When to be woken at the latest by whoever waits for others.
    pub fn wish(&self) -> Option<Moment> {
        self.last.map(|last| last + self.looks_every)
    }

    /// From when on a silence is one.
    pub fn hears_from(&self) -> Moment {
        self.deaf_until
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEARS: Span = Span::millis(1_500);

    fn at(ms: u64) -> Moment {
        Moment::ORIGIN + Span::seconds(50) + Span::millis(ms)
    }

    fn after_a_sleep_of(ms: u64) -> Vigil {
        let mut vigil = Vigil::default();
        vigil.awake(at(0), None, HEARS);
        vigil.awake(at(ms), vigil.wish(), HEARS);
        vigil
    }

    #[test]
    fn who_is_woken_in_time_may_judge_at_once() {
        for ms in [1, 999, 1_000, 1_500] {
            assert!(after_a_sleep_of(ms).hears_from() <= at(ms), "{ms}");
        }
    }

    #[test]
    fn who_slept_hears_first_what_waits() {
        for ms in [1_501, 3_000, 3_400, 60_000] {
            assert_eq!(after_a_sleep_of(ms).hears_from(), at(ms) + HEARS, "{ms}");
        }
    }

    #[test]
    fn who_begins_has_not_slept() {
        let mut vigil = Vigil::default();
        vigil.awake(at(0), Some(Moment::ORIGIN), HEARS);
        assert!(vigil.hears_from() <= at(0));
    }

    #[test]
    fn an_earlier_wish_tells_a_shorter_sleep() {
        let mut vigil = Vigil::default();
        vigil.awake(at(0), None, HEARS);
        vigil.awake(at(700), Some(at(100)), HEARS);
        assert_eq!(vigil.hears_from(), at(700) + HEARS);
    }
}
