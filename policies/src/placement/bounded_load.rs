//! Consistent hashing with bounded loads: home, unless home has more than its share and a bit; then the next along the ring.
//!
//! **Knows:** a ring, and what is booked on each VM and on all together.
//! **Promises:** no VM is chosen that would then have more than `1 + epsilon` times its share of all booked CPU, unless none
//! with room is below that. A VM's share is that of its cores among all that take work.
//! **Gives up:** warm sandboxes elsewhere: it trusts that what is chosen again and again is warm. VMs beyond the first
//! thousands of points on the way.
//!
//! Source: Mirrokni, Thorup, Zadimoghaddam, "Consistent Hashing with Bounded Loads", SODA 2018. There all bins are equal and
//! all balls are one, so a bin holds at most `ceil((1 + epsilon) * balls / bins)`; here bins have cores and balls are
//! millicores, and what is alone may always go home. They move balls when others leave; an invocation does not move.

use vocabulary::{FunctionId, Moment};

use super::ring::Ring;
use super::{Ask, Books, Choice, NoHome, Placement, Settings, Slot};

/// Points that are looked at in one decision.
const POINTS: usize = 4_096;

/// See the module.
pub struct BoundedLoad {
    ring: Ring,
    /// In thousandths.
    bound: u64,
}

impl BoundedLoad {
    /// On an empty ring.
    pub fn new(settings: &Settings) -> Self {
        Self { ring: Ring::new(settings.points_per_core), bound: u64::from(settings.load_bound.max(1_000)) }
    }

    /// The most that may be booked on a VM once `demand` is added to all that is.
    fn most(&self, books: &Books, slot: Slot, demand: u64) -> u64 {
        let (cpu, booked) = books.open_cpu(books.kind(slot));
        let share = u128::from(booked + demand) * u128::from(books.capacity(slot).cpu.0);
        let most = (share * u128::from(self.bound)).div_ceil(u128::from(cpu.max(1)) * 1_000);
        u64::try_from(most).unwrap_or(u64::MAX).max(demand)
    }

    fn walk(&self, start: usize) -> impl Iterator<Item = Slot> {
        (0..POINTS).map_while(move |steps| self.ring.owner_after(start, steps))
    }
}

impl Placement for BoundedLoad {
    fn name(&self) -> &'static str {
        "bounded-load"
    }

    fn offer(&mut self, books: &Books, slot: Slot) {
        self.ring.set(slot, books.vm(slot), books.capacity(slot));
    }

    fn withdraw(&mut self, slot: Slot) {
        self.ring.remove(slot);
    }

    fn place(&mut self, _now: Moment, books: &Books, ask: &Ask) -> Result<Choice, NoHome> {
        let demand = u64::from(ask.demand.cpu.0);
        let mut beyond = None;
        let mut chosen = None;
        let start = self.ring.start(ask.function);
        for slot in self.walk(start) {
            if !books.has_room(slot, ask) {
                continue;
            }
            if u64::from(books.booked(slot).cpu.0) + demand <= self.most(books, slot, demand) {
                chosen = Some(slot);
                break;
            }
            beyond = beyond.or(Some(slot));
        }
        let slot = chosen.or(beyond).ok_or_else(|| NoHome::of(books, ask))?;
        let warm = books.idle(ask.function, ask.revision, slot) > 0;
        Ok(Choice { vm: books.vm(slot), slot, warm })
    }

    fn next_home(&mut self, books: &Books, ask: &Ask) -> Option<Slot> {
        let has_room = |slot: &Slot| books.has_room(*slot, ask);
        let start = self.ring.start(ask.function);
        self.walk(start)
            .find(has_room)
            .or_else(|| self.walk(start).find(|&slot| books.kind(slot) == ask.kind))
    }

    fn forget(&mut self, _function: FunctionId) {}
}

#[cfg(test)]
mod tests {
    use vocabulary::{Resources, Revision, VmId, VmKind};

    use super::*;

    fn house(cores: &[u32]) -> (Books, BoundedLoad) {
        let mut books = Books::new(10);
        let mut placement = BoundedLoad::new(&Settings::default());
        for (id, &cores) in cores.iter().enumerate() {
            let slot = books.add(VmId(id as u64 + 1), VmKind::Harvest, Resources::new(cores * 1_000, 65_536));
            books.set_takes_work(slot, true);
            placement.offer(&books, slot);
        }
        (books, placement)
    }

    fn ask(function: u64) -> Ask {
        Ask {
            function: FunctionId(function),
            revision: Revision(1),
            demand: Resources::new(1_000, 128),
            concurrency_milli: 0,
            kind: VmKind::Harvest,
            ends: Moment::NEVER,
        }
    }

    #[test]
    fn one_function_spreads_only_as_its_load_grows() {
        let (mut books, mut placement) = house(&[16; 4]);
        let mut place = |books: &mut Books| {
            let choice = placement.place(Moment::ORIGIN, books, &ask(1)).unwrap();
            books.book_own(choice.slot, ask(1).demand);
            choice.slot
        };
        let home = place(&mut books);
        // The second: 1.25 * 2,000 * 16 / 64 = 625 millicores, and one alone is always allowed. So home, which has one,
        // may not have two, and the next gets it; so too the third and the fourth.
        let mut chosen = vec![home];
        (0..3).for_each(|_| chosen.push(place(&mut books)));
        let mut different = chosen.clone();
        different.sort_unstable();
        different.dedup();
        assert_eq!(different.len(), 4, "{chosen:?}");
        // With four booked and the fifth: 1.25 * 5,000 / 4 = 1,563: nobody may have two, so home takes it beyond the bound.
        assert_eq!(place(&mut books), home);
        // Seven: 1.25 * 7,000 / 4 = 2,188: two are allowed now.
        chosen = (0..2).map(|_| place(&mut books)).collect();
        assert!(chosen.iter().all(|&slot| slot != home || books.booked(slot).cpu.0 <= 3_000));
    }

    #[test]
    fn nobody_gets_much_more_than_its_share() {
        let (mut books, mut placement) = house(&[4, 8, 16, 32]);
        for n in 0..48 {
            let choice = placement.place(Moment::ORIGIN, &books, &ask(n % 3)).unwrap();
            books.book_own(choice.slot, ask(0).demand);
        }
        for slot in books.vms() {
            let (booked, cores) = (books.booked(slot).cpu.0, books.capacity(slot).cpu.0);
            // Share: 48/60 of its cores; a bound of 1.25 is all of them.
            assert!(booked <= cores, "{booked} of {cores}");
            assert!(booked >= cores / 4, "{booked} of {cores}");
        }
    }

    #[test]
    fn the_sums_over_all_vms_are_kept() {
        let (mut books, _) = house(&[4, 8]);
        let slot = books.vms().next().unwrap();
        books.book_own(slot, Resources::new(1_500, 1));
        books.set_foreign(slot, Resources::new(500, 1));
        assert_eq!(books.open_cpu(VmKind::Harvest), (12_000, 2_000));
        books.set_capacity(slot, Resources::new(2_000, 1));
        books.release_own(slot, Resources::new(500, 1));
        assert_eq!(books.open_cpu(VmKind::Harvest), (10_000, 1_500));
        books.set_takes_work(slot, false);
        assert_eq!(books.open_cpu(VmKind::Harvest), (8_000, 0));
        books.remove(slot);
        assert_eq!(books.open_cpu(VmKind::Harvest), (8_000, 0));
    }
}
