//! Whether the store takes what this process sends it.
//!
//! **Knows:** how every write of this process has ended, by what was written.
//! **Promises:** since when a kind of thing has not been taken is told at any moment, to metrics and to people; a store that
//! takes nothing is said loudly, with what to do, twice a minute at most.
//! **Gives up:** telling a full disk from a server that is not there: nats-server 2.15 answers nothing on a disk that is full.
//! One store per process, which is why this is one place and not one per handle.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::error::StoreError;

/// What is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// Records of invocations.
    Records,
    /// Durable submissions.
    Submissions,
    /// Functions, namespaces and profiles.
    Entries,
    /// Who leads the fleet.
    Lease,
}

/// Their names, in their order.
pub const KINDS: [&str; 4] = ["records", "submissions", "entries", "lease"];

/// How the writes of one process have ended.
#[derive(Debug, Default)]
pub struct Taking {
    /// Since when a kind has not been taken, if its last write failed.
    stalled: Mutex<[Option<Instant>; KINDS.len()]>,
    /// When people were told last. A store that is short of room takes some and not others.
    said: Mutex<Option<Instant>>,
    no_room: AtomicU64,
    no_answer: AtomicU64,
}

/// People are told no more often than this.
const SAID_AGAIN: Duration = Duration::from_secs(30);

/// This process's.
static OURS: Taking = Taking {
    stalled: Mutex::new([None; KINDS.len()]),
    said: Mutex::new(None),
    no_room: AtomicU64::new(0),
    no_answer: AtomicU64::new(0),
};

/// What this process's writes have come to.
pub fn ours() -> &'static Taking {
    &OURS
}

impl Taking {
    /// It was acknowledged, or refused for a reason of its own.
    pub fn took(&self, what: Kept) {
        // The usual way, beside every invocation: one lock that nobody else holds for long.
        let Some(since) = self.stalled()[what as usize].take() else { return };
        let stalled = since.elapsed();
        tracing::debug!(what = KINDS[what as usize], ?stalled, "the store takes writes again");
    }

    /// It was not, because there is no room or nobody answers. Other errors are the writer's own.
    pub fn failed(&self, what: Kept, error: &StoreError) {
        let count = match error {
            StoreError::NoSpace { .. } => &self.no_room,
            StoreError::Unreachable { .. } => &self.no_answer,
            _ => return self.took(what),
        };
        count.fetch_add(1, Ordering::Relaxed);
        self.stalled()[what as usize].get_or_insert_with(Instant::now);
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.is_none_or(|said| said.elapsed() > SAID_AGAIN) {
            *said = Some(Instant::now());
            tracing::error!(what = KINDS[what as usize], %error, "THE STORE TAKES NOTHING; {ADVICE}");
        }
    }

    /// How long each kind has not been taken, in the order of [`KINDS`]; zero while it is.
    pub fn stalled_for(&self) -> [Duration; KINDS.len()] {
        self.stalled().map(|since| since.map_or(Duration::ZERO, |since| since.elapsed()))
    }

    /// The longest of them, if any is not taken.
    pub fn longest_stall(&self) -> Option<Duration> {
        self.stalled().iter().flatten().map(Instant::elapsed).max()
    }

    /// Writes that the server refused for want of room, and writes that nobody answered.
    pub fn refusals(&self) -> [u64; 2] {
        [&self.no_room, &self.no_answer].map(|count| count.load(Ordering::Relaxed))
    }

    fn stalled(&self) -> MutexGuard<'_, [Option<Instant>; KINDS.len()]> {
        self.stalled.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What people should do about a store that takes nothing.
pub const ADVICE: &str = "see whether nats-server runs and whether its disk has room: what is durable is not accepted meanwhile, and \
                          records wait. A nats-server that could not write must be started again when there is room \
                          (`windfall up` does that by itself)";

#[cfg(test)]
mod tests {
    use super::*;

    fn no_answer() -> StoreError {
        StoreError::Unreachable { doing: "writing".into(), detail: "timed out".into() }
    }

    #[test]
    fn a_kind_is_stalled_from_its_first_failure_until_it_is_taken_and_no_other_is() {
        let taking = Taking::default();
        assert_eq!((taking.longest_stall(), taking.refusals()), (None, [0, 0]));
        taking.failed(Kept::Records, &no_answer());
        let first = taking.stalled_for()[Kept::Records as usize];
        std::thread::sleep(Duration::from_millis(5));
        taking.failed(Kept::Records, &StoreError::NoSpace { doing: String::new(), detail: String::new() });
        assert!(taking.stalled_for()[Kept::Records as usize] > first, "since the first one");
        assert_eq!(taking.stalled_for()[Kept::Lease as usize], Duration::ZERO);
        taking.took(Kept::Lease);
        assert!(taking.longest_stall().is_some());
        taking.took(Kept::Records);
        assert_eq!((taking.longest_stall(), taking.refusals()), (None, [1, 1]));
    }

    #[test]
    fn a_write_that_is_refused_for_its_own_sake_stalls_nothing() {
        let taking = Taking::default();
        taking.failed(Kept::Entries, &StoreError::Conflict { what: "a key".into() });
        assert_eq!((taking.longest_stall(), taking.refusals()), (None, [0, 0]));
    }
}
