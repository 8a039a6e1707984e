//! Where functions and their calls come from.
//!
//! **Knows:** measured tables ([`Azure2019`], [`Events`], [`Freyr`]), people who wait and think ([`Users`]), what is published of
//! real workloads ([`Synthetic`]), and what is assumed where a
//! trace is silent ([`Assumptions`]).
//! **Promises:** every call's work is drawn from streams of its own (seed, function, minute; or seed, user), so that two
//! policies are given the same work, and leaving a function out does not change the others. What is not measured is an
//! assumption with a name, and stands in [`Workload::notes`] for the report.
//! **Gives up:** the data. They belong to others; a folder of theirs is named by whoever has it.

mod assumptions;
mod azure2019;
mod events;
mod freyr;
mod lendable;
mod percentiles;
mod replay;
mod selection;
mod sosp_mix;
pub mod speedup;
mod synthetic;
pub(crate) mod table;
mod users;

pub use assumptions::{Assumptions, CpuNeed};
pub use azure2019::Azure2019;
pub use events::{Event, Events};
pub use freyr::{Drawn, Freyr, Reserved};
pub use lendable::Lendable;
pub use percentiles::Percentiles;
pub use selection::{S500_JUDGE, S500_LEARN, Selection, Subset};
pub use sosp_mix::{SospMix, WORK_SCALE};
pub use synthetic::{Figure, POPULARITY_SIGMA, SelfCheck, Synthetic};
pub use table::TraceError;
pub use users::{Users, Wait};

use crate::plan::{Calls, FunctionPlan};

/// Functions, and the calls of them.
pub struct Workload {
    /// The functions; a call names one by its place here.
    pub functions: Vec<FunctionPlan>,
    /// The calls.
    pub calls: Box<dyn Calls + Send>,
    /// What was measured, what was assumed: one sentence each, for the report.
    pub notes: Vec<String>,
}

/// Purposes of chance in workloads; each has streams of its own.
mod purpose {
    pub const FUNCTION: u64 = 101;
    pub const CALLS: u64 = 102;
    pub const WORK: u64 = 103;
    pub const USER: u64 = 104;
    pub const CHOICE: u64 = 105;
    pub const SYNTHETIC: u64 = 106;
    pub const PHASE: u64 = 107;
}
