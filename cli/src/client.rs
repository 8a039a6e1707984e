//! A client of the cluster: HTTP for everything that OpenWhisk's API has.
//!
//! **Promises:** an answer that is not success becomes a [`Failure`] that says what was refused and what to do.
//! **Gives up:** TLS. A door with TLS is reached through a proxy that ends it.

mod endpoint;
mod parameters;

use std::time::Duration;

use serde_json::Value;

pub use endpoint::{Connection, Endpoint, PROPERTIES};
pub use parameters::{Parameters, key_values, pairs};

use crate::failure::{Exit, Failure, Outcome};

/// Longer than any blocking call waits at the door.
const PATIENCE: Duration = Duration::from_secs(330);

/// Where OpenWhisk's API is, below the host.
const API: &str = "/api/v1";

/// A client with a key.
pub struct Client {
    http: reqwest::Client,
    endpoint: Endpoint,
}

/// What the cluster answered, whatever it was.
#[derive(Debug)]
pub struct Reply {
    /// What was asked.
    path: String,
    /// HTTP status.
    pub status: u16,
    /// The body, `Null` when there is none.
    pub body: Value,
}

impl Client {
    /// A client for the endpoint that the user meant.
    pub fn new(connection: &Connection) -> Outcome<Self> {
        Self::of(Endpoint::find(connection)?)
    }

    /// A client for this endpoint.
    pub fn of(endpoint: Endpoint) -> Outcome<Self> {
        let http = reqwest::Client::builder()
            .connect_timeout(Duration::from_secs(5))
            .timeout(PATIENCE)
            .user_agent(concat!("windfall/", env!("CARGO_PKG_VERSION")))
            .build()?;
        Ok(Self { http, endpoint })
    }

    /// Whom it talks to.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Reads something.
    pub async fn get(&self, path: &str) -> Outcome<Value> {
        self.accepted(self.send(reqwest::Method::GET, path, None).await?)
    }

    /// Writes something.
    pub async fn put(&self, path: &str, body: &Value) -> Outcome<Value> {
        self.accepted(self.send(reqwest::Method::PUT, path, Some(body)).await?)
    }

    /// Removes something.
    pub async fn delete(&self, path: &str) -> Outcome<Value> {
        self.accepted(self.send(reqwest::Method::DELETE, path, None).await?)
    }

    /// Calls something; what comes back is for the caller to judge.
    pub async fn post(&self, path: &str, body: &Value) -> Outcome<Reply> {
        self.send(reqwest::Method::POST, path, Some(body)).await
    }

    async fn send(&self, method: reqwest::Method, path: &str, body: Option<&Value>) -> Outcome<Reply> {
        let url = format!("{}{API}{path}", self.endpoint.base);
        let mut request = self.http.request(method, &url);
        if let Some((user, key)) = self.endpoint.auth.split_once(':') {
            request = request.basic_auth(user, Some(key));
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await.map_err(|error| self.unreachable(&error))?;
        let status = response.status().as_u16();
        let bytes = response.bytes().await.map_err(|error| self.unreachable(&error))?;
        let body = if bytes.is_empty() {
            Value::Null
        } else {
            serde_json::from_slice(&bytes).map_err(|error| {
                Failure::new(
                    Exit::Failed,
                    format!(
                        "{} answered HTTP {status} with something that is not JSON ({error}). Is this a Windfall or OpenWhisk API?",
                        self.endpoint.base
                    ),
                )
            })?
        };
        Ok(Reply { path: path.to_owned(), status, body })
    }

    fn unreachable(&self, error: &reqwest::Error) -> Failure {
        let mut cause: &dyn std::error::Error = error;
        while let Some(deeper) = cause.source() {
            cause = deeper;
        }
        let Endpoint { base, base_from, .. } = &self.endpoint;
        let text = if error.is_timeout() {
            format!("{base} (from {base_from}) did not answer in time")
        } else {
            format!(
                "cannot reach Windfall at {base} (from {base_from}): {cause}. Is `windfall up` running? \
                 If the cluster is elsewhere, name it with --api-host or WINDFALL_API_HOST"
            )
        };
        Failure::new(Exit::Unreachable, text)
    }

    fn accepted(&self, reply: Reply) -> Outcome<Value> {
        if (200..300).contains(&reply.status) { Ok(reply.body) } else { Err(self.refused(&reply)) }
    }

    /// What the cluster's no means.
    pub fn refused(&self, reply: &Reply) -> Failure {
        let said = reply.body.get("error").map_or_else(
            || reply.body.to_string(),
            |error| error.as_str().map_or_else(|| error.to_string(), str::to_owned),
        );
        let code = reply.body.get("code").and_then(Value::as_str).unwrap_or("none");
        if reply.status == 404
            && let Some(missing) = missing(&reply.path)
        {
            return Failure::new(Exit::Refused, format!("{missing} (HTTP 404, request {code})"));
        }
        let advice = match reply.status {
            401 => format!(
                ". The key comes from {}; give another with --auth or WINDFALL_AUTH",
                self.endpoint.auth_from
            ),
            409 => ". To replace what is there, use `windfall function update`".into(),
            429 => ". Try again later, or ask the operator to raise the limit".into(),
            503 if said.contains("VM") => ". Are VMs running? See `windfall vm list`".into(),
            503 => ". Try again; if that does not help, the logs of frontend and nats-server tell why".into(),
            _ => String::new(),
        };
        let said = said.trim_end_matches('.');
        Failure::new(Exit::Refused, format!("{said} (HTTP {}, request {code}){advice}", reply.status))
    }
}

/// What is not there, in the user's words; `None` where the path names nothing that a user would look for.
fn missing(path: &str) -> Option<String> {
    let path = path.split('?').next().unwrap_or_default();
    if let Some((_, name)) = path.split_once("/actions/") {
        let name = decoded(name);
        return Some(format!(
            "there is no function '{name}'; `windfall function list` shows those there are"
        ));
    }
    let (_, rest) = path.split_once("/activations/")?;
    let id = rest.split('/').next().unwrap_or_default();
    Some(format!("there is no record of {id}: it is unknown, still running, or older than what is kept"))
}

/// What [`encoded`] made of a text, for people.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let digits = tail.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.filter(|_| first == b'%').and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            None => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// One segment of a path or query, percent-encoded.
pub fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// The path of a function: `name`, `pkg/name`, `/ns/name` or `/ns/pkg/name`, as OpenWhisk's clients take it.
pub fn function_path(name: &str) -> Outcome<String> {
    let wrong = || {
        Failure::usage(format!(
            "'{name}' does not name a function; write name, package/name, /namespace/name or /namespace/package/name"
        ))
    };
    let (namespace, rest) = match name.strip_prefix('/') {
        Some(rest) => rest.split_once('/').ok_or_else(wrong)?,
        None => ("_", name),
    };
    let parts: Vec<&str> = rest.split('/').collect();
    if parts.len() > 2 || parts.iter().any(|part| part.is_empty()) {
        return Err(wrong());
    }
    let parts: Vec<String> = parts.into_iter().map(encoded).collect();
    Ok(format!("/namespaces/{}/actions/{}", encoded(namespace), parts.join("/")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named_as_its_user_named_it() {
        let path = function_path("a b/grün").expect("a name");
        let said = missing(&format!("{path}?overwrite=true")).expect("a function");
        assert!(said.contains("'a b/grün'"), "{said}");
        let said = missing("/namespaces/_/activations/00ff/logs").expect("a record");
        assert!(said.contains("record of 00ff:"), "{said}");
        assert_eq!(missing("/namespaces/_/limits"), None);
    }

    #[test]
    fn functions_are_named_as_openwhisk_clients_do() {
        for (name, path) in [
            ("hello", "/namespaces/_/actions/hello"),
            ("a b", "/namespaces/_/actions/a%20b"),
            ("pkg/hello", "/namespaces/_/actions/pkg/hello"),
            ("/guest/hello", "/namespaces/guest/actions/hello"),
            ("/guest/pkg/hello", "/namespaces/guest/actions/pkg/hello"),
        ] {
            assert_eq!(function_path(name).expect(name), path);
        }
        for wrong in ["", "/hello", "a//b", "a/b/c", "/ns/a/b/c", "a/"] {
            assert!(function_path(wrong).is_err(), "{wrong}");
        }
    }
}
