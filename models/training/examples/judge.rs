//! What `windfall simulate lending` prints, without building the actors: for whoever changes an allocator.
//!
//!     cargo run --release -p training --example judge -- TRACES SEEDS OUT.json [SET...]
//!
//! Names of allocators among the sets: nobody but these, to set one beside another on the same calls. Models are read from `models`, or from the
//! folder that is named by `MODELS`. `THREADS` is how many runs are played at once; without it one is.

use std::path::PathBuf;

use simulator::comparisons::lending::Contender;
use simulator::comparisons::{both_levels, overview, sets};
use training::judged;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let given: Vec<String> = std::env::args().skip(1).collect();
    let [traces, seeds, out, only @ ..] = &given[..] else {
        return Err("name the folder of traces, the seeds, and the file of the results".into());
    };
    let (traces, seeds) = (PathBuf::from(traces), seeds.parse()?);
    let folder = std::env::var_os("MODELS").map_or(PathBuf::from("models"), PathBuf::from);
    let model = |name: &str| std::fs::read(folder.join(name)).ok();
    let (ours, freyr) = (model("allocator.onnx"), model("freyr-size.onnx"));
    let trained = judged::contenders(ours.as_deref(), freyr.as_deref())?;
    let threads = std::env::var("THREADS").map_or(Ok(1), |threads| threads.parse())?;
    let everybody: Vec<_> = Contender::all().into_iter().chain(trained.iter().cloned()).collect();
    let alone: Vec<_> = everybody.into_iter().filter(|one| only.contains(&one.name)).collect();
    let only: Vec<_> = only.iter().filter(|name| alone.iter().all(|one| one.name != **name)).collect();
    let mut played = Vec::new();
    for titled in sets::freyr(&traces)?.iter().chain(&sets::tables(&traces)?) {
        if only.is_empty() || only.iter().any(|name| titled.is_called(name)) {
            let begun = std::time::Instant::now();
            played.push(if alone.is_empty() {
                titled.play(&trained, seeds, threads, &|_| {})?
            } else {
                titled.play_only(&alone, seeds, threads, &|_| {})?
            });
            eprintln!("{} ({:.0} s)", titled.title, begun.elapsed().as_secs_f64());
            std::fs::write(out, serde_json::to_vec_pretty(&played)?)?;
        }
    }
    println!("{}", overview::markdown(&played));
    if (only.is_empty() && alone.is_empty()) || only.iter().any(|name| *name == "both-levels") {
        println!(
            "## Both levels together\n\n{}",
            both_levels::table(Some(&traces), seeds, threads, &|_| {})?
        );
    }
    Ok(())
}
