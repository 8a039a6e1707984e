//! The collection of activations: what remains of invocations.

use axum::http::{Method, StatusCode};
use messages::Record;
use serde_json::json;
use serde_json::value::RawValue;
use vocabulary::InvocationId;

use super::answer::{self, Refusal};
use super::asked::{Asked, malformed, shortened};
use super::auth::Caller;
use super::entity::{Activation, Response, log_line};
use super::{Answered, Door, names};
use crate::store::RecordQuery;

impl Door {
    pub(super) async fn activations(&self, asked: &Asked, rest: &[&str], caller: &Caller) -> Answered {
        asked.only(&[Method::GET])?;
        let Some((id, rest)) = rest.split_first() else { return self.list_activations(asked, caller).await };
        let invocation = parsed(id)?;
        // What is asked for is checked first: an unknown part is not found, whatever the id.
        if !matches!(rest, [] | ["logs" | "result"]) {
            return Err(Refusal::not_found());
        }
        let record = self.given.store.records().get_soon(caller.own(), invocation).await?;
        let record = record.ok_or_else(Refusal::not_found)?;
        Ok(match rest {
            [] => answer::json(StatusCode::OK, &Activation::of_record(&record, false)),
            ["logs"] => {
                let lines: Vec<String> = record.logs.iter().map(log_line).collect();
                answer::json(StatusCode::OK, &json!({ "logs": lines }))
            }
            _ => answer::json(StatusCode::OK, &Response::of(record.outcome, &record.result.0)),
        })
    }

    async fn list_activations(&self, asked: &Asked, caller: &Caller) -> Answered {
        let limits = &self.given.settings.limits;
        let page = asked.page("activations", limits.list_default, limits.list_max)?;
        let (count, docs) = (asked.flag("count", false)?, asked.flag("docs", false)?);
        let query = RecordQuery {
            namespace: caller.own().to_owned(),
            function: name_filter(asked)?,
            since: asked.time("since")?,
            upto: asked.time("upto")?,
            skip: page.skip,
            limit: page.limit,
        };
        let records = self.given.store.records();
        if count && docs {
            return Err(Refusal::bad_request("The parameter 'docs' is not permitted with 'count'."));
        }
        if count {
            let count = records.count(&query).await?.saturating_sub(page.skip as u64);
            return Ok(answer::json(StatusCode::OK, &json!({ "activations": count })));
        }
        // Each record becomes its text at once, so that a page of summaries holds no results and no logs.
        let shape = |record: Record| serde_json::value::to_raw_value(&Activation::of_record(&record, !docs));
        let shown: Vec<Box<RawValue>> = records.list(&query, shape).await?.into_iter().flatten().collect();
        Ok(answer::json(StatusCode::OK, &shown))
    }
}

fn parsed(id: &str) -> Result<InvocationId, Refusal> {
    id.parse().map_err(|_| match id.chars().count() {
        32 => Refusal::bad_request("The activation id is not valid."),
        length => Refusal::bad_request(format!("Activation id length is {length} but must be 32.")),
    })
}

/// `name` or `package/name`; nothing where it is empty.
fn name_filter(asked: &Asked) -> Result<Option<String>, Refusal> {
    let Some(name) = asked.parameter("name").map(str::trim).filter(|name| !name.is_empty()) else {
        return Ok(None);
    };
    let parts: Vec<&str> = name.split('/').collect();
    if parts.len() > 2 || !parts.iter().all(|part| names::is_legal(part)) {
        let name = shortened(name);
        let error = format!("Parameter may be a 'simple' name or 'package-name/simple' name: {name}");
        return Err(malformed("name", &error));
    }
    Ok(Some(name.to_owned()))
}
