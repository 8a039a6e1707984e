//! Allocators that ask a model: what is on offer, and what happens without an answer.

use std::sync::{Arc, Mutex};

use super::*;
use crate::allocation::freyr::Freyr;
use crate::allocation::learned::{Chooser, Learned, Observation};

/// What each decision had on offer.
type Offered = Arc<Mutex<Vec<Vec<Resources>>>>;

/// Answers with the place that is told, and notes what was on offer.
struct Scripted(Option<usize>, Offered);

impl Chooser for Scripted {
    fn choose(&mut self, observation: &Observation, options: &[Resources]) -> Option<usize> {
        assert!(options.len() > 1, "nothing to choose from");
        assert!(observation.expected.runs >= 3);
        self.1.lock().unwrap().push(options.to_vec());
        self.0
    }
}

fn one(allocator: Box<dyn Allocator>, reservation: Resources) -> One {
    One { allocator, reservation, profile: Profile::default(), free: resources(80, 1_000_000) }
}

fn learned(answer: Option<usize>, reservation: Resources) -> (One, Offered) {
    let offered = Offered::default();
    let chooser = Box::new(Scripted(answer, offered.clone()));
    (one(Box::new(Learned::new(Settings::default(), chooser)), reservation), offered)
}

fn last(offered: &Offered) -> Vec<Resources> {
    offered.lock().unwrap().last().cloned().unwrap_or_default()
}

#[test]
fn nothing_is_asked_while_a_size_is_not_known() {
    let (mut one, offered) = learned(Some(1), resources(4, 512));
    for _ in 0..3 {
        assert_eq!(one.runs(100, Span::millis(80), usage(1_000, 100)).booked, resources(4, 512));
    }
    assert!(offered.lock().unwrap().is_empty());
    one.grant_for(100);
    assert_eq!(offered.lock().unwrap().len(), 1);
}

#[test]
fn on_offer_are_profiles_answer_first_and_every_step_that_it_would_not_refuse() {
    let (mut one, offered) = learned(Some(0), resources(4, 512));
    let mut profile = One::of("profile", resources(4, 512));
    for _ in 0..20 {
        one.runs(100, Span::millis(80), usage(1_500, 200));
        profile.runs(100, Span::millis(80), usage(1_500, 200));
    }
    let heuristic = profile.grant_for(100);
    assert_eq!(one.grant_for(100), heuristic, "the first option is its answer");
    let options = last(&offered);
    assert_eq!(options[0], heuristic.booked);
    let cpu: std::collections::BTreeSet<u32> = options[1..].iter().map(|option| option.cpu.0).collect();
    assert!(
        cpu.iter().all(|&cpu| (1_500..=4_000).contains(&cpu)),
        "no less than half of the runs want: {cpu:?}"
    );
    assert!([2_000, 3_000, 4_000].iter().all(|step| cpu.contains(step)), "{cpu:?}");
    assert!(
        options.iter().all(|option| option.memory.0 > 250),
        "its memory stays below the threshold: {options:?}"
    );
    assert!(options.contains(&resources(4, 512)));
    assert_eq!(
        std::collections::BTreeSet::from_iter(options.iter().map(|o| (o.cpu, o.memory))).len(),
        options.len()
    );
}

#[test]
fn one_that_was_held_back_is_offered_more_than_it_reserved_as_far_as_its_vm_has_it() {
    let (mut one, offered) = learned(Some(0), Resources::new(1_500, 256));
    let held_back = Usage { throttled: Span::millis(400), ..usage(1_500, 200) };
    for _ in 0..5 {
        one.runs(100, Span::millis(80), held_back);
    }
    let home = Home { capacity: resources(5, 4_096), headroom: resources(1, 4_096), shrink_per_minute: 0 };
    let ask = Request {
        function: F,
        input_bytes: 100,
        home: Some(home),
        ..Request::new(one.reservation, &one.profile)
    };
    one.allocator.grant(&ask);
    let cpu: std::collections::BTreeSet<u32> = last(&offered).iter().map(|option| option.cpu.0).collect();
    assert!([1_500, 3_000, 4_000, 5_000].iter().all(|step| cpu.contains(step)), "{cpu:?}");
    assert!(
        !cpu.contains(&2_000) && cpu.last() == Some(&5_000),
        "the step of 2,000 is its reservation: {cpu:?}"
    );
}

#[test]
fn without_an_answer_it_is_profiles_and_that_is_counted() {
    for answer in [None, Some(usize::MAX)] {
        let offered = Offered::default();
        let mut allocator = Learned::new(Settings::default(), Box::new(Scripted(answer, offered)));
        let mut profile = One::of("profile", resources(4, 512));
        for _ in 0..20 {
            profile.runs(100, Span::millis(80), usage(1_500, 200));
        }
        let heuristic = profile.grant_for(100);
        let ask =
            Request { function: F, input_bytes: 100, ..Request::new(resources(4, 512), &profile.profile) };
        for count in 1..4 {
            assert_eq!(allocator.grant(&ask), heuristic);
            assert_eq!(allocator.unanswered(), count);
        }
    }
}

#[test]
fn after_a_safeguard_nothing_below_the_reservation_is_on_offer() {
    let (mut one, offered) = learned(Some(1), resources(4, 512));
    for _ in 0..10 {
        one.runs(100, Span::millis(80), usage(1_000, 100));
    }
    one.runs(100, Span::millis(80), Usage { safeguarded: true, ..usage(3_900, 100) });
    offered.lock().unwrap().clear();
    assert_eq!(one.grant_for(100).booked, resources(4, 512));
    assert!(last(&offered).iter().all(|&option| option == resources(4, 512)));
}

#[test]
fn freyr_chooses_among_what_its_safeguard_allows_and_fixes_it_for_the_run() {
    let offered = Offered::default();
    let chooser = Box::new(Scripted(Some(0), offered.clone()));
    let mut one = one(Box::new(Freyr::new(Settings::default(), chooser)), resources(4, 256));
    assert_eq!(one.runs(0, Span::millis(80), usage(1_500, 70)).booked, resources(4, 256), "it calibrates");
    one.profile.ended_with(0, Span::millis(80), None, usage(1_500, 70));
    one.profile.ended_with(0, Span::millis(80), None, usage(1_500, 70));
    let grant = one.grant_for(0);
    assert_eq!((grant.booked, grant.ceiling), (Resources::new(2_000, 128), Resources::new(2_000, 128)));
    assert_eq!(last(&offered).len(), 9, "two to four cores times two to four steps of memory");
}

/// Chooses the option with the most CPU, or the least.
struct ByCpu {
    most: bool,
    answers: bool,
}

impl Chooser for ByCpu {
    fn choose(&mut self, _: &Observation, options: &[Resources]) -> Option<usize> {
        let places = (0..options.len()).filter(|_| self.answers);
        if self.most {
            places.max_by_key(|&place| (options[place].cpu, place))
        } else {
            places.min_by_key(|&place| (options[place].cpu, place))
        }
    }
}

/// A house in which a run needs nearly all of its four cores now and then, and half of them else.
fn tried(
    candidate: impl Chooser + 'static,
    in_force: impl Chooser + 'static,
    runs: u32,
) -> (Learned, crate::allocation::trial::Verdict) {
    let mut allocator = Learned::new(Settings::default(), Box::new(in_force));
    let reservation = resources(4, 512);
    let mut profile = Profile::default();
    let mut number = 0_u64;
    let mut run = |allocator: &mut Learned| {
        number += 1;
        let invocation = InvocationId(number.into());
        let ask = Request {
            function: F,
            invocation,
            input_bytes: 100,
            fleet: Fleet { capacity: resources(80, 80_000), free: resources(40, 40_000) },
            ..Request::new(reservation, &profile)
        };
        let grant = allocator.grant(&ask);
        let cores = if number.is_multiple_of(5) { 3_800 } else { 1_900 };
        let duration = Span::millis(100);
        let used = Usage { cpu_time: duration.scaled(cores, 1_000), ..usage(cores as u32, 100) };
        profile.ended_with(100, duration, None, used);
        allocator.ended(&Ended {
            invocation,
            function: F,
            grant,
            input_bytes: 100,
            duration,
            usage: used,
            ..Ended::new(reservation, &profile)
        });
        grant
    };
    (0..20).for_each(|_| {
        run(&mut allocator);
    });
    allocator.try_out(Box::new(candidate), runs);
    let before = run(&mut allocator);
    for _ in 1..runs {
        assert_eq!(allocator.verdict(), None, "its trial goes on");
        let grant = run(&mut allocator);
        assert!(grant.booked.cpu.0.abs_diff(before.booked.cpu.0) < 1_000, "the candidate decides nothing");
    }
    let verdict = allocator.verdict().expect("its trial is over");
    (allocator, verdict)
}

const MOST: ByCpu = ByCpu { most: true, answers: true };
const LEAST: ByCpu = ByCpu { most: false, answers: true };

#[test]
fn a_candidate_that_leaves_runs_too_little_is_worse_by_what_was_measured() {
    let (_, verdict) = tried(LEAST, MOST, 40);
    assert!(!verdict.is_not_worse && verdict.candidate > verdict.in_force, "{verdict:?}");
    assert_eq!((verdict.runs, verdict.unanswered), (40, 0));
    let (_, other_way_round) = tried(MOST, LEAST, 40);
    assert!(other_way_round.is_not_worse, "{other_way_round:?}");
}

#[test]
fn one_that_chooses_the_same_is_not_worse_and_decides_once_it_is_taken_up() {
    let (mut allocator, verdict) = tried(MOST, MOST, 10);
    assert!(verdict.is_not_worse && verdict.agreed == 10, "{verdict:?}");
    assert!(allocator.take_up());
    assert_eq!((allocator.verdict(), allocator.judged()), (None, None));
    assert!(!allocator.take_up(), "there is none any more");
}

#[test]
fn one_that_has_no_answer_is_worse_whatever_its_bookings_cost() {
    let (mut allocator, verdict) = tried(ByCpu { most: true, answers: false }, LEAST, 10);
    assert!(verdict.unanswered == 10 && !verdict.is_not_worse, "{verdict:?}");
    allocator.drop_candidate();
    assert_eq!(allocator.judged(), None);
}

/// Answers but where the number of the decision, from 1, is a multiple of this.
struct Late {
    each: u32,
    decisions: u32,
}

impl Chooser for Late {
    fn choose(&mut self, observation: &Observation, options: &[Resources]) -> Option<usize> {
        self.decisions += 1;
        let answers = !self.decisions.is_multiple_of(self.each);
        ByCpu { most: true, answers }.choose(observation, options)
    }
}

#[test]
fn a_busy_machine_is_held_against_no_candidate() {
    let late = |each| Late { each, decisions: 0 };
    // Whoever is asked on this machine has no answer now and then.
    let (_, verdict) = tried(late(5), late(4), 40);
    assert!(verdict.unanswered >= 8 && verdict.unanswered_in_force >= 8, "{verdict:?}");
    assert!(verdict.answers, "{verdict:?}");
    let (_, verdict) = tried(late(30), MOST, 40);
    assert!(verdict.unanswered == 1 && verdict.answers, "once is never held against it: {verdict:?}");
    let (_, verdict) = tried(late(15), MOST, 40);
    assert!(verdict.unanswered == 2 && !verdict.answers && !verdict.is_not_worse, "{verdict:?}");
}
