//! VMs that are there and of which nobody hears, cut off or frozen, and those of which everybody hears late.
//!
//! **Knows:** what such a VM has said, and been told, since.
//! **Promises:** nothing of it is lost and its order stays: all of it comes when the VM is back, as what a TCP connection holds
//! does. A frozen VM gives nobody any CPU and writes no reports. What is late is drawn for each message and each way, and comes out
//! as it went in.
//! **Gives up:** clocks that stand still while it is frozen: what waits for something else than CPU goes on waiting, and limits of
//! time run. What lives beside it, such as a provider, speaks of it all the same.

use super::breaks::{Brittle, Fate};
use super::*;
use crate::plan::{Absence, Recall};

/// A way on which everything is late, or was: nothing overtakes what is still on it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Late {
    by: (Span, Span),
    /// When what was last put on it comes out: what is said, what is heard.
    last: [Moment; 2],
}

/// Which way.
#[derive(Debug, Clone, Copy)]
pub(super) enum Towards {
    House = 0,
    Him = 1,
}

impl Late {
    pub fn by(from: Span, to: Span) -> Self {
        Self { by: (from, to), last: [Moment::ORIGIN; 2] }
    }

    /// From now on what is new is so much later; `None`: not at all.
    pub fn becomes(&mut self, by: Option<(Span, Span)>) {
        self.by = by.unwrap_or_default();
    }

    /// When it comes out that goes in now.
    pub fn comes(&mut self, towards: Towards, now: Moment, chance: &mut Chance) -> Moment {
        let (from, to) = self.by;
        let later = Span(from.0 + chance.below(to.0.saturating_sub(from.0) + 1));
        let last = &mut self.last[towards as usize];
        *last = (now + later).max(*last);
        *last
    }
}

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

    /// From now on it is heard and hears so much later, or no more than others.
    pub(super) fn vm_is_late(&mut self, id: VmId, by: Option<(Span, Span)>) {
        let Some(vm) = self.vm(id) else { return };
        match (&mut vm.late, by) {
            (Some(late), by) => late.becomes(by),
            (late, Some((from, to))) => *late = Some(Late::by(from, to)),
            (None, None) => {}
        }
    }

    /// A VM says something.
    pub(super) fn vm_sends(&mut self, id: VmId, message: Message) {
        let number = self.mail.put(message);
        self.vm_posts(id, Timer::Arrives(number));
    }

    /// What a VM says goes on its way, or waits for it to be back.
    pub(super) fn vm_posts(&mut self, id: VmId, arrival: Timer) {
        let leaves = self.now + self.house.network.delay;
        let Some(vm) = self.vms.get_mut(id.0 as usize).and_then(Option::as_deref_mut) else {
            return self.travels(arrival);
        };
        if let Some(brittle) = &mut vm.brittle {
            return match brittle.says(arrival) {
                Fate::Through(arrival) => self.travels(arrival),
                Fate::Lost(arrival) => self.is_lost(arrival),
                Fate::Kept => {}
            };
        }
        match (&mut vm.away, &mut vm.late) {
            (Some(away), _) => away.said.push(arrival),
            (None, Some(late)) => {
                let at = late.comes(Towards::House, leaves, &mut self.lateness);
                self.agenda.plan(at, arrival);
            }
            (None, None) => self.travels(arrival),
        }
    }

    /// A message for a VM has come.
    pub(super) fn vm_hears(&mut self, id: VmId, input: residency::Input) {
        let Some(vm) = self.vms.get_mut(id.0 as usize).and_then(Option::as_deref_mut) else { return };
        if let Some(Err(deaf)) = vm.brittle.as_ref().map(Brittle::hears) {
            return self.vm_misses(id, input, deaf);
        }
        match (&mut vm.away, &mut vm.late) {
            (Some(away), _) => away.told.push(input),
            (None, Some(late)) => {
                let at = late.comes(Towards::Him, self.now, &mut self.lateness);
                let number = self.mail.put(Message::ToVm(id, input));
                self.agenda.plan(at, Timer::Comes(number));
            }
            (None, None) => self.tell_vm(id, input),
        }
    }

    pub(super) fn is_frozen(&mut self, id: VmId) -> bool {
        self.vm(id).and_then(|vm| vm.away.as_ref()).is_some_and(|away| away.is_frozen)
    }
}
