//! POST of an action: one call, blocking or durable.

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use bytes::Bytes;
use messages::{Answer, FunctionPath, RefusedWhy};
use vocabulary::{InvocationId, Outcome, Span};

use super::answer::{self, Refusal};
use super::asked::{Asked, malformed};
use super::auth::Caller;
use super::entity::{self, Activation};
use super::{Answered, Door};
use crate::frontend::call::{Call, CallError};
use crate::frontend::input_size::size_of_input;
use crate::frontend::throttle::Throttled;
use crate::metrics::Refusal as Refused;
use crate::store::FunctionDefinition;
use crate::telemetry;

/// How the caller wants its answer.
struct Wish {
    blocking: bool,
    result_only: bool,
    wait: Span,
}

impl Door {
    pub(super) async fn invoke(
        &self,
        asked: &Asked,
        path: FunctionPath,
        body: Body,
        caller: &Caller,
    ) -> Answered {
        self.given.metrics.called_by_http();
        let wish = self.wish(asked)?;
        let argument = self.read_argument(&asked.headers, body).await?;
        // Known here in almost every case; else the store is asked whether it was made a moment ago.
        let functions = self.given.store.functions();
        let function = match functions.get(&path) {
            Some(function) => function,
            None => functions.read(&path).await?.ok_or_else(Refusal::not_found)?,
        };
        if !function.overridden_finals(&argument.bytes).is_empty() {
            let error = "Request defines parameters that are not allowed (e.g., reserved properties).";
            return Err(Refusal::bad_request(error));
        }
        let throttle = self.given.desk.throttle();
        let place = throttle.enter(caller.own(), &caller.namespace.limits).map_err(|throttled| {
            self.given.metrics.refused(Refused::NamespaceLimit);
            too_many(throttled)
        })?;
        let header = |name| asked.headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
        let payload = function.merge(&argument.bytes);
        let call = Call {
            namespace: caller.own().to_owned(),
            // What is not blocking is measured when it is taken out of its stream.
            input_size: wish.blocking.then(|| size_of_input(&function, &payload)).flatten(),
            payload,
            invocation: None,
            transaction: asked.transaction.clone(),
            api_key: function.is_annotated("provide-api-key").then(|| caller.credentials.clone()),
            trace: telemetry::accept(header("traceparent"), header("tracestate")),
            function: function.clone(),
        };
        drop(argument);
        let answered = if wish.blocking {
            match self.given.desk.call(call, wish.wait).await {
                Ok(answer) => Ok(ended(&answer, &function, caller.own(), wish.result_only)),
                Err(CallError::StillRunning { invocation, .. }) => {
                    self.given.metrics.still_running();
                    Ok(accepted(invocation))
                }
                Err(error) => Err(not_taken(error)),
            }
        } else {
            self.given.desk.submit(call).await.map(accepted).map_err(not_taken)
        };
        drop(place);
        answered
    }

    fn wish(&self, asked: &Asked) -> Result<Wish, Refusal> {
        let longest = self.given.settings.frontend.blocking_wait_ms;
        let wait = match asked.parameter("timeout") {
            None => longest,
            Some(text) => text.parse().ok().filter(|wait| (1..=longest).contains(wait)).ok_or_else(|| {
                malformed("timeout", &format!("Timeout must be number of milliseconds up to {longest}."))
            })?,
        };
        Ok(Wish {
            blocking: asked.flag("blocking", false)?,
            result_only: asked.flag("result", false)?,
            wait: Span::millis(wait),
        })
    }
}

fn too_many(throttled: Throttled) -> Refusal {
    let after = match throttled {
        Throttled::Rate { seconds_left, .. } => seconds_left,
        Throttled::Concurrency { .. } => 1,
    };
    Refusal::try_again(StatusCode::TOO_MANY_REQUESTS, throttled.to_string(), after).counted()
}

fn not_taken(error: CallError) -> Refusal {
    let text = error.to_string();
    match error {
        CallError::Refused { why: RefusedWhy::QueueFull, .. } => {
            Refusal::try_again(StatusCode::TOO_MANY_REQUESTS, text, 1)
        }
        CallError::Refused { why: RefusedWhy::TooLarge, .. } => Refusal::bad_request(text),
        _ => Refusal::try_again(StatusCode::SERVICE_UNAVAILABLE, text, 1),
    }
    .counted()
}

/// The answer of a blocking call, or only its result where that was asked for or is a list.
fn ended(answer: &Answer, function: &FunctionDefinition, namespace: &str, result_only: bool) -> Response {
    let status = match answer.outcome {
        Outcome::Success => StatusCode::OK,
        Outcome::ApplicationError | Outcome::DeveloperError => StatusCode::BAD_GATEWAY,
        Outcome::InternalError => StatusCode::INTERNAL_SERVER_ERROR,
    };
    let result: &Bytes = &answer.result.0;
    let is_list = result.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'[');
    let response = if result_only || is_list {
        answer::raw_json(status, result.clone())
    } else {
        answer::json(status, &Activation::of_answer(answer, function, namespace))
    };
    named(response, answer.invocation)
}

fn accepted(invocation: InvocationId) -> Response {
    named(answer::json(StatusCode::ACCEPTED, &entity::accepted(invocation)), invocation)
}

fn named(mut response: Response, invocation: InvocationId) -> Response {
    let id = HeaderValue::from_str(&invocation.to_string()).expect("an id is hexadecimal");
    response.headers_mut().insert("x-openwhisk-activation-id", id);
    response
}
