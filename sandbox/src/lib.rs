//! HANDS: one function process. Start it, run it, limit it, measure it, stop it.
//!
//! **Knows:** how to make a process that serves one function, and what this machine can enforce on it.
//! **Promises:** every run that is taken ends with a report: an answer, or why there is none and whose
//! fault that is. Whatever a function does, the Workshop's memory stays bounded, and nothing that ran in a
//! sandbox outlives [`Sandbox::stop`].
//! **Gives up:** deciding anything. Which sandbox, how many, how much and when to stop are decided in
//! `policies`; here it is only done.
//!
//! A sandbox speaks OpenWhisk's action loop: one JSON line per run on its standard input, one JSON line as
//! answer on descriptor 3, logs on standard output and error, and no other descriptors.

// What others say to us.
mod contract;
mod enforcement;
mod kind;
mod orders;
mod settings;

// From an order to a loaded function.
mod catalogue;
mod code_cache;
mod nursery;
mod register;
mod slots;
mod spares;
mod start;
mod workshop;

// One function process.
mod hold;
mod logs;
mod measure;
mod pipes;
mod process;
mod talk;
mod wire;

// The other side: the small process that makes sandboxes.
mod birth;

pub mod cgroup;

pub use catalogue::{Catalogue, Runtime, catalogue};
pub use contract::{LimitError, Limits, Running, Sample, Sandbox};
pub use enforcement::Enforcement;
pub use kind::{Family, Kind, ParseKindError};
pub use orders::{Code, LogLine, RunContext, RunOrder, RunReport, StartError, StartOrder, Stream, Verdict};
pub use settings::{Enforce, Launcher, WorkshopSettings};
pub use workshop::{Workshop, WorkshopError};

/// Where functions find programs. Fixed, so that a function does not depend on who started the VM.
pub(crate) const SAFE_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Runs the small process that makes sandboxes, to which [`Launcher`] leads. Never returns. The `windfall`
/// binary calls it first thing in its hidden command `sandbox-init`, before any thread is started, with the
/// arguments that follow the command's name.
pub fn sandbox_main(arguments: Vec<std::ffi::OsString>) -> ! {
    birth::main(arguments)
}

/// What every function finds in its environment, and `more`, where the later one of two counts.
pub(crate) fn environment(more: &[(String, String)]) -> Vec<(String, String)> {
    [("PATH", SAFE_PATH), ("LANG", "C.UTF-8"), ("HOME", "/tmp"), ("TMPDIR", "/tmp")]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .chain(more.iter().cloned())
        .collect()
}
