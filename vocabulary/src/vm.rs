//! A VM as it describes itself once a second.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{Attempt, FunctionCard, FunctionId, Grant, InvocationId, Resources, Revision, VmId};

/// How a VM is bought, hence how it may end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VmKind {
    /// Keeps its size and is not evicted.
    Regular,
    /// Made of what is left over: grows, shrinks, is evicted with short notice. A spot VM is a harvest
    /// VM that does not change size.
    Harvest,
}

impl fmt::Display for VmKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Regular => "regular",
            Self::Harvest => "harvest",
        })
    }
}

impl FromStr for VmKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = [Self::Regular, Self::Harvest].into_iter().find(|kind| kind.to_string() == text);
        found.ok_or_else(|| format!("'{text}' is neither 'harvest' nor 'regular'"))
    }
}

/// Whether a VM takes new work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VmStanding {
    /// Yes.
    Open,
    /// No: it was told to drain or has been given notice; it finishes what it has.
    Draining,
}

/// Sandboxes of one build of a function that are idle on a VM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct WarmOnVm {
    /// Of which function.
    pub function: FunctionId,
    /// Of which build.
    pub revision: Revision,
    /// How many are idle.
    pub idle: u32,
}

/// One attempt that a VM has been given and not finished. Enough for a Controller that knows nothing to
/// rebuild its books.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunningOnVm {
    /// Which invocation.
    pub invocation: InvocationId,
    /// Which try.
    pub attempt: Attempt,
    /// Of which function.
    pub function: FunctionCard,
    /// With how much.
    pub grant: Grant,
}

/// What a VM says of itself, at once on a change and at least once a second.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VmStatus {
    /// Who speaks.
    pub vm: VmId,
    /// Regular or harvest.
    pub kind: VmKind,
    /// What it has now.
    pub capacity: Resources,
    /// Whether it takes new work.
    pub standing: VmStanding,
    /// What is idle on it.
    pub warm: Vec<WarmOnVm>,
    /// What it runs or holds waiting.
    pub running: Vec<RunningOnVm>,
}
