//! `live-and-let-die` (SOSP'21): everything runs on harvest VMs, and what is lost is lost.
//!
//! **Knows:** nothing.
//! **Promises:** all of the computation on harvest VMs.
//! **Gives up:** long invocations on VMs that are evicted.

use vocabulary::VmKind;

use super::{Case, Kinds, Reliability};

/// See the module.
#[derive(Debug, Clone, Copy, Default)]
pub struct LiveAndLetDie;

impl Reliability for LiveAndLetDie {
    fn name(&self) -> String {
        "live-and-let-die".into()
    }

    fn kinds(&self, _case: Case<'_>) -> Kinds {
        Kinds::Only(VmKind::Harvest)
    }
}
