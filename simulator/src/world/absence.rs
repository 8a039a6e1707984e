//! VMs that are there and of which nobody hears: cut off, or frozen.
//!
//! **Knows:** what such a VM has said, and been told, since.
//! **Promises:** nothing of it is lost and its order stays: all of it comes when the VM is back, as what a TCP connection holds
//! does. A frozen VM gives nobody any CPU and writes no reports.
//! **Gives up:** clocks that stand still while it is frozen: what waits for something else than CPU goes on waiting, and limits of
//! time run. What lives beside it, such as a provider, speaks of it all the same.

use super::*;
use crate::plan::{Absence, Recall};

/// What waits for a VM to be back.
pub(super) struct Away {
    is_frozen: bool,
    said: Vec<Timer>,
    told: Vec<residency::Input>,
}

impl Away {
    pub fn is_frozen(&self) -> bool {
        self.is_frozen
    }
}

impl World {
    pub(super) fn plan_absences(&mut self) {
        for (vm, Absence { from, to, is_frozen }) in std::mem::take(&mut self.house.absences) {
            self.agenda.plan(from, Timer::Leaves(vm, is_frozen));
            self.agenda.plan(to, Timer::Returns(vm));
        }
        for (vm, Recall { at, deadline, called_off }) in std::mem::take(&mut self.house.recalls) {
            self.agenda.plan(at, Timer::Notice(vm, deadline));
            self.agenda.plan(called_off, Timer::CalledOff(vm));
        }
    }

    pub(super) fn vm_leaves(&mut self, id: VmId, is_frozen: bool) {
        let now = self.now;
        let Some(vm) = self.vms.get_mut(id.0 as usize).and_then(Option::as_deref_mut) else { return };
        vm.away = Some(Away { is_frozen, said: Vec::new(), told: Vec::new() });
        if is_frozen {
            vm.machine.set_capacity(now, MilliCores(0), &mut self.plans);
            self.keep_plans(id);
        }
    }

    pub(super) fn vm_returns(&mut self, id: VmId) {
        let now = self.now;
        let Some(vm) = self.vms.get_mut(id.0 as usize).and_then(Option::as_deref_mut) else { return };
        let Some(Away { is_frozen, said, told }) = vm.away.take() else { return };
        if is_frozen {
            let cpu = vm.size.cpu;
            vm.machine.set_capacity(now, cpu, &mut self.plans);
            self.keep_plans(id);
        }
        said.into_iter().for_each(|what| self.travels(what));
        for input in told {
            self.tell_vm(id, input);
        }
    }

    /// A VM says something.
    pub(super) fn vm_sends(&mut self, id: VmId, message: Message) {
        let number = self.mail.put(message);
        self.vm_posts(id, Timer::Arrives(number));
    }

    /// What a VM says goes on its way, or waits for it to be back.
    pub(super) fn vm_posts(&mut self, id: VmId, arrival: Timer) {
        match self.vm(id).and_then(|vm| vm.away.as_mut()) {
            Some(away) => away.said.push(arrival),
            None => self.travels(arrival),
        }
    }

    /// A message for a VM has come.
    pub(super) fn vm_hears(&mut self, id: VmId, input: residency::Input) {
        match self.vm(id).and_then(|vm| vm.away.as_mut()) {
            Some(away) => away.told.push(input),
            None => self.tell_vm(id, input),
        }
    }

    pub(super) fn is_frozen(&mut self, id: VmId) -> bool {
        self.vm(id).and_then(|vm| vm.away.as_ref()).is_some_and(|away| away.is_frozen)
    }
}
