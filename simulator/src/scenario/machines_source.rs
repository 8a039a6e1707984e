//! `[machines]` of a scenario: where its VMs come from.
//!
//! **Knows:** the names of what `machines` can load or make.
//! **Promises:** a value that makes no sense is said with its field and what it should be.
//! **Gives up:** more than one source of VMs in a scenario; single VMs stand in `[[vms]]`.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use vocabulary::{Mebibytes, MilliCores, Moment, Span, VmKind};

use super::workload_source::found;
use super::{ScenarioError, one_of, within};
use crate::machines::{Fleet, Harvest, Launches, Lifetime, MEMORY_PER_CORE, SospSet, Spot, Steps, sized};

/// Where VMs come from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum MachinesSource {
    /// VMs that are alike, neither change nor go.
    Constant(ConstantSource),
    /// A cluster of SOSP'21.
    Sosp(SospSource),
    /// A file of cores over time.
    Steps(StepsSource),
    /// Harvest VMs by chance.
    Harvest(HarvestSource),
    /// Preemptible VMs of GCP.
    Preemptible(EvictedSource),
    /// Spot VMs of AWS.
    Spot(EvictedSource),
}

/// VMs that are alike.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConstantSource {
    /// How many.
    pub count: u32,
    /// Regular or harvest.
    #[serde(default = "harvest")]
    pub vm_kind: VmKind,
    /// Cores of each.
    pub cores: f64,
    /// Memory in proportion.
    #[serde(default = "memory")]
    pub memory_mib_per_core: u32,
}

/// A cluster of SOSP'21.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SospSource {
    /// By the paper's name: Dedicated, Normal, Active, Baseline, Lowest, Typical, High, Best; Standard as the script has it.
    pub set: String,
    /// Memory in proportion.
    #[serde(default = "memory")]
    pub memory_mib_per_core: u32,
}

/// A file of cores over time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StepsSource {
    /// The file.
    pub file: PathBuf,
    /// Which set, where it has several.
    pub set: Option<String>,
    /// The first so many VMs.
    pub count: Option<usize>,
    /// Begin so late in it.
    #[serde(default)]
    pub from_seconds: f64,
    /// A VM that falls below a core is evicted, with so much notice; if not given, it keeps a sliver.
    pub notice_seconds: Option<f64>,
    /// Memory in proportion.
    #[serde(default = "memory")]
    pub memory_mib_per_core: u32,
}

/// Harvest VMs by chance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HarvestSource {
    /// How many to begin with.
    pub count: u32,
    /// Evictions, times so many.
    #[serde(default = "one")]
    pub eviction_rate: f64,
    /// Changes of cores, times so many.
    #[serde(default = "one")]
    pub change_rate: f64,
    /// Spread of sizes, times so much.
    #[serde(default = "one")]
    pub spread: f64,
    /// Cores of a VM on average.
    #[serde(default = "mean_cores")]
    pub mean_cores: f64,
    /// How long before its eviction a VM is told.
    #[serde(default = "notice")]
    pub notice_seconds: f64,
    /// From asking for a VM to its first report.
    #[serde(default = "start_up")]
    pub start_up_seconds: f64,
    /// VMs are up to so old at the beginning.
    #[serde(default)]
    pub aged_up_to_days: f64,
    /// Memory in proportion.
    #[serde(default = "memory")]
    pub memory_mib_per_core: u32,
}

/// VMs that do not change and are evicted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvictedSource {
    /// How many to begin with.
    pub count: u32,
    /// Cores of each.
    pub cores: f64,
    /// Evictions, times so many.
    #[serde(default = "one")]
    pub eviction_rate: f64,
    /// Measured lives or offers; without it, what is published of them.
    pub file: Option<PathBuf>,
}

fn harvest() -> VmKind {
    VmKind::Harvest
}

fn one() -> f64 {
    1.0
}

fn mean_cores() -> f64 {
    Harvest::default().mean_cores
}

fn notice() -> f64 {
    30.0
}

fn start_up() -> f64 {
    60.0
}

fn memory() -> u32 {
    MEMORY_PER_CORE.0
}

fn seconds(seconds: f64) -> Span {
    Span((seconds * 1e6) as u64)
}

impl MachinesSource {
    /// Whether its values make sense, files apart.
    pub fn check(&self) -> Result<(), ScenarioError> {
        let memory = |mib: u32| within("machines.memory_mib_per_core", mib.into(), 1.0, 1e6);
        match self {
            Self::Constant(constant) => {
                within("machines.count", constant.count.into(), 1.0, 1e6)?;
                within("machines.cores", constant.cores, 0.1, 1e4)?;
                memory(constant.memory_mib_per_core)
            }
            Self::Sosp(sosp) => {
                let names = SospSet::ALL.map(SospSet::name);
                if SospSet::by_name(&sosp.set).is_none() {
                    one_of("machines.set", &sosp.set, &names)?;
                }
                memory(sosp.memory_mib_per_core)
            }
            Self::Steps(steps) => {
                within("machines.from_seconds", steps.from_seconds, 0.0, 1e8)?;
                within("machines.notice_seconds", steps.notice_seconds.unwrap_or(0.0), 0.0, 1e6)?;
                memory(steps.memory_mib_per_core)
            }
            Self::Harvest(harvest) => {
                within("machines.count", harvest.count.into(), 0.0, 1e6)?;
                within("machines.eviction_rate", harvest.eviction_rate, 0.0, 1e6)?;
                within("machines.change_rate", harvest.change_rate, 0.0, 1e4)?;
                within("machines.spread", harvest.spread, 0.0, 1.0)?;
                within("machines.mean_cores", harvest.mean_cores, 2.0, 40.0)?;
                within("machines.notice_seconds", harvest.notice_seconds, 0.0, 1e6)?;
                within("machines.start_up_seconds", harvest.start_up_seconds, 0.0, 1e6)?;
                within("machines.aged_up_to_days", harvest.aged_up_to_days, 0.0, 1e4)?;
                memory(harvest.memory_mib_per_core)
            }
            Self::Preemptible(evicted) | Self::Spot(evicted) => {
                within("machines.count", evicted.count.into(), 0.0, 1e6)?;
                within("machines.cores", evicted.cores, 0.1, 1e4)?;
                within("machines.eviction_rate", evicted.eviction_rate, 0.0, 1e6)
            }
        }
    }

    /// The VMs; nothing is planned for later than `until`.
    pub fn fleet(&self, traces: Option<&Path>, until: Moment, seed: u64) -> Result<Fleet, ScenarioError> {
        match self {
            Self::Constant(constant) => {
                let cpu = MilliCores((constant.cores * 1e3) as u32);
                let size = sized(cpu, Mebibytes(constant.memory_mib_per_core));
                Ok(Fleet::constant(constant.count, constant.vm_kind, size))
            }
            Self::Sosp(sosp) => {
                let set = SospSet::by_name(&sosp.set).expect("a scenario is checked when it is read");
                Ok(set.fleet_with(traces, seed, Mebibytes(sosp.memory_mib_per_core))?)
            }
            Self::Steps(source) => {
                let file = found(traces, "machines.file", &source.file)?;
                let steps = Steps::read(&file, source.set.as_deref())?;
                let steps =
                    steps.first(source.count.unwrap_or(usize::MAX)).from(seconds(source.from_seconds));
                let notice = source.notice_seconds.map(seconds);
                let plans = steps.plans(Mebibytes(source.memory_mib_per_core), notice);
                let note = format!("{} VMs with the cores of {}", plans.len(), source.file.display());
                Ok(Fleet::new(plans, Launches::none(), vec![note]))
            }
            Self::Harvest(source) => {
                let model = Harvest {
                    lifetime: Lifetime::harvest().times(source.eviction_rate),
                    notice: seconds(source.notice_seconds),
                    changes: source.change_rate,
                    mean_cores: source.mean_cores,
                    spread: source.spread,
                    memory_per_core: Mebibytes(source.memory_mib_per_core),
                    start_up: seconds(source.start_up_seconds),
                    aged_up_to: seconds(source.aged_up_to_days * 86_400.0),
                    until,
                    ..Harvest::default()
                };
                Ok(model.fleet(source.count, seed))
            }
            Self::Preemptible(source) => {
                let lifetime = match &source.file {
                    Some(file) => Lifetime::read_preemptible(&found(traces, "machines.file", file)?)?,
                    None => Lifetime::gcp_preemptible(),
                };
                let model = Harvest {
                    lifetime: lifetime.times(source.eviction_rate),
                    changes: 0.0,
                    mean_cores: source.cores,
                    spread: 0.0,
                    until,
                    ..Harvest::default()
                };
                Ok(model.fleet(source.count, seed))
            }
            Self::Spot(source) => {
                let spot = match &source.file {
                    Some(file) => Spot::read(&found(traces, "machines.file", file)?)?,
                    None => Spot::published(),
                };
                Ok(spot.fleet(source.count, source.cores, until, source.eviction_rate, seed))
            }
        }
    }
}
