//! Several Resource Monitors: one leads.
#![allow(missing_docs)]

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use vocabulary::VmId;
use windfall_tests::{Cluster, Plan, eventually};

/// Two candidates, and two VMs.
struct Rivals {
    cluster: Cluster,
    leader: &'static str,
    other: &'static str,
}

impl Rivals {
    async fn start() -> Self {
        let settings = vec![("resource_monitor.on_stop", "retire".to_owned())];
        let cluster = Cluster::of(Plan { vms: 2, monitors: 2, settings, ..Plan::default() }).await;
        let names = ["resource-monitor", "resource-monitor-1"];
        let leads = names.map(|name| leads(&cluster, name));
        let [leader, other] = match leads {
            [true, false] => names,
            [false, true] => [names[1], names[0]],
            _ => panic!("one leads: {leads:?}"),
        };
        Self { cluster, leader, other }
    }

    async fn other_leads(&self) {
        eventually("the other leads", async || leads(&self.cluster, self.other)).await;
    }

    async fn fleet(&self) -> BTreeSet<VmId> {
        self.cluster.open_vms().await.into_iter().map(|vm| vm.vm).collect()
    }

    /// A VM dies, and another is there for it; the fleet that is whole again.
    async fn loses_a_vm(&self) -> BTreeSet<VmId> {
        let lost = self.cluster.open_vms().await.remove(0);
        self.cluster.kill_vm(&lost);
        eventually("the fleet is whole again", async || {
            let now = self.fleet().await;
            now.len() == 2 && !now.contains(&lost.vm)
        })
        .await;
        self.fleet().await
    }
}

fn leads(cluster: &Cluster, name: &str) -> bool {
    cluster.log(name).contains("this Resource Monitor leads")
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_leader_is_killed_another_leads_with_the_same_fleet() {
    let mut rivals = Rivals::start().await;
    let first = rivals.fleet().await;
    rivals.cluster.kill(rivals.leader);
    let killed = Instant::now();
    rivals.other_leads().await;
    println!("from the leader's end to another that leads: {:?}", killed.elapsed());
    assert!(killed.elapsed() < Duration::from_secs(15));
    eventually("it knows the fleet", async || rivals.fleet().await == first).await;
    // It keeps the fleet: what is lost is replaced, once, under an id that nobody had.
    let now = rivals.loses_a_vm().await;
    assert!(now.difference(&first).all(|new| first.iter().all(|old| new > old)), "{first:?} became {now:?}");
    // The one that was killed comes back and stands by.
    rivals.cluster.start_again(rivals.leader);
    tokio::time::sleep(Duration::from_secs(5)).await;
    let log = rivals.cluster.log(rivals.leader);
    assert_eq!(log.matches("this Resource Monitor leads").count(), 1, "{log}");
    assert_eq!(rivals.fleet().await, now);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_slept_while_another_led_ends_and_starts_nothing() {
    let mut rivals = Rivals::start().await;
    let sleeper = rivals.leader;
    rivals.cluster.freeze(sleeper, true);
    rivals.other_leads().await;
    eventually("it knows the fleet", async || rivals.fleet().await.len() == 2).await;
    // Something that the sleeper will want to make good when it wakes up, and that is made good already.
    let whole = rivals.loses_a_vm().await;
    rivals.cluster.freeze(sleeper, false);
    eventually("it has learned that it leads no more", async || {
        let log = rivals.cluster.log(sleeper);
        log.contains("another Resource Monitor leads; this one stands by")
            || log.contains("another Resource Monitor may lead")
    })
    .await;
    // Longer than anything that it may have had in mind: the death it now sees, and the reports that it missed.
    tokio::time::sleep(Duration::from_secs(6)).await;
    let log = rivals.cluster.log(sleeper);
    assert_eq!(rivals.fleet().await, whole, "{log}");
    let since = log.split("another Resource Monitor").nth(1).unwrap_or_default();
    assert!(!since.contains("started a VM") && !since.contains("ending a VM"), "{log}");
}
