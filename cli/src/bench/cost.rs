//! CPU time of process trees, from `/proc`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// One process's line in `/proc/<pid>/stat`, as far as it matters here.
struct Line {
    parent: u32,
    /// Clock ticks of the process and of the children it has waited for.
    ticks: u64,
}

/// CPU time that the roots and everything below them have used, ended processes that were waited for included.
/// Each process counts once, even if one root is below another.
pub(super) fn cpu_time(roots: &[u32]) -> Duration {
    let lines: BTreeMap<u32, Line> = processes().filter_map(|pid| Some((pid, read(pid)?))).collect();
    let mut counted = BTreeSet::new();
    for root in roots {
        for pid in lines.keys() {
            if is_below(&lines, *pid, *root) {
                counted.insert(*pid);
            }
        }
    }
    let ticks: u64 = counted.iter().map(|pid| lines[pid].ticks).sum();
    let per_second =
        u64::try_from(nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK).ok().flatten().unwrap_or(100))
            .unwrap_or(100);
    Duration::from_micros(ticks * 1_000_000 / per_second)
}

fn processes() -> impl Iterator<Item = u32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

fn read(pid: u32) -> Option<Line> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything; what follows the last one does not.
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let number = |place: usize| fields.get(place).and_then(|field| field.parse::<u64>().ok());
    // proc(5): state is the third field; ppid the 4th, utime 14th, stime 15th, cutime 16th, cstime 17th.
    let ticks = (11..=14).map(number).sum::<Option<u64>>()?;
    Some(Line { parent: number(1)? as u32, ticks })
}

fn is_below(lines: &BTreeMap<u32, Line>, mut pid: u32, root: u32) -> bool {
    // A tree is never deeper than this; a pid that is used again could make a circle while we read.
    for _ in 0..64 {
        if pid == root {
            return true;
        }
        match lines.get(&pid) {
            Some(line) if line.parent > 1 => pid = line.parent,
            _ => return false,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_done_here_is_counted_here() {
        let me = [std::process::id()];
        let before = cpu_time(&me);
        let began = std::time::Instant::now();
        let mut sum = 0u64;
        // Ticks are 10 ms; burn several, measured in work and bounded in time.
        while cpu_time(&me) < before + Duration::from_millis(50) && began.elapsed() < Duration::from_secs(20)
        {
            for n in 0..1_000_000u64 {
                sum = sum.wrapping_mul(31).wrapping_add(std::hint::black_box(n));
            }
        }
        std::hint::black_box(sum);
        assert!(cpu_time(&me) >= before + Duration::from_millis(50));
    }
}
