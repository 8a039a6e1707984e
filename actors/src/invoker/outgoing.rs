//! What Controllers are told, several things in one message, off the reply path.
//!
//! What one wake-up of the process brings is collected, and one task tells it when everything else that woke up has had its
//! turn. A lone ending is told in the same turn, and so in the same write to the server as the answer of its run: one
//! wake-up of the server and of whoever hears both, instead of two.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use messages::{Finished, Finishes, HandBack, HandedBack, subjects};
use tokio::sync::Notify;
use vocabulary::{Attempt, ControllerId, InvocationId, VmId};

use crate::bus::Bus;
use crate::intake::Tasks;

/// Copies share what is collected.
#[derive(Clone)]
pub(super) struct Outgoing(Arc<Inner>);

struct Inner {
    bus: Bus,
    vm: VmId,
    collected: Mutex<Collected>,
    something: Notify,
}

#[derive(Default)]
struct Collected {
    finished: BTreeMap<ControllerId, Vec<Finished>>,
    handed_back: BTreeMap<ControllerId, Vec<HandedBack>>,
}

impl Outgoing {
    /// Nothing yet; `tasks` keeps the one who tells.
    pub(super) fn new(bus: Bus, vm: VmId, tasks: &mut Tasks) -> Self {
        let inner = Inner { bus, vm, collected: Mutex::default(), something: Notify::new() };
        let this = Self(Arc::new(inner));
        let teller = this.clone();
        tasks.spawn(async move {
            loop {
                teller.0.something.notified().await;
                teller.flush().await;
            }
        });
        this
    }

    pub(super) fn finished(&self, controller: ControllerId, finished: Finished) {
        self.collect(|collected| collected.finished.entry(controller).or_default().push(finished));
    }

    pub(super) fn hand_back(&self, controller: ControllerId, (invocation, attempt): (InvocationId, Attempt)) {
        let item = HandedBack { invocation, attempt };
        self.collect(|collected| collected.handed_back.entry(controller).or_default().push(item));
    }

    fn collect(&self, add: impl FnOnce(&mut Collected)) {
        add(&mut self.0.collected.lock().unwrap_or_else(PoisonError::into_inner));
        self.0.something.notify_one();
    }

    /// Tells all that has been collected.
    pub(super) async fn flush(&self) {
        let collected = std::mem::take(&mut *self.0.collected.lock().unwrap_or_else(PoisonError::into_inner));
        let (bus, vm) = (&self.0.bus, self.0.vm);
        for (controller, endings) in collected.finished {
            bus.send(subjects::controller_finished(controller), &Finishes { vm, endings }).await;
        }
        for (controller, items) in collected.handed_back {
            bus.send(subjects::controller_handback(controller), &HandBack { vm, items }).await;
        }
    }
}
