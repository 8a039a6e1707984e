//! What is in force, and who said so.
//!
//! **Knows:** four layers, each stronger than the one before: defaults, a file, the environment, flags.
//! **Promises:** every value has one named source; a key that does not exist, a value of the wrong type or out of
//! range stops the program with the key, the source and what is allowed. Nothing is ignored silently.
//! **Gives up:** changing values while the program runs.

mod layers;
mod rules;
mod text;

use std::collections::BTreeMap;
use std::path::Path;

use actors::settings::Settings;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use layers::{Flags, Source, variable};
pub use text::{masked, to_toml};

use crate::failure::{Failure, Outcome};

/// How the process itself runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Runtime {
    /// Threads of a role's runtime. With one, nothing is handed from thread to thread, which on small VMs costs
    /// more than a second thread gives; a Frontend on a large machine may take more.
    pub threads: usize,
}

impl Default for Runtime {
    fn default() -> Self {
        Self { threads: 1 }
    }
}

/// Everything in force.
#[derive(Debug, Clone)]
pub struct Configuration {
    /// What the actors are given.
    pub settings: Settings,
    /// How the process itself runs.
    pub runtime: Runtime,
    /// Every key with its value and who set it.
    pub entries: BTreeMap<String, Entry>,
}

/// One value in force.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The value, in the type of its key.
    pub value: Value,
    /// Who set it.
    pub source: Source,
}

impl Configuration {
    /// Puts the layers together.
    pub fn load(flags: &Flags) -> Outcome<Self> {
        Self::load_with(flags, None)
    }

    /// The same, above the settings of a running cluster: operators' commands find its NATS that way.
    pub fn load_above(flags: &Flags, running: &Path) -> Outcome<Self> {
        Self::load_with(flags, Some(running))
    }

    fn load_with(flags: &Flags, running: Option<&Path>) -> Outcome<Self> {
        let mut entries = defaults();
        let known: Vec<String> = entries.keys().cloned().collect();
        let file = layers::find_file(flags)?;
        let mut sources = Vec::new();
        for path in running.into_iter().chain(file.as_deref()) {
            sources.push(layers::file(path)?);
        }
        sources.push(layers::environment(std::env::vars_os(), &known)?);
        sources.push(flags.layer()?);
        for (key, (value, source)) in sources.into_iter().flatten() {
            let Some(entry) = entries.get_mut(&key) else {
                return Err(Failure::usage(unknown(&key, &source, &known)));
            };
            let value = rules::rule(&key, &entry.value)
                .read(&value)
                .map_err(|why| Failure::usage(format!("{key} (from {source}): {why}")))?;
            *entry = Entry { value, source };
        }
        rules::together(&entries).map_err(Failure::usage)?;
        let mut tree = nested(&entries);
        let runtime = tree.remove("runtime").unwrap_or_default();
        Ok(Self {
            settings: serde_json::from_value(Value::Object(tree))?,
            runtime: serde_json::from_value(runtime)?,
            entries,
        })
    }

    /// Who set a key.
    pub fn source(&self, key: &str) -> &Source {
        self.entries.get(key).map_or(&Source::Default, |entry| &entry.source)
    }
}

/// Every key with its default.
fn defaults() -> BTreeMap<String, Entry> {
    let mut flat = BTreeMap::new();
    let settings = serde_json::to_value(Settings::default()).expect("settings are plain data");
    let runtime = serde_json::to_value(Runtime::default()).expect("settings are plain data");
    flatten("", settings, &mut flat);
    flatten("runtime", runtime, &mut flat);
    flat.into_iter().map(|(key, value)| (key, Entry { value, source: Source::Default })).collect()
}

fn flatten(path: &str, value: Value, flat: &mut BTreeMap<String, Value>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let path = if path.is_empty() { name } else { format!("{path}.{name}") };
                flatten(&path, value, flat);
            }
        }
        leaf => {
            flat.insert(path.to_owned(), leaf);
        }
    }
}

fn nested(entries: &BTreeMap<String, Entry>) -> serde_json::Map<String, Value> {
    let mut tree = serde_json::Map::new();
    for (key, entry) in entries {
        let mut at = &mut tree;
        let mut parts = key.split('.').peekable();
        while let Some(part) = parts.next() {
            if parts.peek().is_none() {
                at.insert(part.to_owned(), entry.value.clone());
                break;
            }
            let next = at.entry(part).or_insert_with(|| Value::Object(serde_json::Map::new()));
            at = next.as_object_mut().expect("a key is never both a section and a value");
        }
    }
    tree
}

fn unknown(key: &str, source: &Source, known: &[String]) -> String {
    let mut text = format!("{key} (from {source}): there is no such key");
    if let Some(close) = closest(key, known) {
        text.push_str(&format!("; did you mean {close}?"));
    } else {
        text.push(';');
    }
    text.push_str(" `windfall config` lists them all");
    text
}

/// The known key that differs least, where it differs by little.
fn closest<'a>(key: &str, known: &'a [String]) -> Option<&'a String> {
    let last = key.rsplit('.').next().unwrap_or(key);
    known
        .iter()
        .map(|candidate| (distance(key, candidate), candidate))
        .min()
        .filter(|(distance, _)| *distance <= 3)
        .map(|(_, candidate)| candidate)
        // A right name in the wrong section.
        .or_else(|| known.iter().find(|candidate| candidate.rsplit('.').next() == Some(last)))
}

/// Levenshtein's distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(row[j + 1] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_legal() {
        for (key, entry) in defaults() {
            if entry.value != Value::Null {
                let read = rules::rule(&key, &entry.value).read(&entry.value);
                assert_eq!(read.as_ref(), Ok(&entry.value), "{key}");
            }
        }
        assert_eq!(rules::together(&defaults()), Ok(()));
    }

    #[test]
    fn every_rule_is_for_a_key_that_exists() {
        let defaults = defaults();
        for key in rules::keys() {
            assert!(defaults.contains_key(key), "{key}");
        }
    }

    #[test]
    fn defaults_survive_being_taken_apart_and_put_together() {
        let mut tree = nested(&defaults());
        tree.remove("runtime");
        let settings: Settings = serde_json::from_value(Value::Object(tree)).expect("settings");
        assert_eq!(settings, Settings::default());
    }

    #[test]
    fn a_slip_of_the_finger_is_recognised() {
        let known: Vec<String> = defaults().into_keys().collect();
        assert_eq!(closest("controller.placment", &known).map(String::as_str), Some("controller.placement"));
        assert_eq!(closest("controller.keep_alive_ms", &known).map(String::as_str), Some("vm.keep_alive_ms"));
        assert_eq!(closest("no.such.thing.anywhere", &known), None);
    }
}
