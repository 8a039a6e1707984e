//! One alarm per actor: the wish of a deciding machine to be woken.

use ractor::{ActorRef, Message};
use tokio::task::JoinHandle;
use vocabulary::Moment;

use crate::clock::Clock;

/// Wakes an actor at the earliest moment it has asked for. Asking again for a later one costs nothing: the earlier
/// alarm rings, and the machine says again when it wants to be woken.
pub struct Alarm {
    clock: Clock,
    set_for: Moment,
    task: Option<JoinHandle<()>>,
}

impl Alarm {
    /// An alarm that is not set.
    pub fn new(clock: Clock) -> Self {
        Self { clock, set_for: Moment::NEVER, task: None }
    }

    /// Rings at `wish`, if there is one and no earlier alarm is set.
    pub fn set<M: Message>(&mut self, wish: Option<Moment>, actor: &ActorRef<M>, ring: fn() -> M) {
        let Some(wish) = wish else { return };
        if wish >= self.set_for {
            return;
        }
        self.stop();
        let (actor, at) = (actor.clone(), tokio::time::Instant::from_std(self.clock.instant(wish)));
        self.set_for = wish;
        self.task = Some(tokio::spawn(async move {
            tokio::time::sleep_until(at).await;
            // An actor that has ended needs no waking.
            let _ = actor.cast(ring());
        }));
    }

    /// It has rung.
    pub fn rang(&mut self) {
        self.set_for = Moment::NEVER;
        self.task = None;
    }

    fn stop(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
        }
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        self.stop();
    }
}
