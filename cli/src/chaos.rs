//! `windfall chaos`: a game day for the cluster of `windfall up`.

mod rehearsal;

use std::path::PathBuf;
use std::sync::Arc;

use ::chaos::live::{self, House};
use ::chaos::scenario::Scenario;
use ::chaos::timetable::timetable;
use clap::{Args, Subcommand};

use crate::client::{Client, Connection};
use crate::configuration::Flags;
use crate::failure::{Exit, Failure, Outcome};
use crate::nats_door;
use crate::operator::Operator;

/// `windfall chaos`.
#[derive(Debug, Subcommand)]
pub enum Chaos {
    /// Play a scenario on the cluster that runs here
    Run(Run),
}

/// Flags of `windfall chaos run`.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub struct Run {
    /// The scenario, TOML; those that come with Windfall are in chaos/scenarios
    #[arg(value_name = "SCENARIO")]
    scenario: PathBuf,
    /// What decides when which fault hits whom; a random one unless given
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Write the figures to this file too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Print what would happen, and do nothing
    #[arg(long)]
    show: bool,
    /// Play it under virtual time instead, with the policies alone; no cluster is needed
    #[arg(long, conflicts_with_all = ["show", "json"])]
    rehearse: bool,
    /// Data folder of the `windfall up` to trouble
    #[arg(long, value_name = "DIR", env = "WINDFALL_DATA", default_value = ".windfall")]
    data: PathBuf,
}

const HELP: &str = "\
Calls short and long functions of its own (chaos-short-1, chaos-long-1) while VMs of the cluster are killed, given
notice, shrunk, frozen and cut off, and processes of the house die, hang and lose NATS, as the scenario says; counts every answer and every record; and says
what was lost. Only processes that carry the cluster's mark are touched. Exit code 1 means that something was not as it
must always be; the seed and the event log are named then. Sizes change only as root.

Examples:
  windfall chaos run chaos/scenarios/house.toml --show --seed 7
  windfall chaos run chaos/scenarios/storm.toml --rehearse --seed 7
  windfall chaos run chaos/scenarios/storm-short.toml --seed 7 --json figures.json";

/// Carries it out.
pub async fn run(chaos: Chaos, flags: Flags) -> Outcome {
    let Chaos::Run(run) = chaos;
    let text = std::fs::read_to_string(&run.scenario)
        .map_err(|error| Failure::usage(format!("cannot read {}: {error}", run.scenario.display())))?;
    let scenario = Scenario::from_toml(&text)
        .map_err(|error| Failure::usage(format!("{}: {error}", run.scenario.display())))?;
    let seed = match run.seed {
        Some(seed) => seed,
        // Short enough to be read aloud.
        None => nats_door::chance()? as u64 % 1_000_000,
    };
    println!("Repeat with: windfall chaos run {} --seed {seed}", run.scenario.display());
    if run.show {
        timetable(&scenario, seed).iter().for_each(|planned| println!("{planned}"));
        return Ok(());
    }
    if run.rehearse {
        return rehearsal::play(&scenario, seed);
    }
    let house = house(&run, &scenario, &flags).await?;
    let log = run.data.join(format!("chaos-{}-{seed}.jsonl", scenario.name));
    let say = Arc::new(|line: String| println!("{line}"));
    let report = tokio::select! {
        report = live::play(&house, &scenario, seed, &log, say) => {
            report.map_err(|error| Failure::new(Exit::Failed, error.to_string()))?
        }
        // What was frozen or resized is put back as `play` is dropped.
        _ = tokio::signal::ctrl_c() => return Err(Failure::new(Exit::Failed, "broken off")),
    };
    println!("\n{report}");
    if let Some(path) = &run.json {
        std::fs::write(path, serde_json::to_string_pretty(&report)? + "\n")
            .map_err(|error| Failure::usage(format!("cannot write {}: {error}", path.display())))?;
    }
    if report.is_good() {
        return Ok(());
    }
    let (file, log) = (run.scenario.display(), log.display());
    Err(Failure::new(
        Exit::Failed,
        format!(
            "something was not as it must always be. Seed {seed} (windfall chaos run {file} --seed {seed}); event log {log}"
        ),
    ))
}

/// The cluster at hand, with the functions that are called in it.
async fn house(run: &Run, scenario: &Scenario, flags: &Flags) -> Outcome<House> {
    let operator = Operator { nats_url: None, data: run.data.clone() };
    let configuration = operator.configuration(flags)?;
    let cluster = configuration.settings.resource_monitor.cluster.clone();
    if !run.data.join(crate::operator::SETTINGS).is_file() || cluster.is_empty() {
        return Err(Failure::usage(format!(
            "{} is not the data folder of a `windfall up`; name it with --data",
            run.data.display()
        )));
    }
    let bus = operator.bus(&configuration, "windfall chaos").await?;
    let client = Client::new(&Connection { api_host: None, auth: None, data: run.data.clone() })?;
    for name in live::functions(scenario) {
        client.put(&format!("/namespaces/_/actions/{name}?overwrite=true"), &live::function()).await?;
    }
    let endpoint = client.endpoint();
    let url = endpoint.nats_url.clone().unwrap_or_else(|| configuration.settings.nats.url.clone());
    let (user, key) = endpoint.auth.split_once(':').unwrap_or_default();
    let guest = async_nats::ConnectOptions::with_user_and_password(user.to_owned(), key.to_owned())
        .request_timeout(None)
        .reconnect_delay_callback(|_| std::time::Duration::from_millis(100))
        .connect(&url)
        .await
        .map_err(|error| nats_door::unreachable(&url, &error))?;
    let namespace = endpoint.namespace.clone().unwrap_or_else(|| "guest".to_owned());
    let store = Some(run.data.join("jetstream")).filter(|folder| folder.is_dir());
    Ok(House { nats: bus.client().clone(), guest, namespace, cluster, store })
}
