//! What VMs cost, in cores of a regular VM.
//!
//! **Knows:** the discounts of SOSP'21's table 3, and its rule: the guaranteed cores of a Harvest VM are paid as evictable ones,
//! what it has on top as harvested ones.
//! **Promises:** a fleet costs what its VMs had while they lived, weighted by time.
//! **Gives up:** money: a regular core costs 1.

use vocabulary::{MilliCores, Moment, VmKind};

use crate::plan::VmPlan;

/// How much less than a regular core a core costs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Prices {
    /// Guaranteed cores of VMs that may be evicted: 0.7 is 70 % off.
    pub evictable_off: f64,
    /// Harvested cores.
    pub harvested_off: f64,
    /// So many cores of a Harvest VM are guaranteed.
    pub base: MilliCores,
}

/// A Harvest VM of the paper has two guaranteed cores (its released fleet is of `Harvest_E2s_v3`).
const BASE: MilliCores = MilliCores(2000);

impl Prices {
    /// 48 % off both.
    pub const LOWEST: Prices = Prices { evictable_off: 0.48, harvested_off: 0.48, base: BASE };
    /// 70 % off what is guaranteed, 80 % off what is harvested.
    pub const TYPICAL: Prices = Prices { evictable_off: 0.70, harvested_off: 0.80, base: BASE };
    /// 80 and 90 %.
    pub const HIGH: Prices = Prices { evictable_off: 0.80, harvested_off: 0.90, base: BASE };
    /// 88 and 90 %.
    pub const BEST: Prices = Prices { evictable_off: 0.88, harvested_off: 0.90, base: BASE };

    /// Spot VMs: all cores are guaranteed until they are evicted.
    pub const fn spot(off: f64) -> Prices {
        Prices { evictable_off: off, harvested_off: off, base: BASE }
    }

    /// What a VM of this size costs now, in regular cores.
    pub fn now(&self, kind: VmKind, cpu: MilliCores) -> f64 {
        let cores = |cpu: MilliCores| f64::from(cpu.0) / 1000.0;
        match kind {
            VmKind::Regular => cores(cpu),
            VmKind::Harvest => {
                let base = cpu.min(self.base);
                cores(base) * (1.0 - self.evictable_off) + cores(cpu - base) * (1.0 - self.harvested_off)
            }
        }
    }

    /// What a VM has cost until `until` if it lives as planned, in seconds of a regular core.
    pub fn core_seconds(&self, plan: &VmPlan, until: Moment) -> f64 {
        let end = plan.gone.map_or(until, |gone| gone.at.min(until));
        let (mut since, mut cpu, mut sum) = (plan.starts_at, plan.size.cpu, 0.0);
        for &(at, size) in plan.changes.iter().filter(|&&(at, _)| at < end) {
            sum += self.now(plan.kind, cpu) * at.since(since).as_seconds();
            (since, cpu) = (at, size.cpu);
        }
        sum + self.now(plan.kind, cpu) * end.since(since).as_seconds()
    }

    /// What a fleet costs on average until `until`, in regular cores.
    pub fn mean(&self, plans: &[VmPlan], until: Moment) -> f64 {
        let sum: f64 = plans.iter().map(|plan| self.core_seconds(plan, until)).sum();
        sum / until.since(Moment::ORIGIN).as_seconds().max(1e-6)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machines::SospSet;
    use crate::plan::Machines;

    #[test]
    fn the_papers_clusters_cost_what_its_table_says() {
        // Budget: 32 regular cores. `High` spends less, in the release too.
        for (set, prices, cost) in [
            (SospSet::Baseline, Prices::spot(0.0), 32.0),
            (SospSet::Lowest, Prices::LOWEST, 32.7),
            (SospSet::Typical, Prices::TYPICAL, 31.9),
            (SospSet::High, Prices::HIGH, 28.3),
            (SospSet::Best, Prices::BEST, 32.0),
        ] {
            let mut fleet = set.fleet(None, 1).unwrap();
            let mean = prices.mean(&fleet.given(), SospSet::length());
            assert!((mean - cost).abs() < 0.4, "{set:?} costs {mean}, published {cost}");
        }
    }

    #[test]
    fn only_the_time_that_a_vm_lives_is_paid() {
        let mut plan = SospSet::Baseline.fleet(None, 1).unwrap().given().remove(0);
        plan.kind = VmKind::Regular;
        plan.starts_at = Moment(10_000_000);
        plan.gone = Some(crate::plan::Gone { at: Moment(40_000_000), notice: vocabulary::Span::ZERO });
        assert_eq!(Prices::BEST.core_seconds(&plan, Moment(100_000_000)), 16.0 * 30.0);
        assert_eq!(Prices::BEST.core_seconds(&plan, Moment(20_000_000)), 16.0 * 10.0);
        assert_eq!(Prices::BEST.core_seconds(&plan, Moment(5_000_000)), 0.0);
    }
}
