//! What is known of each VM, for the list and the gauges. Decisions do not read it.

use std::collections::BTreeMap;

use messages::{FleetList, FleetVm, Report, StandingNotice};
use vocabulary::{Moment, Resources, Span, VmId, VmKind};

use crate::store::taking;

/// A VM that no provider lists is forgotten when it has been silent for this long.
const FORGET_AFTER: Span = Span::seconds(60);
/// Whoever speaks again after this may count from less: it was started anew, and its wall clock was set back meanwhile.
const ANEW_AFTER: Span = Span::seconds(3);

#[derive(Default)]
pub(super) struct Fleet {
    vms: BTreeMap<VmId, Known>,
}

struct Known {
    since: Moment,
    kind: VmKind,
    /// Whether we ordered it, so that `since` is the moment of the order.
    ordered: bool,
    heard: Option<(Moment, Report)>,
}

/// What a report was to us.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// Older than one that came before.
    Old,
    /// The first of its VM, so long after the order to start it if that was ours.
    First { after: Option<Span> },
    /// One more.
    Again,
}

/// All VMs together.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Sums {
    pub reporting: usize,
    pub starting: usize,
    pub capacity: Resources,
    pub used: Resources,
}

impl Fleet {
    pub fn launched(&mut self, now: Moment, vm: VmId, kind: VmKind) {
        self.vms.entry(vm).or_insert(Known { since: now, kind, ordered: true, heard: None });
    }

    pub fn reported(&mut self, now: Moment, report: Report) -> Heard {
        let status = &report.status;
        let known = self.vms.entry(status.vm).or_insert(Known {
            since: now,
            kind: status.kind,
            ordered: false,
            heard: None,
        });
        known.kind = status.kind;
        let heard = match &known.heard {
            Some((at, last)) if last.sequence >= report.sequence && now.since(*at) < ANEW_AFTER => {
                return Heard::Old;
            }
            Some(_) => Heard::Again,
            None => Heard::First { after: known.ordered.then(|| now.since(known.since)) },
        };
        known.heard = Some((now, report));
        heard
    }

    pub fn gone(&mut self, vm: VmId) {
        self.vms.remove(&vm);
    }

    /// Forgets whom nobody lists and nobody hears.
    pub fn keep_listed(&mut self, now: Moment, listed: &[VmId]) {
        self.vms.retain(|vm, known| {
            let last = known.heard.as_ref().map_or(known.since, |(at, _)| *at);
            listed.contains(vm) || now.since(last) < FORGET_AFTER
        });
    }

    pub fn list(&self, now: Moment) -> FleetList {
        let ours = taking::ours().longest_stall().map(Span::from);
        let theirs = self.vms.values().filter_map(|known| known.heard.as_ref()?.1.store_stalled);
        let store_stalled = theirs.chain(ours).max();
        FleetList { vms: self.vms.iter().map(|(vm, known)| known.line(*vm, now)).collect(), store_stalled }
    }

    pub fn sums(&self) -> Sums {
        self.vms.values().fold(Sums::default(), |mut sums, known| {
            match &known.heard {
                Some((_, report)) => {
                    sums.reporting += 1;
                    sums.capacity += report.status.capacity;
                    sums.used += report.used;
                }
                None => sums.starting += 1,
            }
            sums
        })
    }
}

impl Known {
    fn line(&self, vm: VmId, now: Moment) -> FleetVm {
        let report = self.heard.as_ref().map(|(_, report)| report);
        let status = report.map(|report| &report.status);
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        let silent = self.heard.as_ref().map(|(at, _)| now.since(*at));
        FleetVm {
            vm,
            kind: self.kind,
            capacity: status.map_or(Resources::ZERO, |status| status.capacity),
            used: report.map_or(Resources::ZERO, |report| report.used),
            standing: status.map(|status| status.standing),
            running: status.map_or(0, |status| count(status.running.len())),
            warm: status.map_or(0, |status| status.warm.iter().map(|warm| warm.idle).sum()),
            silent,
            age: match (report, silent) {
                (Some(report), Some(silent)) => report.age + silent,
                _ => now.since(self.since),
            },
            pid: report.map_or(0, |report| report.pid),
            metrics: report.map_or_else(String::new, |report| report.metrics.clone()),
            capacity_source: report.map_or_else(String::new, |report| report.capacity_source.clone()),
            notice: report.and_then(|report| report.notice.clone()).map(|notice| StandingNotice {
                time_left: notice.time_left - silent.unwrap_or(Span::ZERO),
                ..notice
            }),
            hindrance: report.map(|report| report.hindrance).unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vocabulary::{VmStanding, VmStatus};

    fn report(vm: u64, sequence: u64, cpu: u32) -> Report {
        Report {
            sequence,
            status: VmStatus {
                vm: VmId(vm),
                kind: VmKind::Harvest,
                capacity: Resources::new(cpu, 512),
                standing: VmStanding::Open,
                warm: vec![],
                running: vec![],
            },
            used: Resources::new(10, 20),
            pid: 7,
            metrics: "127.0.0.1:1".into(),
            age: Span::seconds(2),
            enforcement: String::new(),
            capacity_source: "cgroup/cgroup".into(),
            notice: Some(StandingNotice { time_left: Span::seconds(30), source: "aws".into() }),
            hindrance: messages::Hindrance::default(),
            store_stalled: None,
        }
    }

    #[test]
    fn a_vm_is_listed_from_its_launch_on_and_described_from_its_first_report_on() {
        let mut fleet = Fleet::default();
        fleet.launched(Moment(0), VmId(1), VmKind::Regular);
        let listed = &fleet.list(Moment(5)).vms[0];
        assert_eq!((listed.standing, listed.capacity, listed.silent), (None, Resources::ZERO, None));
        assert_eq!(fleet.sums(), Sums { starting: 1, ..Sums::default() });
        let first = fleet.reported(Moment(1_000), report(1, 1, 500));
        assert_eq!(first, Heard::First { after: Some(Span(1_000)) });
        let listed = &fleet.list(Moment(3_000)).vms[0];
        assert_eq!(listed.capacity, Resources::new(500, 512));
        assert_eq!(listed.silent, Some(Span(2_000)));
        assert_eq!(listed.age, Span::seconds(2) + Span(2_000));
        let left = listed.notice.as_ref().map(|notice| notice.time_left);
        assert_eq!(left, Some(Span::seconds(30) - Span(2_000)), "its time runs while it is silent");
        assert_eq!(fleet.sums().reporting, 1);
    }

    #[test]
    fn a_store_that_takes_nothing_of_one_vm_is_told_with_the_list() {
        let mut fleet = Fleet::default();
        fleet.reported(Moment(0), report(1, 1, 500));
        assert_eq!(fleet.list(Moment(1)).store_stalled, None);
        let stalled = Some(Span::seconds(7));
        fleet.reported(Moment(1), Report { store_stalled: stalled, ..report(2, 1, 500) });
        assert_eq!(fleet.list(Moment(1)).store_stalled, stalled);
    }

    #[test]
    fn a_report_that_was_overtaken_changes_nothing() {
        let mut fleet = Fleet::default();
        assert_eq!(fleet.reported(Moment(0), report(1, 5, 500)), Heard::First { after: None });
        assert_eq!(fleet.reported(Moment(1), report(1, 4, 100)), Heard::Old);
        assert_eq!(fleet.reported(Moment(1), report(1, 6, 700)), Heard::Again);
        assert_eq!(fleet.sums().capacity.cpu.0, 700);
    }

    #[test]
    fn a_vm_that_was_started_anew_with_its_clock_set_back_is_heard() {
        let mut fleet = Fleet::default();
        fleet.reported(Moment(0), report(1, 3_600_000, 500));
        let anew = Moment(0) + ANEW_AFTER;
        assert_eq!(fleet.reported(anew, report(1, 1, 700)), Heard::Again);
        assert_eq!(fleet.reported(anew, report(1, 1, 100)), Heard::Old);
        assert_eq!(fleet.sums().capacity.cpu.0, 700);
    }

    #[test]
    fn a_vm_that_nobody_lists_is_forgotten_after_a_while() {
        let mut fleet = Fleet::default();
        fleet.reported(Moment(0), report(1, 1, 500));
        fleet.reported(Moment(0), report(2, 1, 500));
        fleet.keep_listed(Moment(0) + Span::seconds(61), &[VmId(2)]);
        assert_eq!(fleet.list(Moment(0)).vms.len(), 1);
    }
}
