//! What sandboxes see of the system: all of it, read-only, with `/dev` and `/run` of their own.
//!
//! **Knows:** how to build that view once, in the mount namespace that every sandbox copies.
//! **Promises:** nothing that is mounted here is seen outside; no device but the harmless ones; no socket of
//! a host's service (those live in `/run`).
//! **Gives up:** hiding files by name: what other users may read on the host, a function may read.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use super::{Role, checked};

/// Where a sandbox finds its function's code.
pub(crate) const FUNCTION: &str = "/run/function";
/// Where a sandbox finds our launchers.
pub(crate) const RUNTIMES: &str = "/run/runtimes";
/// Where a nursery finds all code; sandboxes' users may not enter.
pub(crate) const CODE: &str = "/run/code";

/// Moves this process into a mount namespace of its own and builds the view in it.
pub(super) fn prepare(role: &Role) -> io::Result<()> {
    // SAFETY: this process has one thread and shares nothing that the call would split.
    checked("make a mount namespace", unsafe { libc::unshare(libc::CLONE_NEWNS) }.into())?;
    mount(None, Path::new("/"), None, libc::MS_REC | libc::MS_PRIVATE, None)?;

    let (dev, run) = (role.stage.join("dev"), role.stage.join("run"));
    fs::create_dir_all(&dev)?;
    fs::create_dir_all(&run)?;
    tmpfs(&dev)?;
    for name in ["null", "zero", "full", "random", "urandom"] {
        let (real, ours) = (Path::new("/dev").join(name), dev.join(name));
        fs::File::create(&ours)?;
        mount(Some(&real), &ours, None, libc::MS_BIND, None)?;
    }
    for (name, target) in [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
        // Semaphores and shared memory of a function go into its own scratch space.
        ("shm", "/tmp"),
    ] {
        symlink(target, dev.join(name))?;
    }

    tmpfs(&run)?;
    let inside = |path: &str| run.join(Path::new(path).strip_prefix("/run").expect("all of ours are there"));
    for (path, source) in [(CODE, Some(&role.code)), (RUNTIMES, Some(&role.runtimes)), (FUNCTION, None)] {
        fs::create_dir(inside(path))?;
        if let Some(source) = source {
            mount(Some(source), &inside(path), None, libc::MS_BIND, None)?;
        }
    }
    keep_name_service(&run)?;

    // First the one that the stage may itself be in: moved mounts are found by their open folders.
    let (dev, run) = (open(&dev)?, open(&run)?);
    move_mount(&run, "/run")?;
    move_mount(&dev, "/dev")?;
    read_only()?;
    std::env::set_current_dir("/")
}

/// Where `/etc/resolv.conf` leads into `/run` (systemd-resolved), its folder stays.
fn keep_name_service(run: &Path) -> io::Result<()> {
    let Ok(real) = fs::canonicalize("/etc/resolv.conf") else { return Ok(()) };
    let Some(folder) = real.parent().filter(|folder| folder.starts_with("/run/")) else { return Ok(()) };
    let inside = run.join(folder.strip_prefix("/run").expect("it starts with it"));
    fs::create_dir_all(&inside)?;
    mount(Some(folder), &inside, None, libc::MS_BIND, None)
}

fn tmpfs(target: &Path) -> io::Result<()> {
    mount(
        Some(Path::new("tmpfs")),
        target,
        Some(c"tmpfs"),
        libc::MS_NOSUID | libc::MS_NOEXEC,
        Some(c"size=1m,mode=0755"),
    )?;
    fs::set_permissions(target, fs::Permissions::from_mode(0o755))
}

/// `mount(2)`.
pub(super) fn mount(
    source: Option<&Path>,
    target: &Path,
    kind: Option<&std::ffi::CStr>,
    flags: libc::c_ulong,
    options: Option<&std::ffi::CStr>,
) -> io::Result<()> {
    let source = source.map(|source| CString::new(source.as_os_str().as_bytes())).transpose()?;
    let path = CString::new(target.as_os_str().as_bytes())?;
    let pointer = |text: Option<&std::ffi::CStr>| text.map_or(std::ptr::null(), |text| text.as_ptr());
    // SAFETY: every pointer is null or a string that ends with a zero byte and outlives the call.
    let result = unsafe {
        libc::mount(pointer(source.as_deref()), path.as_ptr(), pointer(kind), flags, pointer(options).cast())
    };
    checked(&format!("mount {}", target.display()), result.into())?;
    Ok(())
}

fn open(folder: &Path) -> io::Result<fs::File> {
    use std::os::unix::fs::OpenOptionsExt;
    fs::OpenOptions::new().read(true).custom_flags(libc::O_PATH | libc::O_DIRECTORY).open(folder)
}

fn move_mount(from: &fs::File, to: &str) -> io::Result<()> {
    use std::os::fd::AsRawFd;
    let to_text = CString::new(to)?;
    const FROM_IS_DESCRIPTOR: libc::c_uint = 0x4; // MOVE_MOUNT_F_EMPTY_PATH
    // SAFETY: both strings end with a zero byte and outlive the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            from.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_FDCWD,
            to_text.as_ptr(),
            FROM_IS_DESCRIPTOR,
        )
    };
    checked(&format!("move a mount to {to}"), result)?;
    Ok(())
}

/// Makes every mount of this namespace read-only: at once where the kernel can (5.12), else one by one.
fn read_only() -> io::Result<()> {
    #[repr(C)]
    struct Attributes {
        set: u64,
        clear: u64,
        propagation: u64,
        user_namespace: u64,
    }
    const READ_ONLY: u64 = 1; // MOUNT_ATTR_RDONLY
    let attributes = Attributes { set: READ_ONLY, clear: 0, propagation: 0, user_namespace: 0 };
    const AT_RECURSIVE: libc::c_int = 0x8000;
    // SAFETY: the structure is laid out as the kernel's `mount_attr` and as long as said.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            c"/".as_ptr(),
            AT_RECURSIVE,
            &attributes,
            size_of::<Attributes>(),
        )
    };
    if result == 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    if error.raw_os_error() != Some(libc::ENOSYS) {
        return Err(super::doing("make the view read-only", error));
    }
    for line in fs::read_to_string("/proc/self/mountinfo")?.lines() {
        let mut words = line.split(' ').skip(4);
        let (Some(point), Some(options)) = (words.next(), words.next()) else { continue };
        // A flag that is left out is cleared, and clearing a locked one is refused.
        let mut flags = libc::MS_REMOUNT | libc::MS_BIND | libc::MS_RDONLY;
        for option in options.split(',') {
            flags |= match option {
                "nosuid" => libc::MS_NOSUID,
                "nodev" => libc::MS_NODEV,
                "noexec" => libc::MS_NOEXEC,
                "noatime" => libc::MS_NOATIME,
                "nodiratime" => libc::MS_NODIRATIME,
                "relatime" => libc::MS_RELATIME,
                _ => 0,
            };
        }
        let point = point.replace("\\040", " ").replace("\\011", "\t").replace("\\134", "\\");
        match mount(None, Path::new(&point), None, flags, None) {
            // Hidden under another mount: nobody reaches it.
            Err(error) if matches!(error.raw_os_error(), None | Some(libc::EINVAL | libc::ENOENT)) => {}
            done => done?,
        }
    }
    Ok(())
}
