//! What is asked for, as a Controller sums it up for whoever keeps the fleet.

use serde::{Deserialize, Serialize};

use crate::Resources;

/// What is asked of VMs of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Load {
    /// Booked by what runs now.
    pub running: Resources,
    /// Reserved by what waits for a place.
    pub waiting: Resources,
    /// What will run at once on average if the last minute goes on: by Little's law.
    pub predicted: Resources,
    /// The largest reservation that waits, in each dimension.
    pub largest: Resources,
}

impl Load {
    /// Two Controllers' together.
    pub fn and(self, other: Self) -> Self {
        Self {
            running: self.running + other.running,
            waiting: self.waiting + other.waiting,
            predicted: self.predicted + other.predicted,
            largest: self.largest.max(other.largest),
        }
    }

    /// What is needed: what there is, or what there will be, whichever is more.
    pub fn needs(self) -> Resources {
        (self.running + self.waiting).max(self.predicted)
    }
}

/// What is asked for, by the kind of VM that the reliability strategy in force would have first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Demand {
    /// On regular VMs.
    pub regular: Load,
    /// On harvest VMs.
    pub harvest: Load,
}

impl Demand {
    /// Two Controllers' together.
    pub fn and(self, other: Self) -> Self {
        Self { regular: self.regular.and(other.regular), harvest: self.harvest.and(other.harvest) }
    }
}
