//! Callers who call again and again, and what became of every call.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_nats::{Client, HeaderMap, Message};
use futures::StreamExt;
use policies::chance::SplitMix64;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use vocabulary::{InvocationId, Outcome, Span, VmId};

use super::{Clock, House, LONG, LiveError, SHORT};
use crate::scenario::Scenario;

/// A call that has no answer after this, on top of what its function takes, will have none.
const PATIENCE: Duration = Duration::from_secs(60);
/// Whoever was refused comes back after this.
const REFUSED_PAUSE: Duration = Duration::from_millis(200);

/// One answer.
#[derive(Debug, Clone)]
pub(super) struct Answered {
    pub id: InvocationId,
    /// When it was asked; of durable answers, when it was submitted.
    pub sent: Span,
    pub at: Span,
    pub vm: Option<VmId>,
    pub outcome: Outcome,
    pub is_long: bool,
    /// Whether it is the answer to this very question.
    pub is_own: bool,
}

/// A submission that JetStream has acknowledged.
#[derive(Debug, Clone, Copy)]
pub(super) struct Submitted {
    pub sent: Span,
}

/// What became of all calls.
#[derive(Debug, Default, Clone)]
pub(super) struct Calls {
    /// By request-reply.
    pub answered: Vec<Answered>,
    /// Durable submissions that were accepted.
    pub submitted: BTreeMap<InvocationId, Submitted>,
    /// Answers to durable submissions, in the order in which they came; several for one is too many.
    pub durable_answers: BTreeMap<InvocationId, Vec<Answered>>,
    /// Calls without an answer: when they were sent, when they were given up.
    pub unanswered: Vec<(Span, Span)>,
    /// Refused before they were accepted.
    pub refused: u64,
    /// Submissions that JetStream did not acknowledge: nobody knows of them.
    pub unacknowledged: u64,
}

/// Everybody who calls.
pub(super) struct Callers {
    stop: Arc<AtomicBool>,
    calls: Arc<Mutex<Calls>>,
    tasks: JoinSet<()>,
    listener: tokio::task::JoinHandle<()>,
}

struct Caller {
    guest: Client,
    namespace: String,
    function: String,
    is_long: bool,
    runs_ms: [u64; 2],
    pause: Duration,
    reply_to: Option<String>,
    chance: SplitMix64,
    clock: Clock,
    stop: Arc<AtomicBool>,
    calls: Arc<Mutex<Calls>>,
    number: u32,
}

fn locked(calls: &Mutex<Calls>) -> MutexGuard<'_, Calls> {
    calls.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Callers {
    pub async fn start(
        house: &House,
        scenario: &Scenario,
        seed: u64,
        clock: Clock,
    ) -> Result<Self, LiveError> {
        let load = &scenario.load;
        let stop = Arc::new(AtomicBool::new(false));
        let calls: Arc<Mutex<Calls>> = Arc::default();
        let token = messages::subjects::token(&house.namespace);
        let reply_to = format!("windfall.reply.{token}.chaos-{}", std::process::id());
        let mut answers = house
            .guest
            .subscribe(reply_to.clone())
            .await
            .map_err(|error| LiveError::nats("listening for answers")(error.to_string()))?;
        house.guest.flush().await.map_err(|error| LiveError::nats("listening")(error.to_string()))?;
        let heard = Arc::clone(&calls);
        let listener = tokio::spawn(async move {
            while let Some(message) = answers.next().await {
                if let Some(answer) = read(&message, Span::ZERO, clock.now(), false, None) {
                    locked(&heard).durable_answers.entry(answer.id).or_default().push(answer);
                }
            }
        });
        let mut tasks = JoinSet::new();
        let mut number = 0;
        for (count, is_long, is_durable) in [
            (load.short, false, false),
            (load.long, true, false),
            (load.durable_short, false, true),
            (load.durable_long, true, true),
        ] {
            for _ in 0..count {
                number += 1;
                let caller = Caller {
                    guest: house.guest.clone(),
                    namespace: house.namespace.clone(),
                    function: format!(
                        "{}-{}",
                        if is_long { LONG } else { SHORT },
                        number % scenario.house.functions + 1
                    ),
                    is_long,
                    runs_ms: if is_long { load.long_ms } else { load.short_ms },
                    pause: Duration::from_millis(load.pause_ms),
                    reply_to: is_durable.then(|| reply_to.clone()),
                    chance: SplitMix64::of(seed, &format!("caller {number}")),
                    clock,
                    stop: Arc::clone(&stop),
                    calls: Arc::clone(&calls),
                    number,
                };
                tasks.spawn(caller.go_on());
            }
        }
        Ok(Self { stop, calls, tasks, listener })
    }

    /// When the first of the calls that were sent after `moment` succeeded.
    pub fn succeeded_since(&self, moment: Span) -> Option<Span> {
        first_success(&locked(&self.calls).answered, moment)
    }

    /// No new calls; waits for what is open.
    pub async fn finish(mut self) -> Calls {
        self.stop.store(true, Ordering::Relaxed);
        while self.tasks.join_next().await.is_some() {}
        let until = self.waits_until();
        while tokio::time::Instant::now() < until && self.open() > 0 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        self.listener.abort();
        locked(&self.calls).clone()
    }

    fn waits_until(&self) -> tokio::time::Instant {
        tokio::time::Instant::now() + PATIENCE
    }

    /// Accepted submissions without an answer.
    fn open(&self) -> usize {
        let calls = locked(&self.calls);
        calls.submitted.keys().filter(|id| !calls.durable_answers.contains_key(id)).count()
    }
}

/// Of answers in the order in which they came.
fn first_success(answered: &[Answered], moment: Span) -> Option<Span> {
    let since = answered.iter().rev().take_while(|call| call.at >= moment);
    let good = since.filter(|call| call.sent >= moment && call.outcome == Outcome::Success);
    good.map(|call| call.at).min()
}

impl Caller {
    async fn go_on(mut self) {
        let mut count = 0;
        while !self.stop.load(Ordering::Relaxed) {
            count += 1;
            let runs_ms = self.chance.between(self.runs_ms[0], self.runs_ms[1]);
            let mark = json!(format!("{}-{count}", self.number));
            let argument = json!({ "seconds": runs_ms as f64 / 1_000.0, "mark": mark });
            let body = argument.to_string().into();
            let went_well = match self.reply_to.clone() {
                None => self.call(body, runs_ms, &mark).await,
                Some(reply_to) => self.submit(body, &reply_to).await,
            };
            // A submitter does not wait for the end, so he waits for as long as it takes instead.
            let own = if self.reply_to.is_some() { Duration::from_millis(runs_ms) } else { Duration::ZERO };
            tokio::time::sleep(if went_well { self.pause + own } else { REFUSED_PAUSE }).await;
        }
    }

    async fn call(&self, body: bytes::Bytes, runs_ms: u64, mark: &Value) -> bool {
        let sent = self.clock.now();
        let subject = messages::subjects::invoke(&self.namespace, &self.function);
        let asked = self.guest.request(subject, body);
        let patience = PATIENCE + Duration::from_millis(runs_ms);
        let answer = tokio::time::timeout(patience, asked).await;
        let at = self.clock.now();
        match answer {
            Ok(Ok(message)) => match read(&message, sent, at, self.is_long, Some(mark)) {
                Some(answer) => {
                    locked(&self.calls).answered.push(answer);
                    true
                }
                None => {
                    locked(&self.calls).refused += 1;
                    false
                }
            },
            // Nobody was there to take it.
            Ok(Err(error)) if error.kind() == async_nats::RequestErrorKind::NoResponders => {
                locked(&self.calls).refused += 1;
                false
            }
            _ => {
                locked(&self.calls).unanswered.push((sent, at));
                false
            }
        }
    }

    async fn submit(&mut self, body: bytes::Bytes, reply_to: &str) -> bool {
        let mut chance = [0; 16];
        // Ids are of no run but this one: a seed that is played again must not meet its own records.
        if getrandom::fill(&mut chance).is_err() {
            return false;
        }
        let id = InvocationId(u128::from_be_bytes(chance));
        let sent = self.clock.now();
        let mut headers = HeaderMap::new();
        headers.insert(messages::HEADER_INVOCATION, id.to_string());
        headers.insert(async_nats::header::NATS_MESSAGE_ID, id.to_string());
        headers.insert(messages::HEADER_REPLY_TO, reply_to);
        let subject = messages::subjects::submit(&self.namespace, &self.function);
        let stream = async_nats::jetstream::new(self.guest.clone());
        let accepted = async {
            stream.publish_with_headers(subject, headers, body).await.ok()?.await.ok()?;
            Some(())
        };
        let accepted = accepted.await;
        let mut calls = locked(&self.calls);
        match accepted {
            Some(()) => {
                calls.submitted.insert(id, Submitted { sent });
            }
            None => calls.unacknowledged += 1,
        }
        accepted.is_some()
    }
}

/// An answer; nothing if it is a refusal.
fn read(message: &Message, sent: Span, at: Span, is_long: bool, mark: Option<&Value>) -> Option<Answered> {
    let header = |name: &str| Some(message.headers.as_ref()?.get(name)?.as_str().to_owned());
    let id = header(messages::HEADER_INVOCATION)?.parse().ok()?;
    let status = header(messages::HEADER_STATUS)?;
    let outcome = Outcome::ALL.into_iter().find(|outcome| outcome.as_str() == status)?;
    let vm = header(messages::HEADER_VM)
        .and_then(|text| text.split([' ', ',', ';']).next().and_then(|vm| vm.parse().ok()));
    let result: Value = serde_json::from_slice(&message.payload).unwrap_or_default();
    let is_own = outcome != Outcome::Success || mark.is_none_or(|mark| result["mark"] == *mark);
    Some(Answered { id, sent, at, vm, outcome, is_long, is_own })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_succeed_again_with_the_first_that_was_sent_after_the_moment() {
        let answer = |sent, at, outcome| Answered {
            id: InvocationId(1),
            sent: Span::millis(sent),
            at: Span::millis(at),
            vm: None,
            outcome,
            is_long: false,
            is_own: true,
        };
        let good = Outcome::Success;
        let answered = [
            answer(10, 90, good),
            answer(80, 120, good), // Sent before: it may have run before, too.
            answer(101, 130, Outcome::InternalError),
            answer(102, 160, good),
            answer(103, 190, good),
        ];
        assert_eq!(first_success(&answered, Span::millis(100)), Some(Span::millis(160)));
        assert_eq!(first_success(&answered, Span::millis(104)), None);
    }
}
