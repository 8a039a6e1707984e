//! The HTTP door: a server whose every answer is OpenWhisk's.
//!
//! **Knows:** sockets, connections and when to stop. What is answered is decided in [`super::openwhisk`].
//! **Promises:** at most [`CONNECTIONS`] are open, more wait to be accepted; a body is judged by its Content-Length
//! before a byte of it is read, and all bodies in hand together stay below `frontend.held_mib`; whatever is
//! asked is answered in JSON, with the caller's `X-Request-ID`; stopping lets open calls end.
//! **Gives up:** TLS and HTTP/2: a proxy in front has them.

mod listener;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::response::Response;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use self::listener::Limited;
use super::desk::Desk;
use super::openwhisk::{Door, Manifest};
use crate::metrics::FrontendMetrics;
use crate::settings::Settings;
use crate::store::Store;

/// Connections that are open at once. Each costs some kilobytes and one descriptor; a proxy in front needs far
/// fewer.
pub const CONNECTIONS: usize = 16_384;

/// A connection on which nothing moves for so much longer than a blocking call may wait is closed.
const SILENCE: Duration = Duration::from_secs(60);

/// How often code without a function is looked for.
const SWEEP_EVERY: Duration = Duration::from_secs(3600);

/// Code so old may be removed when no function refers to it: longer than any update or cold start takes.
const SWEEP_GRACE: Duration = Duration::from_secs(24 * 3600);

/// What the door is made of.
#[derive(Clone)]
pub struct HttpDoor {
    /// Functions, namespaces, records.
    pub store: Store,
    /// Where calls are handed in.
    pub desk: Desk,
    /// Address, limits.
    pub settings: Arc<Settings>,
    /// Kinds that functions may be of.
    pub manifest: Manifest,
    /// What is counted.
    pub metrics: Arc<FrontendMetrics>,
    /// The text of `/metrics`.
    pub page: Arc<dyn Fn() -> String + Send + Sync>,
}

/// The address cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address} for HTTP: {source}. Is the port taken, or frontend.http not host:port?")]
pub struct HttpError {
    address: String,
    source: std::io::Error,
}

/// A door that is open.
pub struct OpenDoor {
    /// Where, with the port that was free where 0 was asked for.
    pub address: SocketAddr,
    stop: watch::Sender<bool>,
    server: JoinHandle<()>,
    sweeper: JoinHandle<()>,
}

impl HttpDoor {
    /// Listens and answers until it is stopped.
    ///
    /// # Errors
    /// The address cannot be had.
    pub async fn open(self) -> Result<OpenDoor, HttpError> {
        let address = self.settings.frontend.http.clone();
        let trouble = |source| HttpError { address: address.clone(), source };
        let listener = TcpListener::bind(&address).await.map_err(trouble)?;
        let bound = listener.local_addr().map_err(trouble)?;
        let silence = Duration::from_millis(self.settings.frontend.blocking_wait_ms).saturating_add(SILENCE);
        let sweeper = tokio::spawn(sweep(self.store.clone()));
        let app = Router::new().fallback(answer).with_state(Arc::new(Door::new(self)));
        let (stop, mut stopped) = watch::channel(false);
        let server = tokio::spawn(async move {
            let serving = axum::serve(Limited::new(listener, CONNECTIONS, silence), app)
                .with_graceful_shutdown(async move {
                    let _ = stopped.wait_for(|stopped| *stopped).await;
                });
            if let Err(error) = serving.await {
                tracing::error!(%error, "the HTTP door ended");
            }
        });
        Ok(OpenDoor { address: bound, stop, server, sweeper })
    }
}

/// Removes code that the doors have stored and no function refers to any more. Several Frontends may do so at
/// once.
async fn sweep(store: Store) {
    let mut every = tokio::time::interval_at(tokio::time::Instant::now() + SWEEP_EVERY, SWEEP_EVERY);
    loop {
        every.tick().await;
        // A definition that this build cannot read refers to code that this build would take for unused.
        if store.functions().unreadable() > 0 {
            continue;
        }
        let functions = store.functions().all();
        let used =
            functions.iter().filter_map(|function| Some(function.code.as_ref()?.digest.clone())).collect();
        match store.code().sweep(&used, SWEEP_GRACE).await {
            Ok(0) => {}
            Ok(removed) => tracing::info!(removed, "removed code that no function refers to"),
            Err(error) => tracing::warn!(%error, "could not look for unused code; trying again in an hour"),
        }
    }
}

async fn answer(State(door): State<Arc<Door>>, request: Request) -> Response {
    door.answer(request).await
}

impl OpenDoor {
    /// Takes nothing new and lets open calls end, for `patience` at most; whether all of them did.
    pub async fn stop(mut self, patience: Duration) -> bool {
        let _ = self.stop.send(true);
        let ended = tokio::time::timeout(patience, &mut self.server).await.is_ok();
        if !ended {
            self.server.abort();
        }
        ended
    }
}

impl Drop for OpenDoor {
    fn drop(&mut self) {
        self.server.abort();
        self.sweeper.abort();
    }
}
