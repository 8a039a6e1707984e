//! Every figure comes out, with everything in it, and twice the same.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;
use simulator::figures::{self, ALL, Amount, Files, Size, Stage};

/// Figure, clusters or workloads, policies: what must be in the JSON.
const EXPECTED: [(&str, &[&str], &[&str]); 7] = [
    (
        "balancers",
        &["Normal", "Active", "Dedicated"],
        &["mws-sosp21", "jsq-sosp21", "vanilla", "mws", "mws+profile", "mws+profile+greedy-dual"],
    ),
    (
        "cost",
        &["Baseline", "Lowest", "Best"],
        &["vanilla", "mws-sosp21", "mws+profile", "mws+profile+greedy-dual"],
    ),
    (
        "strategies",
        &["F_Large, made", "F_Small, made", "F_Large, made, none may run twice"],
        &["no-failure", "bounded(99.9)", "bounded(99)", "live-and-let-die", "expected-loss(0.0001)"],
    ),
    (
        "freyr",
        &["inputs always the same", "inputs vary"],
        &["fixed", "greedy-freyr22", "ensure hard", "libra elastic", "profile elastic", "oracle elastic"],
    ),
    (
        "sensitivity",
        &[
            "as published",
            "evictions x 100",
            "evictions x 100, no notice",
            "sizes twice as uneven",
            "half the users",
        ],
        &["mws-sosp21", "mws", "mws+profile+greedy-dual"],
    ),
    ("azure", &["synthetic"], &["mws-sosp21", "jsq-sosp21", "vanilla", "mws", "mws+profile+greedy-dual"]),
    ("scale", &["30 VMs, 500 functions"], &["mws"]),
];

/// Plays all of them without any folder of traces; what is on disk in the end.
fn made(folder: &Path, threads: usize) -> (Value, String) {
    let size = Size { amount: Amount::Tiny, ..Size::default() };
    let files = Files { out: folder.to_owned(), json: folder.join("figures.json") };
    let stage = Stage { size: &size, threads, contenders: &[], progress: &|_| {} };
    for figure in ALL {
        let began = std::time::Instant::now();
        let drawn = figure.play(&stage).unwrap_or_else(|error| panic!("{}: {error}", figure.name()));
        println!("{}: {:.1} s", figure.name(), began.elapsed().as_secs_f64());
        assert_eq!(drawn.broken, Vec::<String>::new(), "{}", figure.name());
        assert!(!drawn.tables[0].rows.is_empty() && !drawn.notes.is_empty(), "{}", figure.name());
        for row in drawn.tables.iter().flat_map(|table| &table.rows) {
            assert!(row.len() > 2, "{}", figure.name());
        }
        for chart in &drawn.charts {
            assert!(!chart.lines.is_empty(), "{}", chart.file);
        }
        figures::write(&drawn, "the command", &files).unwrap();
    }
    let json = std::fs::read_to_string(&files.json).unwrap();
    (serde_json::from_str(&json).unwrap(), std::fs::read_to_string(folder.join("README.md")).unwrap())
}

/// What a clock or the system measured is another number each time.
fn without_measured(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.remove("measured");
            map.values_mut().for_each(without_measured);
        }
        Value::Array(values) => values.iter_mut().for_each(without_measured),
        _ => {}
    }
}

#[test]
fn every_figure_comes_out_with_every_key_and_two_runs_of_all_give_equal_json() {
    let folders = [1, 2].map(|_| tempfile::tempdir().unwrap());
    let [(mut one, page), (mut other, _)] =
        [(0, 2), (1, 3)].map(|(at, threads): (usize, usize)| made(folders[at].path(), threads));
    for (figure, clusters, policies) in EXPECTED {
        for cluster in clusters {
            for policy in policies {
                let value = &one[figure][cluster][policy];
                assert!(value["whose"].is_string(), "{figure}, {cluster}, {policy}: {value}");
                let keys: Vec<&String> = value.as_object().unwrap().keys().collect();
                assert!(keys.iter().any(|key| key.starts_with("paper")), "{figure}: {keys:?}");
            }
        }
        assert!(one["words"][figure]["about"].is_string() && one["made_by"][figure] == "the command");
        assert!(page.contains(&format!("[{figure}]({figure}.md)")), "{page}");
        assert!(folders[0].path().join(format!("{figure}.md")).exists());
    }
    let named: BTreeSet<&str> = EXPECTED.iter().map(|expected| expected.0).collect();
    assert_eq!(named, ALL.iter().map(|figure| figure.name()).collect());
    // The table over all has the clocks' numbers in words.
    for json in [&mut one, &mut other] {
        without_measured(json);
        json["goals"].as_object_mut().unwrap().remove("scale");
    }
    assert_eq!(one, other);
}
