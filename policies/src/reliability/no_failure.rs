//! `no-failure` (SOSP'21): an application of which any invocation was ever longer than the grace period runs on regular VMs.
//!
//! **Knows:** the application's longest invocation.
//! **Promises:** an invocation on a harvest VM ends within the grace period, as far as the past tells.
//! **Gives up:** most of the computation: in the paper's data 12 % of it stays on harvest VMs. The paper knew all durations
//! beforehand; here an application is on regular VMs until it has ended once, unless its time limit is short enough.

use vocabulary::VmKind;

use super::{Case, GRACE, Kinds, Reliability};

/// See the module.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoFailure;

impl Reliability for NoFailure {
    fn name(&self) -> String {
        "no-failure".into()
    }

    fn kinds(&self, case: Case<'_>) -> Kinds {
        let unknown = case.application.seen() == 0 && case.function.timeout > GRACE;
        if unknown || case.application.longest() > GRACE {
            Kinds::Only(VmKind::Regular)
        } else {
            Kinds::Only(VmKind::Harvest)
        }
    }
}
