//! The metadata service of every machine of the cluster, at the address where clouds have it.
//!
//! **Knows:** the network namespace of each VM of the provider `netns`.
//! **Promises:** a VM has a service within half a second of its first report, and it says nothing until a fault makes it;
//! one that was slow, wrong or nonsense is as it should be when its guard is dropped.
//! **Gives up:** VMs that share our network: there is one 169.254.169.254 for all of them, or none.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use messages::FleetVm;
use vocabulary::VmId;

use super::{House, reach};
use crate::metadata::{ADDRESS, MetadataServer, Temper};

/// How often VMs are looked for that have come or gone.
const LOOK: Duration = Duration::from_millis(500);

type Services = BTreeMap<VmId, Arc<MetadataServer>>;

/// All of them.
#[derive(Clone, Default)]
pub(super) struct Clouds(Arc<Mutex<Services>>);

impl Clouds {
    /// Looks after them for ever.
    pub async fn keep(self, house: House) -> std::convert::Infallible {
        loop {
            let fleet = house.fleet().await.vms;
            if !fleet.is_empty() {
                let mut gone = Services::new();
                {
                    let mut services = self.services();
                    // What a VM without a network of its own lacks is said when a fault wants it.
                    fleet.iter().for_each(|vm| drop(services_of(&mut services, vm)));
                    let here = |vm: &VmId| fleet.iter().any(|listed| listed.vm == *vm);
                    let lost: Vec<VmId> = services.keys().copied().filter(|vm| !here(vm)).collect();
                    gone.extend(lost.into_iter().filter_map(|vm| services.remove_entry(&vm)));
                }
                drop(gone);
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// The service of one VM.
    pub fn of(&self, vm: &FleetVm) -> Result<Arc<MetadataServer>, String> {
        services_of(&mut self.services(), vm)
    }

    fn services(&self) -> MutexGuard<'_, Services> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn services_of(services: &mut Services, vm: &FleetVm) -> Result<Arc<MetadataServer>, String> {
    if let Some(service) = services.get(&vm.vm) {
        return Ok(Arc::clone(service));
    }
    let network = reach::network(vm)?.ok_or("VMs have no network of their own (provider `netns`)")?;
    let service = MetadataServer::start_inside(&network, ADDRESS, &vm.vm.to_string())
        .map_err(|error| format!("no metadata service for {}: {error}", vm.vm))?;
    let service = Arc::new(service);
    services.insert(vm.vm, Arc::clone(&service));
    Ok(service)
}

/// A service that misbehaves for as long as this lives.
pub(super) struct Ill(Arc<MetadataServer>);

impl Ill {
    pub fn of(service: Arc<MetadataServer>, temper: Temper) -> Self {
        service.behave(temper);
        Self(service)
    }

    /// Says that another machine will end in so long.
    pub fn of_another(service: Arc<MetadataServer>, left: Duration) -> Self {
        service.azure_event("Preempt", &["vm-another"], left);
        Self(service)
    }
}

impl Drop for Ill {
    fn drop(&mut self) {
        self.0.behave(Temper::Faithful);
        self.0.call_off();
    }
}
