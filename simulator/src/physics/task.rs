//! One thing that computes on a VM: a run, or a sandbox in the making.
//!
//! **Knows:** what it still has to wait and to compute, and what it has been given so far.
//! **Promises:** what is given is never more than what is left.
//! **Gives up:** knowing the others; its rate is told to it.

use vocabulary::{Mebibytes, MilliCores, Moment, Resources, Span, Usage};

use super::pulse::Pulse;
use super::quota::{PERIOD, Quota};
use super::{CORE_US, Delivered, RAMP_PERCENT, RUNTIME_MEMORY, Rate, rate_of};
use crate::plan::Work;

/// A task's place on its machine; given to another when it has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TaskId(pub(super) u32);

/// What a task is begun with.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// What it needs.
    pub work: Work,
    /// What it is allowed.
    pub ceiling: Resources,
    /// Its part where there is not enough for all.
    pub weight: u64,
    /// It is killed when it takes longer.
    pub timeout: Span,
    /// What its sandbox holds already.
    pub resident: Mebibytes,
    /// Its sandbox's quota, as the task before has left it. Of no matter where quotas flow evenly.
    pub quota: Quota,
}

impl Load {
    /// Making a sandbox, which takes `alone` on an idle machine.
    pub fn making(alone: Span, weight: Option<MilliCores>) -> Self {
        let one_core = MilliCores::cores(1);
        Self {
            work: Work {
                io: Span::ZERO,
                cpu: alone,
                saturation: one_core,
                memory: RUNTIME_MEMORY,
                input_bytes: 0,
            },
            ceiling: Resources { cpu: one_core, memory: Mebibytes(u32::MAX) },
            weight: u64::from(weight.unwrap_or(one_core).0),
            timeout: Span::FOREVER,
            resident: Mebibytes::ZERO,
            quota: Quota::NONE,
        }
    }

    /// Making a sandbox, which was seen to take so long where it was made: nobody is in its way, nor it in anybody's.
    pub fn made_in(took: Span, weight: Option<MilliCores>) -> Self {
        let mut load = Self::making(Span::ZERO, weight);
        load.work.io = took;
        load
    }

    /// The most CPU it can use.
    pub(super) fn limit(&self) -> Rate {
        rate_of(self.ceiling.cpu.min(self.work.saturation))
    }
}

/// How a task came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// All of its work is done.
    Done,
    /// It touched more memory than its ceiling.
    OutOfMemory,
    /// It took longer than it may.
    TimedOut,
    /// It was stopped from outside.
    Killed,
}

/// A task that has ended.
#[derive(Debug, Clone, Copy)]
pub struct Ended<P> {
    /// What it was begun for.
    pub payload: P,
    /// What it needed.
    pub work: Work,
    /// How.
    pub fate: Fate,
    /// From its beginning.
    pub duration: Span,
    /// As the live meter would have measured it.
    pub usage: Usage,
    /// CPU that it was given, exactly.
    pub delivered: Delivered,
    /// Its sandbox's quota, for the next one.
    pub quota: Quota,
}

/// What counters on the machine tell of a task while it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counters {
    /// CPU time.
    pub given: Delivered,
    /// How long it was stopped at its quota, since its rate has been what it is.
    pub stopped: Span,
    /// Memory in use.
    pub memory: Mebibytes,
}

/// Runs that end before this are not sampled; see `sandbox/src/measure.rs`, also for the next.
pub(super) const FIRST_SAMPLE: Span = Span::millis(20);
pub(super) const BETWEEN_SAMPLES: Span = Span::millis(100);

#[derive(Debug, Clone)]
pub(super) struct Task<P> {
    pub payload: P,
    load: Load,
    /// The most it can use.
    pub limit: Rate,
    /// What it gets while it computes.
    pub rate: Rate,
    began: Moment,
    /// Up to then everything here is accounted for.
    settled: Moment,
    io_done: u64,
    cpu_done: Delivered,
    /// Its work or, if its ceiling of memory ends it, the part before that.
    io_until: u64,
    cpu_until: Delivered,
    doomed: bool,
    cpu_peak: Rate,
    throttled_us: u64,
    /// For how long it has computed at this rate.
    segment_us: u64,
    /// Where quotas are handed out in periods.
    pub pulse: Option<Box<Pulse>>,
}

impl<P: Copy> Task<P> {
    pub fn new(now: Moment, load: Load, payload: P) -> Self {
        let mut task = Self {
            payload,
            load,
            limit: load.limit(),
            rate: 0,
            began: now,
            settled: now,
            io_done: 0,
            cpu_done: 0,
            io_until: load.work.io.0,
            cpu_until: cpu_of(&load.work),
            doomed: false,
            cpu_peak: 0,
            throttled_us: 0,
            segment_us: 0,
            pulse: None,
        };
        task.see_its_doom();
        task
    }

    pub fn weight(&self) -> u64 {
        self.load.weight
    }

    /// Whether it waits for others still.
    pub fn waits(&self) -> bool {
        self.io_done < self.io_until
    }

    /// From now on its quota is handed out in periods. Must not have begun yet.
    pub fn goes_in_periods(&mut self) {
        let mut quota = self.load.quota;
        quota.write(self.settled, self.load.ceiling.cpu);
        self.pulse = Some(Box::new(Pulse::new(self.began, quota)));
    }

    /// Another ceiling and weight from now on. Must be settled.
    pub fn resize(&mut self, ceiling: Resources, weight: u64) {
        self.load.ceiling = ceiling;
        self.load.weight = weight;
        self.limit = self.load.limit();
        if let Some(pulse) = &mut self.pulse {
            pulse.quota.write(self.settled, ceiling.cpu);
        }
        self.see_its_doom();
    }

    /// With too low a ceiling, what comes after the crossing is cut off.
    fn see_its_doom(&mut self) {
        let Work { io, memory, .. } = self.load.work;
        let cpu = cpu_of(&self.load.work);
        let ceiling = self.load.ceiling.memory;
        self.doomed = memory > ceiling;
        if !self.doomed {
            (self.io_until, self.cpu_until) = (io.0, cpu);
            return;
        }
        let all = u128::from(io.0) + u128::from(cpu / CORE_US);
        let grows = u128::from((memory - RUNTIME_MEMORY).0).max(1);
        let may_grow = u128::from((ceiling - RUNTIME_MEMORY).0);
        let crossing = all * u128::from(RAMP_PERCENT) * may_grow / (100 * grows);
        let crossing = u64::try_from(crossing).unwrap_or(u64::MAX);
        // Where a shrunken ceiling finds it beyond the crossing, it ends at once.
        self.io_until = crossing.min(io.0).max(self.io_done);
        self.cpu_until = crossing.saturating_sub(io.0).saturating_mul(CORE_US).max(self.cpu_done);
    }

    /// What counters would tell. Must be settled. Under a quota the kernel lets all of its threads run until the period's part is
    /// used up, so in the middle of a period more has been given than the same rate without pauses would have been.
    pub fn counters(&self) -> Counters {
        let (given, memory) = (self.cpu_done, self.memory());
        if let Some(pulse) = &self.pulse {
            return Counters { given, stopped: pulse.stopped(), memory };
        }
        let wants = u64::from(self.load.work.saturation.0) * 1_000;
        let held_back = self.rate == self.limit && wants > self.limit && self.limit > 0;
        if !held_back || self.waits() {
            return Counters { given, stopped: Span::ZERO, memory };
        }
        let runs = self.limit * PERIOD.0 / wants;
        let (periods, into) = (self.segment_us / PERIOD.0, self.segment_us % PERIOD.0);
        let early = wants * into.min(runs);
        let left = self.cpu_until - self.cpu_done;
        let given = given + (early - (self.rate * into).min(early)).min(left);
        let stopped = Span(periods * (PERIOD.0 - runs) + into.saturating_sub(runs));
        Counters { given, stopped, memory }
    }

    /// Memory that it touches after what it has done.
    pub fn memory(&self) -> Mebibytes {
        let Work { io, memory, .. } = self.load.work;
        let done = Span(self.io_done) + Span(self.cpu_done / CORE_US);
        let all = io + Span(cpu_of(&self.load.work) / CORE_US);
        let grown = memory - RUNTIME_MEMORY;
        let ramp = all.scaled(RAMP_PERCENT, 100).max(Span(1));
        let now = if done >= ramp { grown } else { grown.scaled(done.0, ramp.0) };
        let floor = RUNTIME_MEMORY.min(memory);
        (floor + now).max(self.load.resident).min(self.load.ceiling.memory)
    }

    /// Accounts for the time until now, at the rate it has had; says what it was given.
    #[inline]
    pub fn settle(&mut self, now: Moment) -> Delivered {
        let (from, before) = (self.settled, self.cpu_done);
        let given = self.go_on(now);
        if let Some(pulse) = &mut self.pulse
            && now > from
        {
            pulse.pass(from, now, before, given);
        }
        given
    }

    #[inline]
    fn go_on(&mut self, now: Moment) -> Delivered {
        let mut passed = now.since(self.settled).0;
        self.settled = now;
        let waits = (self.io_until - self.io_done).min(passed);
        self.io_done += waits;
        passed -= waits;
        if passed == 0 || self.rate == 0 {
            return 0;
        }
        let left = self.cpu_until - self.cpu_done;
        let given = self.rate.saturating_mul(passed).min(left);
        self.cpu_done += given;
        let computed = if given == left { given.div_ceil(self.rate) } else { passed };
        self.segment_us += computed;
        if self.rate == self.limit && self.load.work.saturation > self.load.ceiling.cpu {
            let (ceiling, wants) =
                (u64::from(self.load.ceiling.cpu.0), u64::from(self.load.work.saturation.0));
            self.throttled_us += Span(computed).scaled(wants - ceiling, wants).0;
        }
        given
    }

    /// What it gets from now on. Must be settled.
    #[inline]
    pub fn set_rate(&mut self, rate: Rate) {
        if rate != self.rate {
            self.end_segment();
            self.rate = rate;
        }
    }

    fn end_segment(&mut self) {
        if self.segment_us > 0 {
            // A rate that lasted for less than a sample is seen thinned out.
            let seen = self.segment_us.min(BETWEEN_SAMPLES.0);
            self.cpu_peak = self.cpu_peak.max(self.rate * seen / BETWEEN_SAMPLES.0);
            self.segment_us = 0;
        }
    }

    /// What it would take at most of a machine of this size if it were let: nothing while it waits or is held back. Must be settled.
    pub fn wish(&mut self, host: Rate) -> Rate {
        let (now, waits, saturation) = (self.settled, self.waits(), rate_of(self.load.work.saturation));
        let Some(pulse) = self.pulse.as_mut().filter(|_| !waits) else { return 0 };
        pulse.wish(now, host.min(saturation), self.cpu_done)
    }

    /// When it should be looked at again for its quota's sake, at the rate that it has. Must be settled.
    pub fn next_beat(&self) -> Moment {
        let Some(pulse) = self.pulse.as_ref().filter(|_| !self.waits()) else { return Moment::NEVER };
        pulse.next(self.settled, self.rate, rate_of(self.load.work.saturation), self.cpu_done)
    }

    /// Up to then everything is accounted for.
    pub fn settled(&self) -> Moment {
        self.settled
    }

    /// When it ends or, if it still waits, stops waiting, at the rate it has. Must be settled.
    pub fn next_change(&self) -> Moment {
        let waits = self.io_until - self.io_done;
        let next = if waits > 0 {
            self.settled + Span(waits)
        } else if self.cpu_done == self.cpu_until {
            self.settled
        } else if self.rate == 0 {
            Moment::NEVER
        } else {
            self.settled + Span((self.cpu_until - self.cpu_done).div_ceil(self.rate))
        };
        next.min(self.deadline())
    }

    /// When it ends if it has its limit all the time. Must be settled.
    pub fn ends_alone(&self) -> Moment {
        let left = self.cpu_until - self.cpu_done;
        let computes =
            if self.limit == 0 { if left == 0 { 0 } else { u64::MAX } } else { left.div_ceil(self.limit) };
        (self.settled + Span(self.io_until - self.io_done) + Span(computes)).min(self.deadline())
    }

    fn deadline(&self) -> Moment {
        self.began + self.load.timeout
    }

    /// Whether it has come to its end, and how. Must be settled.
    pub fn fate(&self) -> Option<Fate> {
        if self.io_done == self.io_until && self.cpu_done == self.cpu_until {
            Some(if self.doomed { Fate::OutOfMemory } else { Fate::Done })
        } else if self.settled >= self.deadline() {
            Some(Fate::TimedOut)
        } else {
            None
        }
    }

    /// What is told of it. Must be settled.
    pub fn end(&mut self, fate: Fate) -> Ended<P> {
        self.end_segment();
        let duration = self.settled.since(self.began);
        let cpu_time = Span(self.cpu_done.div_ceil(CORE_US));
        let mean = self.cpu_done / (1_000 * duration.0.max(1));
        let sampled = duration >= FIRST_SAMPLE;
        let (cpu_peak, throttled) = match &self.pulse {
            Some(pulse) => (pulse.peak(self.settled, self.cpu_done), pulse.stopped()),
            None => (self.cpu_peak, Span(self.throttled_us)),
        };
        let peak = if sampled { mean.max(cpu_peak / 1_000) } else { mean };
        let usage = Usage {
            cpu_time,
            cpu_peak: MilliCores(u32::try_from(peak).unwrap_or(u32::MAX)),
            memory_peak: self.memory(),
            throttled: if sampled { throttled } else { Span::ZERO },
            safeguarded: false,
        };
        let quota = self.pulse.as_ref().map_or(self.load.quota, |pulse| pulse.quota);
        let (payload, work) = (self.payload, self.load.work);
        Ended { payload, work, fate, duration, usage, delivered: self.cpu_done, quota }
    }
}

fn cpu_of(work: &Work) -> Delivered {
    work.cpu.0.saturating_mul(CORE_US)
}
