//! What the kernel hands out to a control group once in each period.
//!
//! **Knows:** a group's quota, where its periods begin, and what is left of the one that runs.
//! **Promises:** nobody is given more than its quota between two boundaries, and what was left over at one is gone. A quota that is
//! written anew is there at once.
//! **Gives up:** what happens within a few milliseconds: a processor takes five of them at a time and may keep one that another would
//! need, and who is found to have overdrawn at the next tick pays it back in the next period.

use vocabulary::{MilliCores, Moment, Span};

use super::{Delivered, Rate, rate_of};

/// Once in so long: the kernel's default, which the live sandbox keeps (`sandbox/src/cgroup/limits.rs`).
pub const PERIOD: Span = Span::millis(100);

/// How ceilings of CPU are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Quotas {
    /// Evenly: a share of a core is a slower core.
    #[default]
    Flow,
    /// As the kernel does: at full speed until the period's quota is used up, and then not at all until the next one.
    InPeriods {
        /// What the machine under the VM has: nobody is faster than that, whatever its quota.
        host: MilliCores,
    },
}

/// One group's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    /// In each period.
    each: Delivered,
    /// Of the period with this number.
    left: Delivered,
    period: u64,
    /// Its periods begin so long after those of the clock.
    phase: u64,
}

impl Quota {
    /// None at all: never held back.
    pub const NONE: Self = Self { each: Delivered::MAX, left: Delivered::MAX, period: 0, phase: 0 };

    /// Nothing until [`Quota::write`] says how much.
    pub fn new(phase: Span) -> Self {
        Self { each: 0, left: 0, period: 0, phase: phase.0 % PERIOD.0 }
    }

    /// So much CPU from now on, and a whole quota of it at once (`__refill_cfs_bandwidth_runtime` in `tg_set_cfs_bandwidth`,
    /// `kernel/sched/core.c`). The same again changes nothing: the live Invoker does not write it then.
    pub fn write(&mut self, now: Moment, cpu: MilliCores) {
        let each = rate_of(cpu) * PERIOD.0;
        self.roll(now);
        if each != self.each {
            (self.each, self.left) = (each, each);
        }
    }

    /// In each period.
    pub fn each(&self) -> Delivered {
        self.each
    }

    /// Takes what was given between two moments off what is left.
    pub fn spend(&mut self, from: Moment, to: Moment, given: Delivered) {
        self.roll(to);
        let (passed, into) = (to.since(from).0, self.since_boundary(to));
        let of_this_period = if into >= passed {
            given
        } else {
            // All of it came evenly; what came before the boundary is no longer counted.
            (u128::from(given) * u128::from(into) / u128::from(passed)) as Delivered
        };
        self.left -= of_this_period.min(self.left);
    }

    /// Whether one who takes this much may go on: there is enough for a microsecond. Must have been spent up to now.
    pub fn allows(&self, rate: Rate) -> bool {
        self.left >= rate
    }

    /// Until when it allows this, if nobody takes more. Must have been spent up to now.
    pub fn lasts(&self, now: Moment, rate: Rate) -> Moment {
        if rate == 0 || self.each == Delivered::MAX {
            return Moment::NEVER;
        }
        let next = self.next(now);
        let runs_out = now + Span(self.left / rate);
        if runs_out < next {
            runs_out
        } else if self.each / PERIOD.0 >= rate {
            Moment::NEVER
        } else {
            next + Span(self.each / rate)
        }
    }

    /// When the next period begins.
    pub fn next(&self, now: Moment) -> Moment {
        now + (PERIOD - Span(self.since_boundary(now)))
    }

    /// Goes over to the period that this moment is in.
    pub fn roll(&mut self, now: Moment) {
        let period = (now.0 + PERIOD.0 - self.phase) / PERIOD.0;
        if period != self.period {
            (self.period, self.left) = (period, self.each);
        }
    }

    fn since_boundary(&self, now: Moment) -> u64 {
        (now.0 + PERIOD.0 - self.phase) % PERIOD.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::physics::CORE_US;

    const CORE: Rate = 1_000_000;

    fn half_a_core(phase: u64) -> Quota {
        let mut quota = Quota::new(Span::millis(phase));
        quota.write(Moment::ORIGIN, MilliCores(500));
        quota
    }

    #[test]
    fn half_a_core_lasts_for_half_of_a_period_and_is_there_again_in_the_next() {
        let mut quota = half_a_core(0);
        assert_eq!(quota.lasts(Moment(0), CORE), Moment(50_000));
        quota.spend(Moment(0), Moment(50_000), 50_000 * CORE_US);
        assert!(!quota.allows(CORE));
        assert_eq!(quota.next(Moment(50_000)), Moment(100_000));
        quota.roll(Moment(100_000));
        assert_eq!(quota.lasts(Moment(100_000), 2 * CORE), Moment(125_000));
    }

    #[test]
    fn what_was_left_over_is_gone() {
        let mut quota = half_a_core(0);
        // 90 ms of nothing and then across the boundary: the second half of what was given is of the new period.
        quota.spend(Moment(90_000), Moment(110_000), 20_000 * CORE_US);
        assert_eq!(quota.lasts(Moment(110_000), CORE), Moment(150_000));
    }

    #[test]
    fn who_is_slow_enough_is_never_held_back() {
        let quota = half_a_core(0);
        assert_eq!(quota.lasts(Moment(0), CORE / 2), Moment::NEVER);
        // Just above it is stopped at the end of the first period.
        assert_eq!(quota.lasts(Moment(0), CORE / 2 + 1), Moment(99_999));
        assert_eq!(Quota::NONE.lasts(Moment(0), 4 * CORE), Moment::NEVER);
    }

    #[test]
    fn each_has_its_own_periods() {
        let quota = half_a_core(30);
        assert_eq!(quota.next(Moment(0)), Moment(30_000));
        assert_eq!(quota.next(Moment(30_000)), Moment(130_000));
        // In the first 30 ms it cannot use 50 ms; in the next period it can.
        assert_eq!(quota.lasts(Moment(0), CORE), Moment(80_000));
    }

    #[test]
    fn a_quota_that_is_written_is_whole_at_once_and_the_same_again_is_not_written() {
        let mut quota = half_a_core(0);
        quota.spend(Moment(0), Moment(50_000), 50_000 * CORE_US);
        quota.write(Moment(60_000), MilliCores(500));
        assert!(!quota.allows(1));
        quota.write(Moment(60_000), MilliCores(200));
        assert_eq!(quota.lasts(Moment(60_000), CORE), Moment(80_000));
    }
}
