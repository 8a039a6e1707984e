//! How a VM of `netns` comes to be: the process that our provider starts becomes the machine's host, and its child the
//! machine's first process.
//!
//! **Promises:** the agent runs only when network and mounts are in place. SIGTERM is passed on to it. When the host
//! process is killed, the first process is, and with it, by the kernel, everything in the machine. What loses its
//! parent there is waited for.
//! **Gives up:** telling a broken machine apart from a broken agent: both end, with a line on standard error.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork};
use sandbox::cgroup::{AGENT, Group};
use serde::{Deserialize, Serialize};

use super::network::ip;

/// The hidden command whose process becomes a machine.
pub const COMMAND: &str = "vm-init";

const VARIABLE: &str = "WINDFALL_MACHINE";
/// Files that `lxcfs` shows in the VM's size.
const VIEWS: [&str; 6] = [
    "proc/cpuinfo",
    "proc/meminfo",
    "proc/stat",
    "proc/uptime",
    "proc/loadavg",
    "sys/devices/system/cpu/online",
];

/// What makes a machine.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Machine {
    /// Its host name.
    pub name: String,
    /// The host's end of its cable.
    pub cable: String,
    pub bridge: String,
    /// With the length of its prefix.
    pub address: String,
    pub gateway: String,
    /// Where `lxcfs` is mounted.
    pub lxcfs: Option<String>,
}

impl Machine {
    pub fn as_variable(&self) -> (String, String) {
        // Text and nothing else: it cannot fail.
        (VARIABLE.into(), serde_json::to_string(self).unwrap_or_default())
    }
}

/// Becomes the machine that the environment describes. To be called before there is a second thread.
pub fn vm_init() -> ! {
    let code = match live() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("{COMMAND}: {error}");
            1
        }
    };
    std::process::exit(code)
}

fn live() -> io::Result<i32> {
    let text =
        std::env::var(VARIABLE).map_err(|_| io::Error::other("only Windfall's own provider calls this"))?;
    let machine: Machine = serde_json::from_str(&text).map_err(io::Error::other)?;
    let (mut is_apart, mut say_apart) = pipe()?;
    let (mut is_wired, mut say_wired) = pipe()?;
    signals().thread_block()?;
    let host = std::process::id();
    unshare(CloneFlags::CLONE_NEWPID)?;
    // SAFETY: there is one thread.
    match unsafe { fork() }? {
        ForkResult::Child => {
            drop((is_apart, say_wired));
            nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
            unshare(
                CloneFlags::CLONE_NEWNET
                    | CloneFlags::CLONE_NEWNS
                    | CloneFlags::CLONE_NEWUTS
                    | CloneFlags::CLONE_NEWIPC,
            )?;
            say_apart.write_all(b"!")?;
            // Also if the host process died before the line above: then nobody ever says so.
            is_wired.read_exact(&mut [0])?;
            furnish(&machine)?;
            first_process(host)
        }
        ForkResult::Parent { child } => {
            drop((say_apart, is_wired));
            is_apart.read_exact(&mut [0])?;
            // `ip` is a child of ours, and so of the machine's processes: there the first one is number 1.
            let wired = ip(&format!(
                "link add {cable} type veth peer name eth0 netns 1\nlink set {cable} master {bridge} up\n",
                cable = machine.cable,
                bridge = machine.bridge,
            ));
            if !wired {
                return Err(io::Error::other(format!("cannot lay the cable {}", machine.cable)));
            }
            say_wired.write_all(b"!")?;
            look_after(child)
        }
    }
}

fn pipe() -> io::Result<(File, File)> {
    let mut ends = [0; 2];
    // SAFETY: the kernel writes two numbers there.
    if unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: both were made just now, for us.
    let [read, write] = ends.map(|end| unsafe { OwnedFd::from_raw_fd(end) });
    Ok((read.into(), write.into()))
}

fn signals() -> SigSet {
    [Signal::SIGTERM, Signal::SIGINT, Signal::SIGCHLD].into_iter().collect()
}

/// Mounts and addresses, as the machine sees them.
fn furnish(machine: &Machine) -> io::Result<()> {
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
    let proc_flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("proc"), "/proc", Some("proc"), proc_flags, none)?;
    for view in machine.lxcfs.iter().flat_map(|_| VIEWS) {
        let from = format!("{}/{view}", machine.lxcfs.as_deref().unwrap_or_default());
        if let Err(error) =
            mount(Some(from.as_str()), format!("/{view}").as_str(), none, MsFlags::MS_BIND, none)
        {
            eprintln!("{COMMAND}: {from} cannot be shown: {error}");
        }
    }
    let name = CString::new(machine.name.clone())?;
    // SAFETY: the name and its length.
    unsafe { libc::sethostname(name.as_ptr(), machine.name.len()) };
    let lines = format!(
        "link set lo up\naddr add 169.254.169.254/32 dev lo\naddr add {} dev eth0\nlink set eth0 up\n\
         route add default via {}\n",
        machine.address, machine.gateway
    );
    if ip(&lines) { Ok(()) } else { Err(io::Error::other("cannot set up the machine's network")) }
}

/// Process 1: starts the agent, passes signals on, waits for orphans, and ends with the agent.
fn first_process(host: u32) -> io::Result<i32> {
    let mut agent = Command::new(std::env::current_exe()?);
    agent.arg("vm").env_remove(VARIABLE).env("WINDFALL_VM__OUTER_PID", host.to_string());
    let group = std::env::var("WINDFALL_VM__CGROUP").ok();
    let mut doors = match group.map(|path| Group::open(&path)).transpose().map_err(io::Error::other)? {
        Some(group) => group.child(AGENT).and_then(|leaf| leaf.doors()).map_err(io::Error::other)?,
        None => Vec::new(),
    };
    // SAFETY: between fork and exec the closure writes to open files and changes its own signal mask.
    unsafe {
        agent.pre_exec(move || {
            for door in &mut doors {
                door.write_all(b"0")?;
            }
            signals().thread_unblock()?;
            Ok(())
        });
    }
    let agent = agent.spawn()?;
    look_after(Pid::from_raw(agent.id() as i32))
}

/// Until `child` has ended, with its exit code.
fn look_after(child: Pid) -> io::Result<i32> {
    loop {
        match signals().wait()? {
            Signal::SIGCHLD => {}
            // Who is gone does not mind.
            signal => drop(kill(child, signal)),
        }
        loop {
            match waitpid(None::<Pid>, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) if pid == child => return Ok(code),
                Ok(WaitStatus::Signaled(pid, signal, _)) if pid == child => return Ok(128 + signal as i32),
                Ok(WaitStatus::StillAlive) | Err(_) => break,
                Ok(_) => {}
            }
        }
    }
}
