//! The road alone: the messages and pipes of a call at the NATS door, with nobody on the way who decides anything.
//!
//! **Knows:** which processes a call passes: the door, one of three VMs, a function of its own process.
//! **Promises:** the same hops as the house's (four messages through the server, one line each way through pipes) carried by the same
//! libraries on the same kind of runtime, so that a call of the house can be no cheaper than this on the same machine.
//! **Gives up:** all that a house is for: no key, no placement, no limits, no ending told, no record, no repeat.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use bytes::Bytes;
use futures::StreamExt;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;

use super::doors::{compiled, input_ended};
use crate::configuration::Flags;
use crate::failure::{Exit, Failure, Outcome};
use crate::operator::Operator;

/// Where the road begins.
pub(super) const ROAD: &str = "windfall.bench.road";
const ANSWER: &str = "windfall.bench.road-answer";
/// As many as a private cluster has.
const VMS: usize = 3;
/// Functions on each: together enough for 64 callers.
const FUNCTIONS: usize = 22;

/// Flags of a process on the road.
#[derive(Debug, clap::Args)]
pub struct Station {
    /// Data folder of the cluster whose NATS is meant
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Which VM this is; the door if it is left out
    #[arg(long, value_name = "N")]
    vm: Option<usize>,
    /// The function
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
}

/// The processes of the road; they end with their standard input.
pub(super) struct Road {
    stations: Vec<Child>,
    program: PathBuf,
}

impl Road {
    /// Starts them. `function` is the source of the no-op.
    pub fn build(data: &Path, function: &str) -> Outcome<Self> {
        let program = data.join("bench-road-no-op");
        let bytes = compiled(data, function)
            .ok_or_else(|| Failure::new(Exit::Failed, "the door 'road' needs a C compiler (cc)"))?;
        std::fs::write(&program, bytes)?;
        std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
        let start = |vm: Option<usize>| {
            let mut command = Command::new(std::env::current_exe()?);
            command.arg("bench-road").arg("--data").arg(data);
            if let Some(vm) = vm {
                command.arg("--vm").arg(vm.to_string()).arg("--program").arg(&program);
            }
            command.stdin(Stdio::piped()).stdout(Stdio::null()).kill_on_drop(true).spawn()
        };
        let stations =
            std::iter::once(None).chain((0..VMS).map(Some)).map(start).collect::<Result<_, _>>()?;
        Ok(Self { stations, program })
    }

    /// Ends them.
    pub async fn close(mut self) {
        for station in &mut self.stations {
            drop(station.stdin.take());
            let _ = tokio::time::timeout(std::time::Duration::from_secs(5), station.wait()).await;
        }
        let _ = std::fs::remove_file(self.program);
    }
}

/// One of the processes, until its standard input ends.
pub async fn station(station: Station, flags: Flags) -> Outcome {
    let operator = Operator { nats_url: None, data: station.data };
    let configuration = operator.configuration(&flags)?;
    let bus = operator.bus(&configuration, "windfall bench road").await?;
    let client = bus.client().clone();
    let work = async {
        match station.vm {
            None => door(client).await,
            Some(vm) => self::vm(client, vm, &station.program.unwrap_or_default()).await,
        }
    };
    tokio::select! {
        () = input_ended() => Ok(()),
        ended = work => ended,
    }
}

/// Calls in, to each VM in turn; answers back to who asked.
async fn door(client: async_nats::Client) -> Outcome {
    let mut calls = client.subscribe(ROAD).await.map_err(anyhow::Error::from)?;
    let mut answers = client.subscribe(format!("{ANSWER}.*")).await.map_err(anyhow::Error::from)?;
    let mut open: HashMap<u64, async_nats::Subject> = HashMap::new();
    let mut next = 0u64;
    loop {
        tokio::select! {
            Some(call) = calls.next() => {
                let Some(reply) = call.reply else { continue };
                next += 1;
                open.insert(next, reply);
                let vm = next % VMS as u64;
                client
                    .publish_with_reply(format!("{ROAD}-vm.{vm}"), format!("{ANSWER}.{next}"), call.payload)
                    .await
                    .map_err(anyhow::Error::from)?;
            }
            Some(answer) = answers.next() => {
                let number = answer.subject.rsplit('.').next().and_then(|number| number.parse().ok());
                if let Some(reply) = number.and_then(|number: u64| open.remove(&number)) {
                    client.publish(reply, answer.payload).await.map_err(anyhow::Error::from)?;
                }
            }
            else => return Ok(()),
        }
    }
}

/// Calls to functions that rest; what finds none waits.
async fn vm(client: async_nats::Client, vm: usize, program: &Path) -> Outcome {
    let mut calls = client.subscribe(format!("{ROAD}-vm.{vm}")).await.map_err(anyhow::Error::from)?;
    let (rest, mut resting) = mpsc::unbounded_channel();
    for _ in 0..FUNCTIONS {
        // The no-op answers on descriptor 3.
        let mut child = Command::new("sh")
            .args(["-c", "exec \"$0\" 3>&1"])
            .arg(program)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let (Some(orders), Some(answers)) = (child.stdin.take(), child.stdout.take()) else { continue };
        let (hand, mut handed) = mpsc::unbounded_channel::<(async_nats::Subject, Bytes)>();
        let (client, again) = (client.clone(), rest.clone());
        let _ = rest.send(hand.clone());
        tokio::spawn(async move {
            let (_child, mut orders, mut answers) = (child, orders, BufReader::new(answers));
            let mut line = Vec::new();
            while let Some((reply, payload)) = handed.recv().await {
                line.clear();
                line.extend_from_slice(&payload);
                line.push(b'\n');
                if orders.write_all(&line).await.is_err() {
                    return;
                }
                line.clear();
                if answers.read_until(b'\n', &mut line).await.is_err() {
                    return;
                }
                let _ = client.publish(reply, Bytes::copy_from_slice(&line)).await;
                let _ = again.send(hand.clone());
            }
        });
    }
    while let Some(call) = calls.next().await {
        let Some(reply) = call.reply else { continue };
        let Some(function) = resting.recv().await else { return Ok(()) };
        let _ = function.send((reply, call.payload));
    }
    Ok(())
}
