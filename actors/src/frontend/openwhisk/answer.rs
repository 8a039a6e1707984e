//! What goes back: bodies, and refusals in the form that OpenWhisk's clients print.
//!
//! The texts are OpenWhisk's own where clients or their tests look for them.

use axum::body::Body;
use axum::http::header::{ALLOW, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::response::Response;
use bytes::Bytes;
use serde::Serialize;

use crate::store::StoreError;

/// A request that is not done, and why.
#[derive(Debug)]
pub(super) struct Refusal {
    pub status: StatusCode,
    /// For people.
    pub error: String,
    /// Seconds after which it may be tried again.
    pub retry_after: Option<u32>,
    /// For 405.
    pub allow: Option<String>,
    /// Whether it has been counted where it happened.
    pub is_counted: bool,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, error: impl Into<String>) -> Self {
        Self { status, error: error.into(), retry_after: None, allow: None, is_counted: false }
    }

    pub(super) fn bad_request(error: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, error)
    }

    /// A body that is not what it should be.
    pub(super) fn malformed(detail: impl std::fmt::Display) -> Self {
        Self::bad_request(format!("The request content was malformed:\n{detail}"))
    }

    pub(super) fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "The requested resource does not exist.")
    }

    pub(super) fn unauthenticated() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "The supplied authentication is invalid.")
    }

    pub(super) fn forbidden(resource: &str) -> Self {
        let error = format!("The supplied authentication is not authorized to access '{resource}'.");
        Self::new(StatusCode::FORBIDDEN, error)
    }

    pub(super) fn already_exists() -> Self {
        Self::new(StatusCode::CONFLICT, "resource already exists")
    }

    pub(super) fn changed_meanwhile() -> Self {
        Self::new(StatusCode::CONFLICT, "Concurrent modification to resource detected.")
    }

    pub(super) fn other_collection() -> Self {
        let error = "Resource by this name exists but is not in this collection.";
        Self::new(StatusCode::CONFLICT, error)
    }

    pub(super) fn too_large(what: &str, length: impl std::fmt::Display, limit: usize) -> Self {
        let error = format!("{what} larger than allowed: {length} > {limit} bytes.");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, error)
    }

    pub(super) fn method_not_allowed(allowed: &[Method]) -> Self {
        let names: Vec<&str> = allowed.iter().map(Method::as_str).collect();
        let names = names.join(", ");
        let error = format!("HTTP method not allowed, supported methods: {names}");
        Self { allow: Some(names), ..Self::new(StatusCode::METHOD_NOT_ALLOWED, error) }
    }

    pub(super) fn try_again(status: StatusCode, error: impl Into<String>, after_s: u32) -> Self {
        Self { retry_after: Some(after_s), ..Self::new(status, error) }
    }

    pub(super) fn counted(self) -> Self {
        Self { is_counted: true, ..self }
    }

    pub(super) fn response(self, transaction: &str) -> Response {
        #[derive(Serialize)]
        struct ErrorBody<'a> {
            error: &'a str,
            code: &'a str,
        }
        let mut response = json(self.status, &ErrorBody { error: &self.error, code: transaction });
        let headers = response.headers_mut();
        if let Some(seconds) = self.retry_after {
            headers.insert(RETRY_AFTER, seconds.into());
        }
        if let Some(allow) = self.allow.and_then(|allow| HeaderValue::from_str(&allow).ok()) {
            headers.insert(ALLOW, allow);
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"Windfall\""));
        }
        response
    }
}

impl From<StoreError> for Refusal {
    /// Trouble of the store is ours, not the caller's, and is logged here, once.
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Conflict { .. } => Self::changed_meanwhile(),
            StoreError::TooLarge { .. } => Self::new(StatusCode::PAYLOAD_TOO_LARGE, error.to_string()),
            StoreError::Unreachable { .. } => {
                tracing::warn!(%error, "the HTTP door could not reach the store");
                Self::try_again(StatusCode::SERVICE_UNAVAILABLE, "The store cannot be reached; try again.", 1)
            }
            StoreError::NoSpace { .. } => {
                tracing::error!(%error, "the HTTP door could not store");
                Self::try_again(StatusCode::SERVICE_UNAVAILABLE, "The store has no room left.", 60)
            }
            _ => {
                tracing::error!(%error, "the HTTP door could not use the store");
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "There was an internal server error.")
            }
        }
    }
}

/// A JSON answer.
pub(super) fn json<T: Serialize>(status: StatusCode, value: &T) -> Response {
    let text = serde_json::to_vec(value).expect("answers hold only what JSON can carry");
    raw_json(status, text.into())
}

/// An answer that is JSON text already.
pub(super) fn raw_json(status: StatusCode, text: Bytes) -> Response {
    with_type(status, text, "application/json")
}

pub(super) fn text(text: &'static str) -> Response {
    with_type(StatusCode::OK, Bytes::from_static(text.as_bytes()), "text/plain; charset=UTF-8")
}

pub(super) fn metrics(text: String) -> Response {
    with_type(StatusCode::OK, text.into(), "text/plain; version=0.0.4; charset=utf-8")
}

pub(super) fn empty(status: StatusCode) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

fn with_type(status: StatusCode, body: Bytes, content_type: &'static str) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// The caller's `X-Request-ID` where it can be taken over, else a new one.
pub(super) fn transaction(headers: &HeaderMap) -> String {
    const LONGEST: usize = 128;
    let given = headers.get("x-request-id").and_then(|value| value.to_str().ok()).map(str::trim);
    match given {
        Some(given) if (1..=LONGEST).contains(&given.len()) => given.to_owned(),
        _ => format!("{:032x}", crate::chance::bits()),
    }
}
