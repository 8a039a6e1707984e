//! What is made before anybody waits for it. (At a notice: see the tests beside and `eviction`.)

use super::*;

/// One VM of so many cores, on which function 1 has run once: two seconds, in a sandbox that took 300 ms.
fn house_that_has_run(cores: u32, settings: Settings) -> House {
    let mut house = House::with(Settings { settle: Span::ZERO, ..settings }, &[cores]);
    house.submit(1, rerun(1));
    house.now = 2_000;
    let ending = Ending { duration: Span::seconds(2), ..ending(1, 1, 1) };
    assert_eq!(house.told(Input::Finished { vm: VmId(1), ending }), ["forget 1"]);
    house
}

/// It reports so many idle sandboxes of function 1.
fn reports(house: &mut House, cores: u32, idle: u32) {
    let warm = vec![WarmOnVm { function: FunctionId(1), revision: Revision(1), idle }];
    assert_eq!(house.told(Input::VmReported(VmStatus { warm, ..status(1, cores) })), NOTHING);
}

#[test]
fn a_function_that_is_called_again_soon_gets_one_sandbox_more_than_is_busy() {
    let mut house = house_that_has_run(8, Settings::default());
    assert_eq!(house.submit(2, rerun(1)), ["run 2.1 on vm-1", "prewarm 2 of fn-1 on vm-1"]);
    house.now = 2_500;
    assert_eq!(
        house.submit(3, rerun(1)),
        ["run 3.1 on vm-1"],
        "the spare is being made; it goes to that one"
    );
}

#[test]
fn while_another_is_idle_no_spare_is_made() {
    let mut house = house_that_has_run(8, Settings::default());
    reports(&mut house, 8, 2);
    assert_eq!(house.submit(2, rerun(1)), ["run 2.1 on vm-1"]);
    assert_eq!(house.submit(3, rerun(1)), ["run 3.1 on vm-1", "prewarm 3 of fn-1 on vm-1"]);
}

#[test]
fn a_function_whose_calls_are_far_apart_gets_no_spare() {
    for (after_s, spare) in [(60, true), (68, false)] {
        let mut house = house_that_has_run(8, Settings::default());
        house.now = after_s * 1_000;
        reports(&mut house, 8, 1);
        let sent = house.submit(2, rerun(1));
        assert_eq!(sent.len() == 2, spare, "runs take 2 s, calls are {after_s} s apart: {sent:?}");
    }
}

#[test]
fn where_more_than_half_of_the_cores_are_booked_no_spare_is_made() {
    let mut house = house_that_has_run(8, Settings::default());
    assert_eq!(house.submit(9, card(9, 4, OnEviction::Rerun)), ["run 9.1 on vm-1"]);
    assert_eq!(house.submit(2, rerun(1)), ["run 2.1 on vm-1"]);
}

#[test]
fn who_is_told_to_make_no_spares_makes_none() {
    let mut house = house_that_has_run(8, Settings { makes_spares: false, ..Settings::default() });
    assert_eq!(house.submit(2, rerun(1)), ["run 2.1 on vm-1"]);
}
