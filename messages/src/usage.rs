//! What runs used, for whoever trains on it.

use serde::{Deserialize, Serialize};
use vocabulary::{ControllerId, FunctionId, Grant, Resources, Span, Usage};

/// Controller -> the stream `WINDFALL_USAGE`, on `windfall.usage.<controller>`, once a second where anything has run: what ended
/// meanwhile. One that is lost is missing, and nobody waits for it; one that comes twice has the same `controller` and `sequence`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsageBatch {
    /// Whose runs these were.
    pub controller: ControllerId,
    /// Grows by one with each batch of this Controller.
    pub sequence: u64,
    /// When it was sent, in milliseconds since the Unix epoch by its writer's clock.
    pub sent_unix_ms: u64,
    /// VMs that took work then...
    pub vms: u32,
    /// ...and what all of them had together.
    pub capacity: Resources,
    /// Runs that are missing here because more ended than are told in a second (`controller.usage_records_per_second`).
    pub skipped: u64,
    /// In the order in which they ended.
    pub runs: Vec<RunUsage>,
}

/// One run that has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunUsage {
    /// Of which function.
    pub function: FunctionId,
    /// What its user asked for.
    pub reservation: Resources,
    /// What it was granted.
    pub grant: Grant,
    /// Size of its argument, or of the part of it that the function names as its size.
    pub input_bytes: u32,
    /// It ended so long before the batch was sent.
    pub ended_before: Span,
    /// From its submission to the start of its run.
    pub waited: Span,
    /// Making its sandbox; zero when warm.
    pub init: Span,
    /// The run itself.
    pub duration: Span,
    /// What it used.
    pub usage: Usage,
    /// Whether the function answered.
    pub answered: bool,
    /// Whether it was killed for want of memory that was taken from its reservation.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub starved: bool,
}
