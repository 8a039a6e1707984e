//! The Invoker: has sandboxes made, runs invocations in them, and tells what came of it.
//!
//! **Lives:** one per VM.
//! **Hears:** [`Run`], [`Adopt`], [`Cancel`], [`Prewarm`] (Controller), [`Drain`] (anyone), capacity and notice (Harvest Monitor).
//! **Says:** the answer (to the Frontend's inbox), [`Finishes`], [`HandBack`] and [`messages::Known`] (Controller), the record (store),
//! [`Report`] (everyone).
//! **Owns:** one [`Residency`], where all is decided, and the sandboxes.
//! **If it dies:** its sandboxes die with it; Controllers learn from its reports, or their absence, what to run again.

mod lending;
mod making;
mod outcome;
mod outgoing;
mod residents;
mod running;
mod standing;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use messages::{Adopt, Cancel, FunctionPath, Hindrance, Prewarm, Run, Start, subjects};
use policies::residency::{HandBackWhy, Input, Lending, Output, Residency, SandboxId, StopWhy};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use sandbox::Workshop;
use tokio::sync::{Notify, watch};
use vocabulary::{Attempt, FunctionId, InvocationId, Moment, Resources, Span, VmId, VmKind};

use self::lending::Looks;
use self::making::Made;
use self::outgoing::Outgoing;
use self::residents::{Lent, Residents};
use self::running::{Ran, RunHere};
use crate::alarm::Alarm;
use crate::bus::Bus;
use crate::clock::Clock;
use crate::harvest_monitor::{CapacityChanged, Seen};
use crate::intake::{Credits, Intake, Tasks};
use crate::metrics::{InvokerMetrics, SandboxEnd};
use crate::settings::Settings;
use crate::store::Store;

/// How often the VM reports itself when nothing changes.
const REPORT: Duration = Duration::from_secs(1);

/// Everything an Invoker hears.
pub enum InvokerMessage {
    /// [`Run`].
    Run(async_nats::Message),
    /// [`Adopt`].
    Adopt(async_nats::Message),
    /// [`Cancel`].
    Cancel(async_nats::Message),
    /// [`Prewarm`].
    Prewarm(async_nats::Message),
    /// [`Drain`].
    Drain(async_nats::Message),
    /// What the Harvest Monitor sees.
    Seen(Seen),
    /// The time that a notice, by its number, left is over.
    GraceOver(u64),
    /// A sandbox has been made, or not.
    Made(Box<Made>),
    /// A run has ended.
    Ran(Box<Ran>),
    /// The alarm rang.
    Wake,
    /// Time for a report.
    Report,
    /// Time to look at those who lend.
    Look,
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

/// The actor's state.
pub struct Shell {
    /// Shared, because every run takes it along, and a store's handles are not made to be copied that often.
    given: Arc<Arguments>,
    residency: Residency,
    residents: Residents,
    looks: Looks,
    /// What becomes here of what grants leave.
    lending: Lending,
    runs: HashMap<(InvocationId, Attempt), Arc<RunHere>>,
    paths: HashMap<FunctionId, FunctionPath>,
    outgoing: Outgoing,
    capacity: Resources,
    /// Tells the sandboxes of this actor from those of one before it.
    generation: u64,
    sequence: u64,
    reported: Moment,
    /// When the last report went out, whatever it was for.
    told: Moment,
    /// Something was handed back since for want of room.
    crowded: bool,
    used: Resources,
    leaving: bool,
    /// Until when the notice that stands leaves time, and who gave it; and how many there were.
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
        let intakes: [Intake<InvokerMessage>; 5] = [
            (subjects::vm_run(given.vm), InvokerMessage::Run),
            (subjects::vm_adopt(given.vm), InvokerMessage::Adopt),
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
            lending: Lending::by_name(&settings.lending)
                .ok_or_else(|| format!("vm.lending: there is no '{}'", settings.lending))?,
            safeguard: policies::safeguard::Settings { threshold: settings.safeguard_permille },
            ..Default::default()
        };
        let lending = residency.lending;
        let keep_alive = policies::keep_alive::by_name(&settings.keep_alive, residency.keep_alive)
            .ok_or_else(|| format!("vm.keep_alive: there is no '{}'", settings.keep_alive))?;
        given.metrics.capacity(given.capacity);
        tracing::info!(vm = %given.vm, capacity = %given.capacity, "Invoker is up");
        Ok(Shell {
            residency: Residency::with_keep_alive(residency, given.capacity, keep_alive),
            residents: Residents::default(),
            looks: Looks::default(),
            lending,
            runs: HashMap::new(),
            paths: HashMap::new(),
            outgoing: Outgoing::new(given.bus.clone(), given.clock, given.vm, &mut tasks),
            capacity: given.capacity,
            generation: given.clock.steady_unix_ms(),
            // Above every sequence of an Invoker that was here before, whatever became of the wall clock meanwhile.
            sequence: given.clock.steady_unix_ms() << 10,
            reported: Moment::ORIGIN,
            told: Moment::ORIGIN,
            crowded: false,
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
            InvokerMessage::Adopt(message) => shell.adopt(&me, &message),
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
            InvokerMessage::GraceOver(number) => shell.grace_is_over(number),
            InvokerMessage::Made(made) => shell.made(&me, *made),
            InvokerMessage::Ran(ran) => shell.ran(&me, *ran),
            InvokerMessage::Wake => {
                shell.alarm.rang();
                shell.decide(&me, Input::Woke);
            }
            InvokerMessage::Report => shell.tick().await,
            InvokerMessage::Look => shell.look(&me).await,
        }
        shell.wish_to_look(&me);
        shell.say_if_overbooked().await;
        let now = shell.now();
        shell.alarm.set(now, shell.next_wakeup(), &me, || InvokerMessage::Wake);
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
        self.credits.redeem(message, &self.given.metrics.common)
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
        let from = run.controller;
        self.paths.entry(function.id).or_insert_with(|| run.path.clone());
        // A repeated message must not replace what is known of the first one.
        let arrived = self.now();
        self.runs.entry(key).or_insert_with(|| Arc::new(RunHere { run, arrived }));
        self.decide(me, Input::Run { from, invocation: key.0, attempt: key.1, function, grant });
    }

    fn adopt(&mut self, me: &ActorRef<InvokerMessage>, message: &async_nats::Message) {
        if let Some(Adopt { controller, invocation, attempt }) = self.read(message) {
            self.decide(me, Input::Adopted { by: controller, invocation, attempt });
        }
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

    fn carry_out(&mut self, me: &ActorRef<InvokerMessage>, output: Output) {
        match output {
            Output::Start { sandbox, function, ceiling, weight } => {
                let path = self.paths.get(&function.id).cloned();
                let name = format!("s{:x}-{}", self.generation, sandbox.0);
                let share = (ceiling, weight.unwrap_or(ceiling.cpu));
                making::begin(&self.given, me.clone(), name, sandbox, function, path, share);
            }
            Output::Execute { sandbox, invocation, attempt, grant, cold } => {
                self.execute(me, sandbox, (invocation, attempt), grant, cold);
            }
            Output::Stop { sandbox, why } => self.stop(sandbox, why),
            Output::Kill { sandbox, .. } => {
                self.residents.kill(sandbox);
            }
            Output::HandBack { invocation, attempt, why } => {
                self.crowded |= why == HandBackWhy::NoRoom;
                self.hand_back((invocation, attempt), why);
            }
            Output::Resize { sandbox, ceiling, weight } => {
                self.residents.set_share(sandbox, ceiling, weight);
            }
            Output::Duplicate { invocation, attempt } => {
                self.given.metrics.duplicate_run();
                self.forget_unless_open((invocation, attempt));
            }
            Output::Asked { by, invocation, attempt, known } => {
                self.outgoing.asked(by, (invocation, attempt), known);
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
        self.residents.set_share(id, grant.ceiling, grant.cpu_weight());
        let Some(here) = self.runs.get(&key).cloned() else { return };
        let Some(Lent { sandbox, definition, init, init_logs }) = self.residents.lend(id) else { return };
        let owed = self.begins_to_lend(id, here.run.function, grant);
        let start = if cold { Start::Cold } else { Start::Warm };
        let init = if cold { init } else { Span::ZERO };
        running::begin(running::Begin {
            given: Arc::clone(&self.given),
            me: me.clone(),
            outgoing: self.outgoing.clone(),
            here,
            id,
            sandbox,
            definition,
            grant,
            owed,
            start,
            init,
            init_logs,
        });
    }

    fn stop(&mut self, id: SandboxId, why: StopWhy) {
        self.given.metrics.sandbox_ended(match why {
            StopWhy::Expired => SandboxEnd::Idle,
            StopWhy::MemoryNeeded => SandboxEnd::Room,
            StopWhy::Outdated => SandboxEnd::Outdated,
            StopWhy::Draining => SandboxEnd::Leaving,
        });
        self.residents.stop(id);
    }

    fn hand_back(&mut self, key: (InvocationId, Attempt), why: HandBackWhy) {
        let Some(here) = self.runs.remove(&key) else { return };
        if matches!(why, HandBackWhy::Cancelled | HandBackWhy::Superseded) {
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
                self.residents.move_in(made.id, ready, made.share);
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
        self.ends_to_lend(ran.id);
        self.runs.remove(&key);
        if !ran.told {
            self.outgoing.hand_back(controller, key);
        }
        let kept = ran.sandbox.is_some();
        match ran.sandbox {
            Some(sandbox) => self.residents.give_back(ran.id, sandbox),
            None => {
                self.given.metrics.sandbox_ended(SandboxEnd::Broken);
                self.residents.stop(ran.id);
            }
        }
        self.decide(me, Input::RunEnded { sandbox: ran.id, kept });
    }
}
