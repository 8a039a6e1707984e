//! Makes models: a small network, and the file in which ONNX Runtime reads it.
//!
//! **Knows:** the published shape of the network (11-32-16-1, tanh), and the parts of the ONNX format that it needs.
//! **Promises:** what is written is what [`models::Scorer`] takes, and scores as [`Mlp::forward`] does.
//! **Gives up:** learning: weights are drawn from a seed here.

mod mlp;
mod onnx;

pub use mlp::{Layer, Mlp};
pub use onnx::{OPSET, model_bytes};
