//! `windfall config`: what is in force, and who said so.

use clap::Args;
use serde_json::{Value, json};

use crate::configuration::{Configuration, Flags, masked, to_toml};
use crate::failure::Outcome;
use crate::output;

/// Its flags.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub struct Config {
    /// Print JSON
    #[arg(long, conflicts_with = "toml")]
    json: bool,
    /// Print a configuration file with everything in force. Secrets are written out
    #[arg(long)]
    toml: bool,
    /// Only keys that begin with this
    prefix: Option<String>,
}

const HELP: &str = "\
Each value comes from the strongest layer that names it:
  1. flags: --set controller.placement=jsq, and the named ones of each command
  2. environment: WINDFALL_CONTROLLER__PLACEMENT=jsq (section and key separated by two underscores)
  3. a file: --config or WINDFALL_CONFIG, else the first of ./windfall.toml,
     $XDG_CONFIG_HOME/windfall/windfall.toml and /etc/windfall/windfall.toml
  4. defaults

Examples:
  windfall config                       everything
  windfall config limits                one section
  windfall config --toml > windfall.toml";

/// Carries it out.
pub fn run(config: Config, flags: &Flags) -> Outcome {
    let mut configuration = Configuration::load(flags)?;
    let prefix = config.prefix.unwrap_or_default();
    configuration.entries.retain(|key, _| key.starts_with(&prefix));
    let entries = &configuration.entries;
    if config.toml {
        print!("{}", to_toml(entries));
    } else if config.json {
        let all: serde_json::Map<String, Value> = entries
            .iter()
            .map(|(key, entry)| {
                let shown = masked(key, &entry.value);
                let plain = entry.value.as_str().is_none_or(|text| text == shown);
                let value = if plain { entry.value.clone() } else { Value::from(shown) };
                (key.clone(), json!({ "value": value, "source": entry.source.to_string() }))
            })
            .collect();
        println!("{}", output::pretty(&Value::Object(all)));
    } else {
        let rows: Vec<Vec<String>> = entries
            .iter()
            .map(|(key, entry)| vec![key.clone(), masked(key, &entry.value), entry.source.to_string()])
            .collect();
        print!("{}", output::table(&["key", "value", "source"], &rows));
    }
    Ok(())
}
