//! Who calls: HTTP basic authentication with a namespace's key.

use std::sync::Arc;

use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::answer::Refusal;
use super::{Door, names};
use crate::store::Namespace;

/// The longest `Authorization` that is looked at: a UUID, a key of 64 and base64 take 148 bytes.
const LONGEST: usize = 512;

/// A caller whose key was right.
pub(super) struct Caller {
    pub namespace: Arc<Namespace>,
    /// `uuid:key`, for functions that are given it.
    pub credentials: String,
}

impl Caller {
    /// The caller's own namespace.
    pub(super) fn own(&self) -> &str {
        &self.namespace.namespace
    }

    /// Refuses every namespace but the caller's own, which may be written `_`, without looking whether what is
    /// asked for exists there.
    pub(super) fn may_enter(&self, namespace: &str, rest: &[&str]) -> Result<(), Refusal> {
        if namespace == "_" || namespace == self.own() {
            return Ok(());
        }
        if !names::is_legal(namespace) {
            return Err(Refusal::bad_request("The namespace contains illegal characters."));
        }
        let resource = std::iter::once(namespace).chain(rest.iter().copied()).collect::<Vec<_>>().join("/");
        Err(Refusal::forbidden(&resource.chars().take(600).collect::<String>()))
    }
}

impl Door {
    pub(super) fn authenticate(&self, headers: &HeaderMap) -> Result<Caller, Refusal> {
        let credentials = basic(headers).ok_or_else(Refusal::unauthenticated)?;
        let (uuid, key) = credentials.split_once(':').ok_or_else(Refusal::unauthenticated)?;
        let namespace = self.given.store.namespaces().authenticate(uuid, key);
        Ok(Caller { namespace: namespace.ok_or_else(Refusal::unauthenticated)?, credentials })
    }
}

fn basic(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok().filter(|value| value.len() <= LONGEST)?;
    let (scheme, encoded) = value.trim().split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    String::from_utf8(STANDARD.decode(encoded.trim()).ok()?).ok()
}
