//! A network as an ONNX file.
//!
//! **Knows:** the messages of `onnx.proto` that a perceptron needs, with their field numbers; fields that we never
//! write are left out.
//! **Promises:** one input, one output, names and metadata as [`models::Scorer`] asks for them; scales are part of the graph, so that a
//! model is shown values as they are; what was written can be read back ([`read_model`]).
//! **Gives up:** reading files of others, and every operator but the eight it needs.

use models::features::Scale;
use models::{FEATURES_KEY, INPUT, OUTPUT};
use prost::Message;

use crate::{Layer, Mlp};

/// The operator set that is written: all operators of it that are used are as they have been since 14.
pub const OPSET: i64 = 17;

/// The version of the file format that belongs to operator set 17.
const IR_VERSION: i64 = 8;

/// 32-bit floats, in `TensorProto.DataType`.
const FLOAT: i32 = 1;

/// The file for a network that scores options with these features, in this order. The network's first layer has as
/// many inputs as there are features. With scales (one for each feature) the network is shown scaled values.
pub fn model_bytes(network: &Mlp, features: &[&str], scales: &[Scale]) -> Vec<u8> {
    let outputs = network.layers().last().map_or(0, |layer| layer.outputs);
    let model = ModelProto {
        ir_version: IR_VERSION,
        producer_name: "windfall".into(),
        producer_version: env!("CARGO_PKG_VERSION").into(),
        graph: Some(graph(network, features.len(), outputs, scales)),
        opset_import: vec![OperatorSetIdProto { domain: String::new(), version: OPSET }],
        metadata_props: vec![StringStringEntryProto { key: FEATURES_KEY.into(), value: features.join(",") }],
    };
    model.encode_to_vec()
}

/// What [`Scale::of`] does, for all features at once: `min(linear * x + out * ln(1 + x * in), 1)` with x not below 0, where either
/// `linear` or `out` is 0. Returns the name of what comes out.
fn add_scales(graph: &mut GraphProto, scales: &[Scale]) -> String {
    if scales.is_empty() {
        return INPUT.to_owned();
    }
    let constants = |of: fn(&Scale) -> f32| scales.iter().map(of).collect::<Vec<f32>>();
    let linear = constants(|scale| match *scale {
        Scale::Linear { full } => 1.0 / full,
        Scale::Logarithmic { .. } => 0.0,
    });
    let into = constants(|scale| match *scale {
        Scale::Linear { .. } => 0.0,
        Scale::Logarithmic { one, .. } => 1.0 / one,
    });
    let out = constants(|scale| match *scale {
        Scale::Linear { .. } => 0.0,
        Scale::Logarithmic { one, full } => 1.0 / (full / one).ln_1p(),
    });
    let width = scales.len();
    for (name, values) in [("scale_linear", &linear), ("scale_in", &into), ("scale_out", &out)] {
        graph.initializer.push(tensor(name, &[width], values));
    }
    graph.initializer.push(tensor("one", &[1], &[1.0]));
    for (operator, inputs, output) in [
        ("Relu", vec![INPUT], "not_below_0"),
        ("Mul", vec!["not_below_0", "scale_linear"], "by_difference"),
        ("Mul", vec!["not_below_0", "scale_in"], "in_units"),
        ("Add", vec!["in_units", "one"], "and_one"),
        ("Log", vec!["and_one"], "logarithm"),
        ("Mul", vec!["logarithm", "scale_out"], "by_ratio"),
        ("Add", vec!["by_difference", "by_ratio"], "either"),
        ("Min", vec!["either", "one"], "scaled"),
    ] {
        graph.node.push(node(operator, &inputs, output));
    }
    "scaled".to_owned()
}

fn graph(network: &Mlp, inputs: usize, outputs: usize, scales: &[Scale]) -> GraphProto {
    let mut graph = GraphProto {
        name: "allocator".into(),
        input: vec![values(INPUT, inputs)],
        output: vec![values(OUTPUT, outputs)],
        ..GraphProto::default()
    };
    let mut from = add_scales(&mut graph, scales);
    for (index, layer) in network.layers().iter().enumerate() {
        let (weights, biases) = (format!("weights_{index}"), format!("biases_{index}"));
        graph.initializer.push(tensor(&weights, &[layer.inputs, layer.outputs], &layer.weights));
        graph.initializer.push(tensor(&biases, &[layer.outputs], &layer.biases));
        let is_last = index + 1 == network.layers().len();
        let sum = if is_last { OUTPUT.to_owned() } else { format!("sum_{index}") };
        graph.node.push(node("Gemm", &[&from, &weights, &biases], &sum));
        if is_last {
            break;
        }
        from = format!("hidden_{index}");
        graph.node.push(node("Tanh", &[&sum], &from));
    }
    graph
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

fn node(operator: &str, inputs: &[&str], output: &str) -> NodeProto {
    NodeProto {
        input: inputs.iter().map(ToString::to_string).collect(),
        output: vec![output.into()],
        name: format!("{operator}_{output}"),
        op_type: operator.into(),
    }
}

fn tensor(name: &str, dims: &[usize], values: &[f32]) -> TensorProto {
    TensorProto {
        dims: dims.iter().map(|&dim| dim as i64).collect(),
        data_type: FLOAT,
        name: name.into(),
        raw_data: values.iter().flat_map(|value| value.to_le_bytes()).collect(),
    }
}

/// `[options, width]`, the number of options left open.
fn values(name: &str, width: usize) -> ValueInfoProto {
    let dims = vec![
        Dimension { value: Some(DimensionValue::Param("options".into())) },
        Dimension { value: Some(DimensionValue::Value(width as i64)) },
    ];
    let tensor_type = TensorTypeProto { elem_type: FLOAT, shape: Some(TensorShapeProto { dim: dims }) };
    ValueInfoProto { name: name.into(), r#type: Some(TypeProto { tensor_type: Some(tensor_type) }) }
}

#[derive(Clone, PartialEq, Message)]
struct ModelProto {
    #[prost(int64, tag = "1")]
    ir_version: i64,
    #[prost(string, tag = "2")]
    producer_name: String,
    #[prost(string, tag = "3")]
    producer_version: String,
    #[prost(message, optional, tag = "7")]
    graph: Option<GraphProto>,
    #[prost(message, repeated, tag = "8")]
    opset_import: Vec<OperatorSetIdProto>,
    #[prost(message, repeated, tag = "14")]
    metadata_props: Vec<StringStringEntryProto>,
}

#[derive(Clone, PartialEq, Message)]
struct OperatorSetIdProto {
    #[prost(string, tag = "1")]
    domain: String,
    #[prost(int64, tag = "2")]
    version: i64,
}

#[derive(Clone, PartialEq, Message)]
struct StringStringEntryProto {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(string, tag = "2")]
    value: String,
}

#[derive(Clone, PartialEq, Message)]
struct GraphProto {
    #[prost(message, repeated, tag = "1")]
    node: Vec<NodeProto>,
    #[prost(string, tag = "2")]
    name: String,
    #[prost(message, repeated, tag = "5")]
    initializer: Vec<TensorProto>,
    #[prost(message, repeated, tag = "11")]
    input: Vec<ValueInfoProto>,
    #[prost(message, repeated, tag = "12")]
    output: Vec<ValueInfoProto>,
}

#[derive(Clone, PartialEq, Message)]
struct NodeProto {
    #[prost(string, repeated, tag = "1")]
    input: Vec<String>,
    #[prost(string, repeated, tag = "2")]
    output: Vec<String>,
    #[prost(string, tag = "3")]
    name: String,
    #[prost(string, tag = "4")]
    op_type: String,
}

#[derive(Clone, PartialEq, Message)]
struct TensorProto {
    #[prost(int64, repeated, tag = "1")]
    dims: Vec<i64>,
    #[prost(int32, tag = "2")]
    data_type: i32,
    #[prost(string, tag = "8")]
    name: String,
    #[prost(bytes = "vec", tag = "9")]
    raw_data: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct ValueInfoProto {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "2")]
    r#type: Option<TypeProto>,
}

#[derive(Clone, PartialEq, Message)]
struct TypeProto {
    #[prost(message, optional, tag = "1")]
    tensor_type: Option<TensorTypeProto>,
}

#[derive(Clone, PartialEq, Message)]
struct TensorTypeProto {
    #[prost(int32, tag = "1")]
    elem_type: i32,
    #[prost(message, optional, tag = "2")]
    shape: Option<TensorShapeProto>,
}

#[derive(Clone, PartialEq, Message)]
struct TensorShapeProto {
    #[prost(message, repeated, tag = "1")]
    dim: Vec<Dimension>,
}

#[derive(Clone, PartialEq, Message)]
struct Dimension {
    #[prost(oneof = "DimensionValue", tags = "1, 2")]
    value: Option<DimensionValue>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum DimensionValue {
    #[prost(int64, tag = "1")]
    Value(i64),
    #[prost(string, tag = "2")]
    Param(String),
}
