//! The Resource Monitor: keeps the fleet at its target.
//!
//! **Lives:** once per cluster: in the [`Candidate`] that leads.
//! **Hears:** reports and notices of VMs, the provider's news, questions for the list of the fleet.
//! **Says:** launch and retire to the provider; the list; and to the Controllers, when the provider knows before
//! anyone else that a VM has ended, a notice without time left.
//! **Owns:** one [`Provisioning`]; what it decides is written there, not here.
//! **If it dies:** VMs live on. The next one learns of them from the provider and their reports; ids are counted in
//! KV, so that none is used twice.
//!
//! A VM is silent only while we listen: as long as NATS is away, time stands still here, or a restart of the server
//! would end the whole fleet.

mod candidate;
mod fleet;
mod ids;
mod lease;

pub use candidate::{Candidate, CandidateArguments, Election, Open, Opened};
pub use ids::IdError;
pub use lease::LEASE;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use messages::{Demanded, Drain, Notice, Report, subjects};
use policies::provisioning::{self, Input as Fact, Output, Provisioning, RetireWhy, Target};
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, SpawnErr};
use tokio::task::JoinSet;
use vocabulary::{Resources, Span, VmId, VmKind};

use crate::bus::Bus;
use crate::clock::Clock;
use crate::intake;
use crate::listening::Listening;
use crate::metrics::ResourceMonitorMetrics;
use crate::providers::{Provider, ProviderError};
use crate::settings::Settings;
use fleet::Fleet;
use ids::Ids;

/// How often it looks whether something is due.
const TICK: Duration = Duration::from_millis(100);
/// Ticks between two looks at the fleet as a whole.
const TICKS_PER_GAUGES: u64 = 10;
/// Ticks between two questions to the provider which VMs there are.
const TICKS_PER_LIST: u64 = 50;

/// A VM that has not reported for this many times the Controllers' patience is ended and replaced: it costs
/// nothing to wait, since nobody sends work there any more, and it may only be slow.
const PATIENCE: u64 = 5;

/// What a Resource Monitor is started with, and started again with.
#[derive(Clone)]
pub struct Arguments {
    /// Its part of the configuration, and the Controllers' patience.
    pub settings: Settings,
    /// Where VMs are heard.
    pub bus: Bus,
    /// Where VMs come from; none where they are started by hand: then it only listens.
    pub provider: Option<Arc<dyn Provider>>,
    /// What it counts.
    pub metrics: Arc<ResourceMonitorMetrics>,
}

/// Everything that a Resource Monitor hears.
#[derive(Debug)]
pub enum Input {
    /// A VM described itself.
    Reported(Box<Report>),
    /// A VM will be evicted, or will not be after all.
    Noticed(Notice),
    /// The provider's answer to the question which VMs there are.
    Listed(Result<Vec<VmId>, ProviderError>),
    /// The provider says that a VM has ended.
    Ended(VmId),
    /// The provider's answer to an order to start a VM.
    Launched(VmId, Result<(), String>),
    /// The provider's answer to an order to end one.
    Retired(VmId, Result<(), String>),
    /// We still lead: this VM may be ended.
    Confirmed(VmId),
    /// Somebody wants the list of the fleet, at this subject.
    ListAsked(String),
    /// There should be more or fewer VMs from now on.
    Target(Target),
    /// A Controller sums up what it is asked for.
    Demanded(Demanded),
    /// Another Resource Monitor has opened the count of VMs since: it leads, or an acknowledgement was lost.
    Superseded,
    /// Time has passed.
    Tick,
}

/// Its name for the supervisor's logs.
pub const NAME: &str = "resource monitor";

/// Starts it under a supervisor.
pub async fn spawn_linked(arguments: Arguments, supervisor: ActorCell) -> Result<ActorRef<Input>, SpawnErr> {
    let (actor, _) = Actor::spawn_linked(None, ResourceMonitor, arguments, supervisor).await?;
    Ok(actor)
}

/// The target that the configuration names.
pub fn target(settings: &Settings) -> Result<Target, String> {
    let monitor = &settings.resource_monitor;
    let kind = monitor.kind.parse().map_err(|error| format!("resource_monitor.kind: {error}"))?;
    Ok(Target { vms: monitor.vms, kind, size: Resources::new(monitor.cpu, monitor.memory) })
}

/// The mind that the configuration wants.
fn mind(settings: &Settings, target: Target, first_free: u64) -> Result<Provisioning, String> {
    let monitor = &settings.resource_monitor;
    let constants = provisioning::Settings {
        vm_silence: Span::millis(settings.controller.vm_silence_ms).scaled(PATIENCE, 1),
        launch_patience: Span::millis(monitor.launch_patience_ms),
        ..provisioning::Settings::default()
    };
    let mind = Provisioning::new(constants, target, first_free);
    if monitor.fleet == "count" {
        return Ok(mind);
    }
    let size = Resources::new(monitor.cpu, monitor.memory);
    let limits = policies::fleet::Settings {
        least: Resources::new(monitor.least_cpu, monitor.least_memory),
        most: Resources::new(monitor.most_cpu, monitor.most_memory),
        regular: size,
        harvest: size,
        price_harvest: monitor.harvest_price,
        budget: monitor.budget,
        idle_for: Span::millis(monitor.idle_for_ms),
        ..policies::fleet::Settings::default()
    };
    let rule = policies::fleet::by_name(&monitor.fleet, &limits)
        .ok_or_else(|| format!("resource_monitor.fleet: there is no '{}'", monitor.fleet))?;
    Ok(mind.with_rule(rule))
}

/// The actor; everything it knows is in its [`Shell`].
pub struct ResourceMonitor;

/// What it knows while it lives.
pub struct Shell {
    arguments: Arguments,
    me: ActorRef<Input>,
    mind: Provisioning,
    target: Target,
    fleet: Fleet,
    ids: Option<Ids>,
    listening: Listening,
    /// VMs that should have been ended and were not; tried again as long as the provider lists them.
    owed: BTreeSet<VmId>,
    ticks: u64,
    /// Orders on their way, and who listens; they end with it. The provider finishes what it has begun.
    tasks: JoinSet<()>,
}

impl Actor for ResourceMonitor {
    type Msg = Input;
    type State = Shell;
    type Arguments = Arguments;

    async fn pre_start(
        &self,
        me: ActorRef<Input>,
        arguments: Arguments,
    ) -> Result<Shell, ActorProcessingErr> {
        let target = target(&arguments.settings)?;
        let mut ids = None;
        let mut first_free = 1;
        if let Some(provider) = &arguments.provider {
            let counted = Ids::open(&arguments.bus, arguments.settings.store.replicas).await?;
            let highest = provider.list().await?.into_iter().max();
            first_free = counted.first_free().await.max(highest.map_or(1, |vm| vm.0.saturating_add(1)));
            ids = Some(counted);
        }
        let mut tasks = JoinSet::new();
        listen(&mut tasks, &me, &arguments).await?;
        let mut shell = Shell {
            mind: mind(&arguments.settings, target, first_free)?,
            me,
            target,
            fleet: Fleet::default(),
            ids,
            listening: Listening::new(arguments.bus.clone(), Clock::start()),
            owed: BTreeSet::new(),
            ticks: 0,
            tasks,
            arguments,
        };
        shell.ask_provider();
        Ok(shell)
    }

    async fn handle(
        &self,
        _me: ActorRef<Input>,
        input: Input,
        shell: &mut Shell,
    ) -> Result<(), ActorProcessingErr> {
        let now = shell.listening.now();
        let metrics = shell.arguments.metrics.clone();
        match input {
            Input::Reported(report) => {
                metrics.report_heard();
                let status = report.status.clone();
                match shell.fleet.reported(now, *report) {
                    fleet::Heard::Old => return Ok(()),
                    fleet::Heard::First { after } => {
                        after.into_iter().for_each(|after| metrics.first_report(after));
                    }
                    fleet::Heard::Again => {}
                }
                shell.decide(Fact::VmReported(status));
            }
            Input::Noticed(notice) if notice.source != SOURCE => {
                metrics.noticed();
                let deadline = notice.time_left.map(|left| now + left);
                shell.decide(Fact::VmNoticed { vm: notice.vm, deadline });
            }
            Input::Noticed(_) => {} // Our own.
            Input::Listed(Ok(vms)) => {
                shell.fleet.keep_listed(now, &vms);
                shell.owed.retain(|vm| vms.contains(vm));
                for vm in std::mem::take(&mut shell.owed) {
                    shell.order_end(vm);
                }
                shell.decide(Fact::Listed(vms));
            }
            Input::Listed(Err(error)) => tracing::warn!(%error, "cannot learn which VMs there are"),
            Input::Ended(vm) => shell.ended(vm).await,
            Input::Launched(vm, Ok(())) => tracing::debug!(%vm, "a VM is starting"),
            Input::Launched(vm, Err(reason)) => {
                tracing::warn!(%vm, reason, "a VM could not be started");
                metrics.launch_failed();
                shell.fleet.gone(vm);
                shell.decide(Fact::LaunchFailed(vm));
            }
            Input::Retired(vm, Ok(())) => shell.fleet.gone(vm),
            Input::Retired(vm, Err(reason)) => {
                tracing::error!(%vm, reason, "a VM could not be ended and will be tried again");
                shell.owed.insert(vm);
            }
            Input::Confirmed(vm) => shell.order_end(vm),
            Input::ListAsked(reply) => shell.arguments.bus.send(reply, &shell.fleet.list(now)).await,
            Input::Target(target) => {
                shell.target = target;
                shell.decide(Fact::Target(target));
            }
            Input::Demanded(Demanded { controller, demand }) => {
                shell.decide(Fact::Demanded { controller, demand });
            }
            // Started anew, we wait until we lead.
            Input::Superseded => return Err("another Resource Monitor may lead".into()),
            Input::Tick => shell.tick(),
        }
        Ok(())
    }
}

/// How our own notices are signed.
pub const SOURCE: &str = "provider";

impl Shell {
    /// Lets the mind handle a fact, and carries out what it asks for.
    fn decide(&mut self, fact: Fact) {
        if self.arguments.provider.is_none() {
            return;
        }
        let mut outputs = Vec::new();
        let now = self.listening.now();
        self.mind.handle(now, fact, &mut outputs);
        for output in outputs {
            match output {
                Output::Launch { vm, kind, size } => self.launch(vm, kind, size),
                Output::Drain { vm } => self.drain(vm),
                Output::Retire { vm, why } => self.retire(vm, why),
            }
        }
    }

    fn launch(&mut self, vm: VmId, kind: VmKind, size: Resources) {
        let (Some(provider), Some(ids)) = (self.arguments.provider.clone(), self.ids.clone()) else { return };
        tracing::info!(%vm, ?kind, %size, "starting a VM");
        self.arguments.metrics.launched();
        let now = self.listening.now();
        self.fleet.launched(now, vm, kind);
        let me = self.me.clone();
        self.tasks.spawn(async move {
            let launched = match ids.take(vm).await {
                Ok(()) => provider.launch(vm, kind, size).await.map_err(|error| error.to_string()),
                Err(error) => {
                    if matches!(error, IdError::Superseded) {
                        let _ = me.cast(Input::Superseded);
                    }
                    Err(error.to_string())
                }
            };
            // Who is gone learns it from the provider when it is back.
            let _ = me.cast(Input::Launched(vm, launched));
        });
    }

    fn retire(&mut self, vm: VmId, why: RetireWhy) {
        match why {
            RetireWhy::Ended => tracing::debug!(%vm, "clearing away what is left of a VM"),
            RetireWhy::Silent => tracing::warn!(%vm, "a VM is silent and will be ended"),
            RetireWhy::Surplus => tracing::info!(%vm, "ending a VM that is not needed"),
        }
        self.arguments.metrics.retired(why);
        if why == RetireWhy::Ended {
            return self.order_end(vm);
        }
        // Somebody who was asleep, and led before, must not end what his successor counts on.
        let (Some(ids), me) = (self.ids.clone(), self.me.clone()) else { return };
        self.tasks.spawn(async move {
            let message = match ids.confirm().await {
                Ok(()) => Input::Confirmed(vm),
                Err(IdError::Superseded) => Input::Superseded,
                Err(error) => Input::Retired(vm, Err(error.to_string())),
            };
            let _ = me.cast(message);
        });
    }

    /// It is retired when it has reported that nothing runs there any more.
    fn drain(&mut self, vm: VmId) {
        tracing::info!(%vm, "a VM that is not needed shall finish what it has");
        let bus = self.arguments.bus.clone();
        self.tasks.spawn(async move {
            bus.send(subjects::vm_drain(vm), &Drain { then_leave: false }).await;
        });
    }

    fn order_end(&mut self, vm: VmId) {
        let Some(provider) = self.arguments.provider.clone() else { return };
        let me = self.me.clone();
        self.tasks.spawn(async move {
            let retired = provider.retire(vm).await.map_err(|error| error.to_string());
            let _ = me.cast(Input::Retired(vm, retired));
        });
    }

    /// The provider is the first to know, and certain: nothing of that VM runs any more.
    async fn ended(&mut self, vm: VmId) {
        self.arguments.metrics.ended();
        self.fleet.gone(vm);
        let notice = Notice { vm, time_left: Some(Span::ZERO), source: SOURCE.to_owned() };
        self.arguments.bus.send(subjects::vm_notice(vm), &notice).await;
        self.decide(Fact::VmEnded(vm));
    }

    fn tick(&mut self) {
        let now = self.listening.now();
        if self.mind.next_wakeup().is_some_and(|due| due <= now) {
            self.decide(Fact::Woke);
        }
        while self.tasks.try_join_next().is_some() {}
        self.ticks += 1;
        if self.ticks.is_multiple_of(TICKS_PER_GAUGES) {
            let sums = self.fleet.sums();
            self.arguments.metrics.fleet(
                self.target.vms,
                sums.reporting,
                sums.starting,
                sums.capacity,
                sums.used,
            );
        }
        if self.ticks.is_multiple_of(TICKS_PER_LIST) {
            self.ask_provider();
        }
    }

    fn ask_provider(&mut self) {
        let now = self.listening.now();
        let Some(provider) = self.arguments.provider.clone() else {
            self.fleet.keep_listed(now, &[]);
            return;
        };
        let me = self.me.clone();
        self.tasks.spawn(async move {
            let _ = me.cast(Input::Listed(provider.list().await));
        });
    }
}

/// Turns what others say into inputs, until the actor is gone.
async fn listen(
    tasks: &mut JoinSet<()>,
    me: &ActorRef<Input>,
    arguments: &Arguments,
) -> Result<(), async_nats::SubscribeError> {
    let client = arguments.bus.client();
    let mut reports = client.subscribe(subjects::REPORTS).await?;
    let mut notices = client.subscribe(subjects::NOTICES).await?;
    let mut questions = client.subscribe(subjects::FLEET_LIST).await?;
    let (actor, metrics) = (me.clone(), arguments.metrics.clone());
    tasks.spawn(async move {
        while let Some(message) = reports.next().await {
            let Some(report) = intake::read::<Report>(&message, &metrics.common) else { continue };
            if actor.cast(Input::Reported(Box::new(report))).is_err() {
                return;
            }
        }
    });
    let (actor, metrics) = (me.clone(), arguments.metrics.clone());
    tasks.spawn(async move {
        while let Some(message) = notices.next().await {
            let Some(notice) = intake::read::<Notice>(&message, &metrics.common) else { continue };
            if actor.cast(Input::Noticed(notice)).is_err() {
                return;
            }
        }
    });
    let mut demands = client.subscribe(subjects::DEMANDS).await?;
    let (actor, metrics) = (me.clone(), arguments.metrics.clone());
    tasks.spawn(async move {
        while let Some(message) = demands.next().await {
            let Some(demanded) = intake::read::<Demanded>(&message, &metrics.common) else { continue };
            if actor.cast(Input::Demanded(demanded)).is_err() {
                return;
            }
        }
    });
    let actor = me.clone();
    tasks.spawn(async move {
        while let Some(message) = questions.next().await {
            let Some(reply) = message.reply else { continue };
            if actor.cast(Input::ListAsked(reply.into_string())).is_err() {
                return;
            }
        }
    });
    if let Some(provider) = arguments.provider.clone() {
        let actor = me.clone();
        tasks.spawn(async move {
            loop {
                let vm = provider.next_ended().await;
                if actor.cast(Input::Ended(vm)).is_err() {
                    return;
                }
            }
        });
    }
    tasks.spawn(intake::tick(me.clone(), TICK, || Input::Tick));
    Ok(())
}
