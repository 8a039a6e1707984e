//! OpenWhisk's REST surface over the house: which path means what.
//!
//! **Knows:** paths, methods, who may enter which namespace. One file per collection beside this one.
//! **Promises:** every answer has `X-Request-ID`; every error is JSON with `error` and `code`; a wrong method is
//! 405, a wrong key 401, somebody else's namespace 403 whether or not what is asked for exists.
//! **Gives up:** packages, triggers, rules, sequences and web actions for now (`later` says so to clients); only
//! this layer says "action", the rest of the house says function.

mod actions;
mod activations;
mod answer;
mod asked;
mod auth;
mod body;
mod entity;
mod info;
mod invoke;
mod later;
mod manifest;
mod names;
mod put;

pub use manifest::{Manifest, ManifestRuntime};

use std::sync::Arc;

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::response::Response;

use self::answer::Refusal;
use self::asked::Asked;
use self::auth::Caller;
use self::body::Held;
use super::http::HttpDoor;
use crate::metrics::Refusal as Refused;

/// The door with what it keeps between requests.
pub struct Door {
    given: HttpDoor,
    held: Held,
}

/// What a handler comes back with.
type Answered = Result<Response, Refusal>;

impl Door {
    /// A door with nothing in hand.
    pub fn new(given: HttpDoor) -> Self {
        let held = Held::new(given.settings.frontend.held_mib);
        Self { held, given }
    }

    /// Answers one request.
    pub async fn answer(self: Arc<Self>, request: Request) -> Response {
        let (parts, body) = request.into_parts();
        let transaction = answer::transaction(&parts.headers);
        let is_api = parts.uri.path().starts_with("/api");
        let mut response = if is_api && parts.method == Method::OPTIONS {
            answer::empty(StatusCode::OK)
        } else {
            let answered = match Asked::new(parts, transaction.clone()) {
                Ok(asked) => self.route(&asked, body).await,
                Err(refusal) => Err(refusal),
            };
            answered.unwrap_or_else(|refusal| {
                self.count(&refusal);
                refusal.response(&transaction)
            })
        };
        self.given.metrics.http_response(response.status().as_u16());
        dress(response.headers_mut(), &transaction, is_api);
        response
    }

    fn count(&self, refusal: &Refusal) {
        let why = match refusal.status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Refused::Unauthorized,
            // Those of the Frontend itself are counted there.
            _ if refusal.is_counted => return,
            status if status.is_client_error() => Refused::BadRequest,
            _ => return,
        };
        self.given.metrics.refused(why);
    }

    async fn route(&self, asked: &Asked, body: Body) -> Answered {
        let segments: Vec<&str> = asked.segments.iter().map(String::as_str).collect();
        match segments.as_slice() {
            [] => asked.only(&[Method::GET]).map(|()| self.root()),
            ["ping"] => asked.only(&[Method::GET]).map(|()| answer::text("pong")),
            ["metrics"] => asked.only(&[Method::GET]).map(|()| answer::metrics((self.given.page)())),
            ["api", "v1"] => asked.only(&[Method::GET]).map(|()| self.version()),
            ["api", "v1", "namespaces", rest @ ..] => {
                let caller = self.authenticate(&asked.headers)?;
                match rest {
                    [] => asked.only(&[Method::GET]).map(|()| self.namespaces(&caller)),
                    [namespace, collection, rest @ ..] => {
                        caller.may_enter(namespace, rest)?;
                        self.route_collection(asked, collection, rest, body, &caller).await
                    }
                    _ => Err(Refusal::not_found()),
                }
            }
            _ => Err(Refusal::not_found()),
        }
    }

    async fn route_collection(
        &self,
        asked: &Asked,
        collection: &str,
        rest: &[&str],
        body: Body,
        caller: &Caller,
    ) -> Answered {
        match (collection, rest) {
            ("actions", rest) => self.actions(asked, rest, body, caller).await,
            ("activations", rest) => self.activations(asked, rest, caller).await,
            ("limits", []) => asked.only(&[Method::GET]).map(|()| self.limits(caller)),
            ("packages" | "triggers" | "rules", rest) => self.later(asked, collection, rest, caller).await,
            _ => Err(Refusal::not_found()),
        }
    }
}

/// Headers that every answer has.
fn dress(headers: &mut HeaderMap, transaction: &str, is_api: bool) {
    if let Ok(transaction) = HeaderValue::from_str(transaction) {
        headers.insert("x-request-id", transaction);
    }
    if is_api {
        for (name, value) in CORS {
            headers.insert(name, HeaderValue::from_static(value));
        }
    }
}

/// What lets pages of other origins call the API; OpenWhisk's own fixed lists.
const CORS: [(&str, &str); 3] = [
    ("access-control-allow-origin", "*"),
    (
        "access-control-allow-headers",
        "Authorization, Origin, X-Requested-With, Content-Type, Accept, User-Agent",
    ),
    ("access-control-allow-methods", "GET, DELETE, POST, PUT, HEAD"),
];
