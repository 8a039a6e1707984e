//! The other Frontends of the house.
//!
//! **Knows:** who announced itself lately, and what came in there.
//! **Promises:** when a change of a function is answered, every Frontend that lives serves it, or has not said within a
//! second that it does; then it is cut off, or busy beyond measure, and nobody waits for it.
//! **Gives up:** knowing at once that a Frontend has ended: until it has been silent for long, changes wait that second.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::StreamExt;
use messages::{CatchUp, CaughtUp, FrontendAlive, NamespaceCalls, subjects};
use vocabulary::{FrontendId, Revision};

use super::throttle::Throttle;
use crate::bus::Bus;
use crate::metrics::FrontendMetrics;
use crate::store::Store;
use crate::{intake, metrics};

/// Frontends announce themselves every half second; after this much silence one is given up.
const SILENCE: Duration = Duration::from_millis(1_600);

/// How long the others may take to see a change. Their watches take milliseconds.
const CATCH_UP_WITHIN: Duration = Duration::from_secs(1);

/// Questions that are waited upon at once.
const QUESTIONS: usize = 256;

struct Peer {
    heard: Instant,
    calls: Vec<NamespaceCalls>,
}

/// All others. Copies share them.
#[derive(Clone)]
pub struct Peers {
    bus: Bus,
    known: Arc<Mutex<BTreeMap<FrontendId, Peer>>>,
}

impl Peers {
    pub(super) fn new(bus: Bus) -> Self {
        Self { bus, known: Arc::default() }
    }

    /// Takes in every announcement of another Frontend than `me`.
    pub(super) async fn listen(
        self,
        me: FrontendId,
        mut announcements: async_nats::Subscriber,
        throttle: Arc<Throttle>,
        metrics: Arc<FrontendMetrics>,
    ) {
        while let Some(message) = announcements.next().await {
            let Some(alive) = intake::read::<FrontendAlive>(&message, &metrics.common) else { continue };
            if alive.frontend == me {
                // Our own comes as often as anybody's, also when all others are gone.
                self.lock().retain(|_, peer| peer.heard.elapsed() <= SILENCE);
            } else {
                let peer = Peer { heard: Instant::now(), calls: alive.calls };
                self.lock().insert(alive.frontend, peer);
            }
            throttle.learn_elsewhere(self.lock().values().flat_map(|peer| &peer.calls));
        }
    }

    /// Waits until every other Frontend serves `revision` of the functions, or one has not said so in time.
    pub async fn caught_up(&self, revision: Revision) {
        let mut missing: BTreeSet<_> = self.lock().keys().copied().collect();
        if missing.is_empty() {
            return;
        }
        let bus = &self.bus;
        let asked = async {
            let inbox = bus.client().new_inbox();
            let mut replies = bus.client().subscribe(inbox.clone()).await.ok()?;
            bus.send_expecting(subjects::ANNOUNCE_FUNCTIONS.into(), inbox, &CatchUp { revision }).await;
            while !missing.is_empty() {
                if let Ok(CaughtUp { frontend }) = messages::decode(&replies.next().await?.payload) {
                    missing.remove(&frontend);
                }
            }
            Some(())
        };
        if !matches!(tokio::time::timeout(CATCH_UP_WITHIN, asked).await, Ok(Some(()))) {
            tracing::warn!(
                revision = revision.0,
                ?missing,
                "some Frontends have not said that they serve a change"
            );
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<FrontendId, Peer>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Answers the questions of others as soon as our own copy is as new as they ask.
pub(super) async fn answer(
    me: FrontendId,
    questions: async_nats::Subscriber,
    bus: Bus,
    store: Store,
    metrics: Arc<metrics::FrontendMetrics>,
) {
    questions
        .for_each_concurrent(QUESTIONS, |question| {
            let (bus, store, metrics) = (bus.clone(), store.clone(), Arc::clone(&metrics));
            async move {
                let asked = intake::read::<CatchUp>(&question, &metrics.common);
                if let (Some(CatchUp { revision }), Some(reply)) = (asked, question.reply)
                    && store.functions().shown(revision, CATCH_UP_WITHIN).await
                {
                    bus.send(reply.into_string(), &CaughtUp { frontend: me }).await;
                }
            }
        })
        .await;
}
