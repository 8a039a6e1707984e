//! What the runs of the balancers come to: one table of crossings, one of cold starts, the goals in words, the curves.

use std::collections::BTreeSet;

use serde_json::json;

use super::super::curve::{Curve, Point, find};
use super::super::sosp::POLICIES;
use super::super::{Cells, Chart, Drawn, Goal, Line, Played, Table, Values, whose};
use super::{Balancers, PLACES, published};

/// The released policy that the goals are measured against.
const REFERENCE: &str = "mws-sosp21";
/// What ours should come to, as a multiple of it.
const GOALS: [(&str, f64); 2] = [("Normal", 1.15), ("Active", 1.25)];

pub fn draw(figure: &Balancers, played: &[Played], loads: &[u32], mut notes: Vec<String>) -> Drawn {
    let mut curves = Curve::all(played);
    let place = |curve: &Curve| PLACES.iter().position(|place| place.name == curve.cluster);
    curves.sort_by_key(place);
    notes.push("published numbers: read off the plots of SOSP'21".to_owned());
    notes.push(
        "P99 and cold starts as the paper's script reads them: of what has ended when the twenty minutes are over, with the making of a sandbox added twice to its latency; the column beside it \
         counts every call".to_owned(),
    );
    notes.push(
        "`mws` grants each call its reservation, `mws+profile` what is learned of the function, with elastic lending, as a cluster does it by default (`allocation = profile`, `lending = elastic`); `+greedy-dual`: an idle sandbox stays until its memory is needed (`keep_alive = greedy-dual`)".to_owned(),
    );
    Drawn {
        name: figure.name(),
        about: figure.about(),
        notes,
        findings: findings(&curves),
        broken: Vec::new(),
        goals: goals(&curves),
        tables: vec![limits(&curves), colds(&curves, loads)],
        charts: charts(&curves),
        values: values(&curves),
    }
}

/// Against the released policy in the same cluster.
fn ratio(curves: &[Curve], curve: &Curve) -> Option<f64> {
    Some(curve.at_limit.mean / find(curves, &curve.cluster, REFERENCE)?.at_limit.mean)
}

fn limits(curves: &[Curve]) -> Table {
    let heads = [
        "cluster",
        "policy",
        "paper",
        "here, mean (least to most)",
        "where all calls count",
        "against mws-sosp21 here",
        "in the paper",
    ];
    let mut table = Table::new("Calls per second at a P99 of 50 s", &heads);
    for curve in curves {
        let plain = curve.cluster.split(',').next().unwrap_or_default();
        let paper = published::crossing(plain, &curve.policy);
        let of_paper = paper.zip(published::crossing(plain, REFERENCE)).map(|(this, that)| this / that);
        let text = |number: Option<f64>, decimals: usize| {
            number.map_or_else(|| "-".to_owned(), |number| format!("{number:.decimals$}"))
        };
        table.rows.push(vec![
            curve.cluster.clone(),
            curve.policy.clone(),
            text(paper, 1),
            curve.limit_text(),
            format!("{:.1}", curve.at_limit_of_all.mean),
            text(ratio(curves, curve), 2),
            text(of_paper, 2),
        ]);
    }
    table
}

/// At the loads that all are played at.
fn colds(curves: &[Curve], loads: &[u32]) -> Table {
    let mut users: BTreeSet<u32> =
        curves.iter().flat_map(|curve| curve.points.iter().map(|point| point.users)).collect();
    users.retain(|users| loads.contains(users));
    let mut heads = vec!["cluster".to_owned(), "policy".to_owned()];
    heads.extend(users.iter().map(|users| format!("{users} users")));
    let rows = curves.iter().map(|curve| {
        let number = |users: &u32| {
            let point = curve.at(*users);
            point.map_or_else(|| "-".to_owned(), |point| format!("{:.1}", point.cold_percent.mean))
        };
        let names = [curve.cluster.clone(), curve.policy.clone()];
        names.into_iter().chain(users.iter().map(number)).collect()
    });
    let mut rows: Vec<Vec<String>> = rows.collect();
    let floor = |users: &u32| {
        let points = curves.iter().filter_map(|curve| curve.at(*users));
        points
            .map(|point| point.first_percent.mean)
            .next()
            .map_or_else(|| "-".to_owned(), |it| format!("{it:.1}"))
    };
    let names = ["every".to_owned(), "first calls alone".to_owned()];
    rows.push(names.into_iter().chain(users.iter().map(floor)).collect());
    Table { title: "Cold starts, per cent of calls".into(), heads, rows }
}

/// Ours, by name, with what the released policy is beside it.
const OURS: [&str; 3] = ["mws", "mws+profile", "mws+profile+greedy-dual"];

fn goals(curves: &[Curve]) -> Vec<Goal> {
    let mut goals = Vec::new();
    for place in PLACES.iter().filter(|place| place.whole_host) {
        let Some(reference) = find(curves, place.name, REFERENCE) else { continue };
        let wanted = GOALS.iter().find(|(cluster, _)| *cluster == place.name).map(|&(_, goal)| goal);
        let paper =
            published::crossing(place.name, REFERENCE).map_or_else(String::new, |it| format!("{it:.1}"));
        for ours in OURS.into_iter().filter_map(|ours| find(curves, place.name, ours)) {
            let times = ours.at_limit.mean / reference.at_limit.mean;
            goals.push(Goal {
                of: format!("{}, calls/s at P99 = 50 s, `{}`", place.name, ours.policy),
                paper: paper.clone(),
                rerun: reference.limit_text(),
                ours: format!("{}: {times:.2} times", ours.limit_text()),
                wanted: wanted.map_or_else(String::new, |wanted| format!("{wanted} times")),
                met: wanted.map(|wanted| times >= wanted),
            });
        }
        for ours in OURS.into_iter().filter_map(|ours| find(curves, place.name, ours)) {
            let (held, of, missed) = half_the_cold_starts(ours, reference);
            goals.push(Goal {
                of: format!("{}, cold starts at every load, `{}`", place.name, ours.policy),
                paper: String::new(),
                rerun: "as in the table".to_owned(),
                ours: if missed.is_empty() {
                    format!("at most half at all {of} loads")
                } else {
                    format!("at most half at {held} of {of} loads; not at {}", missed.join(", "))
                },
                wanted: "half".to_owned(),
                met: Some(missed.is_empty()),
            });
        }
    }
    goals
}

fn findings(curves: &[Curve]) -> Vec<String> {
    let mut said = Vec::new();
    for place in &PLACES {
        let plain = place.name.split(',').next().unwrap_or_default();
        let Some(reference) = find(curves, place.name, REFERENCE) else { continue };
        for other in ["jsq-sosp21", "vanilla"].into_iter().filter_map(|other| find(curves, place.name, other))
        {
            let here = reference.at_limit.mean / other.at_limit.mean;
            let published =
                published::crossing(plain, REFERENCE).zip(published::crossing(plain, &other.policy));
            said.push(format!(
                "{}: `{REFERENCE}` bears {here:.2} times the load of `{}`; {}.",
                place.name,
                other.policy,
                published.map_or_else(
                    || "not published".to_owned(),
                    |(this, that)| format!("published {:.1} times", this / that)
                )
            ));
        }
    }
    said
}

/// At how many of how many loads that both were played at, and the others in words.
fn half_the_cold_starts(ours: &Curve, reference: &Curve) -> (usize, usize, Vec<String>) {
    let both: Vec<(&Point, &Point)> =
        reference.points.iter().filter_map(|point| Some((ours.at(point.users)?, point))).collect();
    let missed: Vec<String> = both
        .iter()
        .filter(|(ours, reference)| ours.cold_percent.mean * 2.0 > reference.cold_percent.mean)
        .map(|(ours, reference)| {
            let (mine, others, first) =
                (ours.cold_percent.mean, reference.cold_percent.mean, ours.first_percent.mean);
            let cannot = if first * 2.0 > others { "; first calls alone are more than half" } else { "" };
            format!("{} users ({mine:.1} % to {others:.1} %{cannot})", ours.users)
        })
        .collect();
    (both.len() - missed.len(), both.len(), missed)
}

fn values(curves: &[Curve]) -> Values {
    let mut values = Values::new();
    for curve in curves {
        let plain = curve.cluster.split(',').next().unwrap_or_default();
        let points: Vec<_> = curve.points.iter().map(Point::json).collect();
        let value = json!({
            "whose": whose(OURS.contains(&curve.policy.as_str())),
            "calls_per_second_at_p99_50s": curve.at_limit,
            "calls_per_second_at_p99_50s_of_all": curve.at_limit_of_all,
            "is_a_bound": curve.bound.map(str::trim),
            "paper": published::crossing(plain, &curve.policy),
            "against_mws_sosp21": ratio(curves, curve),
            "points": points,
        });
        values.entry(curve.cluster.clone()).or_default().insert(curve.policy.clone(), value);
    }
    values
}

/// What a chart shows: the end of its file's name, its y axis, its published curve, its number.
type Shown = (&'static str, &'static str, fn(&str, &str) -> Option<&'static [(f64, f64)]>, fn(&Point) -> f64);

const SHOWN: [Shown; 2] = [
    ("p99", "P99 of latency, s", published::p99, |point| point.p99_s.mean),
    ("cold", "cold starts, per cent of calls", published::cold, |point| point.cold_percent.mean),
];

fn charts(curves: &[Curve]) -> Vec<Chart> {
    let mut charts = Vec::new();
    for place in &PLACES {
        let here: Vec<&Curve> = curves.iter().filter(|curve| curve.cluster == place.name).collect();
        for (end, y, of_paper, number) in SHOWN.iter().filter(|_| !here.is_empty()) {
            let mut lines: Vec<Line> = here
                .iter()
                .map(|curve| Line {
                    name: curve.policy.clone(),
                    points: curve.points.iter().map(|point| (point.per_second.mean, number(point))).collect(),
                    published: false,
                })
                .collect();
            for policy in &POLICIES {
                lines.extend(of_paper(place.name, policy.name).map(|points| Line {
                    name: format!("{}, published", policy.name),
                    points: points.to_vec(),
                    published: true,
                }));
            }
            let file = place.name.to_lowercase().replace(", ", "-").replace(' ', "-");
            charts.push(Chart {
                file: format!("balancers-{file}-{end}"),
                title: format!("{}: {y}", place.name),
                x: "calls per second".into(),
                y: (*y).into(),
                logarithmic: *end == "p99",
                lines,
            });
        }
    }
    charts
}
