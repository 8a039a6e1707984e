//! The figures without the rest of the house around them: what `windfall simulate figures` does, built in less time.
//!
//!     cargo run --release -p simulator --example figures -- [quick|full] [figure|all] [seeds] [folder] [traces]

use std::path::PathBuf;

use simulator::figures::{self, Files, Size};

fn main() {
    let given: Vec<String> = std::env::args().skip(1).collect();
    let word = |n: usize| given.get(n).map(String::as_str);
    let size = Size {
        quick: word(0) != Some("full"),
        seeds: word(2).map(|seeds| seeds.parse().expect("a number of seeds")),
        traces: word(4).map(PathBuf::from),
    };
    let out = PathBuf::from(word(3).unwrap_or("docs/figures"));
    let files = Files { json: out.join("figures.json"), out };
    let only = word(1).unwrap_or("all");
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let mut drawn = Vec::new();
    for figure in figures::ALL.into_iter().filter(|figure| only == "all" || figure.name() == only) {
        let progress = |at: simulator::runs::Progress<'_>| eprintln!("{}/{} {}", at.done, at.of, at.label);
        drawn
            .push(figures::play(figure, &size, threads, &progress).unwrap_or_else(|error| panic!("{error}")));
    }
    let command = format!("cargo run --release -p simulator --example figures -- {}", given.join(" "));
    figures::write(&drawn, &command, &files).unwrap_or_else(|error| panic!("{error}"));
    drawn.iter().for_each(|drawn| println!("{}", figures::markdown(drawn)));
}
