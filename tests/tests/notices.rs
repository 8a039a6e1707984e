//! A cloud's notice, from its metadata service to the Controller and back, through a real cluster.
#![allow(missing_docs)]

use std::time::{Duration, Instant};

use chaos::metadata::MetadataServer;
use futures::StreamExt;
use messages::{FleetVm, Notice, subjects};
use serde_json::json;
use vocabulary::{Span, VmId, VmStanding};
use windfall_tests::functions::{SLEEP, python, with};
use windfall_tests::{Cluster, Plan, eventually};

const VM: VmId = VmId(0xc10d);

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

async fn seen(cluster: &Cluster) -> Option<FleetVm> {
    cluster.fleet().await.into_iter().find(|vm| vm.vm == VM)
}

/// What the Controller has counted.
async fn notices_at_controller(address: &str) -> u64 {
    let http = windfall_tests::Http::new(format!("http://{address}"), String::new());
    let body = http.get("/metrics").await.body;
    let page = String::from_utf8_lossy(&body);
    let line = page.lines().find(|line| line.starts_with("windfall_eviction_notices_total"));
    line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_clouds_notice_reaches_the_controller_and_is_taken_back() {
    let page = format!("127.0.0.1:{}", free_port());
    let settings = vec![("controller.metrics", page.clone())];
    let mut cluster = Cluster::of(Plan { vms: 0, settings, ..Plan::default() }).await;
    let limits = json!({ "limits": { "memory": 128, "cpu": 100 } });
    cluster.http.deploy("sleep", &with(python(SLEEP), limits)).await;
    let client = cluster.nats().await.client;
    let mut notices = client.subscribe(subjects::NOTICES).await.unwrap();
    client.flush().await.unwrap();
    for (cloud, left) in [("azure", 30), ("aws", 120), ("gcp", 30)] {
        let service = MetadataServer::start("127.0.0.1:0", "vm-spot").unwrap();
        cluster.launch_vm_with(
            VM,
            &[
                ("vm.capacity", "fixed".to_owned()),
                ("vm.cpu", "1000".to_owned()),
                ("vm.memory", "1024".to_owned()),
                ("vm.notices", cloud.to_owned()),
                ("vm.metadata", service.url()),
            ],
        );
        let stands = async |standing| {
            seen(&cluster)
                .await
                .is_some_and(|vm| vm.standing == Some(standing) && vm.silent < Some(Span::seconds(3)))
        };
        eventually("the VM is open", async || stands(VmStanding::Open).await).await;
        eventually("it takes work", async || {
            cluster.http.call("sleep", &json!({ "seconds": 0 })).await.status == 200
        })
        .await;
        let before = notices_at_controller(&page).await;

        let evicted = Instant::now();
        service.evict(Duration::from_secs(left));
        let mut next = async || {
            let message =
                tokio::time::timeout(Duration::from_secs(30), notices.next()).await.unwrap().unwrap();
            messages::decode::<Notice>(&message.payload).unwrap()
        };
        let notice = next().await;
        println!("{cloud}: from the metadata service to a Notice in {:?}", evicted.elapsed());
        assert_eq!((notice.vm, notice.source.as_str()), (VM, cloud));
        let said = notice.time_left.unwrap();
        assert!(said <= Span::seconds(left) && said > Span::seconds(left - 15), "{said}");
        eventually("the Controller knows", async || notices_at_controller(&page).await > before).await;
        eventually("it takes nothing new", async || stands(VmStanding::Draining).await).await;
        let listed = seen(&cluster).await.unwrap().notice.expect("the list shows the notice");
        assert!(listed.source == cloud && listed.time_left <= Span::seconds(left), "{listed:?}");
        let table = cluster.operate(&["vm", "list"]).await;
        assert!(table.contains(cloud) && table.contains("fixed"), "{table}");
        if cloud == "azure" {
            eventually("nothing runs, so Azure need not wait", async || !service.acknowledged().is_empty())
                .await;
        }
        let waiting = tokio::spawn({
            let http = cluster.http.clone();
            async move { http.call("sleep", &json!({ "seconds": 0 })).await.status }
        });

        service.call_off();
        let mut notice = next().await;
        while notice.time_left.is_some() {
            notice = next().await; // Said again, in case somebody missed it.
        }
        assert_eq!(notice.source, cloud);
        eventually("it takes work again", async || stands(VmStanding::Open).await).await;
        assert_eq!(waiting.await.unwrap(), 200, "what waited for a place runs");
        assert!(seen(&cluster).await.unwrap().notice.is_none());
        cluster.kill(&VM.to_string());
        while let Ok(Some(_)) = tokio::time::timeout(Duration::from_millis(1_500), notices.next()).await {}
        cluster.forget(&VM.to_string());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_evicts_a_vm_takes_it_back_and_lets_it_go() {
    let mut cluster = Cluster::of(Plan { vms: 1, ..Plan::default() }).await;
    let vm = cluster.open_vms().await.remove(0).vm;
    let said = cluster.operate(&["vm", "evict", &vm.to_string(), "--in", "60s"]).await;
    assert!(said.contains("60.00 s"), "{said}");
    eventually("it drains and another is there", async || {
        let fleet = cluster.fleet().await;
        let evicted = fleet.iter().find(|each| each.vm == vm);
        evicted.is_some_and(|vm| vm.standing == Some(VmStanding::Draining) && vm.notice.is_some())
            && cluster.open_vms().await.len() == 1
    })
    .await;
    cluster.operate(&["vm", "evict", &vm.to_string(), "--cancel"]).await;
    eventually("it was called off", async || cluster.open_vms().await.iter().all(|vm| vm.notice.is_none()))
        .await;
    let vm = cluster.open_vms().await.remove(0).vm;
    let began = Instant::now();
    cluster.operate(&["vm", "evict", &vm.to_string(), "--in", "2s"]).await;
    eventually("it is gone, and another is there", async || {
        let fleet = cluster.fleet().await;
        fleet.iter().all(|each| each.vm != vm) && cluster.open_vms().await.len() == 1
    })
    .await;
    assert!(began.elapsed() >= Duration::from_secs(2), "not before its deadline");
    cluster.is_ready().await;
}
