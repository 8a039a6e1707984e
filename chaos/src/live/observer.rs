//! Who listens to the house: what was sent to which VM, what was answered, what was declared void, what VMs said.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_nats::Message;
use futures::StreamExt;
use messages::{Cancel, Notice, Reply, Report, Run, Submit};
use vocabulary::{Attempt, InvocationId, MilliCores, Resources, Span, VmId, VmStanding};

use super::{Clock, House, LiveError};
use crate::events::{Entry, Event};

/// What the house listens to.
const SUBJECTS: [&str; 8] = [
    "windfall.*.submit",
    "windfall.*.run",
    "windfall.*.cancel",
    "windfall.*.answer.*",
    "windfall.report.*",
    "windfall.notice.*",
    RECORD_ASKED,
    RECORD_ASKED_OF_ANY_COPY,
];
/// Somebody asks JetStream for a record: of the leader of its stream...
const RECORD_ASKED: &str = "$JS.API.STREAM.MSG.GET.WINDFALL_RECORDS";
/// ...or of whichever server has a copy.
const RECORD_ASKED_OF_ANY_COPY: &str = "$JS.API.DIRECT.GET.WINDFALL_RECORDS";
/// Sources of notices that are a metadata service.
const CLOUDS: [&str; 3] = ["azure", "aws", "gcp"];
/// Bookings that are remembered of one run: some hundred bytes each.
const BOOKINGS: usize = 2_000_000;

/// What was seen. A connection that is lost for a moment misses what was said meanwhile.
#[derive(Debug, Default, Clone)]
pub(super) struct Sight {
    /// Where and when each attempt was sent.
    pub runs: BTreeMap<(InvocationId, Attempt), (VmId, Span)>,
    /// When each attempt's answer went to its Frontend for the first time.
    pub answers: BTreeMap<(InvocationId, Attempt), Span>,
    /// When the record of an invocation was asked for.
    pub records_asked: BTreeMap<InvocationId, Vec<Span>>,
    /// Fences, in the order in which they were heard.
    pub fences: Vec<Entry>,
    /// What was sent to VMs and what they say they hold, in the order in which it was heard.
    pub bookings: Vec<Entry>,
    /// What each VM said of itself.
    pub looks: BTreeMap<VmId, Vec<Look>>,
    /// When everybody was told that a VM has ended.
    pub told: BTreeMap<VmId, Span>,
    /// When a VM first passed on what a cloud has told it.
    pub heard: BTreeMap<VmId, Span>,
    /// What each VM held in its last report.
    held: BTreeMap<VmId, BTreeMap<(InvocationId, Attempt), Resources>>,
}

/// One report, as far as times are taken by it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Look {
    pub at: Span,
    pub cpu: MilliCores,
    /// Takes nothing new, and nothing runs there any more.
    pub is_drained: bool,
}

pub(super) struct Observer {
    sight: Arc<Mutex<Sight>>,
    listener: tokio::task::JoinHandle<()>,
}

fn locked(sight: &Mutex<Sight>) -> MutexGuard<'_, Sight> {
    sight.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Observer {
    pub async fn start(house: &House, clock: Clock) -> Result<Self, LiveError> {
        let listening = |error: String| LiveError::nats("listening to the house")(error);
        let mut all = Vec::new();
        for subject in SUBJECTS {
            let heard = house.nats.subscribe(subject).await;
            all.push(heard.map_err(|error| listening(error.to_string()))?);
        }
        house.nats.flush().await.map_err(|error| listening(error.to_string()))?;
        let sight: Arc<Mutex<Sight>> = Arc::default();
        let seen = Arc::clone(&sight);
        let mut all = futures::stream::select_all(all);
        let listener = tokio::spawn(async move {
            while let Some(message) = all.next().await {
                let at = clock.now();
                locked(&seen).hear(at, &message);
            }
        });
        Ok(Self { sight, listener })
    }

    pub fn finish(self) -> Sight {
        self.listener.abort();
        locked(&self.sight).clone()
    }
}

impl Sight {
    fn hear(&mut self, at: Span, message: &Message) {
        if [RECORD_ASKED, RECORD_ASKED_OF_ANY_COPY].contains(&message.subject.as_str()) {
            if let Some(invocation) = asked_for(&message.payload) {
                self.records_asked.entry(invocation).or_default().push(at);
            }
        } else if message.subject.ends_with(".run") {
            let vm = message.subject.split('.').nth(1).and_then(|token| token.parse().ok());
            if let (Some(vm), Ok(run)) = (vm, messages::decode::<Run>(&message.payload)) {
                self.sent(at, vm, &run);
            }
        } else if message.subject.ends_with(".cancel") {
            let vm = message.subject.split('.').nth(1).and_then(|token| token.parse().ok());
            if let (Some(vm), Ok(Cancel { invocation, attempt })) = (vm, messages::decode(&message.payload)) {
                self.book(at, Event::Released { vm, invocation, attempt });
            }
        } else if message.subject.starts_with("windfall.report.") {
            if let Ok(report) = messages::decode::<Report>(&message.payload) {
                self.reported(at, report);
            }
        } else if message.subject.starts_with("windfall.notice.") {
            let notice = messages::decode::<Notice>(&message.payload);
            let Ok(Notice { vm, time_left: Some(left), source }) = notice else { return };
            if CLOUDS.contains(&source.as_str()) {
                self.heard.entry(vm).or_insert(at);
            } else if left == Span::ZERO {
                self.told.entry(vm).or_insert(at);
            }
        } else if message.subject.ends_with(".submit") {
            let controller = message.subject.split('.').nth(1).and_then(|token| token.parse().ok());
            if let (Some(controller), Ok(submit)) = (controller, messages::decode::<Submit>(&message.payload))
            {
                self.book(at, Event::Routed { function: submit.function.id, controller });
            }
        } else {
            self.replied(at, message);
        }
    }

    fn book(&mut self, at: Span, event: Event) {
        if self.bookings.len() < BOOKINGS {
            self.bookings.push(Entry { at, event });
        }
    }

    fn sent(&mut self, at: Span, vm: VmId, run: &Run) {
        let (invocation, attempt) = (run.invocation, run.attempt);
        self.runs.entry((invocation, attempt)).or_insert((vm, at));
        let (booked, controller) = (run.grant.booked, Some(run.controller));
        self.book(at, Event::Promised { vm, invocation, attempt, booked, controller });
    }

    fn reported(&mut self, at: Span, report: Report) {
        let status = report.status;
        let vm = status.vm;
        let is_drained = status.standing == VmStanding::Draining && status.running.is_empty();
        self.looks.entry(vm).or_default().push(Look { at, cpu: status.capacity.cpu, is_drained });
        let now: BTreeMap<_, _> = status
            .running
            .iter()
            .map(|running| ((running.invocation, running.attempt), running.grant.booked))
            .collect();
        let before = self.held.insert(vm, now.clone()).unwrap_or_default();
        for (invocation, attempt) in before.into_keys().filter(|key| !now.contains_key(key)) {
            self.book(at, Event::Released { vm, invocation, attempt });
        }
        for ((invocation, attempt), booked) in now {
            self.book(at, Event::Held { vm, invocation, attempt, booked });
        }
        self.book(at, Event::Offered { vm, capacity: status.capacity });
    }

    fn replied(&mut self, at: Span, message: &Message) {
        match messages::decode::<Reply>(&message.payload) {
            Ok(Reply::Answer(answer)) => {
                self.answers.entry((answer.invocation, answer.attempt)).or_insert(at);
            }
            Ok(Reply::Fence(fence)) => {
                let (invocation, oldest_valid, also) = (fence.invocation, fence.oldest_valid, fence.also);
                let event = Event::Fenced { invocation, oldest_valid, also };
                self.fences.push(Entry { at, event });
            }
            _ => {}
        }
    }
}

/// The invocation in a question for the last message of a record's subject.
fn asked_for(question: &[u8]) -> Option<InvocationId> {
    let question: serde_json::Value = serde_json::from_slice(question).ok()?;
    question["last_by_subj"].as_str()?.rsplit('.').next()?.parse().ok()
}
