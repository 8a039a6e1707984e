//! A small OTLP/HTTP receiver: traces as a real collector gets them.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::routing::post;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use prost::Message;

/// One span that was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// Who told it: `service.name`.
    pub service: String,
    /// Its name.
    pub name: String,
    /// Lower-case hexadecimal.
    pub trace: String,
    /// Lower-case hexadecimal.
    pub id: String,
    /// Lower-case hexadecimal; empty for none.
    pub parent: String,
}

/// Listens on a free port of the loopback until the runtime ends.
#[derive(Debug, Clone)]
pub struct Collector {
    /// `http://host:port`.
    pub endpoint: String,
    spans: Arc<Mutex<Vec<Told>>>,
}

impl Collector {
    /// Starts listening.
    pub async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let endpoint = format!("http://{}", listener.local_addr().expect("its address"));
        let spans: Arc<Mutex<Vec<Told>>> = Arc::default();
        let app = Router::new()
            .route("/v1/traces", post(take))
            .route("/v1/metrics", post(|_: Bytes| async {}))
            .with_state(Arc::clone(&spans));
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { endpoint, spans }
    }

    /// The spans of one trace that have been told so far.
    pub fn of_trace(&self, trace: &str) -> Vec<Told> {
        let spans = self.spans.lock().expect("nobody panics holding this lock");
        spans.iter().filter(|span| span.trace == trace).cloned().collect()
    }
}

async fn take(State(spans): State<Arc<Mutex<Vec<Told>>>>, body: Bytes) {
    let request = ExportTraceServiceRequest::decode(body).expect("an OTLP request");
    let mut told = spans.lock().expect("nobody panics holding this lock");
    for of_resource in request.resource_spans {
        let attributes = of_resource.resource.unwrap_or_default().attributes;
        let service = attributes.into_iter().find(|one| one.key == "service.name");
        let service = match service.and_then(|one| one.value?.value) {
            Some(Value::StringValue(name)) => name,
            _ => String::new(),
        };
        for span in of_resource.scope_spans.into_iter().flat_map(|scope| scope.spans) {
            told.push(Told {
                service: service.clone(),
                name: span.name,
                trace: hexadecimal(&span.trace_id),
                id: hexadecimal(&span.span_id),
                parent: hexadecimal(&span.parent_span_id),
            });
        }
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
