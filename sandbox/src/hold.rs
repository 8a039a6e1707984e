//! What we hold a sandbox's process by: its descriptor, its control group, its user, its code.
//!
//! **Knows:** how to limit, measure, stop and kill it, with or without a control group.
//! **Promises:** a signal never goes to another process that got the same number; dropping the last hold
//! kills the process.
//! **Gives up:** waiting; whoever stops a sandbox waits for its end.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use vocabulary::{Mebibytes, MilliCores, Resources, Span};

use crate::birth;
use crate::cgroup::{Dials, Group, GroupError};
use crate::code_cache::CodeInUse;
use crate::measure::ShortRuns;
use crate::slots::Slot;
use crate::{LimitError, Limits, Sample};

/// Everything that belongs to one process.
pub(crate) struct Hold {
    pub(crate) name: String,
    pub(crate) pid: i32,
    pub(crate) process: OwnedFd,
    pub(crate) group: Option<Group>,
    pub(crate) dials: Option<Dials>,
    /// Whether its end ends everything that it has started.
    pub(crate) namespaced: bool,
    /// Its scratch space, where it is not a file system of its own.
    pub(crate) scratch: Option<PathBuf>,
    /// Whether somebody asked for its end through its limits.
    pub(crate) killed: AtomicBool,
    pub(crate) paused: AtomicBool,
    /// Whether everything has been removed: its numbers may mean others from then on.
    pub(crate) gone: AtomicBool,
    pub(crate) proc_files: ProcFiles,
    /// CPU time at the last reading, in microseconds: where the next run begins.
    pub(crate) cpu_seen: AtomicU64,
    /// What is known of runs that were too short to be measured each.
    pub(crate) short_runs: ShortRuns,
    /// How long it had been throttled at the last reading, in microseconds.
    pub(crate) throttled_seen: AtomicU64,
    /// Its user id and its code; given back when it has been removed.
    pub(crate) borrowed: Mutex<Option<(Slot, CodeInUse)>>,
}

impl AsRawFd for Hold {
    fn as_raw_fd(&self) -> RawFd {
        self.process.as_raw_fd()
    }
}

impl crate::pipes::OwnsDescriptor for std::sync::Arc<Hold> {}

impl Drop for Hold {
    fn drop(&mut self) {
        self.kill_all();
    }
}

/// How the kernel ended a process for want of memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MemoryDeath {
    /// It did not.
    None,
    /// Because of the process's own ceiling.
    OwnCeiling,
    /// Because a group above had no more: not the function's fault.
    VmFull,
}

impl Hold {
    /// Kills everything in the sandbox. Does not wait, and says nothing of who wanted it.
    pub(crate) fn kill_all(&self) {
        if self.gone.load(Ordering::SeqCst) {
            return;
        }
        birth::kill(&self.process);
        if self.namespaced {
            // The kernel kills a PID namespace with its first process; but the frozen do not even die.
            if self.paused.load(Ordering::SeqCst) {
                let _ = self.resume();
            }
            return;
        }
        match &self.group {
            Some(group) => group.kill_once(),
            // SAFETY: signals the process group that the process leads; its number is not given to another
            // while any of its members lives.
            None => unsafe {
                libc::kill(-self.pid, libc::SIGKILL);
            },
        }
    }

    /// Ends everything and removes what it leaves. Blocks for some milliseconds; only after the process
    /// itself has ended.
    pub(crate) fn remove(&self) -> Result<(), GroupError> {
        if let Some(scratch) = &self.scratch {
            let _ = std::fs::remove_dir_all(scratch);
        }
        if let Some(group) = &self.group {
            // Where the end of the process is the end of all, there is nothing left to look for.
            if !self.namespaced || group.remove().is_err() {
                group.kill_all(Duration::from_secs(2))?;
                group.remove()?;
            }
        }
        self.gone.store(true, Ordering::SeqCst);
        self.borrowed.lock().unwrap_or_else(PoisonError::into_inner).take();
        Ok(())
    }

    /// Whether the process itself has ended.
    pub(crate) fn has_ended(&self) -> bool {
        let mut polled = libc::pollfd { fd: self.process.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one structure, as said.
        unsafe { libc::poll(&mut polled, 1, 0) != 0 }
    }

    /// Whether, and why, the kernel has killed something in it for want of memory.
    pub(crate) fn memory_death(&self) -> MemoryDeath {
        let Some(dials) = &self.dials else { return MemoryDeath::None };
        if dials.oom_kills().unwrap_or(0) == 0 {
            MemoryDeath::None
        } else if dials.memory_limit_hits().unwrap_or(1) > 0 {
            MemoryDeath::OwnCeiling
        } else {
            MemoryDeath::VmFull
        }
    }

    pub(crate) fn cpu_time(&self) -> Option<Span> {
        match &self.dials {
            Some(dials) => dials.cpu_time().ok(),
            None => self.proc_files.cpu_time(),
        }
    }

    pub(crate) fn throttled(&self) -> Span {
        self.dials.as_ref().and_then(|dials| dials.throttled().ok()).map_or(Span::ZERO, |(_, time)| time)
    }

    pub(crate) fn memory(&self) -> Option<u64> {
        match &self.dials {
            Some(dials) if dials.has_memory() => dials.memory().ok(),
            _ => self.proc_files.memory(),
        }
    }

    /// The highest memory use since the last call, in bytes; none where the kernel does not say.
    pub(crate) fn memory_peak(&self) -> Option<u64> {
        let dials = self.dials.as_ref()?;
        let peak = dials.memory_peak().ok()??;
        dials.reset_memory_peak().ok()?;
        Some(peak)
    }

    /// Stops everything in it where it stands.
    pub(crate) fn pause(&self) -> io::Result<()> {
        if let Some(group) = &self.group {
            match group.freeze() {
                Err(GroupError::Unsupported(_)) => {}
                done => return done.map_err(io::Error::other),
            }
        }
        self.signal(libc::SIGSTOP)
    }

    /// Lets it go on.
    pub(crate) fn resume(&self) -> io::Result<()> {
        if let Some(group) = &self.group {
            match group.thaw() {
                Err(GroupError::Unsupported(_)) => {}
                done => return done.map_err(io::Error::other),
            }
        }
        self.signal(libc::SIGCONT)
    }

    /// To the session that the process leads.
    fn signal(&self, signal: i32) -> io::Result<()> {
        // SAFETY: as in `kill_all`.
        let result = unsafe { libc::kill(-self.pid, signal) };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    fn write_memory(&self, group: &Group, dials: &Dials, asked: Mebibytes) -> Result<(), GroupError> {
        let in_use = || dials.memory().unwrap_or(0);
        if dials.memory_kills() && in_use() > asked.bytes() {
            return group.set_memory(Some(asked)); // Tries to take back first.
        }
        match dials.write_memory(asked.bytes()) {
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => Err(GroupError::MemoryInUse {
                group: group.path().to_owned(),
                in_use: Mebibytes::holding(in_use()),
                asked,
            }),
            Err(source) => Err(GroupError::Kernel {
                doing: "set the memory limit",
                group: group.path().to_owned(),
                source,
            }),
            Ok(()) => Ok(()),
        }
    }
}

impl Limits for Hold {
    fn set_ceiling(&self, ceiling: Resources) -> Result<(), LimitError> {
        let (Some(group), Some(dials)) = (&self.group, &self.dials) else { return Ok(()) };
        // CPU first: it is refused to nobody, and should not wait for memory that is.
        if dials.has_cpu()
            && let Err(error) = dials.write_cpu(ceiling.cpu)
        {
            if error.raw_os_error() == Some(libc::EINVAL) {
                group.set_cpu(Some(ceiling.cpu)).map_err(limit_error)?;
            } else {
                return Err(self.gone_or(error));
            }
        }
        if dials.has_memory() {
            self.write_memory(group, dials, ceiling.memory).map_err(limit_error)?;
        }
        Ok(())
    }

    fn set_weight(&self, weight: MilliCores) -> Result<(), LimitError> {
        match &self.dials {
            Some(dials) if dials.has_cpu() => dials.write_weight(weight).map_err(|e| self.gone_or(e)),
            _ => Ok(()),
        }
    }

    fn sample(&self) -> Option<Sample> {
        Some(Sample {
            at: Instant::now(),
            cpu_time: self.cpu_time()?,
            throttled: self.throttled(),
            memory: self.memory()?,
            memory_limit_hits: self.dials.as_ref().and_then(|d| d.memory_limit_hits().ok()).unwrap_or(0),
        })
    }

    fn cpu_time(&self) -> Option<Span> {
        Hold::cpu_time(self)
    }

    fn kill(&self) {
        self.killed.store(true, Ordering::SeqCst);
        self.kill_all();
    }
}

impl Hold {
    fn gone_or(&self, source: io::Error) -> LimitError {
        match source.raw_os_error() {
            Some(libc::ENOENT | libc::ENODEV) => LimitError::Gone,
            _ => LimitError::Host { doing: format!("limit sandbox {}", self.name), source },
        }
    }
}

fn limit_error(error: GroupError) -> LimitError {
    match error {
        GroupError::MemoryInUse { in_use, asked, .. } => LimitError::MemoryInUse { in_use, asked },
        GroupError::Kernel { source, .. }
            if matches!(source.raw_os_error(), Some(libc::ENOENT | libc::ENODEV)) =>
        {
            LimitError::Gone
        }
        other => LimitError::Host { doing: "limit a sandbox".to_owned(), source: io::Error::other(other) },
    }
}

/// What `/proc` says of one process, for where there is no control group.
pub(crate) struct ProcFiles {
    stat: Option<File>,
    statm: Option<File>,
}

impl ProcFiles {
    /// Of the process `pid`, or nothing of anything where a control group knows better.
    pub(crate) fn of(pid: i32, wanted: bool) -> Self {
        let open = |name| wanted.then(|| File::open(format!("/proc/{pid}/{name}")).ok()).flatten();
        Self { stat: open("stat"), statm: open("statm") }
    }

    /// In steps of a clock tick, 10 ms.
    fn cpu_time(&self) -> Option<Span> {
        let mut buffer = [0u8; 1024];
        let length = self.stat.as_ref()?.read_at(&mut buffer, 0).ok()?;
        let text = std::str::from_utf8(&buffer[..length]).ok()?;
        // The name, in brackets, may hold anything; user and system time are the 14th and 15th words.
        let mut words = text.rsplit_once(')')?.1.split_whitespace().skip(11);
        let ticks: u64 = words.next()?.parse::<u64>().ok()? + words.next()?.parse::<u64>().ok()?;
        Some(Span::millis(ticks * 10))
    }

    fn memory(&self) -> Option<u64> {
        let mut buffer = [0u8; 256];
        let length = self.statm.as_ref()?.read_at(&mut buffer, 0).ok()?;
        let text = std::str::from_utf8(&buffer[..length]).ok()?;
        let pages: u64 = text.split_whitespace().nth(1)?.parse().ok()?;
        // SAFETY: asks for a constant.
        let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
        Some(pages * u64::try_from(page).unwrap_or(4096))
    }
}
