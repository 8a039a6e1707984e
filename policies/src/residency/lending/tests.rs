// Who lends what to whom on one VM, step by step, and then at random against a naive count.

use std::collections::BTreeMap;

use proptest::prelude::*;
use vocabulary::{ControllerId, FunctionId, Mebibytes, OnEviction, Revision};

use super::super::*;
use crate::safeguard::Sample;

fn at(ms: u64) -> Moment {
    Moment::ORIGIN + Span::millis(ms)
}

/// A VM whose functions have warm sandboxes for everybody.
struct Vm {
    mind: Residency,
    now: u64,
    next: u128,
    /// What each running sandbox was told last.
    told: BTreeMap<u64, (Resources, MilliCores)>,
}

const CORES: u32 = 8;

fn vm(lending: Lending) -> Vm {
    let settings = Settings { lending, ..Settings::default() };
    Vm {
        mind: Residency::new(settings, Resources::new(CORES * 1_000, 16_384)),
        now: 0,
        next: 1,
        told: BTreeMap::new(),
    }
}

fn card(function: u64, reservation: Resources) -> FunctionCard {
    FunctionCard {
        id: FunctionId(function),
        revision: Revision(1),
        reservation,
        timeout: Span::seconds(60),
        on_eviction: OnEviction::Rerun,
        application: None,
    }
}

impl Vm {
    fn hears(&mut self, input: Input) -> Vec<Output> {
        let mut outputs = Vec::new();
        self.mind.handle(at(self.now), input, &mut outputs);
        for output in &outputs {
            match *output {
                Output::Execute { sandbox, grant, .. } => {
                    self.told.insert(sandbox.0, (grant.ceiling, grant.weight));
                }
                Output::Resize { sandbox, ceiling, weight } => {
                    let known = self.told.insert(sandbox.0, (ceiling, weight));
                    assert!(known.is_some_and(|known| known != (ceiling, weight)), "it knew that already");
                }
                _ => {}
            }
        }
        outputs
    }

    /// Begins a run and says in which sandbox; `lasts` in ms.
    fn begins(&mut self, function: u64, reserved: Resources, grant: Grant, lasts: u64) -> u64 {
        let invocation = InvocationId(self.next);
        self.next += 1;
        let grant = Grant { lasts: Span::millis(lasts), ..grant };
        let card = card(function, reserved);
        let mut said = self.hears(Input::Run {
            from: ControllerId(1),
            invocation,
            attempt: Attempt(1),
            function: card,
            grant,
        });
        let made = said.iter().find_map(|output| match *output {
            Output::Start { sandbox, .. } => Some(sandbox),
            _ => None,
        });
        if let Some(sandbox) = made {
            said = self.hears(Input::SandboxReady(sandbox));
        }
        let began = said.iter().find_map(|output| match *output {
            Output::Execute { sandbox, .. } => Some(sandbox.0),
            _ => None,
        });
        began.expect("it was to begin")
    }

    fn lends(&mut self, function: u64, reserved: u32, booked: u32, lasts: u64) -> u64 {
        let (reserved, booked) = (Resources::new(reserved, 256), Resources::new(booked, 256));
        self.begins(function, reserved, Grant::new(booked, reserved), lasts)
    }

    fn wants(&mut self, function: u64, reserved: u32, wish: u32) -> u64 {
        let reserved = Resources::new(reserved, 256);
        self.begins(function, reserved, Grant::new(reserved, Resources::new(wish, 256)), 1_000)
    }

    fn ends(&mut self, sandbox: u64) -> Vec<Output> {
        self.told.remove(&sandbox);
        self.hears(Input::RunEnded { sandbox: SandboxId(sandbox), kept: true })
    }

    fn uses(&mut self, sandbox: u64, cpu: u32, memory: u32) -> Vec<Output> {
        let sample = Sample { cpu: MilliCores(cpu), memory: Mebibytes(memory), ..Sample::default() };
        self.hears(Input::Sampled { sandbox: SandboxId(sandbox), sample })
    }

    fn cpu(&self, sandbox: u64) -> u32 {
        self.told[&sandbox].0.cpu.0
    }

    fn memory(&self, sandbox: u64) -> u32 {
        self.told[&sandbox].0.memory.0
    }
}

// The four rebalance cases of Freyr's slides: within one function or between two; each run both gives and takes, or one
// gives and the other takes.

#[test]
fn where_something_is_lent_a_sandbox_in_the_making_weighs_little_until_it_runs() {
    for (lending, weight) in [
        (Lending::Off, None),
        (Lending::Hard, Some(MilliCores(20))),
        (Lending::Elastic, Some(MilliCores(20))),
    ] {
        let (mut vm, reserved) = (vm(lending), Resources::new(4_000, 256));
        let said = vm.hears(Input::Run {
            from: ControllerId(1),
            invocation: InvocationId(1),
            attempt: Attempt(1),
            function: card(1, reserved),
            grant: Grant::fixed(reserved),
        });
        let [Output::Start { sandbox, weight: told, .. }] = said[..] else { panic!("{said:?}") };
        assert_eq!(told, weight, "{lending:?}");
        let said = vm.hears(Input::SandboxReady(sandbox));
        let [Output::Execute { grant, .. }] = said[..] else { panic!("{said:?}") };
        assert_eq!(grant.cpu_weight(), MilliCores(4_000), "{lending:?}");
    }
}

#[test]
fn within_one_function_a_run_with_a_small_input_lends_to_one_with_a_large() {
    let mut vm = vm(Lending::Hard);
    let small = vm.lends(1, 4_000, 1_000, 500);
    let large = vm.wants(1, 4_000, 6_000);
    assert_eq!((vm.cpu(small), vm.cpu(large)), (1_000, 6_000));
    assert_eq!(vm.mind.booked().cpu, MilliCores(5_000), "a loan is no booking");
}

#[test]
fn between_two_functions_the_one_that_leaves_cpu_lends_to_the_one_that_can_use_it() {
    let mut vm = vm(Lending::Hard);
    let lender = vm.lends(1, 3_000, 1_000, 500);
    let borrower = vm.wants(2, 2_000, 8_000);
    assert_eq!((vm.cpu(lender), vm.cpu(borrower)), (1_000, 4_000), "no more than was left");
}

#[test]
fn within_one_function_each_run_gives_what_the_other_takes() {
    gives_cpu_and_takes_memory_and_the_other_way_round(1, 1);
}

#[test]
fn between_two_functions_each_gives_what_the_other_takes() {
    gives_cpu_and_takes_memory_and_the_other_way_round(1, 2);
}

fn gives_cpu_and_takes_memory_and_the_other_way_round(one: u64, other: u64) {
    let mut vm = vm(Lending::Hard);
    let reserved = Resources::new(3_000, 512);
    let gives_memory = Grant::new(Resources::new(3_000, 128), Resources::new(4_000, 512));
    let first = vm.begins(one, reserved, gives_memory, 500);
    assert_eq!((vm.cpu(first), vm.memory(first)), (3_000, 128), "nobody lends CPU yet");
    let gives_cpu = Grant::new(Resources::new(1_000, 512), Resources::new(3_000, 768));
    let second = vm.begins(other, reserved, gives_cpu, 500);
    assert_eq!((vm.cpu(second), vm.memory(second)), (1_000, 768));
    assert_eq!((vm.cpu(first), vm.memory(first)), (4_000, 128));
}

#[test]
fn a_lender_that_ends_has_its_cpu_back_before_anything_else_begins_with_it() {
    let mut vm = vm(Lending::Hard);
    let lender = vm.lends(1, 4_000, 1_000, 500);
    let borrower = vm.wants(2, 4_000, 6_000);
    vm.ends(lender);
    assert_eq!(vm.cpu(borrower), 4_000);
    assert_eq!(vm.mind.gauges().lent, Resources::ZERO);
}

#[test]
fn what_a_borrower_leaves_goes_to_the_next_one_that_wants_it() {
    let mut vm = vm(Lending::Hard);
    vm.lends(1, 4_000, 1_000, 500);
    let first = vm.wants(2, 1_000, 4_000);
    let second = vm.wants(3, 1_000, 4_000);
    assert_eq!((vm.cpu(first), vm.cpu(second)), (4_000, 1_000));
    vm.ends(first);
    assert_eq!(vm.cpu(second), 4_000);
}

#[test]
fn what_is_lent_goes_back_when_its_room_is_booked() {
    let mut vm = vm(Lending::Hard);
    vm.lends(1, 4_000, 1_000, 500);
    let borrower = vm.wants(2, 4_000, 6_000);
    assert_eq!(vm.cpu(borrower), 6_000);
    let others = vm.wants(3, 3_000, 3_000);
    assert_eq!((vm.cpu(borrower), vm.cpu(others)), (4_000, 3_000));
    vm.ends(others);
    assert_eq!(vm.cpu(borrower), 6_000, "and comes again when it is free");
}

#[test]
fn a_lender_that_comes_near_to_what_it_left_has_all_of_it_back_in_the_same_step() {
    let mut vm = vm(Lending::Hard);
    let lender = vm.lends(1, 4_000, 1_000, 500);
    let borrower = vm.wants(2, 4_000, 7_000);
    assert_eq!(vm.mind.watched().collect::<Vec<_>>(), [SandboxId(lender)]);
    assert_eq!(vm.uses(lender, 799, 100), [], "not yet");
    vm.uses(lender, 800, 100);
    assert_eq!((vm.cpu(lender), vm.cpu(borrower)), (4_000, 4_000));
    assert!(vm.mind.was_safeguarded(SandboxId(lender)));
    assert_eq!(
        vm.mind.grant_on(SandboxId(lender)).unwrap().booked.cpu,
        MilliCores(4_000),
        "as it will report"
    );
    assert_eq!((vm.mind.watched().count(), vm.mind.gauges().safeguarded), (0, 1));
    assert_eq!(vm.uses(lender, 4_000, 100), [], "once is enough");
}

#[test]
fn who_gets_less_hears_it_before_who_gets_more() {
    let mut vm = vm(Lending::Hard);
    let lender = vm.lends(1, 4_000, 1_000, 500);
    let borrower = vm.wants(2, 4_000, 7_000);
    let said: Vec<u64> = vm
        .uses(lender, 1_000, 100)
        .iter()
        .map(|output| match output {
            Output::Resize { sandbox, .. } => sandbox.0,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(said, [borrower, lender]);
}

#[test]
fn memory_near_its_booking_gives_memory_back_and_leaves_the_cpu_lent() {
    let mut vm = vm(Lending::Hard);
    let grant = Grant::new(Resources::new(1_000, 100), Resources::new(4_000, 512));
    let lender = vm.begins(1, Resources::new(4_000, 512), grant, 500);
    vm.uses(lender, 100, 80);
    assert_eq!((vm.cpu(lender), vm.memory(lender)), (1_000, 512));
    assert_eq!(vm.mind.watched().count(), 1, "its CPU is still watched");
}

#[test]
fn borrowed_memory_stays_with_its_borrower_and_is_promised_to_nobody_else() {
    let mut vm = vm(Lending::Hard);
    vm.hears(Input::Capacity(Resources::new(8_000, 1_024)));
    let lender = vm.begins(
        1,
        Resources::new(1_000, 512),
        Grant::new(Resources::new(1_000, 112), Resources::new(1_000, 512)),
        500,
    );
    let wants = Grant::new(Resources::new(1_000, 512), Resources::new(1_000, 912));
    let borrower = vm.begins(2, Resources::new(1_000, 512), wants, 500);
    assert_eq!(vm.memory(borrower), 912);
    vm.hears(Input::RunEnded { sandbox: SandboxId(lender), kept: false });
    assert_eq!(vm.memory(borrower), 912, "nobody can take it from a process that holds it");
    let function = card(3, Resources::new(1_000, 128));
    let run = Input::Run {
        from: ControllerId(1),
        invocation: InvocationId(77),
        attempt: Attempt(1),
        function,
        grant: Grant::fixed(function.reservation),
    };
    assert_eq!(vm.hears(run), [], "912 of 1,024 are held: it waits");
    assert!(vm.ends(borrower).iter().any(|output| matches!(output, Output::Start { .. })));
}

#[test]
fn a_shrink_takes_lent_cores_first_then_free_ones_and_then_slows_everybody_alike() {
    let mut vm = vm(Lending::Hard);
    let lender = vm.lends(1, 4_000, 1_000, 500);
    let borrower = vm.wants(2, 3_000, 6_000);
    assert_eq!((vm.cpu(lender), vm.cpu(borrower)), (1_000, 6_000), "of eight cores one is free");
    vm.hears(Input::Capacity(Resources::new(7_000, 16_384)));
    assert_eq!((vm.cpu(lender), vm.cpu(borrower)), (1_000, 6_000), "the free one went");
    vm.hears(Input::Capacity(Resources::new(5_000, 16_384)));
    assert_eq!((vm.cpu(lender), vm.cpu(borrower)), (1_000, 4_000), "then lent ones");
    vm.hears(Input::Capacity(Resources::new(4_000, 16_384)));
    assert_eq!((vm.cpu(lender), vm.cpu(borrower)), (1_000, 3_000));
    vm.hears(Input::Capacity(Resources::new(2_000, 16_384)));
    assert_eq!((vm.cpu(lender), vm.cpu(borrower)), (500, 1_500), "half of what is booked is there");
    vm.hears(Input::Capacity(Resources::new(8_000, 16_384)));
    assert_eq!((vm.cpu(lender), vm.cpu(borrower)), (1_000, 6_000), "growth restores at once");
}

#[test]
fn elastic_lenders_keep_their_ceiling_and_go_before_others() {
    let mut vm = vm(Lending::Elastic);
    let lender = vm.lends(1, 4_000, 1_000, 500);
    let borrower = vm.wants(2, 2_000, 6_000);
    assert_eq!(vm.told[&lender], (Resources::new(4_000, 256), MilliCores(16_000)));
    assert_eq!(vm.told[&borrower], (Resources::new(6_000, 256), MilliCores(2_000)));
    assert_eq!(vm.mind.booked().cpu, MilliCores(3_000));
    vm.uses(lender, 1_049, 100);
    assert_eq!(vm.mind.booked().cpu, MilliCores(3_000), "it uses what it was expected to use");
    assert_eq!(vm.uses(lender, 3_000, 100), [], "nothing to change: it has it already");
    assert_eq!(vm.mind.booked().cpu, MilliCores(6_000), "but it is promised to nobody else now");
    assert_eq!(vm.told[&lender].1, MilliCores(16_000), "it stays before others");
}

impl Vm {
    /// Nothing is known of it; it is looked at for half a second, and uses so much.
    fn is_seen_to_use(&mut self, function: u64, reserved: u32, cpu: u32) -> u64 {
        let reserved = Resources::new(reserved, 256);
        let grant = Grant { provisional: true, ..Grant::fixed(reserved) };
        let sandbox = self.begins(function, reserved, grant, 0);
        for _ in 0..25 {
            assert_eq!(self.mind.booked().cpu, reserved.cpu, "not yet");
            self.uses(sandbox, cpu, 100);
        }
        sandbox
    }
}

#[test]
fn what_is_booked_for_a_run_that_nobody_knew_falls_to_what_it_is_seen_to_use() {
    let mut vm = vm(Lending::Elastic);
    let first = vm.is_seen_to_use(1, 6_000, 1_000);
    assert_eq!(vm.mind.booked(), Resources::new(1_100, 256), "and a tenth, and all of its memory");
    assert_eq!(
        vm.told[&first],
        (Resources::new(6_000, 256), MilliCores(24_000)),
        "it may use all, before others"
    );
    assert_eq!(
        vm.mind.grant_on(SandboxId(first)).unwrap().booked.cpu,
        MilliCores(1_100),
        "as it will report"
    );
    vm.wants(2, 6_500, 6_500);
    assert_eq!(vm.uses(first, 1_100, 100), []);
    assert_eq!((vm.mind.gauges().fell, vm.mind.gauges().rose), (1, 0));
}

#[test]
fn a_booking_that_fell_rises_when_more_is_used_and_nothing_was_learned_wrongly() {
    let mut vm = vm(Lending::Elastic);
    let first = vm.is_seen_to_use(1, 6_000, 10);
    assert_eq!(vm.mind.booked().cpu, MilliCores(50), "a runtime must be able to wake up");
    vm.uses(first, 3_000, 100);
    assert_eq!(vm.mind.booked().cpu, MilliCores(6_000));
    let gauges = vm.mind.gauges();
    assert_eq!((gauges.fell, gauges.rose, gauges.safeguarded), (1, 1, 0));
    assert!(!vm.mind.was_safeguarded(SandboxId(first)) && !vm.mind.is_watched(SandboxId(first)));
    assert_eq!(vm.told[&first].1, MilliCores(24_000), "it stays before others");
}

#[test]
fn a_booking_falls_neither_for_a_tenth_nor_where_runs_are_stopped_at_it() {
    let mut elastic = vm(Lending::Elastic);
    let all = elastic.is_seen_to_use(1, 4_000, 3_300);
    assert_eq!(elastic.mind.booked().cpu, MilliCores(4_000));
    assert!(!elastic.mind.is_watched(SandboxId(all)), "it is not looked at any longer");
    let mut hard = vm(Lending::Hard);
    let first = hard.is_seen_to_use(1, 4_000, 100);
    assert!(hard.mind.booked().cpu == MilliCores(4_000) && !hard.mind.is_watched(SandboxId(first)));
}

#[test]
fn off_means_that_grants_are_done_as_they_come_and_nobody_is_watched() {
    let mut vm = vm(Lending::Off);
    let lender = vm.lends(1, 4_000, 1_000, 500);
    let borrower = vm.wants(2, 2_000, 6_000);
    assert_eq!((vm.cpu(lender), vm.cpu(borrower)), (4_000, 6_000));
    assert_eq!(vm.uses(lender, 4_000, 100), []);
    assert_eq!((vm.mind.watched().count(), vm.mind.booked().cpu), (0, MilliCores(3_000)));
}

#[test]
fn bookings_exceed_the_vm_only_by_what_a_safeguard_gives_back_and_nothing_begins_meanwhile() {
    let mut vm = vm(Lending::Hard);
    let lender = vm.lends(1, 6_000, 1_000, 500);
    let other = vm.wants(2, 7_000, 7_000);
    vm.uses(lender, 1_000, 100);
    assert_eq!(vm.mind.booked().cpu, MilliCores(13_000), "eight, and the five that were lent");
    assert_eq!((vm.cpu(lender), vm.cpu(other)), (6_000 * 8 / 13, 7_000 * 8 / 13), "shared in proportion");
    let function = card(3, Resources::new(10, 32));
    let grant = Grant::fixed(function.reservation);
    let run = Input::Run {
        from: ControllerId(1),
        invocation: InvocationId(99),
        attempt: Attempt(1),
        function,
        grant,
    };
    assert_eq!(vm.hears(run), []);
    assert!(!vm.ends(other).is_empty());
    assert_eq!(vm.cpu(lender), 6_000);
}

/// Everything that can happen, in any order, and after each step a count from scratch.
fn live(seed: u64, lending: Lending) {
    let mut state = seed;
    let mut below = |limit: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % limit.max(1)
    };
    let mut vm = vm(lending);
    let mut running: BTreeMap<u64, (Resources, Resources, Resources)> = BTreeMap::new();
    let mut capacity = Resources::new(CORES * 1_000, 16_384);
    let mut making: Vec<SandboxId> = Vec::new();
    for step in 0..200_u32 {
        vm.now += below(30);
        let some = running.keys().nth(below(running.len() as u64) as usize).copied();
        let before = vm.mind.booked();
        let mut restores = false;
        let outputs = match (below(10), some) {
            (0..=3, _) => {
                let reserved = Resources::new(500 * (1 + below(8) as u32), 128 << below(3));
                let booked = Resources::new(
                    (reserved.cpu.0 * (1 + below(12) as u32) / 10).max(10),
                    (reserved.memory.0 * (1 + below(10) as u32) / 10).max(16),
                );
                let ceiling =
                    reserved.max(booked) + Resources::new(500 * below(6) as u32, 64 * below(4) as u32);
                let provisional = below(2) > 0;
                let grant =
                    Grant { lasts: Span::millis(below(200)), provisional, ..Grant::new(booked, ceiling) };
                let function = card(1 + below(5), reserved);
                let invocation = InvocationId(u128::from(step) + 1);
                vm.hears(Input::Run {
                    from: ControllerId(1),
                    invocation,
                    attempt: Attempt(1),
                    function,
                    grant,
                })
            }
            (4 | 5, Some(id)) => {
                running.remove(&id);
                let kept = below(4) > 0;
                vm.told.remove(&id);
                vm.hears(Input::RunEnded { sandbox: SandboxId(id), kept })
            }
            (6 | 7, Some(id)) => {
                restores = true;
                let (cpu, memory) = (below(5_000) as u32, below(600) as u32);
                vm.uses(id, cpu, memory)
            }
            (8, _) => {
                capacity = Resources::new(1_000 * (1 + below(10) as u32), 4_096 << below(3));
                vm.hears(Input::Capacity(capacity))
            }
            _ => making.pop().map_or_else(Vec::new, |id| vm.hears(Input::SandboxReady(id))),
        };
        for output in outputs {
            match output {
                Output::Start { sandbox, .. } => making.push(sandbox),
                Output::Execute { sandbox, .. } => {
                    running.insert(sandbox.0, Default::default());
                }
                _ => {}
            }
        }
        let Residency { runs, book, .. } = &vm.mind;
        for (sandbox, run) in runs.values() {
            if let Some(known) = running.get_mut(&sandbox.0) {
                *known = (run.function.reservation, run.grant.booked, run.grant.ceiling);
            }
        }
        let booked = vm.mind.booked();
        assert!(
            booked.cpu <= capacity.cpu || booked.cpu <= before.cpu || restores,
            "step {step}: booked {booked} of {capacity}, before {before}"
        );
        let lent = book.pool.lent();
        assert!(lent.cpu <= capacity.cpu - booked.cpu, "step {step}: {lent} lent of what is booked");
        let left: Resources = running.values().map(|(reserved, booked, _)| *reserved - *booked).sum();
        assert!(
            lent.fits_in(left) && (book.pool.idle() + lent).fits_in(left),
            "step {step}: nobody has that"
        );
        let mut ceilings = MilliCores::ZERO;
        for (&id, &(reserved, booked_here, _)) in &running {
            let (ceiling, _) = vm.told[&id];
            ceilings += ceiling.cpu;
            let fits = booked.cpu <= capacity.cpu || lending == Lending::Elastic;
            assert!(
                !fits || ceiling.cpu >= booked_here.cpu,
                "step {step}: {id} has {ceiling}, booked {booked_here}"
            );
            assert!(ceiling.memory >= booked_here.memory);
            let borrowed = book.pool.borrowed_by(SandboxId(id));
            if lending == Lending::Hard && booked.cpu <= capacity.cpu {
                assert_eq!(ceiling.cpu, booked_here.cpu + borrowed.cpu, "step {step}: {id}");
            }
            if lending == Lending::Elastic {
                assert!(
                    ceiling.cpu >= reserved.cpu && ceiling.memory >= reserved.memory,
                    "step {step}: {id}"
                );
            }
        }
        if lending == Lending::Hard {
            let least = MilliCores(10 * running.len() as u32);
            assert!(ceilings <= capacity.cpu + least, "step {step}: ceilings of {ceilings} on {capacity}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn nobody_lends_what_it_does_not_have_and_no_ceiling_is_below_its_booking(seed in any::<u64>(), elastic in any::<bool>()) {
        live(seed, if elastic { Lending::Elastic } else { Lending::Hard });
    }
}
