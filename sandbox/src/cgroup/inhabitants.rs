//! The processes in a group: moved in, listed, frozen, killed.
//!
//! **Knows:** that a group may have children, and that processes may fork while one looks.
//! **Promises:** never kills ourselves; waits for a bounded time.
//! **Gives up:** being atomic on v1, which has neither a kill nor a freeze for a whole tree: it is done again
//! until nothing is left.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::time::{Duration, Instant};

use super::files;
use super::group::{Group, GroupError, tree};
use super::hierarchies::Controller;

impl Group {
    /// Moves the process `pid` (0 is our own) with all its threads into it.
    pub fn add(&self, pid: u32) -> Result<(), GroupError> {
        for hierarchy in self.limiting() {
            files::write(&hierarchy.folder(&self.path).join("cgroup.procs"), &pid.to_string())
                .map_err(|e| self.refused("move a process into a hierarchy", e))?;
        }
        Ok(())
    }

    /// Its files that list processes, open for writing: whoever writes `0` into each of them moves itself into
    /// it. For a child between `fork` and `exec`, which must not allocate and should never run outside.
    pub fn doors(&self) -> Result<Vec<fs::File>, GroupError> {
        self.limiting()
            .map(|hierarchy| {
                fs::OpenOptions::new().write(true).open(hierarchy.folder(&self.path).join("cgroup.procs"))
            })
            .collect::<io::Result<_>>()
            .map_err(|e| self.refused("open the list of processes", e))
    }

    /// The processes in it and its children, lowest first.
    pub fn pids(&self) -> Vec<u32> {
        let mut pids = BTreeSet::new();
        for hierarchy in &self.hierarchies.all {
            for folder in tree(&hierarchy.folder(&self.path)) {
                if let Ok(text) = fs::read_to_string(folder.join("cgroup.procs")) {
                    pids.extend(text.lines().filter_map(|line| line.parse::<u32>().ok()));
                }
            }
        }
        pids.remove(&0); // A process of another PID namespace is shown as 0.
        pids.into_iter().collect()
    }

    /// Stops everything in it where it stands. Returns when all of it has stopped, or after 500 ms with an
    /// error and everything running again.
    pub fn freeze(&self) -> Result<(), GroupError> {
        let refused = |e| self.refused("freeze the processes", e);
        let hierarchy =
            self.hierarchies.with(Controller::Freezer).ok_or(GroupError::Unsupported(Controller::Freezer))?;
        let folder = hierarchy.folder(&self.path);
        if hierarchy.is_v2 {
            files::write(&folder.join("cgroup.freeze"), "1").map_err(refused)?;
        } else {
            // Only now, because making and leaving one more group would lengthen every cold start.
            fs::create_dir_all(&folder).map_err(refused)?;
            files::write(&folder.join("freezer.state"), "FROZEN").map_err(refused)?;
            for pid in self.pids() {
                match files::write(&folder.join("cgroup.procs"), &pid.to_string()) {
                    Err(error) if error.raw_os_error() != Some(libc::ESRCH) => {
                        let _ = self.thaw();
                        return Err(refused(error));
                    }
                    _ => {}
                }
            }
        }
        let deadline = Instant::now() + Duration::from_millis(500);
        loop {
            let frozen = if hierarchy.is_v2 {
                files::read(&folder.join("cgroup.events"))
                    .is_ok_and(|t| files::entry(&t, "frozen") == Some(1))
            } else {
                files::read(&folder.join("freezer.state")).is_ok_and(|text| text.trim() == "FROZEN")
            };
            if frozen {
                return Ok(());
            }
            if Instant::now() > deadline {
                let _ = self.thaw();
                return Err(refused(io::ErrorKind::TimedOut.into()));
            }
            std::thread::sleep(Duration::from_micros(200));
        }
    }

    /// Lets everything in it, and in its children, go on.
    pub fn thaw(&self) -> Result<(), GroupError> {
        let hierarchy =
            self.hierarchies.with(Controller::Freezer).ok_or(GroupError::Unsupported(Controller::Freezer))?;
        let (file, text) = if hierarchy.is_v2 { ("cgroup.freeze", "0") } else { ("freezer.state", "THAWED") };
        // On v1 there is no folder if it has never been frozen.
        for folder in tree(&hierarchy.folder(&self.path)) {
            match files::write(&folder.join(file), text) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                done => done.map_err(|e| self.refused("thaw the processes", e))?,
            }
        }
        Ok(())
    }

    /// Kills everything in it and its children, except ourselves, again and again until nothing is left or
    /// `patience` is over.
    pub fn kill_all(&self, patience: Duration) -> Result<(), GroupError> {
        let deadline = Instant::now() + patience;
        loop {
            self.kill_once();
            let ourselves = std::process::id();
            if self.pids().iter().all(|pid| *pid == ourselves) {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(self.refused("kill the processes", io::ErrorKind::TimedOut.into()));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Kills everything in it and its children, except ourselves, and does not wait.
    pub fn kill_once(&self) {
        let ourselves = std::process::id();
        let pids = self.pids();
        if !pids.contains(&ourselves) {
            for hierarchy in self.hierarchies.all.iter().filter(|h| h.is_v2) {
                let _ = files::write(&hierarchy.folder(&self.path).join("cgroup.kill"), "1");
            }
        }
        for pid in pids.into_iter().filter(|pid| *pid != ourselves) {
            if let Ok(pid) = i32::try_from(pid) {
                // SAFETY: sends a signal; the pid was just read from a group that is ours alone.
                unsafe { libc::kill(pid, libc::SIGKILL) };
            }
        }
        let _ = self.thaw(); // On v1 the frozen do not even die.
    }
}
