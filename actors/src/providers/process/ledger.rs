//! What the provider must remember when it is killed: one folder per VM, with its process id.
//!
//! **Promises:** a process id counts only while that process says of itself, in its environment, that it is this VM
//! of this folder; ids are used again by the kernel, and nobody else's process may ever be signalled.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use vocabulary::VmId;

use super::pidfd::PidFd;

/// Log files of ended VMs that are kept.
const LOGS_KEPT: usize = 50;

pub(super) struct Ledger {
    folder: PathBuf,
    /// Shared within a cluster, and held for as long as we live.
    _lock: Flock<File>,
}

impl Ledger {
    /// Opens `folder` for this cluster alone. A Resource Monitor that is asleep while another leads has it open too: what it
    /// may do when it wakes up, its fence decides (`resource_monitor/ids.rs`).
    pub fn open(folder: &Path, cluster: &str) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        let folder = folder.canonicalize()?;
        fs::create_dir_all(folder.join("vms"))?;
        fs::create_dir_all(folder.join("logs"))?;
        let path = folder.join("lock");
        let lock = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(&path)?;
        // Alone: then it is ours from now on, whoever had it before. Else it is that cluster's that wrote its name there.
        let lock = match Flock::lock(lock, FlockArg::LockExclusiveNonblock) {
            Ok(mut alone) => {
                alone.set_len(0)?;
                alone.write_all(cluster.as_bytes())?;
                alone.relock(FlockArg::LockShared)?;
                alone
            }
            Err((lock, nix::errno::Errno::EWOULDBLOCK)) => {
                let lock = Flock::lock(lock, FlockArg::LockShared).map_err(|(_, error)| error)?;
                if fs::read(&path)? != cluster.as_bytes() {
                    return Err(io::Error::new(
                        io::ErrorKind::AddrInUse,
                        "a Resource Monitor of another cluster uses it; stop that one, or give this one a folder of its own",
                    ));
                }
                lock
            }
            Err((_, error)) => return Err(error.into()),
        };
        Ok(Self { folder, _lock: lock })
    }

    /// Makes a VM's folder and returns the file for its process id.
    pub fn enter(&self, vm: VmId) -> io::Result<File> {
        self.prune_logs();
        fs::create_dir_all(self.scratch(vm))?;
        File::create(self.vm(vm).join("pid"))
    }

    /// VMs with a folder, lowest first.
    pub fn vms(&self) -> Vec<VmId> {
        let mut vms: Vec<VmId> = fs::read_dir(self.folder.join("vms"))
            .into_iter()
            .flatten()
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .collect();
        vms.sort();
        vms
    }

    /// The VM's process, if it is alive and is what its folder says.
    pub fn living(&self, vm: VmId) -> Option<PidFd> {
        let pid: u32 = fs::read_to_string(self.vm(vm).join("pid")).ok()?.trim().parse().ok()?;
        // Opened before it is looked at: from then on it cannot be taken for another.
        let process = PidFd::open(pid).ok()?;
        let environment = fs::read(format!("/proc/{pid}/environ")).ok()?;
        let scratch = self.scratch(vm);
        let wanted = [format!("WINDFALL_VM__ID={vm}"), format!("WINDFALL_VM__SCRATCH={}", scratch.display())];
        let is_this_vm = wanted
            .iter()
            .all(|wanted| environment.split(|byte| *byte == 0).any(|entry| entry == wanted.as_bytes()));
        is_this_vm.then_some(process)
    }

    /// Removes a VM's folder; its log stays.
    pub fn forget(&self, vm: VmId) -> io::Result<()> {
        match fs::remove_dir_all(self.vm(vm)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            done => done,
        }
    }

    /// Where a VM may write.
    pub fn scratch(&self, vm: VmId) -> PathBuf {
        self.vm(vm).join("scratch")
    }

    /// The file that turns a VM's wall clock, if anything does.
    pub fn clock(&self, vm: VmId) -> PathBuf {
        self.vm(vm).join("clock")
    }

    /// A VM's log file, for appending.
    pub fn log(&self, vm: VmId) -> io::Result<File> {
        OpenOptions::new().create(true).append(true).open(self.folder.join("logs").join(format!("{vm}.log")))
    }

    fn vm(&self, vm: VmId) -> PathBuf {
        self.folder.join("vms").join(vm.to_string())
    }

    /// A VM that crashes again and again must not fill the disk with logs.
    fn prune_logs(&self) {
        let logs = self.folder.join("logs");
        let mut ended: Vec<VmId> = fs::read_dir(&logs)
            .into_iter()
            .flatten()
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.strip_suffix(".log")?.parse().ok())
            .filter(|vm| !self.vm(*vm).exists())
            .collect();
        ended.sort();
        for vm in ended.iter().rev().skip(LOGS_KEPT) {
            // One that cannot be removed now is tried again at the next launch.
            let _ = fs::remove_file(logs.join(format!("{vm}.log")));
        }
    }
}
