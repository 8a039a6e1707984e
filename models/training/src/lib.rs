//! Trains models, and writes them as ONNX Runtime reads them.
//!
//! **Knows:** the published shape of the network (32 and 16 between input and output, tanh), proximal policy optimisation, houses
//! that are drawn by chance or play what a cluster recorded, and the parts of the ONNX format that such a network needs.
//! **Promises:** the same plan trains the same network; what is written is what [`models::Scorer`] takes, and scores as
//! [`Mlp::forward`] does.
//! **Gives up:** more than one core has for the lessons themselves; only houses are played on several.

mod adam;
pub mod allocators;
mod chance;
pub mod course;
mod curve;
pub mod episode;
pub mod judged;
mod mlp;
mod onnx;
pub mod ppo;
pub mod replay;
pub mod school;

pub use curve::curve_svg;
pub use mlp::{Layer, Mlp};
pub use onnx::{NotOurs, OPSET, model_bytes, read_model};
