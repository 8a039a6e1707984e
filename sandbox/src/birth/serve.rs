//! What the Workshop and a nursery say to each other, and the loop of the one that executes programs.
//!
//! **Knows:** a socket that keeps messages apart, and descriptors that travel with them.
//! **Promises:** every request is answered once, in order; when the socket ends everything made here is
//! killed.
//! **Gives up:** more than one request at a time; a fork takes about a millisecond.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{CONTROL, Role, checked, child};

/// Workshop -> nursery: "make a process", with its descriptors 0, 1, 2 and 3 and, for a program, one more
/// that is closed when the program has been executed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Request {
    /// Repeated in the answer: one whose asker gave up must not be taken for another's.
    pub(crate) id: u64,
    /// The sandbox's name: its host name.
    pub(crate) name: String,
    /// Whom to become; none is nobody else.
    pub(crate) uid: Option<u32>,
    /// The folder of unpacked code, as the nursery sees it.
    pub(crate) code: PathBuf,
    /// The size of its `/tmp`, in bytes.
    pub(crate) tmp: u64,
    /// The current folder at its start.
    pub(crate) home: PathBuf,
    /// What it is to be.
    pub(crate) work: Work,
}

/// What becomes of a new process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Work {
    /// A Python function, by the zygote.
    Python,
    /// A Python function, by the zygote; which one is said by a request of its own, as the first line of its orders.
    Spare,
    /// A program, as its letter says.
    Program,
}

/// Nursery -> Workshop: "it is there", with a descriptor of the process; or why not. The first one of all
/// answers nobody: the nursery is ready, or it cannot be.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Answer {
    pub(crate) id: u64,
    pub(crate) ready: bool,
    pub(crate) pid: i32,
    pub(crate) error: Option<String>,
}

/// The longest message. Nothing in one grows with a function's code or environment.
pub(crate) const MESSAGE_MAX: usize = 65_536;
const DESCRIPTORS_MAX: usize = 8;

/// Serves requests until the socket ends; never returns well.
pub(super) fn serve(role: &Role) -> io::Result<std::convert::Infallible> {
    // Free descriptor 0, so that the children's can be put in place.
    // SAFETY: duplicates a descriptor that is ours; the copy is owned from here on.
    let control = unsafe {
        let copy =
            checked("keep the control socket", libc::fcntl(CONTROL, libc::F_DUPFD_CLOEXEC, 16).into())?;
        OwnedFd::from_raw_fd(copy as RawFd)
    };
    let null = std::fs::File::open("/dev/null")?;
    // SAFETY: both descriptors are open.
    checked("set standard input aside", unsafe { libc::dup2(null.as_raw_fd(), CONTROL) }.into())?;
    send(control.as_raw_fd(), &Answer { ready: true, ..Answer::default() }, None)?;

    let mut children: Vec<(i32, OwnedFd)> = Vec::new();
    loop {
        let mut polled: Vec<libc::pollfd> = std::iter::once(&control)
            .chain(children.iter().map(|(_, child)| child))
            .map(|fd| libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 })
            .collect();
        // SAFETY: the array is as long as said.
        let result = unsafe { libc::poll(polled.as_mut_ptr(), polled.len() as libc::nfds_t, -1) };
        match checked("wait for requests", result.into()) {
            Err(_) if io::Error::last_os_error().kind() == io::ErrorKind::Interrupted => continue,
            done => done?,
        };
        let mut index = 0;
        children.retain(|(pid, _)| {
            index += 1;
            let ended = polled[index].revents != 0;
            if ended {
                // SAFETY: our own child, which has ended and is reaped once.
                unsafe { libc::waitpid(*pid, std::ptr::null_mut(), 0) };
            }
            !ended
        });
        if polled[0].revents == 0 {
            continue;
        }
        let Some((request, descriptors)) = receive::<Request>(control.as_raw_fd())? else {
            for (_, child) in &children {
                kill(child);
            }
            std::process::exit(0);
        };
        let answer = match child::make(role, &request, descriptors) {
            Ok((pid, process)) => {
                let answer = Answer { id: request.id, pid, ..Answer::default() };
                send(control.as_raw_fd(), &answer, Some(process.as_raw_fd()))?;
                children.push((pid, process));
                continue;
            }
            Err(error) => Answer { id: request.id, error: Some(error.to_string()), ..Answer::default() },
        };
        send(control.as_raw_fd(), &answer, None)?;
    }
}

/// Kills a process by its descriptor; one that has ended already is left in peace.
pub(crate) fn kill(process: &impl AsRawFd) {
    // SAFETY: sends a signal to the process that the descriptor stands for, never to another.
    unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            process.as_raw_fd(),
            libc::SIGKILL,
            std::ptr::null::<libc::siginfo_t>(),
            0,
        )
    };
}

/// Sends one message, with at most one descriptor.
pub(super) fn send(socket: RawFd, answer: &Answer, descriptor: Option<RawFd>) -> io::Result<()> {
    let text = serde_json::to_vec(answer).map_err(io::Error::other)?;
    send_bytes(socket, &text, descriptor.as_slice())
}

/// `sendmsg(2)` with descriptors.
pub(crate) fn send_bytes(socket: RawFd, text: &[u8], descriptors: &[RawFd]) -> io::Result<()> {
    assert!(descriptors.len() <= DESCRIPTORS_MAX, "no message of ours carries more");
    let mut control = ControlBuffer([0; CONTROL_LENGTH]);
    let mut part = libc::iovec { iov_base: text.as_ptr().cast_mut().cast(), iov_len: text.len() };
    // SAFETY: a zeroed header is an empty one; all pointers outlive the call; the control buffer is aligned
    // and large enough for the descriptors.
    let sent = unsafe {
        let mut header: libc::msghdr = MaybeUninit::zeroed().assume_init();
        header.msg_iov = &mut part;
        header.msg_iovlen = 1;
        if !descriptors.is_empty() {
            let length = size_of_val(descriptors);
            header.msg_control = control.0.as_mut_ptr().cast();
            header.msg_controllen = libc::CMSG_SPACE(length as libc::c_uint) as _;
            let first = libc::CMSG_FIRSTHDR(&header);
            (*first).cmsg_level = libc::SOL_SOCKET;
            (*first).cmsg_type = libc::SCM_RIGHTS;
            (*first).cmsg_len = libc::CMSG_LEN(length as libc::c_uint) as _;
            std::ptr::copy_nonoverlapping(descriptors.as_ptr().cast::<u8>(), libc::CMSG_DATA(first), length);
        }
        libc::sendmsg(socket, &header, libc::MSG_NOSIGNAL)
    };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// `recvmsg(2)` with descriptors; none at the end. The descriptors do not survive an exec.
pub(crate) fn receive<T: serde::de::DeserializeOwned>(
    socket: RawFd,
) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
    let mut text = vec![0u8; MESSAGE_MAX];
    let mut control = ControlBuffer([0; CONTROL_LENGTH]);
    let mut part = libc::iovec { iov_base: text.as_mut_ptr().cast(), iov_len: text.len() };
    let mut descriptors = Vec::new();
    // SAFETY: as in `send_bytes`; the kernel fills in descriptors that are ours from then on.
    let length = unsafe {
        let mut header: libc::msghdr = MaybeUninit::zeroed().assume_init();
        header.msg_iov = &mut part;
        header.msg_iovlen = 1;
        header.msg_control = control.0.as_mut_ptr().cast();
        header.msg_controllen = CONTROL_LENGTH as _;
        let length = libc::recvmsg(socket, &mut header, libc::MSG_CMSG_CLOEXEC);
        if length < 0 {
            return Err(io::Error::last_os_error());
        }
        let mut next = libc::CMSG_FIRSTHDR(&header);
        while !next.is_null() {
            if (*next).cmsg_level == libc::SOL_SOCKET && (*next).cmsg_type == libc::SCM_RIGHTS {
                let bytes = (*next).cmsg_len as usize - libc::CMSG_LEN(0) as usize;
                let data = libc::CMSG_DATA(next).cast::<RawFd>();
                for index in 0..bytes / size_of::<RawFd>() {
                    descriptors.push(OwnedFd::from_raw_fd(data.add(index).read_unaligned()));
                }
            }
            next = libc::CMSG_NXTHDR(&header, next);
        }
        length as usize
    };
    if length == 0 {
        return Ok(None);
    }
    let message = serde_json::from_slice(&text[..length]).map_err(io::Error::other)?;
    Ok(Some((message, descriptors)))
}

/// Room for the descriptors of one message: a header of 16 bytes and 4 bytes each, rounded up.
const CONTROL_LENGTH: usize = 64;

#[repr(align(8))]
struct ControlBuffer([u8; CONTROL_LENGTH]);
