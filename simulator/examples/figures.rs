//! The figures without the rest of the house around them: what `windfall simulate figures` does, built in less time, and without the
//! trained models.
//!
//!     cargo run --release -p simulator --example figures -- [full|quick|tiny] [figure|all] [seeds|-] [folder] [traces]
//!
//! Each figure is written as soon as it is there, beside those that are there already.

use std::path::PathBuf;

use simulator::figures::{self, Amount, Files, Size, Stage};

fn main() {
    let given: Vec<String> = std::env::args().skip(1).collect();
    let word = |n: usize| given.get(n).map(String::as_str);
    let amount = match word(0) {
        Some("full") => Amount::Full,
        Some("tiny") => Amount::Tiny,
        _ => Amount::Quick,
    };
    let seeds = word(2).filter(|&seeds| seeds != "-").map(|seeds| seeds.parse().expect("a number of seeds"));
    let size = Size { amount, seeds, traces: word(4).map(PathBuf::from) };
    let out = PathBuf::from(word(3).unwrap_or("docs/figures"));
    let files = Files { json: out.join("figures.json"), out };
    let only = word(1).unwrap_or("all");
    let threads = match std::env::var("WINDFALL_THREADS") {
        Ok(threads) => threads.parse().expect("a number of threads"),
        Err(_) => std::thread::available_parallelism().map_or(1, usize::from),
    };
    let progress = |at: simulator::runs::Progress<'_>| eprintln!("{}/{} {}", at.done, at.of, at.label);
    let stage = Stage { size: &size, threads, contenders: &[], progress: &progress };
    for figure in figures::ALL.into_iter().filter(|figure| only == "all" || figure.name() == only) {
        let drawn = figure.play(&stage).unwrap_or_else(|error| panic!("{error}"));
        let command = format!("windfall simulate figures --only {}{}", figure.name(), size.flags());
        figures::write(&drawn, &command, &files).unwrap_or_else(|error| panic!("{error}"));
        println!("{}", figures::markdown(&drawn));
    }
}
