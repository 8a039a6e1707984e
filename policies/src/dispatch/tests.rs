use vocabulary::{Grant, OnEviction, Outcome, Revision, RunningOnVm, Usage, VmKind, VmStanding, WarmOnVm};

use super::*;
use crate::allocation::fixed::Fixed;
use crate::placement;

mod eviction;
mod kinds;

fn at(ms: u64) -> Moment {
    Moment::ORIGIN + Span::seconds(100) + Span::millis(ms)
}

struct House {
    mind: Dispatch,
    now: u64,
}

fn card(function: u64, cores: u32, on_eviction: OnEviction) -> FunctionCard {
    FunctionCard {
        id: FunctionId(function),
        revision: Revision(1),
        reservation: Resources::new(cores * 1_000, 256),
        timeout: Span::seconds(10),
        on_eviction,
        application: None,
    }
}

fn status(vm: u64, cores: u32) -> VmStatus {
    VmStatus {
        vm: VmId(vm),
        kind: VmKind::Harvest,
        capacity: Resources::new(cores * 1_000, 8_192),
        standing: VmStanding::Open,
        warm: vec![],
        running: vec![],
    }
}

fn running(id: u128, attempt: u32, card: FunctionCard) -> RunningOnVm {
    RunningOnVm {
        invocation: InvocationId(id),
        attempt: Attempt(attempt),
        function: card,
        grant: Grant::fixed(card.reservation),
    }
}

impl House {
    /// VMs of so many cores, numbered from 1, which have just reported.
    fn of(cores: &[u32]) -> Self {
        Self::with(Settings { settle: Span::ZERO, ..Settings::default() }, cores)
    }

    fn with(settings: Settings, cores: &[u32]) -> Self {
        let placement = placement::by_name("mws", &placement::Settings::default()).unwrap();
        let mut house = Self { mind: Dispatch::new(settings, placement, Box::new(Fixed)), now: 0 };
        for (index, &cores) in cores.iter().enumerate() {
            house.told(Input::VmReported(status(index as u64 + 1, cores)));
        }
        house
    }

    fn told(&mut self, input: Input) -> Vec<String> {
        let mut outputs = Vec::new();
        self.mind.handle(at(self.now), input, &mut outputs);
        outputs.iter().map(say).collect()
    }

    fn submit(&mut self, id: u128, card: FunctionCard) -> Vec<String> {
        self.told(Input::Submitted(self.submission(id, card)))
    }

    fn submission(&self, id: u128, card: FunctionCard) -> Submission {
        Submission {
            invocation: InvocationId(id),
            function: card,
            first_attempt: Attempt::FIRST,
            input_bytes: 0,
            give_up_at: at(self.now + 60_000),
            durable: false,
            truth: None,
        }
    }

    fn finish(&mut self, vm: u64, id: u128, attempt: u32, function: u64) -> Vec<String> {
        self.told(Input::Finished { vm: VmId(vm), ending: ending(id, attempt, function) })
    }
}

fn ending(id: u128, attempt: u32, function: u64) -> Ending {
    Ending {
        invocation: InvocationId(id),
        attempt: Attempt(attempt),
        function: FunctionId(function),
        revision: Revision(1),
        outcome: Some(Outcome::Success),
        cold: true,
        init: Span::millis(300),
        duration: Span::millis(100),
        usage: Usage::default(),
        sandbox_kept: true,
        input_bytes: 0,
    }
}

fn say(output: &Output) -> String {
    match *output {
        Output::Run { vm, invocation, attempt, .. } => format!("run {}.{attempt} on {vm}", invocation.0),
        Output::Refuse { invocation, why } => format!("refuse {}: {why}", invocation.0),
        Output::GiveUp { invocation, why, .. } => format!("give up {}: {why}", invocation.0),
        Output::Fence { invocation, oldest_valid, also: None } => {
            format!("fence {}.{oldest_valid}", invocation.0)
        }
        Output::Fence { invocation, oldest_valid, also: Some(also) } => {
            format!("fence {}.{oldest_valid} and {also}", invocation.0)
        }
        Output::Again { invocation, why } => format!("again {}, {why:?}", invocation.0),
        Output::Forget(invocation) => format!("forget {}", invocation.0),
        Output::Cancel { vm, invocation, attempt } => format!("cancel {}.{attempt} on {vm}", invocation.0),
        Output::Prewarm { vm, function, count } => format!("prewarm {count} of {} on {vm}", function.id),
        Output::VmGone { vm, why, open_attempts } => format!("{vm} gone, {why:?}, with {open_attempts}"),
        Output::Stale { invocation, attempt } => format!("stale {}.{attempt}", invocation.0),
    }
}

mod granting;

const NOTHING: [&str; 0] = [];

fn rerun(function: u64) -> FunctionCard {
    card(function, 1, OnEviction::Rerun)
}

#[test]
fn an_invocation_goes_out_at_once_and_ends_when_it_is_finished() {
    let mut house = House::of(&[2]);
    assert_eq!(house.submit(1, rerun(1)), ["run 1.1 on vm-1"]);
    assert_eq!(house.submit(1, rerun(1)), NOTHING, "it is known");
    assert_eq!(house.finish(1, 1, 1, 1), ["forget 1"]);
    assert_eq!(house.finish(1, 1, 1, 1), ["stale 1.1"]);
    assert_eq!(house.mind.gauges().booked, Resources::ZERO);
    assert_eq!(house.mind.profile(FunctionId(1)).unwrap().runs(), (1, 1));
}

#[test]
fn what_does_not_fit_waits_where_it_can_still_go_anywhere() {
    let mut house = House::of(&[1, 1]);
    let first = house.submit(1, rerun(1));
    let (first, second) = if first == ["run 1.1 on vm-1"] { (1, 2) } else { (2, 1) };
    assert_eq!(house.submit(2, rerun(1)), [format!("run 2.1 on vm-{second}")]);
    assert_eq!(house.submit(3, rerun(1)), NOTHING);
    house.now = 500;
    assert_eq!(house.finish(second, 2, 1, 1), ["forget 2".into(), format!("run 3.1 on vm-{second}")]);
    assert_eq!(house.finish(first, 1, 1, 1), ["forget 1"]);
}

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
fn without_any_vm_who_waits_unsent_is_refused_after_the_grace() {
    let mut house = House::of(&[2]);
    house.submit(1, card(1, 2, OnEviction::Rerun));
    assert_eq!(house.submit(2, rerun(2)), NOTHING, "it waits for room");
    let durable = Submission { durable: true, ..house.submission(3, rerun(3)) };
    assert_eq!(house.told(Input::Submitted(durable)), NOTHING);
    house.told(Input::VmLost(VmId(1)));
    house.now = 9_000;
    assert_eq!(house.told(Input::Woke), NOTHING, "a VM may still come");
    assert!(house.mind.next_wakeup() <= Some(at(10_000)), "it asks to be woken in time");
    house.now = 10_000;
    assert_eq!(house.told(Input::Woke), ["refuse 2: no VM takes work at the moment"]);
    assert_eq!(house.mind.gauges().waiting, 2, "who was sent, and what is durable, waits on");
    house.now = 20_000;
    assert_eq!(house.told(Input::VmReported(status(2, 8))).len(), 3, "a fence and two runs");
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
    assert_eq!(house.mind.next_wakeup(), Some(at(3_000)));
    house.now = 3_000;
    assert_eq!(house.told(Input::Woke), ["vm-1 gone, Silent, with 1"]);
}

#[test]
fn a_controller_that_slept_does_not_call_the_vms_silent() {
    let mut house = House::of(&[1]);
    house.now = 10_000;
    assert_eq!(house.told(Input::Woke), NOTHING);
    assert_eq!(house.mind.next_wakeup(), Some(at(11_500)));
    assert_eq!(house.told(Input::VmReported(status(1, 1))), NOTHING);
    house.now = 11_500;
    assert_eq!(house.told(Input::Woke), NOTHING);
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
    assert_eq!(house.submit(1, rerun(1)), NOTHING, "it runs already");
    assert_eq!(house.finish(1, 1, 3, 1), ["forget 1", "run 9.1 on vm-1"]);
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
    assert_eq!(house.mind.next_wakeup(), Some(at(1_200)));
    house.now = 1_200;
    assert_eq!(house.told(Input::Woke), ["run 1.1 on vm-1"]);
}

#[test]
fn a_vm_with_notice_takes_nothing_new_and_its_functions_are_made_warm_elsewhere() {
    let mut house = House::of(&[2]);
    house.submit(1, rerun(1));
    house.told(Input::VmReported(status(2, 2)));
    let notice = Input::VmNoticed { vm: VmId(1), deadline: Some(at(30_000)) };
    assert_eq!(house.told(notice.clone()), ["prewarm 1 of fn-1 on vm-2"]);
    assert_eq!(house.told(notice), NOTHING);
    assert_eq!(house.submit(2, rerun(1)), ["run 2.1 on vm-2"]);
    assert_eq!(house.finish(1, 1, 1, 1), ["forget 1"], "what ran there may end there");
    house.told(Input::VmNoticed { vm: VmId(1), deadline: None });
    assert_eq!(house.mind.gauges().vms_open, 2);
}

#[test]
fn without_any_vm_it_waits_while_one_may_come_and_is_refused_after() {
    let mut house = House::of(&[1]);
    house.told(Input::VmLost(VmId(1)));
    house.now = 9_000;
    assert_eq!(house.submit(1, rerun(1)), NOTHING);
    house.now = 11_000;
    let refused = house.submit(2, rerun(1));
    let no_vm = |id: u32| format!("refuse {id}: no VM takes work at the moment");
    assert_eq!(refused, [no_vm(2), no_vm(1)], "the new one, and the one that waited for a VM");
    let durable = Submission { durable: true, ..house.submission(3, rerun(1)) };
    assert_eq!(house.told(Input::Submitted(durable)), NOTHING);
}

#[test]
fn refusals_name_their_reason() {
    let settings =
        Settings { settle: Span::ZERO, queue_limit: 3, function_queue_limit: 1, ..Settings::default() };
    let mut house = House::with(settings, &[1]);
    let large = house.submit(1, card(9, 2, OnEviction::Rerun));
    assert!(large[0].starts_with("refuse 1: a reservation of 2000m CPU"), "{large:?}");
    house.submit(2, rerun(1));
    house.submit(3, rerun(1));
    assert_eq!(
        house.submit(4, rerun(1)),
        ["refuse 4: the function already has 1 invocations waiting for a place"]
    );
    let durable = Submission { durable: true, ..house.submission(5, rerun(1)) };
    assert_eq!(house.told(Input::Submitted(durable)), NOTHING);
    house.submit(6, rerun(2));
    let refused = "refuse 7: 3 invocations are already waiting for a place";
    assert_eq!(house.submit(7, rerun(3)), [refused]);
}

#[test]
fn patience_ends() {
    let mut house = House::of(&[1]);
    house.submit(1, rerun(1));
    let hasty = Submission { give_up_at: at(500), ..house.submission(2, rerun(2)) };
    house.told(Input::Submitted(hasty));
    assert_eq!(house.mind.next_wakeup(), Some(at(500)));
    house.now = 500;
    assert_eq!(house.told(Input::Woke), ["give up 2: no place was found within 500.0 ms"]);
}

#[test]
fn who_is_withdrawn_while_it_waits_is_forgotten_and_who_runs_is_cancelled_first() {
    let mut house = House::of(&[1]);
    house.submit(1, rerun(1));
    house.submit(2, rerun(2));
    assert_eq!(house.told(Input::Withdrawn(InvocationId(2))), ["forget 2"]);
    assert_eq!(house.told(Input::Withdrawn(InvocationId(1))), ["cancel 1.1 on vm-1"]);
    let cancelled = Ending { outcome: None, ..ending(1, 1, 1) };
    assert_eq!(house.told(Input::Finished { vm: VmId(1), ending: cancelled }), ["forget 1"]);
    assert_eq!(house.mind.profile(FunctionId(1)).unwrap().runs(), (0, 0), "a cancelled run teaches nothing");
}

#[test]
fn who_is_withdrawn_and_loses_its_vm_is_not_run_again() {
    let mut house = House::of(&[1]);
    house.submit(1, rerun(1));
    house.told(Input::Withdrawn(InvocationId(1)));
    assert_eq!(house.told(Input::VmLost(VmId(1))), ["vm-1 gone, Told, with 1", "forget 1"]);
}

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
fn a_shrunk_vm_takes_nothing_until_it_has_room_again() {
    let mut house = House::of(&[4]);
    for id in 1..=3 {
        house.submit(id, rerun(id as u64));
    }
    let shrunk = |ids: &[u64], cores| {
        let listed = ids.iter().map(|&id| running(id.into(), 1, rerun(id))).collect();
        Input::VmReported(VmStatus { running: listed, ..status(1, cores) })
    };
    house.told(shrunk(&[1, 2, 3], 2));
    assert_eq!(house.submit(4, rerun(4)), NOTHING);
    assert_eq!(house.finish(1, 1, 1, 1), ["forget 1"]);
    assert_eq!(house.finish(1, 2, 1, 2), ["forget 2", "run 4.1 on vm-1"]);
}

#[test]
fn a_report_that_crossed_a_run_does_not_make_its_sandbox_seem_idle() {
    let mut house = House::of(&[2]);
    house.submit(1, rerun(1));
    house.finish(1, 1, 1, 1);
    house.submit(2, rerun(1));
    // The VM wrote this before 2 came.
    let warm = vec![WarmOnVm { function: FunctionId(1), revision: Revision(1), idle: 1 }];
    house.told(Input::VmReported(VmStatus { warm, ..status(1, 2) }));
    let slot = house.mind.books.slot(VmId(1)).unwrap();
    assert_eq!(house.mind.books.idle(FunctionId(1), Revision(1), slot), 0);
    house.finish(1, 2, 1, 1);
    assert_eq!(house.mind.books.idle(FunctionId(1), Revision(1), slot), 1);
}

#[test]
fn a_sandbox_that_a_report_has_shown_is_not_counted_again_when_its_ending_comes() {
    let mut house = House::of(&[2]);
    house.submit(1, rerun(1));
    let listed = VmStatus { running: vec![running(1, 1, rerun(1))], ..status(1, 2) };
    house.told(Input::VmReported(listed));
    let warm = vec![WarmOnVm { function: FunctionId(1), revision: Revision(1), idle: 1 }];
    house.told(Input::VmReported(VmStatus { warm, ..status(1, 2) }));
    house.finish(1, 1, 1, 1);
    let slot = house.mind.books.slot(VmId(1)).unwrap();
    assert_eq!(house.mind.books.idle(FunctionId(1), Revision(1), slot), 1);
}

/// Early binding: VMs of one core under `vanilla`, which sends by memory.
fn early(vms: u64) -> House {
    let settings = Settings { settle: Span::ZERO, ..Settings::default() };
    let placement = placement::by_name("vanilla", &placement::Settings::default()).unwrap();
    let mut house = House { mind: Dispatch::new(settings, placement, Box::new(Fixed)), now: 0 };
    for vm in 1..=vms {
        house.told(Input::VmReported(status(vm, 1)));
    }
    house
}

#[test]
fn early_binding_sends_at_once_even_to_a_full_vm_and_waits_for_no_warm_sandbox() {
    let mut house = early(1);
    for id in 1..=50 {
        assert_eq!(house.submit(id, rerun(1)), [format!("run {id}.1 on vm-1")]);
        if id == 1 {
            // From now on, making a sandbox is known to take longer than a run.
            assert_eq!(house.finish(1, 1, 1, 1), ["forget 1"]);
        }
    }
    assert_eq!(house.mind.gauges().waiting, 0);
    assert_eq!(house.mind.booked_on(VmId(1)).unwrap().booked_by_us.cpu.0, 49_000);
    assert_eq!(house.submit(99, card(2, 4, OnEviction::Rerun)), ["run 99.1 on vm-1"], "more than it has");
    let mut huge = card(3, 1, OnEviction::Rerun);
    huge.reservation.memory.0 = 8_193;
    assert!(house.submit(100, huge)[0].starts_with("refuse 100"), "no container of that size ever begins");
}

#[test]
fn early_binding_waits_only_for_want_of_any_vm() {
    let mut house = early(0);
    assert_eq!(house.submit(1, rerun(1)), NOTHING);
    house.now = 2_000;
    assert_eq!(house.told(Input::Woke), NOTHING);
    assert!(house.mind.next_wakeup().is_some_and(|next| next > at(2_000)), "nothing to look after");
    assert_eq!(house.told(Input::VmReported(status(1, 1))), ["run 1.1 on vm-1"]);
}

#[test]
fn what_a_vm_gave_back_does_not_return_to_it_before_it_has_reported_under_early_binding_either() {
    let mut house = early(1);
    house.submit(1, rerun(1));
    let back = Input::HandedBack { vm: VmId(1), invocation: InvocationId(1), attempt: Attempt(1) };
    assert_eq!(house.told(back), NOTHING);
    house.now = 900;
    assert_eq!(house.told(Input::VmReported(status(1, 1))), ["fence 1.2", "run 1.2 on vm-1"]);
}

#[test]
fn a_placement_that_sizes_containers_itself_does_so_in_the_run_that_is_sent() {
    let settings = Settings { settle: Span::ZERO, ..Settings::default() };
    let placement = placement::by_name("mws-sosp21", &placement::Settings::default()).unwrap();
    let mut mind = Dispatch::new(settings, placement, Box::new(Fixed));
    let mut outputs = Vec::new();
    mind.handle(at(0), Input::VmReported(status(1, 16)), &mut outputs);
    let house = House { mind, now: 0 };
    let submission = house.submission(1, rerun(1));
    let mut mind = house.mind;
    mind.handle(at(0), Input::Submitted(submission), &mut outputs);
    let Some(&Output::Run { grant, .. }) = outputs.last() else { panic!("{outputs:?}") };
    // Not profiled: one core is taken to be used, two are allowed.
    assert_eq!(grant, Grant::new(Resources::new(1_000, 256), Resources::new(2_000, 256)));
    // 3 cores for 100 ms: limit = ceil(2.0 * 3.0), at most 4; use = ceil(1.5 * 3.0), at most 4.
    let used = Usage { cpu_time: Span::millis(300), ..Usage::default() };
    mind.handle(
        at(100),
        Input::Finished { vm: VmId(1), ending: Ending { usage: used, ..ending(1, 1, 1) } },
        &mut outputs,
    );
    mind.handle(
        at(200),
        Input::Submitted(Submission { invocation: InvocationId(2), ..submission }),
        &mut outputs,
    );
    let Some(&Output::Run { grant, .. }) = outputs.last() else { panic!("{outputs:?}") };
    assert_eq!(grant, Grant::new(Resources::new(4_000, 256), Resources::new(4_000, 256)));
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
