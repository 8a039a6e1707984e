//! `windfall simulate`: rehearse a scenario under virtual time.

use std::path::PathBuf;

use clap::Args;

use crate::failure::{Exit, Failure, Outcome};
use crate::output;

/// Its flags.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub struct Simulate {
    /// The scenario, TOML. Without it: three harvested VMs, one of which shrinks and one of which is evicted
    #[arg(long, value_name = "FILE")]
    scenario: Option<PathBuf>,
    /// Another seed than the scenario's
    #[arg(long)]
    seed: Option<u64>,
    /// Another placement than the scenario's
    #[arg(long)]
    placement: Option<String>,
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

const HELP: &str = "\
Plays a scenario through the policies that run in production, with a clock that is only a number. Equal scenarios
give equal reports. Exit code 1 means that something was not as it must always be: a bug.

Examples:
  windfall simulate
  windfall simulate --show > mine.toml && windfall simulate --scenario mine.toml
  windfall simulate --scenario mine.toml --placement jsq --seed 7 --json";

/// Carries it out.
pub fn run(simulate: Simulate) -> Outcome {
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
    if let Some(placement) = simulate.placement {
        scenario.placement = placement;
    }
    scenario.check().map_err(wrong)?;
    let report = simulator::run_in(&scenario, simulate.traces.as_deref()).map_err(wrong)?;
    if simulate.json {
        println!("{}", output::pretty(&serde_json::to_value(&report)?));
    } else {
        println!("{report}");
    }
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
