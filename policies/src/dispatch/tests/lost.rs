//! VMs and messages that are lost, and Controllers that come after another.

use super::*;

#[test]
fn a_lost_vm_sends_all_that_was_there_elsewhere_with_the_next_attempt() {
    let mut house = House::of(&[2]);
    house.submit(1, rerun(1));
    house.submit(2, rerun(2));
    assert_eq!(house.told(Input::VmLost(VmId(1))), ["vm-1 gone, Told, with 2"]);
    assert_eq!(
        house.told(Input::VmReported(status(2, 2))),
        ["fence 2.2", "run 2.2 on vm-2", "fence 1.2", "run 1.2 on vm-2"]
    );
    assert_eq!(house.finish(1, 1, 1, 1), ["stale 1.1"], "the old attempt answers late");
    assert_eq!(house.finish(2, 1, 2, 1), ["forget 1"]);
}

#[test]
fn an_answer_that_comes_before_the_next_attempt_goes_out_still_counts() {
    let mut house = House::of(&[1]);
    house.submit(1, rerun(1));
    house.told(Input::VmLost(VmId(1)));
    assert_eq!(house.finish(1, 1, 1, 1), ["forget 1"]);
    assert_eq!(house.told(Input::VmReported(status(2, 1))), NOTHING);
}

#[test]
fn a_function_that_must_not_run_twice_ends_with_its_vm() {
    let mut house = House::of(&[2]);
    house.submit(1, card(1, 1, OnEviction::Never));
    let lost = house.told(Input::VmLost(VmId(1)));
    assert_eq!(
        lost[1],
        "give up 1: its VM vm-1 was lost and the function must not run twice (on-eviction: never)"
    );
}

#[test]
fn a_run_that_nobody_heard_goes_elsewhere_even_if_it_must_not_run_twice() {
    let mut house = House::of(&[1]);
    house.submit(1, card(1, 1, OnEviction::Never));
    let bounced = Input::Bounced { vm: VmId(1), invocation: InvocationId(1), attempt: Attempt(1) };
    assert_eq!(house.told(bounced), ["vm-1 gone, NoResponders, with 0"]);
    assert_eq!(house.told(Input::VmReported(status(2, 1))), ["fence 1.2", "run 1.2 on vm-2"]);
}

#[test]
fn a_silent_vm_is_given_up_after_three_seconds() {
    let mut house = House::of(&[1]);
    house.submit(1, rerun(1));
    for second in 1..3 {
        assert_eq!(
            house.mind.next_wakeup(),
            Some(at(second * 1_000)),
            "it sees to it that it does not sleep"
        );
        house.now = second * 1_000;
        assert_eq!(house.told(Input::Woke), NOTHING);
    }
    assert_eq!(house.mind.next_wakeup(), Some(at(3_000)));
    house.now = 3_000;
    assert_eq!(house.told(Input::Woke), ["vm-1 gone, Silent, with 1"]);
}

#[test]
fn a_controller_that_slept_does_not_call_the_vms_silent() {
    let mut house = House::of(&[1]);
    house.now = 10_000;
    assert_eq!(house.told(Input::Woke), NOTHING);
    house.now = 11_000;
    assert_eq!(house.told(Input::Woke), NOTHING);
    assert_eq!(house.mind.next_wakeup(), Some(at(11_500)));
    assert_eq!(house.told(Input::VmReported(status(1, 1))), NOTHING);
    house.now = 11_500;
    assert_eq!(house.told(Input::Woke), NOTHING);
}

#[test]
fn a_controller_that_slept_hardly_longer_than_a_silence_hears_first_what_waits_for_it() {
    // From as long as can be told from being busy to a little more than the silence of a VM.
    for slept in [1_600, 2_100, 2_900, 3_050, 3_400] {
        let mut house = House::of(&[1, 1]);
        for second in 1..=4 {
            house.now = second * 1_000;
            assert_eq!(house.told(Input::VmReported(status(1, 1))), NOTHING);
            house.now += 900;
            assert_eq!(house.told(Input::VmReported(status(2, 1))), NOTHING);
        }
        house.now += slept;
        // The alarm is not the first thing that it sees, and what the other VM said waits behind this.
        assert_eq!(house.told(Input::VmReported(status(1, 1))), NOTHING, "{slept}");
        assert_eq!(house.told(Input::Woke), NOTHING, "{slept}");
        house.now += 1;
        assert_eq!(house.told(Input::VmReported(status(2, 1))), NOTHING, "{slept}");
    }
}

#[test]
fn too_many_losses_end_it() {
    let settings = Settings { settle: Span::ZERO, attempts_limit: 2, ..Settings::default() };
    let mut house = House::with(settings, &[1]);
    house.submit(1, rerun(1));
    house.told(Input::VmLost(VmId(1)));
    house.told(Input::VmReported(status(2, 1)));
    let lost = house.told(Input::VmLost(VmId(2)));
    assert_eq!(lost[1], "give up 1: it lost its VM 2 times");
}

#[test]
fn what_comes_back_goes_first_but_not_to_the_same_vm_before_it_has_reported() {
    let mut house = House::of(&[1]);
    house.submit(1, rerun(1));
    house.submit(2, rerun(1));
    let back = Input::HandedBack { vm: VmId(1), invocation: InvocationId(1), attempt: Attempt(1) };
    assert_eq!(house.told(back), NOTHING);
    house.now = 900;
    assert_eq!(house.told(Input::VmReported(status(1, 1))), ["fence 1.2", "run 1.2 on vm-1"]);
}

#[test]
fn a_run_that_was_lost_on_the_way_is_sent_again_but_not_before_two_reports_and_two_seconds() {
    let mut house = House::of(&[2]);
    house.submit(1, rerun(1));
    for ms in [10, 1_000, 1_999] {
        house.now = ms;
        assert_eq!(house.told(Input::VmReported(status(1, 2))), NOTHING);
    }
    house.now = 2_000;
    assert_eq!(
        house.told(Input::VmReported(status(1, 2))),
        ["cancel 1.1 on vm-1", "again 1, Forgotten", "fence 1.2", "run 1.2 on vm-1"]
    );
}

#[test]
fn what_the_vm_lists_is_not_lost() {
    let mut house = House::of(&[2]);
    house.submit(1, rerun(1));
    for second in 1..60 {
        house.now = second * 1_000;
        let report = VmStatus { running: vec![running(1, 1, rerun(1))], ..status(1, 2) };
        assert_eq!(house.told(Input::VmReported(report)), NOTHING);
    }
}

#[test]
fn a_new_controller_counts_what_others_run_and_adopts_what_is_submitted_again() {
    let mut house = House::of(&[]);
    let report = VmStatus { running: vec![running(1, 3, rerun(1)), running(2, 1, rerun(2))], ..status(1, 2) };
    house.told(Input::VmReported(report));
    assert_eq!(house.submit(9, rerun(3)), NOTHING, "the VM is full with what is not ours");
    assert_eq!(house.submit(1, rerun(1)), ["adopt 1.3 on vm-1"], "it runs already");
    assert_eq!(house.finish(1, 1, 3, 1), ["forget 1", "run 9.1 on vm-1"]);
}

#[test]
fn what_was_submitted_again_before_its_vm_listed_it_is_adopted_and_not_run_again() {
    let mut house = House::with(Settings::default(), &[1]);
    assert_eq!(house.submit(1, rerun(1)), NOTHING, "it listens first");
    house.now = 700;
    let report = VmStatus { running: vec![running(1, 2, rerun(1))], ..status(2, 1) };
    assert_eq!(house.told(Input::VmReported(report)), ["adopt 1.2 on vm-2"]);
    house.now = 1_200;
    assert_eq!(house.told(Input::Woke), NOTHING);
    assert_eq!(house.finish(2, 1, 2, 1), ["forget 1"]);
    assert_eq!(house.mind.gauges().booked, Resources::ZERO);
}

#[test]
fn a_vm_that_comes_back_before_its_work_went_elsewhere_keeps_it() {
    let mut house = House::of(&[1]);
    house.submit(1, rerun(1));
    house.told(Input::VmLost(VmId(1)));
    let report = VmStatus { running: vec![running(1, 1, rerun(1))], ..status(1, 1) };
    assert_eq!(house.told(Input::VmReported(report)), ["adopt 1.1 on vm-1"]);
    assert_eq!(house.finish(1, 1, 1, 1), ["forget 1"]);
}

#[test]
fn what_a_vm_was_told_to_forget_is_not_adopted_though_it_lists_it_once_more() {
    let mut house = House::of(&[1]);
    house.submit(1, rerun(1));
    for ms in [1_000, 2_000] {
        house.now = ms;
        let full = VmStatus { capacity: Resources::new(500, 8_192), ..status(1, 1) };
        house.told(Input::VmReported(full));
    }
    let late = VmStatus { running: vec![running(1, 1, rerun(1))], ..status(1, 1) };
    assert_eq!(house.told(Input::VmReported(late)), NOTHING);
}

#[test]
fn an_attempt_that_its_vm_knows_from_another_is_taken_over_as_it_is_there() {
    let mut house = House::of(&[2]);
    house.submit(1, rerun(1));
    let known = |attempt, newest, runs| Input::Known {
        vm: VmId(1),
        invocation: InvocationId(1),
        attempt: Attempt(attempt),
        newest: Attempt(newest),
        runs,
    };
    assert_eq!(house.told(known(1, 3, true)), ["adopt 1.3 on vm-1"]);
    assert_eq!(house.told(known(1, 3, true)), ["stale 1.1"]);
    assert_eq!(house.mind.gauges().in_flight, 1);
    assert_eq!(house.finish(1, 1, 3, 1), ["forget 1"]);
    assert_eq!(house.mind.gauges().booked, Resources::ZERO);
}

#[test]
fn an_attempt_that_its_vm_has_not_got_any_more_goes_again_at_once_under_a_newer_number() {
    let mut house = House::of(&[2]);
    let known = |id, newest| Input::Known {
        vm: VmId(1),
        invocation: InvocationId(id),
        attempt: Attempt(1),
        newest: Attempt(newest),
        runs: false,
    };
    house.submit(1, rerun(1));
    assert_eq!(house.told(known(1, 4)), ["again 1, Forgotten", "fence 1.5", "run 1.5 on vm-1"]);
    house.submit(2, card(2, 1, OnEviction::Never));
    let given_up = house.told(known(2, 1));
    assert!(given_up[0].starts_with("give up 2"), "it may have begun there: {given_up:?}");
}

#[test]
fn an_attempt_whose_answer_would_be_void_is_not_adopted_but_called_off() {
    let mut house = House::of(&[]);
    let report = VmStatus { running: vec![running(1, 3, rerun(1))], ..status(1, 2) };
    house.told(Input::VmReported(report));
    let again = Submission { first_attempt: Attempt(1_001), ..house.submission(1, rerun(1)) };
    assert_eq!(house.told(Input::Submitted(again)), ["cancel 1.3 on vm-1", "run 1.1001 on vm-1"]);
    assert_eq!(house.finish(1, 1, 3, 1), ["stale 1.3"]);
    assert_eq!(house.finish(1, 1, 1_001, 1), ["forget 1"]);
}

#[test]
fn a_new_controller_sends_nothing_before_every_vm_could_report() {
    let mut house = House::with(Settings::default(), &[1]);
    assert_eq!(house.submit(1, rerun(1)), NOTHING);
    house.now = 1_000;
    assert_eq!(house.told(Input::Woke), NOTHING);
    assert_eq!(house.mind.next_wakeup(), Some(at(1_200)));
    house.now = 1_200;
    assert_eq!(house.told(Input::Woke), ["run 1.1 on vm-1"]);
}
