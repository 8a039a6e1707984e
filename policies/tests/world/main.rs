//! The Controller's and the Invoker's minds in a world that misbehaves, checked after every event.
//!
//! VMs answer late, twice or not at all; they shrink, drain and die; callers lose interest. Each case is a seed, a failing
//! one is printed by proptest as the smallest it found and kept in `proptest-regressions`.

mod checks;
mod house;
mod trouble;

use policies::placement;
use policies::residency::{self, Lending, Residency};
use proptest::prelude::*;
use vocabulary::{Attempt, ControllerId, Grant, InvocationId, Moment, Resources};

use house::{World, card};

fn story(seed: u64, algorithm: &'static str) -> Vec<String> {
    play(seed, algorithm, "fixed", Lending::Off).log
}

fn lending_story(seed: u64, algorithm: &'static str, allocation: &str, lending: Lending) -> Vec<String> {
    play(seed, algorithm, allocation, lending).log
}

fn play(seed: u64, algorithm: &'static str, allocation: &str, lending: Lending) -> World {
    let mut world = World::new(seed, algorithm, allocation, lending);
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        world.live(250);
        world.heal_and_wait();
        // The released invoker of JSQ never stops an idle container, so that somebody may wait for room for ever.
        if algorithm != "jsq-sosp21" {
            world.every_accepted_invocation_ended_exactly_once();
        }
    }));
    if let Err(panic) = result {
        let tail = world.log.len().saturating_sub(60);
        eprintln!(
            "seed {seed}, {algorithm}, {allocation}, {lending:?}; the last that happened:\n{}",
            world.log[tail..].join("\n")
        );
        std::panic::resume_unwind(panic);
    }
    world
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_every_accepted_invocation_ends_exactly_once(
        seed in any::<u64>(),
        algorithm in prop::sample::select(&placement::NAMES),
    ) {
        story(seed, algorithm);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_lent_every_accepted_invocation_ends_exactly_once(
        seed in any::<u64>(),
        allocation in prop::sample::select(&policies::allocation::NAMES),
        lending in prop::sample::select(&[Lending::Off, Lending::Hard, Lending::Elastic]),
    ) {
        lending_story(seed, "mws", allocation, lending);
    }
}

#[test]
fn the_same_inputs_in_the_same_order_give_the_same_outputs() {
    for name in placement::NAMES {
        for seed in 0..1 {
            assert!(story(seed, name) == story(seed, name), "seed {seed} has two stories under {name}");
        }
    }
}

#[test]
fn the_worlds_have_notices_after_which_two_attempts_race() {
    let worlds: Vec<World> = (0..10).map(|seed| play(seed, "mws", "fixed", Lending::Off)).collect();
    let reruns: u32 = worlds.iter().map(|world| world.reruns).sum();
    let calls = worlds.iter().flat_map(|world| world.calls.values());
    let older_won = calls.filter(|call| call.answered < call.sent.keys().next_back().copied()).count();
    assert!(reruns > 50 && older_won > 10, "{reruns} reruns, {older_won} won by the older attempt");
}

#[test]
fn a_grant_larger_than_the_vm_goes_back() {
    let mut vm = Residency::new(residency::Settings::default(), Resources::new(1_000, 512));
    let mut outputs = Vec::new();
    let grant = Grant::fixed(Resources::new(2_000, 128));
    let (from, invocation, attempt) = (ControllerId(1), InvocationId(1), Attempt(1));
    let run = residency::Input::Run { from, invocation, attempt, function: card(0), grant };
    vm.handle(Moment::ORIGIN, run, &mut outputs);
    let why = residency::HandBackWhy::NoRoom;
    assert_eq!(
        outputs,
        [residency::Output::HandBack { invocation: InvocationId(1), attempt: Attempt(1), why }]
    );
}
