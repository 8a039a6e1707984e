//! What an Invoker sees of runs that lend, every 20 ms, as the live one reads it from its counters.
//!
//! **Knows:** the last quota period of each run that lends.
//! **Promises:** what `actors/src/invoker/lending.rs` would have seen: CPU time over one quota period, what was before the run
//! counting as idle; how long the kernel stopped it; memory in use. While nobody lends, nothing is planned and nothing is looked at.
//! **Gives up:** the kernel's own signs that memory is short (`memory.events`).

use policies::residency::{self, SandboxId};
use policies::safeguard::Sample;
use vocabulary::Mebibytes;

use super::callers::serial;
use super::vm::Vm;
use super::*;
use crate::physics::{CORE_US, Delivered, TaskId};

/// Between two looks.
const LOOK: Span = Span::millis(20);
/// The kernel's quota period...
const PERIOD: Span = Span::millis(100);
/// ...in looks.
const LOOKS: usize = 5;

/// Every run on a VM that lends.
#[derive(Debug, Default)]
pub(super) struct Watch {
    seen: Vec<Seen>,
    pub due: bool,
}

/// What was seen of one.
#[derive(Debug, Clone, Copy)]
struct Seen {
    attempt: (InvocationId, Attempt),
    /// CPU time at the last looks; the place of the oldest.
    given: [Delivered; LOOKS],
    oldest: usize,
    stopped: Span,
}

impl Watch {
    fn see(
        &mut self,
        attempt: (InvocationId, Attempt),
        given: Delivered,
        stopped: Span,
        memory: Mebibytes,
    ) -> Sample {
        let index = self.seen.iter().position(|seen| seen.attempt == attempt).unwrap_or_else(|| {
            self.seen.push(Seen { attempt, given: [0; LOOKS], oldest: 0, stopped: Span::ZERO });
            self.seen.len() - 1
        });
        let seen = &mut self.seen[index];
        let used = given.saturating_sub(seen.given[seen.oldest]);
        seen.given[seen.oldest] = given;
        seen.oldest = (seen.oldest + 1) % LOOKS;
        let throttled = stopped - seen.stopped;
        seen.stopped = stopped;
        let cpu = used / (CORE_US / 1_000 * PERIOD.0);
        Sample {
            cpu: MilliCores(u32::try_from(cpu).unwrap_or(u32::MAX)),
            throttled,
            memory,
            memory_pressed: false,
        }
    }
}

impl World {
    /// Looks in a moment if anybody lends there.
    pub(super) fn wish_to_look(&mut self, id: VmId) {
        if self.house.residency.lending == residency::Lending::Off {
            return;
        }
        let at = self.now + LOOK;
        if let Some(vm) = self.vm(id)
            && !vm.watch.due
            && vm.residency.watched().next().is_some()
        {
            vm.watch.due = true;
            self.agenda.plan(at, Timer::Samples(id));
        }
    }

    /// Everybody there who lends is looked at.
    pub(super) fn samples(&mut self, id: VmId) {
        let now = self.now;
        let Some(vm) = self.vm(id) else { return };
        vm.watch.due = false;
        let watched: Vec<SandboxId> = vm.residency.watched().collect();
        let residency = &vm.residency;
        let lends = |attempt| watched.iter().any(|&id| residency.attempt_on(id) == Some(attempt));
        vm.watch.seen.retain(|seen| lends(seen.attempt));
        let mut gave_back = false;
        for sandbox in watched {
            let Some(vm) = self.vm(id) else { return };
            let Some((attempt, task)) = vm.residency.attempt_on(sandbox).zip(vm.task_of(sandbox)) else {
                continue;
            };
            let Some(used) = vm.machine.sample(now, task) else { continue };
            let seen = vm.watch.see(attempt, used.given, used.stopped, used.memory);
            let those = self.house.measured.as_mut();
            let sample = those.and_then(|those| those.sample(now, serial(attempt.0))).unwrap_or(seen);
            let Some(vm) = self.vm(id) else { return };
            let before = vm.residency.grant_on(sandbox);
            self.tell_vm(id, residency::Input::Sampled { sandbox, sample });
            gave_back |= self.vm(id).is_some_and(|vm| vm.residency.grant_on(sandbox) != before);
        }
        if gave_back {
            // Controllers must not promise the room to others any longer.
            self.reports(id, false);
        }
        self.wish_to_look(id);
    }
}

impl Vm {
    fn task_of(&self, sandbox: SandboxId) -> Option<TaskId> {
        self.bodies.get(&sandbox).and_then(|body| body.task)
    }
}
