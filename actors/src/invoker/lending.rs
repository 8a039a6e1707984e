//! What runs that lend are seen to use, fifty times a second.
//!
//! **Knows:** the counters of each run that lends; what follows from them is decided in `policies::residency`.
//! **Promises:** one timer for the whole VM, and none while nothing is lent; a look is a handful of `pread(2)` of files that are open
//! already. CPU is told over the last quota period, so that who uses up its quota early is seen before it is stopped.
//! **Gives up:** where there are no control groups, knowing when the kernel has stopped a run.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use policies::residency::{Gauges, Input, Lending, SandboxId};
use policies::safeguard;
use ractor::ActorRef;
use sandbox::Sample;
use vocabulary::{FunctionCard, Grant, Mebibytes, MilliCores, Span};

use super::{InvokerMessage, Shell};

/// Between two looks.
const LOOK: Duration = Duration::from_millis(20);
/// The kernel's quota period.
const PERIOD: Duration = Duration::from_millis(100);

/// What is owed to a run that lends; shared with the task that carries it out.
#[derive(Debug, Default)]
pub(super) struct Owed {
    memory: AtomicBool,
    given_back: AtomicBool,
}

impl Owed {
    /// Whether part of its memory is with others right now.
    pub fn memory(&self) -> bool {
        self.memory.load(Ordering::SeqCst)
    }

    /// Whether what it had lent was given back to it.
    pub fn was_given_back(&self) -> bool {
        self.given_back.load(Ordering::SeqCst)
    }
}

/// Every run that lends.
#[derive(Default)]
pub(super) struct Looks {
    seen: HashMap<SandboxId, Seen>,
    due: bool,
}

struct Seen {
    owed: Arc<Owed>,
    function: FunctionCard,
    /// When it began, and the CPU time then, where that is all that was read.
    began: Option<(Instant, Span)>,
    /// The last period's, oldest first; the first is the one before it.
    samples: VecDeque<Sample>,
}

impl Seen {
    /// What has changed since the last look.
    fn see(&mut self, now: Sample) -> safeguard::Sample {
        if let Some((at, cpu_time)) = self.began.take() {
            self.samples.push_back(Sample { at, cpu_time, ..now });
        }
        let last = self.samples.back().copied().unwrap_or(now);
        self.samples.push_back(now);
        while self.samples.get(1).is_some_and(|next| now.at.duration_since(next.at) >= PERIOD) {
            self.samples.pop_front();
        }
        let base = self.samples.front().copied().unwrap_or(now);
        let over = Span::from(now.at.duration_since(base.at).max(PERIOD)).as_micros();
        let used = u128::from((now.cpu_time - base.cpu_time).as_micros()) * 1_000 / u128::from(over);
        safeguard::Sample {
            cpu: MilliCores(u32::try_from(used).unwrap_or(u32::MAX)),
            throttled: now.throttled - last.throttled,
            memory: Mebibytes::holding(now.memory),
            memory_pressed: now.memory_limit_hits > last.memory_limit_hits,
        }
    }
}

impl Shell {
    /// A run begins; tells what is owed to it where it lends, or may. Nothing is done where it does not.
    pub(super) fn begins_to_lend(
        &mut self,
        id: SandboxId,
        function: FunctionCard,
        grant: Grant,
    ) -> Option<Arc<Owed>> {
        if self.lending == Lending::Off || !self.residency.is_watched(id) {
            return None;
        }
        let owed = Arc::new(Owed::default());
        owed.memory.store(grant.booked.memory < function.reservation.memory, Ordering::SeqCst);
        // Most runs have ended before anybody looks. Where nobody is stopped at what is booked for it, what else there is to see of
        // the first 20 ms can wait for the look after it.
        let elastic = self.lending == Lending::Elastic;
        let began = if elastic { self.residents.cpu_time(id).map(|cpu| (Instant::now(), cpu)) } else { None };
        let samples = if elastic { None } else { self.residents.sample(id) }.into_iter().collect();
        self.looks.seen.insert(id, Seen { owed: Arc::clone(&owed), function, began, samples });
        Some(owed)
    }

    /// A run has ended.
    pub(super) fn ends_to_lend(&mut self, id: SandboxId) {
        self.looks.seen.remove(&id);
    }

    /// Looks again in a moment if anybody lends.
    pub(super) fn wish_to_look(&mut self, me: &ActorRef<InvokerMessage>) {
        if !self.looks.due && self.lending != Lending::Off && self.residency.watched().next().is_some() {
            self.looks.due = true;
            me.send_after(LOOK, || InvokerMessage::Look);
        }
    }

    /// Everybody who lends is looked at; whoever needs it has it back with this.
    pub(super) async fn look(&mut self, me: &ActorRef<InvokerMessage>) {
        self.looks.due = false;
        let watched: Vec<SandboxId> = self.residency.watched().collect();
        let rebooked = |gauges: Gauges| gauges.safeguarded + gauges.fell + gauges.rose;
        let before = rebooked(self.residency.gauges());
        for id in watched {
            let Some(now) = self.residents.sample(id) else { continue };
            let Some(sample) = self.looks.seen.get_mut(&id).map(|seen| seen.see(now)) else { continue };
            self.decide(me, Input::Sampled { sandbox: id, sample });
            let Some(seen) = self.looks.seen.get(&id) else { continue };
            if self.residency.was_safeguarded(id) {
                seen.owed.given_back.store(true, Ordering::SeqCst);
            }
            // Only now may it use it.
            if let Some(grant) = self.residency.grant_on(id) {
                let owed = grant.booked.memory < seen.function.reservation.memory;
                seen.owed.memory.store(owed, Ordering::SeqCst);
            }
        }
        if rebooked(self.residency.gauges()) > before {
            // Controllers must not promise the room to others any longer, or may from now on.
            self.report().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vocabulary::{FunctionId, OnEviction, Resources, Revision};

    fn seen(start: Instant) -> Seen {
        let function = FunctionCard {
            id: FunctionId(1),
            revision: Revision(1),
            reservation: Resources::new(1_000, 256),
            timeout: Span::seconds(1),
            on_eviction: OnEviction::Rerun,
            application: None,
        };
        Seen { owed: Arc::default(), function, began: None, samples: [at(start, 0, 0)].into() }
    }

    fn at(start: Instant, ms: u64, cpu_ms: u64) -> Sample {
        Sample {
            at: start + Duration::from_millis(ms),
            cpu_time: Span::millis(cpu_ms),
            throttled: Span::ZERO,
            memory: 1 << 20,
            memory_limit_hits: 0,
        }
    }

    #[test]
    fn a_run_that_uses_up_its_quota_early_shows_it_at_once() {
        let start = Instant::now();
        let mut seen = seen(start);
        // One thread, all the time: 40 ms of the 50 that half a core has in a period.
        assert_eq!(seen.see(at(start, 20, 20)).cpu, MilliCores(200));
        assert_eq!(seen.see(at(start, 40, 40)).cpu, MilliCores(400));
    }

    #[test]
    fn where_only_cpu_time_was_read_at_its_beginning_its_rate_is_told_from_there_and_the_rest_from_the_first_look()
     {
        let start = Instant::now();
        let mut seen =
            Seen { began: Some((start, Span::millis(5))), samples: VecDeque::new(), ..seen(start) };
        let pressed = Sample { throttled: Span::millis(7), memory_limit_hits: 3, ..at(start, 20, 25) };
        let first = seen.see(pressed);
        assert_eq!((first.cpu, first.throttled, first.memory_pressed), (MilliCores(200), Span::ZERO, false));
        let second = seen.see(Sample { memory_limit_hits: 4, ..pressed });
        assert!(second.memory_pressed);
    }

    #[test]
    fn what_is_older_than_a_period_does_not_count() {
        let start = Instant::now();
        let mut seen = seen(start);
        for look in 1..=10 {
            seen.see(at(start, look * 20, look * 20));
        }
        assert_eq!(seen.see(at(start, 220, 220)).cpu, MilliCores(1_000));
        for look in 12..=20 {
            seen.see(at(start, look * 20, 220));
        }
        assert_eq!(seen.see(at(start, 420, 220)).cpu, MilliCores::ZERO);
        assert!(seen.samples.len() <= 7, "{}", seen.samples.len());
    }
}
