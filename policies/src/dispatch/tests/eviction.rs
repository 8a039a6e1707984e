//! VMs that must go, with runs that will and will not end in time.

use super::*;

fn notice(vm: u64, deadline_ms: u64) -> Input {
    Input::VmNoticed { vm: VmId(vm), deadline: Some(at(deadline_ms)) }
}

fn called_off(vm: u64) -> Input {
    Input::VmNoticed { vm: VmId(vm), deadline: None }
}

/// Invocation 1 has run on VM 1 for ten seconds; VM 2 is there, and nothing is known of the function.
fn long_run(on_eviction: OnEviction) -> House {
    let mut house = House::of(&[2]);
    assert_eq!(house.submit(1, card(1, 1, on_eviction)), ["run 1.1 on vm-1"]);
    house.told(Input::VmReported(status(2, 2)));
    for second in 1..=10 {
        house.now = second * 1_000;
        let report = VmStatus { running: vec![running(1, 1, card(1, 1, on_eviction))], ..status(1, 2) };
        assert_eq!(house.told(Input::VmReported(report)), NOTHING);
        assert_eq!(house.told(Input::VmReported(status(2, 2))), NOTHING);
    }
    house
}

/// The same, after a notice of twenty seconds: what has run for ten will do so for thirty in one case of three.
fn racing() -> House {
    let mut house = long_run(OnEviction::Rerun);
    assert_eq!(
        house.told(notice(1, 30_000)),
        ["prewarm 1 of fn-1 on vm-2", "again 1, Notice", "fence 1.2 and 1", "run 1.2 on vm-2"]
    );
    house
}

#[test]
fn what_should_not_end_in_time_is_run_again_at_the_notice_and_the_second_may_win() {
    let mut house = racing();
    assert_eq!(house.finish(2, 1, 2, 1), ["cancel 1.1 on vm-1", "forget 1"]);
    assert_eq!(house.finish(1, 1, 1, 1), ["stale 1.1"]);
    assert_eq!(house.mind.gauges().booked, Resources::ZERO);
}

#[test]
fn or_the_first_may_win() {
    let mut house = racing();
    assert_eq!(house.finish(1, 1, 1, 1), ["cancel 1.2 on vm-2", "forget 1"]);
    assert_eq!(house.finish(2, 1, 2, 1), ["stale 1.2"]);
    assert_eq!(house.mind.gauges().in_flight, 0);
}

#[test]
fn when_the_vm_goes_the_second_is_the_only_one_that_counts() {
    let mut house = racing();
    assert_eq!(house.told(Input::VmLost(VmId(1))), ["vm-1 gone, Told, with 1", "fence 1.2"]);
    assert_eq!(house.finish(1, 1, 1, 1), ["stale 1.1"], "a dead attempt answers late");
    assert_eq!(house.finish(2, 1, 2, 1), ["forget 1"]);
}

#[test]
fn when_the_second_is_lost_the_first_counts_on_and_a_third_is_sent() {
    let mut house = racing();
    house.told(Input::VmReported(status(3, 2)));
    assert_eq!(
        house.told(Input::VmLost(VmId(2))),
        [
            "vm-2 gone, Told, with 1",
            "fence 1.3 and 1",
            "again 1, Notice",
            // The fence said so already; it is not said twice.
            "run 1.3 on vm-3",
        ]
    );
    assert_eq!(house.finish(2, 1, 2, 1), ["stale 1.2"], "the second is dead");
    assert_eq!(house.finish(1, 1, 1, 1), ["cancel 1.3 on vm-3", "forget 1"]);
}

#[test]
fn two_that_must_go_are_not_joined_by_a_third() {
    let mut house = racing();
    house.told(Input::VmReported(status(3, 2)));
    assert_eq!(house.told(notice(2, 11_000)), ["prewarm 1 of fn-1 on vm-3"]);
    house.now = 11_000;
    assert_eq!(
        house.told(Input::VmLost(VmId(2))),
        ["vm-2 gone, Told, with 1", "fence 1.3 and 1", "again 1, Notice", "run 1.3 on vm-3"]
    );
}

fn regular(vm: u64, cores: u32) -> Input {
    Input::VmReported(VmStatus { kind: VmKind::Regular, ..status(vm, cores) })
}

#[test]
fn the_second_run_of_what_may_outlast_another_notice_goes_to_a_regular_vm_while_one_has_room() {
    let mut house = long_run(OnEviction::Rerun);
    house.told(regular(3, 1));
    let said = house.told(notice(1, 30_000));
    assert_eq!(said[1..], ["again 1, Notice", "fence 1.2 and 1", "run 1.2 on vm-3"]);
    let mut house = long_run(OnEviction::Rerun);
    house.told(regular(3, 1));
    assert_eq!(house.submit(2, rerun(2)), ["run 2.1 on vm-2"], "a first run prefers harvest VMs");
    house.told(Input::VmReported(VmStatus {
        kind: VmKind::Regular,
        running: vec![running(9, 1, rerun(9))],
        ..status(3, 1)
    }));
    let said = house.told(notice(1, 30_000));
    assert_eq!(said[1..], ["again 1, Notice", "fence 1.2 and 1", "run 1.2 on vm-2"], "it waits for none");
}

#[test]
fn what_was_lost_without_notice_goes_to_a_regular_vm_if_it_may_be_long_and_else_where_a_first_run_would() {
    let mut house = long_run(OnEviction::Rerun);
    house.told(regular(3, 1));
    let said = house.told(Input::VmLost(VmId(1)));
    assert_eq!(said[1..], ["fence 1.2", "run 1.2 on vm-3"], "it had been seen to run for ten seconds");
    let mut house = House::of(&[2]);
    house.submit(1, rerun(1));
    house.told(Input::VmReported(status(2, 2)));
    house.told(regular(3, 1));
    let said = house.told(Input::VmLost(VmId(1)));
    assert_eq!(said[1..], ["fence 1.2", "run 1.2 on vm-2"], "nothing is known");
}

#[test]
fn a_notice_that_is_called_off_takes_the_second_run_back() {
    let mut house = racing();
    assert_eq!(house.told(called_off(1)), ["cancel 1.2 on vm-2", "fence 1.3 and 1"]);
    assert_eq!(house.finish(1, 1, 1, 1), ["forget 1"]);
    assert_eq!(
        house.mind.gauges(),
        Gauges { vms_open: 2, capacity: Resources::new(4_000, 16_384), ..Default::default() }
    );
}

#[test]
fn without_a_place_for_it_the_second_waits_and_is_not_given_up_while_the_first_runs() {
    let mut house = long_run(OnEviction::Rerun);
    house.submit(2, card(2, 2, OnEviction::Never));
    assert_eq!(house.told(notice(1, 30_000)), ["prewarm 1 of fn-1 on vm-2", "again 1, Notice"]);
    house.now = 25_000;
    let status = VmStatus { running: vec![running(1, 1, rerun(1))], ..status(1, 2) };
    house.told(Input::VmReported(status));
    assert_eq!(house.mind.gauges().waiting, 1);
    assert_eq!(house.finish(1, 1, 1, 1), ["forget 1"]);
    assert_eq!(house.mind.gauges().waiting, 0);
}

#[test]
fn one_that_waits_for_its_second_place_when_its_vm_goes_waits_on_with_its_own_patience() {
    let mut house = long_run(OnEviction::Rerun);
    house.submit(2, card(2, 2, OnEviction::Never));
    house.told(notice(1, 30_000));
    house.now = 11_000;
    assert_eq!(house.told(Input::VmLost(VmId(1))), ["vm-1 gone, Told, with 1"]);
    assert_eq!(house.finish(2, 2, 1, 2), ["forget 2", "fence 1.2", "run 1.2 on vm-2"]);
}

#[test]
fn what_should_end_in_time_is_left_alone_and_judged_again_with_every_report() {
    let mut house = House::of(&[2]);
    house.submit(1, rerun(1));
    house.told(Input::VmReported(status(2, 2)));
    house.now = 1_000;
    assert_eq!(house.told(notice(1, 31_000)), ["prewarm 1 of fn-1 on vm-2"]);
    let mut said = Vec::new();
    for second in 2..=12 {
        house.now = second * 1_000;
        let going = VmStatus {
            running: vec![running(1, 1, rerun(1))],
            standing: VmStanding::Draining,
            ..status(1, 2)
        };
        said.push(house.told(Input::VmReported(going)).join(", "));
        house.told(Input::VmReported(status(2, 2)));
    }
    // After eight seconds of 31 one in four has not ended, if nothing is known.
    let expected = "again 1, Notice, fence 1.2 and 1, run 1.2 on vm-2";
    assert_eq!(said[6], expected, "{said:?}");
    assert!(said.iter().enumerate().all(|(index, text)| index == 6 || text.is_empty()), "{said:?}");
}

#[test]
fn a_function_known_to_be_short_is_not_run_again() {
    let mut house = House::of(&[2]);
    for id in 10..40 {
        house.submit(id, rerun(1));
        house.finish(1, id, 1, 1);
    }
    house.submit(1, rerun(1));
    house.told(Input::VmReported(status(2, 2)));
    house.now = 80;
    assert_eq!(house.told(notice(1, 10_000)), ["prewarm 1 of fn-1 on vm-2"]);
}

#[test]
fn a_function_that_is_to_be_run_again_only_at_the_loss_or_never_is_left_alone_at_the_notice() {
    for (policy, then) in [
        (OnEviction::RerunAtLoss, "fence 1.2"),
        (
            OnEviction::Never,
            "give up 1: its VM vm-1 was lost and the function must not run twice (on-eviction: never)",
        ),
    ] {
        let mut house = long_run(policy);
        assert_eq!(house.told(notice(1, 10_100)), ["prewarm 1 of fn-1 on vm-2"]);
        assert_eq!(house.told(Input::VmLost(VmId(1)))[1], then);
    }
}

#[test]
fn a_withdrawn_race_is_called_off_on_both_vms() {
    let mut house = racing();
    assert_eq!(house.told(Input::Withdrawn(InvocationId(1))), ["cancel 1.1 on vm-1", "cancel 1.2 on vm-2"]);
    let cancelled = Ending { outcome: None, ..ending(1, 1, 1) };
    assert_eq!(
        house.told(Input::Finished { vm: VmId(1), ending: cancelled }),
        ["cancel 1.2 on vm-2", "forget 1"]
    );
}

#[test]
fn a_vm_that_is_told_to_drain_has_its_functions_made_warm_elsewhere_without_a_deadline() {
    let mut house = long_run(OnEviction::Rerun);
    let drains =
        VmStatus { standing: VmStanding::Draining, running: vec![running(1, 1, rerun(1))], ..status(1, 2) };
    assert_eq!(house.told(Input::VmReported(drains.clone())), ["prewarm 1 of fn-1 on vm-2"]);
    assert_eq!(house.told(Input::VmReported(drains)), NOTHING);
    assert_eq!(house.submit(2, rerun(1)), ["run 2.1 on vm-2"]);
    assert_eq!(house.finish(1, 1, 1, 1), ["forget 1"], "it has the time it needs");
}

#[test]
fn a_partitioned_vm_that_comes_back_finishes_nothing_twice() {
    let mut house = racing();
    house.told(Input::VmLost(VmId(1)));
    // It was only cut off, and reports again with what it had.
    let back = VmStatus { running: vec![running(1, 1, rerun(1))], ..status(1, 2) };
    assert_eq!(house.told(Input::VmReported(back)), ["cancel 1.1 on vm-1"]);
    assert_eq!(house.finish(1, 1, 1, 1), ["stale 1.1"]);
    assert_eq!(house.finish(2, 1, 2, 1), ["forget 1"]);
}

#[test]
fn the_rate_of_evictions_is_learned_from_notices_and_losses_once_each() {
    let mut house = House::of(&[2, 2, 2]);
    let before = house.mind.evictions();
    for vm in 1..=3 {
        house.told(Input::VmAge { vm: VmId(vm), age: Span::seconds(3_600) });
    }
    house.told(notice(1, 30_000));
    house.told(Input::VmLost(VmId(1)));
    house.told(Input::VmLost(VmId(2)));
    house.told(notice(3, 30_000));
    house.told(called_off(3));
    house.now = 10_000;
    house.told(Input::VmReported(status(3, 2)));
    // At its age two were evicted, and two count for the rate at any age, which has become about three in a day.
    let ratio = house.mind.evictions().0 as f64 / before.0 as f64;
    assert!((5.0..=6.5).contains(&ratio), "{ratio}");
}
