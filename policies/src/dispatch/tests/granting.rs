//! What the allocator is asked and told, and what happens to a run that was left too little memory.

use std::sync::{Arc, Mutex};

use vocabulary::{Mebibytes, MilliCores};

use super::*;
use crate::allocation::{Ended, Request};

/// Leaves half of the memory, and notes how its runs ended.
struct Half(Arc<Mutex<Vec<String>>>);

impl Allocator for Half {
    fn name(&self) -> &'static str {
        "half"
    }

    fn grant(&mut self, request: &Request<'_>) -> Grant {
        let mut left = request.reservation;
        left.memory.0 /= 2;
        Grant::new(left, request.reservation)
    }

    fn ended(&mut self, ended: &Ended<'_>) {
        let Ended { grant, starved, .. } = ended;
        self.0.lock().unwrap().push(format!("{} starved {starved}", grant.booked.memory));
    }
}

fn half() -> (House, Arc<Mutex<Vec<String>>>) {
    let noted = Arc::new(Mutex::new(Vec::new()));
    let placement = placement::by_name("mws", &placement::Settings::default()).unwrap();
    let settings = Settings { settle: Span::ZERO, ..Settings::default() };
    let mut house = House { mind: Dispatch::new(settings, placement, Box::new(Half(noted.clone()))), now: 0 };
    house.told(Input::VmReported(status(1, 2)));
    (house, noted)
}

fn starved(id: u128, attempt: u32) -> Input {
    let ending =
        Ending { outcome: Some(Outcome::DeveloperError), sandbox_kept: false, ..ending(id, attempt, 1) };
    Input::Starved { vm: VmId(1), ending }
}

fn booked(house: &House) -> u32 {
    house.mind.booked_on(VmId(1)).unwrap().booked_by_us.memory.0
}

#[test]
fn what_was_left_too_little_memory_goes_again_once_with_all_that_it_reserved() {
    let (mut house, noted) = half();
    assert_eq!(house.submit(1, rerun(1)), ["run 1.1 on vm-1"]);
    assert_eq!(booked(&house), 128);
    assert_eq!(house.told(starved(1, 1)), ["fence 1.2", "run 1.2 on vm-1"]);
    assert_eq!(booked(&house), 256, "nothing is taken from it again");
    assert_eq!(house.told(starved(1, 1)), ["stale 1.1"]);
    assert_eq!(house.finish(1, 1, 2, 1), ["forget 1"]);
    assert_eq!(*noted.lock().unwrap(), ["128 MiB starved true", "256 MiB starved false"]);
    let profile = house.mind.profile(FunctionId(1)).unwrap();
    assert!(!profile.expect(0).unwrap().memory_is_safe);
    assert_eq!(booked(&house), 0);
}

#[test]
fn what_must_not_run_twice_ends_with_a_word_why() {
    let (mut house, _) = half();
    house.submit(1, card(1, 1, OnEviction::Never));
    let why = "its VM vm-1 ran out of memory and the function must not run twice (on-eviction: never)";
    assert_eq!(house.told(starved(1, 1)), [format!("give up 1: {why}")]);
}

#[test]
fn one_that_nobody_waits_for_is_not_run_again() {
    let (mut house, _) = half();
    house.submit(1, rerun(1));
    house.told(Input::Withdrawn(InvocationId(1)));
    assert_eq!(house.told(starved(1, 1)), ["forget 1"]);
}

#[test]
fn a_vm_without_memory_does_not_send_the_same_round_for_ever() {
    let (mut house, noted) = half();
    house.submit(1, rerun(1));
    let limit = Settings::default().attempts_limit;
    assert_eq!(house.told(starved(1, 1)), ["fence 1.2", "run 1.2 on vm-1"], "what was lent is there again");
    for attempt in 2..limit {
        // Nothing was lent: the VM carries more than is booked on it, and must say first how it is.
        assert_eq!(house.told(starved(1, attempt)), NOTHING);
        assert_eq!(house.told(Input::VmReported(status(1, 2))).len(), 2);
    }
    assert_eq!(house.told(starved(1, limit)), [format!("give up 1: it lost its VM {limit} times")]);
    assert_eq!(noted.lock().unwrap().len(), 1, "only the first was for want of what had been taken");
}

#[test]
fn the_books_follow_what_a_vm_has_given_back() {
    let (mut house, _) = half();
    house.submit(1, rerun(1));
    let restored = VmStatus { running: vec![running(1, 1, rerun(1))], ..status(1, 2) };
    house.told(Input::VmReported(restored));
    assert_eq!(booked(&house), 256);
    house.finish(1, 1, 1, 1);
    assert_eq!(booked(&house), 0);
}

/// Books twice the cores, for runs of a second.
struct Double(Option<u32>);

impl Allocator for Double {
    fn name(&self) -> &'static str {
        "double"
    }

    fn grant(&mut self, request: &Request<'_>) -> Grant {
        let mut more = request.reservation;
        more.cpu.0 *= 2;
        Grant { lasts: Span::seconds(1), ..Grant::fixed(more) }
    }

    fn settles_after(&self) -> Option<u32> {
        self.0
    }
}

#[test]
fn who_waits_for_more_than_it_reserved_settles_for_that_when_more_would_save_it_no_time() {
    for (settles, after_ms) in [(Some(1_000), Some(1_000)), (Some(500), Some(500)), (None, None)] {
        let placement = placement::by_name("mws", &placement::Settings::default()).unwrap();
        let starvation_after = Span::millis(100);
        let settings = Settings { settle: Span::ZERO, starvation_after, ..Settings::default() };
        let mut house = House { mind: Dispatch::new(settings, placement, Box::new(Double(settles))), now: 0 };
        house.told(Input::VmReported(status(1, 3)));
        assert_eq!(house.submit(1, rerun(1)), ["run 1.1 on vm-1"]);
        // Two of three cores are booked; the reservation would fit beside them, twice as much does not.
        assert!(house.submit(2, rerun(1)).is_empty());
        let sent = (0..25).find_map(|_| {
            house.now += 100;
            (!house.told(Input::Woke).is_empty()).then_some(house.now)
        });
        assert_eq!(sent, after_ms, "{settles:?}");
    }
}

/// A VM with so many cores, on which functions are granted twice what they reserve, for runs of a second.
fn doubles(settles: u32, cores: u32) -> House {
    let placement = placement::by_name("mws", &placement::Settings::default()).unwrap();
    let settings = Settings { settle: Span::ZERO, starvation_after: Span::FOREVER, ..Settings::default() };
    let allocator = Box::new(Double(Some(settles)));
    let mut house = House { mind: Dispatch::new(settings, placement, allocator), now: 0 };
    house.told(Input::VmReported(status(1, cores)));
    house
}

#[test]
fn waiting_for_more_counts_from_when_the_reservation_would_have_fitted() {
    let mut house = doubles(1_000, 2);
    assert_eq!(house.submit(1, rerun(1)), ["run 1.1 on vm-1"]);
    assert!(house.submit(2, rerun(2)).is_empty(), "both cores are booked: there is no room for anything");
    house.now = 5_000;
    let mut grown = VmStatus { running: vec![running(1, 1, rerun(1))], ..status(1, 3) };
    grown.running[0].grant.booked.cpu = MilliCores(2_000);
    assert!(house.told(Input::VmReported(grown)).is_empty(), "one core is free, two are wanted");
    let wakes = house.mind.next_wakeup();
    assert!(wakes <= Some(at(6_000)), "its patience began when the VM grew: {wakes:?}");
    house.now = 5_999;
    assert!(house.told(Input::Woke).is_empty());
    house.now = 6_000;
    assert_eq!(house.told(Input::Woke), ["run 2.1 on vm-1"]);
}

#[test]
fn who_settles_takes_what_is_free_where_it_goes_up_to_what_it_hoped_for() {
    for (cores, books) in [(6, 2_000), (7, 3_000), (9, 4_000)] {
        let mut house = doubles(0, cores);
        // The first books four cores; the second hopes for four and goes at once, where its two would fit.
        house.submit(1, card(1, 2, OnEviction::Rerun));
        assert_eq!(house.submit(2, card(2, 2, OnEviction::Rerun)), ["run 2.1 on vm-1"]);
        let all = house.mind.booked_on(VmId(1)).unwrap().booked_by_us.cpu;
        assert_eq!(all, MilliCores(4_000 + books), "{cores} cores");
    }
}

#[test]
fn a_successor_decides_by_what_its_predecessor_had_learned() {
    let mut learned = Profile::default();
    for _ in 0..10 {
        let usage = Usage { cpu_peak: MilliCores(200), memory_peak: Mebibytes(20), ..Usage::default() };
        learned.ended_with(0, Span::millis(100), None, usage);
    }
    let placement = placement::by_name("mws", &placement::Settings::default()).unwrap();
    let allocator = crate::allocation::by_name("profile", &crate::allocation::Settings::default()).unwrap();
    let settings = Settings { settle: Span::ZERO, functions_limit: 4, ..Settings::default() };
    let mut house = House { mind: Dispatch::new(settings, placement, allocator), now: 0 };
    house.told(Input::VmReported(status(1, 8)));
    house.submit(1, rerun(1));
    assert_eq!(booked(&house), 256, "nothing is known");
    house.told(Input::Remembered { function: FunctionId(2), profile: Box::new(learned.clone()) });
    house.submit(2, rerun(2));
    let lent = booked(&house) - 256;
    assert!(lent < 128, "{lent} MiB of 256 are booked for what is known to hold 20");
    // What is told of functions is bounded as what is heard of them is.
    for function in 10..100 {
        house.told(Input::Remembered { function: FunctionId(function), profile: Box::new(learned.clone()) });
    }
    assert!(house.mind.functions.len() <= 4 + 2, "{}", house.mind.functions.len());
}

#[test]
fn each_run_is_told_with_what_was_known_of_such_runs_before_it_where_that_is_wished_for() {
    let settings = Settings { settle: Span::ZERO, tells_runs: true, ..Settings::default() };
    let mut house = House::with(settings, &[2]);
    for (id, known) in [(1, 0), (2, 1)] {
        house.submit(id, rerun(1));
        let told = house.finish(1, id, 1, 1);
        assert_eq!(told, [format!("{id} ran, of {known} known"), format!("forget {id}")]);
    }
}
