//! VMs that change their size while they are called: the other level of harvesting.
//!
//! **Knows:** how long a round lasts.
//! **Promises:** always the same: every four seconds one VM is given another part of its CPU. The first keeps all of its own, so
//! that there is always one on which the largest reservation fits; when the round is over, all have their size again.
//! **Gives up:** chance. `chaos` has that.

use std::time::Duration;

use sandbox::cgroup::{Group, HOUSE};
use vocabulary::{MilliCores, VmId};

use super::Fleet;
use crate::failure::Outcome;

/// One change for one VM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Change {
    pub at: Duration,
    pub vm: usize,
    pub cpu: MilliCores,
}

const BETWEEN: Duration = Duration::from_secs(4);
/// Parts of a VM's CPU that are left to it, in turn, in per cent.
const PARTS: [u32; 5] = [60, 100, 40, 100, 80];

/// What happens in a round of this length.
pub(super) fn of_round(fleet: &Fleet, length: Duration) -> Vec<Change> {
    let changing = fleet.vms.saturating_sub(1);
    if !fleet.shrinking || changing == 0 {
        return Vec::new();
    }
    let times = (length.as_secs() / BETWEEN.as_secs()) as u32;
    let changes = (0..times).map(|n| Change {
        at: BETWEEN * n + BETWEEN / 2,
        vm: (1 + n % changing) as usize,
        cpu: MilliCores(fleet.vm_cpu * PARTS[(n / changing) as usize % PARTS.len()] / 100),
    });
    let whole =
        (1..=changing).map(|vm| Change { at: length, vm: vm as usize, cpu: MilliCores(fleet.vm_cpu) });
    changes.chain(whole).collect()
}

/// The control groups of a cluster's VMs.
pub(super) struct Vms(Vec<Group>);

impl Vms {
    /// These of a cluster, in order.
    pub fn open(cluster: &str, vms: &[VmId]) -> Outcome<Self> {
        let group = |vm| Group::open(&format!("{HOUSE}/{cluster}/{vm}"));
        let groups: Result<Vec<_>, _> = vms.iter().map(group).collect();
        Ok(Self(groups.map_err(anyhow::Error::from)?))
    }

    pub fn carry_out(&self, change: Change) -> Outcome {
        let Some(group) = self.0.get(change.vm) else { return Ok(()) };
        Ok(group.set_cpu(Some(change.cpu)).map_err(anyhow::Error::from)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_vm_keeps_its_size_and_all_have_theirs_at_the_end() {
        let fleet = Fleet { vms: 3, vm_cpu: 500, vm_memory: 1, shrinking: true };
        let changes = of_round(&fleet, Duration::from_secs(30));
        assert!(changes.is_sorted_by_key(|change| change.at));
        assert!(changes.iter().all(|change| change.vm > 0 && change.cpu >= MilliCores(200)));
        for vm in 1..3 {
            let last = changes.iter().rfind(|change| change.vm == vm).expect("each changes");
            assert_eq!(last.cpu, MilliCores(500));
        }
        assert_eq!(of_round(&Fleet { shrinking: false, ..fleet }, Duration::from_secs(30)), []);
    }
}
