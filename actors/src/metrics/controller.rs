//! What a Controller counts.

use std::sync::Arc;

use opentelemetry::KeyValue;
use vocabulary::{Outcome, Resources, Span};

use super::frontend::{OUTCOMES, Refusal, refusals};
use super::instruments::{DECISIONS, RATIOS, TIMES};
use super::{Common, Counter, Gauge, Histogram, Metrics};

/// Why an attempt was given up and the invocation dispatched again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Redispatch {
    /// NATS said at once that nobody listens at the VM.
    NoResponders,
    /// The VM has not reported for too long.
    VmSilent,
    /// The VM said that it ends.
    VmEnded,
    /// It would not have ended before the VM's eviction.
    Notice,
    /// The VM handed it back before it began.
    HandedBack,
    /// The VM's report did not list it: the message was lost.
    Forgotten,
    /// It was killed for want of memory that had been lent.
    Starved,
}

impl Redispatch {
    const NAMES: [&'static str; 7] =
        ["no_responders", "vm_silent", "vm_ended", "notice", "handed_back", "forgotten", "starved"];
}

/// What is expected of a run and measured.
const MEASURES: [&str; 3] = ["duration", "cpu", "memory"];

/// A Controller's instruments.
pub struct ControllerMetrics {
    /// What every role counts.
    pub common: Common,
    submissions: Counter,
    duplicates: Counter,
    decision_time: Histogram,
    dispatched: Counter,
    wait: Histogram,
    queue_depth: Gauge,
    kept_free: Gauge,
    went_before: Counter,
    open: Gauge,
    refusals: [Counter; 10],
    redispatches: [Counter; 7],
    endings: [Counter; 4],
    cancelled: Counter,
    stale_endings: Counter,
    lost: Counter,
    vms: [Gauge; 2],
    capacity_cpu: Gauge,
    capacity_memory: Gauge,
    booked_cpu: Gauge,
    booked_memory: Gauge,
    reserved_cpu: Gauge,
    reserved_memory: Gauge,
    notices: Counter,
    prewarms: Counter,
    adoptions: Counter,
    model_decisions: [Counter; 4],
    model_trials: [Counter; 2],
    trial_runs: Gauge,
    model_in_force: Gauge,
    measured: [Histogram; 3],
    drift: [Gauge; 3],
    usage_stored: Counter,
    usage_not_stored: Counter,
    usage_skipped: Counter,
    profiles_stored: Counter,
    profiles_not_stored: Counter,
    profiles_recalled: Counter,
    profiles_refused: Counter,
    profiles_unwritten: Gauge,
}

impl ControllerMetrics {
    /// Its instruments, all at 0.
    pub fn new(metrics: &Metrics) -> Arc<Self> {
        let cores = |name, help| metrics.gauge(name, help, 1e-3);
        let bytes = |name, help| metrics.gauge(name, help, f64::from(1 << 20));
        Arc::new(Self {
            common: Common::new(metrics),
            submissions: metrics.counter("windfall_submissions", "Invocations submitted to this Controller"),
            duplicates: metrics.counter(
                "windfall_duplicate_submissions",
                "Submissions of an invocation that this Controller already has",
            ),
            decision_time: metrics.histogram(
                "windfall_decision_time_seconds",
                "One decision of where, and with how much, an invocation runs",
                DECISIONS,
            ),
            dispatched: metrics.counter("windfall_dispatches", "Attempts sent to a VM"),
            wait: metrics.histogram(
                "windfall_queue_wait_seconds",
                "From an invocation's arrival at the Controller to its dispatch to a VM",
                TIMES,
            ),
            queue_depth: metrics.gauge(
                "windfall_queue_depth",
                "Invocations that wait at the Controller for a place",
                1.0,
            ),
            kept_free: metrics.gauge(
                "windfall_vms_kept_free",
                "VMs that this Controller keeps free for one who has waited longer than controller.starvation_after_ms",
                1.0,
            ),
            went_before: metrics.counter(
                "windfall_backfills",
                "Attempts sent to a VM that was kept free for another, because they should have ended before there was room for it",
            ),
            open: metrics.gauge(
                "windfall_controller_open_invocations",
                "Invocations that this Controller has taken and not seen end",
                1.0,
            ),
            refusals: refusals(metrics, "controller"),
            redispatches: metrics.counters(
                "windfall_redispatches",
                "Attempts that were given up, so that the invocation was dispatched again, by reason",
                "why",
                Redispatch::NAMES,
            ),
            endings: metrics.counters(
                "windfall_endings",
                "Attempts that ended with an answer, as the VMs told this Controller, by outcome",
                "outcome",
                OUTCOMES,
            ),
            cancelled: metrics.counter("windfall_cancellations", "Attempts that were cancelled"),
            stale_endings: metrics
                .counter("windfall_stale_endings", "Endings of attempts that were no longer the valid one"),
            lost: metrics.counter(
                "windfall_given_up",
                "Accepted invocations that ended with an error of the house instead of a run",
            ),
            model_decisions: metrics.counters(
                "windfall_model_decisions",
                "Grants that the model was asked for, by whether it answered or why 'profile' decided instead",
                "answer",
                ["given", "not_a_number", "slow", "failed"],
            ),
            model_trials: metrics.counters(
                "windfall_model_trials",
                "Models that were handed in while this Controller ran, by what became of them here",
                "outcome",
                ["taken", "refused"],
            ),
            trial_runs: metrics.gauge(
                "windfall_model_trial_runs",
                "Runs by which the model on trial was judged so far; 0 where there is none",
                1.0,
            ),
            model_in_force: metrics.gauge(
                "windfall_model_in_force",
                "Number in the store of the model that decides; 0: that of the file controller.model, or none",
                1.0,
            ),
            measured: metrics.histograms(
                "windfall_measured_over_expected",
                "What a run took and used over what its function's profile had expected, by measure",
                RATIOS,
                MEASURES.map(|measure| vec![KeyValue::new("measure", measure)]),
            ),
            drift: metrics.gauges(
                "windfall_drift_ratio",
                "By what factor the last 256 runs were off from what was expected, either way, on average; 1 is as expected",
                1e-6,
                "measure",
                MEASURES,
            ),
            usage_stored: metrics.counter(
                "windfall_usage_records_stored",
                "Runs whose usage the store has acknowledged, for training",
            ),
            usage_not_stored: metrics.counter(
                "windfall_usage_records_lost",
                "Runs whose usage the store did not take; training does not see them",
            ),
            usage_skipped: metrics.counter(
                "windfall_usage_records_skipped",
                "Runs whose usage was not kept because more ended in a second than controller.usage_records_per_second",
            ),
            vms: metrics.gauges(
                "windfall_vms",
                "VMs that this Controller knows, by standing",
                1.0,
                "standing",
                ["open", "draining"],
            ),
            capacity_cpu: cores("windfall_capacity_cpu_cores", "CPU of all VMs together, now"),
            capacity_memory: bytes("windfall_capacity_memory_bytes", "Memory of all VMs together, now"),
            booked_cpu: cores("windfall_booked_cpu_cores", "CPU booked by the grants of running invocations"),
            booked_memory: bytes(
                "windfall_booked_memory_bytes",
                "Memory booked by the grants of running invocations",
            ),
            reserved_cpu: cores(
                "windfall_reserved_cpu_cores",
                "CPU that the users of running invocations asked for",
            ),
            reserved_memory: bytes(
                "windfall_reserved_memory_bytes",
                "Memory that the users of running invocations asked for",
            ),
            notices: metrics.counter("windfall_eviction_notices", "Notices of eviction that were heard"),
            prewarms: metrics.counter("windfall_prewarms", "Wishes for warm sandboxes sent to VMs"),
            adoptions: metrics.counter(
                "windfall_adopted_runs",
                "Runs that another Controller had sent out and that are this one's now",
            ),
            profiles_stored: metrics
                .counter("windfall_profiles_stored", "Profiles of functions that the store has acknowledged"),
            profiles_not_stored: metrics.counter(
                "windfall_profile_store_failures",
                "Profiles of functions that could not be stored; they are written again",
            ),
            profiles_recalled: metrics.counter(
                "windfall_profiles_recalled",
                "Profiles that the store had of functions when they were called here",
            ),
            profiles_refused: metrics.counter(
                "windfall_profiles_refused",
                "Profiles in the store that were damaged; their functions are learned anew",
            ),
            profiles_unwritten: metrics.gauge(
                "windfall_profiles_unwritten",
                "Functions of which more is known here than the store has been told",
                1.0,
            ),
        })
    }

    /// An invocation was submitted.
    pub fn submitted(&self) {
        self.submissions.one();
    }

    /// An invocation was submitted that is here already.
    pub fn duplicate(&self) {
        self.duplicates.one();
    }

    /// A decision took so many nanoseconds.
    pub fn decided(&self, nanos: u64) {
        self.decision_time.took_nanos(nanos);
    }

    /// An attempt was sent to a VM after the invocation had waited so long here.
    pub fn dispatched(&self, waited: Span) {
        self.dispatched.one();
        self.wait.took(waited);
    }

    /// So many invocations wait, of so many that are open.
    pub fn queue(&self, waiting: usize, open: usize) {
        self.queue_depth.set(waiting as u64);
        self.open.set(open as u64);
    }

    /// So many VMs are kept free for those who have waited too long, and so many attempts went there until now.
    pub fn kept_free(&self, vms: u32, went_before: u64) {
        self.kept_free.set(vms.into());
        self.went_before.follow(went_before);
    }

    /// A submission was refused.
    pub fn refused(&self, why: impl Into<Refusal>) {
        self.refusals[why.into() as usize].one();
    }

    /// An attempt was given up and the invocation dispatched again.
    pub fn redispatched(&self, why: Redispatch) {
        self.redispatches[why as usize].one();
    }

    /// A VM told that an attempt was answered.
    pub fn finished(&self, outcome: Outcome) {
        self.endings[outcome as usize].one();
    }

    /// A VM told that an attempt was cancelled.
    pub fn cancelled(&self) {
        self.cancelled.one();
    }

    /// A VM told the end of an attempt that no longer counts.
    pub fn stale_ending(&self) {
        self.stale_endings.one();
    }

    /// An accepted invocation ended without a run that counts.
    pub fn gave_up(&self) {
        self.lost.one();
    }

    /// What models have counted so far: answers, and why there were none.
    pub fn model(&self, counted: [u64; 4]) {
        for (counter, count) in self.model_decisions.iter().zip(counted) {
            counter.follow(count);
        }
    }

    /// So many runs have judged the model on trial.
    pub fn trial(&self, runs: u32) {
        self.trial_runs.set(runs.into());
    }

    /// A model was taken up, or not.
    pub fn trial_ended(&self, taken: bool) {
        self.model_trials[usize::from(!taken)].one();
    }

    /// The model of this number decides.
    pub fn model_in_force(&self, number: u64) {
        self.model_in_force.set(number);
    }

    /// Of duration, CPU and memory, by place: a run's measured over expected, and how far off recent runs were.
    pub fn drifted(&self, measure: usize, ratio: f64, off: f64) {
        self.measured[measure].saw(ratio);
        self.drift[measure].set((off * 1e6) as u64);
    }

    /// The store keeps what so many runs used.
    pub fn usage_stored(&self, runs: u64) {
        self.usage_stored.add(runs);
    }

    /// It does not.
    pub fn usage_not_stored(&self, runs: u64) {
        self.usage_not_stored.add(runs);
    }

    /// More runs ended than are told in a second.
    pub fn usage_skipped(&self) {
        self.usage_skipped.one();
    }

    /// A notice of eviction was heard.
    pub fn noticed(&self) {
        self.notices.one();
    }

    /// A VM was asked to have sandboxes ready.
    pub fn prewarmed(&self) {
        self.prewarms.one();
    }

    /// A run of another Controller was taken over.
    pub fn adopted(&self) {
        self.adoptions.one();
    }

    /// The store has acknowledged a profile.
    pub fn profile_stored(&self) {
        self.profiles_stored.one();
    }

    /// A profile could not be stored.
    pub fn profile_not_stored(&self) {
        self.profiles_not_stored.one();
    }

    /// The store had a profile of a function that is called.
    pub fn profile_recalled(&self) {
        self.profiles_recalled.one();
    }

    /// The store had something that is no profile.
    pub fn profile_refused(&self) {
        self.profiles_refused.one();
    }

    /// So many profiles have changed since they were written.
    pub fn profiles_unwritten(&self, count: usize) {
        self.profiles_unwritten.set(count as u64);
    }

    /// The books: VMs that take work and that do not, what they have, what is booked of it, and what the users of
    /// the booked invocations asked for.
    pub fn books(&self, vms: (usize, usize), capacity: Resources, booked: Resources, reserved: Resources) {
        self.vms[0].set(vms.0 as u64);
        self.vms[1].set(vms.1 as u64);
        self.capacity_cpu.set(capacity.cpu.0.into());
        self.capacity_memory.set(capacity.memory.0.into());
        self.booked_cpu.set(booked.cpu.0.into());
        self.booked_memory.set(booked.memory.0.into());
        self.reserved_cpu.set(reserved.cpu.0.into());
        self.reserved_memory.set(reserved.memory.0.into());
    }
}

/// Keeps the label lists and the enums in step.
const _: () = {
    assert!(Refusal::BadRequest as usize + 1 == Refusal::NAMES.len());
    assert!(Redispatch::Starved as usize + 1 == Redispatch::NAMES.len());
};
