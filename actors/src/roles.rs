//! The roles that a process can play: each is a handful of actors under one supervisor, with their metrics page.
//!
//! `windfall frontend`, `controller`, `resource-monitor` and `vm` play one each; `windfall up` starts a process for
//! each, and the Resource Monitor's provider starts one for each VM.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use messages::{Notice, subjects};
use ractor::{Actor, ActorRef};
use sandbox::{Enforce, Launcher, Workshop, WorkshopSettings};
use tokio::sync::{Notify, watch};
use vocabulary::{Span, VmId};

use crate::bus::Bus;
use crate::clock::Clock;
use crate::metrics::{
    ControllerMetrics, FrontendMetrics, InvokerMetrics, Metrics, Page, ResourceMonitorMetrics,
};
use crate::neighbours::Neighbours;
use crate::providers;
use crate::settings::Settings;
use crate::store::Store;
use crate::supervisor::{self, Child, Order, Supervisor};
use crate::{chance, controller, frontend, harvest_monitor, invoker, metrics, resource_monitor};

/// How long a VM's last words may take to reach nats-server.
const FAREWELL_PATIENCE: Duration = Duration::from_secs(1);
/// How long the records that still wait may take at a stop.
const RECORDS_PATIENCE: Duration = Duration::from_secs(5);
/// How long actors may take to stop.
const STOP_PATIENCE: Duration = Duration::from_secs(5);

type Cleanup = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A role that is being played.
pub struct RoleHandle {
    /// What others may want to know: `id`, `http`, `metrics`, as far as the role has them.
    pub facts: BTreeMap<String, String>,
    supervisor: ActorRef<Order>,
    verdict: watch::Receiver<Option<String>>,
    leave: Arc<Notify>,
    /// What is done before the actors end.
    before: Option<Cleanup>,
    cleanup: Vec<Cleanup>,
    _page: Option<Page>,
    /// Another role that the same process plays.
    beside: Option<Box<RoleHandle>>,
}

impl RoleHandle {
    /// Resolves when the role ends by itself: with the reason if something is wrong, without one if it was asked to
    /// leave and has done so.
    pub async fn ended(&mut self) -> Option<String> {
        let beside = async {
            match &mut self.beside {
                Some(beside) => Box::pin(beside.ended()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            reason = beside => reason,
            verdict = self.verdict.wait_for(Option::is_some) => {
                Some(verdict.ok().and_then(|verdict| verdict.clone()).unwrap_or_else(|| "the supervisor is gone".into()))
            }
            () = self.leave.notified() => None,
        }
    }

    /// Ends the role: what it has begun, as far as it waits for that, its actors, then what they leave behind. Bounded in time.
    pub async fn stop(self) {
        if let Some(before) = self.before {
            before.await;
        }
        if ractor::call_t!(self.supervisor, Order::StopAll, (STOP_PATIENCE * 2).as_millis() as u64).is_err() {
            tracing::warn!("the actors did not stop in time");
        }
        self.supervisor.stop(None);
        for cleanup in self.cleanup {
            cleanup.await;
        }
        if let Some(beside) = self.beside {
            Box::pin(beside.stop()).await;
        }
    }
}

/// Starts actors under a supervisor.
async fn supervise(
    children: Vec<Child>,
    restarted: Arc<dyn Fn() + Send + Sync>,
) -> anyhow::Result<(ActorRef<Order>, watch::Receiver<Option<String>>)> {
    let (verdict, ends) = watch::channel(None);
    let arguments = supervisor::Arguments { children, stopping: false, verdict, restarted };
    let (supervisor, _) =
        Actor::spawn(None, Supervisor, arguments).await.map_err(|error| anyhow!("cannot start: {error}"))?;
    Ok((supervisor, ends))
}

/// The doors; with `frontend.with_controller` also a Controller, to which their submissions need no message.
pub async fn frontend(settings: &Settings, bus: Bus) -> anyhow::Result<RoleHandle> {
    let neighbours = Neighbours::default();
    if !settings.frontend.with_controller {
        return doors(settings, bus, neighbours).await;
    }
    let beside = deciding(settings, bus.clone(), neighbours.clone()).await?;
    let mut handle = doors(settings, bus, neighbours).await?;
    if let Some(metrics) = beside.facts.get("metrics") {
        handle.facts.insert("controller_metrics".into(), metrics.clone());
    }
    handle.beside = Some(Box::new(beside));
    Ok(handle)
}

async fn doors(settings: &Settings, bus: Bus, neighbours: Neighbours) -> anyhow::Result<RoleHandle> {
    let settings = Arc::new(settings.clone());
    let store = Store::open(&bus, &settings.store).await?;
    let metrics = Metrics::new("frontend", &settings.frontend.http, &settings.telemetry)?;
    metrics.watch_bus(&bus);
    let counts = FrontendMetrics::new(&metrics);
    let desk = frontend::desk::Desk::new(bus.clone(), store.clone(), &settings);
    let arguments = frontend::Arguments {
        settings: Arc::clone(&settings),
        bus,
        store: store.clone(),
        clock: Clock::start(),
        desk: desk.clone(),
        metrics: Arc::clone(&counts),
        neighbours,
    };
    let restarts = Arc::clone(&counts);
    let (supervisor, verdict) = supervise(
        vec![Child::new("frontend", || frontend::Frontend, arguments)],
        Arc::new(move || restarts.common.actor_restarted()),
    )
    .await?;
    let page = metrics.clone();
    let patience = Duration::from_millis(settings.frontend.leave_ms);
    let desk_of_door = desk.clone();
    let door = frontend::http::HttpDoor {
        store: store.clone(),
        desk: desk_of_door,
        manifest: (&sandbox::catalogue(settings.vm.python.as_deref(), settings.vm.node.as_deref())).into(),
        settings,
        metrics: counts,
        page: Arc::new(move || page.text()),
    };
    let door = door.open().await?;
    let facts = BTreeMap::from([("http".to_owned(), door.address.to_string())]);
    let last_calls = async move {
        let (http, nats) = tokio::join!(door.stop(patience), tokio::time::timeout(patience, desk.leave()));
        if !http || nats.is_err() {
            tracing::warn!(?patience, "calls were cut off (frontend.leave_ms)");
        }
    };
    Ok(RoleHandle {
        facts,
        supervisor,
        verdict,
        leave: Arc::default(),
        before: Some(Box::pin(last_calls)),
        cleanup: vec![Box::pin(settle_records(store))],
        _page: None,
        beside: None,
    })
}

/// The deciding part.
pub async fn controller(settings: &Settings, bus: Bus) -> anyhow::Result<RoleHandle> {
    deciding(settings, bus, Neighbours::default()).await
}

async fn deciding(settings: &Settings, bus: Bus, neighbours: Neighbours) -> anyhow::Result<RoleHandle> {
    let settings = Arc::new(settings.clone());
    let store = Store::open(&bus, &settings.store).await?;
    let metrics =
        Metrics::new("controller", &format!("{:x}", chance::controller_id().0), &settings.telemetry)?;
    metrics.watch_bus(&bus);
    let counts = ControllerMetrics::new(&metrics);
    let page = metrics::serve(&settings.controller.metrics, &metrics).await?;
    let arguments = controller::Arguments {
        settings: Arc::clone(&settings),
        bus,
        store: store.clone(),
        clock: Clock::start(),
        metrics: Arc::clone(&counts),
        neighbours,
    };
    let (supervisor, verdict) = supervise(
        vec![Child::new("controller", || controller::Controller, arguments)],
        Arc::new(move || counts.common.actor_restarted()),
    )
    .await?;
    Ok(RoleHandle {
        facts: facts_of(page.as_ref()),
        supervisor,
        verdict,
        leave: Arc::default(),
        before: None,
        cleanup: vec![Box::pin(settle_records(store))],
        _page: page,
        beside: None,
    })
}

/// The fleet's keeper. `program` is how to run `windfall vm` in a process of its own.
pub async fn resource_monitor(
    settings: &Settings,
    bus: Bus,
    program: VmProgram,
) -> anyhow::Result<RoleHandle> {
    let monitor = &settings.resource_monitor;
    let metrics = Metrics::new("resource-monitor", &monitor.cluster, &settings.telemetry)?;
    metrics.watch_bus(&bus);
    let counts = ResourceMonitorMetrics::new(&metrics);
    let page = metrics::serve(&monitor.metrics, &metrics).await?;
    let opened = resource_monitor::Opened::default();
    // The process id is for people, and for chaos, who look for the one that leads.
    let name = format!("resource-monitor-{}-{:016x}", std::process::id(), chance::vm_id().0);
    let of_open = settings.clone();
    let arguments = resource_monitor::CandidateArguments {
        settings: settings.clone(),
        bus,
        metrics: Arc::clone(&counts),
        name,
        open: Arc::new(move || providers::open(&of_open, &program)),
        opened: Arc::clone(&opened),
    };
    let (supervisor, verdict) = supervise(
        vec![Child::new(resource_monitor::NAME, || resource_monitor::Candidate, arguments)],
        Arc::new(move || counts.common.actor_restarted()),
    )
    .await?;
    let end_with_us = providers::end_with_us(settings);
    let retire_all = async move {
        let provider = opened.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(provider) = provider.filter(|_| end_with_us) {
            provider.retire_all().await;
        }
    };
    Ok(RoleHandle {
        facts: facts_of(page.as_ref()),
        supervisor,
        verdict,
        leave: Arc::default(),
        before: None,
        cleanup: vec![Box::pin(retire_all)],
        _page: page,
        beside: None,
    })
}

/// How a VM is run.
#[derive(Debug, Clone)]
pub struct VmProgram {
    /// Usually our own executable.
    pub program: PathBuf,
    /// Usually `vm`.
    pub arguments: Vec<OsString>,
    /// What it needs beside what it inherits: how to reach NATS, above all.
    pub environment: Vec<(String, String)>,
}

/// A VM: Invoker and Harvest Monitor. `launcher` is how to run [`sandbox::sandbox_main`] in a process of its own.
pub async fn vm(settings: &Settings, bus: Bus, launcher: Launcher) -> anyhow::Result<RoleHandle> {
    let settings = Arc::new(settings.clone());
    let vm = vm_id(&settings.vm.id)?;
    let kind = settings.vm.kind.parse().map_err(|error| anyhow!("vm.kind: {error}"))?;
    let store = Store::open(&bus, &settings.store).await?;
    let metrics = Metrics::new("vm", &vm.to_string(), &settings.telemetry)?;
    metrics.watch_bus(&bus);
    let counts = InvokerMetrics::new(&metrics);
    let page = metrics::serve(&settings.vm.metrics, &metrics).await?;
    let capacity = harvest_monitor::Capacity::of(&settings.vm)?.read();
    let (scratch, scratch_is_ours) = scratch_folder(&settings, vm)?;
    let workshop = Arc::new(
        Workshop::open(workshop_settings(&settings, vm, &scratch, launcher)?)
            .await
            .context("cannot make sandboxes")?,
    );
    if workshop.enforcement().is_complete() {
        tracing::info!(%vm, enforcement = %workshop.enforcement(), "sandboxes");
    } else {
        tracing::warn!(%vm, enforcement = %workshop.enforcement(), "SANDBOXES ARE NOT FULLY CONFINED");
    }
    let leave = Arc::new(Notify::new());
    let (say_drained, drained) = watch::channel(false);
    let arguments = invoker::Arguments {
        settings: Arc::clone(&settings),
        vm,
        kind,
        bus: bus.clone(),
        store: store.clone(),
        clock: Clock::start(),
        workshop: Arc::clone(&workshop),
        capacity,
        metrics: Arc::clone(&counts),
        metrics_address: page.as_ref().map(|page| page.address.to_string()).unwrap_or_default(),
        leave: Arc::clone(&leave),
        drained: Arc::new(say_drained),
    };
    let sigterm = harvest_monitor::Sigterm::listen(Span::millis(settings.vm.sigterm_grace_ms))
        .context("cannot listen for SIGTERM")?;
    let operator = harvest_monitor::Operator::listen(vm, bus.clone(), Arc::clone(&counts))
        .await
        .context("cannot listen for orders to evict")?;
    let mut sources: Vec<Arc<dyn harvest_monitor::NoticeSource>> =
        vec![Arc::new(sigterm), Arc::new(operator)];
    sources.extend(harvest_monitor::of_cloud(&settings.vm, &counts));
    tracing::info!(%vm, sources = ?Vec::from_iter(sources.iter().map(|source| source.name())), "notices are heard");
    // The Harvest Monitor must find the Invoker that lives now, which may not be the first one.
    let current: Arc<Mutex<Option<ActorRef<invoker::InvokerMessage>>>> = Arc::default();
    let told = Arc::clone(&current);
    let last_words = bus.clone();
    let monitor = harvest_monitor::Arguments {
        vm,
        settings: settings.vm.clone(),
        bus,
        metrics: Arc::clone(&counts),
        sources,
        standing: Arc::default(),
        drained,
        tell: Arc::new(move |seen| {
            let invoker = told.lock().unwrap_or_else(PoisonError::into_inner).clone();
            if let Some(invoker) = invoker {
                let _ = invoker.cast(invoker::InvokerMessage::Seen(seen));
            }
        }),
    };
    let invoker_child = Child::with(
        "invoker",
        Box::new(move |supervisor| {
            let (arguments, current) = (arguments.clone(), Arc::clone(&current));
            Box::pin(async move {
                let (actor, _) = Actor::spawn_linked(None, invoker::Invoker, arguments, supervisor).await?;
                *current.lock().unwrap_or_else(PoisonError::into_inner) = Some(actor.clone());
                Ok(actor.get_cell())
            })
        }),
    );
    let restarts = Arc::clone(&counts);
    let (supervisor, verdict) = supervise(
        vec![invoker_child, Child::new(harvest_monitor::NAME, || harvest_monitor::HarvestMonitor, monitor)],
        Arc::new(move || restarts.common.actor_restarted()),
    )
    .await?;
    let mut facts = facts_of(page.as_ref());
    facts.insert("id".into(), vm.to_string());
    let farewell = farewell(vm, last_words, Arc::clone(&workshop));
    let close = async move {
        workshop.close().await;
        if scratch_is_ours {
            // Left behind, it would only cost space.
            let _ = std::fs::remove_dir_all(scratch);
        }
    };
    Ok(RoleHandle {
        facts,
        supervisor,
        verdict,
        leave,
        before: None,
        cleanup: vec![Box::pin(farewell), Box::pin(settle_records(store)), Box::pin(close)],
        _page: page,
        beside: None,
    })
}

/// A VM's last words, after those of its Invoker: whatever it has not said to have ended will not end here. Where nobody sees
/// its process end, it would be waited for until its silence is noticed.
async fn farewell(vm: VmId, bus: Bus, workshop: Arc<Workshop>) {
    workshop.begin_closing();
    let notice = Notice { vm, time_left: Some(Span::ZERO), source: messages::LEFT.to_owned() };
    bus.send(subjects::vm_notice(vm), &notice).await;
    let _ = tokio::time::timeout(FAREWELL_PATIENCE, bus.client().flush()).await;
}

async fn settle_records(store: Store) {
    if !store.records().flush(RECORDS_PATIENCE).await {
        tracing::warn!(left = store.records().counters().backlog(), "records were left unstored at the stop");
    }
}

fn facts_of(page: Option<&Page>) -> BTreeMap<String, String> {
    page.map(|page| ("metrics".to_owned(), page.address.to_string())).into_iter().collect()
}

fn vm_id(text: &str) -> anyhow::Result<VmId> {
    if text.is_empty() {
        return Ok(chance::vm_id());
    }
    text.parse().with_context(|| format!("vm.id = '{text}'"))
}

/// Where sandboxes live, and whether the folder is removed at the end.
fn scratch_folder(settings: &Settings, vm: VmId) -> anyhow::Result<(PathBuf, bool)> {
    let (folder, ours) = match &settings.vm.scratch {
        Some(folder) => (folder.clone(), false),
        None => (std::env::temp_dir().join(format!("windfall-{vm}-{}", std::process::id())), true),
    };
    std::fs::create_dir_all(&folder)
        .with_context(|| format!("cannot make vm.scratch = {}", folder.display()))?;
    let folder = folder.canonicalize().with_context(|| format!("vm.scratch = {}", folder.display()))?;
    Ok((folder, ours))
}

fn workshop_settings(
    settings: &Settings,
    vm: VmId,
    scratch: &Path,
    launcher: Launcher,
) -> anyhow::Result<WorkshopSettings> {
    let given = &settings.vm;
    let enforce = match given.enforce.as_str() {
        "auto" => Enforce::Auto,
        "off" => Enforce::Off,
        other => bail!("vm.enforce is 'auto' or 'off', not '{other}'"),
    };
    // VMs of one machine must not share user ids: each has as many as it may have sandboxes.
    let place = (vm.0 % 1_000) as u32;
    let uid_base = given.uid_base.saturating_add(place.saturating_mul(given.sandboxes_limit));
    Ok(WorkshopSettings {
        cgroup_parent: (!given.cgroup.is_empty()).then(|| given.cgroup.clone()),
        uid_base,
        python: given.python.clone(),
        node: given.node.clone(),
        enforce,
        sandboxes_limit: given.sandboxes_limit,
        python_spares: given.python_spares,
        ..WorkshopSettings::new(scratch, launcher)
    })
}
