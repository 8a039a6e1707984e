//! The gauges of the machine: steal, throttling, pressure, memory.
//!
//! **Gives up:** what a kernel does not tell is 0. Pressure is that of everything the machine's `/proc` shows,
//! which for VMs that are processes is more than the VM.

use std::fs::File;

use sandbox::cgroup::Group;
use vocabulary::Span;

use super::capacity::read_now;
use crate::metrics::Machine;

pub(super) struct MachineReader {
    group: Option<Group>,
    stat: Option<File>,
    cpu_pressure: Option<File>,
    memory_pressure: Option<File>,
    meminfo: Option<File>,
    ticks_per_second: u64,
}

impl MachineReader {
    pub fn open(group: Option<Group>) -> Self {
        // SAFETY: takes a number and returns one.
        let ticks = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
        Self {
            group,
            stat: File::open("/proc/stat").ok(),
            cpu_pressure: File::open("/proc/pressure/cpu").ok(),
            memory_pressure: File::open("/proc/pressure/memory").ok(),
            meminfo: File::open("/proc/meminfo").ok(),
            ticks_per_second: u64::try_from(ticks).unwrap_or(100).max(1),
        }
    }

    pub fn read(&self) -> Machine {
        let text =
            |file: &Option<File>| file.as_ref().and_then(|file| read_now(file).ok()).unwrap_or_default();
        let counters = self.group.as_ref().and_then(|group| group.counters().ok()).unwrap_or_default();
        let stolen_ticks = stolen_ticks(&text(&self.stat)).unwrap_or(0);
        Machine {
            stolen: Span(stolen_ticks.saturating_mul(1_000_000) / self.ticks_per_second),
            throttled: counters.throttled,
            cpu_pressure: Span(pressure_us(&text(&self.cpu_pressure)).unwrap_or(0)),
            memory_pressure: Span(pressure_us(&text(&self.memory_pressure)).unwrap_or(0)),
            memory_used_bytes: match &self.group {
                Some(_) => counters.memory,
                None => memory_used(&text(&self.meminfo)).unwrap_or(0),
            },
        }
    }
}

/// The eighth number of the first line: `cpu user nice system idle iowait irq softirq steal ...`.
fn stolen_ticks(stat: &str) -> Option<u64> {
    stat.lines().next()?.strip_prefix("cpu ")?.split_whitespace().nth(7)?.parse().ok()
}

/// `some avg10=0.00 avg60=0.00 avg300=0.00 total=12345`.
fn pressure_us(text: &str) -> Option<u64> {
    let some = text.lines().find(|line| line.starts_with("some "))?;
    some.rsplit_once("total=")?.1.trim().parse().ok()
}

fn memory_used(meminfo: &str) -> Option<u64> {
    let of = |name: &str| -> Option<u64> {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse().ok()
    };
    Some(of("MemTotal:")?.saturating_sub(of("MemAvailable:")?) << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_says_is_read() {
        assert_eq!(stolen_ticks("cpu  1 2 3 4 5 6 7 88 9 10\ncpu0 1"), Some(88));
        assert_eq!(stolen_ticks("cpu  1 2"), None);
        let pressure = "some avg10=1.00 avg60=0.10 avg300=0.01 total=4242\nfull avg10=0.00 total=1\n";
        assert_eq!(pressure_us(pressure), Some(4242));
        assert_eq!(pressure_us(""), None);
        assert_eq!(memory_used("MemTotal: 10 kB\nMemFree: 1 kB\nMemAvailable: 4 kB\n"), Some(6 << 10));
    }

    #[test]
    fn totals_of_this_machine_never_go_back() {
        let reader = MachineReader::open(None);
        let (first, second) = (reader.read(), reader.read());
        assert!(second.stolen >= first.stolen && second.cpu_pressure >= first.cpu_pressure);
        assert!(first.memory_used_bytes > 0);
    }
}
