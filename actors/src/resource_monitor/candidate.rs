//! A candidate for leadership: a Resource Monitor while it leads, and nothing while another does.
//!
//! **Lives:** once per process of this role; any number per cluster.
//! **Hears:** whether it leads.
//! **Says:** nothing to others.
//! **Owns:** its way to the [`Lease`] and, while it leads, the one Resource Monitor of the cluster.
//! **If it dies:** its Resource Monitor ends with it, and the lease runs out; the next candidate reads the fleet from
//! the provider and the reports.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ractor::{Actor, ActorProcessingErr, ActorRef, SupervisionEvent};
use tokio::task::JoinHandle;

use super::lease::Lease;
use super::{Arguments, ResourceMonitor};
use crate::bus::Bus;
use crate::metrics::ResourceMonitorMetrics;
use crate::providers::{Provider, ProviderError};
use crate::settings::Settings;

/// How long the Resource Monitor may take to stop.
const STOP_PATIENCE: Duration = Duration::from_secs(3);

/// Opens the provider when this candidate leads; none where VMs are started by hand.
pub type Open = Arc<dyn Fn() -> Result<Option<Arc<dyn Provider>>, ProviderError> + Send + Sync>;

/// The provider of whoever leads here, for who must end its VMs when the cluster stops.
pub type Opened = Arc<Mutex<Option<Arc<dyn Provider>>>>;

/// What a candidate is started with, and started again with.
#[derive(Clone)]
pub struct CandidateArguments {
    /// Of the Resource Monitor.
    pub settings: Settings,
    /// The connection.
    pub bus: Bus,
    /// What is counted.
    pub metrics: Arc<ResourceMonitorMetrics>,
    /// Who it is, the same after a restart of the actor.
    pub name: String,
    /// Where VMs come from.
    pub open: Open,
    /// Where the opened provider is left.
    pub opened: Opened,
}

/// What a candidate hears.
#[derive(Debug)]
pub enum Election {
    /// It leads from now on.
    Won,
    /// Another leads.
    Lost,
}

/// The actor; everything it knows is in its [`Campaign`].
pub struct Candidate;

/// What it knows while it lives.
pub struct Campaign {
    arguments: CandidateArguments,
    lease: Arc<Lease>,
    leading: Option<ActorRef<super::Input>>,
    task: JoinHandle<()>,
}

impl Actor for Candidate {
    type Msg = Election;
    type State = Campaign;
    type Arguments = CandidateArguments;

    async fn pre_start(
        &self,
        me: ActorRef<Election>,
        arguments: CandidateArguments,
    ) -> Result<Campaign, ActorProcessingErr> {
        let replicas = arguments.settings.store.replicas;
        let lease = Arc::new(Lease::open(&arguments.bus, replicas, &arguments.name).await?);
        let of_task = Arc::clone(&lease);
        let task = tokio::spawn(async move {
            loop {
                of_task.acquire().await;
                if me.cast(Election::Won).is_err() {
                    return;
                }
                of_task.keep().await;
                if me.cast(Election::Lost).is_err() {
                    return;
                }
            }
        });
        Ok(Campaign { arguments, lease, leading: None, task })
    }

    async fn handle(
        &self,
        me: ActorRef<Election>,
        election: Election,
        campaign: &mut Campaign,
    ) -> Result<(), ActorProcessingErr> {
        match election {
            Election::Won => campaign.lead(&me).await,
            Election::Lost => {
                tracing::warn!("another Resource Monitor leads; this one stands by");
                campaign.follow().await;
                Ok(())
            }
        }
    }

    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<Election>,
        event: SupervisionEvent,
        campaign: &mut Campaign,
    ) -> Result<(), ActorProcessingErr> {
        let (cell, why) = match event {
            SupervisionEvent::ActorFailed(cell, error) => (cell, error.to_string()),
            SupervisionEvent::ActorTerminated(cell, ..) => (cell, "it ended by itself".to_owned()),
            _ => return Ok(()),
        };
        match &campaign.leading {
            // Ended with us, which starts both again.
            Some(leading) if leading.get_id() == cell.get_id() => Err(why.into()),
            _ => Ok(()),
        }
    }

    async fn post_stop(
        &self,
        _: ActorRef<Election>,
        campaign: &mut Campaign,
    ) -> Result<(), ActorProcessingErr> {
        campaign.task.abort();
        campaign.end_monitor().await;
        campaign.lease.release().await;
        Ok(())
    }
}

impl Campaign {
    async fn lead(&mut self, me: &ActorRef<Election>) -> Result<(), ActorProcessingErr> {
        self.follow().await;
        let provider = (self.arguments.open)()?;
        let name = provider.as_ref().map_or("none", |provider| provider.name());
        tracing::info!(candidate = self.arguments.name, provider = name, "this Resource Monitor leads");
        *self.arguments.opened.lock().unwrap_or_else(PoisonError::into_inner) = provider.clone();
        let arguments = Arguments {
            settings: self.arguments.settings.clone(),
            bus: self.arguments.bus.clone(),
            provider,
            metrics: Arc::clone(&self.arguments.metrics),
        };
        let (monitor, _) = Actor::spawn_linked(None, ResourceMonitor, arguments, me.get_cell()).await?;
        self.leading = Some(monitor);
        self.arguments.metrics.leads(true);
        Ok(())
    }

    /// Lets go of everything that only a leader may have.
    async fn follow(&mut self) {
        self.end_monitor().await;
        drop(self.arguments.opened.lock().unwrap_or_else(PoisonError::into_inner).take());
    }

    async fn end_monitor(&mut self) {
        self.arguments.metrics.leads(false);
        if let Some(monitor) = self.leading.take()
            && monitor.stop_and_wait(None, Some(STOP_PATIENCE)).await.is_err()
        {
            tracing::warn!("the Resource Monitor did not stop in time");
        }
    }
}

impl Drop for Campaign {
    fn drop(&mut self) {
        // Also when the actor has crashed, which skips its last words.
        self.task.abort();
    }
}
