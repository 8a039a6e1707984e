use vocabulary::{Span, WarmOnVm};

use super::*;

const F: FunctionId = FunctionId(1);
const R: Revision = Revision(1);

const HARVEST: VmKind = VmKind::Harvest;

fn ask(function: FunctionId, demand: Resources) -> Ask {
    Ask { function, revision: R, demand, concurrency_milli: 0, kind: HARVEST, ends: Moment::NEVER }
}

fn one_vm() -> (Books, Slot) {
    let mut books = Books::new(10);
    let slot = books.add(VmId(1), VmKind::Harvest, Resources::new(2_000, 1_024));
    books.set_takes_work(slot, true);
    (books, slot)
}

#[test]
fn what_is_booked_by_us_and_by_others_leaves_less_room() {
    let (mut books, slot) = one_vm();
    books.book_own(slot, Resources::new(1_000, 256));
    books.set_foreign(slot, Resources::new(500, 256));
    assert!(books.has_room(slot, &ask(F, Resources::new(500, 512))));
    assert!(!books.has_room(slot, &ask(F, Resources::new(501, 1))));
    books.release_own(slot, Resources::new(1_000, 256));
    assert!(books.has_room(slot, &ask(F, Resources::new(1_500, 512))));
}

#[test]
fn a_vm_that_shrank_is_full_but_not_too_small_for_ever() {
    let (mut books, slot) = one_vm();
    books.set_capacity(slot, Resources::new(500, 1_024));
    assert!(!books.has_room(slot, &ask(F, Resources::new(1_000, 1))));
    assert!(books.could_ever_hold(HARVEST, Resources::new(1_000, 1)));
    assert!(!books.could_ever_hold(HARVEST, Resources::new(2_001, 1)));
}

#[test]
fn only_sandboxes_of_the_newest_build_are_idle() {
    let (mut books, slot) = one_vm();
    books.put_idle(F, R, slot, 2);
    books.put_idle(F, Revision(2), slot, 1);
    books.put_idle(F, R, slot, 5);
    assert_eq!((books.idle(F, R, slot), books.idle(F, Revision(2), slot)), (0, 1));
}

#[test]
fn a_report_shows_what_was_believed_if_it_lists_just_that() {
    let (mut books, slot) = one_vm();
    let listed = |count| [WarmOnVm { function: F, revision: R, idle: count }];
    assert!(books.shows_what_was_believed(slot, &[]));
    books.put_idle(F, R, slot, 2);
    let version = books.version();
    assert!(books.shows_what_was_believed(slot, &listed(2)));
    assert!(books.version() > version, "those who wait may try again");
    assert!(!books.shows_what_was_believed(slot, &listed(1)) && !books.shows_what_was_believed(slot, &[]));
    books.take_idle(F, R, slot);
    books.take_idle(F, R, slot);
    assert!(!books.shows_what_was_believed(slot, &listed(0)), "it is not remembered that there is none");
}

#[test]
fn a_removed_vm_leaves_nothing_warm_to_its_successor_in_the_slot() {
    let (mut books, slot) = one_vm();
    books.put_idle(F, R, slot, 2);
    books.remove(slot);
    assert_eq!(books.add(VmId(2), VmKind::Regular, Resources::new(1, 1)), slot);
    assert_eq!(books.idle(F, R, slot), 0);
    assert_eq!((books.len(), books.open()), (1, 0));
}

#[test]
fn sums_follow_every_change_of_the_vms_that_take_work() {
    let (mut books, slot) = one_vm();
    let other = books.add(VmId(2), VmKind::Regular, Resources::new(1_000, 512));
    assert_eq!(books.open_resources().0, Resources::new(2_000, 1_024));
    books.book_own(other, Resources::new(300, 100));
    books.set_takes_work(other, true);
    books.book_own(slot, Resources::new(500, 200));
    books.set_foreign(slot, Resources::new(50, 20));
    assert_eq!(books.open_resources(), (Resources::new(3_000, 1_536), Resources::new(2_150, 1_216)));
    books.set_capacity(slot, Resources::new(1_000, 1_024));
    books.release_own(slot, Resources::new(500, 200));
    assert_eq!(books.open_resources(), (Resources::new(2_000, 1_536), Resources::new(1_650, 1_416)));
    books.remove(other);
    books.remove(slot);
    assert_eq!(books.open_resources(), (Resources::ZERO, Resources::ZERO));
}

#[test]
fn a_held_vm_has_room_for_its_function_and_for_those_who_should_have_ended_in_time() {
    let (mut books, slot) = one_vm();
    let until = Moment::ORIGIN + Span::seconds(5);
    books.hold(Some(Hold { slot, by: F, until }));
    let small = Resources::new(1, 1);
    assert!(books.has_room(slot, &ask(F, small)));
    let other = ask(FunctionId(2), small);
    assert!(!books.has_room(slot, &other), "nobody knows how long it takes");
    assert!(books.has_room(slot, &Ask { ends: until, ..other }));
    assert!(!books.has_room(slot, &Ask { ends: until + Span::micros(1), ..other }));
}

#[test]
fn sizes_that_neither_contains_the_other_both_count_as_largest() {
    let (mut books, _) = one_vm();
    for (id, cpu, memory) in [(2, 1_000, 4_096), (3, 500, 512)] {
        let slot = books.add(VmId(id), HARVEST, Resources::new(cpu, memory));
        books.set_takes_work(slot, true);
    }
    assert!(books.could_ever_hold(HARVEST, Resources::new(1_000, 4_096)));
    assert!(books.could_ever_hold(HARVEST, Resources::new(2_000, 1_024)));
    assert!(!books.could_ever_hold(HARVEST, Resources::new(2_000, 4_096)));
    assert_eq!(books.largest(HARVEST), Resources::new(2_000, 1_024));
}

#[test]
fn idle_sandboxes_of_too_many_functions_are_not_remembered() {
    let (mut books, slot) = one_vm();
    for id in 0..20 {
        books.put_idle(FunctionId(id), R, slot, 1);
    }
    let remembered = (0..20).filter(|&id| books.idle(FunctionId(id), R, slot) > 0).count();
    assert_eq!(remembered, 10);
}

#[test]
fn only_vms_of_the_kind_that_is_asked_for_have_room() {
    let (books, slot) = one_vm();
    let small = ask(F, Resources::new(1, 1));
    assert!(books.has_room(slot, &small));
    assert!(!books.has_room(slot, &Ask { kind: VmKind::Regular, ..small }));
    assert!(!books.could_ever_hold(VmKind::Regular, small.demand));
    assert_eq!((books.open_of(HARVEST), books.open_of(VmKind::Regular), books.open()), (1, 0, 1));
}
