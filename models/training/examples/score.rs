//! How long one decision takes: 64 options through ONNX Runtime, the scores alone and with everything around them, by the model of the
//! repository or by those that are named; and beside them, in turn with them, a loop of a fixed length and the score of one option, which is
//! what the machine and ONNX Runtime cost by themselves.
//!
//!     cargo run --release -p training --example score -- [MODEL...]

use std::hint::black_box;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use models::features::Shown;
use models::{ANSWERS_WITHIN, Counts, ModelChooser, Places, Runtime, Scorer, features};
use policies::allocation::learned::{Chooser, Observation};
use policies::allocation::options::Grid;
use policies::allocation::{Fleet, Home};
use policies::profile::Profile;
use vocabulary::{Mebibytes, MilliCores, Resources, Span, Usage};

/// So many of each in a row, and so often: so that an hour's noise is everybody's.
const IN_A_ROW: usize = 200;
const ROUNDS: usize = 100;
/// Beside this file's crate.
const MODEL: &str = "models/allocator.onnx";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let set = &features::OURS;
    let begun = Instant::now();
    let runtime = Runtime::load(&Places::of_environment())?;
    println!("{runtime:?}, loaded in {:.0} ms", begun.elapsed().as_secs_f64() * 1e3);

    let (observation, options) = question();
    let (mut all, mut first) = (Shown::default(), Shown::default());
    set.show(&observation, &options, &mut all);
    set.show(&observation, &options[..1], &mut first);

    let mut timed: Vec<Timed<'_>> =
        vec![Timed::new("a loop of a fixed length", || !black_box(arithmetic()).is_nan())];
    let mut models: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    if models.is_empty() {
        models.push(MODEL.into());
    }
    for model in &models {
        let begun = Instant::now();
        let load = || Scorer::load(&runtime, model, set.columns());
        drop(load()?);
        println!("{}, loaded in {:.1} ms", model.display(), begun.elapsed().as_secs_f64() * 1e3);
        for shown in [&first, &all] {
            let (mut scorer, mut scores) = (load()?, Vec::new());
            let count = shown.options.len() / set.columns().of_option.len();
            let scored = format!("scores of {count} options, {}", model.display());
            timed.push(Timed::new(&scored, move || scorer.score(shown, &mut scores).is_ok()));
        }
        let scorer = load()?;
        let mut chooser = ModelChooser::new(scorer, set, Arc::new(Counts::default()), ANSWERS_WITHIN);
        let asked = options.clone();
        let decided = format!("a decision over {} options, {}", options.len(), model.display());
        timed.push(Timed::new(&decided, move || chooser.choose(&observation, &asked).is_some()));
    }
    for _ in 0..ROUNDS {
        timed.iter_mut().for_each(Timed::row);
    }
    timed.iter_mut().for_each(Timed::tell);
    Ok(())
}

/// Something that is done again and again, and how long it took each time, in microseconds.
struct Timed<'a> {
    what: String,
    done: Box<dyn FnMut() -> bool + 'a>,
    took: Vec<f64>,
    /// A decision that the machine kept waiting for so long is no answer, and counts with its time all the same.
    unanswered: u32,
}

impl<'a> Timed<'a> {
    fn new(what: &str, done: impl FnMut() -> bool + 'a) -> Self {
        Self { what: what.to_owned(), done: Box::new(done), took: Vec::new(), unanswered: 0 }
    }

    fn row(&mut self) {
        for _ in 0..IN_A_ROW {
            let begun = Instant::now();
            let answered = (self.done)();
            self.took.push(begun.elapsed().as_secs_f64() * 1e6);
            self.unanswered += u32::from(!answered);
        }
    }

    fn tell(&mut self) {
        self.took.sort_by(f64::total_cmp);
        let at = |permille: usize| self.took[self.took.len() * permille / 1_000];
        let (half, most) = (at(500), at(990));
        println!(
            "{}: p50 {half:.1} us, p90 {:.1} us, p99 {most:.1} us ({:.2} times p50), without an answer {} of {}",
            self.what,
            at(900),
            most / half,
            self.unanswered,
            self.took.len()
        );
    }
}

/// About as long as a decision, with nothing allocated and several sums that do not wait for one another, as in a product of matrices.
fn arithmetic() -> f32 {
    let mut sums = [1.0_f32; 32];
    for step in 0..4_000 {
        let step = black_box(step as f32 * 1e-3);
        sums.iter_mut().for_each(|sum| *sum = *sum * 0.999 + step);
    }
    sums.iter().sum()
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
        heuristic: Resources::new(3_650, 253),
    };
    (observation, Grid::default().options().collect())
}
