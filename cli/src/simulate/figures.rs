//! `windfall simulate figures`: the published figures, played again.

use std::path::PathBuf;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use simulator::figures::{self, Figure, Files, Size};

use crate::failure::{Exit, Failure, Outcome};

/// Its flags.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub struct Figures {
    /// Fewer loads and seeds: done within five minutes on two cores
    #[arg(long)]
    quick: bool,
    /// Only the figure of this name; may be given several times
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// So many seeds for each point, instead of each figure's own number
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000))]
    seeds: Option<u64>,
    /// Where the page and its charts go
    #[arg(long, value_name = "DIR", default_value = "docs/figures")]
    out: PathBuf,
    /// Where the numbers go, as JSON; without it: figures.json beside the page
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// The folder of traces: clusters that change do so as released, not as drawn by chance
    #[arg(long, value_name = "DIR", env = "WINDFALL_TRACES")]
    traces: Option<PathBuf>,
}

const HELP: &str = "\
Plays the papers' policies and ours, prints a table with what was published beside both, and writes a page (README.md), an SVG for each
chart, and JSON keyed by figure, cluster and policy. Needs no traces. Files are replaced whole: Ctrl-C leaves the old ones
as they were.

Examples:
  windfall simulate figures --quick
  windfall simulate figures --only balancers --seeds 5 --out /tmp/figures
  windfall simulate figures --quick --json figures.json";

/// Carries it out.
pub fn run(asked: Figures) -> Outcome {
    let chosen = chosen(&asked.only)?;
    let size = Size { quick: asked.quick, seeds: asked.seeds, traces: asked.traces.clone() };
    let json = asked.json.clone().unwrap_or_else(|| asked.out.join("figures.json"));
    let files = Files { out: asked.out.clone(), json };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let mut drawn = Vec::new();
    for figure in chosen {
        let bar = ProgressBar::new(figure.cells(&size).len() as u64);
        if let Ok(style) = ProgressStyle::with_template("{msg} {bar:40} {pos}/{len} runs, {eta} left") {
            bar.set_style(style);
        }
        bar.set_message(figure.name());
        let played = figures::play(figure, &size, threads, &|_| bar.inc(1));
        bar.finish_and_clear();
        let figure = played.map_err(|error| Failure::usage(error.to_string()))?;
        println!("{}", figures::markdown(&figure));
        drawn.push(figure);
    }
    figures::write(&drawn, &command(&asked), &files)
        .map_err(|error| Failure::new(Exit::Failed, error.to_string()))?;
    println!("Written to {} and {}.", files.out.display(), files.json.display());
    let broken: Vec<String> = drawn.into_iter().flat_map(|drawn| drawn.broken).collect();
    if broken.is_empty() { Ok(()) } else { Err(Failure::new(Exit::Failed, broken.join("\n"))) }
}

fn chosen(only: &[String]) -> Outcome<Vec<&'static dyn Figure>> {
    if only.is_empty() {
        return Ok(figures::ALL.to_vec());
    }
    let find = |name: &String| {
        figures::by_name(name).ok_or_else(|| {
            let names: Vec<&str> = figures::ALL.iter().map(|figure| figure.name()).collect();
            Failure::usage(format!("there is no figure '{name}'; choose from {}", names.join(", ")))
        })
    };
    only.iter().map(find).collect()
}

/// The line that makes the same figures; where they are written does not matter to that, nor do folders of this machine.
fn command(asked: &Figures) -> String {
    let mut command = "windfall simulate figures".to_owned();
    if asked.quick {
        command += " --quick";
    }
    for only in &asked.only {
        command += &format!(" --only {only}");
    }
    if let Some(seeds) = asked.seeds {
        command += &format!(" --seeds {seeds}");
    }
    if asked.traces.is_some() {
        command += " --traces DIR";
    }
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(only: &[&str]) -> Figures {
        Figures {
            quick: true,
            only: only.iter().map(ToString::to_string).collect(),
            seeds: Some(2),
            out: PathBuf::from("here"),
            json: None,
            traces: None,
        }
    }

    #[test]
    fn a_figure_that_is_not_there_is_refused_with_the_names_of_those_that_are() {
        let Err(failure) = run(asked(&["balancer"])) else { panic!("there is none of this name") };
        assert_eq!(failure.exit, Exit::Usage);
        let said = failure.error.to_string();
        assert!(said.contains("'balancer'") && said.contains("choose from balancers"), "{said}");
    }

    #[test]
    fn the_line_that_repeats_them_has_all_that_matters_and_nothing_of_this_machine() {
        let line = command(&asked(&["balancers"]));
        assert_eq!(line, "windfall simulate figures --quick --only balancers --seeds 2");
    }
}
