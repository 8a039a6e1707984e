//! Who may announce that this VM will be evicted: one file per source, behind one small trait.
//!
//! `SIGTERM` is the notice of everything that runs processes: systemd, Kubernetes, `docker stop`, our own provider.
//! Clouds have a metadata service each, and an operator sends a message.

mod aws;
mod azure;
mod dates;
mod gcp;
mod metadata;
mod operator;
mod sigterm;
mod standing;

pub use aws::Aws;
pub use azure::Azure;
pub use gcp::Gcp;
pub use metadata::Metadata;
pub use operator::Operator;
pub use sigterm::Sigterm;
pub(super) use standing::Change;
pub use standing::Standing;

use std::sync::Arc;

use futures::future::BoxFuture;
use vocabulary::Span;

use crate::metrics::InvokerMetrics;
use crate::settings;

/// What one source says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Said {
    /// The VM will be evicted, so long from now.
    WillEnd(Span),
    /// It will not be, after all.
    CalledOff,
    /// It may be, and nobody says when: a soft notice.
    MayEnd,
}

/// What holds for the VM, all sources together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Noticed {
    /// From now until the VM is gone; absent when an eviction was called off.
    pub time_left: Option<Span>,
    /// Who says so, as in [`messages::Notice::source`].
    pub source: &'static str,
}

/// Somebody who announces evictions.
pub trait NoticeSource: Send + Sync + 'static {
    /// As in [`messages::Notice::source`].
    fn name(&self) -> &'static str;

    /// The next thing it says; waits for as long as it takes. A call that is given up loses nothing.
    fn next(&self) -> BoxFuture<'_, Said>;

    /// Nothing runs on the VM any more: whoever announced its end need not wait for the deadline.
    fn drained(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }
}

/// The sources of the cloud that this VM is in, as `vm.notices` says. Finding out reads three small files.
pub fn of_cloud(settings: &settings::Vm, metrics: &Arc<InvokerMetrics>) -> Vec<Arc<dyn NoticeSource>> {
    let cloud = match settings.notices.as_str() {
        "auto" => detected().unwrap_or("none"),
        named => named,
    };
    let metadata = || Metadata::new(settings, Arc::clone(metrics));
    match cloud {
        Azure::NAME => vec![Arc::new(Azure::new(metadata(), &settings.azure_name))],
        Aws::NAME => vec![Arc::new(Aws::new(metadata()))],
        Gcp::NAME => vec![Arc::new(Gcp::preemption(metadata())), Arc::new(Gcp::maintenance(metadata()))],
        _ => Vec::new(),
    }
}

/// Which cloud's machine this is, by what its firmware says.
fn detected() -> Option<&'static str> {
    let firmware = |name: &str| {
        std::fs::read_to_string(format!("/sys/class/dmi/id/{name}")).unwrap_or_default().trim().to_owned()
    };
    cloud_of(&firmware("sys_vendor"), &firmware("product_name"), &firmware("chassis_asset_tag"))
}

fn cloud_of(vendor: &str, product: &str, asset: &str) -> Option<&'static str> {
    // The tag is what cloud-init goes by: Hyper-V alone may be anybody's.
    if asset == "7783-7084-3265-9085-8269-3286-77" {
        Some(Azure::NAME)
    } else if vendor == "Amazon EC2" {
        Some(Aws::NAME)
    } else if product == "Google Compute Engine" {
        Some(Gcp::NAME)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cloud_is_known_by_its_firmware() {
        let azure = "7783-7084-3265-9085-8269-3286-77";
        assert_eq!(cloud_of("Microsoft Corporation", "Virtual Machine", azure), Some("azure"));
        assert_eq!(cloud_of("Microsoft Corporation", "Virtual Machine", "somebody's own"), None);
        assert_eq!(cloud_of("Amazon EC2", "m5.large", "Amazon EC2"), Some("aws"));
        assert_eq!(cloud_of("Google", "Google Compute Engine", ""), Some("gcp"));
        assert_eq!(cloud_of("", "", ""), None);
    }
}
