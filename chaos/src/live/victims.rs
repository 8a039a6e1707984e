//! What happens to one VM, one process of the house, or the disk of the store.
//!
//! **Promises:** whatever is frozen, cut, resized or filled is put back when the fault ends, also when it is broken off.

use std::collections::BTreeMap;
use std::time::Duration;

use messages::{Evict, FleetVm, subjects};
use sandbox::cgroup::{Group, HOUSE};
use vocabulary::{MilliCores, Span, VmId};

use super::clouds::Ill;
use super::trouble::{Trouble, due, lasts};
use super::{disk, reach};
use crate::clocks;
use crate::faults::{self, Fault, FaultError, Stopped, Target};
use crate::timetable::{CloudStep, DiskStep, Planned, Role, RoleStep, Step, Victim, VmStep};
use crate::wires::Condition;

/// How long a fault waits for somebody whom it may hit; then it is left out.
const VICTIM_PATIENCE: Duration = Duration::from_secs(20);
/// How long a VM may take to answer a notice.
const NOTICE_PATIENCE: Duration = Duration::from_secs(3);
/// The variable in which every process of a cluster carries its mark.
const MARK: &str = "WINDFALL_CLUSTER";
/// Where Resource Monitors write who leads: `resource-monitor-<process id>-<chance>`.
const LEADER: (&str, &str) = ("windfall_fleet", "leader");
/// What was said while somebody did not hear may still be on its way for so long.
const DEAF_AFTER: Span = Span::seconds(3);

/// A VM's size, put back when this is dropped.
struct Size {
    group: Group,
    cpu: MilliCores,
}

impl Drop for Size {
    fn drop(&mut self) {
        // It may be gone meanwhile, and with it its size.
        let _ = self.group.set_cpu(Some(self.cpu));
    }
}

/// A VM that does nothing for as long as this lives: all of it where the kernel can do that, else its agent.
enum Frozen<'a> {
    Whole(Group),
    Agent(#[expect(dead_code, reason = "goes on when it is dropped")] Stopped<'a>),
}

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        if let Self::Whole(group) = self {
            // It may have been killed meanwhile.
            let _ = group.thaw();
        }
    }
}

impl Trouble {
    /// All steps of one fault of a VM.
    pub(super) async fn hit_vm(&self, victim: Victim, steps: &[Planned]) -> Result<(), String> {
        let vm = self.find_vm(victim).await?;
        let done = self.go_through(&vm, steps).await;
        self.locked().busy.remove(&vm.vm);
        done
    }

    async fn go_through(&self, vm: &FleetVm, steps: &[Planned]) -> Result<(), String> {
        let target = self.target(vm.pid)?;
        let begin = tokio::time::Instant::now();
        let (mut frozen, mut size, mut pulled, mut turned, mut ill) = (None, None, None, None, None);
        for (index, planned) in steps.iter().enumerate() {
            let Step::Vm(_, step) = planned.step else { continue };
            due(begin, steps, planned).await;
            match step {
                VmStep::Notice(left) => {
                    self.tell(&format!("notice of {:.1} s to {}", left.as_seconds(), vm.vm));
                    let now = self.clock.now();
                    self.locked().notices.insert(vm.vm, now);
                    self.evict(vm.vm, Some(left)).await?;
                }
                VmStep::CallOff => {
                    self.tell(&format!("notice called off, {}", vm.vm));
                    self.locked().notices.remove(&vm.vm);
                    self.evict(vm.vm, None).await?;
                }
                VmStep::Cloud(step) => {
                    let service = self.clouds.of(vm)?;
                    match step {
                        CloudStep::Notice(left) => {
                            self.tell(&format!(
                                "notice by metadata of {:.1} s to {}",
                                left.as_seconds(),
                                vm.vm
                            ));
                            let now = self.clock.now();
                            self.locked().notices.insert(vm.vm, now);
                            self.locked().by_cloud.entry(vm.vm).or_insert(now);
                            service.evict(left.into());
                        }
                        CloudStep::CallOff => {
                            self.tell(&format!("notice called off by metadata, {}", vm.vm));
                            self.locked().notices.remove(&vm.vm);
                            service.call_off();
                        }
                        CloudStep::Another(left) => {
                            self.tell(&format!("another's notice in the metadata of {}", vm.vm));
                            ill = Some(Ill::of_another(service, left.into()));
                        }
                        CloudStep::Ill(mood) => {
                            self.tell(&format!("{mood:?} metadata for {}", vm.vm));
                            ill = Some(Ill::of(service, mood.temper()));
                        }
                        CloudStep::Well => {
                            self.tell(&format!("true metadata for {}", vm.vm));
                            drop(ill.take());
                        }
                    }
                }
                VmStep::Kill => {
                    self.tell(&format!("end of {}", vm.vm));
                    // Whoever had nothing left to do may have gone before its deadline.
                    match target.hit(Fault::Kill) {
                        Ok(()) | Err(FaultError::Gone { .. }) => {}
                        Err(error) => return Err(error.to_string()),
                    }
                    let now = self.clock.now();
                    self.locked().deaths.insert(vm.vm, now);
                }
                VmStep::Freeze => {
                    self.tell(&format!("freeze {}", vm.vm));
                    frozen = Some(self.freeze(vm, &target)?);
                }
                VmStep::Thaw => {
                    self.tell(&format!("thaw {}", vm.vm));
                    drop(frozen.take());
                }
                VmStep::Wire(Condition::Whole) => {
                    self.tell(&format!("mend the way of {}", vm.vm));
                    drop(pulled.take());
                }
                VmStep::Wire(condition) => {
                    self.tell(&format!("{} {}", wired(condition), vm.vm));
                    if condition == Condition::Cut {
                        pulled = reach::pull(vm)?;
                    }
                    if pulled.is_none() {
                        let lasts = lasts(steps, index);
                        reach::wire(&self.house.nats, &vm.vm.to_string(), condition, lasts).await?;
                    }
                }
                VmStep::Clock(0) => {
                    self.tell(&format!("the right time for {}", vm.vm));
                    drop(turned.take());
                }
                VmStep::Clock(seconds) => {
                    turned = Some(clocks::turn(vm.pid, seconds)?);
                    self.tell(&format!("{seconds:+} s on the clock of {}", vm.vm));
                }
                VmStep::Resize(100) => {
                    self.tell(&format!("its own size for {}", vm.vm));
                    if let Some(Size { cpu, .. }) = size.take() {
                        self.resized(vm.vm, cpu);
                    }
                }
                VmStep::Resize(percent) => {
                    self.tell(&format!("{percent} per cent of its CPU for {}", vm.vm));
                    size = Some(self.resize(vm, percent)?);
                }
            }
        }
        Ok(())
    }

    /// The VM that a victim is; it has it for itself from now on.
    async fn find_vm(&self, victim: Victim) -> Result<FleetVm, String> {
        let until = tokio::time::Instant::now() + VICTIM_PATIENCE;
        loop {
            let mut open = self.house.open_vms().await;
            {
                let mut seen = self.locked();
                open.retain(|vm| {
                    vm.pid > 1 && !seen.busy.contains(&vm.vm) && !seen.deaths.contains_key(&vm.vm)
                });
                if !open.is_empty() {
                    let chosen = open.swap_remove(victim.draw as usize % open.len());
                    seen.busy.insert(chosen.vm);
                    return Ok(chosen);
                }
            }
            if tokio::time::Instant::now() > until {
                return Err("no VM was open that had no other fault".into());
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    fn target(&self, pid: u32) -> Result<Target, String> {
        Target::marked(pid, MARK, &self.house.cluster).map_err(|error| error.to_string())
    }

    async fn evict(&self, vm: VmId, time_left: Option<Span>) -> Result<(), String> {
        let order = messages::encode(&Evict { time_left });
        let asked = self.house.nats.request(subjects::vm_evict(vm), order);
        match tokio::time::timeout(NOTICE_PATIENCE, asked).await {
            Ok(Ok(_)) => Ok(()),
            // A VM that is told that it has no time may be gone before it answers.
            _ if time_left == Some(Span::ZERO) => Ok(()),
            Ok(Err(error)) => Err(format!("{vm} was not told: {error}")),
            Err(_) => Err(format!("{vm} did not answer its notice")),
        }
    }

    fn group(&self, vm: VmId) -> Result<Group, String> {
        Group::open(&format!("{HOUSE}/{}/{vm}", self.house.cluster)).map_err(|error| error.to_string())
    }

    fn freeze<'a>(&self, vm: &FleetVm, target: &'a Target) -> Result<Frozen<'a>, String> {
        // Without control groups a VM is its agent and what that has started.
        if let Ok(group) = self.group(vm.vm)
            && group.freeze().is_ok()
        {
            return Ok(Frozen::Whole(group));
        }
        target.stop().map(Frozen::Agent).map_err(|error| error.to_string())
    }

    fn resize(&self, vm: &FleetVm, percent: u32) -> Result<Size, String> {
        let group = self.group(vm.vm)?;
        let cpu = vm.capacity.cpu;
        let to = MilliCores((u64::from(cpu.0) * u64::from(percent) / 100) as u32);
        self.resized(vm.vm, to);
        group.set_cpu(Some(to)).map_err(|error| error.to_string())?;
        Ok(Size { group, cpu })
    }

    fn resized(&self, vm: VmId, to: MilliCores) {
        let now = self.clock.now();
        self.locked().sizes.push((vm, to, now));
    }

    /// All steps of one fault of a process of the house.
    pub(super) async fn hit_role(&self, role: Role, victim: Victim, steps: &[Planned]) -> Result<(), String> {
        let pid = self.find_process(role, victim).await?;
        let done = self.go_through_role(role, pid, steps).await;
        self.locked().busy_processes.remove(&pid);
        done
    }

    async fn go_through_role(&self, role: Role, pid: u32, steps: &[Planned]) -> Result<(), String> {
        let target = self.target(pid)?;
        let begin = tokio::time::Instant::now();
        let name = role.name();
        let (mut frozen, mut turned) = (None, None);
        for (index, planned) in steps.iter().enumerate() {
            let Step::Role(_, _, step) = planned.step else { continue };
            due(begin, steps, planned).await;
            let now = self.clock.now();
            match step {
                RoleStep::Kill => {
                    target.hit(Fault::Kill).map_err(|error| error.to_string())?;
                    self.tell(&format!("end of the {name}, process {pid}"));
                    if matches!(role, Role::NatsServer | Role::Frontend) {
                        self.locked().breaks.push(now);
                    }
                    if role == Role::Controller {
                        self.locked().lost_controllers.push(now);
                    }
                    if role == Role::NatsServer {
                        // Everybody is deaf until he is connected again.
                        self.locked().deaf.push(now..now + DEAF_AFTER + DEAF_AFTER);
                    }
                }
                RoleStep::Freeze => {
                    self.tell(&format!("freeze the {name}, process {pid}"));
                    self.is_deaf(role, lasts(steps, index));
                    frozen = Some(target.stop().map_err(|error| error.to_string())?);
                }
                RoleStep::Thaw => {
                    self.tell(&format!("thaw the {name}, process {pid}"));
                    drop(frozen.take());
                }
                RoleStep::Clock(0) => {
                    self.tell(&format!("the right time for the {name}, process {pid}"));
                    drop(turned.take());
                }
                RoleStep::Clock(seconds) => {
                    turned = Some(clocks::turn(pid, seconds)?);
                    self.tell(&format!("{seconds:+} s on the clock of the {name}, process {pid}"));
                }
                RoleStep::Wire(Condition::Whole) => {
                    self.tell(&format!("mend the wire of the {name}, process {pid}"));
                }
                RoleStep::Wire(condition) => {
                    self.tell(&format!("{} the {name}, process {pid}", wired(condition)));
                    let lasts = lasts(steps, index);
                    self.is_deaf(role, lasts);
                    if role == Role::Frontend && matches!(condition, Condition::Breaks { .. }) {
                        // A call may be lost on its way in, and nobody can know of it.
                        let moments =
                            (0..=lasts.as_seconds() as u64).map(|second| now + Span::seconds(second));
                        self.locked().breaks.extend(moments);
                    }
                    reach::wire(&self.house.nats, &format!("{name}-{pid}"), condition, lasts).await?;
                }
            }
        }
        Ok(())
    }

    fn is_deaf(&self, role: Role, lasts: Span) {
        let now = self.clock.now();
        if role == Role::Controller {
            self.locked().deaf.push(now..now + lasts + DEAF_AFTER);
        }
    }

    /// The process that a victim is; it has it for itself from now on.
    async fn find_process(&self, role: Role, victim: Victim) -> Result<u32, String> {
        let until = tokio::time::Instant::now() + VICTIM_PATIENCE;
        loop {
            let leader = if role == Role::ResourceMonitor { self.leader().await } else { None };
            let mut found = self.processes(role);
            {
                let mut seen = self.locked();
                found.retain(|pid| !seen.busy_processes.contains(pid));
                let leads = leader.filter(|pid| found.contains(pid));
                let drawn = || found.get(victim.draw as usize % found.len().max(1)).copied();
                if let Some(pid) = leads.or_else(drawn) {
                    seen.busy_processes.insert(pid);
                    return Ok(pid);
                }
            }
            if tokio::time::Instant::now() > until {
                return Err("there is no such process of this cluster on this machine without a fault".into());
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// A role's processes, lowest first.
    fn processes(&self, role: Role) -> Vec<u32> {
        let is_it = |command: &[String]| {
            let program = command.first().and_then(|path| path.rsplit('/').next());
            match role {
                Role::NatsServer => program == Some(role.name()),
                _ => command.get(1).map(String::as_str) == Some(role.name()),
            }
        };
        let marked: BTreeMap<u32, Vec<String>> =
            faults::marked(MARK, &self.house.cluster).into_iter().collect();
        marked.into_iter().filter(|(_, command)| is_it(command)).map(|(pid, _)| pid).collect()
    }

    /// The process of the Resource Monitor that leads.
    async fn leader(&self) -> Option<u32> {
        let context = async_nats::jetstream::new(self.house.nats.clone());
        let asked = async {
            let bucket = context.get_key_value(LEADER.0).await.ok()?;
            bucket.get(LEADER.1).await.ok()?
        };
        let name = tokio::time::timeout(NOTICE_PATIENCE, asked).await.ok()??;
        std::str::from_utf8(&name).ok()?.split('-').nth(2)?.parse().ok()
    }

    /// Waits for the end of a full disk, and notes whether whoever keeps the fleet has said by then that the store takes
    /// nothing. It writes there every second.
    async fn is_said_until(&self, begin: tokio::time::Instant, steps: &[Planned], end: &Planned) {
        let is_said = async {
            while !self.house.store_stalls().await {
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            self.tell("the Resource Monitor says that the store takes nothing");
        };
        if tokio::select! { () = is_said => false, () = due(begin, steps, end) => true } {
            self.locked().full_unsaid += 1;
        }
    }

    /// All steps of one fault of the store's disk.
    pub(super) async fn hit_disk(&self, steps: &[Planned]) -> Result<(), String> {
        let folder = self.house.store.clone().ok_or("the store is not on this machine")?;
        let begin = tokio::time::Instant::now();
        let mut full = None;
        for planned in steps {
            let Step::Disk(_, step) = planned.step else { continue };
            if step == DiskStep::Clear {
                self.is_said_until(begin, steps, planned).await;
            }
            due(begin, steps, planned).await;
            match step {
                DiskStep::Fill => {
                    self.tell("fill the disk of the store");
                    let folder = folder.clone();
                    let filled = tokio::task::spawn_blocking(move || disk::fill(&folder)).await;
                    full = Some(filled.map_err(|error| error.to_string())??);
                }
                DiskStep::Clear => {
                    self.tell("clear the disk of the store");
                    drop(full.take());
                    // `up` starts a nats-server again that could not write.
                    let now = self.clock.now();
                    let mut seen = self.locked();
                    seen.breaks.push(now);
                    seen.deaf.push(now..now + DEAF_AFTER + DEAF_AFTER);
                }
            }
        }
        Ok(())
    }
}

fn wired(condition: Condition) -> String {
    match condition {
        Condition::Whole => "mend".into(),
        Condition::Cut => "cut off".into(),
        Condition::Slow { from_ms, to_ms } => format!("{from_ms} to {to_ms} ms on the way of"),
        Condition::Breaks { from_ms, to_ms } => {
            format!("break each {from_ms} to {to_ms} ms the connection of")
        }
    }
}
