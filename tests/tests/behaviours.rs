//! What users of OpenWhisk rely on, with functions that really run: results, errors, limits, code.
//!
//! What needs no function (lists, statuses of entities) is tested beside the HTTP door.
#![allow(missing_docs)]

use std::time::Duration;

use actors::store::NamespaceLimits;
use serde_json::{Value, json};
use windfall_tests::functions::{self, ECHO, SLEEP, node, python, with};
use windfall_tests::{Cluster, Http, annotation, body_of};

const ACTIONS: &str = "/api/v1/namespaces/_/actions";

async fn deploy(http: &Http, name: &str, code: &str) {
    http.deploy(name, &python(code)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn results_are_what_the_function_answered() {
    let cluster = Cluster::start().await;
    let http = &cluster.http;
    deploy(http, "echo", ECHO).await;
    assert_eq!(http.result("echo", &json!({ "hello": "Robert" })).await, json!({ "hello": "Robert" }));
    // Parameters of the function, overridden by those of the call.
    let parameters = json!({ "parameters": [{ "key": "a", "value": 1 }, { "key": "b", "value": 2 }] });
    http.deploy("merged", &with(python(ECHO), parameters)).await;
    assert_eq!(http.result("merged", &json!({ "b": 3 })).await, json!({ "a": 1, "b": 3 }));
    // A list is answered bare, also where the whole record was asked for.
    deploy(http, "list", "def main(args):\n    return [1, {'two': 2}]").await;
    assert_eq!(http.call("list", &json!({})).await.json(), json!([1, { "two": 2 }]));
    // A result that comes late is a result.
    deploy(http, "sleep", SLEEP).await;
    assert_eq!(http.result("sleep", &json!({ "seconds": 1.5 })).await, json!({ "seconds": 1.5 }));
    // Not blocking: 202 and the id; then a whole record.
    let id = http.submit("echo", &json!({ "n": 7 })).await;
    let record = http.record(&id).await;
    assert_eq!(record["response"]["result"], json!({ "n": 7 }));
    assert_eq!(record["logs"], json!([]));
    assert!(record["start"].as_u64() <= record["end"].as_u64() && record["start"].is_u64());
    assert_eq!(annotation(&record, "path"), Some(&json!("guest/echo")));
    assert!(annotation(&record, "limits").is_some());
    if let Some(function) =
        node("async function main(args) { await new Promise(r => setTimeout(r, 300)); return args }")
    {
        http.deploy("later", &function).await;
        assert_eq!(http.result("later", &json!({ "n": 1 })).await, json!({ "n": 1 }));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_function_is_told_how_it_broke_and_the_next_call_is_served() {
    let cluster = Cluster::start().await;
    let http = &cluster.http;
    let code = "
import os, sys
def main(args):
    how = args.get('how')
    if how == 'error': return {'error': {'reason': 'mine'}}
    if how == 'raise': raise ValueError('lifted')
    if how == 'exit': os._exit(3)
    if how == 'text': return 'just text'
    if how == 'none': return None
    return {'fine': True}
";
    deploy(http, "fragile", code).await;
    for (how, status, error) in [
        ("error", "application error", r#"{"reason":"mine"}"#),
        // As OpenWhisk's launcher for Python has it: every exception is the application's.
        ("raise", "application error", "lifted"),
        ("exit", "action developer error", "did not produce a valid response and exited"),
        ("text", "action developer error", "did not return a dictionary"),
        ("none", "action developer error", "did not return a dictionary"),
    ] {
        let told = http.failure("fragile", &json!({ "how": how })).await;
        assert_eq!(told.0, status, "{how}: {told:?}");
        assert!(told.1.contains(error), "{how}: {told:?}");
        assert_eq!(http.result("fragile", &json!({})).await, json!({ "fine": true }), "after {how}");
    }
    // What breaks while the code is loaded is the developer's as well, and is logged.
    for (name, code, error) in [
        ("malformed", "def main(args) return 1", "SyntaxError"),
        ("quits", "import os\nos._exit(1)", "did not initialize and exited"),
        ("empty", "", "no function"),
        ("nameless", "def other(args):\n    return args", "no function 'main'"),
    ] {
        deploy(http, name, code).await;
        let told = http.failure(name, &json!({})).await;
        assert_eq!(told.0, "action developer error", "{name}: {told:?}");
        let reply = http.call(name, &json!({})).await;
        let record = http.record(&reply.id()).await;
        let seen = format!("{} {}", told.1, record["logs"]);
        assert!(seen.to_lowercase().contains(&error.to_lowercase()), "{name}: {seen}");
    }
    // Mended, it works.
    deploy(http, "malformed", ECHO).await;
    assert_eq!(http.result("malformed", &json!({ "a": 1 })).await, json!({ "a": 1 }));
    if let Some(function) = node(
        "function main(args) {
             if (args.how === 'reject') return Promise.reject({ code: 7 });
             if (args.how === 'throw') throw new Error('thrown');
             if (args.how === 'exit') process.exit(1);
             return args;
         }",
    ) {
        http.deploy("fragile-node", &function).await;
        for (how, status, error) in [
            ("reject", "application error", r#"{"code":7}"#),
            ("throw", "action developer error", "error"),
            ("exit", "action developer error", "exited"),
        ] {
            let told = http.failure("fragile-node", &json!({ "how": how })).await;
            assert_eq!(told.0, status, "{how}: {told:?}");
            assert!(told.1.contains(error), "{how}: {told:?}");
            assert_eq!(http.result("fragile-node", &json!({})).await, json!({}), "after {how}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn time_limits_end_loading_and_running_and_the_next_call_is_served() {
    let cluster = Cluster::start().await;
    let http = &cluster.http;
    let limits = json!({ "limits": { "timeout": 1_500 } });
    let code = "
import time
def main(args):
    while args.get('forever'): pass
    time.sleep(args.get('seconds', 0))
    return args
";
    http.deploy("hangs", &with(python(code), limits.clone())).await;
    let reply = http.call("hangs", &json!({ "forever": true })).await;
    assert_eq!(reply.status, 502);
    let answer = reply.json();
    assert_eq!(answer["response"]["status"], "action developer error");
    let error = answer["response"]["result"]["error"].as_str().expect("text");
    assert!(error.contains("exceeded its time limits of 1500 milliseconds"), "{error}");
    assert_eq!(annotation(&answer, "timeout"), Some(&json!(true)));
    assert!(answer["duration"].as_u64() >= Some(1_500), "{answer}");
    // The sandbox went with it: the next one runs in another.
    let next = http.call("hangs", &json!({})).await.json();
    assert_eq!(annotation(&next, "windfall").expect("what Windfall did")["start"], "cold");
    assert_eq!(next["response"]["status"], "success");
    // Below the limit it is left alone.
    assert_eq!(http.result("hangs", &json!({ "seconds": 0.5 })).await, json!({ "seconds": 0.5 }));

    http.deploy("hangs-loading", &with(python("while True: pass"), limits)).await;
    let (status, error) = http.failure("hangs-loading", &json!({})).await;
    assert_eq!(status, "action developer error");
    assert!(error.contains("1500 milliseconds during initialization"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_memory_hog_is_told_that_it_was_one() {
    if !windfall_tests::is_root() {
        println!("skipped: memory is enforced by control groups, which need root");
        return;
    }
    let cluster = Cluster::start().await;
    let http = &cluster.http;
    let code = "
def main(args):
    held = bytearray(args['mib'] << 20)
    for at in range(0, len(held), 4096): held[at] = 1
    return {'mib': len(held) >> 20}
";
    http.deploy("hog", &with(python(code), json!({ "limits": { "memory": 128 } }))).await;
    let (status, error) = http.failure("hog", &json!({ "mib": 400 })).await;
    assert_eq!(status, "action developer error");
    assert!(error.contains("exhausted its memory"), "{error}");
    // Within the limit, again and again, it is fine.
    for _ in 0..4 {
        assert_eq!(http.result("hog", &json!({ "mib": 48 })).await, json!({ "mib": 48 }));
    }
    // And nobody else was hurt.
    deploy(http, "echo", ECHO).await;
    assert_eq!(http.result("echo", &json!({ "a": 1 })).await, json!({ "a": 1 }));
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_are_kept_line_by_line_up_to_their_limit() {
    let cluster = Cluster::start().await;
    let http = &cluster.http;
    let code = "
import sys
def main(args):
    for number in range(args.get('lines', 1)): print(args.get('text', 'line'))
    return {}
";
    http.deploy("talker", &with(python(code), json!({ "limits": { "logs": 1 } }))).await;
    let logs = async |argument: Value| {
        let id = http.call("talker", &argument).await.id();
        let record = http.record(&id).await;
        assert_eq!(record["response"]["status"], "success");
        let lines = record["logs"].as_array().expect("logs").clone();
        lines.iter().map(|line| line.as_str().expect("text").to_owned()).collect::<Vec<_>>()
    };
    let one = logs(json!({ "text": "just one" })).await;
    assert_eq!(one.len(), 1);
    assert!(one[0].ends_with(" stdout: just one") && one[0].contains("Z "), "{one:?}");
    assert_eq!(logs(json!({ "lines": 0 })).await, Vec::<String>::new());
    // 2 MB into a limit of 1.
    let many = logs(json!({ "lines": 20_000, "text": "x".repeat(100) })).await;
    let kept: usize = many.iter().map(String::len).sum();
    assert!((9_000..20_000).contains(&many.len()) && kept < 3 << 20, "{} lines, {kept} bytes", many.len());
    let last = many.last().expect("lines");
    assert!(
        last.contains("Logs were truncated because the total bytes size exceeds the limit of 1048576 bytes"),
        "{last}"
    );
    // The sandbox is still good.
    assert_eq!(logs(json!({ "text": "again" })).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_letter_survives_the_way() {
    let cluster = Cluster::start().await;
    let http = &cluster.http;
    let winter = "❄ ☃ 𝄞 ünïcödé 日本語 \u{202e}\u{0000}\u{7f} \"\\/";
    let code =
        "def main(args):\n    print('❄ ' + args['winter'])\n    return {'winter': args['winter'], 'ß': '☃'}";
    deploy(http, "snow", code).await;
    let id = http.call("snow", &json!({ "winter": winter })).await.id();
    let record = http.record(&id).await;
    assert_eq!(record["response"]["result"], json!({ "winter": winter, "ß": "☃" }));
    assert!(record["logs"][0].as_str().expect("text").contains(&format!("stdout: ❄ {winter}")), "{record}");
    let by_nats = cluster.nats().await.call("snow", &json!({ "winter": winter })).await.expect("an answer");
    assert_eq!(by_nats.json()["winter"], winter);
    if let Some(function) =
        node("function main(args) { console.log('❄', args.winter); return { winter: args.winter } }")
    {
        http.deploy("snow-node", &function).await;
        assert_eq!(http.result("snow-node", &json!({ "winter": winter })).await, json!({ "winter": winter }));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn arguments_and_results_of_a_mebibyte_pass_and_larger_ones_do_not() {
    let cluster = Cluster::start().await;
    let http = &cluster.http;
    deploy(http, "echo", ECHO).await;
    deploy(http, "grow", "def main(args):\n    return {'a': 'x' * args['bytes']}").await;
    let limit = 1 << 20;
    let fits = body_of(limit - 750);
    assert!(http.result("echo", &fits).await == fits);
    let exactly = body_of(limit);
    assert!(http.result("echo", &exactly).await == exactly);
    let nats = cluster.nats().await;
    assert!(nats.call("echo", &exactly).await.expect("an answer").json() == exactly);
    for over in [limit + 1, 3 * limit] {
        let reply = http.call("echo", &body_of(over)).await;
        assert_eq!(reply.status, 413, "{over}");
        assert!(reply.error().contains("1048576"));
        let answer = nats.call("echo", &body_of(over)).await.expect("an answer");
        assert_eq!((answer.status.as_str(), answer.code), ("refused", 413));
    }
    // A result over the limit is the application's error, blocking or not.
    let (status, error) = http.failure("grow", &json!({ "bytes": 2 * limit })).await;
    assert_eq!(status, "application error");
    assert!(error.contains("exceeded the allowed length") && error.contains("1048576"), "{:.300}", error);
    let record = http.record(&http.submit("grow", &json!({ "bytes": 2 * limit })).await).await;
    assert_eq!(record["response"]["status"], "application error");
    // Not one byte too much is one too few.
    let most = limit - r#"{"a":""}"#.len();
    let result = http.result("grow", &json!({ "bytes": most })).await;
    assert_eq!(result["a"].as_str().map(str::len), Some(most));
    let (status, _) = http.failure("grow", &json!({ "bytes": most + 1 })).await;
    assert_eq!(status, "application error");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_function_knows_who_and_where_it_is() {
    let cluster = Cluster::start().await;
    let http = &cluster.http;
    let code = "
import os, time
def main(args):
    own = {name[5:].lower(): value for name, value in os.environ.items() if name.startswith('__OW_')}
    own['now'] = time.time() * 1000
    return own
";
    deploy(http, "me", code).await;
    let mut ids = Vec::new();
    for _ in 0..2 {
        let reply = http.call("me", &json!({})).await;
        let seen = reply.json()["response"]["result"].clone();
        assert_eq!(seen["namespace"], "guest");
        assert_eq!(seen["action_name"], "/guest/me");
        assert_eq!(seen["action_version"], "0.0.1");
        assert_eq!(seen["activation_id"], json!(reply.id()));
        assert_eq!(seen["api_host"], json!(http.base));
        assert_eq!(seen["api_key"], Value::Null, "a key is for those that ask for it");
        let deadline: f64 = seen["deadline"].as_str().expect("text").parse().expect("milliseconds");
        assert!(deadline >= seen["now"].as_f64().expect("a number"), "{seen}");
        ids.push(reply.id());
    }
    assert_ne!(ids[0], ids[1]);
    let with_key = json!({ "annotations": [{ "key": "provide-api-key", "value": true }] });
    http.deploy("keyed", &with(python(code), with_key)).await;
    assert_eq!(http.result("keyed", &json!({})).await["api_key"], json!(http.key));
    let id = http.submit("keyed", &json!({})).await;
    assert_eq!(http.record(&id).await["response"]["result"]["api_key"], json!(http.key), "durably as well");
}

#[tokio::test(flavor = "multi_thread")]
async fn once_an_update_is_answered_the_old_code_never_runs_again() {
    let cluster = Cluster::start().await;
    let http = &cluster.http;
    let version = |number: u32| format!("def main(args):\n    return {{'version': {number}}}");
    for number in 1..=6 {
        deploy(http, "changing", &version(number)).await;
        let calls = (0..6).map(async |_| http.result("changing", &json!({})).await);
        for result in futures::future::join_all(calls).await {
            assert_eq!(result, json!({ "version": number }));
        }
        let id = http.submit("changing", &json!({})).await;
        assert_eq!(http.record(&id).await["response"]["result"]["version"], number);
    }
    // Only parameters: the code stays.
    http.deploy("changing", &json!({ "parameters": [{ "key": "a", "value": 1 }] })).await;
    assert_eq!(http.result("changing", &json!({})).await, json!({ "version": 6 }));
    // Deleted it is gone, by every door; made again it is another.
    let path = format!("{ACTIONS}/changing");
    assert_eq!(http.delete(&path).await.status, 200);
    assert_eq!(http.call("changing", &json!({})).await.status, 404);
    deploy(http, "changing", &version(100)).await;
    assert_eq!(http.result("changing", &json!({})).await, json!({ "version": 100 }));
    let by_nats = cluster.nats().await.call("changing", &json!({})).await.expect("an answer");
    assert_eq!(by_nats.json(), json!({ "version": 100 }));
}

#[tokio::test(flavor = "multi_thread")]
async fn code_comes_as_text_or_zip_with_any_entry_point_and_in_any_size() {
    let cluster = Cluster::start().await;
    let http = &cluster.http;
    let niam = with(
        python(""),
        json!({ "exec": { "kind": "python:3", "main": "niam", "code": "def niam(args):\n    return {'niam': True}" } }),
    );
    http.deploy("niam", &niam).await;
    assert_eq!(http.result("niam", &json!({})).await, json!({ "niam": true }));
    let files = [
        (
            "__main__.py",
            "import helper\ndef main(args):\n    return helper.greet(args, open('data.txt').read())",
        ),
        ("helper.py", "def greet(args, text):\n    return {'text': text}"),
        ("data.txt", "beside it"),
    ];
    http.deploy("zipped", &functions::python_zip(&files)).await;
    assert_eq!(http.result("zipped", &json!({})).await, json!({ "text": "beside it" }));
    let (status, error) = {
        http.deploy("headless", &functions::python_zip(&[("other.py", "x = 1")])).await;
        http.failure("headless", &json!({})).await
    };
    assert!(status == "action developer error" && error.contains("__main__.py"), "{status}: {error}");
    // Five megabytes of code, as text.
    let large =
        format!("DATA = '{}'\ndef main(args):\n    return {{'length': len(DATA)}}", "x".repeat(5 << 20));
    deploy(http, "large", &large).await;
    assert_eq!(http.result("large", &json!({})).await, json!({ "length": 5 << 20 }));
    if let Some(function) = node("") {
        let files = [
            ("package.json", r#"{"main": "start.js"}"#),
            ("start.js", "exports.main = () => ({ from: require('./other') })"),
            ("other.js", "module.exports = 'the other file'"),
        ];
        let code = functions::base64(&functions::zip(&files));
        let kind = &function["exec"]["kind"];
        http.deploy("zipped-node", &json!({ "exec": { "kind": kind, "code": code, "binary": true } })).await;
        assert_eq!(http.result("zipped-node", &json!({})).await, json!({ "from": "the other file" }));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_file_is_taken_and_told_when_it_is_called() {
    let cluster = Cluster::start().await;
    let http = &cluster.http;
    let mut empty = vec![("empty-python", python(""))];
    empty.extend(node("").map(|function| ("empty-node", function)));
    for (name, function) in empty {
        http.deploy(name, &function).await;
        let (status, error) = http.failure(name, &json!({})).await;
        assert_eq!(status, "action developer error", "{name}: {error}");
        assert!(error.contains("main"), "{name}: {error}");
        // What is put right afterwards runs.
        http.deploy(name, &python(ECHO)).await;
        assert_eq!(http.result(name, &json!({ "n": 1 })).await, json!({ "n": 1 }));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn functions_may_wait_for_functions() {
    let cluster = Cluster::start().await;
    let http = &cluster.http;
    // Each level calls the next through the API, with the key that it was given, and waits.
    let code = "
import base64, json, os, urllib.request
def main(args):
    if args['depth'] == 0: return {'depths': [0]}
    url = os.environ['__OW_API_HOST'] + '/api/v1/namespaces/_/actions/nested?blocking=true&result=true'
    key = base64.b64encode(os.environ['__OW_API_KEY'].encode()).decode()
    headers = {'Authorization': 'Basic ' + key, 'Content-Type': 'application/json'}
    body = json.dumps({'depth': args['depth'] - 1}).encode()
    answer = json.load(urllib.request.urlopen(urllib.request.Request(url, body, headers)))
    return {'depths': [args['depth']] + answer['depths']}
";
    let with_key =
        json!({ "annotations": [{ "key": "provide-api-key", "value": true }], "limits": { "memory": 128 } });
    http.deploy("nested", &with(python(code), with_key)).await;
    assert_eq!(http.result("nested", &json!({ "depth": 3 })).await, json!({ "depths": [3, 2, 1, 0] }));
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_of_a_namespace_are_kept_and_recover() {
    let cluster = Cluster::start().await;
    let limits = |per_minute, at_once| NamespaceLimits {
        invocations_per_minute: per_minute,
        concurrent_invocations: at_once,
    };
    let nobody = cluster.namespace("nobody", limits(Some(0), None)).await;
    deploy(&nobody, "echo", ECHO).await;
    for blocking in ["true", "false"] {
        let refused = nobody.post(&format!("{ACTIONS}/echo?blocking={blocking}"), &json!({})).await;
        assert_eq!(refused.status, 429);
        assert!(refused.error().contains("allowed: 0"), "{refused:?}");
    }
    assert_eq!(nobody.records("echo").await, 0);

    let alone = cluster.namespace("alone", limits(None, Some(1))).await;
    deploy(&alone, "sleep", SLEEP).await;
    let long = alone.clone();
    let long = tokio::spawn(async move { long.call("sleep", &json!({ "seconds": 3 })).await });
    tokio::time::sleep(Duration::from_millis(1_000)).await;
    let refused = alone.call("sleep", &json!({})).await;
    assert_eq!(refused.status, 429);
    assert_eq!(refused.error(), "Too many concurrent requests in flight (count: 2, allowed: 1).");
    assert!(refused.header("retry-after").is_some());
    assert_eq!(long.await.expect("no panic").status, 200);
    assert_eq!(alone.call("sleep", &json!({})).await.status, 200, "its place was given back");
    // Records and functions of one namespace are not another's.
    assert_eq!(cluster.http.call("sleep", &json!({})).await.status, 404);
    assert_eq!(cluster.http.records("sleep").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn files_may_be_opened_up_to_the_limit() {
    let cluster = Cluster::start().await;
    let http = &cluster.http;
    let code = "
import os
def main(args):
    held = []
    try:
        for number in range(args['files']): held.append(os.open('/dev/null', os.O_RDONLY))
    except OSError as error:
        return {'errno': error.errno, 'opened': len(held)}
    finally:
        for file in held: os.close(file)
    return {'opened': len(held)}
";
    deploy(http, "opener", code).await;
    assert_eq!(http.result("opener", &json!({ "files": 994 })).await, json!({ "opened": 994 }));
    let refused = http.result("opener", &json!({ "files": 1_025 })).await;
    assert_eq!(refused["errno"], 24, "{refused}");
}
