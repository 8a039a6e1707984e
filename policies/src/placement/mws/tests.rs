use proptest::prelude::*;
use vocabulary::{Revision, Span};

use super::*;

const F: FunctionId = FunctionId(7);
const HARVEST: VmKind = VmKind::Harvest;
const R: Revision = Revision(1);

/// VMs of so many cores, with 4 GiB each per core.
fn house(cores: &[u32]) -> (Books, Mws) {
    let mut books = Books::new(100);
    let mut mws = Mws::new(Settings::default());
    for (index, &cores) in cores.iter().enumerate() {
        let capacity = Resources::new(cores * 1_000, cores * 4_096);
        let slot = books.add(VmId(index as u64 + 1), HARVEST, capacity);
        books.set_takes_work(slot, true);
        mws.offer(&books, slot);
    }
    (books, mws)
}

fn ask(concurrency: u64) -> Ask {
    Ask {
        function: F,
        revision: R,
        demand: Resources::new(1_000, 256),
        concurrency_milli: concurrency * 1_000,
        kind: HARVEST,
        ends: Moment::NEVER,
    }
}

fn at(seconds: u64) -> Moment {
    Moment::ORIGIN + Span::seconds(seconds)
}

#[test]
fn an_idle_function_has_one_vm_its_home() {
    let (books, mut mws) = house(&[8; 10]);
    let choice = mws.place(at(0), &books, &ask(1)).unwrap();
    assert_eq!(mws.set_size(HARVEST, F), 1);
    assert_eq!(Some(choice.slot), mws.home(HARVEST, F));
    assert!(!choice.warm);
}

#[test]
fn the_set_is_the_smallest_whose_total_capacity_covers_the_demand() {
    let (mut books, mut mws) = house(&[10; 10]);
    // Each VM counts for 0.8 of its 10 cores.
    for (concurrency, size) in [(8, 1), (9, 2), (16, 2), (17, 3), (80, 10)] {
        mws.place(at(0), &books, &ask(concurrency)).unwrap();
        assert_eq!(mws.set_size(HARVEST, F), size, "{concurrency} at once");
    }
    // What runs already does not make it wider (B2): nine of ten cores are in use everywhere.
    let (_, mut mws_full) = house(&[10; 10]);
    for slot in books.vms().collect::<Vec<_>>() {
        books.book_own(slot, Resources::new(9_000, 1));
    }
    mws_full.place(at(0), &books, &ask(16)).unwrap();
    assert_eq!(mws_full.set_size(HARVEST, F), 2);
}

#[test]
fn memory_widens_the_set_as_cpu_does() {
    let (books, mut mws) = house(&[10; 10]);
    let large = Ask { demand: Resources::new(100, 16_384), ..ask(4) };
    mws.place(at(0), &books, &large).unwrap();
    // 64 GiB are asked for, each VM counts for 32.
    assert_eq!(mws.set_size(HARVEST, F), 2);
}

#[test]
fn the_set_grows_at_once_and_shrinks_after_thirty_seconds() {
    let (books, mut mws) = house(&[10; 10]);
    mws.place(at(0), &books, &ask(30)).unwrap();
    assert_eq!(mws.set_size(HARVEST, F), 4);
    mws.place(at(29), &books, &ask(1)).unwrap();
    assert_eq!(mws.set_size(HARVEST, F), 4);
    mws.place(at(30), &books, &ask(1)).unwrap();
    assert_eq!(mws.set_size(HARVEST, F), 4, "four were needed within these thirty seconds");
    mws.place(at(60), &books, &ask(1)).unwrap();
    assert_eq!(mws.set_size(HARVEST, F), 1);
    mws.place(at(60), &books, &ask(30)).unwrap();
    assert_eq!(mws.set_size(HARVEST, F), 4);
}

#[test]
fn a_warm_sandbox_is_used_before_an_empty_home() {
    let (mut books, mut mws) = house(&[10; 10]);
    mws.place(at(0), &books, &ask(30)).unwrap();
    let last = mws.sides[HARVEST as usize].sets[&F].successors[3];
    books.put_idle(F, R, last, 1);
    let choice = mws.place(at(0), &books, &ask(30)).unwrap();
    assert_eq!((choice.slot, choice.warm), (last, true));
    books.take_idle(F, R, last);
    assert_eq!(Some(mws.place(at(0), &books, &ask(30)).unwrap().slot), mws.home(HARVEST, F));
}

#[test]
fn a_warm_sandbox_that_the_set_has_left_behind_is_still_used() {
    let (mut books, mut mws) = house(&[10; 10]);
    mws.place(at(0), &books, &ask(1)).unwrap();
    let stray = books.vms().find(|&slot| Some(slot) != mws.home(HARVEST, F)).unwrap();
    books.put_idle(F, R, stray, 1);
    let choice = mws.place(at(0), &books, &ask(1)).unwrap();
    assert_eq!((choice.slot, choice.warm), (stray, true));
}

#[test]
fn a_full_set_spills_to_the_next_on_the_ring_and_a_full_house_says_not_now() {
    let (mut books, mut mws) = house(&[2; 5]);
    let mut used = Vec::new();
    for _ in 0..5 {
        let slot = mws.place(at(0), &books, &ask(1)).unwrap().slot;
        books.book_own(slot, books.capacity(slot));
        used.push(slot);
    }
    assert_eq!(used, mws.sides[HARVEST as usize].sets[&F].successors);
    assert!(matches!(mws.place(at(0), &books, &ask(1)), Err(NoHome::NotNow { .. })));
    let giant = Ask { demand: Resources::new(3_000, 1), ..ask(1) };
    assert!(matches!(mws.place(at(0), &books, &giant), Err(NoHome::Never { .. })));
}

#[test]
fn a_withdrawn_vm_is_in_no_set_from_then_on() {
    let (mut books, mut mws) = house(&[4; 6]);
    let home = mws.place(at(0), &books, &ask(1)).unwrap().slot;
    books.set_takes_work(home, false);
    mws.withdraw(home);
    for concurrency in [1, 10, 100] {
        assert_ne!(mws.place(at(0), &books, &ask(concurrency)).unwrap().slot, home);
    }
    assert!(!mws.sides[HARVEST as usize].sets[&F].successors.contains(&home));
}

#[test]
fn a_vm_of_one_core_serves_what_fits_it() {
    let (books, mut mws) = house(&[1]);
    assert!(mws.place(at(0), &books, &ask(1)).is_ok());
}

#[test]
fn each_kind_of_vm_has_a_ring_of_its_own() {
    let mut books = Books::new(100);
    let mut mws = Mws::new(Settings::default());
    for id in 1..=20 {
        let kind = if id % 10 == 0 { VmKind::Regular } else { HARVEST };
        let slot = books.add(VmId(id), kind, Resources::new(10_000, 40_960));
        books.set_takes_work(slot, true);
        mws.offer(&books, slot);
    }
    let regular = Ask { kind: VmKind::Regular, ..ask(16) };
    let home = mws.place(at(0), &books, &regular).unwrap();
    assert!(home.vm == VmId(10) || home.vm == VmId(20));
    assert_eq!(mws.set_size(VmKind::Regular, F), 2, "no steps over VMs of the other kind");
    assert_eq!(mws.set_size(HARVEST, F), 0);
    let harvest = mws.place(at(0), &books, &ask(1)).unwrap();
    assert_eq!(books.kind(harvest.slot), HARVEST);
    // A sandbox that is idle on the other kind does not tempt.
    books.put_idle(F, R, home.slot, 1);
    assert_eq!(mws.place(at(0), &books, &ask(1)), Ok(harvest));
    mws.withdraw(home.slot);
    books.set_takes_work(home.slot, false);
    assert_eq!(books.kind(mws.place(at(0), &books, &regular).unwrap().slot), VmKind::Regular);
}

/// All VMs, scored as the policy is written down, by someone who does not mind the time.
fn naive(mws: &mut Mws, books: &Books, ask: &Ask) -> Option<Score> {
    let Side { ring, sets } = &mut mws.sides[HARVEST as usize];
    let set = &sets[&ask.function];
    let key = |slot: Slot| set.successors.iter().position(|&other| other == slot);
    let start = ring.start(ask.function);
    let mut order = Vec::new();
    for steps in 0..100_000 {
        let Some(owner) = ring.owner_after(start, steps) else { break };
        if !order.contains(&owner) {
            order.push(owner);
        }
    }
    assert!(order.starts_with(&set.successors), "the walk and the oracle differ");
    books
        .vms()
        .filter(|&slot| books.has_room(slot, ask))
        .map(|slot| {
            let place = order.iter().position(|&other| other == slot).expect("open VMs are on the ring");
            let outside_set = key(slot).is_none_or(|steps| steps >= set.size);
            let is_cold = books.idle(ask.function, ask.revision, slot) == 0;
            let steps = if outside_set && !is_cold { u32::MAX } else { place as u32 };
            Score { is_cold, outside_set, steps, vm: books.vm(slot) }
        })
        .min()
}

proptest! {
    #[test]
    fn the_choice_is_the_best_that_a_naive_search_finds(
        cores in prop::collection::vec(1_u32..20, 1..12),
        bookings in prop::collection::vec(0_u32..20, 12),
        idle in prop::collection::vec(0_u32..2, 12),
        closed in prop::collection::vec(prop::bool::weighted(0.2), 12),
        concurrency in 1_u64..60,
        function in 0_u64..1_000,
    ) {
        let (mut books, mut mws) = house(&cores);
        let ask = Ask { function: FunctionId(function), ..ask(concurrency) };
        for (index, slot) in books.vms().collect::<Vec<_>>().into_iter().enumerate() {
            books.book_own(slot, Resources::new(bookings[index] * 1_000, 0));
            if closed[index] {
                books.set_takes_work(slot, false);
                mws.withdraw(slot);
            } else {
                books.put_idle(ask.function, R, slot, idle[index]);
            }
        }
        let chosen = mws.place(at(0), &books, &ask);
        let best = naive(&mut mws, &books, &ask);
        prop_assert_eq!(chosen.ok().map(|choice| (choice.vm, choice.warm)), best.map(|s| (s.vm, !s.is_cold)));
    }
}
