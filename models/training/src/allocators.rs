//! The allocators that ask a model, with the settings that they are trained and compared with.

use policies::allocation::freyr::Freyr;
use policies::allocation::learned::{Chooser, Learned};
use policies::allocation::{Allocator, Settings};

/// Ours.
pub fn learned(chooser: Box<dyn Chooser>) -> Box<dyn Allocator> {
    Box::new(Learned::new(Settings::default(), chooser))
}

/// Freyr's.
pub fn freyr(chooser: Box<dyn Chooser>) -> Box<dyn Allocator> {
    Box::new(Freyr::new(Settings::default(), chooser))
}
