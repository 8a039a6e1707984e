//! How much a VM has: the smallest of all that limits it.
//!
//! **Knows:** the VM's control group and those above it, the online CPUs, the CPUs this process may use, the
//! machine's memory, and what a Hyper-V host says of a harvest VM.
//! **Promises:** what cannot be read now is what it was: a file that fails never makes a VM larger.
//! What the agent itself needs is not offered: where functions may have all of a VM's memory, the kernel kills one that keeps to
//! what it reserved, because the agent is there too; and where it is run again, again.
//! **Gives up:** limits that are hidden from inside, such as a hypervisor's cap without steal.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use nix::sched::{CpuSet, sched_getaffinity};
use nix::unistd::Pid;
use sandbox::cgroup::{Group, Watch};
use vocabulary::{Mebibytes, MilliCores, Resources};

use super::kvp::Kvp;
use crate::settings;

/// Why a VM cannot tell how much it has.
#[derive(Debug, thiserror::Error)]
pub enum CapacityError {
    /// The setting is none.
    #[error("vm.capacity = '{0}' is neither 'auto' nor 'fixed'")]
    Unknown(String),
    /// Nothing could be read.
    #[error("cannot read {file}: {source}. Set vm.capacity = \"fixed\" with vm.cpu and vm.memory instead")]
    Unreadable {
        /// Which file of the system.
        file: &'static str,
        /// Why.
        source: io::Error,
    },
    /// The group that was named is not there.
    #[error("vm.cgroup = '{path}': {source}")]
    Group {
        /// As configured.
        path: String,
        /// What is wrong.
        source: sandbox::cgroup::GroupError,
    },
}

const ONLINE: &str = "/sys/devices/system/cpu/online";
const MEMINFO: &str = "/proc/meminfo";

/// Where a VM's capacity is read.
pub struct Capacity {
    source: Source,
}

enum Source {
    Fixed(Resources),
    Read(Box<Reader>),
}

struct Reader {
    /// The control group that is the VM, where it has one.
    group: Option<Group>,
    /// Its limits, and those of the groups above it.
    limits: Vec<Watch>,
    online: File,
    meminfo: File,
    kvp: Option<Kvp>,
    /// What the agent keeps for itself at most.
    headroom: Mebibytes,
    /// What it keeps now.
    kept: Mebibytes,
    last: Resources,
    from: From,
}

/// What limits CPU and memory now.
#[derive(Clone, Copy, PartialEq, Eq)]
struct From {
    cpu: &'static str,
    memory: &'static str,
}

const GROUP: &str = "cgroup";

impl Capacity {
    /// As `settings` say.
    pub fn of(settings: &settings::Vm) -> Result<Self, CapacityError> {
        let source = match settings.capacity.as_str() {
            "fixed" => Source::Fixed(Resources::new(settings.cpu, settings.memory)),
            "auto" => Source::Read(Box::new(Reader::open(settings)?)),
            other => return Err(CapacityError::Unknown(other.to_owned())),
        };
        Ok(Self { source })
    }

    /// How much is offered now: what there is, less what the agent keeps.
    pub fn read(&mut self) -> Resources {
        match &mut self.source {
            Source::Fixed(resources) => *resources,
            Source::Read(reader) => reader.read(),
        }
    }

    /// What limited CPU and memory when it was read last, and what is kept of the memory: `kvp/memory less 64 MiB`.
    pub fn source(&self) -> String {
        match &self.source {
            Source::Fixed(_) => "fixed".to_owned(),
            Source::Read(reader) => match reader.kept {
                Mebibytes::ZERO => format!("{}/{}", reader.from.cpu, reader.from.memory),
                kept => format!("{}/{} less {kept}", reader.from.cpu, reader.from.memory),
            },
        }
    }

    /// The control group that is the VM; none where it has none of its own.
    pub fn group(&self) -> Option<&Group> {
        match &self.source {
            Source::Read(reader) => reader.group.as_ref(),
            Source::Fixed(_) => None,
        }
    }

    /// Where it is read, in a sentence's end.
    pub fn describe(&self) -> String {
        match &self.source {
            Source::Fixed(resources) => format!("{resources}, fixed"),
            Source::Read(reader) => {
                let group = match &reader.group {
                    Some(group) => format!("control group {}, ", group.path()),
                    None => String::new(),
                };
                format!(
                    "{}, limited by {}; {group}CPUs, memory and Hyper-V are watched",
                    reader.last,
                    self.source()
                )
            }
        }
    }
}

impl Reader {
    fn open(settings: &settings::Vm) -> Result<Self, CapacityError> {
        let trouble = |source| CapacityError::Group { path: settings.cgroup.clone(), source };
        let group = match settings.cgroup.as_str() {
            "" => Group::own_vm(),
            path => Some(Group::open(path).map_err(trouble)?),
        };
        // A container's or a service's own limits; inside of the house that is the agent's leaf, without any.
        let mut groups = Vec::from_iter(Group::own());
        if let Some(group) = &group {
            groups.push(group.clone());
            let mut path = group.path();
            while let Some((above, _)) = path.rsplit_once('/') {
                path = above;
                groups.extend(Group::open(path));
            }
        }
        let limits = groups.iter().map(Watch::of).collect::<io::Result<_>>();
        let limits =
            limits.map_err(|source| CapacityError::Unreadable { file: "the control group", source })?;
        let open = |file: &'static str| {
            File::open(file).map_err(|source| CapacityError::Unreadable { file, source })
        };
        let mut reader = Self {
            group,
            limits,
            online: open(ONLINE)?,
            meminfo: open(MEMINFO)?,
            kvp: settings.kvp.as_deref().map(Kvp::at),
            headroom: Mebibytes(settings.headroom),
            kept: Mebibytes::ZERO,
            last: Resources { cpu: MilliCores(u32::MAX), memory: Mebibytes(u32::MAX) },
            from: From { cpu: "cpus", memory: "memory" },
        };
        let (first, _) =
            reader.machine().map_err(|(file, source)| CapacityError::Unreadable { file, source })?;
        reader.last = first;
        reader.read();
        Ok(reader)
    }

    fn read(&mut self) -> Resources {
        let machine = self.machine().map(|(now, cpu)| (now, From { cpu, memory: "memory" }));
        let (mut now, mut from) = machine.unwrap_or((self.last, self.from));
        for limits in &self.limits {
            match limits.read() {
                Ok(limits) => {
                    if let Some(cpu) = limits.cpu.filter(|cpu| *cpu < now.cpu) {
                        (now.cpu, from.cpu) = (cpu, GROUP);
                    }
                    if let Some(memory) = limits.memory.filter(|memory| *memory < now.memory) {
                        (now.memory, from.memory) = (memory, GROUP);
                    }
                }
                Err(_) => now = now.min(self.last),
            }
        }
        match self.kvp.as_mut().map_or(Ok(None), Kvp::read) {
            Ok(Some(cpu)) if cpu < now.cpu => (now.cpu, from.cpu) = (cpu, "kvp"),
            Ok(_) => {}
            // Only what it said before could be meant.
            Err(_) if self.from.cpu == "kvp" && self.last.cpu < now.cpu => {
                (now.cpu, from.cpu) = (self.last.cpu, "kvp");
            }
            Err(_) => {}
        }
        (self.last, self.from) = (now, from);
        self.kept = kept_of(now.memory, self.headroom);
        Resources { memory: now.memory - self.kept, ..now }
    }

    /// What the machine has, and what limits its CPU.
    fn machine(&self) -> Result<(Resources, &'static str), (&'static str, io::Error)> {
        let broken = |file| (file, io::Error::from(io::ErrorKind::InvalidData));
        let online = read_now(&self.online).map_err(|error| (ONLINE, error))?;
        let online = cpus_in(&online).ok_or(broken(ONLINE))?;
        let memory = read_now(&self.meminfo).map_err(|error| (MEMINFO, error))?;
        let memory = memory_total_kib(&memory).ok_or(broken(MEMINFO))?;
        let (cpus, from) = match allowed_cpus() {
            Some(allowed) if allowed < online => (allowed, "affinity"),
            _ => (online, "cpus"),
        };
        let memory = Mebibytes(u32::try_from(memory >> 10).unwrap_or(u32::MAX));
        Ok((Resources { cpu: MilliCores::cores(cpus), memory }, from))
    }
}

/// What the agent keeps of so much memory: whoever has hardly any offers half of it.
fn kept_of(memory: Mebibytes, headroom: Mebibytes) -> Mebibytes {
    headroom.min(Mebibytes(memory.0 / 2))
}

/// What a file of the kernel says now. Reading it at 0 again makes it speak anew.
pub(super) fn read_now(file: &File) -> io::Result<String> {
    let mut buffer = [0; 4096];
    let length = file.read_at(&mut buffer, 0)?;
    Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
}

/// How many CPUs a list such as `0-3,8` names.
fn cpus_in(list: &str) -> Option<u32> {
    let mut count = 0u32;
    for range in list.trim().split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (u32, u32) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        count = count.checked_add(last.checked_sub(first)?.checked_add(1)?)?;
    }
    (count > 0).then_some(count)
}

fn memory_total_kib(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// CPUs that this process may run on; a cpuset shows here.
fn allowed_cpus() -> Option<u32> {
    let set = sched_getaffinity(Pid::from_raw(0)).ok()?;
    let count = (0..CpuSet::count()).filter(|cpu| set.is_set(*cpu).unwrap_or(false)).count();
    u32::try_from(count).ok().filter(|count| *count > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_cpus_is_counted() {
        for (list, count) in [("0", 1), ("0-1\n", 2), ("0-3,8,10-11", 7)] {
            assert_eq!(cpus_in(list), Some(count), "{list}");
        }
        for none in ["", "x", "3-1", "0-4294967295", "0-,1"] {
            assert_eq!(cpus_in(none), None, "{none}");
        }
    }

    #[test]
    fn memory_is_what_the_machine_has_and_not_what_is_free() {
        let text = "MemTotal:        2097152 kB\nMemFree:          100 kB\n";
        assert_eq!(memory_total_kib(text), Some(2 << 20));
        assert_eq!(memory_total_kib("MemFree: 1 kB"), None);
    }

    #[test]
    fn this_machine_tells_how_much_it_has() {
        let mut capacity = Capacity::of(&settings::Vm::default()).unwrap();
        let has = capacity.read();
        assert!(has.cpu >= MilliCores(10) && has.memory > Mebibytes::ZERO, "{has}");
        assert_eq!(capacity.read(), has);
    }

    #[test]
    fn the_agents_own_memory_is_not_offered_but_half_of_a_small_vm_is() {
        let all = settings::Vm { headroom: 0, ..settings::Vm::default() };
        let all = Capacity::of(&all).unwrap().read().memory;
        let mut less = Capacity::of(&settings::Vm { headroom: 100, ..settings::Vm::default() }).unwrap();
        assert_eq!(less.read().memory + Mebibytes(100), all);
        assert!(
            less.source().ends_with("memory less 100 MiB") || less.source().ends_with("cgroup less 100 MiB")
        );
        assert_eq!(kept_of(Mebibytes(1_088), Mebibytes(64)), Mebibytes(64));
        assert_eq!(kept_of(Mebibytes(100), Mebibytes(64)), Mebibytes(50));
    }

    #[test]
    fn a_host_that_gives_fewer_cores_is_believed_and_one_that_is_silent_for_a_moment_too() {
        let folder = tempfile::tempdir().unwrap();
        let pool = folder.path().join("pool");
        let say = |cores: &str| {
            let mut record = vec![0; 2560];
            record[..16].copy_from_slice(b"CurrentCoreCount");
            record[512..512 + cores.len()].copy_from_slice(cores.as_bytes());
            std::fs::write(&pool, record).unwrap();
        };
        let given = settings::Vm { kvp: Some(pool.clone()), ..settings::Vm::default() };
        let mut capacity = Capacity::of(&given).unwrap();
        let all = capacity.read();
        say("0.1");
        assert_eq!(capacity.read().cpu, MilliCores(100));
        assert!(capacity.source().starts_with("kvp/"), "{}", capacity.source());
        std::fs::write(&pool, b"").unwrap();
        assert_eq!(capacity.read().cpu, MilliCores(100), "half written");
        say("60000.0");
        assert_eq!(capacity.read(), all, "no more than there is");
        std::fs::remove_file(&pool).unwrap();
        assert_eq!(capacity.read(), all);
    }

    #[test]
    fn a_fixed_capacity_is_what_was_said_and_a_wrong_word_is_refused() {
        let fixed =
            settings::Vm { capacity: "fixed".into(), cpu: 1500, memory: 300, ..settings::Vm::default() };
        assert_eq!(Capacity::of(&fixed).unwrap().read(), Resources::new(1500, 300));
        let wrong = settings::Vm { capacity: "some".into(), ..settings::Vm::default() };
        assert!(matches!(Capacity::of(&wrong), Err(CapacityError::Unknown(_))));
        let lost = settings::Vm { cgroup: "windfall/nobody/vm-1".into(), ..settings::Vm::default() };
        assert!(matches!(Capacity::of(&lost), Err(CapacityError::Group { .. })));
    }
}
