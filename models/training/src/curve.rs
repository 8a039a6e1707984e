//! Learning curves as SVG.
//!
//! **Promises:** equal trainings, equal bytes.
//! **Gives up:** drawing itself; `simulator` has charts.

use simulator::figures::{Chart, Line};

use crate::school::School;

/// What the examinations brought, one line for each seed.
pub fn curve_svg(schools: &[School]) -> String {
    // The chart begins at 0, and what a run brings may be below it.
    let all = || schools.iter().flat_map(|school| &school.curve).map(|point| point.examined);
    let least = all().fold(f64::INFINITY, f64::min);
    let least = if least.is_finite() { (least * 100.0).floor() / 100.0 } else { 0.0 };
    let line = |school: &School| Line {
        name: format!("seed {}", school.plan.seed),
        points: school
            .curve
            .iter()
            .map(|point| (point.decisions as f64 / 1e6, point.examined - least))
            .collect(),
        published: false,
    };
    let chart = Chart {
        file: String::new(),
        title: "What a run brings on average in the houses of the examination".to_owned(),
        x: "decisions learned from, millions".to_owned(),
        y: format!("above {least:.2}"),
        logarithmic: false,
        lines: schools.iter().map(line).collect(),
    };
    chart.svg()
}
