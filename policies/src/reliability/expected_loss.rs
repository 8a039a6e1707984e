//! `expected-loss(x)`: on regular VMs runs only what would otherwise be lost more often than x % of the time.
//!
//! **Knows:** by how much the application's invocations outlast the grace period, how often harvest VMs are evicted at the ages
//! they have now, and whether the function may be run again.
//! **Promises:** an invocation is lost if its VM is given notice while it runs, except in its last `GRACE` seconds: so in
//! about (rate of evictions) x (its mean excess over the grace period) of all cases. For a function that must not run twice
//! this is held below x %. One that may run again is not lost: it only wastes work, and goes to regular VMs when a quarter
//! of its runs would be wasted. All else prefers harvest VMs and may use regular ones that have room.
//! **Gives up:** the worst case that `bounded(x)` is made for, in which everything is evicted all the time; and storms, of which
//! the learned rate hears only when they have begun.
//!
//! What has not ended once yet is taken to last as long as its time limit.

use vocabulary::{OnEviction, VmKind};

use super::{Case, GRACE, Kinds, PerMillion, Reliability};

/// See the module.
#[derive(Debug, Clone, Copy)]
pub struct ExpectedLoss {
    /// The x.
    pub budget: PerMillion,
}

impl Default for ExpectedLoss {
    /// What `bounded(99.9)` promises in its worst case.
    fn default() -> Self {
        Self { budget: PerMillion(1_000) }
    }
}

/// Runs that may be wasted before harvest VMs are no bargain any more, in billionths: SOSP'21's least discount is 48 %.
const WASTE: u64 = 250_000_000;

impl Reliability for ExpectedLoss {
    fn name(&self) -> String {
        format!("expected-loss({})", self.budget)
    }

    fn kinds(&self, case: Case<'_>) -> Kinds {
        let excess = case.application.mean_excess().unwrap_or(case.function.timeout - GRACE);
        let lost = case.evictions.within(excess);
        let allowed = match case.function.on_eviction {
            OnEviction::Never => u64::from(self.budget.0) * 1_000,
            OnEviction::Rerun | OnEviction::RerunAtLoss => WASTE,
        };
        if lost > allowed { Kinds::Needs(VmKind::Regular) } else { Kinds::Rather(VmKind::Harvest) }
    }
}
