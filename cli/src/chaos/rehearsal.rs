//! A scenario of trouble, rehearsed: the same moments and victims under virtual time.
//!
//! **Gives up:** callers who wait for their answers: calls come as often as those would call if nothing were slow. Faults
//! that the simulator has no notion of, which are counted.

use ::chaos::fates::{Fate, fates};
use ::chaos::scenario::Scenario;
use serde_json::{Value, json};
use vocabulary::Span;

use crate::failure::{Exit, Failure, Outcome};

/// From the order to the first report of a VM, as live ones of `netns` took it on the machine of docs/chaos.md.
const START_UP: Span = Span::seconds(2);
/// What live VMs and functions of a scenario have: `chaos/storm.sh` and `chaos::live::function`.
const VM: (u32, u32) = (1_000, 1_024);
const FUNCTION: (u32, u32) = (100, 128);

/// Plays it and prints the report.
pub fn play(scenario: &Scenario, seed: u64) -> Outcome {
    let all = fates(scenario, seed, START_UP);
    println!("{} faults are played; {} are none that a rehearsal knows\n", all.made, all.left_out);
    let rehearsed = json!({
        "name": scenario.name,
        "seed": seed,
        "length_seconds": scenario.calm_s + scenario.storm_s,
        "vms": all.vms.iter().map(vm).collect::<Vec<_>>(),
        "functions": functions(scenario),
    });
    let rehearsed: simulator::Scenario = serde_json::from_value(rehearsed)?;
    let wrong = |error: simulator::ScenarioError| Failure::new(Exit::Failed, error.to_string());
    rehearsed.check().map_err(wrong)?;
    let (report, _) = simulator::play(rehearsed.house_in(None).map_err(wrong)?);
    println!("{report}");
    if report.violations == 0 {
        return Ok(());
    }
    Err(Failure::new(
        Exit::Failed,
        format!("{} times something was not as it must be; this is a bug, seed {seed}", report.violations),
    ))
}

fn vm(fate: &Fate) -> Value {
    let change = |&(at, percent): &(Span, u32)| json!({ "at_seconds": at.as_seconds(), "cpu_millicores": VM.0 * percent / 100 });
    let absence = |&(from, to, is_frozen): &(Span, Span, bool)| json!({ "from_seconds": from.as_seconds(), "to_seconds": to.as_seconds(), "is_frozen": is_frozen });
    let recall = |&(at, left, off): &(Span, Span, Span)| json!({ "at_seconds": at.as_seconds(), "notice_seconds": left.as_seconds(), "called_off_at_seconds": off.as_seconds() });
    json!({
        "cpu_millicores": VM.0,
        "memory_mib": VM.1,
        "starts_at_seconds": fate.starts.as_seconds(),
        "changes": fate.sizes.iter().map(change).collect::<Vec<_>>(),
        "absences": fate.absences.iter().map(absence).collect::<Vec<_>>(),
        "recalls": fate.recalls.iter().map(recall).collect::<Vec<_>>(),
        "gone_at_seconds": fate.end.map(|(at, _)| at.as_seconds()),
        "notice_seconds": fate.end.map_or(0.0, |(_, notice)| notice.as_seconds()),
    })
}

/// One kind for each kind of callers.
fn functions(scenario: &Scenario) -> Vec<Value> {
    let load = &scenario.load;
    let kinds = [
        ("short", load.short + load.durable_short, load.short_ms),
        ("long", load.long + load.durable_long, load.long_ms),
    ];
    let called = kinds.into_iter().filter(|(_, callers, _)| *callers > 0);
    called
        .map(|(name, callers, [from, to])| {
            let mean_ms = (from + to) as f64 / 2.0;
            let copies = scenario.house.functions;
            let all = f64::from(callers) * 1_000.0 / (mean_ms + load.pause_ms as f64).max(1.0);
            json!({
                "name": name,
                "copies": copies,
                "per_second": all / f64::from(copies),
                "cpu_millicores": FUNCTION.0,
                "memory_mib": FUNCTION.1,
                "mean_ms": mean_ms,
                "sigma": 0.5,
            })
        })
        .collect()
}
