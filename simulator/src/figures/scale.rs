//! How large a house one Controller's mind and one thread of the rehearsal can play: ten thousand VMs, a million functions.
//!
//! **Knows:** the popularity of a day of 17,577 applications of Azure (`workload::Synthetic`), Harvest VMs by chance, a Resource Monitor.
//! **Promises:** one run, which is the same every time; what a clock and the operating system say of it stands apart, under
//! `measured`. A decision's time is that of the placement alone, clock included, seen from outside it.
//! **Gives up:** several Controllers, and messages by a network: what they cost is measured on the live house.

mod watched;

use std::time::Instant;

use policies::provisioning::{self, Target};
use serde_json::json;
use vocabulary::{Moment, Resources, Span, VmKind};

use super::{Drawn, Figure, FigureError, Goal, Size, Stage, Table, Values, percent, whose};
use crate::house::{Fleet, House};
use crate::machines::{Harvest, MEMORY_PER_CORE};
use crate::report::Report;
use crate::runs::{Progress, RunError};
use crate::workload::{Assumptions, Synthetic};
use watched::{Decisions, Watched};

/// See the module.
pub struct Scale;

const SEED: u64 = 1;
/// The longest run.
const LONGEST: Span = Span::seconds(20);
/// What of a VM the Resource Monitor asks for.
const CORES: u32 = 16;

/// One house.
#[derive(Debug, Clone, Copy)]
struct Asked {
    vms: u32,
    functions: u32,
    per_second: u32,
    seconds: u64,
}

/// From small to large, so that it is seen what grows with what.
const FULL: [Asked; 4] = [
    Asked { vms: 100, functions: 10_000, per_second: 2_000, seconds: 120 },
    Asked { vms: 1_000, functions: 100_000, per_second: 2_000, seconds: 120 },
    Asked { vms: 10_000, functions: 100_000, per_second: 2_000, seconds: 120 },
    Asked { vms: 10_000, functions: 1_000_000, per_second: 2_000, seconds: 120 },
];
const QUICK: [Asked; 2] = [
    Asked { vms: 100, functions: 10_000, per_second: 1_000, seconds: 20 },
    Asked { vms: 2_000, functions: 200_000, per_second: 1_000, seconds: 20 },
];
const TINY: [Asked; 1] = [Asked { vms: 30, functions: 500, per_second: 20, seconds: 10 }];

fn asked(size: &Size) -> &'static [Asked] {
    size.pick(&FULL[..], &QUICK[..], &TINY[..])
}

/// What came of it.
struct Came {
    asked: Asked,
    report: Report,
    decisions: Decisions,
    /// On a core; where the system does not tell, by the clock on the wall.
    seconds: f64,
    /// The most memory that the process has had since the run began to be built, in MiB; where the system tells.
    memory_mib: Option<f64>,
}

impl Asked {
    fn name(self) -> String {
        format!("{} VMs, {} functions", self.vms, self.functions)
    }

    fn house(self) -> (House, Vec<String>) {
        let length = Span::seconds(self.seconds);
        let synthetic = Synthetic::new(self.functions, f64::from(self.per_second), length);
        // A run of an hour would keep ten thousand VMs reporting for an hour.
        let assumptions = Assumptions { timeout: LONGEST, ..Assumptions::default() };
        let workload = synthetic.workload(&assumptions, SEED);
        let machines = Harvest { until: Moment::ORIGIN + length, ..Harvest::default() }.fleet(self.vms, SEED);
        let mut notes = workload.notes;
        notes.push(format!(
            "runs are cut off after {LONGEST}, so that the house comes to its end soon after the last call"
        ));
        notes.extend(machines.notes.iter().cloned());
        let mut house = House::new("scale", workload.functions, workload.calls, Box::new(machines));
        house.seed = SEED;
        house.calls_until = Moment::ORIGIN + length;
        house.patience = Span::seconds(30);
        house.aftermath = Span::seconds(600);
        let size = Resources::new(CORES * 1_000, CORES * MEMORY_PER_CORE.0);
        house.fleet = Some(Fleet {
            settings: provisioning::Settings::default(),
            target: Target { vms: self.vms, kind: VmKind::Harvest, size },
            retire_grace: Span::seconds(30),
        });
        (house, notes)
    }

    fn play(self) -> Result<(Came, Vec<String>), RunError> {
        forget_peak();
        let (mut house, notes) = self.house();
        let decisions = Decisions::default();
        house.placement = Box::new(Watched::new(house.placement, decisions.clone()));
        let (began, on_core) = (Instant::now(), on_core_s());
        let (report, _) = crate::world::play(house);
        let on_core = on_core.zip(on_core_s()).map(|(before, after)| after - before);
        let seconds = on_core.unwrap_or_else(|| began.elapsed().as_secs_f64()).max(1e-9);
        if report.violations > 0 {
            return Err(RunError::Violated {
                label: self.name(),
                count: report.violations,
                first: report.first_violations.first().cloned().unwrap_or_default(),
                repeat: "windfall simulate figures --only scale".into(),
            });
        }
        Ok((Came { asked: self, report, decisions, seconds, memory_mib: peak_mib() }, notes))
    }
}

impl Figure for Scale {
    fn name(&self) -> &'static str {
        "scale"
    }

    fn about(&self) -> &'static str {
        "One run with ten thousand Harvest VMs and a million functions under `mws`, on one core: every VM reports each second, functions are called as \
         often as Azure's applications are, a Resource Monitor keeps up the fleet. The papers play 25 VMs and 30 calls a second."
    }

    fn most_runs(&self, stage: &Stage<'_>) -> usize {
        asked(stage.size).len()
    }

    fn play(&self, stage: &Stage<'_>) -> Result<Drawn, FigureError> {
        let (mut all, mut notes) = (Vec::new(), Vec::new());
        let of = asked(stage.size).len();
        for (at, asked) in asked(stage.size).iter().enumerate() {
            let (came, sources) = asked.play()?;
            notes = sources;
            (stage.progress)(Progress { label: &asked.name(), done: at + 1, of });
            all.push(came);
        }
        notes.push("seconds are those that the run had a core, so that what else the machine does counts little; decision times are by its clock, so that their mean has interruptions in it".into());
        notes.push("memory is the most that the process held at once: policies of all roles, the world, and the workload".into());
        Ok(self.draw(&all, notes))
    }
}

impl Scale {
    fn draw(&self, all: &[Came], notes: Vec<String>) -> Drawn {
        let heads = [
            "house",
            "calls",
            "functions called",
            "answered, %",
            "cold, %",
            "P99, s",
            "events",
            "seconds of a core",
            "events/s",
            "calls/s",
            "a decision: mean, us",
            "P50, us",
            "P99, us",
            "memory, MiB",
        ];
        let mut table = Table::new("One run on one core", &heads);
        let mut values = Values::new();
        let mut goals = Vec::new();
        for came in all {
            let Came { asked, report, decisions, seconds, memory_mib } = came;
            let events_per_s = report.events as f64 / seconds;
            let memory = memory_mib.map_or_else(|| "-".into(), |mib| format!("{mib:.0}"));
            table.rows.push(vec![
                asked.name(),
                report.submitted.to_string(),
                report.functions.len().to_string(),
                format!("{:.2}", percent(report.answered, report.submitted)),
                format!("{:.1}", percent(report.cold_runs, report.runs)),
                format!("{:.1}", report.latency.p99_us as f64 / 1e6),
                report.events.to_string(),
                format!("{seconds:.1}"),
                format!("{events_per_s:.0}"),
                format!("{:.0}", report.submitted as f64 / seconds),
                format!("{:.2}", decisions.mean_us()),
                format!("{:.2}", decisions.percentile_us(50.0)),
                format!("{:.2}", decisions.percentile_us(99.0)),
                memory.clone(),
            ]);
            let value = json!({
                "whose": whose(true),
                "paper": null,
                "calls": report.submitted, "functions_called": report.functions.len(), "answered": report.answered,
                "cold_runs": report.cold_runs, "events": report.events, "decisions": decisions.count(),
                "latency_s_p99": report.latency.p99_us as f64 / 1e6,
                "measured": {
                    "seconds": seconds, "events_per_second": events_per_s, "calls_per_second": report.submitted as f64 / seconds,
                    "decision_us_mean": decisions.mean_us(), "decision_us_p50": decisions.percentile_us(50.0),
                    "decision_us_p99": decisions.percentile_us(99.0), "memory_mib": memory_mib,
                },
            });
            values.entry(asked.name()).or_default().insert("mws".into(), value);
            goals.push(Goal {
                of: format!("{}, events/s; a decision; memory", asked.name()),
                ours: format!(
                    "{events_per_s:.0}; {:.2} us (P50); {memory} MiB",
                    decisions.percentile_us(50.0)
                ),
                ..Goal::default()
            });
        }
        Drawn {
            name: self.name(),
            about: self.about(),
            notes,
            goals,
            tables: vec![table],
            values,
            ..Drawn::default()
        }
    }
}

/// Tells Linux to begin anew with the most memory that this process has had; elsewhere that is of the whole process.
fn forget_peak() {
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

/// How long this thread has had a core.
fn on_core_s() -> Option<f64> {
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    Some(told.split_whitespace().next()?.parse::<f64>().ok()? / 1e9)
}

fn peak_mib() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    Some(line.split_whitespace().nth(1)?.parse::<f64>().ok()? / 1_024.0)
}
