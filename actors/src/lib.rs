//! The hands of the house: five ractor actors and the world they touch.
//!
//! **Knows:** NATS, clocks, processes, HTTP. What to *do* is decided in `policies`.
//! **Promises:** an actor turns messages into inputs and outputs into messages, and nothing more; one that
//! crashes is restarted without taking the process along.
//! **Gives up:** decisions.

mod alarm;
pub mod bus;
pub mod chance;
pub mod clock;
pub mod controller;
pub mod frontend;
pub mod harvest_monitor;
mod intake;
pub mod invoker;
mod listening;
pub mod metrics;
pub mod neighbours;
pub mod providers;
mod ran;
pub mod resource_monitor;
pub mod roles;
pub mod settings;
pub mod store;
pub mod supervisor;
pub mod telemetry;
mod unrun;
