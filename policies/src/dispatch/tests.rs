use vocabulary::{
    FunctionCard, Grant, OnEviction, Outcome, Revision, RunningOnVm, Usage, VmKind, VmStanding, WarmOnVm,
};

use super::*;
use crate::allocation::fixed::Fixed;
use crate::placement;

mod early;
mod eviction;
mod granting;
mod kinds;
mod lost;
mod prewarming;
mod starving;
mod turns;

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
        Output::Adopt { vm, invocation, attempt } => format!("adopt {}.{attempt} on {vm}", invocation.0),
        Output::Prewarm { vm, function, count } => format!("prewarm {count} of {} on {vm}", function.id),
        Output::VmGone { vm, why, open_attempts } => format!("{vm} gone, {why:?}, with {open_attempts}"),
        Output::Stale { invocation, attempt } => format!("stale {}.{attempt}", invocation.0),
        Output::Ran(ref seen) => {
            let known = seen.expected.map_or(0, |expected| expected.runs);
            format!("{} ran, of {known} known", seen.ending.invocation.0)
        }
    }
}

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
    house.now = 19_000;
    let refused = house.submit(2, rerun(1));
    let no_vm = |id: u32| format!("refuse {id}: no VM takes work at the moment");
    assert_eq!(refused, [no_vm(2), no_vm(1)], "the new one, and the one that waited for a VM");
    let durable = Submission { durable: true, ..house.submission(3, rerun(1)) };
    assert_eq!(house.told(Input::Submitted(durable)), NOTHING);
    house.now = 29_000;
    assert_eq!(
        house.submit(4, rerun(1)),
        NOTHING,
        "somebody waits again, or nobody would know that a VM is wanted"
    );
    house.now = 39_000;
    assert_eq!(house.told(Input::Woke), [no_vm(4)]);
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
