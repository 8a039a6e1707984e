//! What can be configured, with its defaults. The binary fills these from file, environment and flags; nothing
//! else reads configuration.

mod controller;
mod fleet;
mod frontend;
mod providers;
mod vm;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use controller::{Allocation, Controller};
pub use fleet::ResourceMonitor;
pub use frontend::{Frontend, Limits};
pub use providers::{Command, Docker, Ec2, Netns};
pub use vm::Vm;

/// Everything, as it stands in `windfall.toml`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The message bus.
    pub nats: Nats,
    /// What is kept, and how long.
    pub store: Store,
    /// The doors.
    pub frontend: Frontend,
    /// Placement, allocation and queues.
    pub controller: Controller,
    /// What `controller.allocation` is given.
    pub allocation: Allocation,
    /// The fleet.
    pub resource_monitor: ResourceMonitor,
    /// The provider `netns`.
    pub netns: Netns,
    /// The provider `docker`.
    pub docker: Docker,
    /// The provider `ec2`.
    pub ec2: Ec2,
    /// The provider `command`.
    pub command: Command,
    /// A VM and its sandboxes.
    pub vm: Vm,
    /// What users may ask for, per function and per namespace.
    pub limits: Limits,
    /// Logs, traces, metrics.
    pub telemetry: Telemetry,
}

/// How to reach NATS.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Nats {
    /// Servers, `nats://host:port`, comma-separated.
    pub url: String,
    /// User of the house's own account; empty for none.
    pub user: String,
    /// Its password.
    pub password: String,
    /// Credentials file (`.creds`), instead of user and password.
    pub credentials: Option<PathBuf>,
}

impl Default for Nats {
    fn default() -> Self {
        Self {
            url: "nats://127.0.0.1:4222".into(),
            user: String::new(),
            password: String::new(),
            credentials: None,
        }
    }
}

/// Streams and buckets. Sizes are limits, not reservations.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Store {
    /// Copies of every stream and bucket, 1 to 5: 3 survives the loss of a node.
    pub replicas: usize,
    /// Activation records older than this are removed, in hours.
    pub record_age_h: u64,
    /// Activation records over this many MiB are removed, oldest first.
    pub record_size_mib: u64,
    /// Records that may wait in one process for NATS to take them; beyond it, work waits.
    pub record_backlog: usize,
    /// Durable submissions that may wait, in MiB; beyond it JetStream refuses them.
    pub submit_size_mib: u64,
    /// Code of all functions, in MiB.
    pub code_size_mib: u64,
    /// What Controllers have learned of functions, in MiB; over it, what was not written for longest goes. 0: none of it is kept.
    pub profile_size_mib: u64,
    /// What has been learned of a function that nobody has called for so long is forgotten, in hours.
    pub profile_age_h: u64,
    /// What runs used, for training (`windfall train --from-cluster`), in MiB; over it, the oldest goes. 0: none of it is kept.
    pub usage_size_mib: u64,
    /// What runs used longer ago than this is removed, in hours.
    pub usage_age_h: u64,
}

impl Default for Store {
    fn default() -> Self {
        Self {
            replicas: 1,
            record_age_h: 7 * 24,
            record_size_mib: 1024,
            record_backlog: 4096,
            submit_size_mib: 512,
            code_size_mib: 4096,
            profile_size_mib: 64,
            profile_age_h: 30 * 24,
            usage_size_mib: 64,
            usage_age_h: 7 * 24,
        }
    }
}

/// What can be seen from outside.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Telemetry {
    /// Log filter, as `info` or `info,actors=debug`.
    pub log: String,
    /// `text` or `json`.
    pub log_format: String,
    /// OTLP endpoint over HTTP (`http://host:4318`); empty: no traces.
    pub otlp_endpoint: String,
    /// Share of invocations without a caller's trace that are traced, 0 to 1.
    pub sample: f64,
}

impl Default for Telemetry {
    fn default() -> Self {
        Self { log: "info".into(), log_format: "text".into(), otlp_endpoint: String::new(), sample: 1.0 }
    }
}
