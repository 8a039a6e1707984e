//! The NATS door as any NATS client uses it.

use std::time::Duration;

use async_nats::{Client, ConnectOptions, HeaderMap};
use bytes::Bytes;
use messages::subjects;
use serde_json::Value;

/// How long a caller here waits. Core NATS promises no answer: one may be lost with a connection.
const PATIENCE: Duration = Duration::from_secs(30);

/// A client of one namespace's door.
#[derive(Debug, Clone)]
pub struct NatsDoor {
    /// The connection.
    pub client: Client,
    namespace: String,
}

/// What came back.
#[derive(Debug, Clone)]
pub struct NatsAnswer {
    /// The invocation, where there was one.
    pub id: String,
    /// `success`, ..., `refused`.
    pub status: String,
    /// Where it ran.
    pub vm: String,
    /// The code of a refusal; 0 otherwise.
    pub code: u16,
    /// The body.
    pub body: Bytes,
}

impl NatsAnswer {
    /// Reads a message.
    pub fn of(message: &async_nats::Message) -> Self {
        let header = |name: &str| {
            let headers = message.headers.as_ref();
            headers.and_then(|headers| headers.get(name)).map(ToString::to_string).unwrap_or_default()
        };
        Self {
            id: header(messages::HEADER_INVOCATION),
            status: header(messages::HEADER_STATUS),
            vm: header(messages::HEADER_VM),
            code: header("Nats-Service-Error-Code").parse().unwrap_or(0),
            body: message.payload.clone(),
        }
    }

    /// The body as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

impl NatsDoor {
    /// Connects, and keeps trying when the connection is lost.
    pub async fn open(url: &str, namespace: &str) -> Self {
        let client = ConnectOptions::new()
            .request_timeout(Some(PATIENCE))
            .reconnect_delay_callback(|_| Duration::from_millis(100))
            .connect(url)
            .await
            .expect("the private nats-server");
        Self { client, namespace: namespace.into() }
    }

    /// Calls and waits.
    pub async fn call(&self, name: &str, argument: &Value) -> Result<NatsAnswer, async_nats::RequestError> {
        self.ask(name, &[], argument.to_string()).await
    }

    /// Calls with any body and headers, and waits.
    pub async fn ask(
        &self,
        name: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Result<NatsAnswer, async_nats::RequestError> {
        let subject = subjects::invoke(&self.namespace, name);
        let message = self.client.request_with_headers(subject, header_map(headers), body.into()).await?;
        Ok(NatsAnswer::of(&message))
    }

    /// Hands a call to the durable door; comes back once JetStream has acknowledged it.
    pub async fn submit(&self, name: &str, headers: &[(&str, &str)], argument: &Value) -> Result<(), String> {
        async_nats::jetstream::new(self.client.clone())
            .publish_with_headers(
                subjects::submit(&self.namespace, name),
                header_map(headers),
                argument.to_string().into(),
            )
            .await
            .map_err(|error| error.to_string())?
            .await
            .map(drop)
            .map_err(|error| error.to_string())
    }

    /// Asks for the result of an invocation.
    pub async fn result(&self, id: &str) -> NatsAnswer {
        let subject = subjects::result(&self.namespace);
        let message = self.client.request(subject, id.to_owned().into()).await.expect("an answer");
        NatsAnswer::of(&message)
    }
}

fn header_map(headers: &[(&str, &str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.insert(*name, *value);
    }
    map
}
