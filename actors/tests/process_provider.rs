//! VMs that are processes: real processes, and real control groups where we are root.
#![allow(missing_docs)]

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use actors::providers::process::{Own, ProcessProvider, ProcessSettings};
use actors::providers::{Provider, ProviderError};
use common::eventually;
use sandbox::cgroup::{Group, HOUSE, Limits};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use vocabulary::{Mebibytes, MilliCores, Resources, VmId, VmKind};

const SIZE: Resources = Resources { cpu: MilliCores(200), memory: Mebibytes(64) };
const HEADROOM: Mebibytes = Mebibytes(16);

/// A VM that says who it is, starts something in a session of its own, and goes when told.
const POLITE: &str = r#"#!/bin/sh
trap 'exit 0' TERM
env > "$WINDFALL_VM__SCRATCH/environment"
cat /proc/self/cgroup > "$WINDFALL_VM__SCRATCH/groups"
setsid sleep 1000 &
echo $! > "$WINDFALL_VM__SCRATCH/inner"
: > "$WINDFALL_VM__SCRATCH/ready"
while :; do sleep 0.05; done
"#;

/// The same, but it does not go when told and starts nothing.
const DEAF: &str = r#"#!/bin/sh
trap '' TERM
: > "$WINDFALL_VM__SCRATCH/ready"
while :; do sleep 0.05; done
"#;

/// One that goes when told and starts nothing that would outlive it.
const PLAIN: &str = r#"#!/bin/sh
trap 'exit 0' TERM
env > "$WINDFALL_VM__SCRATCH/environment"
echo "hello from $WINDFALL_VM__ID"
: > "$WINDFALL_VM__SCRATCH/ready"
while :; do sleep 0.05; done
"#;

struct Yard {
    folder: TempDir,
    cluster: String,
}

impl Yard {
    fn new(program: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("program");
        fs::write(&path, program).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        Self { folder, cluster: format!("test-{}-{number}", std::process::id()) }
    }

    fn settings(&self, confine: bool) -> ProcessSettings {
        ProcessSettings {
            program: self.folder.path().join("program"),
            arguments: vec!["vm".into()],
            environment: vec![("WINDFALL_NATS__URL".into(), "nats://nowhere".into())],
            own: Own::none(),
            cluster: self.cluster.clone(),
            folder: self.folder.path().join("data"),
            log_files: true,
            confine,
            headroom: HEADROOM,
            grace: Duration::from_secs(10),
            last_grace: Duration::from_secs(2),
        }
    }

    fn scratch(&self, vm: u64) -> PathBuf {
        self.folder.path().canonicalize().unwrap().join(format!("data/vms/vm-{vm:x}/scratch"))
    }

    fn group(&self, vm: u64) -> Result<Group, sandbox::cgroup::GroupError> {
        Group::open(&format!("{HOUSE}/{}/vm-{vm:x}", self.cluster))
    }

    async fn ready(&self, vm: u64) {
        let ready = self.scratch(vm).join("ready");
        eventually("the VM is ready", async || ready.exists()).await;
    }

    fn pid(&self, vm: u64) -> u32 {
        number_in(&self.scratch(vm).join("../pid"))
    }

    fn inner(&self, vm: u64) -> u32 {
        number_in(&self.scratch(vm).join("inner"))
    }
}

fn number_in(file: &Path) -> u32 {
    fs::read_to_string(file).unwrap().trim().parse().unwrap()
}

fn lives(pid: u32) -> bool {
    // A zombie is dead: it only waits for somebody to ask how it ended.
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

fn kill_dead(pid: u32) {
    // SAFETY: a process that this test's own provider has started.
    unsafe { libc::kill(i32::try_from(pid).unwrap(), libc::SIGKILL) };
}

/// Whether this machine lets us make control groups; prints why not.
fn groups_work(test: &str) -> bool {
    // SAFETY: takes no argument.
    if unsafe { libc::geteuid() } != 0 {
        println!("skipped {test}: control groups need root");
        return false;
    }
    let name = format!("{HOUSE}/test-probe-{}", std::process::id());
    match Group::create(&name) {
        Ok(group) => {
            let _ = group.remove();
            true
        }
        Err(error) => {
            println!("skipped {test}: {error}");
            false
        }
    }
}

async fn launch(provider: &ProcessProvider, vm: u64) {
    Provider::launch(provider, VmId(vm), VmKind::Harvest, SIZE).await.unwrap();
}

async fn retire(provider: &ProcessProvider, vm: u64) {
    Provider::retire(provider, VmId(vm)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vm_is_born_inside_its_group_and_its_group_is_its_capacity() {
    if !groups_work("a_vm_is_born_inside_its_group_and_its_group_is_its_capacity") {
        return;
    }
    let yard = Yard::new(POLITE);
    let provider = ProcessProvider::open(yard.settings(true)).unwrap();
    launch(&provider, 0x1f).await;
    yard.ready(0x1f).await;
    let group = yard.group(0x1f).unwrap();
    let memory = Some(SIZE.memory + HEADROOM);
    assert_eq!(group.limits().unwrap(), Limits { cpu: Some(SIZE.cpu), memory });
    let place = format!("{HOUSE}/{}/vm-1f/agent", yard.cluster);
    let groups = fs::read_to_string(yard.scratch(0x1f).join("groups")).unwrap();
    assert!(groups.lines().any(|line| line.ends_with(&place)), "{groups}");
    let environment = fs::read_to_string(yard.scratch(0x1f).join("environment")).unwrap();
    for line in [
        "WINDFALL_VM__ID=vm-1f".to_owned(),
        "WINDFALL_VM__KIND=harvest".to_owned(),
        format!("WINDFALL_VM__CGROUP={HOUSE}/{}/vm-1f", yard.cluster),
        "WINDFALL_NATS__URL=nats://nowhere".to_owned(),
    ] {
        assert!(environment.lines().any(|have| have == line), "{line} is missing in\n{environment}");
    }
    // Its own process is there once, and twice is once.
    launch(&provider, 0x1f).await;
    assert_eq!(provider.list().await.unwrap(), [VmId(0x1f)]);
    provider.retire_all().await;
    assert!(yard.group(0x1f).is_err());
    assert!(Group::open(&format!("{HOUSE}/{}", yard.cluster)).is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_ran_in_a_vm_dies_with_it_and_its_end_is_told_once() {
    if !groups_work("what_ran_in_a_vm_dies_with_it_and_its_end_is_told_once") {
        return;
    }
    let yard = Yard::new(POLITE);
    let provider = ProcessProvider::open(yard.settings(true)).unwrap();
    launch(&provider, 1).await;
    launch(&provider, 2).await;
    yard.ready(1).await;
    yard.ready(2).await;
    let inner = yard.inner(1);
    assert!(lives(inner));
    kill_dead(yard.pid(1));
    assert_eq!(provider.next_ended().await, VmId(1));
    assert_eq!(provider.list().await.unwrap(), [VmId(2)]);
    // It is told before all is cleared away; whoever retires it waits for that.
    retire(&provider, 1).await;
    assert!(!lives(inner));
    assert!(yard.group(1).is_err() && !yard.scratch(1).exists());
    assert_eq!(provider.list().await.unwrap(), [VmId(2)]);
    assert!(lives(yard.pid(2)));
    // One that is retired goes the same way, and retiring what is gone is no error.
    let inner = yard.inner(2);
    retire(&provider, 2).await;
    assert!(!lives(inner) && yard.group(2).is_err());
    assert_eq!(provider.next_ended().await, VmId(2));
    retire(&provider, 2).await;
    provider.retire_all().await;
}

#[test]
fn vms_outlive_their_provider_and_the_next_one_finds_them() {
    let confine = groups_work("the part of this test with control groups");
    let yard = Yard::new(if confine { POLITE } else { PLAIN });
    let crashed = Runtime::new().unwrap();
    crashed.block_on(async {
        let provider = ProcessProvider::open(yard.settings(confine)).unwrap();
        launch(&provider, 1).await;
        launch(&provider, 2).await;
        yard.ready(1).await;
        yard.ready(2).await;
    });
    // As a crash would: nothing is told to the VMs.
    crashed.shutdown_timeout(Duration::from_secs(5));
    let (one, two) = (yard.pid(1), yard.pid(2));
    assert!(lives(one) && lives(two));
    kill_dead(two);
    Runtime::new().unwrap().block_on(async {
        let provider = ProcessProvider::open(yard.settings(confine)).unwrap();
        eventually("only the living one is left", async || {
            provider.list().await.unwrap() == [VmId(1)] && !yard.scratch(2).exists()
        })
        .await;
        assert!(lives(one));
        if confine {
            assert!(yard.group(1).is_ok() && yard.group(2).is_err());
        }
        // Launching it again does not make a second one, and it can be retired by whoever did not start it.
        launch(&provider, 1).await;
        assert_eq!(yard.pid(1), one);
        retire(&provider, 1).await;
        assert!(!lives(one));
        provider.retire_all().await;
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_that_a_crash_left_are_cleared_away_but_not_those_of_another_cluster() {
    if !groups_work("groups_that_a_crash_left_are_cleared_away_but_not_those_of_another_cluster") {
        return;
    }
    let (mine, other) = (Yard::new(POLITE), Yard::new(POLITE));
    for yard in [&mine, &other] {
        Group::create_vm(&format!("{}/vm-9", yard.cluster), SIZE).unwrap();
    }
    let provider = ProcessProvider::open(mine.settings(true)).unwrap();
    assert!(mine.group(9).is_err());
    assert!(other.group(9).is_ok());
    provider.retire_all().await;
    assert!(other.group(9).is_ok());
    Group::open(&format!("{HOUSE}/{}", other.cluster)).unwrap().remove().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_is_not_the_vm_is_never_taken_for_it() {
    let yard = Yard::new(PLAIN);
    let mut stranger = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
    let scratch = yard.folder.path().join("data/vms/vm-7/scratch");
    fs::create_dir_all(&scratch).unwrap();
    fs::write(scratch.join("../pid"), stranger.id().to_string()).unwrap();
    let provider = ProcessProvider::open(yard.settings(false)).unwrap();
    assert!(provider.list().await.unwrap().is_empty());
    retire(&provider, 7).await;
    assert!(stranger.try_wait().unwrap().is_none(), "it was killed");
    stranger.kill().unwrap();
    stranger.wait().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn without_groups_a_vm_is_told_its_size_and_writes_to_its_log() {
    let yard = Yard::new(PLAIN);
    let provider = ProcessProvider::open(yard.settings(false)).unwrap();
    assert!(provider.enforcement().contains("not confined"));
    launch(&provider, 3).await;
    yard.ready(3).await;
    let environment = fs::read_to_string(yard.scratch(3).join("environment")).unwrap();
    for line in ["WINDFALL_VM__CAPACITY=fixed", "WINDFALL_VM__CPU=200", "WINDFALL_VM__MEMORY=64"] {
        assert!(environment.lines().any(|have| have == line), "{line} is missing in\n{environment}");
    }
    let log = fs::read_to_string(yard.folder.path().join("data/logs/vm-3.log")).unwrap();
    assert_eq!(log, "hello from vm-3\n");
    provider.retire_all().await;
    assert!(provider.list().await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vm_that_does_not_go_when_told_is_killed() {
    let yard = Yard::new(DEAF);
    let settings = ProcessSettings { grace: Duration::from_millis(200), ..yard.settings(false) };
    let provider = ProcessProvider::open(settings).unwrap();
    launch(&provider, 4).await;
    yard.ready(4).await;
    let pid = yard.pid(4);
    retire(&provider, 4).await;
    assert!(!lives(pid));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_cannot_be_started_is_an_error_that_leaves_nothing() {
    let yard = Yard::new(PLAIN);
    let settings = ProcessSettings { program: "/nowhere/windfall".into(), ..yard.settings(false) };
    let provider = ProcessProvider::open(settings).unwrap();
    let error = Provider::launch(&provider, VmId(5), VmKind::Regular, SIZE).await.unwrap_err();
    assert!(matches!(error, ProviderError::Launch { vm: VmId(5), .. }), "{error}");
    assert!(provider.list().await.unwrap().is_empty());
    assert!(!yard.scratch(5).exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_belongs_to_one_cluster_and_a_name_must_be_one() {
    let yard = Yard::new(PLAIN);
    let _first = ProcessProvider::open(yard.settings(false)).unwrap();
    let stranger = ProcessSettings { cluster: "another".into(), ..yard.settings(false) };
    let second = ProcessProvider::open(stranger).err().unwrap();
    assert!(second.to_string().contains("a Resource Monitor of another cluster"), "{second}");
    // One of the same cluster may be asleep while another leads; it is held back by its fence.
    assert!(ProcessProvider::open(yard.settings(false)).is_ok());
    let other = Yard::new(PLAIN);
    let settings = ProcessSettings { cluster: "../x".into(), ..other.settings(true) };
    let error = ProcessProvider::open(settings).err().unwrap();
    assert!(error.to_string().contains("cannot be a cluster's name"), "{error}");
}
