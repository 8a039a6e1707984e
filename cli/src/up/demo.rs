//! The demo: every sample through both doors, cold and then warm, checked and shown.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::data_folder::DataFolder;
use super::samples::{Sample, samples};
use crate::client::{Client, encoded};
use crate::failure::{Exit, Failure, Outcome};
use crate::function::code;
use crate::nats_door::NatsDoor;
use crate::output::{self, tell};
use crate::told::Told;

/// How long the record of an invocation may take to be stored.
const RECORD_PATIENCE: Duration = Duration::from_secs(10);

/// Through which door a call went.
#[derive(Debug, Clone, Copy)]
enum Door {
    Http,
    Nats,
    Durable,
}

impl Door {
    fn name(self) -> &'static str {
        match self {
            Self::Http => "HTTP",
            Self::Nats => "NATS",
            Self::Durable => "JetStream",
        }
    }
}

/// Runs the demo and prints its table. An answer that is not the expected one is a failure.
pub async fn run(
    client: &Client,
    nats_url: &str,
    settings: &actors::settings::Vm,
    folder: &DataFolder,
) -> Outcome {
    let (samples, left_out) = samples(settings, &folder.path("demo"))?;
    tell!("Demo: {} sample functions, each by HTTP and by NATS.", samples.len());
    for line in &left_out {
        tell!("  left out: {line}");
    }
    let door = NatsDoor::open(client, Some(nats_url)).await?;
    let mut rows = Vec::new();
    let mut wrong = Vec::new();
    for sample in &samples {
        deploy(client, sample).await?;
        for through in [Door::Http, Door::Nats, Door::Http, Door::Durable] {
            let call = call(client, &door, sample, through).await?;
            if call.result != sample.expected {
                wrong.push(format!("{} by {}: {}", sample.name, through.name(), call.result));
            }
            rows.push(call.row(sample, through));
        }
    }
    let heading = ["function", "door", "result", "vm", "start", "grant", "latency"];
    tell!("\n{}", output::table(&heading, &rows));
    if wrong.is_empty() {
        return Ok(());
    }
    Err(Failure::new(
        Exit::FunctionFailed,
        format!("the demo got answers that it did not expect:\n  {}", wrong.join("\n  ")),
    ))
}

async fn deploy(client: &Client, sample: &Sample) -> Outcome {
    let body = json!({ "exec": code(sample.kind, sample.code.clone()) });
    client.put(&format!("/namespaces/_/actions/{}?overwrite=true", encoded(sample.name)), &body).await?;
    Ok(())
}

/// One call as the table shows it.
struct Call {
    result: Value,
    record: Value,
    took: Duration,
}

impl Call {
    fn row(&self, sample: &Sample, through: Door) -> Vec<String> {
        let told = Told::by(&self.record);
        vec![
            sample.name.into(),
            through.name().into(),
            self.result.to_string(),
            told.vm,
            told.start,
            told.grant,
            format!("{:.1} ms", self.took.as_secs_f64() * 1e3),
        ]
    }
}

async fn call(client: &Client, door: &NatsDoor, sample: &Sample, through: Door) -> Outcome<Call> {
    let began = Instant::now();
    let (id, result) = match through {
        Door::Http => {
            let path = format!("/namespaces/_/actions/{}?blocking=true", encoded(sample.name));
            let reply = client.post(&path, &sample.argument).await?;
            // 502 is a function that failed: its record says how, and the result will not be the expected one.
            if reply.body.get("response").is_none() {
                return Err(client.refused(&reply));
            }
            let id = reply.body["activationId"].as_str().unwrap_or_default().to_owned();
            (id, reply.body["response"]["result"].clone())
        }
        Door::Nats => {
            let answer = door.invoke(sample.name, &sample.argument).await?;
            (answer.id, answer.result)
        }
        Door::Durable => {
            let id = door.submit(sample.name, &sample.argument).await?;
            let record = record(client, &id).await?;
            (id, record["response"]["result"].clone())
        }
    };
    let took = began.elapsed();
    let record = record(client, &id).await?;
    Ok(Call { result, record, took })
}

/// The record of an invocation, as soon as it is stored.
async fn record(client: &Client, id: &str) -> Outcome<Value> {
    let path = format!("/namespaces/_/activations/{}", encoded(id));
    let began = Instant::now();
    loop {
        match client.get(&path).await {
            Ok(record) => return Ok(record),
            Err(failure) if failure.exit == Exit::Refused && began.elapsed() < RECORD_PATIENCE => {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            Err(failure) => return Err(failure),
        }
    }
}
