//! Who leads: one key in KV that must be written again and again.
//!
//! **Knows:** the key's last writer and revision.
//! **Promises:** two never write it one after the other without knowing of each other: every write names the revision
//! that it follows, and the server takes only one. What is decided on the strength of the lease is fenced the same way
//! ([`super::ids`]), never by time: a leader that was asleep and believes that it still leads changes nothing.
//! **Gives up:** a leader at every moment. When one dies, the next one leads after [`LEASE`] and up to a second; without
//! JetStream nobody becomes leader, and whoever leads goes on. A lease that ran out meanwhile is taken again by whoever
//! is the first to write, and if another had it in between, the fence says so.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_nats::HeaderMap;
use async_nats::jetstream::{self, context::PublishErrorKind, kv};

use super::ids::{BUCKET, IdError, bucket};
use crate::bus::Bus;
use crate::store::StoreError;
use crate::store::taking::{self, Kept};

/// The key that the leader keeps.
const KEY: &str = "leader";
/// How long a word of the leader holds.
pub const LEASE: Duration = Duration::from_secs(3);
/// How often the leader writes it.
const RENEW: Duration = Duration::from_secs(1);
/// What failed, for people.
const RENEWING: &str = "writing who leads";
/// How often the others look.
const LOOK: Duration = Duration::from_millis(500);
/// The server removes what has run out; where it does so late, its writer counts as gone after this long.
const LATE: Duration = Duration::from_secs(7);

/// One candidate's way to the lease.
pub struct Lease {
    context: jetstream::Context,
    bucket: kv::Store,
    /// Who we are. The same for as long as the process lives, so that its next candidate takes over at once.
    me: String,
    held: Mutex<Option<u64>>,
}

enum Write {
    Done,
    /// Somebody else wrote.
    Lost,
    /// Nobody knows.
    Unclear(String),
}

impl Lease {
    /// For the candidate called `me`.
    pub async fn open(bus: &Bus, replicas: usize, me: &str) -> Result<Self, IdError> {
        Ok(Self {
            context: jetstream::new(bus.client().clone()),
            bucket: bucket(bus, replicas).await?,
            me: me.to_owned(),
            held: Mutex::default(),
        })
    }

    /// Comes back when we lead.
    pub async fn acquire(&self) {
        let mut seen: Option<(u64, Instant)> = None;
        loop {
            match self.bucket.entry(KEY).await {
                Ok(entry) => {
                    let revision = entry.as_ref().map_or(0, |entry| entry.revision);
                    let holder = entry.filter(|entry| entry.operation == kv::Operation::Put);
                    let is_free = holder.is_none_or(|entry| entry.value == self.me.as_bytes());
                    let since = match seen {
                        Some((known, since)) if known == revision => since,
                        _ => seen.insert((revision, Instant::now())).1,
                    };
                    if is_free || since.elapsed() > LATE {
                        match self.write(revision).await {
                            Write::Done => return,
                            Write::Lost => {}
                            Write::Unclear(error) => tracing::warn!(error, "cannot take the lease"),
                        }
                    }
                }
                Err(error) => tracing::warn!(%error, "cannot see who leads"),
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Comes back when somebody else leads.
    pub async fn keep(&self) {
        loop {
            tokio::time::sleep(RENEW).await;
            let Some(revision) = self.held() else { return };
            match self.write(revision).await {
                Write::Done => {}
                Write::Lost => match self.bucket.entry(KEY).await {
                    Ok(Some(entry)) if entry.operation == kv::Operation::Put => {
                        if entry.value != self.me.as_bytes() {
                            self.hold(None);
                            return;
                        }
                        // An acknowledgement of ours was lost on the way.
                        self.hold(Some(entry.revision));
                    }
                    // It ran out while nobody could write, as in an election among the servers.
                    Ok(gone) => self.hold(Some(gone.map_or(0, |marker| marker.revision))),
                    Err(error) => tracing::warn!(%error, "cannot see who leads"),
                },
                Write::Unclear(error) => tracing::warn!(error, "cannot renew the lease; trying again"),
            }
        }
    }

    /// Gives it back, so that the next one need not wait.
    pub async fn release(&self) {
        let Some(revision) = self.held() else { return };
        self.hold(None);
        if let Err(error) = self.bucket.delete_expect_revision(KEY, Some(revision)).await {
            tracing::debug!(%error, "the lease was not given back; it runs out");
        }
    }

    async fn write(&self, follows: u64) -> Write {
        let mut headers = HeaderMap::new();
        // Not through the bucket: its own way of setting a time to live loses it over a deleted key.
        headers.insert("Nats-Expected-Last-Subject-Sequence", follows.to_string());
        headers.insert("Nats-TTL", format!("{}s", LEASE.as_secs()));
        let subject = format!("$KV.{BUCKET}.{KEY}");
        let written = async {
            let acknowledged =
                self.context.publish_with_headers(subject, headers, self.me.clone().into()).await?;
            acknowledged.await
        };
        match tokio::time::timeout(LEASE, written).await {
            Ok(Ok(ack)) => {
                taking::ours().took(Kept::Lease);
                self.hold(Some(ack.sequence));
                Write::Done
            }
            Ok(Err(error)) if error.kind() == PublishErrorKind::WrongLastSequence => Write::Lost,
            Ok(Err(error)) => self.unclear(StoreError::of(RENEWING, &error)),
            Err(_) => {
                let detail = "no acknowledgement in time".to_owned();
                self.unclear(StoreError::Unreachable { doing: RENEWING.into(), detail })
            }
        }
    }

    fn unclear(&self, error: StoreError) -> Write {
        taking::ours().failed(Kept::Lease, &error);
        Write::Unclear(error.to_string())
    }

    fn held(&self) -> Option<u64> {
        *self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hold(&self, revision: Option<u64>) {
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = revision;
    }
}
