//! Greedy, the simplest baseline of Freyr (WWW'22, section 5.2; released as `agent/greedy_rm.py`).
//!
//! **Knows:** the last run of each function.
//! **Promises:** for CPU and memory apart: if the last run used at most nine tenths of what it had, the next gets one step less,
//! else one step more, between one step and the last of the grid.
//! **Gives up:** everything before the last run, and the run that is going on.
//!
//! `greedy-freyr22` is the released code: it divides the memory peak, in megabytes, by what was given, in steps, so that the
//! memory of nearly every run is found too small and goes up to the last step.

use std::collections::BTreeMap;

use vocabulary::{FunctionId, Grant, Mebibytes, MilliCores, Resources};

use super::options::Grid;
use super::{Allocator, Ended, Request};

/// See the module.
#[derive(Debug, Clone)]
pub struct Greedy {
    grid: Grid,
    mistakes_megabytes_for_steps: bool,
    /// What the next run of each function gets.
    next: BTreeMap<FunctionId, Resources>,
}

impl Greedy {
    /// As published.
    pub fn new(grid: Grid) -> Self {
        Self { grid, mistakes_megabytes_for_steps: false, next: BTreeMap::new() }
    }

    /// As released.
    pub fn freyr22(grid: Grid) -> Self {
        Self { mistakes_megabytes_for_steps: true, ..Self::new(grid) }
    }

    /// One step more or less.
    fn step(idle: bool, had: u32, step: u32, most: u32) -> u32 {
        if idle { had.saturating_sub(step).max(step.min(had)) } else { had.saturating_add(step).min(most) }
    }
}

/// Whether at most nine tenths were used.
fn is_idle(peak: u32, had: u32) -> bool {
    u64::from(peak) * 10 <= u64::from(had) * 9
}

impl Allocator for Greedy {
    fn name(&self) -> &'static str {
        if self.mistakes_megabytes_for_steps { "greedy-freyr22" } else { "greedy" }
    }

    fn grant(&mut self, request: &Request<'_>) -> Grant {
        Grant::fixed(self.next.get(&request.function).copied().unwrap_or(request.reservation))
    }

    fn ended(&mut self, ended: &Ended<'_>) {
        let (had, usage) = (ended.grant.booked, ended.usage);
        let memory_had = if self.mistakes_megabytes_for_steps {
            self.grid.memory_steps_for(had.memory)
        } else {
            had.memory.0
        };
        let cpu_idle = is_idle(usage.cpu_peak.0, had.cpu.0);
        let memory_idle = !ended.starved && is_idle(usage.memory_peak.0, memory_had);
        let most = self.grid.most(ended.reservation);
        let next = Resources {
            cpu: MilliCores(Self::step(cpu_idle, had.cpu.0, self.grid.cpu_step.0, most.cpu.0)),
            memory: Mebibytes(Self::step(memory_idle, had.memory.0, self.grid.memory_step.0, most.memory.0)),
        };
        self.next.insert(ended.function, next);
    }

    fn forget(&mut self, function: FunctionId) {
        self.next.remove(&function);
    }
}
