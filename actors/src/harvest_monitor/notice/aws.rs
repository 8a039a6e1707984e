//! AWS: the instance metadata service, version 2.
//!
//! **Knows:** `spot/instance-action`, which is 404 until two minutes before the end, and the recommendation to
//! rebalance, which has no deadline: a soft notice.
//! **Promises:** a token is fetched before it runs out, and anew when the service refuses it.
//! **Gives up:** machines on which the service is off or refuses tokens: there nothing is heard, which is counted.

use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use reqwest::Method;
use serde::Deserialize;
use tokio::sync::Mutex;
use vocabulary::Span;

use super::metadata::{Metadata, Reply, Rhythm, SOON};
use super::{NoticeSource, Said, dates};

const TOKEN_PATH: &str = "/latest/api/token";
const TOKEN_LIFE: &str = "21600";
/// A token is replaced when this much of its six hours is left.
const TOKEN_SPARE: Duration = Duration::from_secs(3600);
const ACTION_PATH: &str = "/latest/meta-data/spot/instance-action";
const REBALANCE_PATH: &str = "/latest/meta-data/events/recommendations/rebalance";

/// Asks once per `vm.notice_poll_ms`.
pub struct Aws {
    metadata: Metadata,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    token: Option<(String, Instant)>,
    rhythm: Rhythm,
    /// Unix seconds of the end that was told.
    told: Option<u64>,
    told_soft: bool,
}

/// As the service writes it. `hibernate` begins at once and has no time.
#[derive(Deserialize)]
struct Action {
    action: String,
    #[serde(default)]
    time: String,
}

impl Aws {
    /// As in [`messages::Notice::source`].
    pub const NAME: &'static str = "aws";

    /// Of this service.
    pub fn new(metadata: Metadata) -> Self {
        Self { metadata, state: Mutex::default() }
    }

    async fn token(&self, state: &mut State) -> Option<String> {
        if let Some((token, until)) = &state.token
            && *until > Instant::now() + TOKEN_SPARE
        {
            return Some(token.clone());
        }
        let life = [("x-aws-ec2-metadata-token-ttl-seconds", TOKEN_LIFE)];
        let reply = self.metadata.ask(Method::PUT, TOKEN_PATH, &life, None, SOON).await?;
        let fine =
            reply.status == 200 && !reply.text.is_empty() && reply.text.bytes().all(|b| b.is_ascii_graphic());
        if !fine {
            self.metadata.is_nonsense("a token");
            return None;
        }
        state.token = Some((reply.text.clone(), Instant::now() + Duration::from_secs(21_600)));
        Some(reply.text)
    }

    async fn get(&self, state: &mut State, path: &str) -> Option<Reply> {
        for _ in 0..2 {
            let token = self.token(state).await?;
            let headers = [("x-aws-ec2-metadata-token", token.as_str())];
            let reply = self.metadata.ask(Method::GET, path, &headers, None, SOON).await?;
            if reply.status != 401 {
                return Some(reply);
            }
            state.token = None;
        }
        None
    }

    /// One round of questions: something new, nothing new, or no answer.
    async fn look(&self, state: &mut State) -> Option<Option<Said>> {
        let reply = self.get(state, ACTION_PATH).await?;
        match reply.status {
            200 => {
                let end = end_of(&reply);
                let Some(end) = end else {
                    self.metadata.is_nonsense("an instance action");
                    return None;
                };
                if state.told != Some(end) {
                    state.told = Some(end);
                    return Some(Some(Said::WillEnd(Span::seconds(end.saturating_sub(reply.now)))));
                }
            }
            404 => {
                if state.told.take().is_some() {
                    return Some(Some(Said::CalledOff));
                }
            }
            _ => return None,
        }
        if !state.told_soft && self.get(state, REBALANCE_PATH).await?.status == 200 {
            state.told_soft = true;
            return Some(Some(Said::MayEnd));
        }
        Some(None)
    }
}

/// When it ends, in unix seconds.
fn end_of(reply: &Reply) -> Option<u64> {
    let action: Action = serde_json::from_str(&reply.text).ok()?;
    match action.action.as_str() {
        "terminate" | "stop" => dates::iso8601(&action.time),
        // The same each time it is asked, so that it is told once.
        "hibernate" => Some(dates::iso8601(&action.time).unwrap_or(0)),
        _ => None,
    }
}

impl NoticeSource for Aws {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn next(&self) -> BoxFuture<'_, Said> {
        Box::pin(async {
            let mut state = self.state.lock().await;
            loop {
                state.rhythm.rest(&self.metadata).await;
                let round = self.look(&mut state).await;
                if let Some(said) = state.rhythm.heard(round) {
                    return said;
                }
            }
        })
    }
}
