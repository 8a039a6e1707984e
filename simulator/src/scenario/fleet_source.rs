//! The Resource Monitor of a scenario.
//!
//! **Knows:** its rule, and how many VMs of which size there should be.
//! **Promises:** where nothing else says what a launched VM becomes, it is there after its start-up time and stays.
//! **Gives up:** prices and the further constants of the rules: they are the defaults.

use policies::fleet;
use policies::provisioning::{self, Target};
use serde::{Deserialize, Serialize};
use vocabulary::{Resources, Span, VmKind};

use super::{MachinesSource, ScenarioError, one_of, within};
use crate::house::Fleet;

/// Keeps up the count of VMs, or follows a rule.
const RULES: [&str; 3] = ["count", fleet::NAMES[0], fleet::NAMES[1]];

/// See the module.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FleetSource {
    /// `count`, or one of `policies::fleet::NAMES`.
    pub rule: String,
    /// `count`: so many VMs; the ones given count.
    pub vms: u32,
    /// A new VM's kind.
    pub kind: VmKind,
    /// A new VM has so many thousandths of a core...
    pub cpu_millicores: u32,
    /// ...and MiB.
    pub memory_mib: u32,
    /// The most cores of all VMs together; for rules.
    pub most_cores: u32,
    /// From asking for a VM to its first report, where `machines` does not say.
    pub start_up_seconds: f64,
    /// What is retired may finish its runs for so long.
    pub retire_grace_seconds: f64,
}

impl Default for FleetSource {
    fn default() -> Self {
        let size = fleet::Settings::default().harvest;
        Self {
            rule: RULES[0].to_owned(),
            vms: 3,
            kind: VmKind::Harvest,
            cpu_millicores: size.cpu.0,
            memory_mib: size.memory.0,
            most_cores: 1_000,
            start_up_seconds: 60.0,
            retire_grace_seconds: 30.0,
        }
    }
}

impl FleetSource {
    /// Whether its values make sense, with machines from there.
    pub fn check(&self, machines: Option<&MachinesSource>) -> Result<(), ScenarioError> {
        one_of("fleet.rule", &self.rule, &RULES)?;
        within("fleet.vms", self.vms.into(), 0.0, 1e6)?;
        within("fleet.cpu_millicores", self.cpu_millicores.into(), 100.0, 1e6)?;
        within("fleet.memory_mib", self.memory_mib.into(), 64.0, 1e8)?;
        within("fleet.most_cores", self.most_cores.into(), 1.0, 1e6)?;
        within("fleet.start_up_seconds", self.start_up_seconds, 0.0, 1e6)?;
        within("fleet.retire_grace_seconds", self.retire_grace_seconds, 0.0, 1e6)?;
        if matches!(machines, Some(MachinesSource::Sosp(_) | MachinesSource::Steps(_))) {
            return Err(ScenarioError::Senseless {
                field: "fleet".to_owned(),
                value: "given beside machines that follow a trace".to_owned(),
                expected: "left out, because no other VMs are to be had there".to_owned(),
            });
        }
        Ok(())
    }

    fn size(&self) -> Resources {
        Resources::new(self.cpu_millicores, self.memory_mib)
    }

    /// From asking to reporting.
    pub fn start_up(&self) -> Span {
        Span((self.start_up_seconds * 1e6) as u64)
    }

    /// How large it should be.
    pub fn fleet(&self) -> Fleet {
        let launch_patience = self.start_up() + provisioning::Settings::default().launch_patience;
        Fleet {
            settings: provisioning::Settings { launch_patience, ..Default::default() },
            target: Target { vms: self.vms, kind: self.kind, size: self.size() },
            retire_grace: Span((self.retire_grace_seconds * 1e6) as u64),
        }
    }

    /// The rule, where it is one.
    pub fn rule(&self) -> Option<Box<dyn fleet::Fleet>> {
        let defaults = fleet::Settings::default();
        let (regular, harvest) = match self.kind {
            VmKind::Regular => (self.size(), defaults.harvest),
            VmKind::Harvest => (defaults.regular, self.size()),
        };
        let most = Resources::new(self.most_cores * 1_000, u32::MAX);
        fleet::by_name(&self.rule, &fleet::Settings { most, regular, harvest, ..defaults })
    }
}
