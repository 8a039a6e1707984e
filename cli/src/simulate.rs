//! `windfall simulate`: rehearse a scenario under virtual time.

mod figures;
mod lending;

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use simulator::runs::{Job, play_all};
use simulator::{Report, Scenario};

use crate::failure::{Exit, Failure, Outcome};
use crate::output;

/// Its flags.
#[derive(Debug, Args)]
#[command(after_help = HELP, args_conflicts_with_subcommands = true)]
pub struct Simulate {
    #[command(subcommand)]
    instead: Option<Instead>,
    /// The scenario, TOML. Without it: three harvested VMs, one of which shrinks and one of which is evicted
    #[arg(long, value_name = "FILE")]
    scenario: Option<PathBuf>,
    /// Another seed than the scenario's
    #[arg(long)]
    seed: Option<u64>,
    /// Another placement than the scenario's
    #[arg(long)]
    placement: Option<String>,
    /// So many runs, each with the next seed, over the cores of this machine
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    seeds: u32,
    /// Print every decision where something runs, one line each, instead of the report
    #[arg(long, conflicts_with_all = ["json", "seeds"])]
    decisions: bool,
    /// The folder of the traces that the scenario names
    #[arg(long, value_name = "FOLDER", env = "WINDFALL_TRACES")]
    traces: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Print the scenario instead of playing it, to begin one of your own
    #[arg(long, conflicts_with = "json")]
    show: bool,
}

/// What else is played.
#[derive(Debug, Subcommand)]
enum Instead {
    /// Play the published figures again, and ours beside them
    Figures(figures::Figures),
    /// Play allocators under the same calls: Freyr's test, and tables of Azure
    Lending(lending::Lending),
}

const HELP: &str = "\
Plays a scenario through the policies that run in production, with a clock that is only a number. Equal scenarios
give equal reports. Exit code 1 means that something was not as it must always be: a bug.

Examples:
  windfall simulate
  windfall simulate --show > mine.toml && windfall simulate --scenario mine.toml
  windfall simulate --scenario mine.toml --placement jsq --seed 7 --json
  windfall simulate --scenario mine.toml --seeds 20
  windfall simulate --decisions > decisions.txt
  windfall simulate figures --quick
  windfall simulate lending --traces data --only freyr";

/// Carries it out.
pub fn run(simulate: Simulate) -> Outcome {
    match simulate.instead {
        Some(Instead::Figures(figures)) => return figures::run(figures),
        Some(Instead::Lending(lending)) => return lending::run(lending),
        None => {}
    }
    let (name, text) = match &simulate.scenario {
        None => ("the built-in scenario".to_owned(), simulator::FIRST_LIGHT.to_owned()),
        Some(path) => {
            let text = std::fs::read_to_string(path)
                .map_err(|error| Failure::usage(format!("cannot read {}: {error}", path.display())))?;
            (path.display().to_string(), text)
        }
    };
    if simulate.show {
        print!("{text}");
        return Ok(());
    }
    let wrong = |error: simulator::ScenarioError| Failure::usage(format!("{name}: {error}"));
    let mut scenario = simulator::Scenario::from_toml(&text).map_err(wrong)?;
    if let Some(seed) = simulate.seed {
        scenario.seed = seed;
    }
    if let Some(placement) = &simulate.placement {
        scenario.placement.clone_from(placement);
    }
    scenario.check().map_err(wrong)?;
    // What it names is read before anything is played, so that a file which is not there is said once.
    let mut house = scenario.house_in(simulate.traces.as_deref()).map_err(wrong)?;
    if simulate.decisions {
        house.keeps_decisions = true;
        let (report, decisions) = simulator::play(house);
        print!("{}", decisions.unwrap_or_default());
        return verdict(&report);
    }
    if simulate.seeds > 1 {
        return many(&scenario, simulate.scenario.as_deref(), &simulate);
    }
    let (report, _) = simulator::play(house);
    if simulate.json {
        println!("{}", output::pretty(&serde_json::to_value(&report)?));
    } else {
        println!("{report}");
    }
    verdict(&report)
}

fn verdict(report: &Report) -> Outcome {
    if report.violations == 0 {
        return Ok(());
    }
    Err(Failure::new(
        Exit::Failed,
        format!(
            "{} times something was not as it must be; this is a bug, seed {}",
            report.violations, report.seed
        ),
    ))
}

/// One run for each seed from the scenario's on.
fn many(scenario: &Scenario, file: Option<&Path>, simulate: &Simulate) -> Outcome {
    let from = file.map_or_else(String::new, |file| format!(" --scenario {}", file.display()));
    let jobs = (0..u64::from(simulate.seeds)).map(|more| {
        let scenario = Scenario { seed: scenario.seed + more, ..scenario.clone() };
        let traces = simulate.traces.clone();
        Job {
            label: format!("seed {}", scenario.seed),
            repeat: format!(
                "windfall simulate{from} --placement {} --seed {}",
                scenario.placement, scenario.seed
            ),
            build: Box::new(move || scenario.house_in(traces.as_deref()).expect("it was read a moment ago")),
        }
    });
    let bar = ProgressBar::new(u64::from(simulate.seeds));
    if let Ok(style) = ProgressStyle::with_template("{bar:40} {pos}/{len} runs, {eta} left") {
        bar.set_style(style);
    }
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let results = play_all(jobs.collect(), threads, &|_| bar.inc(1));
    bar.finish_and_clear();
    let broken: Vec<String> =
        results.iter().filter_map(|result| Some(result.as_ref().err()?.to_string())).collect();
    let reports: Vec<&Report> = results.iter().flatten().collect();
    if simulate.json {
        println!("{}", output::pretty(&serde_json::to_value(&reports)?));
    } else {
        for report in reports {
            println!(
                "seed {:<8} {} of {} answered, {}, cold starts {} of {} runs",
                report.seed, report.answered, report.submitted, report.latency, report.cold_runs, report.runs
            );
        }
    }
    if broken.is_empty() { Ok(()) } else { Err(Failure::new(Exit::Failed, broken.join("\n"))) }
}
