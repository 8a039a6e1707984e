//! So many VMs of one kind and size.
//!
//! **Knows:** the target.
//! **Promises:** as many VMs that take work, or soon will, as the target says; the newest leave first, at once.
//! **Gives up:** the load.

use vocabulary::{Moment, VmId};

use super::{Fleet, Order, Stage, View};
use crate::provisioning::Target;

/// See the module.
#[derive(Debug, Clone, Copy)]
pub struct Count(pub Target);

impl Fleet for Count {
    fn name(&self) -> &'static str {
        "count"
    }

    fn look(&mut self, _now: Moment, view: View<'_>, orders: &mut Vec<Order>) {
        let Target { vms, kind, size } = self.0;
        let there = view.staying().count() as u32;
        if there < vms {
            orders.push(Order::Launch { kind, size, count: vms - there });
        }
        let surplus = there.saturating_sub(vms) as usize;
        if surplus == 0 {
            return;
        }
        // First those that have not come up yet, then the newest.
        let mut newest: Vec<(bool, VmId)> =
            view.staying().map(|vm| (vm.stage == Stage::Starting, vm.vm)).collect();
        newest.sort_unstable_by_key(|&vm| std::cmp::Reverse(vm));
        orders.extend(newest.into_iter().take(surplus).map(|(_, vm)| Order::Retire(vm)));
    }

    fn needs_sizes(&self) -> bool {
        false
    }

    fn next_look(&self) -> Option<Moment> {
        None
    }
}
