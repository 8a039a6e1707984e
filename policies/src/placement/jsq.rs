//! Join the shortest queue: the least loaded VM that fits, as the SOSP'21 authors' fork of OpenWhisk scores it.
//!
//! **Knows:** capacity and bookings of every VM.
//! **Promises:** no VM that fits would be less full, by three times CPU plus memory, with the invocation on it.
//! **Gives up:** warm sandboxes, which it does not look for (the fork's cold-start rate is three times that of its
//! MWS), and speed: O(VMs) per decision. It is here to be compared with. Unlike the fork it does not overload a VM when
//! none fits; the invocation waits.

use vocabulary::{FunctionId, Moment, VmId};

use super::books::fullness;
use super::{Ask, Books, Choice, NoHome, Placement, Slot};

/// See the module.
#[derive(Debug, Clone, Copy, Default)]
pub struct Jsq;

/// How well a VM suits. Smaller is better, compared top to bottom.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Score {
    fullness: u64, // The least loaded.
    vm: VmId,      // Ties always end the same way.
}

impl Jsq {
    fn best(books: &Books, ask: &Ask) -> Option<Slot> {
        books
            .vms()
            .filter(|&slot| books.has_room(slot, ask))
            .min_by_key(|&slot| Score { fullness: fullness(books, slot, ask.demand), vm: books.vm(slot) })
    }
}

impl Placement for Jsq {
    fn name(&self) -> &'static str {
        "jsq"
    }

    fn offer(&mut self, _books: &Books, _slot: Slot) {}

    fn withdraw(&mut self, _slot: Slot) {}

    fn place(&mut self, _now: Moment, books: &Books, ask: &Ask) -> Result<Choice, NoHome> {
        match Self::best(books, ask) {
            Some(slot) => Ok(Choice {
                vm: books.vm(slot),
                slot,
                warm: books.idle(ask.function, ask.revision, slot) > 0,
            }),
            None => Err(NoHome::of(books, ask)),
        }
    }

    fn next_home(&mut self, books: &Books, ask: &Ask) -> Option<Slot> {
        Self::best(books, ask)
    }

    fn forget(&mut self, _function: FunctionId) {}
}

#[cfg(test)]
mod tests {
    use vocabulary::{Resources, Revision, VmKind};

    use super::*;

    fn ask(cpu: u32) -> Ask {
        Ask {
            function: FunctionId(1),
            revision: Revision(1),
            demand: Resources::new(cpu, 128),
            concurrency_milli: 0,
            kind: VmKind::Harvest,
            ends: Moment::NEVER,
        }
    }

    #[test]
    fn the_least_loaded_vm_that_fits_is_chosen() {
        let mut books = Books::new(10);
        for (id, cores, booked) in [(1, 4, 3_000), (2, 8, 3_000), (3, 2, 1_500)] {
            let slot = books.add(VmId(id), VmKind::Harvest, Resources::new(cores * 1_000, 8_192));
            books.set_takes_work(slot, true);
            books.book_own(slot, Resources::new(booked, 512));
        }
        let chosen = |cpu| Jsq.place(Moment::ORIGIN, &books, &ask(cpu)).map(|choice| choice.vm);
        assert_eq!(chosen(500), Ok(VmId(2)));
        assert_eq!(chosen(5_000), Ok(VmId(2)));
        assert!(matches!(chosen(6_000), Err(NoHome::NotNow { .. })));
        assert!(matches!(chosen(9_000), Err(NoHome::Never { .. })));
    }

    #[test]
    fn the_lower_id_ends_a_tie() {
        let mut books = Books::new(10);
        for id in [5, 4, 6] {
            let slot = books.add(VmId(id), VmKind::Harvest, Resources::new(4_000, 8_192));
            books.set_takes_work(slot, true);
        }
        assert_eq!(Jsq.place(Moment::ORIGIN, &books, &ask(1)).unwrap().vm, VmId(4));
    }
}
