//! Packages, triggers and rules, which come later: their lists are empty, what is not there is not found, and
//! making one is answered honestly.

use axum::http::{Method, StatusCode};
use serde_json::json;

use super::answer::{self, Refusal};
use super::asked::Asked;
use super::auth::Caller;
use super::{Answered, Door, names};
use messages::FunctionPath;

impl Door {
    pub(super) async fn later(
        &self,
        asked: &Asked,
        collection: &str,
        rest: &[&str],
        caller: &Caller,
    ) -> Answered {
        let limits = &self.given.settings.limits;
        match rest {
            [] => {
                asked.only(&[Method::GET])?;
                asked.page(collection, limits.list_default, limits.list_max)?;
                let body = if asked.flag("count", false)? { json!({ collection: 0 }) } else { json!([]) };
                Ok(answer::json(StatusCode::OK, &body))
            }
            [name] => {
                let mut allowed = vec![Method::GET, Method::PUT, Method::DELETE];
                if collection != "packages" {
                    allowed.push(Method::POST);
                }
                asked.only(&allowed)?;
                let name = names::checked(name)?;
                let path = FunctionPath { namespace: caller.own().to_owned(), name: name.to_owned() };
                if self.given.store.functions().read(&path).await?.is_some() {
                    return Err(Refusal::other_collection());
                }
                if asked.method == Method::PUT {
                    let error = format!("Windfall does not have {collection} yet: only actions can be made.");
                    return Err(Refusal::new(StatusCode::NOT_IMPLEMENTED, error));
                }
                Err(Refusal::not_found())
            }
            _ => Err(Refusal::not_found()),
        }
    }
}
