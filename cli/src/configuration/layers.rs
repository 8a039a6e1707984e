//! Where values come from: files, the environment, flags.
//!
//! **Promises:** each value keeps the name of what said it, down to the variable or the flag.
//! **Gives up:** lists; no setting is one.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use clap::Args;
use config::{Config, Environment, File, FileFormat, Map, ValueKind};
use serde_json::Value;

use crate::failure::{Failure, Outcome};

/// Who set a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// Nobody: it is built in.
    Default,
    /// A file.
    File(PathBuf),
    /// An environment variable.
    Variable(String),
    /// A flag, as it was written.
    Flag(String),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Variable(name) => f.write_str(name),
            Self::Flag(flag) => f.write_str(flag),
        }
    }
}

/// Keys with their values and who said so.
pub type Layer = BTreeMap<String, (Value, Source)>;

/// The flags that every command takes, and what a command's own flags mean as settings.
#[derive(Debug, Clone, Default, Args)]
pub struct Flags {
    /// Configuration file, TOML or YAML. Else the first of ./windfall.toml,
    /// $XDG_CONFIG_HOME/windfall/windfall.toml and /etc/windfall/windfall.toml that exists
    #[arg(long, global = true, value_name = "FILE", env = "WINDFALL_CONFIG", help_heading = "Configuration")]
    pub config: Option<PathBuf>,
    /// Set one value, above file and environment; may be repeated. `windfall config` lists the keys
    #[arg(long, global = true, value_name = "SECTION.KEY=VALUE", help_heading = "Configuration")]
    pub set: Vec<String>,
    /// Values set by a command's own flags: key, value, flag.
    #[arg(skip)]
    pub named: Vec<(&'static str, String, &'static str)>,
}

impl Flags {
    /// Takes a command's own flag into account, if it was given. It is stronger than `--set`.
    pub fn also(&mut self, key: &'static str, value: Option<impl ToString>, flag: &'static str) {
        if let Some(value) = value {
            self.named.push((key, value.to_string(), flag));
        }
    }

    pub(super) fn layer(&self) -> Outcome<Layer> {
        let mut layer = Layer::new();
        for text in &self.set {
            let Some((key, value)) = text.split_once('=') else {
                return Err(Failure::usage(format!(
                    "--set {text}: write it as section.key=value, as in --set controller.placement=jsq"
                )));
            };
            let source = Source::Flag(format!("--set {}", key.trim()));
            layer.insert(key.trim().to_owned(), (Value::String(value.to_owned()), source));
        }
        for (key, value, flag) in &self.named {
            let source = Source::Flag((*flag).to_owned());
            layer.insert((*key).to_owned(), (Value::String(value.clone()), source));
        }
        Ok(layer)
    }
}

/// The file to read: the one that was named, which must exist, or the first that is found.
pub fn find_file(flags: &Flags) -> Outcome<Option<PathBuf>> {
    if let Some(path) = &flags.config {
        if !path.is_file() {
            return Err(Failure::usage(format!("there is no configuration file {}", path.display())));
        }
        return Ok(Some(path.clone()));
    }
    let home = std::env::var_os("XDG_CONFIG_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".config")));
    let candidates = [
        Some(PathBuf::from("windfall.toml")),
        home.map(|folder| folder.join("windfall/windfall.toml")),
        Some(PathBuf::from("/etc/windfall/windfall.toml")),
    ];
    Ok(candidates.into_iter().flatten().find(|path| path.is_file()))
}

/// What a file says.
pub fn file(path: &Path) -> Outcome<Layer> {
    let format = match path.extension().and_then(|extension| extension.to_str()) {
        Some("toml") => FileFormat::Toml,
        Some("yaml" | "yml") => FileFormat::Yaml,
        _ => {
            return Err(Failure::usage(format!(
                "{}: a configuration file ends in .toml, .yaml or .yml",
                path.display()
            )));
        }
    };
    let read = Config::builder().add_source(File::from(path).format(format)).build().map_err(|error| {
        Failure::usage(format!("cannot read the configuration {}: {error}", path.display()))
    })?;
    let mut layer = Layer::new();
    let source = Source::File(path.to_owned());
    for (name, value) in table(read)? {
        collect(&name, value, &source, &mut layer)?;
    }
    Ok(layer)
}

/// What the environment says: `WINDFALL_<SECTION>__<KEY>`. Other `WINDFALL_` variables are not settings, but one
/// that would be with a second underscore is a slip, and an error.
pub fn environment(
    variables: impl Iterator<Item = (OsString, OsString)>,
    known: &[String],
) -> Outcome<Layer> {
    let mut names = BTreeMap::new();
    let mut settings = Map::new();
    for (name, value) in variables {
        let Some(name) = name.to_str().filter(|name| name.starts_with("WINDFALL_")) else { continue };
        let rest = name["WINDFALL_".len()..].to_lowercase();
        if !rest.contains("__") {
            let meant = known.iter().find(|key| key.replace('.', "_") == rest);
            if let Some(key) = meant {
                return Err(Failure::usage(format!(
                    "{name}: section and key are separated by two underscores: {}",
                    variable(key)
                )));
            }
            continue;
        }
        let Some(value) = value.to_str() else {
            return Err(Failure::usage(format!("{name}: its value is not UTF-8 text")));
        };
        names.insert(rest.replace("__", "."), name.to_owned());
        settings.insert(name.to_owned(), value.to_owned());
    }
    let source =
        Environment::with_prefix("WINDFALL").prefix_separator("_").separator("__").source(Some(settings));
    let read = Config::builder()
        .add_source(source)
        .build()
        .map_err(|error| Failure::usage(format!("cannot read the WINDFALL_ variables: {error}")))?;
    let mut layer = Layer::new();
    for (name, value) in table(read)? {
        collect(&name, value, &Source::Default, &mut layer)?;
    }
    for (key, (_, source)) in &mut layer {
        *source = Source::Variable(names.get(key).cloned().unwrap_or_else(|| variable(key)));
    }
    Ok(layer)
}

/// The variable that sets a key.
pub fn variable(key: &str) -> String {
    format!("WINDFALL_{}", key.replace('.', "__").to_uppercase())
}

fn table(read: Config) -> Outcome<Map<String, config::Value>> {
    Ok(read.cache.into_table()?)
}

fn collect(path: &str, value: config::Value, source: &Source, layer: &mut Layer) -> Outcome {
    let leaf = match value.kind {
        ValueKind::Table(fields) => {
            for (name, value) in fields {
                collect(&format!("{path}.{name}"), value, source, layer)?;
            }
            return Ok(());
        }
        ValueKind::Nil => return Ok(()),
        ValueKind::Boolean(yes) => Value::from(yes),
        ValueKind::I64(number) => Value::from(number),
        ValueKind::U64(number) => Value::from(number),
        ValueKind::Float(number) => Value::from(number),
        ValueKind::String(text) => Value::from(text),
        ValueKind::I128(_) | ValueKind::U128(_) => {
            return Err(Failure::usage(format!("{path} (from {source}): the number is too large")));
        }
        ValueKind::Array(_) => {
            return Err(Failure::usage(format!("{path} (from {source}): no setting takes a list")));
        }
    };
    layer.insert(path.to_owned(), (leaf, source.clone()));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Outcome<Layer> {
        let known = ["nats.url".to_owned(), "vm.keep_alive_ms".to_owned()];
        environment(variables.iter().map(|(name, value)| (name.into(), value.into())), &known)
    }

    #[test]
    fn a_variable_keeps_its_name_as_the_source() {
        let layer = read(&[("WINDFALL_VM__KEEP_ALIVE_MS", "5"), ("HOME", "/x")]).expect("a layer");
        let source = Source::Variable("WINDFALL_VM__KEEP_ALIVE_MS".into());
        assert_eq!(layer.get("vm.keep_alive_ms"), Some(&(Value::from("5"), source)));
        assert_eq!(layer.len(), 1);
    }

    #[test]
    fn variables_of_clients_are_not_settings() {
        let layer = read(&[("WINDFALL_API_HOST", "h"), ("WINDFALL_AUTH", "a:b")]).expect("a layer");
        assert!(layer.is_empty());
    }

    #[test]
    fn one_underscore_too_few_is_an_error_that_shows_the_right_name() {
        let error = read(&[("WINDFALL_NATS_URL", "nats://x")]).expect_err("a slip").to_string();
        assert!(error.contains("WINDFALL_NATS_URL") && error.contains("WINDFALL_NATS__URL"), "{error}");
    }
}
