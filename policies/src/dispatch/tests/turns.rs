//! Whose turn it is when room is scarce.

use super::*;

#[test]
fn it_waits_for_a_busy_sandbox_if_that_is_sooner_but_not_longer_than_making_one_takes() {
    let mut house = House::of(&[4]);
    house.submit(1, rerun(1));
    house.finish(1, 1, 1, 1); // 300 ms to make, 100 ms to run
    assert_eq!(house.submit(2, rerun(1)), ["run 2.1 on vm-1"]);
    assert_eq!(house.submit(3, rerun(1)), NOTHING, "2 should end first");
    assert_eq!(house.mind.next_wakeup(), Some(at(300)));
    house.now = 300;
    assert_eq!(house.told(Input::Woke), ["run 3.1 on vm-1"], "but did not");
    // Three wait for two: still sooner. The fourth would be later than a sandbox of its own.
    house.now = 700;
    for id in 4..9 {
        assert_eq!(house.submit(id, rerun(1)), NOTHING);
    }
    assert_eq!(house.submit(9, rerun(1)), ["run 4.1 on vm-1"]);
}

#[test]
fn functions_take_turns_though_one_has_its_sandbox_warm() {
    let mut house = House::of(&[1]);
    house.submit(1, rerun(1));
    house.submit(2, rerun(2));
    house.now = 700;
    house.submit(3, rerun(1));
    house.submit(4, rerun(1));
    // 3 would find 1's sandbox warm, which saves 300 ms; but 2 has waited 700 ms longer.
    assert_eq!(house.finish(1, 1, 1, 1), ["forget 1", "run 2.1 on vm-1"]);
    assert_eq!(house.finish(1, 2, 1, 2), ["forget 2", "run 3.1 on vm-1"]);
    assert_eq!(house.finish(1, 3, 1, 1), ["forget 3", "run 4.1 on vm-1"]);
}

#[test]
fn one_may_go_before_its_turn_if_that_saves_more_than_it_costs() {
    let mut house = House::of(&[1]);
    house.submit(1, rerun(1));
    house.submit(2, rerun(2));
    house.now = 100;
    house.submit(3, rerun(1));
    assert_eq!(house.finish(1, 1, 1, 1), ["forget 1", "run 3.1 on vm-1"]);
    assert_eq!(house.finish(1, 3, 1, 1), ["forget 3", "run 2.1 on vm-1"]);
}

#[test]
fn it_waits_for_room_beside_its_idle_sandbox_if_that_is_sooner_than_making_another() {
    let mut house = House::of(&[1]);
    house.submit(1, rerun(1));
    house.finish(1, 1, 1, 1); // 300 ms to make
    house.submit(2, rerun(2));
    house.now = 100;
    house.finish(1, 2, 1, 2); // 100 ms since the ending before
    assert_eq!(house.submit(3, rerun(2)), ["run 3.1 on vm-1"]);
    house.told(Input::VmReported(status(2, 1)));
    assert_eq!(house.submit(4, rerun(1)), NOTHING, "vm-2 has room, but no sandbox");
    assert_eq!(house.mind.next_wakeup(), Some(at(400)));
    house.now = 150;
    assert_eq!(house.finish(1, 3, 1, 2), ["forget 3", "run 4.1 on vm-1"]);
    assert_eq!(house.submit(5, rerun(2)), NOTHING);
    house.now = 450;
    assert_eq!(house.told(Input::Woke), ["run 5.1 on vm-2"], "not longer than making one takes");
}

#[test]
fn who_has_waited_for_room_waits_for_its_sandbox_no_less_than_who_has_just_come() {
    for ends_in_time in [true, false] {
        let mut house = House::of(&[1]);
        house.submit(1, rerun(1));
        house.finish(1, 1, 1, 1); // 300 ms to make
        house.submit(2, rerun(2));
        house.now = 100;
        house.finish(1, 2, 1, 2); // 100 ms since the ending before
        house.submit(3, rerun(2));
        house.told(Input::VmReported(status(2, 1)));
        assert_eq!(house.submit(4, rerun(3)), ["run 4.1 on vm-2"]);
        house.now = 150;
        assert_eq!(house.submit(5, rerun(1)), NOTHING, "there is no room");
        house.now = 600;
        // Longer than making a sandbox takes, but until now none could have been made.
        assert_eq!(house.finish(2, 4, 1, 3), ["forget 4"], "vm-1 has a sandbox, and should have room soon");
        assert_eq!(house.mind.next_wakeup(), Some(at(900)));
        if ends_in_time {
            house.now = 650;
            assert_eq!(house.finish(1, 3, 1, 2), ["forget 3", "run 5.1 on vm-1"]);
        } else {
            house.now = 900;
            assert_eq!(house.told(Input::Woke), ["run 5.1 on vm-2"], "no longer than making one takes");
        }
    }
}

#[test]
fn room_goes_to_whose_sandbox_is_idle_there_before_one_who_has_waited_a_little_longer() {
    let mut house = House::of(&[1]);
    for function in [2, 3] {
        house.submit(function.into(), rerun(function));
        house.finish(1, function.into(), 1, function);
    }
    house.submit(4, rerun(3));
    house.submit(10, rerun(9));
    house.now = 100;
    house.submit(11, rerun(2));
    house.submit(12, rerun(8));
    house.now = 400;
    // A quarter of the 400 ms that 10 has waited is what 11 came later.
    assert_eq!(house.finish(1, 4, 1, 3), ["forget 4", "run 11.1 on vm-1"]);
    assert_eq!(house.finish(1, 11, 1, 2), ["forget 11", "run 10.1 on vm-1"]);
}

#[test]
fn one_more_is_made_when_those_who_always_wait_have_waited_for_as_much_as_it_is_worth() {
    let mut house = House::of(&[4]);
    house.submit(1, rerun(1));
    house.finish(1, 1, 1, 1); // 300 ms to make, 100 ms to run
    house.submit(2, rerun(1));
    house.submit(3, rerun(1));
    house.submit(4, rerun(1));
    for ends in 2.. {
        house.now += 100;
        let sent = house.finish(1, ends, 1, 1);
        assert_eq!(sent[..2], [format!("forget {ends}"), format!("run {}.1 on vm-1", ends + 1)]);
        if sent.len() == 3 {
            assert_eq!(sent[2], format!("run {}.1 on vm-1", ends + 2), "though it came 100 ms ago");
            break;
        }
        assert_eq!(house.submit(ends + 3, rerun(1)), NOTHING, "two wait, none of them for 300 ms");
    }
    // Two have always waited, so that is eight times 300 ms together.
    assert_eq!(house.now, 1_200);
}

#[test]
fn where_the_queue_empties_again_and_again_nobody_makes_one_more() {
    let mut house = House::of(&[4]);
    house.submit(1, rerun(1));
    house.finish(1, 1, 1, 1);
    house.submit(2, rerun(1));
    for id in 3..30 {
        assert_eq!(house.submit(id, rerun(1)), NOTHING);
        house.now += 100;
        assert_eq!(
            house.finish(1, id - 1, 1, 1),
            [format!("forget {}", id - 1), format!("run {id}.1 on vm-1")]
        );
    }
}
