//! What Controllers are told, several things in one message, off the reply path.
//!
//! What one wake-up of the process brings is collected, and one task tells it when everything else that woke up has had its
//! turn. A lone ending is told in the same turn, and so in the same write to the server as the answer of its run: one
//! wake-up of the server and of whoever hears both, instead of two.
//!
//! Who is told beside the Controller that sent a run, because it has taken that over or has sent it, too, is decided in [`Told`].

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use messages::{Ended, Finished, Finishes, HandBack, HandedBack, subjects};
use policies::residency::{End, Known, Say, Told};
use tokio::sync::Notify;
use vocabulary::{Attempt, ControllerId, InvocationId, VmId};

use crate::bus::Bus;
use crate::clock::Clock;
use crate::intake::Tasks;

/// Copies share what is collected.
#[derive(Clone)]
pub(super) struct Outgoing(Arc<Inner>);

struct Inner {
    bus: Bus,
    clock: Clock,
    vm: VmId,
    collected: Mutex<Collected>,
    something: Notify,
}

#[derive(Default)]
struct Collected {
    finished: BTreeMap<ControllerId, Vec<Finished>>,
    handed_back: BTreeMap<ControllerId, Vec<HandedBack>>,
    known: Vec<(ControllerId, messages::Known)>,
    told: Told<Finished>,
}

impl Collected {
    fn finished(&mut self, to: ControllerId, finished: Finished) {
        self.finished.entry(to).or_default().push(finished);
    }

    fn handed_back(&mut self, to: ControllerId, (invocation, attempt): (InvocationId, Attempt)) {
        self.handed_back.entry(to).or_default().push(HandedBack { invocation, attempt });
    }
}

impl Outgoing {
    /// Nothing yet; `tasks` keeps the one who tells.
    pub(super) fn new(bus: Bus, clock: Clock, vm: VmId, tasks: &mut Tasks) -> Self {
        let inner = Inner { bus, clock, vm, collected: Mutex::default(), something: Notify::new() };
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
        let (now, key) = (self.0.clock.now(), (finished.invocation, finished.attempt));
        self.collect(|collected| {
            let others = match finished.ended {
                Ended::Cancelled => collected.told.called_off(key),
                Ended::Answered(_) | Ended::Starved => {
                    collected.told.left(now, key, End::Ran(finished.clone()))
                }
            };
            for other in others.into_iter().filter(|&other| other != controller) {
                collected.finished(other, finished.clone());
            }
            collected.finished(controller, finished);
        });
    }

    pub(super) fn hand_back(&self, controller: ControllerId, key: (InvocationId, Attempt)) {
        let now = self.0.clock.now();
        self.collect(|collected| {
            let others = collected.told.left(now, key, End::HandedBack);
            for other in others.into_iter().filter(|&other| other != controller) {
                collected.handed_back(other, key);
            }
            collected.handed_back(controller, key);
        });
    }

    /// A Controller asks for an attempt that is not begun for it, because that is known here.
    pub(super) fn asked(&self, by: ControllerId, key: (InvocationId, Attempt), known: Known) {
        let (vm, (invocation, attempt)) = (self.0.vm, key);
        let says = |newest, runs| messages::Known { vm, invocation, attempt, newest, runs };
        self.collect(|collected| match collected.told.asked(by, key, known) {
            Say::Later => {}
            Say::Again(End::Ran(finished)) => collected.finished(by, finished),
            Say::Again(End::HandedBack) => collected.handed_back(by, key),
            Say::Known(Known::Here(newest)) => collected.known.push((by, says(newest, true))),
            Say::Known(Known::Past(newest)) => collected.known.push((by, says(newest, false))),
        });
    }

    fn collect(&self, add: impl FnOnce(&mut Collected)) {
        add(&mut self.0.collected.lock().unwrap_or_else(PoisonError::into_inner));
        self.0.something.notify_one();
    }

    /// Tells all that has been collected.
    pub(super) async fn flush(&self) {
        let (finished, handed_back, known) = {
            let mut collected = self.0.collected.lock().unwrap_or_else(PoisonError::into_inner);
            let Collected { finished, handed_back, known, .. } = &mut *collected;
            (std::mem::take(finished), std::mem::take(handed_back), std::mem::take(known))
        };
        let (bus, vm) = (&self.0.bus, self.0.vm);
        for (controller, endings) in finished {
            bus.send(subjects::controller_finished(controller), &Finishes { vm, endings }).await;
        }
        for (controller, items) in handed_back {
            bus.send(subjects::controller_handback(controller), &HandBack { vm, items }).await;
        }
        for (controller, known) in known {
            bus.send(subjects::controller_known(controller), &known).await;
        }
    }
}
