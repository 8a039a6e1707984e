//! VMs that are given, and VMs that are launched because somebody asked.
//!
//! **Knows:** a list of fates, and a rule for those who are asked for.
//! **Promises:** a VM that is asked for starts after its start-up time, if the supply is not used up.
//! **Gives up:** a market: whoever asks for much is not put off.

use vocabulary::{Mebibytes, MilliCores, Moment, Resources, Span, VmKind};

use crate::plan::{Machines, VmPlan};

/// Memory that comes with a core unless told otherwise: the D series of the paper's cloud has four GiB.
pub const MEMORY_PER_CORE: Mebibytes = Mebibytes(4096);

/// So many cores with memory in proportion.
pub(crate) fn sized(cpu: MilliCores, memory_per_core: Mebibytes) -> Resources {
    let memory = u64::from(cpu.0) * u64::from(memory_per_core.0) / 1000;
    Resources { cpu, memory: Mebibytes(u32::try_from(memory).unwrap_or(u32::MAX)) }
}

/// What becomes of the n-th VM that is asked for: (number, starts at, kind, size) to its plan.
pub type Fate = Box<dyn FnMut(u64, Moment, VmKind, Resources) -> VmPlan + Send>;

/// What somebody gets who asks for a VM.
pub struct Launches {
    /// From asking to reporting.
    pub start_up: Span,
    /// So many are to be had in all.
    pub supply: u64,
    /// What becomes of each.
    pub fate: Fate,
}

impl Launches {
    /// Nobody gets any.
    pub fn none() -> Self {
        Self { supply: 0, ..Self::that_last(Span::ZERO) }
    }

    /// Everybody gets what they ask for, and keeps it.
    pub fn that_last(start_up: Span) -> Self {
        let fate =
            |_, starts_at, kind, size| VmPlan { kind, starts_at, size, changes: Vec::new(), gone: None };
        Self { start_up, supply: u64::MAX, fate: Box::new(fate) }
    }
}

/// VMs that are given, and VMs that are launched because somebody asked.
pub struct Fleet {
    given: Vec<VmPlan>,
    launches: Launches,
    launched: u64,
    /// One sentence each, for the report.
    pub notes: Vec<String>,
}

impl Fleet {
    /// Of these.
    pub fn new(given: Vec<VmPlan>, launches: Launches, notes: Vec<String>) -> Self {
        Self { given, launches, launched: 0, notes }
    }

    /// `count` alike, which last.
    pub fn constant(count: u32, kind: VmKind, size: Resources) -> Self {
        let plan = VmPlan { kind, starts_at: Moment::ORIGIN, size, changes: Vec::new(), gone: None };
        let note = format!("{count} VMs of {size} that neither change nor go");
        Self::new(vec![plan; count as usize], Launches::none(), vec![note])
    }

    /// With this rule for those who ask for more.
    pub fn with_launches(mut self, launches: Launches) -> Self {
        self.launches = launches;
        self
    }
}

impl Machines for Fleet {
    fn given(&mut self) -> Vec<VmPlan> {
        self.given.clone()
    }

    fn launch(&mut self, now: Moment, kind: VmKind, size: Resources) -> Option<VmPlan> {
        if self.launched == self.launches.supply {
            return None;
        }
        self.launched += 1;
        Some((self.launches.fate)(self.launched - 1, now + self.launches.start_up, kind, size))
    }
}

/// Capacity of a fleet over time: mean, least and most cores between two moments, and how often it changed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cores {
    /// Weighted by time.
    pub mean: f64,
    /// At its smallest.
    pub least: f64,
    /// At its largest.
    pub most: f64,
    /// Moments at which some VM changed.
    pub changes: usize,
}

impl Cores {
    /// Of these VMs until `end`.
    pub fn of(plans: &[VmPlan], end: Moment) -> Self {
        let mut steps: Vec<(Moment, i64)> = Vec::new();
        let mut changes: Vec<Moment> = Vec::new();
        for plan in plans {
            let mut cores = i64::from(plan.size.cpu.0);
            steps.push((plan.starts_at, cores));
            for &(at, size) in &plan.changes {
                steps.push((at, i64::from(size.cpu.0) - cores));
                if i64::from(size.cpu.0) != cores {
                    changes.push(at);
                }
                cores = size.cpu.0.into();
            }
            if let Some(gone) = plan.gone {
                steps.push((gone.at, -cores));
                changes.push(gone.at);
            }
        }
        steps.sort_unstable();
        let (mut now, mut cores, mut area) = (Moment::ORIGIN, 0, 0.0);
        let (mut least, mut most) = (i64::MAX, 0);
        let mut steps = steps.into_iter().filter(|&(at, _)| at < end).peekable();
        while let Some((at, change)) = steps.next() {
            area += cores as f64 * at.since(now).as_seconds();
            now = at;
            cores += change;
            if steps.peek().is_none_or(|&(next, _)| next > at) {
                (least, most) = (least.min(cores), most.max(cores));
            }
        }
        area += cores as f64 * end.since(now).as_seconds();
        let mean = area / end.since(Moment::ORIGIN).as_seconds() / 1000.0;
        let changes = changes.into_iter().filter(|&at| at < end).count();
        Self { mean, least: least as f64 / 1000.0, most: most as f64 / 1000.0, changes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_asks_gets_a_vm_after_its_start_up_until_the_supply_is_used_up() {
        let launches = Launches { supply: 2, ..Launches::that_last(Span::seconds(40)) };
        let mut fleet = Fleet::constant(3, VmKind::Regular, Resources::new(8000, 1)).with_launches(launches);
        assert_eq!(fleet.given().len(), 3);
        let now = Moment(5);
        let plan = fleet.launch(now, VmKind::Harvest, Resources::new(2000, 2)).unwrap();
        assert_eq!((plan.starts_at, plan.kind), (now + Span::seconds(40), VmKind::Harvest));
        assert!(fleet.launch(now, VmKind::Harvest, Resources::ZERO).is_some());
        assert_eq!(fleet.launch(now, VmKind::Harvest, Resources::ZERO), None);
    }

    #[test]
    fn capacity_is_weighted_by_time() {
        let plan = VmPlan {
            kind: VmKind::Harvest,
            starts_at: Moment::ORIGIN,
            size: Resources::new(4000, 1),
            changes: vec![(Moment(10_000_000), Resources::new(8000, 1))],
            gone: Some(crate::plan::Gone { at: Moment(20_000_000), notice: Span::ZERO }),
        };
        let cores = Cores::of(&[plan], Moment(40_000_000));
        assert_eq!(cores, Cores { mean: 3.0, least: 0.0, most: 8.0, changes: 2 });
    }
}
