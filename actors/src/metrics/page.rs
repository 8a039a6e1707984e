//! `/metrics` of a role that has no HTTP door of its own.

use std::net::SocketAddr;

use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::{Metrics, MetricsError};

/// Prometheus's text format.
pub const TEXT_FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A page that is being served; it ends when this is dropped.
pub struct Page {
    /// Where it is, with the port that was free where 0 was asked for.
    pub address: SocketAddr,
    server: JoinHandle<()>,
}

impl Drop for Page {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// Serves `/metrics` (and `/healthz`, which says `ok` while the process runs its tasks) at `address`,
/// `host:port`; `None` where that is empty.
pub async fn serve(address: &str, metrics: &Metrics) -> Result<Option<Page>, MetricsError> {
    if address.is_empty() {
        return Ok(None);
    }
    let trouble = |source| MetricsError::Listen { address: address.to_owned(), source };
    let listener = TcpListener::bind(address).await.map_err(trouble)?;
    let bound = listener.local_addr().map_err(trouble)?;
    let metrics = metrics.clone();
    let pages = Router::new()
        .route("/metrics", get(move || async move { ([(CONTENT_TYPE, TEXT_FORMAT)], metrics.text()) }))
        .route("/healthz", get(async || "ok\n"));
    let server = tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, pages).await {
            tracing::warn!(%error, "the metrics page ended");
        }
    });
    Ok(Some(Page { address: bound, server }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Telemetry;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test]
    async fn the_page_is_served_where_it_says() {
        let metrics = Metrics::new("controller", "controller-1", &Telemetry::default()).unwrap();
        let page = serve("127.0.0.1:0", &metrics).await.unwrap().unwrap();
        let mut stream = tokio::net::TcpStream::connect(page.address).await.unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert!(answer.contains("text/plain; version=0.0.4"), "{answer}");
        assert!(answer.contains("windfall_build_info{version="), "{answer}");
    }

    #[tokio::test]
    async fn no_address_means_no_page_and_a_taken_one_says_so() {
        let metrics = Metrics::new("controller", "controller-1", &Telemetry::default()).unwrap();
        assert!(serve("", &metrics).await.unwrap().is_none());
        let page = serve("127.0.0.1:0", &metrics).await.unwrap().unwrap();
        let error = serve(&page.address.to_string(), &metrics).await.err().unwrap();
        assert!(error.to_string().contains("Is the port taken"), "{error}");
    }
}
