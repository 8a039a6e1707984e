//! The clusters of SOSP'21's experiments.
//!
//! **Knows:** the sizes of those that do not change, and of those that do, how many VMs and how they moved.
//! **Promises:** constant ones as published; changing ones from the file where there is one, and else drawn so that mean,
//! range and number of changes are the published ones.
//! **Gives up:** which VM changed when, without the file.

use std::path::Path;

use vocabulary::{Mebibytes, Moment, Span};

use super::{Fleet, Launches, MEMORY_PER_CORE, Steps, purpose};
use crate::chance::Chance;
use crate::workload::TraceError;

/// Where each set stands, below the folder of traces.
const FILE: &str = "vms/sosp21_harvest_vm_cores.csv";
/// All of them last twenty minutes.
const LENGTH_S: f64 = 1200.0;

/// One cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SospSet {
    /// 10 VMs of 18 cores.
    Dedicated,
    /// 10 VMs of 5 to 28 cores, 180 in all, which do not change.
    Normal,
    /// 10 VMs that change 67 times in twenty minutes; 148 cores on average, 104 to 204.
    Active,
    /// 10 VMs of 16 cores: what the released script for the balancers' comparison names.
    Standard,
    /// Same budget, regular VMs: 2 of 16 cores.
    Baseline,
    /// Same budget at the lowest discount: 6 VMs, 62.9 cores.
    Lowest,
    /// Same budget at the typical discount: 12 VMs, 147.3 cores.
    Typical,
    /// Same budget at a high discount: 18 VMs, 247.3 cores.
    High,
    /// Same budget at the best discount: 21 VMs, 311.4 cores.
    Best,
}

/// How a set that changes is published: VMs, mean, least and most cores, moments at which the total changes. Such
/// a change may take several VMs: 67 changes of single VMs in `Active` come of 33 moments here.
struct Moving {
    vms: usize,
    mean: f64,
    least: f64,
    most: f64,
    moments: usize,
}

impl SospSet {
    /// All of them.
    pub const ALL: [SospSet; 9] = [
        Self::Dedicated,
        Self::Normal,
        Self::Active,
        Self::Standard,
        Self::Baseline,
        Self::Lowest,
        Self::Typical,
        Self::High,
        Self::Best,
    ];

    /// The paper's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Dedicated => "Dedicated",
            Self::Normal => "Normal",
            Self::Active => "Active",
            Self::Standard => "Standard",
            Self::Baseline => "Baseline",
            Self::Lowest => "Lowest",
            Self::Typical => "Typical",
            Self::High => "High",
            Self::Best => "Best",
        }
    }

    /// By the paper's name.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|set| set.name().eq_ignore_ascii_case(name))
    }

    /// What the file calls it.
    fn in_file(self) -> &'static str {
        match self {
            Self::Dedicated => "sim_const_traces",
            Self::Normal => "sim_common_traces_padded",
            Self::Active => "sim_active_traces_padded",
            Self::Standard => "sim_standard",
            Self::Baseline => "sim_trace_standard_base_16",
            Self::Lowest => "sim_trace_evict_disc_048_base_16",
            Self::Typical => "sim_trace_harv_disc_08_base_16",
            Self::High => "sim_trace_harv_disc_09_base_16",
            Self::Best => "sim_trace_evict_disc_088_base_16",
        }
    }

    fn constant(self) -> Option<Vec<f64>> {
        match self {
            Self::Dedicated => Some(vec![18.0; 10]),
            Self::Normal => Some(vec![26.0, 24.0, 15.0, 28.0, 16.0, 18.0, 20.0, 22.0, 5.0, 6.0]),
            Self::Standard => Some(vec![16.0; 10]),
            Self::Baseline => Some(vec![16.0; 2]),
            _ => None,
        }
    }

    /// As papers.md 1a.13 and 1b sum the released files up.
    fn moving(self) -> Moving {
        let (vms, mean, least, most, moments) = match self {
            Self::Lowest => (6, 62.9, 58.0, 67.0, 12),
            Self::Typical => (12, 147.3, 145.0, 148.0, 3),
            Self::High => (18, 247.3, 245.0, 248.0, 4),
            Self::Best => (21, 311.4, 309.0, 317.0, 27),
            _ => (10, 148.0, 104.0, 204.0, 33),
        };
        Moving { vms, mean, least, most, moments }
    }

    /// Its VMs; `folder` holds the traces.
    pub fn fleet(self, folder: Option<&Path>, seed: u64) -> Result<Fleet, TraceError> {
        self.fleet_with(folder, seed, MEMORY_PER_CORE)
    }

    /// The same with other memory.
    pub fn fleet_with(
        self,
        folder: Option<&Path>,
        seed: u64,
        memory_per_core: Mebibytes,
    ) -> Result<Fleet, TraceError> {
        let (steps, source) = match (self.constant(), folder) {
            (Some(cores), _) => {
                let series: Vec<[(f64, f64); 1]> = cores.into_iter().map(|cores| [(0.0, cores)]).collect();
                let series: Vec<&[(f64, f64)]> = series.iter().map(|steps| &steps[..]).collect();
                (Steps::new(&series), "as published")
            }
            (None, Some(folder)) => {
                (Steps::read(&folder.join(FILE), Some(self.in_file()))?, "from the released trace")
            }
            (None, None) => (self.drawn(seed), "drawn with the published mean, range and number of changes"),
        };
        let note = format!("SOSP'21's cluster {}: {} VMs, {source}", self.name(), steps.len());
        Ok(Fleet::new(steps.plans(memory_per_core, None), Launches::none(), vec![note]))
    }

    /// A fleet that moves as the published one does: its total wanders between its bounds, one VM after the other pays for it.
    fn drawn(self, seed: u64) -> Steps {
        let moving = self.moving();
        let mut chance = Chance::one_of_many(seed, purpose::STEPS, self as u64);
        let mut moments: Vec<f64> =
            (0..moving.moments).map(|_| chance.between(1.0, LENGTH_S - 1.0)).collect();
        moments.sort_by(f64::total_cmp);
        moments.dedup_by_key(|at| at.ceil() as u64);
        // Totals: the bounds once each, in between by chance, then moved to the mean.
        let mut totals: Vec<f64> = (0..=moments.len())
            .map(|_| moving.mean + chance.between(-0.5, 0.5) * (moving.most - moving.least))
            .collect();
        let weights: Vec<f64> = (0..=moments.len())
            .map(|at| {
                let begins = if at == 0 { 0.0 } else { moments[at - 1] };
                moments.get(at).copied().unwrap_or(LENGTH_S) - begins
            })
            .collect();
        let (low, high) = (totals.len() / 3, totals.len() * 2 / 3);
        for _ in 0..100 {
            let mean: f64 =
                totals.iter().zip(&weights).map(|(total, weight)| total * weight).sum::<f64>() / LENGTH_S;
            totals
                .iter_mut()
                .for_each(|total| *total = (*total + moving.mean - mean).clamp(moving.least, moving.most));
            (totals[low], totals[high]) = (moving.least, moving.most);
        }
        // Each VM its share, uneven as harvested ones are; then one VM at a time takes or gives.
        let shares: Vec<f64> = (0..moving.vms).map(|_| chance.between(0.6, 1.4)).collect();
        let sum: f64 = shares.iter().sum();
        let mut now: Vec<f64> =
            shares.iter().map(|share| (share / sum * totals[0]).round().max(2.0)).collect();
        let mut series: Vec<Vec<(f64, f64)>> = now.iter().map(|&cores| vec![(0.0, cores)]).collect();
        for (&at, &total) in std::iter::once(&0.0).chain(&moments).zip(&totals) {
            let mut missing = total.round() - now.iter().sum::<f64>();
            while missing != 0.0 {
                let vm = chance.below(moving.vms as u64) as usize;
                let change = missing.clamp(2.0_f64.min(now[vm]) - now[vm], (32.0 - now[vm]).max(0.0));
                if change == 0.0 {
                    continue;
                }
                now[vm] += change;
                missing -= change;
                match series[vm].last_mut() {
                    Some(last) if last.0 == at => last.1 = now[vm],
                    _ => series[vm].push((at, now[vm])),
                }
            }
        }
        let series: Vec<&[(f64, f64)]> = series.iter().map(Vec::as_slice).collect();
        Steps::new(&series)
    }

    /// Until when the published series last.
    pub fn length() -> Moment {
        Moment::ORIGIN + Span((LENGTH_S * 1e6) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::super::fleet::Cores;
    use super::*;
    use crate::plan::Machines;

    fn cores(set: SospSet, folder: Option<&Path>, seed: u64) -> Cores {
        Cores::of(&set.fleet(folder, seed).unwrap().given(), SospSet::length())
    }

    #[test]
    fn constant_clusters_are_the_published_ones() {
        for (set, vms, sum) in [
            (SospSet::Dedicated, 10, 180.0),
            (SospSet::Normal, 10, 180.0),
            (SospSet::Standard, 10, 160.0),
            (SospSet::Baseline, 2, 32.0),
        ] {
            assert_eq!(set.fleet(None, 1).unwrap().given().len(), vms);
            assert_eq!(cores(set, None, 1), Cores { mean: sum, least: sum, most: sum, changes: 0 });
        }
    }

    #[test]
    fn drawn_clusters_move_as_the_published_ones() {
        for seed in 0..20 {
            for (set, changes) in [
                (SospSet::Active, 67),
                (SospSet::Lowest, 12),
                (SospSet::Typical, 3),
                (SospSet::High, 4),
                (SospSet::Best, 27),
            ] {
                let (moving, drawn) = (set.moving(), cores(set, None, seed));
                assert!((drawn.mean / moving.mean - 1.0).abs() < 0.02, "{set:?}, seed {seed}: {drawn:?}");
                assert!((drawn.least - moving.least).abs() <= 1.0, "{set:?}, seed {seed}: {drawn:?}");
                assert!((drawn.most - moving.most).abs() <= 1.0, "{set:?}, seed {seed}: {drawn:?}");
                let off = drawn.changes.abs_diff(changes);
                assert!(off <= 3.max(changes / 2), "{set:?}, seed {seed}: {drawn:?}");
            }
            assert_eq!(cores(SospSet::Active, None, seed), cores(SospSet::Active, None, seed));
        }
    }

    #[test]
    fn sets_are_found_by_the_papers_names() {
        assert_eq!(SospSet::by_name("active"), Some(SospSet::Active));
        assert_eq!(SospSet::by_name("Lively"), None);
    }
}
