//! The Harvest Monitor: sees what its VM has, and when it must go.
//!
//! **Lives:** once per VM, beside the Invoker.
//! **Hears:** the machine itself (control groups, online CPUs, memory) 20 times a second, and its
//! [`NoticeSource`]s.
//! **Says:** [`Seen`] to the Invoker at once on a change; [`messages::Notice`] to Controllers and the Resource
//! Monitor. The VM's report is the Invoker's, which also knows what runs.
//! **Owns:** a [`Capacity`] and the gauges of the machine.
//! **If it dies:** its supervisor starts it again, and it says all it sees anew. Nothing is lost: capacity is read
//! from the machine, and a notice that was given is given again to the new one by its source, or stands in the
//! VM's reports as `draining`.

mod capacity;
mod machine;
mod notice;

pub use capacity::{Capacity, CapacityError};
pub use notice::{NoticeSource, Noticed, Sigterm};

use std::sync::Arc;
use std::time::{Duration, Instant};

use messages::{Notice, subjects};
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, SpawnErr};
use tokio::task::JoinSet;
use vocabulary::{Resources, Span, VmId};

use crate::bus::Bus;
use crate::intake;
use crate::metrics::InvokerMetrics;
use crate::settings;
use machine::MachineReader;

/// How often the machine is looked at. A look costs some tens of microseconds.
pub const POLL: Duration = Duration::from_millis(50);

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
    /// The VM will be evicted, or not after all.
    Noticed(Noticed),
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
    /// The Invoker.
    pub tell: Tell,
}

/// Everything that a Harvest Monitor hears.
#[derive(Debug, Clone)]
pub enum Input {
    /// It is time to look.
    Look,
    /// A source says that the VM will be evicted, or that it will not be.
    Noticed(Noticed),
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
    notice: Option<Given>,
    /// Ends its tasks with it.
    _ears: JoinSet<()>,
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
        for source in &arguments.sources {
            let (source, me) = (source.clone(), me.clone());
            ears.spawn(async move {
                loop {
                    let noticed = source.next().await;
                    if me.cast(Input::Noticed(noticed)).is_err() {
                        return;
                    }
                }
            });
        }
        ears.spawn(intake::tick(me, POLL, || Input::Look));
        let machine = MachineReader::open(capacity.group().cloned());
        let shell =
            Shell { arguments, capacity, machine, seen: None, gauges_read: None, notice: None, _ears: ears };
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
            Input::Noticed(noticed) => shell.notice(noticed).await,
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
            self.arguments.metrics.machine(&self.machine.read());
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
