//! Keeps the actors of one role alive.
//!
//! **Promises:** an actor that crashes (a panic, an error from its handler) is logged, counted and started again
//! after a short pause, from the same arguments; the process lives on. One that crashes again and again ends the
//! role, because then something is wrong that a fresh actor does not cure, and whoever runs the process should know.
//! **Gives up:** the crashed actor's state. Each actor's header says what that costs.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, RpcReplyPort, SpawnErr, SupervisionEvent};
use tokio::sync::watch;

/// Crashes of one actor within [`CRASH_WINDOW`] after which its role ends.
const CRASHES_BORNE: usize = 5;
/// See [`CRASHES_BORNE`].
const CRASH_WINDOW: Duration = Duration::from_secs(60);
/// How long one actor may take to say its last words.
const STOP_PATIENCE: Duration = Duration::from_secs(5);
/// Pause before an actor is started again.
const PAUSE: Duration = Duration::from_millis(100);

/// Starts an actor under a supervisor.
pub type Spawn =
    Box<dyn Fn(ActorCell) -> Pin<Box<dyn Future<Output = Result<ActorCell, SpawnErr>> + Send>> + Send + Sync>;

/// One actor of a role and how to start it.
pub struct Child {
    name: &'static str,
    spawn: Spawn,
    running: Option<ActorCell>,
    crashes: VecDeque<Instant>,
}

impl Child {
    /// An actor that is started from a copy of its arguments, again and again if need be.
    pub fn new<A>(name: &'static str, make: fn() -> A, arguments: A::Arguments) -> Self
    where
        A: Actor,
        A::Arguments: Clone + Sync,
    {
        let spawn: Spawn = Box::new(move |supervisor| {
            let arguments = arguments.clone();
            Box::pin(async move {
                let (actor, _) = Actor::spawn_linked(None, make(), arguments, supervisor).await?;
                Ok(actor.get_cell())
            })
        });
        Self::with(name, spawn)
    }

    /// An actor with a way of its own to be started.
    pub fn with(name: &'static str, spawn: Spawn) -> Self {
        Self { name, spawn, running: None, crashes: VecDeque::new() }
    }
}

/// What the supervisor is made of.
pub struct Arguments {
    /// Started in this order, stopped in the opposite one.
    pub children: Vec<Child>,
    /// No longer starts anything again.
    pub stopping: bool,
    /// Told why the role ends, when it must.
    pub verdict: watch::Sender<Option<String>>,
    /// Called for every actor that is started again.
    pub restarted: Arc<dyn Fn() + Send + Sync>,
}

/// What a supervisor is asked.
pub enum Order {
    /// To start a child again, by its place.
    StartAgain(usize),
    /// To stop all of them, each with its last words, and say so.
    StopAll(RpcReplyPort<()>),
}

/// The actor.
pub struct Supervisor;

impl Actor for Supervisor {
    type Msg = Order;
    type State = Arguments;
    type Arguments = Arguments;

    async fn pre_start(
        &self,
        me: ActorRef<Order>,
        mut given: Arguments,
    ) -> Result<Arguments, ActorProcessingErr> {
        for child in &mut given.children {
            let cell =
                (child.spawn)(me.get_cell()).await.map_err(|error| format!("{}: {error}", child.name))?;
            child.running = Some(cell);
        }
        Ok(given)
    }

    async fn handle(
        &self,
        me: ActorRef<Order>,
        order: Order,
        state: &mut Arguments,
    ) -> Result<(), ActorProcessingErr> {
        match order {
            Order::StartAgain(_) if state.stopping => {}
            Order::StartAgain(place) => start_again(&me, state, place).await,
            Order::StopAll(done) => {
                state.stopping = true;
                for child in state.children.iter_mut().rev() {
                    if let Some(cell) = child.running.take()
                        && cell.stop_and_wait(None, Some(STOP_PATIENCE)).await.is_err()
                    {
                        tracing::warn!(actor = child.name, "did not stop in time");
                    }
                }
                // Nobody may be waiting any more.
                let _ = done.send(());
            }
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        me: ActorRef<Order>,
        event: SupervisionEvent,
        state: &mut Arguments,
    ) -> Result<(), ActorProcessingErr> {
        let (cell, reason) = match event {
            SupervisionEvent::ActorFailed(cell, error) => (cell, error.to_string()),
            SupervisionEvent::ActorTerminated(cell, _, reason) => {
                (cell, reason.unwrap_or_else(|| "it ended by itself".into()))
            }
            _ => return Ok(()),
        };
        let place = state.children.iter().position(|child| {
            !state.stopping && child.running.as_ref().is_some_and(|running| running.get_id() == cell.get_id())
        });
        if let Some(place) = place {
            tracing::error!(actor = state.children[place].name, reason, "crashed");
            crashed(&me, state, place);
        }
        Ok(())
    }

    async fn post_stop(&self, _: ActorRef<Order>, state: &mut Arguments) -> Result<(), ActorProcessingErr> {
        state.verdict.send_if_modified(|verdict| {
            let first = verdict.is_none();
            verdict.get_or_insert_with(|| "stopped".into());
            first
        });
        Ok(())
    }
}

async fn start_again(me: &ActorRef<Order>, state: &mut Arguments, place: usize) {
    let child = &mut state.children[place];
    match (child.spawn)(me.get_cell()).await {
        Ok(cell) => {
            child.running = Some(cell);
            (state.restarted)();
            tracing::warn!(actor = child.name, "started again");
        }
        Err(error) => {
            tracing::error!(actor = child.name, %error, "could not be started again");
            crashed(me, state, place);
        }
    }
}

/// Starts a crashed child again after a pause, or ends the role if that has not helped before.
fn crashed(me: &ActorRef<Order>, state: &mut Arguments, place: usize) {
    let child = &mut state.children[place];
    child.running = None;
    let now = Instant::now();
    child.crashes.push_back(now);
    while child.crashes.front().is_some_and(|at| now.duration_since(*at) > CRASH_WINDOW) {
        child.crashes.pop_front();
    }
    if child.crashes.len() > CRASHES_BORNE {
        let verdict = format!("{} crashed {} times within a minute", child.name, child.crashes.len());
        tracing::error!(verdict, "giving up");
        state.verdict.send_replace(Some(verdict));
        me.stop(None);
        return;
    }
    me.send_after(PAUSE, move || Order::StartAgain(place));
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// Panics when told to.
    struct Fragile;

    impl Actor for Fragile {
        type Msg = bool;
        type State = ();
        type Arguments = Arc<Births>;

        async fn pre_start(&self, me: ActorRef<bool>, births: Arc<Births>) -> Result<(), ActorProcessingErr> {
            births.count.fetch_add(1, Ordering::SeqCst);
            *births.newest.lock().unwrap() = Some(me);
            Ok(())
        }

        async fn handle(
            &self,
            _: ActorRef<bool>,
            panic: bool,
            (): &mut (),
        ) -> Result<(), ActorProcessingErr> {
            assert!(!panic, "told to");
            Ok(())
        }
    }

    #[derive(Default)]
    struct Births {
        count: AtomicUsize,
        newest: std::sync::Mutex<Option<ActorRef<bool>>>,
    }

    impl Births {
        async fn wait_for(&self, count: usize) {
            for _ in 0..200 {
                if self.count.load(Ordering::SeqCst) >= count {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            panic!("{} births instead of {count}", self.count.load(Ordering::SeqCst));
        }

        fn crash(&self) {
            let newest = self.newest.lock().unwrap().clone();
            newest.expect("born").cast(true).unwrap();
        }
    }

    async fn supervised(births: &Arc<Births>) -> (ActorRef<Order>, watch::Receiver<Option<String>>) {
        let (verdict, ends) = watch::channel(None);
        let arguments = Arguments {
            children: vec![Child::new("fragile", || Fragile, Arc::clone(births))],
            stopping: false,
            verdict,
            restarted: Arc::new(|| {}),
        };
        let (supervisor, _) = Actor::spawn(None, Supervisor, arguments).await.unwrap();
        (supervisor, ends)
    }

    #[tokio::test]
    async fn a_crashed_actor_is_started_again_and_the_role_lives_on() {
        let births = Arc::new(Births::default());
        let (supervisor, ends) = supervised(&births).await;
        births.crash();
        births.wait_for(2).await;
        assert_eq!(*ends.borrow(), None);
        supervisor.stop(None);
    }

    #[tokio::test]
    async fn stopping_is_no_crash() {
        let births = Arc::new(Births::default());
        let (supervisor, ends) = supervised(&births).await;
        ractor::call_t!(supervisor, Order::StopAll, 5_000).unwrap();
        tokio::time::sleep(PAUSE * 3).await;
        assert_eq!(births.count.load(Ordering::SeqCst), 1);
        assert_eq!(*ends.borrow(), None);
        supervisor.stop(None);
    }

    #[tokio::test]
    async fn one_that_crashes_again_and_again_ends_the_role() {
        let births = Arc::new(Births::default());
        let (_supervisor, mut ends) = supervised(&births).await;
        for crash in 1..=CRASHES_BORNE + 1 {
            births.wait_for(crash).await;
            births.crash();
        }
        let verdict = tokio::time::timeout(Duration::from_secs(10), ends.wait_for(Option::is_some));
        assert!(verdict.await.unwrap().unwrap().as_deref().unwrap().contains("crashed 6 times"));
    }
}
