//! The HTTP door as a client of OpenWhisk uses it.

use std::time::Duration;

use bytes::Bytes;
use reqwest::header::HeaderMap;
use reqwest::{Client, Method};
use serde_json::{Value, json};

use crate::eventually;

/// A client with the key of one namespace.
#[derive(Debug, Clone)]
pub struct Http {
    client: Client,
    /// `http://host:port`.
    pub base: String,
    /// `uuid:key`.
    pub key: String,
}

/// What came back.
#[derive(Debug, Clone)]
pub struct Reply {
    /// The status code.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl Reply {
    /// The body as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The text of an error body.
    #[track_caller]
    pub fn error(&self) -> String {
        let body = self.json();
        assert!(body["code"].is_string(), "an error names its transaction: {body}");
        body["error"].as_str().unwrap_or_else(|| panic!("no error: {body}")).to_owned()
    }

    /// A header's text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The invocation that this is about.
    #[track_caller]
    pub fn id(&self) -> String {
        self.header("x-openwhisk-activation-id").unwrap_or_else(|| panic!("no id: {self:?}")).to_owned()
    }
}

impl Http {
    /// A client of the door at `base`. It waits for an answer longer than any function may take here.
    pub fn new(base: String, key: String) -> Self {
        let client = Client::builder()
            .no_proxy()
            .connect_timeout(Duration::from_secs(10))
            .timeout(Duration::from_secs(120))
            .build()
            .expect("a client");
        Self { client, base, key }
    }

    /// The same door with another key.
    pub fn with_key(&self, key: &str) -> Self {
        Self { key: key.into(), ..self.clone() }
    }

    /// Anything; an error is that no answer came at all.
    pub async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Result<Reply, reqwest::Error> {
        let method = Method::from_bytes(method.as_bytes()).expect("a method");
        let mut request = self.client.request(method, format!("{}{path}", self.base)).body(body.into());
        if let Some((user, password)) = self.key.split_once(':') {
            request = request.basic_auth(user, Some(password));
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = request.send().await?;
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        Ok(Reply { status, headers, body: answer.bytes().await? })
    }

    async fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Reply {
        let headers: &[(&str, &str)] =
            if body.is_some() { &[("content-type", "application/json")] } else { &[] };
        let body = body.map(Value::to_string).unwrap_or_default();
        self.send(method, path, headers, body)
            .await
            .unwrap_or_else(|error| panic!("{method} {path}: {error:?}"))
    }

    /// GET.
    pub async fn get(&self, path: &str) -> Reply {
        self.ask("GET", path, None).await
    }

    /// DELETE.
    pub async fn delete(&self, path: &str) -> Reply {
        self.ask("DELETE", path, None).await
    }

    /// PUT of JSON.
    pub async fn put(&self, path: &str, body: &Value) -> Reply {
        self.ask("PUT", path, Some(body)).await
    }

    /// POST of JSON.
    pub async fn post(&self, path: &str, body: &Value) -> Reply {
        self.ask("POST", path, Some(body)).await
    }

    /// Makes or replaces a function.
    pub async fn deploy(&self, name: &str, function: &Value) -> Value {
        let reply = self.put(&format!("{}?overwrite=true", action(name)), function).await;
        assert_eq!(reply.status, 200, "{reply:?}");
        reply.json()
    }

    /// Calls and waits: the whole answer.
    pub async fn call(&self, name: &str, argument: &Value) -> Reply {
        self.post(&format!("{}?blocking=true", action(name)), argument).await
    }

    /// Calls and waits: the result of a call that succeeds.
    pub async fn result(&self, name: &str, argument: &Value) -> Value {
        let reply = self.post(&format!("{}?blocking=true&result=true", action(name)), argument).await;
        assert_eq!(reply.status, 200, "{reply:?}");
        reply.json()
    }

    /// Calls and waits: the error of a call that fails, with the status of its record.
    pub async fn failure(&self, name: &str, argument: &Value) -> (String, String) {
        let reply = self.call(name, argument).await;
        assert_eq!(reply.status, 502, "{reply:?}");
        let response = reply.json()["response"].clone();
        assert_eq!(response["success"], json!(false));
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        (text(&response["status"]), text(&response["result"]["error"]))
    }

    /// Calls and does not wait: the id.
    pub async fn submit(&self, name: &str, argument: &Value) -> String {
        let reply = self.post(&action(name), argument).await;
        assert_eq!(reply.status, 202, "{reply:?}");
        let id = reply.id();
        assert_eq!(reply.json(), json!({ "activationId": id }));
        id
    }

    /// The record of an invocation, as soon as there is one.
    pub async fn record(&self, id: &str) -> Value {
        let path = format!("/api/v1/namespaces/_/activations/{id}");
        let mut found = Value::Null;
        eventually("the invocation has a record", async || match self.send("GET", &path, &[], "").await {
            Ok(reply) if reply.status == 200 => {
                found = reply.json();
                true
            }
            _ => false,
        })
        .await;
        found
    }

    /// The ids of all records of a function, the newest first.
    pub async fn ids_of(&self, name: &str) -> Vec<String> {
        let mut ids = Vec::new();
        loop {
            let skip = ids.len();
            let path = format!("/api/v1/namespaces/_/activations?limit=200&skip={skip}&name={name}");
            let reply = self.get(&path).await;
            let page = reply.json();
            let Some(page) = page.as_array() else { panic!("not a list: {reply:?}") };
            ids.extend(page.iter().map(|one| one["activationId"].as_str().expect("an id").to_owned()));
            if page.len() < 200 {
                return ids;
            }
        }
    }

    /// How many records a function has.
    pub async fn records(&self, name: &str) -> u64 {
        let path = format!("/api/v1/namespaces/_/activations?count=true&name={name}");
        self.get(&path).await.json()["activations"].as_u64().expect("a number")
    }
}

/// The path of a function.
fn action(name: &str) -> String {
    format!("/api/v1/namespaces/_/actions/{name}")
}

/// An annotation of a record or function.
pub fn annotation<'a>(entity: &'a Value, key: &str) -> Option<&'a Value> {
    entity["annotations"].as_array()?.iter().find(|one| one["key"] == key).map(|one| &one["value"])
}

/// A body of exactly so many bytes: an object with one text.
pub fn body_of(bytes: usize) -> Value {
    let body = json!({ "a": "x".repeat(bytes - r#"{"a":""}"#.len()) });
    debug_assert_eq!(body.to_string().len(), bytes);
    body
}
