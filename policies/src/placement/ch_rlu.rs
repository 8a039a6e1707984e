//! Consistent hashing with random load updates: everything at home, except that popular functions go on along the list while
//! the load they find, with some noise added, is above a ceiling.
//!
//! **Knows:** the load that each VM last reported, and the mean gap between the calls of each function.
//! **Promises:** a function that is not popular never leaves its home, so its sandbox stays warm there, however long the queue.
//! **Gives up:** what is in flight: the noise stands for it, so that between two reports not all choose the same VM. Work
//! is sent at once and waits on its VM.
//!
//! Source: Fuerst, Sharma, "Locality-aware Load-Balancing for Serverless Clusters", HPDC 2022, as far as Iluvatar's `ch_rlu.rs`
//! defines it: one point per worker; the fifth of functions with the smallest mean gaps is popular; load is normalised by
//! cores and gets noise of mean a quarter of the arrival rate (one by the mean of all mean gaps) and deviation 0.1; ceiling
//! 1.2. If all are above it, home. The paper's bound on the length of the way is not in that code, nor here. VMs that are too
//! small for what is asked are stepped over, which the original need not do.

use std::collections::{BTreeMap, BTreeSet};

use vocabulary::{FunctionId, Moment, Span};

use super::{Ask, Binding, Books, Choice, NoHome, Placement, Settings, Slot};
use crate::chance::Chance;
use crate::hash::fixed;

/// Between two looks at who is popular.
const LOOK: Span = Span::seconds(1);
/// Deviation of the noise, in thousandths of the load that one core bears.
const DEVIATION: u64 = 100;

/// When a function was called.
#[derive(Debug, Clone, Copy)]
struct Calls {
    first: Moment,
    last: Moment,
    count: u64,
}

/// See the module.
#[derive(Debug)]
pub struct ChRlu {
    ceiling: i64,
    popular_share: u64,
    chance: Chance,
    /// Sorted by hash.
    points: Vec<(u64, Slot)>,
    calls: BTreeMap<FunctionId, Calls>,
    popular: BTreeSet<FunctionId>,
    /// Mean of the noise, in thousandths.
    mean: i64,
    looked: Option<Moment>,
}

impl ChRlu {
    /// On an empty ring.
    pub fn new(settings: &Settings) -> Self {
        Self {
            ceiling: i64::from(settings.rlu_ceiling),
            popular_share: u64::from(settings.rlu_popular.min(1_000)),
            chance: Chance::new(settings.seed, "ch-rlu: noise on loads"),
            points: Vec::new(),
            calls: BTreeMap::new(),
            popular: BTreeSet::new(),
            mean: 0,
            looked: None,
        }
    }

    fn look_who_is_popular(&mut self, now: Moment) {
        if self.looked.is_some_and(|looked| now.since(looked) < LOOK) {
            return;
        }
        self.looked = Some(now);
        let mut gaps: Vec<(u64, FunctionId)> = self
            .calls
            .iter()
            .filter(|(_, calls)| calls.count > 1)
            .map(|(&id, calls)| (calls.last.since(calls.first).as_micros() / (calls.count - 1), id))
            .collect();
        if gaps.is_empty() {
            return;
        }
        let mean_gap = gaps.iter().map(|&(gap, _)| u128::from(gap)).sum::<u128>() / gaps.len() as u128;
        // A quarter of the rate, in thousandths per second.
        self.mean = i64::try_from(1_000_000_000 / mean_gap.max(1) / 4).unwrap_or(i64::MAX);
        gaps.sort_unstable();
        let take = (gaps.len() as u64 * self.popular_share + 500) / 1_000;
        self.popular = gaps.into_iter().take(take as usize).map(|(_, id)| id).collect();
    }

    /// The first VM on the ring from the function on that is large enough and takes work.
    fn home(&self, books: &Books, ask: &Ask) -> Option<Slot> {
        let hash = fixed(&ask.function);
        let start = self.points.partition_point(|&(point, _)| point < hash);
        let (after, before) = (&self.points[start..], &self.points[..start]);
        after.iter().chain(before).map(|&(_, slot)| slot).find(|&slot| suits(books, slot, ask))
    }
}

fn suits(books: &Books, slot: Slot, ask: &Ask) -> bool {
    books.exists(slot) && books.accepts(slot, ask.kind) && ask.demand.fits_in(books.capacity(slot))
}

impl Placement for ChRlu {
    fn name(&self) -> &'static str {
        "ch-rlu"
    }

    fn offer(&mut self, books: &Books, slot: Slot) {
        if self.points.iter().all(|&(_, known)| known != slot) {
            let point = (fixed(&books.vm(slot)), slot);
            let at = self.points.partition_point(|other| *other < point);
            self.points.insert(at, point);
        }
    }

    fn withdraw(&mut self, slot: Slot) {
        self.points.retain(|&(_, known)| known != slot);
    }

    fn place(&mut self, now: Moment, books: &Books, ask: &Ask) -> Result<Choice, NoHome> {
        self.look_who_is_popular(now);
        let home = self.home(books, ask).ok_or_else(|| NoHome::of(books, ask))?;
        let mut slot = home;
        if self.popular.contains(&ask.function) {
            let workers = books.slots();
            for n in 0..workers {
                let next = Slot(((home.index() + n) % workers) as u32);
                if !suits(books, next, ask) {
                    continue;
                }
                let load =
                    u64::from(books.used(next).cpu.0) * 1_000 / u64::from(books.capacity(next).cpu.0.max(1));
                let noisy = load as i64 + self.mean.saturating_add(self.chance.normal(DEVIATION));
                if noisy <= self.ceiling {
                    slot = next;
                    break;
                }
            }
        }
        let warm = books.idle(ask.function, ask.revision, slot) > 0;
        Ok(Choice { vm: books.vm(slot), slot, warm })
    }

    fn next_home(&mut self, books: &Books, ask: &Ask) -> Option<Slot> {
        self.home(books, ask)
    }

    fn forget(&mut self, function: FunctionId) {
        self.calls.remove(&function);
        self.popular.remove(&function);
    }

    fn binding(&self) -> Binding {
        Binding::Early
    }

    fn arrived(&mut self, now: Moment, function: FunctionId) {
        let calls = self.calls.entry(function).or_insert(Calls { first: now, last: now, count: 0 });
        (calls.last, calls.count) = (now, calls.count + 1);
    }
}

#[cfg(test)]
mod tests {
    use vocabulary::{Resources, Revision, VmId, VmKind};

    use super::*;

    fn ask(function: u64) -> Ask {
        Ask {
            function: FunctionId(function),
            revision: Revision(1),
            demand: Resources::new(1_000, 128),
            concurrency_milli: 0,
            kind: VmKind::Harvest,
            ends: Moment::NEVER,
        }
    }

    /// Ten functions, called every 10 + id seconds: the fifth that is popular is 0 and 1.
    fn house() -> (Books, ChRlu, Moment) {
        let mut books = Books::new(10);
        let mut placement = ChRlu::new(&Settings::default());
        for id in 0..4 {
            let slot = books.add(VmId(id), VmKind::Harvest, Resources::new(4_000, 65_536));
            books.set_takes_work(slot, true);
            placement.offer(&books, slot);
        }
        for second in 0..1_000 {
            for id in (0..10).filter(|id| second % (10 + id) == 0) {
                placement.arrived(Moment::ORIGIN + Span::seconds(second), FunctionId(id));
            }
        }
        (books, placement, Moment::ORIGIN + Span::seconds(1_000))
    }

    #[test]
    fn only_a_popular_function_leaves_a_home_that_is_loaded() {
        let (mut books, mut placement, now) = house();
        for id in 0..10 {
            let home = placement.place(now, &books, &ask(id)).unwrap();
            assert_eq!(Some(home.slot), placement.home(&books, &ask(id)), "nobody is loaded");
            // A mean gap of about 14 s makes noise of mean 1/14/4 = 0.018; 2.5 - 1.2 is more than six deviations.
            books.uses(home.slot, Resources::new(10_000, 0));
            let moved = placement.place(now, &books, &ask(id)).unwrap().slot != home.slot;
            assert_eq!(moved, id < 2, "{id}");
            books.uses(home.slot, Resources::ZERO);
        }
    }

    #[test]
    fn if_all_are_loaded_it_stays_at_home() {
        let (mut books, mut placement, now) = house();
        (0..4).for_each(|id| books.uses(books.slot(VmId(id)).unwrap(), Resources::new(10_000, 0)));
        let home = placement.home(&books, &ask(0));
        assert_eq!(placement.place(now, &books, &ask(0)).ok().map(|choice| choice.slot), home);
    }

    #[test]
    fn what_is_queued_does_not_matter() {
        let (mut books, mut placement, now) = house();
        let home = placement.place(now, &books, &ask(9)).unwrap();
        books.book_own(home.slot, Resources::new(50_000, 0));
        assert_eq!(placement.place(now, &books, &ask(9)).unwrap().slot, home.slot);
    }
}
