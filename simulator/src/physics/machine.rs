//! One VM's cores, and the tasks that share them.
//!
//! **Knows:** its size, and every task on it.
//! **Promises:** a task that nobody is in the way of costs one plan and one look, whatever else is there: while all limits
//! together fit, everybody has its own. Only when they do not fit is the VM *crowded*, and every change of the set, of a size or of
//! what somebody does is worked out anew, for this VM alone.
//! **Gives up:** time. It says when to look again, and is asked.

use vocabulary::{Mebibytes, MilliCores, Moment, Resources, Span};

use super::periods::Books;
use super::quota::Quotas;
use super::share::{Want, share};
use super::task::Task;
use super::{Counters, Delivered, Ended, Fate, Load, Rate, TaskId, rate_of};

/// When to call [`Machine::look`], and with what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// When.
    pub at: Moment,
    /// To be handed back.
    pub look: Look,
}

/// At whom to look. What has been overtaken is recognised by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    task: u32,
    epoch: u32,
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
pub(super) const ALL: u32 = u32::MAX;

/// See the module.
#[derive(Debug)]
pub struct Machine<P> {
    capacity: Rate,
    pub(super) tasks: Vec<Option<Task<P>>>,
    free: Vec<u32>,
    /// All limits together.
    limits: u64,
    pub(super) crowded: bool,
    /// Grows whenever plans that were made are no longer good.
    pub(super) epoch: u32,
    /// What was given since the last reading, and what could have been.
    pub(super) books: Books,
    could: Delivered,
    counted: Moment,
    pub(super) wants: Vec<Want>,
    pub(super) wanting: Vec<u32>,
}

impl<P: Copy> Machine<P> {
    /// Without tasks, with quotas that flow evenly.
    pub fn new(now: Moment, cpu: MilliCores) -> Self {
        Self::with_quotas(now, cpu, Quotas::Flow, Span::ZERO)
    }

    /// Without tasks. Where quotas are handed out in periods, its own begin so long after those of the clock.
    pub fn with_quotas(now: Moment, cpu: MilliCores, quotas: Quotas, phase: Span) -> Self {
        Self {
            capacity: rate_of(cpu),
            tasks: Vec::new(),
            free: Vec::new(),
            limits: 0,
            crowded: false,
            epoch: 0,
            books: Books::new(now, cpu, quotas, phase),
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
        if self.books.goes_in_periods() {
            task.goes_in_periods();
        }
        let fits = self.limits <= self.capacity && !self.books.goes_in_periods();
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
            plans.push(self.plan(ends_alone, index));
        } else {
            self.share_anew(now, plans);
        }
        TaskId(index)
    }

    /// Another size from now on.
    pub fn set_capacity(&mut self, now: Moment, cpu: MilliCores, plans: &mut Vec<Plan>) {
        self.count_what_could_be_given(now);
        self.capacity = rate_of(cpu);
        self.could += self.books.resize(now, cpu);
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
        self.books.settle(task, now);
        self.limits -= task.limit;
        task.resize(ceiling, weight);
        self.limits += task.limit;
        self.share_anew(now, plans);
    }

    /// What a task has used, as counters on the machine would tell at this moment.
    pub fn sample(&mut self, now: Moment, id: TaskId) -> Option<Counters> {
        let task = self.tasks.get_mut(id.0 as usize)?.as_mut()?;
        self.books.settle(task, now);
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

    /// What has ended, if the plan for this look still holds. To be called again with the same look until nothing has.
    pub fn look(&mut self, now: Moment, look: Look, plans: &mut Vec<Plan>) -> Option<Ended<P>> {
        if look.epoch != self.epoch {
            return None;
        }
        if look.task != ALL {
            // An older plan for another task that was here ends before this one does.
            let task = self.tasks[look.task as usize].as_mut()?;
            self.books.settle(task, now);
            let fate = task.fate()?;
            return self.take(now, look.task, fate);
        }
        for index in 0..self.tasks.len() {
            if let Some(task) = &mut self.tasks[index] {
                self.books.settle(task, now);
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
            self.books.settle(task, now);
            memory += task.memory();
        }
        self.count_what_could_be_given(now);
        let delivered = self.books.take();
        // What was handed out shortly before the last reading could be used after it.
        Reading { delivered, could: std::mem::take(&mut self.could) + self.books.in_a_period(), memory }
    }

    fn count_what_could_be_given(&mut self, now: Moment) {
        self.could = self.could.saturating_add(self.capacity.saturating_mul(now.since(self.counted).0));
        self.counted = now;
    }

    /// Whether some have less than they could use, or may.
    pub fn is_crowded(&self) -> bool {
        self.crowded
    }

    pub(super) fn plan(&self, at: Moment, task: u32) -> Plan {
        Plan { at, look: Look { task, epoch: self.epoch } }
    }

    fn take(&mut self, now: Moment, index: u32, fate: Fate) -> Option<Ended<P>> {
        let place = self.tasks.get_mut(index as usize)?;
        let task = place.as_mut()?;
        self.books.settle(task, now);
        self.limits -= task.limit;
        let ended = task.end(fate);
        *place = None;
        self.free.push(index);
        Some(ended)
    }

    fn share_anew(&mut self, now: Moment, plans: &mut Vec<Plan>) {
        self.epoch = self.epoch.wrapping_add(1);
        if self.books.goes_in_periods() {
            return self.share_in_periods(now, plans);
        }
        self.crowded = self.limits > self.capacity;
        self.wants.clear();
        self.wanting.clear();
        for (index, slot) in self.tasks.iter_mut().enumerate() {
            let Some(task) = slot else { continue };
            self.books.settle(task, now);
            if !self.crowded {
                task.set_rate(task.limit);
                let look = Look { task: index as u32, epoch: self.epoch };
                plans.push(Plan { at: task.ends_alone(), look });
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
            plans.push(self.plan(next.max(now), ALL));
        }
    }
}
