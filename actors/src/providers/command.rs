//! VMs from anywhere: any program that can launch, list and retire.
//!
//! The program is called with one more argument, `launch`, `list` or `retire`, reads one JSON object from its standard
//! input, writes one to its standard output and ends with 0. What it writes to standard error goes to our log.
//!
//! | call | reads | writes |
//! | --- | --- | --- |
//! | `launch` | `cluster`, `vm`, `kind` (`harvest`, `regular`), `cpu_millicores`, `memory_mib`, `environment` (an object: variables for `windfall vm`) | `{}` |
//! | `list` | `cluster` | `{"vms": ["vm-1", ...]}`: those that exist or are being made |
//! | `retire` | `cluster`, `vm` | `{}`, once it is gone |
//!
//! `{"error": "why"}`, or another exit code, is a refusal. `launch` for a VM that exists does nothing: the id is the token.
//!
//! **Promises:** one that hangs is killed after `command.timeout_ms`; of one that talks without end a mebibyte is read.
//! **Gives up:** knowing at once that a VM has ended: it is missing in a list some seconds later.

use std::process::Stdio;
use std::time::Duration;

use futures::future::BoxFuture;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;
use tokio::sync::Mutex;
use vocabulary::{Resources, VmId, VmKind};

use super::departed::Departed;
use super::{Provider, ProviderError};

/// The longest answer that is read.
const ANSWER_MAX: u64 = 1 << 20;

/// How a program is called.
#[derive(Debug, Clone)]
pub struct CommandSettings {
    /// The program and its first arguments.
    pub program: Vec<String>,
    /// How long one call may take.
    pub timeout: Duration,
    /// Name of the cluster.
    pub cluster: String,
    /// Variables of every VM.
    pub environment: Vec<(String, String)>,
}

/// VMs that a program makes.
pub struct CommandProvider {
    settings: CommandSettings,
    departed: Departed,
    /// Lists are compared in the order in which they were made.
    listing: Mutex<()>,
}

impl CommandProvider {
    /// With the program that is named.
    pub fn open(settings: CommandSettings) -> Result<Self, ProviderError> {
        if settings.program.is_empty() {
            return Err(ProviderError::Setup(
                "the provider 'command' needs command.program, such as deploy/providers/processes.py"
                    .to_owned(),
            ));
        }
        Ok(Self { settings, departed: Departed::new(), listing: Mutex::new(()) })
    }

    async fn ask(&self, what: &str, mut input: Value) -> Result<Value, String> {
        input["cluster"] = self.settings.cluster.clone().into();
        let call = call(&self.settings.program, what, input.to_string());
        match tokio::time::timeout(self.settings.timeout, call).await {
            Ok(answer) => answer,
            Err(_) => Err(format!("`{what}` took longer than {:?} and was ended", self.settings.timeout)),
        }
    }

    async fn vms(&self) -> Result<Vec<VmId>, String> {
        let _in_order = self.listing.lock().await;
        let answer = self.ask("list", json!({})).await?;
        let listed = answer["vms"].as_array().ok_or("`list` did not write {\"vms\": [...]}")?;
        let ids: Option<Vec<VmId>> = listed.iter().map(|id| id.as_str()?.parse().ok()).collect();
        let mut ids = ids.ok_or_else(|| format!("`list` wrote something that is no VM's id: {answer}"))?;
        ids.sort_unstable();
        ids.dedup();
        self.departed.listed(&ids);
        Ok(ids)
    }
}

/// One call of the program; it is killed when this is given up.
async fn call(program: &[String], what: &str, input: String) -> Result<Value, String> {
    let (first, rest) = program.split_first().ok_or("no program")?;
    let mut child = Command::new(first)
        .args(rest)
        .arg(what)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| format!("cannot start {first}: {error}"))?;
    let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
    let write = async {
        if let Some(mut stdin) = stdin {
            // A program that does not want to know may have closed it.
            let _ = stdin.write_all(input.as_bytes()).await;
        }
    };
    let read = async {
        let mut text = Vec::new();
        if let Some(stdout) = stdout {
            stdout.take(ANSWER_MAX).read_to_end(&mut text).await?;
        }
        Ok::<_, std::io::Error>(text)
    };
    let ((), text) = tokio::join!(write, read);
    let text = text.map_err(|error| error.to_string())?;
    let status = child.wait().await.map_err(|error| error.to_string())?;
    let answer = serde_json::from_slice::<Value>(&text);
    if let Some(error) = answer.as_ref().ok().and_then(|answer| answer["error"].as_str()) {
        return Err(error.to_owned());
    }
    if !status.success() {
        return Err(format!("`{what}` ended with {status}"));
    }
    answer.map_err(|error| format!("`{what}` did not write JSON: {error}"))
}

impl Provider for CommandProvider {
    fn name(&self) -> &'static str {
        "command"
    }

    fn launch(&self, vm: VmId, kind: VmKind, size: Resources) -> BoxFuture<'_, Result<(), ProviderError>> {
        Box::pin(async move {
            let mut environment: serde_json::Map<String, Value> = serde_json::Map::new();
            let own = [("WINDFALL_VM__ID", vm.to_string()), ("WINDFALL_VM__KIND", kind.to_string())];
            let own = own.map(|(name, value)| (name.to_owned(), value));
            for (name, value) in self.settings.environment.iter().cloned().chain(own) {
                environment.insert(name, value.into());
            }
            let order = json!({
                "vm": vm.to_string(), "kind": kind.to_string(), "cpu_millicores": size.cpu.0,
                "memory_mib": size.memory.0, "environment": environment,
            });
            let done = self.ask("launch", order).await;
            done.map(drop).map_err(|reason| ProviderError::Launch { vm, reason })
        })
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<VmId>, ProviderError>> {
        Box::pin(async { self.vms().await.map_err(ProviderError::Setup) })
    }

    fn retire(&self, vm: VmId) -> BoxFuture<'_, Result<(), ProviderError>> {
        Box::pin(async move {
            let done = self.ask("retire", json!({ "vm": vm.to_string() })).await;
            done.map(drop).map_err(|reason| ProviderError::Retire { vm, reason })
        })
    }

    fn next_ended(&self) -> BoxFuture<'_, VmId> {
        Box::pin(self.departed.next())
    }
}
