//! A VM's size changes in the kernel, or at its Hyper-V host, and its Controller hears of it.
#![allow(missing_docs)]

use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use futures::StreamExt;
use messages::{Report, subjects};
use vocabulary::{MilliCores, VmId};
use windfall_tests::{Cluster, Plan, eventually, is_root};

/// Changes in each measurement.
const CHANGES: u32 = 60;
/// What is promised on a machine that has time; how much more one takes that has not is not ours to promise.
const PROMISE: Duration = Duration::from_millis(200);

/// Reports of this VM, heard where Controllers hear them.
struct Ear {
    reports: async_nats::Subscriber,
    vm: VmId,
}

impl Ear {
    async fn of(cluster: &Cluster, vm: VmId) -> Self {
        let client = cluster.nats().await.client;
        let reports = client.subscribe(subjects::REPORTS).await.unwrap();
        client.flush().await.unwrap();
        Self { reports, vm }
    }

    /// When a report says this, and what else it says.
    async fn hears(&mut self, cpu: MilliCores) -> Report {
        let listen = async {
            loop {
                let message = self.reports.next().await.expect("the connection lives");
                let report: Report = messages::decode(&message.payload).expect("a report");
                if report.status.vm == self.vm && report.status.capacity.cpu == cpu {
                    return report;
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(30), listen).await.expect("a report says so")
    }
}

fn show(what: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let at = |percent: usize| times[(times.len() * percent / 100).min(times.len() - 1)];
    println!("{what}, {} changes: p50 {:?}, p99 {:?}, max {:?}", times.len(), at(50), at(99), at(100));
    assert!(at(50) < PROMISE, "half of them took longer than {:?}", at(50));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quota_written_by_hand_is_known_at_the_controller_within_moments() {
    if !is_root() {
        println!("skipped: control groups need root");
        return;
    }
    let cluster = Cluster::of(Plan { vms: 1, ..Plan::default() }).await;
    let vm = cluster.open_vms().await.remove(0);
    let group = cluster.group_of(vm.vm);
    let mut ear = Ear::of(&cluster, vm.vm).await;
    let mut times = Vec::new();
    for change in 0..CHANGES {
        let cpu = MilliCores(400 + 10 * change);
        group.set_cpu(Some(cpu)).expect("root may");
        let changed = Instant::now();
        let report = ear.hears(cpu).await;
        times.push(changed.elapsed());
        assert!(report.capacity_source.starts_with("cgroup/"), "{}", report.capacity_source);
        // Not in step with whoever looks.
        tokio::time::sleep(Duration::from_millis(u64::from(change * 37 % 50))).await;
    }
    show("from the quota to a subscriber of reports, as Controllers are", times);
    eventually("the list follows", async || {
        cluster.fleet().await.iter().any(|vm| vm.capacity.cpu == MilliCores(400 + 10 * (CHANGES - 1)))
    })
    .await;
    // What looking costs: the agent's own CPU time over a quiet while, everything in it.
    let cpu_of = |pid: u32| -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    };
    let (before, began) = (cpu_of(vm.pid), Instant::now());
    tokio::time::sleep(Duration::from_secs(10)).await;
    let used = Duration::from_millis((cpu_of(vm.pid) - before) * 10);
    println!("an idle VM's agent used {used:?} of CPU in {:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hyper_v_host_that_takes_cores_away_in_place_is_followed() {
    let folder = tempfile::tempdir().unwrap();
    let pool = folder.path().join("kvp_pool_0");
    let record = |cores: &str| {
        let mut record = vec![0; 2560];
        record[..16].copy_from_slice(b"CurrentCoreCount");
        record[512..512 + cores.len()].copy_from_slice(cores.as_bytes());
        record
    };
    std::fs::write(&pool, [vec![0; 2560], record("1.0")].concat()).unwrap();
    let mut cluster = Cluster::of(Plan { vms: 0, ..Plan::default() }).await;
    let vm = VmId(0x1f);
    cluster.launch_vm_with(vm, &[("vm.kvp", pool.display().to_string())]);
    let mut ear = Ear::of(&cluster, vm).await;
    let report = ear.hears(MilliCores(1_000)).await;
    assert!(
        ["kvp/", "cpus/"].iter().any(|from| report.capacity_source.starts_with(from))
            || report.capacity_source.is_empty()
    );
    let file = std::fs::File::options().write(true).open(&pool).unwrap();
    let before = file.metadata().unwrap().len();
    let mut times = Vec::new();
    for change in 0..CHANGES {
        let tenths = 1 + change % 9;
        file.write_all_at(&record(&format!("0.{tenths}")), 2560).unwrap();
        let changed = Instant::now();
        ear.hears(MilliCores(100 * tenths)).await;
        times.push(changed.elapsed());
        tokio::time::sleep(Duration::from_millis(u64::from(change * 37 % 50))).await;
    }
    assert_eq!(file.metadata().unwrap().len(), before, "in place");
    show("from Hyper-V's pool file to a subscriber of reports", times);
    let limited_by = cluster.fleet().await.into_iter().find(|each| each.vm == vm).unwrap().capacity_source;
    assert!(limited_by.starts_with("kvp/"), "{limited_by}");
}
