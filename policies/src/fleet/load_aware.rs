//! As large as the load needs, within limits and a budget.
//!
//! **Knows:** what runs, waits and is foretold, by the kind of VM it should have; prices; who must go.
//! **Promises:** what waits is answered with VMs at once, and only once: who is on its way counts. Who has been given notice does
//! not count any more, so its place is taken at the notice. The fleet stays between its least and its most; it is never made
//! dearer than the budget, where what needs regular VMs goes first. What has not been needed for minutes finishes its runs and
//! goes, one VM after the other, the idlest first.
//! **Gives up:** foretelling beyond the last minute's rate; and taking back a VM that drains when the load comes back: a new one
//! is made.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use vocabulary::{Demand, Load, MilliCores, Moment, Resources, VmId, VmKind};

use super::{Fleet, Order, Settings, Stage, View, covering};

/// See the module.
#[derive(Debug, Clone)]
pub struct LoadAware {
    settings: Settings,
    /// Since when a VM of this kind has not been needed.
    spare_since: BTreeMap<VmKind, Moment>,
    /// Not before this does the next VM leave.
    next_drain: Moment,
    next_look: Option<Moment>,
}

impl LoadAware {
    /// With nothing to spare.
    pub fn new(settings: Settings) -> Self {
        Self { settings, spare_since: BTreeMap::new(), next_drain: Moment::ORIGIN, next_look: None }
    }

    /// What VMs of this kind should have, so that their target share covers the load.
    fn wants(&self, load: Load) -> Resources {
        let whole = |part: u32| {
            let utilisation = u64::from(self.settings.target_utilisation.clamp(1, 1_000));
            u32::try_from((u64::from(part) * 1_000).div_ceil(utilisation)).unwrap_or(u32::MAX)
        };
        let Resources { cpu, memory } = load.needs();
        Resources::new(whole(cpu.0), whole(memory.0))
    }

    /// Of each kind, the one that is bought first coming first. What the least size asks for beyond the load is harvest.
    fn wishes(&self, view: View<'_>, demand: Demand) -> [(VmKind, Resources); 2] {
        let regular = self.wants(demand.regular);
        let there = regular.max(view.has(VmKind::Regular));
        let harvest = self.wants(demand.harvest).max(self.settings.least - there);
        [(VmKind::Regular, regular), (VmKind::Harvest, harvest)]
    }

    fn grow(&self, view: View<'_>, wishes: [(VmKind, Resources); 2], orders: &mut Vec<Order>) {
        let mut size: Resources = view.staying().map(|vm| vm.size).sum();
        // Who leaves is paid for until it is gone, but its replacement must not wait for that.
        let mut cost: u64 = view.staying().map(|vm| self.settings.cost(vm.kind, vm.size)).sum();
        for (kind, wanted) in wishes {
            let new = self.settings.size(kind);
            let price = self.settings.cost(kind, new);
            let mut count = 0;
            for _ in 0..covering(wanted - view.has(kind), new) {
                let affordable = self.settings.budget == 0 || cost + price <= self.settings.budget;
                if !(size + new).fits_in(self.settings.most) || !affordable {
                    break;
                }
                (size, cost, count) = (size + new, cost + price, count + 1);
            }
            if count > 0 {
                orders.push(Order::Launch { kind, size: new, count });
            }
        }
    }

    fn shrink(&mut self, now: Moment, view: View<'_>, demand: Demand, orders: &mut Vec<Order>) {
        for (kind, load) in [(VmKind::Regular, demand.regular), (VmKind::Harvest, demand.harvest)] {
            let wanted = self.wants(load);
            let Some(vm) = self.not_needed(view, kind, wanted) else {
                self.spare_since.remove(&kind);
                continue;
            };
            let since = *self.spare_since.entry(kind).or_insert(now);
            let due = (since + self.settings.idle_for).max(self.next_drain);
            if due <= now {
                self.next_drain = now + self.settings.between_drains;
                orders.push(Order::Drain(vm));
                self.look_again(self.next_drain);
            } else {
                self.look_again(due);
            }
        }
    }

    /// The idlest VM (then the smallest, then the newest) without which there would still be more than enough.
    fn not_needed(&self, view: View<'_>, kind: VmKind, wanted: Resources) -> Option<VmId> {
        let enough = Resources {
            cpu: more(wanted.cpu, self.settings.hysteresis),
            memory: wanted.memory.scaled(1_000 + u64::from(self.settings.hysteresis), 1_000),
        };
        let (has, all) = (view.has(kind), view.staying().map(|vm| vm.size).sum::<Resources>());
        view.staying()
            .filter(|vm| vm.kind == kind && vm.stage == Stage::Open)
            // The least size is no matter of more or less.
            .filter(|vm| enough.fits_in(has - vm.size) && self.settings.least.fits_in(all - vm.size))
            .min_by_key(|vm| (vm.running, vm.size.cpu, Reverse(vm.vm)))
            .map(|vm| vm.vm)
    }

    fn look_again(&mut self, at: Moment) {
        self.next_look = Some(self.next_look.map_or(at, |next| next.min(at)));
    }
}

fn more(cpu: MilliCores, by: u32) -> MilliCores {
    cpu.scaled(1_000 + u64::from(by), 1_000)
}

impl Fleet for LoadAware {
    fn name(&self) -> &'static str {
        "load-aware"
    }

    fn look(&mut self, now: Moment, view: View<'_>, orders: &mut Vec<Order>) {
        self.next_look = None;
        // Nobody has said what is asked for: what is there stays.
        let Some(demand) = view.demand else {
            self.spare_since.clear();
            return self.grow(view, self.wishes(view, Demand::default()), orders);
        };
        let wishes = self.wishes(view, demand);
        self.grow(view, wishes, orders);
        if orders.is_empty() {
            self.shrink(now, view, demand, orders);
        } else {
            self.spare_since.clear();
        }
    }

    fn next_look(&self) -> Option<Moment> {
        self.next_look
    }
}
