//! The synthetic workload, against what is published of real ones.
//!
//!     cargo run --release -p simulator --example synthetic_check -- [seeds]

use simulator::workload::Synthetic;

fn main() {
    let seeds = std::env::args().nth(1).map_or(3, |seeds| seeds.parse().expect("a number of seeds"));
    for seed in 1..=seeds {
        println!("{}\n", Synthetic::f_small().self_check(seed));
    }
}
