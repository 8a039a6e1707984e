//! How a Frontend ends in order: it takes nothing new, what is open ends, and what does not end in time is told so.
//!
//! **Promises:** whatever came to a door before it closed is taken; nothing that is open is dropped without a word.
//! **Gives up:** telling callers apart from their calls: what was handed to a Controller goes on without us, and its record will tell.

use futures::future::join_all;
use tokio::sync::{oneshot, watch};

use super::call::CallError;
use super::{Shell, Waiter};

/// The doors that this actor itself keeps: requests, and the durable stream.
const DOORS: usize = 2;

/// Whether we are about to end.
pub(super) struct Leaving {
    /// Says to the doors that they close.
    pub(super) doors: watch::Sender<bool>,
    /// So many have.
    pub(super) closed: usize,
    done: Option<oneshot::Sender<()>>,
}

impl Default for Leaving {
    fn default() -> Self {
        Self { doors: watch::Sender::new(false), closed: 0, done: None }
    }
}

impl Leaving {
    /// Closes the doors; `done` hears when the last call has ended.
    pub(super) fn begin(&mut self, done: oneshot::Sender<()>) {
        tracing::info!("this Frontend is about to end: it takes nothing new");
        self.done = Some(done);
        self.doors.send_replace(true);
    }

    /// Whether nothing is left to wait for.
    pub(super) fn is_over(&self, open: usize) -> bool {
        self.done.is_some() && self.closed == DOORS && open == 0
    }

    /// Says so.
    pub(super) fn end(&mut self) {
        if let Some(done) = self.done.take() {
            let _ = done.send(());
        }
    }
}

impl Shell {
    /// The time is over: whoever still waits is told, and what is durable goes to another Frontend at once.
    pub(super) async fn give_up_what_is_open(&mut self) {
        let open = self.book.take_all();
        if open.is_empty() {
            return;
        }
        tracing::warn!(open = open.len(), "this Frontend ends before these calls do");
        let bus = &self.given.bus;
        join_all(open.into_iter().map(async |open| {
            let invocation = open.submit.invocation;
            let reason =
                format!("this Frontend ends; invocation {invocation} may go on, and its record will tell");
            let result = Err(CallError::Unavailable { reason });
            match open.waiter {
                // Gone, perhaps with a 202: then the record is all it wanted.
                Waiter::Desk(sender) => drop(sender.send(result)),
                Waiter::Nats(waiter) => waiter.deliver(bus, invocation, result).await,
                Waiter::Durable(waiter) => waiter.deliver(bus, &self.given.store, &open.submit, result).await,
            }
        }))
        .await;
    }
}
