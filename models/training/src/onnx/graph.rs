//! Which nodes a network is made of.
//!
//! **Knows:** what ONNX Runtime takes long for, by its own profile of a decision over 64 options: a constant for each column costs it about as
//! much for each *row* as the arithmetic does, and a logarithm of 1,920 values as much as all matrices.
//! **Promises:** what `models::features::Scale::of` does with values between 0 and a scale's end, to the last bits (whoever shows values cuts them off: an
//! operator for it costs another twentieth). What is the same for all options of a decision is scaled and multiplied once, and where every row has its own
//! values a constant for each column is a matrix, which costs a third of the product that is meant. Weights stand here as they were learned; what scales
//! make of them is worked out when a model is loaded.
//! **Gives up:** more than one state in a question.

use models::features::{Column, Columns};
use models::{OPTIONS, OUTPUT, STATE};

use super::proto::{
    Dimension, DimensionValue, GraphProto, NodeProto, TensorProto, TensorShapeProto, TensorTypeProto,
    TypeProto, ValueInfoProto,
};
use crate::Mlp;

/// 32-bit floats and 64-bit numbers, in `TensorProto.DataType`.
const FLOAT: i32 = 1;
const INT64: i32 = 7;

/// The graph of a network of these features.
pub fn of(network: &Mlp, columns: &Columns) -> GraphProto {
    let mut graph = GraphProto {
        name: "allocator".into(),
        input: vec![
            values(STATE, Rows::One, columns.of_state.len()),
            values(OPTIONS, Rows::ForEachOption, columns.of_option.len()),
        ],
        output: vec![values(
            OUTPUT,
            Rows::ForEachOption,
            network.layers().last().map_or(0, |layer| layer.outputs),
        )],
        ..GraphProto::default()
    };
    let mut from = String::new();
    for (index, layer) in network.layers().iter().enumerate() {
        let (weights, biases) = (format!("weights_{index}"), format!("biases_{index}"));
        graph.initializer.push(tensor(&weights, &[layer.inputs, layer.outputs], &layer.weights));
        graph.initializer.push(tensor(&biases, &[layer.outputs], &layer.biases));
        let is_last = index + 1 == network.layers().len();
        let sum = if is_last { OUTPUT.to_owned() } else { format!("sum_{index}") };
        if index == 0 {
            let states = columns.of_state.len();
            add_part(&mut graph, STATE, &columns.of_state, 0, &biases, "state_sum");
            add_part(&mut graph, OPTIONS, &columns.of_option, states, "state_sum", &sum);
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

/// What one input adds to the first layer: the logarithm of one more than what each value is in its unit, by its part of the weights (the rows from
/// `first` on), divided by the logarithm of where its scale ends.
fn add_part(graph: &mut GraphProto, input: &str, columns: &[Column], first: usize, before: &str, sum: &str) {
    let name = |what: &str| format!("{input}_{what}");
    let width = columns.len();
    let mut in_units = vec![0.0; width * width];
    for (place, Column { scale, .. }) in columns.iter().enumerate() {
        in_units[place * width + place] = 1.0 / scale.one;
    }
    let of_full = |column: &Column| 1.0 / (column.scale.full / column.scale.one).ln_1p();
    let of_full: Vec<f32> = columns.iter().map(of_full).collect();
    graph.initializer.extend([
        numbers(&name("rows_from"), &[first as i64]),
        numbers(&name("rows_to"), &[(first + width) as i64]),
        tensor(&name("in_units"), &[width, width], &in_units),
        tensor(&name("and_one"), &[width], &vec![1.0; width]),
        tensor(&name("of_full"), &[width, 1], &of_full),
    ]);
    for (operator, inputs, output) in [
        // Of constants only, so these two are gone once a model is loaded.
        ("Slice", ["weights_0", &name("rows_from"), &name("rows_to")].as_slice(), name("rows")),
        ("Mul", &[&name("rows"), &name("of_full")], name("weights")),
        ("Gemm", &[input, &name("in_units"), &name("and_one")], name("units_and_one")),
        ("Log", &[&name("units_and_one")], name("logarithm")),
        ("Gemm", &[&name("logarithm"), &name("weights"), before], sum.to_owned()),
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

fn numbers(name: &str, values: &[i64]) -> TensorProto {
    TensorProto {
        dims: vec![values.len() as i64],
        data_type: INT64,
        name: name.into(),
        raw_data: values.iter().flat_map(|value| value.to_le_bytes()).collect(),
    }
}

/// How many rows a matrix has.
enum Rows {
    One,
    ForEachOption,
}

/// A matrix of 32-bit floats.
fn values(name: &str, rows: Rows, width: usize) -> ValueInfoProto {
    let rows = match rows {
        Rows::One => DimensionValue::Value(1),
        Rows::ForEachOption => DimensionValue::Param("options".into()),
    };
    let dim = [rows, DimensionValue::Value(width as i64)];
    let dim = dim.into_iter().map(|value| Dimension { value: Some(value) }).collect();
    let tensor_type = TensorTypeProto { elem_type: FLOAT, shape: Some(TensorShapeProto { dim }) };
    ValueInfoProto { name: name.into(), r#type: Some(TypeProto { tensor_type: Some(tensor_type) }) }
}
