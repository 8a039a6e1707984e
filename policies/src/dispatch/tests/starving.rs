//! Who has waited too long, and who may go before it all the same.

use super::*;

#[test]
fn a_large_one_gets_a_vm_for_itself_when_small_ones_keep_slipping_in() {
    let mut house = House::of(&[4]);
    for id in 0..4 {
        house.submit(id, rerun(1 + id as u64));
    }
    house.submit(100, card(50, 4, OnEviction::Rerun));
    let mut sent = Vec::new();
    let mut busy: Vec<u128> = (0..4).collect();
    for next in 4..200_u128 {
        let step = next as u64 - 3;
        house.now = step * 50;
        if step.is_multiple_of(10) {
            let listed = busy.iter().map(|&id| running(id, 1, rerun(1 + id as u64))).collect();
            house.told(Input::VmReported(VmStatus { running: listed, ..status(1, 4) }));
        }
        if let Some(ends) = (!busy.is_empty()).then(|| busy.remove(0)) {
            sent.extend(house.finish(1, ends, 1, 1 + ends as u64));
        }
        sent.extend(house.submit(next, rerun(1 + next as u64)));
        for line in sent.drain(..) {
            if line == "run 100.1 on vm-1" {
                assert!(house.now >= 1_000);
                return;
            }
            if let Some(id) = line.strip_prefix("run ").and_then(|rest| rest.split('.').next()) {
                busy.push(id.parse().unwrap());
            }
        }
    }
    panic!("the large one starved");
}

#[test]
fn the_vm_kept_free_for_one_who_starves_has_its_sandbox_though_another_lacks_less() {
    let mut house = House::of(&[2]);
    let large = |function| card(function, 2, OnEviction::Rerun);
    house.submit(1, large(1));
    house.finish(1, 1, 1, 1);
    assert_eq!(house.submit(2, large(2)), ["run 2.1 on vm-1"], "where 1's sandbox is idle");
    house.told(Input::VmReported(status(2, 3)));
    for id in [3, 4] {
        assert_eq!(house.submit(id, rerun(id as u64)), [format!("run {id}.1 on vm-2")]);
    }
    assert_eq!(house.submit(5, large(1)), NOTHING, "vm-1 lacks two cores, vm-2 one");
    assert_eq!(house.submit(6, large(6)), NOTHING);
    house.now = 1_000;
    assert_eq!(house.told(Input::Woke), NOTHING);
    let kept = house.mind.books.slot(VmId(1)).unwrap();
    assert_eq!(house.mind.books.held().map(|hold| (hold.slot, hold.by)), Some((kept, FunctionId(1))));
    assert_eq!(house.finish(1, 2, 1, 2), ["forget 2", "run 5.1 on vm-1"]);
    house.told(Input::Withdrawn(InvocationId(5)));
    house.now = 1_200;
    house.told(Input::Woke);
    let kept = house.mind.books.slot(VmId(2)).unwrap();
    let held = house.mind.books.held().map(|hold| (hold.slot, hold.by));
    assert_eq!(held, Some((kept, FunctionId(6))), "it has no sandbox anywhere");
}

/// Two cores, of which each has a run when a large one, 5, has waited too long at 1,000 ms: 6 of function 1, which takes `known`
/// milliseconds as a rule, begun at 900, and 4 of function `other`. Function 3 takes 100 ms and 2 as long as 1; their sandboxes are idle.
fn while_a_large_one_starves(known: u64, other: u64) -> House {
    let mut house = House::of(&[2]);
    for (function, duration) in [(1, known), (2, known), (3, 100), (4, 100)] {
        house.submit(function.into(), rerun(function));
        let ending = Ending { duration: Span::millis(duration), ..ending(function.into(), 1, function) };
        house.told(Input::Finished { vm: VmId(1), ending });
    }
    assert_eq!(house.submit(13, rerun(3)), ["run 13.1 on vm-1"]);
    assert_eq!(house.submit(14, rerun(other)), ["run 14.1 on vm-1"]);
    assert_eq!(house.submit(5, card(5, 2, OnEviction::Rerun)), NOTHING);
    house.now = 900;
    assert_eq!(house.submit(6, rerun(1)), NOTHING);
    assert_eq!(house.finish(1, 13, 1, 3), ["forget 13", "run 6.1 on vm-1"]);
    house.now = 1_000;
    assert_eq!(house.told(Input::Woke), NOTHING);
    assert!(house.mind.books.held().is_some_and(|hold| hold.by == FunctionId(5)));
    house
}

#[test]
fn who_should_have_ended_in_time_goes_before_the_one_who_starves_and_nobody_else() {
    let mut house = while_a_large_one_starves(300, 4);
    house.now = 1_050;
    assert_eq!(house.submit(7, rerun(2)), NOTHING, "there is no room");
    assert_eq!(house.submit(8, rerun(3)), NOTHING);
    let sent = house.finish(1, 14, 1, 4);
    assert_eq!(sent, ["forget 14", "run 8.1 on vm-1"], "it should have ended at 1,150, 6 at 1,200");
    house.now = 1_180;
    assert_eq!(house.finish(1, 8, 1, 3), ["forget 8"], "7 would take until 1,480");
    assert_eq!(house.submit(9, rerun(3)), NOTHING, "until 1,280");
    assert_eq!(house.submit(10, rerun(10)), NOTHING, "nobody knows how long");
    let Gauges { kept_free, went_before, .. } = house.mind.gauges();
    assert_eq!((kept_free, went_before), (1, 1), "for 5; 8");
    assert_eq!(house.finish(1, 6, 1, 1), ["forget 6", "run 5.1 on vm-1"]);
    assert_eq!(house.mind.gauges().kept_free, 0);
}

#[test]
fn while_one_overruns_nobody_goes_before_the_one_who_starves() {
    let mut house = while_a_large_one_starves(50, 4);
    assert_eq!(house.submit(7, rerun(3)), NOTHING, "there is no room");
    assert_eq!(house.finish(1, 14, 1, 4), ["forget 14"], "6 should have ended at 950");
}

#[test]
fn while_nothing_is_known_of_what_is_in_the_way_nobody_goes_before_the_one_who_starves() {
    let mut house = while_a_large_one_starves(300, 9);
    house.now = 1_150;
    assert_eq!(house.submit(7, rerun(3)), NOTHING, "there is no room");
    assert_eq!(house.finish(1, 6, 1, 1), ["forget 6"], "14 may end at any moment");
    house.now = 1_300;
    assert_eq!(house.told(Input::Woke), NOTHING);
}
