//! One VM's cores, and the tasks that share them.
//!
//! **Knows:** its size, and every task on it.
//! **Promises:** a task that nobody is in the way of costs one plan and one look, whatever else is there: while all limits
//! together fit, everybody has its own. Only when they do not fit is the VM *crowded*, and every change of the set, of a size or of
//! what somebody does is worked out anew, for this VM alone.
//! **Gives up:** time. It says when to look again, and is asked.

use vocabulary::{Mebibytes, MilliCores, Moment, Resources};

use super::share::{Want, share};
use super::task::Task;
use super::{Counters, Delivered, Ended, Fate, Load, Rate, TaskId};

/// When to call [`Machine::look`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// When.
    pub at: Moment,
    /// To be handed back; what has been overtaken is recognised by it.
    pub task: u32,
    /// The same.
    pub epoch: u32,
}

/// What has passed since the reading before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// CPU that was given.
    pub delivered: Delivered,
    /// CPU that could have been given.
    pub could: Delivered,
    /// Memory that tasks touch now.
    pub memory: Mebibytes,
}

/// A look at everybody.
const ALL: u32 = u32::MAX;

/// See the module.
#[derive(Debug)]
pub struct Machine<P> {
    capacity: Rate,
    tasks: Vec<Option<Task<P>>>,
    free: Vec<u32>,
    /// All limits together.
    limits: u64,
    crowded: bool,
    /// Grows whenever plans that were made are no longer good.
    epoch: u32,
    /// Since the last reading.
    delivered: Delivered,
    could: Delivered,
    counted: Moment,
    wants: Vec<Want>,
    wanting: Vec<u32>,
}

impl<P: Copy> Machine<P> {
    /// Without tasks.
    pub fn new(now: Moment, cpu: MilliCores) -> Self {
        Self {
            capacity: rate_of(cpu),
            tasks: Vec::new(),
            free: Vec::new(),
            limits: 0,
            crowded: false,
            epoch: 0,
            delivered: 0,
            could: 0,
            counted: now,
            wants: Vec::new(),
            wanting: Vec::new(),
        }
    }

    /// One more task.
    pub fn begin(&mut self, now: Moment, load: Load, payload: P, plans: &mut Vec<Plan>) -> TaskId {
        let mut task = Task::new(now, load, payload);
        self.limits += task.limit;
        let fits = self.limits <= self.capacity;
        if fits {
            task.set_rate(task.limit);
        }
        let ends_alone = task.ends_alone();
        let index = self.free.pop().unwrap_or_else(|| {
            self.tasks.push(None);
            (self.tasks.len() - 1) as u32
        });
        self.tasks[index as usize] = Some(task);
        if fits && !self.crowded {
            plans.push(Plan { at: ends_alone, task: index, epoch: self.epoch });
        } else {
            self.share_anew(now, plans);
        }
        TaskId(index)
    }

    /// Another size from now on.
    pub fn set_capacity(&mut self, now: Moment, cpu: MilliCores, plans: &mut Vec<Plan>) {
        self.count_what_could_be_given(now);
        self.capacity = rate_of(cpu);
        if self.crowded || self.limits > self.capacity {
            self.share_anew(now, plans);
        }
    }

    /// Another ceiling and weight for a task from now on.
    pub fn resize(
        &mut self,
        now: Moment,
        id: TaskId,
        ceiling: Resources,
        weight: u64,
        plans: &mut Vec<Plan>,
    ) {
        let Some(task) = &mut self.tasks[id.0 as usize] else { return };
        self.delivered += task.settle(now);
        self.limits -= task.limit;
        task.resize(ceiling, weight);
        self.limits += task.limit;
        self.share_anew(now, plans);
    }

    /// What a task has used, as counters on the machine would tell at this moment.
    pub fn sample(&mut self, now: Moment, id: TaskId) -> Option<Counters> {
        let task = self.tasks.get_mut(id.0 as usize)?.as_mut()?;
        self.delivered += task.settle(now);
        Some(task.counters())
    }

    /// Ends a task from outside; what it used is free at once.
    pub fn kill(&mut self, now: Moment, id: TaskId, plans: &mut Vec<Plan>) -> Option<Ended<P>> {
        let ended = self.take(now, id.0, Fate::Killed)?;
        if self.crowded {
            self.share_anew(now, plans);
        }
        Some(ended)
    }

    /// What has ended, if this plan still holds. To be called again with the same plan until nothing has.
    pub fn look(&mut self, now: Moment, plan: Plan, plans: &mut Vec<Plan>) -> Option<Ended<P>> {
        if plan.epoch != self.epoch {
            return None;
        }
        if plan.task != ALL {
            // An older plan for another task that was here ends before this one does.
            let task = self.tasks[plan.task as usize].as_mut()?;
            self.delivered += task.settle(now);
            let fate = task.fate()?;
            return self.take(now, plan.task, fate);
        }
        for index in 0..self.tasks.len() {
            if let Some(task) = &mut self.tasks[index] {
                self.delivered += task.settle(now);
                if let Some(fate) = task.fate() {
                    let ended = self.take(now, index as u32, fate);
                    // Until nothing has ended, this look is not over.
                    return ended;
                }
            }
        }
        self.share_anew(now, plans);
        None
    }

    /// Everything ends.
    pub fn lose_all(&mut self, now: Moment) -> Vec<Ended<P>> {
        (0..self.tasks.len() as u32).filter_map(|index| self.take(now, index, Fate::Killed)).collect()
    }

    /// What has passed since the last reading.
    pub fn read(&mut self, now: Moment) -> Reading {
        let mut memory = Mebibytes::ZERO;
        for task in self.tasks.iter_mut().flatten() {
            self.delivered += task.settle(now);
            memory += task.memory();
        }
        self.count_what_could_be_given(now);
        let delivered = std::mem::take(&mut self.delivered);
        Reading { delivered, could: std::mem::take(&mut self.could), memory }
    }

    fn count_what_could_be_given(&mut self, now: Moment) {
        self.could = self.could.saturating_add(self.capacity.saturating_mul(now.since(self.counted).0));
        self.counted = now;
    }

    /// Whether some have less than they could use, or may.
    pub fn is_crowded(&self) -> bool {
        self.crowded
    }

    fn take(&mut self, now: Moment, index: u32, fate: Fate) -> Option<Ended<P>> {
        let mut task = self.tasks.get_mut(index as usize)?.take()?;
        self.delivered += task.settle(now);
        self.limits -= task.limit;
        self.free.push(index);
        Some(task.end(fate))
    }

    fn share_anew(&mut self, now: Moment, plans: &mut Vec<Plan>) {
        self.epoch = self.epoch.wrapping_add(1);
        self.crowded = self.limits > self.capacity;
        self.wants.clear();
        self.wanting.clear();
        for (index, slot) in self.tasks.iter_mut().enumerate() {
            let Some(task) = slot else { continue };
            self.delivered += task.settle(now);
            if !self.crowded {
                task.set_rate(task.limit);
                plans.push(Plan { at: task.ends_alone(), task: index as u32, epoch: self.epoch });
            } else if task.waits() {
                task.set_rate(0);
            } else {
                self.wants.push(Want { limit: task.limit, weight: task.weight(), rate: 0 });
                self.wanting.push(index as u32);
            }
        }
        if !self.crowded {
            return;
        }
        share(self.capacity, &mut self.wants);
        for (want, &index) in self.wants.iter().zip(&self.wanting) {
            if let Some(task) = &mut self.tasks[index as usize] {
                task.set_rate(want.rate);
            }
        }
        let next = self.tasks.iter().flatten().map(Task::next_change).min().unwrap_or(Moment::NEVER);
        if next < Moment::NEVER {
            plans.push(Plan { at: next.max(now), task: ALL, epoch: self.epoch });
        }
    }
}

fn rate_of(cpu: MilliCores) -> Rate {
    u64::from(cpu.0) * 1_000
}
