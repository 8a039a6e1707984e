//! What `windfall simulate lending` prints, without building the actors: for whoever changes an allocator.
//!
//!     cargo run --release -p training --example judge -- TRACES SEEDS OUT.json [SET...]
//!
//! `learned` among the sets: nobody but the models, to set one beside another on the same calls. They are read from `models`, or from the folder
//! that is named by `MODELS`.

use std::path::PathBuf;

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
    let models_alone = only.iter().any(|name| name == "learned");
    let mut played = Vec::new();
    for titled in sets::freyr(&traces)?.iter().chain(&sets::tables(&traces)?) {
        if only.is_empty() || only.iter().any(|name| titled.is_called(name)) {
            let begun = std::time::Instant::now();
            played.push(if models_alone {
                titled.play_only(&trained, seeds, 1, &|_| {})?
            } else {
                titled.play(&trained, seeds, 1, &|_| {})?
            });
            eprintln!("{} ({:.0} s)", titled.title, begun.elapsed().as_secs_f64());
            std::fs::write(out, serde_json::to_vec_pretty(&played)?)?;
        }
    }
    println!("{}", overview::markdown(&played));
    if only.is_empty() || only.iter().any(|name| name == "both-levels") {
        println!("## Both levels together\n\n{}", both_levels::table(Some(&traces), seeds, 1, &|_| {})?);
    }
    Ok(())
}
