//! A scenario on a cluster that runs: load, trouble, and what became of it.
//!
//! **Knows:** one cluster on this machine, by the house's connection, a caller's connection and the mark of its processes.
//! **Promises:** no process, group or VM is touched that does not carry the cluster's mark; what was frozen or resized is put
//! back, also when the run is broken off; whatever was called is accounted for.
//! **Gives up:** clusters of several machines, and links between them: processes are all it can hit.

mod clouds;
mod disk;
mod evidence;
mod load;
mod observer;
mod reach;
mod recovery;
mod report;
mod timing;
mod trouble;
mod victims;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_nats::Client;
use messages::{FleetList, FleetVm, subjects};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use vocabulary::{Span, VmStanding};

use crate::scenario::Scenario;
use crate::timetable::timetable;
use clouds::Clouds;
use load::Callers;
use observer::Observer;
use recovery::Recovery;
pub use report::{Report, Verdict};
use trouble::Trouble;

/// Functions that are called for short whiles are called so, and a number. Two kinds, because what is learned of one
/// must not blur the other.
const SHORT: &str = "chaos-short";
/// Functions that are called for long whiles.
const LONG: &str = "chaos-long";

/// The names of all functions that a scenario calls: see [`function`].
pub fn functions(scenario: &Scenario) -> Vec<String> {
    let all = 1..=scenario.house.functions;
    all.flat_map(|number| [SHORT, LONG].map(|kind| format!("{kind}-{number}"))).collect()
}

/// Deaf to every signal that a process can ignore, so that whoever ends its sandbox must know how to.
const SLEEP: &str = "\
import signal
import time
DEAF = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGPIPE)
def main(args):
    for each in DEAF:
        signal.signal(each, signal.SIG_IGN)
    time.sleep(args.get('seconds', 0))
    return {'mark': args.get('mark')}
";

/// What all functions are, as OpenWhisk's API takes it. Small, so that many fit on a VM.
pub fn function() -> Value {
    json!({
        "exec": { "kind": "python:default", "code": SLEEP },
        "limits": { "memory": 128, "cpu": 100, "timeout": 120_000 },
    })
}

/// A cluster on this machine.
#[derive(Debug, Clone)]
pub struct House {
    /// The house's own connection: it may listen to everything.
    pub nats: Client,
    /// A caller's connection.
    pub guest: Client,
    /// The caller's namespace, in which the [`functions`] are.
    pub namespace: String,
    /// What marks the cluster's processes.
    pub cluster: String,
    /// Where its nats-server keeps its streams, if that is on this machine.
    pub store: Option<PathBuf>,
}

/// Why a scenario could not be played to its end.
#[derive(Debug, thiserror::Error)]
pub enum LiveError {
    /// The cluster is not what the scenario is for.
    #[error(
        "{name} is for {wanted} VMs, and {open} take work here: start the cluster with `windfall up --vms {wanted}`"
    )]
    Fleet {
        /// The scenario.
        name: String,
        /// How many it is for.
        wanted: u32,
        /// How many there are.
        open: usize,
    },
    /// NATS says no.
    #[error("{doing}: {error}")]
    Nats {
        /// What was being done.
        doing: &'static str,
        /// What it said.
        error: String,
    },
    /// The event log cannot be written.
    #[error("cannot write the event log {path}: {source}")]
    Log {
        /// Where.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
}

impl LiveError {
    fn nats(doing: &'static str) -> impl Fn(String) -> Self {
        move |error| Self::Nats { doing, error }
    }
}

/// The clock of one run.
#[derive(Debug, Clone, Copy)]
struct Clock(Instant);

impl Clock {
    fn now(self) -> Span {
        self.0.elapsed().into()
    }
}

/// How long the fleet is asked.
const FLEET_PATIENCE: Duration = Duration::from_secs(2);

impl House {
    /// Whether the Resource Monitor says that the store takes nothing.
    async fn store_stalls(&self) -> bool {
        self.fleet().await.store_stalled.is_some()
    }

    /// VMs that take work, by id; nobody when the Resource Monitor does not answer.
    async fn open_vms(&self) -> Vec<FleetVm> {
        let fleet = self.fleet().await;
        let mut open: Vec<_> =
            fleet.vms.into_iter().filter(|vm| vm.standing == Some(VmStanding::Open)).collect();
        open.sort_by_key(|vm| vm.vm);
        open
    }

    /// What the Resource Monitor lists; nothing when it does not answer.
    async fn fleet(&self) -> FleetList {
        let asked = self.nats.request(subjects::FLEET_LIST, bytes::Bytes::new());
        match tokio::time::timeout(FLEET_PATIENCE, asked).await {
            Ok(Ok(message)) => messages::decode(&message.payload).unwrap_or_default(),
            _ => FleetList::default(),
        }
    }
}

/// Plays a scenario. `say` gets lines for people.
pub async fn play(
    house: &House,
    scenario: &Scenario,
    seed: u64,
    log: &Path,
    say: Arc<dyn Fn(String) + Send + Sync>,
) -> Result<Report, LiveError> {
    let open = house.open_vms().await.len();
    if open < scenario.vms as usize {
        return Err(LiveError::Fleet { name: scenario.name.clone(), wanted: scenario.vms, open });
    }
    let clock = Clock(Instant::now());
    let observer = Observer::start(house, clock).await?;
    let callers = Callers::start(house, scenario, seed, clock).await?;
    let clouds = Clouds::default();
    // Ends with this, also when it is broken off.
    let mut keepers = JoinSet::new();
    if scenario.has_metadata() {
        let (clouds, house) = (clouds.clone(), house.clone());
        keepers.spawn(async move { match clouds.keep(house).await {} });
    }
    say(format!("{} s of calm", scenario.calm_s));
    tokio::time::sleep(Duration::from_secs(scenario.calm_s)).await;
    let storm_from = clock.now();
    say(format!("{} s of storm", scenario.storm_s));
    let trouble = Trouble::new(house.clone(), clock, clouds, Arc::clone(&say));
    let recovery = Recovery::default();
    let looking = recovery.clone().keep(house.clone(), trouble.clone(), scenario.vms as usize);
    keepers.spawn(async move { match looking.await {} });
    trouble.make(&timetable(scenario, seed), Duration::from_secs(scenario.storm_s)).await;
    let storm_to = clock.now();
    let healthy_after = is_healthy(scenario, &callers, &trouble, &recovery).await;
    say("the last answers".into());
    let calls = callers.finish().await;
    let sight = observer.finish();
    let evidence = evidence::Evidence {
        scenario,
        seed,
        storm: storm_from..storm_to,
        healthy_after,
        calls,
        sight,
        trouble: trouble.seen(),
    };
    evidence.judge(house, log).await
}

/// How long after the last fault the fleet was whole, and has been since, and a call that began after it had succeeded. When the storm is
/// over both must be so still; `None` if they are not in time.
async fn is_healthy(
    scenario: &Scenario,
    callers: &Callers,
    trouble: &Trouble,
    recovery: &Recovery,
) -> Option<Span> {
    let over = trouble.clock.now();
    let last = trouble.locked().last_fault;
    let fault = last.unwrap_or(over);
    let until = over + Span::seconds(scenario.healthy_within_s);
    loop {
        if let (Some(whole), Some(good)) = (recovery.whole_since(last), callers.succeeded_since(fault))
            && callers.succeeded_since(over).is_some()
            && recovery::is_whole(&trouble.house, trouble, scenario.vms as usize).await
        {
            return Some(whole.max(good) - fault);
        }
        if trouble.clock.now() > until {
            return None;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
