//! From a timetable to what the simulator can do to whom, and why it cannot do the rest.

use std::collections::BTreeMap;

use simulator::trouble::{Fault, Ill, Trouble};
use vocabulary::{Moment, Span};

use crate::timetable::{CloudStep, Planned, Role, RoleStep, Step, Victim, VmStep};
use crate::wires::Condition;

/// What leads the fleet has it for so long without a word; then another candidate takes it (`actors/src/resource_monitor/lease.rs`).
const LEASE: Span = Span::seconds(3);

/// A rehearsal's part of a timetable.
#[derive(Default)]
pub(super) struct Played {
    pub troubles: Vec<Trouble>,
    pub unplayed: BTreeMap<&'static str, u32>,
}

pub(super) fn played(list: &[Planned], storm: Moment) -> Played {
    let mut faults: BTreeMap<Victim, Vec<Planned>> = BTreeMap::new();
    for planned in list {
        let (Step::Vm(victim, _) | Step::Role(_, victim, _) | Step::Disk(victim, _)) = planned.step;
        faults.entry(victim).or_default().push(*planned);
    }
    let mut played = Played::default();
    for (victim, steps) in faults {
        let [first, .., last] = steps[..] else {
            played.one(victim, storm, steps[0], steps[0]);
            continue;
        };
        played.one(victim, storm, first, last);
    }
    // As they come: of those that begin at one moment, the first of the timetable is first.
    played.troubles.sort_by_key(|trouble| trouble.at);
    played
}

impl Played {
    fn one(&mut self, victim: Victim, storm: Moment, first: Planned, last: Planned) {
        match what(first.step, last.step, last.at - first.at) {
            Ok(what) => {
                self.troubles.push(Trouble { at: storm + first.at, draw: victim.draw, what });
            }
            Err(reason) => *self.unplayed.entry(reason).or_default() += 1,
        }
    }
}

/// What a rehearsal makes of it, or why nothing.
fn what(first: Step, last: Step, lasts: Span) -> Result<Fault, &'static str> {
    match (first, last) {
        (Step::Vm(_, first), Step::Vm(_, last)) => of_vm(first, last, lasts),
        (Step::Role(Role::Controller, _, step), _) => of_controller(step, lasts),
        (Step::Role(Role::ResourceMonitor, _, step), _) => match step {
            RoleStep::Clock(_) => Err(CLOCK),
            RoleStep::Kill => Ok(Fault::MonitorGone(LEASE)),
            // Somebody else leads by then, or it goes on itself.
            RoleStep::Freeze | RoleStep::Thaw | RoleStep::Wire(_) => Ok(Fault::MonitorGone(lasts.min(LEASE))),
        },
        (Step::Role(_, _, RoleStep::Clock(_)), _) => Err(CLOCK),
        (Step::Role(Role::Frontend, _, RoleStep::Freeze), _) => Ok(Fault::DoorFrozen(lasts)),
        (Step::Role(Role::Frontend, _, RoleStep::Wire(_)), _) => Err(
            "a door has no connection: its callers would lose what is on its way there, whatever is decided",
        ),
        (Step::Role(Role::Frontend, ..), _) => {
            Err("a door does not die: its callers would lose what is open there, whatever is decided")
        }
        (Step::Role(Role::NatsServer, ..), _) => Err("messages travel without a server"),
        (Step::Disk(..), _) | (_, Step::Disk(..)) => Err("there is no store, so no disk of it"),
        (Step::Vm(..), Step::Role(..)) => Err("it is no fault"),
    }
}

/// Nobody reads a wall clock there.
const CLOCK: &str = "virtual time is the only clock, and it is right";
const METADATA: &str = "there are no metadata services; notices come by message";

fn of_vm(first: VmStep, last: VmStep, lasts: Span) -> Result<Fault, &'static str> {
    Ok(match (first, last) {
        (VmStep::Kill, _) => Fault::Gone { notice: None, after: Span::ZERO },
        (VmStep::Notice(notice) | VmStep::Cloud(CloudStep::Notice(notice)), VmStep::Kill) => {
            Fault::Gone { notice: Some(notice), after: lasts }
        }
        (VmStep::Notice(notice) | VmStep::Cloud(CloudStep::Notice(notice)), _) => {
            Fault::Recalled { notice, after: lasts }
        }
        (VmStep::Resize(percent), _) => Fault::Resized { percent, lasts },
        (VmStep::Freeze, _) => Fault::Vm(Ill::Frozen, lasts),
        (VmStep::Wire(condition), _) => Fault::Vm(of_wire(condition), lasts),
        (VmStep::Clock(_), _) => return Err(CLOCK),
        (VmStep::Cloud(_), _) => return Err(METADATA),
        (VmStep::CallOff | VmStep::Thaw, _) => return Err("it is no fault"),
    })
}

fn of_controller(step: RoleStep, lasts: Span) -> Result<Fault, &'static str> {
    Ok(match step {
        RoleStep::Kill => Fault::ControllerGone,
        RoleStep::Freeze | RoleStep::Thaw => Fault::Controller(Ill::Frozen, lasts),
        RoleStep::Wire(condition) => Fault::Controller(of_wire(condition), lasts),
        RoleStep::Clock(_) => return Err(CLOCK),
    })
}

fn of_wire(condition: Condition) -> Ill {
    match condition {
        Condition::Whole => Ill::Late(Span::ZERO, Span::ZERO),
        Condition::Cut => Ill::CutOff,
        Condition::Breaks { from_ms, to_ms } => Ill::Breaks(Span::millis(from_ms), Span::millis(to_ms)),
        Condition::Slow { from_ms, to_ms } => Ill::Late(Span::millis(from_ms), Span::millis(to_ms)),
    }
}
