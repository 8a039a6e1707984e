//! Pipes whose far end is a sandbox.
//!
//! **Knows:** which end blocks: theirs does, ours never.
//! **Promises:** reading and writing take no system call when nothing has happened since the last one.
//! **Gives up:** buffering; whoever reads says where to.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::task::{Context, Poll};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Our end of a pipe that we read.
pub(crate) struct Tap {
    pipe: AsyncFd<OwnedFd>,
    /// Set when every writer has closed it.
    ended: bool,
}

/// Our end of a pipe that we write.
pub(crate) struct Spout {
    pipe: AsyncFd<OwnedFd>,
}

/// A pipe that a sandbox writes: our end and theirs.
pub(crate) fn from_sandbox() -> io::Result<(Tap, OwnedFd)> {
    let (ours, theirs) = std::io::pipe()?;
    let ours = OwnedFd::from(ours);
    never_block(&ours)?;
    Ok((Tap { pipe: watched(ours, Interest::READABLE)?, ended: false }, theirs.into()))
}

/// A pipe that a sandbox reads: our end and theirs.
pub(crate) fn to_sandbox() -> io::Result<(Spout, OwnedFd)> {
    let (theirs, ours) = std::io::pipe()?;
    let ours = OwnedFd::from(ours);
    never_block(&ours)?;
    Ok((Spout { pipe: watched(ours, Interest::WRITABLE)? }, theirs.into()))
}

/// Lets the runtime wait for a descriptor.
pub(crate) fn watched<T: AsRawFd + OwnsDescriptor>(inner: T, interest: Interest) -> io::Result<AsyncFd<T>> {
    // SAFETY: the descriptor belongs to `inner`, which promises to keep it open and the same.
    unsafe { Ok(AsyncFd::register_with_interest(inner, interest)?) }
}

/// Whose descriptor stays open, and the same, for as long as it lives.
pub(crate) trait OwnsDescriptor {}
impl OwnsDescriptor for OwnedFd {}

pub(crate) fn never_block(descriptor: &impl AsRawFd) -> io::Result<()> {
    // SAFETY: changes a flag of a descriptor that is ours; the flag belongs to this end alone.
    let result = unsafe { libc::fcntl(descriptor.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

impl Tap {
    /// Reads what has come, or asks to be woken. `Ready(0)` is the end, again and again.
    pub(crate) fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        loop {
            if self.ended {
                return Poll::Ready(Ok(0));
            }
            let mut guard = match self.pipe.poll_read_ready(cx) {
                Poll::Ready(guard) => guard?,
                Poll::Pending => return Poll::Pending,
            };
            match guard.try_io(|pipe| read(pipe.as_raw_fd(), buffer)) {
                Ok(Ok(0)) => self.ended = true,
                Ok(Ok(length)) => {
                    if length < buffer.len() {
                        // The pipe is empty now; what is written next is announced anew.
                        guard.clear_ready();
                    }
                    return Poll::Ready(Ok(length));
                }
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(Err(error)) => return Poll::Ready(Err(error)),
                Err(_nothing_there) => {}
            }
        }
    }

    /// Reads what is there now, announced or not; none if there is nothing.
    pub(crate) fn read_now(&mut self, buffer: &mut [u8]) -> Option<usize> {
        if self.ended {
            return None;
        }
        match read(self.pipe.as_raw_fd(), buffer) {
            Ok(0) => {
                self.ended = true;
                None
            }
            Ok(length) => Some(length),
            Err(_) => None,
        }
    }
}

impl Spout {
    /// Writes what fits, or asks to be woken when something does.
    pub(crate) fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            let mut guard = match self.pipe.poll_write_ready(cx) {
                Poll::Ready(guard) => guard?,
                Poll::Pending => return Poll::Pending,
            };
            match guard.try_io(|pipe| write(pipe.as_raw_fd(), bytes)) {
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(done) => return Poll::Ready(done),
                Err(_full) => {}
            }
        }
    }

    /// How many bytes are in the pipe that nobody has read.
    pub(crate) fn unread(&self) -> usize {
        let mut unread: libc::c_int = 0;
        // SAFETY: the kernel writes one number where it is told to.
        unsafe { libc::ioctl(self.pipe.as_raw_fd(), libc::FIONREAD, &mut unread) };
        usize::try_from(unread).unwrap_or(0)
    }
}

fn read(descriptor: RawFd, buffer: &mut [u8]) -> io::Result<usize> {
    // SAFETY: the buffer is as long as said.
    let length = unsafe { libc::read(descriptor, buffer.as_mut_ptr().cast(), buffer.len()) };
    usize::try_from(length).map_err(|_| io::Error::last_os_error())
}

fn write(descriptor: RawFd, bytes: &[u8]) -> io::Result<usize> {
    // SAFETY: the buffer is as long as said.
    let length = unsafe { libc::write(descriptor, bytes.as_ptr().cast(), bytes.len()) };
    usize::try_from(length).map_err(|_| io::Error::last_os_error())
}
