//! What a VM counts: its Invoker and its Harvest Monitor.

use std::sync::Arc;

use messages::Start;
use opentelemetry::KeyValue;
use vocabulary::{Grant, Outcome, Resources, Span, Usage};

use super::frontend::OUTCOMES;
use super::instruments::TIMES;
use super::{Common, Counter, Gauge, Histogram, Metrics};

/// One run that ended with an answer.
#[derive(Debug, Clone, Copy)]
pub struct Ran {
    /// How it ended.
    pub outcome: Outcome,
    /// Cold or warm.
    pub start: Start,
    /// From its arrival at this VM to the start of its (or its sandbox's) start.
    pub waited: Span,
    /// Making the sandbox and loading the code; zero when warm.
    pub init: Span,
    /// The run itself.
    pub duration: Span,
    /// What it was granted.
    pub grant: Grant,
    /// What it used.
    pub usage: Usage,
    /// Whether its time limit ended it.
    pub timed_out: bool,
    /// Whether its memory limit ended it.
    pub out_of_memory: bool,
}

/// Why a sandbox is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SandboxEnd {
    /// It was idle for as long as it may be.
    Idle,
    /// Its room was needed.
    Room,
    /// Its function has a newer build, or is deleted.
    Outdated,
    /// It broke, was killed at a limit, or its run was cancelled.
    Broken,
    /// The VM stops.
    Leaving,
}

impl SandboxEnd {
    const NAMES: [&'static str; 5] = ["idle", "room", "outdated", "broken", "leaving"];
}

/// Families of sandboxes that have a line of their own; every other one is `other`.
const FAMILIES: [&str; 5] = ["python", "nodejs", "native", "container", "other"];

fn family(kind: &str) -> usize {
    let name = kind.split(':').next().unwrap_or_default();
    FAMILIES.iter().position(|family| *family == name).unwrap_or(FAMILIES.len() - 1)
}

/// What the Harvest Monitor sees of its machine beside its capacity. Totals grow from the machine's or the
/// group's start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Machine {
    /// CPU time that the hypervisor took away, all CPUs together.
    pub stolen: Span,
    /// Time in which the VM's CPU quota held something back.
    pub throttled: Span,
    /// Time in which something waited for a CPU (pressure stall information, `some`).
    pub cpu_pressure: Span,
    /// Time in which something waited for memory.
    pub memory_pressure: Span,
    /// Memory in use.
    pub memory_used_bytes: u64,
}

/// How a question to a cloud's metadata service ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// With an answer.
    Answered,
    /// The service says that something is wrong with it.
    Refused,
    /// Without an answer that could be read: absent, too slow, too long.
    Failed,
    /// Counted beside its answer, which was not what such a service says.
    Nonsense,
}

impl Asked {
    const NAMES: [&'static str; 4] = ["answered", "refused", "failed", "nonsense"];
}

/// A VM's instruments.
pub struct InvokerMetrics {
    /// What every role counts.
    pub common: Common,
    invocations: [Counter; 8],
    cancelled: Counter,
    timeouts: Counter,
    out_of_memory: Counter,
    wait: Histogram,
    init: Histogram,
    duration: Histogram,
    queue_depth: Gauge,
    running: Gauge,
    sandboxes: [Gauge; 2],
    sandbox_start_time: [Histogram; 5],
    sandbox_start_failures: [Counter; 5],
    sandbox_ends: [Counter; 5],
    handed_back: Counter,
    duplicates: Counter,
    stale_runs: Counter,
    reports: Counter,
    capacity_changes: Counter,
    notices: Counter,
    soft_notices: Counter,
    metadata: [Counter; 4],
    capacity_cpu: Gauge,
    capacity_memory: Gauge,
    booked_cpu: Gauge,
    booked_memory: Gauge,
    used_cpu: Gauge,
    used_memory: Gauge,
    granted_cpu_time: Counter,
    used_cpu_time: Counter,
    granted_memory_time: Counter,
    used_memory_time: Counter,
    throttled: Counter,
    lending: LendingGauges,
    machine: MachineGauges,
}

struct LendingGauges {
    harvested_cpu: Gauge,
    harvested_memory: Gauge,
    lent_cpu: Gauge,
    lent_memory: Gauge,
    runs: [Gauge; 2],
    safeguarded: Counter,
    provisional: [Counter; 2],
    starved: Counter,
    vm_full: Counter,
}

struct MachineGauges {
    stolen: Counter,
    throttled: Counter,
    cpu_pressure: Counter,
    memory_pressure: Counter,
    memory_used: Gauge,
}

impl InvokerMetrics {
    /// Its instruments, all at 0.
    pub fn new(metrics: &Metrics) -> Arc<Self> {
        let cores = |name, help| metrics.gauge(name, help, 1e-3);
        let bytes = |name, help| metrics.gauge(name, help, f64::from(1 << 20));
        let seconds = |name, help| metrics.counter_scaled(name, help, 1e-6);
        let invocations = std::array::from_fn(|at| {
            let (outcome, start) = (OUTCOMES[at / 2], ["warm", "cold"][at % 2]);
            vec![KeyValue::new("outcome", outcome), KeyValue::new("start", start)]
        });
        Arc::new(Self {
            common: Common::new(metrics),
            invocations: metrics.counter_series(
                "windfall_invocations",
                "Invocations that ran on this VM, by outcome and by whether a sandbox had to be made (cold)",
                invocations,
            ),
            cancelled: metrics.counter(
                "windfall_cancelled_runs",
                "Runs that were stopped, or never begun, because nobody waited for them",
            ),
            timeouts: metrics.counter("windfall_timeouts", "Runs that their time limit ended"),
            out_of_memory: metrics.counter("windfall_out_of_memory", "Runs that their memory limit ended"),
            wait: metrics.histogram(
                "windfall_vm_wait_seconds",
                "From an invocation's arrival at the VM to its start, or the start of making its sandbox",
                TIMES,
            ),
            init: metrics.histogram(
                "windfall_cold_start_seconds",
                "Making a sandbox and loading the code, for invocations that had to wait for it",
                TIMES,
            ),
            duration: metrics.histogram(
                "windfall_run_time_seconds",
                "The run itself, without the cold start",
                TIMES,
            ),
            queue_depth: metrics.gauge(
                "windfall_vm_queue_depth",
                "Invocations that wait on this VM for a sandbox or for room",
                1.0,
            ),
            running: metrics.gauge("windfall_running", "Invocations that run on this VM now", 1.0),
            sandboxes: metrics.gauges(
                "windfall_sandboxes",
                "Sandboxes on this VM by state",
                1.0,
                "state",
                ["idle", "busy"],
            ),
            sandbox_start_time: metrics.histograms(
                "windfall_sandbox_start_seconds",
                "Making a sandbox, by kind of runtime, whether or not an invocation waited for it",
                TIMES,
                FAMILIES.map(|kind| vec![KeyValue::new("kind", kind)]),
            ),
            sandbox_start_failures: metrics.counters(
                "windfall_sandbox_start_failures",
                "Sandboxes that could not be made, by kind of runtime",
                "kind",
                FAMILIES,
            ),
            sandbox_ends: metrics.counters(
                "windfall_sandbox_ends",
                "Sandboxes that were stopped or broke, by reason",
                "why",
                SandboxEnd::NAMES,
            ),
            handed_back: metrics.counter(
                "windfall_handed_back",
                "Invocations that this VM gave back to their Controller before they began",
            ),
            duplicates: metrics
                .counter("windfall_duplicate_runs", "Runs that arrived a second time and were dropped"),
            stale_runs: metrics.counter(
                "windfall_stale_runs",
                "Runs of an older attempt than one already seen, which were dropped",
            ),
            reports: metrics.counter("windfall_vm_reports", "Reports that this VM has published"),
            capacity_changes: metrics
                .counter("windfall_vm_capacity_changes", "Times the capacity of this VM has changed"),
            notices: metrics.counter("windfall_vm_notices", "Notices of eviction that this VM was given"),
            soft_notices: metrics.counter(
                "windfall_vm_soft_notices",
                "Times this VM was told that it may be evicted, without a deadline",
            ),
            metadata: metrics.counters(
                "windfall_metadata_questions",
                "Questions to the cloud's metadata service, by how they ended",
                "outcome",
                Asked::NAMES,
            ),
            capacity_cpu: cores("windfall_vm_capacity_cpu_cores", "CPU that this VM has now"),
            capacity_memory: bytes("windfall_vm_capacity_memory_bytes", "Memory that this VM has now"),
            booked_cpu: cores(
                "windfall_vm_booked_cpu_cores",
                "CPU booked on this VM by the grants of what runs there",
            ),
            booked_memory: bytes(
                "windfall_vm_booked_memory_bytes",
                "Memory booked on this VM by the grants of what runs there",
            ),
            used_cpu: cores("windfall_vm_used_cpu_cores", "CPU that the sandboxes of this VM use now"),
            used_memory: bytes(
                "windfall_vm_used_memory_bytes",
                "Memory that the sandboxes of this VM use now",
            ),
            granted_cpu_time: metrics.counter_scaled(
                "windfall_granted_cpu_seconds",
                "CPU that was booked for runs, times how long they took (core-seconds)",
                1e-9,
            ),
            used_cpu_time: seconds("windfall_used_cpu_seconds", "CPU time that runs used"),
            granted_memory_time: metrics.counter_scaled(
                "windfall_granted_memory_mebibyte_seconds",
                "Memory that was booked for runs, times how long they took",
                1e-6,
            ),
            used_memory_time: metrics.counter_scaled(
                "windfall_used_memory_mebibyte_seconds",
                "Peak memory of runs, times how long they took",
                1e-6,
            ),
            throttled: seconds(
                "windfall_run_throttled_seconds",
                "Time in which runs were held at their ceiling",
            ),
            lending: LendingGauges {
                harvested_cpu: cores(
                    "windfall_vm_harvested_cpu_cores",
                    "CPU that runs on this VM have left of their reservations, lent or not",
                ),
                harvested_memory: bytes(
                    "windfall_vm_harvested_memory_bytes",
                    "Memory that runs on this VM have left of their reservations, lent or not",
                ),
                lent_cpu: cores("windfall_vm_lent_cpu_cores", "CPU that runs on this VM have borrowed"),
                lent_memory: bytes(
                    "windfall_vm_lent_memory_bytes",
                    "Memory that runs on this VM have borrowed",
                ),
                runs: metrics.gauges(
                    "windfall_vm_lending_runs",
                    "Runs on this VM that lend, and that have borrowed",
                    1.0,
                    "who",
                    ["lender", "borrower"],
                ),
                safeguarded: metrics.counter(
                    "windfall_safeguarded_runs",
                    "Runs to which what they had lent was given back while they ran",
                ),
                provisional: metrics.counters(
                    "windfall_provisional_bookings",
                    "Runs that nobody knew yet whose booking fell to what they were seen to use, and those of them that used more later and had it back",
                    "what",
                    ["fell", "rose"],
                ),
                starved: metrics.counter(
                    "windfall_starved_runs",
                    "Runs that were killed for want of memory that they had lent; they are run again",
                ),
                vm_full: metrics.counter(
                    "windfall_vm_full_kills",
                    "Runs that were killed within their own memory because the VM had no more; they are run again",
                ),
            },
            machine: MachineGauges {
                stolen: seconds(
                    "windfall_vm_stolen_seconds",
                    "CPU time that the hypervisor took from this VM",
                ),
                throttled: seconds(
                    "windfall_vm_throttled_seconds",
                    "Time in which this VM's own quota held something back",
                ),
                cpu_pressure: seconds(
                    "windfall_vm_cpu_pressure_seconds",
                    "Time in which something on this VM waited for a CPU",
                ),
                memory_pressure: seconds(
                    "windfall_vm_memory_pressure_seconds",
                    "Time in which something on this VM waited for memory",
                ),
                memory_used: metrics.gauge(
                    "windfall_vm_machine_memory_used_bytes",
                    "Memory in use on this VM by everything, not only by sandboxes",
                    1.0,
                ),
            },
        })
    }

    /// A run ended with an answer.
    pub fn ran(&self, run: &Ran) {
        let cold = run.start == Start::Cold;
        self.invocations[run.outcome as usize * 2 + usize::from(cold)].one();
        self.wait.took(run.waited);
        if cold {
            self.init.took(run.init);
        }
        self.duration.took(run.duration);
        let took = (run.init + run.duration).as_micros();
        self.granted_cpu_time.add(u64::from(run.grant.booked.cpu.0).saturating_mul(took));
        self.used_cpu_time.add(run.usage.cpu_time.as_micros());
        self.granted_memory_time.add(u64::from(run.grant.booked.memory.0).saturating_mul(took));
        self.used_memory_time.add(u64::from(run.usage.memory_peak.0).saturating_mul(took));
        self.throttled.add(run.usage.throttled.as_micros());
        if run.timed_out {
            self.timeouts.one();
        }
        if run.out_of_memory {
            self.out_of_memory.one();
        }
    }

    /// A run was cancelled.
    pub fn cancelled(&self) {
        self.cancelled.one();
    }

    /// So many invocations wait here and so many run; so many sandboxes are idle and so many busy.
    pub fn load(&self, waiting: usize, running: usize, idle: usize, busy: usize) {
        self.queue_depth.set(waiting as u64);
        self.running.set(running as u64);
        self.sandboxes[0].set(idle as u64);
        self.sandboxes[1].set(busy as u64);
    }

    /// A sandbox of `kind` (such as `python:3`) was made in so long.
    pub fn sandbox_started(&self, kind: &str, took: Span) {
        self.sandbox_start_time[family(kind)].took(took);
    }

    /// A sandbox of `kind` could not be made.
    pub fn sandbox_start_failed(&self, kind: &str) {
        self.sandbox_start_failures[family(kind)].one();
    }

    /// A sandbox is gone.
    pub fn sandbox_ended(&self, why: SandboxEnd) {
        self.sandbox_ends[why as usize].one();
    }

    /// So many invocations were handed back.
    pub fn handed_back(&self, invocations: usize) {
        self.handed_back.add(invocations as u64);
    }

    /// A run arrived that is here already.
    pub fn duplicate_run(&self) {
        self.duplicates.one();
    }

    /// A run arrived that is older than one already seen.
    pub fn stale_run(&self) {
        self.stale_runs.one();
    }

    /// A report was published.
    pub fn reported(&self) {
        self.reports.one();
    }

    /// The VM has so much now. Saying the same again, or by someone else, is no further change.
    pub fn capacity(&self, capacity: Resources) {
        let cpu_changed = self.capacity_cpu.replace(capacity.cpu.0.into()) != u64::from(capacity.cpu.0);
        let memory_changed =
            self.capacity_memory.replace(capacity.memory.0.into()) != u64::from(capacity.memory.0);
        if cpu_changed || memory_changed {
            self.capacity_changes.one();
        }
    }

    /// So much is booked on the VM and so much used by its sandboxes.
    pub fn shares(&self, booked: Resources, used: Resources) {
        self.booked_cpu.set(booked.cpu.0.into());
        self.booked_memory.set(booked.memory.0.into());
        self.used_cpu.set(used.cpu.0.into());
        self.used_memory.set(used.memory.0.into());
    }

    /// Who lends what.
    pub fn lending(&self, gauges: &policies::residency::Gauges) {
        let lending = &self.lending;
        lending.harvested_cpu.set(gauges.harvested.cpu.0.into());
        lending.harvested_memory.set(gauges.harvested.memory.0.into());
        lending.lent_cpu.set(gauges.lent.cpu.0.into());
        lending.lent_memory.set(gauges.lent.memory.0.into());
        lending.runs[0].set(gauges.lenders.into());
        lending.runs[1].set(gauges.borrowers.into());
        lending.safeguarded.follow(gauges.safeguarded);
        lending.provisional[0].follow(gauges.fell);
        lending.provisional[1].follow(gauges.rose);
    }

    /// A run was killed for want of memory that it had lent.
    pub fn starved(&self) {
        self.lending.starved.one();
    }

    /// A run was killed because the VM had no memory left.
    pub fn killed_by_a_full_vm(&self) {
        self.lending.vm_full.one();
    }

    /// The VM was given notice.
    pub fn noticed(&self) {
        self.notices.one();
    }

    /// The VM was told that it may be evicted.
    pub fn soft_noticed(&self) {
        self.soft_notices.one();
    }

    /// The metadata service was asked.
    pub fn metadata_asked(&self, how: Asked) {
        self.metadata[how as usize].one();
    }

    /// What the machine says of itself.
    pub fn machine(&self, machine: &Machine) {
        self.machine.stolen.follow(machine.stolen.as_micros());
        self.machine.throttled.follow(machine.throttled.as_micros());
        self.machine.cpu_pressure.follow(machine.cpu_pressure.as_micros());
        self.machine.memory_pressure.follow(machine.memory_pressure.as_micros());
        self.machine.memory_used.set(machine.memory_used_bytes);
    }
}
