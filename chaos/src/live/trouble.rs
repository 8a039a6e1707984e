//! Makes what the timetable says, each fault in its time; how one is made stands in `victims`.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::task::JoinSet;
use vocabulary::{MilliCores, Span, VmId};

use super::clouds::Clouds;
use super::{Clock, House};
use crate::timetable::{Planned, Step, Victim};

/// What was done.
#[derive(Debug, Default, Clone)]
pub(super) struct Seen {
    /// When each VM was gone.
    pub deaths: BTreeMap<VmId, Span>,
    /// When a VM was told that it will go; not those whose notice was called off.
    pub notices: BTreeMap<VmId, Span>,
    /// When a VM's quota was changed, and to what.
    pub sizes: Vec<(VmId, MilliCores, Span)>,
    /// When a process was killed with which connections break: of calls that were open then, nobody can know.
    pub breaks: Vec<Span>,
    /// When a Controller was killed.
    pub lost_controllers: Vec<Span>,
    /// Times at which the store was full and nobody said so.
    pub full_unsaid: u32,
    /// When somebody who decides could not hear what he should know.
    pub deaf: Vec<Range<Span>>,
    /// Faults that were made.
    pub made: u32,
    /// Faults that were left out, each with its reason.
    pub left_out: Vec<String>,
    /// When the last one came.
    pub last_fault: Option<Span>,
    /// When a VM's metadata service first said that the VM will go.
    pub by_cloud: BTreeMap<VmId, Span>,
    /// VMs that a fault has.
    pub busy: BTreeSet<VmId>,
    /// Processes that one has.
    pub busy_processes: BTreeSet<u32>,
}

#[derive(Clone)]
pub(super) struct Trouble {
    pub(super) house: House,
    pub(super) clock: Clock,
    pub(super) clouds: Clouds,
    seen: Arc<Mutex<Seen>>,
    say: Arc<dyn Fn(String) + Send + Sync>,
}

impl Trouble {
    pub fn new(house: House, clock: Clock, clouds: Clouds, say: Arc<dyn Fn(String) + Send + Sync>) -> Self {
        Self { house, clock, clouds, seen: Arc::default(), say }
    }

    pub fn seen(&self) -> Seen {
        self.locked().clone()
    }

    pub(super) fn locked(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes all of it, and comes back when it is over.
    pub async fn make(&self, list: &[Planned], length: Duration) {
        let began = tokio::time::Instant::now();
        let mut faults: BTreeMap<Victim, Vec<Planned>> = BTreeMap::new();
        for planned in list {
            let (Step::Vm(victim, _) | Step::Role(_, victim, _) | Step::Disk(victim, _)) = planned.step;
            faults.entry(victim).or_default().push(*planned);
        }
        let mut tasks = JoinSet::new();
        for (victim, steps) in faults {
            let this = self.clone();
            tasks.spawn(async move {
                let Some(first) = steps.first() else { return };
                tokio::time::sleep_until(began + first.at.into()).await;
                let (who, done) = match first.step {
                    Step::Vm(..) => (format!("victim {}", victim.number), this.hit_vm(victim, &steps).await),
                    Step::Role(role, ..) => {
                        (role.name().to_owned(), this.hit_role(role, victim, &steps).await)
                    }
                    Step::Disk(..) => ("the disk".to_owned(), this.hit_disk(&steps).await),
                };
                this.note(&who, done);
            });
        }
        while tasks.join_next().await.is_some() {}
        tokio::time::sleep_until(began + length).await;
    }

    /// Writes down how a fault went.
    fn note(&self, who: &str, done: Result<(), String>) {
        let now = self.clock.now();
        let mut seen = self.locked();
        seen.last_fault = Some(now);
        match done {
            Ok(()) => seen.made += 1,
            Err(why) => {
                // Many may be left out for one reason; that is said once, and counted each time.
                if !seen.left_out.iter().any(|known| known.ends_with(&why)) {
                    (self.say)(format!("{:>8.3} s  left out, {who}: {why}", now.as_seconds()));
                }
                seen.left_out.push(format!("{who}: {why}"));
            }
        }
    }

    pub(super) fn tell(&self, what: &str) {
        (self.say)(format!("{:>8.3} s  {what}", self.clock.now().as_seconds()));
    }
}

/// Waits for the moment of a step: so long after the first one, which was made at `begin`, as the timetable has it.
pub(super) async fn due(begin: tokio::time::Instant, steps: &[Planned], planned: &Planned) {
    let first = steps.first().map_or(planned.at, |first| first.at);
    tokio::time::sleep_until(begin + Span(planned.at.0.saturating_sub(first.0)).into()).await;
}

/// How long what the step at `index` begins lasts.
pub(super) fn lasts(steps: &[Planned], index: usize) -> Span {
    let end = steps.get(index + 1).map_or(Span::ZERO, |next| next.at);
    Span(end.0.saturating_sub(steps.get(index).map_or(Span::ZERO, |step| step.at).0))
}
