//! What a group may use: CPU, memory, processes.
//!
//! **Knows:** the files of limits in both versions, and the order in which the kernel takes them.
//! **Promises:** as the module does: children shrink before their parents, and a limit that was refused is unchanged.
//! **Gives up:** being fast; what changes with every invocation goes through [`super::Dials`].

use std::io;

use vocabulary::{Mebibytes, MilliCores};

use super::files;
use super::group::{Group, GroupError};
use super::hierarchies::Controller;

/// How long the kernel counts before it gives a group its CPU quota again: its default, and OpenWhisk's.
pub(super) const PERIOD_US: u64 = 100_000;

/// The smallest quota the kernel takes is 1 ms, a hundredth of the period.
const CPU_MIN: MilliCores = MilliCores(10);

/// Whoever runs in a group changes its children while it shrinks (v1 refuses what no longer fits then): so often it is begun anew.
const TRIES: u32 = 16;

/// What a group may use; none is without limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limits {
    /// CPU quota.
    pub cpu: Option<MilliCores>,
    /// Memory limit, rounded down.
    pub memory: Option<Mebibytes>,
}

impl Group {
    /// What it may use.
    pub fn limits(&self) -> Result<Limits, GroupError> {
        let mut limits = Limits::default();
        if let Some((folder, is_v2)) = self.place(Controller::Cpu) {
            limits.cpu = read_cpu(&folder, is_v2).map_err(|e| self.refused("read the CPU quota", e))?;
        }
        if let Some((folder, is_v2)) = self.place(Controller::Memory) {
            let file = if is_v2 { "memory.max" } else { "memory.limit_in_bytes" };
            let text =
                files::read(&folder.join(file)).map_err(|e| self.refused("read the memory limit", e))?;
            limits.memory = memory_limit(&text);
        }
        Ok(limits)
    }

    /// Sets both limits; what it has no controller for is left out.
    pub fn set_limits(&self, limits: Limits) -> Result<(), GroupError> {
        if self.place(Controller::Cpu).is_some() {
            self.set_cpu(limits.cpu)?;
        }
        if self.place(Controller::Memory).is_some() {
            self.set_memory(limits.memory)?;
        }
        Ok(())
    }

    /// Lets it use so much CPU; none is without limit. At least 10 millicores, the least the kernel takes.
    /// Children that have more are brought down first, and where the parent has less (v1 refuses that) it
    /// gets what the parent has.
    pub fn set_cpu(&self, cpu: Option<MilliCores>) -> Result<(), GroupError> {
        let (folder, is_v2) = self.place(Controller::Cpu).ok_or(GroupError::Unsupported(Controller::Cpu))?;
        let refused = |e| self.refused("set the CPU quota", e);
        let (mut fits, mut tries) = (cpu, TRIES);
        loop {
            match write_cpu(&folder, is_v2, fits) {
                // A child has more or the parent less, be it since a moment ago.
                Err(error) if error.raw_os_error() == Some(libc::EINVAL) && !is_v2 && tries > 0 => tries -= 1,
                done => return done.map_err(refused),
            }
            fits = cpu.map(|cpu| cpu.max(CPU_MIN));
            if let Some(above) = self.parent_with_quota() {
                fits = Some(fits.map_or(above, |cpu| cpu.min(above)));
            }
            let Some(most) = fits else { continue };
            for child in self.children() {
                let too_much = child.limits()?.cpu.is_some_and(|has| has > most);
                if too_much || child.has_descendant_above(most)? {
                    child.set_cpu(Some(most))?;
                }
            }
        }
    }

    /// Lets it use so much memory; none is without limit. Refused while more is in use that the kernel
    /// cannot take back, on v2 too, where it would kill instead.
    pub fn set_memory(&self, memory: Option<Mebibytes>) -> Result<(), GroupError> {
        let (folder, is_v2) =
            self.place(Controller::Memory).ok_or(GroupError::Unsupported(Controller::Memory))?;
        let refused = |e| self.refused("set the memory limit", e);
        let Some(asked) = memory else {
            let (file, text) = if is_v2 { ("memory.max", "max") } else { ("memory.limit_in_bytes", "-1") };
            return files::write(&folder.join(file), text).map_err(refused);
        };
        let in_use = || self.counters().map(|counters| Mebibytes::holding(counters.memory));
        if !is_v2 {
            return match files::write(&folder.join("memory.limit_in_bytes"), &asked.bytes().to_string()) {
                Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {
                    Err(GroupError::MemoryInUse { group: self.path.clone(), in_use: in_use()?, asked })
                }
                done => done.map_err(refused),
            };
        }
        let bytes = asked.bytes().to_string();
        if in_use()? > asked {
            // Writing `high` takes back what can be taken back; nobody is killed for it.
            files::write(&folder.join("memory.high"), &bytes).map_err(refused)?;
            let still = in_use()?;
            files::write(&folder.join("memory.high"), "max").map_err(refused)?;
            if still > asked {
                return Err(GroupError::MemoryInUse { group: self.path.clone(), in_use: still, asked });
            }
        }
        files::write(&folder.join("memory.max"), &bytes).map_err(refused)
    }

    /// Its part of the CPU among its siblings when there is not enough for all: proportional to `weight`.
    pub fn set_weight(&self, weight: MilliCores) -> Result<(), GroupError> {
        let (folder, is_v2) = self.place(Controller::Cpu).ok_or(GroupError::Unsupported(Controller::Cpu))?;
        let (file, value) = weight_file(is_v2, weight);
        files::write(&folder.join(file), &value.to_string())
            .map_err(|e| self.refused("set the CPU weight", e))
    }

    /// The most processes and threads in it.
    pub fn set_pids(&self, limit: u32) -> Result<(), GroupError> {
        let (folder, _) = self.place(Controller::Pids).ok_or(GroupError::Unsupported(Controller::Pids))?;
        files::write(&folder.join("pids.max"), &limit.to_string())
            .map_err(|e| self.refused("set the process limit", e))
    }

    fn has_descendant_above(&self, cpu: MilliCores) -> Result<bool, GroupError> {
        for child in self.children() {
            if child.limits()?.cpu.is_some_and(|has| has > cpu) || child.has_descendant_above(cpu)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The CPU quota of the nearest group above that has one.
    fn parent_with_quota(&self) -> Option<MilliCores> {
        let hierarchy = self.hierarchies.with(Controller::Cpu)?;
        let mut folder = hierarchy.folder(&self.path);
        while folder.pop() && folder.join("cgroup.procs").exists() {
            if let Ok(Some(cpu)) = read_cpu(&folder, hierarchy.is_v2) {
                return Some(cpu);
            }
        }
        None
    }
}

/// CPU shares as the two versions count them: 1,024 or 100 for one core.
pub(super) fn weight_file(is_v2: bool, weight: MilliCores) -> (&'static str, u64) {
    let weight = u64::from(weight.0);
    if is_v2 {
        ("cpu.weight", (weight / 10).clamp(1, 10_000))
    } else {
        ("cpu.shares", (weight * 1024 / 1000).clamp(2, 262_144))
    }
}

/// A quota as the kernel counts it: microseconds in each period.
pub(super) fn quota_us(cpu: MilliCores) -> u64 {
    u64::from(cpu.max(CPU_MIN).0) * PERIOD_US / 1000
}

/// The quota's file and what to write into it.
pub(super) fn cpu_file(is_v2: bool, cpu: Option<MilliCores>) -> (&'static str, String) {
    match (is_v2, cpu) {
        (true, Some(cpu)) => ("cpu.max", format!("{} {PERIOD_US}", quota_us(cpu))),
        (true, None) => ("cpu.max", "max".to_owned()),
        (false, Some(cpu)) => ("cpu.cfs_quota_us", quota_us(cpu).to_string()),
        (false, None) => ("cpu.cfs_quota_us", "-1".to_owned()),
    }
}

fn write_cpu(folder: &std::path::Path, is_v2: bool, cpu: Option<MilliCores>) -> io::Result<()> {
    let (file, text) = cpu_file(is_v2, cpu);
    files::write(&folder.join(file), &text)
}

fn read_cpu(folder: &std::path::Path, is_v2: bool) -> io::Result<Option<MilliCores>> {
    let (quota, period) = if is_v2 {
        let text = files::read(&folder.join("cpu.max"))?;
        let mut words = text.split_whitespace();
        (words.next().and_then(files::number), words.next().and_then(files::number))
    } else {
        let quota = files::number(&files::read(&folder.join("cpu.cfs_quota_us"))?);
        (quota, files::number(&files::read(&folder.join("cpu.cfs_period_us"))?))
    };
    Ok(cpu_limit(quota, period))
}

/// A quota and its period, both in microseconds, as the limit they are; no number is no limit.
pub(super) fn cpu_limit(quota: Option<u64>, period: Option<u64>) -> Option<MilliCores> {
    let (quota, period) = (quota?, period.filter(|period| *period > 0)?);
    Some(MilliCores(u32::try_from(quota.saturating_mul(1000) / period).unwrap_or(u32::MAX)))
}

/// What a memory limit's file says. v1 says "no limit" with the largest number of pages it can count.
pub(super) fn memory_limit(text: &str) -> Option<Mebibytes> {
    files::number(text)
        .filter(|bytes| *bytes < 1 << 62)
        .map(|bytes| Mebibytes(u32::try_from(bytes >> 20).unwrap_or(u32::MAX)))
}
