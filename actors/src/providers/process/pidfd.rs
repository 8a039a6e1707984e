//! One process, named by a descriptor: it cannot be mistaken for a later one with the same id.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use tokio::io::unix::AsyncFd;

pub(super) struct PidFd(OwnedFd);

impl PidFd {
    /// The process that has this id now; one that has ended and is not yet waited for counts.
    pub fn open(pid: u32) -> io::Result<Self> {
        let pid = libc::pid_t::try_from(pid).map_err(|_| io::ErrorKind::InvalidInput)?;
        // SAFETY: takes two numbers and returns a new descriptor, or -1.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
        match i32::try_from(fd) {
            // SAFETY: the kernel has just given us this descriptor.
            Ok(fd) if fd >= 0 => Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) })),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Sends a signal; whoever is gone does not mind.
    pub fn signal(&self, signal: libc::c_int) {
        // SAFETY: the descriptor is open; without siginfo the signal is that of kill(2).
        unsafe {
            libc::syscall(
                libc::SYS_pidfd_send_signal,
                self.0.as_raw_fd(),
                signal,
                std::ptr::null::<libc::siginfo_t>(),
                0,
            );
        }
    }

    /// Waits until the process has ended.
    pub async fn ended(&self) -> io::Result<()> {
        // SAFETY: the descriptor is a copy of our own, owned by the registration and closed only with it.
        let readable =
            unsafe { AsyncFd::register_with_interest(self.0.try_clone()?, tokio::io::Interest::READABLE) }
                .map_err(io::Error::from)?;
        // A pidfd is readable once, and then for ever, when its process has ended.
        let _ = readable.readable().await?;
        Ok(())
    }
}
