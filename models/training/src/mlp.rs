//! A multi-layer perceptron: matrices, and tanh between them.
//!
//! **Promises:** the same seed gives the same weights, on every machine.
//! **Gives up:** speed beyond a plain loop, which is enough for a thousand weights.

/// One layer: `outputs = states * weights + biases`.
#[derive(Debug, Clone, PartialEq)]
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
#[derive(Debug, Clone, PartialEq)]
pub struct Mlp {
    layers: Vec<Layer>,
}

impl Mlp {
    /// A network of these widths, from the input to the output, with weights from the seed: uniform within
    /// `sqrt(6 / (inputs + outputs))` as Glorot and Bengio (2010) draw them, small biases. Needs two widths or more,
    /// none of them 0.
    pub fn seeded(widths: &[usize], seed: u64) -> Self {
        assert!(widths.len() >= 2 && !widths.contains(&0), "a network has an input and an output");
        let mut chance = Chance(seed);
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

    /// From the input to the output.
    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// Weights and biases together.
    pub fn parameters(&self) -> usize {
        self.layers.iter().map(|layer| layer.weights.len() + layer.biases.len()).sum()
    }

    /// The outputs for any number of states, one after another. What is over after the last whole state is left out.
    pub fn forward(&self, states: &[f32]) -> Vec<f32> {
        let rows = states.len() / self.layers[0].inputs;
        let mut values = states[..rows * self.layers[0].inputs].to_vec();
        for (index, layer) in self.layers.iter().enumerate() {
            values = layer.forward(&values);
            if index + 1 < self.layers.len() {
                values.iter_mut().for_each(|value| *value = value.tanh());
            }
        }
        values
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

/// SplitMix64 (Steele, Lea and Flood, 2014): small, and the same everywhere.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Between `-bound` and `bound`.
    fn within(&mut self, bound: f32) -> f32 {
        // 24 bits are what an f32 holds without rounding.
        let unit = (self.next() >> 40) as f32 / (1u32 << 24) as f32;
        (2.0 * unit - 1.0) * bound
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
}
