//! How weights follow a gradient: Adam (Kingma and Ba, 2015).
//!
//! **Promises:** equal steps from equal states; a gradient that is too long is shortened first.
//! **Gives up:** weight decay.

use serde::{Deserialize, Serialize};

use crate::Mlp;

const MEAN: f32 = 0.9;
const SQUARE: f32 = 0.999;
const TINY: f32 = 1e-8;
/// Longer gradients are shortened to this.
const LENGTH: f32 = 0.5;

/// The memory of one network's steps.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Adam {
    steps: u32,
    means: Mlp,
    squares: Mlp,
}

impl Adam {
    /// Before the first step.
    pub fn new(network: &Mlp) -> Self {
        Self { steps: 0, means: network.zeros_like(), squares: network.zeros_like() }
    }

    /// One step downhill. Returns the gradient's length before it was shortened.
    pub fn step(&mut self, network: &mut Mlp, gradient: &Mlp, rate: f32) -> f32 {
        self.steps += 1;
        let length = gradient.values().map(|value| value * value).sum::<f32>().sqrt();
        if !length.is_finite() {
            return length;
        }
        let shorter = (LENGTH / length.max(LENGTH)).min(1.0);
        let times = self.steps.min(i32::MAX as u32) as i32;
        let (of_mean, of_square) = (1.0 - MEAN.powi(times), 1.0 - SQUARE.powi(times));
        let memory = self.means.values_mut().zip(self.squares.values_mut());
        for ((weight, (mean, square)), grows) in network.values_mut().zip(memory).zip(gradient.values()) {
            let grows = grows * shorter;
            *mean = MEAN * *mean + (1.0 - MEAN) * grows;
            *square = SQUARE * *square + (1.0 - SQUARE) * grows * grows;
            *weight -= rate * (*mean / of_mean) / ((*square / of_square).sqrt() + TINY);
        }
        length
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parabola_is_walked_down() {
        let mut network = Mlp::seeded(&[1, 1], 1);
        let mut adam = Adam::new(&network);
        for _ in 0..2_000 {
            // The loss is the sum of squares of all weights, less 2 each.
            let mut gradient = network.clone();
            gradient.values_mut().for_each(|value| *value = 2.0 * (*value - 2.0));
            adam.step(&mut network, &gradient, 0.01);
        }
        assert!(network.values().all(|value| (value - 2.0).abs() < 0.01), "{network:?}");
    }

    #[test]
    fn a_gradient_that_is_not_a_number_changes_nothing() {
        let mut network = Mlp::seeded(&[1, 1], 1);
        let (before, mut adam) = (network.clone(), Adam::new(&network));
        let mut gradient = network.clone();
        gradient.values_mut().for_each(|value| *value = f32::NAN);
        assert!(adam.step(&mut network, &gradient, 0.01).is_nan());
        assert_eq!(network, before);
    }
}
