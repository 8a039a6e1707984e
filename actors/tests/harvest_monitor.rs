//! The Harvest Monitor against a real control group, a real signal and a real nats-server.
#![allow(missing_docs)]

mod common;

use std::sync::Arc;
use std::time::{Duration, Instant};

use actors::harvest_monitor::{Arguments, CapacityChanged, HarvestMonitor, Noticed, Seen, Sigterm};
use actors::metrics::{InvokerMetrics, Metrics};
use actors::settings;
use common::NatsServer;
use futures::StreamExt;
use messages::{Notice, subjects};
use ractor::Actor;
use sandbox::cgroup::{Group, HOUSE};
use tokio::sync::mpsc;
use vocabulary::{Mebibytes, MilliCores, Resources, Span, VmId};

const VM: VmId = VmId(1);

fn metrics() -> Metrics {
    Metrics::new("vm", "vm-1", &settings::Telemetry::default()).unwrap()
}

async fn arguments(
    server: &NatsServer,
    vm: settings::Vm,
    metrics: &Metrics,
) -> (Arguments, mpsc::UnboundedReceiver<Seen>) {
    let (tell, told) = mpsc::unbounded_channel();
    let arguments = Arguments {
        vm: VM,
        settings: vm,
        bus: server.bus("harvest monitor").await,
        metrics: InvokerMetrics::new(metrics),
        sources: vec![],
        standing: Arc::default(),
        drained: tokio::sync::watch::channel(false).1,
        tell: Arc::new(move |seen| {
            let _ = tell.send(seen);
        }),
    };
    (arguments, told)
}

/// The next thing it says that is not `last`, which it may repeat.
async fn next(told: &mut mpsc::UnboundedReceiver<Seen>, last: Option<Resources>) -> Seen {
    let last = last.map(|last| Seen::Capacity(CapacityChanged(last)));
    loop {
        let seen = tokio::time::timeout(Duration::from_secs(30), told.recv()).await;
        let seen = seen.expect("it says something").unwrap();
        if Some(&seen) != last.as_ref() && !matches!(seen, Seen::Machine { .. }) {
            return seen;
        }
    }
}

fn capacity(cpu: u32, memory: u32) -> Seen {
    Seen::Capacity(CapacityChanged(Resources::new(cpu, memory)))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_the_groups_limits_is_told_at_once() {
    // SAFETY: takes no argument.
    if unsafe { libc::geteuid() } != 0 {
        println!("skipped: control groups need root");
        return;
    }
    let cluster = format!("test-harvest-{}", std::process::id());
    let size = Resources::new(300, 100);
    let group = match Group::create_vm(&format!("{cluster}/vm-1"), size) {
        Ok(group) => group,
        Err(error) => {
            println!("skipped: {error}");
            return;
        }
    };
    let server = NatsServer::start();
    let page = metrics();
    let vm = settings::Vm { cgroup: group.path().to_owned(), headroom: 0, ..settings::Vm::default() };
    let (arguments, mut told) = arguments(&server, vm, &page).await;
    let (actor, task) = Actor::spawn(None, HarvestMonitor, arguments).await.unwrap();
    assert_eq!(next(&mut told, None).await, capacity(300, 100));

    let changed = Instant::now();
    group.set_cpu(Some(MilliCores(150))).unwrap();
    assert_eq!(next(&mut told, Some(size)).await, capacity(150, 100));
    println!("a shrink was told after {:?}", changed.elapsed());
    group.set_memory(Some(Mebibytes(80))).unwrap();
    assert_eq!(next(&mut told, Some(Resources::new(150, 100))).await, capacity(150, 80));
    // Without a limit of its own, what is above it and the machine itself still limit it.
    group.set_cpu(None).unwrap();
    let before = Some(Resources::new(150, 80));
    let Seen::Capacity(CapacityChanged(grown)) = next(&mut told, before).await else { panic!("a capacity") };
    let cpus = std::thread::available_parallelism().unwrap().get() as u32;
    assert!(grown.cpu > MilliCores(150) && grown.cpu <= MilliCores::cores(cpus), "{grown}");
    let text = page.text();
    assert!(text.contains("windfall_vm_capacity_changes_total 4"), "{text}");
    assert!(text.contains("windfall_vm_capacity_memory_bytes 83886080"), "{text}");

    // A group that goes away never makes the VM larger; what it says every second shows that it still looks.
    group.set_cpu(Some(MilliCores(120))).unwrap();
    assert_eq!(next(&mut told, Some(grown)).await, capacity(120, 80));
    group.remove().unwrap();
    for _ in 0..2 {
        assert_eq!(next(&mut told, None).await, capacity(120, 80));
    }
    actor.stop(None);
    task.await.unwrap();
    Group::open(&format!("{HOUSE}/{cluster}")).unwrap().remove().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_is_a_notice_that_everyone_hears() {
    let server = NatsServer::start();
    let listener = server.bus("listener").await;
    let mut notices = listener.client().subscribe(subjects::NOTICES).await.unwrap();
    listener.client().flush().await.unwrap();
    let page = metrics();
    let fixed = settings::Vm { capacity: "fixed".into(), ..settings::Vm::default() };
    let (mut arguments, mut told) = arguments(&server, fixed, &page).await;
    arguments.sources = vec![Arc::new(Sigterm::listen(Span::seconds(30)).unwrap())];
    let (actor, task) = Actor::spawn(None, HarvestMonitor, arguments).await.unwrap();
    let fixed = Some(Resources::new(1000, 1024));
    assert_eq!(next(&mut told, None).await, capacity(1000, 1024));

    // To this process itself, which has said that it listens.
    // SAFETY: sends a signal to ourselves.
    unsafe { libc::kill(libc::getpid(), libc::SIGTERM) };
    let grace = Some(Span::seconds(30));
    assert_eq!(next(&mut told, fixed).await, Seen::Noticed(Noticed { time_left: grace, source: "sigterm" }));
    let mut lefts = Vec::new();
    for _ in 0..3 {
        let message = tokio::time::timeout(Duration::from_secs(30), notices.next()).await.unwrap().unwrap();
        assert_eq!(message.subject.as_str(), subjects::vm_notice(VM));
        let notice: Notice = messages::decode(&message.payload).unwrap();
        assert_eq!((notice.vm, notice.source.as_str()), (VM, "sigterm"));
        lefts.push(notice.time_left.unwrap());
    }
    // It is said again, since a message may be lost, each time with what is left then.
    assert!(lefts[0] <= Span::seconds(30) && lefts.is_sorted_by(|a, b| a > b), "{lefts:?}");
    assert!(page.text().contains("windfall_vm_notices_total 1"));
    actor.stop(None);
    task.await.unwrap();
}
