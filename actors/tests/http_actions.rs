//! The HTTP door's actions: create, read, update, delete, list (behaviours 1 to 17 of OpenWhisk's own suites, as far
//! as they need no real function).
#![allow(missing_docs)]

mod common;

use std::time::Duration;

use actors::settings::{Limits, Settings};
use common::eventually;
use common::house::{House, action, python};
use serde_json::{Value, json};

const ACTIONS: &str = "/api/v1/namespaces/_/actions";

fn annotation<'a>(entity: &'a Value, key: &str) -> Option<&'a Value> {
    entity["annotations"].as_array().unwrap().iter().find(|one| one["key"] == key).map(|one| &one["value"])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_action_is_answered_whole_and_a_second_put_conflicts() {
    let house = House::start().await;
    let made = house.http.put(&action("hello"), &python("def main(args): return args")).await;
    assert_eq!(made.status, 200);
    let made = made.json();
    assert_eq!(made["namespace"], "guest");
    assert_eq!(made["name"], "hello");
    assert_eq!(made["version"], "0.0.1");
    assert_eq!(made["publish"], false);
    assert_eq!(
        made["exec"],
        json!({"kind": "python:3", "code": "def main(args): return args", "binary": false})
    );
    assert_eq!(made["parameters"], json!([]));
    assert_eq!(
        made["limits"],
        json!({"timeout": 60000, "memory": 256, "logs": 10, "concurrency": 1, "cpu": 250})
    );
    assert_eq!(annotation(&made, "exec"), Some(&json!("python:3")));
    assert_eq!(annotation(&made, "provide-api-key"), Some(&json!(false)));

    let again = house.http.put(&action("hello"), &python("x")).await;
    assert_eq!(again.status, 409);
    assert!(again.error().contains("already exists"));
    assert_eq!(house.http.get(&action("hello")).await.json(), made);
    // By its full name it is the same.
    assert_eq!(house.http.get("/api/v1/namespaces/guest/actions/hello").await.json(), made);
    let without_code = house.http.get(&action("hello?code=false")).await.json();
    assert_eq!(without_code["exec"], json!({"kind": "python:3", "binary": false}));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_keeps_what_it_does_not_name() {
    let house = House::start().await;
    let first = json!({
        "exec": {"kind": "nodejs:default", "code": "function main() {}", "main": "niam"},
        "parameters": [{"key": "a", "value": {"deep": [1, 2.50]}}, {"key": "secret", "value": 1, "init": true}],
        "annotations": [{"key": "one", "value": 1}, {"key": "two", "value": "2"}],
        "limits": {"timeout": 1000, "memory": 128, "logs": 0, "cpu": 500},
    });
    let path = action("f?overwrite=true");
    let made = house.http.put(&path, &first).await.json();
    assert_eq!(made["exec"]["kind"], "nodejs:20", "a default kind is resolved");
    assert_eq!(made["exec"]["main"], "niam");
    assert_eq!(made["parameters"][0], json!({"key": "a", "value": {"deep": [1, 2.50]}}));
    assert_eq!(made["parameters"][1], json!({"key": "secret", "value": 1, "init": true}));

    let parameters_only = json!({"parameters": [{"key": "b", "value": null}]});
    let updated = house.http.put(&path, &parameters_only).await.json();
    assert_eq!(updated["version"], "0.0.2");
    assert_eq!(updated["parameters"], json!([{"key": "b", "value": null}]), "replaced as a whole");
    for kept in ["exec", "limits", "annotations"] {
        assert_eq!(updated[kept], made[kept], "{kept}");
    }

    let annotation_only = json!({"annotations": [{"key": "one", "value": 11}], "delAnnotations": ["two"]});
    let updated = house.http.put(&path, &annotation_only).await.json();
    assert_eq!(updated["version"], "0.0.3");
    assert_eq!(annotation(&updated, "one"), Some(&json!(11)));
    assert_eq!(annotation(&updated, "two"), None);
    assert_eq!(annotation(&updated, "exec"), Some(&json!("nodejs:20")));
    assert_eq!(updated["exec"]["code"], "function main() {}");

    // Another language, nothing said of the parameters: they stay.
    let updated = house.http.put(&path, &python("def main(args): pass")).await.json();
    assert_eq!(updated["exec"], json!({"kind": "python:3", "code": "def main(args): pass", "binary": false}));
    assert_eq!(annotation(&updated, "exec"), Some(&json!("python:3")));
    assert_eq!(updated["parameters"], json!([{"key": "b", "value": null}]));
    assert_eq!(updated["limits"], made["limits"]);

    let versioned = house.http.put(&path, &json!({"version": "1.0.0", "publish": true})).await.json();
    assert_eq!((&versioned["version"], &versioned["publish"]), (&json!("1.0.0"), &json!(true)));
    let id = |house: &House| house.store.functions().list("guest", None)[0].id;
    let before = id(&house);
    assert_eq!(house.http.put(&path, &json!({})).await.json()["version"], "1.0.1");
    assert_eq!(id(&house), before, "updated, it is still the same function");
}

#[tokio::test(flavor = "multi_thread")]
async fn names_are_as_openwhisk_allows_them() {
    let house = House::start().await;
    let longest = "x".repeat(256);
    for legal in ["a%20b", "AbC", "aBc", "_", "a@b.c-d&e", "7", &longest] {
        let reply = house.http.put(&action(legal), &python("x = 1")).await;
        assert_eq!(reply.status, 200, "{legal}: {reply:?}");
        let got = house.http.get(&action(legal)).await.json();
        assert_eq!(got["name"], legal.replace("%20", " "));
    }
    assert_eq!(house.http.get(ACTIONS).await.json().as_array().unwrap().len(), 7);
    let too_long = "x".repeat(257);
    for illegal in
        ["%20", "hi+there", "$hola", "dora%3F", "a%20", "%20a", "a%2Fb", "%C3%A4", "a%00", &too_long]
    {
        for (method, body) in [("PUT", "{}"), ("GET", ""), ("DELETE", ""), ("POST", "")] {
            let json = [("Content-Type", "application/json")];
            let reply = house.http.send(method, &action(illegal), &json, body.as_bytes()).await;
            assert_eq!(reply.status, 400, "{method} {illegal}: {reply:?}");
            reply.error();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_made_is_refused_with_the_reason() {
    let house = House::start().await;
    let put = async |body: Value| {
        let reply = house.http.put(&action("f"), &body).await;
        (reply.status, reply.error())
    };
    let (status, error) = put(json!({"exec": {"kind": "cobol:85", "code": ""}})).await;
    assert_eq!(status, 400);
    assert!(error.contains("python:3") && error.contains("nodejs:default"), "{error}");
    for wrong in [
        json!({}),
        json!({"parameters": []}),
        json!({"exec": {"kind": "python:3"}}),
        json!({"exec": {"kind": "sequence", "components": ["/_/a"]}}),
        json!({"exec": {"kind": "blackbox", "image": "x"}}),
        json!({"exec": {"code": "x"}}),
        json!({"exec": {"kind": "python:3", "code": 7}}),
        json!({"exec": {"kind": "python:3", "code": "x"}, "parameters": {"a": 1}}),
        json!({"exec": {"kind": "python:3", "code": "x"}, "parameters": [{"value": 1}]}),
        json!({"exec": {"kind": "python:3", "code": "x"}, "annotations": [{"key": "", "value": 1}]}),
        json!({"exec": {"kind": "python:3", "code": "x"}, "version": "1"}),
        json!({"exec": {"kind": "python:3", "code": "x"}, "limits": {"instances": 1}}),
        json!({"exec": {"kind": "python:3", "code": "x"}, "annotations": [{"key": "on-eviction", "value": "maybe"}]}),
        json!([1]),
        json!("text"),
    ] {
        let (status, error) = put(wrong.clone()).await;
        assert_eq!(status, 400, "{wrong}: {error}");
    }
    for limits in [
        json!({"timeout": 0}),
        json!({"timeout": 301_000}),
        json!({"memory": 0}),
        json!({"memory": 513}),
        json!({"logs": 11}),
        json!({"concurrency": 0}),
        json!({"cpu": 1}),
    ] {
        let (status, error) = put(json!({"exec": {"kind": "python:3", "code": "x"}, "limits": limits})).await;
        assert_eq!(status, 400);
        assert!(error.contains("allowed threshold"), "{error}");
    }
    assert_eq!(house.http.get(&action("f")).await.status, 404, "nothing was made");
    for (number, limits) in [
        json!({"timeout": 100, "memory": 128, "logs": 0, "concurrency": 1, "cpu": 10}),
        json!({"timeout": 300_000, "memory": 512, "logs": 10, "concurrency": 1, "cpu": 64_000}),
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("limits{number}");
        let body = json!({"exec": {"kind": "python:3", "code": "x"}, "limits": limits});
        assert_eq!(house.http.put(&action(&name), &body).await.status, 200);
        assert_eq!(house.http.get(&action(&name)).await.json()["limits"], limits);
    }
    for value in ["rerun", "rerun-at-loss", "never"] {
        let body = json!({"exec": {"kind": "python:3", "code": "x"}, "annotations": [{"key": "on-eviction", "value": value}]});
        assert_eq!(house.http.put(&action(&format!("evicted-{value}")), &body).await.status, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_are_no_json_or_too_large_are_refused() {
    let limits = Limits { code_max: 100_000, payload_max: 50_000, ..Limits::default() };
    let house = House::start_with(Settings { limits, ..Settings::default() }).await;
    let json_type = [("Content-Type", "application/json")];
    for broken in ["{", "{]", "\u{0}", "nul", "{\"exec\":{\"kind\":\"python:3\",\"code\":\"\\ud8\"}}"] {
        let reply = house.http.send("PUT", &action("f"), &json_type, broken.as_bytes()).await;
        assert_eq!(reply.status, 400, "{broken}");
        reply.error();
    }
    for content_type in ["", "text/plain", "application/x-www-form-urlencoded", "application/jsonx"] {
        let reply = house.http.send("PUT", &action("f"), &[("Content-Type", content_type)], b"{}").await;
        assert_eq!(reply.status, 415, "{content_type}");
        assert!(reply.error().contains("application/json"));
    }
    let with_charset = [("Content-Type", "Application/JSON; charset=utf-8")];
    let body = python("x").to_string();
    assert_eq!(house.http.send("PUT", &action("f"), &with_charset, body.as_bytes()).await.status, 200);

    let large_code = python(&"x".repeat(100_001));
    assert_eq!(house.http.put(&action("g"), &large_code).await.status, 413);
    assert_eq!(house.http.put(&action("g"), &python(&"x ".repeat(50_000))).await.status, 200);
    for what in ["parameters", "annotations"] {
        let list = json!([{"key": "a", "value": "x".repeat(50_001)}]);
        let reply = house
            .http
            .put(&action("h"), &json!({"exec": {"kind": "python:3", "code": "x"}, what: list}))
            .await;
        assert_eq!(reply.status, 413, "{what}");
        reply.error();
    }
    // Only announced: refused before it is sent.
    let announced = [("Content-Type", "application/json"), ("Content-Length", "99999999999")];
    let reply = house.http.send("PUT", &action("h"), &announced, b"").await;
    assert_eq!(reply.status, 413);
    reply.error();
    // Not announced: refused when it turns out.
    let chunked = [("Content-Type", "application/json"), ("Transfer-Encoding", "chunked")];
    let chunk = format!("{:x}\r\n{}\r\n", 600_000, " ".repeat(600_000));
    let body = format!("{}0\r\n\r\n", chunk.repeat(2));
    assert_eq!(house.http.send("PUT", &action("h"), &chunked, body.as_bytes()).await.status, 413);
}

#[tokio::test(flavor = "multi_thread")]
async fn code_of_every_shape_comes_back_as_it_was_sent() {
    let house = House::start().await;
    let large: String = (0..300_000).map(|n| char::from(b' ' + (n % 90) as u8)).collect();
    for (number, (code, binary)) in
        [("", false), ("UEsDBAoAAAA=", true), ("päö \u{1f600}\n\"\\", false), (large.as_str(), false)]
            .into_iter()
            .enumerate()
    {
        let name = action(&format!("code{number}"));
        let made = house.http.put(&name, &python(code)).await;
        assert_eq!(made.status, 200, "{number}");
        let got = house.http.get(&name).await.json();
        assert_eq!(got["exec"]["code"], code);
        assert_eq!(got["exec"]["binary"], binary);
        assert_eq!(house.http.delete(&name).await.json()["exec"]["code"], code);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn deleted_and_made_again_it_is_another_function() {
    let house = House::start().await;
    house.action("f").await;
    let first = house.store.functions().list("guest", None)[0].clone();
    let deleted = house.http.delete(&action("f")).await;
    assert_eq!((deleted.status, &deleted.json()["name"]), (200, &json!("f")));
    assert_eq!(house.http.get(&action("f")).await.status, 404);
    assert_eq!(house.http.post(&action("f"), &json!({})).await.status, 404);
    assert_eq!(house.http.delete(&action("f")).await.status, 404);
    let again = house.http.put(&action("f"), &python("other")).await.json();
    assert_eq!(again["version"], "0.0.1");
    assert_ne!(house.store.functions().list("guest", None)[0].id, first.id);
    assert_eq!(house.http.get(&action("f")).await.json()["exec"]["code"], "other");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_is_not_found_with_one_text_and_other_collections_conflict() {
    let house = House::start().await;
    let all = "/api/v1/namespaces/_";
    let json_type = [("Content-Type", "application/json")];
    for (method, path) in [
        ("GET", "actions/no"),
        ("DELETE", "actions/no"),
        ("POST", "actions/no"),
        ("GET", "actions/pkg/no"),
        ("GET", "actions/pkg/"),
        ("GET", "packages/no"),
        ("DELETE", "packages/no"),
        ("GET", "triggers/no"),
        ("POST", "triggers/no"),
        ("DELETE", "triggers/no"),
        ("GET", "rules/no"),
        ("POST", "rules/no"),
        ("GET", "activations/00000000000000000000000000000000"),
        ("GET", "activations/00000000000000000000000000000000/logs"),
        ("GET", "activations/00000000000000000000000000000000/result"),
        ("GET", "nonsense"),
        ("GET", "actions/a/b/c"),
    ] {
        let reply = house.http.send(method, &format!("{all}/{path}"), &json_type, b"").await;
        assert_eq!(reply.status, 404, "{method} {path}: {reply:?}");
        assert_eq!(reply.error(), "The requested resource does not exist.");
    }
    house.action("hello").await;
    for (method, collection) in
        [("GET", "packages"), ("DELETE", "triggers"), ("GET", "rules"), ("PUT", "triggers")]
    {
        let reply = house.http.send(method, &format!("{all}/{collection}/hello"), &json_type, b"{}").await;
        assert_eq!(reply.status, 409, "{method} {collection}");
        assert!(reply.error().contains("not in this collection"));
    }
    // Their lists are empty, and making one is answered honestly.
    for collection in ["packages", "triggers", "rules"] {
        assert_eq!(house.http.get(&format!("{all}/{collection}")).await.json(), json!([]));
        let count = house.http.get(&format!("{all}/{collection}?count=true")).await.json();
        assert_eq!(count, json!({ collection: 0 }));
        let made = house.http.put(&format!("{all}/{collection}/new"), &json!({})).await;
        assert_eq!(made.status, 501);
        assert!(made.error().contains(collection));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_methods_are_answered_with_the_right_ones() {
    let house = House::start().await;
    let all = "/api/v1/namespaces";
    for (method, path, allowed) in [
        ("PUT", "", "GET"),
        ("POST", "", "GET"),
        ("DELETE", "/_/actions", "GET"),
        ("POST", "/_/actions", "GET"),
        ("PATCH", "/_/actions/a", "GET, PUT, POST, DELETE"),
        ("PUT", "/_/activations", "GET"),
        ("POST", "/_/activations/00000000000000000000000000000000", "GET"),
        ("PUT", "/_/limits", "GET"),
        ("POST", "/_/packages/a", "GET, PUT, DELETE"),
        ("POST", "/_/packages", "GET"),
    ] {
        let reply = house.http.send(method, &format!("{all}{path}"), &[], b"").await;
        assert_eq!(reply.status, 405, "{method} {path}: {reply:?}");
        assert_eq!(reply.header("allow"), Some(allowed));
        assert!(reply.error().contains("not allowed"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_show_summaries_the_newest_first_in_pages() {
    let house = House::start().await;
    for name in ["a", "b", "c"] {
        house.action(name).await;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    house.http.put(&action("a?overwrite=true"), &json!({})).await;
    let list = house.http.get(ACTIONS).await.json();
    let names =
        |list: &Value| list.as_array().unwrap().iter().map(|one| one["name"].clone()).collect::<Vec<_>>();
    assert_eq!(names(&list), ["a", "c", "b"]);
    assert_eq!(list[0]["exec"], json!({"binary": false}));
    assert!(list[0]["parameters"].is_null());
    assert_eq!(list[0]["limits"]["memory"], 256);
    assert_eq!(names(&house.http.get(&format!("{ACTIONS}?skip=1&limit=1")).await.json()), ["c"]);
    assert_eq!(house.http.get(&format!("{ACTIONS}?count=true")).await.json(), json!({"actions": 3}));
    for (query, said) in
        [("limit=201", "'201'"), ("limit=x", "'x'"), ("skip=-1", "'-1'"), ("limit=-3", "0 to 200")]
    {
        for collection in ["actions", "activations", "packages"] {
            let reply = house.http.get(&format!("/api/v1/namespaces/_/{collection}?{query}")).await;
            assert_eq!(reply.status, 400, "{collection} {query}");
            assert!(reply.error().contains(said));
        }
    }
    assert_eq!(house.http.get(&format!("{ACTIONS}?count=perhaps")).await.status, 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_at_one_door_is_seen_at_the_other() {
    let house = House::start().await;
    let other = house.another_door().await;
    let there = common::http::Http { address: other.address, key: house.http.key.clone() };
    house.action("f").await;
    assert_eq!(there.get(&action("f")).await.status, 200);
    eventually("it is listed there", async || there.get(ACTIONS).await.json().as_array().unwrap().len() == 1)
        .await;
    assert_eq!(there.delete(&action("f")).await.status, 200);
    assert_eq!(house.http.get(&action("f")).await.status, 404);
    // Of two that update at once both get a clear answer, and no update is lost without one.
    house.action("g").await;
    let mut done = 0;
    for _ in 0..10 {
        let (path, body) = (action("g?overwrite=true"), json!({}));
        let (a, b) = tokio::join!(house.http.put(&path, &body), there.put(&path, &body));
        for reply in [a, b] {
            match reply.status {
                200 => done += 1,
                409 => assert!(reply.error().contains("Concurrent modification")),
                other => panic!("{other}"),
            }
        }
    }
    let version = house.http.get(&action("g")).await.json()["version"].clone();
    assert_eq!(version, format!("0.0.{}", 1 + done));
}
