//! What has been learned: a network that scores ways to allocate, and how it is asked.
//!
//! **Knows:** where ONNX Runtime may lie on a machine, what a model file must look like, and which features a model
//! is shown.
//! **Promises:** nothing here brings the process down: a missing or old library, a missing, damaged or foreign model
//! file, a state or a score that is not a number are errors that say what to do next.
//! **Gives up:** what is on offer, and what happens when there is no answer: that is `policies::allocation::learned`.
//!
//! ONNX Runtime is a shared library that is looked for when it is first needed (`places`), held against what it must
//! be before it is loaded (`library`), and loaded once per process ([`Runtime`]). A [`Scorer`] holds one model. A model
//! is written and trained in `models/training`.

mod chooser;
pub mod features;
mod library;
mod places;
mod runtime;
mod said;
mod scorer;

pub use chooser::{ANSWERS_WITHIN, Counts, ModelChooser, highest};
pub use library::BadLibrary;
pub use places::{PACKAGE, Places, SETTING};
pub use runtime::{Runtime, RuntimeError, TRACT};
pub use scorer::{
    FEATURES_KEY, MODEL_BYTES_MAX, ModelError, OPSET_MAX, OPSET_MIN, OPTIONS, OPTIONS_MAX, OUTPUT, STATE,
    ScoreError, Scorer,
};
