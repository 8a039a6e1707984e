//! `windfall model`: models of the allocator `learned`, while the cluster runs.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use actors::store::{Compared, Model, Models, Standing, Store};
use clap::{Args, Subcommand};
use models::{Places, Runtime, Scorer, features};
use serde_json::{Value, json};

use crate::configuration::Flags;
use crate::failure::{Exit, Failure, Outcome};
use crate::operator::Operator;
use crate::output;

/// Hand in models, and see what became of them.
#[derive(Debug, Subcommand)]
pub enum ModelCommand {
    /// Hand a model in: Controllers try it beside the one in force, and take it up if it is not worse
    Put(Put),
    /// List those that were handed in
    #[command(visible_alias = "ls")]
    List(List),
    /// Show one, or the one in force
    Show(Show),
    /// Take one back: the one before it decides again, or the file's
    Withdraw(Withdraw),
}

/// `model put`.
#[derive(Debug, Args)]
#[command(
    after_help = "Needs Controllers with controller.allocation = learned. A model is judged by controller.model_trial_runs runs of the \
cluster's own functions; `windfall model list` shows how far that is."
)]
pub struct Put {
    /// The file, as `windfall train` writes it
    file: PathBuf,
    /// Take it up at once, without a trial
    #[arg(long)]
    now: bool,
    #[command(flatten)]
    operator: Operator,
}

/// `model list`.
#[derive(Debug, Args)]
pub struct List {
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    operator: Operator,
}

/// `model show`.
#[derive(Debug, Args)]
pub struct Show {
    /// Its number; without one: the model in force
    number: Option<u64>,
    /// Write the model to this file
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    operator: Operator,
}

/// `model withdraw`.
#[derive(Debug, Args)]
pub struct Withdraw {
    /// Its number
    number: u64,
    #[command(flatten)]
    operator: Operator,
}

/// Carries one out.
pub async fn run(command: ModelCommand, flags: Flags) -> Outcome {
    match command {
        ModelCommand::Put(put) => self::put(put, flags).await,
        ModelCommand::List(list) => self::list(list, flags).await,
        ModelCommand::Show(show) => self::show(show, flags).await,
        ModelCommand::Withdraw(withdraw) => {
            let models = open(&withdraw.operator, &flags).await?;
            if models.withdraw(withdraw.number).await? {
                println!("model {} is withdrawn", withdraw.number);
                return Ok(());
            }
            Err(unknown(withdraw.number))
        }
    }
}

async fn put(put: Put, flags: Flags) -> Outcome {
    let bytes = std::fs::read(&put.file)
        .map_err(|error| Failure::usage(format!("cannot read {}: {error}", put.file.display())))?;
    check(&put.file, &bytes)?;
    let models = open(&put.operator, &flags).await?;
    let number = hand_in(&models, bytes, &put.file.display().to_string(), put.now).await?;
    match put.now {
        true => println!("model {number} decides from now on"),
        false => {
            println!("model {number} is on trial; `windfall model show {number}` tells what became of it")
        }
    }
    Ok(())
}

/// What is found out here need not be found out by every Controller.
fn check(file: &Path, bytes: &[u8]) -> Outcome {
    match Runtime::load(&Places::of_environment()) {
        Ok(runtime) => Scorer::of_bytes(&runtime, file, bytes, features::OURS.columns())
            .map(drop)
            .map_err(|error| Failure::usage(error.to_string())),
        Err(_) => {
            eprintln!(
                "there is no ONNX Runtime here: whether this is a model for this build is found out by the Controllers"
            );
            Ok(())
        }
    }
}

/// Hands it in, on trial unless it is taken up at once.
pub async fn hand_in(models: &Models, bytes: Vec<u8>, from: &str, now: bool) -> Outcome<u64> {
    let standing = if now { Standing::Taken(None) } else { Standing::OnTrial };
    Ok(models.put(bytes.into(), from, standing).await?)
}

async fn list(list: List, flags: Flags) -> Outcome {
    let models = open(&list.operator, &flags).await?;
    let in_force = models.in_force().map(|model| model.number);
    let all = models.all();
    if list.json {
        let all: Vec<Value> = all.iter().map(|model| told(model, in_force)).collect();
        println!("{}", output::pretty(&Value::from(all)));
        return Ok(());
    }
    if all.is_empty() {
        println!("No model was handed in: the file that controller.model names decides.");
        return Ok(());
    }
    let rows: Vec<Vec<String>> = all
        .iter()
        .map(|model| {
            let compared = compared(&model.standing);
            let cost = |of: fn(&Compared) -> u64| {
                compared
                    .as_ref()
                    .map_or(String::new(), |compared| format!("{:.3}", of(compared) as f64 / 1e3))
            };
            let standing = if in_force == Some(model.number) { "in force" } else { model.standing.word() };
            vec![
                model.number.to_string(),
                standing.to_owned(),
                compared.as_ref().map_or(String::new(), |compared| compared.runs.to_string()),
                cost(|compared| compared.candidate),
                cost(|compared| compared.in_force),
                model.from.clone(),
            ]
        })
        .collect();
    let heading = ["model", "standing", "judged by", "its cost", "cost in force", "from"];
    print!("{}", output::table(&heading, &rows));
    Ok(())
}

async fn show(show: Show, flags: Flags) -> Outcome {
    let models = open(&show.operator, &flags).await?;
    let in_force = models.in_force();
    let model = match show.number {
        Some(number) => models.get(number).ok_or_else(|| unknown(number))?,
        None => in_force.clone().ok_or_else(|| {
            let why = "no model of the store is in force: the file that controller.model names decides";
            Failure::new(Exit::Failed, why)
        })?,
    };
    println!("{}", output::pretty(&told(&model, in_force.map(|model| model.number))));
    if let Some(file) = show.out {
        std::fs::write(&file, &model.bytes.0).map_err(|error| {
            Failure::new(Exit::Failed, format!("cannot write {}: {error}", file.display()))
        })?;
    }
    Ok(())
}

fn compared(standing: &Standing) -> Option<Compared> {
    match standing {
        Standing::Taken(compared) | Standing::Refused { compared, .. } => *compared,
        Standing::OnTrial | Standing::Withdrawn => None,
    }
}

fn told(model: &Arc<Model>, in_force: Option<u64>) -> Value {
    let why = match &model.standing {
        Standing::Refused { why, .. } => Some(why),
        _ => None,
    };
    json!({
        "number": model.number,
        "standing": model.standing.word(),
        "inForce": in_force == Some(model.number),
        "why": why,
        "compared": compared(&model.standing),
        "from": model.from,
        "bytes": model.bytes.0.len(),
        "putUnixMs": model.put_unix_ms,
        "sinceUnixMs": model.since_unix_ms,
    })
}

fn unknown(number: u64) -> Failure {
    Failure::new(
        Exit::Failed,
        format!("there is no model {number}; `windfall model list` shows those there are"),
    )
}

/// The models of the cluster at hand.
pub async fn open(operator: &Operator, flags: &Flags) -> Outcome<Models> {
    Ok(store(operator, flags).await?.models().await?)
}

/// Its store.
pub async fn store(operator: &Operator, flags: &Flags) -> Outcome<Store> {
    let configuration = operator.configuration(flags)?;
    let bus = operator.bus(&configuration, "windfall model").await?;
    Ok(Store::open(&bus, &configuration.settings.store).await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_model_is_refused_before_anybody_is_asked() {
        if Runtime::load(&Places { data: Some("../.windfall".into()), ..Places::of_environment() }).is_err() {
            return println!("skipped: there is no ONNX Runtime here (WINDFALL_ONNXRUNTIME names it)");
        }
        let Err(failure) = check(Path::new("some.onnx"), b"this is no model") else { panic!("it is none") };
        let told = failure.error.to_string();
        assert!(
            failure.exit == Exit::Usage && told.contains("some.onnx") && told.contains("damaged"),
            "{told}"
        );
        assert!(check(Path::new("ours"), include_bytes!("../../models/allocator.onnx")).is_ok());
    }
}
