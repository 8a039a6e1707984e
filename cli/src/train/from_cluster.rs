//! `windfall train --from-cluster`: what decides is trained further on what the cluster's own functions used, and handed in.
//!
//! **Promises:** what is handed in was better than what decides, in an examination with calls that came later than those it has learned
//! from (unless `--anyway`); whether it is on the cluster's traffic, its Controllers find out before they take it up.
//! **Gives up:** resuming: it takes minutes.

use std::path::Path;
use std::sync::Arc;

use actors::store::UsageRead;
use models::features::FeatureSet;
use training::ppo::Method;
use training::replay::{Ran, Recorded};
use training::school::{Course, Kind, Plan, School, examine_named_in};
use training::{Mlp, model_bytes, read_model};
use vocabulary::{Moment, Resources, Span};

use super::{Train, progress, write};
use crate::configuration::Flags;
use crate::failure::{Exit, Failure, Outcome};
use crate::{model, role};

/// Runs that are learned from at most: the newest.
const RUNS_MOST: usize = 200_000;
/// Lessons, where no other number is asked for.
const LESSONS: u32 = 20;
/// Houses to a lesson.
const HOUSES: u32 = 16;
/// The step width of a network that has learned before is a third of a new one's.
const SLOWER: f32 = 1.0 / 3.0;

/// What a cluster knows.
struct Known {
    usage: UsageRead,
    /// The model in force, and what it is called.
    model: Vec<u8>,
    from: String,
}

/// Carries it out.
pub fn run(train: &Train, threads: usize, flags: &Flags) -> Outcome {
    let known = asked(train, flags)?;
    let kind = Kind::Learned;
    let set = kind.features();
    let network = network(&known, set)?;
    let recorded = recorded(&known.usage)?;
    let (runs, functions) = recorded.size();
    println!(
        "{runs} runs of {functions} functions within {:.0} s; from {}",
        recorded.length().as_seconds(),
        known.from
    );
    let course = Course::Recorded(Arc::new(recorded));
    let plan = Plan {
        kind,
        seed: train.seed,
        iterations: train.iterations.unwrap_or(LESSONS),
        houses: train.houses.unwrap_or(HOUSES),
        examined_every: 2,
        examination: 8,
        method: method(),
        ..Plan::default()
    };
    for name in ["fixed", "profile"] {
        let brings = examine_named_in(&course, &plan, threads, name).expect("these allocators exist");
        println!("{name:<14} {brings:+.4} a run in the examination");
    }
    let mut school = School::of(plan, network, &course, threads);
    let before = school.best_examined;
    println!("{:<14} {before:+.4} a run in the examination", "in force");
    let bar = progress(&school);
    while !school.is_over() {
        if let Some(point) = school.go_on_in(&course, threads) {
            bar.set_message(format!("{:+.4}", point.examined));
        }
        bar.set_position(school.iteration.into());
    }
    bar.finish_and_clear();
    let is_better = school.best_examined > before;
    let pupil = if is_better || !train.anyway { &school.best } else { &school.pupil };
    let bytes = model_bytes(&pupil.actor, &set.columns());
    let file = train.out.clone().unwrap_or_else(|| train.folder.join("from-cluster.onnx"));
    write(&file, &bytes)?;
    println!(
        "{:<14} {:+.4} a run in the examination; written to {}",
        "trained",
        school.best_examined,
        file.display()
    );
    if !is_better && !train.anyway {
        println!("That is no better than what decides: it is not handed in.");
        return Ok(());
    }
    let from = format!("trained on {runs} runs from {}, seed {}", known.from, train.seed);
    hand_in(train, flags, bytes, &from)
}

/// For a network that has learned before: in shorter steps, and no more undecided than it has become.
fn method() -> Method {
    let usual = Method::default();
    let (_, undecided) = usual.undecided;
    Method { rate: usual.rate * SLOWER, undecided: (undecided, undecided), ..usual }
}

fn asked(train: &Train, flags: &Flags) -> Outcome<Known> {
    let mut known = None;
    role::once(async {
        let store = model::store(&train.operator, flags).await?;
        let usage = store.usage().await?.ok_or_else(|| {
            Failure::new(
                Exit::Refused,
                "the cluster keeps nothing of what runs use (store.usage_size_mib is 0)",
            )
        })?;
        let usage = usage.read(RUNS_MOST).await?;
        let (model, from) = match store.models().await?.in_force() {
            Some(model) => (model.bytes.0.to_vec(), format!("model {}", model.number)),
            None => {
                let file = train.operator.configuration(flags)?.settings.controller.model;
                (read(&file)?, file.display().to_string())
            }
        };
        known = Some(Known { usage, model, from });
        Ok(())
    })?;
    Ok(known.expect("it was set before the end"))
}

fn read(file: &Path) -> Outcome<Vec<u8>> {
    std::fs::read(file).map_err(|error| {
        Failure::usage(format!(
            "no model was handed in, and {} cannot be read: {error}; name the one that decides with --set controller.model=FILE",
            file.display()
        ))
    })
}

fn network(known: &Known, set: &'static FeatureSet) -> Outcome<Mlp> {
    let wrong = |why: String| Failure::usage(format!("{} cannot be trained further: {why}", known.from));
    let (network, names) = read_model(&known.model).map_err(|error| wrong(error.to_string()))?;
    if names != set.columns().names() {
        return Err(wrong(format!("its features are '{}'", names.join(","))));
    }
    Ok(network)
}

/// By the clock of whoever wrote a batch; Controllers' clocks may differ, which moves their functions' calls against each other.
fn recorded(usage: &UsageRead) -> Outcome<Recorded> {
    if usage.damaged > 0 {
        eprintln!("{} messages of the stream are damaged and were left out", usage.damaged);
    }
    let mut runs = Vec::new();
    for batch in &usage.batches {
        for run in batch.runs.iter().filter(|run| run.answered) {
            let ago = run.ended_before + run.duration + run.init + run.waited;
            let sent = Span::millis(batch.sent_unix_ms);
            runs.push(Ran {
                called: Moment::ORIGIN + (sent - ago),
                function: run.function,
                reservation: run.reservation,
                input_bytes: run.input_bytes,
                init: run.init,
                duration: run.duration,
                usage: run.usage,
            });
        }
    }
    let fleet = usage.batches.last().map_or((0, Resources::ZERO), |last| (last.vms, last.capacity));
    Recorded::of(&runs, fleet.0, fleet.1)
        .map_err(|error| Failure::new(Exit::Refused, format!("{error}: call your functions first")))
}

fn hand_in(train: &Train, flags: &Flags, bytes: Vec<u8>, from: &str) -> Outcome {
    role::once(async {
        let models = model::open(&train.operator, flags).await?;
        let number = model::hand_in(&models, bytes, from, false).await?;
        println!("It is model {number}, on trial; `windfall model show {number}` tells what became of it.");
        Ok(())
    })
}
