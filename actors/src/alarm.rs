//! One alarm per actor: the wish of a deciding machine to be woken.

use std::time::Duration;

use ractor::{ActorRef, Message};
use tokio::task::JoinHandle;
use vocabulary::Moment;

/// The longest that an alarm sleeps.
const LONGEST: Duration = Duration::from_secs(3_600);

/// Wakes an actor at the earliest moment it has asked for. Asking again for a later one costs nothing: the earlier
/// alarm rings, and the machine says again when it wants to be woken.
pub struct Alarm {
    set_for: Moment,
    task: Option<JoinHandle<()>>,
}

impl Alarm {
    /// An alarm that is not set.
    pub fn new() -> Self {
        Self { set_for: Moment::NEVER, task: None }
    }

    /// Rings at `wish` as seen from `now`, if there is a wish and no earlier alarm is set.
    pub fn set<M: Message>(
        &mut self,
        now: Moment,
        wish: Option<Moment>,
        actor: &ActorRef<M>,
        ring: fn() -> M,
    ) {
        let Some(wish) = wish else { return };
        if wish >= self.set_for {
            return;
        }
        self.stop();
        // A wish for the far future needs no timer that far ahead: whoever is woken early says so again.
        let (actor, sleep) = (actor.clone(), Duration::from(wish.after(now)).min(LONGEST));
        self.set_for = wish;
        self.task = Some(tokio::spawn(async move {
            tokio::time::sleep(sleep).await;
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
