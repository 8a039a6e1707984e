//! Questions to a cloud's metadata service.
//!
//! **Promises:** whatever that service does, slow, absent, endless, nonsense, a question ends in time, takes no more
//! than [`LENGTH_MAX`] of memory, and is counted by how it ended. Proxies of the environment are not asked.
//! **Gives up:** telling one kind of trouble from another, beyond what the counts say.

use std::sync::Arc;
use std::time::Duration;

use reqwest::Method;

use super::{Said, dates};
use crate::metrics::{Asked, InvokerMetrics};
use crate::settings;

/// The longest answer that is read. Azure lists events of a whole scale set.
const LENGTH_MAX: usize = 256 << 10;
/// How long a connection may take: the service is on the same host.
const CONNECT: Duration = Duration::from_secs(1);
/// How long an answer may take that needs no waiting.
pub const SOON: Duration = Duration::from_secs(2);
/// The longest pause after trouble: a notice may be only 30 s long.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// The service, and how it has been lately.
pub struct Metadata {
    client: Option<reqwest::Client>,
    base: String,
    pub(super) pause: Duration,
    metrics: Arc<InvokerMetrics>,
}

/// The rhythm of questions: rounds of them, and a rest between two.
#[derive(Debug, Default)]
pub struct Rhythm {
    asked: bool,
    /// Rounds in a row that had no answer.
    troubles: u32,
}

impl Rhythm {
    /// Rests, before any round but the first.
    pub async fn rest(&mut self, metadata: &Metadata) {
        if std::mem::replace(&mut self.asked, true) {
            metadata.rest(self.troubles).await;
        }
    }

    /// A round told something new, nothing new, or had no answer: what is new.
    pub fn heard(&mut self, round: Option<Option<Said>>) -> Option<Said> {
        self.troubles = if round.is_some() { 0 } else { self.troubles.saturating_add(1) };
        round.flatten()
    }
}

/// What it said.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub text: String,
    pub etag: Option<String>,
    /// Whether GCP says that it is GCP.
    pub is_google: bool,
    /// The service's own clock, in unix seconds: ours may be wrong.
    pub now: u64,
}

impl Metadata {
    /// As configured.
    pub fn new(settings: &settings::Vm, metrics: Arc<InvokerMetrics>) -> Self {
        let client = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT)
            .pool_max_idle_per_host(1)
            .user_agent(concat!("windfall/", env!("CARGO_PKG_VERSION")))
            .build();
        if let Err(error) = &client {
            tracing::error!(%error, "the metadata service cannot be asked: no notice of the cloud will be heard");
        }
        let pause = Duration::from_millis(settings.notice_poll_ms);
        let base = settings.metadata.trim_end_matches('/').to_owned();
        Self { client: client.ok(), base, pause, metrics }
    }

    /// Asks, and waits no longer than `patience`. None where there was no answer that could be read.
    pub async fn ask(
        &self,
        method: Method,
        path: &str,
        headers: &[(&'static str, &str)],
        body: Option<String>,
        patience: Duration,
    ) -> Option<Reply> {
        let mut request =
            self.client.as_ref()?.request(method, format!("{}{path}", self.base)).timeout(patience);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body);
        }
        match read(request).await {
            Ok(reply) => {
                self.metrics.metadata_asked(if reply.status < 500 {
                    Asked::Answered
                } else {
                    Asked::Refused
                });
                Some(reply)
            }
            Err(error) => {
                tracing::debug!(path, error, "the metadata service");
                self.metrics.metadata_asked(Asked::Failed);
                None
            }
        }
    }

    /// What it said is not what it should say.
    pub fn is_nonsense(&self, what: &str) {
        tracing::debug!(what, "the metadata service talks nonsense");
        self.metrics.metadata_asked(Asked::Nonsense);
    }

    /// Waits until it may be asked again: longer with each trouble in a row.
    pub async fn rest(&self, troubles: u32) {
        let pause = self.pause.saturating_mul(1 << troubles.min(8));
        tokio::time::sleep(pause.min(LONGEST_PAUSE.max(self.pause))).await;
    }
}

async fn read(request: reqwest::RequestBuilder) -> Result<Reply, String> {
    let mut response = request.send().await.map_err(|error| error.to_string())?;
    let header = |name: &str| {
        let value = response.headers().get(name)?.to_str().ok()?;
        (value.len() <= 1024).then(|| value.to_owned())
    };
    let (etag, now) = (header("etag"), header("date").and_then(|date| dates::rfc1123(&date)));
    let is_google = header("metadata-flavor").is_some_and(|flavour| flavour == "Google");
    let status = response.status().as_u16();
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| error.to_string())? {
        if bytes.len() + chunk.len() > LENGTH_MAX {
            return Err(format!("an answer of more than {LENGTH_MAX} bytes"));
        }
        bytes.extend_from_slice(&chunk);
    }
    let text = String::from_utf8(bytes).map_err(|_| "an answer that is no text".to_owned())?;
    Ok(Reply { status, text, etag, is_google, now: now.unwrap_or_else(dates::now) })
}
