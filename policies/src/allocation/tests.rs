mod asked;

use proptest::prelude::*;

use super::calibration::{Allowed, Calibration};
use super::options::{Mask, Steps};
use super::*;

const F: FunctionId = FunctionId(1);

fn resources(cores: u32, memory: u32) -> Resources {
    Resources::new(cores * 1_000, memory)
}

fn usage(cpu: u32, memory: u32) -> Usage {
    Usage { cpu_peak: MilliCores(cpu), memory_peak: Mebibytes(memory), ..Usage::default() }
}

/// A function with its allocator: runs go one after another.
struct One {
    allocator: Box<dyn Allocator>,
    reservation: Resources,
    profile: Profile,
    free: Resources,
}

impl One {
    fn of(name: &str, reservation: Resources) -> Self {
        let allocator = by_name(name, &Settings::default()).unwrap();
        Self { allocator, reservation, profile: Profile::default(), free: resources(80, 1_000_000) }
    }

    fn grant_for(&mut self, input_bytes: u32) -> Grant {
        self.allocator.grant(&Request {
            function: F,
            input_bytes,
            fleet: Fleet { capacity: self.free, free: self.free },
            ..Request::new(self.reservation, &self.profile)
        })
    }

    /// One run that takes so long and needs so much.
    fn runs(&mut self, input_bytes: u32, duration: Span, used: Usage) -> Grant {
        let grant = self.grant_for(input_bytes);
        self.profile.ended_with(input_bytes, duration, None, used);
        let ended = Ended {
            function: F,
            grant,
            input_bytes,
            duration,
            usage: used,
            ..Ended::new(self.reservation, &self.profile)
        };
        self.allocator.ended(&ended);
        grant
    }
}

#[test]
fn every_listed_allocator_exists_under_its_own_name() {
    for name in NAMES {
        assert_eq!(by_name(name, &Settings::default()).unwrap().name(), name);
    }
    assert!(by_name("", &Settings::default()).is_none());
}

#[test]
fn whoever_knows_nothing_books_the_reservation() {
    for name in NAMES {
        let grant = One::of(name, resources(2, 256)).grant_for(100);
        assert_eq!(grant.booked, resources(2, 256), "{name}");
    }
}

#[test]
fn what_is_booked_has_room_above_what_is_used_only_where_a_booking_is_a_ceiling() {
    for (lending, used, least, most) in [
        (Lending::Hard, 2_000, 2_500, 3_000),
        (Lending::Elastic, 2_000, 2_000, 2_000),
        // What is no whole number of cores is booked as the sketch has it: at most an eighth too high, never too low.
        (Lending::Elastic, 1_500, 1_500, 1_687),
    ] {
        let settings = Settings { lending, ..Settings::default() };
        let mut one = One::of("profile", resources(4, 512));
        one.allocator = by_name("profile", &settings).unwrap();
        for _ in 0..8 {
            one.runs(100, Span::millis(100), usage(used, 100));
        }
        let booked = one.grant_for(100).booked;
        assert!((least..=most).contains(&booked.cpu.0), "{lending:?}: {booked}");
        assert!(booked.memory > Mebibytes(125), "memory is not had back as easily: {booked}");
    }
}

#[test]
fn greedy_goes_one_step_down_while_a_tenth_is_idle_and_one_up_when_not() {
    let mut one = One::of("greedy", resources(4, 512));
    let used = usage(2_000, 100);
    let booked: Vec<_> =
        (0..8).map(|_| one.runs(0, Span::millis(100), used).booked).map(|b| (b.cpu.0, b.memory.0)).collect();
    // 2,000 of 3,000 is idle, 2,000 of 2,000 is not: it swings between the two for ever, as published.
    assert_eq!(
        booked,
        [
            (4_000, 512),
            (3_000, 448),
            (2_000, 384),
            (3_000, 320),
            (2_000, 256),
            (3_000, 192),
            (2_000, 128),
            (3_000, 64)
        ],
        "100 of 128 MiB is less than nine tenths"
    );
    assert_eq!(one.grant_for(0).booked.memory, Mebibytes(128), "100 of 64 is not");
}

#[test]
fn the_released_greedy_takes_megabytes_for_steps_and_gives_memory_to_everybody() {
    let mut one = One::of("greedy-freyr22", resources(4, 256));
    // 100 MB over 4 steps is 25, which is more than 0.9.
    for _ in 0..4 {
        one.runs(0, Span::millis(100), usage(2_000, 100));
    }
    assert_eq!(one.grant_for(0).booked.memory, Mebibytes(512));
}

#[test]
fn ensure_gives_two_cores_to_a_short_function_that_has_become_slow_and_takes_them_when_the_fleet_is_full() {
    let mut one = One::of("ensure", resources(2, 256));
    for _ in 0..4 {
        assert_eq!(one.runs(0, Span::millis(1_000), usage(2_000, 100)).booked, resources(2, 256));
    }
    for _ in 0..3 {
        one.runs(0, Span::millis(1_200), usage(2_000, 100));
    }
    let after = one.grant_for(0).booked;
    assert_eq!(after, resources(4, 256), "a fifth slower than the best three");
    one.free = resources(1, 1_000);
    let booked: Vec<_> =
        (0..4).map(|_| one.runs(0, Span::millis(1_000), usage(2_000, 100)).booked.cpu.0).collect();
    assert_eq!(booked, [4_000, 4_000, 4_000, 2_000]);
}

#[test]
fn ensure_moves_a_long_function_by_one_core_every_fifth_time() {
    let mut one = One::of("ensure", resources(2, 256));
    for _ in 0..5 {
        one.runs(0, Span::seconds(6), usage(2_000, 100));
    }
    let booked: Vec<_> =
        (0..6).map(|_| one.runs(0, Span::seconds(8), usage(2_000, 100)).booked.cpu.0).collect();
    assert_eq!(booked, [2_000, 2_000, 2_000, 2_000, 2_000, 2_000]);
    assert_eq!(one.grant_for(0).booked.cpu, MilliCores(3_000));
}

#[test]
fn the_released_ensure_never_gives_and_does_to_the_next_what_was_meant_for_the_last() {
    let mut one = One::of("ensure-freyr22", resources(4, 256));
    for run in 0..20 {
        let booked = one.runs(0, Span::millis(100 + run * 100), usage(4_000, 100)).booked;
        assert_eq!(booked, resources(4, 256), "ever slower, and nothing is done");
    }
    one.free = Resources::ZERO;
    while one.runs(0, Span::millis(100), usage(4_000, 100)).booked == resources(4, 256) {}
    let other = one
        .allocator
        .grant(&Request { function: FunctionId(2), ..Request::new(resources(8, 128), &Profile::default()) });
    assert_eq!(other.booked, resources(2, 128), "it has the first one's CPU");
}

/// A run of some other function that reserves eight cores.
fn other_ran(one: &mut One, function: u64, cpu: u32) {
    one.allocator.ended(&Ended {
        function: FunctionId(function),
        duration: Span::seconds(1),
        usage: usage(cpu, 100),
        ..Ended::new(resources(8, 512), &Profile::default())
    });
}

/// Nineteen functions that reserve eight cores have run, and used no more than four.
fn among_peers(lending: Lending) -> One {
    let mut one = One::of("profile", resources(8, 512));
    one.allocator = by_name("profile", &Settings { lending, ..Settings::default() }).unwrap();
    (100..119)
        .for_each(|function| other_ran(&mut one, function, if function % 2 == 0 { 1_000 } else { 4_060 }));
    one
}

#[test]
fn a_first_run_books_what_nineteen_of_twenty_functions_needed_that_reserve_as_much() {
    let grant = among_peers(Lending::Elastic).grant_for(0);
    assert_eq!(grant.booked, resources(4, 512), "4.06 cores are four threads");
    assert!(grant.provisional && grant.ceiling.cpu >= MilliCores::cores(8), "{grant:?}");
    assert_eq!(
        among_peers(Lending::Hard).grant_for(0).booked,
        resources(8, 512),
        "it would be stopped at less"
    );
    let mut others = among_peers(Lending::Elastic);
    others.reservation = resources(4, 512);
    assert_eq!(others.grant_for(0).booked, resources(4, 512), "of those nobody knows anything");
}

#[test]
fn who_needed_more_than_others_with_a_small_input_is_not_taken_for_one_of_them_with_a_large_one() {
    let mut one = among_peers(Lending::Elastic);
    one.runs(1, Span::seconds(1), usage(7_000, 100));
    (200..219).for_each(|function| other_ran(&mut one, function, 1_000));
    let large = one.grant_for(1_000_000).booked.cpu;
    assert_eq!(large, MilliCores(7_000), "it has needed that with a byte");
    let nobody = Profile::default();
    let new = Request { function: FunctionId(300), ..Request::new(one.reservation, &nobody) };
    assert_eq!(
        one.allocator.grant(&new).booked.cpu,
        MilliCores(4_000),
        "one of 39 is less than one of twenty"
    );
}

#[test]
fn who_waits_for_most_of_its_run_has_its_bursts_from_what_is_idle_and_books_no_more_than_it_reserved() {
    // A tenth of a second at four cores, in runs of a second; or all the time.
    for (cpu_time_ms, booked) in [(400, 2), (2_000, 4)] {
        let mut one = One::of("profile", resources(2, 512));
        one.allocator =
            by_name("profile", &Settings { lending: Lending::Elastic, ..Settings::default() }).unwrap();
        for _ in 0..4 {
            one.runs(
                100,
                Span::seconds(1),
                Usage { cpu_time: Span::millis(cpu_time_ms), ..usage(4_000, 100) },
            );
        }
        let grant = one.grant_for(100);
        assert_eq!(grant.booked.cpu, MilliCores::cores(booked), "{cpu_time_ms} ms");
        assert!(grant.ceiling.cpu >= MilliCores(4_000), "it may use them: {grant:?}");
    }
}

#[test]
fn the_oracle_leaves_what_is_needed_and_wishes_for_what_helps() {
    let profile = Profile::default();
    let truth = Truth {
        saturation: MilliCores(3_000),
        memory: Mebibytes(100),
        duration: Span::millis(70),
        reserved: Span::millis(70),
    };
    let ask = |cores| Request { truth: Some(truth), ..Request::new(resources(cores, 256), &profile) };
    let lender = oracle::Oracle.grant(&ask(4));
    assert_eq!((lender.booked, lender.ceiling), (resources(3, 100), resources(3, 100)));
    let borrower = oracle::Oracle.grant(&ask(2));
    assert_eq!((borrower.booked, borrower.ceiling), (resources(2, 100), resources(3, 100)));
    assert_eq!(borrower.lasts, Span::millis(70));
}

#[test]
fn by_profile_nothing_is_taken_before_three_runs_and_then_all_but_the_peak_and_a_margin() {
    let mut one = One::of("profile", resources(4, 512));
    for _ in 0..3 {
        assert_eq!(one.runs(100, Span::millis(80), usage(1_000, 100)).booked, resources(4, 512));
    }
    let unsure = one.grant_for(100);
    for _ in 0..100 {
        one.runs(100, Span::millis(80), usage(1_000, 100));
    }
    let sure = one.grant_for(100);
    assert!(
        sure.booked.cpu < unsure.booked.cpu && sure.booked.memory < unsure.booked.memory,
        "{sure:?} {unsure:?}"
    );
    for booked in [sure.booked, unsure.booked] {
        assert!(booked.cpu > MilliCores(1_250) && booked.memory > Mebibytes(125), "its peak is below 0.8");
    }
    assert!(sure.booked.cpu < MilliCores(1_600), "{}", sure.booked);
    assert_eq!(sure.ceiling, resources(4, 512));
    assert!(sure.lasts >= Span::millis(80) && sure.lasts <= Span::millis(90));
    assert_eq!(one.grant_for(1_000_000).booked, resources(4, 512), "of large inputs nothing is known");
}

#[test]
fn by_profile_one_run_tells_enough_of_cpu_where_nobody_is_stopped_at_it() {
    let mut one = One::of("profile", resources(4, 512));
    one.allocator =
        by_name("profile", &Settings { lending: Lending::Elastic, ..Settings::default() }).unwrap();
    assert_eq!(one.runs(100, Span::millis(80), usage(1_000, 100)).booked, resources(4, 512));
    for input_bytes in [100, 5, 1_000] {
        assert_eq!(one.grant_for(input_bytes).booked, resources(1, 512), "all of its memory");
    }
    one.runs(100, Span::millis(80), Usage { safeguarded: true, ..usage(3_000, 100) });
    for _ in 0..3 {
        let booked = one.runs(100, Span::millis(80), usage(1_000, 100)).booked;
        assert_eq!(
            booked,
            resources(3, 512),
            "what it used was never held back; its memory waits for three calm runs"
        );
    }
    assert_eq!(one.grant_for(100).booked.cpu, MilliCores(3_000));
    assert!(one.grant_for(100).booked.memory < Mebibytes(512));
}

#[test]
fn by_profile_one_that_was_held_back_books_what_it_can_use_or_borrows_it() {
    let held_back = Usage { throttled: Span::millis(240), ..usage(1_000, 100) };
    let grants = |name, home: Option<Home>| {
        let mut one = One::of(name, resources(1, 256));
        for _ in 0..3 {
            one.runs(100, Span::millis(80), held_back);
        }
        let ask =
            Request { function: F, input_bytes: 100, home, ..Request::new(one.reservation, &one.profile) };
        let grant = one.allocator.grant(&ask);
        assert!(grant.ceiling.cpu >= MilliCores(4_000), "{}", grant.ceiling);
        (grant.booked.cpu.0, one.allocator.settles_after())
    };
    assert_eq!(grants("profile-lent", None), (1_000, None));
    let (booked, settles) = grants("profile", None);
    assert!((4_000..=4_500).contains(&booked) && settles == Some(4_000), "{booked}");
    let small = Home { capacity: resources(3, 4_096), ..Home::default() };
    assert_eq!(grants("profile", Some(small)).0, 3_000, "its VM has no more");
}

#[test]
fn by_profile_nothing_is_taken_after_a_safeguard_until_three_calm_runs() {
    let mut one = One::of("profile", resources(4, 512));
    for _ in 0..10 {
        one.runs(100, Span::millis(80), usage(1_000, 100));
    }
    one.runs(100, Span::millis(80), Usage { safeguarded: true, ..usage(3_000, 100) });
    for _ in 0..3 {
        assert_eq!(one.runs(100, Span::millis(80), usage(1_000, 100)).booked, resources(4, 512));
    }
    let after = one.grant_for(100).booked;
    assert!(after.cpu >= MilliCores(3_750), "the spike is not forgotten: {after}");
}

#[test]
fn memory_is_never_taken_from_what_must_not_run_twice() {
    let mut one = One::of("profile", resources(4, 512));
    for _ in 0..10 {
        one.runs(100, Span::millis(80), usage(1_000, 100));
    }
    let ask = Request {
        function: F,
        input_bytes: 100,
        may_rerun: false,
        ..Request::new(one.reservation, &one.profile)
    };
    let grant = one.allocator.grant(&ask);
    assert!(grant.booked.memory == Mebibytes(512) && grant.booked.cpu < MilliCores(4_000));
}

#[test]
fn libra_predicts_by_size_where_size_tells_and_by_quantiles_where_not() {
    let mut related = One::of("libra", resources(4, 512));
    for run in 0..60_u64 {
        let large = run % 2 == 1;
        let (input, duration, used) =
            if large { (10_000, 900, usage(5_500, 300)) } else { (10, 20, usage(500, 40)) };
        related.runs(input, Span::millis(duration), used);
    }
    let (small, large) = (related.grant_for(10), related.grant_for(10_000));
    assert_eq!(small.booked, resources(1, 64));
    assert!(small.lasts < Span::millis(25));
    assert_eq!((large.booked, large.ceiling.cpu), (Resources::new(4_000, 320), MilliCores(6_000)));
    let mut unrelated = One::of("libra", resources(4, 512));
    for run in 0..60_u64 {
        let hard = run % 2 == 1;
        unrelated.runs(
            10,
            Span::millis(if hard { 900 } else { 20 }),
            usage(if hard { 2_500 } else { 500 }, 40),
        );
    }
    let grant = unrelated.grant_for(10);
    assert_eq!(grant.booked.cpu, MilliCores(3_000), "the 99th percentile");
    assert!(grant.lasts < Span::millis(25), "the 5th percentile of how long");
}

#[test]
fn libra_first_gives_the_most_there_is_to_see_what_is_taken() {
    let grant = One::of("libra", resources(2, 256)).grant_for(10);
    assert_eq!((grant.booked, grant.ceiling), (resources(2, 256), resources(8, 512)));
}

#[test]
fn coverage_is_the_part_of_want_and_time_that_the_pool_has() {
    let at = |ms| Moment::ORIGIN + Span::millis(ms);
    let wants = resources(2, 0);
    let of = |idle: &[(Resources, Moment)]| libra::coverage(idle, at(0), wants, Span::millis(100));
    assert_eq!(of(&[]), 100, "all of the memory it wants, which is none");
    assert_eq!(of(&[(resources(2, 0), at(100))]), 1_000);
    assert_eq!(of(&[(resources(4, 0), at(50))]), 550, "too much for half of the time");
    assert_eq!(of(&[(resources(1, 0), at(50)), (resources(1, 0), at(200))]), 100 + 900 * 3 / 4);
    assert_eq!(of(&[(resources(2, 0), Moment::ORIGIN)]), 100, "what has expired covers nothing");
}

fn after(last: Usage, grant: Resources) -> Allowed {
    let profile = Profile::default();
    let mut calibration = Calibration::new(Grid::default(), 800);
    calibration.ended(
        &Ended {
            now: Moment::ORIGIN,
            invocation: InvocationId(1),
            function: F,
            reservation: resources(4, 256),
            grant: Grant::fixed(grant),
            input_bytes: 0,
            answered: true,
            starved: false,
            waited: Span::ZERO,
            init: Span::ZERO,
            duration: Span::millis(1),
            usage: last,
            profile: &profile,
        },
        false,
    );
    calibration.allowed(&Request { function: F, ..Request::new(resources(4, 256), &profile) })
}

#[test]
fn freyrs_safeguard_allows_what_the_paper_says() {
    let steps = |from, to| Steps { from, to };
    let idle = after(usage(1_500, 70), resources(4, 256));
    assert_eq!(idle.mask, Mask { cpu: steps(2, 4), memory: steps(2, 4) });
    assert!(!idle.calibrates);
    let spiked = after(usage(1_700, 70), resources(2, 256));
    assert_eq!((spiked.mask.cpu, spiked.calibrates), (Steps::only(4), true), "1.7 of 2 is over 0.8");
    let busy = after(usage(3_900, 250), resources(4, 256));
    assert_eq!(busy.mask, Mask { cpu: steps(4, 8), memory: steps(4, 8) });
    let profile = Profile::default();
    let unknown = Calibration::new(Grid::default(), 800)
        .allowed(&Request { function: F, ..Request::new(resources(4, 256), &profile) });
    assert_eq!(unknown.mask, Mask { cpu: Steps::only(4), memory: Steps::only(4) });
    assert!(unknown.calibrates);
}

proptest! {
    /// Whatever is measured, however wrong: a grant is never nothing, and what is booked stays within the grid or the reservation.
    #[test]
    fn grants_stay_within_bounds(
        name in prop::sample::select(NAMES.to_vec()),
        cores in 1_u32..20, memory in 1_u32..2_048,
        runs in prop::collection::vec((any::<u32>(), 0_u64..1 << 40, any::<u32>(), any::<u32>(), any::<u32>(), any::<bool>()), 1..40),
    ) {
        let reservation = Resources::new(cores * 500, memory);
        let mut one = One::of(name, reservation);
        let most = Grid::default().most(reservation);
        for (input, duration, cpu, held, throttled, safeguarded) in runs {
            let used = Usage { throttled: Span(throttled.into()), safeguarded, ..usage(cpu, held) };
            let grant = one.runs(input, Span(duration), used);
            prop_assert!(grant.booked.fits_in(most), "{name}: {grant:?}");
            prop_assert!(grant.ceiling.fits_in(most) && grant.booked.fits_in(grant.ceiling), "{name}: {grant:?}");
            prop_assert!(grant.booked.cpu.0 > 0 && grant.booked.memory.0 > 0, "{name}: {grant:?}");
        }
    }
}
