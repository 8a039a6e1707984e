//! ONNX Runtime, loaded when it is first needed.
//!
//! **Knows:** the one library of this process, if it was loaded.
//! **Promises:** loads once; whoever asks later gets the same, wherever it was to look. Old, foreign and damaged
//! libraries are refused before anything of them is called. Sends no telemetry. What it logs goes to `tracing`.
//! With the feature `tract` there is a second runtime in this very program, in Rust and slower, for where no library is found.
//! **Gives up:** unloading, and a second version beside the first: its environment is one per process.

use std::ffi::CStr;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use libloading::Library;
use ort::environment::Environment;
use ort::logging::LogLevel;
use ort::sys::{ORT_API_VERSION, OrtApiBase};

use crate::library::{self, BadLibrary};
use crate::places::{PACKAGE, Places, SETTING};

/// Why there is no ONNX Runtime. Windfall then goes on with a heuristic allocator, and says so loudly.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// Nothing was found.
    #[error(
        "no ONNX Runtime was found (tried {}). Install it with `pip install '{PACKAGE}'` in an active virtual \
         environment, or name its libonnxruntime.so with {SETTING}",
        listed(tried)
    )]
    NotFound {
        /// What was tried, and why it was not taken.
        tried: Vec<(PathBuf, String)>,
    },
    /// What was named by hand cannot be used.
    #[error("{} (named by {SETTING}) {why}. Name another one, or leave {SETTING} unset", path.display())]
    NamedIsUnusable {
        /// What was named.
        path: PathBuf,
        /// Why it is not taken.
        why: String,
    },
    /// It was loaded and does not start.
    #[error("ONNX Runtime {version} does not start: {source}")]
    DoesNotStart {
        /// Its version.
        version: String,
        /// What it says.
        source: ort::Error,
    },
}

fn listed(tried: &[(PathBuf, String)]) -> String {
    tried.iter().map(|(path, why)| format!("{}: {why}", path.display())).collect::<Vec<_>>().join("; ")
}

/// Why one library is not taken.
#[derive(Debug, thiserror::Error)]
enum Unusable {
    #[error("{0}")]
    Outline(#[from] BadLibrary),
    #[error("cannot be loaded: {}", reason(.0))]
    Loader(#[from] libloading::Error),
    #[error("is a library, but not ONNX Runtime")]
    NoApiBase,
    #[error("is ONNX Runtime {0}; 1.{ORT_API_VERSION} or newer is needed")]
    TooOld(String),
}

/// What the loader says; the error alone says only that it said something.
fn reason(error: &libloading::Error) -> String {
    use std::error::Error;
    error.source().map_or_else(|| error.to_string(), ToString::to_string)
}

/// By this name [`SETTING`] asks for the runtime that is built in with the feature `tract`.
pub const TRACT: &str = "tract";

/// The loaded library. Cheap to clone.
#[derive(Clone)]
pub struct Runtime {
    environment: Environment,
    version: Arc<str>,
    path: Arc<Path>,
}

impl fmt::Debug for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ONNX Runtime {} from {}", self.version, self.path.display())
    }
}

/// The one of this process. Also keeps its environment from being torn down at the end of the process, where other
/// threads may still use it.
static LOADED: Mutex<Option<Runtime>> = Mutex::new(None);

impl Runtime {
    /// The library of this process; loads the first usable one of `places` if there is none yet. May take some
    /// 100 ms of reading the first time. A failure is not remembered: once the library has been installed, the next
    /// call finds it.
    pub fn load(places: &Places) -> Result<Self, RuntimeError> {
        // A panic while the lock was held left either nothing or a whole Runtime.
        let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(runtime) = &*loaded {
            return Ok(runtime.clone());
        }
        let runtime = Self::load_first(places)?;
        tracing::info!(version = %runtime.version, path = %runtime.path.display(), "ONNX Runtime is loaded");
        *loaded = Some(runtime.clone());
        Ok(runtime)
    }

    fn load_first(places: &Places) -> Result<Self, RuntimeError> {
        #[cfg(feature = "tract")]
        if places.named.as_deref() == Some(Path::new(TRACT)) {
            return Self::built_in();
        }
        let mut tried = Vec::new();
        for path in places.candidates() {
            match hand_over(&path) {
                Ok(version) => return Self::start(&path, version),
                Err(why) if places.named.is_some() => {
                    return Err(RuntimeError::NamedIsUnusable { path, why: why.to_string() });
                }
                Err(why) => tried.push((path, why.to_string())),
            }
        }
        let missing = RuntimeError::NotFound { tried };
        #[cfg(feature = "tract")]
        {
            tracing::warn!("{missing}. Until then the one that is built in, tract, runs models, more slowly");
            Self::built_in()
        }
        #[cfg(not(feature = "tract"))]
        Err(missing)
    }

    /// Tract, which needs no library.
    #[cfg(feature = "tract")]
    fn built_in() -> Result<Self, RuntimeError> {
        // False where a library's functions were set before, and its environment did not start.
        let _ = ort::set_api(ort_tract::api());
        Self::start(Path::new(TRACT), TRACT.to_owned())
    }

    fn start(path: &Path, version: String) -> Result<Self, RuntimeError> {
        let started =
            ort::init().with_name("windfall").with_telemetry(false).with_logger(Arc::new(log)).build();
        match started {
            Ok(environment) => {
                // Else it formats every detail for a logger that drops it. (Tract has no such function.)
                if path != Path::new(TRACT) {
                    environment.set_log_level(LogLevel::Warning);
                }
                Ok(Self { environment, version: version.into(), path: path.into() })
            }
            Err(source) => Err(RuntimeError::DoesNotStart { version, source }),
        }
    }

    /// Its version, such as `1.31.1`.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The file it was loaded from, or the name under which the system's loader found it.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it is the one that can be built in, which has no threads to set and tells nothing of a model but its shape.
    pub(crate) fn is_tract(&self) -> bool {
        &*self.path == Path::new(TRACT)
    }

    pub(crate) fn environment(&self) -> &Environment {
        &self.environment
    }
}

/// Loads one library and gives its functions to `ort`; returns its version.
fn hand_over(path: &Path) -> Result<String, Unusable> {
    // A name without a folder is looked up by the loader, which we let judge.
    if path.components().count() > 1 {
        library::check(path)?;
    }
    // SAFETY: loading runs the library's own constructors. The path is the operator's, or one where only the operator
    // installs; it is as trusted as this program.
    let library = unsafe { Library::new(path) }?;
    // SAFETY: this is the function's type in every release of ONNX Runtime.
    let api_base = unsafe { library.get::<unsafe extern "C" fn() -> *const OrtApiBase>(b"OrtGetApiBase\0") };
    let Ok(api_base) = api_base else { return Err(Unusable::NoApiBase) };
    // SAFETY: takes nothing, and returns a pointer to a constant of the library, or null.
    let Some(base) = (unsafe { api_base().as_ref() }) else { return Err(Unusable::NoApiBase) };
    // SAFETY: as above; the text is a constant that ends in a zero.
    let version = unsafe {
        let text = (base.GetVersionString)();
        if text.is_null() { return Err(Unusable::NoApiBase) } else { CStr::from_ptr(text) }
    };
    let version = version.to_string_lossy().into_owned();
    // Asked before the functions are: an old library answers that with a line on standard error.
    if !is_new_enough(&version) {
        return Err(Unusable::TooOld(version));
    }
    // SAFETY: returns a table of functions that lives as long as the library, or null.
    let Some(api) = (unsafe { (base.GetApi)(ORT_API_VERSION).as_ref() }) else {
        return Err(Unusable::TooOld(version));
    };
    // False where another table was set before. Only this function sets one, and only after that table's environment
    // did not start: then the older library goes on being used.
    let _ = ort::set_api(api.clone());
    // Its functions may be called until the process ends.
    std::mem::forget(library);
    Ok(version)
}

/// Whether a version such as `1.31.1` has the functions that we call.
fn is_new_enough(version: &str) -> bool {
    let mut parts = version.split('.').map(|part| part.parse::<u32>().ok());
    matches!((parts.next().flatten(), parts.next().flatten()), (Some(1), Some(minor)) if minor >= ORT_API_VERSION)
}

fn log(level: LogLevel, category: &str, _id: &str, _place: &str, message: &str) {
    match level {
        LogLevel::Verbose | LogLevel::Info => tracing::debug!(category, "ONNX Runtime: {message}"),
        LogLevel::Warning => tracing::warn!(category, "ONNX Runtime: {message}"),
        LogLevel::Error | LogLevel::Fatal => tracing::error!(category, "ONNX Runtime: {message}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        for good in ["1.24.0", "1.31.1", "1.100.0", "1.24.0-dev"] {
            assert!(is_new_enough(good), "{good}");
        }
        for bad in ["1.23.9", "1.3.1", "2.0.0", "1", "", "one.thirty"] {
            assert!(!is_new_enough(bad), "{bad}");
        }
    }

    #[test]
    fn a_named_library_that_is_missing_is_told_with_the_setting_and_nothing_else_is_tried() {
        let places = Places { named: Some("/nowhere/libonnxruntime.so".into()), ..Places::default() };
        let told = Runtime::load_first(&places).unwrap_err().to_string();
        assert!(told.contains("/nowhere/libonnxruntime.so") && told.contains(SETTING), "{told}");
    }

    #[test]
    fn a_library_that_is_not_onnx_runtime_is_refused() {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let libc =
            maps.lines().filter_map(|line| line.split_whitespace().nth(5)).find(|p| p.contains("libc.so"));
        let refused = hand_over(Path::new(libc.unwrap())).unwrap_err();
        assert!(matches!(refused, Unusable::NoApiBase), "{refused}");
    }

    #[test]
    fn where_nothing_is_found_the_error_says_what_to_install_and_what_to_set() {
        let tried = vec![(PathBuf::from("libonnxruntime.so"), "not there".into())];
        let told = RuntimeError::NotFound { tried }.to_string();
        assert!(told.contains("pip install 'onnxruntime>=1.24,<1.32'"), "{told}");
        assert!(told.contains(SETTING) && told.contains("libonnxruntime.so: not there"), "{told}");
    }
}
