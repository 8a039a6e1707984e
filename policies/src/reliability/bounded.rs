//! `bounded(x)` (SOSP'21): an application runs on regular VMs if the x-th percentile of its durations is longer than the
//! grace period.
//!
//! **Knows:** how many of its invocations were longer.
//! **Promises:** even if every VM were evicted all the time, at most 100 - x % of an application's invocations would fail.
//! **Gives up:** the knowledge that VMs are hardly ever evicted. In the paper's data 28 % of the computation stays on harvest
//! VMs with x = 99.9, and 45.7 % with 99. What has not ended once yet is treated as `no-failure` does.

use vocabulary::VmKind;

use super::{Case, GRACE, Kinds, PerMillion, Reliability};

/// See the module.
#[derive(Debug, Clone, Copy)]
pub struct Bounded {
    /// The x.
    pub percentile: PerMillion,
}

impl Reliability for Bounded {
    fn name(&self) -> String {
        format!("bounded({})", self.percentile)
    }

    fn kinds(&self, case: Case<'_>) -> Kinds {
        let (seen, over) = (u64::from(case.application.seen()), u64::from(case.application.over_grace()));
        let unknown = seen == 0 && case.function.timeout > GRACE;
        // The percentile is longer than the grace period if more than the share above it is.
        let allowed = seen * u64::from(1_000_000 - self.percentile.0.min(1_000_000));
        if unknown || over * 1_000_000 > allowed {
            Kinds::Only(VmKind::Regular)
        } else {
            Kinds::Only(VmKind::Harvest)
        }
    }
}
