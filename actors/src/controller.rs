//! The Controller: has every invocation of its functions run, once it is taken, until it has ended.
//!
//! **Lives:** any number per house; each function belongs to one (`frontend/controllers.rs`).
//! **Hears:** [`Submit`] and [`Inquiry`] (Frontend), [`Finishes`], [`HandBack`] and [`Known`] (Invoker), [`Report`] and [`Notice`]
//! (VM), "no responders" (NATS).
//! **Says:** [`Run`], [`Adopt`], [`Cancel`], [`Prewarm`] (Invoker); [`Reply`], [`VmLost`] (Frontend).
//! **Owns:** one [`Dispatch`], where all is decided, and the arguments of what has not ended.
//! **If it dies:** Frontends submit again to the next one, which learns from the VMs' reports what they run, and from the store what
//! was known of functions a second before. Of invocations nothing is kept on disk.

mod allocation;
mod drift;
mod experience;
mod held;
mod model;
mod sending;
mod usage;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use messages::{
    ControllerAlive, Demanded, Ended, Finishes, FunctionPath, HandBack, Inquiry, Known, Notice, RefusedWhy,
    Report, Start, Submit, Unknown, subjects,
};
use policies::dispatch::{Dispatch, Ending, Input, Output, Submission};
use policies::residency::Lending;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use vocabulary::{ControllerId, FunctionId, Moment, Outcome, Span, VmId};

use self::drift::Drift;
use self::experience::{Experience, Recalled};
use self::held::Held;
use self::model::{Loaded, ModelInForce};
use self::usage::UsageLog;
use crate::alarm::Alarm;
use crate::bus::{Bus, is_no_responders};
use crate::clock::Clock;
use crate::intake::{Credits, Intake, Tasks};
use crate::listening::Listening;
use crate::metrics::{ControllerMetrics, Redispatch};
use crate::neighbours::Neighbours;
use crate::settings::Settings;
use crate::store::Store;
use crate::{chance, resource_monitor};

/// How often it says that it lives.
const ANNOUNCE: Duration = Duration::from_millis(500);
/// Every so many announcements it says what it is asked for.
const ANNOUNCEMENTS_PER_DEMAND: u64 = 4;
/// Functions whose place in the store is remembered for pre-warming.
const PATHS_KEPT: usize = 100_000;

/// Everything a Controller hears.
pub enum ControllerMessage {
    /// [`Submit`].
    Submit(async_nats::Message),
    /// [`Submit`], from a Frontend of this process.
    HandedOver(Box<Submit>),
    /// [`Finishes`].
    Finished(async_nats::Message),
    /// [`HandBack`].
    HandBack(async_nats::Message),
    /// [`Known`].
    Known(async_nats::Message),
    /// [`Report`].
    Report(async_nats::Message),
    /// [`Notice`].
    Notice(async_nats::Message),
    /// [`Inquiry`].
    Inquire(async_nats::Message),
    /// NATS on the reply subject of a [`Run`].
    Bounce(async_nats::Message),
    /// What the store says of a function that is called.
    Recalled(Recalled),
    /// Time to write what has been learned.
    Keep,
    /// Profiles of these could not be written.
    NotKept(Vec<FunctionId>),
    /// A model of the store, to be tried or to decide.
    ModelLoaded(Box<Loaded>),
    /// What became of a model was written, or could not be.
    ModelSettled,
    /// The alarm rang.
    Wake,
    /// Time to say that it lives.
    Announce,
}

/// What a Controller is made of.
#[derive(Clone)]
pub struct Arguments {
    /// Everything that can be configured.
    pub settings: Arc<Settings>,
    /// The connection.
    pub bus: Bus,
    /// Records of what never ran.
    pub store: Store,
    /// Time.
    pub clock: Clock,
    /// What is counted.
    pub metrics: Arc<ControllerMetrics>,
    /// Where Frontends of this process find it.
    pub neighbours: Neighbours,
}

/// The actor; its state is [`Shell`].
pub struct Controller;

/// The actor's state.
pub struct Shell {
    id: ControllerId,
    given: Arguments,
    dispatch: Dispatch,
    model: Option<ModelInForce>,
    held: Held,
    experience: Experience,
    usage: UsageLog,
    drift: Drift,
    paths: HashMap<FunctionId, FunctionPath>,
    reports_seen: HashMap<VmId, u64>,
    listening: Listening,
    alarm: Alarm,
    credits: Credits,
    outputs: Vec<Output>,
    announced: u64,
    _tasks: Tasks,
}

/// What a model counts, and what runs it.
type RunningModel = (Arc<models::Counts>, models::Runtime);

/// The Controller's mind as the settings want it, and its model, where it has one.
fn mind(settings: &Settings) -> Result<(Dispatch, Option<RunningModel>), ActorProcessingErr> {
    let lending = Lending::by_name(&settings.vm.lending).unwrap_or_default();
    let constants = settings.allocation.constants(lending);
    let settings = &settings.controller;
    let placement =
        policies::placement::by_name(&settings.placement, &policies::placement::Settings::default())
            .ok_or_else(|| format!("controller.placement: there is no '{}'", settings.placement))?;
    let (allocator, model) = allocation::allocator(settings, &constants)?;
    let reliability = policies::reliability::by_name(&settings.reliability)
        .ok_or_else(|| format!("controller.reliability: there is no '{}'", settings.reliability))?;
    let dispatch = policies::dispatch::Settings {
        vm_silence: Span::millis(settings.vm_silence_ms),
        queue_limit: settings.queue_limit,
        function_queue_limit: settings.function_queue_limit,
        attempts_limit: settings.attempts_limit,
        unplaceable_grace: Span::millis(settings.unplaceable_grace_ms),
        durable_patience: Span::millis(settings.durable_patience_ms),
        rerun_at_notice: settings.rerun_at_notice,
        expected_life: Span::seconds(settings.harvest_life_hours.saturating_mul(3_600)),
        tells_runs: true,
        ..Default::default()
    };
    Ok((Dispatch::new(dispatch, placement, allocator).with_reliability(reliability), model))
}

impl Actor for Controller {
    type Msg = ControllerMessage;
    type State = Shell;
    type Arguments = Arguments;

    async fn pre_start(
        &self,
        me: ActorRef<ControllerMessage>,
        given: Arguments,
    ) -> Result<Shell, ActorProcessingErr> {
        let id = chance::controller_id();
        let (dispatch, model) = mind(&given.settings)?;
        let of_controller = &given.settings.controller;
        let model = match model {
            Some((counts, runtime)) => {
                let (store, metrics) = (given.store.models().await?, Arc::clone(&given.metrics));
                Some(ModelInForce::new(counts, runtime, store, of_controller, metrics))
            }
            None => None,
        };
        let most = of_controller.usage_records_per_second;
        let usage = UsageLog::new(given.store.usage().await?, most, Arc::clone(&given.metrics));
        let client = given.bus.client();
        let credits = Credits::new(8_192);
        let mut tasks = Tasks::default();
        let intakes: [Intake<ControllerMessage>; 7] = [
            (subjects::controller_submit(id), ControllerMessage::Submit),
            (subjects::controller_handback(id), ControllerMessage::HandBack),
            (subjects::controller_known(id), ControllerMessage::Known),
            (subjects::controller_inquire(id), ControllerMessage::Inquire),
            (subjects::controller_bounces(id), ControllerMessage::Bounce),
            (subjects::REPORTS.into(), ControllerMessage::Report),
            (subjects::NOTICES.into(), ControllerMessage::Notice),
        ];
        for (subject, wrap) in intakes {
            tasks.forward(client.subscribe(subject).await?, &me, &credits, wrap);
        }
        // It comes in one write with the answer, for which somebody waits at the Frontend, perhaps in this very process.
        let finished = client.subscribe(subjects::controller_finished(id)).await?;
        tasks.forward_last(finished, &me, &credits, ControllerMessage::Finished);
        tasks.tick(&me, ANNOUNCE, || ControllerMessage::Announce);
        tasks.tick(&me, experience::KEEP, || ControllerMessage::Keep);
        given.neighbours.move_in(id, me);
        tracing::info!(controller = %id, placement = given.settings.controller.placement, "Controller is up");
        Ok(Shell {
            id,
            dispatch,
            model,
            usage,
            drift: Drift::default(),
            held: Held::new(given.settings.controller.held_mib),
            experience: Experience::new(given.store.profiles(), &given.settings, Arc::clone(&given.metrics)),
            paths: HashMap::new(),
            reports_seen: HashMap::new(),
            listening: Listening::new(given.bus.clone(), given.clock),
            alarm: Alarm::new(),
            credits,
            outputs: Vec::new(),
            announced: 0,
            _tasks: tasks,
            given,
        })
    }

    async fn handle(
        &self,
        me: ActorRef<ControllerMessage>,
        message: ControllerMessage,
        shell: &mut Shell,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            ControllerMessage::Submit(message) => {
                if let Some(submit) = shell.read::<Submit>(&message) {
                    shell.called(submit, &me).await;
                }
            }
            ControllerMessage::HandedOver(submit) => shell.called(*submit, &me).await,
            ControllerMessage::Recalled(recalled) => shell.recalled(recalled).await,
            ControllerMessage::Keep => {
                shell.experience.keep(|function| shell.dispatch.profile(function), &me);
                let now = shell.now();
                shell.usage.send(now, shell.id, || shell.dispatch.gauges());
                if let (Some(model), Some(learned)) = (&mut shell.model, shell.dispatch.with_model()) {
                    model.look(learned, &me);
                }
            }
            ControllerMessage::ModelLoaded(loaded) => {
                if let (Some(model), Some(learned)) = (&mut shell.model, shell.dispatch.with_model()) {
                    model.loaded(learned, *loaded, &me);
                }
            }
            ControllerMessage::ModelSettled => {
                shell.model.iter_mut().for_each(ModelInForce::settled);
            }
            ControllerMessage::NotKept(functions) => {
                functions.into_iter().for_each(|function| shell.experience.learned(function));
            }
            ControllerMessage::Finished(message) => shell.finished(&message).await,
            ControllerMessage::HandBack(message) => shell.handed_back(&message).await,
            ControllerMessage::Known(message) => shell.known(&message).await,
            ControllerMessage::Report(message) => shell.report(&message).await,
            ControllerMessage::Notice(message) => shell.notice(&message).await,
            ControllerMessage::Inquire(message) => shell.inquire(&message).await,
            ControllerMessage::Bounce(message) => shell.bounce(&message).await,
            ControllerMessage::Wake => {
                shell.alarm.rang();
                shell.decide(Input::Woke).await;
            }
            ControllerMessage::Announce => shell.announce(false).await,
        }
        let now = shell.now();
        shell.alarm.set(now, shell.dispatch.next_wakeup(), &me, || ControllerMessage::Wake);
        Ok(())
    }

    async fn post_stop(
        &self,
        _: ActorRef<ControllerMessage>,
        shell: &mut Shell,
    ) -> Result<(), ActorProcessingErr> {
        shell.given.neighbours.move_out(shell.id);
        shell.announce(true).await;
        let written = shell.experience.keep_last(&|function| shell.dispatch.profile(function));
        written.await;
        Ok(())
    }
}

impl Shell {
    fn now(&mut self) -> Moment {
        self.listening.now()
    }

    /// A message of ours in bytes from outside; `None`, counted, if it is none. The credit it came with goes back.
    fn read<M: serde::de::DeserializeOwned>(&self, message: &async_nats::Message) -> Option<M> {
        self.credits.redeem(message, &self.given.metrics.common)
    }

    /// One input to the mind, and everything it asks for.
    async fn decide(&mut self, input: Input) {
        let now = self.now();
        let mut outputs = std::mem::take(&mut self.outputs);
        self.dispatch.handle(now, input, &mut outputs);
        for output in outputs.drain(..) {
            self.carry_out(output).await;
        }
        self.outputs = outputs;
    }

    /// Taken at once, or when it is known what the store says of its function.
    async fn called(&mut self, submit: Submit, me: &ActorRef<ControllerMessage>) {
        let now = self.now();
        if let Some(submit) = self.experience.called(now, submit, me) {
            self.submit(submit).await;
        }
    }

    async fn recalled(&mut self, Recalled { function, profile }: Recalled) {
        if let Some(profile) = profile {
            self.decide(Input::Remembered { function, profile }).await;
        }
        for submit in self.experience.recalled(function) {
            self.submit(submit).await;
        }
    }

    async fn submit(&mut self, submit: Submit) {
        self.given.metrics.submitted();
        if let Some(known) = self.held.get_mut(submit.invocation) {
            // Another Frontend may wait for it now.
            known.reply_to = submit.reply_to;
            self.given.metrics.duplicate();
            return;
        }
        if !self.held.has_room(&submit) {
            let reason =
                "the Controller holds as many bytes of arguments as it may (controller.held_mib)".into();
            return self.refuse(&submit.reply_to, submit.invocation, RefusedWhy::QueueFull, reason).await;
        }
        if self.paths.len() >= PATHS_KEPT {
            self.paths.clear();
        }
        self.paths.entry(submit.function.id).or_insert_with(|| submit.path.clone());
        let submission = Submission {
            invocation: submit.invocation,
            function: submit.function,
            first_attempt: submit.first_attempt,
            input_bytes: submit.input_bytes(),
            give_up_at: self.now() + submit.patience,
            durable: submit.durable,
            truth: None,
        };
        self.held.insert(submit);
        let before = Instant::now();
        self.decide(Input::Submitted(submission)).await;
        self.given.metrics.decided(before.elapsed().as_nanos() as u64);
    }

    async fn finished(&mut self, message: &async_nats::Message) {
        let Some(finishes) = self.read::<Finishes>(message) else { return };
        for finished in finishes.endings {
            let outcome = match finished.ended {
                Ended::Answered(outcome) => Some(outcome),
                Ended::Starved => Some(Outcome::DeveloperError),
                Ended::Cancelled => None,
            };
            let starved = finished.ended == Ended::Starved;
            match outcome {
                _ if starved => self.given.metrics.redispatched(Redispatch::Starved),
                Some(outcome) => self.given.metrics.finished(outcome),
                None => self.given.metrics.cancelled(),
            }
            if outcome.is_some() {
                self.experience.learned(finished.function);
            }
            let ending = Ending {
                invocation: finished.invocation,
                attempt: finished.attempt,
                function: finished.function,
                revision: finished.revision,
                outcome,
                cold: finished.start == Start::Cold,
                init: finished.init,
                duration: finished.duration,
                usage: finished.usage,
                sandbox_kept: finished.sandbox_kept,
                input_bytes: finished.input_bytes,
            };
            let vm = finishes.vm;
            let input = if starved { Input::Starved { vm, ending } } else { Input::Finished { vm, ending } };
            self.decide(input).await;
        }
    }

    async fn handed_back(&mut self, message: &async_nats::Message) {
        let Some(back) = self.read::<HandBack>(message) else { return };
        for item in back.items {
            self.given.metrics.redispatched(Redispatch::HandedBack);
            let input = Input::HandedBack { vm: back.vm, invocation: item.invocation, attempt: item.attempt };
            self.decide(input).await;
        }
    }

    async fn known(&mut self, message: &async_nats::Message) {
        let Some(Known { vm, invocation, attempt, newest, runs }) = self.read(message) else { return };
        self.decide(Input::Known { vm, invocation, attempt, newest, runs }).await;
    }

    async fn report(&mut self, message: &async_nats::Message) {
        let Some(report) = self.read::<Report>(message) else { return };
        let first = !self.reports_seen.contains_key(&report.status.vm);
        let seen = self.reports_seen.entry(report.status.vm).or_default();
        if report.sequence <= *seen {
            return;
        }
        *seen = report.sequence;
        let age = Input::VmAge { vm: report.status.vm, age: report.age };
        let uses = Input::VmUses { vm: report.status.vm, used: report.used };
        self.decide(Input::VmReported(report.status)).await;
        self.decide(uses).await;
        if first {
            self.decide(age).await;
        }
        self.show_gauges();
    }

    fn show_gauges(&self) {
        let gauges = self.dispatch.gauges();
        self.given.metrics.queue(gauges.waiting as usize, self.held.len());
        self.given.metrics.kept_free(gauges.kept_free, gauges.went_before);
        self.given.metrics.books(
            (gauges.vms_open as usize, gauges.vms_draining as usize),
            gauges.capacity,
            gauges.booked,
            self.held.reserved(),
        );
    }

    async fn notice(&mut self, message: &async_nats::Message) {
        let Some(notice) = self.read::<Notice>(message) else { return };
        self.given.metrics.noticed();
        tracing::info!(vm = %notice.vm, source = notice.source, time_left = ?notice.time_left, "eviction notice");
        if [resource_monitor::SOURCE, messages::LEFT].contains(&notice.source.as_str())
            && notice.time_left == Some(Span::ZERO)
        {
            // Its provider has seen it end, or it says so itself.
            return self.decide(Input::VmLost(notice.vm)).await;
        }
        let now = self.now();
        let deadline = notice.time_left.map(|left| now + left);
        self.decide(Input::VmNoticed { vm: notice.vm, deadline }).await;
    }

    async fn inquire(&mut self, message: &async_nats::Message) {
        let Some(inquiry) = self.read::<Inquiry>(message) else { return };
        if let Some(reply) = &message.reply {
            let unknown = inquiry
                .invocations
                .into_iter()
                .filter(|invocation| !self.held.contains(*invocation))
                .collect();
            self.given.bus.send(reply.to_string(), &Unknown { invocations: unknown }).await;
        }
    }

    /// "No responders" on a reply subject of ours names the VM, the invocation and the attempt.
    async fn bounce(&mut self, message: &async_nats::Message) {
        self.credits.give_back();
        if !is_no_responders(message) {
            return;
        }
        if let Some((vm, invocation, attempt)) = subjects::read_bounce(&message.subject) {
            self.given.metrics.redispatched(Redispatch::NoResponders);
            self.decide(Input::Bounced { vm, invocation, attempt }).await;
        }
    }

    async fn announce(&mut self, leaving: bool) {
        let alive = ControllerAlive { controller: self.id, leaving };
        self.given.bus.send(subjects::ANNOUNCE_CONTROLLER.into(), &alive).await;
        self.announced += 1;
        if let Some(model) = &self.model {
            self.given.metrics.model(model.counted());
        }
        if self.announced.is_multiple_of(ANNOUNCEMENTS_PER_DEMAND) {
            let demanded = Demanded { controller: self.id, demand: self.dispatch.demand() };
            self.given.bus.send(subjects::demand(self.id), &demanded).await;
        }
    }
}
