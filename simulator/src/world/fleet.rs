//! The Resource Monitor, where a house has one.

use policies::provisioning::{Input, Output, Provisioning, RetireWhy};
use vocabulary::VmStanding;

use super::*;
use crate::house;

pub(super) struct Fleet {
    mind: Provisioning,
    /// As it was asked for.
    house: house::Fleet,
    wakes: Option<Moment>,
    /// No VM has had this id, or a higher one.
    first_free: u64,
    /// Until then nobody keeps it.
    pub away: bool,
    /// Its rule goes by what Controllers ask for.
    asks: bool,
}

impl Fleet {
    pub fn new(fleet: house::Fleet, rule: Option<Box<dyn policies::fleet::Fleet>>, first_free: u64) -> Self {
        let mind = Provisioning::new(fleet.settings.clone(), fleet.target, first_free);
        let asks = rule.is_some();
        Self {
            mind: match rule {
                Some(rule) => mind.with_rule(rule),
                None => mind,
            },
            asks,
            house: fleet,
            wakes: None,
            first_free,
            away: false,
        }
    }
}

impl World {
    /// The provider lists what there is before anything else.
    pub(super) fn begin_fleet(&mut self) {
        if let Some(fleet) = &self.fleet {
            let listed = (1..fleet.first_free).map(VmId).collect();
            self.send(Message::ToFleet(Input::Listed(listed)));
        }
    }

    /// A second has passed: in every second of them the Controller says what it is asked for.
    pub(super) fn ask_of_fleet(&mut self) {
        let is_due = (self.now.0 / SECOND.0).is_multiple_of(2);
        if is_due && self.fleet.as_ref().is_some_and(|fleet| fleet.asks) {
            for place in 0..self.controllers.len() {
                let Controller { seat, dispatch, .. } = &self.controllers[place];
                let (controller, demand) = (seat.id(), dispatch.demand());
                self.send(Message::ToFleet(Input::Demanded { controller, demand }));
            }
        }
    }

    pub(super) fn report_to_fleet(&mut self, status: &VmStatus) {
        let Some(fleet) = self.fleet.as_mut().filter(|fleet| !fleet.away) else { return };
        let mut outputs = Vec::new();
        fleet.mind.vm_reports(self.now, status, &mut outputs);
        self.carry_out_for_fleet(outputs);
    }

    /// Nobody keeps the fleet any more: what is said to him is lost.
    pub(super) fn fleet_goes(&mut self) -> bool {
        // Who follows a rule has more in mind than can be asked of a provider.
        let found = self.fleet.as_mut().filter(|fleet| !fleet.away && !fleet.asks);
        found.map(|fleet| fleet.away = true).is_some()
    }

    /// Somebody else does. He asks the provider what there is.
    pub(super) fn fleet_comes(&mut self) {
        let there = (0..self.vms.len()).filter(|&vm| self.vms[vm].is_some()).map(|vm| VmId(vm as u64));
        let coming = self.coming.iter().flatten().map(|&(vm, _)| vm);
        let listed: Vec<VmId> = there.chain(coming).collect();
        let Some(fleet) = &mut self.fleet else { return };
        fleet.mind = Provisioning::new(fleet.house.settings.clone(), fleet.house.target, fleet.first_free);
        (fleet.away, fleet.wakes) = (false, None);
        self.tell_fleet(Input::Listed(listed));
    }

    pub(super) fn notice_to_fleet(&mut self, vm: VmId, deadline: Option<Moment>) {
        if self.fleet.is_some() {
            self.send(Message::ToFleet(Input::VmNoticed { vm, deadline }));
        }
    }

    /// The provider sees that a VM has ended; the Resource Monitor tells the Controller.
    pub(super) fn vm_end_to_fleet(&mut self, vm: VmId) {
        if self.fleet.as_ref().is_some_and(|fleet| !fleet.away) {
            self.send(Message::ToFleet(Input::VmEnded(vm)));
            for seat in self.seats() {
                self.send(Message::ToController(seat, Letter::Lost(vm)));
            }
        }
    }

    pub(super) fn wake_fleet(&mut self) {
        if let Some(fleet) = &mut self.fleet
            && fleet.wakes == Some(self.now)
        {
            fleet.wakes = None;
            self.tell_fleet(Input::Woke);
        }
    }

    pub(super) fn tell_fleet(&mut self, input: Input) {
        let Some(fleet) = self.fleet.as_mut().filter(|fleet| !fleet.away) else { return };
        let mut outputs = Vec::new();
        fleet.mind.handle(self.now, input, &mut outputs);
        self.carry_out_for_fleet(outputs);
    }

    fn carry_out_for_fleet(&mut self, outputs: Vec<Output>) {
        let Some(fleet) = &mut self.fleet else { return };
        if let Some(at) = fleet.mind.next_wakeup()
            && fleet.wakes.is_none_or(|planned| at < planned)
        {
            let at = at.max(self.now);
            fleet.wakes = Some(at);
            self.agenda.plan(at, Timer::WakeFleet);
        }
        let grace = fleet.house.retire_grace;
        for output in outputs {
            match output {
                Output::Launch { vm, kind, size } => self.launch(vm, kind, size),
                Output::Drain { vm } => {
                    self.send(Message::ToVm(vm, residency::Input::Standing(VmStanding::Draining)));
                }
                Output::Retire { vm, why } => {
                    self.tally.decisions.retires += 1;
                    match why {
                        RetireWhy::Surplus => self.vm_retires(vm, self.now + grace),
                        RetireWhy::Silent | RetireWhy::Ended => self.vm_gone(vm),
                    }
                }
            }
        }
    }

    fn launch(&mut self, vm: VmId, kind: VmKind, size: Resources) {
        self.tally.decisions.launches += 1;
        if let Some(fleet) = &mut self.fleet {
            fleet.first_free = fleet.first_free.max(vm.0 + 1);
        }
        match self.house.machines.launch(self.now, kind, size) {
            Some(plan) => self.plan_vm(vm, plan),
            None => {
                self.tally.decisions.launches_failed += 1;
                self.send(Message::ToFleet(Input::LaunchFailed(vm)));
            }
        }
    }
}
