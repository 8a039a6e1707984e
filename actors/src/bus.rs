//! The connection to NATS, and messages over it.
//!
//! **Knows:** how to reach the server, how messages become bytes.
//! **Promises:** reconnects for ever with backoff; what is published while the server is away is held (bounded by
//! the client's own channel) and sent when it is back; reconnects are counted. A server that is too old or
//! whose `max_payload` is too small is refused at start with what to do.
//! **Gives up:** delivery. Core NATS may lose a message; the protocols above say what follows then.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_nats::{Client, ConnectOptions, Event};
use bytes::Bytes;
use serde::Serialize;

use crate::settings::Nats;

/// The smallest `max_payload` that carries an argument of 1 MiB in its envelope, with room for parameters.
pub const MAX_PAYLOAD_NEEDED: usize = 4 << 20;

/// The oldest server whose JetStream speaks what the store needs.
pub const SERVER_NEEDED: (i64, i64, i64) = (2, 11, 0);

/// A connection to NATS; copies share it.
#[derive(Clone)]
pub struct Bus {
    client: Client,
    reconnects: Arc<AtomicU64>,
}

/// Why there is no bus.
#[derive(Debug, thiserror::Error)]
pub enum BusError {
    /// Nobody answers, or the server turned us away.
    #[error(
        "cannot connect to NATS at {url}: {source}. Is nats-server running there, and are nats.user and nats.password right?"
    )]
    Connect {
        /// Where we tried.
        url: String,
        /// What the client said.
        source: async_nats::ConnectError,
    },
    /// The credentials file cannot be read.
    #[error("cannot read the NATS credentials {path}: {source}")]
    Credentials {
        /// Which file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// The server cannot carry an argument of 1 MiB.
    #[error(
        "NATS at {url} takes messages up to {found} bytes; set max_payload to at least {MAX_PAYLOAD_NEEDED} in its configuration"
    )]
    SmallPayload {
        /// Which server.
        url: String,
        /// Its limit.
        found: usize,
    },
    /// The server is too old.
    #[error("NATS at {url} is version {found}; Windfall needs {}.{}.{} or newer (`sh deploy/up.sh` installs one)", SERVER_NEEDED.0, SERVER_NEEDED.1, SERVER_NEEDED.2)]
    OldServer {
        /// Which server.
        url: String,
        /// Its version.
        found: String,
    },
}

impl Bus {
    /// Connects as `name`, which is what an operator sees in the server's connection list.
    pub async fn connect(settings: &Nats, name: &str) -> Result<Self, BusError> {
        let reconnects = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&reconnects);
        let mut options = ConnectOptions::new()
            .name(name)
            // Users may listen on `_INBOX.>`; the house's own replies go elsewhere.
            .custom_inbox_prefix("_WINDFALL")
            .subscription_capacity(1 << 16)
            .client_capacity(1 << 13)
            .ping_interval(Duration::from_secs(5))
            .connection_timeout(Duration::from_secs(5))
            .reconnect_delay_callback(|attempt| Duration::from_millis((50 << attempt.min(5)) as u64))
            .event_callback(move |event| {
                let counter = Arc::clone(&counter);
                async move {
                    match event {
                        Event::Connected => {
                            counter.fetch_add(1, Ordering::Relaxed);
                            tracing::info!("connected to NATS");
                        }
                        Event::Disconnected => tracing::warn!("lost the connection to NATS; trying again"),
                        other => tracing::warn!(event = %other, "NATS"),
                    }
                }
            });
        if let Some(path) = &settings.credentials {
            options = options
                .credentials_file(path)
                .await
                .map_err(|source| BusError::Credentials { path: path.display().to_string(), source })?;
        } else if !settings.user.is_empty() {
            options = options.user_and_password(settings.user.clone(), settings.password.clone());
        }
        let servers: Vec<&str> =
            settings.url.split(',').map(str::trim).filter(|url| !url.is_empty()).collect();
        let client = options
            .connect(servers)
            .await
            .map_err(|source| BusError::Connect { url: settings.url.clone(), source })?;
        let info = client.server_info();
        if info.max_payload < MAX_PAYLOAD_NEEDED {
            return Err(BusError::SmallPayload { url: settings.url.clone(), found: info.max_payload });
        }
        if !client.is_server_compatible(SERVER_NEEDED.0, SERVER_NEEDED.1, SERVER_NEEDED.2) {
            return Err(BusError::OldServer { url: settings.url.clone(), found: info.version });
        }
        Ok(Self { client, reconnects })
    }

    /// The client itself, for what the bus does not wrap.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// How often the connection had to be made again.
    pub fn reconnects(&self) -> u64 {
        self.reconnects.load(Ordering::Relaxed).saturating_sub(1)
    }

    /// Sends a message; a failure to do so (the client is closed) is logged, since every protocol above must
    /// live with a lost message anyway.
    pub async fn send<M: Serialize>(&self, subject: String, message: &M) {
        self.send_bytes(subject, messages::encode(message)).await;
    }

    /// Sends bytes.
    pub async fn send_bytes(&self, subject: String, bytes: Bytes) {
        if let Err(error) = self.client.publish(subject, bytes).await {
            tracing::warn!(%error, "could not publish");
        }
    }

    /// Sends a message whose reply subject learns "no responders" when nobody listens.
    pub async fn send_expecting<M: Serialize>(&self, subject: String, reply: String, message: &M) {
        if let Err(error) = self.client.publish_with_reply(subject, reply, messages::encode(message)).await {
            tracing::warn!(%error, "could not publish");
        }
    }
}

/// Whether a message is NATS's own "nobody listens there".
pub fn is_no_responders(message: &async_nats::Message) -> bool {
    message.status == Some(async_nats::StatusCode::NO_RESPONDERS)
}
