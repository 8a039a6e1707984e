//! What VMs say of themselves, and who hears it.
//!
//! **Knows:** what a VM has used since it was last looked at.
//! **Promises:** every VM describes itself each second and on a change; one report is written once, and read where it lies by everybody
//! who hears it in time.

use policies::residency;
use vocabulary::VmStanding;

use super::absence::Towards;
use super::controllers::Way;
use super::*;
use crate::physics::Reading;

impl World {
    /// It describes itself; `again`: and will in a second.
    pub(super) fn reports(&mut self, id: VmId, again: bool) {
        let now = self.now;
        if self.is_frozen(id) {
            if again {
                self.agenda.again(now + SECOND, Timer::Reports(id));
            }
            return;
        }
        let Some(vm) = self.vms.get_mut(id.0 as usize).and_then(Option::as_deref_mut) else { return };
        let passed = now.since(vm.sampled);
        if passed >= SECOND {
            let Reading { delivered, could, memory } = vm.machine.read(now);
            let cpu = MilliCores(u32::try_from(delivered / (1_000 * passed.0)).unwrap_or(u32::MAX));
            let used = Resources { cpu, memory: memory + vm.idle };
            vm.window.see(used);
            vm.sampled = now;
            self.tally.used(now, vm.kind, delivered);
            if delivered > could {
                self.tally.violated(now, format!("{id} gave {delivered} of CPU and had {could}"));
            }
            // Only an Invoker that admits by measured use looks at it.
            if matches!(self.house.residency.admission, residency::Admission::Measured { .. }) {
                self.tell_vm(id, residency::Input::Uses(used));
            }
        }
        let Some(vm) = self.vms.get_mut(id.0 as usize).and_then(Option::as_deref_mut) else { return };
        let used = vm.window.most();
        let index = self.statuses_free.pop().unwrap_or_else(|| {
            self.statuses.push(VmStatus {
                vm: id,
                kind: vm.kind,
                capacity: Resources::ZERO,
                standing: VmStanding::Open,
                warm: Vec::new(),
                running: Vec::new(),
            });
            (self.statuses.len() - 1) as u32
        });
        let status = &mut self.statuses[index as usize];
        (status.vm, status.kind, status.capacity) = (id, vm.kind, vm.size);
        vm.residency.describe(status);
        self.vm_posts(id, Timer::ReportArrives { status: index, used });
        if again {
            self.agenda.again(now + SECOND, Timer::Reports(id));
        }
    }

    /// It reaches the Controllers and the Resource Monitor.
    pub(super) fn report_arrives(&mut self, status: u32, used: Resources) {
        let nothing = VmStatus {
            vm: VmId(0),
            kind: VmKind::Harvest,
            capacity: Resources::ZERO,
            standing: VmStanding::Open,
            warm: Vec::new(),
            running: Vec::new(),
        };
        let told = std::mem::replace(&mut self.statuses[status as usize], nothing);
        self.tally.vm_reported(told.vm);
        for place in 0..self.controllers.len() {
            let controller = &mut self.controllers[place];
            let (seat, now) = (controller.seat, self.now);
            match &mut controller.way {
                Way::Open => self.controller_reads_report(seat, &told, used),
                Way::Gone => {}
                Way::Brittle(brittle) => {
                    if brittle.hears().is_ok() {
                        self.controller_reads_report(seat, &told, used);
                    }
                }
                Way::Away { heard, .. } => heard.push(Letter::Reported(Box::new((told.clone(), used)))),
                Way::Late(late) => {
                    let at = late.comes(Towards::Him, now, &mut self.lateness);
                    let letter = Letter::Reported(Box::new((told.clone(), used)));
                    let number = self.mail.put(Message::ToController(seat, letter));
                    self.agenda.plan(at, Timer::Comes(number));
                }
            }
        }
        self.report_to_fleet(&told);
        self.statuses[status as usize] = told;
        self.statuses_free.push(status);
    }
}
