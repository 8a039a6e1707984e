//! On which kinds of VMs an application may run, so that few of its invocations are lost to evictions.
//!
//! **Knows:** how long the application's invocations have taken, what its function allows ([`OnEviction`]), and how often
//! harvest VMs are evicted.
//! **Promises:** the same answer for the same knowledge; a strategy remembers nothing itself.
//! **Gives up:** choosing a VM. Placement does, among those of the kind it is given.
//!
//! The first three strategies are those of SOSP'21, which has no second run: there an invocation fails if its VM is evicted
//! while it runs and it does not end within the grace period. The fourth counts on what this house does at a notice.
//!
//! Beside them: [`tails`] (how long), [`hazard`] (how often), [`in_time`] (whether one that runs will end in time).
//!
//! [`OnEviction`]: vocabulary::OnEviction

pub mod bounded;
pub mod expected_loss;
pub mod hazard;
pub mod in_time;
pub mod live_and_let_die;
pub mod no_failure;
pub mod tails;

use vocabulary::{FunctionCard, Span, VmKind};

pub use hazard::{Hazard, Rate};
pub use tails::Tails;

/// What a strategy may look at.
#[derive(Debug, Clone, Copy)]
pub struct Case<'a> {
    /// The function that is about to run.
    pub function: &'a FunctionCard,
    /// How long the invocations of its application have taken.
    pub application: &'a Tails,
    /// How long an attempt of this invocation has run that will not end, or did not: its next one lasts longer than that. Zero for
    /// the first.
    pub ran: Span,
    /// How often harvest VMs of the ages they have now are evicted.
    pub evictions: Rate,
}

/// On which kinds of VMs, and in which order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kinds {
    /// On this kind or not at all.
    Only(VmKind),
    /// On this kind; on the other only while the fleet has none of this kind that is large enough.
    Needs(VmKind),
    /// On this kind as long as there is room, else on the other.
    Rather(VmKind),
}

impl Kinds {
    /// The kind that is tried first.
    pub fn first(self) -> VmKind {
        match self {
            Self::Only(kind) | Self::Needs(kind) | Self::Rather(kind) => kind,
        }
    }
}

/// The other kind.
pub fn other(kind: VmKind) -> VmKind {
    match kind {
        VmKind::Regular => VmKind::Harvest,
        VmKind::Harvest => VmKind::Regular,
    }
}

/// Decides which kinds of VMs an application may run on.
pub trait Reliability: Send {
    /// Its name, with its parameter, in configuration, metrics and tables.
    fn name(&self) -> String;
    /// Where this invocation may run.
    fn kinds(&self, case: Case<'_>) -> Kinds;
}

/// How long a VM lives after its notice, unless the notice itself says otherwise: Azure's 30 s.
pub const GRACE: Span = Span::seconds(30);

/// What [`by_name`] takes; the first is the default. A number stands for each `x`.
pub const NAMES: [&str; 5] =
    ["expected-loss", "expected-loss(x)", "no-failure", "bounded(x)", "live-and-let-die"];

/// The strategy of this name: `expected-loss(0.1)` and `bounded(99.9)` take a percentage.
pub fn by_name(name: &str) -> Option<Box<dyn Reliability>> {
    let (word, percent) = match name.strip_suffix(')').and_then(|name| name.split_once('(')) {
        Some((word, number)) => (word, Some(parts_per_million(number)?)),
        None => (name, None),
    };
    match (word, percent) {
        ("no-failure", None) => Some(Box::new(no_failure::NoFailure)),
        ("bounded", Some(percentile)) => Some(Box::new(bounded::Bounded { percentile })),
        ("live-and-let-die", None) => Some(Box::new(live_and_let_die::LiveAndLetDie)),
        ("expected-loss", None) => Some(Box::new(expected_loss::ExpectedLoss::default())),
        ("expected-loss", Some(budget)) => Some(Box::new(expected_loss::ExpectedLoss { budget })),
        _ => None,
    }
}

/// A share in parts per million.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PerMillion(pub u32);

impl std::fmt::Display for PerMillion {
    /// As a percentage, without zeros that say nothing.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = format!("{}.{:04}", self.0 / 10_000, self.0 % 10_000);
        f.write_str(text.trim_end_matches('0').trim_end_matches('.'))
    }
}

/// A percentage from 0 to 100 with at most four digits after its point.
fn parts_per_million(percent: &str) -> Option<PerMillion> {
    let (whole, fraction) = percent.split_once('.').unwrap_or((percent, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(fraction) || whole.len() > 3 || fraction.len() > 4 {
        return None;
    }
    let parts = whole.parse::<u32>().ok()? * 10_000 + format!("{fraction:0<4}").parse::<u32>().ok()?;
    (parts <= 1_000_000).then_some(PerMillion(parts))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_strategy_is_found_under_the_name_it_gives_itself() {
        for name in ["no-failure", "bounded(99.9)", "bounded(99)", "live-and-let-die", "expected-loss(0.1)"] {
            assert_eq!(by_name(name).unwrap().name(), name);
        }
        assert_eq!(by_name("expected-loss").unwrap().name(), "expected-loss(0.1)");
        assert_eq!(by_name("bounded(099.90)").unwrap().name(), "bounded(99.9)");
    }

    #[test]
    fn what_is_no_strategy_is_refused() {
        for wrong in
            ["", "bounded", "bounded()", "bounded(101)", "bounded(-1)", "bounded(1.23456)", "no-failure(1)"]
        {
            assert!(by_name(wrong).is_none(), "{wrong}");
        }
        for wrong in ["bounded(99.9", "bounded(1e1)", "bounded(.5)", "bounded(5.)", "bounded(+5)", "x(1)"] {
            assert!(by_name(wrong).is_none(), "{wrong}");
        }
    }
}
