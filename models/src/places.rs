//! Where ONNX Runtime may lie.
//!
//! **Knows:** the setting, the data folder that `deploy/lib.sh` fills, the layout of a Python virtual environment.
//! **Promises:** the same order everywhere: what was named; the data folder's `lib`; the data folder's virtual
//! environment; the active virtual environment; what the system's loader finds. What was named by hand is never
//! silently replaced by something else.
//! **Gives up:** looking further. A wheel in some other place is named through the setting.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// The environment variable that names the library.
pub const SETTING: &str = "WINDFALL_ONNXRUNTIME";

/// What to install from PyPI to have it.
pub const PACKAGE: &str = "onnxruntime>=1.24,<1.32";

/// Names under which distributions install it; the loader finds them in its own folders.
const SYSTEM_NAMES: [&str; 2] = ["libonnxruntime.so", "libonnxruntime.so.1"];

/// Where to look.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Places {
    /// The library that was named by hand, if any. Then nothing else is tried.
    pub named: Option<PathBuf>,
    /// The data folder of this installation (`.windfall`).
    pub data: Option<PathBuf>,
    /// The active Python virtual environment.
    pub venv: Option<PathBuf>,
}

impl Places {
    /// As the environment says (`WINDFALL_ONNXRUNTIME`, `WINDFALL_DATA`, `VIRTUAL_ENV`); without `WINDFALL_DATA` the
    /// data folder is `.windfall` here, as for `deploy/up.sh`.
    pub fn of_environment() -> Self {
        Self::of(|name| std::env::var_os(name))
    }

    fn of(variable: impl Fn(&str) -> Option<OsString>) -> Self {
        let path = |name| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        Self {
            named: path(SETTING),
            data: path("WINDFALL_DATA").or_else(|| Some(".windfall".into())),
            venv: path("VIRTUAL_ENV"),
        }
    }

    /// What to try, best first. Files are listed only where they exist, apart from the named one, so that its
    /// absence is told; names without a folder are for the system's loader.
    pub(crate) fn candidates(&self) -> Vec<PathBuf> {
        if let Some(named) = &self.named {
            return vec![named.clone()];
        }
        let mut found = Vec::new();
        if let Some(data) = &self.data {
            found.extend(libraries_in(&data.join("lib")));
            found.extend(in_venv(&data.join("venv")));
        }
        found.extend(self.venv.as_deref().map(in_venv).unwrap_or_default());
        found.extend(SYSTEM_NAMES.map(PathBuf::from));
        found
    }
}

/// Libraries in the `onnxruntime` package of a virtual environment.
fn in_venv(venv: &Path) -> Vec<PathBuf> {
    let pythons = sorted_names(&venv.join("lib"), |name| name.starts_with("python3"));
    let capi = |python: PathBuf| libraries_in(&python.join("site-packages/onnxruntime/capi"));
    pythons.into_iter().flat_map(capi).collect()
}

/// `libonnxruntime.so` and `libonnxruntime.so.<version>`, but not `libonnxruntime_providers_*.so`.
fn libraries_in(folder: &Path) -> Vec<PathBuf> {
    sorted_names(folder, |name| name.starts_with("libonnxruntime.so"))
}

/// Entries with a wanted name, in the order of their names, so that every run tries the same first.
fn sorted_names(folder: &Path, wanted: impl Fn(&str) -> bool) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut found: Vec<PathBuf> = entries
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.file_name().and_then(|name| name.to_str()).is_some_and(&wanted))
        .collect();
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(root: &Path, path: &str) -> PathBuf {
        let path = root.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, b"").unwrap();
        path
    }

    #[test]
    fn the_data_folder_comes_before_virtual_environments_and_these_before_the_system() {
        let root = tempfile::tempdir().unwrap();
        let capi = "lib/python3.11/site-packages/onnxruntime/capi";
        let active = file(root.path(), &format!("active/{capi}/libonnxruntime.so.1.30.0"));
        let own = file(root.path(), &format!("data/venv/{capi}/libonnxruntime.so.1.31.1"));
        file(root.path(), &format!("data/venv/{capi}/libonnxruntime_providers_shared.so"));
        let linked = file(root.path(), "data/lib/libonnxruntime.so");
        let places = Places {
            named: None,
            data: Some(root.path().join("data")),
            venv: Some(root.path().join("active")),
        };
        let system = SYSTEM_NAMES.map(PathBuf::from);
        assert_eq!(places.candidates(), [&[linked, own, active], system.as_slice()].concat());
    }

    #[test]
    fn what_was_named_is_the_only_candidate_even_where_it_is_missing() {
        let root = tempfile::tempdir().unwrap();
        file(root.path(), "lib/libonnxruntime.so");
        let named = PathBuf::from("/nowhere/libonnxruntime.so");
        let places = Places { named: Some(named.clone()), data: Some(root.path().to_path_buf()), venv: None };
        assert_eq!(places.candidates(), vec![named]);
    }

    #[test]
    fn an_empty_setting_is_no_setting() {
        let places = Places::of(|name| match name {
            "WINDFALL_ONNXRUNTIME" => Some("".into()),
            "VIRTUAL_ENV" => Some("/venv".into()),
            _ => None,
        });
        let expected = Places { named: None, data: Some(".windfall".into()), venv: Some("/venv".into()) };
        assert_eq!(places, expected);
    }
}
