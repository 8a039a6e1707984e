//! When and how long. Nobody here reads a clock: whoever has one passes its moment in.

use std::fmt;
use std::ops::{Add, AddAssign, Sub};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A length of time in microseconds; never negative. What machines tell each other, because two machines
/// never share a clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Span(pub u64);

impl Span {
    /// No time at all.
    pub const ZERO: Span = Span(0);
    /// Longer than anything waits.
    pub const FOREVER: Span = Span(u64::MAX);

    /// So many microseconds.
    pub const fn micros(micros: u64) -> Self {
        Self(micros)
    }

    /// So many milliseconds.
    pub const fn millis(millis: u64) -> Self {
        Self(millis.saturating_mul(1_000))
    }

    /// So many seconds.
    pub const fn seconds(seconds: u64) -> Self {
        Self(seconds.saturating_mul(1_000_000))
    }

    /// Whole microseconds.
    pub const fn as_micros(self) -> u64 {
        self.0
    }

    /// Whole milliseconds, rounded down.
    pub const fn as_millis(self) -> u64 {
        self.0 / 1_000
    }

    /// Seconds, for display and models.
    pub fn as_seconds(self) -> f64 {
        self.0 as f64 / 1e6
    }

    /// `self` times `numerator / denominator`, rounded down; `denominator` must not be 0.
    #[inline]
    pub fn scaled(self, numerator: u64, denominator: u64) -> Self {
        // Nearly always the product fits, and a processor divides 64 bits by itself.
        if let Some(product) = self.0.checked_mul(numerator) {
            return Self(product / denominator);
        }
        let scaled = u128::from(self.0) * u128::from(numerator) / u128::from(denominator);
        Self(u64::try_from(scaled).unwrap_or(u64::MAX))
    }
}

impl From<Duration> for Span {
    fn from(duration: Duration) -> Self {
        Self(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX))
    }
}

impl From<Span> for Duration {
    fn from(span: Span) -> Self {
        Duration::from_micros(span.0)
    }
}

impl Add for Span {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl AddAssign for Span {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Sub for Span {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl std::iter::Sum for Span {
    fn sum<I: Iterator<Item = Self>>(items: I) -> Self {
        items.fold(Self::ZERO, Add::add)
    }
}

impl fmt::Display for Span {
    /// In the largest unit that keeps the number readable: `850 us`, `12.3 ms`, `4.20 s`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            micros if micros < 1_000 => write!(f, "{micros} us"),
            micros if micros < 1_000_000 => write!(f, "{:.1} ms", micros as f64 / 1e3),
            micros => write!(f, "{:.2} s", micros as f64 / 1e6),
        }
    }
}

/// A point on one machine's own time line, in microseconds since an origin that only that machine knows.
/// Never goes back, never crosses the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Moment(pub u64);

impl Moment {
    /// The origin.
    pub const ORIGIN: Moment = Moment(0);
    /// After everything else.
    pub const NEVER: Moment = Moment(u64::MAX);

    /// How long ago `earlier` was; zero if it is yet to come.
    pub fn since(self, earlier: Moment) -> Span {
        Span(self.0.saturating_sub(earlier.0))
    }

    /// How long until `self`, seen from `now`; zero if it has passed.
    pub fn after(self, now: Moment) -> Span {
        self.max(now).since(now)
    }
}

impl Add<Span> for Moment {
    type Output = Moment;
    fn add(self, span: Span) -> Moment {
        Moment(self.0.saturating_add(span.0))
    }
}

impl Sub<Span> for Moment {
    type Output = Moment;
    fn sub(self, span: Span) -> Moment {
        Moment(self.0.saturating_sub(span.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_never_become_negative() {
        assert_eq!(Span::millis(1) - Span::seconds(1), Span::ZERO);
        assert_eq!(Moment(5).since(Moment(9)), Span::ZERO);
        assert_eq!(Moment(5).after(Moment(9)), Span::ZERO);
        assert_eq!(Moment(9).after(Moment(5)), Span(4));
        assert_eq!(Moment::NEVER + Span::seconds(1), Moment::NEVER);
    }

    #[test]
    fn spans_are_printed_in_a_readable_unit() {
        assert_eq!(Span::micros(850).to_string(), "850 us");
        assert_eq!(Span::micros(12_340).to_string(), "12.3 ms");
        assert_eq!(Span::millis(4_200).to_string(), "4.20 s");
    }
}
