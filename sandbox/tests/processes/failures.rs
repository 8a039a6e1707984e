//! What comes back of a call that goes wrong, and whose fault it is said to be.

use std::time::Duration;

use sandbox::{Family, Kind, StartError, Verdict};
use vocabulary::{Resources, Span};

use crate::harness::tests;
use crate::house::*;

tests![
    a_python_exception_is_the_functions_own_error_with_a_traceback_in_the_log,
    a_node_rejection_is_the_functions_own_error_and_a_throw_breaks_it,
    an_answer_that_is_no_object_or_array_is_not_taken,
    a_syntax_error_is_named_with_its_place,
    a_crash_while_loading_is_told_apart_from_an_error,
    an_endless_loop_while_loading_is_ended,
    an_endless_loop_in_a_run_is_ended_with_all_it_started,
    leaving_in_a_run_is_an_exit_with_its_last_words_kept,
    a_hog_is_said_to_have_run_out_of_memory,
    a_hog_while_loading_is_said_to_have_run_out_of_memory,
    an_answer_over_the_limit_is_cut_and_the_sandbox_goes_on,
    a_sandbox_that_dies_between_two_runs_does_not_fail_the_next,
    a_sandbox_that_was_killed_says_so,
    what_the_machine_lacks_is_not_the_developers_fault,
    a_second_answer_to_one_order_is_never_taken_for_the_next,
    a_crashed_zygote_is_started_anew_and_counted,
    a_native_program_that_cannot_run_is_the_developers_to_repair,
];

async fn a_python_exception_is_the_functions_own_error_with_a_traceback_in_the_log() {
    let house = House::open().await;
    if house.has(Family::Python) {
        let mut sandbox = house.python("def main(args):\n    raise ValueError('no such thing')\n").await;
        for _ in 0..2 {
            let report = sandbox.run(run("{}")).await;
            assert_eq!(answer(&report), r#"{"error":"no such thing"}"#);
            assert!(report.reusable);
            let log = texts(&report.logs).join("\n");
            assert!(log.contains("Traceback") && log.contains("__main__.py\", line 2"), "{log}");
            assert!(!log.contains("launcher"), "its own code is all a developer wants to see: {log}");
        }
        sandbox.stop().await;
    }
    house.workshop.close().await;
}

async fn a_node_rejection_is_the_functions_own_error_and_a_throw_breaks_it() {
    let house = House::open().await;
    if house.has(Family::Nodejs) {
        let mut sandbox = house.start(node("async function main() { throw 'no such thing' }")).await;
        assert_eq!(answer(&sandbox.run(run("{}")).await), r#"{"error":"no such thing"}"#);
        sandbox.stop().await;
        let mut sandbox = house.start(node("function main() { throw new Error('broken') }")).await;
        let report = sandbox.run(run("{}")).await;
        assert_eq!(report.verdict, Verdict::Broke { message: "An error has occurred: Error: broken".into() });
        assert!(!report.reusable && report.verdict.is_developers());
        sandbox.stop().await;
    }
    house.workshop.close().await;
}

async fn an_answer_that_is_no_object_or_array_is_not_taken() {
    let house = House::open().await;
    for (code, family) in [
        ("def main(args):\n    return 'text'\n", Family::Python),
        ("def main(args):\n    return {'a': {1, 2}}\n", Family::Python),
        ("def main(args):\n    return {'a': float('nan')}\n", Family::Python),
        ("function main() { return 'text' }", Family::Nodejs),
        ("function main() { const a = {}; a.a = a; return a }", Family::Nodejs),
    ] {
        if house.has(family) {
            let mut sandbox = house.start(order(family, code, false)).await;
            let report = sandbox.run(run("{}")).await;
            let Verdict::Broke { message } = &report.verdict else { panic!("{code}: {report:?}") };
            assert!(message.contains("did not return a dictionary or array"), "{message}");
            sandbox.stop().await;
        }
    }
    for answer in ["17", "hello", "{\"a\":", ""] {
        let script = format!("#!/bin/sh\nwhile read -r line; do echo '{answer}' >&3; done\n");
        let mut sandbox = house.start(order(Family::Native, script, false)).await;
        let report = sandbox.run(run("{}")).await;
        let Verdict::BadAnswer { truncated, why } = &report.verdict else { panic!("{report:?}") };
        assert_eq!(truncated, answer);
        assert!(!why.is_empty() && !report.reusable && report.verdict.is_developers());
        sandbox.stop().await;
    }
    house.workshop.close().await;
}

async fn a_syntax_error_is_named_with_its_place() {
    let house = House::open().await;
    if house.has(Family::Python) {
        let error = house.refused(python("def main(args):\n    return {\n")).await;
        assert!(error.is_developers());
        let StartError::Init { message, logs, .. } = error else { panic!("{error:?}") };
        assert!(message.contains("SyntaxError") && message.contains("line 2"), "{message}");
        assert!(texts(&logs).iter().any(|line| line.contains("SyntaxError")), "{logs:?}");
    }
    if house.has(Family::Nodejs) {
        let error = house.refused(node("function main( { return {}")).await;
        let StartError::Init { message, .. } = error else { panic!("{error:?}") };
        assert!(message.contains("SyntaxError"), "{message}");
    }
    house.workshop.close().await;
}

async fn a_crash_while_loading_is_told_apart_from_an_error() {
    let house = House::open().await;
    for (code, family) in [
        ("import os\nprint('going')\nos._exit(3)\n", Family::Python),
        ("import sys\nprint('going')\nsys.exit()\n", Family::Python),
        ("console.log('going'); process.exit(3)", Family::Nodejs),
    ] {
        if house.has(family) {
            let error = house.refused(order(family, code, false)).await;
            let StartError::Exited { logs, .. } = error else { panic!("{code}: {error:?}") };
            // `os._exit` leaves at once, but lines are written as they are printed.
            assert_eq!(texts(&logs), ["stdout: going"], "{code}");
        }
    }
    if house.has(Family::Python) {
        let error = house.refused(python("import nothing_of_that_name\n")).await;
        assert!(error.to_string().contains("nothing_of_that_name"), "{error}");
    }
    house.workshop.close().await;
}

async fn an_endless_loop_while_loading_is_ended() {
    let house = House::open().await;
    for (code, family) in [
        ("print('on')\nwhile True: pass\n", Family::Python),
        ("console.log('on'); while (true) {}", Family::Nodejs),
    ] {
        if house.has(family) {
            let mut order = order(family, code, false);
            order.timeout = Span::seconds(2);
            let error = house.refused(order).await;
            let StartError::TimedOut { logs, took } = error else { panic!("{error:?}") };
            assert_eq!(took, Span::seconds(2));
            assert_eq!(texts(&logs), ["stdout: on"]);
        }
    }
    house.workshop.close().await;
}

async fn an_endless_loop_in_a_run_is_ended_with_all_it_started() {
    let house = House::open().await;
    if house.has(Family::Python) {
        let code = "import subprocess\ndef main(args):\n    print('on')\n    p = subprocess.Popen(['sleep', 'MANY'], start_new_session=True)\n    while True: pass\n";
        // A number of seconds that nobody else on this machine sleeps.
        let many = format!("9{:07}", std::process::id());
        let mut sandbox = house.python(&code.replace("MANY", &many)).await;
        let mut order = run("{}");
        order.timeout = Span::millis(500);
        let report = sandbox.run(order).await;
        assert_eq!(report.verdict, Verdict::TimedOut);
        assert!(report.duration >= Span::millis(500) && !report.reusable);
        assert_eq!(texts(&report.logs), ["stdout: on"]);
        assert!(report.usage.cpu_time >= Span::millis(10), "{:?}", report.usage);
        sandbox.stop().await;
        if house.is_enforced() {
            let sleeping = std::fs::read_dir("/proc").unwrap().flatten().any(|entry| {
                std::fs::read_to_string(entry.path().join("cmdline")).is_ok_and(|text| text.contains(&many))
            });
            assert!(!sleeping, "what a function starts ends with it");
        }
    }
    house.workshop.close().await;
}

async fn leaving_in_a_run_is_an_exit_with_its_last_words_kept() {
    let house = House::open().await;
    for (code, family) in [
        ("import sys\ndef main(args):\n    print('bye', end='')\n    sys.exit(0)\n", Family::Python),
        ("import os\ndef main(args):\n    print('bye')\n    os._exit(1)\n", Family::Python),
        ("function main() { console.log('bye'); process.exit(0) }", Family::Nodejs),
        ("#!/bin/sh\nread -r line; echo bye; exit 4\n", Family::Native),
    ] {
        if house.has(family) {
            let mut sandbox = house.start(order(family, code, false)).await;
            let report = sandbox.run(run("{}")).await;
            assert_eq!(report.verdict, Verdict::Exited, "{code}");
            assert_eq!(texts(&report.logs), ["stdout: bye"]);
            assert!(!report.reusable && !sandbox.is_alive());
            sandbox.stop().await;
        }
    }
    house.workshop.close().await;
}

async fn a_hog_is_said_to_have_run_out_of_memory() {
    let house = House::open().await;
    if !house.is_enforced() || !house.has(Family::Python) {
        return;
    }
    let code = "def main(args):\n    return {'n': len(b'x' * (args['mib'] << 20))}\n";
    let mut order = python(code);
    order.ceiling = Resources::new(1000, 64);
    let mut sandbox = house.start(order).await;
    // Within the limit, again and again, it succeeds.
    for _ in 0..3 {
        let report = sandbox.run(run(r#"{"mib":32}"#)).await;
        assert_eq!(answer(&report), r#"{"n":33554432}"#);
        let peak = report.usage.memory_peak.0;
        assert!((32..=64).contains(&peak), "{peak} MiB");
    }
    let report = sandbox.run(run(r#"{"mib":2}"#)).await;
    assert!(report.usage.memory_peak.0 < 32, "each run has its own peak: {:?}", report.usage);
    let report = sandbox.run(run(r#"{"mib":200}"#)).await;
    assert_eq!(report.verdict, Verdict::OutOfMemory);
    assert!(!report.reusable && report.usage.memory_peak.0 <= 64, "{:?}", report.usage);
    sandbox.stop().await;
    house.workshop.close().await;
}

async fn a_hog_while_loading_is_said_to_have_run_out_of_memory() {
    let house = House::open().await;
    if house.is_enforced() && house.has(Family::Python) {
        let mut order = python("x = b'x' * (200 << 20)\ndef main(args):\n    return {}\n");
        order.ceiling = Resources::new(1000, 64);
        let error = house.refused(order).await;
        assert!(matches!(error, StartError::OutOfMemory { .. }), "{error:?}");
    }
    house.workshop.close().await;
}

async fn an_answer_over_the_limit_is_cut_and_the_sandbox_goes_on() {
    let house = House::open().await;
    if house.has(Family::Python) {
        let mut sandbox = house.python("def main(args):\n    return {'x': 'y' * args['n']}\n").await;
        let report = sandbox.run(run(format!("{{\"n\":{}}}", 3 << 20))).await;
        let Verdict::TooLarge { truncated, length } = &report.verdict else { panic!("{:?}", report.logs) };
        assert_eq!((truncated.len(), *length), (1 << 20, (3 << 20) + 8));
        assert!(report.reusable);
        assert_eq!(answer(&sandbox.run(run(r#"{"n":1}"#)).await), r#"{"x":"y"}"#);
        let mut exactly = run(r#"{"n":12}"#);
        exactly.result_limit = 20;
        assert_eq!(answer(&sandbox.run(exactly).await), r#"{"x":"yyyyyyyyyyyy"}"#);
        sandbox.stop().await;
    }
    house.workshop.close().await;
}

async fn a_sandbox_that_dies_between_two_runs_does_not_fail_the_next() {
    let house = House::open().await;
    let python = "import os, threading, time\ndef late():\n    time.sleep(0.05)\n    os._exit(1)\ndef main(args):\n    threading.Thread(target=late).start()\n    return {}\n";
    let node = "function main() { setTimeout(() => { throw new Error('late') }, 50); return {} }";
    for (code, family) in [(python, Family::Python), (node, Family::Nodejs)] {
        if house.has(family) {
            let mut sandbox = house.start(order(family, code, false)).await;
            assert!(sandbox.run(run("{}")).await.reusable);
            for _ in 0..500 {
                if !sandbox.is_alive() {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            assert!(!sandbox.is_alive());
            let report = sandbox.run(run("{}")).await;
            assert_eq!(report.verdict, Verdict::NeverRan);
            assert!(!report.verdict.is_developers() && !report.reusable);
            sandbox.stop().await;
        }
    }
    house.workshop.close().await;
}

async fn a_sandbox_that_was_killed_says_so() {
    let house = House::open().await;
    if house.has(Family::Python) {
        let mut sandbox = house.python("import time\ndef main(args):\n    time.sleep(1000)\n").await;
        let limits = sandbox.limits();
        let kill = async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            limits.kill();
        };
        let (report, ()) = tokio::join!(sandbox.run(run("{}")), kill);
        assert_eq!(report.verdict, Verdict::Killed);
        sandbox.stop().await;
        limits.kill(); // Of what is gone: nothing happens.
    }
    house.workshop.close().await;
}

async fn what_the_machine_lacks_is_not_the_developers_fault() {
    let house = House::with(|settings| settings.sandboxes_limit = 1).await;
    let mut unknown = order(Family::Native, "#!/bin/sh\nread line\n", false);
    unknown.kind = Kind::new(Family::Python, "1.5").unwrap();
    let error = house.refused(unknown).await;
    assert!(!error.is_developers() && error.to_string().contains("python:1.5"), "{error}");
    assert!(error.to_string().contains("native:1"), "it says what there is: {error}");

    let sandbox = house.start(order(Family::Native, "#!/bin/sh\nread line\n", false)).await;
    let error = house.refused(order(Family::Native, "#!/bin/sh\nread line\n", false)).await;
    assert!(matches!(error, StartError::Full { limit: 1 }) && !error.is_developers(), "{error:?}");
    sandbox.stop().await;
    house.start(order(Family::Native, "#!/bin/sh\nread line\n", false)).await.stop().await;

    let mut order = order(Family::Native, "#!/bin/sh\nread line\n", false);
    order.name = "../evil".into();
    assert!(!house.refused(order).await.is_developers());
    house.workshop.close().await;
}

async fn a_second_answer_to_one_order_is_never_taken_for_the_next() {
    let house = House::open().await;
    let script = "#!/bin/sh\nwhile read -r line; do echo '{\"n\":1}' >&3; echo '{\"n\":2}' >&3; done\n";
    let mut sandbox = house.start(order(Family::Native, script, false)).await;
    assert_eq!(answer(&sandbox.run(run("{}")).await), r#"{"n":1}"#);
    tokio::time::sleep(Duration::from_millis(300)).await;
    let report = sandbox.run(run("{}")).await;
    assert!(matches!(report.verdict, Verdict::NeverRan | Verdict::Exited), "{report:?}");
    assert!(!report.reusable);
    sandbox.stop().await;
    house.workshop.close().await;
}

async fn a_crashed_zygote_is_started_anew_and_counted() {
    // A spare that was made before would need no zygote.
    let house = House::with(|settings| settings.python_spares = 0).await;
    if house.has(Family::Python) {
        let mut before = house.python("def main(args):\n    return {}\n").await;
        assert_eq!(house.workshop.nursery_restarts(), 0);
        let pids = house.workshop.nursery_pids().await;
        let killed =
            std::process::Command::new("kill").arg("-9").args(pids.iter().map(u32::to_string)).status();
        assert!(killed.unwrap().success());
        let mut after = house.python("def main(args):\n    return {}\n").await;
        let mut native =
            house.start(order(Family::Native, "#!/bin/sh\nread -r l; echo {} >&3\n", false)).await;
        assert_eq!(house.workshop.nursery_restarts(), pids.len() as u64);
        for sandbox in [&mut before, &mut after, &mut native] {
            assert_eq!(answer(&sandbox.run(run("{}")).await), "{}");
        }
        for sandbox in [before, after, native] {
            sandbox.stop().await;
        }
    }
    house.workshop.close().await;
}

async fn a_native_program_that_cannot_run_is_the_developers_to_repair() {
    let house = House::open().await;
    for code in ["#!/no/such/interpreter\n", "\x7fELF and then nothing"] {
        let error = house.refused(order(Family::Native, code, true)).await;
        assert!(matches!(error, StartError::Init { .. }), "{error:?}");
        assert!(error.to_string().contains("could not execute"), "{error}");
    }
    house.workshop.close().await;
}
