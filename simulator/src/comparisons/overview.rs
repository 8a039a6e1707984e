//! All sets of a comparison in one table, and for programs.
//!
//! **Knows:** the rows of each set, and the goals.
//! **Promises:** every row says which goals it meets; a percentage of P99 latency is against `fixed` on the same set, over the means of
//! the seeds.
//! **Gives up:** the columns that are no goal: those are in the JSON.

use std::fmt::Write as _;

use policies::residency::Lending;
use serde::Serialize;

use super::lending::Row;

/// A set that was played.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Played {
    /// The set's name on the command line.
    pub set: String,
    /// For people.
    pub title: String,
    /// So many nodes.
    pub nodes: u32,
    /// So many seeds.
    pub seeds: u64,
    /// Whether the sizes of inputs vary: then less is to be had.
    pub inputs_vary: bool,
    /// One for each allocator.
    pub rows: Vec<Row>,
}

/// Mean slowdown at most,
const SLOWDOWN: f64 = 0.75;
/// per cent below `fixed` in P99 latency, with inputs that are always the same,
const BELOW_FIXED: f64 = 40.0;
/// and with others,
const BELOW_FIXED_VARYING: f64 = 31.0;
/// worst degradation in per cent at most,
const WORST: f64 = 2.0;
/// and shares of runs in per cent, above which they are: harvested, accelerated.
const SHARES: (f64, f64) = (38.8, 39.2);

/// P99 latency against `fixed` on the same set, in per cent: -40 is two fifths less.
fn against_fixed(played: &Played, row: &Row) -> Option<f64> {
    let fixed = played.rows.iter().find(|row| row.name == "fixed")?.p99_latency_s.mean;
    (fixed > 0.0).then(|| 100.0 * (row.p99_latency_s.mean / fixed - 1.0))
}

/// The letters of the goals that a row meets.
fn goals(played: &Played, row: &Row) -> String {
    let below = if played.inputs_vary { BELOW_FIXED_VARYING } else { BELOW_FIXED };
    let met = [
        ("S", row.mean_slowdown.mean <= SLOWDOWN),
        ("P", against_fixed(played, row).is_some_and(|percent| percent <= -below)),
        ("W", row.worst_percent.most <= WORST),
        ("H", row.harvested_percent.mean > SHARES.0),
        ("A", row.accelerated_percent.mean > SHARES.1),
    ];
    let met: Vec<&str> = met.into_iter().filter_map(|(letter, is_met)| is_met.then_some(letter)).collect();
    if met.is_empty() { "-".to_owned() } else { met.join(" ") }
}

/// What the letters mean.
pub fn legend() -> String {
    format!(
        "S: mean slowdown at most {SLOWDOWN}; P: P99 latency at least {BELOW_FIXED} % below `fixed` ({BELOW_FIXED_VARYING} where inputs \
         vary); W: worst degradation of any seed at most {WORST} %; H, A: harvested more than {} %, accelerated more than {} % of runs.",
        SHARES.0, SHARES.1
    )
}

/// The table as Markdown.
pub fn markdown(all: &[Played]) -> String {
    let mut text = String::from(
        "| set | allocator | lending | mean slowdown | worst degradation, % | P99 latency, s | against fixed, % | with waiting, times the oracle's | harvested, % | accelerated, % | goals met |\n\
         | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n",
    );
    for played in all {
        for row in &played.rows {
            let cells = [
                row.mean_slowdown.text(2),
                row.worst_percent.text(1),
                row.p99_latency_s.text(1),
                against_fixed(played, row).map_or_else(String::new, |percent| format!("{percent:+.0}")),
                row.of_oracle.map_or_else(String::new, |times| format!("{times:.2}")),
                row.harvested_percent.text(1),
                row.accelerated_percent.text(1),
                goals(played, row),
            ];
            let mode = Lending::NAMES[row.lending as usize];
            let _ = writeln!(text, "| {} | {} | {mode} | {} |", played.title, row.name, cells.join(" | "));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::comparisons::Seeds;

    fn row(name: &str, slowdown: f64, latency: f64) -> Row {
        let of = |value: f64| Seeds { mean: value, least: value, most: value };
        Row {
            name: name.to_owned(),
            lending: Lending::Elastic,
            mean_slowdown: of(slowdown),
            p99_slowdown: of(1.0),
            worst_percent: of(1.5),
            p99_latency_s: of(latency),
            p99_run_s: of(1.0),
            mean_slowdown_of_latency: of(1.0),
            of_oracle: None,
            harvested_percent: of(50.0),
            accelerated_percent: of(10.0),
            safeguarded_percent: of(0.0),
            starved: of(0.0),
            used_percent: of(0.0),
            seeds: 1,
            curve: Vec::new(),
        }
    }

    #[test]
    fn each_row_says_which_goals_it_meets_and_how_it_stands_against_fixed() {
        let rows = vec![row("fixed", 1.0, 10.0), row("profile", 0.7, 6.5)];
        let mut played = Played {
            set: "freyr".into(),
            title: "a set".into(),
            nodes: 10,
            seeds: 1,
            inputs_vary: true,
            rows,
        };
        let table = markdown(std::slice::from_ref(&played));
        assert!(table.lines().nth(2).is_some_and(|line| line.ends_with("| W H |")), "{table}");
        assert!(table.lines().nth(3).is_some_and(|line| line.contains("| -35 |")), "{table}");
        assert!(table.lines().nth(3).is_some_and(|line| line.ends_with("| S P W H |")), "{table}");
        played.inputs_vary = false;
        assert!(markdown(&[played]).lines().nth(3).is_some_and(|line| line.ends_with("| S W H |")));
    }
}
