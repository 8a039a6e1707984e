//! Controllers that live in the same process as a Frontend.
//!
//! A submission to one of them needs no message: it is handed over as it is. Everything else (which Controller owns a
//! function, who is alive, how answers come back) goes the usual way, so nothing else knows the difference.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use messages::Submit;
use ractor::ActorRef;
use vocabulary::ControllerId;

use crate::controller::ControllerMessage;

/// The Controllers of one process; copies share it.
#[derive(Clone, Default)]
pub struct Neighbours(Arc<RwLock<BTreeMap<ControllerId, ActorRef<ControllerMessage>>>>);

impl Neighbours {
    pub(crate) fn move_in(&self, id: ControllerId, controller: ActorRef<ControllerMessage>) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(id, controller);
    }

    pub(crate) fn move_out(&self, id: ControllerId) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).remove(&id);
    }

    /// Hands a submission over if that Controller lives here; false if it must go by message. One that has crashed
    /// is found out there, by NATS's "no responders".
    pub(crate) fn hand_over(&self, controller: ControllerId, submit: &Submit) -> bool {
        let neighbour = self.0.read().unwrap_or_else(PoisonError::into_inner).get(&controller).cloned();
        neighbour.is_some_and(|neighbour| {
            neighbour.cast(ControllerMessage::HandedOver(Box::new(submit.clone()))).is_ok()
        })
    }
}
