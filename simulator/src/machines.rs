//! Where VMs come from, how they change, and how they go.
//!
//! **Knows:** measured series of cores ([`Steps`]) and of lives, published distributions of both, prices.
//! **Promises:** a VM's fate is drawn from a stream of its own (seed, number of the VM): a policy that asks for more does not
//! change what becomes of the others, and the n-th VM that is asked for has the same fate under every policy.
//! **Gives up:** hosts: VMs do not share one, so that two do not shrink for the same reason.

mod fleet;
mod harvest;
mod lifetime;
mod prices;
mod sosp;
mod spot;
mod steps;

pub(crate) use fleet::sized;
pub use fleet::{Cores, Fate, Fleet, Launches, MEMORY_PER_CORE};
pub use harvest::Harvest;
pub use lifetime::Lifetime;
pub use prices::Prices;
pub use sosp::SospSet;
pub use spot::Spot;
pub use steps::Steps;

/// Purposes of chance in machines; each has streams of its own.
mod purpose {
    pub const STEPS: u64 = 201;
    pub const GIVEN: u64 = 202;
    pub const LAUNCHED: u64 = 203;
}
