//! VMs that are as good as machines: each has its own network, processes and mounts beside its control group.
//!
//! **Knows:** what `process` knows, and a bridge in the network namespace that this process is in.
//! **Promises:** a VM has its own address and its own 169.254.169.254; cutting its cable (`ip link set` on the host's
//! end) cuts off it alone. Its first process is the machine: when that is killed, everything in it is gone at once.
//! Where `lxcfs` is there, `/proc/meminfo` shows the VM's memory and changes with it, as on a real harvest VM.
//! **Gives up:** a kernel of its own, and the way to anywhere beyond the host. Needs root and `ip`. Its CPUs: `lxcfs` shows
//! those of a cpuset, in which our VMs do not stand; they go by their control group's quota.

mod init;
mod lxcfs;
mod network;

pub use init::{COMMAND, vm_init};
pub use network::Network;

use std::fmt::Display;

use futures::future::BoxFuture;
use vocabulary::{Resources, VmId, VmKind};

use super::process::{Own, ProcessProvider, ProcessSettings};
use super::{Provider, ProviderError};
use crate::settings;

/// VMs of this machine that look like machines.
pub struct NetnsProvider {
    vms: ProcessProvider,
    network: Network,
    /// Ends with us, unless it was there before.
    lxcfs: Option<lxcfs::Lxcfs>,
}

impl NetnsProvider {
    /// Takes over the folder of `vms`, as `process` does, and makes the network. Must be called on a tokio runtime.
    pub fn open(
        mut vms: ProcessSettings,
        settings: &settings::Netns,
        nats_url: &str,
    ) -> Result<Self, ProviderError> {
        let trouble = |what: &dyn Display| ProviderError::Setup(format!("the provider 'netns' {what}"));
        // SAFETY: takes no argument.
        if unsafe { libc::geteuid() } != 0 {
            return Err(trouble(&"needs root"));
        }
        let network = Network::of(&vms.cluster, settings).map_err(|error| trouble(&error))?;
        network.make().map_err(|error| trouble(&error))?;
        let lxcfs = lxcfs::Lxcfs::find(&settings.lxcfs, &vms.folder);
        let view = lxcfs.as_ref().map(|lxcfs| lxcfs.path().display().to_string());
        vms.environment.retain(|(name, _)| name != "WINDFALL_NATS__URL");
        vms.environment.push(("WINDFALL_NATS__URL".into(), network.reachable(nats_url)));
        vms.arguments = vec![COMMAND.into()];
        let of_vm = network.clone();
        vms.own = Own::with(move |vm| {
            let machine = of_vm.machine(vm, view.clone());
            let metrics = format!("{}:0", of_vm.address(vm));
            vec![("WINDFALL_VM__METRICS".into(), metrics), machine.as_variable()]
        });
        Ok(Self { vms: ProcessProvider::open(vms)?, network, lxcfs })
    }
}

impl Provider for NetnsProvider {
    fn name(&self) -> &'static str {
        "netns"
    }

    fn launch(&self, vm: VmId, kind: VmKind, size: Resources) -> BoxFuture<'_, Result<(), ProviderError>> {
        Provider::launch(&self.vms, vm, kind, size)
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<VmId>, ProviderError>> {
        self.vms.list()
    }

    fn retire(&self, vm: VmId) -> BoxFuture<'_, Result<(), ProviderError>> {
        Provider::retire(&self.vms, vm)
    }

    fn next_ended(&self) -> BoxFuture<'_, VmId> {
        self.vms.next_ended()
    }

    fn retire_all(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            self.vms.retire_all().await;
            if let Some(lxcfs) = &self.lxcfs {
                lxcfs.end();
            }
            let network = self.network.clone();
            if !tokio::task::spawn_blocking(move || network.remove()).await.unwrap_or(false) {
                tracing::warn!(bridge = self.network.bridge(), "a bridge is left behind");
            }
        })
    }
}
