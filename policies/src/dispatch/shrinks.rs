//! How much a VM tends to lose.
//!
//! **Knows:** each shrink that a VM has reported.
//! **Promises:** forgets with a half-life of ten minutes: "about 35 % of harvest VMs never change, the others every ten minutes to
//! an hour" (SOSP'21, figure 2) makes that the time in which one learns which kind a VM is of. Whole numbers only.
//! **Gives up:** when the next one comes. It tells how much is lost in a minute on average.

use vocabulary::{MilliCores, Moment, Span};

const HALF_LIFE: Span = Span::seconds(600);

/// See the module.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Shrinks {
    cpu: MilliCores,
    /// Sum of what was lost, in millionths of what the VM had before, forgetting since `at`.
    lost: u64,
    at: Moment,
}

impl Shrinks {
    /// It has so much now.
    pub fn see(&mut self, now: Moment, cpu: MilliCores) {
        if cpu < self.cpu {
            let share = u64::from((self.cpu - cpu).0) * 1_000_000 / u64::from(self.cpu.0.max(1));
            self.lost = self.lost_until(now) + share;
            self.at = now;
        }
        self.cpu = cpu;
    }

    fn lost_until(&self, now: Moment) -> u64 {
        let age = now.since(self.at).as_micros();
        let halved = self.lost.checked_shr((age / HALF_LIFE.as_micros()).min(63) as u32).unwrap_or(0);
        // Between two halvings: two to the power of minus x is 1 - 0.69 x + 0.19 x^2, within a hundredth.
        let x = age % HALF_LIFE.as_micros() * 1_000 / HALF_LIFE.as_micros();
        halved - halved / 1_000 * x * (690_000 - 190 * x) / 1_000_000
    }

    /// Thousandths of its CPU that it loses in a minute. A sum that forgets by half in ten minutes is that of the last
    /// ten minutes over the natural logarithm of two.
    pub fn per_minute(&self, now: Moment) -> u32 {
        (self.lost_until(now) * 693 / 10_000_000) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Moment {
        Moment::ORIGIN + Span::seconds(seconds)
    }

    #[test]
    fn a_vm_that_loses_a_tenth_every_minute_is_known_to() {
        let mut shrinks = Shrinks::default();
        for minute in 0..60 {
            shrinks.see(at(minute * 60), MilliCores(10_000));
            shrinks.see(at(minute * 60 + 30), MilliCores(9_000));
        }
        let told = shrinks.per_minute(at(3_600));
        assert!((90..=110).contains(&told), "{told}");
    }

    #[test]
    fn what_is_lost_once_is_forgotten_in_an_hour_and_growth_is_no_loss() {
        let mut shrinks = Shrinks::default();
        shrinks.see(at(0), MilliCores(10_000));
        shrinks.see(at(1), MilliCores(20_000));
        assert_eq!(shrinks.per_minute(at(1)), 0);
        shrinks.see(at(2), MilliCores(10_000));
        assert_eq!(shrinks.per_minute(at(2)), 34);
        assert_eq!(shrinks.per_minute(at(3_602)), 0);
    }
}
