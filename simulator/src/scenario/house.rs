//! From a scenario's file to a house: streams of calls, and the fates of its VMs.
//!
//! **Promises:** one stream of chance for the arrivals of each function and another for its durations, so that a change of one function
//! leaves the others' calls as they were.
//! **Gives up:** waiting: all of a run's time is computing at its reservation, so that it slows down where CPU is short.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::path::Path;

use policies::residency::Lending;
use policies::{placement, reliability, residency, safeguard};
use vocabulary::{ApplicationId, FunctionCard, FunctionId, Moment, Resources, Revision, Span, VmId};

use super::{FleetSource, MachinesSource, Scenario, ScenarioError, Vms};
use crate::chance::Chance;
use crate::house::{House, Network};
use crate::machines::{Fleet, Launches};
use crate::plan::{Absence, Call, Calls, FunctionPlan, Gone, Machines, Recall, VmPlan, Work};

/// Callers come when the house has stood for two seconds, as the live demo's do.
const FIRST_CALL: Span = Span::seconds(2);
/// What is open when the last call has been made is played so long at most...
const AFTERMATH: Span = Span::seconds(600);
/// ...and in a workload that is named, which has calls of an hour that may have to begin anew: twice its longest time limit.
const NAMED_AFTERMATH: Span = Span::seconds(2 * 3600);

fn seconds(seconds: f64) -> Span {
    Span((seconds * 1e6) as u64)
}

impl Scenario {
    /// The house in which it is played; `traces` is the folder of the traces that it may name.
    pub fn house_in(&self, traces: Option<&Path>) -> Result<House, ScenarioError> {
        let length = seconds(self.length_seconds);
        let until = Moment::ORIGIN + FIRST_CALL + length;
        let aftermath = if self.workload.is_some() { NAMED_AFTERMATH } else { AFTERMATH };
        let (functions, calls): (_, Box<dyn Calls>) = match &self.workload {
            Some(source) => {
                let workload = source.workload(traces, length, FIRST_CALL, self.seed)?;
                (workload.functions, workload.calls)
            }
            None => (self.function_plans(), Box::new(Streams::new(self, until))),
        };
        let machines: Box<dyn Machines> = match &self.machines {
            Some(source) => {
                let fleet = source.fleet(traces, until + aftermath, self.seed)?;
                match (source, &self.fleet) {
                    (MachinesSource::Constant(_), Some(asked)) => {
                        Box::new(fleet.with_launches(Launches::that_last(asked.start_up())))
                    }
                    _ => Box::new(fleet),
                }
            }
            None => {
                let launches = self.fleet.as_ref().map(|asked| Launches::that_last(asked.start_up()));
                let launches = launches.unwrap_or_else(Launches::none);
                Box::new(Fleet::new(self.vm_plans(), launches, Vec::new()))
            }
        };
        let mut house = House::new(self.name.clone(), functions, calls, machines);
        let unread = "a scenario is checked when it is read";
        house.seed = self.seed;
        house.placement = placement::by_name(&self.placement, &placement::Settings::default()).expect(unread);
        house.reliability = reliability::by_name(&self.reliability).expect(unread);
        house.residency = residency::Settings {
            keep_alive: seconds(self.keep_alive_seconds),
            safeguard: safeguard::Settings { threshold: self.safeguard_permille },
            ..Default::default()
        };
        let lending = Lending::by_name(&self.lending).expect(unread);
        house.allocate_by(&self.allocation, self.allocation_settings.clone(), lending).expect(unread);
        house.keep_alive.clone_from(&self.keep_alive);
        house.absences = self.absences();
        house.recalls = self.recalls();
        house.fleet = self.fleet.as_ref().map(FleetSource::fleet);
        house.fleet_rule = self.fleet.as_ref().and_then(FleetSource::rule);
        house.network = Network { delay: Span(self.message_us), jitter: Span(self.message_jitter_us) };
        house.patience = seconds(self.patience_seconds);
        house.measure_from = Moment::ORIGIN + seconds(self.measure_from_seconds);
        house.calls_until = until;
        house.aftermath = aftermath;
        Ok(house)
    }

    fn function_plans(&self) -> Vec<FunctionPlan> {
        let mut plans = Vec::new();
        for (app, kind) in self.functions.iter().enumerate() {
            for _ in 0..kind.copies {
                plans.push(FunctionPlan {
                    name: kind.name.clone(),
                    app: app as u32,
                    card: FunctionCard {
                        id: FunctionId(plans.len() as u64 + 1),
                        revision: Revision(1),
                        reservation: Resources::new(kind.cpu_millicores, kind.memory_mib),
                        timeout: Span::seconds(300),
                        on_eviction: kind.on_eviction,
                        application: Some(ApplicationId(app as u64)),
                    },
                    cold_start: seconds(self.cold_start_ms / 1e3),
                });
            }
        }
        plans
    }

    fn absences(&self) -> Vec<(VmId, Absence)> {
        let at = |after: f64| Moment::ORIGIN + seconds(after);
        let of_vm = |(vm, vms): (VmId, &'_ Vms)| {
            let absences = vms.absences.clone().into_iter();
            absences.map(move |absence| (vm, absence)).collect::<Vec<_>>()
        };
        self.numbered_vms()
            .flat_map(of_vm)
            .map(|(vm, absence)| {
                let (from, to) = (at(absence.from_seconds), at(absence.to_seconds));
                (vm, Absence { from, to, is_frozen: absence.is_frozen })
            })
            .collect()
    }

    fn recalls(&self) -> Vec<(VmId, Recall)> {
        let at = |after: f64| Moment::ORIGIN + seconds(after);
        let of_vm = |(vm, vms): (VmId, &'_ Vms)| {
            let recalls = vms.recalls.clone().into_iter();
            recalls.map(move |recall| (vm, recall)).collect::<Vec<_>>()
        };
        self.numbered_vms()
            .flat_map(of_vm)
            .map(|(vm, recall)| {
                let (deadline, called_off) =
                    (at(recall.at_seconds + recall.notice_seconds), at(recall.called_off_at_seconds));
                (vm, Recall { at: at(recall.at_seconds), deadline, called_off })
            })
            .collect()
    }

    /// As the world numbers them: each of those that are alike has a number of its own.
    fn numbered_vms(&self) -> impl Iterator<Item = (VmId, &Vms)> {
        let all = self.vms.iter().flat_map(|vms| std::iter::repeat_n(vms, vms.count as usize));
        all.zip(1..).map(|(vms, number)| (VmId(number), vms))
    }

    fn vm_plans(&self) -> Vec<VmPlan> {
        let at = |after: f64| Moment::ORIGIN + seconds(after);
        let mut plans = Vec::new();
        for vms in &self.vms {
            let mut memory = vms.memory_mib;
            let changes = vms.changes.iter().map(|change| {
                memory = change.memory_mib.unwrap_or(memory);
                (at(change.at_seconds), Resources::new(change.cpu_millicores, memory))
            });
            let plan = VmPlan {
                kind: vms.kind,
                starts_at: at(vms.starts_at_seconds),
                size: Resources::new(vms.cpu_millicores, vms.memory_mib),
                changes: changes.collect(),
                gone: vms
                    .gone_at_seconds
                    .map(|gone| Gone { at: at(gone), notice: seconds(vms.notice_seconds) }),
            };
            plans.extend(std::iter::repeat_n(plan, vms.count as usize));
        }
        plans
    }
}

/// One Poisson stream per function.
struct Streams {
    streams: Vec<Stream>,
    next: BinaryHeap<Reverse<(Moment, u32)>>,
    until: Moment,
}

struct Stream {
    per_second: f64,
    mean: Span,
    sigma: f64,
    reservation: Resources,
    arrivals: Chance,
    durations: Chance,
}

impl Streams {
    fn new(scenario: &Scenario, until: Moment) -> Self {
        let mut made = Self { streams: Vec::new(), next: BinaryHeap::new(), until };
        for kind in &scenario.functions {
            for _ in 0..kind.copies {
                let id = made.streams.len() as u64 + 1;
                made.streams.push(Stream {
                    per_second: kind.per_second,
                    mean: seconds(kind.mean_ms / 1e3),
                    sigma: kind.sigma,
                    reservation: Resources::new(kind.cpu_millicores, kind.memory_mib),
                    arrivals: Chance::new(scenario.seed, 2 * id),
                    durations: Chance::new(scenario.seed, 2 * id + 1),
                });
                made.plan(made.streams.len() as u32 - 1, Moment::ORIGIN + FIRST_CALL);
            }
        }
        made
    }

    fn plan(&mut self, function: u32, after: Moment) {
        let stream = &mut self.streams[function as usize];
        let at = after + stream.arrivals.gap(stream.per_second);
        if at < self.until {
            self.next.push(Reverse((at, function)));
        }
    }
}

impl Calls for Streams {
    fn next_at(&self) -> Option<Moment> {
        self.next.peek().map(|Reverse((at, _))| *at)
    }

    fn take(&mut self) -> Call {
        let Reverse((at, function)) = self.next.pop().expect("taken only when there is one");
        let stream = &mut self.streams[function as usize];
        let duration = stream.durations.log_normal(stream.mean, stream.sigma);
        let work = Work {
            io: Span::ZERO,
            cpu: duration.scaled(u64::from(stream.reservation.cpu.0), 1_000),
            saturation: stream.reservation.cpu,
            memory: stream.reservation.memory,
            input_bytes: 100,
        };
        self.plan(function, at);
        Call { function, work, user: 0 }
    }
}
