//! The Resource Monitor with real VM processes and a real nats-server. The processes do not speak; what they would
//! report is said here, for as long as they live.
#![allow(missing_docs)]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use actors::bus::Bus;
use actors::metrics::{Metrics, ResourceMonitorMetrics};
use actors::providers::Provider;
use actors::providers::process::{Own, ProcessProvider, ProcessSettings};
use actors::resource_monitor::{Arguments, Input, ResourceMonitor};
use actors::settings::{self, Settings};
use common::{NatsServer, eventually};
use futures::StreamExt;
use messages::{FleetList, FleetVm, Notice, Report, subjects};
use ractor::{Actor, ActorRef};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use vocabulary::{Resources, Span, VmId, VmKind, VmStanding, VmStatus};

const PROGRAM: &str = "#!/bin/sh\ntrap 'exit 0' TERM\nwhile :; do sleep 0.05; done\n";

struct House {
    server: NatsServer,
    folder: TempDir,
    settings: Settings,
    provider: Arc<ProcessProvider>,
    page: Metrics,
    reporter: JoinHandle<()>,
}

impl House {
    async fn new(vms: u32, program: &str) -> Self {
        let server = NatsServer::start();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("program");
        fs::write(&path, program).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        let mut settings = Settings { nats: server.settings(), ..Settings::default() };
        settings.resource_monitor.vms = vms;
        settings.controller.vm_silence_ms = 200;
        let provider = Arc::new(open(folder.path(), "data"));
        let page = Metrics::new("resource-monitor", "one", &settings::Telemetry::default()).unwrap();
        let reporter = tokio::spawn(report(server.bus("vms").await, folder.path().join("data/vms")));
        Self { server, folder, settings, provider, page, reporter }
    }

    async fn monitor(&self, provider: &Arc<ProcessProvider>) -> (ActorRef<Input>, JoinHandle<()>) {
        let arguments = Arguments {
            settings: self.settings.clone(),
            bus: self.server.bus("resource monitor").await,
            provider: Some(provider.clone()),
            metrics: ResourceMonitorMetrics::new(&self.page),
        };
        Actor::spawn(None, ResourceMonitor, arguments).await.unwrap()
    }

    /// Waits until so many VMs have reported.
    async fn grown(&self, bus: &Bus, vms: usize) -> Vec<FleetVm> {
        let mut found = Vec::new();
        eventually("the fleet is at its target", async || {
            found = list(bus).await;
            found.len() == vms && found.iter().all(|vm| vm.standing.is_some())
        })
        .await;
        found
    }

    fn pid(&self, vm: VmId) -> i32 {
        pid_in(&self.folder.path().join("data/vms").join(vm.to_string())).unwrap()
    }
}

fn open(folder: &Path, name: &str) -> ProcessProvider {
    ProcessProvider::open(ProcessSettings {
        program: folder.join("program"),
        arguments: vec![],
        environment: vec![],
        own: Own::none(),
        cluster: format!("test-monitor-{}", std::process::id()),
        folder: folder.join(name),
        log_files: true,
        confine: false,
        headroom: vocabulary::Mebibytes::ZERO,
        grace: Duration::from_secs(5),
        last_grace: Duration::from_secs(2),
    })
    .unwrap()
}

fn pid_in(vm: &Path) -> Option<i32> {
    fs::read_to_string(vm.join("pid")).ok()?.trim().parse().ok()
}

fn ids(vms: &[FleetVm]) -> Vec<u64> {
    vms.iter().map(|vm| vm.vm.0).collect()
}

/// What every VM with a folder would say of itself.
async fn report(bus: Bus, vms: PathBuf) {
    let mut sequences = BTreeMap::<VmId, u64>::new();
    loop {
        for entry in fs::read_dir(&vms).into_iter().flatten().flatten() {
            let Some(vm) = entry.file_name().to_str().and_then(|name| name.parse::<VmId>().ok()) else {
                continue;
            };
            let sequence = sequences.entry(vm).or_default();
            *sequence += 1;
            let status = VmStatus {
                vm,
                kind: VmKind::Harvest,
                capacity: Resources::new(1000, 1024),
                standing: VmStanding::Open,
                warm: vec![],
                running: vec![],
            };
            let report = Report {
                sequence: *sequence,
                status,
                used: Resources::new(100, 64),
                pid: 0,
                metrics: String::new(),
                age: Span::ZERO,
                enforcement: String::new(),
                store_stalled: None,
                capacity_source: String::new(),
                notice: None,
                hindrance: messages::Hindrance::default(),
            };
            bus.send(subjects::vm_report(vm), &report).await;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn list(bus: &Bus) -> Vec<FleetVm> {
    match bus.client().request(subjects::FLEET_LIST, "".into()).await {
        Ok(answer) => messages::decode::<FleetList>(&answer.payload).unwrap().vms,
        Err(_) => vec![],
    }
}

fn kill_dead(pid: i32) {
    // SAFETY: a process that this test's own provider has started.
    unsafe { libc::kill(pid, libc::SIGKILL) };
}

#[tokio::test(flavor = "multi_thread")]
async fn the_fleet_is_kept_at_its_target_and_a_lost_vm_is_announced_and_replaced() {
    let house = House::new(3, PROGRAM).await;
    let bus = house.server.bus("client").await;
    let mut notices = bus.client().subscribe(subjects::NOTICES).await.unwrap();
    let (actor, task) = house.monitor(&house.provider).await;
    let vms = house.grown(&bus, 3).await;
    assert_eq!(ids(&vms), [1, 2, 3]);
    assert_eq!(vms[0].capacity, Resources::new(1000, 1024));

    kill_dead(house.pid(VmId(2)));
    let heard = tokio::time::timeout(Duration::from_secs(30), notices.next()).await.unwrap().unwrap();
    let notice: Notice = messages::decode(&heard.payload).unwrap();
    assert_eq!((notice.vm, notice.time_left), (VmId(2), Some(Span::ZERO)));
    let vms = house.grown(&bus, 3).await;
    assert_eq!(ids(&vms), [1, 3, 4]);
    eventually("the gauges follow", async || {
        let text = house.page.text();
        text.contains("windfall_fleet_vms{state=\"reporting\"} 3")
            && text.contains("windfall_vm_ends_total 1")
            && text.contains("windfall_fleet_capacity_cpu_cores 3")
    })
    .await;
    // What is no report is dropped and counted.
    bus.send_bytes(subjects::vm_report(VmId(1)), "nonsense".into()).await;
    eventually("it is counted", async || house.page.text().contains("windfall_decode_failures_total 1"))
        .await;

    // A smaller target ends the newest.
    let mut target = actors::resource_monitor::target(&house.settings).unwrap();
    target.vms = 1;
    actor.cast(Input::Target(target)).unwrap();
    eventually("one is left", async || house.provider.list().await.unwrap() == [VmId(1)]).await;
    actor.stop(None);
    task.await.unwrap();
    house.provider.retire_all().await;
    house.reporter.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_monitor_keeps_the_fleet_and_never_uses_an_id_twice() {
    let house = House::new(2, PROGRAM).await;
    let bus = house.server.bus("client").await;
    let (actor, task) = house.monitor(&house.provider).await;
    house.grown(&bus, 2).await;
    let pids = [house.pid(VmId(1)), house.pid(VmId(2))];
    actor.stop(None);
    task.await.unwrap();

    let (actor, task) = house.monitor(&house.provider).await;
    house.grown(&bus, 2).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(house.provider.list().await.unwrap(), [VmId(1), VmId(2)]);
    assert_eq!([house.pid(VmId(1)), house.pid(VmId(2))], pids);
    actor.stop(None);
    task.await.unwrap();
    house.provider.retire_all().await;
    house.reporter.abort();

    // Nothing is left but the count in KV.
    let fresh = Arc::new(open(house.folder.path(), "fresh"));
    let (actor, task) = house.monitor(&fresh).await;
    eventually("two new ones", async || fresh.list().await.unwrap() == [VmId(3), VmId(4)]).await;
    actor.stop(None);
    task.await.unwrap();
    fresh.retire_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_vm_is_ended_but_not_while_nats_is_away() {
    let mut house = House::new(2, PROGRAM).await;
    let bus = house.server.bus("client").await;
    let (actor, task) = house.monitor(&house.provider).await;
    house.grown(&bus, 2).await;
    // Three times as long as a VM may be silent.
    house.server.kill();
    tokio::time::sleep(Duration::from_secs(3)).await;
    house.server.go();
    house.grown(&bus, 2).await;
    assert_eq!(house.provider.list().await.unwrap(), [VmId(1), VmId(2)]);
    assert!(house.page.text().contains("windfall_vm_retirements_total{why=\"silent\"} 0"));

    house.reporter.abort();
    eventually("both are replaced", async || {
        let vms = house.provider.list().await.unwrap();
        !vms.is_empty() && vms.iter().all(|vm| vm.0 > 2)
    })
    .await;
    assert!(house.page.text().contains("windfall_vm_retirements_total{why=\"silent\"} 2"));
    actor.stop(None);
    task.await.unwrap();
    house.provider.retire_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vm_that_cannot_live_is_not_started_in_a_loop() {
    let house = House::new(2, "#!/bin/sh\nexit 1\n").await;
    let (actor, task) = house.monitor(&house.provider).await;
    house.reporter.abort(); // Nobody lives long enough to say anything.
    eventually("both have ended", async || house.page.text().contains("windfall_vm_ends_total 2")).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(house.page.text().contains("windfall_vm_launches_total 2"), "{}", house.page.text());
    actor.stop(None);
    task.await.unwrap();
    house.provider.retire_all().await;
}
