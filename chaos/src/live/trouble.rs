//! Makes what the timetable says.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use messages::{Evict, FleetVm, subjects};
use sandbox::cgroup::{Group, HOUSE};
use tokio::task::JoinSet;
use vocabulary::{MilliCores, Span, VmId};

use super::{Clock, House};
use crate::faults::{self, Fault, Target};
use crate::timetable::{Planned, Role, Step, Victim, VmStep};

/// How long a fault waits for a VM that it may hit; then it is left out.
const VICTIM_PATIENCE: Duration = Duration::from_secs(20);
/// How long a VM may take to answer a notice.
const NOTICE_PATIENCE: Duration = Duration::from_secs(3);
/// The variable in which every process of a cluster carries its mark.
const MARK: &str = "WINDFALL_CLUSTER";

/// What was done.
#[derive(Debug, Default, Clone)]
pub(super) struct Seen {
    /// When each VM was gone.
    pub deaths: BTreeMap<VmId, Span>,
    /// When a process was killed with which connections break: of calls that were open then, nobody can know.
    pub breaks: Vec<Span>,
    /// Faults that were made.
    pub made: u32,
    /// Faults that were left out, each with its reason.
    pub left_out: Vec<String>,
    /// When the last one came.
    pub last_fault: Option<Span>,
    /// VMs that a fault has.
    busy: BTreeSet<VmId>,
}

#[derive(Clone)]
pub(super) struct Trouble {
    house: House,
    clock: Clock,
    seen: Arc<Mutex<Seen>>,
    say: Arc<dyn Fn(String) + Send + Sync>,
}

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

impl Trouble {
    pub fn new(house: House, clock: Clock, say: Arc<dyn Fn(String) + Send + Sync>) -> Self {
        Self { house, clock, seen: Arc::default(), say }
    }

    pub fn seen(&self) -> Seen {
        self.locked().clone()
    }

    fn locked(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes all of it, and comes back when it is over.
    pub async fn make(&self, list: &[Planned], length: Duration) {
        let began = tokio::time::Instant::now();
        let mut victims: BTreeMap<Victim, Vec<(Span, VmStep)>> = BTreeMap::new();
        let mut tasks = JoinSet::new();
        for planned in list {
            match planned.step {
                Step::Vm(victim, step) => victims.entry(victim).or_default().push((planned.at, step)),
                Step::KillRole(role) => {
                    let this = self.clone();
                    let at = began + planned.at.into();
                    tasks.spawn(async move {
                        tokio::time::sleep_until(at).await;
                        let done = this.kill_role(role);
                        this.note(role.name(), done);
                    });
                }
            }
        }
        for (victim, steps) in victims {
            let this = self.clone();
            tasks.spawn(async move {
                tokio::time::sleep_until(began + steps[0].0.into()).await;
                let name = format!("victim {}", victim.number);
                let done = this.hit(victim, &steps).await;
                this.note(&name, done);
            });
        }
        while tasks.join_next().await.is_some() {}
        tokio::time::sleep_until(began + length).await;
    }

    /// Writes down how a fault went.
    fn note(&self, who: &str, done: Result<(), String>) {
        let now = self.clock.now();
        let mut seen = self.locked();
        seen.last_fault = Some(now);
        match done {
            Ok(()) => seen.made += 1,
            Err(why) => {
                (self.say)(format!("{:>8.3} s  left out, {who}: {why}", now.as_seconds()));
                seen.left_out.push(format!("{who}: {why}"));
            }
        }
    }

    fn tell(&self, what: &str, vm: VmId) {
        (self.say)(format!("{:>8.3} s  {what} {vm}", self.clock.now().as_seconds()));
    }

    /// All steps of one fault.
    async fn hit(&self, victim: Victim, steps: &[(Span, VmStep)]) -> Result<(), String> {
        let vm = self.find(victim).await?;
        let done = self.go_through(&vm, steps).await;
        self.locked().busy.remove(&vm.vm);
        done
    }

    async fn go_through(&self, vm: &FleetVm, steps: &[(Span, VmStep)]) -> Result<(), String> {
        let target = self.target(vm)?;
        let begin = tokio::time::Instant::now();
        let mut frozen = None;
        let mut size = None;
        for (at, step) in steps {
            tokio::time::sleep_until(begin + Span(at.0 - steps[0].0.0).into()).await;
            match step {
                VmStep::Notice(left) => {
                    self.tell(&format!("notice of {:.1} s to", left.as_seconds()), vm.vm);
                    self.evict(vm.vm, Some(*left)).await?;
                }
                VmStep::CallOff => {
                    self.tell("notice called off,", vm.vm);
                    self.evict(vm.vm, None).await?;
                }
                VmStep::Kill => {
                    self.tell("end of", vm.vm);
                    // Whoever had nothing left to do may have gone before its deadline.
                    match target.hit(Fault::Kill) {
                        Ok(()) | Err(faults::FaultError::Gone { .. }) => {}
                        Err(error) => return Err(error.to_string()),
                    }
                    let now = self.clock.now();
                    self.locked().deaths.insert(vm.vm, now);
                }
                VmStep::Freeze => {
                    self.tell("freeze", vm.vm);
                    frozen = Some(target.stop().map_err(|error| error.to_string())?);
                }
                VmStep::Thaw => {
                    self.tell("thaw", vm.vm);
                    drop(frozen.take());
                }
                VmStep::Resize(100) => {
                    self.tell("its own size for", vm.vm);
                    drop(size.take());
                }
                VmStep::Resize(percent) => {
                    self.tell(&format!("{percent} per cent of its CPU for"), vm.vm);
                    size = Some(self.resize(vm, *percent)?);
                }
            }
        }
        Ok(())
    }

    /// The VM that a victim is; it has it for itself from now on.
    async fn find(&self, victim: Victim) -> Result<FleetVm, String> {
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

    fn target(&self, vm: &FleetVm) -> Result<Target, String> {
        Target::marked(vm.pid, MARK, &self.house.cluster).map_err(|error| error.to_string())
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

    fn resize(&self, vm: &FleetVm, percent: u32) -> Result<Size, String> {
        let group =
            Group::open(&format!("{HOUSE}/{}/{}", self.house.cluster, vm.vm)).map_err(|e| e.to_string())?;
        let cpu = vm.capacity.cpu;
        let to = MilliCores((u64::from(cpu.0) * u64::from(percent) / 100) as u32);
        group.set_cpu(Some(to)).map_err(|error| error.to_string())?;
        Ok(Size { group, cpu })
    }

    fn kill_role(&self, role: Role) -> Result<(), String> {
        let processes = faults::marked(MARK, &self.house.cluster);
        let is_it = |command: &[String]| {
            let program = command.first().and_then(|path| path.rsplit('/').next());
            match role {
                Role::NatsServer => program == Some(role.name()),
                _ => command.get(1).map(String::as_str) == Some(role.name()),
            }
        };
        let found = processes.into_iter().find(|(_, command)| is_it(command));
        let (pid, _) = found.ok_or("it is not a process of this cluster on this machine")?;
        let target = Target::marked(pid, MARK, &self.house.cluster).map_err(|error| error.to_string())?;
        target.hit(Fault::Kill).map_err(|error| error.to_string())?;
        let now = self.clock.now();
        (self.say)(format!("{:>8.3} s  end of the {}", now.as_seconds(), role.name()));
        if matches!(role, Role::NatsServer | Role::Frontend) {
            self.locked().breaks.push(now);
        }
        Ok(())
    }
}
