//! Where VMs come from.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// VMs with a network of their own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Netns {
    /// Their network; the host has its first address. NATS must listen there.
    pub subnet: String,
    /// A bridge that is there, has that address, and stays; one of our own when empty.
    pub bridge: String,
    /// `auto` (the system's, else one of our own, else none), `off`, or where it is mounted.
    pub lxcfs: String,
}

impl Default for Netns {
    fn default() -> Self {
        Self { subnet: "10.99.0.0/16".into(), bridge: String::new(), lxcfs: "auto".into() }
    }
}

/// VMs that are containers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Docker {
    /// Where the Docker Engine listens.
    pub socket: PathBuf,
    /// An image whose entry point is `windfall`.
    pub image: String,
    /// The network of the containers; `host`, `bridge`, or a name.
    pub network: String,
    /// Folders of the host that every VM sees, as `/from:/to:ro`, separated by blanks; quotes hold a path with blanks together.
    pub binds: String,
    /// Whether a first process of Docker's own looks after orphans.
    pub init: bool,
}

impl Default for Docker {
    fn default() -> Self {
        Self {
            socket: "/var/run/docker.sock".into(),
            image: String::new(),
            network: "bridge".into(),
            binds: String::new(),
            init: true,
        }
    }
}

/// VMs that are instances of EC2. Credentials are those of the environment (`AWS_ACCESS_KEY_ID` and so on).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Ec2 {
    /// Such as `eu-north-1`.
    pub region: String,
    /// Where the API is; AWS's own when empty.
    pub endpoint: String,
    /// The image, `ami-...`: with systemd, cloud-init and `program`.
    pub image: String,
    /// Of every instance. Of several, with commas between them, AWS takes for each VM what is cheap and, of spot capacity, least
    /// likely to be interrupted; the image must have `curl` then.
    pub instance_type: String,
    /// `subnet-...`; the default one when empty. Several where there are several instance types.
    pub subnet: String,
    /// `sg-...`; the default one when empty.
    pub security_group: String,
    /// Name of a key pair to log in with; none when empty.
    pub key: String,
    /// Name of an instance profile; none when empty.
    pub profile: String,
    /// `windfall` on the instance.
    pub program: String,
    /// One line of shell that an instance runs first, to fetch `program` for example.
    pub prepare: String,
}

impl Default for Ec2 {
    fn default() -> Self {
        Self {
            region: String::new(),
            endpoint: String::new(),
            image: String::new(),
            instance_type: "m5.large".into(),
            subnet: String::new(),
            security_group: String::new(),
            key: String::new(),
            profile: String::new(),
            program: "windfall".into(),
            prepare: ":".into(),
        }
    }
}

impl Ec2 {
    /// All types that may be taken.
    pub fn instance_types(&self) -> Vec<&str> {
        listed(&self.instance_type)
    }

    /// All subnets that may be taken; an empty one stands for the default.
    pub fn subnets(&self) -> Vec<&str> {
        let all = listed(&self.subnet);
        if all.is_empty() { vec![""] } else { all }
    }
}

fn listed(text: &str) -> Vec<&str> {
    text.split(',').map(str::trim).filter(|one| !one.is_empty()).collect()
}

/// VMs that any program makes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Command {
    /// The program and its first arguments, separated by blanks; quotes hold a path with blanks together.
    pub program: String,
    /// How long one call of it may take, in ms.
    pub timeout_ms: u64,
}

impl Default for Command {
    fn default() -> Self {
        Self { program: String::new(), timeout_ms: 120_000 }
    }
}
