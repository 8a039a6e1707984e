//! The doors to measure, and the bare request-reply beside them.

use std::collections::HashMap;
use std::io::Read;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use actors::bus::Bus;
use async_nats::HeaderMap;
use base64::Engine;
use bytes::Bytes;
use futures::StreamExt;
use messages::{HEADER_INVOCATION, HEADER_REPLY_TO, HEADER_STATUS, subjects};
use serde_json::json;
use tokio::process::{Child, Command};
use tokio::sync::oneshot;
use vocabulary::InvocationId;

use super::cluster::Cluster;
use super::load::{Call, Door};
use super::road::{ROAD, Road};
use crate::client::{Client, Connection};
use crate::configuration::Flags;
use crate::failure::{Exit, Failure, Outcome};
use crate::operator::Operator;

/// The function that does nothing.
const NO_OP: &str = "windfall-bench-no-op";
/// Where the other process answers.
const ECHO: &str = "windfall.bench.echo";
/// A call that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(30);

/// Answers every line with an empty object; the least that a function can do.
const NATIVE: &str = include_str!("no_op.c");
const PYTHON: &str = "def main(args):\n    return {}\n";

type Waiting = Arc<Mutex<HashMap<String, oneshot::Sender<Result<(), String>>>>>;

/// Everything that can be called.
pub(super) struct Doors {
    /// The house's connection, for the bare request-reply.
    bus: Bus,
    /// A caller's connection, for the doors.
    guest: async_nats::Client,
    http: reqwest::Client,
    http_url: String,
    auth: (String, String),
    waiting: Waiting,
    reply_prefix: String,
    echo: Child,
    road: Option<Road>,
    kind: &'static str,
}

impl Doors {
    /// Deploys the function, starts the echo, connects.
    pub async fn open(cluster: &Cluster, flags: &Flags, kind: &str, road: bool) -> Outcome<Self> {
        let operator = Operator { nats_url: None, data: cluster.data.clone() };
        let configuration = operator.configuration(flags)?;
        let bus = operator.bus(&configuration, "windfall bench").await?;
        let connection = Connection { api_host: None, auth: None, data: cluster.data.clone() };
        let client = Client::new(&connection)?;
        let (kind, exec) = match (kind, compiled(&cluster.data, NATIVE)) {
            ("native", Some(program)) => {
                let code = base64::engine::general_purpose::STANDARD.encode(program);
                ("native", json!({ "kind": "native:default", "code": code, "binary": true }))
            }
            ("native", None) => {
                eprintln!("there is no C compiler (cc), so the no-op is a Python function");
                ("python", json!({ "kind": "python:default", "code": PYTHON }))
            }
            _ => ("python", json!({ "kind": "python:default", "code": PYTHON })),
        };
        let path = format!("/namespaces/_/actions/{NO_OP}");
        // Small enough that every caller can have a sandbox of its own.
        let limits = json!({ "cpu": 90, "memory": 128 });
        client.put(&format!("{path}?overwrite=true"), &json!({ "exec": exec, "limits": limits })).await?;
        let endpoint = client.endpoint();
        let (user, key) = endpoint.auth.split_once(':').unwrap_or_default();
        let echo = Command::new(std::env::current_exe()?)
            .args(["bench-echo", "--data"])
            .arg(&cluster.data)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        let waiting: Waiting = Arc::default();
        let url = endpoint.nats_url.clone().unwrap_or_else(|| configuration.settings.nats.url.clone());
        let guest = async_nats::ConnectOptions::with_user_and_password(user.to_owned(), key.to_owned())
            .connect(&url)
            .await
            .map_err(|error| crate::nats_door::unreachable(&url, &error))?;
        let reply_prefix = format!("windfall.reply.guest.bench-{}", std::process::id());
        let replies = guest.subscribe(format!("{reply_prefix}.*")).await.map_err(anyhow::Error::from)?;
        tokio::spawn(hand_out(replies, Arc::clone(&waiting)));
        let doors = Self {
            http: reqwest::Client::builder().pool_max_idle_per_host(1_024).build()?,
            http_url: format!("{}/api/v1{path}?blocking=true&result=true", endpoint.base),
            auth: (user.to_owned(), key.to_owned()),
            waiting,
            reply_prefix,
            echo,
            road: if road { Some(Road::build(&cluster.data, NATIVE)?) } else { None },
            kind,
            guest,
            bus,
        };
        doors.answers(ECHO, "the process that answers the bare request-reply").await?;
        if doors.road.is_some() {
            doors.answers(ROAD, "the processes of the road alone").await?;
        }
        Ok(doors)
    }

    pub fn description(&self) -> String {
        format!("warm calls of a {} function that does nothing", self.kind)
    }

    pub fn door(&self, name: &str) -> Door {
        match name {
            "bare" => self.plain(ECHO),
            "road" => self.plain(ROAD),
            "nats" => self.nats(),
            "http" => self.http(),
            _ => self.durable(),
        }
    }

    pub async fn close(mut self) {
        // It ends with its standard input.
        drop(self.echo.stdin.take());
        let _ = tokio::time::timeout(Duration::from_secs(5), self.echo.wait()).await;
        if let Some(road) = self.road {
            road.close().await;
        }
    }

    async fn answers(&self, subject: &'static str, who: &str) -> Outcome {
        for _ in 0..100 {
            let asked = self.bus.client().request(subject, Bytes::from_static(b"{}"));
            if tokio::time::timeout(Duration::from_secs(1), asked).await.is_ok_and(|reply| reply.is_ok()) {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Err(Failure::new(Exit::Failed, format!("{who} did not start")))
    }

    /// A plain request on one of the house's own subjects.
    fn plain(&self, subject: &'static str) -> Door {
        let client = self.bus.client().clone();
        Arc::new(move || {
            let client = client.clone();
            Box::pin(async move {
                client
                    .request(subject, Bytes::from_static(b"{}"))
                    .await
                    .map_err(|error| error.to_string())?;
                Ok(())
            })
        })
    }

    fn nats(&self) -> Door {
        let client = self.guest.clone();
        let subject = subjects::invoke("guest", NO_OP);
        Arc::new(move || {
            let (client, subject) = (client.clone(), subject.clone());
            Box::pin(async move {
                let asked = client.request(subject, Bytes::from_static(b"{}"));
                let reply =
                    tokio::time::timeout(PATIENCE, asked).await.map_err(|_| "no answer".to_owned())?;
                succeeded(&reply.map_err(|error| error.to_string())?)
            })
        })
    }

    fn http(&self) -> Door {
        let (client, url, auth) = (self.http.clone(), self.http_url.clone(), self.auth.clone());
        Arc::new(move || {
            let call = client
                .post(&url)
                .basic_auth(&auth.0, Some(&auth.1))
                .header("Content-Type", "application/json")
                .body("{}")
                .timeout(PATIENCE)
                .send();
            Box::pin(async move {
                let response = call.await.map_err(|error| error.to_string())?;
                let status = response.status();
                let body = response.bytes().await.map_err(|error| error.to_string())?;
                if status.is_success() {
                    Ok(())
                } else {
                    Err(format!("{status}: {}", String::from_utf8_lossy(&body)))
                }
            })
        })
    }

    /// A durable call has been made when JetStream has acknowledged it *and* its result has come.
    fn durable(&self) -> Door {
        let jetstream = async_nats::jetstream::new(self.guest.clone());
        let (waiting, prefix) = (Arc::clone(&self.waiting), self.reply_prefix.clone());
        let subject = subjects::submit("guest", NO_OP);
        Arc::new(move || {
            let (jetstream, waiting) = (jetstream.clone(), Arc::clone(&waiting));
            let (prefix, subject) = (prefix.clone(), subject.clone());
            let call: Call = Box::pin(async move {
                let id: InvocationId = actors::chance::invocation_id();
                let (sender, result) = oneshot::channel();
                let token = id.to_string();
                waiting.lock().unwrap_or_else(PoisonError::into_inner).insert(token.clone(), sender);
                let mut headers = HeaderMap::new();
                headers.insert(HEADER_INVOCATION, token.as_str());
                headers.insert(async_nats::header::NATS_MESSAGE_ID, token.as_str());
                headers.insert(HEADER_REPLY_TO, format!("{prefix}.{token}"));
                let accepted = jetstream
                    .publish_with_headers(subject, headers, Bytes::from_static(b"{}"))
                    .await
                    .map_err(|error| error.to_string())?;
                accepted.await.map_err(|error| error.to_string())?;
                match tokio::time::timeout(PATIENCE, result).await {
                    Ok(Ok(outcome)) => outcome,
                    _ => Err("accepted, but no result came".into()),
                }
            });
            call
        })
    }
}

fn succeeded(reply: &async_nats::Message) -> Result<(), String> {
    let status = reply.headers.as_ref().and_then(|headers| headers.get(HEADER_STATUS));
    match status {
        Some(status) if status.as_str() == "success" => Ok(()),
        status => Err(format!(
            "{}: {}",
            status.map_or("no status", |status| status.as_str()),
            String::from_utf8_lossy(&reply.payload)
        )),
    }
}

/// Results of durable calls, each to the caller that waits for it.
async fn hand_out(mut replies: async_nats::Subscriber, waiting: Waiting) {
    while let Some(reply) = replies.next().await {
        let token = reply.subject.rsplit('.').next().unwrap_or_default();
        let sender = waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(token);
        if let Some(sender) = sender {
            let _ = sender.send(succeeded(&reply));
        }
    }
}

/// A program in C as an executable, where there is a C compiler.
pub(super) fn compiled(folder: &std::path::Path, text: &str) -> Option<Vec<u8>> {
    let (source, program) = (folder.join("function.c"), folder.join("function"));
    std::fs::write(&source, text).ok()?;
    let mut compiler = std::process::Command::new("cc");
    compiler.args(["-O2", "-pthread", "-o"]).arg(&program).arg(&source);
    let built = compiler.status().ok()?;
    let bytes = built.success().then(|| std::fs::read(&program).ok()).flatten();
    let _ = (std::fs::remove_file(source), std::fs::remove_file(program));
    bytes
}

/// The other process of the bare request-reply: answers until its standard input ends.
pub(super) async fn echo(data: std::path::PathBuf, flags: Flags) -> Outcome {
    let operator = Operator { nats_url: None, data };
    let configuration = operator.configuration(&flags)?;
    let bus = operator.bus(&configuration, "windfall bench echo").await?;
    let mut requests = bus.client().subscribe(ECHO).await.map_err(anyhow::Error::from)?;
    let mut ended = std::pin::pin!(input_ended());
    loop {
        tokio::select! {
            () = &mut ended => return Ok(()),
            request = requests.next() => {
                let Some(request) = request else { return Ok(()) };
                if let Some(reply) = request.reply {
                    bus.client().publish(reply, request.payload).await.map_err(anyhow::Error::from)?;
                }
            }
        }
    }
}

/// Returns when standard input has ended.
pub(super) async fn input_ended() {
    let reading = tokio::task::spawn_blocking(|| {
        let mut buffer = [0; 64];
        while std::io::stdin().read(&mut buffer).is_ok_and(|read| read > 0) {}
    });
    let _ = reading.await;
}
