//! Whether this VM may speak for the house: answer a caller itself, instead of through the Frontend that took the call.
//!
//! An attempt that was given up may not be dead, and its VM does not know. The Frontend does: it has heard of the fence. So a VM answers
//! callers only while nobody can have given up what it runs.
//!
//! **Knows:** whether we slept or lost the server since a run came, and whether the VM takes work.
//! **Promises:** says no wherever a Controller may have missed us for as long as it takes to be given up, or runs may have been sent
//! elsewhere beside us because we are to go.
//! **Gives up:** a network that keeps our reports back for seconds, without a break of the connection that we could see. Then the caller may hear two
//! answers, takes the first, and the record is that of the first as well, but for the moment in which the other one is being delivered.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use policies::vigil::Vigil;
use vocabulary::{Moment, Span};

use crate::bus::Bus;

/// See the module.
pub(super) struct Speaking {
    bus: Bus,
    takes_work: AtomicBool,
    vigil: Mutex<Vigil>,
}

/// When a run came.
#[derive(Debug, Clone, Copy)]
pub(super) struct Came {
    pub at: Moment,
    /// The connection's number.
    reconnects: u64,
}

impl Speaking {
    pub(super) fn new(bus: Bus) -> Self {
        Self { bus, takes_work: AtomicBool::new(true), vigil: Mutex::default() }
    }

    /// A run has come now.
    pub(super) fn came(&self, now: Moment) -> Came {
        Came { at: now, reconnects: self.bus.reconnects() }
    }

    /// We are awake; said once a second.
    pub(super) fn awake(&self, now: Moment) {
        self.slept_until(now);
    }

    /// The VM takes work, or is to go.
    pub(super) fn takes_work(&self, takes_work: bool) {
        self.takes_work.store(takes_work, Ordering::Relaxed);
    }

    /// Whether the caller of what came then may be answered from here.
    pub(super) fn may_answer(&self, now: Moment, came: Came) -> bool {
        self.takes_work.load(Ordering::Relaxed)
            && self.bus.reconnects() == came.reconnects
            && self.slept_until(now) <= came.at
    }

    /// Until when we slept last.
    fn slept_until(&self, now: Moment) -> Moment {
        let mut vigil = self.vigil.lock().unwrap_or_else(PoisonError::into_inner);
        let wish = vigil.wish();
        vigil.awake(now, wish, Span::ZERO);
        vigil.hears_from()
    }
}
