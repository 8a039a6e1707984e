//! Who has ended, where a provider can only list who is there.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use tokio::sync::{Mutex as AsyncMutex, mpsc};
use vocabulary::VmId;

/// Compares each list with what was there before.
pub(super) struct Departed {
    there: Mutex<BTreeSet<VmId>>,
    say: mpsc::UnboundedSender<VmId>,
    said: AsyncMutex<mpsc::UnboundedReceiver<VmId>>,
}

impl Departed {
    pub fn new() -> Self {
        let (say, said) = mpsc::unbounded_channel();
        Self { there: Mutex::default(), say, said: AsyncMutex::new(said) }
    }

    /// These are there now. Lists must come in the order in which they were made.
    pub fn listed(&self, now: &[VmId]) {
        let now: BTreeSet<VmId> = now.iter().copied().collect();
        let before =
            std::mem::replace(&mut *self.there.lock().unwrap_or_else(PoisonError::into_inner), now.clone());
        for gone in before.difference(&now) {
            // At most one per VM that was there; nobody listens once the provider is gone.
            let _ = self.say.send(*gone);
        }
    }

    pub async fn next(&self) -> VmId {
        match self.said.lock().await.recv().await {
            Some(vm) => vm,
            None => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_is_listed_no_more_has_ended_and_is_told_once() {
        let departed = Departed::new();
        departed.listed(&[VmId(1), VmId(2)]);
        departed.listed(&[VmId(2), VmId(3)]);
        departed.listed(&[VmId(2)]);
        departed.listed(&[VmId(2)]);
        assert_eq!((departed.next().await, departed.next().await), (VmId(1), VmId(3)));
        let more = tokio::time::timeout(std::time::Duration::from_millis(20), departed.next()).await;
        assert!(more.is_err());
    }
}
