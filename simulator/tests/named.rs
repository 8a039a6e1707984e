//! Scenarios that name their work and machines, played.

use std::path::PathBuf;

use simulator::{Report, Scenario, run_in};

const NORMAL: &str = include_str!("../scenarios/figure_balancers.toml");
const HARVEST: &str = include_str!("../scenarios/azure2019_harvest.toml");

fn play(text: &str, changes: &[(&str, &str)], traces: Option<PathBuf>) -> Report {
    let changed = changes.iter().fold(text.to_owned(), |text, (from, to)| {
        assert!(text.contains(from), "the test no longer fits the file: {from}");
        text.replace(from, to)
    });
    let report = run_in(&Scenario::from_toml(&changed).unwrap(), traces.as_deref()).unwrap();
    println!("{report}");
    assert_eq!(report.violations, 0, "{report}");
    report
}

#[test]
fn users_of_the_mix_call_at_their_rate_and_are_answered() {
    let shorter = [("length_seconds = 1200", "length_seconds = 120"), ("users = 200", "users = 50")];
    let report = play(NORMAL, &shorter, None);
    assert!((480..720).contains(&report.submitted), "{report}");
    assert_eq!(report.answered, report.submitted);
    assert_eq!(play(NORMAL, &shorter, None), report, "one seed, one report");
}

#[test]
fn users_who_wait_for_answers_call_less() {
    let of = |wait: &str| {
        let users = format!("users = 50\nwait = '{wait}'");
        let shorter = [("length_seconds = 1200", "length_seconds = 120"), ("users = 200", users.as_str())];
        play(NORMAL, &shorter, None).submitted
    };
    assert!(of("answer") < of("acceptance"));
}

#[test]
fn a_chance_workload_runs_on_vms_that_are_evicted() {
    let synthetic = "kind = 'synthetic'\nfunctions = 200\nper_second = 5";
    let changes = [
        ("kind = \"sosp-mix\"\nusers = 200", synthetic),
        ("length_seconds = 1200", "length_seconds = 300"),
        ("kind = \"sosp\"\nset = \"Normal\"", "kind = 'harvest'\ncount = 12\neviction_rate = 1000"),
    ];
    let report = play(NORMAL, &changes, None);
    assert!(report.vms_lost > 0 && report.submitted > 300, "{report}");
}

#[test]
fn a_trace_is_found_in_its_folder() {
    let Some(traces) = std::env::var_os("WINDFALL_TRACES").map(PathBuf::from) else {
        println!("skipped: WINDFALL_TRACES does not name the folder of traces");
        return;
    };
    let shorter = [("length_seconds = 3600", "length_seconds = 20")];
    let report = play(HARVEST, &shorter, Some(traces));
    assert!(report.answered > 500, "{report}");
}

#[test]
fn every_figure_has_a_scenario_that_can_be_played() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    for figure in simulator::figures::ALL {
        let file = folder.join(format!("figure_{}.toml", figure.name()));
        let text =
            std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let scenario =
            Scenario::from_toml(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        scenario.check().unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    }
}
