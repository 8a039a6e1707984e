//! Where VMs come from: one trait, one file per kind of source.
//!
//! **Knows:** how to start, list and end VMs somewhere.
//! **Promises:** starting twice under one id starts one VM; ending what is gone is no error; a provider that was
//! started anew knows the VMs that its predecessor left, from the world and not from memory.
//! **Gives up:** deciding how many there should be; that is `policies::provisioning`.
//!
//! `process` makes VMs of this machine, `netns` such that look like machines of their own, `docker` containers, `ec2`
//! instances of AWS; `command` has any program make them.

pub mod command;
mod departed;
pub mod docker;
pub mod ec2;
pub mod netns;
pub mod process;

use std::sync::Arc;
use std::time::Duration;

use futures::future::{BoxFuture, join_all};
use vocabulary::{Mebibytes, Resources, VmId, VmKind};

use crate::roles::VmProgram;
use crate::settings::Settings;
use command::{CommandProvider, CommandSettings};
use docker::DockerProvider;
use ec2::Ec2Provider;
use netns::NetnsProvider;
use process::{Own, ProcessProvider, ProcessSettings};

/// From SIGTERM to SIGKILL for VMs when the whole cluster stops: nobody waits for what they run.
const LAST_GRACE: Duration = Duration::from_secs(2);

/// What `resource_monitor.provider` may be.
pub const NAMES: [&str; 6] = ["process", "netns", "docker", "ec2", "command", "none"];

/// The provider that is configured; none where VMs are started by hand. Must be called on a tokio runtime.
pub fn open(settings: &Settings, program: &VmProgram) -> Result<Option<Arc<dyn Provider>>, ProviderError> {
    let monitor = &settings.resource_monitor;
    let process = || ProcessSettings {
        program: program.program.clone(),
        arguments: program.arguments.clone(),
        environment: program.environment.clone(),
        own: Own::none(),
        cluster: monitor.cluster.clone(),
        folder: monitor.folder.clone(),
        log_files: monitor.log_files,
        confine: settings.vm.enforce != "off",
        headroom: Mebibytes(settings.vm.headroom),
        grace: Duration::from_millis(settings.vm.sigterm_grace_ms),
        last_grace: LAST_GRACE,
    };
    Ok(Some(match monitor.provider.as_str() {
        "none" => return Ok(None),
        "process" => Arc::new(ProcessProvider::open(process())?),
        "netns" => Arc::new(NetnsProvider::open(process(), &settings.netns, &settings.nats.url)?),
        "command" => Arc::new(CommandProvider::open(CommandSettings {
            program: words("command.program", &settings.command.program)?,
            timeout: Duration::from_millis(settings.command.timeout_ms),
            cluster: monitor.cluster.clone(),
            environment: program.environment.clone(),
        })?),
        "docker" => {
            let headroom = Mebibytes(settings.vm.headroom);
            let environment = program.environment.clone();
            Arc::new(DockerProvider::open(&settings.docker, &monitor.cluster, environment, headroom)?)
        }
        "ec2" => Arc::new(Ec2Provider::open(&settings.ec2, &monitor.cluster, program.environment.clone())?),
        other => {
            let known = NAMES.join(", ");
            return Err(ProviderError::Setup(format!(
                "resource_monitor.provider is one of {known}, not '{other}'"
            )));
        }
    }))
}

/// What a setting lists, parted as a shell does it.
fn words(setting: &str, text: &str) -> Result<Vec<String>, ProviderError> {
    shlex::split(text).ok_or_else(|| {
        ProviderError::Setup(format!(
            "{setting} has a quote that does not end, or ends with a backslash: {text}"
        ))
    })
}

/// Whether VMs end when the Resource Monitor is stopped in good order.
pub fn end_with_us(settings: &Settings) -> bool {
    match settings.resource_monitor.on_stop.as_str() {
        "keep" => false,
        "retire" => true,
        _ => ["process", "netns", "docker"].contains(&settings.resource_monitor.provider.as_str()),
    }
}

/// Why a provider did not do as asked.
#[derive(Debug, thiserror::Error)]
pub enum ProviderError {
    /// It could not be set up; nothing will work until that is cured.
    #[error("{0}")]
    Setup(String),
    /// The VM could not be started. Trying again, under another id, may help.
    #[error("could not start {vm}: {reason}")]
    Launch {
        /// Which.
        vm: VmId,
        /// What went wrong.
        reason: String,
    },
    /// The VM did not end. Trying again may help.
    #[error("could not end {vm}: {reason}")]
    Retire {
        /// Which.
        vm: VmId,
        /// What went wrong.
        reason: String,
    },
}

/// A source of VMs. All methods may be called at once from several tasks.
pub trait Provider: Send + Sync + 'static {
    /// As configuration calls it.
    fn name(&self) -> &'static str;

    /// Starts a VM; the id makes it idempotent. `Ok` means that it is starting, not that it works: the first
    /// report says that.
    fn launch(&self, vm: VmId, kind: VmKind, size: Resources) -> BoxFuture<'_, Result<(), ProviderError>>;

    /// The VMs that there are, started by this provider or a predecessor, lowest first.
    fn list(&self) -> BoxFuture<'_, Result<Vec<VmId>, ProviderError>>;

    /// Ends a VM with some grace and returns when it is gone with all that was in it.
    fn retire(&self, vm: VmId) -> BoxFuture<'_, Result<(), ProviderError>>;

    /// The next VM that has ended, for whatever reason; what is left of it is cleared away then. Each is told once; waits
    /// for ever where the source never tells.
    fn next_ended(&self) -> BoxFuture<'_, VmId>;

    /// Ends all VMs: the cluster stops. Whoever can do so more quickly than one by one does.
    fn retire_all(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let vms = match self.list().await {
                Ok(vms) => vms,
                Err(error) => {
                    tracing::error!(%error, "cannot learn which VMs there are; they are left behind");
                    return;
                }
            };
            for ended in join_all(vms.into_iter().map(|vm| self.retire(vm))).await {
                if let Err(error) = ended {
                    tracing::error!(%error, "a VM is left behind");
                }
            }
            self.tidy_up().await;
        })
    }

    /// Removes what it had made for all VMs together, once they have ended.
    fn tidy_up(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_may_have_blanks_and_a_quote_must_end() {
        let found =
            words("command.program", "  env 'A=a b' \"/my tools/vms.py\" -v /other\\ tools ").unwrap();
        assert_eq!(found, ["env", "A=a b", "/my tools/vms.py", "-v", "/other tools"]);
        assert_eq!(words("docker.binds", "").unwrap(), Vec::<String>::new());
        let refused = words("docker.binds", "'/usr:/usr").unwrap_err().to_string();
        assert!(refused.contains("docker.binds") && refused.contains("'/usr:/usr"), "{refused}");
    }
}
