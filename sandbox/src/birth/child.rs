//! From a fork of the nursery to a program in a world of its own.
//!
//! **Knows:** the order of the steps, which the Python zygote mirrors.
//! **Promises:** the program starts as pid 1 and session leader of its own namespaces, as its own user,
//! without new privileges, with exactly the descriptors 0 to 3, and not before its letter has come. No
//! parent-death signal: a sandbox that is restored from a checkpoint has another parent.
//! **Gives up:** surviving its own failure: it says what went wrong on the status pipe and exits.

use std::ffi::CString;
use std::io::{self, Read, Write};
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::serve::Request;
use super::view::{FUNCTION, mount};
use super::{Role, checked, doing};

/// What a new process reads from its standard input before it becomes a program: its length in four bytes,
/// lowest first, and then itself as JSON. Sent when the process has been put into its control group.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Letter {
    pub(crate) program: PathBuf,
    pub(crate) arguments: Vec<String>,
    pub(crate) environment: Vec<(String, String)>,
    pub(crate) folder: PathBuf,
}

/// The longest letter: what Linux takes as arguments and environment of a program, and some.
pub(crate) const LETTER_MAX: usize = 4 << 20;

/// Forks. In the parent, returns the child and its descriptor.
pub(super) fn make(role: &Role, request: &Request, descriptors: Vec<OwnedFd>) -> io::Result<(i32, OwnedFd)> {
    if descriptors.len() != 5 {
        return Err(io::Error::other("a request comes with five descriptors"));
    }
    let mut flags = libc::SIGCHLD | libc::CLONE_PIDFD;
    if role.namespaced {
        flags |= libc::CLONE_NEWPID | libc::CLONE_NEWNS | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS;
    }
    let mut process: RawFd = -1;
    // SAFETY: without CLONE_VM this is a fork; this process has one thread, so its memory is in order in the
    // child. The raw call is used because the library's fork cannot ask for namespaces.
    let pid = unsafe {
        libc::syscall(libc::SYS_clone, flags as libc::c_ulong, 0, &mut process as *mut RawFd, 0, 0)
    };
    if checked("fork", pid)? == 0 {
        let raw: Vec<RawFd> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
        let _kept = ManuallyDrop::new(descriptors); // They are moved by hand below.
        let mut status = raw[4];
        let Err(error) = become_program(role, request, &raw, &mut status);
        // SAFETY: the descriptor is open, and nobody else in this process uses it.
        let mut status = ManuallyDrop::new(unsafe { std::fs::File::from_raw_fd(status) });
        let _ = status.write_all(error.to_string().as_bytes());
        // SAFETY: ends the process without running what its parent registered for its end.
        unsafe { libc::_exit(127) };
    }
    // SAFETY: the kernel has just made it for us.
    Ok((pid as i32, unsafe { OwnedFd::from_raw_fd(process) }))
}

fn become_program(
    role: &Role,
    request: &Request,
    descriptors: &[RawFd],
    status: &mut RawFd,
) -> io::Result<std::convert::Infallible> {
    // SAFETY: all are plain system calls on descriptors and ids of this process.
    unsafe {
        // First above what they will replace.
        let mut lifted = Vec::new();
        for descriptor in descriptors {
            lifted.push(checked("keep a pipe", libc::fcntl(*descriptor, libc::F_DUPFD_CLOEXEC, 64).into())?);
        }
        for (number, descriptor) in lifted.iter().enumerate().take(4) {
            checked("put a pipe in place", libc::dup2(*descriptor as RawFd, number as RawFd).into())?;
        }
        // The status pipe alone stays, until the program is executed.
        checked("put a pipe in place", libc::dup3(lifted[4] as RawFd, 4, libc::O_CLOEXEC).into())?;
        *status = 4;
        close_from(5);
        checked("lead a session", libc::setsid().into())?;
    }
    if role.namespaced {
        enter_view(request)?;
    }
    std::env::set_current_dir(&request.home)
        .map_err(|error| doing(&format!("enter {}", request.home.display()), error))?;
    limit(libc::RLIMIT_CORE, 0)?;
    limit(libc::RLIMIT_NOFILE, role.open_files.into())?;
    // SAFETY: plain system calls; the list of groups is empty.
    unsafe {
        if let Some(uid) = request.uid {
            checked("leave all groups", libc::setgroups(0, std::ptr::null()).into())?;
            checked("change the group", libc::setresgid(uid, uid, uid).into())?;
            checked("change the user", libc::setresuid(uid, uid, uid).into())?;
        }
        if role.namespaced {
            checked("refuse new privileges", libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0).into())?;
        }
    }
    execute(&read_letter()?)
}

/// Becomes the program. Not through the standard library, which hands what is no executable to a shell.
fn execute(letter: &Letter) -> io::Result<std::convert::Infallible> {
    let what = format!("execute {}", letter.program.display());
    std::env::set_current_dir(&letter.folder)
        .map_err(|error| doing(&format!("enter {}", letter.folder.display()), error))?;
    let text = |text: &[u8]| CString::new(text);
    let program = text(letter.program.as_os_str().as_bytes())?;
    let mut arguments = vec![program.clone()];
    for argument in &letter.arguments {
        arguments.push(text(argument.as_bytes())?);
    }
    let mut environment = Vec::new();
    for (index, (name, value)) in letter.environment.iter().enumerate() {
        // The later one of two counts.
        if !letter.environment[index + 1..].iter().any(|(later, _)| later == name) {
            environment.push(text(format!("{name}={value}").as_bytes())?);
        }
    }
    let pointers = |texts: &[CString]| -> Vec<*const libc::c_char> {
        texts.iter().map(|text| text.as_ptr()).chain([std::ptr::null()]).collect()
    };
    let (arguments_at, environment_at) = (pointers(&arguments), pointers(&environment));
    for attempt in 0.. {
        // SAFETY: the lists end with null, and the texts they point to outlive the call. The signal that our
        // own runtime ignores is one that programs expect to end them.
        let error = unsafe {
            libc::signal(libc::SIGPIPE, libc::SIG_DFL);
            libc::execve(program.as_ptr(), arguments_at.as_ptr(), environment_at.as_ptr());
            io::Error::last_os_error()
        };
        // A thread of the Workshop that forks while the program is unpacked holds it open for a moment.
        if error.raw_os_error() != Some(libc::ETXTBSY) || attempt == 50 {
            return Err(doing(&what, error));
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    unreachable!("the loop ends by returning")
}

/// In the copy of the prepared view: its code, its scratch space, its processes.
fn enter_view(request: &Request) -> io::Result<()> {
    // SAFETY: the name is as long as said.
    let result = unsafe { libc::sethostname(request.name.as_ptr().cast(), request.name.len()) };
    checked("set the host name", result.into())?;
    mount(Some(&request.code), Path::new(FUNCTION), None, libc::MS_BIND, None)?;
    let uid = request.uid.unwrap_or(0);
    let options = CString::new(format!("size={},mode=0700,uid={uid},gid={uid}", request.tmp))?;
    let no_devices = libc::MS_NOSUID | libc::MS_NODEV;
    mount(Some(Path::new("tmpfs")), Path::new("/tmp"), Some(c"tmpfs"), no_devices, Some(&options))?;
    let no_programs = no_devices | libc::MS_NOEXEC;
    mount(Some(Path::new("proc")), Path::new("/proc"), Some(c"proc"), no_programs, None)
}

fn read_letter() -> io::Result<Letter> {
    // SAFETY: descriptor 0 is open, and stays so: the program reads on where the letter ends.
    let mut input = ManuallyDrop::new(unsafe { std::fs::File::from_raw_fd(0) });
    let mut length = [0u8; 4];
    input.read_exact(&mut length)?;
    let length = u32::from_le_bytes(length) as usize;
    if length > LETTER_MAX {
        return Err(io::Error::other("the letter is too long"));
    }
    let mut text = vec![0; length];
    input.read_exact(&mut text)?;
    serde_json::from_slice(&text).map_err(io::Error::other)
}

fn limit(what: libc::__rlimit_resource_t, value: u64) -> io::Result<()> {
    let limit = libc::rlimit { rlim_cur: value, rlim_max: value };
    // SAFETY: the structure outlives the call.
    checked("set a resource limit", unsafe { libc::setrlimit(what, &limit) }.into())?;
    Ok(())
}

/// Closes every descriptor from `first` on.
///
/// # Safety
/// Nothing in this process may use them afterwards.
unsafe fn close_from(first: RawFd) {
    // SAFETY: as promised by the caller.
    unsafe {
        if libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, 0) != 0 {
            for descriptor in first..4096 {
                libc::close(descriptor);
            }
        }
    }
}
