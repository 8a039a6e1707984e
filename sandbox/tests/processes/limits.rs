//! Ceilings that change while a function runs, measurements, pauses.

use std::time::{Duration, Instant};

use sandbox::{Family, LimitError};
use vocabulary::{MilliCores, Resources, Span};

use crate::harness::tests;
use crate::house::*;

tests![
    a_ceiling_that_is_lowered_in_a_run_is_felt_at_once,
    memory_below_what_is_in_use_is_refused_and_nothing_is_killed,
    what_a_run_used_is_reported,
    a_paused_sandbox_stands_still_and_then_goes_on,
    a_paused_sandbox_can_be_stopped,
];

/// Burns CPU until a file appears... which never does: until its time is over.
const BURN: &str = "import time\ndef main(args):\n    end = time.monotonic() + args['s']\n    while time.monotonic() < end: pass\n    return {}\n";

async fn a_ceiling_that_is_lowered_in_a_run_is_felt_at_once() {
    let house = House::open().await;
    if !house.is_enforced() || !house.has(Family::Python) {
        return;
    }
    let mut sandbox = house.python(BURN).await;
    let limits = sandbox.limits();
    let watch = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        limits.set_weight(MilliCores(500)).unwrap();
        let before = limits.sample().unwrap();
        limits.set_ceiling(Resources::new(100, 256)).unwrap();
        tokio::time::sleep(Duration::from_millis(1000)).await;
        let after = limits.sample().unwrap();
        limits.set_ceiling(Resources::new(1000, 256)).unwrap();
        (before, after)
    };
    let (report, (before, after)) = tokio::join!(sandbox.run(run(r#"{"s":2}"#)), watch);
    assert_eq!(answer(&report), "{}");
    // The kernel's own counter says that it held the function back; how exactly depends on the machine.
    assert!(after.throttled - before.throttled >= Span::millis(300), "{before:?} {after:?}");
    let used = (after.cpu_time - before.cpu_time).as_seconds() / (after.at - before.at).as_secs_f64();
    assert!(used < 0.4, "a tenth of a core was allowed, {used} was used");
    assert!(report.usage.throttled >= Span::millis(300), "{:?}", report.usage);
    sandbox.stop().await;
    house.workshop.close().await;
}

async fn memory_below_what_is_in_use_is_refused_and_nothing_is_killed() {
    let house = House::open().await;
    if !house.is_enforced() || !house.has(Family::Python) {
        return;
    }
    let mut sandbox =
        house.python("kept = b'x' * (64 << 20)\ndef main(args):\n    return {'n': len(kept)}\n").await;
    let limits = sandbox.limits();
    let error = limits.set_ceiling(Resources::new(1000, 32)).unwrap_err();
    let LimitError::MemoryInUse { in_use, asked } = error else { panic!("{error:?}") };
    assert!(in_use.0 >= 64 && asked.0 == 32);
    assert_eq!(answer(&sandbox.run(run("{}")).await), r#"{"n":67108864}"#);
    limits.set_ceiling(Resources::new(1000, 128)).unwrap();
    assert_eq!(answer(&sandbox.run(run("{}")).await), r#"{"n":67108864}"#);
    sandbox.stop().await;
    assert!(limits.set_ceiling(Resources::new(1000, 64)).is_err() || limits.sample().is_none());
    house.workshop.close().await;
}

async fn what_a_run_used_is_reported() {
    let house = House::open().await;
    if house.has(Family::Python) {
        let mut sandbox = house.python(BURN).await;
        let report = sandbox.run(run(r#"{"s":0.5}"#)).await;
        let used = report.usage.cpu_time;
        assert!(used >= Span::millis(50) && used <= report.duration + Span::millis(50), "{report:?}");
        assert!(
            report.usage.cpu_peak >= MilliCores(50) && report.usage.cpu_peak <= MilliCores(1300),
            "{report:?}"
        );
        assert!(report.usage.memory_peak.0 >= 1);
        let report = sandbox.run(run(r#"{"s":0}"#)).await;
        assert!(report.usage.cpu_time < Span::millis(50), "each run is measured by itself: {report:?}");
        sandbox.stop().await;
    }
    house.workshop.close().await;
}

async fn a_paused_sandbox_stands_still_and_then_goes_on() {
    let house = House::open().await;
    if !house.has(Family::Python) {
        return;
    }
    let code = "import threading\nn = 0\ndef count():\n    global n\n    while True: n += 1\nthreading.Thread(target=count, daemon=True).start()\ndef main(args):\n    return {'n': n}\n";
    let mut sandbox = house.python(code).await;
    let limits = sandbox.limits();
    sandbox.pause().unwrap();
    let before = limits.sample().unwrap().cpu_time;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let after = limits.sample().unwrap().cpu_time;
    assert!(after - before <= Span::millis(20), "{before} {after}");
    assert!(sandbox.is_alive());
    // A run resumes by itself.
    assert!(json(&sandbox.run(run("{}")).await)["n"].as_u64().unwrap() > 0);
    sandbox.pause().unwrap();
    sandbox.resume().unwrap();
    let begun = Instant::now();
    while limits.sample().unwrap().cpu_time <= after + Span::millis(30) {
        assert!(begun.elapsed() < Duration::from_secs(30), "it does not go on");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    sandbox.stop().await;
    house.workshop.close().await;
}

async fn a_paused_sandbox_can_be_stopped() {
    let house = House::open().await;
    let mut sandbox = house.start(order(Family::Native, "#!/bin/sh\nread -r l\n", false)).await;
    sandbox.pause().unwrap();
    let begun = Instant::now();
    sandbox.stop().await;
    assert!(begun.elapsed() < Duration::from_secs(5));
    house.workshop.close().await;
}
