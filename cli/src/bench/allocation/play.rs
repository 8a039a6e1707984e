//! Calls at their moments on a cluster, and what became of each.
//!
//! **Promises:** a call goes out when it is due, whatever became of those before it; all that is told of a run is from its record,
//! which the Invoker wrote.
//! **Gives up:** callers who wait for their answers before they call again; `bench` has those.

use std::time::Duration;

use actors::store::Store;
use bytes::Bytes;
use messages::{FleetList, HEADER_INVOCATION, HEADER_STATUS, Record, Start, subjects};
use tokio::time::Instant;
use vocabulary::{InvocationId, Outcome as How, Resources, Span};

use super::functions::{self, KINDS};
use super::shrinks::{Change, Vms};
use crate::bench::cluster::Cluster;
use crate::client::{Client, Connection};
use crate::configuration::Flags;
use crate::failure::{Exit, Failure, Outcome};
use crate::nats_door;
use crate::operator::Operator;
use crate::vm;

/// A call without an answer after this has failed.
const PATIENCE: Duration = Duration::from_secs(240);
/// A record that is not there is looked for so often, a tenth of a second each time.
const RECORD_LOOKS: u32 = 100;
/// The namespace of `windfall up`.
const NAMESPACE: &str = "guest";

/// A cluster, ready to be called.
pub(super) struct Stage {
    guest: async_nats::Client,
    store: Store,
    vms: Vms,
}

/// One call.
#[derive(Debug, Clone, Copy)]
pub(super) struct Call {
    /// From the beginning.
    pub at: Duration,
    pub function: usize,
    /// Which of its sizes.
    pub size: usize,
}

/// What became of a call that was answered with success.
#[derive(Debug, Clone)]
pub(super) struct Ran {
    pub call: Call,
    /// From call to answer.
    pub latency: Duration,
    /// The run itself.
    pub duration: Span,
    pub init: Option<Span>,
    pub cpu_time: Span,
    pub memory: u32,
    /// Begun with less than reserved, and not in need of it.
    pub harvested: bool,
    pub safeguarded: bool,
    /// Not its first attempt.
    pub again: bool,
}

/// What became of all.
#[derive(Debug, Default)]
pub(super) struct Played {
    pub runs: Vec<Ran>,
    /// Calls that were not answered with success, and what was said of the first.
    pub failed: usize,
    pub first_failure: Option<String>,
    /// From the first call to the last answer.
    pub length: Duration,
}

impl Stage {
    /// Connects, and deploys the functions.
    pub async fn open(cluster: &Cluster, flags: &Flags, vm_cpu: u32) -> Outcome<Self> {
        let operator = Operator { nats_url: None, data: cluster.data.clone() };
        let configuration = operator.configuration(flags)?;
        let bus = operator.bus(&configuration, "windfall bench allocation").await?;
        let store = Store::open(&bus, &configuration.settings.store).await.map_err(anyhow::Error::from)?;
        let listed =
            vm::ask::<FleetList>(bus.client(), subjects::FLEET_LIST.to_owned(), Bytes::new()).await?;
        let mut vms: Vec<_> = listed.unwrap_or_default().vms.iter().map(|vm| vm.vm).collect();
        vms.sort_unstable();
        let vms = Vms::open(&configuration.settings.resource_monitor.cluster, &vms)?;
        let client = Client::new(&Connection { api_host: None, auth: None, data: cluster.data.clone() })?;
        functions::deploy(cluster, &client, vm_cpu).await?;
        let endpoint = client.endpoint();
        let url = endpoint.nats_url.clone().unwrap_or_else(|| configuration.settings.nats.url.clone());
        let (user, key) = endpoint.auth.split_once(':').unwrap_or_default();
        let guest = async_nats::ConnectOptions::with_user_and_password(user.to_owned(), key.to_owned())
            .request_timeout(Some(PATIENCE))
            .connect(&url)
            .await
            .map_err(|error| nats_door::unreachable(&url, &error))?;
        Ok(Self { guest, store, vms })
    }

    /// All calls, each at its moment, while VMs change; comes back when all have ended.
    pub async fn play(&self, calls: &[Call], changes: &[Change]) -> Outcome<Played> {
        let began = Instant::now();
        let mut tasks = tokio::task::JoinSet::new();
        for &call in calls {
            let kind = &KINDS[call.function];
            let (guest, name) = (self.guest.clone(), kind.name.to_owned());
            let argument = kind.argument(call.size);
            tasks.spawn(async move {
                tokio::time::sleep_until(began + call.at).await;
                let sent = Instant::now();
                let answer = ask(&guest, &name, argument).await;
                (call, sent.elapsed(), answer)
            });
        }
        for &change in changes {
            tokio::time::sleep_until(began + change.at).await;
            self.vms.carry_out(change)?;
        }
        let mut played = Played::default();
        let mut answered = Vec::new();
        while let Some(ended) = tasks.join_next().await {
            let (call, latency, answer) = ended.map_err(anyhow::Error::from)?;
            match answer {
                Ok(id) => answered.push((call, latency, id)),
                Err(error) => {
                    played.failed += 1;
                    played.first_failure.get_or_insert(error);
                }
            }
        }
        played.length = began.elapsed();
        for (call, latency, id) in answered {
            played.runs.push(Ran::of(call, latency, &self.record(id).await?));
        }
        Ok(played)
    }

    /// One call of a function by its name, with nothing else going on.
    pub async fn once(&self, name: &str, call: Call) -> Outcome<Ran> {
        let argument = KINDS[call.function].argument(call.size);
        let sent = Instant::now();
        let id = ask(&self.guest, name, argument).await.map_err(|error| {
            Failure::new(Exit::Failed, format!("{name} failed with nothing else going on: {error}"))
        })?;
        let latency = sent.elapsed();
        Ok(Ran::of(call, latency, &self.record(id).await?))
    }

    /// So many calls of a function by its name, and more until so much time has passed, each as soon as the one before is answered,
    /// with nothing else going on: so that after the first none finds a quota that has rested.
    pub async fn in_a_row(
        &self,
        name: &str,
        call: Call,
        times: usize,
        length: Duration,
    ) -> Outcome<Vec<Ran>> {
        let argument = KINDS[call.function].argument(call.size);
        let (mut answered, began) = (Vec::new(), Instant::now());
        while answered.len() < times || began.elapsed() < length {
            let sent = Instant::now();
            let id = ask(&self.guest, name, argument.clone()).await.map_err(|error| {
                Failure::new(Exit::Failed, format!("{name} failed with nothing else going on: {error}"))
            })?;
            answered.push((sent.elapsed(), id));
        }
        let mut runs = Vec::new();
        for (latency, id) in answered {
            runs.push(Ran::of(call, latency, &self.record(id).await?));
        }
        Ok(runs)
    }

    /// It is stored behind the answer, on a busy machine a good while behind.
    async fn record(&self, id: InvocationId) -> Outcome<Record> {
        for _ in 0..RECORD_LOOKS {
            let found = self.store.records().get_soon(NAMESPACE, id).await.map_err(anyhow::Error::from)?;
            if let Some(record) = found {
                return Ok(record);
            }
        }
        Err(Failure::new(Exit::Failed, format!("{id} was answered and has no record")))
    }
}

async fn ask(guest: &async_nats::Client, name: &str, argument: String) -> Result<InvocationId, String> {
    let asked = guest.request(subjects::invoke(NAMESPACE, name), Bytes::from(argument));
    let answer = asked.await.map_err(|error| error.to_string())?;
    let header = |name: &str| Some(answer.headers.as_ref()?.get(name)?.as_str().to_owned());
    let status = header(HEADER_STATUS).unwrap_or_default();
    if status != How::Success.as_str() {
        return Err(format!("{status}: {}", String::from_utf8_lossy(&answer.payload)));
    }
    let id = header(HEADER_INVOCATION).and_then(|id| id.parse().ok());
    id.ok_or_else(|| "an answer without an id".to_owned())
}

impl Ran {
    fn of(call: Call, latency: Duration, record: &Record) -> Self {
        let safeguarded = record.usage.safeguarded;
        let lends = record.grant.is_some_and(|grant| grant.harvested(record.reservation) != Resources::ZERO);
        Self {
            call,
            latency,
            duration: record.duration,
            init: (record.start == Start::Cold).then_some(record.init),
            cpu_time: record.usage.cpu_time,
            memory: record.usage.memory_peak.0,
            harvested: lends && !safeguarded,
            safeguarded,
            again: record.attempt > vocabulary::Attempt::FIRST,
        }
    }
}
