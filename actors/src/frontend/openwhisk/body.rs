//! Bodies: judged by their announced size, read with a limit, counted while they are in hand.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Door;
use super::answer::Refusal;
use crate::frontend::argument;

/// A body that takes longer is given up: somebody holds memory and sends nothing.
const READ_WITHIN: Duration = Duration::from_secs(60);

/// Bodies in hand are counted in pieces of so many bytes.
const PIECE: usize = 4096;

/// Room for all bodies that are being read or worked on.
pub(super) struct Held {
    room: Arc<Semaphore>,
}

impl Held {
    pub(super) fn new(mib: usize) -> Self {
        let pieces = (mib.max(1) << 20).div_ceil(PIECE).min(Semaphore::MAX_PERMITS);
        Self { room: Arc::new(Semaphore::new(pieces)) }
    }

    /// A share of the room, given back when it is dropped.
    fn take(&self, bytes: usize) -> Result<OwnedSemaphorePermit, Refusal> {
        let pieces = u32::try_from(bytes.div_ceil(PIECE)).unwrap_or(u32::MAX);
        Arc::clone(&self.room).try_acquire_many_owned(pieces).map_err(|_| {
            let error =
                "System is overloaded, try again later (frontend.held_mib bytes of bodies are in hand).";
            Refusal::try_again(StatusCode::TOO_MANY_REQUESTS, error, 1)
        })
    }
}

/// A body that was read, with its share of the room.
pub(super) struct Read {
    pub bytes: Bytes,
    _share: OwnedSemaphorePermit,
}

impl Door {
    /// The argument of a call: a JSON object, passed on as it came; none means `{}`.
    pub(super) async fn read_argument(&self, headers: &HeaderMap, body: Body) -> Result<Read, Refusal> {
        let limit = self.given.settings.limits.payload_max;
        let read = self.read_json(headers, body, limit).await?;
        // The check below reads past what is inside strings.
        std::str::from_utf8(&read.bytes).map_err(Refusal::malformed)?;
        let bytes =
            argument::read(read.bytes, messages::BodyFormat::Json, limit).map_err(Refusal::malformed)?;
        Ok(Read { bytes, ..read })
    }

    /// A body that says it is JSON, or none; at most `limit` bytes.
    pub(super) async fn read_json(
        &self,
        headers: &HeaderMap,
        body: Body,
        limit: usize,
    ) -> Result<Read, Refusal> {
        let too_large = |length: String| Refusal::too_large("The request content is", length, limit);
        let announced =
            headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
        if let Some(length) = announced.filter(|length| *length > limit as u64) {
            return Err(too_large(length.to_string()));
        }
        let nothing_announced = announced.unwrap_or(limit as u64) as usize;
        let share = self.held.take(nothing_announced)?;
        let reading = tokio::time::timeout(READ_WITHIN, collect(body, limit, nothing_announced));
        let bytes = match reading.await {
            Ok(Ok(Some(bytes))) => bytes,
            Ok(Ok(None)) => return Err(too_large(format!("more than {limit}"))),
            Ok(Err(error)) => {
                return Err(Refusal::bad_request(format!("Failed extracting request body: {error}")));
            }
            Err(_) => {
                return Err(Refusal::new(StatusCode::REQUEST_TIMEOUT, "The request's body did not come."));
            }
        };
        if !bytes.is_empty() && !says_json(headers) {
            let error = "The request's Content-Type is not supported. Expected:\napplication/json";
            return Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, error));
        }
        Ok(Read { bytes, _share: share })
    }
}

/// `None` where there is more than `limit`.
async fn collect(body: Body, limit: usize, expected: usize) -> Result<Option<Bytes>, axum::Error> {
    let mut parts = body.into_data_stream();
    let mut whole = BytesMut::new();
    while let Some(part) = parts.next().await {
        let part = part?;
        if whole.len() + part.len() > limit {
            return Ok(None);
        }
        // A body that came in one piece is not copied.
        if whole.is_empty() && part.len() == expected {
            return Ok(Some(part));
        }
        whole.extend_from_slice(&part);
    }
    Ok(Some(whole.freeze()))
}

fn says_json(headers: &HeaderMap) -> bool {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().is_some_and(|essence| essence.trim().eq_ignore_ascii_case("application/json"))
}
