//! Who has waited too long gets a VM that is kept free until it fits.
//!
//! **Knows:** who waits, what runs on the VM that is kept free, and how long its functions' runs have taken.
//! **Promises:** whoever is the oldest of those who starve has a VM kept free for it, one at a time. Meanwhile only those go there who
//! should have ended before there is room for it: EASY backfilling (Lifka 1995, "The ANL/IBM SP Scheduling System"). They are expected to
//! take as long as all but the longest twentieth of their function's runs with such inputs, those that run there as long as half of them.
//! **Gives up:** being right about it. Who overruns is expected to end at any moment, so that nobody goes before the one who starves until it
//! has; of whom nothing is known likewise, and it does not go before either. Kept free for several at once, more of the VMs stood idle than
//! that was worth (ten nodes of Azure's tables: the P99 latency a tenth lower, the mean as much higher).

use vocabulary::{InvocationId, Moment, Resources, Span};

use super::open::{Open, Running};
use super::{Dispatch, Output};
use crate::placement::{Ask, Choice, Hold, Slot};

/// Between two searches of all VMs for one who starves.
const STARVING_LOOK: Span = Span::millis(100);
/// So many of the oldest are looked at when one to keep a VM free for is sought.
const OLDEST: usize = 16;

impl Dispatch {
    /// Large ones starve while small ones slip into every gap. So one VM is kept free for the oldest of those who have
    /// waited too long, until it fits.
    pub(super) fn look_after_the_oldest(&mut self, outputs: &mut Vec<Output>) {
        if self.binds_early() {
            return; // Whoever waits, waits for a VM that takes any work at all.
        }
        let starving = |since: Moment| self.now.since(since) >= self.settings.starvation_after;
        if self.queues.oldest().next().is_none_or(|(since, _)| !starving(since)) {
            self.books.hold(None);
            return;
        }
        if self.starving_checked > self.now {
            return;
        }
        self.starving_checked = self.now + STARVING_LOOK;
        let oldest: Vec<_> =
            self.queues.oldest().take(OLDEST).take_while(|&(since, _)| starving(since)).collect();
        for (_, id) in oldest {
            let Some(kinds) = self.kinds_of(id) else { continue };
            let Some(ask) = self.ask(id, kinds) else { continue };
            if !self.could_ever_hold(kinds, ask.demand) {
                continue;
            }
            // Others of its function may wait before it.
            let Some((head, _)) = self.queues.head(ask.function) else { continue };
            let Some(kinds) = self.kinds_of(head) else { continue };
            let Some(ask) = self.ask(head, kinds) else { continue };
            let asks = || self.kinds_to_try(kinds, ask.demand).map(|kind| Ask { kind, ..ask });
            if let Some(slot) = asks().find_map(|ask| self.any_with_room(&ask)) {
                let warm = self.books.idle(ask.function, ask.revision, slot) > 0;
                if warm || !self.is_better_off_waiting(head, &ask) {
                    self.send(head, Choice { vm: self.books.vm(slot), slot, warm }, outputs);
                    continue;
                }
            }
            let asks = || self.kinds_to_try(kinds, ask.demand).map(|kind| Ask { kind, ..ask });
            if let Some(slot) = asks().find_map(|ask| self.soonest_free(&ask)) {
                let until = self.room_from(slot, ask.demand);
                self.books.hold(Some(Hold { slot, by: ask.function, until }));
                return;
            }
        }
        self.books.hold(None);
    }

    fn any_with_room(&self, ask: &Ask) -> Option<Slot> {
        self.books.vms().find(|&slot| self.books.has_room(slot, ask))
    }

    /// A VM with a sandbox of its function idle before all others, then the one that lacks the least CPU, then memory. The one already
    /// kept free stays so. Where all wait, many get their place this way, and making a sandbox for each takes cores from all: a
    /// twentieth less was borne without the first. (By when it should run there, from the pace at which runs end, bears no more, and
    /// two VMs that are alike then differ by how a clock was read.)
    fn soonest_free(&self, ask: &Ask) -> Option<Slot> {
        let large_enough = |&slot: &Slot| {
            self.books.takes_work(slot)
                && self.books.kind(slot) == ask.kind
                && ask.demand.fits_in(self.books.capacity(slot))
        };
        let held = self.books.held().filter(|hold| hold.by == ask.function).map(|hold| hold.slot);
        held.filter(large_enough).or_else(|| {
            self.books.vms().filter(large_enough).min_by_key(|&slot| {
                let is_cold = self.books.idle(ask.function, ask.revision, slot) == 0;
                let lacks = self.books.booked(slot) + ask.demand - self.books.capacity(slot);
                (is_cold, lacks.cpu, lacks.memory, self.books.vm(slot))
            })
        })
    }

    /// When there should be room for so much on this VM, as far as it is known when what we run there ends.
    fn room_from(&self, slot: Slot, demand: Resources) -> Moment {
        let ours = self.vms[slot].open.iter().filter_map(|(id, attempt)| {
            let open = self.open.get(id)?;
            let running = open.live().find(|running| running.attempt == *attempt)?;
            Some((self.should_end(running, open), running.booked))
        });
        let mut ends: Vec<(Moment, Resources)> = ours.collect();
        ends.sort_unstable_by_key(|&(end, booked)| (end, booked.cpu, booked.memory));
        let capacity = self.books.capacity(slot);
        let mut booked = self.books.booked(slot);
        for (end, freed) in ends {
            booked -= freed;
            if (booked + demand).fits_in(capacity) {
                return end;
            }
        }
        // What others run there is in the way, of which nothing is known.
        self.now
    }

    /// By when a run should have ended, now at the earliest, and now if nothing is known of it.
    fn should_end(&self, running: &Running, open: &Open) -> Moment {
        let of_it = || {
            let profile = self.profile(open.submission.function.id)?;
            let init = if running.warm { Span::ZERO } else { profile.init()? };
            Some(running.sent + init + profile.guess(open.submission.input_bytes)?.duration)
        };
        of_it().unwrap_or(self.now).max(self.now)
    }

    /// By when it should have ended if it went at once to the VM that is kept free; never, if nothing is known of it or none is.
    pub(super) fn ends_where_it_is_kept_free(&self, id: InvocationId) -> Moment {
        let of_it = || {
            let hold = self.books.held()?;
            let submission = &self.open.get(&id)?.submission;
            let (function, revision) = (submission.function.id, submission.function.revision);
            let profile = self.profile(function)?;
            let is_warm = self.books.idle(function, revision, hold.slot) > 0;
            let init = if is_warm { Span::ZERO } else { profile.init()? };
            Some(self.now + init + profile.guess(submission.input_bytes)?.duration_high)
        };
        of_it().unwrap_or(Moment::NEVER)
    }
}
