//! What comes back of a call that goes well, for every kind.

use sandbox::{Family, StartError, Verdict};

use crate::harness::tests;
use crate::house::*;

tests![
    python_answers_cold_and_warm_and_keeps_its_state,
    node_answers_cold_and_warm_by_value_and_by_promise,
    native_programs_and_scripts_answer,
    arrays_are_arguments_and_answers,
    unicode_survives_in_source_argument_answer_and_log,
    newlines_between_the_tokens_of_a_payload_do_no_harm,
    a_payload_of_a_mebibyte_comes_back,
    the_context_is_in_the_environment_of_each_run,
    another_entry_point_is_called,
    python_coroutines_are_awaited,
    variables_are_set_before_the_code_is_loaded,
    fifty_sandboxes_start_at_the_same_time,
];

async fn python_answers_cold_and_warm_and_keeps_its_state() {
    let house = House::open().await;
    if !house.has(Family::Python) {
        return;
    }
    let mut sandbox =
        house.python("n = 0\ndef main(args):\n    global n\n    n += 1\n    return {'n': n, **args}\n").await;
    for n in 1..=3 {
        let report = sandbox.run(run(r#"{"a":"b"}"#)).await;
        assert_eq!(answer(&report), format!(r#"{{"n":{n},"a":"b"}}"#));
        assert!(report.reusable && report.logs.is_empty() && report.late_lines == 0, "{report:?}");
        assert!(report.duration.as_micros() > 0);
        assert!(sandbox.is_alive());
    }
    sandbox.stop().await;
    house.workshop.close().await;
}

async fn node_answers_cold_and_warm_by_value_and_by_promise() {
    let house = House::open().await;
    if !house.has(Family::Nodejs) {
        return;
    }
    for code in [
        "function main(args) { return { hello: args.name } }",
        "const main = async (args) => ({ hello: args.name })",
        "exports.main = (args) => new Promise((ok) => setTimeout(() => ok({ hello: args.name }), 5))",
        "module.exports.main = ({ name }) => ({ hello: name })",
        "import fs from 'fs';\nexport function main(args) { return { hello: args.name } }",
    ] {
        let mut sandbox = house.start(node(code)).await;
        for _ in 0..3 {
            let report = sandbox.run(run(r#"{"name":"you"}"#)).await;
            assert_eq!(answer(&report), r#"{"hello":"you"}"#, "{code}");
            assert!(report.reusable);
        }
        sandbox.stop().await;
    }
    let mut sandbox = house.start(node("function main() {}")).await;
    assert_eq!(answer(&sandbox.run(run("{}")).await), "{}");
    sandbox.stop().await;
    house.workshop.close().await;
}

const ECHO_SCRIPT: &str = "#!/bin/sh\nwhile read -r line; do echo seen; echo \"$line\" >&3; done\n";
const ECHO_C: &str = r#"
#include <unistd.h>
int main(void) {
    static char buffer[65536];
    long length;
    while ((length = read(0, buffer, sizeof buffer)) > 0) {
        for (long sent = 0, now; sent < length; sent += now) {
            if ((now = write(3, buffer + sent, length - sent)) <= 0) return 1;
        }
    }
    return 0;
}
"#;

/// An executable that answers what it is asked, where there is a compiler.
pub fn compiled_echo() -> Option<Vec<u8>> {
    let folder = tempfile::tempdir().ok()?;
    let (source, program) = (folder.path().join("echo.c"), folder.path().join("echo"));
    std::fs::write(&source, ECHO_C).ok()?;
    let done = std::process::Command::new("cc").arg("-o").args([&program, &source]).status();
    if !done.is_ok_and(|status| status.success()) {
        println!("SKIPPED: no C compiler on this machine");
        return None;
    }
    std::fs::read(program).ok()
}

async fn native_programs_and_scripts_answer() {
    let house = House::open().await;
    let programs = [(ECHO_SCRIPT.as_bytes().to_vec(), false)];
    for (code, binary) in programs.into_iter().chain(compiled_echo().map(|code| (code, true))) {
        let mut sandbox = house.start(order(Family::Native, code, binary)).await;
        for _ in 0..3 {
            let report = sandbox.run(run(r#"{"a":1}"#)).await;
            let said = json(&report);
            assert_eq!(said["value"]["a"], 1);
            assert_eq!(said["deadline"], "1700000000000");
            assert_eq!(said["action_name"], "/guest/test");
            assert!(said.get("api_key").is_none());
            assert!(report.reusable);
        }
        sandbox.stop().await;
    }
    house.workshop.close().await;
}

async fn arrays_are_arguments_and_answers() {
    let house = House::open().await;
    let python = ("def main(args):\n    return args + [3]\n", Family::Python);
    let node = ("function main(args) { return [...args, 3] }", Family::Nodejs);
    for (code, family) in [python, node] {
        if house.has(family) {
            let mut sandbox = house.start(order(family, code, false)).await;
            assert_eq!(answer(&sandbox.run(run("[1, 2]")).await), "[1,2,3]");
            sandbox.stop().await;
        }
    }
    house.workshop.close().await;
}

async fn unicode_survives_in_source_argument_answer_and_log() {
    let house = House::open().await;
    let python = "def main(args):\n    print('Grüße ☃', args['wer'])\n    return {'ß': args['wer'] + '𝄞'}\n";
    let node = "function main(args) { console.log('Grüße ☃', args.wer); return { 'ß': args.wer + '𝄞' } }";
    for (code, family) in [(python, Family::Python), (node, Family::Nodejs)] {
        if house.has(family) {
            let mut sandbox = house.start(order(family, code, false)).await;
            let report = sandbox.run(run(r#"{"wer":"世界"}"#)).await;
            assert_eq!(answer(&report), r#"{"ß":"世界𝄞"}"#);
            assert_eq!(texts(&report.logs), ["stdout: Grüße ☃ 世界"]);
            sandbox.stop().await;
        }
    }
    house.workshop.close().await;
}

async fn newlines_between_the_tokens_of_a_payload_do_no_harm() {
    let house = House::open().await;
    if house.has(Family::Python) {
        let mut sandbox = house.python("def main(args):\n    return args\n").await;
        let report = sandbox.run(run("{\r\n  \"a\":\n    [1,\n 2],\n \"b\": \"x\\ny\"\n}\n")).await;
        assert_eq!(answer(&report), r#"{"a":[1,2],"b":"x\ny"}"#);
        // What is no JSON breaks the run and says so, and nothing else.
        let report = sandbox.run(run("{\"a\": nonsense}")).await;
        assert!(
            matches!(&report.verdict, Verdict::Broke { message } if message.contains("JSON")),
            "{report:?}"
        );
        sandbox.stop().await;
    }
    house.workshop.close().await;
}

async fn a_payload_of_a_mebibyte_comes_back() {
    let house = House::open().await;
    let payload = format!(r#"{{"p":"{}"}}"#, "x".repeat((1 << 20) - 750));
    let python = "def main(args):\n    return args\n";
    for (code, family) in [(python, Family::Python), ("main = (args) => args", Family::Nodejs)] {
        if house.has(family) {
            let mut sandbox = house.start(order(family, code, false)).await;
            for _ in 0..2 {
                assert_eq!(answer(&sandbox.run(run(payload.clone())).await), payload);
            }
            sandbox.stop().await;
        }
    }
    house.workshop.close().await;
}

async fn the_context_is_in_the_environment_of_each_run() {
    let house = House::open().await;
    let python = "import os\ndef main(args):\n    return {k: v for k, v in os.environ.items() if k.startswith('__OW_')}\n";
    let node = "function main() { return Object.fromEntries(Object.entries(process.env).filter(([k]) => k.startsWith('__OW_'))) }";
    for (code, family) in [(python, Family::Python), (node, Family::Nodejs)] {
        if !house.has(family) {
            continue;
        }
        let mut sandbox = house.start(order(family, code, false)).await;
        let mut with_key = run("{}");
        with_key.context.api_key = Some("u:k".into());
        with_key.context.traceparent = Some("00-1-2-01".into());
        let said = json(&sandbox.run(with_key).await);
        assert_eq!(said["__OW_API_KEY"], "u:k");
        assert_eq!(said["__OW_TRACEPARENT"], "00-1-2-01");
        let said = json(&sandbox.run(run("{}")).await);
        assert_eq!(said["__OW_NAMESPACE"], "guest");
        assert_eq!(said["__OW_ACTION_NAME"], "/guest/test");
        assert_eq!(said["__OW_ACTION_VERSION"], "0.0.1");
        assert_eq!(said["__OW_ACTIVATION_ID"], "0123456789abcdef0123456789abcdef");
        assert_eq!(said["__OW_DEADLINE"], "1700000000000");
        assert!(said.get("__OW_API_KEY").is_none(), "a key must not stay for the next caller");
        sandbox.stop().await;
    }
    house.workshop.close().await;
}

async fn another_entry_point_is_called() {
    let house = House::open().await;
    let python = "def niam(args):\n    return {'niam': 1}\n";
    for (code, family) in [(python, Family::Python), ("function niam() { return {niam: 1} }", Family::Nodejs)]
    {
        if house.has(family) {
            let mut named = order(family, code, false);
            named.main = Some("niam".into());
            let mut sandbox = house.start(named).await;
            assert_eq!(answer(&sandbox.run(run("{}")).await), r#"{"niam":1}"#);
            sandbox.stop().await;
            let error = house.refused(order(family, code, false)).await;
            assert!(error.is_developers() && error.to_string().contains("main"), "{error}");
        }
    }
    house.workshop.close().await;
}

async fn python_coroutines_are_awaited() {
    let house = House::open().await;
    if house.has(Family::Python) {
        let code =
            "import asyncio\nasync def main(args):\n    await asyncio.sleep(0)\n    return {'ok': True}\n";
        let mut sandbox = house.python(code).await;
        for _ in 0..2 {
            assert_eq!(answer(&sandbox.run(run("{}")).await), r#"{"ok":true}"#);
        }
        sandbox.stop().await;
    }
    house.workshop.close().await;
}

async fn variables_are_set_before_the_code_is_loaded() {
    let house = House::open().await;
    let python = "import os\nseen = os.environ['SECRET']\ndef main(args):\n    return {'seen': seen}\n";
    let node = "const seen = process.env.SECRET; function main() { return { seen } }";
    let native = "#!/bin/sh\nwhile read -r line; do echo \"{\\\"seen\\\":\\\"$SECRET\\\"}\" >&3; done\n";
    for (code, family) in [(python, Family::Python), (node, Family::Nodejs), (native, Family::Native)] {
        if house.has(family) {
            let mut order = order(family, code, false);
            order.env = vec![("SECRET".into(), "ä b".into())];
            let mut sandbox = house.start(order).await;
            assert_eq!(answer(&sandbox.run(run("{}")).await), r#"{"seen":"ä b"}"#);
            sandbox.stop().await;
        }
    }
    let mut order = order(Family::Native, native, false);
    order.env = vec![("BIG".into(), "x".repeat(200_000))];
    let error = house.refused(order).await;
    assert!(matches!(error, StartError::BadCode { .. }), "{error:?}");
    house.workshop.close().await;
}

async fn fifty_sandboxes_start_at_the_same_time() {
    let house = House::open().await;
    if house.has(Family::Python) {
        let starts = (0..50).map(|_| house.workshop.start(python("def main(args):\n    return args\n")));
        let mut sandboxes = Vec::new();
        for sandbox in futures::future::join_all(starts).await {
            sandboxes.push(sandbox.unwrap_or_else(|error| panic!("{error:?}")));
        }
        let runs = sandboxes.iter_mut().enumerate().map(|(n, sandbox)| sandbox.run(run(format!("[{n}]"))));
        for (n, report) in futures::future::join_all(runs).await.iter().enumerate() {
            assert_eq!(answer(report), format!("[{n}]"));
        }
        futures::future::join_all(sandboxes.into_iter().map(|sandbox| sandbox.stop())).await;
    }
    house.workshop.close().await;
}
