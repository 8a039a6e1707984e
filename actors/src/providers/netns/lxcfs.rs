//! `lxcfs`: files of `/proc` and `/sys` that show a control group's size.
//!
//! **Promises:** one that is mounted already is used as it is; one that we started is ended by us.
//! **Gives up:** VMs that outlive it: their files fail then, and what fails never makes a VM larger.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Where the system's own is mounted.
const OF_SYSTEM: &str = "/var/lib/lxcfs";
/// How long ours may take to appear.
const PATIENCE: Duration = Duration::from_secs(5);

pub(super) struct Lxcfs {
    path: PathBuf,
    ours: Mutex<Option<Child>>,
}

impl Lxcfs {
    /// As `netns.lxcfs` says: `auto`, `off`, or where it is mounted.
    pub fn find(setting: &str, folder: &Path) -> Option<Self> {
        let mounted = match setting {
            "off" => return None,
            "auto" => Path::new(OF_SYSTEM),
            path => Path::new(path),
        };
        let own = folder.join("lxcfs");
        if let Some(path) = [mounted, &own].into_iter().find(|path| speaks(path)) {
            return Some(Self { path: path.to_owned(), ours: Mutex::default() });
        }
        match start(&own, folder) {
            Ok(child) => Some(Self { path: own, ours: Mutex::new(Some(child)) }),
            Err(reason) => {
                tracing::warn!(
                    reason,
                    "VMS SEE THE WHOLE MACHINE in /proc and /sys, for want of lxcfs; they go by their control group"
                );
                None
            }
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Ends it if it is ours.
    pub fn end(&self) {
        let ours = self.ours.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(mut child) = ours {
            // SAFETY: our child, not waited for.
            unsafe { libc::kill(child.id() as libc::pid_t, libc::SIGTERM) };
            let until = Instant::now() + PATIENCE;
            while !matches!(child.try_wait(), Ok(Some(_))) && Instant::now() < until {
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    }
}

fn speaks(path: &Path) -> bool {
    std::fs::read(path.join("proc/meminfo")).is_ok_and(|text| !text.is_empty())
}

fn start(path: &Path, folder: &Path) -> Result<Child, String> {
    std::fs::create_dir_all(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let path = path.canonicalize().map_err(|error| error.to_string())?;
    let mut child = Command::new("lxcfs")
        .args(["-f", "-l", "--enable-cfs", "--enable-loadavg", "-p"])
        .arg(folder.join("lxcfs.pid"))
        .arg(&path)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| format!("lxcfs does not start ({error}); the package of that name has it"))?;
    let until = Instant::now() + PATIENCE;
    while !speaks(&path) {
        if Instant::now() > until || matches!(child.try_wait(), Ok(Some(_))) {
            let _ = child.kill();
            let _ = child.wait();
            return Err("lxcfs does not show anything".to_owned());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(child)
}
