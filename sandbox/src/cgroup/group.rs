//! One group: made, limited, read, removed.
//!
//! **Knows:** the files of one group in each hierarchy.
//! **Promises:** as the module does.
//! **Gives up:** being fast; what happens with every invocation goes through [`Dials`].

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use vocabulary::{Mebibytes, Resources, Span};

use super::dials::Dials;
use super::files;
use super::hierarchies::{Controller, Hierarchies, Hierarchy};
use super::limits::Limits;
use super::{AGENT, HOUSE};

/// What a group, with its children, has used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// CPU time.
    pub cpu_time: Span,
    /// In how many periods it was held back.
    pub throttled_periods: u64,
    /// How long it was held back.
    pub throttled: Span,
    /// Memory in use now, in bytes.
    pub memory: u64,
    /// The highest memory use, in bytes; 0 where the kernel does not say.
    pub memory_peak: u64,
    /// How many of its processes the kernel killed for want of memory. On v1 without its children's.
    pub oom_kills: u64,
}

/// Why a group did not do as told.
#[derive(Debug, thiserror::Error)]
pub enum GroupError {
    /// More memory is in use than the new limit. Nothing was changed: free some first.
    #[error("{in_use} are in use in group '{group}', which is more than the new limit of {asked}")]
    MemoryInUse {
        /// Which group.
        group: String,
        /// What is in use.
        in_use: Mebibytes,
        /// What was asked for.
        asked: Mebibytes,
    },
    /// The path cannot name a group.
    #[error(
        "'{path}' cannot name a control group: its parts are 1 to 255 characters of [A-Za-z0-9_.@:-], not '..'"
    )]
    BadPath {
        /// What was given.
        path: String,
    },
    /// This machine has no such controller, or it was not given to us.
    #[error("this machine has no control groups for {0:?} that we may use")]
    Unsupported(Controller),
    /// The kernel refused.
    #[error("could not {doing} of control group '{group}': {source}")]
    Kernel {
        /// As the rest of "could not ... of control group".
        doing: &'static str,
        /// Which group.
        group: String,
        /// What it said.
        source: io::Error,
    },
}

/// A control group; dropping it changes nothing.
#[derive(Clone)]
pub struct Group {
    pub(super) hierarchies: Arc<Hierarchies>,
    pub(super) path: String,
}

impl fmt::Debug for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Group({})", self.path)
    }
}

impl Group {
    /// The group at `path` (see the module), which must be there in at least one hierarchy.
    pub fn open(path: &str) -> Result<Self, GroupError> {
        let group = Self::at(found()?, path)?;
        if group.hierarchies.all.iter().any(|h| h.folder(&group.path).is_dir()) {
            Ok(group)
        } else {
            Err(group.refused("find a folder", io::ErrorKind::NotFound.into()))
        }
    }

    /// The group that this process is in: `""`, the base itself, outside of the house.
    pub fn own() -> Result<Self, GroupError> {
        let hierarchies = found()?;
        let path = hierarchies.own().to_owned();
        Ok(Self { hierarchies, path })
    }

    /// The group of the VM that this process is the agent of; none if it is not in such a group.
    pub fn own_vm() -> Option<Self> {
        let own = Self::own().ok()?;
        let path = own.path.strip_suffix(AGENT)?.strip_suffix('/')?.to_owned();
        Some(Self { path, ..own })
    }

    /// Makes the group at `path`, and those above it, where they are missing.
    pub fn create(path: &str) -> Result<Self, GroupError> {
        let group = Self::at(found()?, path)?;
        group.make()?;
        Ok(group)
    }

    /// Makes a VM's group with its leaf for the agent: `windfall/<name>`, limited to `capacity`.
    pub fn create_vm(name: &str, capacity: Resources) -> Result<Self, GroupError> {
        let vm = Self::create(&format!("{HOUSE}/{name}"))?;
        vm.create_child(AGENT)?;
        vm.set_limits(Limits { cpu: Some(capacity.cpu), memory: Some(capacity.memory) })?;
        Ok(vm)
    }

    /// Makes the child `name` where it is missing.
    pub fn create_child(&self, name: &str) -> Result<Self, GroupError> {
        let child = self.child(name)?;
        child.make()?;
        Ok(child)
    }

    /// The child `name`, whether it is there or not.
    pub fn child(&self, name: &str) -> Result<Self, GroupError> {
        let path = if self.path.is_empty() { name.to_owned() } else { format!("{}/{name}", self.path) };
        Self::at(self.hierarchies.clone(), &path)
    }

    /// Its path, from the base.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The hierarchies it lives in.
    pub fn hierarchies(&self) -> &Hierarchies {
        &self.hierarchies
    }

    /// Whether it is there with the files that limit `controller`.
    pub fn controls(&self, controller: Controller) -> bool {
        let file = |hierarchy: &Hierarchy| match (controller, hierarchy.is_v2) {
            (Controller::Cpu, true) => "cpu.max",
            (Controller::Cpu, false) => "cpu.cfs_quota_us",
            (Controller::CpuAccounting, true) => "cpu.stat",
            (Controller::CpuAccounting, false) => "cpuacct.usage",
            (Controller::Memory, true) => "memory.max",
            (Controller::Memory, false) => "memory.limit_in_bytes",
            (Controller::Pids, _) => "pids.max",
            (Controller::Freezer, true) => "cgroup.freeze",
            (Controller::Freezer, false) => "freezer.state",
        };
        self.hierarchies
            .with(controller)
            .is_some_and(|hierarchy| hierarchy.folder(&self.path).join(file(hierarchy)).exists())
    }

    /// What it has used; what it has no controller for is zero.
    pub fn counters(&self) -> Result<Counters, GroupError> {
        Dials::of(self).counters().map_err(|e| self.refused("read the counters", e))
    }

    /// Its limits and counters, with their files kept open.
    pub fn dials(&self) -> Dials {
        Dials::of(self)
    }

    /// Removes it and its children, which must be empty. What is not there is not missed.
    pub fn remove(&self) -> Result<(), GroupError> {
        for hierarchy in &self.hierarchies.all {
            for folder in tree(&hierarchy.folder(&self.path)).iter().rev() {
                remove_folder(folder).map_err(|e| self.refused("remove the folder", e))?;
            }
        }
        Ok(())
    }

    /// Its children's names.
    pub fn children(&self) -> Vec<Group> {
        let mut names = BTreeSet::new();
        for hierarchy in self.limiting() {
            names.extend(
                subfolders(&hierarchy.folder(&self.path))
                    .into_iter()
                    .filter_map(|folder| folder.file_name().and_then(|name| name.to_str()).map(String::from)),
            );
        }
        names.iter().filter_map(|name| self.child(name).ok()).collect()
    }

    pub(super) fn place(&self, controller: Controller) -> Option<(PathBuf, bool)> {
        let hierarchy = self.hierarchies.with(controller)?;
        let folder = hierarchy.folder(&self.path);
        folder.is_dir().then_some((folder, hierarchy.is_v2))
    }

    fn at(hierarchies: Arc<Hierarchies>, path: &str) -> Result<Self, GroupError> {
        let path = path.trim_matches('/');
        let legal = |b: u8| b.is_ascii_alphanumeric() || b"_.@:-".contains(&b);
        let well_formed = path.split('/').all(|part| {
            !part.is_empty() && part.len() <= 255 && part != "." && part != ".." && part.bytes().all(legal)
        });
        if well_formed {
            Ok(Self { hierarchies, path: path.to_owned() })
        } else {
            Err(GroupError::BadPath { path: path.chars().take(300).collect() })
        }
    }

    pub(super) fn limiting(&self) -> impl Iterator<Item = &Hierarchy> {
        self.hierarchies.all.iter().filter(|h| h.is_v2 || h.controllers != [Controller::Freezer])
    }

    fn make(&self) -> Result<(), GroupError> {
        let refused = |e| self.refused("make the folder", e);
        let mut made_any = false;
        for hierarchy in self.limiting() {
            made_any = true;
            let folder = hierarchy.folder(&self.path);
            if folder.is_dir() {
                continue;
            }
            if !hierarchy.is_v2 {
                fs::create_dir_all(&folder).map_err(refused)?;
                continue;
            }
            let mut above = hierarchy.base.clone();
            for part in self.path.split('/') {
                enable_below(hierarchy, &above).map_err(refused)?;
                above.push(part);
                match fs::create_dir(&above) {
                    Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(refused(error)),
                    _ => {}
                }
            }
        }
        if made_any { Ok(()) } else { Err(GroupError::Unsupported(Controller::Cpu)) }
    }

    pub(super) fn refused(&self, doing: &'static str, source: io::Error) -> GroupError {
        GroupError::Kernel { doing, group: self.path.clone(), source }
    }
}

fn found() -> Result<Arc<Hierarchies>, GroupError> {
    Hierarchies::find().map_err(|source| GroupError::Kernel {
        doing: "find the hierarchies",
        group: String::new(),
        source,
    })
}

/// Lets the children of a v2 group be limited. A group with processes of its own may not do that: those of
/// the base (we, and whoever shares our container) move into a leaf beside our groups.
fn enable_below(hierarchy: &Hierarchy, folder: &std::path::Path) -> io::Result<()> {
    let control = folder.join("cgroup.subtree_control");
    let enabled = files::read(&control)?;
    for name in hierarchy.names_to_enable().filter(|name| !enabled.split_whitespace().any(|e| e == *name)) {
        let text = format!("+{name}");
        match files::write(&control, &text) {
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) && folder == hierarchy.base => {
                let leaf = folder.join(HOUSE).join("outside");
                fs::create_dir_all(&leaf)?;
                for pid in fs::read_to_string(folder.join("cgroup.procs"))?.lines() {
                    // One that has just ended, or a kernel thread, does not move; that is no reason to stop.
                    let _ = files::write(&leaf.join("cgroup.procs"), pid);
                }
                files::write(&control, &text)?;
            }
            done => done?,
        }
    }
    Ok(())
}

fn subfolders(folder: &std::path::Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    entries.flatten().filter(|e| e.file_type().is_ok_and(|t| t.is_dir())).map(|e| e.path()).collect()
}

/// `folder` and everything below it, parents first. Empty if it is not there.
pub(super) fn tree(folder: &std::path::Path) -> Vec<PathBuf> {
    if !folder.is_dir() {
        return Vec::new();
    }
    let mut all = vec![folder.to_owned()];
    let mut next = 0;
    while next < all.len() {
        let below = subfolders(&all[next]);
        all.extend(below);
        next += 1;
    }
    all
}

/// Removes the folder of an empty group. One whose last process has just died may be busy for a moment.
fn remove_folder(folder: &std::path::Path) -> io::Result<()> {
    for _ in 0..50 {
        match fs::remove_dir(folder) {
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {
                std::thread::sleep(Duration::from_millis(1));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            done => return done,
        }
    }
    fs::remove_dir(folder)
}
