//! The network of VMs that have one of their own: `up` makes its bridge, because nats-server listens there.
//!
//! **Promises:** nothing listens on an address that the machine had before; the bridge goes when `up` does, and one that
//! an `up` of the same folder left behind goes first.
//! **Gives up:** more than one machine.

use std::net::{Ipv4Addr, TcpListener};

use actors::providers::netns::Network;
use actors::settings::Netns;

use crate::configuration::{Configuration, Source};
use crate::failure::{Failure, Outcome};

/// A bridge that is there for as long as this is.
pub struct Bridge(Network);

impl Drop for Bridge {
    fn drop(&mut self) {
        self.0.remove();
    }
}

impl Bridge {
    /// Makes it, on the subnet that is configured, or on a free one where none is.
    pub fn make(configuration: &Configuration, cluster: &str) -> Outcome<(Self, Netns)> {
        if !nix::unistd::geteuid().is_root() {
            return Err(Failure::usage("the provider 'netns' needs root; 'process' does not"));
        }
        let mut settings = configuration.settings.netns.clone();
        let network = |settings: &Netns| Network::of(cluster, settings).map_err(Failure::usage);
        network(&settings)?.remove();
        if *configuration.source("netns.subnet") == Source::Default {
            let free = (99..=126).map(|second| Ipv4Addr::new(10, second, 0, 0)).find(|base| {
                let [a, b, c, _] = base.octets();
                // Who can listen on an address has it.
                TcpListener::bind((Ipv4Addr::new(a, b, c, 1), 0)).is_err()
            });
            let free = free.ok_or_else(|| {
                Failure::usage("no network from 10.99.0.0/16 to 10.126.0.0/16 is free; set netns.subnet")
            })?;
            settings.subnet = format!("{free}/16");
        }
        let made = network(&settings)?;
        made.make().map_err(|error| Failure::usage(format!("the provider 'netns' {error}")))?;
        settings.bridge = made.bridge().to_owned();
        Ok((Self(made), settings))
    }

    /// The host's own address there.
    pub fn host(&self) -> String {
        self.0.gateway().to_string()
    }
}
