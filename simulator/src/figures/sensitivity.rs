//! What the house makes of worse machines and of more callers: shorter notices, more evictions, more uneven sizes, load.
//!
//! **Knows:** Harvest VMs by chance, as SOSP'21 characterises them, with one knob turned at a time.
//! **Promises:** a knob changes what it names and nothing else: calls and chance stay the same.
//! **Gives up:** evictions that come together. Each VM goes for itself.

use policies::provisioning::{self, Target};
use serde_json::json;
use vocabulary::{Moment, Resources, Span, VmKind};

use super::{Cell, Cells, Drawn, Goal, Played, Size, Summary, Table, Values, percent, sosp, whose};
use crate::house::{Fleet, House};
use crate::machines::{Harvest, Lifetime, SospSet};
use crate::workload::{SospMix, TraceError};

/// See the module.
#[derive(Clone, Copy)]
pub struct Sensitivity;

/// One set of machines, and who calls.
struct Machines {
    name: &'static str,
    notice_s: u64,
    /// Evictions, times so many.
    evictions: f64,
    /// Spread of sizes, times so much.
    spread: f64,
    users: u32,
}

const fn machines(name: &'static str, notice_s: u64, evictions: f64, spread: f64) -> Machines {
    Machines { name, notice_s, evictions, spread, users: USERS }
}

const fn called(name: &'static str, users: u32) -> Machines {
    Machines { users, ..machines(name, 30, 1.0, 1.0) }
}

/// Where nothing is evicted a notice does not matter, so that notices are compared where much is.
const MACHINES: [Machines; 9] = [
    machines("as published", 30, 1.0, 1.0),
    machines("evictions x 10", 30, 10.0, 1.0),
    machines("evictions x 100", 30, 100.0, 1.0),
    machines("evictions x 100, no notice", 0, 100.0, 1.0),
    machines("evictions x 100, notice 120 s", 120, 100.0, 1.0),
    machines("all sizes alike", 30, 1.0, 0.0),
    machines("sizes twice as uneven", 30, 1.0, 2.0),
    called("half the users", USERS / 2),
    called("half as many users again", USERS * 3 / 2),
];

const POLICIES: [&str; 3] = ["mws-sosp21", "mws", "mws+profile+greedy-dual"];
const VMS: u32 = 10;
const OURS: &str = POLICIES[2];
/// About half of what the VMs bear, so that what is seen comes from evictions and not from crowding.
const USERS: u32 = 100;

fn length(size: &Size) -> Span {
    Span::seconds(size.pick(2 * 3_600, 1_200, 60))
}

impl Cells for Sensitivity {
    fn name(&self) -> &'static str {
        "sensitivity"
    }

    fn about(&self) -> &'static str {
        "What becomes of calls on ten Harvest VMs by chance with one knob turned: notice, evictions, size, load. 100 users of SOSP'21's mix; a Resource \
         Monitor replaces what goes. Nothing of it is published; the paper's policy is our re-run, with its single attempt."
    }

    fn most(&self, size: &Size) -> usize {
        self.next(size, &[]).len()
    }

    fn next(&self, size: &Size, _played: &[Played]) -> Vec<Cell> {
        let mut cells = Vec::new();
        for machines in &MACHINES {
            for policy in POLICIES {
                for seed in size.seeds(5, 1) {
                    cells.push(Cell {
                        cluster: machines.name.into(),
                        policy: policy.into(),
                        load: machines.users,
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
        let length = length(size);
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
            "answered with success, %",
            "CPU wasted, %",
            "P99, s",
            "cold, %",
        ];
        let mut table =
            Table::new("Ten Harvest VMs, one knob at a time: mean (least to most) over seeds", &heads);
        let mut values = Values::new();
        let mut goals = Vec::new();
        for machines in &MACHINES {
            let of = |policy: &str| {
                let is_of = |one: &&Played| one.cell.cluster == machines.name && one.cell.policy == policy;
                let of: Vec<&Played> = played.iter().filter(is_of).collect();
                (!of.is_empty()).then(|| Row::of(&of))
            };
            for policy in POLICIES {
                let Some(row) = of(policy) else { continue };
                table.rows.push(row.cells(machines.name, policy));
                values.entry(machines.name.into()).or_default().insert(policy.into(), row.json(policy));
            }
            if let (Some(theirs), Some(ours)) = (of(POLICIES[0]), of(OURS)) {
                goals.push(Goal {
                    of: format!("{}, answered with success, `{OURS}`", machines.name),
                    paper: String::new(),
                    rerun: format!("{:.3} %", theirs.succeeded.mean),
                    ours: format!("{:.3} %", ours.succeeded.mean),
                    wanted: "99.99 % (published as the worst case)".into(),
                    met: Some(ours.succeeded.mean >= 99.99),
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

/// What the seeds of one policy on one set of machines come to.
struct Row {
    evicted: Summary,
    succeeded: Summary,
    wasted: Summary,
    p99: Summary,
    cold: Summary,
}

impl Row {
    fn of(of: &[&Played]) -> Self {
        Self {
            evicted: Played::over(of, |report| report.vms_evicted as f64),
            succeeded: Played::over(of, |report| 100.0 - percent(report.failed(), report.submitted)),
            wasted: Played::over(of, |report| percent(report.cores.wasted.sum(), report.cores.used.sum())),
            p99: Played::over(of, |report| report.latency.p99_us as f64 / 1e6),
            cold: Played::over(of, |report| percent(report.cold_runs, report.runs)),
        }
    }

    fn cells(&self, machines: &str, policy: &str) -> Vec<String> {
        let Self { evicted, succeeded, wasted, p99, cold } = self;
        let numbers = [evicted.text(0), succeeded.text(3), wasted.text(2), p99.text(1), cold.text(1)];
        [machines.to_owned(), policy.to_owned()].into_iter().chain(numbers).collect()
    }

    fn json(&self, policy: &str) -> serde_json::Value {
        json!({
            "whose": whose(policy != POLICIES[0]),
            "paper": null,
            "vms_evicted": self.evicted, "succeeded_percent": self.succeeded, "cpu_wasted_percent": self.wasted,
            "latency_s_p99": self.p99, "cold_percent": self.cold,
        })
    }
}
