use vocabulary::{Mebibytes, OnEviction, Revision, Usage, VmId, VmKind};

use super::*;

/// VMs that report to use so much.
struct House {
    books: Books,
    mws: MwsSosp21,
}

const F: FunctionId = FunctionId(1);

fn at(ms: u64) -> Moment {
    Moment::ORIGIN + Span::seconds(1_000) + Span::millis(ms)
}

fn card(memory: u32) -> FunctionCard {
    FunctionCard {
        id: F,
        revision: Revision(1),
        reservation: Resources::new(1_000, memory),
        timeout: Span::seconds(60),
        on_eviction: OnEviction::Rerun,
        application: None,
    }
}

impl House {
    /// (cores, used millicores) of VMs with 10,000 MiB, in ring order from the function's home.
    fn of(vms: &[(u32, u32)]) -> Self {
        let mut books = Books::new(10);
        let mut mws = MwsSosp21::default();
        for id in 0..vms.len() as u64 {
            let slot = books.add(VmId(id), VmKind::Harvest, Resources::new(1_000, 10_000));
            books.set_takes_work(slot, true);
            mws.offer(&books, slot);
        }
        let home = mws.home(F);
        for (n, &(cores, used)) in vms.iter().enumerate() {
            let (_, slot) = mws.ring[(home + n) % vms.len()];
            books.set_capacity(slot, Resources::new(cores * 1_000, 10_000));
            books.uses(slot, Resources::new(used, 0));
        }
        Self { books, mws }
    }

    /// The n-th VM from home.
    fn nth(&self, n: usize) -> Slot {
        self.mws.ring[(self.mws.home(F) + n) % self.mws.ring.len()].1
    }

    /// Where along the ring from home it is sent.
    fn place(&mut self, ms: u64) -> usize {
        let grant = self.mws.grant(&self.books, &card(128), Grant::fixed(Resources::ZERO));
        let ask = Ask {
            function: F,
            revision: Revision(1),
            demand: grant.booked,
            concurrency_milli: 999_000,
            kind: VmKind::Harvest,
            ends: Moment::NEVER,
        };
        let choice = self.mws.place(at(ms), &self.books, &ask).unwrap();
        (0..self.mws.ring.len()).find(|&n| self.nth(n) == choice.slot).unwrap()
    }

    /// Five runs of one core and this length, so that the profile is refreshed: use 1.0, limit ceil(1.5 * 1.0) = 2.
    fn learn(&mut self, ms: u64) {
        let usage = Usage {
            cpu_time: Span::millis(ms),
            cpu_peak: MilliCores(0),
            memory_peak: Mebibytes(0),
            throttled: Span::ZERO,
            safeguarded: false,
        };
        let ran = Ran { function: F, duration: Span::millis(ms), usage };
        (0..5).for_each(|_| self.mws.ended(at(0), &ran));
    }

    /// Two arrivals with this gap: the rate is one by that, for ever (B1).
    fn arrive(&mut self, gap_ms: u64) {
        self.mws.arrived(at(0), F);
        self.mws.arrived(at(gap_ms), F);
    }
}

#[test]
fn without_a_rate_the_set_is_home_alone() {
    let mut house = House::of(&[(10, 0), (10, 0), (10, 0)]);
    assert_eq!(house.place(0), 0);
    assert_eq!(house.mws.set_size(F), 1);
}

#[test]
fn demand_is_rate_times_length_times_use_against_what_is_left_of_seven_tenths() {
    let mut house = House::of(&[(10, 2_000), (10, 1_000), (10, 0), (10, 0)]);
    house.learn(2_000);
    house.arrive(250);
    // Need: 4/s * 2 s * 1 core = 8 cores. Left: 7 - 2 = 5, then 7 - 1 = 6: 5 < 8 <= 11, so two VMs do;
    // of them the second has the lower score: 1/7 against 2/7.
    assert_eq!(house.place(300), 1);
    assert_eq!(house.mws.set_size(F), 2);
}

#[test]
fn its_own_running_load_is_counted_twice() {
    // B2: eight of its own run on the first two already, which is all it needs; but only what is left counts.
    let mut house = House::of(&[(10, 4_000), (10, 4_000), (10, 0), (10, 0)]);
    house.learn(2_000);
    house.arrive(250);
    // Left: 3 + 3 = 6 < 8, + 7 = 13: three VMs, where 14 cores of two would have been enough for the 8.
    assert_eq!(house.place(300), 2);
    assert_eq!(house.mws.set_size(F), 3);
}

#[test]
fn the_least_used_is_taken_though_home_has_it_warm() {
    let mut house = House::of(&[(10, 2_000), (10, 1_000)]);
    house.learn(2_000);
    house.arrive(250);
    let home = house.nth(0);
    house.books.put_idle(F, Revision(1), home, 3);
    assert_eq!(house.place(300), 1, "B3");
}

#[test]
fn what_was_sent_since_the_last_report_is_not_seen() {
    let mut house = House::of(&[(10, 0), (10, 1_000)]);
    house.learn(2_000);
    house.arrive(250);
    for _ in 0..50 {
        assert_eq!(house.place(300), 0, "B4");
        let home = house.nth(0);
        house.books.book_own(home, Resources::new(1_000, 128));
    }
}

#[test]
fn a_vm_needs_more_cores_than_the_container_may_use_and_only_then_does_it_fit() {
    let mut house = House::of(&[(2, 0), (3, 0)]);
    // The limit before any profile is 2 cores: the VM with 2 is not "fit".
    assert_eq!(house.place(0), 1);
    assert_eq!(house.mws.set_size(F), 2, "but it was a step on the way");
}

#[test]
fn if_none_fits_the_least_overloaded_gets_it_all_the_same() {
    let mut house = House::of(&[(10, 9_000), (10, 8_000), (10, 8_500)]);
    assert_eq!(house.place(0), 1);
    assert_eq!(house.mws.set_size(F), 3, "the whole ring");
    for slot in house.books.vms().collect::<Vec<_>>() {
        house.books.set_takes_work(slot, false);
    }
    let ask = Ask {
        function: F,
        revision: Revision(1),
        demand: Resources::new(1_000, 128),
        concurrency_milli: 0,
        kind: VmKind::Harvest,
        ends: Moment::NEVER,
    };
    assert!(house.mws.place(at(0), &house.books, &ask).is_err());
}

#[test]
fn a_set_grows_at_once_and_shrinks_every_thirty_seconds() {
    let mut house = House::of(&[(10, 4_000), (10, 4_000), (10, 0), (10, 0)]);
    house.learn(2_000);
    house.arrive(250);
    house.place(0);
    assert_eq!(house.mws.set_size(F), 3);
    // Idle now: 7 + 7 >= 8, two would do. The first shrink may come at any time.
    for n in 0..2 {
        let slot = house.nth(n);
        house.books.uses(slot, Resources::ZERO);
    }
    house.place(1_000);
    assert_eq!(house.mws.set_size(F), 2);
    // 20 cores are wanted: 7 + 7 + 7. Then 8 again, but 30 s have not passed since the last shrink.
    house.learn(8_000);
    house.place(2_000);
    assert_eq!(house.mws.set_size(F), 3);
    (0..40).for_each(|_| house.learn(1_000));
    house.place(30_999);
    assert_eq!(house.mws.set_size(F), 3);
    house.place(31_000);
    assert!(house.mws.set_size(F) < 3);
}

#[test]
fn at_a_notice_homes_stay_and_the_vm_is_a_step_that_bears_nothing() {
    let mut house = House::of(&[(10, 0), (10, 0), (10, 0)]);
    house.place(0);
    let home = house.nth(0);
    house.books.set_takes_work(home, false);
    house.mws.withdraw(home);
    assert_eq!(house.place(0), 1);
    assert_eq!(house.mws.set_size(F), 2, "B7: one VM bears it, but the set is two");
    assert_eq!(house.nth(0), home);
    house.mws.gone(home);
    house.books.remove(home);
    assert_eq!(house.place(0), 0);
    assert_eq!(house.mws.set_size(F), 1, "home has moved, so the size is taken as it is");
}

#[test]
fn the_ring_has_five_hundred_ids_and_one_point_per_vm() {
    let mut books = Books::new(1);
    let mut mws = MwsSosp21::default();
    for id in 0..600 {
        let slot = books.add(VmId(id), VmKind::Harvest, Resources::new(1_000, 1));
        mws.offer(&books, slot);
        mws.offer(&books, slot);
    }
    assert_eq!(mws.ring.len(), 500);
    assert!(mws.ring.iter().enumerate().all(|(n, &(id, _))| n == usize::from(id)));
}
