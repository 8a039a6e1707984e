//! OpenWhisk's own balancer, which shards by hash and counts memory only.
//!
//! **Knows:** how many invokers there are, and the memory in flight on each.
//! **Promises:** a function's invokers are tried in the same order every time, from home on in steps that have no common
//! divisor with their number, and the first with a free slot of memory is taken.
//! **Gives up:** cores: as many containers as memory holds are sent to a VM that has one. If no memory is free, a random
//! invoker gets it. When the number of invokers changes, most homes move.
//!
//! Source: apache/openwhisk, `ShardingContainerPoolBalancer.scala`; the fork that was measured is
//! zyqCSL/openwhisk_archive `openwhisk-mem-compare`. As there, an invoker that is gone keeps its number until another takes it
//! and is stepped over. Different here: it hears of eviction notices, because every placement of ours does. No CPU quota is
//! set, as docker sets none for OpenWhisk.

use vocabulary::{FunctionCard, FunctionId, Grant, Mebibytes, MilliCores, Moment, Resources, VmKind};

use super::sosp21::Hashes;
use super::{Ask, Binding, Books, Choice, NoHome, Placement, Settings, Slot};
use crate::chance::Chance;

/// See the module.
#[derive(Debug)]
pub struct Vanilla {
    slots: Mebibytes,
    hashes: Hashes,
    chance: Chance,
    /// For how many invokers the next is true.
    invokers: usize,
    /// Numbers up to that which have no common divisor with it, nor with those before them.
    steps: Vec<usize>,
}

impl Vanilla {
    /// With memory slots as set.
    pub fn new(settings: &Settings) -> Self {
        Self::with(settings, Hashes::default())
    }

    /// The same, with functions where their names put them.
    pub fn with(settings: &Settings, hashes: Hashes) -> Self {
        let chance = Chance::new(settings.seed, "vanilla: an invoker for what fits nowhere");
        Self { slots: Mebibytes(settings.vanilla_slots_mib), hashes, chance, invokers: 0, steps: vec![] }
    }

    /// The first with a slot that is free, in the function's order.
    fn scheduled(&self, books: &Books, ask: &Ask) -> Option<Slot> {
        let hash = self.hashes.of(ask.function) as usize;
        let step = self.steps[hash % self.steps.len()];
        let home = hash % self.invokers;
        (0..self.invokers).map(|n| Slot(((home + n * step) % self.invokers) as u32)).find(|&slot| {
            let usable = books.exists(slot) && books.accepts(slot, ask.kind);
            usable && {
                let most = self.slots.min(books.capacity(slot).memory);
                books.booked(slot).memory + ask.demand.memory <= most
            }
        })
    }

    /// Any that is healthy, though none has a free slot.
    fn overloaded(&mut self, books: &Books, ask: &Ask) -> Option<Slot> {
        let healthy: Vec<Slot> = books.vms().filter(|&slot| books.accepts(slot, ask.kind)).collect();
        (!healthy.is_empty()).then(|| healthy[self.chance.below(healthy.len())])
    }
}

/// `pairwiseCoprimeNumbersUntil`, as the original has it.
fn steps_until(limit: usize) -> Vec<usize> {
    let mut steps: Vec<usize> = Vec::new();
    for candidate in 1..=limit {
        let coprime = |&other: &usize| greatest_common_divisor(candidate, other) == 1;
        if coprime(&limit) && steps.iter().all(coprime) {
            steps.push(candidate);
        }
    }
    steps
}

fn greatest_common_divisor(a: usize, b: usize) -> usize {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

impl Placement for Vanilla {
    fn name(&self) -> &'static str {
        "vanilla"
    }

    fn offer(&mut self, _books: &Books, _slot: Slot) {}

    fn withdraw(&mut self, _slot: Slot) {}

    fn place(&mut self, _now: Moment, books: &Books, ask: &Ask) -> Result<Choice, NoHome> {
        if self.invokers != books.slots() {
            self.invokers = books.slots();
            self.steps = steps_until(self.invokers);
        }
        if self.invokers == 0 {
            return Err(NoHome::of(books, ask));
        }
        let slot = self.scheduled(books, ask).or_else(|| self.overloaded(books, ask));
        let slot = slot.ok_or_else(|| NoHome::of(books, ask))?;
        let warm = books.idle(ask.function, ask.revision, slot) > 0;
        Ok(Choice { vm: books.vm(slot), slot, warm })
    }

    /// Nothing is made beforehand.
    fn next_home(&mut self, _books: &Books, _ask: &Ask) -> Option<Slot> {
        None
    }

    fn forget(&mut self, _function: FunctionId) {}

    fn binding(&self) -> Binding {
        Binding::Early
    }

    fn grant(&mut self, books: &Books, function: &FunctionCard, grant: Grant) -> Grant {
        let Resources { cpu, memory } = function.reservation;
        let largest = [VmKind::Regular, VmKind::Harvest].map(|kind| books.largest(kind).cpu);
        let all = largest.into_iter().fold(cpu, MilliCores::max);
        Grant { ceiling: Resources { cpu: all, memory }, ..grant }
    }
}

#[cfg(test)]
mod tests {
    use vocabulary::{Revision, VmId};

    use super::*;
    use crate::hash::fixed;

    fn house(vms: u64, memory: u32) -> (Books, Vanilla) {
        let mut books = Books::new(10);
        let vanilla = Vanilla::new(&Settings { vanilla_slots_mib: 1_024, ..Settings::default() });
        for id in 0..vms {
            let slot = books.add(VmId(id), VmKind::Harvest, Resources::new(1_000, memory));
            books.set_takes_work(slot, true);
        }
        (books, vanilla)
    }

    fn ask(function: u64) -> Ask {
        Ask {
            function: FunctionId(function),
            revision: Revision(1),
            demand: Resources::new(1_000, 256),
            concurrency_milli: 0,
            kind: VmKind::Harvest,
            ends: Moment::NEVER,
        }
    }

    #[test]
    fn steps_have_no_common_divisor_with_the_number_of_invokers_nor_with_each_other() {
        // As in the original's own documentation: 10 gives 1, 3, 7 (9 shares 3 with 3).
        assert_eq!(steps_until(10), [1, 3, 7]);
        assert_eq!(steps_until(1), [1]);
        assert_eq!(steps_until(7), [1, 2, 3, 5]);
    }

    #[test]
    fn memory_slots_fill_one_invoker_after_the_other_however_many_cores_they_have() {
        let (mut books, mut vanilla) = house(5, 65_536);
        let hash = fixed(&FunctionId(3)) as usize;
        let step = [1, 2, 3][hash % 3]; // Coprime with 5 and with each other, up to 5.
        for nth in 0..5 {
            let expected = VmId(((hash % 5 + nth * step) % 5) as u64);
            // 1,024 MiB of slots take four of 256 MiB on a VM of one core.
            for _ in 0..4 {
                let choice = vanilla.place(Moment::ORIGIN, &books, &ask(3)).unwrap();
                assert_eq!(choice.vm, expected, "invoker {nth} in its order");
                books.book_own(choice.slot, ask(3).demand);
            }
        }
        // All are full: chance decides, from a stream that repeats.
        let mut drawn = |books: &Books| -> Vec<VmId> {
            (0..20).map(|_| vanilla.place(Moment::ORIGIN, books, &ask(3)).unwrap().vm).collect()
        };
        let first = drawn(&books);
        let (_, mut again) = house(5, 65_536);
        let second: Vec<VmId> =
            (0..20).map(|_| again.place(Moment::ORIGIN, &books, &ask(3)).unwrap().vm).collect();
        assert_eq!(first, second);
        assert!(first.iter().any(|vm| *vm != first[0]), "{first:?}");
    }

    #[test]
    fn a_vm_has_no_more_slots_than_memory() {
        let (mut books, mut vanilla) = house(2, 512);
        let home = vanilla.place(Moment::ORIGIN, &books, &ask(3)).unwrap();
        books.book_own(home.slot, Resources::new(0, 512));
        assert_ne!(vanilla.place(Moment::ORIGIN, &books, &ask(3)).unwrap().vm, home.vm);
    }

    #[test]
    fn who_is_gone_is_stepped_over_and_nobody_left_is_said() {
        let (mut books, mut vanilla) = house(3, 65_536);
        let home = vanilla.place(Moment::ORIGIN, &books, &ask(3)).unwrap();
        books.remove(home.slot);
        assert_ne!(vanilla.place(Moment::ORIGIN, &books, &ask(3)).unwrap().vm, home.vm);
        let left: Vec<Slot> = books.vms().collect();
        left.into_iter().for_each(|slot| books.remove(slot));
        assert!(vanilla.place(Moment::ORIGIN, &books, &ask(3)).is_err());
    }
}
