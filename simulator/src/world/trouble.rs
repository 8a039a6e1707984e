//! Trouble whose victims the moment decides: who is hit, and what is done to him.
//!
//! **Knows:** who has trouble already.
//! **Promises:** see [`crate::trouble`]. What lasts is over at its end, or with the end of whoever has it.
//! **Gives up:** two pieces of trouble at once for one victim.

use super::controllers::Seat;
use super::*;
use crate::trouble::{Fault, Ill, Trouble};

/// How long it waits for somebody to whom it may come, and how often it looks.
const PATIENCE: Span = Span::seconds(20);
const LOOKS_AGAIN: Span = Span::millis(200);
/// From the end of a Controller to the first word of the next: `windfall up` looks every 100 ms, waits 200, and a process starts.
const RISES_AFTER: Span = Span::millis(400);

/// Which of its moments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    Begins,
    Ends,
}

/// Who has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Hit {
    #[default]
    Nobody,
    Vm(VmId, Resources),
    Controller(Seat),
    Monitor,
    Door(u16),
}

impl World {
    pub(super) fn plan_troubles(&mut self) {
        self.hits = vec![Hit::Nobody; self.house.troubles.len()];
        for (number, trouble) in (0..).zip(&self.house.troubles) {
            self.agenda.plan(trouble.at, Timer::Trouble(number, Turn::Begins));
        }
    }

    pub(super) fn trouble(&mut self, number: u32, turn: Turn) {
        let trouble = self.house.troubles[number as usize];
        match turn {
            Turn::Begins => self.trouble_begins(number, trouble),
            Turn::Ends => {
                let hit = std::mem::take(&mut self.hits[number as usize]);
                self.trouble_ends(trouble.what, hit);
            }
        }
    }

    fn trouble_begins(&mut self, number: u32, trouble: Trouble) {
        let found = match trouble.what {
            Fault::Gone { .. } | Fault::Recalled { .. } | Fault::Resized { .. } | Fault::Vm(..) => {
                self.vm_to_hit(trouble.draw)
            }
            Fault::Controller(..) | Fault::ControllerGone => self.controller_to_hit(trouble.draw),
            Fault::MonitorGone(_) => self.fleet_goes().then_some(Hit::Monitor),
            Fault::DoorFrozen(_) => self.doors.freeze(trouble.draw).map(Hit::Door),
        };
        let Some(hit) = found else {
            if self.now < trouble.at + PATIENCE {
                return self.agenda.plan(self.now + LOOKS_AGAIN, Timer::Trouble(number, Turn::Begins));
            }
            return self.tally.troubled(false);
        };
        self.tally.troubled(true);
        self.hits[number as usize] = hit;
        let lasts = self.hit(trouble.what, hit);
        self.agenda.plan(self.now + lasts, Timer::Trouble(number, Turn::Ends));
    }

    fn vm_to_hit(&mut self, draw: u32) -> Option<Hit> {
        let open = |vm: &Vm| !(vm.busy || vm.noticed || vm.leaves);
        let open: Vec<usize> =
            (0..self.vms.len()).filter(|&vm| self.vms[vm].as_deref().is_some_and(open)).collect();
        let &chosen = open.get(draw as usize % open.len().max(1))?;
        let vm = self.vms[chosen].as_mut()?;
        vm.busy = true;
        Some(Hit::Vm(VmId(chosen as u64), vm.size))
    }

    fn controller_to_hit(&mut self, draw: u32) -> Option<Hit> {
        let mut well: Vec<&mut Controller> =
            self.controllers.iter_mut().filter(|one| one.is_there() && !one.busy).collect();
        let chosen = draw as usize % well.len().max(1);
        let controller = well.get_mut(chosen)?;
        controller.busy = true;
        Some(Hit::Controller(controller.seat))
    }

    /// What happens first, and how long after that the rest.
    fn hit(&mut self, what: Fault, hit: Hit) -> Span {
        match (what, hit) {
            (Fault::Gone { notice, after }, Hit::Vm(vm, _)) => {
                if let Some(notice) = notice {
                    self.vm_noticed(vm, self.now + notice);
                }
                after
            }
            (Fault::Recalled { notice, after }, Hit::Vm(vm, _)) => {
                self.vm_noticed(vm, self.now + notice);
                after
            }
            (Fault::Resized { percent, lasts }, Hit::Vm(vm, size)) => {
                let cpu = MilliCores((u64::from(size.cpu.0) * u64::from(percent) / 100) as u32);
                self.vm_changes(vm, Resources { cpu, ..size });
                lasts
            }
            (Fault::Vm(ill, lasts), Hit::Vm(vm, _)) => {
                match ill {
                    Ill::Frozen | Ill::CutOff => self.vm_leaves(vm, ill == Ill::Frozen),
                    Ill::Late(from, to) => self.vm_is_late(vm, Some((from, to))),
                    Ill::Breaks(from, to) => self.vm_breaks(vm, Some((from, to))),
                }
                lasts
            }
            (Fault::Controller(ill, lasts), Hit::Controller(seat)) => {
                match ill {
                    Ill::Frozen | Ill::CutOff => self.controller_leaves(seat, ill == Ill::Frozen),
                    Ill::Late(from, to) => self.controller_late(seat, Some((from, to))),
                    Ill::Breaks(from, to) => self.controller_breaks(seat, Some((from, to))),
                }
                lasts
            }
            (Fault::ControllerGone, Hit::Controller(seat)) => {
                self.controller_dies(seat);
                RISES_AFTER
            }
            (Fault::MonitorGone(lasts) | Fault::DoorFrozen(lasts), _) => lasts,
            _ => Span::ZERO,
        }
    }

    fn trouble_ends(&mut self, what: Fault, hit: Hit) {
        match (what, hit) {
            (Fault::Gone { .. }, Hit::Vm(vm, _)) => self.vm_gone(vm),
            (Fault::Recalled { .. }, Hit::Vm(vm, _)) => self.vm_may_stay(vm),
            (Fault::Resized { .. }, Hit::Vm(vm, size)) => self.vm_changes(vm, size),
            (Fault::Vm(Ill::Late(..), _), Hit::Vm(vm, _)) => self.vm_is_late(vm, None),
            (Fault::Vm(Ill::Breaks(..), _), Hit::Vm(vm, _)) => self.vm_breaks(vm, None),
            (Fault::Vm(..), Hit::Vm(vm, _)) => self.vm_returns(vm),
            (Fault::Controller(Ill::Late(..), _), Hit::Controller(seat)) => self.controller_late(seat, None),
            (Fault::Controller(Ill::Breaks(..), _), Hit::Controller(seat)) => {
                self.controller_breaks(seat, None)
            }
            (Fault::Controller(..), Hit::Controller(seat)) => self.controller_returns(seat),
            (Fault::ControllerGone, Hit::Controller(seat)) => self.controller_rises(seat.place),
            (Fault::MonitorGone(_), _) => self.fleet_comes(),
            (Fault::DoorFrozen(_), Hit::Door(door)) => self.door_thaws(door),
            _ => {}
        }
        match hit {
            Hit::Vm(vm, _) => {
                if let Some(vm) = self.vm(vm) {
                    vm.busy = false;
                }
            }
            Hit::Controller(seat) => {
                if let Some(controller) = self.seated(seat) {
                    controller.busy = false;
                }
            }
            Hit::Nobody | Hit::Monitor | Hit::Door(_) => {}
        }
    }
}
