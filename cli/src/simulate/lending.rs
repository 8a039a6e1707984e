//! `windfall simulate lending`: allocators under the same calls, as Markdown.

use std::path::{Path, PathBuf};

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use simulator::comparisons::{both_levels, lending, overview, sets};
use training::judged;

use crate::failure::{Exit, Failure, Outcome};

/// Its flags.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub struct Lending {
    /// Only sets of this name: freyr, freyr-code, s500, freyr1000 (or s500-10 for ten nodes), or both-levels; may be given several
    /// times
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// So many seeds
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=1_000))]
    seeds: u64,
    /// The folder of traces
    #[arg(long, value_name = "DIR", env = "WINDFALL_TRACES")]
    traces: PathBuf,
    /// The model of `learned`
    #[arg(long, value_name = "FILE", default_value = "models/allocator.onnx")]
    model: PathBuf,
    /// The model of `freyr`, of its network's size
    #[arg(long, value_name = "FILE", default_value = "models/freyr-size.onnx")]
    freyr: PathBuf,
    /// All rows as JSON, too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

const HELP: &str = "\
Plays Freyr's test, and minutes of two tables of Azure 2019 on 1, 10 and 50 nodes, under every allocator; and lending on VMs that shrink
(both-levels). A model whose file is not there is left out.

Examples:
  windfall simulate lending --traces data --only freyr
  windfall simulate lending --traces data --seeds 3";

/// Carries it out.
pub fn run(asked: Lending) -> Outcome {
    let trained = trained(&asked.model, &asked.freyr)?;
    let wrong = |error: simulator::workload::TraceError| Failure::usage(error.to_string());
    let mut all = sets::freyr(&asked.traces).map_err(wrong)?;
    all.extend(sets::tables(&asked.traces).map_err(wrong)?);
    let names =
        "freyr, freyr-code, s500, freyr1000, both-levels, or one of them with a number of nodes, as s500-10";
    let is_known =
        |only: &&String| only.as_str() == "both-levels" || all.iter().any(|titled| titled.is_called(only));
    if let Some(unknown) = asked.only.iter().find(|only| !is_known(only)) {
        return Err(Failure::usage(format!("there is no set '{unknown}'; choose from {names}")));
    }
    let is_asked = |name: &str| asked.only.is_empty() || asked.only.iter().any(|only| only == name);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let mut played = Vec::new();
    let wanted = |titled: &&sets::Titled| {
        asked.only.is_empty() || asked.only.iter().any(|only| titled.is_called(only))
    };
    for titled in all.iter().filter(wanted) {
        let bar = bar(&titled.title, titled.contenders(trained.len()) as u64 * asked.seeds);
        let rows = titled.play(&trained, asked.seeds, threads, &|_| bar.inc(1));
        bar.finish_and_clear();
        let rows = rows.map_err(|error| Failure::new(Exit::Failed, error.to_string()))?;
        println!("## {}\n\n{}", titled.title, lending::markdown(&rows.rows));
        played.push(rows);
    }
    if played.len() > 1 {
        println!("## All of them\n\n{}\n\n{}", overview::legend(), overview::markdown(&played));
    }
    if let Some(file) = &asked.json {
        let text = serde_json::to_vec_pretty(&played)
            .map_err(|error| Failure::new(Exit::Failed, error.to_string()))?;
        std::fs::write(file, text).map_err(|error| {
            Failure::new(Exit::Failed, format!("cannot write {}: {error}", file.display()))
        })?;
    }
    if is_asked("both-levels") {
        let bar = bar("both levels", both_levels::runs(asked.seeds));
        let table = both_levels::table(Some(&asked.traces), asked.seeds, threads, &|_| bar.inc(1));
        bar.finish_and_clear();
        let table = table.map_err(|error| Failure::new(Exit::Failed, error.to_string()))?;
        println!("## Both levels together, SOSP'21's users on VMs that shrink\n\n{table}");
    }
    Ok(())
}

fn bar(title: &str, runs: u64) -> ProgressBar {
    let bar = ProgressBar::new(runs);
    if let Ok(style) = ProgressStyle::with_template("{msg} {bar:40} {pos}/{len} runs, {eta} left") {
        bar.set_style(style);
    }
    bar.set_message(title.to_owned());
    bar
}

/// The models in these files, as allocators; those whose file is not there are left out.
pub fn trained(ours: &Path, freyr: &Path) -> Outcome<Vec<lending::Contender>> {
    let models = (model(ours)?, model(freyr)?);
    judged::contenders(models.0.as_deref(), models.1.as_deref())
        .map_err(|error| Failure::usage(format!("{} or {}: {error}", ours.display(), freyr.display())))
}

/// Its bytes; nothing where there is no such file.
fn model(path: &Path) -> Outcome<Option<Vec<u8>>> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Failure::usage(format!("cannot read {}: {error}", path.display()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_without_traces_and_a_model_that_is_none_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let asked = |model: PathBuf| Lending {
            only: vec![],
            seeds: 1,
            traces: folder.path().into(),
            model,
            freyr: folder.path().join("none.onnx"),
            json: None,
        };
        let Err(failure) = run(asked(folder.path().join("none.onnx"))) else { panic!("there are no traces") };
        assert!(
            failure.exit == Exit::Usage && failure.error.to_string().contains("freyr10"),
            "{}",
            failure.error
        );
        let damaged = folder.path().join("damaged.onnx");
        std::fs::write(&damaged, b"no model").unwrap();
        let Err(failure) = run(asked(damaged)) else { panic!("it is no model") };
        assert!(
            failure.exit == Exit::Usage && failure.error.to_string().contains("damaged.onnx"),
            "{}",
            failure.error
        );
    }
}
