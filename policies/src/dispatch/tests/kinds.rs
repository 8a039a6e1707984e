//! Which kind of VM an invocation goes to, and what happens where there is none.

use super::*;
use crate::reliability;

const REGULAR: VmKind = VmKind::Regular;

fn mixed(strategy: &str, kinds: &[VmKind]) -> House {
    mixed_with(strategy, Settings { settle: Span::ZERO, ..Settings::default() }, kinds)
}

fn mixed_with(strategy: &str, settings: Settings, kinds: &[VmKind]) -> House {
    let placement = placement::by_name("mws", &placement::Settings::default()).unwrap();
    let mind = Dispatch::new(settings, placement, Box::new(Fixed))
        .with_reliability(reliability::by_name(strategy).unwrap());
    let mut house = House { mind, now: 0 };
    for (index, &kind) in kinds.iter().enumerate() {
        house.told(Input::VmReported(VmStatus { kind, ..status(index as u64 + 1, 2) }));
    }
    house
}

fn patient(function: u64, on_eviction: OnEviction) -> FunctionCard {
    FunctionCard { timeout: Span::seconds(600), ..card(function, 1, on_eviction) }
}

fn took(house: &mut House, vm: u64, id: u128, seconds: u64) {
    let ending = Ending { duration: Span::seconds(seconds), ..ending(id, 1, 1) };
    house.told(Input::Finished { vm: VmId(vm), ending });
}

#[test]
fn an_application_that_was_long_once_goes_to_regular_vms_without_failures() {
    let mut house = mixed("no-failure", &[VmKind::Harvest, REGULAR]);
    assert_eq!(house.submit(1, patient(1, OnEviction::Rerun)), ["run 1.1 on vm-2"], "nothing is known yet");
    took(&mut house, 2, 1, 5);
    assert_eq!(house.submit(2, patient(1, OnEviction::Rerun)), ["run 2.1 on vm-1"]);
    took(&mut house, 1, 2, 31);
    assert_eq!(house.submit(3, patient(1, OnEviction::Rerun)), ["run 3.1 on vm-2"]);
}

#[test]
fn functions_of_one_application_are_judged_together() {
    let mut house = mixed("no-failure", &[VmKind::Harvest, REGULAR]);
    let of = |function| FunctionCard {
        application: Some(vocabulary::ApplicationId(9)),
        ..patient(function, OnEviction::Rerun)
    };
    house.submit(1, of(1));
    took(&mut house, 2, 1, 40);
    assert_eq!(house.submit(2, FunctionCard { timeout: Span::seconds(5), ..of(2) }), ["run 2.1 on vm-2"]);
}

#[test]
fn what_may_run_on_one_kind_only_waits_for_it_while_the_other_is_empty() {
    let mut house = mixed("no-failure", &[VmKind::Harvest, REGULAR]);
    house.submit(1, patient(1, OnEviction::Rerun));
    house.submit(2, patient(1, OnEviction::Rerun));
    assert_eq!(house.submit(3, patient(1, OnEviction::Rerun)), NOTHING);
    house.now = 1_000;
    assert_eq!(house.finish(2, 1, 1, 1), ["forget 1"], "it was short, so that 2 should be over soon");
    house.now = 1_300;
    assert_eq!(house.told(Input::Woke), ["run 3.1 on vm-1"], "which it is not");
}

#[test]
fn expected_loss_prefers_harvest_vms_and_uses_regular_ones_when_those_are_full() {
    let mut house = mixed("expected-loss", &[VmKind::Harvest, REGULAR]);
    for (id, vm) in [(1, 1), (2, 1), (3, 2), (4, 2)] {
        assert_eq!(house.submit(id, rerun(1)), [format!("run {id}.1 on vm-{vm}")]);
    }
    assert_eq!(house.submit(5, rerun(1)), NOTHING);
}

#[test]
fn expected_loss_needs_a_regular_vm_for_what_is_long_and_must_not_run_twice() {
    let never = patient(1, OnEviction::Never);
    // A day of life, 570 s beyond the grace: one in 150 would be lost.
    let mut house = mixed("expected-loss(0.1)", &[VmKind::Harvest, REGULAR]);
    assert_eq!(house.submit(1, never), ["run 1.1 on vm-2"]);
    took(&mut house, 2, 1, 40);
    assert_eq!(house.submit(2, never), ["run 2.1 on vm-1"], "ten seconds: one in 8,640");
    // Without a regular VM it is run all the same.
    let mut house = mixed("expected-loss", &[VmKind::Harvest]);
    assert_eq!(house.submit(1, never), ["run 1.1 on vm-1"]);
}

#[test]
fn without_a_vm_of_the_only_kind_one_is_waited_for_and_then_the_refusal_names_it() {
    let mut house = mixed("live-and-let-die", &[REGULAR]);
    let refusal = |id: u32| {
        format!(
            "refuse {id}: no harvest VM takes work at the moment, and it may run on no other (controller.reliability)"
        )
    };
    assert_eq!(house.submit(1, rerun(1)), NOTHING, "one may come");
    assert_eq!(
        house.mind.demand().harvest.waiting,
        Resources::new(1_000, 256),
        "somebody must know that it is wanted"
    );
    house.now = 1_000;
    assert_eq!(house.submit(2, rerun(2)), NOTHING);
    assert!(house.mind.next_wakeup() <= Some(at(10_000)), "it asks to be woken in time");
    house.now = 10_000;
    assert_eq!(house.told(Input::Woke), [refusal(1), refusal(2)]);
    assert_eq!(house.submit(3, rerun(1)), [refusal(3)]);
    house.now = 20_000;
    assert_eq!(house.submit(4, rerun(1)), NOTHING, "the next one waits again");
    house.now = 21_000;
    let said = house.told(Input::VmReported(VmStatus { kind: VmKind::Harvest, ..status(2, 2) }));
    assert_eq!(said, ["run 4.1 on vm-2"]);
}

#[test]
fn a_durable_submission_that_no_vm_could_hold_ends_after_the_grace() {
    let settings =
        Settings { settle: Span::ZERO, unplaceable_grace: Span::seconds(2), ..Settings::default() };
    let mut house = mixed_with("expected-loss", settings, &[VmKind::Harvest]);
    let large = |id| Submission {
        durable: true,
        give_up_at: Moment::NEVER,
        ..house_submission(id, card(1, 3, OnEviction::Rerun))
    };
    assert_eq!(house.told(Input::Submitted(large(1))), NOTHING);
    assert_eq!(house.told(Input::Submitted(large(2))), NOTHING);
    assert_eq!(house.mind.next_wakeup(), Some(at(1_000)), "it looks for one to keep free");
    house.now = 2_000;
    let why = "no VM it may run on has been large enough for 3000m CPU and 256 MiB within 2.00 s \
               (2000m CPU and 8192 MiB at most)";
    assert_eq!(house.told(Input::Woke), [format!("give up 1: {why}"), format!("give up 2: {why}")]);
    // One that a larger VM comes for is run.
    assert_eq!(house.told(Input::Submitted(large(3))), NOTHING);
    house.now = 3_000;
    house.told(Input::VmReported(status(1, 2)));
    assert_eq!(house.told(Input::VmReported(status(2, 4))), ["run 3.1 on vm-2"]);
    house.now = 5_000;
    assert!(house.told(Input::Woke).iter().all(|said| !said.contains("give up")));
}

fn house_submission(id: u128, card: FunctionCard) -> Submission {
    Submission {
        invocation: InvocationId(id),
        function: card,
        first_attempt: Attempt::FIRST,
        input_bytes: 0,
        give_up_at: Moment::NEVER,
        durable: true,
        truth: None,
    }
}

#[test]
fn a_durable_submission_waits_for_a_place_for_a_day_and_not_for_ever() {
    let mut house = mixed("expected-loss", &[VmKind::Harvest]);
    house.submit(1, card(1, 2, OnEviction::Rerun));
    assert_eq!(house.told(Input::Submitted(house_submission(2, rerun(2)))), NOTHING);
    let day = 24 * 3_600 * 1_000;
    for ms in (0..=day).step_by(1_000) {
        house.now = ms;
        let running = vec![running(1, 1, card(1, 2, OnEviction::Rerun))];
        let said = house.told(Input::VmReported(VmStatus { running, ..status(1, 2) }));
        assert_eq!(said.len(), usize::from(ms == day), "after {ms} ms: {said:?}");
    }
}

#[test]
fn while_there_is_no_vm_at_all_nothing_is_called_too_large() {
    let settings =
        Settings { settle: Span::ZERO, unplaceable_grace: Span::seconds(2), ..Settings::default() };
    let mut house = mixed_with("expected-loss", settings, &[]);
    house.told(Input::Submitted(house_submission(1, rerun(1))));
    house.now = 60_000;
    assert_eq!(house.told(Input::Woke), NOTHING);
    assert_eq!(house.told(Input::VmReported(status(1, 2))), ["run 1.1 on vm-1"]);
}

#[test]
fn what_is_asked_of_the_fleet_is_counted_for_the_kind_that_is_wanted_first() {
    let mut house = mixed("no-failure", &[VmKind::Harvest]);
    let short = |id| FunctionCard { timeout: Span::seconds(5), ..rerun(id) };
    house.submit(1, short(1));
    house.submit(2, short(1));
    house.submit(3, short(2));
    let durable = |id, card| Submission { durable: true, ..house_submission(id, card) };
    house.told(Input::Submitted(durable(4, patient(3, OnEviction::Rerun))));
    let demand = house.mind.demand();
    assert_eq!(demand.harvest.running, Resources::new(2_000, 512));
    assert_eq!(demand.harvest.waiting, Resources::new(1_000, 256));
    assert_eq!(demand.regular.waiting, Resources::new(1_000, 256), "it waits for a VM that is not there");
    assert_eq!(demand.regular.largest, Resources::new(1_000, 256));
    assert_eq!(demand.regular.needs(), Resources::new(1_000, 256));
    // Two arrivals of a function that takes 100 ms, within a moment: 0.2 at once.
    house.finish(1, 1, 1, 1);
    assert_eq!(house.mind.demand().harvest.predicted, Resources::new(200, 51));
}
