//! Whether there is room for a run.
//!
//! **Knows:** the setting, what is booked, and what was measured lately.
//! **Promises:** with [`Admission::Booked`], that bookings never exceed the VM. With the others, what the released invokers
//! of the SOSP'21 authors do: first in, first out, the first makes all behind it wait; a run keeps the sandbox that was begun
//! for it; nothing is ever handed back because the VM has shrunk or will go.
//! **Gives up:** for those others: that the VM can bear what it has begun. Between two measurements any number may begin.
//!
//! Source: zyqCSL/openwhisk_archive, `ContainerPool.scala`, `InvokerReactive.scala`.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};
use vocabulary::{MilliCores, Resources};

use super::{Output, Residency};

/// What decides whether a run may begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Admission {
    /// Bookings, of CPU and memory.
    #[default]
    Booked,
    /// The MWS fork: the most CPU that was used lately is at most so many thousandths of the cores, and for a new container
    /// the most memory that was used lately leaves room for it.
    Measured {
        /// Released: 900.
        cpu_permille: u32,
    },
    /// The JSQ fork: booked CPU, with the run's own, is at most so many thousandths of the cores; memory by containers' limits.
    /// Idle containers hold theirs until they expire: see [`Admission::stops_idle`].
    Overbooked {
        /// Released: 1,500.
        cpu_permille: u32,
    },
    /// OpenWhisk itself: memory by containers' limits; CPU is not looked at.
    MemoryOnly,
}

impl Admission {
    /// Whether the invoker should behave as the released ones in all else, too.
    pub(super) fn is_released(self) -> bool {
        self != Self::Booked
    }

    /// Whether idle ones are stopped when their memory is needed. The JSQ fork means to, and never does: its `remove` asks for
    /// CPU to be freed as well, takes that of the idle containers for it, which is 0, and stops nobody where 0 is wanted. The
    /// head of its queue then waits until some container has been idle for ten minutes, and all behind it with it. The authors
    /// mended this in their MWS fork ("if cpu is inadequate, pressure can't be relieved by removing idle containers").
    pub(super) fn stops_idle(self) -> bool {
        !matches!(self, Self::Overbooked { .. })
    }
}

/// Measurements that are remembered: five, one a second.
const REMEMBERED: usize = 5;

/// What was used lately.
#[derive(Debug, Default)]
pub(super) struct Recent(VecDeque<Resources>);

impl Recent {
    pub fn measured(&mut self, used: Resources) {
        if self.0.len() >= REMEMBERED {
            self.0.pop_front();
        }
        self.0.push_back(used);
    }

    pub fn most(&self) -> Resources {
        self.0.iter().copied().fold(Resources::ZERO, Resources::max)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Residency {
    /// Whether CPU lets a run with this booking begin.
    pub(super) fn cpu_admits(&self, booked: MilliCores) -> bool {
        let (cores, all) = (self.capacity.cpu, self.sandboxes.booked().cpu + booked);
        match self.settings.admission {
            Admission::Booked => all <= cores,
            Admission::Measured { cpu_permille } => {
                self.recent.most().cpu <= cores.scaled(u64::from(cpu_permille), 1_000)
            }
            Admission::Overbooked { cpu_permille } => all <= cores.scaled(u64::from(cpu_permille), 1_000),
            Admission::MemoryOnly => true,
        }
    }

    /// Whether memory is counted by what is used, not by limits. Before the first measurement it is not.
    pub(super) fn measures_memory(&self) -> bool {
        matches!(self.settings.admission, Admission::Measured { .. }) && !self.recent.is_empty()
    }

    /// Makes room for a new sandbox by measured memory. If what was used lately leaves none, idle ones of that size are
    /// stopped, the least worth first; that this has freed anything is believed without measuring.
    pub(super) fn make_measured_room(&mut self, needed: u64, outputs: &mut Vec<Output>) -> bool {
        if u64::from(self.recent.most().memory.0) + needed <= u64::from(self.capacity.memory.0) {
            return true;
        }
        if self.sandboxes.held_idle() < needed {
            return false;
        }
        let wanted = self.sandboxes.held_idle() - needed;
        while self.sandboxes.held_idle() > wanted
            && let Some(least) = self.sandboxes.least_worth(None)
        {
            self.evict(least, outputs);
        }
        true
    }
}
