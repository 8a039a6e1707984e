//! Harvest VMs by chance: how long they live, and how their cores come and go.
//!
//! **Knows:** the distributions that SOSP'21 publishes of both.
//! **Promises:** with its defaults the published ones; see `tests/characters.rs`, which prints both. Each knob (evictions, changes, spread
//! of sizes, notice) changes what it names and nothing else, with the same chance.
//! **Gives up:** hosts; and the age of what is given: unless told otherwise a fleet begins with new VMs, whose first day is
//! the one in which most are evicted.

use vocabulary::{Mebibytes, MilliCores, Moment, Resources, Span, VmKind};

use super::fleet::{Launches, sized};
use super::{Fleet, Lifetime, MEMORY_PER_CORE, purpose};
use crate::chance::Chance;
use crate::plan::{Gone, VmPlan};
use crate::workload::Percentiles;

/// Harvest VMs by chance.
#[derive(Debug, Clone, PartialEq)]
pub struct Harvest {
    /// How long they live.
    pub lifetime: Lifetime,
    /// How long before its eviction a VM is told: 30 s on Azure and GCP, 120 s on AWS, or not at all.
    pub notice: Span,
    /// Core changes, times so many; 0: none, as of spot VMs.
    pub changes: f64,
    /// Cores of a VM on average. 18.7 in a measured series of five days.
    pub mean_cores: f64,
    /// No VM has fewer: what is guaranteed...
    pub least_cores: f64,
    /// ...or more: what a host can spare.
    pub most_cores: f64,
    /// Sizes differ, and change, times so much; 0: all have the mean.
    pub spread: f64,
    /// Memory in proportion to cores.
    pub memory_per_core: Mebibytes,
    /// From asking for a VM to its first report.
    pub start_up: Span,
    /// VMs that are given are up to so old already.
    pub aged_up_to: Span,
    /// Nothing is planned for later.
    pub until: Moment,
}

impl Default for Harvest {
    fn default() -> Self {
        Self {
            lifetime: Lifetime::harvest(),
            notice: Span::seconds(30),
            changes: 1.0,
            mean_cores: 18.7,
            least_cores: 2.0,
            most_cores: 40.0,
            spread: 1.0,
            memory_per_core: MEMORY_PER_CORE,
            // A VM of a public cloud: a minute to boot and to bring an Invoker up.
            start_up: Span::seconds(60),
            aged_up_to: Span::ZERO,
            until: Moment::ORIGIN + Span::seconds(86_400),
        }
    }
}

/// Of Harvest VMs never change.
const NEVER_CHANGE: f64 = 0.351;
/// The largest change, in cores.
const LARGEST_CHANGE: f64 = 30.0;

/// Times between two changes of a VM. Published: 10 % below a minute, 30 % below ten, 65 % below an hour, 97 % below a day, and a mean of
/// 17.8 hours, which puts the longest at 99 days.
pub(crate) fn change_intervals() -> Percentiles {
    let known = [(0.0, 5.0), (10.0, 60.0), (30.0, 600.0), (65.0, 3600.0), (97.0, 86_400.0), (100.0, 8.57e6)];
    Percentiles::new(&known).expect("ascending")
}

/// Size of a change: mean 12, at most 30, three in four below 20.
fn change_size(chance: &mut Chance) -> f64 {
    LARGEST_CHANGE * chance.unit().powf(1.5)
}

impl Harvest {
    /// `count` of them, and as many more as somebody asks for.
    pub fn fleet(&self, count: u32, seed: u64) -> Fleet {
        let given = (0..count).map(|number| {
            let mut chance = Chance::one_of_many(seed, purpose::GIVEN, number.into());
            let age = Span((self.aged_up_to.as_micros() as f64 * chance.unit()) as u64);
            self.vm(Moment::ORIGIN, age, &mut chance)
        });
        let mut notes = vec![format!(
            "{count} Harvest VMs by chance: {:.1} cores on average (spread x {}), {:.1} days of life, changes x {}, notice {}",
            self.mean_cores,
            self.spread,
            self.lifetime.mean_s() / 86_400.0,
            self.changes,
            self.notice
        )];
        notes.push("assumed: VMs change and are evicted independently of each other".to_owned());
        Fleet::new(given.collect(), self.launches(seed), notes)
    }

    /// What somebody gets who asks for a VM: one of these, of whatever size it happens to have, or a regular one of the size
    /// that was asked for.
    pub fn launches(&self, seed: u64) -> Launches {
        let model = self.clone();
        let fate = move |number: u64, starts_at: Moment, kind: VmKind, size: Resources| {
            if kind == VmKind::Regular {
                return VmPlan { kind, starts_at, size, changes: Vec::new(), gone: None };
            }
            let mut chance = Chance::one_of_many(seed, purpose::LAUNCHED, number);
            model.vm(starts_at, Span::ZERO, &mut chance)
        };
        Launches { start_up: self.start_up, supply: u64::MAX, fate: Box::new(fate) }
    }

    /// One VM.
    pub(super) fn vm(&self, starts_at: Moment, age: Span, chance: &mut Chance) -> VmPlan {
        // Always the same number of draws before the changes, so that a knob does not shuffle them.
        let first = (self.mean_cores + self.spread * (self.first_cores(chance) - self.mean_cores)).round();
        let lives = self.lifetime.draw(age, chance);
        let never_changes = chance.unit() <= NEVER_CHANGE;
        let gone = lives.map(|lives| starts_at + lives).filter(|&at| at < self.until);
        let until = gone.unwrap_or(self.until);
        let mut plan = VmPlan {
            kind: VmKind::Harvest,
            starts_at,
            size: self.sized(first),
            changes: Vec::new(),
            gone: gone.map(|at| Gone { at, notice: self.notice }),
        };
        if never_changes || self.changes <= 0.0 || self.spread <= 0.0 {
            return plan;
        }
        let intervals = change_intervals();
        let (mut now, mut cores) = (starts_at, first);
        loop {
            now = now + Span((intervals.draw(chance) / self.changes * 1e6) as u64);
            let size = (self.spread * change_size(chance)).round().max(1.0);
            let grows = chance.unit() <= 0.5;
            if now >= until {
                return plan;
            }
            cores = self.changed(cores, if grows { size } else { -size });
            let size = self.sized(cores);
            if plan.changes.last().map_or(plan.size, |&(_, size)| size) != size {
                plan.changes.push((now, size));
            }
        }
    }

    /// Evenly between the bounds, on both sides of the mean.
    fn first_cores(&self, chance: &mut Chance) -> f64 {
        let (below, above) = (self.mean_cores - self.least_cores, self.most_cores - self.mean_cores);
        let reach = below.min(above).max(0.0);
        self.mean_cores + reach * chance.between(-1.0, 1.0)
    }

    /// What does not fit in one direction goes in the other.
    fn changed(&self, cores: f64, change: f64) -> f64 {
        let fits = |cores: f64| (self.least_cores..=self.most_cores).contains(&cores);
        let (wanted, other) = (cores + change, cores - change);
        if !fits(wanted) && fits(other) { other } else { wanted.clamp(self.least_cores, self.most_cores) }
    }

    /// Whole cores.
    fn sized(&self, cores: f64) -> Resources {
        sized(MilliCores::cores(cores.round().max(1.0) as u32), self.memory_per_core)
    }
}
