//! Placements that bind early: to a VM at once, whatever it has.

use super::*;

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
