//! The same policies under virtual time.
//!
//! **Knows:** a [`Scenario`]: VMs that come, change size, get notice and go; functions with their arrivals and durations.
//! **Promises:** drives the very machines that run in production (`policies::dispatch`, `policies::residency`), so that what is
//! decided here is decided there; two runs of one scenario are equal bit for bit; what must stay true is checked after
//! every event, and counted in the [`Report`] if it does not.
//! **Gives up**, so far: physics. A run takes what was drawn for it (log-normal), however crowded its VM is; making a
//! sandbox takes a constant time; a message takes a constant time and is never lost, except with its VM.
//!
//! ```
//! let scenario = simulator::Scenario::from_toml(simulator::FIRST_LIGHT).unwrap();
//! let report = simulator::run(&scenario);
//! assert_eq!(report.violations, 0);
//! println!("{report}");
//! ```

mod chance;
pub mod machines;
pub mod plan;
mod report;
mod scenario;
pub mod workload;
mod world;

pub use report::{Latency, Report};
pub use scenario::{Function, Scenario, ScenarioError, SizeChange, Vms};

/// Three harvested VMs, one of which shrinks and one of which is evicted, and four functions.
pub const FIRST_LIGHT: &str = include_str!("../scenarios/first_light.toml");

/// Plays a scenario to its end: until every invocation has ended, or for ten minutes after the last one arrived.
pub fn run(scenario: &Scenario) -> Report {
    world::World::new(scenario).play()
}
