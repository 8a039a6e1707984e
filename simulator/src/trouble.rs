//! Trouble whose victim only the moment decides.
//!
//! **Knows:** when it begins, what it is, and a draw.
//! **Promises:** as a live run does: whoever is well and has no other trouble at that moment may be hit, and of those, in the order of
//! their ids, the one at `draw` modulo their number. It is his until the trouble is over. Where nobody is, it waits for somebody for
//! 20 seconds; then it is left out, which is counted.
//! **Gives up:** what the world does not have: NATS, a store, metadata services, wrong clocks; and doors that are gone with what is open there.

use serde::Serialize;
use vocabulary::{Moment, Span};

/// One piece of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trouble {
    /// When it begins.
    pub at: Moment,
    /// Decides who is hit.
    pub draw: u32,
    /// What happens.
    pub what: Fault,
}

/// What happens, and to whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// A VM is told that it has so long, if it is told, and is gone after so long.
    Gone {
        /// What it is told.
        notice: Option<Span>,
        /// What it has.
        after: Span,
    },
    /// A VM is told that it has so long, and after a while that it may stay.
    Recalled {
        /// What it is told.
        notice: Span,
        /// When it is told otherwise.
        after: Span,
    },
    /// A VM has so many hundredths of its CPU for a while.
    Resized {
        /// Hundredths.
        percent: u32,
        /// For how long.
        lasts: Span,
    },
    /// A VM.
    Vm(Ill, Span),
    /// A Controller.
    Controller(Ill, Span),
    /// One of those who keep the doors does nothing for so long. Who has called there, or does meanwhile, waits.
    DoorFrozen(Span),
    /// A Controller is gone, with all that it knew of invocations. Another comes in its place.
    ControllerGone,
    /// Nobody keeps the fleet for so long. Who keeps it then knows what the provider lists, and nothing else.
    MonitorGone(Span),
}

/// What becomes of somebody for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ill {
    /// He does nothing, and then goes on as if nothing had been.
    Frozen,
    /// He works on, and what he says and is told comes when it is over.
    CutOff,
    /// What he says and is told comes so much later, from, to, each way, and in its order.
    Late(Span, Span),
    /// His connection breaks whenever it is so old, from, to, and what is on its way is lost.
    Breaks(Span, Span),
}

/// How often there was trouble.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Troubles {
    /// It came.
    pub made: u32,
    /// There was nobody to whom it could come.
    pub left_out: u32,
    /// Submissions that went to another Controller, or to one a second time.
    pub resubmitted: u64,
}
