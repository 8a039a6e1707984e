//! GCP: preemption, and maintenance that ends the instance.
//!
//! **Knows:** two keys whose change the service tells at once: the question waits there for it.
//! **Promises:** a service that answers at once instead of waiting is asked no more often than `vm.notice_poll_ms`.
//! **Gives up:** a deadline of its own: GCP names none, so it is 30 s for a preemption and 60 s for maintenance, as
//! documented, from when we hear of it.

use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use reqwest::Method;
use tokio::sync::Mutex;
use vocabulary::Span;

use super::metadata::{Metadata, SOON};
use super::{NoticeSource, Said};

const FLAVOUR: [(&str, &str); 1] = [("metadata-flavor", "Google")];
/// How long the service is asked to wait for a change.
const WAIT_S: u64 = 60;
/// A question that was to wait and came back sooner without news has not waited.
const TOO_SOON: Duration = Duration::from_millis(500);

/// Watches one key.
pub struct Gcp {
    metadata: Metadata,
    key: &'static str,
    ends: fn(&str) -> Option<bool>,
    time_left: Span,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    etag: Option<String>,
    asked_at: Option<Instant>,
    troubles: u32,
    told: bool,
}

impl Gcp {
    /// As in [`messages::Notice::source`].
    pub const NAME: &'static str = "gcp";

    /// `preempted`: 30 s.
    pub fn preemption(metadata: Metadata) -> Self {
        Self::of(metadata, "preempted", Span::seconds(30), |value| match value {
            "TRUE" => Some(true),
            "FALSE" => Some(false),
            _ => None,
        })
    }

    /// `maintenance-event`: 60 s where the instance is ended and not moved.
    pub fn maintenance(metadata: Metadata) -> Self {
        Self::of(metadata, "maintenance-event", Span::seconds(60), |value| match value {
            "TERMINATE_ON_HOST_MAINTENANCE" => Some(true),
            "NONE" | "MIGRATE_ON_HOST_MAINTENANCE" => Some(false),
            _ => None,
        })
    }

    fn of(metadata: Metadata, key: &'static str, time_left: Span, ends: fn(&str) -> Option<bool>) -> Self {
        Self { metadata, key, ends, time_left, state: Mutex::default() }
    }

    /// One question: whether the instance ends, or no answer.
    async fn look(&self, state: &mut State) -> Option<bool> {
        let mut path = format!("/computeMetadata/v1/instance/{}", self.key);
        let mut patience = SOON;
        if let Some(etag) = &state.etag {
            path += &format!("?wait_for_change=true&timeout_sec={WAIT_S}&last_etag={etag}");
            patience += Duration::from_secs(WAIT_S);
        }
        let reply = self.metadata.ask(Method::GET, &path, &FLAVOUR, None, patience).await?;
        if reply.status != 200 {
            return None;
        }
        let ends = (self.ends)(reply.text.trim());
        if !reply.is_google || ends.is_none() {
            self.metadata.is_nonsense(self.key);
            return None;
        }
        let plain = |etag: &String| etag.bytes().all(|byte| byte.is_ascii_alphanumeric());
        state.etag = reply.etag.filter(plain);
        ends
    }
}

impl NoticeSource for Gcp {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn next(&self) -> BoxFuture<'_, Said> {
        Box::pin(async {
            let mut state = self.state.lock().await;
            loop {
                // Unless it has waited for us, we wait.
                if state.asked_at.is_some_and(|at| state.troubles > 0 || at.elapsed() < TOO_SOON) {
                    self.metadata.rest(state.troubles).await;
                }
                let first = state.etag.is_none();
                state.asked_at = Some(Instant::now());
                match self.look(&mut state).await {
                    Some(ends) => {
                        state.troubles = 0;
                        if std::mem::replace(&mut state.told, ends) != ends {
                            return if ends { Said::WillEnd(self.time_left) } else { Said::CalledOff };
                        }
                        if first && state.etag.is_some() {
                            // The first question only asks what to wait for.
                            state.asked_at = None;
                        }
                    }
                    None => {
                        state.troubles = state.troubles.saturating_add(1);
                        state.etag = None;
                    }
                }
            }
        })
    }
}
