//! The limits and counters of one group, with their files kept open.
//!
//! **Knows:** which files a running invocation needs.
//! **Promises:** a change of a limit is one `pwrite(2)`, a reading one `pread(2)`; a file is opened when it
//! is first needed, so that a sandbox that never runs long holds few.
//! **Gives up:** repairing what the kernel refuses; [`Group`] knows how.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::PathBuf;
use std::sync::OnceLock;

use vocabulary::{MilliCores, Span};

use super::files;
use super::group::{Counters, Group};
use super::hierarchies::Controller;
use super::limits::{cpu_file, weight_file};

/// Open files of one group.
#[derive(Debug)]
pub struct Dials {
    cpu: Option<Place>,
    accounting: Option<Place>,
    memory: Option<Place>,
    quota: OnceLock<File>,
    weight: OnceLock<File>,
    memory_limit: OnceLock<File>,
    cpu_time: OnceLock<File>,
    cpu_stat: OnceLock<File>,
    memory_in_use: OnceLock<File>,
    memory_peak: OnceLock<Option<File>>,
    memory_events: OnceLock<File>,
    limit_hits: OnceLock<File>,
}

#[derive(Debug)]
struct Place {
    folder: PathBuf,
    is_v2: bool,
}

impl Dials {
    pub(super) fn of(group: &Group) -> Self {
        let place = |c| group.place(c).map(|(folder, is_v2)| Place { folder, is_v2 });
        Self {
            cpu: place(Controller::Cpu),
            accounting: place(Controller::CpuAccounting),
            memory: place(Controller::Memory),
            quota: OnceLock::new(),
            weight: OnceLock::new(),
            memory_limit: OnceLock::new(),
            cpu_time: OnceLock::new(),
            cpu_stat: OnceLock::new(),
            memory_in_use: OnceLock::new(),
            memory_peak: OnceLock::new(),
            memory_events: OnceLock::new(),
            limit_hits: OnceLock::new(),
        }
    }

    /// Whether the CPU can be limited here.
    pub fn has_cpu(&self) -> bool {
        self.cpu.is_some()
    }

    /// Whether memory can be limited here.
    pub fn has_memory(&self) -> bool {
        self.memory.is_some()
    }

    /// Writes the CPU quota as it is given. v1 answers `EINVAL` if the parent has less.
    pub fn write_cpu(&self, cpu: MilliCores) -> io::Result<()> {
        let place = self.cpu.as_ref().ok_or(io::ErrorKind::Unsupported)?;
        let (name, text) = cpu_file(place.is_v2, Some(cpu));
        files::write_to(opened(&self.quota, place, name, true)?, &text)
    }

    /// Writes the CPU weight.
    pub fn write_weight(&self, weight: MilliCores) -> io::Result<()> {
        let place = self.cpu.as_ref().ok_or(io::ErrorKind::Unsupported)?;
        let (name, value) = weight_file(place.is_v2, weight);
        files::write_to(opened(&self.weight, place, name, true)?, &value.to_string())
    }

    /// Writes the memory limit as it is given, in bytes. v1 answers `EBUSY` if more is in use; v2 kills.
    pub fn write_memory(&self, bytes: u64) -> io::Result<()> {
        let place = self.memory.as_ref().ok_or(io::ErrorKind::Unsupported)?;
        let name = if place.is_v2 { "memory.max" } else { "memory.limit_in_bytes" };
        files::write_to(opened(&self.memory_limit, place, name, true)?, &bytes.to_string())
    }

    /// Whether [`Dials::write_memory`] kills instead of refusing.
    pub fn memory_kills(&self) -> bool {
        self.memory.as_ref().is_some_and(|place| place.is_v2)
    }

    /// CPU time since the group was made.
    pub fn cpu_time(&self) -> io::Result<Span> {
        let Some(place) = &self.accounting else { return Ok(Span::ZERO) };
        if place.is_v2 {
            let file = opened(&self.cpu_stat, place, "cpu.stat", false)?;
            return Ok(Span(files::entry_from(file, "usage_usec")?.unwrap_or(0)));
        }
        let file = opened(&self.cpu_time, place, "cpuacct.usage", false)?;
        Ok(Span(files::number_from(file)? / 1000))
    }

    /// In how many periods, and for how long, the group was held back at its quota.
    pub fn throttled(&self) -> io::Result<(u64, Span)> {
        let Some(place) = &self.cpu else { return Ok((0, Span::ZERO)) };
        let file = opened(&self.cpu_stat, place, "cpu.stat", false)?;
        let text = files::read_from(file)?;
        let time = if place.is_v2 {
            files::entry(&text, "throttled_usec").unwrap_or(0)
        } else {
            files::entry(&text, "throttled_time").unwrap_or(0) / 1000
        };
        Ok((files::entry(&text, "nr_throttled").unwrap_or(0), Span(time)))
    }

    /// Memory in use, in bytes.
    pub fn memory(&self) -> io::Result<u64> {
        let Some(place) = &self.memory else { return Ok(0) };
        let name = if place.is_v2 { "memory.current" } else { "memory.usage_in_bytes" };
        files::number_from(opened(&self.memory_in_use, place, name, false)?)
    }

    /// The highest memory use in bytes since the last [`Dials::reset_memory_peak`]; none where the kernel
    /// does not say.
    pub fn memory_peak(&self) -> io::Result<Option<u64>> {
        self.peak_file().map(files::number_from).transpose()
    }

    /// Starts counting the highest memory use anew. A kernel that cannot (v2 before 6.12) says so.
    pub fn reset_memory_peak(&self) -> io::Result<()> {
        files::write_to(self.peak_file().ok_or(io::ErrorKind::Unsupported)?, "0")
    }

    /// How many processes of the group were killed for want of memory.
    pub fn oom_kills(&self) -> io::Result<u64> {
        let Some(place) = &self.memory else { return Ok(0) };
        let name = if place.is_v2 { "memory.events" } else { "memory.oom_control" };
        Ok(files::entry_from(opened(&self.memory_events, place, name, false)?, "oom_kill")?.unwrap_or(0))
    }

    /// How often the group ran into its own memory limit: zero if it was killed only because a group above
    /// it had no more.
    pub fn memory_limit_hits(&self) -> io::Result<u64> {
        let Some(place) = &self.memory else { return Ok(0) };
        if place.is_v2 {
            let file = opened(&self.memory_events, place, "memory.events", false)?;
            return Ok(files::entry_from(file, "max")?.unwrap_or(0));
        }
        files::number_from(opened(&self.limit_hits, place, "memory.failcnt", false)?)
    }

    /// Everything that is counted.
    pub fn counters(&self) -> io::Result<Counters> {
        let (throttled_periods, throttled) = self.throttled()?;
        Ok(Counters {
            cpu_time: self.cpu_time()?,
            throttled_periods,
            throttled,
            memory: self.memory()?,
            memory_peak: self.memory_peak()?.unwrap_or(0),
            oom_kills: self.oom_kills()?,
        })
    }

    fn peak_file(&self) -> Option<&File> {
        let place = self.memory.as_ref()?;
        self.memory_peak
            .get_or_init(|| {
                let name = if place.is_v2 { "memory.peak" } else { "memory.max_usage_in_bytes" };
                let path = place.folder.join(name);
                let both = OpenOptions::new().read(true).write(true).open(&path);
                both.or_else(|_| File::open(&path)).ok()
            })
            .as_ref()
    }
}

fn opened<'a>(slot: &'a OnceLock<File>, place: &Place, name: &str, to_write: bool) -> io::Result<&'a File> {
    if let Some(file) = slot.get() {
        return Ok(file);
    }
    let file = OpenOptions::new().read(!to_write).write(to_write).open(place.folder.join(name))?;
    Ok(slot.get_or_init(|| file))
}
