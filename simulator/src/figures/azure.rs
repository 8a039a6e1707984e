//! Hours of a real platform on Harvest VMs: the minutes of Azure 2019 that nothing was tuned on.
//!
//! **Knows:** the second half of the default sample (s500: 500 functions, 105 calls a second, a third of them of one function).
//! **Promises:** all policies are given the same calls on the same VMs, which are evicted a hundred times as often as published and are
//! replaced by a Resource Monitor.
//! **Gives up:** the real calls where there is no folder of traces: a synthetic workload with SOSP'21's durations is played then, and
//! called so.

use policies::provisioning::{self, Target};
use serde_json::json;
use vocabulary::{Moment, Resources, Span, VmKind};

use super::{Cell, Cells, Drawn, Goal, Played, Size, Summary, Table, Values, percent, sosp, whose};
use crate::house::{Fleet, House};
use crate::machines::{Harvest, Lifetime};
use crate::plan::{Machines, VmPlan};
use crate::workload::{Assumptions, Azure2019, S500_JUDGE, Selection, Synthetic, TraceError, Workload};

/// See the module.
#[derive(Clone, Copy)]
pub struct Azure;

const POLICIES: [&str; 5] = ["mws-sosp21", "jsq-sosp21", "vanilla", "mws", "mws+profile+greedy-dual"];
const REFERENCE: &str = POLICIES[0];
const OURS: &str = POLICIES[4];
const REAL: &str = "s500, from minute 720 on";
const SYNTHETIC: &str = "synthetic";

/// So many cores for each that the calls keep busy on average. VMs are drawn one after the other until they have them: sizes differ so
/// much that as many as have them on average would be overloaded under one seed in three.
const CORES_FOR_EACH: f64 = 2.0;
const MOST_VMS: u32 = 1_000;
const EVICTIONS: f64 = 100.0;
/// So long for what a policy that is blind to CPU has heaped up on one VM.
const AFTERMATH: Span = Span::seconds(24 * 3_600);

/// Minutes that are played, of the 240 that are there. After that there are too few cores for some minutes, and whoever is blind to them heaps
/// up so much that to play one seed of `mws-sosp21` alone takes eight minutes.
fn minutes(size: &Size) -> u32 {
    size.pick(120, 15, 1)
}

impl Cells for Azure {
    fn name(&self) -> &'static str {
        "azure"
    }

    fn about(&self) -> &'static str {
        "Azure 2019, the second half of the sample s500, which nothing was tuned or trained on, on Harvest VMs that it keeps half busy, with a hundred times the published \
         evictions. Nothing of it is published. The slowdown is a call's time from submission to answer against having been alone in a warm sandbox."
    }

    fn most(&self, size: &Size) -> usize {
        self.next(size, &[]).len()
    }

    fn next(&self, size: &Size, _played: &[Played]) -> Vec<Cell> {
        let cluster = if size.traces.is_some() { REAL } else { SYNTHETIC };
        let cell =
            |policy: &str, seed| Cell { cluster: cluster.into(), policy: policy.into(), load: 0, seed };
        POLICIES.iter().flat_map(|policy| size.seeds(3, 1).map(move |seed| cell(policy, seed))).collect()
    }

    fn house(&self, cell: &Cell, size: &Size) -> Result<(House, Vec<String>), TraceError> {
        let length = Span::seconds(u64::from(minutes(size)) * 60);
        let (Workload { functions, calls, mut notes }, busy_cores) = workload(size, length, cell.seed)?;
        let harvest = Harvest {
            lifetime: Lifetime::harvest().times(EVICTIONS),
            until: Moment::ORIGIN + length + AFTERMATH,
            ..Harvest::default()
        };
        let vms = vms(&harvest, busy_cores, length, cell.seed);
        let fleet = harvest.fleet(vms, cell.seed);
        notes.extend(fleet.notes.iter().cloned());
        let policy = sosp::policy(&cell.policy);
        let label = format!("{} {}", cell.cluster, cell.policy);
        let mut house = House::new(label, functions, calls, Box::new(fleet));
        house.seed = cell.seed;
        sosp::decide(&mut house, policy);
        house.patience = Span::seconds(600);
        house.aftermath = AFTERMATH;
        let cores = harvest.mean_cores * 1e3;
        let memory = harvest.mean_cores * f64::from(harvest.memory_per_core.0);
        house.fleet = Some(Fleet {
            settings: provisioning::Settings::default(),
            target: Target { vms, kind: VmKind::Harvest, size: Resources::new(cores as u32, memory as u32) },
            retire_grace: Span::seconds(30),
        });
        Ok((house, notes))
    }

    fn draw(&self, played: &[Played], _size: &Size, notes: Vec<String>) -> Drawn {
        let heads = [
            "calls",
            "policy",
            "calls made",
            "answered with success, %",
            "P50, ms",
            "P99, s",
            "slowdown, mean",
            "slowdown, P99",
            "cold, %",
            "CPU used of the VMs', %",
            "CPU wasted, %",
        ];
        let mut table =
            Table::new("Harvest VMs, evictions times a hundred: mean (least to most) over seeds", &heads);
        let mut values = Values::new();
        let mut goals = Vec::new();
        let mut clusters: Vec<&str> = played.iter().map(|one| one.cell.cluster.as_str()).collect();
        clusters.dedup();
        for cluster in clusters {
            let of = |policy: &str| {
                let is_of = |one: &&Played| one.cell.cluster == cluster && one.cell.policy == policy;
                let of: Vec<&Played> = played.iter().filter(is_of).collect();
                (!of.is_empty()).then(|| Row::of(&of))
            };
            for policy in POLICIES {
                let Some(row) = of(policy) else { continue };
                table.rows.push(row.cells(cluster, policy));
                values.entry(cluster.into()).or_default().insert(policy.into(), row.json(policy));
            }
            if let (Some(theirs), Some(ours)) = (of(REFERENCE), of(OURS)) {
                goals.push(Goal {
                    of: format!("{cluster}, mean slowdown, `{OURS}`"),
                    rerun: theirs.slowdown.text(2),
                    ours: ours.slowdown.text(2),
                    ..Goal::default()
                });
                goals.push(Goal {
                    of: format!("{cluster}, answered with success, `{OURS}`"),
                    rerun: format!("{:.3} %", theirs.succeeded.mean),
                    ours: format!("{:.3} %", ours.succeeded.mean),
                    wanted: "99.99 %".into(),
                    met: Some(ours.succeeded.mean >= 99.99),
                    ..Goal::default()
                });
            }
        }
        Drawn {
            name: Cells::name(self),
            about: Cells::about(self),
            notes,
            goals,
            tables: vec![table],
            values,
            ..Drawn::default()
        }
    }
}

/// The workload, and how many cores its calls keep busy. They are drawn twice, because they are gone once they have been counted.
fn workload(size: &Size, length: Span, seed: u64) -> Result<(Workload, f64), TraceError> {
    let assumptions = Assumptions::default();
    let Some(traces) = &size.traces else {
        let synthetic = Synthetic::new(500, size.pick(105.0, 105.0, 5.0), length);
        let busy = busy_cores(synthetic.workload(&assumptions, seed), length);
        let mut workload = synthetic.workload(&assumptions, seed);
        workload.notes.push("instead of Azure's minutes, which need --traces".into());
        return Ok((workload, busy));
    };
    let file = |what: &str| traces.join(format!("functions/azure2019_s500_{what}.csv.gz"));
    let trace = Azure2019::read(&file("functions"), &file("invocations_per_min"))?;
    let from = S500_JUDGE.start;
    let selection = Selection::minutes(from..from + minutes(size));
    let busy = busy_cores(trace.workload(&selection, &assumptions, seed)?, length);
    Ok((trace.workload(&selection, &assumptions, seed)?, busy))
}

/// As many VMs as have the cores on average over the time that is played.
fn vms(harvest: &Harvest, busy_cores: f64, length: Span, seed: u64) -> u32 {
    let until = Moment::ORIGIN + length;
    let enough = |&vms: &u32| {
        let cores: f64 = harvest.fleet(vms, seed).given().iter().map(|vm| mean_cores(vm, until)).sum();
        cores >= CORES_FOR_EACH * busy_cores
    };
    (2..MOST_VMS).find(enough).unwrap_or(MOST_VMS)
}

/// Of a VM, from the beginning until then.
fn mean_cores(vm: &VmPlan, until: Moment) -> f64 {
    let gone = vm.gone.map_or(until, |gone| gone.at.min(until));
    let changes = vm.changes.iter().copied().filter(|&(at, _)| at < gone);
    let (mut core_us, mut since, mut cpu) = (0.0, vm.starts_at, vm.size.cpu);
    for (at, size) in changes.chain([(gone, vm.size)]) {
        core_us += f64::from(cpu.0) / 1e3 * at.since(since).as_micros() as f64;
        (since, cpu) = (at, size.cpu);
    }
    core_us / until.since(Moment::ORIGIN).as_micros().max(1) as f64
}

fn busy_cores(mut workload: Workload, length: Span) -> f64 {
    let mut busy_us = 0;
    while workload.calls.next_at().is_some() {
        busy_us += workload.calls.take().work.cpu.as_micros();
    }
    busy_us as f64 / length.as_micros() as f64
}

/// What the seeds of one policy come to.
struct Row {
    calls: Summary,
    succeeded: Summary,
    p50_ms: Summary,
    p99_s: Summary,
    slowdown: Summary,
    slowdown_p99: Summary,
    cold: Summary,
    used: Summary,
    wasted: Summary,
}

impl Row {
    fn of(of: &[&Played]) -> Self {
        Self {
            calls: Played::over(of, |report| report.submitted as f64),
            succeeded: Played::over(of, |report| 100.0 - percent(report.failed(), report.submitted)),
            p50_ms: Played::over(of, |report| report.latency.p50_us as f64 / 1e3),
            p99_s: Played::over(of, |report| report.latency.p99_us as f64 / 1e6),
            slowdown: Played::over(of, |report| report.slowdown.mean_permille as f64 / 1e3),
            slowdown_p99: Played::over(of, |report| report.slowdown.p99_permille as f64 / 1e3),
            cold: Played::over(of, |report| percent(report.cold_runs, report.runs)),
            used: Played::over(of, |report| report.cores.used_permille() as f64 / 10.0),
            wasted: Played::over(of, |report| percent(report.cores.wasted.sum(), report.cores.used.sum())),
        }
    }

    fn cells(&self, cluster: &str, policy: &str) -> Vec<String> {
        let numbers = [
            self.calls.text(0),
            self.succeeded.text(3),
            self.p50_ms.text(1),
            self.p99_s.text(1),
            self.slowdown.text(2),
            self.slowdown_p99.text(1),
            self.cold.text(2),
            self.used.text(1),
            self.wasted.text(2),
        ];
        [cluster.to_owned(), policy.to_owned()].into_iter().chain(numbers).collect()
    }

    fn json(&self, policy: &str) -> serde_json::Value {
        json!({
            "whose": whose(!policy.contains("sosp21") && policy != "vanilla"),
            "paper": null,
            "calls": self.calls, "succeeded_percent": self.succeeded, "latency_ms_p50": self.p50_ms, "latency_s_p99": self.p99_s,
            "slowdown_mean": self.slowdown, "slowdown_p99": self.slowdown_p99, "cold_percent": self.cold,
            "cpu_used_percent": self.used, "cpu_wasted_percent": self.wasted,
        })
    }
}
