//! What a Workshop has made and must not forget: idle sandboxes to look after, groups to remove.
//!
//! **Knows:** every sandbox's pipes and group while they are there.
//! **Promises:** an idle sandbox that writes is drained within a tenth of a second, so that it is not
//! blocked; what was not stopped is removed when the Workshop closes.
//! **Gives up:** stopping anything by itself.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Waker};
use std::time::Duration;

use crate::cgroup::Group;
use crate::talk::Talk;

/// A pipe holds 64 KiB; who fills more than that in such a time while idle waits a little.
const TURN: Duration = Duration::from_millis(100);

/// See the file's header.
#[derive(Default)]
pub(crate) struct Register {
    idle: Mutex<Vec<Weak<tokio::sync::Mutex<Talk>>>>,
    groups: Mutex<HashMap<String, Group>>,
}

impl Register {
    /// Looks after idle sandboxes for as long as the register is there.
    pub(crate) async fn look_after(register: Weak<Register>) {
        let mut turns = tokio::time::interval(TURN);
        turns.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            turns.tick().await;
            let Some(register) = register.upgrade() else { return };
            let mut idle = register.idle.lock().unwrap_or_else(PoisonError::into_inner);
            idle.retain(|talk| {
                let Some(talk) = talk.upgrade() else { return false };
                // One that is running is drained by its run.
                if let Ok(mut talk) = talk.try_lock()
                    && talk.in_step
                {
                    talk.look_after(&mut Context::from_waker(Waker::noop()));
                }
                true
            });
        }
    }

    /// Looks after this one from now on.
    pub(crate) fn watch(&self, talk: &Arc<tokio::sync::Mutex<Talk>>) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::downgrade(talk));
    }

    /// Remembers that `group` must be removed.
    pub(crate) fn remember(&self, group: Group) {
        let path = group.path().to_owned();
        self.groups.lock().unwrap_or_else(PoisonError::into_inner).insert(path, group);
    }

    /// The group is gone.
    pub(crate) fn forget(&self, group: &Group) {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner).remove(group.path());
    }

    /// All groups that are left.
    pub(crate) fn take_groups(&self) -> Vec<Group> {
        let mut groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        groups.drain().map(|(_, group)| group).collect()
    }
}
