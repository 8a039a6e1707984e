//! What Controllers have learned of functions, kept for whoever decides after them.
//!
//! **Promises:** one entry per function, a few kilobytes at most; over `store.profile_size_mib` those that were not written for
//! longest go, and so do those older than `store.profile_age_h`. An entry that is too large, is no profile, or says what no
//! profile can say is refused with a reason.
//! **Gives up:** telling two writers apart: the last one counts. Who reads takes what has seen more runs, so what is lost
//! is a little experience, not truth.

use async_nats::jetstream::context::Context;
use async_nats::jetstream::stream::DiscardPolicy;
use bytes::Bytes;
use policies::profile::Profile;
use serde::{Deserialize, Serialize};
use vocabulary::{FunctionId, Span};

use super::bucket::Bucket;
use super::error::StoreError;
use super::streams;
use crate::clock::unix_ms;
use crate::settings;

const BUCKET: &str = "WINDFALL_PROFILES";

/// No profile is larger: `policies::profile` bounds it at some ten thousand bytes in this encoding.
const LARGEST: usize = 64 << 10;

/// One entry, as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    /// When it was written, in milliseconds since the Unix epoch by its writer's clock.
    written_unix_ms: u64,
    profile: Profile,
}

/// All of them.
#[derive(Clone)]
pub struct Profiles {
    bucket: Bucket,
}

impl Profiles {
    /// The bucket, made where it is missing; `None` where none are to be kept.
    pub(super) async fn open(
        context: &Context,
        settings: &settings::Store,
    ) -> Result<Option<Self>, StoreError> {
        if settings.profile_size_mib == 0 {
            return Ok(None);
        }
        let config = async_nats::jetstream::stream::Config {
            max_bytes: streams::mebibytes(settings.profile_size_mib),
            max_age: std::time::Duration::from_secs(settings.profile_age_h.saturating_mul(3_600)),
            discard: DiscardPolicy::Old,
            ..streams::key_value(BUCKET, settings.replicas)
        };
        Ok(Some(Self { bucket: Bucket::open_as(context, BUCKET, config).await? }))
    }

    /// What is kept of a function, and how long ago it was written.
    ///
    /// # Errors
    /// The store does not answer, or the entry is damaged.
    pub async fn get(&self, function: FunctionId) -> Result<Option<(Profile, Span)>, StoreError> {
        let key = key(function);
        let Some(value) = self.bucket.read(&key).await?.and_then(|entry| entry.value) else {
            return Ok(None);
        };
        let Entry { written_unix_ms, profile } =
            read(&value).map_err(|detail| StoreError::Damaged { what: format!("profile {key}"), detail })?;
        let age = Span::millis(unix_ms().saturating_sub(written_unix_ms));
        Ok(Some((profile, age)))
    }

    /// A profile as it is stored, if it is one that can be.
    pub fn encode(profile: &Profile) -> Bytes {
        messages::encode(&Entry { written_unix_ms: unix_ms(), profile: profile.clone() })
    }

    /// Keeps what [`Profiles::encode`] made, instead of what is there.
    ///
    /// # Errors
    /// The store does not answer or refuses it.
    pub async fn put(&self, function: FunctionId, encoded: Bytes) -> Result<(), StoreError> {
        self.bucket.put(&key(function), encoded).await.map(drop)
    }
}

fn key(function: FunctionId) -> String {
    function.to_string()
}

fn read(value: &[u8]) -> Result<Entry, String> {
    if value.len() > LARGEST {
        return Err(format!("it has {} bytes", value.len()));
    }
    let entry: Entry = messages::decode(value).map_err(|error| error.to_string())?;
    if !entry.profile.is_sound() {
        return Err("it says what no profile can say".to_owned());
    }
    Ok(entry)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worst() -> Profile {
        let mut profile = Profile::default();
        for n in 0..20_000_u64 {
            let usage = vocabulary::Usage {
                cpu_peak: vocabulary::MilliCores((n * 7_919 % 64_000) as u32),
                memory_peak: vocabulary::Mebibytes((n * 104_729 % 8_192) as u32),
                ..Default::default()
            };
            profile.ended_with(1 << (n % 32), Span(n * n * 31), None, usage);
        }
        profile
    }

    #[test]
    fn the_largest_profile_is_read_again_as_it_was() {
        let bytes = Profiles::encode(&worst());
        assert!(bytes.len() < LARGEST / 4, "{} bytes", bytes.len());
        assert_eq!(read(&bytes).unwrap().profile, worst());
    }

    #[test]
    fn damage_is_refused_with_a_reason() {
        let bytes = Profiles::encode(&worst());
        for shorter in [0, 1, 100, bytes.len() - 1] {
            assert!(read(&bytes[..shorter]).is_err(), "{shorter} bytes are taken for all");
        }
        assert!(read(&vec![0x90; LARGEST + 1]).unwrap_err().contains("bytes"));
        assert!(read(b"\x81\xa1a\x01").is_err());
        // Every byte turned over, one at a time: refused, or at least harmless.
        for at in 0..bytes.len() {
            let mut damaged = bytes.to_vec();
            damaged[at] ^= 0xff;
            if let Ok(Entry { mut profile, .. }) = read(&damaged) {
                profile.ended_with(7, Span::millis(3), None, vocabulary::Usage::default());
                let _ = profile.expect(7);
            }
        }
    }
}
