//! How long one decision takes: 64 options through ONNX Runtime, the scores alone and with everything around them, by the model of the
//! repository.
//!
//!     cargo run --release -p training --example score

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use models::{Counts, ModelChooser, Places, Runtime, Scorer, features};
use policies::allocation::learned::{Chooser, Observation};
use policies::allocation::options::Grid;
use policies::allocation::{Fleet, Home};
use policies::profile::Profile;
use training::read_model;
use vocabulary::{Mebibytes, MilliCores, Resources, Span, Usage};

const DECISIONS: usize = 20_000;
/// Beside this file's crate.
const MODEL: &str = "models/allocator.onnx";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let set = &features::OURS;
    let names = set.names();
    let begun = Instant::now();
    let runtime = Runtime::load(&Places::of_environment())?;
    println!("{runtime:?}, loaded in {:.0} ms", begun.elapsed().as_secs_f64() * 1e3);
    let begun = Instant::now();
    let mut scorer = Scorer::load(&runtime, Path::new(MODEL), &names)?;
    println!("{MODEL}, loaded in {:.1} ms", begun.elapsed().as_secs_f64() * 1e3);

    let (observation, options) = question();
    let mut states = Vec::new();
    set.write(&observation, &options, &mut states);
    let mut scores = Vec::new();
    told("scores of 64 options", times(|| scorer.score(&states, &mut scores).is_ok())?);

    let mut chooser = ModelChooser::new(scorer, set, Arc::new(Counts::default()));
    // One that the machine kept waiting for a millisecond is no answer, and counts with its time all the same.
    let mut unanswered = 0;
    let decides = || {
        unanswered += u32::from(chooser.choose(&observation, &options).is_none());
        true
    };
    told("a decision over 64 options", times(decides)?);
    println!("{unanswered} of {DECISIONS} decisions took a millisecond or more");

    let (network, _) = read_model(&std::fs::read(MODEL)?)?;
    set.scale(&mut states);
    told("our own forward pass", times(|| !std::hint::black_box(network.forward(&states)).is_empty())?);
    Ok(())
}

/// What a busy function of a busy house is asked with, and the grid of the paper.
fn question() -> (Observation, Vec<Resources>) {
    let mut profile = Profile::default();
    let usage = Usage {
        cpu_time: Span::millis(300),
        cpu_peak: MilliCores(3_500),
        memory_peak: Mebibytes(200),
        ..Usage::default()
    };
    for _ in 0..20 {
        profile.ended_with(1_000, Span::millis(100), None, usage);
    }
    let observation = Observation {
        reservation: Resources::new(4_000, 512),
        in_flight: 60,
        in_flight_of_function: 8,
        waiting: 12,
        fleet: Fleet { capacity: Resources::new(80_000, 327_680), free: Resources::new(9_000, 200_000) },
        home: Home {
            capacity: Resources::new(8_000, 32_768),
            headroom: Resources::new(2_000, 20_000),
            shrink_per_minute: 20,
        },
        rate_milli_hz: 40_000,
        input_bytes: 1_000,
        cpu_peak: MilliCores(3_500),
        memory_peak: Mebibytes(200),
        duration: Span::millis(100),
        baseline: Span::ZERO,
        expected: profile.expect(1_000).expect("it has run"),
    };
    (observation, Grid::default().options().collect())
}

/// Microseconds, sorted.
fn times(mut decide: impl FnMut() -> bool) -> Result<Vec<f64>, &'static str> {
    let mut took = Vec::with_capacity(DECISIONS);
    for _ in 0..DECISIONS {
        let begun = Instant::now();
        if !decide() {
            return Err("there was no answer");
        }
        took.push(begun.elapsed().as_secs_f64() * 1e6);
    }
    took.sort_by(f64::total_cmp);
    Ok(took)
}

fn told(what: &str, took: Vec<f64>) {
    let at = |percent: usize| took[took.len() * percent / 100];
    println!("{what}: p50 {:.1} us, p99 {:.1} us", at(50), at(99));
}
