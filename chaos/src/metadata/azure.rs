//! Azure: Scheduled Events, and the machine's name.
//!
//! Written after `linux/scheduled-events.md` of the Azure documentation, api-version 2020-07-01, and a payload of a real
//! eviction.

use serde_json::{Value, json};

use super::http::{Answer, Question};
use super::{Fate, Temper, dates};

#[derive(Debug, Default)]
pub(super) struct Events {
    open: Vec<Event>,
    acknowledged: Vec<String>,
}

#[derive(Debug)]
struct Event {
    id: String,
    kind: String,
    machines: Vec<String>,
    /// Unix milliseconds.
    not_before: u64,
    has_started: bool,
}

impl Events {
    pub fn schedule(&mut self, kind: &str, machines: Vec<String>, not_before: u64, number: u64) {
        let id = format!("C1BF8322-4CBF-4FC4-9C45-{number:012X}");
        self.open.push(Event { id, kind: kind.to_owned(), machines, not_before, has_started: false });
    }

    pub fn clear(&mut self) {
        self.open.clear();
    }

    pub fn start_all(&mut self) {
        self.open.iter_mut().for_each(|event| event.has_started = true);
    }

    pub fn acknowledged(&self) -> &[String] {
        &self.acknowledged
    }

    /// Whether anything has changed by it.
    fn acknowledge(&mut self, id: &str) -> bool {
        let Some(event) = self.open.iter_mut().find(|event| event.id == id) else { return false };
        self.acknowledged.push(id.to_owned());
        !std::mem::replace(&mut event.has_started, true)
    }

    /// An event that nobody has acknowledged begins when its time has come.
    fn begin_due(&mut self) -> bool {
        let now = dates::unix_ms();
        let mut any = false;
        for event in self.open.iter_mut().filter(|event| !event.has_started && event.not_before <= now) {
            event.has_started = true;
            any = true;
        }
        any
    }

    fn document(&self, incarnation: u64) -> Value {
        let events: Vec<Value> = self
            .open
            .iter()
            .map(|event| {
                let (status, not_before) = match event.has_started {
                    true => ("Started", String::new()),
                    false => ("Scheduled", dates::rfc1123(event.not_before)),
                };
                json!({
                    "EventId": event.id, "EventStatus": status, "EventType": event.kind,
                    "ResourceType": "VirtualMachine", "Resources": event.machines, "NotBefore": not_before,
                    "Description": "", "EventSource": "Platform", "DurationInSeconds": -1,
                })
            })
            .collect();
        json!({ "DocumentIncarnation": incarnation, "Events": events })
    }
}

pub(super) fn answer(question: &Question, fate: &mut Fate) -> Answer {
    let bad =
        || Answer::json(400, &json!({ "error": "Bad request. Required metadata header not specified" }));
    if question.header("metadata") != Some("true") || question.parameter("api-version").is_none() {
        return bad();
    }
    match (question.method.as_str(), question.path()) {
        ("GET", "/metadata/instance/compute/name") => Answer::text(200, fate.name.clone()),
        ("GET", "/metadata/scheduledevents") if fate.temper == Temper::Lying => {
            let event = json!({
                "EventId": 7, "EventStatus": "Perhaps", "EventType": "Preempt", "Resources": [fate.name],
                "NotBefore": "Someday, 99 Foo 99999 99:99:99 GMT",
            });
            Answer::json(200, &json!({ "DocumentIncarnation": "many", "Events": [event, null, 3] }))
        }
        ("GET", "/metadata/scheduledevents") => {
            if fate.azure.begin_due() {
                fate.change += 1;
            }
            Answer::json(200, &fate.azure.document(fate.change))
        }
        ("POST", "/metadata/scheduledevents") => {
            let Ok(body) = serde_json::from_slice::<Value>(&question.body) else { return bad() };
            let Some(requests) = body["StartRequests"].as_array() else { return bad() };
            let ids: Option<Vec<&str>> = requests.iter().map(|request| request["EventId"].as_str()).collect();
            let Some(ids) = ids else { return bad() };
            for id in ids {
                if fate.azure.acknowledge(id) {
                    fate.change += 1;
                }
            }
            Answer::text(200, "")
        }
        _ => Answer::text(404, ""),
    }
}
