//! On which VM an invocation runs.
//!
//! **Knows:** what each VM offers, what is booked on it by us and by others, what is idle on it, and how much a
//! function needs: the [`Books`], kept by the Controller and counted at every dispatch, not at the next report.
//! **Promises:** a chosen VM has room for what was asked, as the books have it; the same inputs in the same order
//! give the same choices.
//! **Gives up:** looking ahead. Each invocation is placed by itself; who waits, and for how long, is decided in
//! [`dispatch`](crate::dispatch).

mod books;
pub mod jsq;
pub mod mws;
mod ring;

use serde::{Deserialize, Serialize};
use vocabulary::{FunctionId, Moment, Resources, Revision, Span, VmId, VmKind};

pub use books::{Books, Slot};

/// What a place is wanted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ask {
    /// Whose sandbox.
    pub function: FunctionId,
    /// Of which build.
    pub revision: Revision,
    /// What will be booked.
    pub demand: Resources,
    /// How many of this function run at once, in thousandths: by Little's law or by count, whichever is more.
    pub concurrency_milli: u64,
    /// On a VM of this kind and no other; [`Books::has_room`] looks at it. Which kinds a function may run on, and which is
    /// tried first, is decided by [`reliability`](crate::reliability).
    pub kind: VmKind,
}

/// A VM that was chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Choice {
    /// Which.
    pub vm: VmId,
    /// Where it stands in the books.
    pub slot: Slot,
    /// Whether a sandbox of the function is idle there.
    pub warm: bool,
}

/// Why nothing was chosen. Each variant tells the caller what to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoHome {
    /// Wait: a VM of sufficient size exists, but it is busy.
    #[error("every VM large enough for {needs} is busy")]
    NotNow {
        /// What was asked for.
        needs: Resources,
    },
    /// Give up: even an empty fleet could not hold it.
    #[error("{needs} is more than any VM offers, {largest} at most")]
    Never {
        /// What was asked for.
        needs: Resources,
        /// The largest VM there is.
        largest: Resources,
    },
}

impl NoHome {
    /// Tells "not now" from "never".
    pub(crate) fn of(books: &Books, ask: &Ask) -> Self {
        if books.could_ever_hold(ask.kind, ask.demand) {
            Self::NotNow { needs: ask.demand }
        } else {
            Self::Never { needs: ask.demand, largest: books.largest(ask.kind) }
        }
    }
}

/// Chooses VMs. An algorithm keeps what it likes of its own; capacities, bookings and idle sandboxes it reads in
/// the books.
pub trait Placement: Send {
    /// Its name in configuration, metrics and tables.
    fn name(&self) -> &'static str;

    /// This VM takes work from now on, or its capacity has changed.
    fn offer(&mut self, books: &Books, slot: Slot);

    /// This VM takes nothing new; its place in the books may be given to another afterwards.
    fn withdraw(&mut self, slot: Slot);

    /// Chooses a VM of the kind that is asked for, with room. Booking it is the caller's part.
    fn place(&mut self, now: Moment, books: &Books, ask: &Ask) -> Result<Choice, NoHome>;

    /// Where the function would go next if nothing of it were warm anywhere: where to make sandboxes beforehand.
    fn next_home(&mut self, books: &Books, ask: &Ask) -> Option<Slot>;

    /// Nothing has been heard of this function for long: what is kept for it can go.
    fn forget(&mut self, function: FunctionId);
}

/// Constants of all algorithms. Take what you do not want to set from [`Settings::default`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// `mws`: share of a worker set's capacity that is meant to be used, in thousandths (1 to 1,000); the rest is
    /// headroom. The SOSP'21 fork settled at 0.7 of measured use after trying 0.9 and 0.75; we count bookings, which
    /// are never exceeded, so 0.8 leaves as much.
    pub target_utilisation: u32,
    /// `mws`: a worker set shrinks at most this often; it grows at once. The fork's 30 s.
    pub shrink_interval: Span,
    /// `mws`: points on the ring per whole core of a VM.
    pub points_per_core: u32,
    /// `mws`: when the worker set is full, so many VMs beyond it are tried. All of them full by chance, while the
    /// fleet as a whole is not, does not happen; and what waits for long is looked after by `dispatch`.
    pub spill_reach: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            target_utilisation: 800,
            shrink_interval: Span::seconds(30),
            points_per_core: 1,
            spill_reach: 64,
        }
    }
}

/// The algorithms that [`by_name`] knows; the first is the default.
pub const NAMES: [&str; 2] = ["mws", "jsq"];

/// The algorithm of this name.
pub fn by_name(name: &str, settings: &Settings) -> Option<Box<dyn Placement>> {
    match name {
        "mws" => Some(Box::new(mws::Mws::new(settings.clone()))),
        "jsq" => Some(Box::new(jsq::Jsq)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_listed_algorithm_exists_under_its_own_name() {
        for name in NAMES {
            assert_eq!(by_name(name, &Settings::default()).unwrap().name(), name);
        }
        assert!(by_name("", &Settings::default()).is_none());
    }
}
