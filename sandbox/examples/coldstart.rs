//! How long cold and warm calls take on this machine, for every kind that it has.
//!
//! `cargo run -p sandbox --example coldstart --release [-- RUNS [SPARES]]`: each start of a Python function waits until
//! there are so many processes made in advance (2 unless named; with 0, for a tenth of a second instead).

use std::time::{Duration, Instant};

use bytes::Bytes;
use sandbox::{
    Code, Family, Launcher, RunContext, RunOrder, StartOrder, Verdict, Workshop, WorkshopSettings,
    sandbox_main,
};
use vocabulary::{MilliCores, Resources, Span};

const PYTHON: &str = "def main(args):\n    return {}\n";
const NODE: &str = "function main(args) { return {} }\n";
const NATIVE: &str = "#!/bin/sh\nwhile read -r line; do echo '{}' >&3; done\n";
const NATIVE_C: &str = r#"
#include <stdio.h>
#include <string.h>
int main(void) {
    static char line[1 << 21];
    while (fgets(line, sizeof line, stdin)) {
        FILE *answers = fdopen(3, "w");
        for (;;) { fputs("{}\n", answers); fflush(answers); if (!fgets(line, sizeof line, stdin)) return 0; }
    }
    return 0;
}
"#;

fn main() {
    let mut arguments = std::env::args_os().skip(1);
    let first = arguments.next();
    if first.as_deref() == Some("sandbox-init".as_ref()) {
        sandbox_main(arguments.collect());
    }
    let number = |text: Option<std::ffi::OsString>| text.and_then(|text| text.to_str()?.parse().ok());
    let (runs, spares) = (number(first).unwrap_or(100), number(arguments.next()).unwrap_or(2));
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
        .block_on(measure(runs, spares));
}

async fn measure(runs: usize, spares: usize) {
    let scratch = std::env::temp_dir().join(format!("windfall-coldstart-{}", std::process::id()));
    let launcher = Launcher {
        program: std::env::current_exe().expect("our own path"),
        args: vec!["sandbox-init".into()],
    };
    let opened = Instant::now();
    let mut settings = WorkshopSettings::new(&scratch, launcher);
    settings.python_spares = spares;
    let workshop = match Workshop::open(settings).await {
        Ok(workshop) => workshop,
        Err(error) => {
            eprintln!("{error}");
            std::process::exit(1);
        }
    };
    println!("{}", workshop.enforcement());
    println!("workshop opened in {:.0} ms; {}", opened.elapsed().as_secs_f64() * 1e3, workshop.catalogue());
    println!("{:22} {:>12} {:>12} {:>12} {:>12}", "kind", "cold p50", "cold p99", "warm p50", "warm p99");
    for runtime in workshop.catalogue().runtimes.clone() {
        let code = match runtime.kind.family() {
            Family::Python => Bytes::from(PYTHON),
            Family::Nodejs => Bytes::from(NODE),
            Family::Native => compiled().unwrap_or(Bytes::from(NATIVE)),
        };
        let (mut cold, mut warm, mut stop) = (Vec::new(), Vec::new(), Vec::new());
        let starts = if runtime.kind.family() == Family::Nodejs { runs.div_ceil(5) } else { runs };
        for n in 0..starts {
            if runtime.kind.family() == Family::Python {
                // Nobody starts one function after the other without a pause; what is made meanwhile is not in its way.
                tokio::time::sleep(Duration::from_millis(100)).await;
                while workshop.python_spares() < spares {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            }
            let begun = Instant::now();
            let order = StartOrder {
                name: format!("cold-{n}"),
                kind: runtime.kind.clone(),
                code: Code {
                    bytes: code.clone(),
                    binary: code.starts_with(b"\x7fELF"),
                    digest: "coldstart".into(),
                },
                main: None,
                env: Vec::new(),
                ceiling: Resources::new(1000, 256),
                weight: MilliCores(1_000),
                timeout: Span::seconds(10),
                log_limit: 1 << 20,
            };
            let mut sandbox = workshop.start(order).await.unwrap_or_else(|error| panic!("{error:?}"));
            let report = sandbox.run(run()).await;
            cold.push(begun.elapsed());
            assert!(matches!(report.verdict, Verdict::Answered(_)), "{report:?}");
            if n + 1 == starts {
                for _ in 0..runs * 50 {
                    let begun = Instant::now();
                    let report = sandbox.run(run()).await;
                    warm.push(begun.elapsed());
                    assert!(report.reusable, "{report:?}");
                }
            }
            let begun = Instant::now();
            sandbox.stop().await;
            stop.push(begun.elapsed());
        }
        let [cold50, cold99, warm50, warm99, stop50] = [
            percentile(&mut cold, 50),
            percentile(&mut cold, 99),
            percentile(&mut warm, 50),
            percentile(&mut warm, 99),
            percentile(&mut stop, 50),
        ]
        .map(|span| Span::from(span).to_string());
        let name = format!("{} ({})", runtime.kind, runtime.version);
        println!("{name:22} {cold50:>12} {cold99:>12} {warm50:>12} {warm99:>12}   stop p50 {stop50}");
    }
    workshop.close().await;
    let _ = std::fs::remove_dir_all(scratch);
}

fn run() -> RunOrder {
    RunOrder {
        payload: Bytes::from_static(b"{}"),
        context: RunContext {
            namespace: "guest".into(),
            action_name: "/guest/noop".into(),
            ..Default::default()
        },
        timeout: Span::seconds(10),
        log_limit: 1 << 20,
        result_limit: 1 << 20,
    }
}

/// A native function in C, where there is a compiler.
fn compiled() -> Option<Bytes> {
    let folder = std::env::temp_dir().join(format!("windfall-coldstart-c-{}", std::process::id()));
    std::fs::create_dir_all(&folder).ok()?;
    std::fs::write(folder.join("noop.c"), NATIVE_C).ok()?;
    let done = std::process::Command::new("cc")
        .args(["-O2", "-o"])
        .args([folder.join("noop"), folder.join("noop.c")])
        .status()
        .is_ok_and(|status| status.success());
    let bytes = done.then(|| std::fs::read(folder.join("noop")).ok()).flatten();
    let _ = std::fs::remove_dir_all(folder);
    bytes.map(Bytes::from)
}

fn percentile(spans: &mut [Duration], percent: usize) -> Duration {
    spans.sort_unstable();
    spans[(spans.len() * percent / 100).min(spans.len() - 1)]
}
