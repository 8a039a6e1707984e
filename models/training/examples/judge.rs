//! What `windfall simulate lending` prints, without building the actors: for whoever changes an allocator.
//!
//!     cargo run --release -p training --example judge -- TRACES SEEDS [SET...]

use std::path::PathBuf;

use simulator::comparisons::lending::{self, Contender};
use simulator::comparisons::{both_levels, sets};
use training::judged;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let given: Vec<String> = std::env::args().skip(1).collect();
    let [traces, seeds, only @ ..] = &given[..] else {
        return Err("name the folder of traces and the seeds".into());
    };
    let (traces, seeds) = (PathBuf::from(traces), seeds.parse()?);
    let model = |name: &str| std::fs::read(PathBuf::from("models").join(name)).ok();
    let (ours, freyr) = (model("allocator.onnx"), model("freyr-size.onnx"));
    let trained = judged::contenders(ours.as_deref(), freyr.as_deref())?;
    let is_asked = |name: &str| only.is_empty() || only.iter().any(|one| one == name);
    for titled in sets::freyr(&traces)?.iter().chain(&sets::tables(&traces)?) {
        if !is_asked(titled.name) {
            continue;
        }
        let mut contenders = if titled.with_all { Contender::all() } else { Contender::few() };
        contenders.extend(trained.iter().cloned());
        let rows = titled.set.rows(&contenders, seeds, 1, &|_| {})?;
        println!("## {}\n\n{}", titled.title, lending::markdown(&rows));
    }
    if is_asked("both-levels") {
        println!("## Both levels together\n\n{}", both_levels::table(Some(&traces), seeds, 1, &|_| {})?);
    }
    Ok(())
}
