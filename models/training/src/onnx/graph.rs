//! Which nodes a network is made of.
//!
//! **Knows:** what ONNX Runtime takes long for, by its own profile of a decision over 64 options: a constant for each column costs it about as
//! much for each *row* as the arithmetic does, and a logarithm of 1,920 values as much as all matrices.
//! **Promises:** what [`Scale::of`] does, to the last bits. What is the same for all options of a decision is scaled and multiplied once, of the
//! first row, and where every row has its own values a constant for each column is a matrix, which costs a third of the product that is
//! meant. Weights stand here as they were learned; what scales make of them is worked out when a model is loaded.
//! **Gives up:** states that differ between the options of one decision: those of the first stand for all.

use models::features::{Scale, Scales};
use models::{INPUT, OUTPUT};

use super::proto::{
    AttributeProto, Dimension, DimensionValue, GraphProto, NodeProto, TensorProto, TensorShapeProto,
    TensorTypeProto, TypeProto, ValueInfoProto,
};
use crate::{Layer, Mlp};

/// 32-bit floats and 64-bit numbers, in `TensorProto.DataType`.
const FLOAT: i32 = 1;
const INT64: i32 = 7;
/// A 32-bit float, in `AttributeProto.AttributeType`.
const ATTRIBUTE_FLOAT: i32 = 1;

/// The graph of a network, with scales before its first layer if there are any.
pub fn of(network: &Mlp, scales: &Scales) -> GraphProto {
    let layers = network.layers();
    let ends = |layer: Option<&Layer>, width: fn(&Layer) -> usize| layer.map_or(0, width);
    let mut graph = GraphProto {
        name: "allocator".into(),
        input: vec![values(INPUT, ends(layers.first(), |layer| layer.inputs))],
        output: vec![values(OUTPUT, ends(layers.last(), |layer| layer.outputs))],
        ..GraphProto::default()
    };
    let mut from = INPUT.to_owned();
    for (index, layer) in layers.iter().enumerate() {
        let (weights, biases) = (format!("weights_{index}"), format!("biases_{index}"));
        graph.initializer.push(tensor(&weights, &[layer.inputs, layer.outputs], &layer.weights));
        graph.initializer.push(tensor(&biases, &[layer.outputs], &layer.biases));
        let is_last = index + 1 == layers.len();
        let sum = if is_last { OUTPUT.to_owned() } else { format!("sum_{index}") };
        if index == 0 && !scales.of_options.is_empty() {
            add_scaled_layer(&mut graph, scales, &sum);
        } else {
            graph.node.push(node("Gemm", &[&from, &weights, &biases], &sum));
        }
        if is_last {
            break;
        }
        from = format!("hidden_{index}");
        graph.node.push(node("Tanh", &[&sum], &from));
    }
    graph
}

/// The first layer with scales before it. Of a share of what becomes 1, cut off at 0 and 1, `[state, 1]` and `[options, 1]` take the logarithm
/// of what it is in units, where its scale is one, and itself, where it is not: each by its own part of the weights.
fn add_scaled_layer(graph: &mut GraphProto, scales: &Scales, sum: &str) {
    let (states, options) = (scales.of_states.len(), scales.of_options.len());
    graph.initializer.push(numbers("first_of_state", &[0, 0]));
    graph.initializer.push(numbers("end_of_state", &[1, states as i64]));
    graph.node.push(node("Slice", &[INPUT, "first_of_state", "end_of_state"], "state"));
    graph.initializer.push(tensor(
        "state_of_full",
        &[states, states],
        &picking(0, &of_full(&scales.of_states)),
    ));
    graph.node.push(node("Gemm", &["state", "state_of_full"], "state_share"));
    add_part(graph, "state", &scales.of_states, 0, "biases_0", "state_sum");

    let picked = picking(states, &of_full(&scales.of_options));
    graph.initializer.push(tensor("option_of_full", &[states + options, options], &picked));
    graph.node.push(node("Gemm", &[INPUT, "option_of_full"], "option_share"));
    add_part(graph, "option", &scales.of_options, states, "state_sum", sum);
}

/// A matrix that leaves so many columns out and multiplies each of the others by its factor.
fn picking(left_out: usize, factors: &[f32]) -> Vec<f32> {
    let width = factors.len();
    let mut matrix = vec![0.0; (left_out + width) * width];
    for (column, &factor) in factors.iter().enumerate() {
        matrix[(left_out + column) * width + column] = factor;
    }
    matrix
}

/// One over what becomes 1.
fn of_full(scales: &[Scale]) -> Vec<f32> {
    let full = |scale: &Scale| match *scale {
        Scale::Linear { full } | Scale::Logarithmic { full, .. } => 1.0 / full,
    };
    scales.iter().map(full).collect()
}

/// From `..._share` to `sum`: what these columns, from `first` on, add to the first layer.
fn add_part(graph: &mut GraphProto, of: &str, scales: &[Scale], first: usize, before: &str, sum: &str) {
    let name = |what: &str| format!("{of}_{what}");
    let width = scales.len();
    let each = |of: fn(&Scale) -> f32| scales.iter().map(of).collect::<Vec<f32>>();
    let units = each(|scale| match *scale {
        Scale::Linear { .. } => 0.0,
        Scale::Logarithmic { one, full } => full / one,
    });
    let by_logarithm = each(|scale| match *scale {
        Scale::Linear { .. } => 0.0,
        Scale::Logarithmic { one, full } => 1.0 / (full / one).ln_1p(),
    });
    let by_itself = each(|scale| f32::from(u8::from(matches!(scale, Scale::Linear { .. }))));
    graph.initializer.extend([
        numbers(&name("rows_from"), &[first as i64]),
        numbers(&name("rows_to"), &[(first + width) as i64]),
        tensor(&name("in_units"), &[width, width], &picking(0, &units)),
        tensor(&name("and_one"), &[width], &vec![1.0; width]),
        tensor(&name("by_logarithm"), &[width, 1], &by_logarithm),
        tensor(&name("by_itself"), &[width, 1], &by_itself),
    ]);
    for (operator, inputs, output) in [
        // Of constants only, so these three are gone once a model is loaded.
        ("Slice", ["weights_0", &name("rows_from"), &name("rows_to")].as_slice(), name("weights")),
        ("Mul", &[&name("weights"), &name("by_logarithm")], name("logarithm_weights")),
        ("Mul", &[&name("weights"), &name("by_itself")], name("itself_weights")),
        ("HardSigmoid", &[&name("share")], name("cut")),
        ("Gemm", &[&name("cut"), &name("in_units"), &name("and_one")], name("units_and_one")),
        ("Log", &[&name("units_and_one")], name("logarithm")),
        ("Gemm", &[&name("logarithm"), &name("logarithm_weights"), before], name("logarithm_sum")),
        ("Gemm", &[&name("cut"), &name("itself_weights"), &name("logarithm_sum")], sum.to_owned()),
    ] {
        graph.node.push(node(operator, inputs, &output));
    }
}

fn node(operator: &str, inputs: &[&str], output: &str) -> NodeProto {
    NodeProto {
        input: inputs.iter().map(ToString::to_string).collect(),
        output: vec![output.into()],
        name: format!("{operator}_{output}"),
        op_type: operator.into(),
        // `alpha * x + beta`, cut off at 0 and 1: as an activation it is part of the product before it, which a Clip never is.
        attribute: if operator == "HardSigmoid" {
            vec![float("alpha", 1.0), float("beta", 0.0)]
        } else {
            Vec::new()
        },
    }
}

fn float(name: &str, value: f32) -> AttributeProto {
    AttributeProto { name: name.into(), f: Some(value), r#type: ATTRIBUTE_FLOAT }
}

fn tensor(name: &str, dims: &[usize], values: &[f32]) -> TensorProto {
    TensorProto {
        dims: dims.iter().map(|&dim| dim as i64).collect(),
        data_type: FLOAT,
        name: name.into(),
        raw_data: values.iter().flat_map(|value| value.to_le_bytes()).collect(),
    }
}

fn numbers(name: &str, values: &[i64]) -> TensorProto {
    TensorProto {
        dims: vec![values.len() as i64],
        data_type: INT64,
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
