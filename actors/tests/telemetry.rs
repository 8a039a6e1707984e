//! Traces as a real receiver gets them: a small OTLP collector over HTTP.
//!
//! One test, because a process sets up its telemetry once.
#![allow(missing_docs)]

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use actors::metrics::{FrontendMetrics, Metrics};
use actors::settings;
use actors::telemetry::{self, Attribute};
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::routing::post;
use messages::TraceContext;
use opentelemetry::trace::SpanKind;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use tracing::Instrument;

#[derive(Clone, Default)]
struct Received {
    spans: Arc<Mutex<Vec<Span>>>,
    services: Arc<Mutex<Vec<String>>>,
    metrics: Arc<Mutex<usize>>,
}

async fn traces(State(received): State<Received>, body: Bytes) {
    let request = ExportTraceServiceRequest::decode(body).expect("an OTLP request");
    for of_resource in request.resource_spans {
        let attributes = of_resource.resource.unwrap_or_default().attributes;
        received
            .services
            .lock()
            .unwrap()
            .extend(attributes.iter().map(|a| format!("{}={:?}", a.key, a.value)));
        for of_scope in of_resource.scope_spans {
            received.spans.lock().unwrap().extend(of_scope.spans);
        }
    }
}

async fn metrics(State(received): State<Received>, body: Bytes) {
    assert!(!body.is_empty());
    *received.metrics.lock().unwrap() += 1;
}

fn caller(flags: &str) -> TraceContext {
    let id = "4bf92f3577b34da6a3ce929d0e0e4736";
    telemetry::accept(Some(&format!("00-{id}-00f067aa0ba902b7-{flags}")), Some("vendor=1")).unwrap()
}

/// One invocation as the house tells it, each line in another process.
fn invocation(trace: Option<&TraceContext>) -> Option<TraceContext> {
    let mut frontend = telemetry::start("invoke", trace, SpanKind::Server)?;
    frontend.attribute("windfall.function", "guest/hello");
    let submit = frontend.context();
    let controller = telemetry::child("dispatch", Some(&submit), SpanKind::Consumer)?;
    let run = controller.context();
    let now = SystemTime::now();
    telemetry::record("queue wait", Some(&run), now - Duration::from_millis(5), now, vec![])?;
    let mut invoker = telemetry::child("run", Some(&run), SpanKind::Consumer)?;
    let cold = vec![Attribute::new("windfall.kind", "python:3")];
    telemetry::record("cold start", Some(&invoker.context()), now, now + Duration::from_millis(7), cold)?;
    invoker.event("answered", vec![]);
    invoker.failed("it was only a test");
    let sandbox = invoker.context();
    invoker.end();
    controller.end();
    frontend.end();
    Some(sandbox)
}

#[test]
fn an_invocation_is_one_trace_with_its_queue_wait_and_cold_start() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let received = Received::default();
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let app = Router::new()
        .route("/v1/traces", post(traces))
        .route("/v1/metrics", post(metrics))
        .with_state(received.clone());
    runtime.spawn(async move { axum::serve(listener, app).await });

    // Without an endpoint nothing begins, and after `init` a second one is refused.
    assert!(invocation(Some(&caller("01"))).is_none());
    let settings = settings::Telemetry {
        otlp_endpoint: endpoint,
        sample: 1.0,
        log: "info".into(),
        log_format: "json".into(),
    };
    // As a role does it: inside of its runtime.
    let guard = runtime.block_on(async { telemetry::init(&settings, "test", "test-1") }).unwrap();
    assert!(telemetry::init(&settings, "test", "test-1").is_err());
    assert!(telemetry::on());

    let sandbox = invocation(Some(&caller("01"))).unwrap();
    assert_eq!(&sandbox.traceparent[..36], "00-4bf92f3577b34da6a3ce929d0e0e4736-");
    assert!(sandbox.traceparent.ends_with("-01"));
    assert_eq!(sandbox.tracestate.as_deref(), Some("vendor=1"));
    // A caller who does not trace is not traced, and neither is whoever has no parent on the way.
    assert!(invocation(Some(&caller("00"))).is_none());
    assert!(telemetry::child("run", None, SpanKind::Consumer).is_none());
    let broken = TraceContext { traceparent: "nonsense".into(), tracestate: None };
    assert!(telemetry::child("run", Some(&broken), SpanKind::Consumer).is_none());
    // A call without a trace gets one of its own, since all are sampled here.
    let own = invocation(None).unwrap();
    assert_ne!(&own.traceparent[..36], &sandbox.traceparent[..36]);

    // A panic in a task is logged and changes nothing else; `tracing` spans come out as spans.
    let span = tracing::info_span!("handle", actor = "controller");
    let task = runtime.spawn(async { panic!("as an actor might") }.instrument(span));
    assert!(runtime.block_on(task).unwrap_err().is_panic());

    let counted = runtime.block_on(async { Metrics::new("frontend", "frontend-1", &settings) }).unwrap();
    FrontendMetrics::new(&counted).called_by_nats();
    counted.flush();
    guard.stop(Duration::from_secs(10));
    assert!(!telemetry::on());
    assert_eq!(*received.metrics.lock().unwrap(), 1);

    let spans = std::mem::take(&mut *received.spans.lock().unwrap());
    let services = std::mem::take(&mut *received.services.lock().unwrap());
    assert!(
        services.iter().any(|s| s.contains("service.name") && s.contains("windfall-test")),
        "{services:?}"
    );
    let trace = u128::from_str_radix(&sandbox.traceparent[3..35], 16).unwrap().to_be_bytes();
    let told: HashMap<&str, &Span> =
        spans.iter().filter(|span| span.trace_id == trace).map(|span| (span.name.as_str(), span)).collect();
    assert_eq!(told.len(), 5, "{:?}", told.keys());
    let parent = |name: &str| told[name].parent_span_id.clone();
    let id = |name: &str| told[name].span_id.clone();
    assert_eq!(parent("invoke"), 0x00f0_67aa_0ba9_02b7_u64.to_be_bytes());
    assert_eq!(parent("dispatch"), id("invoke"));
    assert_eq!(parent("queue wait"), id("dispatch"));
    assert_eq!(parent("run"), id("dispatch"));
    assert_eq!(parent("cold start"), id("run"));
    let took = |name: &str| told[name].end_time_unix_nano - told[name].start_time_unix_nano;
    assert_eq!((took("queue wait"), took("cold start")), (5_000_000, 7_000_000));
    assert_eq!(told["run"].events[0].name, "answered");
    assert_eq!(told["run"].status.as_ref().unwrap().message, "it was only a test");
    assert_eq!(told["invoke"].attributes[0].key, "windfall.function");
    // The second trace is whole too, and the untraced calls left nothing.
    let of_own = spans.iter().filter(|span| span.trace_id != trace && span.name != "handle").count();
    assert_eq!(of_own, 5);
    let handled = spans.iter().find(|span| span.name == "handle").expect("the tracing span");
    assert!(handled.events.iter().any(|event| event.name == "panicked"), "{handled:?}");
}
