//! Freyr's safeguard between invocations: which options a function may be given next.
//!
//! **Knows:** the last run of each function and its peaks since it last ran with its reservation (WWW'22, algorithm 1; the
//! notes on the paper have it as 2a.5).
//! **Promises:** without history, after a failure and after a spike only the reservation is allowed; who left a part of its
//! reservation idle may be given less, but never less than its recent peak and one step; who did not may be given more.
//! **Gives up:** the run that is going on: as published, what is taken is given back with the next invocation only. That is
//! what [`safeguard`](crate::safeguard) is for.
//!
//! The paper compares with 0.8, the released code with 0.9; the threshold is an argument.

use std::collections::BTreeMap;

use vocabulary::{FunctionId, Grant, Resources};

use super::options::{Grid, Mask, Steps};
use super::{Ended, Request};

/// What is remembered of one function.
#[derive(Debug, Clone, Copy)]
struct History {
    answered: bool,
    last_peak: Resources,
    last_grant: Grant,
    /// Highest since the last calibration, that run included.
    recent_peak: Resources,
}

/// What may be granted next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allowed {
    /// The options.
    pub mask: Mask,
    /// The reservation only, to find out anew what the function needs: Freyr's "safeguard invocation".
    pub calibrates: bool,
}

/// The histories of all functions.
#[derive(Debug, Clone)]
pub struct Calibration {
    grid: Grid,
    threshold: u32,
    functions: BTreeMap<FunctionId, History>,
}

impl Calibration {
    /// With a threshold in thousandths.
    pub fn new(grid: Grid, threshold: u32) -> Self {
        Self { grid, threshold, functions: BTreeMap::new() }
    }

    /// The options that this invocation may be given.
    pub fn allowed(&self, request: &Request<'_>) -> Allowed {
        let user = request.reservation;
        let (cpu, memory) = (self.grid.cpu_steps_for(user.cpu), self.grid.memory_steps_for(user.memory));
        let only_user = Mask { cpu: Steps::only(cpu), memory: Steps::only(memory) };
        let Some(history) = self.functions.get(&request.function).filter(|history| history.answered) else {
            return Allowed { mask: only_user, calibrates: true };
        };
        let History { last_peak, last_grant, recent_peak, .. } = *history;
        let most = (self.grid.cpu_steps.max(cpu), self.grid.memory_steps.max(memory));
        let (cpu, cpu_spiked) = self.steps(
            [last_peak.cpu.0, last_grant.ceiling.cpu.0, user.cpu.0],
            recent_peak.cpu.0 / self.grid.cpu_step.0.max(1) + 1,
            (cpu, most.0),
        );
        let (mut memory, memory_spiked) = self.steps(
            [last_peak.memory.0, last_grant.ceiling.memory.0, user.memory.0],
            recent_peak.memory.0 / self.grid.memory_step.0.max(1) + 1,
            (memory, most.1),
        );
        if !request.may_rerun || !request.profile.expect(request.input_bytes).is_none_or(|e| e.memory_is_safe)
        {
            memory.from = memory.from.max(only_user.memory.from).min(memory.to);
        }
        Allowed { mask: Mask { cpu, memory }, calibrates: cpu_spiked || memory_spiked }
    }

    /// The steps of one resource, and whether the last run came so near to less than its reservation that this must be given back.
    fn steps(
        &self,
        [peak, had, user]: [u32; 3],
        above_recent: u32,
        (own, most): (u32, u32),
    ) -> (Steps, bool) {
        let reaches =
            |part: u32, whole: u32| u64::from(part) * 1_000 >= u64::from(whole) * u64::from(self.threshold);
        let over_provisioned = u64::from(peak) * 1_000 <= u64::from(user) * u64::from(self.threshold);
        if !over_provisioned {
            (Steps { from: above_recent.min(most), to: most }, false)
        } else if reaches(peak, had) {
            (Steps::only(own), true)
        } else {
            (Steps { from: above_recent.min(own), to: own }, false)
        }
    }

    /// A run has ended; `calibrated`: it was one that [`Allowed::calibrates`].
    pub fn ended(&mut self, ended: &Ended<'_>, calibrated: bool) {
        let peak = Resources { cpu: ended.usage.cpu_peak, memory: ended.usage.memory_peak };
        let before = self.functions.get(&ended.function).map(|history| history.recent_peak);
        let recent_peak = match before {
            Some(before) if !calibrated => before.max(peak),
            _ => peak,
        };
        self.functions.insert(
            ended.function,
            History { answered: ended.answered, last_peak: peak, last_grant: ended.grant, recent_peak },
        );
    }

    /// Forgets a function.
    pub fn forget(&mut self, function: FunctionId) {
        self.functions.remove(&function);
    }
}
