//! Who listens to the house: what was sent to which VM, what was answered, what was declared void.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use futures::StreamExt;
use messages::{Reply, Run};
use vocabulary::{Attempt, InvocationId, Span, VmId};

use super::{Clock, House, LiveError};
use crate::events::{Entry, Event};

/// What was seen. A connection that is lost for a moment misses what was said meanwhile.
#[derive(Debug, Default, Clone)]
pub(super) struct Sight {
    /// Where and when each attempt was sent.
    pub runs: BTreeMap<(InvocationId, Attempt), (VmId, Span)>,
    /// When each attempt's answer went to its Frontend for the first time.
    pub answers: BTreeMap<(InvocationId, Attempt), Span>,
    /// Fences.
    pub fences: Vec<Entry>,
}

pub(super) struct Observer {
    sight: Arc<Mutex<Sight>>,
    listener: tokio::task::JoinHandle<()>,
}

impl Observer {
    pub async fn start(house: &House, clock: Clock) -> Result<Self, LiveError> {
        let listening =
            |error: async_nats::SubscribeError| LiveError::nats("listening to the house")(error.to_string());
        let runs = house.nats.subscribe("windfall.*.run").await.map_err(listening)?;
        let replies = house.nats.subscribe("windfall.*.answer.*").await.map_err(listening)?;
        house
            .nats
            .flush()
            .await
            .map_err(|error| LiveError::nats("listening to the house")(error.to_string()))?;
        let sight: Arc<Mutex<Sight>> = Arc::default();
        let seen = Arc::clone(&sight);
        let mut all = futures::stream::select(runs, replies);
        let listener = tokio::spawn(async move {
            while let Some(message) = all.next().await {
                let at = clock.now();
                let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
                if message.subject.ends_with(".run") {
                    let vm = message.subject.split('.').nth(1).and_then(|token| token.parse().ok());
                    if let (Some(vm), Ok(run)) = (vm, messages::decode::<Run>(&message.payload)) {
                        seen.runs.entry((run.invocation, run.attempt)).or_insert((vm, at));
                    }
                    continue;
                }
                match messages::decode::<Reply>(&message.payload) {
                    Ok(Reply::Answer(answer)) => {
                        seen.answers.entry((answer.invocation, answer.attempt)).or_insert(at);
                    }
                    Ok(Reply::Fence(fence)) => {
                        let (invocation, oldest_valid, also) =
                            (fence.invocation, fence.oldest_valid, fence.also);
                        let event = Event::Fenced { invocation, oldest_valid, also };
                        seen.fences.push(Entry { at, event });
                    }
                    _ => {}
                }
            }
        });
        Ok(Self { sight, listener })
    }

    pub fn finish(self) -> Sight {
        self.listener.abort();
        self.sight.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
