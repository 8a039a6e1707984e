//! What a Workshop is told when it is opened.
//!
//! **Knows:** every limit that the hands of the house keep, with its default and where that comes from.
//! **Promises:** nothing here is found out; finding out is the business of [`crate::Workshop::open`].
//! **Gives up:** reading configuration files; whoever does fills this in.

use std::path::PathBuf;

use vocabulary::Mebibytes;

/// Whether to enforce limits and isolation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Enforce {
    /// Whatever this machine allows; [`crate::Enforcement`] says what that is.
    #[default]
    Auto,
    /// Nothing: plain processes of our own user, as if we were not root.
    Off,
}

/// How to run [`crate::sandbox_main`] in a process of its own: Namespaces and mounts are prepared by a
/// small single-threaded process, which must not be a fork of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Launcher {
    /// An executable that calls [`crate::sandbox_main`] with the arguments that follow `args`.
    pub program: PathBuf,
    /// Arguments that make it do so, such as `sandbox-init`.
    pub args: Vec<String>,
}

/// Everything a [`Workshop`](crate::Workshop) is told.
#[derive(Debug, Clone)]
pub struct WorkshopSettings {
    /// A directory of our own: unpacked code, scratch space. Made if it is not there; what is in it does not
    /// outlive the Workshop.
    pub scratch: PathBuf,
    /// The VM's control group, as [`crate::cgroup::Group::open`] reads it. Sandboxes' groups are its
    /// children; our own process should be in its child `agent`. None: a group of our own is made.
    pub cgroup_parent: Option<String>,
    /// Sandboxes run as users `uid_base`, `uid_base + 1`, ... Workshops on one machine must not overlap.
    pub uid_base: u32,
    /// The Python to use; found if not given.
    pub python: Option<PathBuf>,
    /// The Node.js to use; found if not given.
    pub node: Option<PathBuf>,
    /// Python modules that every Python function finds already imported.
    pub zygote_preload: Vec<String>,
    /// Processes for Python functions that are made in advance, so that a cold start need not wait for its fork. Each
    /// holds about 2 MiB of its own. 0: none. Default 2.
    pub python_spares: usize,
    /// Whether to enforce limits and isolation.
    pub enforce: Enforce,
    /// How to run [`crate::sandbox_main`].
    pub launcher: Launcher,
    /// The most sandboxes at a time. Default 1,000, so that the user ids of Workshops can be kept apart.
    pub sandboxes_limit: u32,
    /// The most processes and threads in one sandbox. Default 1,024, as OpenWhisk.
    pub pids_limit: u32,
    /// The most open files of one process. Default 1,024, as OpenWhisk.
    pub open_files_limit: u32,
    /// The size of a sandbox's `/tmp`, which counts as its memory; at most half of its memory when it is
    /// started. Default 512 MiB, as AWS Lambda gives.
    pub tmp_limit: Mebibytes,
    /// The most bytes one zip may unpack to. Default 512 MiB.
    pub unpacked_limit: u64,
    /// The most entries in one zip. Default 65,535, where zip files grow a second format.
    pub unpacked_entries_limit: usize,
    /// How many bytes of unpacked code are kept for the next cold start. Default 2 GiB.
    pub code_cache_limit: u64,
}

impl WorkshopSettings {
    /// The defaults, with unpacked code and scratch space in `scratch`.
    pub fn new(scratch: impl Into<PathBuf>, launcher: Launcher) -> Self {
        Self {
            scratch: scratch.into(),
            cgroup_parent: None,
            uid_base: 2_000_000,
            python: None,
            node: None,
            zygote_preload: [
                "json",
                "ssl",
                "asyncio",
                "http.client",
                "urllib.request",
                "datetime",
                "logging",
            ]
            .map(String::from)
            .to_vec(),
            python_spares: 2,
            enforce: Enforce::Auto,
            launcher,
            sandboxes_limit: 1_000,
            pids_limit: 1_024,
            open_files_limit: 1_024,
            tmp_limit: Mebibytes(512),
            unpacked_limit: 512 << 20,
            unpacked_entries_limit: 65_535,
            code_cache_limit: 2 << 30,
        }
    }
}
