//! How an invocation ended, and what it used while it ran.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Mebibytes, MilliCores, Span};

/// How an invocation ended, as OpenWhisk's clients tell it apart: its `statusCode` 0 to 3.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The function answered.
    Success,
    /// The function answered with an `error` of its own.
    ApplicationError,
    /// The function broke: crash, timeout, out of memory, an answer that is none.
    DeveloperError,
    /// Windfall could not run it.
    InternalError,
}

impl Outcome {
    /// All of them, in the order of their codes.
    pub const ALL: [Outcome; 4] =
        [Self::Success, Self::ApplicationError, Self::DeveloperError, Self::InternalError];

    /// OpenWhisk's `statusCode`.
    pub fn code(self) -> u8 {
        self as u8
    }

    /// OpenWhisk's status text.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::ApplicationError => "application error",
            Self::DeveloperError => "action developer error",
            Self::InternalError => "whisk internal error",
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What one run used, as the Invoker measured it. Where the kernel does not say (no cgroup), the peaks are
/// those of the process's own resource counters and `throttled` is zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Usage {
    /// CPU time.
    pub cpu_time: Span,
    /// The highest CPU rate seen between two samples, or the mean where the run was too short to sample.
    pub cpu_peak: MilliCores,
    /// The highest memory use.
    pub memory_peak: Mebibytes,
    /// How long the kernel held it back at its CPU ceiling.
    pub throttled: Span,
    /// Whether part of its reservation had been lent and was given back to it while it ran, because it came near to
    /// what was left.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub safeguarded: bool,
}
