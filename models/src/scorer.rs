//! A model that scores options.
//!
//! **Knows:** one model file: a network from a vector of the state and one per option to one score per option.
//! **Promises:** a file that is missing, damaged, too large, of another shape, or made for other features is refused
//! with the reason; so is a state or a score that is not a finite number. One call scores all options of a decision.
//! **Gives up:** judging the network. A model file is as trusted as the program: its graph is run as it is.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use ort::session::Session;
use ort::session::builder::{GraphOptimizationLevel, SessionBuilder};
use ort::value::{Outlet, TensorElementType, TensorRef};

use crate::features::{Columns, Shown};
use crate::runtime::Runtime;
use crate::said::said;

/// Name of the model's first input: what is the same for all options, 32-bit floats, `[1, features]`.
pub const STATE: &str = "state";
/// Name of its second: what belongs to each option, 32-bit floats, `[options, features]`, the number of options left open.
pub const OPTIONS: &str = "options";
/// Name of the model's one output: 32-bit floats, `[options, 1]`.
pub const OUTPUT: &str = "scores";
/// Metadata key under which a model names its features, the state's before an option's, separated by commas.
pub const FEATURES_KEY: &str = "windfall.features";
/// The oldest operator set that is taken: the first in which all operators that the trainer writes have the meaning
/// they have today.
pub const OPSET_MIN: u32 = 13;
/// The newest operator set that is taken: what the oldest ONNX Runtime that we load knows.
pub const OPSET_MAX: u32 = 21;
/// Bytes of a model file at most, so that a wrong file name does not fill the memory. The published network has 4 KB.
pub const MODEL_BYTES_MAX: u64 = 16 << 20;
/// Options of one decision at most. The published grid has 64.
pub const OPTIONS_MAX: usize = 4_096;

/// Why a model is not used.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// It cannot be read.
    #[error("the model {} cannot be read: {source}. Name one that is there, or use another allocator", path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// It is larger than [`MODEL_BYTES_MAX`].
    #[error("{} is no allocator model: it has more than {MODEL_BYTES_MAX} bytes", path.display())]
    TooLarge {
        /// Which file.
        path: PathBuf,
    },
    /// ONNX Runtime cannot make anything of it.
    #[error("the model {} is damaged or not in ONNX format: {reason}. Fetch or train it again", path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What ONNX Runtime says.
        reason: String,
    },
    /// It is a model of something else.
    #[error("{} is not a model for this build: {mismatch}. Train one with this build", path.display())]
    Mismatch {
        /// Which file.
        path: PathBuf,
        /// What is different.
        mismatch: String,
    },
}

/// Why there are no scores.
#[derive(Debug, thiserror::Error)]
pub enum ScoreError {
    /// Not one vector of the state; or of options not a whole number, none, or more than [`OPTIONS_MAX`].
    #[error("{values} values are not {vectors} of {features} features")]
    Shape {
        /// How many values came.
        values: usize,
        /// How many vectors they should be.
        vectors: String,
        /// How many make one vector.
        features: usize,
    },
    /// A feature is infinite or not a number.
    #[error("feature '{feature}' {of} is {value}")]
    BadFeature {
        /// The state or which option, from 0.
        of: String,
        /// The feature's name.
        feature: &'static str,
        /// What it is.
        value: f32,
    },
    /// A score is infinite or not a number: the model is broken.
    #[error("the model scores option {option} with {value}; use another model")]
    BadScore {
        /// Which option, from 0.
        option: usize,
        /// What it is.
        value: f32,
    },
    /// ONNX Runtime failed.
    #[error("ONNX Runtime could not run the model: {0}")]
    Runtime(#[from] ort::Error),
    /// The model returned another number of scores than there were options.
    #[error("the model returned {scores} scores for {options} options; use another model")]
    Count {
        /// How many came.
        scores: usize,
        /// How many were asked for.
        options: usize,
    },
}

/// A loaded model. One per thread that decides: scoring needs it exclusively.
#[derive(Debug)]
pub struct Scorer {
    session: Session,
    columns: Columns,
}

impl Scorer {
    /// Loads a model of these features, in this order.
    pub fn load(runtime: &Runtime, path: &Path, columns: Columns) -> Result<Self, ModelError> {
        Self::of_bytes(runtime, path, &read(path)?, columns)
    }

    /// The same, of a model that is no file; `path` is its name in errors.
    pub fn of_bytes(
        runtime: &Runtime,
        path: &Path,
        bytes: &[u8],
        columns: Columns,
    ) -> Result<Self, ModelError> {
        // The other format that ONNX Runtime reads, which it does not check as it checks this one.
        if bytes.get(4..8) == Some(b"ORTM") {
            return Err(ModelError::Damaged { path: path.into(), reason: "this is an ORT file".into() });
        }
        let session = open(runtime, bytes)
            .map_err(|error| ModelError::Damaged { path: path.into(), reason: error.message().into() })?;
        check(runtime, &session, bytes, &columns)
            .map_err(|mismatch| ModelError::Mismatch { path: path.into(), mismatch })?;
        Ok(Self { session, columns })
    }

    /// Scores options. Replaces what is in `scores` with one score per option; after an error it is empty.
    pub fn score(&mut self, shown: &Shown, scores: &mut Vec<f32>) -> Result<(), ScoreError> {
        scores.clear();
        let Columns { of_state, of_option } = &self.columns;
        let options = shown.options.len() / of_option.len().max(1);
        if shown.state.len() != of_state.len() {
            let (values, features) = (shown.state.len(), of_state.len());
            return Err(ScoreError::Shape { values, vectors: "one vector".into(), features });
        }
        if options == 0 || options > OPTIONS_MAX || shown.options.len() != options * of_option.len() {
            let (values, features) = (shown.options.len(), of_option.len());
            return Err(ScoreError::Shape {
                values,
                vectors: format!("1 to {OPTIONS_MAX} vectors"),
                features,
            });
        }
        if !(all_are_finite(&shown.state) && all_are_finite(&shown.options))
            && let Some(bad) = self.bad(shown)
        {
            return Err(bad);
        }
        let state = TensorRef::from_array_view(([1, of_state.len()], &shown.state[..]))?;
        let each = TensorRef::from_array_view(([options, of_option.len()], &shown.options[..]))?;
        let outputs = self.session.run(ort::inputs![state, each])?;
        let (_, found) = outputs[0].try_extract_tensor::<f32>()?;
        if found.len() != options {
            return Err(ScoreError::Count { scores: found.len(), options });
        }
        if let Some(option) = found.iter().position(|value| !value.is_finite()) {
            return Err(ScoreError::BadScore { option, value: found[option] });
        }
        scores.extend_from_slice(found);
        Ok(())
    }

    /// The first in it that is no finite number.
    #[cold]
    fn bad(&self, shown: &Shown) -> Option<ScoreError> {
        let Columns { of_state, of_option } = &self.columns;
        let state = shown.state.iter().zip(of_state).map(|pair| (None, pair));
        let options = shown.options.iter().zip(of_option.iter().cycle()).enumerate();
        let options = options.map(|(at, pair)| (Some(at / of_option.len()), pair));
        let (option, (&value, column)) = state.chain(options).find(|(_, (value, _))| !value.is_finite())?;
        let of = option.map_or_else(|| "of the state".to_owned(), |option| format!("of option {option}"));
        Some(ScoreError::BadFeature { of, feature: column.name, value })
    }
}

/// Without a way out in the middle of it, so that the compiler looks at several values at once: a tenth of a decision otherwise.
fn all_are_finite(values: &[f32]) -> bool {
    const EXPONENT: u32 = 0x7f80_0000;
    values.iter().fold(true, |all, value| all & (value.to_bits() & EXPONENT != EXPONENT))
}

fn read(path: &Path) -> Result<Vec<u8>, ModelError> {
    let unreadable = |source| ModelError::Unreadable { path: path.into(), source };
    let file = File::open(path).map_err(unreadable)?;
    let mut bytes = Vec::new();
    file.take(MODEL_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > MODEL_BYTES_MAX {
        return Err(ModelError::TooLarge { path: path.into() });
    }
    Ok(bytes)
}

/// One thread: a network of a thousand weights is done before a second one has woken up.
fn open(runtime: &Runtime, bytes: &[u8]) -> ort::Result<Session> {
    fn plain(error: ort::Error<SessionBuilder>) -> ort::Error {
        ort::Error::new(error.message())
    }
    if runtime.is_tract() {
        return Session::builder(runtime.environment())?
            .with_optimization_level(GraphOptimizationLevel::Level3)
            .map_err(plain)?
            .commit_from_memory(bytes);
    }
    Session::builder(runtime.environment())?
        .with_intra_threads(1)
        .map_err(plain)?
        .with_inter_threads(1)
        .map_err(plain)?
        .commit_from_memory(bytes)
}

fn check(runtime: &Runtime, session: &Session, bytes: &[u8], columns: &Columns) -> Result<(), String> {
    let (opset, named) = if runtime.is_tract() {
        let said = said(bytes, FEATURES_KEY).unwrap_or_default();
        (said.opset, said.value)
    } else {
        let data = session.metadata().ok();
        let named = data.and_then(|data| data.custom(FEATURES_KEY));
        (session.opset_for_domain(ort::editor::ONNX_DOMAIN).unwrap_or(0), named)
    };
    let named = named.unwrap_or_default();
    if !(OPSET_MIN..=OPSET_MAX).contains(&opset) {
        return Err(format!("its operator set is {opset}, and {OPSET_MIN} to {OPSET_MAX} are known"));
    }
    let (of_state, of_option) = (columns.of_state.len() as i64, columns.of_option.len() as i64);
    are(session.inputs(), "input", &[(STATE, &[&[1, of_state]]), (OPTIONS, &[&[-1, of_option]])])?;
    are(session.outputs(), "output", &[(OUTPUT, &[&[-1, 1], &[-1]])])?;
    let features = columns.names().join(",");
    if named != features {
        return Err(format!("it was made for the features '{named}', and these are '{features}'"));
    }
    Ok(())
}

/// That there are these and no others, in this order: of this name, of 32-bit floats, in one of these shapes (-1: open).
fn are(found: &[Outlet], what: &str, wanted: &[(&str, &[&[i64]])]) -> Result<(), String> {
    if found.len() != wanted.len() {
        return Err(format!("its {what}s are {} and not {}", found.len(), wanted.len()));
    }
    for (outlet, (name, shapes)) in found.iter().zip(wanted) {
        if outlet.name() != *name {
            return Err(format!("its {what} is called '{}' and not '{name}'", outlet.name()));
        }
        let floats = outlet.dtype().tensor_type() == Some(TensorElementType::Float32);
        let shape = outlet.dtype().tensor_shape();
        if !floats || !shape.is_some_and(|shape| shapes.contains(&&shape[..])) {
            return Err(format!(
                "its {what} '{name}' is {} and not 32-bit floats of shape {:?}",
                outlet.dtype(),
                shapes[0]
            ));
        }
    }
    Ok(())
}
