//! What is counted.
//!
//! **Knows:** what the world tells it as it happens.
//! **Promises:** integrals over time are exact: they are brought up to date whenever what they integrate changes. Nothing here
//! grows with the number of calls.
//! **Gives up:** deciding what it means.

use std::collections::BTreeSet;

use vocabulary::{FunctionCard, MilliCores, Moment, Resources, Span, VmId, VmKind};

use super::callers::{Answered, Open};
use crate::house::House;
use crate::physics::{CORE_US, Delivered};
use crate::plan::{FunctionPlan, Work};
use crate::report::{
    ByKind, Cores, Decisions, Group, Latency, Lending, Point, Read, Report, Series, Slowdown, Spread,
};
use crate::trouble::Troubles;

/// A run that takes less than this, in thousandths of what it takes alone at its reservation, was accelerated.
const ACCELERATED: u64 = 990;

/// Violations that are put into words; the rest is only counted.
const TOLD: usize = 20;

/// An amount by the kind of VM.
#[derive(Debug, Clone, Copy, Default)]
struct Kinds<T>([T; 2]);

impl<T> Kinds<T> {
    fn of(&mut self, kind: VmKind) -> &mut T {
        &mut self.0[usize::from(kind == VmKind::Harvest)]
    }
}

/// A level, and its integral over time.
#[derive(Debug, Clone, Copy, Default)]
struct Level {
    now: u64,
    since: Moment,
    integral: u128,
}

impl Level {
    fn settle(&mut self, now: Moment, from: Moment) {
        let since = self.since.max(from);
        self.integral += u128::from(self.now) * u128::from(now.since(since).0);
        self.since = now;
    }

    fn change(&mut self, now: Moment, from: Moment, more: u64, less: u64) {
        self.settle(now, from);
        self.now = self.now + more - less;
    }
}

#[derive(Debug)]
struct PerFunction {
    submitted: u64,
    succeeded: u64,
    lost: u64,
    failed: u64,
    runs: u64,
    cold_runs: u64,
    used: Kinds<u128>,
    latency: Spread,
    slowdown: Spread,
}

impl Default for PerFunction {
    fn default() -> Self {
        Self {
            submitted: 0,
            succeeded: 0,
            lost: 0,
            failed: 0,
            runs: 0,
            cold_runs: 0,
            used: Kinds::default(),
            latency: Spread::coarse(),
            slowdown: Spread::coarse(),
        }
    }
}

/// Of a million functions most are never called in a run: nothing is counted for those.
struct PerFunctions(Vec<Option<Box<PerFunction>>>);

impl PerFunctions {
    fn of(&mut self, function: u32) -> &mut PerFunction {
        self.0[function as usize].get_or_insert_default()
    }

    /// Those that were called, with their plans.
    fn called<'a>(
        &'a self,
        plans: &'a [FunctionPlan],
    ) -> impl Iterator<Item = (&'a PerFunction, &'a FunctionPlan)> {
        let known =
            self.0.iter().zip(plans).filter_map(|(function, plan)| Some((function.as_deref()?, plan)));
        known.filter(|(function, _)| function.submitted > 0)
    }
}

/// A run, as lending had it.
pub(super) struct Lent {
    pub reservation: Resources,
    /// Of its reservation, to others, when it ended.
    pub left: Resources,
    pub work: Work,
    pub took: Span,
    pub safeguarded: bool,
    pub starved: bool,
    /// Its caller had its answer, and it is a success.
    pub done: bool,
}

pub(super) struct Tally {
    from: Moment,
    pub events: u64,
    /// Calls, measured or not.
    made: u64,
    /// Those that have ended.
    pub ended: u64,
    pub decisions: Decisions,
    report: Report,
    latency: Spread,
    read: Spread,
    wait: Spread,
    slowdown: Spread,
    slowdown_of_reservation: Spread,
    run: Spread,
    slowdown_of_run: Spread,
    lending: Lending,
    capacity: Kinds<Level>,
    vms: Kinds<Level>,
    booked: Kinds<Level>,
    used: Kinds<u128>,
    useful: Kinds<u128>,
    wasted: Kinds<u128>,
    making: Kinds<u128>,
    functions: PerFunctions,
    series: Series,
    /// VMs that were given up and have not been heard of since.
    given_up: BTreeSet<VmId>,
    /// Since the last tick.
    used_lately: Delivered,
    lost_lately: u64,
}

impl Tally {
    pub fn new(house: &House) -> Self {
        let functions = PerFunctions(house.functions.iter().map(|_| None).collect());
        Self {
            from: house.measure_from,
            events: 0,
            made: 0,
            ended: 0,
            decisions: Decisions::default(),
            report: Report { measured_from_us: house.measure_from.0, ..Report::default() },
            latency: Spread::default(),
            read: Spread::default(),
            wait: Spread::default(),
            slowdown: Spread::default(),
            slowdown_of_reservation: Spread::default(),
            run: Spread::default(),
            slowdown_of_run: Spread::default(),
            lending: Lending::default(),
            capacity: Kinds::default(),
            vms: Kinds::default(),
            booked: Kinds::default(),
            used: Kinds::default(),
            useful: Kinds::default(),
            wasted: Kinds::default(),
            making: Kinds::default(),
            functions,
            series: Series::default(),
            given_up: BTreeSet::new(),
            used_lately: 0,
            lost_lately: 0,
        }
    }

    pub fn violated(&mut self, now: Moment, what: String) {
        self.report.violations += 1;
        if self.report.first_violations.len() < TOLD {
            self.report.first_violations.push(format!("after {}: {what}", Span(now.0)));
        }
    }

    // Calls.

    pub fn submitted(&mut self, function: u32, measured: bool) {
        self.made += 1;
        if measured {
            self.report.submitted += 1;
            self.functions.of(function).submitted += 1;
        }
    }

    pub fn sent(&mut self, first: bool, measured: bool, waited: Span) {
        if !measured {
        } else if first {
            self.wait.add(waited.0);
        } else {
            self.report.further_attempts += 1;
        }
    }

    pub fn began(&mut self, function: u32, cold: bool, measured: bool) {
        if measured {
            let function = self.functions.of(function);
            self.report.runs += 1;
            self.report.cold_runs += u64::from(cold);
            function.runs += 1;
            function.cold_runs += u64::from(cold);
        }
    }

    pub fn refused(&mut self, function: u32) {
        self.report.refused += 1;
        self.functions.of(function).failed += 1;
    }

    pub fn waited_too_long(&mut self, function: u32) {
        self.report.waited_too_long += 1;
        self.functions.of(function).failed += 1;
    }

    pub fn lost_and_never(&mut self, function: u32) {
        self.report.lost_and_never += 1;
        self.functions.of(function).lost += 1;
    }

    pub fn lost_too_often(&mut self, function: u32) {
        self.report.lost_too_often += 1;
        self.functions.of(function).lost += 1;
    }

    pub fn answered(&mut self, open: &Open, card: &FunctionCard, took: Span, how: Answered) {
        self.report.answered += 1;
        self.latency.add(took.0);
        let function = self.functions.of(open.call.function);
        match how {
            Answered::OutOfMemory => self.report.out_of_memory += 1,
            Answered::TimedOut => self.report.timed_out += 1,
            Answered::WithSuccess => {
                let work = open.call.work;
                let slower = |cores| took.0.saturating_mul(1_000) / work.alone_on(cores).0;
                let slowdown = slower(work.saturation);
                function.succeeded += 1;
                function.latency.add(took.0);
                function.slowdown.add(slowdown);
                self.slowdown.add(slowdown);
                self.slowdown_of_reservation.add(slower(card.reservation.cpu));
                return;
            }
        }
        function.failed += 1;
    }

    /// An answer is there when somebody reads.
    pub fn read(&mut self, took: Span, init: Span) {
        self.read.add((took + init).0);
        self.report.read.cold += u64::from(init > Span::ZERO);
    }

    /// A run has ended that was measured.
    pub fn ran(&mut self, run: &Lent) {
        let Lent { reservation, left, work, took, .. } = *run;
        self.lending.starved += u64::from(run.starved);
        if !run.done {
            return;
        }
        let alone = work.alone_on(reservation.cpu);
        let slowdown = took.0.saturating_mul(1_000) / alone.0;
        self.run.add(took.0);
        self.slowdown_of_run.add(slowdown);
        self.lending.runs += 1;
        self.lending.harvested += u64::from(left != Resources::ZERO && !run.safeguarded);
        self.lending.safeguarded += u64::from(run.safeguarded);
        self.lending.accelerated += u64::from(slowdown < ACCELERATED);
        self.lending.harvested_core_us +=
            u64::from(left.cpu.0) * u64::from(!run.safeguarded) * took.0 / 1_000;
    }

    // Cores.

    fn is_measured(&self, now: Moment) -> bool {
        now >= self.from
    }

    pub fn vm_started(&mut self, now: Moment, kind: VmKind, cpu: MilliCores) {
        self.report.vms_started += 1;
        self.capacity.of(kind).change(now, self.from, u64::from(cpu.0), 0);
        self.vms.of(kind).change(now, self.from, 1, 0);
    }

    pub fn vm_resized(&mut self, now: Moment, kind: VmKind, before: MilliCores, after: MilliCores) {
        self.capacity.of(kind).change(now, self.from, u64::from(after.0), u64::from(before.0));
    }

    pub fn vm_ended(&mut self, now: Moment, kind: VmKind, cpu: MilliCores, booked: MilliCores) {
        self.capacity.of(kind).change(now, self.from, 0, u64::from(cpu.0));
        self.booked.of(kind).change(now, self.from, 0, u64::from(booked.0));
        self.vms.of(kind).change(now, self.from, 0, 1);
    }

    pub fn vm_vanished(&mut self) {
        self.report.vms_evicted += 1;
        self.lost_lately += 1;
    }

    /// By one Controller, or by another after it.
    pub fn vm_given_up(&mut self, vm: VmId) {
        self.report.vms_lost += u64::from(self.given_up.insert(vm));
    }

    /// It reports, so it may be given up once more.
    pub fn vm_reported(&mut self, vm: VmId) {
        if !self.given_up.is_empty() {
            self.given_up.remove(&vm);
        }
    }

    pub fn troubled(&mut self, made: bool) {
        let Troubles { made: all, left_out, .. } = &mut self.report.troubles;
        *if made { all } else { left_out } += 1;
    }

    pub fn resubmitted(&mut self) {
        self.report.troubles.resubmitted += 1;
    }

    pub fn booked(&mut self, now: Moment, kind: VmKind, before: MilliCores, after: MilliCores) {
        self.booked.of(kind).change(now, self.from, u64::from(after.0), u64::from(before.0));
    }

    pub fn used(&mut self, now: Moment, kind: VmKind, used: Delivered) {
        self.used_lately += used;
        if self.is_measured(now) {
            *self.used.of(kind) += u128::from(used);
        }
    }

    /// A run is over; `useful`: its answer counts.
    pub fn run_ended(&mut self, now: Moment, kind: VmKind, function: u32, used: Delivered, useful: bool) {
        if self.is_measured(now) {
            *if useful { self.useful.of(kind) } else { self.wasted.of(kind) } += u128::from(used);
            *self.functions.of(function).used.of(kind) += u128::from(used);
        }
    }

    pub fn made(&mut self, now: Moment, kind: VmKind, used: Delivered) {
        if self.is_measured(now) {
            *self.making.of(kind) += u128::from(used);
        }
    }

    /// A second has passed.
    pub fn tick(&mut self, waiting: u64) {
        let sum = |kinds: &Kinds<Level>| kinds.0[0].now + kinds.0[1].now;
        self.series.add(Point {
            capacity_millicores: sum(&self.capacity),
            booked_millicores: sum(&self.booked),
            used_millicores: self.used_lately / (1_000 * 1_000_000),
            waiting,
            vms: sum(&self.vms),
            lost: self.lost_lately,
        });
        (self.used_lately, self.lost_lately) = (0, 0);
    }
}

impl Tally {
    /// Everything, as it stands now.
    pub fn report(mut self, now: Moment, plans: &[FunctionPlan]) -> Report {
        if self.made != self.ended {
            let (made, ended) = (self.made, self.ended);
            self.violated(now, format!("{made} were submitted and {ended} ended"));
        }
        let core_us = |kinds: Kinds<u128>| by_kind(kinds.0.map(|used| used / u128::from(CORE_US)));
        let cores = Cores {
            capacity: by_kind(self.integrals(now, |tally| &mut tally.capacity).map(|sum| sum / 1_000)),
            regular_vm_us: narrow(self.integrals(now, |tally| &mut tally.vms)[0]),
            harvest_vm_us: narrow(self.integrals(now, |tally| &mut tally.vms)[1]),
            booked: by_kind(self.integrals(now, |tally| &mut tally.booked).map(|sum| sum / 1_000)),
            used: core_us(self.used),
            useful: core_us(self.useful),
            wasted: core_us(self.wasted),
            making: core_us(self.making),
        };
        let mut apps: std::collections::BTreeMap<u32, PerFunction> = std::collections::BTreeMap::new();
        for (function, plan) in self.functions.called(plans) {
            apps.entry(plan.app).or_default().merge(function);
        }
        let called = self.functions.called(plans);
        let functions = called.map(|(function, plan)| function.group(plan.name.clone(), plan.app)).collect();
        let curve = |spread: &Spread| {
            let asked: [u64; 101] = std::array::from_fn(|percent| percent as u64 * 1_000);
            spread.percentiles(asked).to_vec()
        };
        Report {
            played_us: now.0,
            events: self.events,
            latency: Latency::of(&self.latency),
            read: Read { latency: Latency::of(&self.read), ..self.report.read },
            slowdown: Slowdown::of(&self.slowdown),
            slowdown_of_reservation: Slowdown::of(&self.slowdown_of_reservation),
            run: Latency::of(&self.run),
            slowdown_of_run: Slowdown::of(&self.slowdown_of_run),
            slowdown_of_run_curve: curve(&self.slowdown_of_run),
            lending: self.lending,
            wait: Latency::of(&self.wait),
            latency_curve: curve(&self.latency),
            slowdown_curve: curve(&self.slowdown),
            cores,
            decisions: self.decisions,
            series: self.series,
            functions,
            apps: apps.into_iter().map(|(app, sum)| sum.group(app.to_string(), app)).collect(),
            ..self.report
        }
    }

    fn integrals(&mut self, now: Moment, of: impl Fn(&mut Self) -> &mut Kinds<Level>) -> [u128; 2] {
        let from = self.from;
        of(self).0.each_mut().map(|level| {
            level.settle(now, from);
            level.integral
        })
    }
}

impl PerFunction {
    fn merge(&mut self, other: &Self) {
        self.submitted += other.submitted;
        self.succeeded += other.succeeded;
        self.lost += other.lost;
        self.failed += other.failed;
        self.runs += other.runs;
        self.cold_runs += other.cold_runs;
        for (mine, others) in self.used.0.iter_mut().zip(other.used.0) {
            *mine += others;
        }
        self.latency.merge(&other.latency);
        self.slowdown.merge(&other.slowdown);
    }

    fn group(&self, name: String, app: u32) -> Group {
        Group {
            name,
            app,
            submitted: self.submitted,
            succeeded: self.succeeded,
            lost: self.lost,
            failed: self.failed,
            runs: self.runs,
            cold_runs: self.cold_runs,
            used: by_kind(self.used.0.map(|used| used / u128::from(CORE_US))),
            latency: Latency::of(&self.latency),
            slowdown: Slowdown::of(&self.slowdown),
        }
    }
}

fn by_kind([regular, harvest]: [u128; 2]) -> ByKind {
    ByKind { regular_core_us: narrow(regular), harvest_core_us: narrow(harvest) }
}

fn narrow(wide: u128) -> u64 {
    u64::try_from(wide).unwrap_or(u64::MAX)
}
