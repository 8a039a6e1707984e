//! Which Controllers are alive, and which of them owns a function.
//!
//! **Promises:** rendezvous hashing (Thaler and Ravishankar, 1998): when a Controller comes or goes, only the
//! functions it gains or loses move, and every Frontend that knows the same Controllers agrees.
//! **Gives up:** balance by load; there are few Controllers and many functions.

use std::collections::BTreeMap;

use vocabulary::{ControllerId, FunctionId, Moment, Span};

/// Controllers announce themselves every half second; after this much silence one is given up.
const SILENCE: Span = Span::millis(1_600);

/// The Controllers that have been heard.
#[derive(Debug, Default)]
pub(super) struct Controllers {
    heard: BTreeMap<ControllerId, Moment>,
}

impl Controllers {
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
            self.heard.iter().filter(|(_, at)| now.since(**at) > SILENCE).map(|(id, _)| *id).collect();
        for controller in &silent {
            self.gone(*controller);
        }
        !silent.is_empty()
    }

    /// Whether this one still counts.
    pub(super) fn is_alive(&self, controller: ControllerId, now: Moment) -> bool {
        self.heard.get(&controller).is_some_and(|at| now.since(*at) <= SILENCE)
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.heard.len()
    }

    /// Who decides for this function.
    pub(super) fn owner(&self, function: FunctionId, now: Moment) -> Option<ControllerId> {
        self.heard
            .iter()
            .filter(|(_, at)| now.since(**at) <= SILENCE)
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
        let mut controllers = Controllers::default();
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
}
