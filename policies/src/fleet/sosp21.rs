//! The released Resource Monitor of SOSP'21.
//!
//! **Knows:** the cores of all VMs that are there.
//! **Promises:** the released rule: every 30 s, if the total is below the target, ceil((target - total) / 6) harvest VMs, which
//! are assumed to have six cores; and while they are made, it does nothing else (the original waits for them inside its loop).
//! **Gives up:** the load, shrinking, notices (a VM that must go counts until it is gone), memory, and money.
//!
//! Source: zyqCSL/harv-faas-experiment, `azure_autoscale.py`. The target is [`Settings::least`]'s CPU; the original has 150 cores.

use vocabulary::{Moment, Span, VmKind};

use super::{Fleet, Order, Settings, Stage, View};

/// Between two looks.
const PERIOD: Span = Span::seconds(30);
/// What a new VM is assumed to have, in millicores.
const ASSUMED: u64 = 6_000;

/// See the module.
#[derive(Debug, Clone)]
pub struct Sosp21 {
    settings: Settings,
    next: Moment,
}

impl Sosp21 {
    /// Looks at once.
    pub fn new(settings: Settings) -> Self {
        Self { settings, next: Moment::ORIGIN }
    }
}

impl Fleet for Sosp21 {
    fn name(&self) -> &'static str {
        "sosp21"
    }

    fn look(&mut self, now: Moment, view: View<'_>, orders: &mut Vec<Order>) {
        let waits_for_some = view.vms.iter().any(|vm| vm.stage == Stage::Starting);
        if now < self.next || waits_for_some {
            return;
        }
        self.next = now + PERIOD;
        let total: u64 = view.vms.iter().map(|vm| u64::from(vm.size.cpu.0)).sum();
        let missing = u64::from(self.settings.least.cpu.0).saturating_sub(total);
        let count = u32::try_from(missing.div_ceil(ASSUMED)).unwrap_or(u32::MAX);
        if count > 0 {
            orders.push(Order::Launch { kind: VmKind::Harvest, size: self.settings.harvest, count });
        }
    }

    fn next_look(&self) -> Option<Moment> {
        Some(self.next)
    }
}
