//! `windfall invoke`: call a function, by HTTP or by NATS.

use std::time::Instant;

use clap::Args;
use serde_json::{Value, json};

use crate::client::{self, Client, Connection, Parameters};
use crate::failure::{Exit, Failure, Outcome};
use crate::nats_door::{self, NatsDoor};
use crate::output;
use crate::told::Told;

/// The flags of `invoke`.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub struct Invoke {
    /// The function: name, package/name, /namespace/name or /namespace/package/name
    name: String,
    #[command(flatten)]
    parameters: Parameters,
    /// Do not wait: print the invocation's id. With --nats: a durable submission to JetStream
    #[arg(long = "async")]
    is_async: bool,
    /// Print the result and nothing else
    #[arg(long, conflicts_with = "is_async")]
    result: bool,
    /// Print the whole answer as JSON
    #[arg(long, conflicts_with = "result")]
    json: bool,
    /// Through the NATS door instead of HTTP
    #[arg(long)]
    nats: bool,
    /// NATS server, where --nats is given. Else the one of the cluster at hand
    #[arg(long, value_name = "URL", requires = "nats")]
    nats_url: Option<String>,
    #[command(flatten)]
    connection: Connection,
}

const HELP: &str = "\
Waits for the result unless --async is given. The result goes to standard output, what else there is to say to
standard error. Exit code 5 means that the function itself failed, 6 that it goes on.

Examples:
  windfall invoke hello -p name World
  windfall invoke hello --result -P arguments.json
  echo '{\"n\": 7}' | windfall invoke primes --result -P -
  id=$(windfall invoke hello --async) && windfall activation result $id
  windfall invoke hello --nats -p name World";

/// Carries it out.
pub async fn run(invoke: Invoke) -> Outcome {
    let argument = Value::Object(invoke.parameters.object()?);
    if invoke.nats { by_nats(&invoke, &argument).await } else { by_http(&invoke, &argument).await }
}

async fn by_http(invoke: &Invoke, argument: &Value) -> Outcome {
    let client = Client::new(&invoke.connection)?;
    let path = client::function_path(&invoke.name)?;
    let began = Instant::now();
    let reply = client.post(&format!("{path}?blocking={}", !invoke.is_async), argument).await?;
    let took = began.elapsed();
    match reply.status {
        202 => accepted(invoke, reply.body["activationId"].as_str().unwrap_or_default()),
        200 | 502 if reply.body.get("response").is_some() => {
            let record = &reply.body;
            let response = &record["response"];
            let failed = response["success"] != json!(true);
            let told = if invoke.json { record } else { &response["result"] };
            println!("{}", output::pretty(told));
            if !invoke.result && !invoke.json {
                let id = record["activationId"].as_str().unwrap_or_default();
                let Told { vm, start, grant } = Told::by(record);
                let ms = took.as_secs_f64() * 1e3;
                eprintln!("{id}: {start} on {vm}, granted {grant}, {ms:.1} ms in all");
            }
            if failed { Err(function_failed(response["status"].as_str())) } else { Ok(()) }
        }
        // An array result is answered bare, as OpenWhisk does.
        200 => {
            println!("{}", output::pretty(&reply.body));
            Ok(())
        }
        _ => Err(client.refused(&reply)),
    }
}

fn accepted(invoke: &Invoke, id: &str) -> Outcome {
    println!("{}", if invoke.json { output::pretty(&json!({ "activationId": id })) } else { id.to_owned() });
    if invoke.is_async {
        return Ok(());
    }
    Err(Failure::new(
        Exit::StillRunning,
        format!("it is still running; `windfall activation result {id}` gives the result when it has ended"),
    ))
}

fn function_failed(status: Option<&str>) -> Failure {
    Failure::new(
        Exit::FunctionFailed,
        format!(
            "the function failed: {}",
            status.filter(|status| !status.is_empty()).unwrap_or("unknown status")
        ),
    )
}

async fn by_nats(invoke: &Invoke, argument: &Value) -> Outcome {
    let client = Client::new(&invoke.connection)?;
    let name = nats_door::plain_name(&invoke.name)?;
    let door = NatsDoor::open(&client, invoke.nats_url.as_deref()).await?;
    if invoke.is_async {
        let id = door.submit(&name, argument).await?;
        return accepted(invoke, &id);
    }
    let began = Instant::now();
    let answer = door.invoke(&name, argument).await?;
    let took = began.elapsed();
    let told = if invoke.json {
        json!({
            "activationId": answer.id, "status": answer.status, "vm": answer.vm, "result": answer.result
        })
    } else {
        answer.result.clone()
    };
    println!("{}", output::pretty(&told));
    if !invoke.result && !invoke.json && !answer.id.is_empty() {
        eprintln!("{}: {}, {:.1} ms in all", answer.id, answer.vm, took.as_secs_f64() * 1e3);
    }
    match answer.status.as_str() {
        "success" => Ok(()),
        "refused" => Err(Failure::new(
            Exit::Refused,
            format!("refused: {}", answer.result["error"].as_str().unwrap_or("no reason given")),
        )),
        status => Err(function_failed(Some(status))),
    }
}
