//! What the same money buys: SOSP'21's table 3 and its two claims.
//!
//! **Knows:** the clusters of one budget of 32 regular cores, the discounts, and what the paper claims.
//! **Promises:** one arithmetic for the paper's policy and ours (`machines::Prices`): calls per second at the limit for the same budget,
//! and cost for the same cores and for the same calls.
//! **Gives up:** knowing which balancer ran on the paper's regular VMs; each of ours is set against itself and against
//! vanilla there.

use serde_json::json;

use super::curve::{self, Curve};
use super::{Cell, Cells, Chart, Drawn, Goal, Line, Played, Size, Table, Values, sosp, whose};
use crate::house::House;
use crate::machines::{Prices, SospSet};
use crate::plan::Machines;
use crate::workload::TraceError;

/// See the module.
#[derive(Clone, Copy)]
pub struct Cost;

/// A cluster, its prices, and what is published of both claims where the abstract tells them.
struct Bought {
    set: SospSet,
    prices: Prices,
    times: Option<f64>,
    cheaper_percent: Option<f64>,
}

const BOUGHT: [Bought; 5] = [
    Bought {
        set: SospSet::Baseline,
        prices: Prices::spot(0.0),
        times: Some(1.0),
        cheaper_percent: Some(0.0),
    },
    Bought { set: SospSet::Lowest, prices: Prices::LOWEST, times: Some(2.2), cheaper_percent: Some(48.0) },
    Bought { set: SospSet::Typical, prices: Prices::TYPICAL, times: None, cheaper_percent: None },
    Bought { set: SospSet::High, prices: Prices::HIGH, times: None, cheaper_percent: None },
    Bought { set: SospSet::Best, prices: Prices::BEST, times: Some(9.0), cheaper_percent: Some(89.0) },
];

const POLICIES: [&str; 4] = ["vanilla", "mws-sosp21", "mws+profile", "mws+profile+greedy-dual"];

/// Users for each hundred cores; 217 would use all cores all the time.
const LEVELS: [u32; 6] = [20, 60, 100, 140, 180, 220];
const QUICK_LEVELS: [u32; 3] = [60, 130, 200];
const TINY_LEVELS: [u32; 1] = [4];
/// How near two levels come on either side of the crossing.
const NEAR: u32 = 10;
const QUICK_NEAR: u32 = 35;

fn levels(size: &Size) -> &'static [u32] {
    size.pick(&LEVELS[..], &QUICK_LEVELS[..], &TINY_LEVELS[..])
}

fn clusters(size: &Size) -> impl Iterator<Item = &'static Bought> {
    let all = size.pick(true, false, false);
    BOUGHT.iter().filter(move |bought| all || bought.times.is_some())
}

fn lines(size: &Size) -> impl Iterator<Item = (&'static Bought, Cell)> {
    let seeds = size.seeds(3, 1);
    clusters(size).flat_map(move |bought| {
        let seeds = seeds.clone();
        POLICIES.into_iter().flat_map(move |policy| {
            seeds.clone().map(move |seed| {
                (bought, Cell { cluster: bought.set.name().into(), policy: policy.into(), load: 0, seed })
            })
        })
    })
}

impl Bought {
    /// Cost and cores, on average over the twenty minutes, in regular cores.
    fn cost_and_cores(&self, size: &Size, seed: u64) -> Result<(f64, f64), TraceError> {
        let given = self.set.fleet(size.traces.as_deref(), seed)?.given();
        let mean = |prices: Prices| prices.mean(&given, SospSet::length());
        Ok((mean(self.prices), mean(Prices::spot(0.0))))
    }

    /// What is published of this cluster, against the policy's own load on regular VMs of the same budget.
    fn goals(&self, curves: &[Curve], size: &Size) -> Vec<Goal> {
        let (Some(paper), Some(cheaper)) = (self.times, self.cheaper_percent) else { return Vec::new() };
        let times = |policy: &str| {
            let at = |cluster: SospSet| Some(curve::find(curves, cluster.name(), policy)?.at_limit.mean);
            Some(at(self.set)? / at(SospSet::Baseline)?)
        };
        let text = |times: Option<f64>| times.map_or_else(String::new, |times| format!("{times:.1}"));
        let ours = times(OURS);
        let mut goals = vec![Goal {
            of: format!(
                "{}, calls/s for the same budget as on regular VMs, times, `{OURS}`",
                self.set.name()
            ),
            paper: format!("{paper:.1}"),
            rerun: text(times("mws-sosp21")),
            ours: text(ours),
            wanted: format!("above {paper:.1}"),
            met: ours.map(|ours| ours > paper),
        }];
        if let Ok((cost, cores)) = self.cost_and_cores(size, 1) {
            let here = format!("{:.0} %", 100.0 * (1.0 - cost / cores));
            goals.push(Goal {
                of: format!("{}, the same cores cheaper by (discounts alone)", self.set.name()),
                paper: format!("{cheaper:.0} %"),
                rerun: here.clone(),
                ours: here,
                ..Goal::default()
            });
        }
        goals
    }
}

/// The policy of ours that the paper's claim is measured on.
const OURS: &str = "mws+profile+greedy-dual";

/// Cost against throughput: each policy from the dearest cluster to the cheapest.
fn chart(curves: &[Curve], size: &Size) -> Chart {
    let line = |policy: &str| {
        let at = |bought: &Bought| {
            let rate = curve::find(curves, bought.set.name(), policy)?.at_limit.mean;
            let (cost, _) = bought.cost_and_cores(size, 1).ok()?;
            Some((rate, cost / rate.max(1e-9)))
        };
        Line { name: policy.to_owned(), points: BOUGHT.iter().filter_map(at).collect(), published: false }
    };
    Chart {
        file: "cost-throughput".into(),
        title: "One budget: what a call per second costs".into(),
        x: "calls per second at a P99 of 50 s".into(),
        y: "regular cores paid for each".into(),
        logarithmic: true,
        lines: POLICIES.into_iter().map(line).collect(),
    }
}

impl Cells for Cost {
    fn name(&self) -> &'static str {
        "cost"
    }

    fn about(&self) -> &'static str {
        "What a budget of 32 regular cores buys at the discounts of SOSP'21's table 3: the load at which the P99 reaches 50 s, and what the same \
         cores and the same calls cost. Published: 2.2 (Lowest) to 9.0 (Best) times the throughput for the same budget; 48 to 89 % cheaper for the \
         same resources."
    }

    fn most(&self, size: &Size) -> usize {
        lines(size).count() * (levels(size).len() + size.pick(2, 1, 0))
    }

    fn next(&self, size: &Size, played: &[Played]) -> Vec<Cell> {
        let next = |(bought, line): (&Bought, Cell)| {
            // As drawn, whatever the trace says: equal loads for all seeds.
            let (_, cores) = bought.cost_and_cores(&Size::default(), 1).expect("drawn, not read");
            let users = |level: u32| (f64::from(level) * cores / 100.0).round() as u32;
            let loads: Vec<u32> = levels(size).iter().map(|&level| users(level)).collect();
            let near = size.pick(users(NEAR), users(QUICK_NEAR), u32::MAX);
            Some(Cell { load: curve::next_load(&line, played, &loads, near)?, ..line })
        };
        lines(size).filter_map(next).collect()
    }

    fn house(&self, cell: &Cell, size: &Size) -> Result<(House, Vec<String>), TraceError> {
        let set = SospSet::by_name(&cell.cluster).expect("a cell of ours");
        sosp::house(cell, set, true, size)
    }

    fn draw(&self, played: &[Played], size: &Size, notes: Vec<String>) -> Drawn {
        let curves = Curve::all(played);
        let heads = [
            "cluster",
            "policy",
            "cores",
            "cost",
            "calls/s at P99 = 50 s",
            "times the same policy's on Baseline",
            "times vanilla's on Baseline",
            "paper",
            "same cores cheaper by, %",
            "paper, %",
            "same calls cheaper by, %",
        ];
        let mut table = Table::new("The same budget, the same resources", &heads);
        let mut values = Values::new();
        let mut goals = Vec::new();
        let mut findings = Vec::new();
        for curve in &curves {
            let bought =
                BOUGHT.iter().find(|bought| bought.set.name() == curve.cluster).expect("a cell of ours");
            let (cost, cores) = bought.cost_and_cores(size, 1).expect("it was read before");
            let on_baseline = |policy: &str| {
                let baseline = curve::find(&curves, SospSet::Baseline.name(), policy)?;
                Some((baseline.at_limit.mean, baseline.bound))
            };
            let rate = curve.at_limit.mean;
            let own = on_baseline(&curve.policy).map(|(rate_there, _)| rate / rate_there);
            let of_vanilla = on_baseline("vanilla").map(|(rate_there, _)| rate / rate_there);
            let cheaper = 100.0 * (1.0 - cost / cores);
            let (base_cost, _) = BOUGHT[0].cost_and_cores(size, 1).expect("it was read before");
            let calls_cheaper = own.map(|own| 100.0 * (1.0 - cost / (base_cost * own)));
            let text =
                |number: Option<f64>| number.map_or_else(|| "-".into(), |number| format!("{number:.1}"));
            // The paper's numbers are of its own policy.
            let paper = bought.times.filter(|_| curve.policy == "mws-sosp21");
            let paper_cheaper = bought.cheaper_percent.filter(|_| curve.policy == "mws-sosp21");
            table.rows.push(vec![
                curve.cluster.clone(),
                curve.policy.clone(),
                format!("{cores:.1}"),
                format!("{cost:.1}"),
                curve.limit_text(),
                text(own),
                text(of_vanilla),
                text(paper),
                format!("{cheaper:.0}"),
                paper_cheaper.map_or_else(|| "-".into(), |percent| format!("{percent:.0}")),
                text(calls_cheaper),
            ]);
            let is_ours = curve.policy.starts_with("mws+");
            let value = json!({
                "whose": whose(is_ours),
                "cores": cores, "cost_in_regular_cores": cost, "calls_per_second_at_p99_50s": curve.at_limit,
                "is_a_bound": curve.bound, "times_own_baseline": own, "times_vanilla_baseline": of_vanilla,
                "paper_times": paper, "same_cores_cheaper_percent": cheaper, "paper_cheaper_percent": paper_cheaper,
                "same_calls_cheaper_percent": calls_cheaper,
            });
            values.entry(curve.cluster.clone()).or_default().insert(curve.policy.clone(), value);
        }
        for bought in BOUGHT.iter().filter(|bought| bought.set != SospSet::Baseline) {
            goals.extend(bought.goals(&curves, size));
            let at = |policy: &str| curve::find(&curves, bought.set.name(), policy);
            let Some(reference) = at("mws-sosp21") else { continue };
            for ours in ["mws+profile", "mws+profile+greedy-dual"].into_iter().filter_map(at) {
                let on_baseline = |policy: &str| {
                    let there = curve::find(&curves, SospSet::Baseline.name(), policy)?.at_limit.mean;
                    Some(format!("{:.1}", ours.at_limit.mean / there))
                };
                let beside = bought.times.zip(on_baseline("mws-sosp21")).zip(on_baseline("vanilla"));
                findings.push(format!(
                    "{}: for the same money `{}` bears {:.2} times the load of `mws-sosp21`{}.",
                    ours.cluster,
                    ours.policy,
                    ours.at_limit.mean / reference.at_limit.mean,
                    beside.map_or_else(String::new, |((times, released), vanilla)| format!(
                        "; against `mws-sosp21` on Baseline {released} times, against vanilla there {vanilla}, where the paper has {times:.1} for its own"
                    ))
                ));
            }
            if let (Some(times), Ok((_, cores)), Ok((_, regular))) =
                (bought.times, bought.cost_and_cores(size, 1), BOUGHT[0].cost_and_cores(size, 1))
            {
                let more = cores / regular;
                findings.push(format!(
                    "{}: {more:.2} times the cores of Baseline. To bear {times:.1} times one's own load there, each core must do {:.2} times what it does on Baseline.",
                    bought.set.name(),
                    times / more
                ));
            }
        }
        findings.push(
            "What the same cores cost follows from the discounts alone and is the same for every policy; what a policy changes is what the same calls cost.".into(),
        );
        Drawn {
            name: self.name(),
            about: self.about(),
            notes,
            goals,
            findings,
            broken: Vec::new(),
            tables: vec![table],
            charts: vec![chart(&curves, size)],
            values,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_cores_are_cheaper_by_what_is_published() {
        for bought in &BOUGHT {
            let (cost, cores) = bought.cost_and_cores(&Size::default(), 1).unwrap();
            let Some(published) = bought.cheaper_percent else { continue };
            let cheaper = 100.0 * (1.0 - cost / cores);
            assert!((cheaper - published).abs() < 1.0, "{:?}: {cheaper}, published {published}", bought.set);
        }
    }
}
