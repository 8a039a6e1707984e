//! Where VMs come from: one trait, one file per kind of source.
//!
//! **Knows:** how to start, list and end VMs somewhere.
//! **Promises:** starting twice under one id starts one VM; ending what is gone is no error; a provider that was
//! started anew knows the VMs that its predecessor left, from the world and not from memory.
//! **Gives up:** deciding how many there should be; that is `policies::provisioning`.
//!
//! `process` makes VMs of this machine. Cloud providers, and one that runs any command, find their place beside it.

pub mod process;

use futures::future::BoxFuture;
use vocabulary::{Resources, VmId, VmKind};

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

    /// The next VM that has ended, for whatever reason, and been cleaned up. Each is told once; waits for ever
    /// where the source never tells.
    fn next_ended(&self) -> BoxFuture<'_, VmId>;

    /// Ends all VMs quickly: the cluster stops.
    fn retire_all(&self) -> BoxFuture<'_, ()>;
}
