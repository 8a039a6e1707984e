//! The limits of one group, with their files kept open: for who looks at them many times a second.
//!
//! **Promises:** a look is one `pread(2)` per file. Once the group is removed every look fails, also when another
//! one is made under its name.

use std::fs::File;
use std::io;

use vocabulary::{Mebibytes, MilliCores};

use super::files;
use super::group::Group;
use super::hierarchies::Controller;
use super::limits::{Limits, cpu_limit, memory_limit};

/// The limits of a group, ready to be read again and again.
#[derive(Debug)]
pub struct Watch {
    cpu: Option<Cpu>,
    memory: Option<File>,
}

#[derive(Debug)]
enum Cpu {
    V1 { quota: File, period: File },
    V2 { max: File },
}

impl Watch {
    /// Opens the files that limit `group`; what it has no controller for, or what has no such file because it is a
    /// root, is without limit.
    ///
    /// # Errors
    /// A file is there and cannot be opened.
    pub fn of(group: &Group) -> io::Result<Self> {
        let open = |controller, name: &str| match group.place(controller) {
            Some((folder, _)) => match File::open(folder.join(name)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                opened => opened.map(Some),
            },
            None => Ok(None),
        };
        let is_v2 = |controller| group.place(controller).is_some_and(|(_, is_v2)| is_v2);
        let cpu = if is_v2(Controller::Cpu) {
            open(Controller::Cpu, "cpu.max")?.map(|max| Cpu::V2 { max })
        } else {
            let quota = open(Controller::Cpu, "cpu.cfs_quota_us")?;
            let period = open(Controller::Cpu, "cpu.cfs_period_us")?;
            quota.zip(period).map(|(quota, period)| Cpu::V1 { quota, period })
        };
        let memory = if is_v2(Controller::Memory) { "memory.max" } else { "memory.limit_in_bytes" };
        Ok(Self { cpu, memory: open(Controller::Memory, memory)? })
    }

    /// What the group may use now.
    ///
    /// # Errors
    /// The group is gone.
    pub fn read(&self) -> io::Result<Limits> {
        let cpu: Option<MilliCores> = match &self.cpu {
            Some(Cpu::V2 { max }) => {
                let text = files::read_from(max)?;
                let mut words = text.split_whitespace().map(files::number);
                cpu_limit(words.next().flatten(), words.next().flatten())
            }
            Some(Cpu::V1 { quota, period }) => {
                let quota = files::number(&files::read_from(quota)?);
                cpu_limit(quota, files::number(&files::read_from(period)?))
            }
            None => None,
        };
        let memory: Option<Mebibytes> = match &self.memory {
            Some(file) => memory_limit(&files::read_from(file)?),
            None => None,
        };
        Ok(Limits { cpu, memory })
    }
}
