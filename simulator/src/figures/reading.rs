//! How a figure is read: where a curve crosses a limit, and what several seeds say together.
//!
//! **Knows:** points.
//! **Promises:** what papers.md did with a ruler on the published plots is done with ours: straight lines between the points.
//! **Gives up:** smoothing. A curve that crosses twice has been crossed the first time.

use serde::Serialize;

/// Where a curve crosses a limit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Crossing {
    /// Above it from the first point on, which is here.
    Before(f64),
    /// Here.
    At(f64),
    /// Below it up to the last point, which is here.
    After(f64),
}

impl Crossing {
    /// The number, with what it is if it is none: a bound counts as its edge.
    pub fn edge(self) -> f64 {
        match self {
            Self::Before(x) | Self::At(x) | Self::After(x) => x,
        }
    }
}

/// Where straight lines through these points, ascending in x, first cross the limit from below; `None` without points.
pub fn crossing(points: &[(f64, f64)], limit: f64) -> Option<Crossing> {
    let first = points.first()?;
    if first.1 > limit {
        return Some(Crossing::Before(first.0));
    }
    for pair in points.windows(2) {
        let [(x0, y0), (x1, y1)] = [pair[0], pair[1]];
        if y1 > limit {
            return Some(Crossing::At(x0 + (limit - y0) / (y1 - y0) * (x1 - x0)));
        }
    }
    points.last().map(|last| Crossing::After(last.0))
}

/// A part of a whole; of nothing, nothing.
pub fn percent(part: u64, whole: u64) -> f64 {
    100.0 * part as f64 / whole.max(1) as f64
}

/// One number under several seeds.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Summary {
    /// Of them.
    pub mean: f64,
    /// The least.
    pub least: f64,
    /// The most.
    pub most: f64,
    /// How many.
    pub seeds: usize,
}

impl Summary {
    /// Of these; all zero without any.
    pub fn of(values: &[f64]) -> Self {
        if values.is_empty() {
            return Self::default();
        }
        Self {
            mean: values.iter().sum::<f64>() / values.len() as f64,
            least: values.iter().copied().fold(f64::INFINITY, f64::min),
            most: values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            seeds: values.len(),
        }
    }

    /// With its spread, where there is one.
    pub fn text(&self, decimals: usize) -> String {
        if self.seeds < 2 {
            return format!("{:.decimals$}", self.mean);
        }
        format!("{:.decimals$} ({:.decimals$} to {:.decimals$})", self.mean, self.least, self.most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_curve_of_mws_crosses_50_s_where_the_paper_was_read() {
        let published = [(20.9, 15.0), (22.6, 21.5), (25.0, 70.0), (27.0, 110.0)];
        let Some(Crossing::At(x)) = crossing(&published, 50.0) else { panic!("it crosses") };
        assert!((x - 24.0).abs() < 0.05, "{x}");
    }

    #[test]
    fn a_curve_that_does_not_cross_says_on_which_side_it_stays() {
        assert_eq!(crossing(&[(1.0, 60.0), (2.0, 10.0)], 50.0), Some(Crossing::Before(1.0)));
        assert_eq!(crossing(&[(1.0, 6.0), (2.0, 50.0)], 50.0), Some(Crossing::After(2.0)));
        assert_eq!(crossing(&[], 50.0), None);
    }

    #[test]
    fn a_summary_has_a_spread_only_where_there_are_seeds() {
        assert_eq!(Summary::of(&[2.0, 4.0]).text(1), "3.0 (2.0 to 4.0)");
        assert_eq!(Summary::of(&[2.0]).text(1), "2.0");
        assert_eq!(Summary::of(&[]).seeds, 0);
    }
}
