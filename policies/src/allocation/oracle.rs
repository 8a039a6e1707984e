//! What a run truly needs: the bound of all allocators.
//!
//! **Knows:** the saturation point and the memory of this very run, which a rehearsal tells it.
//! **Promises:** nobody could give less without harm, nor more with use.
//! **Gives up:** the real world, where nobody tells: there it is `fixed`.

use vocabulary::{Grant, Resources};

use super::{Allocator, Request};

/// See the module.
#[derive(Debug, Clone, Copy, Default)]
pub struct Oracle;

impl Allocator for Oracle {
    fn name(&self) -> &'static str {
        "oracle"
    }

    fn grant(&mut self, request: &Request<'_>) -> Grant {
        let Some(truth) = request.truth else { return Grant::fixed(request.reservation) };
        let needed = Resources { cpu: truth.saturation, memory: truth.memory };
        let booked = needed.min(request.reservation);
        Grant { lasts: truth.duration, ..Grant::new(booked, needed) }
    }
}
