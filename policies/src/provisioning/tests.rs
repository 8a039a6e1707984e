use vocabulary::{Mebibytes, MilliCores};

use super::*;

const SIZE: Resources = Resources { cpu: MilliCores(4_000), memory: Mebibytes(8_192) };

fn at(ms: u64) -> Moment {
    Moment::ORIGIN + Span::seconds(100) + Span::millis(ms)
}

fn target(vms: u32) -> Target {
    Target { vms, kind: VmKind::Harvest, size: SIZE }
}

fn status(vm: u64, standing: VmStanding) -> Input {
    Input::VmReported(VmStatus {
        vm: VmId(vm),
        kind: VmKind::Harvest,
        capacity: SIZE,
        standing,
        warm: vec![],
        running: vec![],
    })
}

fn up(vm: u64) -> Input {
    status(vm, VmStanding::Open)
}

fn told(mind: &mut Provisioning, ms: u64, input: Input) -> Vec<Output> {
    let mut outputs = Vec::new();
    mind.handle(at(ms), input, &mut outputs);
    outputs
}

fn launched(outputs: &[Output]) -> Vec<u64> {
    let ids = outputs.iter().filter_map(|output| match output {
        Output::Launch { vm, .. } => Some(vm.0),
        Output::Retire { .. } | Output::Drain { .. } => None,
    });
    ids.collect()
}

/// A fleet of two that reports.
fn two_up() -> Provisioning {
    let mut mind = Provisioning::new(Settings::default(), target(2), 1);
    assert_eq!(launched(&told(&mut mind, 0, Input::Listed(vec![]))), [1, 2]);
    assert_eq!(told(&mut mind, 1_000, up(1)), []);
    assert_eq!(told(&mut mind, 1_000, up(2)), []);
    mind
}

#[test]
fn nothing_is_launched_before_the_provider_has_said_what_exists() {
    let mut mind = Provisioning::new(Settings::default(), target(2), 1);
    assert_eq!(mind.next_wakeup(), Some(Moment::ORIGIN));
    assert_eq!(told(&mut mind, 0, Input::Woke), []);
    assert_eq!(launched(&told(&mut mind, 10, Input::Listed(vec![VmId(7)]))), [8]);
}

#[test]
fn a_provider_that_says_nothing_is_not_waited_for_for_ever() {
    let mut mind = Provisioning::new(Settings::default(), target(1), 1);
    told(&mut mind, 0, Input::Woke);
    assert_eq!(mind.next_wakeup(), Some(at(3_000)));
    assert_eq!(launched(&told(&mut mind, 3_000, Input::Woke)), [1]);
}

#[test]
fn vms_of_an_earlier_resource_monitor_are_taken_over() {
    let mut mind = Provisioning::new(Settings::default(), target(2), 1);
    assert_eq!(told(&mut mind, 0, up(4)), []);
    assert_eq!(told(&mut mind, 0, up(9)), []);
    assert_eq!(told(&mut mind, 10, Input::Listed(vec![VmId(4), VmId(9)])), []);
    assert_eq!(mind.next_id(), VmId(10));
}

#[test]
fn a_vm_with_notice_is_replaced_at_once_and_once() {
    let mut mind = two_up();
    let notice = Input::VmNoticed { vm: VmId(1), deadline: Some(at(31_500)) };
    assert_eq!(launched(&told(&mut mind, 1_500, notice.clone())), [3]);
    assert_eq!(told(&mut mind, 1_600, notice), []);
    assert_eq!(told(&mut mind, 1_700, up(1)), [], "it still reports");
    assert_eq!(
        told(&mut mind, 1_800, Input::VmEnded(VmId(1))),
        [Output::Retire { vm: VmId(1), why: RetireWhy::Ended }]
    );
    assert_eq!(told(&mut mind, 1_900, Input::VmEnded(VmId(1))), []);
    assert_eq!(told(&mut mind, 1_900, up(1)), [], "a last word does not bring it back");
    assert_eq!(mind.counts(), (2, 0));
}

#[test]
fn a_notice_called_off_leaves_one_too_many_and_the_new_one_goes() {
    let mut mind = two_up();
    told(&mut mind, 1_500, Input::VmNoticed { vm: VmId(1), deadline: Some(at(31_500)) });
    assert_eq!(
        told(&mut mind, 1_600, Input::VmNoticed { vm: VmId(1), deadline: None }),
        [Output::Retire { vm: VmId(3), why: RetireWhy::Surplus }]
    );
}

#[test]
fn a_draining_vm_does_not_count() {
    let mut mind = two_up();
    assert_eq!(launched(&told(&mut mind, 1_500, status(2, VmStanding::Draining))), [3]);
}

#[test]
fn a_silent_vm_is_retired_and_replaced() {
    let mut mind = two_up();
    told(&mut mind, 2_000, up(1));
    told(&mut mind, 3_000, up(1));
    let wakeup = mind.next_wakeup().unwrap();
    assert_eq!(wakeup, at(4_000));
    assert_eq!(
        told(&mut mind, 4_000, Input::Woke),
        [
            Output::Retire { vm: VmId(2), why: RetireWhy::Silent },
            Output::Launch { vm: VmId(3), kind: VmKind::Harvest, size: SIZE },
        ]
    );
}

#[test]
fn failed_launches_are_put_off_longer_and_longer() {
    let mut mind = Provisioning::new(Settings::default(), target(3), 1);
    assert_eq!(launched(&told(&mut mind, 0, Input::Listed(vec![]))), [1, 2, 3]);
    for vm in 1..=3 {
        assert_eq!(told(&mut mind, 0, Input::LaunchFailed(VmId(vm))), []);
    }
    assert_eq!(mind.next_wakeup(), Some(at(4_000)), "three failures: 1, 2, 4 s");
    assert_eq!(told(&mut mind, 3_999, Input::Woke), []);
    assert_eq!(launched(&told(&mut mind, 4_000, Input::Woke)), [4], "one tries the ground");
    assert_eq!(told(&mut mind, 4_100, Input::LaunchFailed(VmId(4))), []);
    assert_eq!(told(&mut mind, 4_200, Input::LaunchFailed(VmId(4))), [], "told twice, counted once");
    assert_eq!(launched(&told(&mut mind, 12_100, Input::Woke)), [5]);
    assert_eq!(launched(&told(&mut mind, 12_200, up(5))), [6, 7], "and the rest follows");
}

#[test]
fn a_vm_that_never_comes_up_is_given_up_after_its_patience() {
    let mut mind = Provisioning::new(Settings::default(), target(1), 1);
    told(&mut mind, 0, Input::Listed(vec![]));
    for second in 1..60 {
        assert_eq!(mind.next_wakeup(), Some(at(second * 1_000)), "it sees to it that it does not sleep");
        assert_eq!(told(&mut mind, second * 1_000, Input::Woke), []);
    }
    assert_eq!(
        told(&mut mind, 60_000, Input::Woke),
        [Output::Retire { vm: VmId(1), why: RetireWhy::Silent }]
    );
    assert_eq!(launched(&told(&mut mind, 61_000, Input::Woke)), [2]);
}

#[test]
fn a_smaller_target_retires_the_newest_and_a_larger_one_launches() {
    let mut mind = two_up();
    assert_eq!(
        told(&mut mind, 1_500, Input::Target(target(1))),
        [Output::Retire { vm: VmId(2), why: RetireWhy::Surplus }]
    );
    assert_eq!(launched(&told(&mut mind, 1_600, Input::Target(target(3)))), [3, 4]);
}

/// A fleet that follows its load: VMs of four cores, at least one.
fn load_aware() -> Provisioning {
    let settings = fleet::Settings {
        least: Resources::new(1_000, 1_024),
        harvest: SIZE,
        regular: SIZE,
        idle_for: Span::seconds(60),
        ..fleet::Settings::default()
    };
    Provisioning::new(Settings::default(), target(0), 1)
        .with_rule(fleet::by_name("load-aware", &settings).unwrap())
}

fn wanted(cores: u32) -> Input {
    let load = vocabulary::Load { running: Resources::new(cores * 1_000, 1_024), ..Default::default() };
    let demand = Demand { harvest: load, ..Demand::default() };
    Input::Demanded { controller: ControllerId(1), demand }
}

#[test]
fn a_fleet_that_follows_its_load_grows_at_once_and_lets_go_what_has_finished_its_runs() {
    let mut mind = load_aware();
    assert_eq!(launched(&told(&mut mind, 0, Input::Listed(vec![]))), [1]);
    assert_eq!(told(&mut mind, 500, up(1)), []);
    // Six cores at 0.8 are 7.5.
    assert_eq!(launched(&told(&mut mind, 600, wanted(6))), [2]);
    assert_eq!(told(&mut mind, 700, wanted(6)), [], "it is on its way");
    told(&mut mind, 900, up(2));
    for second in 1..=61 {
        let said = told(&mut mind, second * 1_000, wanted(1));
        assert_eq!(said.len(), usize::from(second == 61), "{second}: {said:?}");
        if second == 61 {
            assert_eq!(said, [Output::Drain { vm: VmId(2) }]);
        }
        told(&mut mind, second * 1_000 + 1, up(1));
        told(&mut mind, second * 1_000 + 2, up(2));
    }
    assert_eq!(mind.counts(), (1, 1), "it says that it is open, and leaves all the same");
    assert_eq!(told(&mut mind, 63_500, up(2)), [Output::Drain { vm: VmId(2) }], "it was not heard");
    let busy = |running| {
        let Input::VmReported(mut status) = status(2, VmStanding::Draining) else { unreachable!() };
        status.running = running;
        Input::VmReported(status)
    };
    let function = vocabulary::FunctionCard {
        id: vocabulary::FunctionId(1),
        revision: vocabulary::Revision(1),
        reservation: SIZE,
        timeout: Span::seconds(1),
        on_eviction: vocabulary::OnEviction::Rerun,
        application: None,
    };
    let runs = vocabulary::RunningOnVm {
        invocation: vocabulary::InvocationId(1),
        attempt: vocabulary::Attempt(1),
        function,
        grant: vocabulary::Grant::fixed(SIZE),
    };
    assert_eq!(told(&mut mind, 63_600, busy(vec![runs])), []);
    assert_eq!(
        told(&mut mind, 63_700, busy(vec![])),
        [Output::Retire { vm: VmId(2), why: RetireWhy::Surplus }]
    );
    assert_eq!(told(&mut mind, 63_800, wanted(1)), [], "the last one stays");
}

#[test]
fn a_new_mind_does_not_order_what_is_there_and_has_not_said_how_large_it_is() {
    let mut mind = load_aware();
    assert_eq!(told(&mut mind, 0, wanted(6)), []);
    assert_eq!(told(&mut mind, 10, Input::Listed(vec![VmId(4), VmId(5)])), []);
    told(&mut mind, 500, up(4));
    assert_eq!(told(&mut mind, 600, up(5)), [], "eight cores are there");
    assert_eq!(launched(&told(&mut mind, 700, wanted(9))), [6]);
}

#[test]
fn a_load_that_nobody_has_spoken_of_lately_lets_nobody_go() {
    let mut mind = load_aware();
    told(&mut mind, 0, Input::Listed(vec![]));
    told(&mut mind, 100, wanted(6));
    for second in 1..200 {
        for vm in 1..=2 {
            assert_eq!(told(&mut mind, second * 1_000, up(vm)), [], "{second}");
        }
    }
}

#[test]
fn a_vm_with_notice_is_replaced_once_under_every_rule() {
    for name in fleet::NAMES {
        let settings =
            fleet::Settings { least: Resources::new(8_000, 1_024), harvest: SIZE, ..Default::default() };
        let mut mind = Provisioning::new(Settings::default(), target(0), 1)
            .with_rule(fleet::by_name(name, &settings).unwrap());
        let first = launched(&told(&mut mind, 0, Input::Listed(vec![]))).len() as u64;
        (1..=first).for_each(|vm| drop(told(&mut mind, 500, up(vm))));
        let mut launches = 0;
        for second in 1..120 {
            if second == 20 {
                let deadline = Some(at(50_000));
                launches +=
                    launched(&told(&mut mind, 20_000, Input::VmNoticed { vm: VmId(1), deadline })).len();
            }
            if second == 50 {
                launches += launched(&told(&mut mind, 50_000, Input::VmEnded(VmId(1)))).len();
            }
            for vm in (1..=first + launches as u64).filter(|&vm| vm > 1 || second < 50) {
                launches += launched(&told(&mut mind, second * 1_000, up(vm))).len();
            }
            launches += launched(&told(&mut mind, second * 1_000, Input::Woke)).len();
        }
        assert_eq!(launches, 1, "{name}");
    }
}

#[test]
fn a_resource_monitor_that_slept_hears_first_what_waits_for_it() {
    let mut mind = two_up();
    for second in 2..=5 {
        assert_eq!(told(&mut mind, second * 1_000, up(1)), []);
        assert_eq!(told(&mut mind, second * 1_000 + 800, up(2)), []);
    }
    // Less than the time for which it leads without saying so again.
    let woken = 5_800 + 2_500;
    assert_eq!(told(&mut mind, woken, Input::Woke), []);
    assert_eq!(told(&mut mind, woken + 1, up(1)), []);
    assert_eq!(told(&mut mind, woken + 2, up(2)), []);
    assert_eq!(told(&mut mind, woken + 900, Input::Woke), []);
    // Who says nothing then is gone.
    assert_eq!(told(&mut mind, woken + 1_800, up(1)), []);
    assert_eq!(told(&mut mind, woken + 2_700, up(1)), []);
    let retired = told(&mut mind, woken + 3_100, up(1));
    assert_eq!(retired[0], Output::Retire { vm: VmId(2), why: RetireWhy::Silent });
}
