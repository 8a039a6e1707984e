//! The network of one cluster's VMs: a bridge in the network namespace that this process is in.
//!
//! **Promises:** clusters of one machine do not share names of interfaces; whoever made a bridge removes it.
//! **Gives up:** the way to anywhere beyond the host, and choosing a subnet: two clusters of one machine need two.

use std::fmt::Display;
use std::io::Write;
use std::net::Ipv4Addr;
use std::process::{Command, Stdio};

use vocabulary::VmId;

use super::init::Machine;
use crate::settings;

/// A cluster's network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    subnet: Subnet,
    mark: String,
    bridge: String,
    /// Somebody else made the bridge, and will remove it.
    is_given: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Subnet {
    base: u32,
    bits: u32,
}

impl Network {
    /// As the settings say it. Nothing is made yet.
    ///
    /// # Errors
    /// The subnet is none.
    pub fn of(cluster: &str, settings: &settings::Netns) -> Result<Self, String> {
        let subnet = Subnet::parse(&settings.subnet).ok_or_else(|| {
            format!("cannot use netns.subnet = '{}'; it is written as 10.99.0.0/16", settings.subnet)
        })?;
        let mark = short_hash(cluster);
        let is_given = !settings.bridge.is_empty();
        let bridge = if is_given { settings.bridge.clone() } else { format!("wfb{mark}") };
        Ok(Self { subnet, mark, bridge, is_given })
    }

    /// What the bridge is called.
    pub fn bridge(&self) -> &str {
        &self.bridge
    }

    /// The host's own address, by which VMs reach it.
    pub fn gateway(&self) -> Ipv4Addr {
        self.subnet.gateway()
    }

    /// Makes the bridge, unless it is there.
    ///
    /// # Errors
    /// It is not there and cannot be made.
    pub fn make(&self) -> Result<(), String> {
        let bridge = &self.bridge;
        if ip(&format!("link show {bridge}\n")) {
            return Ok(());
        }
        if self.is_given {
            return Err(format!("finds no bridge {bridge} (netns.bridge)"));
        }
        let (gateway, bits) = (self.gateway(), self.subnet.bits);
        let made = ip(&format!(
            "link add {bridge} type bridge\naddr add {gateway}/{bits} dev {bridge}\nlink set {bridge} up\n"
        ));
        if made { Ok(()) } else { Err(format!("cannot make the bridge {bridge}: is `ip` (iproute2) there?")) }
    }

    /// Removes the bridge, unless somebody else made it; true if there is nothing left of ours.
    pub fn remove(&self) -> bool {
        self.is_given || ip(&format!("link del {}\n", self.bridge))
    }

    /// What makes one VM a part of it.
    pub(super) fn machine(&self, vm: VmId, lxcfs: Option<String>) -> Machine {
        Machine {
            name: vm.to_string(),
            cable: format!("wf{}-{:x}", self.mark, vm.0 & 0xffff_ffff),
            bridge: self.bridge.clone(),
            address: format!("{}/{}", self.address(vm), self.subnet.bits),
            gateway: self.gateway().to_string(),
            lxcfs,
        }
    }

    pub(super) fn address(&self, vm: VmId) -> Ipv4Addr {
        self.subnet.of(vm)
    }

    /// Addresses of the host's loopback are the gateway's, seen from a VM.
    pub(super) fn reachable(&self, urls: &str) -> String {
        reachable(urls, self.gateway())
    }
}

impl Subnet {
    fn parse(text: &str) -> Option<Self> {
        let (base, bits) = text.split_once('/')?;
        let (base, bits) = (u32::from(base.parse::<Ipv4Addr>().ok()?), bits.parse().ok()?);
        ((8..=24).contains(&bits) && base.trailing_zeros() >= 32 - bits).then_some(Self { base, bits })
    }

    fn gateway(self) -> Ipv4Addr {
        Ipv4Addr::from(self.base + 1)
    }

    /// A VM's: ids count up, so those that live at the same time have different ones.
    fn of(self, vm: VmId) -> Ipv4Addr {
        let places = (1u64 << (32 - self.bits)) - 3;
        Ipv4Addr::from(self.base + 2 + (vm.0 % places) as u32)
    }
}

fn reachable(urls: &str, gateway: impl Display) -> String {
    let gateway = gateway.to_string();
    ["127.0.0.1", "localhost", "[::1]"]
        .iter()
        .fold(urls.to_owned(), |urls, local| urls.replace(local, &gateway))
}

/// Four hexadecimal digits.
fn short_hash(text: &str) -> String {
    let fold = |hash: u32, byte: u8| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
    let hash = text.bytes().fold(0x811c_9dc5, fold);
    format!("{:04x}", (hash >> 16) ^ (hash & 0xffff))
}

/// Has `ip` carry out lines of commands, in this thread's network namespace.
pub(super) fn ip(lines: &str) -> bool {
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

    #[test]
    fn a_bridge_that_was_given_is_used_and_left_alone() {
        let given = settings::Netns { bridge: "br7".into(), ..settings::Netns::default() };
        let network = Network::of("some", &given).unwrap();
        assert_eq!(network.bridge(), "br7");
        assert!(network.remove(), "whoever made it removes it");
        let own = Network::of("some", &settings::Netns::default()).unwrap();
        let other = Network::of("other", &settings::Netns::default()).unwrap();
        assert_ne!(own.bridge(), other.bridge());
        assert!(own.bridge().len() <= 15, "the kernel takes no longer names");
    }
}
