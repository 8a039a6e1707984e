//! Freyr's test: allocators under the same 268 calls of ten functions in a minute.
//!
//! **Knows:** what Freyr's paper prints of Fixed, Greedy, ENSURE and Freyr.
//! **Promises:** the runs of `comparisons::lending`, which has more of them (`windfall simulate lending`): here the paper's reservations,
//! with inputs that are always the same, as in its evaluation, and with inputs that vary.
//! **Gives up:** the released arrivals where there is no folder of traces: as many calls are drawn then by the rule they were sampled
//! by.

use policies::residency::Lending;
use serde_json::json;
use vocabulary::Span;

use super::{Chart, Drawn, Figure, FigureError, Goal, Line, Size, Stage, Summary, Table, Values, whose};
use crate::comparisons::Seeds;
use crate::comparisons::lending::{Arrivals, Contender, Knowledge, Row, Set};
use crate::comparisons::sets;
use crate::runs::Progress;
use crate::workload;

/// See the module.
pub struct Freyr;

/// What is played, by name.
const SETS: [(&str, f64); 2] = [("inputs always the same", 0.0), ("inputs vary", 0.8)];

/// What Freyr's paper prints: our name for the policy, mean slowdown, P99 latency in seconds, worst degradation in per cent.
const PUBLISHED: [(&str, f64, f64, f64); 4] = [
    ("fixed", 1.00, 28.0, 0.0),
    ("greedy-freyr22", 1.12, 25.0, 60.0),
    ("ensure-freyr22", 1.78, 38.0, 500.0),
    ("freyr", 0.82, 19.0, 6.0),
];

/// Whose numbers stand for ours in the table over all.
const OURS: [&str; 2] = ["profile elastic", "learned elastic"];

fn contenders(stage: &Stage<'_>) -> Vec<Contender> {
    let mut contenders = stage.size.pick(Contender::all(), Contender::few(), Contender::few());
    contenders.extend(stage.contenders.iter().cloned());
    contenders
}

/// As a key: the allocator, and how is lent where anything is.
fn key(row: &Row) -> String {
    match row.lending {
        Lending::Off => row.name.clone(),
        mode => format!("{} {}", row.name, Lending::NAMES[mode as usize]),
    }
}

fn published(policy: &str) -> Option<(f64, f64, f64)> {
    let found = PUBLISHED.iter().find(|published| published.0 == policy)?;
    Some((found.1, found.2, found.3))
}

impl Figure for Freyr {
    fn name(&self) -> &'static str {
        "freyr"
    }

    fn about(&self) -> &'static str {
        "Freyr's test set under every allocator: ten functions, 60 s, ten nodes of 8 cores and 32 GB, the paper's reservations. Slowdown is a run's \
         duration over that of the same run alone at its reservation, as Freyr counts. What the functions really need is published nowhere and \
         assumed (`simulator/src/workload/freyr.rs`). More sets: [lending.md](lending.md)."
    }

    fn most_runs(&self, stage: &Stage<'_>) -> usize {
        SETS.len() * contenders(stage).len() * stage.size.seeds(5, 2).count()
    }

    fn play(&self, stage: &Stage<'_>) -> Result<Drawn, FigureError> {
        let (arrivals, source) = arrivals(stage.size)?;
        let contenders = contenders(stage);
        let of = self.most_runs(stage);
        let seeds = stage.size.seeds(5, 2).count() as u64;
        let mut played = Vec::new();
        for (at, (name, input_spread)) in SETS.into_iter().enumerate() {
            let arrivals = Arrivals::Freyr(arrivals.clone(), workload::Reserved::Paper);
            let set = Set { arrivals, nodes: 10, input_spread, knowledge: Knowledge::OneMinute };
            let before = at * contenders.len() * seeds as usize;
            let in_all = |progress: Progress<'_>| {
                (stage.progress)(Progress { label: progress.label, done: before + progress.done, of });
            };
            played.push((name, set.rows(&contenders, seeds, stage.threads, &in_all)?));
        }
        let mut notes = vec![source];
        notes.extend(arrivals.workload(workload::Reserved::Paper, 0.8, Span::ZERO, 1).notes);
        notes.push("one minute of the same functions was seen before the one that counts".into());
        notes.push("published numbers: Freyr's paper; its worst degradations of Greedy and ENSURE are printed as more than 60 and 500 %".into());
        if stage.contenders.is_empty() {
            notes.push("no trained models: `learned` and `freyr` are in lending.md, and in `windfall simulate figures`, which reads models/".into());
        }
        Ok(self.draw(&played, notes))
    }
}

fn arrivals(size: &Size) -> Result<(workload::Freyr, String), FigureError> {
    match &size.traces {
        Some(traces) => {
            let arrivals = workload::Freyr::read(&traces.join(sets::FREYR_ARRIVALS))?;
            Ok((arrivals, "arrivals: the released ones".to_owned()))
        }
        None => Ok((
            workload::Freyr::synthetic(1),
            "arrivals: drawn by the rule of the released ones, which need --traces".to_owned(),
        )),
    }
}

impl Freyr {
    fn draw(&self, played: &[(&'static str, Vec<Row>)], notes: Vec<String>) -> Drawn {
        let heads = [
            "inputs",
            "allocator",
            "paper: mean slowdown",
            "mean slowdown",
            "paper: worst degradation, %",
            "worst degradation, %",
            "paper: P99 latency, s",
            "P99 latency, s",
            "slowdown with waiting and cold starts",
            "harvested, %",
            "accelerated, %",
            "safeguarded, %",
        ];
        let mut table = Table::new("Allocators, mean (least..most) over seeds", &heads);
        let mut values = Values::new();
        let mut goals = Vec::new();
        let mut charts = Vec::new();
        for (set, rows) in played {
            for row in rows {
                let key = key(row);
                let paper = published(&key);
                let text = |number: Option<f64>, places: usize| {
                    number.map_or_else(|| "-".into(), |number| format!("{number:.places$}"))
                };
                table.rows.push(vec![
                    (*set).into(),
                    key.clone(),
                    text(paper.map(|paper| paper.0), 2),
                    row.mean_slowdown.text(2),
                    text(paper.map(|paper| paper.2), 0),
                    row.worst_percent.text(1),
                    text(paper.map(|paper| paper.1), 0),
                    row.p99_latency_s.text(1),
                    row.mean_slowdown_of_latency.text(2),
                    row.harvested_percent.text(1),
                    row.accelerated_percent.text(1),
                    row.safeguarded_percent.text(1),
                ]);
                values.entry((*set).into()).or_default().insert(key.clone(), json(row, &key));
            }
            goals.extend(against(set, rows));
            charts.push(chart(set, rows));
        }
        Drawn {
            name: self.name(),
            about: self.about(),
            notes,
            goals,
            findings: vec![
                "The paper's policies do not come out alike, because what its functions need is not known: with the assumed needs Greedy helps and ENSURE harms; \
                 Freyr's own order of Fixed, Greedy and ENSURE by mean slowdown is another one."
                    .into(),
            ],
            broken: Vec::new(),
            tables: vec![table],
            charts,
            values,
        }
    }
}

/// Ours against reservations as they are.
fn against(set: &str, rows: &[Row]) -> Vec<Goal> {
    let Some(fixed) = rows.iter().find(|row| key(row) == "fixed") else { return Vec::new() };
    let freyr = rows.iter().find(|row| key(row) == "freyr");
    let ours = rows.iter().filter(|row| OURS.contains(&key(row).as_str()));
    ours.flat_map(|ours| {
        let less = |row: &Row| 100.0 * (1.0 - row.p99_latency_s.mean / fixed.p99_latency_s.mean);
        [
            Goal {
                of: format!("{set}, mean slowdown, `{}`", key(ours)),
                paper: "0.82 (Freyr)".into(),
                rerun: freyr.map_or_else(String::new, |freyr| freyr.mean_slowdown.text(2)),
                ours: ours.mean_slowdown.text(2),
                wanted: "0.82".into(),
                met: Some(ours.mean_slowdown.mean < 0.825),
            },
            Goal {
                of: format!("{set}, P99 latency below Fixed's by, `{}`", key(ours)),
                paper: "32.1 % (Freyr)".into(),
                rerun: freyr.map_or_else(String::new, |freyr| format!("{:.1} %", less(freyr))),
                ours: format!("{:.1} %", less(ours)),
                wanted: "32.1 %".into(),
                met: Some(less(ours) >= 32.1),
            },
            Goal {
                of: format!("{set}, worst degradation, `{}`", key(ours)),
                paper: "6 % (Freyr)".into(),
                rerun: freyr.map_or_else(String::new, |freyr| format!("{} %", freyr.worst_percent.text(1))),
                ours: format!("{} %", ours.worst_percent.text(1)),
                wanted: "6 %".into(),
                met: Some(ours.worst_percent.most <= 6.0),
            },
        ]
    })
    .collect()
}

fn summary(seeds: &Seeds, of: usize) -> Summary {
    Summary { mean: seeds.mean, least: seeds.least, most: seeds.most, seeds: of }
}

fn json(row: &Row, key: &str) -> serde_json::Value {
    let paper = published(key);
    let of = |seeds: &Seeds| summary(seeds, row.seeds);
    let of_whom = match key {
        "fixed" | "greedy-freyr22" | "ensure-freyr22" | "freyr" => whose(false),
        key if key.starts_with("greedy") || key.starts_with("ensure") || key.starts_with("libra") => {
            "published elsewhere or mended"
        }
        key if key.starts_with("oracle") => "a bound",
        _ => whose(true),
    };
    json!({
        "whose": of_whom,
        "paper": paper.map(|(mean, p99, worst)| json!({"mean_slowdown": mean, "latency_s_p99": p99, "worst_degradation_percent": worst})),
        "mean_slowdown": of(&row.mean_slowdown), "slowdown_p99": of(&row.p99_slowdown),
        "worst_degradation_percent": of(&row.worst_percent), "latency_s_p99": of(&row.p99_latency_s),
        "slowdown_with_waiting": of(&row.mean_slowdown_of_latency),
        "harvested_percent": of(&row.harvested_percent), "accelerated_percent": of(&row.accelerated_percent),
        "safeguarded_percent": of(&row.safeguarded_percent), "starved": of(&row.starved), "cpu_used_percent": of(&row.used_percent),
    })
}

/// Slowdowns from the least to the most, as Freyr draws them.
fn chart(set: &str, rows: &[Row]) -> Chart {
    let shown = [
        "fixed",
        "greedy-freyr22",
        "ensure-freyr22",
        "freyr",
        "libra elastic",
        "profile elastic",
        "learned elastic",
        "oracle elastic",
    ];
    let line = |row: &Row| Line {
        name: key(row),
        points: row
            .curve
            .iter()
            .enumerate()
            .map(|(percent, &permille)| (percent as f64, permille as f64 / 1e3))
            .collect(),
        published: false,
    };
    Chart {
        file: format!("freyr-{}", set.replace(' ', "-")),
        title: format!("Freyr's test, {set}: slowdown of runs, seed 1"),
        x: "per cent of runs".into(),
        y: "slowdown against the reservation".into(),
        logarithmic: true,
        lines: rows.iter().filter(|row| shown.contains(&key(row).as_str())).map(line).collect(),
    }
}
