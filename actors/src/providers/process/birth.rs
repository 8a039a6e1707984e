//! How a VM's process comes to be: group first, then the process inside it.

use std::fs::File;
use std::io::{self, Write};
use std::process::Stdio;

use sandbox::cgroup::{AGENT, Group, Limits};
use tokio::process::{Child, Command};
use vocabulary::{Resources, VmId, VmKind};

use super::ProcessSettings;
use super::ledger::Ledger;
use super::pidfd::PidFd;

/// Of libfaketime: what turns a process's wall clock. If there is one for us, clocks are meant to be turned
/// (`windfall up --clocks`), and each VM has one of its own.
const CLOCK: &str = "FAKETIME_TIMESTAMP_FILE";

pub(super) struct Cradle<'a> {
    pub settings: &'a ProcessSettings,
    pub ledger: &'a Ledger,
    pub house: Option<&'a Group>,
}

impl Cradle<'_> {
    /// Starts the process. Blocks for the time of a fork and some writes; needs a tokio runtime around it.
    pub fn start(&self, vm: VmId, kind: VmKind, size: Resources) -> io::Result<(Child, PidFd)> {
        let mut pid_file = self.ledger.enter(vm)?;
        let with_agent = Resources { memory: size.memory + self.settings.headroom, ..size };
        let group =
            self.house.map(|house| confine(house, vm, with_agent)).transpose().map_err(io::Error::other)?;
        let mut doors = match &group {
            // A host stands in the group that is the VM where the kernel lets it: then lxcfs shows that group's size.
            Some(group) if self.settings.own.is_host() && !group.hierarchies().is_v2() => {
                group.doors().map_err(io::Error::other)?
            }
            Some(group) => group.child(AGENT).and_then(|agent| agent.doors()).map_err(io::Error::other)?,
            None => Vec::new(),
        };
        let mut command = Command::new(&self.settings.program);
        command
            .args(&self.settings.arguments)
            .envs(self.settings.environment.iter().map(|(name, value)| (name, value)))
            .envs(self.identity(vm, kind, size, group.as_ref()))
            .envs(self.settings.own.of(vm))
            .stdin(Stdio::null())
            .kill_on_drop(false);
        if std::env::var_os(CLOCK).is_some() {
            let file = self.ledger.clock(vm);
            std::fs::write(&file, "+0\n")?;
            command.env(CLOCK, file);
        }
        if self.settings.log_files {
            let log = self.ledger.log(vm)?;
            command.stdout(log.try_clone()?).stderr(log);
        } else {
            // Our standard output belongs to whoever reads what the command says.
            command.stdout(Stdio::null()).stderr(Stdio::inherit());
        }
        // SAFETY: between fork and exec the closure only calls setsid, getpid and write on files that are open,
        // and formats a number on the stack.
        unsafe {
            command.pre_exec(move || {
                // A session of its own, so that Ctrl-C at our terminal does not reach it.
                libc::setsid();
                pid_file.write_all(Decimal::of(libc::getpid().unsigned_abs()).as_bytes())?;
                enter(&mut doors)
            });
        }
        let child = command.spawn()?;
        let pid = child.id().ok_or_else(|| io::Error::other("it ended at once"))?;
        let process = PidFd::open(pid)?;
        Ok((child, process))
    }

    /// Who the VM is, in the words of its own configuration.
    fn identity(
        &self,
        vm: VmId,
        kind: VmKind,
        size: Resources,
        group: Option<&Group>,
    ) -> Vec<(&'static str, String)> {
        let mut identity = vec![
            ("WINDFALL_VM__ID", vm.to_string()),
            ("WINDFALL_VM__KIND", kind.to_string()),
            ("WINDFALL_VM__SCRATCH", self.ledger.scratch(vm).display().to_string()),
        ];
        match group {
            Some(group) => identity.push(("WINDFALL_VM__CGROUP", group.path().to_owned())),
            None => identity.extend([
                ("WINDFALL_VM__CAPACITY", "fixed".to_owned()),
                ("WINDFALL_VM__CPU", size.cpu.0.to_string()),
                ("WINDFALL_VM__MEMORY", size.memory.0.to_string()),
            ]),
        }
        identity
    }
}

fn confine(house: &Group, vm: VmId, size: Resources) -> Result<Group, sandbox::cgroup::GroupError> {
    let group = house.create_child(&vm.to_string())?;
    group.create_child(AGENT)?;
    group.set_limits(Limits { cpu: Some(size.cpu), memory: Some(size.memory) })?;
    Ok(group)
}

fn enter(doors: &mut [File]) -> io::Result<()> {
    for door in doors {
        door.write_all(b"0")?;
    }
    Ok(())
}

/// A number as text without an allocation.
struct Decimal {
    digits: [u8; 10],
    start: usize,
}

impl Decimal {
    fn of(mut number: u32) -> Self {
        let mut decimal = Self { digits: [b'0'; 10], start: 10 };
        loop {
            decimal.start -= 1;
            decimal.digits[decimal.start] = b'0' + (number % 10) as u8;
            number /= 10;
            if number == 0 {
                return decimal;
            }
        }
    }

    fn as_bytes(&self) -> &[u8] {
        &self.digits[self.start..]
    }
}

#[cfg(test)]
mod tests {
    use super::Decimal;

    #[test]
    fn numbers_are_written_as_anyone_would_write_them() {
        for number in [0, 7, 10, 4_194_304, u32::MAX] {
            assert_eq!(Decimal::of(number).as_bytes(), number.to_string().as_bytes());
        }
    }
}
