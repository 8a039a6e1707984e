//! What every kind of sandbox can do, whatever it is made of.
//!
//! **Knows:** nothing of processes. Today a sandbox is a process; one that speaks `/init` and `/run` to an
//! OpenWhisk container image implements the same two traits.
//! **Promises:** a run that has been taken ends with a report, even if the sandbox dies in it.
//! **Gives up:** more than one run at a time in one sandbox: `&mut self` says so.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use vocabulary::{Mebibytes, MilliCores, Resources, Span};

use crate::{RunOrder, RunReport};

/// Something that is going on and ends with a `T`.
pub type Running<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// One function, loaded and ready to run.
pub trait Sandbox: Send {
    /// The name it was started with.
    fn name(&self) -> &str;

    /// How long starting it took, code loaded; OpenWhisk's `initTime`.
    fn init_took(&self) -> Span;

    /// What loading the code logged. Empty the second time.
    fn take_init_logs(&mut self) -> Vec<crate::LogLine>;

    /// Its limits, usable while a run is going on.
    fn limits(&self) -> Arc<dyn Limits>;

    /// Whether its process is there and in step. Costs one system call. A `false` before a run means: take
    /// a fresh sandbox, the function is not to blame.
    fn is_alive(&mut self) -> bool;

    /// Runs the function once. Dropping the future before it ends leaves the sandbox out of step: only
    /// [`Sandbox::stop`] is sensible then, and further runs answer [`crate::Verdict::NeverRan`].
    fn run(&mut self, order: RunOrder) -> Running<'_, RunReport>;

    /// Stops everything in it where it stands, until [`Sandbox::resume`]. A run resumes by itself first.
    fn pause(&mut self) -> io::Result<()>;

    /// Lets a paused sandbox go on.
    fn resume(&mut self) -> io::Result<()>;

    /// Kills everything in it, and removes its group and its scratch space. A sandbox that is dropped
    /// instead is killed too, but what it leaves is only removed by [`crate::Workshop::close`].
    fn stop(self: Box<Self>) -> Running<'static, ()>;
}

/// The live limits of one sandbox.
pub trait Limits: Send + Sync {
    /// Lets it use so much from now on. CPU takes effect within one or two periods of 100 ms, memory at
    /// once. Where nothing is enforced this succeeds and changes nothing.
    fn set_ceiling(&self, ceiling: Resources) -> Result<(), LimitError>;

    /// Its part of the CPU when there is not enough for all, in proportion to the others' weights.
    fn set_weight(&self, weight: MilliCores) -> Result<(), LimitError>;

    /// What it has used so far and uses now; none if it is gone.
    fn sample(&self) -> Option<Sample>;

    /// CPU time since it was started, alone: a fourth of what a whole sample costs. None if it is gone.
    fn cpu_time(&self) -> Option<Span>;

    /// Kills everything in it at once. A run that is going on ends with [`crate::Verdict::Killed`].
    fn kill(&self);
}

/// What a sandbox has used up to one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// When this was read.
    pub at: Instant,
    /// CPU time since it was started.
    pub cpu_time: Span,
    /// How long the kernel has held it back at its ceiling since it was started; zero where the kernel does
    /// not say.
    pub throttled: Span,
    /// Memory in use, in bytes.
    pub memory: u64,
    /// How often it has run into its memory ceiling since it was started; zero where the kernel does not say.
    pub memory_limit_hits: u64,
}

/// Why a limit was not changed.
#[derive(Debug, thiserror::Error)]
pub enum LimitError {
    /// More memory than that is in use, and this kernel (cgroup v1) will not go below it. Nothing was
    /// changed for memory; choose a victim, or wait until the run has ended.
    #[error("{in_use} are in use, which is more than the new limit of {asked}")]
    MemoryInUse {
        /// What is in use now.
        in_use: Mebibytes,
        /// What was asked for.
        asked: Mebibytes,
    },
    /// The sandbox is gone.
    #[error("the sandbox is gone")]
    Gone,
    /// The machine refused.
    #[error("could not {doing}: {source}")]
    Host {
        /// What we were doing, as the rest of "could not ...".
        doing: String,
        /// What the machine said.
        source: io::Error,
    },
}
