//! The kinds that functions may be of.

use serde_json::{Value, json};

/// One runtime that some VM has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestRuntime {
    /// Its real kind, such as `python:3`.
    pub kind: String,
    /// Other kinds that mean it, such as `python:default`.
    pub aliases: Vec<String>,
    /// The full version, for people.
    pub version: String,
}

/// All of them. Copies share nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Manifest {
    /// In the order they are listed for people.
    pub runtimes: Vec<ManifestRuntime>,
}

impl From<&sandbox::Catalogue> for Manifest {
    fn from(catalogue: &sandbox::Catalogue) -> Self {
        let runtimes = catalogue.runtimes.iter().map(|runtime| ManifestRuntime {
            kind: runtime.kind.to_string(),
            aliases: runtime.aliases.iter().map(ToString::to_string).collect(),
            version: runtime.version.clone(),
        });
        Self { runtimes: runtimes.collect() }
    }
}

impl Manifest {
    /// The real kind that `kind` means.
    pub(super) fn resolve(&self, kind: &str) -> Option<&str> {
        let means = |runtime: &&ManifestRuntime| {
            runtime.kind == kind || runtime.aliases.iter().any(|alias| alias == kind)
        };
        self.runtimes.iter().find(means).map(|runtime| runtime.kind.as_str())
    }

    /// All kinds that are understood, for a message.
    pub(super) fn kinds(&self) -> String {
        let kinds = self.runtimes.iter().flat_map(|runtime| {
            std::iter::once(runtime.kind.as_str()).chain(runtime.aliases.iter().map(String::as_str))
        });
        kinds.collect::<Vec<_>>().join(", ")
    }

    /// As `GET /` shows it: families, each with its kinds.
    pub(super) fn as_json(&self) -> Value {
        let mut families = serde_json::Map::new();
        for runtime in &self.runtimes {
            let (family, version) = runtime.kind.split_once(':').unwrap_or((&runtime.kind, ""));
            let is_default = runtime.aliases.contains(&format!("{family}:default"));
            let entry = json!({
                "kind": runtime.kind,
                "default": is_default,
                "deprecated": false,
                "attached": true,
                "requireMain": false,
                // OpenWhisk's clients expect an image; here it is a process of this version.
                "image": format!("windfall/{family}:{version}"),
                "version": runtime.version,
            });
            let kinds = families.entry(family).or_insert_with(|| json!([]));
            kinds.as_array_mut().expect("every family is a list").push(entry);
        }
        Value::Object(families)
    }
}
