//! What is asked for, for whoever keeps the fleet.
//!
//! **Knows:** what is booked, who waits, and how many of each function run at once on average.
//! **Promises:** each is counted for the kind of VM that the reliability strategy would have first.
//! **Gives up:** what other Controllers are asked for; they say so themselves. O(VMs and functions): for every few seconds.

use vocabulary::{Demand, Load, Resources, VmKind};

use super::Dispatch;

impl Dispatch {
    /// What is asked for now.
    pub fn demand(&self) -> Demand {
        let mut demand = Demand::default();
        for slot in self.books.vms() {
            of(&mut demand, self.books.kind(slot)).running += self.books.booked_by_us(slot);
        }
        // Sums do not mind the order of maps.
        for (id, waiting) in self.queues.by_function() {
            let Some(card) = self.functions.get(&id).and_then(|function| function.card) else { continue };
            let load = of(&mut demand, self.kinds(&card).first());
            load.waiting += times(card.reservation, u64::from(waiting) * 1_000);
            load.largest = load.largest.max(card.reservation);
        }
        for function in self.functions.values() {
            let Some(card) = function.card else { continue };
            let concurrency_milli = function.profile.concurrency_milli(self.now);
            if concurrency_milli > 0 {
                let load = of(&mut demand, self.kinds(&card).first());
                load.predicted += times(card.reservation, concurrency_milli);
            }
        }
        demand
    }
}

fn of(demand: &mut Demand, kind: VmKind) -> &mut Load {
    match kind {
        VmKind::Regular => &mut demand.regular,
        VmKind::Harvest => &mut demand.harvest,
    }
}

fn times(amount: Resources, milli: u64) -> Resources {
    Resources { cpu: amount.cpu.scaled(milli, 1_000), memory: amount.memory.scaled(milli, 1_000) }
}
