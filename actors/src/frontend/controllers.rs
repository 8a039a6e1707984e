//! Which Controllers are alive, and which of them owns a function.
//!
//! **Knows:** when each was heard last, and whether it is we who did not listen: who slept, or had no server, hears first what waits for
//! him.
//! **Promises:** rendezvous hashing (Thaler and Ravishankar, 1998): when a Controller comes or goes, only the
//! functions it gains or loses move, and every Frontend that knows the same Controllers agrees.
//! **Gives up:** balance by load; there are few Controllers and many functions.

use std::collections::BTreeMap;

use policies::vigil::Vigil;
use vocabulary::{ControllerId, FunctionId, Moment, Span};

/// Controllers announce themselves every half second; after this much silence one is given up.
const SILENCE: Span = Span::millis(1_600);
/// What waits for us is heard in this time, or the next announcement is.
const HEARS: Span = Span::millis(700);

/// The Controllers that have been heard.
#[derive(Debug)]
pub(super) struct Controllers {
    heard: BTreeMap<ControllerId, Moment>,
    vigil: Vigil,
}

impl Controllers {
    /// None yet, for a Frontend that is awake so often at least.
    pub(super) fn new(looks_every: Span) -> Self {
        Self { heard: BTreeMap::new(), vigil: Vigil::that_looks_every(looks_every) }
    }

    /// We are awake.
    pub(super) fn awake(&mut self, now: Moment) {
        self.vigil.awake(now, self.vigil.wish(), HEARS);
    }

    /// There is no server through which any of them could be heard.
    pub(super) fn deaf(&mut self, now: Moment) {
        self.vigil.deaf(now, HEARS);
    }

    fn is_silent(&self, heard: Moment, now: Moment) -> bool {
        now.since(heard) > SILENCE && now >= self.vigil.hears_from()
    }

    /// Notes a sign of life; true if this Controller is new.
    pub(super) fn heard(&mut self, controller: ControllerId, now: Moment) -> bool {
        self.heard.insert(controller, now).is_none()
    }

    /// Strikes one off.
    pub(super) fn gone(&mut self, controller: ControllerId) {
        if self.heard.remove(&controller).is_some() {
            tracing::warn!(%controller, "lost a Controller");
        }
    }

    /// Strikes off those that have been silent for too long; true if there were any.
    pub(super) fn forget_silent(&mut self, now: Moment) -> bool {
        let silent: Vec<_> =
            self.heard.iter().filter(|(_, at)| self.is_silent(**at, now)).map(|(id, _)| *id).collect();
        for controller in &silent {
            self.gone(*controller);
        }
        !silent.is_empty()
    }

    /// Whether this one still counts.
    pub(super) fn is_alive(&self, controller: ControllerId, now: Moment) -> bool {
        self.heard.get(&controller).is_some_and(|at| !self.is_silent(*at, now))
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.heard.len()
    }

    /// Who decides for this function.
    pub(super) fn owner(&self, function: FunctionId, now: Moment) -> Option<ControllerId> {
        self.heard
            .iter()
            .filter(|(_, at)| !self.is_silent(**at, now))
            .map(|(controller, _)| *controller)
            .max_by_key(|controller| (mix(controller.0 ^ mix(function.0)), controller.0))
    }
}

/// The finaliser of SplitMix64 (Steele, Lea and Flood, 2014): the same on every machine and in every build.
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn three() -> Controllers {
        let mut controllers = Controllers::new(Span::millis(250));
        controllers.awake(Moment(0));
        for id in 1..=3 {
            assert!(controllers.heard(ControllerId(id), Moment(0)));
        }
        controllers
    }

    #[test]
    fn only_the_functions_of_a_lost_controller_move() {
        let mut controllers = three();
        let before: Vec<_> =
            (0..1000).map(|f| controllers.owner(FunctionId(f), Moment(0)).unwrap()).collect();
        controllers.gone(ControllerId(2));
        for (function, owner) in before.iter().enumerate() {
            let now = controllers.owner(FunctionId(function as u64), Moment(0)).unwrap();
            assert!(now == *owner || *owner == ControllerId(2));
        }
        let lost = before.iter().filter(|owner| **owner == ControllerId(2)).count();
        assert!((250..420).contains(&lost), "a third of the functions, not {lost}");
    }

    #[test]
    fn a_silent_controller_owns_nothing() {
        let mut controllers = three();
        let later = Moment(0) + SILENCE + Span(1);
        assert_eq!(controllers.owner(FunctionId(7), later), None);
        controllers.heard(ControllerId(3), later);
        assert_eq!(controllers.owner(FunctionId(7), later), Some(ControllerId(3)));
        assert!(controllers.forget_silent(later));
        assert!(!controllers.is_alive(ControllerId(1), later));
    }

    /// What is known of Controllers that announce themselves, to one who was awake until `ms` and looks again when he has slept so long.
    fn after_a_sleep_of(ms: u64) -> (Controllers, Moment) {
        let mut controllers = three();
        let mut now = Moment(0);
        for look in 1..=17_u64 {
            now = Moment(0) + Span::millis(250 * look);
            controllers.awake(now);
            if look.is_multiple_of(2) {
                (1..=3).for_each(|id| assert!(!controllers.heard(ControllerId(id), now)));
            }
            assert!(!controllers.forget_silent(now));
        }
        let woken = now + Span::millis(ms);
        controllers.awake(woken);
        (controllers, woken)
    }

    #[test]
    fn who_slept_hears_first_whose_announcements_wait_for_him() {
        for ms in [700, 1_100, 1_400, 1_700, 4_000] {
            let (mut controllers, woken) = after_a_sleep_of(ms);
            // Something else is the first that he reads, and one of them the second.
            assert!(!controllers.forget_silent(woken), "{ms}");
            assert!(!controllers.heard(ControllerId(2), woken), "{ms}");
            assert!((1..=3).all(|id| controllers.is_alive(ControllerId(id), woken)), "{ms}");
            assert!(controllers.owner(FunctionId(7), woken).is_some(), "{ms}");
        }
    }

    #[test]
    fn who_says_nothing_after_that_is_struck_off() {
        let (mut controllers, woken) = after_a_sleep_of(4_000);
        controllers.heard(ControllerId(2), woken);
        for look in 1..=3_u64 {
            let now = woken + Span::millis(250 * look);
            controllers.awake(now);
            assert_eq!(controllers.forget_silent(now), look == 3);
        }
        assert_eq!(controllers.count(), 1);
    }

    #[test]
    fn without_a_server_nobody_is_silent() {
        let mut controllers = three();
        let mut now = Moment(0);
        for look in 1..=40_u64 {
            now = Moment(0) + Span::millis(250 * look);
            controllers.awake(now);
            controllers.deaf(now);
            assert!(!controllers.forget_silent(now));
        }
        assert!(!controllers.forget_silent(now + Span::millis(600)));
        assert!(controllers.forget_silent(now + Span::millis(800)));
    }
}
