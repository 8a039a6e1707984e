//! What quota periods change in the sets of `windfall simulate lending`, and what they cost: each run with even quotas and with periods.
//!
//!     cargo run --release -p simulator --example periods -- TRACES SEEDS SET...

use std::path::PathBuf;

use policies::residency::Lending;
use simulator::Report;
use simulator::comparisons::{Seeds, lending::Contender, sets};
use simulator::physics::Quotas;
use vocabulary::MilliCores;

/// A node's cores.
const HOST: MilliCores = MilliCores(8_000);

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let given: Vec<String> = std::env::args().skip(1).collect();
    let [traces, seeds, only @ ..] = &given[..] else {
        return Err("name the folder of traces, the seeds, and the sets".into());
    };
    let (traces, seeds): (_, u64) = (PathBuf::from(traces), seeds.parse()?);
    let contenders = [
        Contender::named("fixed", Lending::Off),
        Contender::named("greedy", Lending::Elastic),
        Contender::named("profile", Lending::Hard),
        Contender::named("profile", Lending::Elastic),
    ];
    println!(
        "| set | allocator | lending | quotas | mean slowdown | worst degradation, % | P99 latency, s | accelerated, % | CPU, s |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- | --- |");
    for titled in sets::freyr(&traces)?.iter().chain(&sets::tables(&traces)?) {
        if !only.iter().any(|name| titled.is_called(name)) {
            continue;
        }
        for contender in &contenders {
            for (name, quotas) in [("even", Quotas::Flow), ("in periods", Quotas::InPeriods { host: HOST })] {
                let begun = std::time::Instant::now();
                let mut reports = Vec::new();
                for seed in 1..=seeds {
                    let mut house = titled.set.house(contender, seed)?;
                    house.quotas = quotas;
                    reports.push(simulator::play(house).0);
                }
                let over =
                    |figure: fn(&Report) -> f64| Seeds::of(&reports.iter().map(figure).collect::<Vec<_>>());
                println!(
                    "| {} | {} | {} | {name} | {} | {} | {} | {} | {:.2} |",
                    titled.title,
                    contender.name,
                    Lending::NAMES[contender.lending as usize],
                    over(|report| report.slowdown_of_run.mean_permille as f64 / 1e3).text(3),
                    over(|report| report.slowdown_of_run.max_permille as f64 / 10.0 - 100.0).text(0),
                    over(|report| report.latency.p99_us as f64 / 1e6).text(1),
                    over(|report| 100.0 * report.lending.accelerated as f64
                        / report.lending.runs.max(1) as f64)
                    .text(1),
                    begun.elapsed().as_secs_f64(),
                );
            }
        }
    }
    Ok(())
}
