//! Azure: Scheduled Events.
//!
//! **Knows:** events that are for this machine and end what runs on it: `Preempt`, `Terminate`, `Reboot`, `Redeploy`. A
//! `Freeze` is a pause of seconds, and no notice.
//! **Promises:** an event for other machines of the set is never acknowledged by us, and one of ours only when
//! nothing runs here any more: acknowledging ends the notice for every machine that it names. An event that has begun
//! keeps the deadline it had; one that vanishes was called off.
//! **Gives up:** the two minutes that the service may take to be switched on by the first question.

use std::collections::BTreeMap;
use std::sync::{Mutex as StdMutex, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use reqwest::Method;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::Mutex;
use vocabulary::Span;

use super::metadata::{Metadata, Rhythm, SOON};
use super::{NoticeSource, Said, dates};

const EVENTS_PATH: &str = "/metadata/scheduledevents?api-version=2020-07-01";
const NAME_PATH: &str = "/metadata/instance/compute/name?api-version=2021-02-01&format=text";
const METADATA: [(&str, &str); 1] = [("metadata", "true")];
/// How long the first answer may take.
const FIRST: Duration = Duration::from_secs(130);
const ENDINGS: [&str; 4] = ["Preempt", "Terminate", "Reboot", "Redeploy"];
/// More events at once are not for one machine.
const EVENTS_MAX: usize = 64;

/// Asks once per `vm.notice_poll_ms`.
pub struct Azure {
    metadata: Metadata,
    state: Mutex<State>,
    /// Events that wait for our acknowledgement.
    unacknowledged: StdMutex<Vec<String>>,
}

struct State {
    name: String,
    /// Where it was asked for, it is asked for again after trouble: who talks nonsense may have lied about it, too.
    is_learned: bool,
    rhythm: Rhythm,
    answered: bool,
    /// When each of our events begins, in unix seconds.
    open: BTreeMap<String, u64>,
    told: Option<u64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Document {
    events: Vec<Event>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Event {
    event_id: String,
    event_status: String,
    event_type: String,
    resources: Vec<String>,
    #[serde(default)]
    not_before: String,
}

impl Azure {
    /// As in [`messages::Notice::source`].
    pub const NAME: &'static str = "azure";

    /// For the machine of this name; where it is empty the service is asked for it.
    pub fn new(metadata: Metadata, name: &str) -> Self {
        let state = State {
            name: name.to_owned(),
            is_learned: name.is_empty(),
            rhythm: Rhythm::default(),
            answered: false,
            open: BTreeMap::new(),
            told: None,
        };
        Self { metadata, state: Mutex::new(state), unacknowledged: StdMutex::default() }
    }

    /// One question: something new, nothing new, or no answer.
    async fn look(&self, state: &mut State) -> Option<Option<Said>> {
        if state.name.is_empty() {
            let reply = self.metadata.ask(Method::GET, NAME_PATH, &METADATA, None, SOON).await?;
            let name = reply.text.trim();
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
            if reply.status != 200 || name.is_empty() || name.len() > 128 || !name.bytes().all(plain) {
                self.metadata.is_nonsense("the machine's name");
                return None;
            }
            name.clone_into(&mut state.name);
        }
        let patience = if state.answered { SOON } else { FIRST };
        let reply = self.metadata.ask(Method::GET, EVENTS_PATH, &METADATA, None, patience).await?;
        if reply.status != 200 {
            return None;
        }
        let Ok(document) = serde_json::from_str::<Document>(&reply.text) else {
            self.metadata.is_nonsense("scheduled events");
            return None;
        };
        state.answered = true;
        let (open, waiting) = ours(&document, &state.name, &state.open, reply.now);
        state.open = open;
        *self.unacknowledged.lock().unwrap_or_else(PoisonError::into_inner) = waiting;
        let end = state.open.values().min().copied();
        if state.told == end {
            return Some(None);
        }
        state.told = end;
        let left = |end: u64| Said::WillEnd(Span::seconds(end.saturating_sub(reply.now)));
        Some(Some(end.map_or(Said::CalledOff, left)))
    }
}

/// When each event begins that ends what runs on `name`, and those among them that wait for us alone.
fn ours(
    document: &Document,
    name: &str,
    known: &BTreeMap<String, u64>,
    now: u64,
) -> (BTreeMap<String, u64>, Vec<String>) {
    let mut open = BTreeMap::new();
    let mut waiting = Vec::new();
    for event in &document.events {
        let is_ours = event.resources.iter().any(|resource| resource.eq_ignore_ascii_case(name));
        if !is_ours || !ENDINGS.contains(&event.event_type.as_str()) || open.len() >= EVENTS_MAX {
            continue;
        }
        // Empty once it has begun, and from the start where hardware fails; what cannot be read means now.
        let begins = dates::rfc1123(&event.not_before);
        let begins = begins.or_else(|| known.get(&event.event_id).copied()).unwrap_or(now);
        open.insert(event.event_id.clone(), begins);
        if event.event_status == "Scheduled" && event.resources.len() == 1 {
            waiting.push(event.event_id.clone());
        }
    }
    (open, waiting)
}

impl NoticeSource for Azure {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn next(&self) -> BoxFuture<'_, Said> {
        Box::pin(async {
            let mut state = self.state.lock().await;
            loop {
                state.rhythm.rest(&self.metadata).await;
                let round = self.look(&mut state).await;
                if round.is_none() && state.is_learned {
                    state.name.clear();
                }
                if let Some(said) = state.rhythm.heard(round) {
                    return said;
                }
            }
        })
    }

    fn drained(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            let waiting =
                std::mem::take(&mut *self.unacknowledged.lock().unwrap_or_else(PoisonError::into_inner));
            if waiting.is_empty() {
                return;
            }
            let requests: Vec<_> = waiting.iter().map(|id| json!({ "EventId": id })).collect();
            let body = json!({ "StartRequests": requests }).to_string();
            let reply = self.metadata.ask(Method::POST, EVENTS_PATH, &METADATA, Some(body), SOON).await;
            match reply.map(|reply| reply.status) {
                Some(200) => tracing::info!(events = ?waiting, "nothing runs here any more: Azure may go on"),
                status => {
                    tracing::warn!(?status, "Azure did not take our acknowledgement; its deadline holds")
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(id: &str, kind: &str, status: &str, machines: &[&str], not_before: &str) -> serde_json::Value {
        json!({ "EventId": id, "EventType": kind, "EventStatus": status, "Resources": machines,
                "NotBefore": not_before, "ResourceType": "VirtualMachine", "DurationInSeconds": -1 })
    }

    #[test]
    fn only_what_ends_this_machine_counts_and_only_our_own_is_acknowledged() {
        let soon = "Tue, 09 Aug 2022 17:07:32 GMT";
        let document = json!({ "DocumentIncarnation": 1, "Events": [
            event("a", "Preempt", "Scheduled", &["me"], soon),
            event("b", "Preempt", "Scheduled", &["other"], soon),
            event("c", "Freeze", "Scheduled", &["me"], soon),
            event("d", "Reboot", "Scheduled", &["other", "ME"], soon),
            event("e", "Terminate", "Started", &["me"], ""),
        ] });
        let document: Document = serde_json::from_value(document).unwrap();
        let known = BTreeMap::from([("e".to_owned(), 77)]);
        let (open, waiting) = ours(&document, "me", &known, 99);
        let end = 1_660_064_852;
        assert_eq!(open, BTreeMap::from([("a".into(), end), ("d".into(), end), ("e".into(), 77)]));
        assert_eq!(waiting, ["a"]);
        // Hardware that fails gives no notice: it has begun before we hear of it.
        assert_eq!(ours(&document, "me", &BTreeMap::new(), 99).0["e"], 99);
    }
}
