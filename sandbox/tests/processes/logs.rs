//! What a function writes, and what becomes of it.

use std::time::Duration;

use sandbox::Family;
use vocabulary::Span;

use crate::harness::tests;
use crate::house::*;

tests![
    each_run_has_its_own_lines_of_both_streams,
    a_log_over_the_limit_is_cut_and_says_so_and_the_run_succeeds,
    endless_output_blocks_nothing_and_is_ended_by_the_timeout,
    late_output_belongs_to_no_run_and_blocks_nobody,
    what_loading_logs_is_kept,
];

async fn each_run_has_its_own_lines_of_both_streams() {
    let house = House::open().await;
    let python = "import sys\ndef main(args):\n    print('out', args['n'])\n    print('err', args['n'], file=sys.stderr)\n    sys.stdout.write('no newline')\n    return {}\n";
    let node = "function main(args) { console.log('out', args.n); console.error('err', args.n); process.stdout.write('no newline'); return {} }";
    for (code, family) in [(python, Family::Python), (node, Family::Nodejs)] {
        if house.has(family) {
            let mut sandbox = house.start(order(family, code, false)).await;
            for n in 0..3 {
                let report = sandbox.run(run(format!("{{\"n\":{n}}}"))).await;
                let mut lines = texts(&report.logs);
                lines.sort(); // The order between the two streams is not promised.
                assert_eq!(
                    lines,
                    [format!("stderr: err {n}"), "stdout: no newline".into(), format!("stdout: out {n}")]
                );
                assert!(report.logs.iter().all(|line| line.unix_us > 1_600_000_000_000_000));
            }
            sandbox.stop().await;
        }
    }
    house.workshop.close().await;
}

async fn a_log_over_the_limit_is_cut_and_says_so_and_the_run_succeeds() {
    let house = House::open().await;
    if house.has(Family::Python) {
        let mut sandbox = house
            .python("def main(args):\n    for _ in range(30000): print('x' * 99)\n    return {}\n")
            .await;
        for _ in 0..2 {
            let report = sandbox.run(run("{}")).await; // 3 MB of 1 MiB.
            assert_eq!(answer(&report), "{}");
            let bytes: usize = report.logs.iter().map(|line| line.text.len() + 1).sum();
            assert!(bytes <= (1 << 20) + 200, "{bytes}");
            let last = "Logs were truncated because the total bytes size exceeds the limit of 1048576 bytes.";
            assert_eq!(report.logs.last().unwrap().text, last);
            assert!(report.reusable);
        }
        sandbox.stop().await;
    }
    house.workshop.close().await;
}

async fn endless_output_blocks_nothing_and_is_ended_by_the_timeout() {
    let house = House::open().await;
    let script = "#!/bin/sh\nread -r line\nexec cat /dev/zero\n";
    let lines = "#!/bin/sh\nread -r line\nexec yes\n";
    let answers = "#!/bin/sh\nread -r line\nexec cat /dev/zero >&3\n";
    for script in [script, lines, answers] {
        let mut sandbox = house.start(order(Family::Native, script, false)).await;
        let mut order = run("{}");
        order.timeout = Span::millis(700);
        let mut ticks = 0;
        let others = async {
            loop {
                tokio::time::sleep(Duration::from_millis(20)).await;
                ticks += 1;
            }
        };
        let report = tokio::select! {
            report = sandbox.run(order) => report,
            () = others => unreachable!("it never ends"),
        };
        assert_eq!(report.verdict, sandbox::Verdict::TimedOut);
        let bytes: usize = report.logs.iter().map(|line| line.text.len()).sum();
        assert!(bytes <= 3 * ((1 << 20) + 200), "{bytes}"); // A zero byte, being UTF-8, stays one byte.
        assert!(ticks >= 3, "others must come to their turn: {ticks}");
        sandbox.stop().await;
    }
    house.workshop.close().await;
}

async fn late_output_belongs_to_no_run_and_blocks_nobody() {
    let house = House::open().await;
    if house.has(Family::Python) {
        // Far more than a pipe holds, after the answer; then it shows that it got through.
        let code = "import threading, time\ndone = False\ndef late():\n    global done\n    time.sleep(0.05)\n    for _ in range(20000): print('late ' * 4)\n    done = True\ndef main(args):\n    if args.get('start'): threading.Thread(target=late).start()\n    return {'done': done}\n";
        let mut sandbox = house.python(code).await;
        assert!(sandbox.run(run(r#"{"start":1}"#)).await.logs.is_empty());
        tokio::time::sleep(Duration::from_millis(500)).await;
        let mut late = 0;
        for _ in 0..100 {
            let report = sandbox.run(run("{}")).await;
            late += report.late_lines;
            if json(&report)["done"] == true {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let report = sandbox.run(run("{}")).await;
        assert_eq!(json(&report)["done"], true);
        assert!(late > 1000, "late lines are counted: {late}");
        sandbox.stop().await;
    }
    house.workshop.close().await;
}

async fn what_loading_logs_is_kept() {
    let house = House::open().await;
    if house.has(Family::Python) {
        let mut sandbox = house.python("print('loading')\ndef main(args):\n    return {}\n").await;
        assert_eq!(texts(&sandbox.take_init_logs()), ["stdout: loading"]);
        assert!(sandbox.take_init_logs().is_empty() && sandbox.init_took() > Span::ZERO);
        assert!(sandbox.run(run("{}")).await.logs.is_empty());
        sandbox.stop().await;
    }
    house.workshop.close().await;
}
