//! What is lent is given back in time, with real processes under real quotas.
#![allow(missing_docs)]

use serde_json::json;
use windfall_tests::functions::{python, with};
use windfall_tests::{Cluster, Http, Plan, annotation, eventually, is_root};

/// Sleeps, and on demand computes for half a second, having slept first.
const MOODY: &str = "
import time
def main(args):
    time.sleep(0.15)
    if not args.get('sudden'):
        return {}
    end, cpu = time.monotonic() + 0.5, time.process_time()
    while time.monotonic() < end:
        pass
    return {'cpu_ms': (time.process_time() - cpu) * 1000}
";

/// The sum over all series of a metric on a VM.
async fn metric(vm: &Http, name: &str) -> f64 {
    let page = vm.send("GET", "/metrics", &[], "").await.expect("a VM's metrics").body;
    let page = String::from_utf8_lossy(&page).into_owned();
    let of_it = |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']));
    page.lines().filter(of_it).filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

/// The witnesses are the kernel's own: how long it stopped the run at its quota, and the CPU time that it gave.
#[tokio::test(flavor = "multi_thread")]
async fn a_lender_that_suddenly_needs_its_core_has_it_back_within_50_ms() {
    if !is_root() {
        return println!("skipped: quotas need root");
    }
    let settings = vec![("controller.allocation", "profile".into()), ("vm.lending", "hard".into())];
    let cluster = Cluster::of(Plan { vms: 1, settings, ..Plan::default() }).await;
    let http = &cluster.http;
    http.deploy("moody", &with(python(MOODY), json!({ "limits": { "cpu": 1000 } }))).await;
    let vm = &cluster.open_vms().await[0];
    let page = Http::new(format!("http://{}", vm.metrics), String::new());
    // Until it is known that it leaves nearly all of its core. The argument is of the same size later: for another size, a
    // function is not yet known.
    eventually("it lends", async || {
        let answer = http.call("moody", &json!({ "sudden": 0 })).await.json();
        let ours = annotation(&answer, "windfall").expect("what Windfall did");
        ours["grant"]["booked"]["cpu"].as_u64().expect("a grant") < 500
    })
    .await;
    let stopped = metric(&page, "windfall_run_throttled_seconds_total").await;
    let safeguarded = metric(&page, "windfall_safeguarded_runs_total").await;
    let answer = http.result("moody", &json!({ "sudden": 1 })).await;
    let stopped = metric(&page, "windfall_run_throttled_seconds_total").await - stopped;
    eventually("it is counted", async || {
        metric(&page, "windfall_safeguarded_runs_total").await > safeguarded
    })
    .await;
    let cpu_ms = answer["cpu_ms"].as_f64().expect("a number");
    println!("stopped for {:.1} ms, then {cpu_ms:.0} ms of CPU in 500 ms", stopped * 1e3);
    assert!(stopped < 0.05, "the kernel stopped it for {stopped} s");
    // With what it had left it would have been stopped for most of the time. How much CPU it has had depends on who else
    // computes on this machine, so this only says that it ran.
    assert!(cpu_ms > 50.0, "{cpu_ms} ms of CPU in half a second");
}

/// Sleeps for as long as it is told, and says when it began and ended.
const SLEEPER: &str = "
import time
def main(args):
    began = time.time()
    time.sleep(args['s'])
    return {'began': began, 'ended': time.time()}
";

/// Neither function is known, and the VM is too small for what both reserve. The first is seen to use next to nothing, and the second begins beside it.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_nobody_knows_makes_room_once_it_is_seen_to_use_little() {
    if !is_root() {
        return println!("skipped: what a run uses is read from control groups, which need root");
    }
    let settings = vec![("controller.allocation", "profile".into()), ("vm.lending", "elastic".into())];
    let cluster = Cluster::of(Plan { vms: 1, settings, ..Plan::default() }).await;
    let vm = &cluster.open_vms().await[0];
    let (http, page) = (&cluster.http, Http::new(format!("http://{}", vm.metrics), String::new()));
    let all = vm.capacity.cpu.0;
    for (name, cpu) in [("first", all), ("second", all * 3 / 4)] {
        http.deploy(name, &with(python(SLEEPER), json!({ "limits": { "cpu": cpu } }))).await;
    }
    let second = async {
        eventually("the first runs", async || metric(&page, "windfall_vm_booked_cpu_cores").await > 0.0)
            .await;
        http.result("second", &json!({ "s": 0 })).await
    };
    let argument = json!({ "s": 8 });
    let (first, second) = tokio::join!(http.result("first", &argument), second);
    let when = |answer: &serde_json::Value, what: &str| answer[what].as_f64().expect("a time");
    let early = when(&first, "ended") - when(&second, "began");
    println!("the second began {early:.1} s before the first ended");
    assert!(early > 1.0, "it waited for the first to end: {early}");
    assert!(metric(&page, "windfall_provisional_bookings_total").await >= 1.0);
}

/// Holds nearly all that it reserves, for a moment.
const HOG: &str = "
import time
def main(args):
    held = bytearray(args['mib'] << 20)
    for at in range(0, len(held), 4096): held[at] = 1
    time.sleep(1.5)
    return {'mib': len(held) >> 20}
";

/// Both keep to what they reserved, and the VM has promised no more than it has; but it carries its own processes, too. One that
/// dies of it goes to the other VM, since the first must say first how it is.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_dies_because_its_vm_is_full_is_run_again_and_answered() {
    if !is_root() {
        return println!("skipped: memory is enforced by control groups, which need root");
    }
    // Two that take all that there is, and nothing for the agent.
    let settings = vec![("vm.headroom", "0".to_owned())];
    let cluster = Cluster::of(Plan { vms: 2, settings, ..Plan::default() }).await;
    let http = &cluster.http;
    http.deploy("hog", &with(python(HOG), json!({ "limits": { "memory": 512, "cpu": 400 } }))).await;
    let vms = cluster.open_vms().await;
    let sum = async |name: &str| {
        let mut sum = 0.0;
        for vm in &vms {
            sum += metric(&Http::new(format!("http://{}", vm.metrics), String::new()), name).await;
        }
        sum
    };
    let argument = json!({ "mib": 497 });
    let (one, other) = tokio::join!(http.result("hog", &argument), http.result("hog", &argument));
    assert_eq!((one, other), (argument.clone(), argument));
    let killed = sum("windfall_vm_full_kills_total").await;
    println!("{killed} runs died because the VM was full");
    assert!(killed >= 1.0, "nobody was killed");
    assert_eq!(sum("windfall_cancelled_runs_total").await, 0.0);
}

/// Without anything kept for the agent each killed the other, and its next run the one after that, for as long as there was no
/// other VM.
#[tokio::test(flavor = "multi_thread")]
async fn functions_that_keep_to_what_they_reserved_may_fill_the_only_vm() {
    if !is_root() {
        return println!("skipped: memory is enforced by control groups, which need root");
    }
    let cluster = Cluster::of(Plan { vms: 1, ..Plan::default() }).await;
    let http = &cluster.http;
    http.deploy("hog", &with(python(HOG), json!({ "limits": { "memory": 512, "cpu": 400 } }))).await;
    let vm = cluster.open_vms().await.remove(0);
    assert_eq!(vm.capacity.memory.0, 1_024);
    eventually("the list says what is kept", async || {
        cluster.operate(&["vm", "list"]).await.contains("less 64 MiB")
    })
    .await;
    let page = Http::new(format!("http://{}", vm.metrics), String::new());
    let argument = json!({ "mib": 490 });
    for _ in 0..2 {
        let (one, other) = tokio::join!(http.result("hog", &argument), http.result("hog", &argument));
        assert_eq!((one, other), (argument.clone(), argument.clone()));
    }
    assert_eq!(metric(&page, "windfall_vm_full_kills_total").await, 0.0);
}
