//! The HTTP door's edges: who may enter, what the host says of itself, nonsense, stopping.
#![allow(missing_docs)]

mod common;

use std::time::Duration;

use actors::store::{Credentials, NamespaceLimits};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use common::house::{House, action, python};
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn only_the_right_key_opens() {
    let house = House::start().await;
    let guest = &house.guest;
    let stranger = Credentials::random();
    let encoded = |text: &str| format!("Basic {}", STANDARD.encode(text));
    for authorization in [
        String::new(),
        "Basic".into(),
        "Basic !!!".into(),
        "Bearer abc".into(),
        encoded(""),
        encoded(&guest.uuid),
        encoded(&format!("{}:", guest.uuid)),
        encoded(&format!("{}:{}", guest.uuid, stranger.key)),
        encoded(&format!("{}:{}", stranger.uuid, guest.key)),
        encoded(&stranger.as_text()),
        encoded(&format!("{}x", guest.as_text())),
        format!("Basic {}", "A".repeat(5000)),
    ] {
        for path in
            ["/api/v1/namespaces", "/api/v1/namespaces/guest/actions/x", "/api/v1/namespaces/other/limits"]
        {
            let reply = house.http.send("GET", path, &[("Authorization", &authorization)], b"").await;
            assert_eq!(reply.status, 401, "{authorization} {path}");
            assert_eq!(reply.error(), "The supplied authentication is invalid.");
            assert!(reply.header("www-authenticate").is_some_and(|value| value.starts_with("Basic")));
        }
    }
    let lower = encoded(&guest.as_text()).replace("Basic", "basic");
    assert_eq!(
        house.http.send("GET", "/api/v1/namespaces", &[("Authorization", &lower)], b"").await.status,
        200
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn another_namespace_is_closed_whether_or_not_something_is_there() {
    let house = House::start().await;
    let other = house.tenant("other", NamespaceLimits::default()).await;
    assert_eq!(other.put(&action("secret"), &python("x")).await.status, 200);
    for path in ["actions", "actions/secret", "actions/nothing", "activations", "limits", "triggers/x"] {
        for namespace in ["other", "nowhere"] {
            let reply = house.http.get(&format!("/api/v1/namespaces/{namespace}/{path}")).await;
            assert_eq!(reply.status, 403, "{namespace}/{path}");
            assert!(reply.error().contains("not authorized"));
        }
    }
    assert_eq!(house.http.post("/api/v1/namespaces/other/actions/secret", &json!({})).await.status, 403);
    assert_eq!(house.http.get("/api/v1/namespaces/$/actions").await.status, 400);
    assert_eq!(house.http.get(&action("secret")).await.status, 404, "each has its own");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_host_tells_clients_what_they_ask_first() {
    let house = House::start().await;
    let root = house.http.send("GET", "/", &[("Authorization", "")], b"").await;
    assert_eq!(root.status, 200);
    let root = root.json();
    assert_eq!(root["api_paths"], json!(["/api/v1"]));
    assert_eq!(root["runtimes"]["python"][0]["kind"], "python:3");
    assert_eq!(root["runtimes"]["python"][0]["default"], true);
    assert_eq!(root["limits"]["max_action_memory"], 512 << 20);
    assert!(root["limits"].as_object().unwrap().len() >= 12);
    let version = house.http.get("/api/v1").await.json();
    assert_eq!(version["api_version_path"], "v1");
    assert!(version["build"].is_string() && version["buildno"].is_string());
    let ping = house.http.send("GET", "/ping", &[("Authorization", "")], b"").await;
    assert_eq!((ping.status, ping.body.as_slice()), (200, &b"pong"[..]));
    let metrics = house.http.get("/metrics").await;
    assert!(String::from_utf8(metrics.body).unwrap().contains("windfall_http_responses"));
    assert_eq!(house.http.get("/api/v1/namespaces").await.json(), json!(["guest"]));
    assert_eq!(house.http.get("/api/v1/namespaces/").await.json(), json!(["guest"]));
    let limits = house.http.get("/api/v1/namespaces/_/limits").await.json();
    for key in [
        "invocationsPerMinute",
        "concurrentInvocations",
        "firesPerMinute",
        "minActionMemory",
        "maxActionMemory",
        "minActionLogs",
        "maxActionLogs",
        "minActionDuration",
        "maxActionDuration",
        "minActionConcurrency",
        "maxActionConcurrency",
        "maxParameterSize",
        "maxActionInstances",
    ] {
        assert!(!limits[key].is_null(), "{key}");
    }
    let own = NamespaceLimits { invocations_per_minute: Some(5), concurrent_invocations: Some(2) };
    let limits = house.tenant("small", own).await.get("/api/v1/namespaces/_/limits").await.json();
    assert_eq!((&limits["invocationsPerMinute"], &limits["concurrentInvocations"]), (&json!(5), &json!(2)));
    for nowhere in ["/nonsense", "/api", "/api/v2", "/api/v1/web/guest/default/x", "/api/v1/docs"] {
        let reply = house.http.get(nowhere).await;
        assert_eq!(reply.status, 404, "{nowhere}");
        reply.error();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_carries_its_request_id_and_pages_of_others_may_call() {
    let house = House::start().await;
    let given = house.http.send("GET", "/api/v1/namespaces", &[("X-Request-ID", "mine")], b"").await;
    assert_eq!(given.header("x-request-id"), Some("mine"));
    let refused = house.http.send("GET", &action("no"), &[("X-Request-ID", "mine")], b"").await;
    assert_eq!(refused.json()["code"], "mine");
    let (a, b) = (house.http.get("/ping").await, house.http.get("/ping").await);
    assert_ne!(a.header("x-request-id"), b.header("x-request-id"));
    let too_long = "x".repeat(2000);
    let replaced = house.http.send("GET", "/ping", &[("X-Request-ID", &too_long)], b"").await;
    assert_ne!(replaced.header("x-request-id"), Some(too_long.as_str()));

    for (method, path) in
        [("OPTIONS", "/api/v1/namespaces/_/actions/x"), ("GET", "/api/v1/namespaces/_/actions")]
    {
        let reply = house.http.send(method, path, &[("Authorization", "")], b"").await;
        assert_eq!(reply.status, if method == "OPTIONS" { 200 } else { 401 });
        assert_eq!(reply.header("access-control-allow-origin"), Some("*"));
        assert!(reply.header("access-control-allow-headers").unwrap().contains("Authorization"));
        assert!(reply.header("access-control-allow-methods").unwrap().contains("DELETE"));
    }
}

/// A small generator, so that a failure can be repeated: the seed is printed with it.
struct Chance(u64);

impl Chance {
    fn next(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % below
    }

    fn bytes(&mut self, longest: usize) -> Vec<u8> {
        let length = self.next(longest);
        (0..length).map(|_| self.next(256) as u8).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nonsense_is_always_answered_with_an_error_in_json() {
    let house = House::start().await;
    house.action("echo").await;
    let seed = std::env::var("WINDFALL_TEST_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(0x5eed);
    let mut chance = Chance(seed);
    let pieces = [
        "api",
        "v1",
        "namespaces",
        "_",
        "guest",
        "actions",
        "activations",
        "echo",
        "packages",
        "..",
        "",
        "%2F",
        "%00",
        "%",
        "%ff",
        "?",
        "&",
        "=",
        "limit=",
        "blocking=true",
        "#",
        ";",
        "a b",
        "{}",
        "*",
        "logs",
        "\u{e4}",
    ];
    let methods = ["GET", "PUT", "POST", "DELETE", "PATCH", "OPTIONS", "HEAD", "TRACE", "BREW"];
    let mut statuses = std::collections::BTreeMap::new();
    for round in 0..1500 {
        let mut path = String::new();
        if chance.next(4) > 0 {
            path.push_str("/api/v1/namespaces/_/actions");
        }
        for _ in 0..chance.next(6) {
            path.push('/');
            path.push_str(pieces[chance.next(pieces.len())]);
        }
        if path.is_empty() || chance.next(3) == 0 {
            path.push_str("/echo?blocking=true&overwrite=true&x=");
            path.extend(chance.bytes(8).iter().map(|byte| char::from(b'!' + byte % 90)));
        }
        // A space or a line end in it would not be a request at all.
        path.retain(|character| !character.is_ascii_whitespace());
        let body = match chance.next(3) {
            0 => chance.bytes(300),
            1 => format!("{{\"exec\":{{\"kind\":\"python:3\",\"code\":\"{}\"}}}}", chance.next(100))
                .into_bytes(),
            _ => {
                let mut body =
                    br#"{"parameters":[{"key":"a","value":[1,{"b":null}]}],"limits":{"timeout":100}}"#
                        .to_vec();
                let at = chance.next(body.len());
                body[at] = chance.next(256) as u8;
                body
            }
        };
        let method = methods[chance.next(methods.len())];
        let json_type = [("Content-Type", "application/json")];
        let reply = house.http.send(method, &path, &json_type, &body).await;
        *statuses.entry(reply.status).or_insert(0) += 1;
        let context = format!("seed {seed}, round {round}: {method} {path} -> {reply:?}");
        assert!((200..600).contains(&reply.status), "{context}");
        assert!(reply.status != 500, "{context}");
        // What is no HTTP at all (a raw byte in the path) is the server's own to refuse.
        if reply.status >= 400 && reply.header("x-request-id").is_some() && method != "HEAD" {
            reply.error();
        }
    }
    assert!(statuses.len() >= 4, "the nonsense was too uniform: {statuses:?}");
    for _ in 0..300 {
        let nonsense = [chance.bytes(200), b"\r\n\r\n".to_vec()].concat();
        if let Some(reply) = house.http.throw(&nonsense).await {
            assert!(reply.status >= 400, "seed {seed}");
        }
    }
    assert_eq!(house.http.get("/ping").await.status, 200, "and it still stands");
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_lets_open_calls_end_and_takes_no_new_ones() {
    let mut house = House::start().await;
    house.action("slow").await;
    let http = house.http.clone();
    let open = tokio::spawn(async move { http.post(&action("slow?blocking=true"), &json!({"n": 1})).await });
    common::eventually("it is running", async || !house.submitted.lock().unwrap().is_empty()).await;
    let door = house.door.take().unwrap();
    assert!(door.stop(Duration::from_secs(30)).await);
    assert_eq!(open.await.unwrap().status, 200);
    assert!(tokio::net::TcpStream::connect(house.http.address).await.is_err(), "nobody listens any more");
}
