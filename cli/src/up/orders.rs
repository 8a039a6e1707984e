//! How each process of a cluster is started.

use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::Signal;

use super::data_folder::DataFolder;
use super::house::Order;
use super::{leftovers, nats_server};
use crate::failure::Outcome;
use crate::wires;

/// How long the Resource Monitor may take to end, with its VMs.
const FLEET_STOP_PATIENCE: Duration = Duration::from_secs(20);
/// How long any other process may take to end.
const STOP_PATIENCE: Duration = Duration::from_secs(8);

/// The role that nats-server is to `up`.
pub const NATS: &str = "nats-server";
/// The role that has the doors.
const FRONTEND: &str = "frontend";
/// The role that keeps the fleet.
pub const FLEET: &str = "resource-monitor";

/// What every process of one cluster has in common.
pub struct Orders<'a> {
    pub folder: &'a DataFolder,
    pub cluster: &'a str,
    /// How long a Frontend lets open calls end.
    pub leave: Duration,
}

impl Orders<'_> {
    fn marks(&self) -> Vec<(String, String)> {
        vec![(leftovers::MARK.to_owned(), self.cluster.to_owned())]
    }

    /// The private nats-server.
    pub fn nats(&self, program: PathBuf) -> Order {
        let configuration = self.folder.path(nats_server::CONFIGURATION).display().to_string();
        Order {
            role: NATS,
            name: NATS.into(),
            program,
            arguments: vec!["--config".into(), configuration],
            environment: self.marks(),
            hidden: Vec::new(),
            stop_with: Signal::SIGTERM,
            patience: STOP_PATIENCE,
        }
    }

    /// What lays wires at `listen` to NATS at `server`.
    pub fn wires(&self, settings: &Path, listen: &str, server: &str) -> Outcome<Order> {
        let mut order = self.role(wires::COMMAND, 1, settings)?;
        order.arguments.extend(["--listen", listen, "--server", server].map(str::to_owned));
        Ok(order)
    }

    /// One process of a role, the `number`th, counted from 1.
    pub fn role(&self, role: &'static str, number: u32, settings: &Path) -> Outcome<Order> {
        let mut environment = self.marks();
        // The settings in force are all in the file: what stands in our environment is in it already, and VMs,
        // which inherit this environment, are told what is theirs by the Resource Monitor.
        environment.push(("WINDFALL_CONFIG".into(), settings.display().to_string()));
        let onnx = self.folder.path("lib/libonnxruntime.so");
        if std::env::var_os("WINDFALL_ONNXRUNTIME").is_none() && onnx.exists() {
            environment.push(("WINDFALL_ONNXRUNTIME".into(), onnx.display().to_string()));
        }
        let hidden = std::env::vars_os().filter_map(|(name, _)| {
            let name = name.into_string().ok()?;
            let is_setting = name.starts_with("WINDFALL_") && name["WINDFALL_".len()..].contains("__");
            (is_setting || name == "WINDFALL_AUTH").then_some(name)
        });
        Ok(Order {
            role,
            name: if number == 1 { role.to_owned() } else { format!("{role}-{number}") },
            program: std::env::current_exe()?,
            arguments: vec![role.into()],
            environment,
            hidden: hidden.collect(),
            stop_with: Signal::SIGTERM,
            patience: match role {
                FLEET => FLEET_STOP_PATIENCE,
                FRONTEND => STOP_PATIENCE + self.leave,
                _ => STOP_PATIENCE,
            },
        })
    }
}
