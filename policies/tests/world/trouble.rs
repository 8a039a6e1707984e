//! What happens that nobody asked for, and its end.

use policies::{dispatch, residency};
use vocabulary::{InvocationId, Resources, Span, VmId, VmStanding};

use super::house::{Event, World};

impl World {
    /// Something happens that nobody asked for.
    pub(super) fn disturb(&mut self) {
        let vms: Vec<VmId> = self.vms.keys().copied().collect();
        let some = (!vms.is_empty()).then(|| vms[self.chance.below(vms.len() as u64) as usize]);
        match (self.chance.below(24), some) {
            (0, Some(vm)) => {
                self.vms.remove(&vm);
                match self.chance.below(3) {
                    0 => self.after(10, Event::ToController(dispatch::Input::VmLost(vm))),
                    _ => self.log.push(format!("{vm} dies in silence")),
                }
                self.new_vm();
            }
            (1, Some(vm)) => {
                let capacity = Resources::new(1_000 * (1 + self.chance.below(8) as u32), 2_048);
                self.after(0, Event::ToVm(vm, residency::Input::Capacity(capacity)));
                self.after(1, Event::Report(vm));
            }
            (2, Some(vm)) => {
                self.vms.get_mut(&vm).unwrap().draining = true;
                // From no time at all to more than any run takes; sometimes it ends early, or does not come.
                let left = self.chance.below(1_500);
                let deadline = Some(self.now + Span::millis(left));
                self.after(2, Event::ToController(dispatch::Input::VmNoticed { vm, deadline }));
                self.after(2, Event::ToVm(vm, residency::Input::Standing(VmStanding::Draining)));
                self.after(3, Event::Report(vm));
                match self.chance.below(4) {
                    0 => {
                        let called_off = dispatch::Input::VmNoticed { vm, deadline: None };
                        self.after(left / 2 + 3, Event::ToController(called_off));
                        self.after(
                            left / 2 + 3,
                            Event::ToVm(vm, residency::Input::Standing(VmStanding::Open)),
                        );
                        self.after(left / 2 + 4, Event::Report(vm));
                    }
                    1 => self.after(left / 2, Event::Evicted(vm)),
                    2 => self.after(left, Event::Evicted(vm)),
                    _ => {}
                }
                self.new_vm();
            }
            (3, _) if self.next_invocation > 1 => {
                let id = InvocationId(1 + u128::from(self.chance.next()) % (self.next_invocation - 1));
                self.after(0, Event::ToController(dispatch::Input::Withdrawn(id)));
            }
            (4, Some(vm)) => self.after(0, Event::Report(vm)),
            // Some worlds are quiet, in others far more is asked for than fits.
            _ => (0..=self.chance.below(1 + self.rush)).for_each(|_| self.submit()),
        }
    }

    pub(super) fn live(&mut self, disturbances: u32) {
        for _ in 0..disturbances {
            self.disturb();
            let until = self.now + Span::millis(self.chance.below(120));
            while self.events.first_key_value().is_some_and(|(&(at, _), _)| at <= until) {
                self.step();
            }
            self.now = self.now.max(until);
        }
    }

    /// First safety, under any fault; then everything is healed and all must come to an end.
    pub(super) fn heal_and_wait(&mut self) {
        self.trouble = false;
        let draining: Vec<VmId> = self.vms.iter().filter(|(_, vm)| vm.draining).map(|(&id, _)| id).collect();
        for vm in draining {
            self.vms.remove(&vm);
        }
        let capacity = Resources::new(8_000, 8_192);
        for id in self.vms.keys().copied().collect::<Vec<_>>() {
            self.after(0, Event::ToVm(id, residency::Input::Capacity(capacity)));
        }
        self.new_vm();
        let end = self.now + Span::seconds(120);
        while self.now < end && self.step() {}
    }
}
