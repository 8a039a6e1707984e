//! On which VM an invocation runs.
//!
//! **Knows:** what each VM offers, what is booked on it by us and by others, what is idle on it, and how much a
//! function needs: the [`Books`], kept by the Controller and counted at every dispatch, not at the next report.
//! **Promises:** the same inputs in the same order give the same choices. Under [`Binding::Late`] a chosen VM has room for
//! what was asked, as the books have it; under [`Binding::Early`], which is how released systems work, it need not.
//! **Gives up:** looking ahead. Each invocation is placed by itself; who waits, and for how long, is decided in
//! [`dispatch`](crate::dispatch).

mod books;
pub mod bounded_load;
mod by_slot;
pub mod ch_rlu;
pub mod jsq;
pub mod jsq_sosp21;
pub mod mws;
pub mod mws_sosp21;
pub mod power_of_two;
mod ring;
mod sosp21;
pub mod vanilla;

use serde::{Deserialize, Serialize};
use vocabulary::{FunctionCard, FunctionId, Grant, Moment, Resources, Revision, Span, Usage, VmId, VmKind};

pub use books::{Books, Hold, Slot};
pub(crate) use by_slot::BySlot;
pub use sosp21::Hashes;

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
    /// By when it should have ended if it went at once to the VM that is kept free for another. [`Moment::NEVER`]: nobody knows, or
    /// none is kept free.
    pub ends: Moment,
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

/// When it is settled where an invocation runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Binding {
    /// When there is room for it: until then it waits at the Controller, from where it can still go anywhere.
    #[default]
    Late,
    /// When it comes: it is sent at once, even to a full VM, and waits there.
    Early,
}

/// A run that has ended, as the algorithms that keep profiles of their own hear of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ran {
    /// Of which function.
    pub function: FunctionId,
    /// The run itself, without the making of its sandbox.
    pub duration: Span,
    /// What it used.
    pub usage: Usage,
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

    // What most algorithms do not need.

    /// Whether it sends to VMs that have no room.
    fn binding(&self) -> Binding {
        Binding::Late
    }

    /// This VM is gone. It was withdrawn before, at the latest just now.
    fn gone(&mut self, slot: Slot) {
        let _ = slot;
    }

    /// What the invocation gets, where that is not the allocator's affair: the released systems size containers in the
    /// balancer.
    fn grant(&mut self, books: &Books, function: &FunctionCard, grant: Grant) -> Grant {
        let _ = (books, function);
        grant
    }

    /// An invocation was asked for.
    fn arrived(&mut self, now: Moment, function: FunctionId) {
        let _ = (now, function);
    }

    /// A run has ended by itself.
    fn ended(&mut self, now: Moment, ran: &Ran) {
        let _ = (now, ran);
    }
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
    /// `vanilla`: memory slots of an invoker, in MiB, however many cores it has. The ansible default of the fork that the
    /// SOSP'21 authors measured; a smaller VM has what it has.
    pub vanilla_slots_mib: u32,
    /// `bounded-load`: a VM is booked at most so much more than its share of all that is booked, in thousandths (the
    /// `1 + epsilon` of the paper, more than 1,000).
    pub load_bound: u32,
    /// `ch-rlu`: a popular function leaves a VM whose load is more than its cores times this, in thousandths.
    pub rlu_ceiling: u32,
    /// `ch-rlu`: so many thousandths of the functions are popular.
    pub rlu_popular: u32,
    /// Of the streams of chance that `vanilla`, `power-of-two` and `ch-rlu` draw from.
    pub seed: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            target_utilisation: 800,
            shrink_interval: Span::seconds(30),
            points_per_core: 1,
            spill_reach: 64,
            vanilla_slots_mib: 131_072,
            load_bound: 1_250,
            rlu_ceiling: 1_200,
            rlu_popular: 200,
            seed: 1,
        }
    }
}

/// The algorithms that [`by_name`] knows; the first is the default.
pub const NAMES: [&str; 8] =
    ["mws", "jsq", "mws-sosp21", "jsq-sosp21", "vanilla", "bounded-load", "ch-rlu", "power-of-two"];

/// The algorithm of this name.
pub fn by_name(name: &str, settings: &Settings) -> Option<Box<dyn Placement>> {
    match name {
        "mws" => Some(Box::new(mws::Mws::new(settings.clone()))),
        "jsq" => Some(Box::new(jsq::Jsq)),
        "mws-sosp21" => Some(Box::new(mws_sosp21::MwsSosp21::default())),
        "jsq-sosp21" => Some(Box::new(jsq_sosp21::JsqSosp21::default())),
        "vanilla" => Some(Box::new(vanilla::Vanilla::new(settings))),
        "bounded-load" => Some(Box::new(bounded_load::BoundedLoad::new(settings))),
        "ch-rlu" => Some(Box::new(ch_rlu::ChRlu::new(settings))),
        "power-of-two" => Some(Box::new(power_of_two::PowerOfTwo::new(settings))),
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
