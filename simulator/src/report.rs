//! What came of a rehearsal.
//!
//! **Knows:** what the world counted.
//! **Promises:** equal for equal houses; whole numbers only; printed, one line per thing. Whatever is counted of calls is
//! counted of those made from `measured_from_us` on, whatever is counted of time from then on.
//! **Gives up:** drawing.

mod series;
mod spread;

use std::fmt;

use serde::Serialize;
use vocabulary::Span;

use crate::trouble::Troubles;
pub use series::{POINTS, Point, Series};
pub use spread::Spread;

/// Percentiles of spans, in microseconds; all 0 when there are none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Latency {
    /// How many.
    pub count: u64,
    /// Their mean.
    pub mean_us: u64,
    /// Half took at most this long.
    pub p50_us: u64,
    /// Nine in ten.
    pub p90_us: u64,
    /// Nineteen in twenty.
    pub p95_us: u64,
    /// Ninety-nine in a hundred.
    pub p99_us: u64,
    /// Nine hundred and ninety-nine in a thousand.
    pub p999_us: u64,
    /// All.
    pub max_us: u64,
}

impl Latency {
    /// What a spread says.
    pub fn of(spread: &Spread) -> Self {
        let [p50_us, p90_us, p95_us, p99_us, p999_us] =
            spread.percentiles([50_000, 90_000, 95_000, 99_000, 99_900]);
        let (count, mean_us, max_us) = (spread.count(), spread.mean(), spread.most());
        Self { count, mean_us, p50_us, p90_us, p95_us, p99_us, p999_us, max_us }
    }
}

impl fmt::Display for Latency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [p50, p90, p99, max] = [self.p50_us, self.p90_us, self.p99_us, self.max_us].map(Span);
        write!(f, "p50 {p50}, p90 {p90}, p99 {p99}, max {max}")
    }
}

/// How much longer calls took than they would have alone, in thousandths: 1,000 is no slower.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Slowdown {
    /// Their mean.
    pub mean_permille: u64,
    /// Half were slowed down at most so much.
    pub p50_permille: u64,
    /// Nine in ten.
    pub p90_permille: u64,
    /// Ninety-nine in a hundred.
    pub p99_permille: u64,
    /// All.
    pub max_permille: u64,
}

impl Slowdown {
    /// What a spread says.
    pub fn of(spread: &Spread) -> Self {
        let [p50_permille, p90_permille, p99_permille] = spread.percentiles([50_000, 90_000, 99_000]);
        let (mean_permille, max_permille) = (spread.mean(), spread.most());
        Self { mean_permille, p50_permille, p90_permille, p99_permille, max_permille }
    }
}

/// How a spread runs from its least to its most: the values at 0, 1, 2, ... 100 per cent.
pub type Curve = Vec<u64>;

/// CPU time by the kind of VM, in core-microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct ByKind {
    /// On regular VMs.
    pub regular_core_us: u64,
    /// On harvest VMs.
    pub harvest_core_us: u64,
}

impl ByKind {
    /// Both together.
    pub fn sum(self) -> u64 {
        self.regular_core_us + self.harvest_core_us
    }
}

/// Where the cores went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Cores {
    /// What the VMs had, from their start to their end: what is paid for.
    pub capacity: ByKind,
    /// How long there were VMs, all added up, in microseconds: the part of the price that does not follow their size.
    pub regular_vm_us: u64,
    /// The same for harvest VMs.
    pub harvest_vm_us: u64,
    /// What was booked.
    pub booked: ByKind,
    /// What was used: by runs and by the making of sandboxes.
    pub used: ByKind,
    /// What runs used whose answer their caller had.
    pub useful: ByKind,
    /// What runs used that were lost with their VM, killed, or answered too late.
    pub wasted: ByKind,
    /// What the making of sandboxes used.
    pub making: ByKind,
}

impl Cores {
    /// What was used of what there was, in thousandths.
    pub fn used_permille(&self) -> u64 {
        permille(self.used.sum(), self.capacity.sum())
    }

    /// What was booked of what there was, in thousandths.
    pub fn booked_permille(&self) -> u64 {
        permille(self.booked.sum(), self.capacity.sum())
    }
}

fn permille(part: u64, whole: u64) -> u64 {
    u64::try_from(u128::from(part) * 1_000 / u128::from(whole.max(1))).unwrap_or(u64::MAX)
}

/// How often the policies decided what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[expect(missing_docs, reason = "named as the outputs of the machines are")]
pub struct Decisions {
    pub runs: u64,
    pub fences: u64,
    pub cancels: u64,
    pub prewarms: u64,
    pub stale: u64,
    pub again: u64,
    pub bounced: u64,
    pub adopted: u64,
    pub handed_back: u64,
    pub duplicates: u64,
    pub sandboxes_made: u64,
    pub stopped_expired: u64,
    pub stopped_for_memory: u64,
    pub stopped_otherwise: u64,
    pub kills: u64,
    pub resizes: u64,
    pub launches: u64,
    pub launches_failed: u64,
    pub retires: u64,
}

/// Runs that succeeded, by what became of their reservations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Lending {
    /// All of them.
    pub runs: u64,
    /// Those that left part of their reservation, of CPU or of memory, to others until they ended, and had no need of it.
    pub harvested: u64,
    /// Those to which their reservation was given back while they ran.
    pub safeguarded: u64,
    /// Those that took less time than alone at their reservation, by a hundredth at least.
    pub accelerated: u64,
    /// CPU that the harvested ones left to others, in core-microseconds, as if they had from their beginning on.
    pub harvested_core_us: u64,
    /// Runs that were killed for want of memory that had been lent, and begun again: not among the ones above.
    pub starved: u64,
}

/// One function, or all functions of one application.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Group {
    /// The function's name, or the application's number.
    pub name: String,
    /// Of which application.
    pub app: u32,
    /// Calls.
    pub submitted: u64,
    /// Those that the function answered with success.
    pub succeeded: u64,
    /// Those that were lost with a VM and never answered.
    pub lost: u64,
    /// Those that failed otherwise: refused, out of patience, memory or time.
    pub failed: u64,
    /// Runs that began.
    pub runs: u64,
    /// Those that needed a new sandbox.
    pub cold_runs: u64,
    /// CPU that its runs used.
    pub used: ByKind,
    /// From submission to answer, of those that succeeded.
    pub latency: Latency,
    /// The same, against having been alone.
    pub slowdown: Slowdown,
}

/// What SOSP'21's authors read from their database when an experiment is over: whatever has not ended by then is not there, so that
/// a house that keeps people waiting for longer than the experiment lasts looks better than it is. Making a sandbox counts
/// twice, because OpenWhisk's duration has it and the script (`azure_read_function_stats.py`) adds it once more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Read {
    /// Wait, making and duration, added up as there.
    pub latency: Latency,
    /// How many of them needed a new sandbox.
    pub cold: u64,
}

/// What came of a rehearsal.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Report {
    /// The house's.
    pub name: String,
    /// The house's.
    pub placement: String,
    /// The house's.
    pub allocation: String,
    /// The house's.
    pub seed: u64,
    /// Virtual time from the first event to the last.
    pub played_us: u64,
    /// Events that were played.
    pub events: u64,
    /// What was before is not counted below.
    pub measured_from_us: u64,
    /// Invocations that arrived.
    pub submitted: u64,
    /// Those with an answer, be it that their function broke.
    pub answered: u64,
    /// Those of them that ran out of memory.
    pub out_of_memory: u64,
    /// Those of them that ran out of time.
    pub timed_out: u64,
    /// Those that were not taken.
    pub refused: u64,
    /// Those that waited for longer than they might.
    pub waited_too_long: u64,
    /// Those whose VM was lost, and whose function forbids a second run.
    pub lost_and_never: u64,
    /// Those that lost too many VMs.
    pub lost_too_often: u64,
    /// Runs that began, and how many of them needed a new sandbox.
    pub runs: u64,
    /// See `runs`.
    pub cold_runs: u64,
    /// Attempts beyond each invocation's first.
    pub further_attempts: u64,
    /// VMs that came up.
    pub vms_started: u64,
    /// VMs that were evicted or vanished.
    pub vms_evicted: u64,
    /// VMs that a Controller gave up.
    pub vms_lost: u64,
    /// Trouble whose victims the moment decided.
    pub troubles: Troubles,
    /// From submission to answer.
    pub latency: Latency,
    /// As SOSP'21's script counts.
    pub read: Read,
    /// The same of those that succeeded, against having been alone on enough cores in a warm sandbox.
    pub slowdown: Slowdown,
    /// The same, against having been alone with the reservation's cores.
    pub slowdown_of_reservation: Slowdown,
    /// The run itself, of those that succeeded.
    pub run: Latency,
    /// The run itself, without waiting and without the making of its sandbox, against the same work alone with the reservation's
    /// cores: as Freyr's authors count.
    pub slowdown_of_run: Slowdown,
    /// Its curve, in thousandths.
    pub slowdown_of_run_curve: Curve,
    /// What became of reservations.
    pub lending: Lending,
    /// From submission to the first `Run`.
    pub wait: Latency,
    /// The latency's curve, in microseconds.
    pub latency_curve: Curve,
    /// The slowdown's curve, in thousandths.
    pub slowdown_curve: Curve,
    /// Where the cores went.
    pub cores: Cores,
    /// How often the policies decided what.
    pub decisions: Decisions,
    /// How often something was not as it must be; 0 unless there is a bug.
    pub violations: u64,
    /// What the first of them were, in words.
    pub first_violations: Vec<String>,
    /// Over time, from the origin.
    pub series: Series,
    /// Each function that was called.
    pub functions: Vec<Group>,
    /// Each application that was called.
    pub apps: Vec<Group>,
}

impl Report {
    /// Runs that needed a new sandbox, in thousandths.
    pub fn cold_permille(&self) -> u64 {
        permille(self.cold_runs, self.runs)
    }

    /// Calls that ended without a success of their function.
    pub fn failed(&self) -> u64 {
        self.submitted - (self.answered - self.out_of_memory - self.timed_out)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tenths = |permille: u64| format!("{}.{} %", permille / 10, permille % 10);
        writeln!(f, "scenario          {} ({}, seed {})", self.name, self.placement, self.seed)?;
        writeln!(f, "played            {} in {} events", Span(self.played_us), self.events)?;
        writeln!(f, "invocations       {} submitted, {} answered", self.submitted, self.answered)?;
        writeln!(
            f,
            "not answered      {} refused, {} waited too long, {} lost and never to run twice, {} lost too often",
            self.refused, self.waited_too_long, self.lost_and_never, self.lost_too_often
        )?;
        if self.out_of_memory + self.timed_out > 0 {
            writeln!(
                f,
                "broken            {} out of memory, {} out of time",
                self.out_of_memory, self.timed_out
            )?;
        }
        writeln!(f, "latency           {}", self.latency)?;
        let slower = |permille: u64| format!("{}.{:02}", permille / 1_000, permille % 1_000 / 10);
        writeln!(
            f,
            "slowdown          mean {}, p50 {}, p99 {}, max {}",
            slower(self.slowdown.mean_permille),
            slower(self.slowdown.p50_permille),
            slower(self.slowdown.p99_permille),
            slower(self.slowdown.max_permille)
        )?;
        writeln!(f, "wait for a place  {}", self.wait)?;
        writeln!(
            f,
            "cold starts       {} of {} runs ({})",
            self.cold_runs,
            self.runs,
            tenths(self.cold_permille())
        )?;
        writeln!(f, "further attempts  {}, after {} lost VMs", self.further_attempts, self.vms_lost)?;
        writeln!(
            f,
            "cores             {} booked, {} used; {} of CPU wasted",
            tenths(self.cores.booked_permille()),
            tenths(self.cores.used_permille()),
            Span(self.cores.wasted.sum())
        )?;
        write!(f, "violations        {}", self.violations)?;
        for violation in &self.first_violations {
            write!(f, "\n  {violation}")?;
        }
        Ok(())
    }
}
