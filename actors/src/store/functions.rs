//! Definitions of functions: who may run what, with which limits.
//!
//! **Promises:** a function keeps its id over updates and gets a new one when it is made again; updates that
//! cross each other are told apart by revision. What an older build does not know of a definition it skips.
//! **Gives up:** old versions: only the last one is kept.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::context::Context;
use bytes::Bytes;
use messages::{FunctionPath, subjects};
use serde::{Deserialize, Serialize};
use vocabulary::{ApplicationId, FunctionCard, FunctionId, OnEviction, Resources, Revision, Span};

use super::bucket::{Bucket, Entry};
use super::error::StoreError;
use super::watched::{Kept, Watched};
use crate::bus::Bus;
use crate::settings;

/// The annotation that says what an eviction may do to a function.
pub const ON_EVICTION: &str = "on-eviction";
/// The annotation that names the application a function belongs to, where its package does not.
pub const APPLICATION: &str = "application";

/// The annotation that names the field of the argument which says how large an input is; see `frontend::input_size`.
pub const INPUT_SIZE: &str = "input-size";

/// How long a writer waits for its own watch to show what it wrote, so that other Frontends have seen it too.
const SHOWN_WITHIN: Duration = Duration::from_secs(1);

/// How long a reader waits for a revision that it was told exists.
const FETCH_WITHIN: Duration = Duration::from_secs(3);

/// JSON text, known to be well-formed by whoever made it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct JsonText(pub String);

impl JsonText {
    /// The text of a value.
    pub fn of(value: &serde_json::Value) -> Self {
        Self(value.to_string())
    }

    /// The value of the text; null if it is none after all.
    pub fn value(&self) -> serde_json::Value {
        serde_json::from_str(&self.0).unwrap_or_default()
    }

    /// Whether it is `null`.
    pub fn is_null(&self) -> bool {
        self.0 == "null"
    }
}

/// A parameter or an annotation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parameter {
    /// Its name.
    pub key: String,
    /// Its value.
    pub value: JsonText,
    /// Goes to the environment when a sandbox is made, not to the argument.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub init: bool,
}

/// A function's version as users see it: `major.minor.patch`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// Three numbers, the most important first.
    pub numbers: [u32; 3],
}

impl Version {
    /// What a new function has.
    pub const FIRST: Version = Version { numbers: [0, 0, 1] };

    /// With the next patch number.
    pub fn next_patch(self) -> Self {
        let [major, minor, patch] = self.numbers;
        Self { numbers: [major, minor, patch.saturating_add(1)] }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [major, minor, patch] = self.numbers;
        write!(f, "{major}.{minor}.{patch}")
    }
}

impl FromStr for Version {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.split('.').map(|part| {
            let digits = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
            digits.then(|| part.parse().ok()).flatten()
        });
        match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some(Some(major)), Some(Some(minor)), Some(Some(patch)), None) => {
                Ok(Self { numbers: [major, minor, patch] })
            }
            _ => Err(format!("'{}' is not a version; write three numbers, as 0.0.1", shortened(text))),
        }
    }
}

fn shortened(text: &str) -> String {
    text.chars().take(64).collect()
}

impl Serialize for Version {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Version {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Where a function's code is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CodeReference {
    /// SHA-256 of its bytes, 64 lower-case hexadecimal digits; the name in [`super::Code`].
    pub digest: String,
    /// Bytes.
    pub size: u64,
}

/// What a function asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FunctionLimits {
    /// The longest one run, and apart from it one initialisation, may take, in ms.
    pub timeout_ms: u64,
    /// Memory in MB of OpenWhisk, which are MiB.
    pub memory_mb: u32,
    /// Logs that are kept of one invocation, in MB.
    pub logs_mb: u32,
    /// Runs at once in one sandbox.
    pub concurrency: u32,
    /// CPU in thousandths of a core: Windfall's own, OpenWhisk ties it to memory.
    pub cpu_millicores: u32,
}

/// A function as its owner defined it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FunctionDefinition {
    /// Given at creation, kept over updates.
    pub id: FunctionId,
    /// Which build; filled when it is read.
    #[serde(skip)]
    pub revision: Revision,
    /// The owner's namespace.
    pub namespace: String,
    /// `name`, or `package/name`.
    pub name: String,
    /// As users see it.
    pub version: Version,
    /// The runtime, such as `python:3`.
    pub kind: String,
    /// The entry point; empty for the runtime's own default.
    pub main: String,
    /// Whether the code is an archive or executable; its users send and get it as base64 then.
    pub binary: bool,
    /// The code; absent for kinds that have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<CodeReference>,
    /// Its own parameters, which every call gets unless it overrides them.
    pub parameters: Vec<Parameter>,
    /// What is said of it.
    pub annotations: Vec<Parameter>,
    /// What it asks for.
    pub limits: FunctionLimits,
    /// Whether others may see it.
    pub publish: bool,
    /// When it was last changed, in milliseconds since the Unix epoch.
    pub updated_unix_ms: u64,
}

impl FunctionDefinition {
    /// A new id.
    pub fn new_id() -> FunctionId {
        FunctionId(getrandom::u64().expect("the operating system has random numbers"))
    }

    /// Where it is found.
    pub fn path(&self) -> FunctionPath {
        FunctionPath { namespace: self.namespace.clone(), name: self.name.clone() }
    }

    /// What deciding parts must know of it.
    pub fn card(&self) -> FunctionCard {
        FunctionCard {
            id: self.id,
            revision: self.revision,
            reservation: Resources::new(self.limits.cpu_millicores, self.limits.memory_mb),
            timeout: Span::millis(self.limits.timeout_ms),
            on_eviction: self.on_eviction(),
            application: self.application(),
        }
    }

    /// The application it belongs to: the one that the annotation `application` names, else its package; both within its
    /// namespace.
    fn application(&self) -> Option<ApplicationId> {
        let named =
            self.annotation(APPLICATION).and_then(|text| serde_json::from_str::<String>(&text.0).ok());
        let name = named.or_else(|| Some(self.name.split_once('/')?.0.to_owned()))?;
        let mut hasher = policies::hash::Fixed::default();
        (&self.namespace, name).hash(&mut hasher);
        Some(ApplicationId(hasher.finish()))
    }

    /// What an eviction may do to it; the default where the annotation is missing or says nothing known.
    pub fn on_eviction(&self) -> OnEviction {
        self.annotation(ON_EVICTION).and_then(|text| serde_json::from_str(&text.0).ok()).unwrap_or_default()
    }

    /// The field that says how large an input is, if one is named.
    pub fn input_size(&self) -> Option<String> {
        serde_json::from_str(&self.annotation(INPUT_SIZE)?.0).ok()
    }

    /// An annotation's value.
    pub fn annotation(&self, key: &str) -> Option<&JsonText> {
        self.annotations.iter().find(|annotation| annotation.key == key).map(|annotation| &annotation.value)
    }

    /// Whether an annotation is truthy as OpenWhisk means it: present, and not false, null, 0 or empty.
    pub fn is_annotated(&self, key: &str) -> bool {
        self.annotation(key).is_some_and(|value| !matches!(value.0.as_str(), "false" | "null" | "0" | "\"\""))
    }

    /// Whether a call's argument has to be merged with parameters of its own.
    pub fn has_parameters(&self) -> bool {
        self.parameters.iter().any(|parameter| !parameter.init)
    }

    /// Parameters that go to the environment of a new sandbox.
    pub fn init_parameters(&self) -> impl Iterator<Item = &Parameter> {
        self.parameters.iter().filter(|parameter| parameter.init)
    }

    /// The argument of a run: the function's own parameters, overridden by the caller's. A `payload` that is not
    /// a JSON object comes back as it is, and so does one when there is nothing to merge.
    pub fn merge(&self, payload: &Bytes) -> Bytes {
        if !self.has_parameters() {
            return payload.clone();
        }
        let Ok(given) = serde_json::from_slice::<ObjectKeys>(payload) else { return payload.clone() };
        let Some(open) = payload.iter().position(|byte| *byte == b'{') else { return payload.clone() };
        let mut merged = Vec::with_capacity(payload.len() + 256);
        merged.push(b'{');
        let own = self.parameters.iter().filter(|parameter| !parameter.init && !given.has(&parameter.key));
        for parameter in own {
            if merged.len() > 1 {
                merged.push(b',');
            }
            let key = serde_json::to_string(&parameter.key).expect("text can always be written");
            merged.extend_from_slice(key.as_bytes());
            merged.push(b':');
            merged.extend_from_slice(parameter.value.0.as_bytes());
        }
        // The caller's own entries follow byte for byte, up to and with the closing brace.
        if merged.len() > 1 && !given.0.is_empty() {
            merged.push(b',');
        }
        merged.extend_from_slice(&payload[open + 1..]);
        merged.into()
    }

    /// The names in `payload` that must not be overridden: with the annotation `final`, all that have a value.
    pub fn overridden_finals(&self, payload: &[u8]) -> Vec<String> {
        if !self.is_annotated("final") || self.parameters.is_empty() {
            return Vec::new();
        }
        let Ok(given) = serde_json::from_slice::<ObjectKeys>(payload) else { return Vec::new() };
        let fixed = self.parameters.iter().filter(|parameter| !parameter.value.is_null());
        fixed.filter(|parameter| given.has(&parameter.key)).map(|parameter| parameter.key.clone()).collect()
    }
}

/// The names in a JSON object; its values are read past.
struct ObjectKeys(Vec<String>);

impl ObjectKeys {
    fn has(&self, key: &str) -> bool {
        self.0.iter().any(|given| given == key)
    }
}

impl<'de> Deserialize<'de> for ObjectKeys {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Names;

        impl<'de> serde::de::Visitor<'de> for Names {
            type Value = ObjectKeys;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<ObjectKeys, A::Error> {
                let mut names = Vec::new();
                while let Some((name, serde::de::IgnoredAny)) = map.next_entry()? {
                    names.push(name);
                }
                Ok(ObjectKeys(names))
            }
        }

        deserializer.deserialize_map(Names)
    }
}

impl Kept for FunctionDefinition {
    type Key = FunctionPath;

    fn key(bucket_key: &str) -> Option<FunctionPath> {
        let (namespace, name) = bucket_key.split_once('.')?;
        Some(FunctionPath { namespace: subjects::name(namespace)?, name: subjects::name(name)? })
    }

    fn read(_: &str, value: &[u8], revision: u64) -> Result<Self, String> {
        let mut definition: Self = messages::decode(value).map_err(|error| error.to_string())?;
        definition.revision = Revision(revision);
        Ok(definition)
    }
}

/// All functions. Copies share one watched copy.
#[derive(Clone)]
pub struct Functions {
    bucket: Bucket,
    watched: Arc<Watched<FunctionDefinition>>,
}

impl Functions {
    pub(super) async fn open(
        bus: &Bus,
        context: &Context,
        settings: &settings::Store,
    ) -> Result<Self, StoreError> {
        let bucket = Bucket::open(context, "WINDFALL_FUNCTIONS", settings.replicas).await?;
        let watched = Watched::open(bus, &bucket).await?;
        Ok(Self { bucket, watched })
    }

    /// What is known here and now; another process's change is seen a moment later.
    pub fn get(&self, path: &FunctionPath) -> Option<Arc<FunctionDefinition>> {
        self.watched.get(path)
    }

    /// The definition as it stands in the store now, whatever is known here: for who changes it or shows it.
    ///
    /// # Errors
    /// The store does not answer, or the definition is damaged.
    pub async fn read(&self, path: &FunctionPath) -> Result<Option<Arc<FunctionDefinition>>, StoreError> {
        let key = key(path);
        match self.bucket.read(&key).await? {
            Some(entry) => self.learn(path, &key, entry),
            None => Ok(None),
        }
    }

    /// Takes over an entry that was read.
    fn learn(
        &self,
        path: &FunctionPath,
        key: &str,
        entry: Entry,
    ) -> Result<Option<Arc<FunctionDefinition>>, StoreError> {
        let read = entry.value.map(|value| FunctionDefinition::read(key, &value, entry.revision));
        let read = read.transpose().map_err(|detail| StoreError::Damaged { what: key.to_owned(), detail })?;
        let definition = read.map(Arc::new);
        self.watched.learn(path.clone(), entry.revision, definition.clone());
        Ok(definition)
    }

    /// A definition of revision `at_least` or newer, read from the store where what is known is older; `None` if
    /// there is no such function (any more).
    ///
    /// # Errors
    /// The store does not answer, or has nothing of that revision for 3 s.
    pub async fn fetch(
        &self,
        path: &FunctionPath,
        at_least: Revision,
    ) -> Result<Option<Arc<FunctionDefinition>>, StoreError> {
        if let Some(known) = self.get(path).filter(|known| known.revision >= at_least) {
            return Ok(Some(known));
        }
        let key = key(path);
        let give_up = tokio::time::Instant::now() + FETCH_WITHIN;
        loop {
            match self.bucket.read(&key).await? {
                None => return Ok(None),
                Some(entry) if entry.revision >= at_least.0 => return self.learn(path, &key, entry),
                Some(_) if tokio::time::Instant::now() < give_up => {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                Some(entry) => {
                    return Err(StoreError::Damaged {
                        what: key,
                        detail: format!(
                            "it is at revision {}, and {} was asked for",
                            entry.revision, at_least.0
                        ),
                    });
                }
            }
        }
    }

    /// Stores a definition: a new one if `expected` is `None`, else in place of that revision. Answers what was
    /// stored, with its revision.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if there is one already, or it is at another revision.
    pub async fn put(
        &self,
        mut definition: FunctionDefinition,
        expected: Option<Revision>,
    ) -> Result<Arc<FunctionDefinition>, StoreError> {
        let path = definition.path();
        let value = messages::encode(&definition);
        let revision = self.bucket.write(&key(&path), value, expected.map(|revision| revision.0)).await?;
        definition.revision = Revision(revision);
        let definition = Arc::new(definition);
        self.watched.learn(path, revision, Some(Arc::clone(&definition)));
        self.watched.shown(revision, SHOWN_WITHIN).await;
        Ok(definition)
    }

    /// Waits until what is known here is as new as `revision`; false when `patience` ended first.
    pub async fn shown(&self, revision: Revision, patience: Duration) -> bool {
        self.watched.shown(revision.0, patience).await
    }

    /// Removes a function that is at revision `expected`. Answers the revision at which it is gone.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if it is at another revision.
    pub async fn delete(&self, path: &FunctionPath, expected: Revision) -> Result<Revision, StoreError> {
        let revision = self.bucket.remove(&key(path), expected.0).await?;
        self.watched.learn(path.clone(), revision, None);
        self.watched.shown(revision, SHOWN_WITHIN).await;
        Ok(Revision(revision))
    }

    /// The functions of a namespace, or of one package in it, the one changed last first.
    pub fn list(&self, namespace: &str, package: Option<&str>) -> Vec<Arc<FunctionDefinition>> {
        let mut listed = self.watched.pick(|function| {
            function.namespace == namespace
                && package
                    .is_none_or(|package| function.name.split_once('/').is_some_and(|(of, _)| of == package))
        });
        listed.sort_by(|a, b| b.updated_unix_ms.cmp(&a.updated_unix_ms).then_with(|| a.name.cmp(&b.name)));
        listed
    }

    /// Every function there is, in no order.
    pub fn all(&self) -> Vec<Arc<FunctionDefinition>> {
        self.watched.all()
    }

    /// Definitions that could not be read since the start.
    pub fn unreadable(&self) -> u64 {
        self.watched.unreadable()
    }
}

fn key(path: &FunctionPath) -> String {
    format!("{}.{}", subjects::token(&path.namespace), subjects::token(&path.name))
}

#[cfg(test)]
mod tests;
