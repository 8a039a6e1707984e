//! What operators' commands share: the house's own connection to NATS.

use std::path::PathBuf;

use actors::bus::Bus;
use clap::Args;

use crate::configuration::{Configuration, Flags};
use crate::failure::{Exit, Failure, Outcome};

/// The file in a data folder that its cluster's roles are configured with.
pub const SETTINGS: &str = "settings.toml";

/// Flags of every operators' command.
#[derive(Debug, Clone, Args)]
pub struct Operator {
    /// NATS server. Else the one of the cluster at hand, or nats.url of the configuration
    #[arg(long, value_name = "URL")]
    pub nats_url: Option<String>,
    /// Data folder of the `windfall up` to talk to
    #[arg(long, value_name = "DIR", env = "WINDFALL_DATA", default_value = ".windfall")]
    pub data: PathBuf,
}

impl Operator {
    /// What is in force, above the settings of the cluster at hand where there is one.
    pub fn configuration(&self, flags: &Flags) -> Outcome<Configuration> {
        let mut flags = flags.clone();
        flags.also("nats.url", self.nats_url.as_ref(), "--nats-url");
        let running = self.data.join(SETTINGS);
        if running.is_file() {
            Configuration::load_above(&flags, &running)
        } else {
            Configuration::load(&flags)
        }
    }

    /// Connects as the house.
    pub async fn bus(&self, configuration: &Configuration, name: &str) -> Outcome<Bus> {
        Bus::connect(&configuration.settings.nats, name).await.map_err(|error| {
            Failure::new(
                Exit::Unreachable,
                format!(
                    "{error} (nats.url is from {}; a cluster started by `windfall up` is found from its folder or with --data)",
                    configuration.source("nats.url")
                ),
            )
        })
    }
}
