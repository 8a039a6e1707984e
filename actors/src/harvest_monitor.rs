//! The Harvest Monitor: sees what its VM has, and when it must go.
//!
//! **Lives:** once per VM, beside the Invoker.
//! **Hears:** the machine itself (control groups, online CPUs, memory, Hyper-V) 20 times a second, and its
//! [`NoticeSource`]s.
//! **Says:** [`Seen`] to the Invoker at once on a change; [`messages::Notice`] to Controllers and the Resource
//! Monitor; to its sources, that nothing runs here any more. The VM's report is the Invoker's, which also knows what
//! runs.
//! **Owns:** a [`Capacity`] and the gauges of the machine.
//! **If it dies:** its supervisor starts it again, and it says all it sees anew. Nothing is lost: capacity is read
//! from the machine, and which notice stands is kept in a [`Standing`] that outlives it.

mod capacity;
mod kvp;
mod machine;
mod notice;

pub use capacity::{Capacity, CapacityError};
pub use notice::{
    Aws, Azure, Gcp, Metadata, NoticeSource, Noticed, Operator, Said, Sigterm, Standing, of_cloud,
};

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use messages::{Hindrance, Notice, subjects};
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, SpawnErr};
use tokio::sync::watch;
use tokio::task::JoinSet;
use vocabulary::{Resources, Span, VmId};

use crate::bus::Bus;
use crate::intake;
use crate::metrics::{InvokerMetrics, Machine};
use crate::settings;
use machine::MachineReader;
use notice::Change;

/// How often the machine's gauges are read, and a notice is repeated.
const SECOND: Duration = Duration::from_secs(1);

/// A notice is said so often: core NATS may lose a message, and nothing else says it as early.
const NOTICE_REPEATS: u32 = 3;

/// The VM has so much from now on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CapacityChanged(pub Resources);

/// What the Harvest Monitor tells its VM's Invoker. May say the same twice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// Said at the start, at once on every change, and again every second.
    Capacity(CapacityChanged),
    /// Every second: what limits the VM, and what kept it from working since the last time.
    Machine {
        /// As in [`messages::Report::capacity_source`].
        source: String,
        /// As in [`messages::Report::hindrance`].
        hindrance: Hindrance,
    },
    /// The VM will be evicted, or not after all.
    Noticed(Noticed),
    /// It may be evicted, nobody knows when, and `vm.on_rebalance` says to make room for that.
    MayEnd,
}

/// How to reach the Invoker. A function, so that a restarted Invoker is found again.
pub type Tell = Arc<dyn Fn(Seen) + Send + Sync>;

/// What a Harvest Monitor is started with, and started again with.
#[derive(Clone)]
pub struct Arguments {
    /// Whose machine this is.
    pub vm: VmId,
    /// Where capacity is read, and the VM's group.
    pub settings: settings::Vm,
    /// For notices.
    pub bus: Bus,
    /// Where the machine's gauges are kept.
    pub metrics: Arc<InvokerMetrics>,
    /// Who may announce an eviction.
    pub sources: Vec<Arc<dyn NoticeSource>>,
    /// What they have said.
    pub standing: Arc<Mutex<Standing>>,
    /// Whether the VM takes nothing new and nothing runs on it any more.
    pub drained: watch::Receiver<bool>,
    /// The Invoker.
    pub tell: Tell,
}

/// Everything that a Harvest Monitor hears.
#[derive(Debug, Clone)]
pub enum Input {
    /// It is time to look.
    Look,
    /// A source, by its place, says that the VM will be evicted, or that it will not be.
    Said(usize, Said),
    /// Nothing runs on the VM any more, or something does again.
    Drained(bool),
}

/// Its name for the supervisor's logs.
pub const NAME: &str = "harvest monitor";

/// Starts it under a supervisor.
pub async fn spawn_linked(arguments: Arguments, supervisor: ActorCell) -> Result<ActorRef<Input>, SpawnErr> {
    let (actor, _) = Actor::spawn_linked(None, HarvestMonitor, arguments, supervisor).await?;
    Ok(actor)
}

/// The actor; everything it knows is in its [`Shell`].
pub struct HarvestMonitor;

/// What it knows while it lives.
pub struct Shell {
    arguments: Arguments,
    capacity: Capacity,
    machine: MachineReader,
    seen: Option<Resources>,
    gauges_read: Option<Instant>,
    before: Option<Machine>,
    notice: Option<Given>,
    is_drained: bool,
    /// Ends its tasks with it.
    ears: JoinSet<()>,
}

/// A notice that was given, and how often it has been passed on.
struct Given {
    noticed: Noticed,
    deadline: Option<Instant>,
    said: u32,
    last: Instant,
}

impl Actor for HarvestMonitor {
    type Msg = Input;
    type State = Shell;
    type Arguments = Arguments;

    async fn pre_start(
        &self,
        me: ActorRef<Input>,
        arguments: Arguments,
    ) -> Result<Shell, ActorProcessingErr> {
        let capacity = Capacity::of(&arguments.settings)?;
        tracing::info!(vm = %arguments.vm, "capacity is {}", capacity.describe());
        let mut ears = JoinSet::new();
        for (place, source) in arguments.sources.iter().enumerate() {
            let (source, me) = (source.clone(), me.clone());
            ears.spawn(async move {
                loop {
                    let said = source.next().await;
                    if me.cast(Input::Said(place, said)).is_err() {
                        return;
                    }
                }
            });
        }
        let (mut drained, listener) = (arguments.drained.clone(), me.clone());
        ears.spawn(async move {
            while drained.changed().await.is_ok() {
                let is_drained = *drained.borrow_and_update();
                if listener.cast(Input::Drained(is_drained)).is_err() {
                    return;
                }
            }
        });
        let poll = Duration::from_millis(arguments.settings.capacity_poll_ms.max(1));
        ears.spawn(intake::tick(me, poll, || Input::Look));
        let machine = MachineReader::open(capacity.group().cloned());
        let is_drained = *arguments.drained.borrow();
        let mut shell = Shell {
            is_drained,
            arguments,
            capacity,
            machine,
            seen: None,
            gauges_read: None,
            before: None,
            notice: None,
            ears,
        };
        // What was said to the one before.
        let stands = shell.standing().now(Instant::now());
        if let Some(noticed) = stands {
            shell.notice(noticed).await;
        }
        Ok(shell)
    }

    async fn handle(
        &self,
        _me: ActorRef<Input>,
        input: Input,
        shell: &mut Shell,
    ) -> Result<(), ActorProcessingErr> {
        match input {
            Input::Look => {
                shell.look();
                shell.repeat_notice().await;
            }
            Input::Said(place, said) => shell.said(place, said).await,
            Input::Drained(is_drained) => {
                shell.is_drained = is_drained;
                shell.tell_sources_when_drained();
            }
        }
        Ok(())
    }
}

impl Shell {
    fn look(&mut self) {
        let now = self.capacity.read();
        let is_second = self.gauges_read.is_none_or(|last| last.elapsed() >= SECOND);
        if self.seen != Some(now) {
            if let Some(before) = self.seen {
                tracing::info!(vm = %self.arguments.vm, %before, %now, "capacity has changed");
            }
            self.seen = Some(now);
            self.arguments.metrics.capacity(now);
            (self.arguments.tell)(Seen::Capacity(CapacityChanged(now)));
        } else if is_second {
            // Again, for an Invoker that was started anew meanwhile.
            (self.arguments.tell)(Seen::Capacity(CapacityChanged(now)));
        }
        if is_second {
            self.gauges_read = Some(Instant::now());
            let machine = self.machine.read();
            self.arguments.metrics.machine(&machine);
            let hindrance = hindrance(self.before.as_ref().unwrap_or(&machine), &machine);
            self.before = Some(machine);
            (self.arguments.tell)(Seen::Machine { source: self.capacity.source(), hindrance });
        }
    }

    fn standing(&self) -> std::sync::MutexGuard<'_, Standing> {
        self.arguments.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn said(&mut self, place: usize, said: Said) {
        let Some(source) = self.arguments.sources.get(place).map(|source| source.name()) else { return };
        let change = self.standing().heard(Instant::now(), place, source, said);
        match change {
            Change::None => {}
            Change::Notice(noticed) => self.notice(noticed).await,
            Change::Soft(source) => {
                let vm = self.arguments.vm;
                tracing::warn!(%vm, source, action = self.arguments.settings.on_rebalance, "this VM may be evicted soon");
                self.arguments.metrics.soft_noticed();
                if self.arguments.settings.on_rebalance == "drain" {
                    (self.arguments.tell)(Seen::MayEnd);
                }
            }
        }
    }

    /// Whoever waits for us to be done, waits no longer.
    fn tell_sources_when_drained(&mut self) {
        let has_notice = self.notice.as_ref().is_some_and(|given| given.noticed.time_left.is_some());
        if !self.is_drained || !has_notice {
            return;
        }
        for source in self.arguments.sources.clone() {
            self.ears.spawn(async move { source.drained().await });
        }
    }

    async fn notice(&mut self, noticed: Noticed) {
        let vm = self.arguments.vm;
        match noticed.time_left {
            Some(left) => tracing::warn!(%vm, source = noticed.source, %left, "this VM will be evicted"),
            None => tracing::info!(%vm, source = noticed.source, "the eviction was called off"),
        }
        if noticed.time_left.is_some() {
            self.arguments.metrics.noticed();
        }
        (self.arguments.tell)(Seen::Noticed(noticed.clone()));
        let now = Instant::now();
        let deadline = noticed.time_left.map(|left| now + Duration::from(left));
        self.notice = Some(Given { noticed, deadline, said: 0, last: now });
        self.say_notice().await;
        self.tell_sources_when_drained();
    }

    async fn repeat_notice(&mut self) {
        if self.notice.as_ref().is_some_and(|n| n.said < NOTICE_REPEATS && n.last.elapsed() >= SECOND) {
            self.say_notice().await;
        }
    }

    async fn say_notice(&mut self) {
        let vm = self.arguments.vm;
        let Some(given) = &mut self.notice else { return };
        given.said += 1;
        given.last = Instant::now();
        let left = given.deadline.map(|deadline| Span::from(deadline.saturating_duration_since(given.last)));
        let notice = Notice { vm, time_left: left, source: given.noticed.source.to_owned() };
        self.arguments.bus.send(subjects::vm_notice(vm), &notice).await;
    }
}

/// What was lost from one look to the next.
fn hindrance(before: &Machine, now: &Machine) -> Hindrance {
    Hindrance {
        stolen: now.stolen - before.stolen,
        throttled: now.throttled - before.throttled,
        cpu_pressure: now.cpu_pressure - before.cpu_pressure,
        memory_pressure: now.memory_pressure - before.memory_pressure,
    }
}
