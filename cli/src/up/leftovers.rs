//! Processes of this cluster that nobody looks after any more, such as VMs whose Resource Monitor was killed.
//!
//! **Promises:** only processes that carry this cluster's mark in their environment are ended; the mark is random
//! and kept in the data folder, whose lock we hold.
//! **Gives up:** processes of other users, whose environment cannot be read.

use std::fs;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// The variable that carries the mark.
pub const MARK: &str = "WINDFALL_CLUSTER";

/// Ends every process with the mark except ours and `keep`. Returns how many there were.
pub fn end(cluster: &str, keep: &[u32]) -> usize {
    let marked = find(cluster, keep);
    for pid in &marked {
        let _ = kill(*pid, Signal::SIGKILL);
    }
    marked.len()
}

fn find(cluster: &str, keep: &[u32]) -> Vec<Pid> {
    let mark = format!("{MARK}={cluster}");
    let Ok(processes) = fs::read_dir("/proc") else { return Vec::new() };
    processes
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .filter(|pid| *pid != std::process::id() && !keep.contains(pid))
        .filter(|pid| {
            let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environment.split(|byte| *byte == 0).any(|variable| variable == mark.as_bytes())
        })
        .filter_map(|pid| i32::try_from(pid).ok().map(Pid::from_raw))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn only_processes_with_the_mark_are_ended() {
        let mark = format!("test-{}", std::process::id());
        let sleep = |mark: &str| Command::new("sleep").arg("60").env(MARK, mark).spawn().expect("sleep runs");
        let (mut ours, mut kept, mut others) = (sleep(&mark), sleep(&mark), sleep("another"));
        // A child has our environment until it has become another program.
        std::thread::sleep(std::time::Duration::from_millis(200));
        assert_eq!(end(&mark, &[kept.id()]), 1);
        assert!(!ours.wait().expect("it ended").success());
        for child in [&mut kept, &mut others] {
            assert!(child.try_wait().expect("a child").is_none());
            child.kill().expect("ours to end");
            child.wait().expect("ended");
        }
    }
}
