//! `windfall activation`: what became of invocations.

use clap::{Args, Subcommand};
use serde_json::Value;

use crate::client::{Client, Connection, encoded};
use crate::failure::{Exit, Failure, Outcome};
use crate::function::annotation;
use crate::output;

/// Look at invocations that were made. OpenWhisk calls them activations.
#[derive(Debug, Subcommand)]
pub enum ActivationCommand {
    /// List them, newest first
    #[command(visible_alias = "ls")]
    List(List),
    /// Show one: result, times, logs, where it ran
    Get(One),
    /// Print what one wrote
    Logs(One),
    /// Print the result of one
    Result(One),
}

/// `activation list`.
#[derive(Debug, Args)]
pub struct List {
    /// Only those of this function
    name: Option<String>,
    /// At most so many
    #[arg(long, default_value_t = 30)]
    limit: usize,
    /// Leave out the first so many
    #[arg(long, default_value_t = 0)]
    skip: usize,
    /// Only those that began at this moment or later, ms since the Unix epoch
    #[arg(long, value_name = "UNIX_MS")]
    since: Option<u64>,
    /// Only those that began at this moment or before, ms since the Unix epoch
    #[arg(long, value_name = "UNIX_MS")]
    upto: Option<u64>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connection: Connection,
}

/// One invocation.
#[derive(Debug, Args)]
pub struct One {
    /// Its id, 32 hexadecimal digits
    #[arg(required_unless_present = "last")]
    id: Option<String>,
    /// The newest one instead
    #[arg(long, conflicts_with = "id")]
    last: bool,
    #[command(flatten)]
    connection: Connection,
}

/// Carries one out.
pub async fn run(command: ActivationCommand) -> Outcome {
    match command {
        ActivationCommand::List(list) => self::list(list).await,
        ActivationCommand::Get(one) => {
            println!("{}", output::pretty(&one.ask("").await?));
            Ok(())
        }
        ActivationCommand::Logs(one) => {
            let answer = one.ask("/logs").await?;
            for line in answer["logs"].as_array().into_iter().flatten() {
                println!("{}", line.as_str().unwrap_or_default());
            }
            Ok(())
        }
        ActivationCommand::Result(one) => result(&one).await,
    }
}

async fn result(one: &One) -> Outcome {
    let answer = one.ask("/result").await?;
    println!("{}", output::pretty(&answer["result"]));
    match answer["success"].as_bool() {
        Some(false) => {
            let status = answer["status"].as_str().unwrap_or("unknown status");
            Err(Failure::new(Exit::FunctionFailed, format!("the function failed: {status}")))
        }
        _ => Ok(()),
    }
}

async fn list(list: List) -> Outcome {
    let client = Client::new(&list.connection)?;
    let mut path = format!("/namespaces/_/activations?limit={}&skip={}", list.limit, list.skip);
    if let Some(name) = &list.name {
        path.push_str(&format!("&name={}", encoded(name)));
    }
    for (key, value) in [("since", list.since), ("upto", list.upto)] {
        if let Some(value) = value {
            path.push_str(&format!("&{key}={value}"));
        }
    }
    let answer = client.get(&path).await?;
    if list.json {
        println!("{}", output::pretty(&answer));
        return Ok(());
    }
    let rows: Vec<Vec<String>> = answer.as_array().into_iter().flatten().map(row).collect();
    let heading = ["began (UTC)", "id", "function", "start", "ms", "status"];
    print!("{}", output::table(&heading, &rows));
    Ok(())
}

fn row(activation: &Value) -> Vec<String> {
    let text = |key: &str| activation[key].as_str().unwrap_or_default().to_owned();
    let start = if annotation(activation, "initTime").is_empty() { "warm" } else { "cold" };
    let status = match activation["statusCode"].as_u64() {
        Some(0) => "success",
        Some(1) => "application error",
        Some(2) => "developer error",
        Some(3) => "internal error",
        _ => "",
    };
    vec![
        output::utc(activation["start"].as_u64().unwrap_or(0)),
        text("activationId"),
        text("name"),
        start.into(),
        activation["duration"].as_u64().map(|ms| ms.to_string()).unwrap_or_default(),
        status.into(),
    ]
}

impl One {
    /// Asks for one invocation, or for a part of it.
    async fn ask(&self, part: &str) -> Outcome<Value> {
        let client = Client::new(&self.connection)?;
        let id = match &self.id {
            Some(id) => id.clone(),
            None => {
                let newest = client.get("/namespaces/_/activations?limit=1").await?;
                newest[0]["activationId"]
                    .as_str()
                    .map(str::to_owned)
                    .ok_or_else(|| Failure::new(Exit::Refused, "there is no invocation yet"))?
            }
        };
        client.get(&format!("/namespaces/_/activations/{}{part}", encoded(&id))).await
    }
}
