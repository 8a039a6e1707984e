//! Faults of processes: killed, frozen, thawed.
//!
//! **Knows:** one process, by a descriptor.
//! **Promises:** hits that process or none: a descriptor does not move on to a later process that was given the same
//! id. What was frozen is thawed when its guard is dropped, also when a test fails.
//! **Gives up:** whole trees; a process that ends its children with itself is for `sandbox` and the VM's agent.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::process::Child;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What can be done to a process, as a timetable names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// SIGKILL: it ends at once and says nothing.
    Kill,
    /// SIGTERM: it is asked to end, as an eviction does.
    Terminate,
    /// SIGSTOP: it is there and does nothing, like a machine that lost its host's attention.
    Stop,
    /// SIGCONT: it goes on, with the clock of its neighbours ahead of it.
    Continue,
}

impl Fault {
    fn signal(self) -> libc::c_int {
        match self {
            Fault::Kill => libc::SIGKILL,
            Fault::Terminate => libc::SIGTERM,
            Fault::Stop => libc::SIGSTOP,
            Fault::Continue => libc::SIGCONT,
        }
    }
}

/// Why a fault was not made.
#[derive(Debug, thiserror::Error)]
pub enum FaultError {
    /// There is no such process (any more).
    #[error("process {pid} is gone")]
    Gone {
        /// Its id.
        pid: u32,
    },
    /// It is not the one that was meant.
    #[error("process {pid} is '{command}', not '{expected}': its id was given to another")]
    Another {
        /// The id.
        pid: u32,
        /// What was expected in its command line.
        expected: String,
        /// Its command line.
        command: String,
    },
    /// Init, a group, or this very process.
    #[error("process {pid} is not one that may be hit")]
    Forbidden {
        /// The id.
        pid: u32,
    },
    /// The system refuses.
    #[error("process {pid}: {source}")]
    System {
        /// The id.
        pid: u32,
        /// What it says.
        source: io::Error,
    },
}

/// How often, and with which pauses between, the command line of a process that is just being started is looked for.
const STARTING_LOOKS: u32 = 100;
const STARTING_PAUSE: Duration = Duration::from_millis(5);

/// A process that trouble may come to.
#[derive(Debug)]
pub struct Target {
    pid: u32,
    descriptor: OwnedFd,
}

impl Target {
    /// A child that has not been waited for: its id is still its own.
    pub fn child(child: &Child) -> Result<Self, FaultError> {
        Self::open(child.id())
    }

    /// The process that has this id, if its command line contains `expected`. For ids that were read somewhere (a
    /// file, a VM's report) and may have been given to another process since.
    pub fn named(pid: u32, expected: &str) -> Result<Self, FaultError> {
        let target = Self::open(pid)?;
        let command = target.command_line()?;
        // If it still lives now, the command line that was read is its own.
        if target.ends_within(Duration::ZERO)? {
            return Err(FaultError::Gone { pid });
        }
        if command.contains(expected) {
            Ok(target)
        } else {
            Err(FaultError::Another { pid, expected: expected.into(), command })
        }
    }

    /// The process that has this id, if `variable` is `value` in the environment it was started with.
    pub fn marked(pid: u32, variable: &str, value: &str) -> Result<Self, FaultError> {
        let target = Self::open(pid)?;
        let is_marked = has_mark(pid, variable, value);
        // If it still lives now, the environment that was read is its own.
        if target.ends_within(Duration::ZERO)? {
            return Err(FaultError::Gone { pid });
        }
        if is_marked {
            Ok(target)
        } else {
            let (expected, command) = (format!("{variable}={value}"), target.command_line()?);
            Err(FaultError::Another { pid, expected, command })
        }
    }

    fn open(pid: u32) -> Result<Self, FaultError> {
        let number = libc::pid_t::try_from(pid).ok().filter(|&number| number > 1);
        let Some(number) = number.filter(|_| pid != std::process::id()) else {
            return Err(FaultError::Forbidden { pid });
        };
        // SAFETY: takes two numbers and returns a new descriptor, or -1.
        let opened = unsafe { libc::syscall(libc::SYS_pidfd_open, number, 0) };
        match i32::try_from(opened) {
            // SAFETY: the kernel has just given us this descriptor.
            Ok(fd) if fd >= 0 => Ok(Self { pid, descriptor: unsafe { OwnedFd::from_raw_fd(fd) } }),
            _ => Err(told(pid, io::Error::last_os_error())),
        }
    }

    /// Its command line. A process that is just being started has none for a moment.
    fn command_line(&self) -> Result<String, FaultError> {
        let path = format!("/proc/{}/cmdline", self.pid);
        for _ in 0..STARTING_LOOKS {
            let bytes = std::fs::read(&path).unwrap_or_default();
            if !bytes.is_empty() {
                return Ok(String::from_utf8_lossy(&bytes).replace('\0', " ").trim_end().to_owned());
            }
            if self.ends_within(STARTING_PAUSE)? {
                break;
            }
        }
        Ok(String::new())
    }

    /// Its id, for messages to people.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Makes a fault.
    pub fn hit(&self, fault: Fault) -> Result<(), FaultError> {
        self.send(fault.signal())
    }

    /// Freezes it until the guard is dropped.
    pub fn stop(&self) -> Result<Stopped<'_>, FaultError> {
        self.hit(Fault::Stop)?;
        Ok(Stopped(self))
    }

    /// Whether it has ended within this time. A child must still be waited for by its parent.
    pub fn ends_within(&self, time: Duration) -> Result<bool, FaultError> {
        let mut poll = libc::pollfd { fd: self.descriptor.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        let millis = i32::try_from(time.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: one entry, which lives until the call returns.
        match unsafe { libc::poll(&mut poll, 1, millis) } {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(told(self.pid, io::Error::last_os_error())),
        }
    }

    fn send(&self, signal: libc::c_int) -> Result<(), FaultError> {
        let (descriptor, info) = (self.descriptor.as_raw_fd(), std::ptr::null::<libc::siginfo_t>());
        // SAFETY: the descriptor is open; without siginfo the signal is that of kill(2).
        let sent = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, descriptor, signal, info, 0) };
        if sent == 0 { Ok(()) } else { Err(told(self.pid, io::Error::last_os_error())) }
    }
}

fn has_mark(pid: u32, variable: &str, value: &str) -> bool {
    let mark = format!("{variable}={value}");
    let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    environment.split(|byte| *byte == 0).any(|entry| entry == mark.as_bytes())
}

/// Every process of this machine that was started with this mark in its environment, with its command line.
pub fn marked(variable: &str, value: &str) -> Vec<(u32, Vec<String>)> {
    let Ok(processes) = std::fs::read_dir("/proc") else { return Vec::new() };
    let pids = processes.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|&pid| has_mark(pid, variable, value))
        .map(|pid| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let words = line.split(|byte| *byte == 0).filter(|word| !word.is_empty());
            (pid, words.map(|word| String::from_utf8_lossy(word).into_owned()).collect())
        })
        .collect()
}

fn told(pid: u32, source: io::Error) -> FaultError {
    match source.raw_os_error() {
        Some(libc::ESRCH) => FaultError::Gone { pid },
        _ => FaultError::System { pid, source },
    }
}

/// A process that is frozen for as long as this lives.
#[derive(Debug)]
#[must_use = "the process goes on as soon as this is dropped"]
pub struct Stopped<'a>(&'a Target);

impl Drop for Stopped<'_> {
    fn drop(&mut self) {
        // It may have been killed meanwhile.
        let _ = self.0.hit(Fault::Continue);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;
    use std::process::{Command, Stdio};

    const LONG: Duration = Duration::from_secs(10);

    /// A process that ends by itself, should a test forget it.
    fn sleeper() -> Child {
        Command::new("sleep").arg("60").stdin(Stdio::null()).spawn().unwrap()
    }

    /// The state letter of a process, once it is this one; the last one seen if it never is.
    fn comes_to(pid: u32, wanted: char) -> char {
        let mut state = '?';
        for _ in 0..1_000 {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
            state = stat.rsplit(") ").next().and_then(|rest| rest.chars().next()).unwrap();
            if state == wanted {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        state
    }

    #[test]
    fn a_killed_process_ends_of_it() {
        let mut child = sleeper();
        let target = Target::child(&child).unwrap();
        assert!(!target.ends_within(Duration::ZERO).unwrap());
        target.hit(Fault::Kill).unwrap();
        assert!(target.ends_within(LONG).unwrap());
        assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGKILL));
    }

    #[test]
    fn only_a_process_with_the_mark_is_a_target() {
        let mark = format!("test-{}", std::process::id());
        let mut child = Command::new("sleep").arg("60").env("CHAOS_MARK", &mark).spawn().unwrap();
        let pid = child.id();
        // A child has our environment until it has become another program.
        while !marked("CHAOS_MARK", &mark).iter().any(|(_, command)| command.len() == 2) {
            std::thread::sleep(STARTING_PAUSE);
        }
        assert_eq!(marked("CHAOS_MARK", &mark), [(pid, vec!["sleep".to_owned(), "60".to_owned()])]);
        let other = Target::marked(pid, "CHAOS_MARK", "another").unwrap_err();
        assert!(matches!(other, FaultError::Another { .. }), "{other}");
        Target::marked(pid, "CHAOS_MARK", &mark).unwrap().hit(Fault::Kill).unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGKILL));
        assert!(marked("CHAOS_MARK", &mark).is_empty());
    }

    #[test]
    fn whoever_was_waited_for_is_gone_and_nobody_else_is_hit() {
        let mut child = sleeper();
        let target = Target::child(&child).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        // The id is free now; the descriptor still names nobody but the dead.
        for fault in [Fault::Kill, Fault::Terminate, Fault::Stop, Fault::Continue] {
            assert!(matches!(target.hit(fault), Err(FaultError::Gone { .. })));
        }
        assert!(matches!(Target::child(&child), Err(FaultError::Gone { .. })));
    }

    #[test]
    fn a_dead_process_that_nobody_has_waited_for_is_gone_too() {
        let mut child = sleeper();
        let target = Target::child(&child).unwrap();
        target.hit(Fault::Kill).unwrap();
        assert!(target.ends_within(LONG).unwrap());
        assert!(matches!(Target::named(child.id(), ""), Err(FaultError::Gone { .. })));
        child.wait().unwrap();
    }

    #[test]
    fn a_stopped_process_goes_on_when_its_guard_is_dropped() {
        let mut child = sleeper();
        let target = Target::child(&child).unwrap();
        let stopped = target.stop().unwrap();
        assert_eq!(comes_to(child.id(), 'T'), 'T');
        drop(stopped);
        assert_eq!(comes_to(child.id(), 'S'), 'S');
        target.hit(Fault::Terminate).unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGTERM));
    }

    #[test]
    fn an_id_that_belongs_to_another_program_is_refused() {
        let mut child = sleeper();
        let refused = Target::named(child.id(), "nats-server").unwrap_err();
        assert!(
            matches!(&refused, FaultError::Another { command, .. } if command == "sleep 60"),
            "{refused}"
        );
        let target = Target::named(child.id(), "sleep 60").unwrap();
        assert_eq!(target.pid(), child.id());
        target.hit(Fault::Kill).unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn init_groups_and_ourselves_are_never_hit() {
        for pid in [0, 1, std::process::id(), u32::MAX] {
            assert!(matches!(Target::named(pid, ""), Err(FaultError::Forbidden { .. })), "{pid}");
        }
    }
}
