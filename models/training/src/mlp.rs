//! A multi-layer perceptron: matrices, and tanh between them.
//!
//! **Promises:** the same seed gives the same weights, on every machine; [`Mlp::backward`] is the derivative of
//! [`Mlp::forward`].
//! **Gives up:** speed beyond a plain loop, which is enough for some thousand weights.

use serde::{Deserialize, Serialize};

use crate::chance::Chance;

/// One layer: `outputs = states * weights + biases`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Layer {
    /// How many values come in.
    pub inputs: usize,
    /// How many go out.
    pub outputs: usize,
    /// `inputs` rows of `outputs` values.
    pub weights: Vec<f32>,
    /// One per output.
    pub biases: Vec<f32>,
}

/// Layers with tanh after each but the last.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Mlp {
    layers: Vec<Layer>,
}

/// What a forward pass leaves for the way back: the inputs of each layer.
#[derive(Debug, Clone, Default)]
pub struct Passed(Vec<Vec<f32>>);

impl Mlp {
    /// A network of these widths, from the input to the output, with weights from the seed: uniform within
    /// `sqrt(6 / (inputs + outputs))` as Glorot and Bengio (2010) draw them, small biases. Needs two widths or more,
    /// none of them 0.
    pub fn seeded(widths: &[usize], seed: u64) -> Self {
        assert!(widths.len() >= 2 && !widths.contains(&0), "a network has an input and an output");
        let mut chance = Chance::new(seed);
        let layer = |pair: &[usize]| {
            let (inputs, outputs) = (pair[0], pair[1]);
            let bound = (6.0 / (inputs + outputs) as f32).sqrt();
            Layer {
                inputs,
                outputs,
                weights: (0..inputs * outputs).map(|_| chance.within(bound)).collect(),
                biases: (0..outputs).map(|_| chance.within(0.1)).collect(),
            }
        };
        Self { layers: widths.windows(2).map(layer).collect() }
    }

    /// Of these layers, if each takes what the one before gives.
    pub fn of(layers: Vec<Layer>) -> Option<Self> {
        let fits = layers.windows(2).all(|pair| pair[0].outputs == pair[1].inputs);
        let is_whole = layers.iter().all(|layer| {
            layer.inputs > 0
                && layer.weights.len() == layer.inputs * layer.outputs
                && layer.biases.len() == layer.outputs
        });
        (!layers.is_empty() && fits && is_whole).then_some(Self { layers })
    }

    /// Of the same shape, all weights 0.
    pub fn zeros_like(&self) -> Self {
        let mut zeros = self.clone();
        zeros.values_mut().for_each(|value| *value = 0.0);
        zeros
    }

    /// From the input to the output.
    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// All weights and biases, in one order.
    pub fn values(&self) -> impl Iterator<Item = &f32> {
        self.layers.iter().flat_map(|layer| layer.weights.iter().chain(&layer.biases))
    }

    /// The same, to change them.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut f32> {
        self.layers.iter_mut().flat_map(|layer| layer.weights.iter_mut().chain(&mut layer.biases))
    }

    /// Weights and biases together.
    pub fn parameters(&self) -> usize {
        self.values().count()
    }

    /// Scores that are all nearly 0 at first: then every option is as likely as the next.
    pub fn with_small_output(mut self) -> Self {
        if let Some(last) = self.layers.last_mut() {
            last.weights.iter_mut().for_each(|weight| *weight *= 0.1);
        }
        self
    }

    /// The outputs for any number of states, one after another. What is over after the last whole state is left out.
    pub fn forward(&self, states: &[f32]) -> Vec<f32> {
        self.forward_with(states, &mut Passed::default())
    }

    /// The same, leaving what the way back needs.
    pub fn forward_with(&self, states: &[f32], passed: &mut Passed) -> Vec<f32> {
        let rows = states.len() / self.layers[0].inputs;
        passed.0.resize(self.layers.len(), Vec::new());
        passed.0[0].clear();
        passed.0[0].extend_from_slice(&states[..rows * self.layers[0].inputs]);
        for (index, layer) in self.layers.iter().enumerate() {
            let mut values = layer.forward(&passed.0[index]);
            if index + 1 == self.layers.len() {
                return values;
            }
            values.iter_mut().for_each(|value| *value = value.tanh());
            passed.0[index + 1] = values;
        }
        Vec::new()
    }

    /// Adds to `gradient` (of the same shape) by how much a loss grows with each weight, given by how much it grows with each output of
    /// the pass that left `passed`.
    pub fn backward(&self, passed: &Passed, outputs: &[f32], gradient: &mut Mlp) {
        let mut growth = outputs.to_vec();
        for index in (0..self.layers.len()).rev() {
            let (layer, inputs) = (&self.layers[index], &passed.0[index]);
            let into = &mut gradient.layers[index];
            for (state, out) in inputs.chunks_exact(layer.inputs).zip(growth.chunks_exact(layer.outputs)) {
                for (bias, grows) in into.biases.iter_mut().zip(out) {
                    *bias += grows;
                }
                for (value, row) in state.iter().zip(into.weights.chunks_exact_mut(layer.outputs)) {
                    for (weight, grows) in row.iter_mut().zip(out) {
                        *weight += value * grows;
                    }
                }
            }
            if index == 0 {
                return;
            }
            let mut below = Vec::with_capacity(inputs.len());
            for (state, out) in inputs.chunks_exact(layer.inputs).zip(growth.chunks_exact(layer.outputs)) {
                for (value, row) in state.iter().zip(layer.weights.chunks_exact(layer.outputs)) {
                    let sum: f32 = row.iter().zip(out).map(|(weight, grows)| weight * grows).sum();
                    below.push(sum * (1.0 - value * value));
                }
            }
            growth = below;
        }
    }
}

impl Layer {
    fn forward(&self, states: &[f32]) -> Vec<f32> {
        let mut out = Vec::with_capacity(states.len() / self.inputs * self.outputs);
        for state in states.chunks_exact(self.inputs) {
            let first = out.len();
            out.extend_from_slice(&self.biases);
            for (value, row) in state.iter().zip(self.weights.chunks_exact(self.outputs)) {
                for (sum, weight) in out[first..].iter_mut().zip(row) {
                    *sum += value * weight;
                }
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_published_networks_have_the_published_number_of_parameters() {
        assert_eq!(2 * Mlp::seeded(&[11, 32, 16, 1], 1).parameters(), 1_858);
    }

    #[test]
    fn a_network_small_enough_to_calculate_by_hand() {
        let first = Layer { inputs: 2, outputs: 1, weights: vec![2.0, -1.0], biases: vec![0.5] };
        let last = Layer { inputs: 1, outputs: 2, weights: vec![1.0, 10.0], biases: vec![0.0, 1.0] };
        let network = Mlp { layers: vec![first, last] };
        let hidden = 0.5f32.tanh(); // 1 * 2 - 2 * 1 + 0.5
        assert_eq!(network.forward(&[1.0, 2.0]), vec![hidden, 10.0 * hidden + 1.0]);
        assert_eq!(network.forward(&[1.0, 2.0, 1.0, 2.0, 9.0]).len(), 4, "half a state is left out");
    }

    #[test]
    fn the_seed_is_the_network() {
        let network = Mlp::seeded(&[3, 4, 1], 7);
        assert_eq!(network, Mlp::seeded(&[3, 4, 1], 7));
        assert_ne!(network, Mlp::seeded(&[3, 4, 1], 8));
        let bound = (6.0f32 / 7.0).sqrt();
        assert!(network.layers()[0].weights.iter().all(|weight| weight.abs() <= bound));
    }

    #[test]
    fn the_way_back_is_the_derivative() {
        let mut network = Mlp::seeded(&[3, 5, 4, 2], 9);
        let states: Vec<f32> = (0..12).map(|i| (i as f32 * 0.7).sin()).collect();
        let pull: Vec<f32> = (0..8).map(|i| (i as f32 * 1.3).cos()).collect();
        let loss = |network: &Mlp| -> f64 {
            network.forward(&states).iter().zip(&pull).map(|(out, pull)| f64::from(out * pull)).sum()
        };
        let mut passed = Passed::default();
        network.forward_with(&states, &mut passed);
        let mut gradient = network.zeros_like();
        network.backward(&passed, &pull, &mut gradient);
        let told: Vec<f32> = gradient.values().copied().collect();
        for (place, told) in told.into_iter().enumerate() {
            let step = 1e-2;
            let mut moved = |by: f32| {
                *network.values_mut().nth(place).unwrap() += by;
                let loss = loss(&network);
                *network.values_mut().nth(place).unwrap() -= by;
                loss
            };
            let measured = (moved(step) - moved(-step)) / f64::from(2.0 * step);
            assert!((measured - f64::from(told)).abs() < 2e-3, "{place}: {measured} and {told}");
        }
    }
}
