//! A machine of the simulator's under a test's hands.

use simulator::physics::{Ended, Fate, Load, Machine, Plan, Quota, Quotas, TaskId};
use simulator::plan::Work;
use vocabulary::{Mebibytes, MilliCores, Moment, Resources, Span};

/// A machine with its own small agenda.
pub struct Bench {
    pub machine: Machine<usize>,
    pub plans: Vec<Plan>,
    pub ended: Vec<(u64, Ended<usize>)>,
}

impl Bench {
    /// Its own periods begin at the origin, as those of all sandboxes here.
    pub fn with_quotas(millicores: u32, quotas: Quotas) -> Self {
        let machine = Machine::with_quotas(Moment::ORIGIN, MilliCores(millicores), quotas, Span::ZERO);
        Self { machine, plans: Vec::new(), ended: Vec::new() }
    }

    /// Everything that is due before `at`.
    pub fn until(&mut self, at: u64) {
        while let Some(next) = (0..self.plans.len()).min_by_key(|&index| self.plans[index].at)
            && self.plans[next].at.0 <= at
        {
            let plan = self.plans.swap_remove(next);
            while let Some(ended) = self.machine.look(plan.at, plan.look, &mut self.plans) {
                self.ended.push((plan.at.0, ended));
            }
        }
    }

    pub fn begin_as(&mut self, at: u64, load: Load, number: usize) -> TaskId {
        self.until(at);
        self.machine.begin(Moment(at), load, number, &mut self.plans)
    }

    pub fn ends(&mut self) -> Vec<(usize, u64, Fate)> {
        self.until(u64::MAX - 1);
        let mut ends: Vec<_> = self.ended.iter().map(|(at, e)| (e.payload, *at, e.fate)).collect();
        ends.sort_unstable_by_key(|&(number, ..)| number);
        ends
    }
}

/// So long waiting, then computing; times in milliseconds, sizes in thousandths of a core.
pub fn load(io: u64, cpu: u64, saturation: u32, ceiling: u32) -> Load {
    Load {
        work: Work {
            io: Span::millis(io),
            cpu: Span::millis(cpu),
            saturation: MilliCores(saturation),
            memory: Mebibytes(100),
            input_bytes: 0,
        },
        ceiling: Resources::new(ceiling, 100),
        weight: u64::from(ceiling),
        timeout: Span::seconds(1_000),
        resident: Mebibytes::ZERO,
        quota: Quota::new(Span::ZERO),
    }
}
