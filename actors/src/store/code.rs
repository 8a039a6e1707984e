//! Code of functions, by its digest, in an object store.
//!
//! **Promises:** what is got is what was put: the digest is checked.
//! **Gives up:** removing code at once when its last function goes; see [`Code::sweep`].

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_nats::jetstream::context::Context;
use async_nats::jetstream::object_store::{GetErrorKind, InfoErrorKind, ObjectMetadata, ObjectStore};
use async_nats::jetstream::stream::DiscardPolicy;
use bytes::Bytes;
use futures::StreamExt;
use sha2::{Digest, Sha256};
use tokio::io::AsyncReadExt;

use super::error::StoreError;
use super::streams;
use crate::settings;

const BUCKET: &str = "WINDFALL_CODE";

/// Bytes of one message: the largest that every server takes which `Bus::connect` accepts.
const CHUNK: usize = 1 << 20;

/// Longest silence while an object is read: one whose chunks are gone would be waited for without end.
const SILENCE: Duration = Duration::from_secs(10);

/// All code. Copies are cheap.
#[derive(Clone)]
pub struct Code {
    objects: ObjectStore,
    unused: Arc<Mutex<Unused>>,
}

/// Since when code has been seen without a function, by this process's own clock: a wall clock that is ahead would take code
/// for old whose function is only being defined. With the object's own id, which another upload changes.
type Unused = HashMap<String, (String, Instant)>;

impl Code {
    pub(super) async fn open(context: &Context, settings: &settings::Store) -> Result<Self, StoreError> {
        let size = streams::mebibytes(settings.code_size_mib);
        let config = streams::objects(BUCKET, settings.replicas, size, Duration::ZERO, DiscardPolicy::New);
        streams::ensure(context, config).await?;
        let objects = context
            .get_object_store(BUCKET)
            .await
            .map_err(|error| StoreError::of("opening the code", &error))?;
        Ok(Self { objects, unused: Arc::default() })
    }

    /// Stores code and answers its digest, by which it is got again. Code that is there already is not sent
    /// again.
    ///
    /// # Errors
    /// [`StoreError::NoSpace`] when `store.code_size_mib` is used up.
    pub async fn put(&self, code: Bytes) -> Result<String, StoreError> {
        let digest = digest(code.clone()).await;
        match self.objects.info(digest.as_str()).await {
            Ok(info) if !info.deleted && info.size == code.len() => return Ok(digest),
            Ok(_) => {}
            Err(error) if error.kind() == InfoErrorKind::NotFound => {}
            Err(error) => return Err(StoreError::of("looking for code", &error)),
        }
        let meta = ObjectMetadata { name: digest.clone(), chunk_size: Some(CHUNK), ..Default::default() };
        self.objects.put(meta, &mut &code[..]).await.map_err(|error| {
            match StoreError::of("storing code", &error) {
                // The chunk's error comes as text, its code is lost on the way.
                StoreError::Unreachable { doing, detail } if detail.contains("maximum bytes exceeded") => {
                    StoreError::NoSpace { doing, detail: format!("{detail} (store.code_size_mib)") }
                }
                other => other,
            }
        })?;
        Ok(digest)
    }

    /// The code of a digest.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] if it is not there or not what it should be.
    pub async fn get(&self, digest: &str) -> Result<Bytes, StoreError> {
        let damaged = |detail: String| StoreError::Damaged { what: format!("code {digest}"), detail };
        let bytes = read(&self.objects, digest).await?.ok_or_else(|| damaged("it is not there".into()))?;
        if self::digest(bytes.clone()).await != digest {
            return Err(damaged("its digest is another".into()));
        }
        Ok(bytes)
    }

    /// Removes code that was without a function in every sweep for `grace`, and so in two at least; answers how much was
    /// removed. `grace` must be longer than it takes to define a function after its code was put.
    pub async fn sweep(&self, referenced: &HashSet<String>, grace: Duration) -> Result<usize, StoreError> {
        let mut removed = 0;
        let (began, mut unused) = (Instant::now(), Unused::new());
        let before = self.unused.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut list = self.objects.list().await.map_err(|error| StoreError::of("listing code", &error))?;
        while let Some(info) = list.next().await {
            let info = info.map_err(|error| StoreError::of("listing code", &error))?;
            if info.deleted || referenced.contains(&info.name) {
                continue;
            }
            let since = *match before.get(&info.name) {
                Some((upload, since)) if *upload == info.nuid => since,
                _ => &began,
            };
            if began.duration_since(since) < grace {
                unused.insert(info.name, (info.nuid, since));
            } else {
                self.objects
                    .delete(&info.name)
                    .await
                    .map_err(|error| StoreError::of("removing code", &error))?;
                removed += 1;
            }
        }
        *self.unused.lock().unwrap_or_else(PoisonError::into_inner) = unused;
        Ok(removed)
    }
}

/// An object's bytes; `None` if there is none of that name.
pub(super) async fn read(objects: &ObjectStore, name: &str) -> Result<Option<Bytes>, StoreError> {
    let reading = format!("reading {name}");
    let mut object = match objects.get(name).await {
        Ok(object) => object,
        Err(error) if error.kind() == GetErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(StoreError::of(&reading, &error)),
    };
    let mut bytes = Vec::with_capacity(object.info().size);
    loop {
        let read = tokio::time::timeout(SILENCE, object.read_buf(&mut bytes)).await;
        match read {
            Ok(Ok(0)) => return Ok(Some(bytes.into())),
            Ok(Ok(_)) => {}
            Ok(Err(error)) => {
                return Err(StoreError::Damaged { what: name.to_owned(), detail: error.to_string() });
            }
            Err(_) => {
                return Err(StoreError::Unreachable {
                    doing: reading,
                    detail: "a part of it did not come".into(),
                });
            }
        }
    }
}

/// SHA-256 as hexadecimal, off the runtime's threads where it takes long.
async fn digest(bytes: Bytes) -> String {
    let hash = move || {
        use std::fmt::Write as _;
        Sha256::digest(&bytes).iter().fold(String::with_capacity(64), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
    };
    tokio::task::spawn_blocking(hash).await.expect("hashing does not panic")
}
