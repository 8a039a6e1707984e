//! Every decision that Windfall makes, and nothing else.
//!
//! **Knows:** what it was told: requests, reports, notices, endings, and the moment each arrived.
//! **Promises:** determinism. No clock, no socket, no async runtime, no unseeded chance, no order that
//! depends on a hash map's seed: the same inputs in the same order give the same outputs. The live actors
//! and the simulator drive the same machines.
//! **Gives up:** doing anything. Each machine only says what should be done.
//!
//! Three machines hold the history: [`dispatch`] (Controller), [`residency`] (Invoker), [`provisioning`]
//! (Resource Monitor). They ask the families [`placement`] (which VM), [`allocation`] (how much), [`reliability`] (which kind
//! of VM), [`keep_alive`] (how long a sandbox stays) and [`fleet`] (how many VMs), and learn from [`profile`]. On a VM,
//! [`harvest_pool`] says who has lent what to whom, and [`safeguard`] when it must go back. Whoever draws, here or elsewhere,
//! draws from [`chance`]; whoever judges others by their silence asks [`vigil`] whether it was he who slept.

pub mod allocation;
pub mod chance;
pub mod dispatch;
pub mod fleet;
pub mod harvest_pool;
pub mod hash;
pub mod keep_alive;
pub mod placement;
pub mod profile;
pub mod provisioning;
pub mod released;
pub mod reliability;
pub mod residency;
mod row;
pub mod safeguard;
mod sorted;
pub mod vigil;
