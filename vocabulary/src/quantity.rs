//! How much: CPU, memory, and the two together.

use std::fmt;
use std::ops::{Add, AddAssign, Sub, SubAssign};

use serde::{Deserialize, Serialize};

use crate::Span;

/// A whole number of one unit, with arithmetic that stops at the ends instead of wrapping around: a book
/// that is wrong by a little must not become wrong by four billion.
macro_rules! quantity {
    ($(#[$doc:meta])* $name:ident, $unit:literal) => {
        $(#[$doc])*
        #[derive(
            Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize,
        )]
        #[serde(transparent)]
        pub struct $name(pub u32);

        impl $name {
            /// None of it.
            pub const ZERO: $name = $name(0);

            /// `self` times `numerator / denominator`, rounded down; `denominator` must not be 0.
            #[inline]
            pub fn scaled(self, numerator: u64, denominator: u64) -> Self {
                let scaled = Span(u64::from(self.0)).scaled(numerator, denominator).0;
                Self(u32::try_from(scaled).unwrap_or(u32::MAX))
            }
        }

        impl Add for $name {
            type Output = Self;
            fn add(self, other: Self) -> Self {
                Self(self.0.saturating_add(other.0))
            }
        }

        impl Sub for $name {
            type Output = Self;
            fn sub(self, other: Self) -> Self {
                Self(self.0.saturating_sub(other.0))
            }
        }

        impl AddAssign for $name {
            fn add_assign(&mut self, other: Self) {
                *self = *self + other;
            }
        }

        impl SubAssign for $name {
            fn sub_assign(&mut self, other: Self) {
                *self = *self - other;
            }
        }

        impl std::iter::Sum for $name {
            fn sum<I: Iterator<Item = Self>>(items: I) -> Self {
                items.fold(Self::ZERO, Add::add)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!("{}", $unit), self.0)
            }
        }
    };
}

quantity!(
    /// CPU in thousandths of a core.
    MilliCores, "m"
);
quantity!(
    /// Memory in MiB (1,048,576 bytes).
    Mebibytes, " MiB"
);

impl MilliCores {
    /// So many whole cores.
    pub fn cores(cores: u32) -> Self {
        Self(cores.saturating_mul(1000))
    }
}

impl Mebibytes {
    /// The same in bytes.
    pub fn bytes(self) -> u64 {
        u64::from(self.0) << 20
    }

    /// The smallest number of MiB that holds `bytes`.
    pub fn holding(bytes: u64) -> Self {
        Self(u32::try_from(bytes.div_ceil(1 << 20)).unwrap_or(u32::MAX))
    }
}

/// CPU and memory together: what is reserved, offered, booked or used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct Resources {
    /// CPU.
    pub cpu: MilliCores,
    /// Memory.
    pub memory: Mebibytes,
}

impl Resources {
    /// Nothing of either.
    pub const ZERO: Resources = Resources { cpu: MilliCores::ZERO, memory: Mebibytes::ZERO };

    /// So many thousandths of a core and so many MiB.
    pub fn new(cpu_millicores: u32, memory_mebibytes: u32) -> Self {
        Self { cpu: MilliCores(cpu_millicores), memory: Mebibytes(memory_mebibytes) }
    }

    /// Whether both fit into `room`.
    pub fn fits_in(self, room: Resources) -> bool {
        self.cpu <= room.cpu && self.memory <= room.memory
    }

    /// The larger of each.
    #[inline]
    pub fn max(self, other: Self) -> Self {
        Self { cpu: self.cpu.max(other.cpu), memory: self.memory.max(other.memory) }
    }

    /// The smaller of each.
    #[inline]
    pub fn min(self, other: Self) -> Self {
        Self { cpu: self.cpu.min(other.cpu), memory: self.memory.min(other.memory) }
    }
}

impl Add for Resources {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self { cpu: self.cpu + other.cpu, memory: self.memory + other.memory }
    }
}

impl Sub for Resources {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self { cpu: self.cpu - other.cpu, memory: self.memory - other.memory }
    }
}

impl AddAssign for Resources {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl SubAssign for Resources {
    fn sub_assign(&mut self, other: Self) {
        *self = *self - other;
    }
}

impl std::iter::Sum for Resources {
    fn sum<I: Iterator<Item = Self>>(items: I) -> Self {
        items.fold(Self::ZERO, Add::add)
    }
}

impl fmt::Display for Resources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} CPU and {}", self.cpu, self.memory)
    }
}

/// What one invocation gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Grant {
    /// What placement counts against the VM's capacity.
    pub booked: Resources,
    /// What the kernel lets it use at most. Above the booking only as far as there is something to lend.
    pub ceiling: Resources,
    /// Its part of the CPU when there is not enough for all, in proportion to the others'; zero: as its ceiling.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub weight: MilliCores,
    /// How long it is expected to run, so that what it lends can be lent for as long; zero: nobody knows.
    #[serde(default, skip_serializing_if = "is_no_time")]
    pub lasts: Span,
    /// Nobody knows yet how much CPU such runs use: where nobody is stopped at what is booked, the VM books less once it has seen it.
    #[serde(default, skip_serializing_if = "is_false")]
    pub provisional: bool,
}

fn is_zero(weight: &MilliCores) -> bool {
    *weight == MilliCores::ZERO
}

fn is_false(flag: &bool) -> bool {
    !flag
}

fn is_no_time(span: &Span) -> bool {
    *span == Span::ZERO
}

impl Grant {
    /// So much booked, so much allowed.
    pub fn new(booked: Resources, ceiling: Resources) -> Self {
        Self { booked, ceiling, weight: MilliCores::ZERO, lasts: Span::ZERO, provisional: false }
    }

    /// The same amount booked and allowed.
    pub fn fixed(amount: Resources) -> Self {
        Self::new(amount, amount)
    }

    /// Its part of the CPU when there is not enough for all.
    pub fn cpu_weight(self) -> MilliCores {
        if self.weight == MilliCores::ZERO { self.ceiling.cpu } else { self.weight }
    }

    /// What was taken from `reservation`: harvested, where the booking is less.
    pub fn harvested(self, reservation: Resources) -> Resources {
        reservation - self.booked
    }

    /// What was given on top of `reservation`: supplemental, where the ceiling is more.
    pub fn supplemental(self, reservation: Resources) -> Resources {
        self.ceiling - reservation
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_stops_at_the_ends() {
        assert_eq!(MilliCores(1) - MilliCores(2), MilliCores::ZERO);
        assert_eq!(Mebibytes(u32::MAX) + Mebibytes(1), Mebibytes(u32::MAX));
        assert_eq!(MilliCores(u32::MAX).scaled(3, 2), MilliCores(u32::MAX));
    }

    #[test]
    fn bytes_are_rounded_up_to_whole_mebibytes() {
        assert_eq!(Mebibytes::holding(0), Mebibytes(0));
        assert_eq!(Mebibytes::holding(1), Mebibytes(1));
        assert_eq!(Mebibytes::holding(1 << 20), Mebibytes(1));
        assert_eq!(Mebibytes(3).bytes(), 3 << 20);
    }

    #[test]
    fn a_grant_says_what_it_took_and_what_it_gave() {
        let reservation = Resources::new(1000, 256);
        let lender = Grant::new(Resources::new(400, 256), reservation);
        assert_eq!(lender.harvested(reservation), Resources::new(600, 0));
        assert_eq!(lender.supplemental(reservation), Resources::ZERO);
        let borrower = Grant::new(reservation, Resources::new(1600, 256));
        assert_eq!(borrower.harvested(reservation), Resources::ZERO);
        assert_eq!(borrower.supplemental(reservation), Resources::new(600, 0));
    }
}
