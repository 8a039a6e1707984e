//! How much an invocation gets.
//!
//! **Knows:** what the user reserved, what has been learned of the function, and how full the fleet is.
//! **Promises:** an allocator always answers; one that is unsure gives the reservation.
//! **Gives up:** what happens while a run goes on: lending and giving back is done where it runs, by
//! [`residency`](crate::residency) with its [`harvest_pool`](crate::harvest_pool) and its [`safeguard`](crate::safeguard).
//!
//! What a [`Grant`] means, whoever made it: `booked` is promised, and placement counts it. Less than the reservation means that
//! the rest may be lent to others; more is taken from the VM's free room like any booking. A `ceiling` above what is booked
//! and reserved is a wish: it is filled, as far as they have something, by those who lend on the same VM.

pub mod calibration;
pub mod ensure;
pub mod fixed;
pub mod freyr;
pub mod greedy;
pub mod learned;
pub mod libra;
pub mod options;
pub mod oracle;
pub mod peers;
pub mod profile;
pub mod trial;

use serde::{Deserialize, Serialize};
use vocabulary::{FunctionId, Grant, InvocationId, Mebibytes, MilliCores, Moment, Resources, Span, Usage};

use crate::profile::Profile;
use crate::residency::Lending;
use options::Grid;

/// Nobody is left with less CPU than this: a runtime must be able to wake up.
pub const CPU_MIN: MilliCores = MilliCores(50);

/// What an allocator may look at.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// Now.
    pub now: Moment,
    /// For which invocation.
    pub invocation: InvocationId,
    /// Of which function.
    pub function: FunctionId,
    /// What the user asked for.
    pub reservation: Resources,
    /// Size of the argument in bytes, or of the part of it that the function names as its size.
    pub input_bytes: u32,
    /// What has been learned of the function.
    pub profile: &'a Profile,
    /// Whether it may be run again if it is killed for want of memory that was taken from its reservation. If not, none may.
    pub may_rerun: bool,
    /// Attempts that were sent out and have not ended: of all functions, and of this one.
    pub in_flight: u32,
    /// Of these, those of this function.
    pub in_flight_of_function: u32,
    /// Invocations that wait for a place.
    pub waiting: u32,
    /// What all VMs that take work have, and what of it is not booked.
    pub fleet: Fleet,
    /// The VM where it would go first; only for an allocator that asks for it ([`Allocator::looks_ahead`]).
    pub home: Option<Home>,
    /// What it truly needs. Nobody knows that of a real function: `None` but in a rehearsal.
    pub truth: Option<Truth>,
}

impl<'a> Request<'a> {
    /// For an input of no size, in an empty fleet; the rest is set by name.
    pub fn new(reservation: Resources, profile: &'a Profile) -> Self {
        Self {
            now: Moment::ORIGIN,
            invocation: InvocationId(0),
            function: FunctionId(0),
            reservation,
            input_bytes: 0,
            profile,
            may_rerun: true,
            in_flight: 0,
            in_flight_of_function: 0,
            waiting: 0,
            fleet: Fleet::default(),
            home: None,
            truth: None,
        }
    }
}

/// All VMs that take work, together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Fleet {
    /// What they have.
    pub capacity: Resources,
    /// What of it is not booked.
    pub free: Resources,
}

/// The VM where an invocation would go first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Home {
    /// What it has.
    pub capacity: Resources,
    /// What of it is not booked.
    pub headroom: Resources,
    /// How much of its CPU it tends to lose in a minute, in thousandths, going by the last ten.
    pub shrink_per_minute: u32,
}

/// What a run truly needs, as only a rehearsal can know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Truth {
    /// More CPU than this does not make it faster.
    pub saturation: MilliCores,
    /// The memory it will hold at most.
    pub memory: Mebibytes,
    /// How long it takes with that much.
    pub duration: Span,
    /// How long it takes alone with its reservation.
    pub reserved: Span,
}

/// How a run went that an allocator had granted.
#[derive(Debug, Clone, Copy)]
pub struct Ended<'a> {
    /// Now.
    pub now: Moment,
    /// Which invocation's.
    pub invocation: InvocationId,
    /// Of which function.
    pub function: FunctionId,
    /// What the user asked for.
    pub reservation: Resources,
    /// As it was granted.
    pub grant: Grant,
    /// As in the [`Request`].
    pub input_bytes: u32,
    /// Whether the function answered.
    pub answered: bool,
    /// Whether it was killed for want of memory that was taken from its reservation.
    pub starved: bool,
    /// From submission to the start of its run.
    pub waited: Span,
    /// Making the sandbox; zero when warm.
    pub init: Span,
    /// The run itself.
    pub duration: Span,
    /// What it used.
    pub usage: Usage,
    /// What is known of the function now, this run included.
    pub profile: &'a Profile,
}

#[cfg(test)]
impl<'a> Ended<'a> {
    /// One that was granted its reservation and answered at once, and used nothing; the rest is set by name.
    fn new(reservation: Resources, profile: &'a Profile) -> Self {
        Self {
            now: Moment::ORIGIN,
            invocation: InvocationId(1),
            function: FunctionId(1),
            reservation,
            grant: Grant::fixed(reservation),
            input_bytes: 0,
            answered: true,
            starved: false,
            waited: Span::ZERO,
            init: Span::ZERO,
            duration: Span::ZERO,
            usage: Usage::default(),
            profile,
        }
    }
}

/// Decides grants. Two of the algorithms here ask a model ([`learned`], [`freyr`]), which is given from outside.
pub trait Allocator: Send {
    /// Its name in configuration, metrics and tables.
    fn name(&self) -> &'static str;
    /// The grant for one invocation. Must not fail: an allocator that is unsure gives the reservation.
    fn grant(&mut self, request: &Request<'_>) -> Grant;
    /// A run that it granted has ended.
    fn ended(&mut self, _ended: &Ended<'_>) {}
    /// Whether [`Request::home`] should be filled in, which costs a look at the ring.
    fn looks_ahead(&self) -> bool {
        false
    }
    /// A run that is granted more than was reserved settles for its reservation, and what is free beside it, once it has waited for so many
    /// thousandths of the time that the rest would save it, from when its reservation would have fitted; `None`: never.
    fn settles_after(&self) -> Option<u32> {
        None
    }
    /// The allocator whose model can be another while it runs, if it is that one.
    fn with_model(&mut self) -> Option<&mut learned::Learned> {
        None
    }
    /// Nothing has been heard of this function for long: what is kept for it can go.
    fn forget(&mut self, _function: FunctionId) {}
}

/// Constants of all algorithms. Take what you do not want to set from [`Settings::default`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// What `greedy`, `ensure`, `libra` and the learned allocator choose from.
    pub grid: Grid,
    /// A run that uses so many thousandths of what it has needs more. Freyr's and Libra's papers have 0.8.
    pub threshold: u32,
    /// `profile`: so many runs of an input size are seen before anything is taken from the next, and again after one to
    /// which its reservation had to be given back. Where lending is elastic, one run tells enough of CPU, whatever came before.
    pub calibration_runs: u32,
    /// `profile`: added to what is expected, in thousandths, when nothing is known; falls with the root of the runs seen.
    pub doubt: u32,
    /// `profile`: what is taken is at least so many thousandths of the reservation, or nothing.
    pub worthwhile: u32,
    /// `profile`: what becomes of a function that would be faster with more CPU than it reserved.
    pub above: Above,
    /// `profile` with [`Above::Waits`]: for so many thousandths of the time that it would save, from when its reservation would have fitted.
    pub patience: u32,
    /// `profile` with elastic lending: what is booked for a function's first run, so many thousandths of the functions that reserve as much did
    /// not exceed; 1,000: all that it reserves.
    pub first_run: u32,
    /// `profile`: how VMs lend. Where a run's ceiling stays at its reservation its booking needs no room above what it uses.
    pub lending: Lending,
}

/// How a function comes to more CPU than it reserved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Above {
    /// It borrows what lies idle while it runs, and books nothing.
    Lent,
    /// It books what is free on the VM where it would go first, and borrows the rest.
    Free,
    /// It books all that it can use, and waits for a VM that has as much.
    #[default]
    Waits,
}

impl Above {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Waits, Self::Free, Self::Lent];

    /// Its name in the settings.
    pub fn name(self) -> &'static str {
        match self {
            Self::Waits => "waits",
            Self::Free => "free",
            Self::Lent => "lent",
        }
    }

    /// The one of this name.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|above| above.name() == name)
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            grid: Grid::default(),
            threshold: 800,
            calibration_runs: 3,
            doubt: 200,
            worthwhile: 100,
            above: Above::Waits,
            patience: 4_000,
            first_run: 950,
            lending: Lending::Off,
        }
    }
}

/// The allocators that [`by_name`] knows; the first is the default. Those that ask a model are made with it ([`learned`], [`freyr`]).
pub const NAMES: [&str; 9] = [
    "fixed",
    "profile",
    "profile-lent",
    "greedy",
    "ensure",
    "libra",
    "oracle",
    "greedy-freyr22",
    "ensure-freyr22",
];

/// The allocator of this name.
pub fn by_name(name: &str, settings: &Settings) -> Option<Box<dyn Allocator>> {
    Some(match name {
        "fixed" => Box::new(fixed::Fixed),
        "profile" => Box::new(profile::ByProfile::new(settings.clone())),
        "profile-lent" => {
            Box::new(profile::ByProfile::new(Settings { above: Above::Lent, ..settings.clone() }))
        }
        "greedy" => Box::new(greedy::Greedy::new(settings.grid)),
        "greedy-freyr22" => Box::new(greedy::Greedy::freyr22(settings.grid)),
        "ensure" => Box::new(ensure::Ensure::new(settings.grid)),
        "ensure-freyr22" => Box::new(ensure::Freyr22::new(settings.grid)),
        "libra" => Box::new(libra::Libra::new(settings.grid)),
        "oracle" => Box::new(oracle::Oracle),
        _ => return None,
    })
}

#[cfg(test)]
mod tests;
