//! Freyr's test set under each allocator, and both levels together, as Markdown.
//!
//!     WINDFALL_TRACES=folder cargo run --release -p simulator --example lending -- [allocators|both] [seeds]

use std::path::PathBuf;

use simulator::comparisons::{both_levels, lending};
use simulator::runs::Progress;
use simulator::workload::Freyr;

fn main() {
    let mut given = std::env::args().skip(1);
    let what = given.next().unwrap_or_else(|| "allocators".to_owned());
    let seeds = given.next().map_or(5, |seeds| seeds.parse().expect("a number of seeds"));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let progress = |progress: Progress<'_>| {
        eprint!("\r{}/{} {:<40}", progress.done, progress.of, progress.label);
    };
    let folder = std::env::var_os("WINDFALL_TRACES").map(PathBuf::from);
    if what == "both" {
        let table = both_levels::table(folder.as_deref(), seeds, threads, &progress);
        println!("{}", table.unwrap_or_else(|error| panic!("{error}")));
        return;
    }
    let folder = folder.expect("WINDFALL_TRACES names the folder of traces");
    let file = folder.join("functions/azure2019_freyr10_invocations_per_min.csv");
    let arrivals = Freyr::read(&file).unwrap_or_else(|error| panic!("{error}"));
    for (title, input_spread, knowledge) in [
        ("Inputs always the same, one minute seen before", 0.0, lending::Knowledge::OneMinute),
        ("Inputs log-normal (sigma 0.8), one minute seen before", 0.8, lending::Knowledge::OneMinute),
        ("Inputs always the same, nothing seen before", 0.0, lending::Knowledge::None),
        ("Inputs log-normal (sigma 0.8), nothing seen before", 0.8, lending::Knowledge::None),
    ] {
        let set = lending::Set { arrivals: arrivals.clone(), nodes: 10, input_spread, knowledge };
        let rows = set.rows(&lending::Contender::all(), seeds, threads, &progress);
        let rows = rows.unwrap_or_else(|error| panic!("{error}"));
        println!("## {title}\n\n{}", lending::markdown(&rows));
    }
}
