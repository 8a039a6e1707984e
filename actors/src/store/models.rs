//! Models of the learned allocator: those that were handed in, and what became of each.
//!
//! **Promises:** each has a number, higher than all before it; the model in force is the highest that was taken up. What became of one is
//! written once: of two Controllers that end its trial at the same time, one is heard. At most [`KEPT`] are kept beside the one in
//! force, the oldest go first.
//! **Gives up:** judging: whether the bytes are a model is found out by who loads them.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use messages::Payload;
use serde::{Deserialize, Serialize};

use super::bucket::{Bucket, Entry};
use super::error::StoreError;
use super::watched::{Kept, Watched};
use super::{Store, streams};
use crate::clock::unix_ms;

const BUCKET: &str = "WINDFALL_MODELS";

/// Bytes of a model in the store: what every server takes as one message. Ours have ten thousand.
pub const MODEL_IN_STORE_MAX: usize = 512 << 10;
/// So many are kept beside the one in force.
const KEPT: usize = 16;
/// How long the copy here may take to show what was written here.
const SHOWN_WITHIN: Duration = Duration::from_secs(2);
/// How often a number that somebody else took first is drawn again.
const ATTEMPTS: u32 = 8;

/// What both models of a trial cost on average, in thousandths of what a run takes with its reservation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compared {
    /// Runs that both were judged by.
    pub runs: u32,
    /// Of these, runs for which both chose the same.
    pub agreed: u32,
    /// Decisions for which the candidate had no answer.
    pub unanswered: u32,
    /// The model that was in force.
    pub in_force: u64,
    /// The candidate.
    pub candidate: u64,
}

/// What became of a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// Controllers try it beside the one in force.
    OnTrial,
    /// It was not worse and has been taken up; `None`: by an operator's word, without a trial.
    Taken(Option<Compared>),
    /// It was not taken up.
    Refused {
        /// Why.
        why: String,
        /// If that was found in a trial.
        compared: Option<Compared>,
    },
    /// An operator has taken it back.
    Withdrawn,
}

impl Standing {
    /// One word for tables.
    pub fn word(&self) -> &'static str {
        match self {
            Self::OnTrial => "on trial",
            Self::Taken(_) => "taken",
            Self::Refused { .. } => "refused",
            Self::Withdrawn => "withdrawn",
        }
    }
}

/// A model with its story.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Model {
    /// From 1 on.
    #[serde(skip)]
    pub number: u64,
    /// When it was handed in, in milliseconds since the Unix epoch.
    pub put_unix_ms: u64,
    /// Where it came from, for people.
    pub from: String,
    /// What became of it.
    pub standing: Standing,
    /// When that was written.
    pub since_unix_ms: u64,
    /// The file.
    pub bytes: Payload,
}

impl Kept for Model {
    type Key = u64;

    fn key(bucket_key: &str) -> Option<u64> {
        bucket_key.parse().ok()
    }

    fn read(bucket_key: &str, value: &[u8], _revision: u64) -> Result<Self, String> {
        let number = Self::key(bucket_key).ok_or("it has no number")?;
        if value.len() > 2 * MODEL_IN_STORE_MAX {
            return Err(format!("it has {} bytes", value.len()));
        }
        let model: Model = messages::decode(value).map_err(|error| error.to_string())?;
        Ok(Self { number, ..model })
    }
}

fn key(number: u64) -> String {
    format!("{number:010}")
}

/// All of them. Copies share what is watched.
#[derive(Clone)]
pub struct Models {
    bucket: Bucket,
    watched: Arc<Watched<Model>>,
}

impl Store {
    /// The models, made where the bucket is missing, and read in full. Only those who ask pay for it.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn models(&self) -> Result<Models, StoreError> {
        let config = async_nats::jetstream::stream::Config {
            max_bytes: (KEPT as i64 + 2) * 2 * MODEL_IN_STORE_MAX as i64,
            ..streams::key_value(BUCKET, self.kept.settings.replicas)
        };
        let bucket = Bucket::open_as(&self.kept.context, BUCKET, config).await?;
        let watched = Watched::open(&self.kept.bus, &bucket).await?;
        Ok(Models { bucket, watched })
    }
}

impl Models {
    /// All of them, by number.
    pub fn all(&self) -> Vec<Arc<Model>> {
        let mut all = self.watched.all();
        all.sort_by_key(|model| model.number);
        all
    }

    /// The one of this number.
    pub fn get(&self, number: u64) -> Option<Arc<Model>> {
        self.watched.get(&number)
    }

    /// The one that decides; `None`: the file that the settings name does.
    pub fn in_force(&self) -> Option<Arc<Model>> {
        self.all().into_iter().rfind(|model| matches!(model.standing, Standing::Taken(_)))
    }

    /// The one that is to be tried: of several, the newest.
    pub fn on_trial(&self) -> Option<Arc<Model>> {
        self.all().into_iter().rfind(|model| model.standing == Standing::OnTrial)
    }

    /// Hands a model in, on trial or already taken, and answers its number. Those that were on trial before are refused: only the
    /// newest is tried.
    ///
    /// # Errors
    /// It is too large, or the store does not answer.
    pub async fn put(&self, bytes: Bytes, from: &str, standing: Standing) -> Result<u64, StoreError> {
        if bytes.len() > MODEL_IN_STORE_MAX {
            let what = format!("a model of {} bytes ({MODEL_IN_STORE_MAX} at most)", bytes.len());
            return Err(StoreError::TooLarge { what });
        }
        let now = unix_ms();
        let model = Model {
            number: 0,
            put_unix_ms: now,
            from: from.to_owned(),
            standing,
            since_unix_ms: now,
            bytes: Payload(bytes),
        };
        let encoded = messages::encode(&model);
        let mut number = self.all().last().map_or(1, |last| last.number + 1);
        for _ in 0..ATTEMPTS {
            match self.bucket.write(&key(number), encoded.clone(), None).await {
                Ok(revision) => {
                    self.watched.shown(revision, SHOWN_WITHIN).await;
                    self.make_room(number).await?;
                    return Ok(number);
                }
                // Somebody else's.
                Err(StoreError::Conflict { .. }) => number += 1,
                Err(error) => return Err(error),
            }
        }
        Err(StoreError::Conflict { what: "the next model's number".to_owned() })
    }

    async fn make_room(&self, newest: u64) -> Result<(), StoreError> {
        let in_force = self.in_force().map(|model| model.number);
        for model in self.all() {
            if model.standing == Standing::OnTrial && model.number < newest {
                let why = format!("model {newest} was handed in before its trial was over");
                self.settle(model.number, Standing::Refused { why, compared: None }).await?;
            }
        }
        let others: Vec<_> = self.all().into_iter().filter(|model| Some(model.number) != in_force).collect();
        for model in others.iter().take(others.len().saturating_sub(KEPT)) {
            if let Some(Entry { revision, value: Some(_) }) = self.bucket.read(&key(model.number)).await? {
                self.bucket.remove(&key(model.number), revision).await?;
            }
        }
        Ok(())
    }

    /// Writes what became of one that is on trial; false where somebody else has written it, or there is no such model.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn settle(&self, number: u64, standing: Standing) -> Result<bool, StoreError> {
        self.change(number, |model| (model.standing == Standing::OnTrial).then_some(standing)).await
    }

    /// An operator takes one back, whatever became of it; false where there is no such model.
    ///
    /// # Errors
    /// As [`Models::settle`].
    pub async fn withdraw(&self, number: u64) -> Result<bool, StoreError> {
        self.change(number, |_| Some(Standing::Withdrawn)).await
    }

    async fn change(
        &self,
        number: u64,
        to: impl FnOnce(&Model) -> Option<Standing>,
    ) -> Result<bool, StoreError> {
        let key = key(number);
        let Some(Entry { revision, value: Some(value) }) = self.bucket.read(&key).await? else {
            return Ok(false);
        };
        let model = Model::read(&key, &value, revision)
            .map_err(|detail| StoreError::Damaged { what: format!("model {number}"), detail })?;
        let Some(standing) = to(&model) else { return Ok(false) };
        let changed = Model { standing, since_unix_ms: unix_ms(), ..model };
        match self.bucket.write(&key, messages::encode(&changed), Some(revision)).await {
            Ok(revision) => {
                self.watched.shown(revision, SHOWN_WITHIN).await;
                Ok(true)
            }
            Err(StoreError::Conflict { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_is_kept_with_its_story_and_damage_is_refused() {
        let compared = Compared { runs: 500, agreed: 400, unanswered: 0, in_force: 1_020, candidate: 990 };
        let model = Model {
            number: 7,
            put_unix_ms: 1,
            from: "a file".into(),
            standing: Standing::Taken(Some(compared)),
            since_unix_ms: 2,
            bytes: vec![1, 2, 3].into(),
        };
        let bytes = messages::encode(&model);
        assert_eq!(Model::read(&key(7), &bytes, 1), Ok(model));
        for shorter in 0..bytes.len() {
            assert!(Model::read(&key(7), &bytes[..shorter], 1).is_err(), "{shorter} bytes are taken for all");
        }
        assert!(Model::read("seven", &bytes, 1).is_err());
        assert!(Model::read(&key(7), &vec![0; 2 * MODEL_IN_STORE_MAX + 1], 1).unwrap_err().contains("bytes"));
        assert!(key(9) < key(10));
    }
}
