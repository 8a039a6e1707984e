//! Freyr (WWW'22): a model chooses among what its safeguard allows.
//!
//! **Knows:** the state of the paper's table 1, with the one that the released code adds (invocations per second).
//! **Promises:** what the paper does: options of its grid that [`calibration`](super::calibration) allows, each fixed for the whole run,
//! booking and ceiling alike.
//! **Gives up:** giving back while a run goes on, which the paper does not do either; where the model has no answer it is the
//! reservation.

use std::collections::BTreeMap;

use vocabulary::{FunctionId, Grant, Resources, Span};

use super::calibration::Calibration;
use super::learned::{Chooser, Observation};
use super::{Allocator, Ended, Request, Settings};

/// See the module.
pub struct Freyr {
    settings: Settings,
    calibration: Calibration,
    chooser: Box<dyn Chooser>,
    /// How long each function took with its whole reservation.
    baselines: BTreeMap<FunctionId, Span>,
    options: Vec<Resources>,
}

impl Freyr {
    /// With this model.
    pub fn new(settings: Settings, chooser: Box<dyn Chooser>) -> Self {
        let calibration = Calibration::new(settings.grid, settings.threshold);
        Self { settings, calibration, chooser, baselines: BTreeMap::new(), options: Vec::new() }
    }
}

impl Allocator for Freyr {
    fn name(&self) -> &'static str {
        "freyr"
    }

    fn grant(&mut self, request: &Request<'_>) -> Grant {
        let reservation = request.reservation;
        let allowed = self.calibration.allowed(request);
        let Some(expected) = request.profile.expect(request.input_bytes).filter(|_| !allowed.calibrates)
        else {
            return Grant::fixed(reservation);
        };
        let grid = self.settings.grid;
        self.options.clear();
        let allows = grid.allowed(allowed.mask).zip(grid.options()).filter(|(allowed, _)| *allowed);
        self.options.extend(allows.map(|(_, option)| grid.snap(option, reservation)));
        let chosen = match self.options.len() {
            0 => None,
            1 => Some(0),
            _ => {
                let baseline = self.baselines.get(&request.function).copied().unwrap_or_default();
                let observation = Observation { baseline, ..Observation::of(request, expected) };
                self.chooser.choose(&observation, &self.options)
            }
        };
        let chosen = chosen.and_then(|place| self.options.get(place)).copied();
        Grant { lasts: expected.duration, ..Grant::fixed(chosen.unwrap_or(reservation)) }
    }

    fn ended(&mut self, ended: &Ended<'_>) {
        let calibrated = ended.grant.booked == ended.reservation;
        self.calibration.ended(ended, calibrated);
        if calibrated {
            self.baselines.insert(ended.function, ended.duration);
        }
    }

    fn forget(&mut self, function: FunctionId) {
        self.calibration.forget(function);
        self.baselines.remove(&function);
    }
}
