//! The same policies under virtual time.
//!
//! **Knows:** a [`House`]: policies with their settings, functions, who calls (`plan::Calls`) and what becomes of the machines
//! (`plan::Machines`); or a [`Scenario`], which is a small one in a file.
//! **Promises:** drives the very machines that run in production (`policies::dispatch`, `policies::residency`,
//! `policies::provisioning`), so that what is decided here is decided there; two runs of one house are equal bit for bit; what
//! must stay true is checked after every event, and counted in the [`Report`] if it does not.
//! **Gives up:** see [`physics`] for what a VM is thought to do, and `world` for what is not played.
//!
//! ```
//! let scenario = simulator::Scenario::from_toml(simulator::FIRST_LIGHT).unwrap();
//! let report = simulator::run(&scenario);
//! assert_eq!(report.violations, 0);
//! println!("{report}");
//! ```

mod chance;
pub mod comparisons;
pub mod figures;
pub mod house;
pub mod machines;
pub mod physics;
pub mod plan;
pub mod report;
pub mod runs;
mod scenario;
pub mod trouble;
pub mod workload;
mod world;

pub use house::House;
pub use report::{Latency, Read, Report};
pub use scenario::{
    FleetSource, Function, MachinesSource, Scenario, ScenarioError, SizeChange, Vms, WorkloadSource,
};
pub use world::{Decision, Decisions, play};

/// Three harvested VMs, one of which shrinks and one of which is evicted, and four functions.
pub const FIRST_LIGHT: &str = include_str!("../scenarios/first_light.toml");

/// Plays a scenario to its end: until every invocation has ended, or for ten minutes after the last one arrived.
///
/// # Panics
/// If it names a trace; [`run_in`] knows where those are.
pub fn run(scenario: &Scenario) -> Report {
    run_in(scenario, None).expect("a scenario that names no trace needs none")
}

/// The same, with the folder of the traces that it names.
pub fn run_in(scenario: &Scenario, traces: Option<&std::path::Path>) -> Result<Report, ScenarioError> {
    Ok(play(scenario.house_in(traces)?).0)
}
