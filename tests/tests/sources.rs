//! The sources of notices against a faithful metadata service, and against one that is not.
#![allow(missing_docs)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use actors::harvest_monitor::{NoticeSource, Said, of_cloud};
use actors::metrics::{InvokerMetrics, Metrics};
use actors::settings;
use chaos::metadata::{MetadataServer, Temper};
use vocabulary::Span;

/// A service for this machine, and what hears it.
struct Cloud {
    service: MetadataServer,
    sources: Vec<Arc<dyn NoticeSource>>,
    metrics: Metrics,
}

const MACHINE: &str = "vm-spot";

impl Cloud {
    fn of(name: &str) -> Self {
        let service = MetadataServer::start("127.0.0.1:0", MACHINE).unwrap();
        let settings = settings::Vm {
            notices: name.into(),
            metadata: service.url(),
            notice_poll_ms: 50,
            ..settings::Vm::default()
        };
        let metrics = Metrics::new("vm", "vm-1", &settings::Telemetry::default()).unwrap();
        let sources = of_cloud(&settings, &InvokerMetrics::new(&metrics));
        Self { service, sources, metrics }
    }

    async fn says(&self) -> Said {
        let next = self.sources[0].next();
        tokio::time::timeout(Duration::from_secs(30), next).await.expect("it says something")
    }

    async fn says_nothing_for(&self, time: Duration) {
        let next = self.sources[0].next();
        if let Ok(said) = tokio::time::timeout(time, next).await {
            panic!("it says {said:?}, asked {:?}", self.service.questions());
        }
    }

    fn count(&self, outcome: &str) -> u64 {
        let text = self.metrics.text();
        let line = text.lines().find(|line| {
            line.starts_with("windfall_metadata_questions_total{") && line.contains(&format!("\"{outcome}\""))
        });
        line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or_else(|| panic!("{text}"))
    }
}

/// That so much time is left, give or take what asking took and what dates in whole seconds lose.
#[track_caller]
fn assert_left(said: Said, seconds: u64) {
    let Said::WillEnd(left) = said else { panic!("{said:?}") };
    let range = Span::seconds(seconds.saturating_sub(15))..=Span::seconds(seconds);
    assert!(range.contains(&left), "{left} instead of {seconds} s");
}

#[tokio::test(flavor = "multi_thread")]
async fn aws_is_heard_with_a_token_that_may_run_out() {
    let cloud = Cloud::of("aws");
    cloud.says_nothing_for(Duration::from_millis(300)).await;
    cloud.service.evict(Duration::from_secs(120));
    assert_left(cloud.says().await, 120);
    cloud.service.forget_tokens();
    cloud.says_nothing_for(Duration::from_millis(300)).await;
    cloud.service.call_off();
    assert_eq!(cloud.says().await, Said::CalledOff);
    cloud.service.recommend_rebalance();
    assert_eq!(cloud.says().await, Said::MayEnd);
    cloud.says_nothing_for(Duration::from_millis(300)).await;
    let tokens = cloud.service.questions().iter().filter(|asked| asked.starts_with("PUT")).count();
    assert_eq!(tokens, 2, "one at the start, one when it was void");
}

#[tokio::test(flavor = "multi_thread")]
async fn azure_is_heard_for_this_machine_only_and_acknowledged_when_nothing_runs() {
    let cloud = Cloud::of("azure");
    cloud.service.azure_event("Preempt", &["vm-other"], Duration::from_secs(30));
    cloud.service.azure_event("Freeze", &[MACHINE], Duration::from_secs(30));
    cloud.says_nothing_for(Duration::from_millis(300)).await;
    cloud.sources[0].drained().await;
    assert!(cloud.service.acknowledged().is_empty(), "nothing of ours is open");
    cloud.service.evict(Duration::from_secs(30));
    assert_left(cloud.says().await, 30);
    cloud.sources[0].drained().await;
    assert_eq!(cloud.service.acknowledged().len(), 1);
    // It has begun now, and its NotBefore is empty: the deadline stays what it was.
    cloud.says_nothing_for(Duration::from_millis(300)).await;
    cloud.sources[0].drained().await;
    assert_eq!(cloud.service.acknowledged().len(), 1, "once");
    cloud.service.call_off();
    assert_eq!(cloud.says().await, Said::CalledOff);
    // What names others, too, is not ours to hurry.
    cloud.service.azure_event("Redeploy", &["vm-other", "VM-SPOT"], Duration::from_secs(600));
    assert_left(cloud.says().await, 600);
    cloud.sources[0].drained().await;
    assert_eq!(cloud.service.acknowledged().len(), 1);
    // Hardware that fails gives no notice.
    cloud.service.call_off();
    assert_eq!(cloud.says().await, Said::CalledOff);
    cloud.service.azure_event("Terminate", &[MACHINE], Duration::ZERO);
    assert_left(cloud.says().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn gcp_is_heard_the_moment_it_changes() {
    let cloud = Cloud::of("gcp");
    cloud.says_nothing_for(Duration::from_millis(800)).await;
    let asked = cloud.service.questions().len();
    assert!(asked <= 3, "it waits instead of asking again and again: {:?}", cloud.service.questions());
    let evicted = Instant::now();
    cloud.service.evict(Duration::from_secs(30));
    assert_left(cloud.says().await, 30);
    println!("a preemption was heard after {:?}", evicted.elapsed());
    cloud.service.call_off();
    assert_eq!(cloud.says().await, Said::CalledOff);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_misbehaves_says_nothing_costs_little_and_is_heard_again_when_it_is_well() {
    let tempers = [
        (Temper::Absent, "failed"),
        (Temper::Slow(Duration::from_secs(3600)), ""),
        (Temper::Garbage, "nonsense"),
        (Temper::Endless, "failed"),
        (Temper::Refusing(503), "refused"),
        (Temper::Refusing(302), ""),
        (Temper::Lying, "nonsense"),
    ];
    let every = ["aws", "azure", "gcp"].into_iter().flat_map(|name| tempers.map(|temper| (name, temper)));
    let all = every.map(async |(name, (temper, counted))| {
        let cloud = Cloud::of(name);
        cloud.service.behave(temper);
        cloud.says_nothing_for(Duration::from_secs(2)).await;
        let asked = cloud.service.questions().len();
        assert!(asked <= 30, "{name} {temper:?} was asked {asked} times in two seconds");
        if !counted.is_empty() {
            assert!(cloud.count(counted) > 0, "{name} {temper:?}: {}", cloud.metrics.text());
        }
        cloud.service.behave(Temper::Faithful);
        cloud.service.evict(Duration::from_secs(60));
        // Azure's first answer may take minutes, so a question that hangs there is cut off late; a new one is heard.
        if name == "azure" && matches!(temper, Temper::Slow(_)) {
            return;
        }
        let said = tokio::time::timeout(Duration::from_secs(25), cloud.says()).await;
        let said = said.unwrap_or_else(|_| panic!("{name} is not heard after {temper:?}"));
        assert_left(said, if name == "gcp" { 30 } else { 60 });
    });
    futures::future::join_all(all).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_cloud_nobody_is_asked() {
    let metrics = Metrics::new("vm", "vm-1", &settings::Telemetry::default()).unwrap();
    for notices in ["none", "auto"] {
        let settings = settings::Vm { notices: notices.into(), ..settings::Vm::default() };
        let began = Instant::now();
        let sources = of_cloud(&settings, &InvokerMetrics::new(&metrics));
        assert!(began.elapsed() < Duration::from_millis(500), "finding out took {:?}", began.elapsed());
        if notices == "none" {
            assert!(sources.is_empty());
        }
    }
}
