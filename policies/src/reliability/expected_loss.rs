//! `expected-loss(x)`: on regular VMs runs only what would otherwise be lost more often than x % of the time.
//!
//! **Knows:** by how much the application's invocations outlast the grace period, how often harvest VMs are evicted at the ages
//! they have now, and whether the function may be run again.
//! **Promises:** an invocation is lost if its VM is given notice while it runs, except in its last `GRACE` seconds: so in
//! about (rate of evictions) x (its mean excess over the grace period) of all cases. For a function that must not run twice
//! this is held below x %. One that may run again is not lost: it only wastes work, and goes to regular VMs when a quarter
//! of its runs would be wasted. Its second run prefers regular VMs if it may outlast another notice, so that nobody waits for a
//! third. All else prefers harvest VMs and may use regular ones that have room.
//! **Gives up:** the worst case that `bounded(x)` is made for, in which everything is evicted all the time; and storms, of which
//! the learned rate hears only when they have begun.
//!
//! What has not ended once yet is taken to last as long as its time limit.

use vocabulary::{OnEviction, Span, VmKind};

use super::{Case, GRACE, Kinds, PerMillion, Reliability, in_time};

/// See the module.
#[derive(Debug, Clone, Copy)]
pub struct ExpectedLoss {
    /// The x.
    pub budget: PerMillion,
}

impl Default for ExpectedLoss {
    /// What `bounded(99.9)` promises in its worst case.
    fn default() -> Self {
        Self { budget: PerMillion(1_000) }
    }
}

/// Runs that may be wasted before harvest VMs are no bargain any more, in billionths: SOSP'21's least discount is 48 %.
const WASTE: u64 = 250_000_000;

/// From this probability on, in thousandths, a second run is taken to outlast another notice. With notices of [`GRACE`] whatever is
/// run again at one by `rerun_risk_milli` is over this, too.
const OUTLASTS_MILLI: u32 = 250;

impl Reliability for ExpectedLoss {
    fn name(&self) -> String {
        format!("expected-loss({})", self.budget)
    }

    fn kinds(&self, case: Case<'_>) -> Kinds {
        let excess = case.application.mean_excess().unwrap_or(case.function.timeout - GRACE);
        let lost = case.evictions.within(excess);
        let allowed = match case.function.on_eviction {
            OnEviction::Never => u64::from(self.budget.0) * 1_000,
            OnEviction::Rerun | OnEviction::RerunAtLoss => WASTE,
        };
        if lost > allowed {
            Kinds::Needs(VmKind::Regular)
        } else if outlasts_another_notice(case) {
            Kinds::Rather(VmKind::Regular)
        } else {
            Kinds::Rather(VmKind::Harvest)
        }
    }
}

/// Whether this is a second run that could be lost as the first one was. It costs the share of harvest VMs as little as there are
/// evictions, and its caller has lost enough time.
fn outlasts_another_notice(case: Case<'_>) -> bool {
    case.ran > Span::ZERO
        && in_time::miss_milli(case.application, case.ran, GRACE - case.ran) >= OUTLASTS_MILLI
}

#[cfg(test)]
mod tests {
    use vocabulary::{FunctionCard, FunctionId, Resources, Revision};

    use super::super::{Rate, Tails};
    use super::*;

    const DAY: Span = Span::seconds(24 * 3_600);

    /// Where a function goes of which so many seconds are known, after an attempt that ran for so long.
    fn kinds(on_eviction: OnEviction, known: &[u64], ran: Span) -> Kinds {
        let mut application = Tails::default();
        known.iter().for_each(|&seconds| application.learn(Span::seconds(seconds)));
        let function = FunctionCard {
            id: FunctionId(1),
            revision: Revision(1),
            reservation: Resources::new(1_000, 256),
            timeout: Span::seconds(600),
            on_eviction,
            application: None,
        };
        let (application, evictions) = (&application, Rate::once_in(DAY));
        ExpectedLoss::default().kinds(Case { function: &function, application, ran, evictions })
    }

    #[test]
    fn the_second_run_of_what_may_outlast_another_notice_prefers_regular_vms() {
        let long = [1, 1, 1, 200];
        for again in [OnEviction::Rerun, OnEviction::RerunAtLoss] {
            assert_eq!(kinds(again, &long, Span::ZERO), Kinds::Rather(VmKind::Harvest), "the first run");
            assert_eq!(kinds(again, &long, Span::seconds(5)), Kinds::Rather(VmKind::Regular));
            assert_eq!(kinds(again, &[], Span::seconds(40)), Kinds::Rather(VmKind::Regular), "it is long");
        }
    }

    #[test]
    fn what_was_lost_and_fits_into_a_notice_stays_on_harvest_vms() {
        // Its VM went without a word; the next one is not likely to, within a second.
        assert_eq!(kinds(OnEviction::Rerun, &[1; 20], Span::millis(500)), Kinds::Rather(VmKind::Harvest));
        assert_eq!(kinds(OnEviction::Rerun, &[], Span::seconds(1)), Kinds::Rather(VmKind::Harvest));
    }

    #[test]
    fn no_budget_keeps_all_on_regular_vms_that_must_not_run_twice_and_was_ever_too_long() {
        let strict = super::super::by_name("expected-loss(0)").unwrap();
        for (seconds, kinds) in [(30, Kinds::Rather(VmKind::Harvest)), (31, Kinds::Needs(VmKind::Regular))] {
            let mut application = Tails::default();
            application.learn(Span::seconds(seconds));
            (0..1_000).for_each(|_| application.learn(Span::seconds(1)));
            let function = FunctionCard {
                id: FunctionId(1),
                revision: Revision(1),
                reservation: Resources::new(1_000, 256),
                timeout: Span::seconds(600),
                on_eviction: OnEviction::Never,
                application: None,
            };
            let case = Case {
                function: &function,
                application: &application,
                ran: Span::ZERO,
                evictions: Rate::once_in(DAY),
            };
            assert_eq!(strict.kinds(case), kinds, "{seconds} s");
        }
    }
}
