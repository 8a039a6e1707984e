//! A VM whose quotas are handed out in periods, its own and those of all sandboxes on it.
//!
//! **Knows:** the quota of the VM's control group, below which the groups of its sandboxes are, and how many cores the machine
//! under it has.
//! **Promises:** whoever computes does so at full speed, those who are too many sharing the machine by weight, until its own quota or
//! the VM's is used up. Looked at again only when somebody stops, goes on or ends.
//! **Gives up:** the other VMs of the machine: each has all of its cores, as far as its quota goes. And the VM's own process,
//! which in life takes a hundredth of a core out of the same quota.

use vocabulary::{MilliCores, Moment, Span};

use super::machine::{ALL, Machine, Plan};
use super::quota::{Quota, Quotas};
use super::share::{Want, share};
use super::task::Task;
use super::{Delivered, Rate, rate_of};

/// What was given, and where it counts.
#[derive(Debug)]
pub(super) struct Books {
    delivered: Delivered,
    shared: Option<Shared>,
}

#[derive(Debug)]
struct Shared {
    host: Rate,
    quota: Quota,
}

impl Books {
    pub fn new(now: Moment, cpu: MilliCores, quotas: Quotas, phase: Span) -> Self {
        let shared = match quotas {
            Quotas::Flow => None,
            Quotas::InPeriods { host } => {
                let mut quota = Quota::new(phase);
                quota.write(now, cpu);
                Some(Shared { host: rate_of(host), quota })
            }
        };
        Self { delivered: 0, shared }
    }

    #[inline]
    pub fn goes_in_periods(&self) -> bool {
        self.shared.is_some()
    }

    /// Accounts for what a task has had up to now.
    #[inline]
    pub fn settle<P: Copy>(&mut self, task: &mut Task<P>, now: Moment) {
        let from = task.settled();
        let given = task.settle(now);
        self.delivered += given;
        if let Some(shared) = &mut self.shared {
            shared.quota.spend(from, now, given);
        }
    }

    /// Another size of the VM; tells what may have been used of the period of the old one that is cut off, and is handed out at once
    /// of the new one.
    pub fn resize(&mut self, now: Moment, cpu: MilliCores) -> Delivered {
        let Some(shared) = &mut self.shared else { return 0 };
        let before = shared.quota.each();
        shared.quota.write(now, cpu);
        before + shared.quota.each()
    }

    /// What is handed out once in a period; nothing where it flows.
    pub fn in_a_period(&self) -> Delivered {
        self.shared.as_ref().map_or(0, |shared| shared.quota.each())
    }

    /// What was given since the last time.
    pub fn take(&mut self) -> Delivered {
        std::mem::take(&mut self.delivered)
    }
}

impl<P: Copy> Machine<P> {
    /// Whose turn it is from now on, and until when.
    pub(super) fn share_in_periods(&mut self, now: Moment, plans: &mut Vec<Plan>) {
        self.crowded = true;
        for task in self.tasks.iter_mut().flatten() {
            self.books.settle(task, now);
        }
        let Some(Shared { host, quota }) = &mut self.books.shared else { return };
        self.wants.clear();
        self.wanting.clear();
        for (index, slot) in self.tasks.iter_mut().enumerate() {
            let Some(task) = slot else { continue };
            let limit = task.wish(*host);
            task.set_rate(0);
            if limit > 0 {
                self.wants.push(Want { limit, weight: task.weight(), rate: 0 });
                self.wanting.push(index as u32);
            }
        }
        share(*host, &mut self.wants);
        quota.roll(now);
        let together = self.wants.iter().map(|want| want.rate).sum();
        let mut next = if quota.allows(together) {
            for (want, &index) in self.wants.iter().zip(&self.wanting) {
                if let Some(task) = &mut self.tasks[index as usize] {
                    task.set_rate(want.rate);
                }
            }
            quota.lasts(now, together)
        } else {
            quota.next(now)
        };
        for task in self.tasks.iter().flatten() {
            next = next.min(task.next_change()).min(task.next_beat());
        }
        if next < Moment::NEVER {
            plans.push(self.plan(next.max(now), ALL));
        }
    }
}
