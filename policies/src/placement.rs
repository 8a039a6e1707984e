//! On which VM an invocation runs.

use serde::{Deserialize, Serialize};

/// Constants of all algorithms. Take what you do not want to set from [`Settings::default`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Share of a worker set's capacity that is meant to be used, in thousandths; the rest is headroom for bursts.
    pub target_utilisation: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self { target_utilisation: 700 }
    }
}

/// Chooses VMs.
pub trait Placement: Send {
    /// Its name in configuration, metrics and tables.
    fn name(&self) -> &'static str;
}

/// The algorithms that [`by_name`] knows; the first is the default.
pub const NAMES: [&str; 2] = ["mws", "jsq"];

/// The algorithm of this name.
pub fn by_name(name: &str, settings: &Settings) -> Option<Box<dyn Placement>> {
    let _ = (name, settings);
    None
}
