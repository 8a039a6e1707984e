//! A curve: one policy in one cluster, load after load.
//!
//! **Knows:** what was played.
//! **Promises:** a number for each point and each crossing, with its spread over seeds: as the paper's script would have read it, and of
//! all calls, where whatever was not answered counts as slower than all that was.
//! **Gives up:** the shape between two loads.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{Cell, Crossing, Played, Summary, crossing};

/// The limit that the paper draws.
const LIMIT_S: f64 = 50.0;

/// One policy in one cluster.
pub struct Curve {
    /// Where.
    pub cluster: String,
    /// Who decided.
    pub policy: String,
    /// Load after load.
    pub points: Vec<Point>,
    /// Of the loads at the limit, one for each seed.
    pub at_limit: Summary,
    /// The same where all calls count.
    pub at_limit_of_all: Summary,
    /// Some seed stayed below the limit up to the last load, or was above it from the first: the number is a bound.
    pub bound: Option<&'static str>,
}

/// One load.
pub struct Point {
    /// So many users.
    pub users: u32,
    /// Calls per second.
    pub per_second: Summary,
    /// Half of the calls took at most this.
    pub p50_s: Summary,
    /// Ninety-nine in a hundred, as SOSP'21 reads it ([`crate::report::Read`]).
    pub p99_s: Summary,
    /// The same of all calls, however late they were answered.
    pub p99_of_all_s: Summary,
    /// Those that needed a new sandbox, as it reads them.
    pub cold_percent: Summary,
    /// The least that this can be where nobody knows beforehand who will be called: each function's first call.
    pub first_percent: Summary,
    /// Calls without a success.
    pub failed_percent: Summary,
    /// Of the cores.
    pub used_percent: Summary,
}

impl Curve {
    /// One for each policy in each cluster, in the order in which they were played.
    pub fn all(played: &[Played]) -> Vec<Self> {
        let mut order: Vec<(&str, &str)> = Vec::new();
        for one in played {
            let key = (one.cell.cluster.as_str(), one.cell.policy.as_str());
            if !order.contains(&key) {
                order.push(key);
            }
        }
        let of = |(cluster, policy): (&str, &str)| {
            let of = played.iter().filter(|one| one.cell.cluster == cluster && one.cell.policy == policy);
            Self::of(cluster, policy, &of.collect::<Vec<_>>())
        };
        order.into_iter().filter_map(of).collect()
    }

    fn of(cluster: &str, policy: &str, played: &[&Played]) -> Option<Self> {
        let mut by_load: BTreeMap<u32, Vec<&Played>> = BTreeMap::new();
        let mut by_seed: BTreeMap<u64, Vec<(f64, f64)>> = BTreeMap::new();
        let mut all_by_seed = by_seed.clone();
        for one in played {
            by_load.entry(one.cell.load).or_default().push(one);
            by_seed.entry(one.cell.seed).or_default().push((per_second(one), p99_s(one)));
            all_by_seed.entry(one.cell.seed).or_default().push((per_second(one), p99_of_all_s(one)));
        }
        let points = by_load.into_iter().map(|(users, played)| Point::of(users, &played)).collect();
        let crossings: Option<Vec<Crossing>> =
            by_seed.values().map(|points| crossing(points, LIMIT_S)).collect();
        let crossings = crossings.filter(|crossings| !crossings.is_empty())?;
        let at_limit: Vec<f64> = crossings.iter().map(|crossing| crossing.edge()).collect();
        let all = all_by_seed.values().filter_map(|points| crossing(points, LIMIT_S));
        let of_all: Vec<f64> = all.map(|crossing| crossing.edge()).collect();
        let bound = crossings.iter().find_map(|crossing| match crossing {
            Crossing::Before(_) => Some("below "),
            Crossing::After(_) => Some("above "),
            Crossing::At(_) => None,
        });
        Some(Self {
            cluster: cluster.into(),
            policy: policy.into(),
            points,
            at_limit: Summary::of(&at_limit),
            at_limit_of_all: Summary::of(&of_all),
            bound,
        })
    }

    /// The point of so many users.
    pub fn at(&self, users: u32) -> Option<&Point> {
        self.points.iter().find(|point| point.users == users)
    }

    /// The load at the limit, for people.
    pub fn limit_text(&self) -> String {
        format!("{}{}", self.bound.unwrap_or_default(), self.at_limit.text(1))
    }
}

fn per_second(played: &Played) -> f64 {
    played.report.submitted as f64 / 1_200.0
}

/// Of what has been answered when the level is over.
fn p99_s(played: &Played) -> f64 {
    played.report.read.latency.p99_us as f64 / 1e6
}

/// Of all calls: whatever was not answered counts as slower than all that was.
fn p99_of_all_s(played: &Played) -> f64 {
    let report = &played.report;
    let unanswered = report.submitted - report.answered.min(report.submitted);
    let of_answered = report.latency.p99_us as f64 / 1e6;
    // With more than one call in a hundred unanswered the P99 is of those, who gave up after an hour at most.
    if unanswered * 100 > report.submitted { of_answered.max(3_600.0) } else { of_answered }
}

/// The next load of this line (its own load does not matter): the first of `loads` that has not been played, until one is over the limit;
/// then the middle between that one and the one before, until they are no more than `near` apart. Nothing: it has been followed
/// far enough. A house that is far beyond what it can bear costs most to play and tells least.
pub fn next_load(line: &Cell, played: &[Played], loads: &[u32], near: u32) -> Option<u32> {
    let of_line = |one: &&Played| {
        let one = &one.cell;
        (&one.cluster, &one.policy, one.seed) == (&line.cluster, &line.policy, line.seed)
    };
    let points: BTreeMap<u32, bool> =
        played.iter().filter(of_line).map(|one| (one.cell.load, p99_s(one) > LIMIT_S)).collect();
    next_of(&points, loads, near)
}

/// The same of loads, each with whether it is over the limit.
fn next_of(points: &BTreeMap<u32, bool>, loads: &[u32], near: u32) -> Option<u32> {
    let Some(above) = points.iter().find_map(|(&load, &over)| over.then_some(load)) else {
        return loads.iter().copied().find(|load| !points.contains_key(load));
    };
    let (&below, _) = points.range(..above).next_back()?;
    (above - below > near).then_some(u32::midpoint(below, above))
}

/// The curve of a policy in a cluster.
pub fn find<'a>(curves: &'a [Curve], cluster: &str, policy: &str) -> Option<&'a Curve> {
    curves.iter().find(|curve| curve.cluster == cluster && curve.policy == policy)
}

impl Point {
    fn of(users: u32, played: &[&Played]) -> Self {
        let of = |value: &dyn Fn(&Played) -> f64| {
            Summary::of(&played.iter().map(|played| value(played)).collect::<Vec<f64>>())
        };
        Self {
            users,
            per_second: of(&per_second),
            p50_s: of(&|played| played.report.latency.p50_us as f64 / 1e6),
            p99_s: of(&p99_s),
            p99_of_all_s: of(&p99_of_all_s),
            cold_percent: of(&|played| {
                100.0 * played.report.read.cold as f64 / played.report.read.latency.count.max(1) as f64
            }),
            first_percent: of(&|played| {
                100.0 * played.report.functions.len() as f64 / played.report.submitted.max(1) as f64
            }),
            failed_percent: of(&|played| {
                100.0 * played.report.failed() as f64 / played.report.submitted.max(1) as f64
            }),
            used_percent: of(&|played| played.report.cores.used_permille() as f64 / 10.0),
        }
    }

    /// For programs.
    pub fn json(&self) -> Value {
        json!({
            "users": self.users,
            "calls_per_second": self.per_second,
            "latency_s_p50": self.p50_s,
            "latency_s_p99": self.p99_s,
            "latency_s_p99_of_all": self.p99_of_all_s,
            "cold_percent": self.cold_percent,
            "first_calls_percent": self.first_percent,
            "failed_percent": self.failed_percent,
            "cores_used_percent": self.used_percent,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Which loads are played where everything from `limit` on is over it.
    fn walk(limit: u32, loads: &[u32], near: u32) -> Vec<u32> {
        let (mut points, mut walked) = (BTreeMap::new(), Vec::new());
        while let Some(load) = next_of(&points, loads, near) {
            points.insert(load, load >= limit);
            walked.push(load);
        }
        walked
    }

    #[test]
    fn a_curve_is_walked_up_to_the_limit_and_then_looked_at_more_closely_there() {
        let loads = [50, 100, 200, 300];
        assert_eq!(walk(170, &loads, 25), [50, 100, 200, 150, 175]);
        assert_eq!(walk(110, &loads, 50), [50, 100, 200, 150]);
        assert_eq!(walk(1_000, &loads, 25), loads, "never over it");
        assert_eq!(walk(1, &loads, 25), [50], "over it from the first on");
        assert_eq!(walk(60, &[50, 75], 25), [50, 75]);
    }
}
