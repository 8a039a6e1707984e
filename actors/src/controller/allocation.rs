//! The allocator that the settings name.
//!
//! **Knows:** `controller.allocation`, `controller.model`, and where ONNX Runtime may lie.
//! **Promises:** a model that is missing, damaged, of another shape or made for other features ends the start with the reason. Where
//! there is no ONNX Runtime `profile` decides, which is said loudly: the calls of a house do not wait for a library. Why a
//! running model gave no answer is counted.
//! **Gives up:** a model in the binary: it is a file, so that another can be put in its place; and one that comes while it runs, which
//! [`model`](super::model) sees to.

use std::sync::Arc;
use std::time::Duration;

use models::{Counts, ModelChooser, Places, Runtime, Scorer, features};
use policies::allocation::learned::Learned;
use policies::allocation::{self, Allocator};

use crate::settings;

/// With it, what a model counts and what runs it, where there is one.
pub type Made = (Box<dyn Allocator>, Option<(Arc<Counts>, Runtime)>);

/// See the module.
pub fn allocator(settings: &settings::Controller, constants: &allocation::Settings) -> Result<Made, String> {
    if settings.allocation != LEARNED {
        let made = allocation::by_name(&settings.allocation, constants);
        let made =
            made.ok_or_else(|| format!("controller.allocation: there is no '{}'", settings.allocation))?;
        return Ok((made, None));
    }
    match Runtime::load(&Places::of_environment()) {
        Ok(runtime) => {
            learned(&runtime, settings, constants).map_err(|error| format!("controller.model: {error}"))
        }
        Err(error) => {
            tracing::error!("controller.allocation = {LEARNED}, but {error}. 'profile' decides instead");
            let made = allocation::by_name("profile", constants);
            Ok((made.expect("it is one of ours"), None))
        }
    }
}

/// Its name in the settings.
pub const LEARNED: &str = "learned";

fn learned(
    runtime: &Runtime,
    settings: &settings::Controller,
    constants: &allocation::Settings,
) -> Result<Made, models::ModelError> {
    let (set, model) = (&features::OURS, &settings.model);
    let scorer = Scorer::load(runtime, model, set.columns())?;
    let counts = Arc::new(Counts::default());
    let within = Duration::from_micros(settings.model_answers_within_us);
    let chooser = ModelChooser::new(scorer, set, Arc::clone(&counts), within);
    tracing::info!(model = %model.display(), runtime = runtime.version(), "a model decides how much invocations get");
    let made = Learned::new(constants.clone(), Box::new(chooser));
    Ok((Box::new(made), Some((counts, runtime.clone()))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(settings: &settings::Controller) -> Result<&'static str, String> {
        allocator(settings, &allocation::Settings::default()).map(|(made, _)| made.name())
    }

    fn with(allocation: &str, model: &str) -> settings::Controller {
        settings::Controller { allocation: allocation.into(), model: model.into(), ..Default::default() }
    }

    #[test]
    fn every_listed_allocator_is_made_and_others_are_refused_by_name() {
        for name in allocation::NAMES {
            assert_eq!(made(&with(name, "")), Ok(name));
        }
        let refused = made(&with("best", ""));
        assert_eq!(refused, Err("controller.allocation: there is no 'best'".to_owned()));
    }

    #[test]
    fn a_model_that_is_not_there_or_is_none_ends_the_start_with_its_name() {
        if Runtime::load(&Places { data: Some("../.windfall".into()), ..Places::of_environment() }).is_err() {
            return println!("skipped: there is no ONNX Runtime here (WINDFALL_ONNXRUNTIME names it)");
        }
        let missing = made(&with(LEARNED, "/nowhere/allocator.onnx"));
        assert!(
            missing.as_ref().is_err_and(|error| error.contains("/nowhere/allocator.onnx")),
            "{missing:?}"
        );
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), b"this is no model").unwrap();
        let damaged = made(&with(LEARNED, file.path().to_str().unwrap()));
        assert!(damaged.as_ref().is_err_and(|error| error.contains("damaged")), "{damaged:?}");
    }
}
