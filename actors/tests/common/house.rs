//! A Frontend with its HTTP door, on a private nats-server, with a Controller that speaks the real messages and
//! answers by the name of the function.
#![allow(dead_code)]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use actors::bus::Bus;
use actors::clock::{Clock, unix_ms};
use actors::frontend::desk::Desk;
use actors::frontend::http::{HttpDoor, OpenDoor};
use actors::frontend::openwhisk::{Manifest, ManifestRuntime};
use actors::frontend::{self};
use actors::metrics::{FrontendMetrics, Metrics};
use actors::settings::Settings;
use actors::store::{Credentials, NamespaceLimits, Store};
use bytes::Bytes;
use futures::StreamExt;
use messages::{
    Answer, ControllerAlive, LogLine, LogStream, Record, Refused, RefusedWhy, Reply, Start, Submit, subjects,
};
use ractor::Actor;
use serde_json::{Value, json};
use vocabulary::{Attempt, ControllerId, Grant, Outcome, Span, Usage, VmId};

use super::NatsServer;
use super::http::Http;

pub struct House {
    pub server: NatsServer,
    pub store: Store,
    pub guest: Credentials,
    pub http: Http,
    /// What the Controller was told to run.
    pub submitted: Arc<Mutex<Vec<Submit>>>,
    pub door: Option<OpenDoor>,
    settings: Arc<Settings>,
}

impl House {
    pub async fn start() -> Self {
        Self::start_with(Settings::default()).await
    }

    /// Nobody decides there.
    pub async fn without_controller() -> Self {
        Self::made(Settings::default(), false).await
    }

    pub async fn start_with(settings: Settings) -> Self {
        Self::made(settings, true).await
    }

    async fn made(mut settings: Settings, with_controller: bool) -> Self {
        let server = NatsServer::start();
        settings.nats = server.settings();
        settings.frontend.http = "127.0.0.1:0".into();
        let settings = Arc::new(settings);
        let bus = server.bus("frontend").await;
        let store = Store::open(&bus, &settings.store).await.expect("a store");
        let guest =
            store.namespaces().create("guest", None, NamespaceLimits::default()).await.expect("a key");
        let submitted = Arc::default();
        if with_controller {
            control(server.bus("controller").await, store.clone(), Arc::clone(&submitted)).await;
        }
        let door = open_door(&bus, &store, &settings).await;
        let http = Http { address: door.address, key: guest.as_text() };
        Self { server, store, guest, http, submitted, door: Some(door), settings }
    }

    /// Another Frontend of the same house.
    pub async fn another_door(&self) -> OpenDoor {
        self.door_at(self.server.port).await
    }

    /// Another Frontend, which reaches NATS at this port.
    pub async fn door_at(&self, port: u16) -> OpenDoor {
        let nats =
            actors::settings::Nats { url: format!("nats://127.0.0.1:{port}"), ..self.server.settings() };
        let bus = Bus::connect(&nats, "another").await.expect("a connection");
        let store = Store::open(&bus, &self.settings.store).await.expect("a store");
        open_door(&bus, &store, &self.settings).await
    }

    /// A client of a namespace of its own.
    pub async fn tenant(&self, namespace: &str, limits: NamespaceLimits) -> Http {
        let key = self.store.namespaces().create(namespace, None, limits).await.expect("a key");
        Http { address: self.http.address, key: key.as_text() }
    }

    /// Makes an action whose name decides how it answers.
    pub async fn action(&self, name: &str) {
        let reply = self.http.put(&action(name), &python("def main(args): return args")).await;
        assert_eq!(reply.status, 200, "{reply:?}");
    }

    /// The revision of the function that was submitted last.
    pub fn last_revision(&self) -> u64 {
        self.submitted.lock().unwrap().last().map_or(0, |submit| submit.function.revision.0)
    }

    pub fn last_submit(&self) -> Submit {
        self.submitted.lock().unwrap().last().expect("something was submitted").clone()
    }
}

pub fn action(name: &str) -> String {
    format!("/api/v1/namespaces/_/actions/{name}")
}

pub fn python(code: &str) -> Value {
    json!({"exec": {"kind": "python:3", "code": code}})
}

pub fn manifest() -> Manifest {
    let runtime = |kind: &str, alias: &str| ManifestRuntime {
        kind: kind.into(),
        aliases: vec![alias.into()],
        version: "1".into(),
    };
    Manifest {
        runtimes: vec![
            runtime("nodejs:20", "nodejs:default"),
            runtime("python:3", "python:default"),
            runtime("native:1", "native:default"),
        ],
    }
}

async fn open_door(bus: &Bus, store: &Store, settings: &Arc<Settings>) -> OpenDoor {
    let metrics = Metrics::new("frontend", "test", &settings.telemetry).expect("metrics");
    let counts = FrontendMetrics::new(&metrics);
    let desk = Desk::new(bus.clone(), store.clone(), settings);
    let arguments = frontend::Arguments {
        settings: Arc::clone(settings),
        bus: bus.clone(),
        store: store.clone(),
        clock: Clock::start(),
        desk: desk.clone(),
        metrics: Arc::clone(&counts),
        neighbours: Default::default(),
    };
    Actor::spawn(None, frontend::Frontend, arguments).await.expect("a Frontend");
    let door = HttpDoor {
        store: store.clone(),
        desk,
        settings: Arc::clone(settings),
        manifest: manifest(),
        metrics: counts,
        page: Arc::new(move || metrics.text()),
    };
    door.open().await.expect("an open door")
}

/// A Controller and all of its VMs in one task.
async fn control(bus: Bus, store: Store, submitted: Arc<Mutex<Vec<Submit>>>) {
    let id = ControllerId(7);
    let mut submissions =
        bus.client().subscribe(subjects::controller_submit(id)).await.expect("a subscription");
    let announcer = bus.clone();
    tokio::spawn(async move {
        loop {
            let alive = ControllerAlive { controller: id, leaving: false };
            announcer.send(subjects::ANNOUNCE_CONTROLLER.into(), &alive).await;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
    tokio::spawn(async move {
        while let Some(message) = submissions.next().await {
            let submit: Submit = messages::decode(&message.payload).expect("a Submit");
            submitted.lock().unwrap().push(submit.clone());
            tokio::spawn(respond(bus.clone(), store.clone(), submit));
        }
    });
}

async fn respond(bus: Bus, store: Store, submit: Submit) {
    let error = |text: &str| Bytes::from(json!({ "error": text }).to_string());
    let (outcome, result) = match submit.path.name.as_str() {
        "failing" => (Outcome::ApplicationError, error("no luck")),
        "broken" => (Outcome::DeveloperError, error("The action did not produce a valid response")),
        "unlucky" => (Outcome::InternalError, error("every VM was lost")),
        "listing" => (Outcome::Success, Bytes::from_static(b"[1, 2]")),
        "silent" => return,
        "slow" => {
            tokio::time::sleep(Duration::from_millis(1500)).await;
            (Outcome::Success, submit.payload.0.clone())
        }
        "full" => return refuse(&bus, &submit, RefusedWhy::QueueFull).await,
        "given-up" => {
            tokio::time::sleep(Duration::from_millis(1000)).await;
            return refuse(&bus, &submit, RefusedWhy::NoVm).await;
        }
        "nowhere" => return refuse(&bus, &submit, RefusedWhy::NoVm).await,
        "huge" => return refuse(&bus, &submit, RefusedWhy::TooLarge).await,
        _ => (Outcome::Success, submit.payload.0.clone()),
    };
    let start = if submit.path.name == "cold" { Start::Cold } else { Start::Warm };
    let init = if start == Start::Cold { Span::millis(40) } else { Span::ZERO };
    let answer = Answer {
        invocation: submit.invocation,
        attempt: Attempt(2),
        outcome,
        result: result.into(),
        vm: Some(VmId(0x1f)),
        start,
        grant: Some(Grant::fixed(submit.function.reservation)),
        started_unix_ms: unix_ms(),
        waited: Span::millis(3),
        init,
        duration: Span::millis(12),
        timed_out: false,
    };
    let record = record_of(&submit, &answer);
    store.records().write(record).await.expect("a stored record");
    bus.send(submit.reply_to, &Reply::Answer(answer)).await;
}

fn record_of(submit: &Submit, answer: &Answer) -> Record {
    Record {
        invocation: submit.invocation,
        attempt: answer.attempt,
        namespace: submit.namespace.clone(),
        path: submit.path.clone(),
        version: "0.0.1".into(),
        kind: "python:3".into(),
        outcome: answer.outcome,
        result: answer.result.clone(),
        timed_out: false,
        started_unix_ms: answer.started_unix_ms,
        ended_unix_ms: answer.started_unix_ms + (answer.init + answer.duration).as_millis(),
        waited: answer.waited,
        init: answer.init,
        duration: answer.duration,
        start: answer.start,
        vm: answer.vm,
        reservation: submit.function.reservation,
        timeout: submit.function.timeout,
        log_limit_mb: 10,
        grant: answer.grant,
        usage: Usage::default(),
        logs: vec![LogLine {
            unix_us: 1_456_747_199_000_001,
            stream: LogStream::Stdout,
            text: "hello".into(),
        }],
        logs_stored_apart: false,
    }
}

async fn refuse(bus: &Bus, submit: &Submit, why: RefusedWhy) {
    let refused = Refused { invocation: submit.invocation, why, reason: "because of the test".into() };
    bus.send(submit.reply_to.clone(), &Reply::Refused(refused)).await;
}
