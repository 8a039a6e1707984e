//! VMs that are containers of a Docker Engine: `docker update --cpus` is then how their host grows and shrinks them.
//!
//! **Knows:** containers by their labels `windfall.cluster` and `windfall.vm`.
//! **Promises:** one container per VM, by its name; one that has ended removes itself.
//! **Gives up:** building the image (`docker.image` must have `windfall` as its entry point), and knowing at once that a
//! container has ended: it is missing in a list some seconds later.

use std::time::Duration;

use futures::future::BoxFuture;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::sync::Mutex;
use vocabulary::{Mebibytes, Resources, VmId, VmKind};

use super::departed::Departed;
use super::{Provider, ProviderError, words};
use crate::settings;

/// What Docker 20.10 and everything since speaks.
const VERSION: &str = "v1.41";
const PATIENCE: Duration = Duration::from_secs(60);
/// The longest answer that is read.
const ANSWER_MAX: usize = 8 << 20;
/// From SIGTERM to SIGKILL.
const GRACE_S: u64 = 10;

/// VMs of one cluster on one Docker Engine.
pub struct DockerProvider {
    settings: settings::Docker,
    binds: Vec<String>,
    cluster: String,
    environment: Vec<(String, String)>,
    /// What a VM keeps for its agent, beside what was asked for.
    headroom: Mebibytes,
    client: reqwest::Client,
    departed: Departed,
    listing: Mutex<()>,
}

impl DockerProvider {
    /// As configured.
    pub fn open(
        settings: &settings::Docker,
        cluster: &str,
        environment: Vec<(String, String)>,
        headroom: Mebibytes,
    ) -> Result<Self, ProviderError> {
        if settings.image.is_empty() {
            return Err(ProviderError::Setup("the provider 'docker' needs docker.image".to_owned()));
        }
        let client =
            reqwest::Client::builder().unix_socket(settings.socket.clone()).timeout(PATIENCE).build();
        Ok(Self {
            client: client
                .map_err(|error| ProviderError::Setup(format!("the provider 'docker': {error}")))?,
            binds: words("docker.binds", &settings.binds)?,
            settings: settings.clone(),
            cluster: cluster.to_owned(),
            environment,
            headroom,
            departed: Departed::new(),
            listing: Mutex::new(()),
        })
    }

    /// A status, and what was said with it.
    async fn ask(&self, method: Method, path: &str, body: Option<Value>) -> Result<(u16, Value), String> {
        let mut request = self.client.request(method, format!("http://docker/{VERSION}{path}"));
        if let Some(body) = body {
            request = request.json(&body);
        }
        let socket = self.settings.socket.display();
        let mut response = request.send().await.map_err(|error| format!("Docker at {socket}: {error:?}"))?;
        let status = response.status().as_u16();
        let mut bytes = Vec::new();
        while let Some(chunk) =
            response.chunk().await.map_err(|error| format!("Docker at {socket}: {error}"))?
        {
            if bytes.len() + chunk.len() > ANSWER_MAX {
                return Err(format!("Docker said more than {ANSWER_MAX} bytes"));
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok((status, serde_json::from_slice(&bytes).unwrap_or(Value::Null)))
    }

    fn container(&self, vm: VmId) -> String {
        format!("windfall-{}-{vm}", self.cluster)
    }

    async fn run(&self, vm: VmId, kind: VmKind, size: Resources) -> Result<(), String> {
        let name = self.container(vm);
        let own = [
            ("WINDFALL_VM__ID", vm.to_string()),
            ("WINDFALL_VM__KIND", kind.to_string()),
            ("WINDFALL_VM__HEADROOM", self.headroom.0.to_string()),
        ];
        let environment = self.environment.iter().map(|(name, value)| format!("{name}={value}"));
        let environment: Vec<String> =
            environment.chain(own.map(|(name, value)| format!("{name}={value}"))).collect();
        let memory = u64::from((size.memory + self.headroom).0) << 20;
        let wish = json!({
            "Image": self.settings.image,
            "Cmd": ["vm"],
            "Env": environment,
            "Labels": { "windfall.cluster": self.cluster, "windfall.vm": vm.to_string() },
            "HostConfig": {
                "NanoCpus": u64::from(size.cpu.0) * 1_000_000,
                "Memory": memory,
                "MemorySwap": memory,
                "NetworkMode": self.settings.network,
                "Binds": self.binds,
                "Init": self.settings.init,
                "AutoRemove": true,
            },
        });
        match self.ask(Method::POST, &format!("/containers/create?name={name}"), Some(wish)).await? {
            // 409: it is there already, from an earlier try.
            (201 | 409, _) => {}
            (status, told) => return Err(refusal("create", status, &told)),
        }
        match self.ask(Method::POST, &format!("/containers/{name}/start"), None).await? {
            (204 | 304, _) => Ok(()),
            (status, told) => {
                // What was made and does not start would stand in the way of the next try.
                let _ = self.ask(Method::DELETE, &format!("/containers/{name}?force=true"), None).await;
                Err(refusal("start", status, &told))
            }
        }
    }

    async fn vms(&self) -> Result<Vec<VmId>, String> {
        let _in_order = self.listing.lock().await;
        let filter = json!({ "label": [format!("windfall.cluster={}", self.cluster)] }).to_string();
        let filter: String = filter.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let (status, told) =
            self.ask(Method::GET, &format!("/containers/json?filters={filter}"), None).await?;
        let Some(containers) = told.as_array().filter(|_| status == 200) else {
            return Err(refusal("list", status, &told));
        };
        let label = |container: &Value| container["Labels"]["windfall.vm"].as_str()?.parse().ok();
        let mut vms: Vec<VmId> = containers.iter().filter_map(label).collect();
        vms.sort_unstable();
        self.departed.listed(&vms);
        Ok(vms)
    }

    async fn end(&self, vm: VmId) -> Result<(), String> {
        let name = self.container(vm);
        match self.ask(Method::POST, &format!("/containers/{name}/stop?t={GRACE_S}"), None).await? {
            (204 | 304 | 404, _) => {}
            (status, told) => return Err(refusal("stop", status, &told)),
        }
        match self.ask(Method::DELETE, &format!("/containers/{name}?force=true"), None).await? {
            // 409: it is removing itself.
            (204 | 404 | 409, _) => Ok(()),
            (status, told) => Err(refusal("remove", status, &told)),
        }
    }
}

fn refusal(what: &str, status: u16, told: &Value) -> String {
    format!("Docker does not {what}: {status} {}", told["message"].as_str().unwrap_or_default())
}

impl Provider for DockerProvider {
    fn name(&self) -> &'static str {
        "docker"
    }

    fn launch(&self, vm: VmId, kind: VmKind, size: Resources) -> BoxFuture<'_, Result<(), ProviderError>> {
        Box::pin(async move {
            self.run(vm, kind, size).await.map_err(|reason| ProviderError::Launch { vm, reason })
        })
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<VmId>, ProviderError>> {
        Box::pin(async { self.vms().await.map_err(ProviderError::Setup) })
    }

    fn retire(&self, vm: VmId) -> BoxFuture<'_, Result<(), ProviderError>> {
        Box::pin(async move { self.end(vm).await.map_err(|reason| ProviderError::Retire { vm, reason }) })
    }

    fn next_ended(&self) -> BoxFuture<'_, VmId> {
        Box::pin(self.departed.next())
    }
}
