//! The Invoker: has sandboxes made, runs invocations in them, and tells what came of it.
//!
//! **Lives:** one per VM.
//! **Hears:** [`Run`], [`Cancel`], [`Prewarm`] (Controller), [`Drain`] (anyone), capacity and notice (Harvest Monitor).
//! **Says:** the answer (to the Frontend's inbox), [`Finishes`] and [`HandBack`] (Controller), the record (store),
//! [`Report`] (everyone).
//! **Owns:** one [`Residency`], where all is decided, and the sandboxes.
//! **If it dies:** its sandboxes die with it; Controllers learn from its reports, or their absence, what to run again.

mod making;
mod outcome;
mod outgoing;
mod running;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use messages::{
    Cancel, Drain, FunctionPath, Hindrance, Prewarm, Report, Run, StandingNotice, Start, subjects,
};
use policies::residency::{HandBackWhy, Input, Output, Residency, SandboxId, StopWhy};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use sandbox::{Limits, Sandbox, Workshop};
use tokio::sync::{Notify, watch};
use vocabulary::{
    Attempt, FunctionId, InvocationId, Mebibytes, MilliCores, Moment, Resources, Span, VmId, VmKind,
    VmStanding, VmStatus,
};

use self::making::Made;
use self::outgoing::Outgoing;
use self::running::{Ran, RunHere};
use crate::alarm::Alarm;
use crate::bus::Bus;
use crate::clock::{Clock, unix_ms};
use crate::harvest_monitor::{CapacityChanged, Noticed, Operator, Seen, Sigterm};
use crate::intake::{Credits, Intake, Tasks};
use crate::metrics::{InvokerMetrics, SandboxEnd};
use crate::settings::Settings;
use crate::store::{FunctionDefinition, Store};

/// How often the VM reports itself when nothing changes.
const REPORT: Duration = Duration::from_secs(1);

/// Everything an Invoker hears.
pub enum InvokerMessage {
    /// [`Run`].
    Run(async_nats::Message),
    /// [`Cancel`].
    Cancel(async_nats::Message),
    /// [`Prewarm`].
    Prewarm(async_nats::Message),
    /// [`Drain`].
    Drain(async_nats::Message),
    /// What the Harvest Monitor sees.
    Seen(Seen),
    /// The time that this notice, by its number, left is over.
    GraceOver(u64),
    /// A sandbox has been made, or not.
    Made(Box<Made>),
    /// A run has ended.
    Ran(Box<Ran>),
    /// Everything that waited to be told has been handled: tell it.
    Flush,
    /// The alarm rang.
    Wake,
    /// Time for a report.
    Report,
}

/// What an Invoker is made of.
#[derive(Clone)]
pub struct Arguments {
    /// Everything that can be configured.
    pub settings: Arc<Settings>,
    /// Which VM this is.
    pub vm: VmId,
    /// How it was bought.
    pub kind: VmKind,
    /// The connection.
    pub bus: Bus,
    /// Functions, code, records.
    pub store: Store,
    /// Time.
    pub clock: Clock,
    /// Makes sandboxes.
    pub workshop: Arc<Workshop>,
    /// What the VM has when the Invoker starts.
    pub capacity: Resources,
    /// What is counted.
    pub metrics: Arc<InvokerMetrics>,
    /// Where `/metrics` is.
    pub metrics_address: String,
    /// Told when the VM has been asked to leave and nothing runs any more.
    pub leave: Arc<Notify>,
    /// Told whether the VM takes nothing new and nothing runs any more.
    pub drained: Arc<watch::Sender<bool>>,
}

/// The actor; its state is [`Shell`].
pub struct Invoker;

/// A sandbox of this VM.
struct Resident {
    /// Away while it runs.
    sandbox: Option<Box<dyn Sandbox>>,
    limits: Arc<dyn Limits>,
    ceiling: Resources,
    definition: Arc<FunctionDefinition>,
    /// What making it took, and what loading the code logged; told with its first run.
    init: Span,
    init_logs: Vec<sandbox::LogLine>,
    cpu_time: Span,
}

/// The actor's state.
pub struct Shell {
    /// Shared, because every run takes it along, and a store's handles are not made to be copied that often.
    given: Arc<Arguments>,
    residency: Residency,
    residents: HashMap<SandboxId, Resident>,
    runs: HashMap<(InvocationId, Attempt), Arc<RunHere>>,
    paths: HashMap<FunctionId, FunctionPath>,
    outgoing: Outgoing,
    capacity: Resources,
    /// Tells the sandboxes of this actor from those of one before it.
    generation: u64,
    sequence: u64,
    reported: Moment,
    used: Resources,
    leaving: bool,
    /// The notice that stands, until when, and its number.
    notice: Option<(Moment, &'static str)>,
    notices: u64,
    capacity_source: String,
    hindrance: Hindrance,
    alarm: Alarm,
    credits: Credits,
    outputs: Vec<Output>,
    _tasks: Tasks,
}

impl Actor for Invoker {
    type Msg = InvokerMessage;
    type State = Shell;
    type Arguments = Arguments;

    async fn pre_start(
        &self,
        me: ActorRef<InvokerMessage>,
        given: Arguments,
    ) -> Result<Shell, ActorProcessingErr> {
        let client = given.bus.client();
        let credits = Credits::new(4_096);
        let mut tasks = Tasks::default();
        let intakes: [Intake<InvokerMessage>; 4] = [
            (subjects::vm_run(given.vm), InvokerMessage::Run),
            (subjects::vm_cancel(given.vm), InvokerMessage::Cancel),
            (subjects::vm_prewarm(given.vm), InvokerMessage::Prewarm),
            (subjects::vm_drain(given.vm), InvokerMessage::Drain),
        ];
        for (subject, wrap) in intakes {
            tasks.forward(client.subscribe(subject).await?, &me, &credits, wrap);
        }
        tasks.tick(&me, REPORT, || InvokerMessage::Report);
        let settings = &given.settings.vm;
        let residency = policies::residency::Settings {
            keep_alive: Span::millis(settings.keep_alive_ms),
            queue_limit: settings.queue_limit,
            sandboxes_limit: settings.sandboxes_limit,
            ..Default::default()
        };
        given.metrics.capacity(given.capacity);
        tracing::info!(vm = %given.vm, capacity = %given.capacity, "Invoker is up");
        Ok(Shell {
            residency: Residency::new(residency, given.capacity),
            residents: HashMap::new(),
            runs: HashMap::new(),
            paths: HashMap::new(),
            outgoing: Outgoing::new(given.bus.clone(), given.vm),
            capacity: given.capacity,
            generation: unix_ms(),
            // Above every sequence of an Invoker that was here before.
            sequence: unix_ms() << 10,
            reported: Moment::ORIGIN,
            used: Resources::ZERO,
            leaving: false,
            notice: None,
            notices: 0,
            capacity_source: String::new(),
            hindrance: Hindrance::default(),
            alarm: Alarm::new(),
            credits,
            outputs: Vec::new(),
            _tasks: tasks,
            given: Arc::new(given),
        })
    }

    async fn handle(
        &self,
        me: ActorRef<InvokerMessage>,
        message: InvokerMessage,
        shell: &mut Shell,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            InvokerMessage::Run(message) => shell.run_arrived(&me, &message),
            InvokerMessage::Cancel(message) => shell.cancel(&me, &message),
            InvokerMessage::Prewarm(message) => shell.prewarm(&me, &message),
            InvokerMessage::Drain(message) => shell.drain(&me, &message).await,
            InvokerMessage::Seen(Seen::Capacity(CapacityChanged(capacity))) => {
                shell.resized(&me, capacity).await
            }
            InvokerMessage::Seen(Seen::Noticed(noticed)) => shell.noticed(&me, &noticed).await,
            InvokerMessage::Seen(Seen::Machine { source, hindrance }) => {
                (shell.capacity_source, shell.hindrance) = (source, hindrance);
            }
            InvokerMessage::Seen(Seen::MayEnd) => shell.stand(&me, true).await,
            InvokerMessage::GraceOver(number) if number == shell.notices => shell.given.leave.notify_one(),
            InvokerMessage::GraceOver(_) => {} // Called off, or another deadline since.
            InvokerMessage::Made(made) => shell.made(&me, *made),
            InvokerMessage::Ran(ran) => shell.ran(&me, *ran),
            InvokerMessage::Flush => shell.outgoing.flush().await,
            InvokerMessage::Wake => {
                shell.alarm.rang();
                shell.decide(&me, Input::Woke);
            }
            InvokerMessage::Report => shell.tick().await,
        }
        shell.outgoing.wish_to_flush(&me);
        let now = shell.now();
        shell.alarm.set(now, shell.residency.next_wakeup(), &me, || InvokerMessage::Wake);
        shell.leave_when_done();
        Ok(())
    }

    async fn post_stop(
        &self,
        _: ActorRef<InvokerMessage>,
        shell: &mut Shell,
    ) -> Result<(), ActorProcessingErr> {
        shell.outgoing.flush().await;
        Ok(())
    }
}

impl Shell {
    fn now(&self) -> Moment {
        self.given.clock.now()
    }

    fn read<M: serde::de::DeserializeOwned>(&self, message: &async_nats::Message) -> Option<M> {
        self.credits.give_back();
        match messages::decode(&message.payload) {
            Ok(read) => Some(read),
            Err(error) => {
                self.given.metrics.common.decode_failed();
                tracing::warn!(%error, subject = %message.subject, "dropped a message");
                None
            }
        }
    }

    /// One input to the mind, and everything it asks for.
    fn decide(&mut self, me: &ActorRef<InvokerMessage>, input: Input) {
        let now = self.now();
        let mut outputs = std::mem::take(&mut self.outputs);
        self.residency.handle(now, input, &mut outputs);
        for output in outputs.drain(..) {
            self.carry_out(me, output);
        }
        self.outputs = outputs;
    }

    fn run_arrived(&mut self, me: &ActorRef<InvokerMessage>, message: &async_nats::Message) {
        let Some(run) = self.read::<Run>(message) else { return };
        let (key, function, grant) = ((run.invocation, run.attempt), run.function, run.grant);
        self.paths.entry(function.id).or_insert_with(|| run.path.clone());
        // A repeated message must not replace what is known of the first one.
        let arrived = self.now();
        self.runs.entry(key).or_insert_with(|| Arc::new(RunHere { run, arrived }));
        self.decide(me, Input::Run { invocation: key.0, attempt: key.1, function, grant });
    }

    fn cancel(&mut self, me: &ActorRef<InvokerMessage>, message: &async_nats::Message) {
        if let Some(Cancel { invocation, attempt }) = self.read(message) {
            self.decide(me, Input::Cancel { invocation, attempt });
        }
    }

    fn prewarm(&mut self, me: &ActorRef<InvokerMessage>, message: &async_nats::Message) {
        if let Some(Prewarm { function, path, count }) = self.read(message) {
            self.paths.insert(function.id, path);
            self.decide(me, Input::Prewarm { function, count });
        }
    }

    async fn drain(&mut self, me: &ActorRef<InvokerMessage>, message: &async_nats::Message) {
        self.credits.give_back();
        let order = if message.payload.is_empty() {
            Drain::default()
        } else {
            match messages::decode(&message.payload) {
                Ok(order) => order,
                Err(error) => {
                    self.given.metrics.common.decode_failed();
                    return tracing::warn!(%error, "dropped an order to drain");
                }
            }
        };
        self.leaving |= order.then_leave;
        self.stand(me, true).await;
        if let Some(reply) = &message.reply {
            self.given.bus.send(reply.to_string(), &self.describe()).await;
        }
    }

    async fn stand(&mut self, me: &ActorRef<InvokerMessage>, draining: bool) {
        let standing = if draining { VmStanding::Draining } else { VmStanding::Open };
        tracing::info!(vm = %self.given.vm, ?standing, "standing");
        self.decide(me, Input::Standing(standing));
        self.report().await;
    }

    /// The VM will be evicted, or not after all. Whoever sends SIGTERM waits for the process to end, so it leaves as
    /// soon as nothing runs, and at the latest when the grace is over; an operator wants the deadline as it would be
    /// with a cloud; a cloud takes its VM away itself.
    async fn noticed(&mut self, me: &ActorRef<InvokerMessage>, noticed: &Noticed) {
        self.notices += 1;
        self.notice = noticed.time_left.map(|left| (self.now() + left, noticed.source));
        if let Some(time_left) = noticed.time_left
            && [Sigterm::NAME, Operator::NAME].contains(&noticed.source)
        {
            self.leaving |= noticed.source == Sigterm::NAME;
            let number = self.notices;
            me.send_after(time_left.into(), move || InvokerMessage::GraceOver(number));
        }
        self.stand(me, noticed.time_left.is_some()).await;
    }

    async fn resized(&mut self, me: &ActorRef<InvokerMessage>, capacity: Resources) {
        if capacity == self.capacity {
            return;
        }
        self.given.metrics.capacity(capacity);
        tracing::info!(vm = %self.given.vm, from = %self.capacity, to = %capacity, "capacity changed");
        self.capacity = capacity;
        self.decide(me, Input::Capacity(capacity));
        self.report().await;
    }

    fn leave_when_done(&mut self) {
        let drained = self.runs.is_empty() && self.residency.standing() == VmStanding::Draining;
        self.given.drained.send_if_modified(|known| std::mem::replace(known, drained) != drained);
        if self.leaving && self.runs.is_empty() {
            self.leaving = false;
            self.given.leave.notify_one();
        }
    }

    fn carry_out(&mut self, me: &ActorRef<InvokerMessage>, output: Output) {
        match output {
            Output::Start { sandbox, function, ceiling } => {
                let path = self.paths.get(&function.id).cloned();
                let name = format!("s{:x}-{}", self.generation, sandbox.0);
                making::begin(&self.given, me.clone(), name, sandbox, function, path, ceiling);
            }
            Output::Execute { sandbox, invocation, attempt, grant, cold } => {
                self.execute(me, sandbox, (invocation, attempt), grant, cold);
            }
            Output::Stop { sandbox, why } => self.stop(sandbox, why),
            Output::Kill { sandbox, .. } => {
                if let Some(resident) = self.residents.get(&sandbox) {
                    resident.limits.kill();
                }
            }
            Output::HandBack { invocation, attempt, why } => self.hand_back((invocation, attempt), why),
            Output::Resize { sandbox, ceiling } => self.set_ceiling(sandbox, ceiling),
            Output::Duplicate { invocation, attempt } => {
                self.given.metrics.duplicate_run();
                self.forget_unless_open((invocation, attempt));
            }
        }
    }

    /// A duplicate leaves no trace, unless it is of what runs or waits here.
    fn forget_unless_open(&mut self, key: (InvocationId, Attempt)) {
        let open =
            self.residency.running().iter().any(|running| (running.invocation, running.attempt) == key);
        if !open {
            self.runs.remove(&key);
        }
    }

    fn execute(
        &mut self,
        me: &ActorRef<InvokerMessage>,
        id: SandboxId,
        key: (InvocationId, Attempt),
        grant: vocabulary::Grant,
        cold: bool,
    ) {
        self.set_ceiling(id, grant.ceiling);
        let Some(here) = self.runs.get(&key).cloned() else { return };
        let Some(resident) = self.residents.get_mut(&id) else { return };
        let Some(sandbox) = resident.sandbox.take() else { return };
        let start = if cold { Start::Cold } else { Start::Warm };
        let init = if cold { resident.init } else { Span::ZERO };
        // What loading the code logged belongs to the first run, even where that was not the one it was made for.
        let init_logs = std::mem::take(&mut resident.init_logs);
        running::begin(running::Begin {
            given: Arc::clone(&self.given),
            me: me.clone(),
            here,
            id,
            sandbox,
            definition: Arc::clone(&resident.definition),
            grant,
            start,
            init,
            init_logs,
        });
    }

    fn set_ceiling(&mut self, id: SandboxId, ceiling: Resources) {
        let Some(resident) = self.residents.get_mut(&id) else { return };
        if resident.ceiling == ceiling {
            return;
        }
        match resident.limits.set_ceiling(ceiling) {
            Ok(()) => resident.ceiling = ceiling,
            Err(error) => tracing::warn!(%error, sandbox = id.0, "could not change a ceiling"),
        }
    }

    fn stop(&mut self, id: SandboxId, why: StopWhy) {
        self.given.metrics.sandbox_ended(match why {
            StopWhy::Expired => SandboxEnd::Idle,
            StopWhy::MemoryNeeded => SandboxEnd::Room,
            StopWhy::Outdated => SandboxEnd::Outdated,
            StopWhy::Draining => SandboxEnd::Leaving,
        });
        if let Some(sandbox) = self.residents.remove(&id).and_then(|resident| resident.sandbox) {
            tokio::spawn(sandbox.stop());
        }
    }

    fn hand_back(&mut self, key: (InvocationId, Attempt), why: HandBackWhy) {
        let Some(here) = self.runs.remove(&key) else { return };
        if why == HandBackWhy::Cancelled {
            self.given.metrics.cancelled();
            self.outgoing.finished(here.run.controller, running::cancelled(&here.run));
        } else {
            self.given.metrics.handed_back(1);
            self.outgoing.hand_back(here.run.controller, key);
        }
    }

    /// A sandbox has been made, or not.
    fn made(&mut self, me: &ActorRef<InvokerMessage>, made: Made) {
        match made.result {
            Ok(ready) => {
                self.given.metrics.sandbox_started(&ready.definition.kind, ready.init);
                let limits = ready.sandbox.limits();
                self.residents.insert(
                    made.id,
                    Resident {
                        limits,
                        sandbox: Some(ready.sandbox),
                        ceiling: made.ceiling,
                        definition: ready.definition,
                        init: ready.init,
                        init_logs: ready.init_logs,
                        cpu_time: Span::ZERO,
                    },
                );
                self.decide(me, Input::SandboxReady(made.id));
            }
            Err(failure) => {
                self.given.metrics.sandbox_start_failed(&failure.kind);
                if let Some(key) = self.residency.attempt_on(made.id)
                    && let Some(here) = self.runs.remove(&key)
                {
                    if failure.answerable {
                        let (finished, telling) = running::failed_to_start(&self.given, &here, failure);
                        self.outgoing.finished(here.run.controller, finished);
                        tokio::spawn(telling);
                    } else {
                        tracing::warn!(reason = failure.message, "could not make a sandbox; handing back");
                        self.given.metrics.handed_back(1);
                        self.outgoing.hand_back(here.run.controller, key);
                    }
                }
                self.decide(me, Input::SandboxFailed(made.id));
            }
        }
    }

    /// A run has ended; its answer is on its way already.
    fn ran(&mut self, me: &ActorRef<InvokerMessage>, ran: Ran) {
        let controller = ran.here.run.controller;
        let key = (ran.here.run.invocation, ran.here.run.attempt);
        self.runs.remove(&key);
        match ran.finished {
            Some(finished) => self.outgoing.finished(controller, finished),
            None => self.outgoing.hand_back(controller, key),
        }
        let kept = ran.sandbox.is_some();
        match ran.sandbox {
            Some(sandbox) => {
                if let Some(resident) = self.residents.get_mut(&ran.id) {
                    resident.sandbox = Some(sandbox);
                }
            }
            None => {
                self.given.metrics.sandbox_ended(SandboxEnd::Broken);
                self.residents.remove(&ran.id);
            }
        }
        self.decide(me, Input::RunEnded { sandbox: ran.id, kept });
    }

    /// Once a second: what is used, and a report.
    async fn tick(&mut self) {
        let now = self.now();
        let since = now.since(self.reported).as_micros().max(1);
        let mut cpu = Span::ZERO;
        let mut memory = 0;
        for resident in self.residents.values_mut() {
            if let Some(sample) = resident.limits.sample() {
                cpu += sample.cpu_time - resident.cpu_time;
                resident.cpu_time = sample.cpu_time;
                memory += sample.memory;
            }
        }
        let millicores = (u128::from(cpu.as_micros()) * 1_000 / u128::from(since)).min(u128::from(u32::MAX));
        self.used = Resources { cpu: MilliCores(millicores as u32), memory: Mebibytes::holding(memory) };
        self.given.metrics.shares(self.residency.booked(), self.used);
        let gauges = self.residency.gauges();
        self.given.metrics.load(
            gauges.waiting as usize,
            gauges.running as usize,
            gauges.idle as usize,
            (gauges.running + gauges.making) as usize,
        );
        self.reported = now;
        self.report().await;
    }

    async fn report(&mut self) {
        self.sequence += 1;
        self.given.metrics.reported();
        self.given.bus.send(subjects::vm_report(self.given.vm), &self.describe()).await;
    }

    fn describe(&self) -> Report {
        Report {
            sequence: self.sequence,
            status: VmStatus {
                vm: self.given.vm,
                kind: self.given.kind,
                capacity: self.capacity,
                standing: self.residency.standing(),
                warm: self.residency.warm(),
                running: self.residency.running(),
            },
            used: self.used,
            pid: std::process::id(),
            metrics: self.given.metrics_address.clone(),
            age: self.now().since(Moment::ORIGIN),
            enforcement: self.given.workshop.enforcement().to_string(),
            capacity_source: self.capacity_source.clone(),
            notice: self.notice.map(|(deadline, source)| StandingNotice {
                time_left: deadline.since(self.now()),
                source: source.to_owned(),
            }),
            hindrance: self.hindrance,
        }
    }
}
