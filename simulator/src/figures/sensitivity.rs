//! What the house makes of worse machines: shorter notices, more evictions, more uneven sizes.
//!
//! **Knows:** Harvest VMs by chance, as SOSP'21 characterises them, with one knob turned at a time.
//! **Promises:** a knob changes what it names and nothing else: calls and chance stay the same.
//! **Gives up:** evictions that come together. Each VM goes for itself.

use std::collections::BTreeMap;

use policies::provisioning::{self, Target};
use serde_json::json;
use vocabulary::{Moment, Resources, Span, VmKind};

use super::{Cell, Drawn, Figure, Played, Size, Summary, Table, sosp};
use crate::house::{Fleet, House};
use crate::machines::{Harvest, Lifetime, SospSet};
use crate::workload::{SospMix, TraceError};

/// See the module.
pub struct Sensitivity;

/// One set of machines.
struct Machines {
    name: &'static str,
    notice_s: u64,
    /// Evictions, times so many.
    evictions: f64,
    /// Spread of sizes, times so much.
    spread: f64,
}

const fn machines(name: &'static str, notice_s: u64, evictions: f64, spread: f64) -> Machines {
    Machines { name, notice_s, evictions, spread }
}

/// Where nothing is evicted a notice does not matter, so that notices are compared where much is.
const MACHINES: [Machines; 7] = [
    machines("as published", 30, 1.0, 1.0),
    machines("evictions x 10", 30, 10.0, 1.0),
    machines("evictions x 100", 30, 100.0, 1.0),
    machines("evictions x 100, no notice", 0, 100.0, 1.0),
    machines("evictions x 100, notice 120 s", 120, 100.0, 1.0),
    machines("all sizes alike", 30, 1.0, 0.0),
    machines("sizes twice as uneven", 30, 1.0, 2.0),
];

const POLICIES: [&str; 3] = ["mws-sosp21", "mws", "mws+profile+greedy-dual"];
const VMS: u32 = 10;
/// About half of what the VMs bear, so that what is seen comes from evictions and not from crowding.
const USERS: u32 = 100;
const QUICK_LENGTH: Span = Span::seconds(3_600);
const LENGTH: Span = Span::seconds(6 * 3_600);

impl Figure for Sensitivity {
    fn name(&self) -> &'static str {
        "sensitivity"
    }

    fn about(&self) -> &'static str {
        "What becomes of calls on ten Harvest VMs by chance with one knob turned: notice, evictions, size. 100 users of SOSP'21's mix; a Resource \
         Monitor replaces what goes. Nothing of it is published; the paper's policy is our re-run, with its single attempt."
    }

    fn cells(&self, size: &Size) -> Vec<Cell> {
        let mut cells = Vec::new();
        for machines in &MACHINES {
            for policy in POLICIES {
                for seed in size.seeds(2, 5) {
                    cells.push(Cell {
                        cluster: machines.name.into(),
                        policy: policy.into(),
                        load: USERS,
                        seed,
                    });
                }
            }
        }
        cells
    }

    fn house(&self, cell: &Cell, size: &Size) -> Result<(House, Vec<String>), TraceError> {
        let machines =
            MACHINES.iter().find(|machines| machines.name == cell.cluster).expect("a cell of ours");
        let length = if size.quick { QUICK_LENGTH } else { LENGTH };
        // Drawn, whatever the folder of traces holds: its clusters are not these.
        let (mut house, _) = sosp::house(cell, SospSet::Dedicated, false, &Size::default())?;
        let workload = SospMix { length, ..SospMix::of_users(cell.load) }.workload(cell.seed);
        let harvest = Harvest {
            lifetime: Lifetime::harvest().times(machines.evictions),
            notice: Span::seconds(machines.notice_s),
            spread: machines.spread,
            until: Moment::ORIGIN + length + house.aftermath,
            ..Harvest::default()
        };
        let fleet = harvest.fleet(VMS, cell.seed);
        let mut notes: Vec<String> =
            fleet.notes.iter().map(|note| format!("{}: {note}", machines.name)).collect();
        notes.extend(workload.notes);
        let cores = harvest.mean_cores * 1e3;
        let memory = harvest.mean_cores * f64::from(harvest.memory_per_core.0);
        let size = Resources::new(cores as u32, memory as u32);
        house.functions = workload.functions;
        house.calls = workload.calls;
        house.machines = Box::new(fleet);
        house.fleet = Some(Fleet {
            settings: provisioning::Settings::default(),
            target: Target { vms: VMS, kind: VmKind::Harvest, size },
            retire_grace: Span::seconds(30),
        });
        Ok((house, notes))
    }

    fn draw(&self, played: &[Played], _size: &Size, notes: Vec<String>) -> Drawn {
        let heads = [
            "machines",
            "policy",
            "VMs evicted",
            "answered, %",
            "failed, %",
            "CPU wasted, %",
            "P99, s",
            "cold, %",
        ];
        let mut table =
            Table::new("Ten Harvest VMs, one knob at a time: mean (least to most) over seeds", &heads);
        let mut values: BTreeMap<String, BTreeMap<String, serde_json::Value>> = BTreeMap::new();
        for machines in &MACHINES {
            for policy in POLICIES {
                let of: Vec<&Played> = played
                    .iter()
                    .filter(|one| one.cell.cluster == machines.name && one.cell.policy == policy)
                    .collect();
                let sum = |value: &dyn Fn(&Played) -> f64| {
                    Summary::of(&of.iter().map(|one| value(one)).collect::<Vec<f64>>())
                };
                let share = |part: u64, whole: u64| 100.0 * part as f64 / whole.max(1) as f64;
                let evicted = sum(&|one| one.report.vms_evicted as f64);
                let answered = sum(&|one| share(one.report.answered, one.report.submitted));
                let failed = sum(&|one| share(one.report.failed(), one.report.submitted));
                let wasted = sum(&|one| share(one.report.cores.wasted.sum(), one.report.cores.used.sum()));
                let p99 = sum(&|one| one.report.latency.p99_us as f64 / 1e6);
                let cold = sum(&|one| share(one.report.cold_runs, one.report.runs));
                table.rows.push(vec![
                    machines.name.into(),
                    policy.into(),
                    evicted.text(0),
                    answered.text(3),
                    failed.text(3),
                    wasted.text(2),
                    p99.text(1),
                    cold.text(1),
                ]);
                let value = json!({
                    "vms_evicted": evicted, "answered_percent": answered, "failed_percent": failed,
                    "cpu_wasted_percent": wasted, "latency_s_p99": p99, "cold_percent": cold,
                });
                values.entry(machines.name.into()).or_default().insert(policy.into(), value);
            }
        }
        Drawn {
            name: self.name(),
            about: self.about(),
            notes,
            findings: Vec::new(),
            broken: Vec::new(),
            tables: vec![table],
            charts: Vec::new(),
            values,
        }
    }
}
