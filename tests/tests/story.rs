//! The life of one invocation, as ARCHITECTURE.md tells it.
#![allow(missing_docs)]

use futures::StreamExt;
use serde_json::{Value, json};
use windfall_tests::{Cluster, Collector, NatsAnswer, Plan, annotation, eventually, functions};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const CALLER: &str = "b7ad6b7169203331";

/// Greets, logs, and shows which trace it belongs to.
const GREETER: &str = "
import os, sys
def main(args):
    print('greeting', args.get('name'))
    print('quietly', file=sys.stderr)
    return {'greeting': 'Hello ' + args.get('name', 'stranger'), 'traceparent': os.environ.get('__OW_TRACEPARENT')}
";

#[tokio::test(flavor = "multi_thread")]
async fn one_invocation_from_the_door_to_its_record() {
    let collector = Collector::start().await;
    let settings = vec![("telemetry.otlp_endpoint", collector.endpoint.clone())];
    let cluster = Cluster::of(Plan { settings, ..Plan::default() }).await;
    let http = &cluster.http;

    // A function is made by HTTP, as OpenWhisk's clients do it.
    let limits = json!({ "limits": { "memory": 128, "timeout": 20_000 } });
    let entity = http.deploy("greeter", &functions::with(functions::python(GREETER), limits)).await;
    assert_eq!((&entity["version"], &entity["namespace"]), (&json!("0.0.1"), &json!("guest")));

    // The first call is cold: a VM makes a sandbox for it, in the caller's trace.
    let traceparent = format!("00-{TRACE}-{CALLER}-01");
    let headers = [("content-type", "application/json"), ("traceparent", &traceparent)];
    let path = "/api/v1/namespaces/_/actions/greeter?blocking=true";
    let reply = http.send("POST", path, &headers, r#"{"name":"Ada"}"#).await.expect("an answer");
    assert_eq!(reply.status, 200, "{reply:?}");
    let (cold, answer) = (reply.id(), reply.json());
    assert_eq!(answer["response"]["result"]["greeting"], "Hello Ada");
    assert_eq!(answer["activationId"], json!(cold));
    assert!(annotation(&answer, "initTime").is_some(), "a cold start tells what it took: {answer}");
    let ours = annotation(&answer, "windfall").expect("what Windfall did").clone();
    assert_eq!((&ours["start"], &ours["attempt"]), (&json!("cold"), &json!(1)));
    // The grant is the reservation, as long as nothing is harvested.
    assert_eq!(ours["grant"]["booked"], json!({ "cpu": 250, "memory": 128 }));
    assert_eq!(ours["grant"]["ceiling"]["memory"], 128);
    let fleet: Vec<String> = cluster.fleet().await.iter().map(|vm| vm.vm.to_string()).collect();
    assert!(fleet.iter().any(|vm| ours["vm"] == json!(vm)), "{ours} is not of {fleet:?}");
    let seen = answer["response"]["result"]["traceparent"].as_str().expect("the function's own trace");
    assert!(seen.contains(TRACE) && !seen.contains(CALLER), "its parent is the run, not the caller: {seen}");

    // The second one finds that sandbox, on the same VM.
    let answer = http.call("greeter", &json!({ "name": "Bob" })).await.json();
    assert_eq!(annotation(&answer, "initTime"), None, "{answer}");
    let again = annotation(&answer, "windfall").expect("what Windfall did");
    assert_eq!((&again["start"], &again["vm"]), (&json!("warm"), &ours["vm"]));

    // What remains is its record: the same, and what it logged.
    let record = http.record(&cold).await;
    let expected = json!({ "greeting": "Hello Ada", "traceparent": seen });
    let size = expected.to_string().len();
    let expected = json!({ "result": expected, "status": "success", "success": true, "size": size });
    assert_eq!(record["response"], expected);
    assert_eq!(annotation(&record, "windfall"), Some(&ours));
    assert_eq!(annotation(&record, "path"), Some(&json!("guest/greeter")));
    assert_eq!(annotation(&record, "limits").expect("limits")["timeout"], 20_000);
    assert_eq!(annotation(&record, "timeout"), Some(&json!(false)));
    let mut logs: Vec<&str> = record["logs"].as_array().expect("logs").iter().map(line).collect();
    logs.sort_unstable();
    assert_eq!(logs, ["stderr: quietly", "stdout: greeting Ada"]);

    one_trace_over_all_of_them(&collector, seen).await;
    the_same_by_nats(&cluster).await;
    and_durably(&cluster).await;
}

/// A log line without its time.
fn line(value: &Value) -> &str {
    let text = value.as_str().expect("text");
    text.split_once("std").map(|(time, _)| &text[time.len()..]).expect("a stream")
}

async fn one_trace_over_all_of_them(collector: &Collector, seen: &str) {
    let wanted = ["invocation", "queue", "run", "cold start"];
    eventually("every part has told its spans", async || {
        let told = collector.of_trace(TRACE);
        wanted.iter().all(|name| told.iter().any(|span| span.name == *name))
    })
    .await;
    let told = collector.of_trace(TRACE);
    let span = |name: &str| {
        let named: Vec<_> = told.iter().filter(|span| span.name == name).collect();
        assert_eq!(named.len(), 1, "{name} in {told:?}");
        named[0].clone()
    };
    assert_eq!(span("invocation").parent, CALLER);
    for (name, service) in [
        ("invocation", "windfall-frontend"),
        ("queue", "windfall-controller"),
        ("cold start", "windfall-vm"),
        ("run", "windfall-vm"),
    ] {
        assert_eq!(span(name).service, service, "{name}");
    }
    // Nothing hangs in the air: every parent is the caller or was told as well.
    for each in &told {
        assert!(
            each.parent == CALLER || told.iter().any(|other| other.id == each.parent),
            "{each:?} in {told:?}"
        );
    }
    assert!(seen.contains(&span("run").id), "the function continues the run: {seen}");
}

async fn the_same_by_nats(cluster: &Cluster) {
    let nats = cluster.nats().await;
    let answer = nats.call("greeter", &json!({ "name": "Eve" })).await.expect("an answer");
    assert_eq!((answer.status.as_str(), answer.code), ("success", 0));
    assert_eq!(answer.json()["greeting"], "Hello Eve");
    assert!(answer.vm.starts_with("vm-") && answer.vm.contains("warm"), "{}", answer.vm);
    let record = cluster.http.record(&answer.id).await;
    assert_eq!(record["response"]["result"], answer.json());

    // In MessagePack, and back in MessagePack.
    let body = rmp_serde::to_vec_named(&json!({ "name": "Zoë" })).expect("MessagePack");
    let headers = [("Content-Type", "application/msgpack")];
    let answer = nats.ask("greeter", &headers, body).await.expect("an answer");
    assert_eq!(answer.status, "success", "{answer:?}");
    let value: Value = rmp_serde::from_slice(&answer.body).expect("MessagePack");
    assert_eq!(value["greeting"], "Hello Zoë");

    // The result can be asked for again by its id.
    let again = nats.result(&answer.id).await;
    assert_eq!((again.status.as_str(), &again.json()["greeting"]), ("success", &json!("Hello Zoë")));
    let unknown = nats.result("00000000000000000000000000000001").await;
    assert_eq!((unknown.status.as_str(), unknown.code), ("refused", 404));
}

async fn and_durably(cluster: &Cluster) {
    let nats = cluster.nats().await;
    let id = "0193b1c0ffee0000000000000000abcd";
    let mut replies = nats.client.subscribe("windfall.reply.guest.story").await.expect("subscribed");
    nats.client.flush().await.expect("flushed");
    let headers = [("Windfall-Invocation", id), ("Windfall-Reply-To", "windfall.reply.guest.story")];
    // Accepted means that JetStream has acknowledged it: that is when this comes back.
    nats.submit("greeter", &headers, &json!({ "name": "Mia" })).await.expect("accepted");
    let message = tokio::time::timeout(windfall_tests::PATIENCE, replies.next()).await.expect("in time");
    let answer = NatsAnswer::of(&message.expect("a message"));
    assert_eq!((answer.id.as_str(), answer.status.as_str()), (id, "success"));
    assert_eq!(answer.json()["greeting"], "Hello Mia");
    let record = cluster.http.record(id).await;
    assert_eq!(record["response"]["result"]["greeting"], "Hello Mia");
    // The same id again is the same invocation: it is not run a second time.
    nats.submit("greeter", &headers, &json!({ "name": "Mia" })).await.expect("accepted");
    let before = cluster.http.records("greeter").await;
    let other = cluster.http.submit("greeter", &json!({ "name": "Tom" })).await;
    cluster.http.record(&other).await;
    assert_eq!(cluster.http.records("greeter").await, before + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_story_in_node_and_in_c() {
    let cluster = Cluster::start().await;
    let mut greeters = vec![("c", functions::hello_c(), "Hello Ada, from C")];
    let text = include_str!("../../deploy/functions/hello.js");
    greeters.extend(functions::node(text).map(|function| ("node", function, "Hello Ada, from Node")));
    for (name, function, greeting) in greeters {
        cluster.http.deploy(name, &function).await;
        for start in ["cold", "warm"] {
            let answer = cluster.http.call(name, &json!({ "name": "Ada" })).await.json();
            assert_eq!(answer["response"]["result"], json!({ "greeting": greeting }), "{answer}");
            assert_eq!(annotation(&answer, "windfall").expect("what Windfall did")["start"], start);
        }
    }
}
