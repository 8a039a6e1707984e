//! How long one decision takes: 64 options through ONNX Runtime.
//!
//!     cargo run --release -p training --example score

use std::time::Instant;

use models::{Places, Runtime, Scorer, features};
use training::{Mlp, model_bytes};

const OPTIONS: usize = 64;
const DECISIONS: usize = 20_000;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let set = &features::OURS;
    let names = set.names();
    let network = Mlp::seeded(&[names.len(), 32, 16, 1], 1);
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("allocator.onnx");
    std::fs::write(&path, model_bytes(&network, &names, &set.scales()))?;

    let begun = Instant::now();
    let runtime = Runtime::load(&Places::of_environment())?;
    println!("{runtime:?}, loaded in {:.0} ms", begun.elapsed().as_secs_f64() * 1e3);
    let begun = Instant::now();
    let mut scorer = Scorer::load(&runtime, &path, &names)?;
    println!("{} parameters, loaded in {:.1} ms", network.parameters(), begun.elapsed().as_secs_f64() * 1e3);

    let states: Vec<f32> = (0..OPTIONS * names.len()).map(|i| (i % 97) as f32 / 97.0).collect();
    let mut scores = Vec::new();
    let mut took: Vec<f64> = Vec::with_capacity(DECISIONS);
    for _ in 0..DECISIONS {
        let begun = Instant::now();
        scorer.score(&states, &mut scores)?;
        took.push(begun.elapsed().as_secs_f64() * 1e6);
    }
    took.sort_by(f64::total_cmp);
    println!(
        "{OPTIONS} options: p50 {:.1} us, p99 {:.1} us",
        took[DECISIONS / 2],
        took[DECISIONS * 99 / 100]
    );
    let begun = Instant::now();
    for _ in 0..DECISIONS {
        std::hint::black_box(network.forward(std::hint::black_box(&states)));
    }
    println!("our own forward pass: mean {:.1} us", begun.elapsed().as_secs_f64() * 1e6 / DECISIONS as f64);
    Ok(())
}
