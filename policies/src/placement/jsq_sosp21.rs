//! Join the shortest queue as the SOSP'21 authors' fork has it. Ours is [`jsq`](super::jsq).
//!
//! **Knows:** what it has sent to each VM and not heard the end of, by the use that its profiles foretell; each VM's cores.
//! **Promises:** of the VMs on which the invocation fits, the one with the least three times CPU plus memory; if it fits
//! nowhere, the one with the least of all.
//! **Gives up:** warm containers, queues at the Controller (what is sent waits at the invoker), and speed: O(VMs).
//!
//! Source: zyqCSL/openwhisk_archive, fork `...-distributed-jsq`. A VM's capacity is divided by the number of controllers
//! there, because each knows its own books only. Here the books have what all sent, of which each is taken to have sent its part: a
//! call weighs as many times as there are controllers ([`JsqSosp21::of`]), so that small VMs look full sooner.

use vocabulary::{FunctionCard, FunctionId, Grant, MilliCores, Moment, Resources};

use super::sosp21::{Profile, Rules};
use super::{Ask, Binding, Books, Choice, NoHome, Placement, Ran, Slot};
use crate::hash::Map;

/// Of a VM's CPU and memory that is meant to be used, in thousandths.
const UTILISATION: u64 = 700;

/// How well a VM suits. Smaller is better, compared top to bottom.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Score {
    does_not_fit: bool, // Who has room, if anybody has.
    fullness: u64,      // Then the least loaded.
    slot: Slot,         // The first of equals.
}

/// See the module.
#[derive(Debug, Default)]
pub struct JsqSosp21 {
    /// Other controllers that see as many of the calls.
    others: u32,
    /// With what its containers may use, as last granted.
    functions: Map<FunctionId, (Profile, MilliCores)>,
}

impl JsqSosp21 {
    /// One of so many controllers.
    pub fn of(controllers: u32) -> Self {
        Self { others: controllers.saturating_sub(1), ..Self::default() }
    }

    fn known(&mut self, function: FunctionId) -> &mut (Profile, MilliCores) {
        self.functions.entry(function).or_insert_with(|| (Profile::new(Rules::JSQ), MilliCores::ZERO))
    }
}

fn score(books: &Books, slot: Slot, demand: Resources, limit: MilliCores) -> Score {
    let meant = |whole: u32| u64::from(whole) * UTILISATION / 1_000;
    let (capacity, asked) = (books.capacity(slot), books.booked(slot) + demand);
    let (cpu, memory) = (meant(capacity.cpu.0), meant(capacity.memory.0));
    let (asked_cpu, asked_memory) = (u64::from(asked.cpu.0), u64::from(asked.memory.0));
    let fits = asked_cpu <= cpu && asked_memory <= memory && capacity.cpu >= limit;
    let fullness = 3 * (asked_cpu * 1_000_000 / cpu.max(1)) + asked_memory * 1_000_000 / memory.max(1);
    Score { does_not_fit: !fits, fullness, slot }
}

impl Placement for JsqSosp21 {
    fn name(&self) -> &'static str {
        "jsq-sosp21"
    }

    fn offer(&mut self, _books: &Books, _slot: Slot) {}

    fn withdraw(&mut self, _slot: Slot) {}

    fn place(&mut self, _now: Moment, books: &Books, ask: &Ask) -> Result<Choice, NoHome> {
        let limit = self.known(ask.function).1;
        // (booked / n + demand) / (capacity / n)
        let times = u64::from(self.others + 1);
        let demand =
            Resources { cpu: ask.demand.cpu.scaled(times, 1), memory: ask.demand.memory.scaled(times, 1) };
        let open = books.vms().filter(|&slot| books.accepts(slot, ask.kind));
        let best = open.map(|slot| score(books, slot, demand, limit)).min();
        let slot = best.ok_or_else(|| NoHome::of(books, ask))?.slot;
        let warm = books.idle(ask.function, ask.revision, slot) > 0;
        Ok(Choice { vm: books.vm(slot), slot, warm })
    }

    /// Nothing is made beforehand.
    fn next_home(&mut self, _books: &Books, _ask: &Ask) -> Option<Slot> {
        None
    }

    fn forget(&mut self, function: FunctionId) {
        self.functions.remove(&function);
    }

    fn binding(&self) -> Binding {
        Binding::Early
    }

    fn grant(&mut self, _books: &Books, function: &FunctionCard, _grant: Grant) -> Grant {
        let (profile, limit) = self.known(function.id);
        let grant = profile.grant(function);
        *limit = grant.ceiling.cpu;
        grant
    }

    fn ended(&mut self, _now: Moment, ran: &Ran) {
        self.known(ran.function).0.ended(ran.duration, &ran.usage);
    }
}

#[cfg(test)]
mod tests {
    use vocabulary::{Revision, VmId, VmKind};

    use super::*;

    fn books(vms: &[(u32, u32, u32)]) -> Books {
        let mut books = Books::new(10);
        for (id, &(cores, booked_cpu, booked_memory)) in vms.iter().enumerate() {
            let size = Resources::new(cores * 1_000, 10_000);
            let slot = books.add(VmId(id as u64 + 1), VmKind::Harvest, size);
            books.set_takes_work(slot, true);
            books.book_own(slot, Resources::new(booked_cpu, booked_memory));
        }
        books
    }

    fn chosen(vms: &[(u32, u32, u32)], cpu: u32, memory: u32, limit: u32) -> u64 {
        let mut jsq = JsqSosp21::default();
        jsq.known(FunctionId(1)).1 = MilliCores(limit);
        let ask = Ask {
            function: FunctionId(1),
            revision: Revision(1),
            demand: Resources::new(cpu, memory),
            concurrency_milli: 0,
            kind: VmKind::Harvest,
            ends: Moment::NEVER,
        };
        jsq.place(Moment::ORIGIN, &books(vms), &ask).unwrap().vm.0
    }

    #[test]
    fn three_times_cpu_plus_memory_decides() {
        // 10 cores and 10,000 MiB, of which 7,000 each are meant to be used.
        // VM 1: 3*(1000+500)/7000 + (6000+500)/7000 = 4500/7000 + 6500/7000 = 1.571
        // VM 2: 3*(2000+500)/7000 + (1000+500)/7000 = 7500/7000 + 1500/7000 = 1.286
        assert_eq!(chosen(&[(10, 1_000, 6_000), (10, 2_000, 1_000)], 500, 500, 1_000), 2);
        // VM 1 at 5000 MiB: 4500/7000 + 5500/7000 = 1.429; VM 2 at 2400 millicores: 8700/7000 + 1500/7000 = 1.457.
        assert_eq!(chosen(&[(10, 1_000, 5_000), (10, 2_400, 1_000)], 500, 500, 1_000), 1);
    }

    #[test]
    fn who_has_room_goes_before_who_has_none() {
        // VM 1: CPU 1000 of 7000, but 6600+500 > 7000 MiB. VM 2: 6000+500 <= 7000 CPU, a higher score.
        assert_eq!(chosen(&[(10, 1_000, 6_600), (10, 6_000, 1_000)], 500, 500, 1_000), 2);
    }

    #[test]
    fn if_nobody_has_room_the_least_overloaded_gets_it_all_the_same() {
        // (9000+500)/7000 against (8000+500)/7000.
        assert_eq!(chosen(&[(10, 9_000, 0), (10, 8_000, 0)], 500, 500, 1_000), 2);
    }

    #[test]
    fn a_vm_with_fewer_cores_than_the_container_may_use_does_not_fit() {
        assert_eq!(chosen(&[(3, 0, 0), (10, 5_000, 0)], 500, 500, 4_000), 2);
        assert_eq!(chosen(&[(3, 0, 0), (10, 5_000, 0)], 500, 500, 3_000), 1);
    }
}
