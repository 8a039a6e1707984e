//! The allocators that ask a model, with the settings that they are trained and compared with.

use policies::allocation::freyr::Freyr;
use policies::allocation::learned::{Chooser, Learned};
use policies::allocation::{Allocator, Settings};
use policies::residency::Lending;

/// Ours, for VMs that lend in this way.
pub fn learned(chooser: Box<dyn Chooser>, lending: Lending) -> Box<dyn Allocator> {
    Box::new(Learned::new(Settings { lending, ..Settings::default() }, chooser))
}

/// Freyr's, to which that is all the same.
pub fn freyr(chooser: Box<dyn Chooser>, _: Lending) -> Box<dyn Allocator> {
    Box::new(Freyr::new(Settings::default(), chooser))
}
