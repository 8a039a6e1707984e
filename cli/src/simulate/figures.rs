//! `windfall simulate figures`: the published figures, played again.

use std::path::PathBuf;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use simulator::figures::{self, Amount, Figure, FigureError, Files, Size, Stage};

use super::lending;
use crate::failure::{Exit, Failure, Outcome};

/// Its flags.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub struct Figures {
    /// Fewer loads and seeds: done within five minutes on two cores
    #[arg(long)]
    quick: bool,
    /// So little that it only shows that every figure comes out
    #[arg(long, conflicts_with = "quick")]
    tiny: bool,
    /// Only the figure of this name; may be given several times
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// So many seeds for each point, instead of each figure's own number
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000))]
    seeds: Option<u64>,
    /// Where the pages and their charts go
    #[arg(long, value_name = "DIR", default_value = "docs/figures")]
    out: PathBuf,
    /// Where the numbers go, as JSON; without it: figures.json beside the pages
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// The folder of traces: clusters that change do so as released, and calls come as recorded, not as drawn by chance
    #[arg(long, value_name = "DIR", env = "WINDFALL_TRACES")]
    traces: Option<PathBuf>,
    /// The model of `learned`; left out where there is no such file
    #[arg(long, value_name = "FILE", default_value = "models/allocator.onnx")]
    model: PathBuf,
    /// The model of `freyr`, of its network's size; left out where there is no such file
    #[arg(long, value_name = "FILE", default_value = "models/freyr-size.onnx")]
    freyr: PathBuf,
}

const HELP: &str = "\
Plays the papers' policies and ours, prints a table with what was published beside both, and writes a page and an SVG for each chart
as soon as a figure is there, a table over all of them (README.md), and JSON keyed by figure, cluster or workload, and policy. What
other runs have written there before stays, so that figures can be made one by one. Needs no traces: what is not there is
drawn by chance, and every page says what was.

Examples:
  windfall simulate figures --quick
  windfall simulate figures --only balancers --seeds 5 --out /tmp/figures
  windfall simulate figures --quick --json figures.json";

/// Carries it out.
pub fn run(asked: Figures) -> Outcome {
    let chosen = chosen(&asked.only)?;
    let amount = match (asked.quick, asked.tiny) {
        (true, _) => Amount::Quick,
        (_, true) => Amount::Tiny,
        _ => Amount::Full,
    };
    let size = Size { amount, seeds: asked.seeds, traces: asked.traces.clone() };
    let json = asked.json.clone().unwrap_or_else(|| asked.out.join("figures.json"));
    let files = Files { out: asked.out.clone(), json };
    let contenders = lending::trained(&asked.model, &asked.freyr)?;
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let mut broken = Vec::new();
    for figure in chosen {
        let bar = ProgressBar::no_length();
        if let Ok(style) = ProgressStyle::with_template("{msg} {bar:40} {pos}/{len} runs, {eta} left") {
            bar.set_style(style);
        }
        bar.set_message(figure.name());
        let progress = |_: simulator::runs::Progress<'_>| bar.inc(1);
        let stage = Stage { size: &size, threads, contenders: &contenders, progress: &progress };
        bar.set_length(figure.most_runs(&stage) as u64);
        let drawn = figure.play(&stage);
        bar.finish_and_clear();
        let drawn = drawn.map_err(|error| match error {
            FigureError::Trace(_) => Failure::usage(error.to_string()),
            FigureError::Run(_) => Failure::new(Exit::Failed, error.to_string()),
        })?;
        println!("{}", figures::markdown(&drawn));
        figures::write(&drawn, &command(figure.name(), &size), &files)
            .map_err(|error| Failure::new(Exit::Failed, error.to_string()))?;
        broken.extend(drawn.broken);
    }
    println!("Written to {} and {}.", files.out.display(), files.json.display());
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

/// The line that makes the same figure; where it is written does not matter to that, nor do folders of this machine.
fn command(figure: &str, size: &Size) -> String {
    format!("windfall simulate figures --only {figure}{}", size.flags())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(only: &[&str]) -> Figures {
        Figures {
            quick: false,
            tiny: true,
            only: only.iter().map(ToString::to_string).collect(),
            seeds: None,
            out: PathBuf::from("here"),
            json: None,
            traces: None,
            model: PathBuf::from("none"),
            freyr: PathBuf::from("none"),
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
    fn two_runs_join_in_one_table_and_one_json() {
        let folder = tempfile::tempdir().unwrap();
        let to = |only| Figures { out: folder.path().into(), ..asked(only) };
        run(to(&["scale"])).unwrap();
        run(to(&["strategies"])).unwrap();
        let json = std::fs::read_to_string(folder.path().join("figures.json")).unwrap();
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert!(json["scale"].is_object() && json["strategies"].is_object());
        assert_eq!(json["made_by"]["scale"], "windfall simulate figures --only scale --tiny");
        let page = std::fs::read_to_string(folder.path().join("README.md")).unwrap();
        assert!(
            page.contains("| [scale](scale.md) |") && page.contains("| [strategies](strategies.md) |"),
            "{page}"
        );
    }
}
