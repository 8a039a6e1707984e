//! The desk behind every door: where a call is handed in and its result waited for.
//!
//! **Knows:** how to reach this process's Frontend actor and the durable stream.
//! **Promises:** a call is counted against the Frontend's limits before anything is held for it; a caller that
//! goes away leaves nothing behind.
//! **Gives up:** deciding; the Frontend actor keeps the book of open calls.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, RwLock};
use std::time::Duration;

use async_nats::HeaderMap;
use messages::{HEADER_INVOCATION, HEADER_TRACEPARENT, HEADER_TRACESTATE, RefusedWhy, subjects};
use ractor::ActorRef;
use tokio::sync::oneshot;
use vocabulary::{InvocationId, Span};

use super::call::{Call, CallError, CallResult};
use super::peers::Peers;
use super::throttle::Throttle;
use super::{FrontendMessage, Waiter};
use crate::bus::Bus;
use crate::store::{Store, StoreError};
use crate::{chance, settings};

/// Internal header of a durable submission: the transaction id.
pub(super) const HEADER_TRANSACTION: &str = "Windfall-Transaction";
/// Internal header of a durable submission: the caller's key, for functions that are given it.
pub(super) const HEADER_API_KEY: &str = "Windfall-Api-Key";

/// How long JetStream may take to acknowledge a durable submission before the caller is told to try again.
const SUBMIT_PATIENCE: Duration = Duration::from_secs(5);

/// A handle to the Frontend; copies share it. It outlives the actor: a restarted one takes its place.
#[derive(Clone)]
pub struct Desk {
    frontend: Arc<RwLock<Option<ActorRef<FrontendMessage>>>>,
    store: Store,
    room: Arc<Room>,
    throttle: Arc<Throttle>,
    peers: Peers,
}

/// What may be open at once.
#[derive(Debug)]
pub(super) struct Room {
    open: AtomicUsize,
    held_bytes: AtomicUsize,
    open_limit: usize,
    held_limit: usize,
}

/// A counted place; gives it back when dropped.
#[derive(Debug)]
pub struct Place {
    room: Arc<Room>,
    bytes: usize,
}

impl Room {
    pub(super) fn new(open_limit: usize, held_mib: usize) -> Arc<Self> {
        Arc::new(Self {
            open: AtomicUsize::new(0),
            held_bytes: AtomicUsize::new(0),
            open_limit,
            held_limit: held_mib << 20,
        })
    }

    /// Counts one call in, or says which limit is reached.
    pub(super) fn enter(self: &Arc<Self>, bytes: usize) -> Result<Place, CallError> {
        let open = self.open.fetch_add(1, Ordering::Relaxed);
        let held = self.held_bytes.fetch_add(bytes, Ordering::Relaxed);
        let place = Place { room: Arc::clone(self), bytes };
        if open >= self.open_limit {
            return Err(full(format!(
                "this Frontend already has {open} open invocations (frontend.open_limit)"
            )));
        }
        if held + bytes > self.held_limit {
            return Err(full(format!(
                "this Frontend already holds {held} bytes of arguments (frontend.held_mib)"
            )));
        }
        Ok(place)
    }

    pub(super) fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    pub(super) fn held_bytes(&self) -> usize {
        self.held_bytes.load(Ordering::Relaxed)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.room.open.fetch_sub(1, Ordering::Relaxed);
        self.room.held_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

fn full(reason: String) -> CallError {
    CallError::Refused { why: RefusedWhy::QueueFull, reason }
}

impl Desk {
    /// A desk with nobody behind it yet.
    pub fn new(bus: Bus, store: Store, settings: &settings::Settings) -> Self {
        let room = Room::new(settings.frontend.open_limit, settings.frontend.held_mib);
        let throttle = Arc::new(Throttle::new(&settings.limits));
        Self { frontend: Arc::default(), store, room, throttle, peers: Peers::new(bus) }
    }

    /// What namespaces may do, at every door of this process.
    pub fn throttle(&self) -> &Arc<Throttle> {
        &self.throttle
    }

    /// The other Frontends.
    pub fn peers(&self) -> &Peers {
        &self.peers
    }

    /// The actor that serves from now on.
    pub(super) fn attach(&self, frontend: ActorRef<FrontendMessage>) {
        *self.frontend.write().expect("nobody panics holding this lock") = Some(frontend);
    }

    pub(super) fn room(&self) -> &Arc<Room> {
        &self.room
    }

    fn send(&self, message: FrontendMessage) -> Result<(), CallError> {
        let frontend = self.frontend.read().expect("nobody panics holding this lock").clone();
        frontend.and_then(|frontend| frontend.cast(message).ok()).ok_or_else(restarting)
    }

    /// Has the Frontend take nothing new, and comes back when nothing is open there, or nobody is there.
    pub async fn leave(&self) {
        let (done, left) = oneshot::channel();
        if self.send(FrontendMessage::Leave(done)).is_ok() {
            let _ = left.await;
        }
    }

    /// Runs a call and waits for its result, `wait` at most.
    pub async fn call(&self, mut call: Call, wait: Span) -> CallResult {
        let place = self.room.enter(call.payload.len())?;
        let invocation = *call.invocation.get_or_insert_with(chance::invocation_id);
        let (sender, mut receiver) = oneshot::channel();
        self.send(FrontendMessage::Call { call: Box::new(call), waiter: Waiter::Desk(sender), place })?;
        match tokio::time::timeout(wait.into(), &mut receiver).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(restarting()),
            Err(_) => {
                // From here on the Frontend knows that nobody listens; what came in the same moment is not lost.
                receiver.close();
                let still_running = CallError::StillRunning { invocation, waited: wait };
                receiver.try_recv().unwrap_or(Err(still_running))
            }
        }
    }

    /// Hands a call to the durable door; returns once JetStream has acknowledged it.
    pub async fn submit(&self, call: Call) -> Result<InvocationId, CallError> {
        let invocation = call.invocation.unwrap_or_else(chance::invocation_id);
        let mut headers = HeaderMap::new();
        headers.insert(HEADER_INVOCATION, invocation.to_string());
        headers.insert(HEADER_TRANSACTION, call.transaction);
        if let Some(key) = call.api_key {
            headers.insert(HEADER_API_KEY, key);
        }
        if let Some(trace) = call.trace {
            headers.insert(HEADER_TRACEPARENT, trace.traceparent);
            if let Some(state) = trace.tracestate {
                headers.insert(HEADER_TRACESTATE, state);
            }
        }
        let path = call.function.path();
        let subject = subjects::accept(&path.namespace, &path.name);
        // JetStream itself drops a repetition of the same id.
        let id = invocation.to_string();
        let accepted = self.store.submissions().publish(subject, headers, call.payload, Some(&id));
        match tokio::time::timeout(SUBMIT_PATIENCE, accepted).await {
            Ok(Ok(())) => Ok(invocation),
            Ok(Err(error @ StoreError::NoSpace { .. })) => Err(full(error.to_string())),
            Ok(Err(error)) => Err(not_accepted(&error.to_string())),
            Err(_) => Err(not_accepted("JetStream did not acknowledge it in time")),
        }
    }

    /// Invocations that are open at this Frontend.
    pub fn open(&self) -> usize {
        self.room.open()
    }
}

fn restarting() -> CallError {
    CallError::Unavailable { reason: "the Frontend is restarting; try again".into() }
}

fn not_accepted(reason: &str) -> CallError {
    CallError::Unavailable { reason: format!("the durable stream did not accept the invocation: {reason}") }
}
