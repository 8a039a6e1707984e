//! The Resource Monitor, where a house has one.

use policies::provisioning::{Input, Output, Provisioning, RetireWhy};
use vocabulary::{ControllerId, VmStanding};

use super::*;
use crate::house;

pub(super) struct Fleet {
    mind: Provisioning,
    retire_grace: Span,
    wakes: Option<Moment>,
    given: u64,
    /// Its rule goes by what Controllers ask for.
    asks: bool,
}

impl Fleet {
    pub fn new(fleet: house::Fleet, rule: Option<Box<dyn policies::fleet::Fleet>>, first_free: u64) -> Self {
        let mind = Provisioning::new(fleet.settings, fleet.target, first_free);
        let asks = rule.is_some();
        Self {
            mind: match rule {
                Some(rule) => mind.with_rule(rule),
                None => mind,
            },
            asks,
            retire_grace: fleet.retire_grace,
            wakes: None,
            given: first_free,
        }
    }
}

impl World {
    /// The provider lists what there is before anything else.
    pub(super) fn begin_fleet(&mut self) {
        if let Some(fleet) = &self.fleet {
            let listed = (1..fleet.given).map(VmId).collect();
            self.send(Message::ToFleet(Input::Listed(listed)));
        }
    }

    /// A second has passed: in every second of them the Controller says what it is asked for.
    pub(super) fn ask_of_fleet(&mut self) {
        let is_due = (self.now.0 / SECOND.0).is_multiple_of(2);
        if is_due && self.fleet.as_ref().is_some_and(|fleet| fleet.asks) {
            let demand = self.dispatch.demand();
            self.send(Message::ToFleet(Input::Demanded { controller: ControllerId(1), demand }));
        }
    }

    pub(super) fn report_to_fleet(&mut self, status: u32) {
        let Some(fleet) = &mut self.fleet else { return };
        let mut outputs = Vec::new();
        fleet.mind.vm_reports(self.now, &self.statuses[status as usize], &mut outputs);
        self.carry_out_for_fleet(outputs);
    }

    pub(super) fn notice_to_fleet(&mut self, vm: VmId, deadline: Option<Moment>) {
        if self.fleet.is_some() {
            self.send(Message::ToFleet(Input::VmNoticed { vm, deadline }));
        }
    }

    /// The provider sees that a VM has ended; the Resource Monitor tells the Controller.
    pub(super) fn vm_end_to_fleet(&mut self, vm: VmId) {
        if self.fleet.is_some() {
            self.send(Message::ToFleet(Input::VmEnded(vm)));
            self.send(Message::ToController(Letter::Lost(vm)));
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
        let Some(fleet) = &mut self.fleet else { return };
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
        let grace = fleet.retire_grace;
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
        match self.house.machines.launch(self.now, kind, size) {
            Some(plan) => self.plan_vm(vm, plan),
            None => {
                self.tally.decisions.launches_failed += 1;
                self.send(Message::ToFleet(Input::LaunchFailed(vm)));
            }
        }
    }
}
