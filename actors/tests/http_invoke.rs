//! The HTTP door's invocations and activations, against a Controller that speaks the real messages.
#![allow(missing_docs)]

mod common;

use std::time::Duration;

use actors::settings::{Limits, Settings};
use actors::store::NamespaceLimits;
use common::eventually;
use common::house::{House, action, python};
use serde_json::{Value, json};
use vocabulary::InvocationId;

const ACTIVATIONS: &str = "/api/v1/namespaces/_/activations";

fn annotation<'a>(entity: &'a Value, key: &str) -> Option<&'a Value> {
    entity["annotations"].as_array().unwrap().iter().find(|one| one["key"] == key).map(|one| &one["value"])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blocking_call_gets_the_whole_record_or_only_its_result() {
    let house = House::start().await;
    house.action("echo").await;
    let reply = house.http.post(&action("echo?blocking=true"), &json!({"hello": "Robert"})).await;
    assert_eq!(reply.status, 200);
    let record = reply.json();
    let id = record["activationId"].as_str().unwrap();
    assert!(id.parse::<InvocationId>().is_ok());
    assert_eq!(reply.header("x-openwhisk-activation-id"), Some(id));
    assert_eq!(record["response"]["result"], json!({"hello": "Robert"}));
    assert_eq!(record["response"]["status"], "success");
    assert_eq!(record["response"]["success"], true);
    assert_eq!(record["logs"], json!([]), "the logs are in the record, not in the answer");
    assert_eq!(record["namespace"], "guest");
    assert_eq!(record["name"], "echo");
    assert_eq!(record["version"], "0.0.1");
    assert_eq!(record["subject"], "guest");
    assert_eq!(record["duration"], 12);
    assert_eq!(record["end"].as_u64().unwrap() - record["start"].as_u64().unwrap(), 12);
    assert_eq!(annotation(&record, "path"), Some(&json!("guest/echo")));
    assert_eq!(annotation(&record, "kind"), Some(&json!("python:3")));
    assert_eq!(annotation(&record, "timeout"), Some(&json!(false)));
    assert_eq!(annotation(&record, "waitTime"), Some(&json!(3)));
    assert_eq!(annotation(&record, "limits").unwrap()["memory"], 256);
    assert_eq!(annotation(&record, "initTime"), None, "it was warm");
    let booked = json!({"cpu": 250, "memory": 256});
    assert_eq!(
        annotation(&record, "windfall"),
        Some(
            &json!({"vm": "vm-1f", "attempt": 2, "start": "warm", "grant": {"booked": booked, "ceiling": booked}})
        )
    );

    let reply = house.http.post(&action("echo?blocking=true&result=true"), &json!({"hello": "Robert"})).await;
    assert_eq!((reply.status, reply.body.as_slice()), (200, &br#"{"hello":"Robert"}"#[..]));
    // No body is an empty object; what is sent is passed on byte for byte.
    let reply = house.http.send("POST", &action("echo?blocking=true&result=true"), &[], b"").await;
    assert_eq!(reply.body, b"{}");
    let odd = b" {\"a\": 1.0e5,\r\n \"a\":2, \"\\u0041\":\"\xc3\xa4\"}";
    let json_type = [("Content-Type", "application/json")];
    let reply = house.http.send("POST", &action("echo?blocking=true&result=true"), &json_type, odd).await;
    assert_eq!(reply.body, odd);

    house.action("cold").await;
    let record = house.http.post(&action("cold?blocking=true"), &json!({})).await.json();
    assert_eq!(annotation(&record, "initTime"), Some(&json!(40)));
    assert_eq!(record["duration"], 52);
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_of_functions_are_502_and_ours_are_500() {
    let house = House::start().await;
    for (name, status, text, error) in [
        ("failing", 502, "application error", "no luck"),
        ("broken", 502, "action developer error", "The action did not produce a valid response"),
        ("unlucky", 500, "whisk internal error", "every VM was lost"),
    ] {
        house.action(name).await;
        let reply = house.http.post(&action(&format!("{name}?blocking=true")), &json!({})).await;
        assert_eq!(reply.status, status, "{name}");
        let response = reply.json()["response"].clone();
        assert_eq!(response["status"], text);
        assert_eq!(response["success"], false);
        assert_eq!(response["result"]["error"], error);
        let bare = house.http.post(&action(&format!("{name}?blocking=true&result=true")), &json!({})).await;
        assert_eq!((bare.status, bare.json()), (status, json!({ "error": error })));
        assert!(bare.header("x-openwhisk-activation-id").is_some());
    }
    house.action("listing").await;
    let reply = house.http.post(&action("listing?blocking=true"), &json!({})).await;
    assert_eq!((reply.status, reply.json()), (200, json!([1, 2])), "a list is answered bare");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_outlasts_its_wait_is_accepted_and_leaves_its_record() {
    let house = House::start().await;
    house.action("slow").await;
    let reply = house.http.post(&action("slow?blocking=true&timeout=200"), &json!({"n": 1})).await;
    assert_eq!(reply.status, 202);
    let id = reply.json()["activationId"].as_str().unwrap().to_owned();
    assert_eq!(reply.json(), json!({"activationId": id}));
    assert_eq!(reply.header("x-openwhisk-activation-id"), Some(id.as_str()));
    eventually("the record is there", async || {
        house.http.get(&format!("{ACTIVATIONS}/{id}/result")).await.status == 200
    })
    .await;
    for timeout in ["0", "60001", "x", "-1", ""] {
        let reply =
            house.http.post(&action(&format!("slow?blocking=true&timeout={timeout}")), &json!({})).await;
        assert_eq!(reply.status, 400, "{timeout}");
        assert!(reply.error().contains("up to 60000"));
    }
    assert_eq!(house.http.post(&action("slow?blocking=perhaps"), &json!({})).await.status, 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_does_not_wait_is_stored_run_and_recorded() {
    let house = House::start().await;
    house.action("echo").await;
    let reply = house.http.post(&action("echo"), &json!({"n": 7})).await;
    assert_eq!(reply.status, 202);
    let id = reply.json()["activationId"].as_str().unwrap().to_owned();
    // `result` means nothing without `blocking`.
    assert_eq!(house.http.post(&action("echo?result=true"), &json!({})).await.status, 202);
    eventually("its record is there", async || {
        house.http.get(&format!("{ACTIVATIONS}/{id}")).await.status == 200
    })
    .await;
    let record = house.http.get(&format!("{ACTIVATIONS}/{id}")).await.json();
    assert_eq!(record["activationId"], id);
    assert_eq!(record["response"]["result"], json!({"n": 7}));
    assert_eq!(record["logs"], json!(["2016-02-29T11:59:59.000001Z    stdout: hello"]));
    assert!(record["start"].is_u64() && record["end"].is_u64());
    assert_eq!(annotation(&record, "path"), Some(&json!("guest/echo")));
    assert!(annotation(&record, "limits").is_some());
    let logs = house.http.get(&format!("{ACTIVATIONS}/{id}/logs")).await.json();
    assert_eq!(logs, json!({"logs": record["logs"]}));
    let result = house.http.get(&format!("{ACTIVATIONS}/{id}/result")).await.json();
    assert_eq!(result, record["response"]);
    assert_eq!(house.http.get(&format!("{ACTIVATIONS}/{id}/nonsense")).await.status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn parameters_are_merged_and_final_ones_hold() {
    let house = House::start().await;
    let body = json!({
        "exec": {"kind": "python:3", "code": "x"},
        "parameters": [{"key": "a", "value": 1}, {"key": "b", "value": {"c": " d\n"}}, {"key": "env", "value": 1, "init": true}],
    });
    assert_eq!(house.http.put(&action("echo"), &body).await.status, 200);
    let call = async |body: Value| house.http.post(&action("echo?blocking=true&result=true"), &body).await;
    assert_eq!(call(json!({"a": 2, "x": null})).await.json(), json!({"a": 2, "b": {"c": " d\n"}, "x": null}));
    assert_eq!(call(json!({})).await.json(), json!({"a": 1, "b": {"c": " d\n"}}));
    let finals = json!({
        "annotations": [{"key": "final", "value": true}],
        "parameters": [{"key": "a", "value": 1}, {"key": "open", "value": null}],
    });
    assert_eq!(house.http.put(&action("echo?overwrite=true"), &finals).await.status, 200);
    let refused = call(json!({"a": 2})).await;
    assert_eq!(refused.status, 400);
    assert!(refused.error().contains("not allowed"));
    assert_eq!(call(json!({"open": 2})).await.json(), json!({"a": 1, "open": 2}));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_argument_is_refused_before_anything_runs() {
    let house = House::start().await;
    house.action("echo").await;
    let json_type = [("Content-Type", "application/json")];
    for wrong in [
        &b"[1]"[..],
        b"1",
        b"\"a\"",
        b"null",
        b"{",
        b"{}{}",
        b"{\"a\":}",
        b"  ",
        b"{\"a\":\"\xff\"}",
        b"\xff\xfe",
    ] {
        let reply = house.http.send("POST", &action("echo?blocking=true"), &json_type, wrong).await;
        assert_eq!(reply.status, 400, "{wrong:?}");
        assert!(reply.error().contains("malformed"));
    }
    let form = [("Content-Type", "application/x-www-form-urlencoded")];
    assert_eq!(house.http.send("POST", &action("echo?blocking=true"), &form, b"a=1").await.status, 415);
    let limit = 1 << 20;
    let fits = json!({"a": "x".repeat(limit - 750)});
    let reply = house.http.post(&action("echo?blocking=true&result=true"), &fits).await;
    assert_eq!(reply.status, 200);
    assert!(reply.json() == fits);
    let reply = house.http.post(&action("echo?blocking=true"), &json!({"a": "x".repeat(limit)})).await;
    assert_eq!(reply.status, 413);
    assert!(reply.error().contains("1048576"));
    assert_eq!(house.submitted.lock().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_of_the_house_tells_the_caller_what_to_do() {
    let house = House::start().await;
    for (name, status, retry) in [("full", 429, Some("1")), ("nowhere", 503, Some("1")), ("huge", 400, None)]
    {
        house.action(name).await;
        let reply = house.http.post(&action(&format!("{name}?blocking=true")), &json!({})).await;
        assert_eq!(reply.status, status, "{name}");
        assert_eq!(reply.header("retry-after"), retry);
        assert_eq!(reply.error(), "because of the test");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_controller_is_told_transaction_trace_and_only_where_wanted_the_key() {
    let house = House::start().await;
    house.action("echo").await;
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let headers = [("X-Request-ID", "my-id"), ("traceparent", trace), ("tracestate", "a=b")];
    let reply = house.http.send("POST", &action("echo?blocking=true"), &headers, b"").await;
    assert_eq!(reply.header("x-request-id"), Some("my-id"));
    let submit = house.last_submit();
    assert_eq!(submit.transaction, "my-id");
    assert_eq!(submit.trace.unwrap().traceparent, trace);
    assert_eq!(submit.api_key, None);
    assert_eq!(submit.namespace, "guest");
    let with_key = json!({"annotations": [{"key": "provide-api-key", "value": true}]});
    house.http.put(&action("echo?overwrite=true"), &with_key).await;
    house.http.post(&action("echo?blocking=true"), &json!({})).await;
    assert_eq!(house.last_submit().api_key, Some(house.guest.as_text()));
    assert_eq!(house.last_submit().trace, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_of_a_namespace_are_kept_and_named() {
    let limits = Limits { invocations_per_minute: 1_000, concurrent_invocations: 1_000, ..Limits::default() };
    let house = House::start_with(Settings { limits, ..Settings::default() }).await;
    let call = async |http: &common::http::Http, name: &str| {
        http.post(&action(&format!("{name}?blocking=true")), &json!({})).await
    };
    let none = NamespaceLimits { invocations_per_minute: Some(0), concurrent_invocations: None };
    let nobody = house.tenant("nobody", none).await;
    assert_eq!(nobody.put(&action("echo"), &python("x")).await.status, 200);
    let refused = call(&nobody, "echo").await;
    assert_eq!(refused.status, 429);
    assert_eq!(refused.error(), "Too many requests in the last minute (count: 1, allowed: 0).");
    assert!(
        refused
            .header("retry-after")
            .is_some_and(|seconds| (1..=60).contains(&seconds.parse::<u32>().unwrap()))
    );

    let three = NamespaceLimits { invocations_per_minute: Some(3), concurrent_invocations: None };
    let few = house.tenant("few", three).await;
    few.put(&action("echo"), &python("x")).await;
    let mut statuses = Vec::new();
    for _ in 0..5 {
        statuses.push(call(&few, "echo").await.status);
    }
    // A new minute may begin while we count.
    let accepted = statuses.iter().filter(|status| **status == 200).count();
    assert!((3..5).contains(&accepted), "{statuses:?}");
    assert!(statuses.contains(&429));

    let one = NamespaceLimits { invocations_per_minute: None, concurrent_invocations: Some(1) };
    let lonely = house.tenant("lonely", one).await;
    lonely.put(&action("slow"), &python("x")).await;
    let (a, b) = tokio::join!(call(&lonely, "slow"), async {
        eventually("the first is running", async || {
            !house.submitted.lock().unwrap().is_empty() && house.last_submit().namespace == "lonely"
        })
        .await;
        call(&lonely, "slow").await
    });
    assert_eq!((a.status, b.status), (200, 429));
    assert_eq!(b.error(), "Too many concurrent requests in flight (count: 2, allowed: 1).");
    assert_eq!(call(&lonely, "slow").await.status, 200, "its place was given back");
}

#[tokio::test(flavor = "multi_thread")]
async fn activations_are_listed_by_name_and_time_the_newest_first() {
    let house = House::start().await;
    for name in ["one", "two"] {
        house.action(name).await;
    }
    let mut ids = Vec::new();
    for name in ["one", "two", "one", "one"] {
        let reply = house.http.post(&action(&format!("{name}?blocking=true")), &json!({})).await.json();
        ids.push((reply["activationId"].as_str().unwrap().to_owned(), reply["start"].as_u64().unwrap()));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let list = async |query: &str| house.http.get(&format!("{ACTIVATIONS}?{query}")).await.json();
    let listed = |list: &Value| {
        list.as_array()
            .unwrap()
            .iter()
            .map(|one| one["activationId"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    let of = |which: &[usize]| which.iter().map(|n| ids[*n].0.clone()).collect::<Vec<_>>();
    let all = list("").await;
    assert_eq!(listed(&all), of(&[3, 2, 1, 0]));
    assert_eq!(all[0]["statusCode"], 0);
    assert_eq!(all[0]["duration"], 12);
    assert!(all[0]["response"].is_null() && all[0]["logs"].is_null(), "summaries are short");
    assert_eq!(listed(&list("name=one").await), of(&[3, 2, 0]));
    assert_eq!(listed(&list("name=two&docs=true").await), of(&[1]));
    assert!(list("docs=true").await[0]["response"]["success"].as_bool().unwrap());
    let (since, upto) = (ids[1].1, ids[2].1);
    assert_eq!(listed(&list(&format!("since={since}&upto={upto}")).await), of(&[2, 1]));
    assert_eq!(listed(&list("skip=1&limit=2").await), of(&[2, 1]));
    assert_eq!(list("count=true").await, json!({"activations": 4}));
    assert_eq!(list("count=true&name=one").await, json!({"activations": 3}));
    assert_eq!(list("name=none").await, json!([]));
    for wrong in ["count=true&docs=true", "since=x", "upto=yesterday", "name=a/b/c", "name=$", "limit=201"] {
        let reply = house.http.get(&format!("{ACTIVATIONS}?{wrong}")).await;
        assert_eq!(reply.status, 400, "{wrong}");
        reply.error();
    }
    for malformed in ["abc", "ABCDEF00000000000000000000000000", "0000000000000000000000000000000g", "%20"] {
        let reply = house.http.get(&format!("{ACTIVATIONS}/{malformed}")).await;
        assert_eq!(reply.status, 400, "{malformed}");
        reply.error();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_door_goes_on_after_a_restart_of_nats() {
    let mut house = House::start().await;
    house.action("echo").await;
    assert_eq!(house.http.post(&action("echo?blocking=true"), &json!({})).await.status, 200);
    house.server.kill();
    // What needs the store says so, in time; who calls is still known.
    let reply = house.http.get(&action("echo")).await;
    assert_eq!(reply.status, 503, "{reply:?}");
    assert_eq!(reply.header("retry-after"), Some("1"));
    reply.error();
    assert_eq!(house.http.get("/api/v1/namespaces").await.json(), json!(["guest"]));
    house.server.go();
    eventually("calls are answered again", async || {
        house.http.post(&action("echo?blocking=true&timeout=2000"), &json!({})).await.status == 200
    })
    .await;
    assert_eq!(house.http.get(&action("echo")).await.status, 200);
}
