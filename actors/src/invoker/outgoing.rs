//! What Controllers are told, several things in one message, off the reply path.
//!
//! Whatever one burst of messages brings is collected; the wish to flush goes to the end of the mailbox, so it comes
//! when the burst has been handled. A lone ending is told at once.

use std::collections::BTreeMap;

use messages::{Finished, Finishes, HandBack, HandedBack, subjects};
use ractor::ActorRef;
use vocabulary::{Attempt, ControllerId, InvocationId, VmId};

use super::InvokerMessage;
use crate::bus::Bus;

pub(super) struct Outgoing {
    bus: Bus,
    vm: VmId,
    finished: BTreeMap<ControllerId, Vec<Finished>>,
    handed_back: BTreeMap<ControllerId, Vec<HandedBack>>,
    wished: bool,
}

impl Outgoing {
    pub(super) fn new(bus: Bus, vm: VmId) -> Self {
        Self { bus, vm, finished: BTreeMap::new(), handed_back: BTreeMap::new(), wished: false }
    }

    pub(super) fn finished(&mut self, controller: ControllerId, finished: Finished) {
        self.finished.entry(controller).or_default().push(finished);
    }

    pub(super) fn hand_back(
        &mut self,
        controller: ControllerId,
        (invocation, attempt): (InvocationId, Attempt),
    ) {
        self.handed_back.entry(controller).or_default().push(HandedBack { invocation, attempt });
    }

    /// Asks for one flush if there is something to tell.
    pub(super) fn wish_to_flush(&mut self, me: &ActorRef<InvokerMessage>) {
        let nothing = self.finished.is_empty() && self.handed_back.is_empty();
        if !(self.wished || nothing) {
            self.wished = me.cast(InvokerMessage::Flush).is_ok();
        }
    }

    pub(super) async fn flush(&mut self) {
        self.wished = false;
        for (controller, endings) in std::mem::take(&mut self.finished) {
            let message = Finishes { vm: self.vm, endings };
            self.bus.send(subjects::controller_finished(controller), &message).await;
        }
        for (controller, items) in std::mem::take(&mut self.handed_back) {
            let message = HandBack { vm: self.vm, items };
            self.bus.send(subjects::controller_handback(controller), &message).await;
        }
    }
}
