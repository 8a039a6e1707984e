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

pub use init::{COMMAND, vm_init};

use std::fmt::Display;
use std::io::Write;
use std::net::Ipv4Addr;
use std::process::{Command, Stdio};

use futures::future::BoxFuture;
use vocabulary::{Resources, VmId, VmKind};

use super::process::{Own, ProcessProvider, ProcessSettings};
use super::{Provider, ProviderError};
use crate::settings;
use init::Machine;

/// VMs of this machine that look like machines.
pub struct NetnsProvider {
    vms: ProcessProvider,
    bridge: String,
    /// Ends with us, unless it was there before.
    lxcfs: Option<lxcfs::Lxcfs>,
}

/// The network of a cluster's VMs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Subnet {
    base: u32,
    bits: u32,
}

impl Subnet {
    fn parse(text: &str) -> Option<Self> {
        let (base, bits) = text.split_once('/')?;
        let (base, bits) = (u32::from(base.parse::<Ipv4Addr>().ok()?), bits.parse().ok()?);
        ((8..=24).contains(&bits) && base.trailing_zeros() >= 32 - bits).then_some(Self { base, bits })
    }

    /// The host's own address there.
    fn gateway(self) -> Ipv4Addr {
        Ipv4Addr::from(self.base + 1)
    }

    /// A VM's: ids count up, so those that live at the same time have different ones.
    fn of(self, vm: VmId) -> Ipv4Addr {
        let places = (1u64 << (32 - self.bits)) - 3;
        Ipv4Addr::from(self.base + 2 + (vm.0 % places) as u32)
    }
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
        let subnet = Subnet::parse(&settings.subnet).ok_or_else(|| {
            trouble(&format!(
                "cannot use netns.subnet = '{}'; it is written as 10.99.0.0/16",
                settings.subnet
            ))
        })?;
        let mark = short_hash(&vms.cluster);
        let bridge = format!("wfb{mark}");
        let gateway = subnet.gateway();
        if !ip(&format!("link show {bridge}\n")) {
            let made = ip(&format!(
                "link add {bridge} type bridge\naddr add {gateway}/{bits} dev {bridge}\nlink set {bridge} up\n",
                bits = subnet.bits
            ));
            if !made {
                return Err(trouble(&format!("cannot make the bridge {bridge}: is `ip` (iproute2) there?")));
            }
        }
        let lxcfs = lxcfs::Lxcfs::find(&settings.lxcfs, &vms.folder);
        let view = lxcfs.as_ref().map(|lxcfs| lxcfs.path().display().to_string());
        let nats = reachable(nats_url, gateway);
        vms.environment.retain(|(name, _)| name != "WINDFALL_NATS__URL");
        vms.environment.push(("WINDFALL_NATS__URL".into(), nats));
        vms.arguments = vec![COMMAND.into()];
        let of_vm = bridge.clone();
        vms.own = Own::with(move |vm| {
            let address = subnet.of(vm);
            let machine = Machine {
                name: vm.to_string(),
                cable: format!("wf{mark}-{:x}", vm.0 & 0xffff_ffff),
                bridge: of_vm.clone(),
                address: format!("{address}/{}", subnet.bits),
                gateway: gateway.to_string(),
                lxcfs: view.clone(),
            };
            vec![("WINDFALL_VM__METRICS".into(), format!("{address}:0")), machine.as_variable()]
        });
        Ok(Self { vms: ProcessProvider::open(vms)?, bridge, lxcfs })
    }
}

/// Addresses of the host's loopback are the gateway's, seen from a VM.
fn reachable(urls: &str, gateway: Ipv4Addr) -> String {
    let gateway = gateway.to_string();
    ["127.0.0.1", "localhost", "[::1]"]
        .iter()
        .fold(urls.to_owned(), |urls, local| urls.replace(local, &gateway))
}

/// Four hexadecimal digits, so that clusters do not share names of interfaces.
fn short_hash(text: &str) -> String {
    let fold = |hash: u32, byte: u8| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
    let hash = text.bytes().fold(0x811c_9dc5, fold);
    format!("{:04x}", (hash >> 16) ^ (hash & 0xffff))
}

/// Has `ip` carry out lines of commands, in this thread's network namespace.
fn ip(lines: &str) -> bool {
    let child = Command::new("ip")
        .args(["-batch", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let Ok(mut child) = child else { return false };
    let written = child.stdin.take().is_some_and(|mut input| input.write_all(lines.as_bytes()).is_ok());
    child.wait().is_ok_and(|status| status.success()) && written
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
            let bridge = self.bridge.clone();
            let removed = tokio::task::spawn_blocking(move || ip(&format!("link del {bridge}\n"))).await;
            if !removed.unwrap_or(false) {
                tracing::warn!(bridge = self.bridge, "a bridge is left behind");
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_vm_has_an_address_and_the_host_has_the_first() {
        let subnet = Subnet::parse("10.99.0.0/16").unwrap();
        assert_eq!(subnet.gateway(), Ipv4Addr::new(10, 99, 0, 1));
        assert_eq!(subnet.of(VmId(1)), Ipv4Addr::new(10, 99, 0, 3));
        assert_eq!(subnet.of(VmId(65_532)), Ipv4Addr::new(10, 99, 255, 254));
        assert_ne!(subnet.of(VmId(65_533)), subnet.gateway());
        for nonsense in ["", "10.99.0.0", "10.99.0.1/16", "10.99.0.0/31", "10.99.0.0/0", "x/16"] {
            assert_eq!(Subnet::parse(nonsense), None, "{nonsense}");
        }
    }

    #[test]
    fn a_nats_server_of_the_host_is_reached_through_the_bridge() {
        let gateway = Ipv4Addr::new(10, 99, 0, 1);
        let seen = reachable("nats://127.0.0.1:4222,nats://n2:4222,nats://localhost:1", gateway);
        assert_eq!(seen, "nats://10.99.0.1:4222,nats://n2:4222,nats://10.99.0.1:1");
    }
}
