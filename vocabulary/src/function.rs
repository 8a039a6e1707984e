//! What the deciding parts of the house must know of a function.

use serde::{Deserialize, Serialize};

use crate::{ApplicationId, FunctionId, Resources, Revision, Span};

/// What to do with a running invocation when its VM is about to go (annotation `on-eviction`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnEviction {
    /// Run it again elsewhere as soon as it is known that it will not end in time; first answer wins.
    #[default]
    Rerun,
    /// Run it again only when its VM is gone, so that two runs never overlap.
    RerunAtLoss,
    /// Never run it twice; if it is lost it ends with a record that says so.
    Never,
}

/// A function as placement, allocation and residency see it: no code, no name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FunctionCard {
    /// Which function.
    pub id: FunctionId,
    /// Which build of it; sandboxes of older builds must not serve newer invocations.
    pub revision: Revision,
    /// What its user asked for, per invocation.
    pub reservation: Resources,
    /// The longest one run (and, apart from it, one initialisation) may take.
    pub timeout: Span,
    /// What an eviction may do to it.
    #[serde(default)]
    pub on_eviction: OnEviction,
    /// To which application it belongs, where that is more than itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub application: Option<ApplicationId>,
}

impl FunctionCard {
    /// The application whose durations decide on which VMs it may run: its own, or the function by itself.
    pub fn application(&self) -> ApplicationId {
        self.application.unwrap_or(ApplicationId(self.id.0))
    }
}
