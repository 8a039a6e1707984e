use vocabulary::{FunctionId, OnEviction, Revision};

use super::*;

fn card(function: u64, revision: u64) -> FunctionCard {
    FunctionCard {
        id: FunctionId(function),
        revision: Revision(revision),
        reservation: Resources::new(1_000, 256),
        timeout: Span::seconds(10),
        on_eviction: OnEviction::Rerun,
        application: None,
    }
}

fn vm(cores: u32, memory: u32) -> Residency {
    Residency::new(Settings::default(), Resources::new(cores * 1_000, memory))
}

fn at(seconds: u64) -> Moment {
    Moment::ORIGIN + Span::seconds(seconds)
}

fn told(vm: &mut Residency, now: Moment, input: Input) -> Vec<Output> {
    let mut outputs = Vec::new();
    vm.handle(now, input, &mut outputs);
    outputs
}

fn run_of(id: u128, attempt: u32, function: FunctionCard) -> Input {
    Input::Run {
        from: ControllerId(1),
        invocation: InvocationId(id),
        attempt: Attempt(attempt),
        function,
        grant: Grant::fixed(function.reservation),
    }
}

fn run(id: u128) -> Input {
    run_of(id, 1, card(1, 1))
}

/// What was asked for, in short.
fn said(outputs: &[Output]) -> Vec<String> {
    let say = |output: &Output| match *output {
        Output::Start { sandbox, .. } => format!("start {}", sandbox.0),
        Output::Execute { sandbox, invocation, cold, .. } => {
            format!("execute {} in {}{}", invocation.0, sandbox.0, if cold { " cold" } else { "" })
        }
        Output::Stop { sandbox, why } => format!("stop {} {why:?}", sandbox.0),
        Output::Kill { sandbox, invocation, .. } => format!("kill {} in {}", invocation.0, sandbox.0),
        Output::HandBack { invocation, why, .. } => format!("back {} {why:?}", invocation.0),
        Output::Resize { sandbox, .. } => format!("resize {}", sandbox.0),
        Output::Duplicate { invocation, .. } => format!("duplicate {}", invocation.0),
        Output::Asked { by, invocation, attempt, known } => {
            format!("{by} asks for {}.{attempt}: {known:?}", invocation.0)
        }
    };
    outputs.iter().map(say).collect()
}

fn ready(sandbox: u64) -> Input {
    Input::SandboxReady(SandboxId(sandbox))
}

fn ended(sandbox: u64) -> Input {
    Input::RunEnded { sandbox: SandboxId(sandbox), kept: true }
}

#[test]
fn the_first_run_makes_a_sandbox_and_the_second_finds_it_warm() {
    let mut vm = vm(4, 1_024);
    assert_eq!(said(&told(&mut vm, at(0), run(1))), ["start 1"]);
    assert_eq!(said(&told(&mut vm, at(0), ready(1))), ["execute 1 in 1 cold"]);
    assert_eq!(said(&told(&mut vm, at(1), ended(1))), [""; 0]);
    assert_eq!(vm.warm(), [WarmOnVm { function: FunctionId(1), revision: Revision(1), idle: 1 }]);
    assert_eq!(said(&told(&mut vm, at(1), run(2))), ["execute 2 in 1"]);
    assert_eq!(vm.running().len(), 1);
}

#[test]
fn a_run_takes_the_sandbox_that_becomes_free_before_its_own_is_made() {
    let mut vm = vm(4, 1_024);
    told(&mut vm, at(0), run(1));
    told(&mut vm, at(0), ready(1));
    assert_eq!(said(&told(&mut vm, at(0), run(2))), ["start 2"]);
    assert_eq!(vm.attempt_on(SandboxId(2)), Some((InvocationId(2), Attempt(1))));
    assert_eq!(said(&told(&mut vm, at(1), ended(1))), ["execute 2 in 1"]);
    assert_eq!(vm.attempt_on(SandboxId(2)), None);
    assert_eq!(said(&told(&mut vm, at(2), ready(2))), [""; 0]);
    assert_eq!(vm.gauges().idle, 1, "the one that was made for it is there for the next");
}

#[test]
fn a_sandbox_that_came_to_nothing_takes_with_it_only_what_waits_for_it_now() {
    let mut vm = vm(4, 1_024);
    told(&mut vm, at(0), run(1));
    assert_eq!(vm.attempt_on(SandboxId(1)), Some((InvocationId(1), Attempt(1))));
    told(&mut vm, at(0), Input::SandboxFailed(SandboxId(1)));
    assert_eq!((vm.running().len(), vm.booked()), (0, Resources::ZERO));
}

#[test]
fn idle_sandboxes_make_room_the_longest_idle_first() {
    let mut vm = vm(4, 768);
    for (id, function) in [(1, 1), (2, 2), (3, 3)] {
        told(&mut vm, at(id), run_of(id.into(), 1, card(function, 1)));
        told(&mut vm, at(id), ready(id));
        told(&mut vm, at(id), ended(id));
    }
    assert_eq!(vm.gauges().idle, 3);
    assert_eq!(said(&told(&mut vm, at(4), run_of(4, 1, card(4, 1)))), ["stop 1 MemoryNeeded", "start 4"]);
}

#[test]
fn one_that_does_not_fit_waits_and_whatever_comes_then_goes_back_at_once() {
    let mut vm = vm(1, 1_024);
    told(&mut vm, at(0), run(1));
    told(&mut vm, at(0), ready(1));
    assert_eq!(said(&told(&mut vm, at(0), run(2))), [""; 0]);
    assert_eq!(said(&told(&mut vm, at(0), run(3))), ["back 3 NoRoom"]);
    assert_eq!(vm.running().len(), 2, "what waits is reported, too");
    assert_eq!(said(&told(&mut vm, at(1), ended(1))), ["execute 2 in 1"]);
}

#[test]
fn as_much_may_wait_as_is_about_to_end_and_a_full_queue_says_so() {
    let settings = Settings { queue_limit: 2, ..Settings::default() };
    let mut vm = Residency::new(settings, Resources::new(3_000, 1_024));
    for id in 1..=3 {
        told(&mut vm, at(0), run(id));
        told(&mut vm, at(0), ready(id as u64));
    }
    for id in 1..=3 {
        let killed =
            told(&mut vm, at(1), Input::Cancel { invocation: InvocationId(id), attempt: Attempt(1) });
        assert_eq!(said(&killed), [format!("kill {id} in {id}")]);
    }
    assert_eq!(said(&told(&mut vm, at(1), run(4))), [""; 0]);
    assert_eq!(said(&told(&mut vm, at(1), run(5))), [""; 0]);
    assert_eq!(said(&told(&mut vm, at(1), run(6))), ["back 6 QueueFull"]);
    let gone = Input::RunEnded { sandbox: SandboxId(1), kept: false };
    assert_eq!(said(&told(&mut vm, at(1), gone)), ["start 4"]);
}

#[test]
fn what_waits_too_long_for_room_that_another_controller_took_goes_back() {
    let mut vm = vm(1, 2_048);
    told(&mut vm, at(0), run(1));
    told(&mut vm, at(0), ready(1));
    assert!(!vm.is_overbooked());
    told(&mut vm, at(0), run(2));
    assert!(vm.is_overbooked());
    let due = at(0) + Settings::default().wait_limit;
    assert_eq!(vm.next_wakeup(), Some(due));
    assert_eq!(said(&told(&mut vm, due, Input::Woke)), ["back 2 NoRoom"]);
    // Room in time is room.
    told(&mut vm, due, run(3));
    assert_eq!(said(&told(&mut vm, due, ended(1))), ["execute 3 in 1"]);
    // A released invoker keeps what it was sent.
    let mut old = released(MEASURED, 2, 1_000);
    told(&mut old, at(0), uses(0, 900));
    told(&mut old, at(0), run(1));
    assert_eq!(said(&told(&mut old, at(5), Input::Woke)), [""; 0]);
}

#[test]
fn the_same_attempt_is_begun_once_and_an_older_one_never() {
    let mut vm = vm(4, 2_048);
    told(&mut vm, at(0), run_of(1, 2, card(1, 1)));
    let asks = |attempt, known| {
        vec!["duplicate 1".to_owned(), format!("controller-1 asks for 1.{attempt}: {known}")]
    };
    assert_eq!(said(&told(&mut vm, at(0), run_of(1, 2, card(1, 1)))), asks(2, "Here(Attempt(2))"));
    assert_eq!(said(&told(&mut vm, at(0), run_of(1, 1, card(1, 1)))), asks(1, "Here(Attempt(2))"));
    told(&mut vm, at(0), ready(1));
    told(&mut vm, at(1), ended(1));
    assert_eq!(said(&told(&mut vm, at(2), run_of(1, 2, card(1, 1)))), asks(2, "Past(Attempt(2))"));
    assert_eq!(said(&told(&mut vm, at(2), run_of(1, 1, card(1, 1)))), asks(1, "Past(Attempt(2))"));
}

#[test]
fn a_newer_attempt_supersedes_the_one_that_runs() {
    let mut vm = vm(4, 2_048);
    told(&mut vm, at(0), run_of(1, 1, card(1, 1)));
    told(&mut vm, at(0), ready(1));
    assert_eq!(said(&told(&mut vm, at(1), run_of(1, 2, card(1, 1)))), ["kill 1 in 1", "start 2"]);
    let killed = Input::RunEnded { sandbox: SandboxId(1), kept: false };
    assert_eq!(said(&told(&mut vm, at(1), killed)), [""; 0]);
    assert_eq!(vm.running()[0].attempt, Attempt(2));
    assert_eq!(said(&told(&mut vm, at(2), ready(2))), ["execute 1 in 2 cold"]);
}

#[test]
fn a_newer_attempt_takes_over_the_sandbox_that_is_being_made() {
    let mut vm = vm(4, 2_048);
    told(&mut vm, at(0), run_of(1, 1, card(1, 1)));
    assert_eq!(said(&told(&mut vm, at(1), run_of(1, 2, card(1, 1)))), ["back 1 Superseded"]);
    assert_eq!(vm.attempt_on(SandboxId(1)), Some((InvocationId(1), Attempt(2))));
}

#[test]
fn what_is_called_off_before_it_comes_is_not_begun() {
    let mut vm = vm(4, 2_048);
    told(&mut vm, at(0), Input::Cancel { invocation: InvocationId(1), attempt: Attempt(1) });
    let asks = "controller-1 asks for 1.1: Past(Attempt(1))";
    assert_eq!(said(&told(&mut vm, at(0), run(1))), ["duplicate 1", asks]);
}

#[test]
fn who_takes_an_attempt_over_is_told_what_is_known_of_it_and_one_that_was_told_to_end_is_not_here() {
    let mut vm = vm(4, 2_048);
    let adopted = |attempt| Input::Adopted {
        by: ControllerId(7),
        invocation: InvocationId(1),
        attempt: Attempt(attempt),
    };
    assert_eq!(said(&told(&mut vm, at(0), adopted(3))), ["controller-7 asks for 1.3: Past(Attempt(3))"]);
    told(&mut vm, at(0), run_of(1, 5, card(1, 1)));
    assert_eq!(said(&told(&mut vm, at(0), adopted(5))), ["controller-7 asks for 1.5: Here(Attempt(5))"]);
    told(&mut vm, at(0), ready(1));
    assert_eq!(said(&told(&mut vm, at(0), adopted(4))), ["controller-7 asks for 1.4: Here(Attempt(5))"]);
    assert_eq!(said(&told(&mut vm, at(0), adopted(6))), ["controller-7 asks for 1.6: Past(Attempt(6))"]);
    told(&mut vm, at(1), Input::Cancel { invocation: InvocationId(1), attempt: Attempt(5) });
    assert_eq!(said(&told(&mut vm, at(1), adopted(5))), ["controller-7 asks for 1.5: Past(Attempt(5))"]);
}

#[test]
fn what_is_called_off_is_killed_once_or_goes_back_if_it_was_not_begun() {
    let mut vm = vm(1, 2_048);
    told(&mut vm, at(0), run(1));
    told(&mut vm, at(0), ready(1));
    told(&mut vm, at(1), run(2));
    let cancel = |id| Input::Cancel { invocation: InvocationId(id), attempt: Attempt(1) };
    assert_eq!(said(&told(&mut vm, at(1), cancel(1))), ["kill 1 in 1"]);
    assert_eq!(said(&told(&mut vm, at(1), cancel(1))), [""; 0]);
    assert_eq!(said(&told(&mut vm, at(1), cancel(2))), ["back 2 Cancelled"]);
}

#[test]
fn a_newer_build_ends_the_sandboxes_of_the_older() {
    let mut vm = vm(4, 2_048);
    for id in 1..=2 {
        told(&mut vm, at(0), run(id));
        told(&mut vm, at(0), ready(id as u64));
    }
    told(&mut vm, at(1), ended(1));
    assert_eq!(said(&told(&mut vm, at(2), run_of(3, 1, card(1, 2)))), ["stop 1 Outdated", "start 3"]);
    assert_eq!(said(&told(&mut vm, at(3), ended(2))), ["stop 2 Outdated"]);
}

#[test]
fn a_shrink_sends_back_the_newest_that_has_not_begun_and_leaves_alone_what_runs() {
    let mut vm = vm(3, 4_096);
    told(&mut vm, at(0), run(1));
    told(&mut vm, at(0), ready(1));
    told(&mut vm, at(0), run(2));
    told(&mut vm, at(0), run(3));
    told(&mut vm, at(0), run(4));
    assert_eq!(vm.gauges().waiting, 1);
    let shrunk = told(&mut vm, at(1), Input::Capacity(Resources::new(1_000, 4_096)));
    assert_eq!(said(&shrunk), ["back 4 NoRoom", "back 3 NoRoom", "back 2 NoRoom"]);
    let shrunk = told(&mut vm, at(1), Input::Capacity(Resources::new(500, 4_096)));
    assert_eq!(said(&shrunk), [""; 0]);
    assert_eq!(vm.booked(), Resources::new(1_000, 256));
}

#[test]
fn a_draining_vm_hands_back_ends_what_is_idle_and_takes_nothing() {
    let mut vm = vm(2, 4_096);
    for id in 1..=2 {
        told(&mut vm, at(0), run(id));
        told(&mut vm, at(0), ready(id as u64));
    }
    told(&mut vm, at(0), run(3));
    told(&mut vm, at(1), Input::Capacity(Resources::new(4_000, 4_096)));
    assert_eq!(vm.gauges().making, 1);
    told(&mut vm, at(1), ended(1));
    let drain = told(&mut vm, at(2), Input::Standing(VmStanding::Draining));
    assert_eq!(said(&drain), [""; 0], "3 runs in 1 meanwhile; 2 runs on");
    assert_eq!(said(&told(&mut vm, at(2), run(4))), ["back 4 Draining"]);
    assert_eq!(said(&told(&mut vm, at(3), ended(1))), ["stop 1 Draining"]);
    assert_eq!(said(&told(&mut vm, at(3), ready(3))), ["stop 3 Draining"]);
    assert_eq!(said(&told(&mut vm, at(3), Input::Standing(VmStanding::Open))), [""; 0]);
    assert_eq!(said(&told(&mut vm, at(3), run(5))), ["start 4"]);
    let drain = told(&mut vm, at(4), Input::Standing(VmStanding::Draining));
    assert_eq!(said(&drain), ["back 5 Draining"]);
}

#[test]
fn prewarming_makes_what_is_missing_in_room_that_nobody_uses() {
    let mut vm = vm(4, 768);
    assert_eq!(
        said(&told(&mut vm, at(0), Input::Prewarm { function: card(1, 1), count: 2 })),
        ["start 1", "start 2"]
    );
    assert_eq!(said(&told(&mut vm, at(0), Input::Prewarm { function: card(1, 1), count: 2 })), [""; 0]);
    assert_eq!(said(&told(&mut vm, at(0), Input::Prewarm { function: card(2, 1), count: 2 })), ["start 3"]);
    assert_eq!(said(&told(&mut vm, at(0), run(1))), [""; 0], "it waits for one that is being made");
    assert_eq!(said(&told(&mut vm, at(1), ready(1))), ["execute 1 in 1 cold"]);
}

#[test]
fn an_idle_sandbox_ends_after_its_keep_alive() {
    let mut vm = vm(4, 768);
    told(&mut vm, at(0), run(1));
    told(&mut vm, at(0), ready(1));
    assert_eq!(vm.next_wakeup(), None);
    told(&mut vm, at(10), ended(1));
    assert_eq!(vm.next_wakeup(), Some(at(610)));
    assert_eq!(said(&told(&mut vm, at(610), Input::Woke)), ["stop 1 Expired"]);
    assert_eq!(vm.next_wakeup(), None);
}

#[test]
fn no_more_sandboxes_exist_than_may() {
    let settings = Settings { sandboxes_limit: 2, ..Settings::default() };
    let mut vm = Residency::new(settings, Resources::new(8_000, 8_192));
    for id in 1..=3 {
        told(&mut vm, at(0), run_of(id, 1, card(id as u64, 1)));
    }
    assert_eq!((vm.gauges().making, vm.gauges().waiting), (2, 1));
    told(&mut vm, at(0), ready(1));
    assert_eq!(said(&told(&mut vm, at(1), ended(1))), ["stop 1 MemoryNeeded", "start 3"]);
}

#[test]
fn a_ceiling_above_its_booking_is_held_only_while_idle_and_only_if_it_fits() {
    let mut vm = vm(4, 512);
    let grant = Grant::new(Resources::new(500, 128), Resources::new(1_000, 600));
    let (from, function) = (ControllerId(1), card(1, 1));
    let run = Input::Run { from, invocation: InvocationId(1), attempt: Attempt(1), function, grant };
    told(&mut vm, at(0), run);
    told(&mut vm, at(0), ready(1));
    assert_eq!(vm.booked(), Resources::new(500, 128));
    assert_eq!(said(&told(&mut vm, at(1), ended(1))), ["stop 1 MemoryNeeded"]);
}

/// A VM as the released invokers are.
fn released(admission: Admission, cores: u32, memory: u32) -> Residency {
    Residency::new(Settings { admission, ..Settings::default() }, Resources::new(cores * 1_000, memory))
}

const MEASURED: Admission = Admission::Measured { cpu_permille: 900 };

fn uses(cpu: u32, memory: u32) -> Input {
    Input::Uses(Resources::new(cpu, memory))
}

#[test]
fn by_measured_use_any_number_begins_until_the_next_measurement() {
    let mut vm = released(MEASURED, 2, 8_192);
    told(&mut vm, at(0), uses(1_800, 0));
    // 1,800 is not more than 0.9 of 2,000, though ten cores are booked now.
    for id in 0..10 {
        assert_eq!(said(&told(&mut vm, at(0), run(id))), [format!("start {}", id + 1)]);
    }
    told(&mut vm, at(1), uses(1_801, 0));
    assert_eq!(said(&told(&mut vm, at(1), run(10))), [""; 0]);
    // The most of five measurements counts: four quiet seconds are not enough, the fifth is.
    for second in 2..6 {
        assert_eq!(said(&told(&mut vm, at(second), uses(0, 0))), [""; 0]);
    }
    assert_eq!(said(&told(&mut vm, at(6), uses(0, 0))), ["start 11"]);
}

#[test]
fn the_first_that_waits_makes_all_behind_it_wait() {
    let mut vm = released(MEASURED, 2, 1_000);
    told(&mut vm, at(0), uses(0, 500));
    let large = FunctionCard { reservation: Resources::new(1_000, 600), ..card(2, 1) };
    assert_eq!(said(&told(&mut vm, at(0), run_of(1, 1, large))), [""; 0]);
    assert_eq!(said(&told(&mut vm, at(0), run(2))), [""; 0], "256 MiB would fit");
    (1..6).for_each(|second| drop(told(&mut vm, at(second), uses(0, 501))));
    assert_eq!(vm.gauges().waiting, 2);
    (6..10).for_each(|second| drop(told(&mut vm, at(second), uses(0, 400))));
    assert_eq!(said(&told(&mut vm, at(10), uses(0, 400))), ["start 1", "start 2"]);
}

#[test]
fn measured_memory_keeps_more_idle_ones_than_limits_would_and_stops_the_longest_idle() {
    let mut vm = released(MEASURED, 8, 600);
    told(&mut vm, at(0), uses(0, 50));
    for id in 1..=3 {
        told(&mut vm, at(id), run_of(id.into(), 1, card(id, 1)));
        told(&mut vm, at(id), ready(id));
        told(&mut vm, at(id), ended(id));
    }
    assert_eq!(vm.gauges().idle, 3, "768 MiB of limits on 600");
    told(&mut vm, at(4), uses(0, 400));
    assert_eq!(said(&told(&mut vm, at(4), run_of(9, 1, card(9, 1)))), ["stop 1 MemoryNeeded", "start 4"]);
}

#[test]
fn the_other_fork_books_one_and_a_half_times_the_cores() {
    let mut vm = released(Admission::Overbooked { cpu_permille: 1_500 }, 2, 8_192);
    for id in 0..3 {
        assert_eq!(said(&told(&mut vm, at(0), run(id))).len(), 1);
    }
    assert_eq!(said(&told(&mut vm, at(0), run(3))), [""; 0]);
}

#[test]
fn the_jsq_fork_waits_for_idle_containers_to_expire_and_makes_all_wait_behind_it() {
    let calls = |function: u64| run_of(u128::from(function), 1, card(function, 1));
    let mut vm = released(Admission::Overbooked { cpu_permille: 1_500 }, 4, 512);
    for function in 1..=2 {
        told(&mut vm, at(0), calls(function));
        told(&mut vm, at(1), ready(function));
        told(&mut vm, at(function), ended(function));
    }
    // 512 MiB are idle. A third function does not fit, and the first, whose container is warm, may not overtake it.
    assert_eq!(said(&told(&mut vm, at(10), calls(3))), [""; 0]);
    assert_eq!(said(&told(&mut vm, at(11), run_of(4, 1, card(1, 1)))), [""; 0]);
    assert_eq!(said(&told(&mut vm, at(600), Input::Woke)), [""; 0]);
    let at_last = said(&told(&mut vm, at(602), Input::Woke));
    assert_eq!(at_last, ["stop 1 Expired", "stop 2 Expired"]);
    assert_eq!(said(&told(&mut vm, at(602), Input::Woke)), ["start 3", "start 4"]);
}

#[test]
fn openwhisk_itself_counts_memory_only() {
    let mut vm = released(Admission::MemoryOnly, 1, 1_024);
    for id in 0..4 {
        assert_eq!(said(&told(&mut vm, at(0), run(id))).len(), 1);
    }
    assert_eq!(said(&told(&mut vm, at(0), run(4))), [""; 0]);
}

#[test]
fn a_released_invoker_hands_nothing_back() {
    let mut vm = released(Admission::MemoryOnly, 1, 256);
    told(&mut vm, at(0), run(1));
    told(&mut vm, at(0), run(2));
    assert_eq!(said(&told(&mut vm, at(1), Input::Capacity(Resources::new(10, 256)))), [""; 0]);
    assert_eq!(said(&told(&mut vm, at(1), Input::Standing(VmStanding::Draining))), [""; 0]);
    assert_eq!(said(&told(&mut vm, at(1), run(3))), [""; 0]);
    assert_eq!(said(&told(&mut vm, at(2), ready(1))), ["execute 1 in 1 cold"]);
    assert_eq!(said(&told(&mut vm, at(3), ended(1))), ["execute 2 in 1"]);
}

#[test]
fn a_released_run_keeps_the_container_that_was_begun_for_it() {
    let mut vm = released(Admission::MemoryOnly, 4, 1_024);
    told(&mut vm, at(0), run(1));
    told(&mut vm, at(0), ready(1));
    told(&mut vm, at(0), run(2));
    assert_eq!(said(&told(&mut vm, at(1), ended(1))), [""; 0]);
    assert_eq!(said(&told(&mut vm, at(2), ready(2))), ["execute 2 in 2 cold"]);
}

fn kept_by(name: &str, memory: u32) -> Residency {
    let keep_alive = crate::keep_alive::by_name(name, Span::ZERO).unwrap();
    Residency::with_keep_alive(Settings::default(), Resources::new(8_000, memory), keep_alive)
}

/// One call of this function that takes this long to make a sandbox for, and a second to run; in a sandbox of this number.
fn whole_call(
    vm: &mut Residency,
    now: u64,
    id: u128,
    function: u64,
    sandbox: u64,
    making: u64,
) -> Vec<String> {
    let mut seen = said(&told(vm, at(now), run_of(id, 1, card(function, 1))));
    seen.extend(said(&told(vm, at(now + making), ready(sandbox))));
    seen.extend(said(&told(vm, at(now + making + 1), ended(sandbox))));
    seen
}

#[test]
fn greedy_dual_stops_what_is_cheap_to_make_again_and_seldom_called_not_what_is_old() {
    let mut vm = kept_by("greedy-dual", 768);
    whole_call(&mut vm, 0, 1, 1, 1, 10); // ten seconds to make: worth 1 * 10,000,000 / 256 = 39,062
    whole_call(&mut vm, 20, 2, 2, 2, 1); // worth 3,906
    whole_call(&mut vm, 30, 3, 3, 3, 2); // worth 7,812
    assert_eq!(vm.next_wakeup(), None, "nothing ends by time");
    assert_eq!(whole_call(&mut vm, 100_000, 4, 4, 4, 1)[..2], ["stop 2 MemoryNeeded", "start 4"]);
    // Since 2 went, the clock stands at 3,906: function 4 is worth 7,812, too, but 3 has been idle for longer.
    assert_eq!(whole_call(&mut vm, 100_010, 5, 5, 5, 1)[..2], ["stop 3 MemoryNeeded", "start 5"]);
    assert_eq!(vm.warm().iter().map(|warm| warm.function.0).collect::<Vec<_>>(), [1, 4, 5]);
}

#[test]
fn hybrid_histogram_unloads_after_the_run_and_has_a_sandbox_again_before_the_next() {
    let mut vm = kept_by("hybrid-histogram", 4_096);
    let mut sandbox = 0;
    for n in 0..12 {
        let now = n * 1_800;
        let seen = said(&told(&mut vm, at(now), run_of(n.into(), 1, card(1, 1))));
        if n < 2 {
            sandbox = 1; // Nothing is known: kept for four hours.
        }
        if n == 0 {
            assert_eq!(seen, ["start 1"]);
            told(&mut vm, at(now), ready(1));
        } else {
            assert_eq!(seen, [format!("execute {n} in {sandbox}")], "warm, though it was unloaded meanwhile");
        }
        let seen = said(&told(&mut vm, at(now), ended(sandbox)));
        if n > 0 {
            assert_eq!(seen, [format!("stop {sandbox} Expired")]);
            // Idle for 30 min each time: made again after 27.
            assert_eq!(vm.next_wakeup(), Some(at(now + 27 * 60)));
            assert_eq!(vm.gauges().idle, 0);
            sandbox += 1;
            assert_eq!(said(&told(&mut vm, at(now + 27 * 60), Input::Woke)), [format!("start {sandbox}")]);
            told(&mut vm, at(now + 27 * 60 + 1), ready(sandbox));
            assert_eq!(vm.next_wakeup(), Some(at(now + 2_046)), "31 min and a tenth after the run");
        }
    }
}
