//! The Controller: has every invocation of its functions run, once it is taken, until it has ended.
//!
//! **Lives:** any number per house; each function belongs to one (`frontend/controllers.rs`).
//! **Hears:** [`Submit`] and [`Inquiry`] (Frontend), [`Finishes`] and [`HandBack`] (Invoker), [`Report`] and [`Notice`]
//! (VM), "no responders" (NATS).
//! **Says:** [`Run`], [`Cancel`], [`Prewarm`] (Invoker); [`Reply`], [`VmLost`] (Frontend).
//! **Owns:** one [`Dispatch`], where all is decided, and the arguments of what has not ended.
//! **If it dies:** Frontends submit again to the next one, which learns from the VMs' reports what they run, and from the store what
//! was known of functions a second before. Of invocations nothing is kept on disk.

mod allocation;
mod experience;
mod held;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use messages::{
    Answer, Cancel, ControllerAlive, Demanded, Ended, Fence, Finishes, FunctionPath, HandBack, Inquiry,
    Notice, Prewarm, Refused, RefusedWhy, Reply, Report, Run, Start, Submit, Unknown, VmLost, subjects,
};
use policies::dispatch::{Again, Dispatch, Ending, GivenUp, Input, Output, Refusal, Submission, VmGone};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use vocabulary::{Attempt, ControllerId, FunctionId, InvocationId, Moment, Outcome, Span, VmId};

use self::experience::{Experience, Recalled};
use self::held::Held;
use crate::alarm::Alarm;
use crate::bus::{Bus, is_no_responders};
use crate::clock::Clock;
use crate::intake::{Credits, Intake, Tasks};
use crate::listening::Listening;
use crate::metrics::{ControllerMetrics, Redispatch};
use crate::neighbours::Neighbours;
use crate::settings::Settings;
use crate::store::Store;
use crate::unrun::{self, Unrun};
use crate::{chance, resource_monitor, telemetry};

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
    model: Option<Arc<models::Counts>>,
    held: Held,
    experience: Experience,
    paths: HashMap<FunctionId, FunctionPath>,
    reports_seen: HashMap<VmId, u64>,
    listening: Listening,
    alarm: Alarm,
    credits: Credits,
    outputs: Vec<Output>,
    announced: u64,
    _tasks: Tasks,
}

/// The Controller's mind as the settings want it, and what its model counts, where it has one.
fn mind(settings: &Settings) -> Result<(Dispatch, Option<Arc<models::Counts>>), ActorProcessingErr> {
    let constants = settings.allocation.constants();
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
        let client = given.bus.client();
        let credits = Credits::new(8_192);
        let mut tasks = Tasks::default();
        let intakes: [Intake<ControllerMessage>; 7] = [
            (subjects::controller_submit(id), ControllerMessage::Submit),
            (subjects::controller_finished(id), ControllerMessage::Finished),
            (subjects::controller_handback(id), ControllerMessage::HandBack),
            (subjects::controller_inquire(id), ControllerMessage::Inquire),
            (subjects::controller_bounces(id), ControllerMessage::Bounce),
            (subjects::REPORTS.into(), ControllerMessage::Report),
            (subjects::NOTICES.into(), ControllerMessage::Notice),
        ];
        for (subject, wrap) in intakes {
            tasks.forward(client.subscribe(subject).await?, &me, &credits, wrap);
        }
        tasks.tick(&me, ANNOUNCE, || ControllerMessage::Announce);
        tasks.tick(&me, experience::KEEP, || ControllerMessage::Keep);
        given.neighbours.move_in(id, me);
        tracing::info!(controller = %id, placement = given.settings.controller.placement, "Controller is up");
        Ok(Shell {
            id,
            dispatch,
            model,
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
            }
            ControllerMessage::NotKept(functions) => {
                functions.into_iter().for_each(|function| shell.experience.learned(function));
            }
            ControllerMessage::Finished(message) => shell.finished(&message).await,
            ControllerMessage::HandBack(message) => shell.handed_back(&message).await,
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
        if notice.source == resource_monitor::SOURCE && notice.time_left == Some(Span::ZERO) {
            // Its provider has seen it end.
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
            self.given.metrics.model(model);
        }
        if self.announced.is_multiple_of(ANNOUNCEMENTS_PER_DEMAND) {
            let demanded = Demanded { controller: self.id, demand: self.dispatch.demand() };
            self.given.bus.send(subjects::demand(self.id), &demanded).await;
        }
    }

    async fn carry_out(&mut self, output: Output) {
        match output {
            Output::Run { vm, invocation, attempt, grant, waited } => {
                self.run(vm, invocation, attempt, grant, waited).await;
            }
            Output::Refuse { invocation, why } => {
                if let Some(submit) = self.held.remove(invocation) {
                    self.refuse(&submit.reply_to, invocation, refused_why(&why), why.to_string()).await;
                }
            }
            Output::GiveUp { invocation, attempt, why, waited } => {
                self.give_up(invocation, attempt, why, waited).await
            }
            Output::Fence { invocation, oldest_valid, also } => {
                if let Some(submit) = self.held.get_mut(invocation) {
                    let fence = Reply::Fence(Fence { invocation, oldest_valid, also });
                    self.given.bus.send(submit.reply_to.clone(), &fence).await;
                }
            }
            Output::Forget(invocation) => drop(self.held.remove(invocation)),
            Output::Cancel { vm, invocation, attempt } => {
                self.given.bus.send(subjects::vm_cancel(vm), &Cancel { invocation, attempt }).await;
            }
            Output::Prewarm { vm, function, count } => {
                if let Some(path) = self.paths.get(&function.id).cloned() {
                    self.given.metrics.prewarmed();
                    self.given.bus.send(subjects::vm_prewarm(vm), &Prewarm { function, path, count }).await;
                }
            }
            Output::VmGone { vm, why, open_attempts } => {
                tracing::warn!(%vm, ?why, open_attempts, "gave up a VM");
                self.reports_seen.remove(&vm);
                self.given.bus.send(subjects::ANNOUNCE_LOST.into(), &VmLost { vm }).await;
                let why = match why {
                    VmGone::Silent => Redispatch::VmSilent,
                    VmGone::NoResponders => Redispatch::NoResponders,
                    VmGone::Told => Redispatch::VmEnded,
                };
                for _ in 0..open_attempts {
                    self.given.metrics.redispatched(why);
                }
            }
            Output::Stale { .. } => self.given.metrics.stale_ending(),
            Output::Again { why: Again::Notice, .. } => self.given.metrics.redispatched(Redispatch::Notice),
            Output::Again { why: Again::Forgotten, .. } => {
                self.given.metrics.redispatched(Redispatch::Forgotten);
            }
        }
    }

    async fn run(
        &mut self,
        vm: VmId,
        invocation: InvocationId,
        attempt: Attempt,
        grant: vocabulary::Grant,
        waited: Span,
    ) {
        let Some(submit) = self.held.get_mut(invocation) else { return };
        self.given.metrics.dispatched(waited);
        let trace = if telemetry::on() && submit.trace.is_some() {
            let now = SystemTime::now();
            let began = now.checked_sub(waited.into()).unwrap_or(now);
            let attributes = vec![
                opentelemetry::KeyValue::new("windfall.vm", vm.to_string()),
                opentelemetry::KeyValue::new("windfall.attempt", i64::from(attempt.0)),
            ];
            telemetry::record("queue", submit.trace.as_ref(), began, now, attributes);
            submit.trace.clone()
        } else {
            submit.trace.clone()
        };
        let run = Run {
            invocation,
            attempt,
            controller: self.id,
            function: submit.function,
            path: submit.path.clone(),
            namespace: submit.namespace.clone(),
            reply_to: submit.reply_to.clone(),
            grant,
            waited,
            payload: submit.payload.clone(),
            input_size: submit.input_size,
            durable: submit.durable,
            api_key: submit.api_key.clone(),
            transaction: submit.transaction.clone(),
            trace,
        };
        let bounce = subjects::controller_bounce(self.id, vm, invocation, attempt);
        self.given.bus.send_expecting(subjects::vm_run(vm), bounce, &run).await;
    }

    async fn refuse(&mut self, reply_to: &str, invocation: InvocationId, why: RefusedWhy, reason: String) {
        self.given.metrics.refused(why);
        let refused = Reply::Refused(Refused { invocation, why, reason });
        self.given.bus.send(reply_to.to_owned(), &refused).await;
    }

    /// Ends what was taken and cannot be run, with a record and an answer that say why.
    async fn give_up(&mut self, invocation: InvocationId, attempt: Attempt, why: GivenUp, waited: Span) {
        let Some(submit) = self.held.remove(invocation) else { return };
        self.given.metrics.gave_up();
        tracing::warn!(%invocation, %why, "gave up an invocation");
        let reason = why.to_string();
        let outcome = Outcome::InternalError;
        let record = unrun::record(&submit, &Unrun { attempt, outcome, reason: &reason, waited });
        let answer = Answer {
            invocation,
            attempt,
            outcome,
            result: record.result.clone(),
            vm: None,
            start: Start::Warm,
            grant: None,
            started_unix_ms: record.started_unix_ms,
            waited,
            init: Span::ZERO,
            duration: Span::ZERO,
            timed_out: false,
        };
        let (bus, store) = (self.given.bus.clone(), self.given.store.clone());
        // Off the deciding path: a store that is slow must not hold up other invocations.
        tokio::spawn(async move {
            // Some attempt may have stored its record and been lost with its answer: the record decides.
            match store.records().settle(record, answer).await {
                Ok(answer) => bus.send(submit.reply_to, &Reply::Answer(answer)).await,
                Err(error) => tracing::warn!(%error, %invocation, "could not store a record"),
            }
        });
    }
}

/// What a caller should do about a refusal.
fn refused_why(why: &Refusal) -> RefusedWhy {
    match why {
        Refusal::FunctionQueueFull { .. } | Refusal::QueueFull { .. } => RefusedWhy::QueueFull,
        Refusal::NoVm | Refusal::NoVmOfKind { .. } => RefusedWhy::NoVm,
        Refusal::TooLarge { .. } => RefusedWhy::TooLarge,
    }
}
