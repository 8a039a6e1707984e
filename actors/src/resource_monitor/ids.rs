//! Ids of VMs: small numbers, counted in KV, never used twice within a cluster's life; and the fence of whoever leads.
//!
//! **Promises:** who opens the count rewrites it, and from then on everyone who opened it before is refused: a launch
//! that takes an id, and a retirement that confirms, can only be the last opener's.
//! **Gives up:** the time between being let through and what the provider then does. A launch that was overtaken there is
//! known by its id, which its successor finds taken; a VM that was retired there is replaced.

use std::sync::Arc;

use async_nats::jetstream;
use async_nats::jetstream::kv;
use tokio::sync::Mutex;
use vocabulary::VmId;

use crate::bus::Bus;

/// The bucket for what the Resource Monitors of a cluster share.
pub(super) const BUCKET: &str = "windfall_fleet";
/// The key that holds the first number that no VM has had, as decimal text.
const KEY: &str = "next_vm";
/// Two Resource Monitors may open the count at once for a moment; more often than this nobody loses.
const TRIES: u32 = 16;

/// Why there is no id.
#[derive(Debug, thiserror::Error)]
pub enum IdError {
    /// The bucket cannot be had.
    #[error("cannot open the bucket {BUCKET}: {0}. Is JetStream enabled in nats-server?")]
    Bucket(String),
    /// The count cannot be read or written.
    #[error("cannot count VMs in {BUCKET}/{KEY}: {0}")]
    Count(String),
    /// Somebody wrote something else there.
    #[error("{BUCKET}/{KEY} holds '{0}', which is no number; put the number of the next VM there")]
    Garbage(String),
    /// We do not lead any more.
    #[error("another Resource Monitor leads")]
    Superseded,
}

/// The bucket, made where it is missing.
pub(super) async fn bucket(bus: &Bus, replicas: usize) -> Result<kv::Store, IdError> {
    let config = kv::Config {
        bucket: BUCKET.to_owned(),
        history: 1,
        max_bytes: 1 << 20,
        num_replicas: replicas,
        // Lets a key have a time to live of its own.
        limit_markers: Some(std::time::Duration::from_secs(5)),
        ..kv::Config::default()
    };
    let context = jetstream::new(bus.client().clone());
    let made = context.create_or_update_key_value(config).await;
    made.map_err(|error| IdError::Bucket(error.to_string()))
}

/// The count, as long as nobody opens it after us.
#[derive(Clone)]
pub(super) struct Ids {
    bucket: kv::Store,
    /// Its last revision, which is ours, and the first free number. Writes go one after the other.
    ours: Arc<Mutex<(u64, u64)>>,
}

impl Ids {
    /// From now on it is ours.
    pub async fn open(bus: &Bus, replicas: usize) -> Result<Self, IdError> {
        let bucket = bucket(bus, replicas).await?;
        for _ in 0..TRIES {
            let (revision, free) = read(&bucket).await?;
            match bucket.update(KEY, free.to_string().into(), revision).await {
                Ok(revision) => return Ok(Self { bucket, ours: Arc::new(Mutex::new((revision, free))) }),
                Err(error) if error.kind() == kv::UpdateErrorKind::WrongLastRevision => {}
                Err(error) => return Err(IdError::Count(error.to_string())),
            }
        }
        Err(IdError::Count("somebody else counts at the same time".to_owned()))
    }

    /// The lowest number that no VM has had.
    pub async fn first_free(&self) -> u64 {
        self.ours.lock().await.1
    }

    /// Sees to it that `vm` is never given out again. Call it before the VM can exist.
    pub async fn take(&self, vm: VmId) -> Result<(), IdError> {
        self.write(vm.0.saturating_add(1)).await
    }

    /// That nobody has opened the count since us.
    pub async fn confirm(&self) -> Result<(), IdError> {
        self.write(0).await
    }

    async fn write(&self, least: u64) -> Result<(), IdError> {
        let mut ours = self.ours.lock().await;
        let free = ours.1.max(least);
        match self.bucket.update(KEY, free.to_string().into(), ours.0).await {
            Ok(revision) => {
                *ours = (revision, free);
                Ok(())
            }
            Err(error) if error.kind() == kv::UpdateErrorKind::WrongLastRevision => {
                // Ours all the same, if only the acknowledgement of the last write was lost: then the number is what
                // we wrote, and nobody else's opening rewrote it. That cannot be told apart, so it is not ours.
                Err(IdError::Superseded)
            }
            Err(error) => Err(IdError::Count(error.to_string())),
        }
    }
}

/// The key's revision, 0 where it has never been written, and the number it holds.
async fn read(bucket: &kv::Store) -> Result<(u64, u64), IdError> {
    let entry = bucket.entry(KEY).await.map_err(|error| IdError::Count(error.to_string()))?;
    let Some(entry) = entry else { return Ok((0, 1)) };
    if entry.operation != kv::Operation::Put {
        return Ok((entry.revision, 1));
    }
    let text = String::from_utf8_lossy(&entry.value).into_owned();
    match text.trim().parse() {
        Ok(number) => Ok((entry.revision, number)),
        Err(_) => Err(IdError::Garbage(text.chars().take(64).collect())),
    }
}
