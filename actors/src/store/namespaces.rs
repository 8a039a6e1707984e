//! Who may call: namespaces and their keys.
//!
//! **Promises:** keys are kept as SHA-256 only and compared in constant time; an unknown user costs the same
//! comparison as a known one. Keys are 64 random characters, which needs no slow hash.
//! **Gives up:** roles within a namespace: who has a key may do everything there.

use std::fmt;
use std::sync::Arc;

use async_nats::jetstream::context::Context;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::bucket::Bucket;
use super::error::StoreError;
use super::watched::{Kept, Watched};
use crate::bus::Bus;
use crate::settings;

/// What a caller shows: `uuid:key`.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// User: a UUID, lower-case.
    pub uuid: String,
    /// Password: 64 letters and digits.
    pub key: String,
}

impl Credentials {
    /// New random ones.
    pub fn random() -> Self {
        let mut uuid = [0_u8; 16];
        getrandom::fill(&mut uuid).expect("the operating system has random numbers");
        uuid[6] = (uuid[6] & 0x0f) | 0x40;
        uuid[8] = (uuid[8] & 0x3f) | 0x80;
        let hex: String = uuid.iter().map(|byte| format!("{byte:02x}")).collect();
        let uuid = format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]);
        Self { uuid, key: random_key() }
    }

    /// As they are written in `.wskprops`.
    pub fn as_text(&self) -> String {
        format!("{}:{}", self.uuid, self.key)
    }
}

impl fmt::Debug for Credentials {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credentials({}:...)", self.uuid)
    }
}

impl std::str::FromStr for Credentials {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (uuid, key) = text.trim().split_once(':').ok_or("credentials are written uuid:key")?;
        let is_uuid = uuid.len() == 36
            && uuid.bytes().enumerate().all(|(at, byte)| match at {
                8 | 13 | 18 | 23 => byte == b'-',
                _ => byte.is_ascii_hexdigit(),
            });
        if !is_uuid {
            return Err("the part before the colon is not a UUID".into());
        }
        if key.len() != 64 || !key.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return Err("the part after the colon is not 64 letters and digits".into());
        }
        Ok(Self { uuid: uuid.to_ascii_lowercase(), key: key.to_owned() })
    }
}

/// 64 characters of 62, without a bias towards any: bytes past the last whole multiple are drawn again.
fn random_key() -> String {
    const ALPHABET: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    let mut key = String::with_capacity(64);
    while key.len() < 64 {
        let mut bytes = [0_u8; 64];
        getrandom::fill(&mut bytes).expect("the operating system has random numbers");
        let fair = bytes.iter().filter(|byte| **byte < 248);
        key.extend(fair.map(|byte| char::from(ALPHABET[usize::from(*byte % 62)])).take(64 - key.len()));
    }
    key
}

/// What one namespace may do, where that differs from everybody's `limits`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct NamespaceLimits {
    /// Invocations per minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invocations_per_minute: Option<u64>,
    /// Invocations open at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrent_invocations: Option<u64>,
}

/// A namespace, reached with one of its keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Namespace {
    /// Its name.
    pub namespace: String,
    /// SHA-256 of the key.
    #[serde(with = "serde_bytes_array")]
    key_sha256: [u8; 32],
    /// What it may do.
    #[serde(default)]
    pub limits: NamespaceLimits,
    /// The user with that key; filled when it is read.
    #[serde(skip)]
    pub uuid: String,
}

/// 32 bytes as binary.
mod serde_bytes_array {
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(bytes: &[u8; 32], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(bytes)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<[u8; 32], D::Error> {
        let bytes = messages::Payload::deserialize(deserializer)?;
        bytes.0.as_ref().try_into().map_err(|_| serde::de::Error::custom("a SHA-256 has 32 bytes"))
    }
}

impl Kept for Namespace {
    type Key = String;

    fn key(bucket_key: &str) -> Option<String> {
        Some(bucket_key.to_owned())
    }

    fn read(bucket_key: &str, value: &[u8], _: u64) -> Result<Self, String> {
        let mut namespace: Self = messages::decode(value).map_err(|error| error.to_string())?;
        namespace.uuid = bucket_key.to_owned();
        Ok(namespace)
    }
}

/// All namespaces. Copies share one watched copy.
#[derive(Clone)]
pub struct Namespaces {
    bucket: Bucket,
    watched: Arc<Watched<Namespace>>,
}

impl Namespaces {
    pub(super) async fn open(
        bus: &Bus,
        context: &Context,
        settings: &settings::Store,
    ) -> Result<Self, StoreError> {
        let bucket = Bucket::open(context, "WINDFALL_NAMESPACES", settings.replicas).await?;
        let watched = Watched::open(bus, &bucket).await?;
        Ok(Self { bucket, watched })
    }

    /// The namespace of a user, if the key is right.
    pub fn authenticate(&self, uuid: &str, key: &str) -> Option<Arc<Namespace>> {
        let given: [u8; 32] = Sha256::digest(key.as_bytes()).into();
        let found = self.watched.get(&uuid.to_ascii_lowercase());
        let kept = found.as_ref().map_or([0; 32], |found| found.key_sha256);
        let equal: bool = kept.ct_eq(&given).into();
        found.filter(|_| equal)
    }

    /// Gives a namespace a key: a random one, or `given`. A namespace may have several. Giving it the same one
    /// again changes only its limits.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if the user of `given` exists with another key or namespace.
    pub async fn create(
        &self,
        namespace: &str,
        given: Option<Credentials>,
        limits: NamespaceLimits,
    ) -> Result<Credentials, StoreError> {
        let credentials = given.unwrap_or_else(Credentials::random);
        let wanted = Namespace {
            namespace: namespace.to_owned(),
            key_sha256: Sha256::digest(credentials.key.as_bytes()).into(),
            limits,
            uuid: credentials.uuid.clone(),
        };
        let entry = self.bucket.read(&credentials.uuid).await?;
        let expected = match entry {
            Some(super::bucket::Entry { revision, value: Some(value) }) => {
                let damaged = |detail| StoreError::Damaged { what: credentials.uuid.clone(), detail };
                let found = Namespace::read(&credentials.uuid, &value, revision).map_err(damaged)?;
                if found.namespace != wanted.namespace || found.key_sha256 != wanted.key_sha256 {
                    return Err(StoreError::Conflict { what: format!("user {}", credentials.uuid) });
                }
                if found == wanted {
                    self.watched.learn(credentials.uuid.clone(), revision, Some(Arc::new(found)));
                    return Ok(credentials);
                }
                Some(revision)
            }
            _ => None,
        };
        let revision = match self.bucket.write(&credentials.uuid, messages::encode(&wanted), expected).await {
            // Another process gave it the same key at the same time: it is looked at once more.
            Err(StoreError::Conflict { .. }) => {
                let written = self.bucket.read(&credentials.uuid).await?;
                let same = written.as_ref().and_then(|entry| {
                    let found =
                        Namespace::read(&credentials.uuid, entry.value.as_ref()?, entry.revision).ok()?;
                    (found == wanted).then_some(entry.revision)
                });
                same.ok_or_else(|| StoreError::Conflict { what: format!("user {}", credentials.uuid) })?
            }
            other => other?,
        };
        self.watched.learn(credentials.uuid.clone(), revision, Some(Arc::new(wanted)));
        Ok(credentials)
    }

    /// Takes a key away; whether there was one.
    pub async fn revoke(&self, uuid: &str) -> Result<bool, StoreError> {
        let uuid = uuid.to_ascii_lowercase();
        match self.bucket.read(&uuid).await? {
            Some(super::bucket::Entry { revision, value: Some(_) }) => {
                let revision = self.bucket.remove(&uuid, revision).await?;
                self.watched.learn(uuid, revision, None);
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    /// All of them, by name.
    pub fn list(&self) -> Vec<Arc<Namespace>> {
        let mut all = self.watched.all();
        all.sort_by(|a, b| a.namespace.cmp(&b.namespace).then_with(|| a.uuid.cmp(&b.uuid)));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_credentials_have_the_form_that_clients_check() {
        let credentials = Credentials::random();
        assert_eq!(credentials.as_text().parse(), Ok(credentials.clone()));
        assert_ne!(Credentials::random(), credentials);
        assert!(!format!("{credentials:?}").contains(&credentials.key));
    }

    #[test]
    fn credentials_of_another_form_are_refused() {
        let good = Credentials::random().as_text();
        for wrong in
            ["", "a:b", &good[1..], &good[..good.len() - 1], &good.replace(':', ";"), &format!("{good}!")]
        {
            assert!(wrong.parse::<Credentials>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_namespace_is_read_as_it_was_written_and_without_its_key() {
        let namespace = Namespace {
            namespace: "guest".into(),
            key_sha256: Sha256::digest(b"key").into(),
            limits: NamespaceLimits { invocations_per_minute: Some(0), concurrent_invocations: None },
            uuid: "u".into(),
        };
        let bytes = messages::encode(&namespace);
        assert_eq!(Namespace::read("u", &bytes, 1), Ok(namespace));
        assert!(Namespace::read("u", &bytes[..bytes.len() / 2], 1).is_err());
    }
}
