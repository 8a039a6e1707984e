//! How much an invocation gets.

use vocabulary::{Grant, Resources};

use crate::profile::Profile;

/// What an allocator may look at.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// What the user asked for.
    pub reservation: Resources,
    /// Size of the argument in bytes.
    pub input_bytes: u32,
    /// What has been learned of the function.
    pub profile: &'a Profile,
}

/// Decides a grant. Implemented by `fixed` here, and by the learned allocator in the crate `models`.
pub trait Allocator: Send {
    /// Its name in configuration, metrics and tables.
    fn name(&self) -> &'static str;
    /// The grant for one invocation. Must not fail: an allocator that is unsure gives the reservation.
    fn grant(&mut self, request: Request<'_>) -> Grant;
}

pub mod fixed;

/// The allocators that [`by_name`] knows; the first is the default.
pub const NAMES: [&str; 1] = ["fixed"];

/// The allocator of this name.
pub fn by_name(name: &str) -> Option<Box<dyn Allocator>> {
    match name {
        "fixed" => Some(Box::new(fixed::Fixed)),
        _ => None,
    }
}
