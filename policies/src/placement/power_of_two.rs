//! The power of two choices: of two VMs drawn by lot, the less loaded.
//!
//! **Knows:** which VMs take work, and the books.
//! **Promises:** one decision costs the same however many VMs there are, as long as not nearly all are full.
//! **Gives up:** warm sandboxes. To look for one first would make another policy of it, whose cold starts say nothing of the
//! lot any more; who wants both has `mws`.
//!
//! Source: Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing", IEEE TPDS 2001. There every server takes
//! what comes; here it must have room, so full ones are drawn again a few times, and then the VMs are gone through from where
//! the last lot fell.

use vocabulary::{FunctionId, Moment};

use super::books::fullness;
use super::{Ask, Books, Choice, NoHome, Placement, Settings, Slot};
use crate::chance::Chance;
use crate::hash::Map;

/// Pairs that are drawn before the VMs are gone through one after the other.
const PAIRS: usize = 4;

/// See the module.
#[derive(Debug)]
pub struct PowerOfTwo {
    chance: Chance,
    open: Vec<Slot>,
    place_of: Map<Slot, usize>,
}

impl PowerOfTwo {
    /// Without VMs.
    pub fn new(settings: &Settings) -> Self {
        let chance = Chance::new(settings.seed, "power-of-two: lots");
        Self { chance, open: Vec::new(), place_of: Map::default() }
    }

    fn choose(&mut self, books: &Books, ask: &Ask) -> Option<Slot> {
        if self.open.is_empty() {
            return None;
        }
        let has_room = |slot: &Slot| books.has_room(*slot, ask);
        let mut last = 0;
        for _ in 0..PAIRS {
            let first = self.chance.below(self.open.len());
            // Of the others, so that the two differ.
            last = (first + 1 + self.chance.below(self.open.len().max(2) - 1)) % self.open.len();
            let pair = [self.open[first], self.open[last]];
            let best = pair
                .into_iter()
                .filter(has_room)
                .min_by_key(|&slot| (fullness(books, slot, ask.demand), books.vm(slot)));
            if best.is_some() {
                return best;
            }
        }
        let (before, after) = self.open.split_at(last);
        after.iter().chain(before).copied().find(|slot| has_room(slot))
    }
}

impl Placement for PowerOfTwo {
    fn name(&self) -> &'static str {
        "power-of-two"
    }

    fn offer(&mut self, _books: &Books, slot: Slot) {
        if !self.place_of.contains_key(&slot) {
            self.place_of.insert(slot, self.open.len());
            self.open.push(slot);
        }
    }

    fn withdraw(&mut self, slot: Slot) {
        if let Some(place) = self.place_of.remove(&slot) {
            self.open.swap_remove(place);
            if let Some(&moved) = self.open.get(place) {
                self.place_of.insert(moved, place);
            }
        }
    }

    fn place(&mut self, _now: Moment, books: &Books, ask: &Ask) -> Result<Choice, NoHome> {
        let slot = self.choose(books, ask).ok_or_else(|| NoHome::of(books, ask))?;
        let warm = books.idle(ask.function, ask.revision, slot) > 0;
        Ok(Choice { vm: books.vm(slot), slot, warm })
    }

    fn next_home(&mut self, books: &Books, ask: &Ask) -> Option<Slot> {
        self.choose(books, ask)
    }

    fn forget(&mut self, _function: FunctionId) {}
}

#[cfg(test)]
mod tests {
    use vocabulary::{Resources, Revision, VmId, VmKind};

    use super::*;

    fn house(vms: u64) -> (Books, PowerOfTwo) {
        let mut books = Books::new(10);
        let mut placement = PowerOfTwo::new(&Settings::default());
        for id in 0..vms {
            let slot = books.add(VmId(id), VmKind::Harvest, Resources::new(4_000, 65_536));
            books.set_takes_work(slot, true);
            placement.offer(&books, slot);
        }
        (books, placement)
    }

    const ASK: Ask = Ask {
        function: FunctionId(1),
        revision: Revision(1),
        demand: Resources { cpu: vocabulary::MilliCores(1_000), memory: vocabulary::Mebibytes(128) },
        concurrency_milli: 0,
        kind: VmKind::Harvest,
        ends: Moment::NEVER,
    };

    #[test]
    fn of_two_the_less_loaded_always_wins() {
        let (mut books, mut placement) = house(2);
        for n in 0..8_u32 {
            let choice = placement.place(Moment::ORIGIN, &books, &ASK).unwrap();
            assert_eq!(books.booked(choice.slot).cpu.0 / 1_000, n / 2);
            books.book_own(choice.slot, ASK.demand);
        }
        assert!(matches!(placement.place(Moment::ORIGIN, &books, &ASK), Err(NoHome::NotNow { .. })));
    }

    #[test]
    fn two_choices_leave_far_less_imbalance_than_one() {
        // A thousand balls in a thousand bins: about ln ln n / ln 2 + 1 = 3.8 with two choices, 5.6 and more with one.
        let (mut books, mut placement) = house(1_000);
        for _ in 0..1_000 {
            let choice = placement.place(Moment::ORIGIN, &books, &ASK).unwrap();
            books.book_own(choice.slot, ASK.demand);
        }
        let most = books.vms().map(|slot| books.booked(slot).cpu.0).max().unwrap();
        assert!((2_000..=4_000).contains(&most), "{most}");
    }

    #[test]
    fn the_last_vm_with_room_is_found_and_who_left_is_not() {
        let (mut books, mut placement) = house(100);
        for slot in books.vms().collect::<Vec<_>>() {
            if books.vm(slot) != VmId(77) {
                books.book_own(slot, Resources::new(4_000, 0));
            }
        }
        let choice = placement.place(Moment::ORIGIN, &books, &ASK).unwrap();
        assert_eq!(choice.vm, VmId(77));
        placement.withdraw(choice.slot);
        assert!(placement.open.iter().all(|&slot| slot != choice.slot));
        assert!(placement.place(Moment::ORIGIN, &books, &ASK).is_err());
        assert!(placement.open.iter().enumerate().all(|(at, slot)| placement.place_of[slot] == at));
    }

    #[test]
    fn one_vm_is_both_choices() {
        let (books, mut placement) = house(1);
        assert_eq!(placement.place(Moment::ORIGIN, &books, &ASK).unwrap().vm, VmId(0));
    }
}
