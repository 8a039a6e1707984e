//! The NATS door as any client sees it: request-reply, and durable submission.

use std::time::Duration;

use async_nats::{Client as Nats, ConnectOptions, HeaderMap};
use messages::subjects;
use serde_json::Value;

use crate::client::Client;
use crate::failure::{Exit, Failure, Outcome};

/// Longer than any function may wait and run.
const PATIENCE: Duration = Duration::from_secs(400);

/// A connection in the name of one namespace.
pub struct NatsDoor {
    nats: Nats,
    namespace: String,
    url: String,
}

/// What came back.
pub struct DoorAnswer {
    /// The invocation's id.
    pub id: String,
    /// `success`, `application error`, ..., `refused`.
    pub status: String,
    /// The VM, and `warm` or `cold`.
    pub vm: String,
    /// The result, or an object with `error`.
    pub result: Value,
}

impl NatsDoor {
    /// Connects with the client's key. The namespace is asked for by HTTP where no file names it.
    pub async fn open(client: &Client, url: Option<&str>) -> Outcome<Self> {
        let endpoint = client.endpoint();
        let url = url.map(str::to_owned).or_else(|| endpoint.nats_url.clone()).ok_or_else(|| {
            Failure::usage("no NATS server is known: name it with --nats-url nats://host:port")
        })?;
        let namespace = match &endpoint.namespace {
            Some(namespace) => namespace.clone(),
            None => {
                let all = client.get("/namespaces").await?;
                all[0].as_str().map(str::to_owned).ok_or_else(|| {
                    Failure::new(Exit::Failed, "the cluster does not say which namespace the key belongs to")
                })?
            }
        };
        let (user, key) = endpoint.auth.split_once(':').unwrap_or_default();
        let nats = ConnectOptions::with_user_and_password(user.into(), key.into())
            .name("windfall invoke")
            .connection_timeout(Duration::from_secs(5))
            .request_timeout(Some(PATIENCE))
            .connect(&url)
            .await
            .map_err(|error| unreachable(&url, &error))?;
        Ok(Self { nats, namespace, url })
    }

    /// Calls a function and waits.
    pub async fn invoke(&self, name: &str, argument: &Value) -> Outcome<DoorAnswer> {
        let subject = subjects::invoke(&self.namespace, name);
        let payload = serde_json::to_vec(argument)?;
        let message =
            self.nats.request(subject, payload.into()).await.map_err(|error| match error.kind() {
                async_nats::RequestErrorKind::NoResponders => Failure::new(
                    Exit::Unreachable,
                    format!("nobody serves {} at {}: is a Frontend running?", subjects::INVOKE_ALL, self.url),
                ),
                async_nats::RequestErrorKind::TimedOut => {
                    Failure::new(Exit::StillRunning, format!("no answer within {} s", PATIENCE.as_secs()))
                }
                _ => Failure::new(Exit::Failed, format!("NATS at {}: {error}", self.url)),
            })?;
        let header = |name: &str| {
            let headers = message.headers.as_ref();
            headers.and_then(|headers| headers.get(name)).map(|value| value.to_string()).unwrap_or_default()
        };
        let result = serde_json::from_slice(&message.payload).map_err(|error| {
            Failure::new(
                Exit::Failed,
                format!("the answer is not JSON ({error}); is this a Windfall cluster?"),
            )
        })?;
        Ok(DoorAnswer {
            id: header(messages::HEADER_INVOCATION),
            status: header(messages::HEADER_STATUS),
            vm: header(messages::HEADER_VM),
            result,
        })
    }

    /// Hands a call to JetStream and returns its id once JetStream has it.
    pub async fn submit(&self, name: &str, argument: &Value) -> Outcome<String> {
        let id = vocabulary::InvocationId::new(actors::clock::unix_ms(), chance()?);
        let mut headers = HeaderMap::new();
        headers.insert(messages::HEADER_INVOCATION, id.to_string().as_str());
        headers.insert(async_nats::header::NATS_MESSAGE_ID, id.to_string().as_str());
        let subject = subjects::submit(&self.namespace, name);
        let payload = serde_json::to_vec(argument)?;
        let refused = |error: String| {
            Failure::new(Exit::Refused, format!("JetStream at {} did not take it: {error}", self.url))
        };
        async_nats::jetstream::new(self.nats.clone())
            .publish_with_headers(subject, headers, payload.into())
            .await
            .map_err(|error| refused(error.to_string()))?
            .await
            .map_err(|error| refused(error.to_string()))?;
        Ok(id.to_string())
    }
}

/// The function's name on a subject. The namespace is the key's own, so `/_/name` is the only other form.
pub fn plain_name(name: &str) -> Outcome<String> {
    match name.strip_prefix('/') {
        None => Ok(name.to_owned()),
        Some(rest) => match rest.strip_prefix("_/") {
            Some(name) => Ok(name.to_owned()),
            None => Err(Failure::usage(
                "the NATS door serves the key's own namespace: write name or package/name",
            )),
        },
    }
}

/// Why NATS cannot be reached.
pub fn unreachable(url: &str, error: &async_nats::ConnectError) -> Failure {
    match error.kind() {
        async_nats::ConnectErrorKind::Authentication
        | async_nats::ConnectErrorKind::AuthorizationViolation => {
            Failure::new(Exit::Refused, format!("NATS at {url} does not know this key: {error}"))
        }
        _ => Failure::new(
            Exit::Unreachable,
            format!("cannot reach NATS at {url}: {error}. Is `windfall up` running?"),
        ),
    }
}

/// 128 unpredictable bits.
pub fn chance() -> Outcome<u128> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)
        .map_err(|error| Failure::new(Exit::Failed, format!("the system gives no random bytes: {error}")))?;
    Ok(u128::from_be_bytes(bytes))
}
