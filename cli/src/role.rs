//! One role in one process.

use std::future::Future;
use std::time::Duration;

use actors::bus::Bus;
use actors::roles::VmProgram;
use actors::telemetry;
use clap::Args;
use sandbox::Launcher;
use serde_json::Value;
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{SignalKind, signal};

use crate::configuration::{Configuration, Flags, Source, variable};
use crate::failure::{Exit, Failure, Outcome};

/// How long a role may take to stop in good order before the process ends all the same.
const STOP_PATIENCE: Duration = Duration::from_secs(15);
/// How long the last spans may take to be sent.
const SPANS_PATIENCE: Duration = Duration::from_secs(2);

/// The hidden command whose process makes sandboxes; see [`sandbox::sandbox_main`].
pub const SANDBOX_COMMAND: &str = "sandbox-init";

/// Which role.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The doors.
    Frontend,
    /// Where functions run, and with how much.
    Controller,
    /// The fleet.
    ResourceMonitor,
    /// One VM: Harvest Monitor and Invoker.
    Vm,
}

impl Role {
    fn name(self) -> &'static str {
        match self {
            Self::Frontend => "frontend",
            Self::Controller => "controller",
            Self::ResourceMonitor => "resource-monitor",
            Self::Vm => "vm",
        }
    }
}

/// Flags of every role.
#[derive(Debug, Clone, Args)]
pub struct RoleFlags {
    /// NATS servers, nats://host:port, comma-separated
    #[arg(long, value_name = "URL")]
    pub nats_url: Option<String>,
}

/// Is the role until it is told to stop.
pub fn run(role: Role, given: RoleFlags, mut flags: Flags) -> Outcome {
    flags.also("nats.url", given.nats_url, "--nats-url");
    let configuration = Configuration::load(&flags)?;
    let settings = &configuration.settings;
    let instance = match role {
        Role::Vm if !settings.vm.id.is_empty() => settings.vm.id.clone(),
        _ => format!("{}-{}", role.name(), std::process::id()),
    };
    // Before the runtime: the exporter's HTTP client must not be made inside one.
    let telemetry = telemetry::init(&settings.telemetry, role.name(), &instance)
        .map_err(|error| Failure::usage(error.to_string()))?;
    let runtime = runtime(configuration.runtime.threads)?;
    let ended = runtime.block_on(live(role, &configuration, &instance));
    // Whatever still runs is not waited for: it has had its time.
    runtime.shutdown_background();
    telemetry.stop(SPANS_PATIENCE);
    ended
}

/// Runs something short, such as a client's command.
pub fn once(work: impl Future<Output = Outcome>) -> Outcome {
    runtime(1)?.block_on(work)
}

fn runtime(threads: usize) -> Outcome<Runtime> {
    let mut builder = if threads == 1 { Builder::new_current_thread() } else { Builder::new_multi_thread() };
    if threads > 1 {
        builder.worker_threads(threads);
    }
    Ok(builder.enable_all().build()?)
}

async fn live(role: Role, configuration: &Configuration, instance: &str) -> Outcome {
    // First of all, so that no signal is missed. A VM's SIGTERM is a notice of eviction and belongs to its
    // Harvest Monitor.
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = match role {
        Role::Vm => None,
        _ => Some(signal(SignalKind::terminate())?),
    };
    let asked = async {
        match &mut terminate {
            Some(terminate) => tokio::select! {
                _ = interrupt.recv() => "SIGINT",
                _ = terminate.recv() => "SIGTERM",
            },
            None => {
                interrupt.recv().await;
                "SIGINT"
            }
        }
    };
    tokio::pin!(asked);

    let settings = &configuration.settings;
    let start = async {
        let bus = Bus::connect(&settings.nats, instance)
            .await
            .map_err(|error| Failure::new(Exit::Unreachable, error.to_string()))?;
        let started = match role {
            Role::Frontend => actors::roles::frontend(settings, bus).await,
            Role::Controller => actors::roles::controller(settings, bus).await,
            Role::ResourceMonitor => {
                actors::roles::resource_monitor(settings, bus, vm_program(configuration)?).await
            }
            Role::Vm => actors::roles::vm(settings, bus, launcher()?).await,
        };
        started.map_err(Failure::from)
    };
    let mut handle = tokio::select! {
        biased;
        _ = &mut asked => return Ok(()),
        handle = start => handle?,
    };
    tracing::info!(role = role.name(), facts = ?handle.facts, "ready");
    let ended = tokio::select! {
        why = &mut asked => {
            tracing::info!(why, "stopping");
            Ok(())
        }
        reason = handle.ended() => match reason {
            None => Ok(()),
            Some(reason) => Err(Failure::new(Exit::Failed, format!("{} ended: {reason}", role.name()))),
        },
    };
    let patience = match role {
        Role::Frontend => STOP_PATIENCE + Duration::from_millis(settings.frontend.leave_ms),
        _ => STOP_PATIENCE,
    };
    if tokio::time::timeout(patience, handle.stop()).await.is_err() {
        tracing::warn!(?patience, "did not stop in time; ending all the same");
    }
    ended
}

/// How the provider `process` becomes a VM: this program, with every setting in force that is not a default, from
/// whatever layer it came. Secrets go the same way, since everybody on the machine can read a command line.
fn vm_program(configuration: &Configuration) -> Outcome<VmProgram> {
    // Of the Frontend only where it is: functions are told so.
    let for_vms =
        ["nats.", "store.", "vm.", "limits.", "telemetry.", "runtime.", "frontend.http", "frontend.api_host"];
    let environment = configuration
        .entries
        .iter()
        .filter(|(key, entry)| {
            entry.source != Source::Default && for_vms.iter().any(|section| key.starts_with(section))
        })
        .filter_map(|(key, entry)| {
            let value = match &entry.value {
                Value::Null => return None,
                Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            Some((variable(key), value))
        })
        .collect();
    Ok(VmProgram { program: std::env::current_exe()?, arguments: vec!["vm".into()], environment })
}

/// How sandboxes are made: by this program's hidden command.
fn launcher() -> Outcome<Launcher> {
    Ok(Launcher { program: std::env::current_exe()?, args: vec![SANDBOX_COMMAND.into()] })
}
