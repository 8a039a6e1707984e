//! Runs that are set beside each other, with what is published of the like.
//!
//! **Knows:** houses that differ in one thing.
//! **Promises:** every contender is given the same calls; each figure comes with its spread over the seeds.
//! **Gives up:** drawing; it makes rows and Markdown.

pub mod both_levels;
pub mod lending;
pub mod overview;
pub mod sets;

/// A figure over the seeds.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Seeds {
    /// Its mean.
    pub mean: f64,
    /// At its least.
    pub least: f64,
    /// At its most.
    pub most: f64,
}

impl Seeds {
    /// Of these, at least one.
    pub fn of(values: &[f64]) -> Self {
        let mean = values.iter().sum::<f64>() / values.len().max(1) as f64;
        let least = values.iter().copied().fold(f64::INFINITY, f64::min);
        let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        Self { mean, least, most }
    }

    /// `0.82 (0.80..0.85)`, with so many places behind the point.
    pub fn text(&self, places: usize) -> String {
        let Self { mean, least, most } = self;
        format!("{mean:.places$} ({least:.places$}..{most:.places$})")
    }
}
