//! VMs with a network of their own, which see their own size and hear their own metadata service.
#![allow(missing_docs)]

use std::path::PathBuf;
use std::time::{Duration, Instant};

use chaos::metadata::{ADDRESS, MetadataServer};
use messages::FleetVm;
use serde_json::json;
use vocabulary::{MilliCores, VmStanding};
use windfall_tests::functions::{SLEEP, python, with};
use windfall_tests::load::{Load, Through};
use windfall_tests::{Cluster, Plan, eventually, is_inside_own_network};

fn plan(vms: u32) -> Plan {
    let setting = |key, value: &str| (key, value.to_owned());
    let settings = vec![
        setting("resource_monitor.provider", "netns"),
        setting("netns.subnet", "10.99.0.0/16"),
        setting("vm.notices", "azure"),
        setting("vm.notice_poll_ms", "200"),
    ];
    Plan { vms, settings, nats_host: "0.0.0.0", ..Plan::default() }
}

/// The machine's first process, seen from here: the child of the one that the provider started.
fn first_process(vm: &FleetVm) -> u32 {
    let children = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", vm.pid)).unwrap();
    children.split_whitespace().next().expect("a machine has a first process").parse().unwrap()
}

fn network_of(vm: &FleetVm) -> PathBuf {
    format!("/proc/{}/ns/net", first_process(vm)).into()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_evicted_by_its_own_metadata_service_is_replaced_at_the_notice_and_nothing_is_lost() {
    if !is_inside_own_network(
        "a_machine_evicted_by_its_own_metadata_service_is_replaced_at_the_notice_and_nothing_is_lost",
    ) {
        return;
    }
    let cluster = Cluster::of(plan(3)).await;
    let limits = json!({ "limits": { "memory": 128, "cpu": 100, "timeout": 60_000 } });
    cluster.http.deploy("sleep", &with(python(SLEEP), limits)).await;
    let load = Load::start(
        &cluster,
        "sleep",
        json!({ "seconds": 0.2 }),
        &[(Through::Http, 8), (Through::Nats, 8), (Through::Durable, 2)],
    )
    .await;
    load.goes_on(40).await;
    let mut vms = cluster.open_vms().await;
    vms.sort_by_key(|vm| (vm.running, vm.vm));
    let evicted = vms.last().expect("somebody lives").clone();
    let service = MetadataServer::start_inside(&network_of(&evicted), ADDRESS, "vm-spot").unwrap();
    eventually("the machine has found its metadata service", async || service.questions().len() > 2).await;
    let at = Instant::now();
    service.evict(Duration::from_secs(30));
    eventually("the evicted one takes nothing new, and another has come for it", async || {
        let fleet = cluster.fleet().await;
        let leaves = fleet.iter().any(|vm| vm.vm == evicted.vm && vm.standing == Some(VmStanding::Draining));
        leaves && cluster.open_vms().await.len() == 3
    })
    .await;
    println!("from the notice to a replacement that takes work: {:?}", at.elapsed());
    assert!(at.elapsed() < Duration::from_secs(30), "at the notice, not at the loss");
    load.goes_on(40).await;
    // Its end: earlier than was said, and without a word.
    cluster.kill_vm(&evicted);
    let at = Instant::now();
    eventually("it is gone", async || cluster.fleet().await.iter().all(|vm| vm.vm != evicted.vm)).await;
    println!("from the kill until the fleet knows: {:?}", at.elapsed());
    load.goes_on(60).await;
    let done = load.finish().await;
    done.all_were_answered_once_with_success(&cluster).await;
    assert_eq!(cluster.open_vms().await.len(), 3, "one replacement, not two");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_sees_its_own_size_in_the_usual_places() {
    if !is_inside_own_network("a_machine_sees_its_own_size_in_the_usual_places") {
        return;
    }
    let cluster = Cluster::of(plan(1)).await;
    let vm = cluster.open_vms().await.remove(0);
    assert_eq!(vm.capacity.cpu, MilliCores(1000));
    // From inside: its own first process, network and host name.
    let inside = async |command: &str| {
        let output = std::process::Command::new("nsenter")
            .args(["-t", &first_process(&vm).to_string(), "-n", "-m", "-p", "-u", "sh", "-c", command])
            .output()
            .expect("nsenter");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    };
    assert_eq!(inside("hostname").await, vm.vm.to_string());
    let addresses = inside("ip -o -4 addr").await;
    assert!(addresses.contains("169.254.169.254") && addresses.contains("10.99."), "{addresses}");
    let first = inside("cat /proc/1/cmdline | tr '\\0' ' '").await;
    assert!(first.contains("vm-init"), "{first}");
    if std::process::Command::new("lxcfs").arg("--version").output().is_err() {
        println!("skipped: what lxcfs shows, for want of lxcfs");
        return;
    }
    // nsenter stays in our own control group, and lxcfs goes by that of the machine's first process.
    let memory = async || -> u64 {
        let line = inside("grep MemTotal /proc/meminfo").await;
        line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).unwrap_or(0)
    };
    // What was asked for, and what the agent keeps of it.
    assert_eq!(memory().await, (1_024 + 64) << 10);
    let group = cluster.group_of(vm.vm);
    group.set_memory(Some(vocabulary::Mebibytes(512))).unwrap();
    eventually("it sees less memory", async || memory().await == 512 << 10).await;
    eventually("and says so", async || cluster.fleet().await[0].capacity.memory.0 == 512 - 64).await;
}
