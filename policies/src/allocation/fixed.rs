//! The user's reservation, no more and no less.
//!
//! **Knows:** the reservation.
//! **Promises:** booked and ceiling are exactly what was asked for.
//! **Gives up:** everything that is idle inside a reservation.

use vocabulary::Grant;

use super::{Allocator, Request};

/// See the module.
#[derive(Debug, Clone, Copy, Default)]
pub struct Fixed;

impl Allocator for Fixed {
    fn name(&self) -> &'static str {
        "fixed"
    }

    fn grant(&mut self, request: &Request<'_>) -> Grant {
        Grant::fixed(request.reservation)
    }
}
