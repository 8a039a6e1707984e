//! The Frontend: the doors, and the book of calls that are open.
//!
//! **Lives:** any number per house; nothing of it is shared or kept.
//! **Hears:** calls from the HTTP door ([`desk`]), `windfall.invoke.*.*` ([`nats_door`]), the durable stream
//! ([`durable`]); [`Reply`] from Invokers and Controllers; announcements of Controllers.
//! **Says:** [`Submit`] to the Controller that owns the function; the answer to the caller.
//! **Owns:** one [`Book`] of open calls and the list of live [`Controllers`].
//! **If it dies:** HTTP and NATS callers see an error and call again; durable work is delivered to another Frontend
//! by JetStream, under the same invocation id.

pub mod argument;
mod book;
pub mod call;
mod controllers;
pub mod desk;
mod durable;
pub mod http;
mod input_size;
mod lately;
mod leaving;
mod nats_door;
pub mod openwhisk;
pub mod peers;
mod recovery;
pub mod throttle;

use std::sync::Arc;
use std::time::Duration;

use async_nats::connection::State;
use async_nats::jetstream;
use messages::{Answer, ControllerAlive, FrontendAlive, Payload, RefusedWhy, Reply, Submit, subjects};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::sync::oneshot;
use vocabulary::{Attempt, FrontendId, InvocationId, Moment, Outcome, Span};

use self::book::{Book, Open};
use self::call::{Call, CallError, CallResult};
use self::controllers::Controllers;
use self::desk::{Desk, Place};
use self::durable::DurableWaiter;
use self::lately::{Delivered, Lately};
use self::leaving::Leaving;

use self::nats_door::NatsWaiter;
use crate::bus::{Bus, is_no_responders};
use crate::chance;
use crate::clock::Clock;
use crate::intake::{Credits, Tasks};
use crate::neighbours::Neighbours;
use crate::settings::Settings;
use crate::store::Store;
use crate::unrun::{self, Unrun};

/// How often the Frontend looks after what is open.
const TICK: Duration = Duration::from_millis(250);

/// Everything a Frontend hears.
pub enum FrontendMessage {
    /// A call from the desk or a door of this process.
    Call {
        /// What is wanted.
        call: Box<Call>,
        /// Who waits.
        waiter: Waiter,
        /// Its counted place.
        place: Place,
    },
    /// A request at the NATS door.
    Door(async_nats::Message),
    /// A delivery of the durable stream.
    Durable(Box<jetstream::Message>),
    /// Something on a reply subject of ours.
    Reply(async_nats::Message),
    /// A Controller's sign of life.
    Controller(async_nats::Message),
    /// A Controller has given a VM up.
    Lost(async_nats::Message),
    /// A Controller does not have these any more.
    Missing(Vec<InvocationId>),
    /// The records of these could not be read.
    NotRead(Vec<InvocationId>),
    /// What the records say of an invocation whose answer may have been lost.
    Recovered {
        /// Which.
        invocation: InvocationId,
        /// Its answer, if it has ended.
        answer: Option<Box<Answer>>,
    },
    /// A door takes nothing new any more.
    DoorClosed,
    /// Take nothing new, and say when nothing is open.
    Leave(oneshot::Sender<()>),
    /// Time passes.
    Tick,
}

/// Who waits for an answer.
pub enum Waiter {
    /// A task of this process, such as an HTTP request.
    Desk(oneshot::Sender<CallResult>),
    /// A caller at the NATS door.
    Nats(NatsWaiter),
    /// The durable stream, until it is acknowledged.
    Durable(Box<DurableWaiter>),
}

/// What a Frontend is made of; kept by the supervisor so that it can be made again.
#[derive(Clone)]
pub struct Arguments {
    /// Everything that can be configured.
    pub settings: Arc<Settings>,
    /// The connection.
    pub bus: Bus,
    /// Functions and records.
    pub store: Store,
    /// Time.
    pub clock: Clock,
    /// Where calls of this process come in.
    pub desk: Desk,
    /// What is counted.
    pub metrics: Arc<crate::metrics::FrontendMetrics>,
    /// Controllers of this process.
    pub neighbours: Neighbours,
}

/// The actor; its state is [`Shell`].
pub struct Frontend;

/// Since when the server has been the one that it is.
struct Connection {
    reconnects: u64,
    since_unix_ms: u64,
}

/// The actor's state.
pub struct Shell {
    id: FrontendId,
    given: Arguments,
    book: Book,
    lately: Lately<Delivered>,
    controllers: Controllers,
    credits: Credits,
    durable_places: Credits,
    announced: Moment,
    connection: Connection,
    leaving: Leaving,
    _tasks: Tasks,
}

impl Actor for Frontend {
    type Msg = FrontendMessage;
    type State = Shell;
    type Arguments = Arguments;

    async fn pre_start(
        &self,
        me: ActorRef<FrontendMessage>,
        given: Arguments,
    ) -> Result<Shell, ActorProcessingErr> {
        let id = chance::frontend_id();
        let client = given.bus.client();
        let credits = Credits::new(4096);
        let durable_places = Credits::new(given.settings.frontend.durable_in_flight);
        let mut tasks = Tasks::default();
        tasks.forward(client.subscribe(subjects::answers(id)).await?, &me, &credits, FrontendMessage::Reply);
        tasks.forward(
            client.subscribe(subjects::ANNOUNCE_CONTROLLER).await?,
            &me,
            &credits,
            FrontendMessage::Controller,
        );
        tasks.forward(client.subscribe(subjects::ANNOUNCE_LOST).await?, &me, &credits, FrontendMessage::Lost);
        let leaving = Leaving::default();
        let closing = leaving.doors.subscribe();
        tasks.forward_until(
            client.queue_subscribe(subjects::INVOKE_ALL, subjects::FRONTENDS.into()).await?,
            &me,
            &credits,
            &closing,
            FrontendMessage::Door,
            || FrontendMessage::DoorClosed,
        );
        let results = client.queue_subscribe(subjects::RESULT_ALL, subjects::FRONTENDS.into()).await?;
        tasks.spawn(nats_door::answer_results(results, given.bus.clone(), given.store.clone()));
        tasks.spawn(durable::pull(given.store.clone(), me.clone(), durable_places.clone(), closing));
        let others = client.subscribe(subjects::ANNOUNCE_FRONTEND).await?;
        let (peers, throttle) = (given.desk.peers().clone(), Arc::clone(given.desk.throttle()));
        tasks.spawn(peers.listen(id, others, throttle, Arc::clone(&given.metrics)));
        let questions = client.subscribe(subjects::ANNOUNCE_FUNCTIONS).await?;
        let (bus, store, metrics) = (given.bus.clone(), given.store.clone(), Arc::clone(&given.metrics));
        tasks.spawn(peers::answer(id, questions, bus, store, metrics));
        tasks.tick(&me, TICK, || FrontendMessage::Tick);
        given.desk.attach(me);
        tracing::info!(frontend = %id, "Frontend is up");
        Ok(Shell {
            id,
            book: Book::default(),
            lately: Lately::new(given.settings.frontend.recent_mib << 20),
            controllers: Controllers::new(TICK.into()),
            credits,
            durable_places,
            announced: Moment::ORIGIN,
            connection: Connection {
                reconnects: given.bus.reconnects(),
                since_unix_ms: given.clock.latest_unix_ms(),
            },
            leaving,
            _tasks: tasks,
            given,
        })
    }

    async fn handle(
        &self,
        me: ActorRef<FrontendMessage>,
        message: FrontendMessage,
        shell: &mut Shell,
    ) -> Result<(), ActorProcessingErr> {
        let now = shell.now();
        shell.controllers.awake(now);
        match message {
            FrontendMessage::Call { call, waiter, place } => shell.open(*call, waiter, place).await,
            FrontendMessage::Door(message) => {
                shell.credits.give_back();
                shell.nats_call(message).await;
            }
            FrontendMessage::Durable(message) => shell.durable_call(&me, *message).await,
            FrontendMessage::Reply(message) => {
                shell.credits.give_back();
                shell.reply(message).await;
            }
            FrontendMessage::Controller(message) => {
                shell.credits.give_back();
                shell.controller_heard(&message).await;
            }
            FrontendMessage::Lost(message) => {
                shell.credits.give_back();
                shell.vm_lost(&message);
            }
            FrontendMessage::Missing(invocations) => shell.look_up(&me, invocations, recovery::GRACE),
            FrontendMessage::NotRead(invocations) => shell.look_again(&me, invocations),
            FrontendMessage::Recovered { invocation, answer } => shell.recovered(invocation, answer).await,
            FrontendMessage::DoorClosed => shell.leaving.closed += 1,
            FrontendMessage::Leave(done) => shell.leaving.begin(done),
            FrontendMessage::Tick => shell.tick(&me).await,
        }
        if shell.leaving.is_over(shell.book.len()) {
            shell.leaving.end();
        }
        Ok(())
    }

    async fn post_stop(
        &self,
        _: ActorRef<FrontendMessage>,
        shell: &mut Shell,
    ) -> Result<(), ActorProcessingErr> {
        shell.give_up_what_is_open().await;
        Ok(())
    }
}

impl Shell {
    fn now(&self) -> Moment {
        self.given.clock.now()
    }

    /// When the connection to NATS was made that we have now, or a little later.
    fn connected_unix_ms(&mut self) -> u64 {
        let reconnects = self.given.bus.reconnects();
        if self.connection.reconnects != reconnects {
            // Too late costs a look-up, too early might run something twice.
            self.connection = Connection { reconnects, since_unix_ms: self.given.clock.latest_unix_ms() };
        }
        self.connection.since_unix_ms
    }

    /// Takes a call into the book and hands it to the Controller that owns its function.
    async fn open(&mut self, call: Call, waiter: Waiter, place: Place) {
        let invocation = self.open_unrouted(call, waiter, place);
        self.route(invocation).await;
    }

    /// Takes a call into the book.
    fn open_unrouted(&mut self, call: Call, waiter: Waiter, place: Place) -> InvocationId {
        let invocation = call.invocation.unwrap_or_else(chance::invocation_id);
        let durable = matches!(waiter, Waiter::Durable(_));
        let now = self.now();
        let patience = Span::millis(self.given.settings.frontend.patience_ms);
        let span = crate::telemetry::start(
            "invocation",
            call.trace.as_ref(),
            opentelemetry::trace::SpanKind::Server,
        );
        let trace = span.as_ref().map(|span| span.context()).or(call.trace);
        let function = call.function.card();
        let submit = Submit {
            invocation,
            function,
            path: call.function.path(),
            namespace: call.namespace,
            reply_to: subjects::answer(self.id, invocation),
            first_attempt: Attempt::FIRST,
            // Durable work waits as long as it must; it is redelivered if this Frontend ends.
            patience: if durable { Span::FOREVER } else { patience },
            payload: call.payload.into(),
            input_size: call.input_size,
            durable,
            api_key: call.api_key,
            transaction: call.transaction,
            trace,
        };
        let open = Open::new(submit, call.function, waiter, place, span, now, patience);
        self.book.insert(invocation, open);
        invocation
    }

    /// Sends an open call to the Controller that owns its function; without one it stays in the book unrouted
    /// until a Controller is heard.
    async fn route(&mut self, invocation: InvocationId) {
        let now = self.now();
        let Some(open) = self.book.get_mut(invocation) else { return };
        open.checked = now;
        open.controller = self.controllers.owner(open.submit.function.id, now);
        open.routed |= open.controller.is_some();
        if let Some(controller) = open.controller
            && !self.given.neighbours.hand_over(controller, &open.submit)
        {
            let reply = open.submit.reply_to.clone();
            self.given.bus.send_expecting(subjects::controller_submit(controller), reply, &open.submit).await;
        }
    }

    async fn reply(&mut self, message: async_nats::Message) {
        if is_no_responders(&message) {
            let invocation = message.subject.rsplit('.').next().and_then(|token| token.parse().ok());
            if let Some(invocation) = invocation {
                self.controller_gone(invocation).await;
            }
            return;
        }
        match messages::decode::<Reply>(&message.payload) {
            Ok(Reply::Answer(answer)) => self.answered(answer).await,
            Ok(Reply::Refused(refused)) => self.refused(refused).await,
            Ok(Reply::Fence(fence)) => {
                if let Some(open) = self.book.get_mut(fence.invocation) {
                    open.fence(fence);
                }
            }
            Err(error) => {
                self.given.metrics.common.decode_failed();
                tracing::warn!(%error, subject = %message.subject, "dropped a reply");
            }
        }
    }

    async fn answered(&mut self, answer: Answer) {
        let valid = self.book.get_mut(answer.invocation).is_some_and(|open| open.counts(answer.attempt));
        match self.book.take_if(answer.invocation, valid) {
            Some(open) => {
                let Some(vm) = Delivered::before_its_record(&open, &answer) else {
                    self.deliver(open, Ok(answer)).await;
                    return;
                };
                let definition = Arc::clone(&open.definition);
                let submit = self.deliver(open, Ok(answer.clone())).await;
                let delivered = Delivered { submit, definition, answer };
                let dropped = self.lately.remember(self.now(), vm, delivered.bytes(), delivered);
                self.given.metrics.recent_answers_dropped(dropped);
            }
            None => self.given.metrics.stale_answer(),
        }
    }

    async fn refused(&mut self, refused: messages::Refused) {
        if refused.why == RefusedWhy::NotMine {
            self.controller_gone(refused.invocation).await;
            return;
        }
        if let Some(open) = self.book.take_if(refused.invocation, true) {
            self.given.metrics.refused(refused.why.into());
            let error = CallError::Refused { why: refused.why, reason: refused.reason };
            self.deliver(open, Err(error)).await;
        }
    }

    /// Ends an open call: exactly once for each, whatever the waiter. Gives back what was submitted, without its argument.
    async fn deliver(&mut self, open: Open, result: CallResult) -> Submit {
        let now = self.now();
        if let Ok(answer) = &result {
            self.given.metrics.answered(answer.outcome, now.since(open.since));
        }
        if let Some(span) = open.span {
            span.end();
        }
        match open.waiter {
            Waiter::Desk(sender) => {
                // The waiter may have gone, with a 202. What has run has its record; what has not gets one.
                if let Err(Err(error)) = sender.send(result) {
                    self.keep_unrun(open.submit.clone(), now.since(open.since), error.to_string());
                }
            }
            Waiter::Nats(waiter) => waiter.deliver(&self.given.bus, open.submit.invocation, result).await,
            Waiter::Durable(waiter) => {
                waiter.deliver(&self.given.bus, &self.given.store, &open.submit, result).await;
                self.durable_places.give_back();
            }
        }
        Submit { payload: Payload::default(), ..open.submit }
    }

    /// Nobody hears any more that it was not run: its record must say so.
    fn keep_unrun(&self, submit: Submit, waited: Span, reason: String) {
        let store = self.given.store.clone();
        tokio::spawn(async move {
            let (attempt, outcome) = (submit.first_attempt, Outcome::InternalError);
            let record = unrun::record(&submit, &Unrun { attempt, outcome, reason: &reason, waited });
            if let Err(error) = store.records().write(record).await {
                tracing::warn!(%error, invocation = %submit.invocation, "could not store a record");
            }
        });
    }

    async fn controller_heard(&mut self, message: &async_nats::Message) {
        let Ok(alive) = messages::decode::<ControllerAlive>(&message.payload) else {
            self.given.metrics.common.decode_failed();
            return;
        };
        let now = self.now();
        if alive.leaving {
            self.controllers.gone(alive.controller);
            self.reroute_orphans().await;
        } else if self.controllers.heard(alive.controller, now) {
            tracing::info!(controller = %alive.controller, "found a Controller");
            self.reroute_orphans().await;
        }
    }

    /// "No responders": whoever was to decide on this invocation is not there any more.
    async fn controller_gone(&mut self, invocation: InvocationId) {
        let Some(controller) = self.book.get_mut(invocation).and_then(|open| open.controller) else { return };
        self.controllers.gone(controller);
        self.reroute_orphans().await;
    }

    /// Every open call whose Controller is not alive goes to the one that owns its function now.
    async fn reroute_orphans(&mut self) {
        let now = self.now();
        for invocation in self.book.orphans(|controller| self.controllers.is_alive(controller, now)) {
            if let Some(open) = self.book.get_mut(invocation) {
                if open.controller.is_some() {
                    self.given.metrics.resubmitted();
                }
                open.submit_elsewhere();
            }
            self.route(invocation).await;
        }
    }

    async fn tick(&mut self, me: &ActorRef<FrontendMessage>) {
        let now = self.now();
        if now.since(self.announced) >= Span::millis(500) {
            self.announced = now;
            let throttle = self.given.desk.throttle();
            let alive = FrontendAlive { frontend: self.id, calls: throttle.calls() };
            throttle.learn_limits(self.given.store.namespaces().list().iter().map(|known| &**known));
            self.given.bus.send(subjects::ANNOUNCE_FRONTEND.into(), &alive).await;
        }
        if self.given.bus.client().connection_state() != State::Connected {
            self.controllers.deaf(now);
        }
        if self.controllers.forget_silent(now) {
            self.reroute_orphans().await;
        }
        self.lately.forget_quiet(now, Span::millis(self.given.settings.controller.vm_silence_ms));
        self.given.metrics.open(self.book.len(), self.given.desk.room().held_bytes());
        self.given.metrics.controllers(self.controllers.count());
        self.inquire(me);
        for invocation in self.book.overdue(now) {
            if let Some(open) = self.book.take_if(invocation, true) {
                let reason = if !open.routed {
                    "no Controller is there to have it run; is one running?".to_owned()
                } else {
                    format!("no answer after {}; its record may tell", now.since(open.since))
                };
                self.deliver(open, Err(CallError::Unavailable { reason })).await;
            }
        }
        for open in self.book.durable_unconfirmed(now) {
            if let Waiter::Durable(waiter) = &open.waiter {
                waiter.in_progress().await;
            }
        }
    }
}
