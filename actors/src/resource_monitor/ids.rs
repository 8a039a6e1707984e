//! Ids of VMs: small numbers, counted in KV, never used twice within a cluster's life.

use async_nats::jetstream;
use async_nats::jetstream::kv;
use vocabulary::VmId;

use crate::bus::Bus;

/// The bucket for what the Resource Monitors of a cluster share.
const BUCKET: &str = "windfall_fleet";
/// The key that holds the first number that no VM has had, as decimal text.
const KEY: &str = "next_vm";
/// Two Resource Monitors may count at once for a moment; more often than this nobody loses.
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
}

#[derive(Clone)]
pub(super) struct Ids {
    bucket: kv::Store,
}

impl Ids {
    pub async fn open(bus: &Bus, replicas: usize) -> Result<Self, IdError> {
        let context = jetstream::new(bus.client().clone());
        let config = kv::Config {
            bucket: BUCKET.to_owned(),
            history: 1,
            max_bytes: 1 << 20,
            num_replicas: replicas,
            ..kv::Config::default()
        };
        let bucket = context
            .create_or_update_key_value(config)
            .await
            .map_err(|error| IdError::Bucket(error.to_string()))?;
        Ok(Self { bucket })
    }

    /// The lowest number that no VM has had.
    pub async fn first_free(&self) -> Result<u64, IdError> {
        Ok(self.read().await?.1)
    }

    /// Sees to it that `vm` is never given out again. Call it before the VM can exist.
    pub async fn take(&self, vm: VmId) -> Result<(), IdError> {
        for _ in 0..TRIES {
            let (revision, free) = self.read().await?;
            let wanted = vm.0.saturating_add(1);
            if free >= wanted {
                return Ok(());
            }
            match self.bucket.update(KEY, wanted.to_string().into(), revision).await {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == kv::UpdateErrorKind::WrongLastRevision => {}
                Err(error) => return Err(IdError::Count(error.to_string())),
            }
        }
        Err(IdError::Count("somebody else counts at the same time".to_owned()))
    }

    /// The key's revision, 0 where it has never been written, and the number it holds.
    async fn read(&self) -> Result<(u64, u64), IdError> {
        let entry = self.bucket.entry(KEY).await.map_err(|error| IdError::Count(error.to_string()))?;
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
}
