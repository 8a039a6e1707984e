//! Which decisions were made, in their order: to be held against those of a live house.
//!
//! **Knows:** every `Run` that the Controller sent out.
//! **Promises:** names that another run has too: calls are numbered as they were made, functions and VMs have their ids.
//! **Gives up:** why.

use std::fmt;

use vocabulary::{Attempt, FunctionId, Grant, Moment, VmId};

/// One `Run`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision {
    /// When it was sent.
    pub at: Moment,
    /// Of the how manieth call, counted from 1.
    pub call: u64,
    /// Which try of it.
    pub attempt: Attempt,
    /// Of which function.
    pub function: FunctionId,
    /// Where to.
    pub vm: VmId,
    /// With how much.
    pub grant: Grant,
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { at, call, attempt, function, vm, grant } = self;
        let (seconds, micros) = (at.0 / 1_000_000, at.0 % 1_000_000);
        write!(
            f,
            "{seconds}.{micros:06} call {call} attempt {attempt} of {function} on {vm} with {} up to {}",
            grant.booked, grant.ceiling
        )
    }
}

/// All of one run.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Decisions(pub Vec<Decision>);

impl fmt::Display for Decisions {
    /// One line each.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|decision| writeln!(f, "{decision}"))
    }
}

impl Decisions {
    /// Where two runs part, leaving out when, for how long and up to how much: a live house has another clock.
    pub fn part_at<'a>(&'a self, other: &'a Self) -> Option<(Option<&'a Decision>, Option<&'a Decision>)> {
        let place = |d: &Decision| (d.call, d.attempt, d.function, d.vm, d.grant.booked);
        let longest = self.0.len().max(other.0.len());
        (0..longest)
            .map(|index| (self.0.get(index), other.0.get(index)))
            .find(|(mine, others)| mine.map(place) != others.map(place))
    }
}
