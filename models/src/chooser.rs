//! A model that is asked for one option.
//!
//! **Knows:** a [`Scorer`], the features that it is shown, and how long an answer may take.
//! **Promises:** the option with the highest score, the first of equals; no answer where there is none that can be trusted: a score
//! that is not a number, a failure, or one that came too late. Each kind is counted ([`Counts`]), and the first of each kind
//! is told.
//! **Gives up:** stopping a model that is slow: its answer is waited for once, and then not taken. One that is slow
//! again and again is asked only now and then.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use policies::allocation::learned::{Chooser, Observation};
use vocabulary::Resources;

use crate::features::{FeatureSet, Shown};
use crate::scorer::{ScoreError, Scorer};

/// How long an answer may take unless another limit is set: twenty times what 64 options should take at most.
pub const ANSWERS_WITHIN: Duration = Duration::from_millis(1);
/// After so many slow answers in a row...
const SLOW_IN_A_ROW: u64 = 8;
/// ...only one decision in so many asks the model, to see whether it has become faster.
const ASKED_IN: u64 = 64;

/// How often it was asked, and why there was no answer. Shared with whoever shows it.
#[derive(Debug, Default)]
pub struct Counts {
    /// Decisions that the model made.
    pub answered: AtomicU64,
    /// A feature or a score was not a number.
    pub not_a_number: AtomicU64,
    /// The answer came too late, or was not waited for.
    pub slow: AtomicU64,
    /// ONNX Runtime failed.
    pub failed: AtomicU64,
}

/// See the module.
#[derive(Debug)]
pub struct ModelChooser {
    scorer: Scorer,
    set: &'static FeatureSet,
    counts: Arc<Counts>,
    slow: Duration,
    slow_in_a_row: u64,
    shown: Shown,
    scores: Vec<f32>,
}

impl ModelChooser {
    /// Of a model that was loaded for this set, whose answers are not taken if they take longer than `slow`.
    pub fn new(scorer: Scorer, set: &'static FeatureSet, counts: Arc<Counts>, slow: Duration) -> Self {
        Self { scorer, set, counts, slow, slow_in_a_row: 0, shown: Shown::default(), scores: Vec::new() }
    }

    fn count(count: &AtomicU64, what: &str) {
        if count.fetch_add(1, Ordering::Relaxed) == 0 {
            tracing::warn!(
                "the allocator's model gave no answer: {what}; 'profile' decides instead, and further ones are counted"
            );
        }
    }
}

/// The place of the highest, the first of equals.
pub fn highest(scores: &[f32]) -> Option<usize> {
    (0..scores.len()).rev().max_by(|&a, &b| scores[a].total_cmp(&scores[b]))
}

impl Chooser for ModelChooser {
    fn choose(&mut self, observation: &Observation, options: &[Resources]) -> Option<usize> {
        if self.slow_in_a_row >= SLOW_IN_A_ROW {
            self.slow_in_a_row += 1;
            if !self.slow_in_a_row.is_multiple_of(ASKED_IN) {
                Self::count(&self.counts.slow, "it is slow");
                return None;
            }
        }
        let asked = Instant::now();
        self.set.show(observation, options, &mut self.shown);
        match self.scorer.score(&self.shown, &mut self.scores) {
            Ok(()) => {}
            Err(error @ (ScoreError::BadFeature { .. } | ScoreError::BadScore { .. })) => {
                Self::count(&self.counts.not_a_number, &error.to_string());
                return None;
            }
            Err(error) => {
                Self::count(&self.counts.failed, &error.to_string());
                return None;
            }
        }
        if asked.elapsed() > self.slow {
            self.slow_in_a_row += 1;
            Self::count(&self.counts.slow, "it is slow");
            return None;
        }
        self.slow_in_a_row = 0;
        self.counts.answered.fetch_add(1, Ordering::Relaxed);
        highest(&self.scores)
    }
}
