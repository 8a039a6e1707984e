//! The collection of actions: list, get, put, delete; POST is in `invoke`.

use std::sync::Arc;

use axum::body::Body;
use axum::http::{Method, StatusCode};
use messages::FunctionPath;
use serde_json::json;

use super::answer::{self, Refusal};
use super::asked::Asked;
use super::auth::Caller;
use super::entity::{Action, Shown};
use super::{Answered, Door, names, put};
use crate::clock::unix_ms;
use crate::store::{CodeReference, FunctionDefinition};

/// Bodies and code over so many bytes are worked on where nothing else waits for it.
const MUCH: usize = 256 << 10;

impl Door {
    pub(super) async fn actions(
        &self,
        asked: &Asked,
        rest: &[&str],
        body: Body,
        caller: &Caller,
    ) -> Answered {
        let all = [Method::GET, Method::PUT, Method::POST, Method::DELETE];
        let name = match rest {
            [] => {
                asked.only(&[Method::GET])?;
                return self.list(asked, caller);
            }
            [package] if asked.ends_with_slash => {
                asked.only(&[Method::GET])?;
                names::checked(package)?;
                // There are no packages yet.
                return Err(Refusal::not_found());
            }
            [name] => names::checked(name)?.to_owned(),
            [package, name] => format!("{}/{}", names::checked(package)?, names::checked(name)?),
            _ => return Err(Refusal::not_found()),
        };
        asked.only(&all)?;
        let path = FunctionPath { namespace: caller.own().to_owned(), name };
        match asked.method {
            Method::PUT => self.put(asked, &path, body).await,
            Method::POST => self.invoke(asked, path, body, caller).await,
            Method::DELETE => self.delete(&path).await,
            _ => self.get(asked, &path).await,
        }
    }

    fn list(&self, asked: &Asked, caller: &Caller) -> Answered {
        let limits = &self.given.settings.limits;
        let page = asked.page("actions", limits.list_default, limits.list_max)?;
        let functions = self.given.store.functions().list(caller.own(), None);
        if asked.flag("count", false)? {
            let count = functions.len().saturating_sub(page.skip);
            return Ok(answer::json(StatusCode::OK, &json!({ "actions": count })));
        }
        let shown = functions.iter().skip(page.skip).take(page.limit);
        let shown: Vec<Action<'_>> = shown.map(|function| Action::of(function, &Shown::Summary)).collect();
        Ok(answer::json(StatusCode::OK, &shown))
    }

    async fn get(&self, asked: &Asked, path: &FunctionPath) -> Answered {
        let with_code = asked.flag("code", true)?;
        let function = self.given.store.functions().read(path).await?.ok_or_else(Refusal::not_found)?;
        if with_code {
            self.with_code(function).await
        } else {
            Ok(answer::json(StatusCode::OK, &Action::of(&function, &Shown::WithoutCode)))
        }
    }

    async fn delete(&self, path: &FunctionPath) -> Answered {
        let functions = self.given.store.functions();
        let function = functions.read(path).await?.ok_or_else(Refusal::not_found)?;
        let revision = functions.delete(path, function.revision).await?;
        self.given.desk.peers().caught_up(revision).await;
        self.with_code(function).await
    }

    /// The whole entity, with the code it refers to.
    async fn with_code(&self, function: Arc<FunctionDefinition>) -> Answered {
        let bytes = match &function.code {
            Some(code) => self.given.store.code().get(&code.digest).await?,
            None => return Ok(answer::json(StatusCode::OK, &Action::of(&function, &Shown::WithoutCode))),
        };
        let size = bytes.len();
        aside(size, move || answer::json(StatusCode::OK, &Action::of(&function, &Shown::Stored(&bytes))))
            .await
    }

    async fn put(&self, asked: &Asked, path: &FunctionPath, body: Body) -> Answered {
        let overwrite = asked.flag("overwrite", false)?;
        let settings = Arc::clone(&self.given.settings);
        let limits = &settings.limits;
        // Code in base64 or with escapes, parameters and annotations, and what surrounds them.
        let longest = limits.code_max + limits.code_max / 2 + 2 * limits.payload_max + MUCH;
        let body = self.read_json(&asked.headers, body, longest).await?;
        let functions = self.given.store.functions();
        if path.name.contains('/') {
            // There are no packages yet.
            return Err(Refusal::not_found());
        }
        let old = functions.read(path).await?;
        if old.is_some() && !overwrite {
            return Err(Refusal::already_exists());
        }
        let manifest = self.given.manifest.clone();
        let (size, given) = (body.bytes.len(), Arc::clone(&settings));
        let checked = aside(size, move || put::read(&body.bytes, &manifest, &given.limits)).await??;
        let code = checked.code().cloned();
        let stored = match &code {
            Some(code) => {
                let size = code.bytes.len() as u64;
                Some(CodeReference { digest: self.given.store.code().put(code.bytes.clone()).await?, size })
            }
            None => None,
        };
        let expected = old.as_ref().map(|old| old.revision);
        let new = match &old {
            Some(old) => checked.update(old, stored, unix_ms()),
            None => checked.create(&path.namespace, &path.name, stored, limits, unix_ms())?,
        };
        let function = functions.put(new, expected).await?;
        // Whoever has this answer may call through any Frontend and finds what he has put.
        self.given.desk.peers().caught_up(function.revision).await;
        match code {
            Some(code) => {
                let size = code.text.len();
                let shown =
                    move || answer::json(StatusCode::OK, &Action::of(&function, &Shown::Sent(&code.text)));
                aside(size, shown).await
            }
            None => self.with_code(function).await,
        }
    }
}

/// Works on `size` bytes: here if they are few, else on a thread of its own.
async fn aside<T: Send + 'static>(
    size: usize,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Refusal> {
    if size < MUCH {
        return Ok(work());
    }
    tokio::task::spawn_blocking(work).await.map_err(|error| {
        tracing::error!(%error, "work on a large body failed");
        Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "There was an internal server error.")
    })
}
