//! A bucket's whole content in memory, kept up by a watch.
//!
//! **Promises:** complete before [`Watched::open`] returns; read without waiting; revisions of one key never go
//! back. After every reconnect, and whenever the watch breaks, everything is read anew, so that what was removed
//! meanwhile is forgotten.
//! **Gives up:** freshness: a change made by another process is seen a little later. Who needs a certain revision
//! asks for it.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, Weak};
use std::time::Duration;

use async_nats::jetstream::consumer::push::OrderedConfig;
use async_nats::jetstream::consumer::{DeliverPolicy, ReplayPolicy};
use futures::StreamExt;
use tokio::sync::watch;

use super::bucket::{Bucket, is_removal};
use super::error::{StoreError, chain};
use crate::bus::Bus;

/// What can be kept in a watched bucket.
pub(super) trait Kept: Sized + Send + Sync + 'static {
    /// How it is found.
    type Key: Eq + Hash + Clone + Send + Sync + 'static;
    /// What a key of the bucket stands for.
    fn key(bucket_key: &str) -> Option<Self::Key>;
    /// A value read at a revision; `Err` says what is wrong with it.
    fn read(bucket_key: &str, value: &[u8], revision: u64) -> Result<Self, String>;
}

/// How often a lost connection is looked for, so that the copy is read anew soon after it is back.
const LOOK_FOR_RECONNECT: Duration = Duration::from_millis(250);

/// Each with its revision; `None` marks one that was removed at that revision.
type Entries<V> = HashMap<<V as Kept>::Key, (u64, Option<Arc<V>>)>;

pub(super) struct Watched<V: Kept> {
    entries: RwLock<Entries<V>>,
    /// The highest revision that has been seen.
    seen: watch::Sender<u64>,
    unreadable: AtomicU64,
}

impl<V: Kept> Watched<V> {
    pub(super) async fn open(bus: &Bus, bucket: &Bucket) -> Result<Arc<Self>, StoreError> {
        let this = Arc::new(Self {
            entries: RwLock::default(),
            seen: watch::Sender::new(0),
            unreadable: AtomicU64::new(0),
        });
        let (complete, completed) = tokio::sync::oneshot::channel();
        tokio::spawn(keep_up(Arc::downgrade(&this), bus.clone(), bucket.clone(), complete));
        completed.await.map_err(|_| StoreError::Unreachable {
            doing: "reading a bucket".into(),
            detail: "the watch ended before it began".into(),
        })??;
        Ok(this)
    }

    pub(super) fn get(&self, key: &V::Key) -> Option<Arc<V>> {
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        entries.get(key).and_then(|(_, value)| value.clone())
    }

    /// All values, in no order.
    pub(super) fn all(&self) -> Vec<Arc<V>> {
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        entries.values().filter_map(|(_, value)| value.clone()).collect()
    }

    /// All values that `wanted` picks, in no order.
    pub(super) fn pick(&self, wanted: impl Fn(&V) -> bool) -> Vec<Arc<V>> {
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        entries
            .values()
            .filter_map(|(_, value)| value.as_ref().filter(|value| wanted(value)).cloned())
            .collect()
    }

    /// Takes over what is newer than what is known; older news is dropped.
    pub(super) fn learn(&self, key: V::Key, revision: u64, value: Option<Arc<V>>) {
        let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
        let entry = entries.entry(key).or_insert((0, None));
        if revision >= entry.0 {
            *entry = (revision, value);
        }
    }

    /// Values that could not be read since the start.
    pub(super) fn unreadable(&self) -> u64 {
        self.unreadable.load(Ordering::Relaxed)
    }

    /// Waits until the watch itself has shown `revision`; false when `patience` ended first. By then the server
    /// has sent it to the other watchers too.
    pub(super) async fn shown(&self, revision: u64, patience: Duration) -> bool {
        let mut seen = self.seen.subscribe();
        tokio::time::timeout(patience, seen.wait_for(|seen| *seen >= revision)).await.is_ok()
    }

    fn take(&self, bucket_key: &str, revision: u64, value: Option<&[u8]>) -> Option<V::Key> {
        let key = V::key(bucket_key);
        match (&key, value.map(|value| V::read(bucket_key, value, revision))) {
            (Some(key), None) => self.learn(key.clone(), revision, None),
            (Some(key), Some(Ok(value))) => self.learn(key.clone(), revision, Some(Arc::new(value))),
            (Some(_), Some(Err(error))) => self.count_unreadable(bucket_key, &error),
            (None, _) => self.count_unreadable(bucket_key, "not a key of ours"),
        }
        self.seen.send_if_modified(|seen| {
            let newer = revision > *seen;
            *seen = revision.max(*seen);
            newer
        });
        key
    }

    fn count_unreadable(&self, bucket_key: &str, error: &str) {
        self.unreadable.fetch_add(1, Ordering::Relaxed);
        tracing::warn!(key = bucket_key, error, "skipped an entry that cannot be read");
    }

    /// Forgets everything if the bucket is younger than what was seen of it: somebody emptied the server's disk.
    fn forget_if_made_anew(&self, last_revision: u64) {
        let made_anew = self.seen.send_if_modified(|seen| {
            let made_anew = last_revision < *seen;
            *seen = if made_anew { 0 } else { *seen };
            made_anew
        });
        if made_anew {
            tracing::warn!("a bucket was emptied or restored from an older copy; reading it anew");
            self.entries.write().unwrap_or_else(PoisonError::into_inner).clear();
        }
    }

    /// Forgets what a complete reading did not show, except what was learned after that reading had begun.
    fn retain(&self, shown: &HashSet<V::Key>, begun_at: u64) {
        let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
        entries.retain(|key, (revision, _)| shown.contains(key) || *revision > begun_at);
    }
}

/// Watches until nobody holds the copy any more.
async fn keep_up<V: Kept>(
    watched: Weak<Watched<V>>,
    bus: Bus,
    bucket: Bucket,
    complete: tokio::sync::oneshot::Sender<Result<(), StoreError>>,
) {
    let mut complete = Some(complete);
    let mut failures = 0_u32;
    while watched.strong_count() > 0 {
        let ended = watch_once(&watched, &bus, &bucket, &mut complete).await;
        match ended {
            Ok(()) => failures = 0,
            Err(error) => {
                failures += 1;
                // At start the caller decides; later we go on for ever, and say so now and then.
                if let Some(complete) = complete.take_if(|_| failures >= 5) {
                    let _ = complete.send(Err(error));
                    return;
                }
                if failures.is_power_of_two() {
                    tracing::warn!(%error, failures, "lost a watch; reading everything anew");
                }
                tokio::time::sleep(Duration::from_millis(50 << failures.min(6))).await;
            }
        }
    }
}

/// One complete reading and then news, until the connection was made anew (`Ok`) or the watch broke (`Err`).
async fn watch_once<V: Kept>(
    watched: &Weak<Watched<V>>,
    bus: &Bus,
    bucket: &Bucket,
    complete: &mut Option<tokio::sync::oneshot::Sender<Result<(), StoreError>>>,
) -> Result<(), StoreError> {
    const DOING: &str = "watching a bucket";
    let broken = |error: &(dyn std::error::Error + 'static)| StoreError::of(DOING, error);
    let reconnects = bus.reconnects();
    // Before the consumer exists: whatever is written later has a higher revision.
    let begun_at = bucket.stream.get_info().await.map_err(|error| broken(&error))?.state.last_sequence;
    if let Some(watched) = watched.upgrade() {
        watched.forget_if_made_anew(begun_at);
    }
    let consumer = bucket
        .stream
        .create_consumer(OrderedConfig {
            deliver_subject: bus.client().new_inbox(),
            description: Some("windfall: watch".into()),
            filter_subject: bucket.subject(">"),
            deliver_policy: DeliverPolicy::LastPerSubject,
            replay_policy: ReplayPolicy::Instant,
            ..Default::default()
        })
        .await
        .map_err(|error| broken(&error))?;
    let mut pending = consumer.cached_info().num_pending;
    let mut messages = consumer.messages().await.map_err(|error| broken(&error))?;
    let mut reading = Some(HashSet::new());
    let mut look = tokio::time::interval(LOOK_FOR_RECONNECT);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let Some(watched) = watched.upgrade() else { return Ok(()) };
        if pending == 0
            && let Some(shown) = reading.take()
        {
            watched.retain(&shown, begun_at);
            if let Some(complete) = complete.take() {
                let _ = complete.send(Ok(()));
            }
        }
        tokio::select! {
            message = messages.next() => {
                let message = match message {
                    Some(Ok(message)) => message,
                    Some(Err(error)) => return Err(broken(&error)),
                    None => return Err(StoreError::Unreachable { doing: DOING.into(), detail: "it ended".into() }),
                };
                let info = message.info().map_err(|error| StoreError::Damaged {
                    what: "a watched entry".into(),
                    detail: chain(error.as_ref()),
                })?;
                let removed = message.headers.as_ref().is_some_and(is_removal);
                if let Some(key) = bucket.key(&message.subject) {
                    let value = (!removed).then_some(message.payload.as_ref());
                    let key = watched.take(key, info.stream_sequence, value);
                    if let (Some(shown), Some(key)) = (&mut reading, key) {
                        shown.insert(key);
                    }
                }
                pending = info.pending;
            }
            _ = look.tick() => if bus.reconnects() != reconnects { return Ok(()) },
        }
    }
}
