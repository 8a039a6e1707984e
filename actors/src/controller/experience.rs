//! What is learned of functions: recalled when one is first called here, and kept for whoever decides next.
//!
//! **Knows:** who has been called here, whose profile has changed since it was written, and what waits to be told.
//! **Promises:** the first calls of a function wait for its profile, but no longer than [`PATIENCE`]; one that comes later is taken
//! over all the same. Writes happen beside everything else, one batch at a time, so many in a second at most; a function that
//! changes meanwhile is written once, as it is then. Everything here has a bound.
//! **Gives up:** the last second. What was learned and not yet written dies with its Controller.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use messages::Submit;
use policies::profile::Profile;
use ractor::ActorRef;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use vocabulary::{FunctionId, Moment, Span};

use super::ControllerMessage;
use crate::metrics::ControllerMetrics;
use crate::settings::Settings;
use crate::store::{Profiles, StoreError};

/// How often profiles are written.
pub(super) const KEEP: Duration = Duration::from_secs(1);
/// How long a first call waits for what is known of its function.
const PATIENCE: Duration = Duration::from_millis(100);
/// A function that was not called here for so long may have been another Controller's meanwhile: it is looked up again, and
/// nobody waits for that.
const AWAY: Span = Span::seconds(60);
/// Functions that are remembered to have been called.
const CALLED_MOST: usize = 100_000;
/// Lookups at once, and submissions that wait for them. Beyond it, calls are decided without.
const LOOKUPS: usize = 64;
const WAITING_MOST: usize = 256;
/// Writes at once.
const WRITES_AT_ONCE: usize = 16;
/// Written at the end, in good order, and how long that may take.
const LAST_WRITES: usize = 1_000;
const LAST_WRITES_WITHIN: Duration = Duration::from_secs(2);

/// See the module.
pub(super) struct Experience {
    store: Option<Profiles>,
    metrics: Arc<ControllerMetrics>,
    half_life: Span,
    writes: usize,
    called: HashMap<FunctionId, Moment>,
    waiting: HashMap<FunctionId, Vec<Submit>>,
    waiting_count: usize,
    lookups: Arc<Semaphore>,
    changed: Changed,
    writing: Arc<Semaphore>,
}

/// What the store says of a function.
pub struct Recalled {
    /// Of which.
    pub function: FunctionId,
    /// Nothing, where it is not known, or not yet.
    pub profile: Option<Box<Profile>>,
}

/// Functions whose profile is another than the one that was written, each once, in the order in which they changed.
#[derive(Debug, Default)]
struct Changed {
    queue: VecDeque<FunctionId>,
    known: HashSet<FunctionId>,
}

impl Changed {
    fn add(&mut self, function: FunctionId) {
        if self.known.insert(function) {
            self.queue.push_back(function);
        }
    }

    fn take(&mut self, most: usize) -> Vec<FunctionId> {
        let taken: Vec<_> = self.queue.drain(..most.min(self.queue.len())).collect();
        for function in &taken {
            self.known.remove(function);
        }
        taken
    }
}

impl Experience {
    pub fn new(store: Option<&Profiles>, settings: &Settings, metrics: Arc<ControllerMetrics>) -> Self {
        Self {
            store: store.cloned(),
            metrics,
            half_life: Span::seconds(settings.controller.profile_half_life_h.max(1).saturating_mul(3_600)),
            writes: settings.controller.profile_writes_per_second.max(1) as usize,
            called: HashMap::new(),
            waiting: HashMap::new(),
            waiting_count: 0,
            lookups: Arc::new(Semaphore::new(LOOKUPS)),
            changed: Changed::default(),
            writing: Arc::new(Semaphore::new(1)),
        }
    }

    /// A function is called. Gives the submission back unless it waits for what the store says of it.
    pub fn called(
        &mut self,
        now: Moment,
        submit: Submit,
        me: &ActorRef<ControllerMessage>,
    ) -> Option<Submit> {
        let Some(store) = &self.store else { return Some(submit) };
        let function = submit.function.id;
        if let Some(waiting) = self.waiting.get_mut(&function) {
            if self.waiting_count < WAITING_MOST {
                self.waiting_count += 1;
                waiting.push(submit);
                return None;
            }
            return Some(submit);
        }
        if self.called.len() >= CALLED_MOST {
            self.called.clear();
        }
        let is_new = match self.called.entry(function) {
            Entry::Occupied(mut known) => {
                if now.since(known.insert(now)) <= AWAY {
                    return Some(submit);
                }
                false
            }
            Entry::Vacant(_) => true,
        };
        // Without a permit the next call tries again.
        let Ok(permit) = Arc::clone(&self.lookups).try_acquire_owned() else { return Some(submit) };
        self.called.insert(function, now);
        tokio::spawn(look_up(
            store.clone(),
            function,
            self.half_life,
            me.clone(),
            Arc::clone(&self.metrics),
            permit,
        ));
        if !is_new || self.waiting_count >= WAITING_MOST {
            return Some(submit);
        }
        self.waiting_count += 1;
        self.waiting.insert(function, vec![submit]);
        None
    }

    /// The store has answered, or takes too long: these need not wait any more.
    pub fn recalled(&mut self, function: FunctionId) -> Vec<Submit> {
        let waiting = self.waiting.remove(&function).unwrap_or_default();
        self.waiting_count -= waiting.len();
        waiting
    }

    /// Something was learned of a function.
    pub fn learned(&mut self, function: FunctionId) {
        if self.store.is_some() {
            self.changed.add(function);
        }
    }

    /// Time to write. `of` knows the profiles.
    pub fn keep<'a>(
        &mut self,
        of: impl Fn(FunctionId) -> Option<&'a Profile>,
        me: &ActorRef<ControllerMessage>,
    ) {
        let Some(store) = self.store.clone() else { return };
        self.metrics.profiles_unwritten(self.changed.queue.len());
        if self.changed.queue.is_empty() {
            return;
        }
        // The last batch is still on its way: the store is slow, and need not be hurried.
        let Ok(permit) = Arc::clone(&self.writing).try_acquire_owned() else { return };
        let batch = encoded(self.changed.take(self.writes), of);
        let (me, metrics) = (me.clone(), Arc::clone(&self.metrics));
        tokio::spawn(async move {
            let failed = write(&store, batch, &metrics).await;
            drop(permit);
            if !failed.is_empty() {
                let _ = me.cast(ControllerMessage::NotKept(failed));
            }
        });
    }

    /// The end, in good order: what has changed is written now, as far as there is time.
    pub fn keep_last<'a>(
        &mut self,
        of: &dyn Fn(FunctionId) -> Option<&'a Profile>,
    ) -> impl Future<Output = ()> + use<> {
        let batch = encoded(self.changed.take(LAST_WRITES), of);
        let (store, metrics) = (self.store.clone(), Arc::clone(&self.metrics));
        async move {
            let Some(store) = store else { return };
            if tokio::time::timeout(LAST_WRITES_WITHIN, write(&store, batch, &metrics)).await.is_err() {
                tracing::warn!("the store took too long for the last profiles");
            }
        }
    }
}

fn encoded<'a>(
    functions: Vec<FunctionId>,
    of: impl Fn(FunctionId) -> Option<&'a Profile>,
) -> Vec<(FunctionId, Bytes)> {
    let known = |function| of(function).filter(|profile| profile.runs().0 > 0);
    functions.into_iter().filter_map(|id| Some((id, Profiles::encode(known(id)?)))).collect()
}

/// Writes them all; says which could not be.
async fn write(
    store: &Profiles,
    batch: Vec<(FunctionId, Bytes)>,
    metrics: &ControllerMetrics,
) -> Vec<FunctionId> {
    let writes = batch.into_iter().map(|(function, bytes)| async move {
        match store.put(function, bytes).await {
            Ok(()) => {
                metrics.profile_stored();
                None
            }
            Err(error) => {
                metrics.profile_not_stored();
                tracing::warn!(%error, %function, "could not keep a profile; trying again");
                Some(function)
            }
        }
    });
    futures::stream::iter(writes)
        .buffer_unordered(WRITES_AT_ONCE)
        .filter_map(std::future::ready)
        .collect()
        .await
}

async fn look_up(
    store: Profiles,
    function: FunctionId,
    half_life: Span,
    me: ActorRef<ControllerMessage>,
    metrics: Arc<ControllerMetrics>,
    permit: OwnedSemaphorePermit,
) {
    let say = |profile: Option<Profile>| {
        let profile = profile.map(Box::new);
        let _ = me.cast(ControllerMessage::Recalled(Recalled { function, profile }));
    };
    let mut asked = std::pin::pin!(store.get(function));
    let read = match tokio::time::timeout(PATIENCE, &mut asked).await {
        Ok(read) => read,
        Err(_) => {
            say(None);
            asked.await
        }
    };
    drop(permit);
    match read {
        Ok(found) => {
            if found.is_some() {
                metrics.profile_recalled();
            }
            say(found.map(|(profile, age)| {
                let halvings = age.as_micros() / half_life.as_micros().max(1);
                profile.aged(u32::try_from(halvings).unwrap_or(u32::MAX))
            }));
        }
        Err(error) => {
            if matches!(error, StoreError::Damaged { .. }) {
                metrics.profile_refused();
            }
            tracing::warn!(%error, %function, "its function is learned anew");
            say(None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_that_changes_again_and_again_waits_to_be_written_once() {
        let mut changed = Changed::default();
        for n in 0..1_000 {
            changed.add(FunctionId(n % 7));
        }
        assert_eq!(changed.take(3), [0, 1, 2].map(FunctionId));
        changed.add(FunctionId(1));
        assert_eq!(changed.take(100), [3, 4, 5, 6, 1].map(FunctionId), "those that waited longest go first");
        assert!(changed.take(1).is_empty() && changed.known.is_empty());
    }
}
