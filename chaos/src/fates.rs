//! The same trouble for a rehearsal: what becomes of each VM, worked out beforehand.
//!
//! **Knows:** a scenario, a seed, how long a VM takes to start.
//! **Promises:** the timetable's moments and draws, as a live run makes them; a VM that goes is replaced at its notice, and not where that is called off.
//! **Gives up:** what a rehearsal has no notion of: it is counted by name. That live VMs may take longer to come: a victim
//! is drawn among those that are open, so the further a run goes, the less it hits the same ones.

use std::collections::BTreeMap;

use vocabulary::Span;

use crate::scenario::Scenario;
use crate::timetable::{CloudStep, Planned, Step, Victim, VmStep, timetable};
use crate::wires::Condition;

/// What becomes of one VM. Moments count from the beginning of the calm.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fate {
    /// When it starts.
    pub starts: Span,
    /// Hundredths of the CPU that it had, from when on.
    pub sizes: Vec<(Span, u32)>,
    /// From when to when nobody hears of it, and whether it does nothing meanwhile; else it works on.
    pub absences: Vec<(Span, Span, bool)>,
    /// When it is told that it has how long, and when that is called off.
    pub recalls: Vec<(Span, Span, Span)>,
    /// When it is gone, and how long before it is told.
    pub end: Option<(Span, Span)>,
    /// Until when a fault has it.
    busy_until: Span,
}

/// What becomes of all of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fates {
    /// The VMs of the beginning, and after them those that come for them.
    pub vms: Vec<Fate>,
    /// Faults that a rehearsal cannot play.
    pub left_out: u32,
    /// Faults that it plays.
    pub made: u32,
}

/// Works it out; a VM that is asked for is there after `start_up`.
pub fn fates(scenario: &Scenario, seed: u64, start_up: Span) -> Fates {
    let calm = Span::seconds(scenario.calm_s);
    let mut faults: BTreeMap<Victim, Vec<Planned>> = BTreeMap::new();
    let mut order = Vec::new();
    for planned in timetable(scenario, seed) {
        let (Step::Vm(victim, _) | Step::Role(_, victim, _) | Step::Disk(victim, _)) = planned.step;
        let steps = faults.entry(victim).or_default();
        if steps.is_empty() {
            order.push(victim);
        }
        steps.push(planned);
    }
    let mut all = Fates { vms: vec![Fate::default(); scenario.vms as usize], ..Fates::default() };
    for victim in order {
        let steps: Vec<(Span, VmStep)> = faults[&victim]
            .iter()
            .filter_map(|planned| match planned.step {
                Step::Vm(_, step) => Some((calm + planned.at, step)),
                Step::Role(..) | Step::Disk(..) => None,
            })
            .collect();
        if all.hit(victim, &steps, start_up) {
            all.made += 1;
        } else {
            all.left_out += 1;
        }
    }
    all
}

impl Fates {
    fn hit(&mut self, victim: Victim, steps: &[(Span, VmStep)], start_up: Span) -> bool {
        let (Some(&(from, first)), Some(&(to, last))) = (steps.first(), steps.last()) else { return false };
        let open: Vec<usize> = (0..self.vms.len())
            .filter(|&index| {
                let vm = &self.vms[index];
                vm.starts <= from && vm.end.is_none() && vm.busy_until <= from
            })
            .collect();
        let Some(&chosen) = open.get(victim.draw as usize % open.len().max(1)) else { return false };
        let vm = &mut self.vms[chosen];
        match (first, last) {
            (VmStep::Kill | VmStep::Notice(_) | VmStep::Cloud(CloudStep::Notice(_)), VmStep::Kill) => {
                vm.end = Some((to, Span(to.0 - from.0)));
                self.vms.push(Fate { starts: from + start_up, ..Fate::default() });
            }
            (VmStep::Resize(percent), VmStep::Resize(whole)) => {
                vm.sizes.extend([(from, percent), (to, whole)]);
                vm.busy_until = to;
            }
            (
                VmStep::Notice(left) | VmStep::Cloud(CloudStep::Notice(left)),
                VmStep::CallOff | VmStep::Cloud(CloudStep::CallOff),
            ) => {
                vm.recalls.push((from, left, to));
                vm.busy_until = to;
            }
            (VmStep::Freeze, VmStep::Thaw) => {
                vm.absences.push((from, to, true));
                vm.busy_until = to;
            }
            (VmStep::Wire(Condition::Cut), VmStep::Wire(Condition::Whole)) => {
                vm.absences.push((from, to, false));
                vm.busy_until = to;
            }
            _ => return false,
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_storm_has_a_vm_for_every_one_that_goes_and_never_fewer_than_half() {
        let scenario = Scenario::from_toml(include_str!("../scenarios/storm.toml")).unwrap();
        let all = fates(&scenario, 7, Span::seconds(2));
        assert_eq!(all, fates(&scenario, 7, Span::seconds(2)));
        let gone = all.vms.iter().filter(|vm| vm.end.is_some()).count();
        assert_eq!(all.vms.len() - gone, 20);
        // 200 evictions, 20 that are called off, 30 changes of size, 8 that hang; processes of the house are not for a rehearsal.
        assert_eq!((all.made, all.left_out, gone), (258, 4, 200));
        let links = Scenario::from_toml(include_str!("../scenarios/links.toml")).unwrap();
        let all_links = fates(&links, 7, Span::seconds(2));
        let away = all_links.vms.iter().flat_map(|vm| &vm.absences);
        assert_eq!((away.clone().filter(|(.., frozen)| *frozen).count(), away.count()), (1, 4));
        let end = Span::seconds(scenario.calm_s + scenario.storm_s);
        for vm in &all.vms {
            assert!(vm.end.is_none_or(|(at, notice)| vm.starts + notice <= at && at <= end), "{vm:?}");
            assert!(vm.sizes.is_sorted() && vm.absences.iter().all(|(from, to, _)| from <= to), "{vm:?}");
        }
        for second in 0..scenario.storm_s {
            let now = Span::seconds(scenario.calm_s + second);
            let open = all.vms.iter().filter(|vm| {
                vm.starts <= now && vm.end.is_none_or(|(at, notice)| now < Span(at.0 - notice.0))
            });
            assert!(open.count() >= 10, "second {second}");
        }
    }
}
