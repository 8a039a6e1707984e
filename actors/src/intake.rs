//! From subscriptions into a mailbox, with bounds.
//!
//! ractor's mailboxes have none, so every message from outside needs a credit, which the actor gives back when it
//! has handled it. While there is no credit the subscription waits, and NATS's client holds what arrives.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures::{FutureExt, StreamExt};
use ractor::{ActorRef, Message};
use serde::de::DeserializeOwned;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;

use crate::metrics::Common;

/// A subject, and what a message on it becomes.
pub type Intake<M> = (String, fn(async_nats::Message) -> M);

/// So many messages may be on their way to an actor.
#[derive(Clone)]
pub struct Credits(Arc<Semaphore>);

impl Credits {
    /// That many.
    pub fn new(count: usize) -> Self {
        Self(Arc::new(Semaphore::new(count)))
    }

    /// Waits for one and takes it.
    pub async fn take(&self) {
        self.0.acquire().await.expect("the semaphore is never closed").forget();
    }

    /// Gives one back.
    pub fn give_back(&self) {
        self.0.add_permits(1);
    }

    /// What a message says, if it is one of ours; `None`, counted, if not. The credit it came with goes back.
    pub fn redeem<M: DeserializeOwned>(&self, message: &async_nats::Message, metrics: &Common) -> Option<M> {
        self.give_back();
        read(message, metrics)
    }
}

/// What a message says, if it is one of ours; `None`, counted, if not.
pub fn read<M: DeserializeOwned>(message: &async_nats::Message, metrics: &Common) -> Option<M> {
    messages::decode(&message.payload)
        .inspect_err(|error| {
            metrics.decode_failed();
            tracing::warn!(%error, subject = %message.subject, "dropped a message");
        })
        .ok()
}

/// A message to an actor at regular intervals, until it is gone; a slow one gets fewer, never a burst.
pub async fn tick<M: Message>(actor: ActorRef<M>, every: Duration, make: impl Fn() -> M) {
    let mut interval = tokio::time::interval(every);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        if actor.cast(make()).is_err() {
            return;
        }
    }
}

/// One message into a mailbox, for a credit; false where the actor has ended.
async fn hand_over<M: Message>(actor: &ActorRef<M>, credits: &Credits, message: M) -> bool {
    credits.take().await;
    actor.cast(message).is_ok()
}

/// Comes back when it is, or when nobody is left to say so.
pub async fn is_true(watched: &mut watch::Receiver<bool>) {
    let _ = watched.wait_for(|is_true| *is_true).await;
}

/// Tasks that live as long as their actor's state.
#[derive(Default)]
pub struct Tasks(Vec<JoinHandle<()>>);

impl Tasks {
    /// A task that is ended with the actor.
    pub fn spawn(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        self.0.push(tokio::spawn(task));
    }

    /// Every message of a subscription, wrapped, for a credit each. Ends when the actor has.
    pub fn forward<M: Message>(
        &mut self,
        mut subscription: async_nats::Subscriber,
        actor: &ActorRef<M>,
        credits: &Credits,
        wrap: impl Fn(async_nats::Message) -> M + Send + 'static,
    ) {
        let (actor, credits) = (actor.clone(), credits.clone());
        self.spawn(async move {
            while let Some(message) = subscription.next().await {
                if !hand_over(&actor, &credits, wrap(message)).await {
                    break;
                }
            }
        });
    }

    /// As [`Tasks::forward`], until `closing` says so: then nothing new is asked for, what has come already is still handed over,
    /// and `closed` follows.
    pub fn forward_until<M: Message>(
        &mut self,
        mut subscription: async_nats::Subscriber,
        actor: &ActorRef<M>,
        credits: &Credits,
        closing: &watch::Receiver<bool>,
        wrap: impl Fn(async_nats::Message) -> M + Send + 'static,
        closed: impl FnOnce() -> M + Send + 'static,
    ) {
        let (actor, credits, mut closing) = (actor.clone(), credits.clone(), closing.clone());
        self.spawn(async move {
            let mut drains = false;
            let closing = is_true(&mut closing);
            tokio::pin!(closing);
            loop {
                tokio::select! {
                    biased;
                    message = subscription.next() => {
                        let Some(message) = message else { break };
                        if !hand_over(&actor, &credits, wrap(message)).await {
                            return;
                        }
                    }
                    () = &mut closing, if !drains => {
                        drains = true;
                        if subscription.drain().await.is_err() {
                            break;
                        }
                    }
                }
            }
            let _ = actor.cast(closed());
        });
    }

    /// As [`Tasks::forward`], after everything else that the same wake-up has brought: for what nobody waits for, so that an
    /// answer which came with it is passed on first.
    pub fn forward_last<M: Message>(
        &mut self,
        mut subscription: async_nats::Subscriber,
        actor: &ActorRef<M>,
        credits: &Credits,
        wrap: impl Fn(async_nats::Message) -> M + Send + 'static,
    ) {
        let (actor, credits) = (actor.clone(), credits.clone());
        self.spawn(async move {
            while let Some(message) = subscription.next().await {
                tokio::task::yield_now().await;
                let mut next = Some(message);
                while let Some(message) = next {
                    if !hand_over(&actor, &credits, wrap(message)).await {
                        return;
                    }
                    // What has come meanwhile need not wait for another turn.
                    next = subscription.next().now_or_never().flatten();
                }
            }
        });
    }

    /// [`tick`], for as long as these tasks live.
    pub fn tick<M: Message>(
        &mut self,
        actor: &ActorRef<M>,
        every: Duration,
        make: impl Fn() -> M + Send + Sync + 'static,
    ) {
        self.spawn(tick(actor.clone(), every, make));
    }
}

impl Drop for Tasks {
    fn drop(&mut self) {
        for task in &self.0 {
            task.abort();
        }
    }
}
