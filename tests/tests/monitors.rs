//! Several Resource Monitors: one leads.
#![allow(missing_docs)]

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use windfall_tests::{Cluster, Plan, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn when_the_leader_is_killed_another_leads_with_the_same_fleet() {
    let setting = |key, value: &str| (key, value.to_owned());
    let settings = vec![setting("resource_monitor.on_stop", "retire")];
    let mut cluster = Cluster::of(Plan { vms: 2, monitors: 2, settings, ..Plan::default() }).await;
    let fleet = async |cluster: &Cluster| -> BTreeSet<_> {
        cluster.open_vms().await.into_iter().map(|vm| vm.vm).collect()
    };
    let first = fleet(&cluster).await;
    let leads = |cluster: &Cluster, name: &str| cluster.log(name).contains("this Resource Monitor leads");
    let names = ["resource-monitor", "resource-monitor-1"];
    let leaders: Vec<&str> = names.into_iter().filter(|name| leads(&cluster, name)).collect();
    assert_eq!(leaders.len(), 1, "one leads");
    let other = names.into_iter().find(|name| *name != leaders[0]).unwrap();
    cluster.kill(leaders[0]);
    let killed = Instant::now();
    eventually("the other leads", async || leads(&cluster, other)).await;
    println!("from the leader's end to another that leads: {:?}", killed.elapsed());
    assert!(killed.elapsed() < Duration::from_secs(15));
    eventually("it knows the fleet", async || fleet(&cluster).await == first).await;
    // It keeps the fleet: what is lost is replaced, once, under an id that nobody had.
    let lost = cluster.open_vms().await.remove(0);
    cluster.kill_vm(&lost);
    eventually("the fleet is whole again", async || {
        let now = fleet(&cluster).await;
        now.len() == 2 && !now.contains(&lost.vm)
    })
    .await;
    let now = fleet(&cluster).await;
    assert!(now.difference(&first).all(|new| first.iter().all(|old| new > old)), "{first:?} became {now:?}");
    // The one that was killed comes back and stands by.
    cluster.start_again(leaders[0]);
    tokio::time::sleep(Duration::from_secs(5)).await;
    let log = cluster.log(leaders[0]);
    assert_eq!(log.matches("this Resource Monitor leads").count(), 1, "{log}");
    assert_eq!(fleet(&cluster).await, now);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_slept_while_another_led_ends_and_starts_nothing() {
    let setting = |key, value: &str| (key, value.to_owned());
    let settings = vec![setting("resource_monitor.on_stop", "retire")];
    let mut cluster = Cluster::of(Plan { vms: 2, monitors: 2, settings, ..Plan::default() }).await;
    let fleet = async |cluster: &Cluster| -> BTreeSet<_> {
        cluster.open_vms().await.into_iter().map(|vm| vm.vm).collect()
    };
    let leads = |cluster: &Cluster, name: &str| cluster.log(name).contains("this Resource Monitor leads");
    let names = ["resource-monitor", "resource-monitor-1"];
    let sleeper = names.into_iter().find(|name| leads(&cluster, name)).expect("one leads");
    let other = names.into_iter().find(|name| *name != sleeper).unwrap();
    cluster.freeze(sleeper, true);
    eventually("the other leads", async || leads(&cluster, other)).await;
    eventually("it knows the fleet", async || fleet(&cluster).await.len() == 2).await;
    // Something that the sleeper will want to make good when it wakes up, and that is made good already.
    let lost = cluster.open_vms().await.remove(0);
    cluster.kill_vm(&lost);
    eventually("the fleet is whole again", async || {
        let now = fleet(&cluster).await;
        now.len() == 2 && !now.contains(&lost.vm)
    })
    .await;
    let whole = fleet(&cluster).await;
    cluster.freeze(sleeper, false);
    eventually("it has learned that it leads no more", async || {
        let log = cluster.log(sleeper);
        log.contains("another Resource Monitor leads; this one stands by")
            || log.contains("another Resource Monitor may lead")
    })
    .await;
    // Longer than anything that it may have had in mind: the death it now sees, and the reports that it missed.
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!(fleet(&cluster).await, whole, "{}", cluster.log(sleeper));
    let log = cluster.log(sleeper);
    let since = log.split("another Resource Monitor").nth(1).unwrap_or_default();
    assert!(!since.contains("started a VM") && !since.contains("ending a VM"), "{log}");
}
