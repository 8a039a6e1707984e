//! A network as an ONNX file.
//!
//! **Knows:** a perceptron, the names of its features and their scales; which nodes are made of them ([`graph`]), which bytes of
//! those ([`proto`]).
//! **Promises:** inputs, output, names and metadata as [`models::Scorer`] asks for them; scales are part of the graph, so that a
//! model is shown values as they are; what was written can be read back to the bit ([`read_model`]).
//! **Gives up:** reading files of others.

mod graph;
mod proto;

use models::FEATURES_KEY;
use models::features::Columns;
use prost::Message;

use crate::{Layer, Mlp};
use proto::{ModelProto, OperatorSetIdProto, StringStringEntryProto, TensorProto};

/// The operator set that is written: all operators of it that are used are as they have been since 14.
pub const OPSET: i64 = 17;

/// The version of the file format that belongs to operator set 17.
const IR_VERSION: i64 = 8;

/// The file for a network that scores options by these features. Its first layer has an input for each of them, the state's before an
/// option's, and was trained on scaled values.
pub fn model_bytes(network: &Mlp, columns: &Columns) -> Vec<u8> {
    let model = ModelProto {
        ir_version: IR_VERSION,
        producer_name: "windfall".into(),
        producer_version: env!("CARGO_PKG_VERSION").into(),
        graph: Some(graph::of(network, columns)),
        opset_import: vec![OperatorSetIdProto { domain: String::new(), version: OPSET }],
        metadata_props: vec![StringStringEntryProto {
            key: FEATURES_KEY.into(),
            value: columns.names().join(","),
        }],
    };
    model.encode_to_vec()
}

/// Why a file cannot be read back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotOurs(
    /// What is different.
    pub String,
);

impl std::fmt::Display for NotOurs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "this is no model that was written here: {}", self.0)
    }
}

impl std::error::Error for NotOurs {}

/// The network in a file that [`model_bytes`] wrote, and the names of its features: to be trained further, or to score where there is
/// no ONNX Runtime.
pub fn read_model(bytes: &[u8]) -> Result<(Mlp, Vec<String>), NotOurs> {
    let not = |what: &str| NotOurs(what.to_owned());
    let model = ModelProto::decode(bytes).map_err(|error| NotOurs(error.to_string()))?;
    let graph = model.graph.ok_or_else(|| not("it has no graph"))?;
    let named = |name: String| graph.initializer.iter().find(move |tensor| tensor.name == name);
    let floats = |tensor: &TensorProto| -> Vec<f32> {
        let words = tensor.raw_data.chunks_exact(4);
        words.map(|word| f32::from_le_bytes([word[0], word[1], word[2], word[3]])).collect()
    };
    let mut layers = Vec::new();
    while let (Some(weights), Some(biases)) =
        (named(format!("weights_{}", layers.len())), named(format!("biases_{}", layers.len())))
    {
        let [inputs, outputs] = weights.dims[..] else { return Err(not("weights are no matrix")) };
        let (inputs, outputs) = (inputs.max(0) as usize, outputs.max(0) as usize);
        let layer = Layer { inputs, outputs, weights: floats(weights), biases: floats(biases) };
        if layer.weights.len() != inputs.saturating_mul(outputs) || layer.biases.len() != outputs {
            return Err(not("weights are missing"));
        }
        layers.push(layer);
    }
    let network = Mlp::of(layers).ok_or_else(|| not("its layers do not fit together"))?;
    let listed = model.metadata_props.iter().find(|property| property.key == FEATURES_KEY);
    let features = listed.ok_or_else(|| not("it does not name its features"))?;
    Ok((network, features.value.split(',').map(ToOwned::to_owned).collect()))
}
