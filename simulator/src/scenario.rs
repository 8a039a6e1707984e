//! What happens in a rehearsal, as it stands in a TOML file.
//!
//! **Knows:** the file.
//! **Promises:** a scenario that was read can be played; what is wrong with one that was not is said with its name.
//! **Gives up:** the traces themselves: it names them, and whoever plays it says where they are.

mod fleet_source;
mod house;
mod machines_source;
mod workload_source;

use policies::residency::Lending;
use serde::{Deserialize, Serialize};
use vocabulary::{OnEviction, VmKind};

pub use fleet_source::FleetSource;
pub use machines_source::MachinesSource;
pub use workload_source::WorkloadSource;

use crate::workload::TraceError;

/// Why a scenario cannot be played.
#[derive(Debug, thiserror::Error)]
pub enum ScenarioError {
    /// Not TOML, or not these fields.
    #[error("the scenario cannot be read: {0}")]
    Unreadable(#[from] toml::de::Error),
    /// A trace that it names is refused.
    #[error(transparent)]
    Trace(#[from] TraceError),
    /// A value that makes no sense.
    #[error("the scenario's {field} is {value}; it should be {expected}")]
    Senseless {
        /// Which.
        field: String,
        /// What it is.
        value: String,
        /// What it should be.
        expected: String,
    },
}

/// A scenario. Made with [`Scenario::from_toml`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// Printed above the report.
    pub name: String,
    /// All chance comes from it.
    #[serde(default)]
    pub seed: u64,
    /// So long invocations arrive, in seconds of virtual time.
    pub length_seconds: f64,
    /// One of `policies::placement::NAMES`.
    #[serde(default = "mws")]
    pub placement: String,
    /// One of `policies::allocation::NAMES`; by default the one that a cluster has by default.
    #[serde(default = "profile")]
    pub allocation: String,
    /// The allocators' constants.
    #[serde(default)]
    pub allocation_settings: policies::allocation::Settings,
    /// What becomes of the part of a reservation that an allocator leaves: one of `policies::residency::Lending::NAMES`; by default as a
    /// cluster does it by default.
    #[serde(default = "elastic")]
    pub lending: String,
    /// A run that uses so many thousandths of what it has left gets back what it lends.
    #[serde(default = "safeguard")]
    pub safeguard_permille: u32,
    /// On which kind of VM: one of `policies::reliability::NAMES`, with a percentage for each `x`.
    #[serde(default = "expected_loss")]
    pub reliability: String,
    /// What becomes of idle sandboxes: one of `policies::keep_alive::NAMES`.
    #[serde(default = "fixed")]
    pub keep_alive: String,
    /// The Resource Monitor, where there is one.
    #[serde(default)]
    pub fleet: Option<FleetSource>,
    /// How long an invocation may wait for a place.
    #[serde(default = "minute")]
    pub patience_seconds: f64,
    /// Making a sandbox. 400 ms lies between a process (few ms) and a container with an image on disk (0.5 to 2 s).
    #[serde(default = "cold_start")]
    pub cold_start_ms: f64,
    /// From one process to another.
    #[serde(default = "message")]
    pub message_us: u64,
    /// And up to so much longer, drawn evenly for each message.
    #[serde(default)]
    pub message_jitter_us: u64,
    /// An idle sandbox lives this long, if `keep_alive` is "fixed".
    #[serde(default = "ten_minutes")]
    pub keep_alive_seconds: f64,
    /// Calls made before are played but not measured.
    #[serde(default)]
    pub measure_from_seconds: f64,
    /// The machines, one by one...
    #[serde(default)]
    pub vms: Vec<Vms>,
    /// ...or where they come from.
    #[serde(default)]
    pub machines: Option<MachinesSource>,
    /// The work, function by function...
    #[serde(default)]
    pub functions: Vec<Function>,
    /// ...or where it comes from.
    #[serde(default)]
    pub workload: Option<WorkloadSource>,
}

/// Machines of one kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vms {
    /// So many alike.
    #[serde(default = "one")]
    pub count: u32,
    /// Regular or harvest.
    #[serde(default = "harvest")]
    pub kind: VmKind,
    /// Thousandths of a core at their start.
    pub cpu_millicores: u32,
    /// MiB at their start.
    pub memory_mib: u32,
    /// When they start.
    #[serde(default)]
    pub starts_at_seconds: f64,
    /// How their size changes, in order of time.
    #[serde(default)]
    pub changes: Vec<SizeChange>,
    /// When they are there and nobody hears of them.
    #[serde(default)]
    pub absences: Vec<Absence>,
    /// Notices that are called off.
    #[serde(default)]
    pub recalls: Vec<Recall>,
    /// When they are gone, if they are.
    #[serde(default)]
    pub gone_at_seconds: Option<f64>,
    /// How long before that they get notice; 0: none at all.
    #[serde(default)]
    pub notice_seconds: f64,
}

/// A VM is cut off, or does nothing, for a while.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Absence {
    /// From when.
    pub from_seconds: f64,
    /// Until when.
    pub to_seconds: f64,
    /// Whether it does nothing meanwhile; else it works on.
    #[serde(default)]
    pub is_frozen: bool,
}

/// A VM is told that it will be gone, and then that it will not.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recall {
    /// When it is told.
    pub at_seconds: f64,
    /// How long it would have then.
    pub notice_seconds: f64,
    /// When it is called off.
    pub called_off_at_seconds: f64,
}

/// From then on a VM has another size.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SizeChange {
    /// When.
    pub at_seconds: f64,
    /// Thousandths of a core.
    pub cpu_millicores: u32,
    /// MiB; as before if it is not given.
    #[serde(default)]
    pub memory_mib: Option<u32>,
}

/// Functions of one kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Function {
    /// For people.
    pub name: String,
    /// So many alike, each with its own sandboxes.
    #[serde(default = "one")]
    pub copies: u32,
    /// Invocations of each copy per second; a Poisson stream.
    pub per_second: f64,
    /// Its reservation, in thousandths of a core...
    pub cpu_millicores: u32,
    /// ...and MiB.
    pub memory_mib: u32,
    /// Mean of its log-normal duration.
    pub mean_ms: f64,
    /// Standard deviation of the logarithm of its duration; 0: all the same.
    #[serde(default)]
    pub sigma: f64,
    /// What an eviction may do to it.
    #[serde(default)]
    pub on_eviction: OnEviction,
}

fn mws() -> String {
    "mws".to_owned()
}

fn fixed() -> String {
    "fixed".to_owned()
}

fn profile() -> String {
    "profile".to_owned()
}

fn elastic() -> String {
    Lending::NAMES[Lending::Elastic as usize].to_owned()
}

fn safeguard() -> u32 {
    policies::safeguard::Settings::default().threshold
}

fn expected_loss() -> String {
    policies::reliability::NAMES[0].to_owned()
}

fn minute() -> f64 {
    60.0
}

fn cold_start() -> f64 {
    400.0
}

fn message() -> u64 {
    200
}

fn ten_minutes() -> f64 {
    600.0
}

fn one() -> u32 {
    1
}

fn harvest() -> VmKind {
    VmKind::Harvest
}

impl Scenario {
    /// Reads and checks one.
    pub fn from_toml(text: &str) -> Result<Self, ScenarioError> {
        let scenario: Self = toml::from_str(text)?;
        scenario.check()?;
        Ok(scenario)
    }

    /// Whether it can be played.
    pub fn check(&self) -> Result<(), ScenarioError> {
        one_of("placement", &self.placement, &policies::placement::NAMES)?;
        one_of("allocation", &self.allocation, &policies::allocation::NAMES)?;
        one_of("lending", &self.lending, &Lending::NAMES)?;
        one_of("keep_alive", &self.keep_alive, &policies::keep_alive::NAMES)?;
        if policies::reliability::by_name(&self.reliability).is_none() {
            one_of("reliability", &self.reliability, &policies::reliability::NAMES)?;
        }
        within("allocation_settings.threshold", self.allocation_settings.threshold.into(), 1.0, 1e6)?;
        within("safeguard_permille", self.safeguard_permille.into(), 1.0, 1e6)?;
        self.fleet.as_ref().map_or(Ok(()), |fleet| fleet.check(self.machines.as_ref()))?;
        let times = [
            ("length_seconds", self.length_seconds),
            ("patience_seconds", self.patience_seconds),
            ("cold_start_ms", self.cold_start_ms),
            ("keep_alive_seconds", self.keep_alive_seconds),
            ("measure_from_seconds", self.measure_from_seconds),
        ];
        for (field, value) in times {
            within(field, value, 0.0, 1e8)?;
        }
        self.check_sources()?;
        for (index, vms) in self.vms.iter().enumerate() {
            within(&format!("vms[{index}].starts_at_seconds"), vms.starts_at_seconds, 0.0, 1e8)?;
            within(&format!("vms[{index}].notice_seconds"), vms.notice_seconds, 0.0, 1e8)?;
            within(&format!("vms[{index}].gone_at_seconds"), vms.gone_at_seconds.unwrap_or(0.0), 0.0, 1e8)?;
            for absence in &vms.absences {
                let (from, to) = (absence.from_seconds, absence.to_seconds);
                within(&format!("vms[{index}].absences.from_seconds"), from, 0.0, 1e8)?;
                within(&format!("vms[{index}].absences.to_seconds"), to, from, 1e8)?;
            }
            for recall in &vms.recalls {
                let (at, notice) = (recall.at_seconds, recall.notice_seconds);
                within(&format!("vms[{index}].recalls.at_seconds"), at, 0.0, 1e8)?;
                within(&format!("vms[{index}].recalls.notice_seconds"), notice, 0.0, 1e8)?;
                let off = recall.called_off_at_seconds;
                within(&format!("vms[{index}].recalls.called_off_at_seconds"), off, at, at + notice)?;
            }
            for change in &vms.changes {
                within(&format!("vms[{index}].changes.at_seconds"), change.at_seconds, 0.0, 1e8)?;
            }
        }
        for (index, function) in self.functions.iter().enumerate() {
            within(&format!("functions[{index}].per_second"), function.per_second, 1e-9, 1e6)?;
            within(&format!("functions[{index}].mean_ms"), function.mean_ms, 0.0, 1e9)?;
            within(&format!("functions[{index}].sigma"), function.sigma, 0.0, 5.0)?;
        }
        Ok(())
    }
}

impl Scenario {
    /// One source of work, at most one of machines, and both in order.
    fn check_sources(&self) -> Result<(), ScenarioError> {
        let senseless = |field: &str, value: &str, expected: &str| {
            let [field, value, expected] = [field, value, expected].map(ToOwned::to_owned);
            Err(ScenarioError::Senseless { field, value, expected })
        };
        if self.machines.is_some() && !self.vms.is_empty() {
            return senseless("machines", "given beside [[vms]]", "the only one of the two");
        }
        if self.workload.is_some() && !self.functions.is_empty() {
            return senseless("workload", "given beside [[functions]]", "the only one of the two");
        }
        if self.workload.is_none() && self.functions.is_empty() {
            return senseless("work", "not given", "a [workload], or [[functions]] one by one");
        }
        self.machines.as_ref().map_or(Ok(()), MachinesSource::check)?;
        self.workload.as_ref().map_or(Ok(()), WorkloadSource::check)
    }
}

fn within(field: &str, value: f64, least: f64, most: f64) -> Result<(), ScenarioError> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    let expected = format!("between {least} and {most}");
    Err(ScenarioError::Senseless { field: field.to_owned(), value: value.to_string(), expected })
}

fn one_of(field: &str, value: &str, names: &[&str]) -> Result<(), ScenarioError> {
    if names.contains(&value) {
        return Ok(());
    }
    let expected = format!("one of: {}", names.join(", "));
    Err(ScenarioError::Senseless { field: field.to_owned(), value: value.to_owned(), expected })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scenario_in_the_box_can_be_played() {
        Scenario::from_toml(crate::FIRST_LIGHT).unwrap();
    }

    #[test]
    fn what_is_wrong_is_said_with_its_name() {
        let right = crate::FIRST_LIGHT;
        for (from, to, says) in [
            ("seed = 1", "seeds = 1", "seeds"),
            ("placement = \"mws\"", "placement = \"best\"", "one of: mws, jsq"),
            ("length_seconds = 300", "length_seconds = -1", "length_seconds is -1"),
            ("length_seconds = 300", "length_seconds = nan", "length_seconds is NaN"),
            ("per_second = 20", "per_second = 0", "functions[0].per_second is 0"),
        ] {
            let wrong = right.replace(from, to);
            assert_ne!(wrong, right, "the test no longer fits the file");
            let error = Scenario::from_toml(&wrong).unwrap_err().to_string();
            assert!(error.contains(says), "'{error}' does not say '{says}'");
        }
    }

    #[test]
    fn policies_can_be_named_and_what_is_wrong_with_them_is_said_with_their_names() {
        let with = |lines: &str| Scenario::from_toml(&format!("{lines}\n{}", crate::FIRST_LIGHT));
        let right = "lending = 'elastic'\nallocation = 'profile'\nreliability = 'bounded(99.9)'\n\
                     keep_alive = 'greedy-dual'\nsafeguard_permille = 700\n\
                     allocation_settings = { doubt = 300 }\n\
                     fleet = { rule = 'load-aware', cpu_millicores = 4000, memory_mib = 8192 }";
        let scenario = with(right).unwrap();
        let house = scenario.house_in(None).unwrap();
        assert_eq!(house.residency.lending, Lending::Elastic);
        assert_eq!((house.residency.safeguard.threshold, house.keep_alive.as_str()), (700, "greedy-dual"));
        assert_eq!((house.allocator.name(), house.reliability.name().as_str()), ("profile", "bounded(99.9)"));
        assert_eq!(house.fleet_rule.unwrap().name(), "load-aware");
        assert_eq!(Scenario::from_toml(&toml::to_string(&scenario).unwrap()).unwrap(), scenario);
        for (wrong, says) in [
            ("lending = 'soft'", "lending is soft; it should be one of: off, hard, elastic"),
            (
                "reliability = 'bounded(101)'",
                "reliability is bounded(101); it should be one of: expected-loss",
            ),
            ("keep_alive = 'ever'", "keep_alive is ever; it should be one of: fixed"),
            ("allocation = 'most'", "allocation is most; it should be one of: fixed"),
            ("safeguard_permille = 0", "safeguard_permille is 0; it should be between 1 and"),
            (
                "fleet = { rule = 'some' }",
                "fleet.rule is some; it should be one of: count, load-aware, sosp21",
            ),
            ("fleet = { cpu_millicores = 0 }", "fleet.cpu_millicores is 0; it should be between"),
            ("fleet = { size = 3 }", "unknown field `size`"),
            ("allocation_settings = { threshold = 0 }", "allocation_settings.threshold is 0"),
        ] {
            let error = with(wrong).unwrap_err().to_string();
            assert!(error.contains(says), "'{error}' does not say '{says}'");
        }
    }

    /// A scenario whose work and machines are named.
    fn named(workload: &str, machines: &str) -> String {
        format!("name = 'named'\nlength_seconds = 60\n[workload]\n{workload}\n[machines]\n{machines}\n")
    }

    #[test]
    fn work_and_machines_can_be_named_and_need_no_file_where_none_is_shipped() {
        for (workload, machines) in [
            ("kind = 'sosp-mix'\nusers = 10", "kind = 'sosp'\nset = 'Normal'"),
            ("kind = 'sosp-mix'\nusers = 10\nwait = 'answer'", "kind = 'sosp'\nset = 'Active'"),
            (
                "kind = 'synthetic'\nfunctions = 20\nper_second = 1",
                "kind = 'harvest'\ncount = 5\neviction_rate = 100",
            ),
            (
                "kind = 'synthetic'\nfunctions = 20\nper_second = 1\ncpu = 'six-measured'",
                "kind = 'spot'\ncount = 5\ncores = 8",
            ),
            ("kind = 'sosp-mix'\nusers = 3", "kind = 'preemptible'\ncount = 5\ncores = 8"),
            ("kind = 'sosp-mix'\nusers = 3", "kind = 'constant'\ncount = 5\ncores = 8\nvm_kind = 'regular'"),
        ] {
            let scenario = Scenario::from_toml(&named(workload, machines)).unwrap();
            let again = toml::to_string(&scenario).unwrap();
            assert_eq!(Scenario::from_toml(&again).unwrap(), scenario);
            let house = scenario.house_in(None).unwrap();
            assert!(!house.functions.is_empty() && house.calls.next_at().is_some());
        }
    }

    #[test]
    fn what_is_wrong_in_a_named_source_is_said_with_its_name() {
        let (mix, sosp) = ("kind = 'sosp-mix'\nusers = 10", "kind = 'sosp'\nset = 'Normal'");
        for (workload, machines, says) in [
            ("kind = 'sosp-mix'\nusers = 0", sosp, "workload.users is 0; it should be between 1 and"),
            ("kind = 'sosp-mix'\nuser = 1", sosp, "unknown field `user`"),
            (
                "kind = 'sosp-mix'\nusers = 1\nwait = 'never'",
                sosp,
                "workload.wait is never; it should be one of: answer",
            ),
            ("kind = 'twitter'", sosp, "unknown variant `twitter`"),
            ("kind = 'azure2019'", sosp, "workload.sample is not given"),
            ("kind = 'azure2019'\nsample = 's500'\nminutes = [9, 9]", sosp, "workload.minutes is [9, 9]"),
            (
                "kind = 'azure2019'\nsample = 's500'\nmarked = 'in_s100'\nchosen = 3",
                sosp,
                "one of marked, most_called",
            ),
            (mix, "kind = 'sosp'\nset = 'Lively'", "machines.set is Lively; it should be one of: Dedicated"),
            (mix, "kind = 'harvest'\ncount = 5\nspread = 2", "machines.spread is 2"),
            (mix, "kind = 'constant'\ncount = 5\ncores = 8\nsize = 1", "unknown field `size`"),
        ] {
            let error = Scenario::from_toml(&named(workload, machines)).unwrap_err().to_string();
            assert!(error.contains(says), "'{error}' does not say '{says}'");
        }
        let both = format!("{}\n[machines]\n{sosp}\n", crate::FIRST_LIGHT);
        assert!(Scenario::from_toml(&both).unwrap_err().to_string().contains("beside [[vms]]"));
        let neither = "name = 'idle'\nlength_seconds = 1\nvms = []";
        assert!(Scenario::from_toml(neither).unwrap_err().to_string().contains("work is not given"));
    }

    #[test]
    fn a_trace_needs_its_folder_and_says_so() {
        let text = named("kind = 'azure2019'\nsample = 's500'", "kind = 'sosp'\nset = 'Normal'");
        let scenario = Scenario::from_toml(&text).unwrap();
        let none = scenario.house_in(None).err().unwrap().to_string();
        assert!(none.contains("workload.sample") && none.contains("WINDFALL_TRACES"), "{none}");
        let empty = tempfile::tempdir().unwrap();
        let missing = scenario.house_in(Some(empty.path())).err().unwrap().to_string();
        assert!(missing.contains("azure2019_s500_functions.csv.gz: cannot be read"), "{missing}");
    }
}
