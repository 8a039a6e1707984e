//! When a cluster takes work: its doors answer and its fleet has reported.

use std::time::Duration;

use actors::bus::Bus;
use messages::{FleetList, subjects};
use vocabulary::VmStanding;

use crate::failure::{Exit, Failure, Outcome};
use crate::vm;

/// Between two looks.
const LOOK: Duration = Duration::from_millis(50);

/// Connects to a nats-server that has just been started.
pub async fn nats(settings: &actors::settings::Nats, patience: Duration) -> Outcome<Bus> {
    let began = std::time::Instant::now();
    loop {
        match Bus::connect(settings, "windfall up").await {
            Ok(bus) => return Ok(bus),
            Err(error @ actors::bus::BusError::Connect { .. }) if began.elapsed() < patience => {
                tracing::debug!(%error, "not yet");
                tokio::time::sleep(LOOK).await;
            }
            Err(error) => return Err(Failure::new(Exit::Unreachable, error.to_string())),
        }
    }
}

/// Waits until the HTTP door answers and `vms` VMs have reported. Gives up after `patience` with what is missing.
pub async fn cluster(bus: &Bus, base: &str, vms: u32, patience: Duration) -> Outcome<FleetList> {
    let began = std::time::Instant::now();
    loop {
        let door = ping(base).await;
        let fleet = fleet(bus).await;
        let open = fleet.iter().flat_map(|fleet| &fleet.vms);
        let open = open.filter(|vm| vm.standing == Some(VmStanding::Open)).count();
        if let (true, Some(fleet)) = (door, &fleet)
            && open >= vms as usize
        {
            return Ok(fleet.clone());
        }
        if began.elapsed() > patience {
            let missing = match (door, fleet) {
                (false, _) => format!("the HTTP door at {base} does not answer"),
                (_, None) => "the Resource Monitor does not answer".into(),
                _ => format!("{open} of {vms} VMs have reported"),
            };
            return Err(Failure::new(
                Exit::Failed,
                format!("the cluster is not ready after {} s: {missing}", patience.as_secs()),
            ));
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// The fleet as the Resource Monitor knows it; `None` while there is none.
pub async fn fleet(bus: &Bus) -> Option<FleetList> {
    vm::ask(bus.client(), subjects::FLEET_LIST.to_owned(), bytes::Bytes::new()).await.ok().flatten()
}

async fn ping(base: &str) -> bool {
    let answer = reqwest::Client::new().get(format!("{base}/ping")).timeout(Duration::from_secs(2)).send();
    answer.await.is_ok_and(|answer| answer.status().is_success())
}
