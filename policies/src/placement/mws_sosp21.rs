//! The minimum worker set as its authors released it, constants and defects included. Ours is [`mws`](super::mws).
//!
//! **Knows:** a ring of 500 ids on which each VM has one, what each VM last reported to use, and profiles of its own.
//! **Promises:** the released decision: from home along the ring, summing up what is left of 0.7 of each VM, until that
//! covers rate times length times use; inside that run of VMs the least used one; the least overused one if none has room.
//! **Gives up:** what our notes list as B1 to B9: a rate of about one by the last gap (B1, see `sosp21`); demand is compared
//! with residual capacity (B2); no look at what is warm (B3); no look at what is in flight, only at the last report (B4);
//! one point per VM, unweighted (B5); the choice is final (early binding, B6); at a notice homes stay, the VM is skipped but
//! counted (B7); life-time means (B9). More than 500 VMs: the others take no work.
//!
//! Source: zyqCSL/openwhisk_archive, fork `openwhisk-harv-vm-cgroup-azure-distributed`,
//! `HarvestVMContainerPoolBalancer.scala`. Different here: a function belongs to one Controller, unless there are said to be more (`MwsSosp21::with`);
//! a VM's id on the ring is drawn from its name, unless it is given; what is learned of runs is learned by all.

use std::collections::VecDeque;

use vocabulary::{FunctionCard, FunctionId, Grant, MilliCores, Moment, Resources, Span};

use super::sosp21::{Hashes, Profile, Rate, Rules};
use super::{Ask, Binding, Books, Choice, NoHome, Placement, Ran, Slot};
use crate::chance::Chance;
use crate::hash::{Map, fixed};

/// Ids on the ring.
const RING: u16 = 500;
/// Of a VM's CPU and memory that is meant to be used, in thousandths.
const UTILISATION: u64 = 700;
/// A set shrinks at most this often.
const SHRINK_INTERVAL: Span = Span::seconds(30);

/// One function.
#[derive(Debug)]
struct Known {
    profile: Profile,
    /// What its containers may use, as last granted.
    limit: MilliCores,
    /// As each controller sees it.
    seen: Vec<Seen>,
}

/// A function as one of several controllers sees it.
#[derive(Debug, Clone, Default)]
struct Seen {
    rate: Rate,
    /// So many VMs from home on serve it.
    size: usize,
    shrunk: Option<Moment>,
    home: Option<u16>,
}

/// See the module.
#[derive(Debug, Default)]
pub struct MwsSosp21 {
    /// Sorted by id.
    ring: Vec<(u16, Slot)>,
    functions: Map<FunctionId, Known>,
    hashes: Hashes,
    /// Ids for the VMs to come; when there are none left they are drawn.
    ids: VecDeque<u16>,
    /// Other controllers that see as many of the calls.
    others: usize,
    /// Whose call the last one was.
    turn: usize,
}

impl MwsSosp21 {
    /// With functions where their names put them, these ids for the first VMs, in their order, and so many controllers that take
    /// calls in turn: each has rates and sets of its own, and takes the others' rates to be the same.
    pub fn with(hashes: Hashes, ids: &[u16], controllers: usize) -> Self {
        let others = controllers.saturating_sub(1);
        Self { hashes, ids: ids.iter().copied().collect(), others, ..Self::default() }
    }

    /// How many VMs serve the function now.
    pub fn set_size(&self, function: FunctionId) -> usize {
        self.functions.get(&function).map_or(0, |known| known.seen[self.turn].size)
    }

    /// Where on the ring a function's home is.
    fn home(&self, function: FunctionId) -> usize {
        let hash = (self.hashes.of(function) % u64::from(RING)) as u16;
        let at = self.ring.partition_point(|&(id, _)| id < hash);
        if at == self.ring.len() { 0 } else { at }
    }

    fn known(&mut self, function: FunctionId) -> &mut Known {
        let controllers = self.others + 1;
        self.functions.entry(function).or_insert_with(|| Known {
            profile: Profile::new(Rules::MWS),
            limit: MilliCores::ZERO,
            seen: vec![Seen::default(); controllers],
        })
    }
}

/// What is left of a VM by its last report, and how used it is, in millionths.
struct Residual {
    cpu: i64,
    memory: i64,
    score: u64,
}

fn residual(books: &Books, slot: Slot) -> Residual {
    let (capacity, used) = (books.capacity(slot), books.used(slot));
    let side = |whole: u32, used: u32| {
        let meant = u64::from(whole) * UTILISATION / 1_000;
        (meant as i64 - i64::from(used), u64::from(used) * 1_000_000 / meant.max(1))
    };
    let (cpu, cpu_share) = side(capacity.cpu.0, used.cpu.0);
    let (memory, memory_share) = side(capacity.memory.0, used.memory.0);
    Residual { cpu, memory, score: cpu_share + memory_share }
}

impl Placement for MwsSosp21 {
    fn name(&self) -> &'static str {
        "mws-sosp21"
    }

    fn offer(&mut self, books: &Books, slot: Slot) {
        if self.ring.iter().any(|&(_, known)| known == slot) || self.ring.len() >= usize::from(RING) {
            return;
        }
        let mut draw = Chance::new(fixed(&books.vm(slot)), "a free id on the ring");
        loop {
            let id = self.ids.pop_front().unwrap_or_else(|| draw.below(usize::from(RING)) as u16);
            if let Err(at) = self.ring.binary_search_by_key(&id, |&(id, _)| id) {
                self.ring.insert(at, (id, slot));
                return;
            }
        }
    }

    /// At a notice the homes stay where they are.
    fn withdraw(&mut self, _slot: Slot) {}

    fn gone(&mut self, slot: Slot) {
        self.ring.retain(|&(_, known)| known != slot);
    }

    fn place(&mut self, now: Moment, books: &Books, ask: &Ask) -> Result<Choice, NoHome> {
        let home = self.home(ask.function);
        let (turn, controllers) = (self.turn, self.others as u64 + 1);
        let known = self.known(ask.function);
        let Resources { cpu, memory } = ask.demand;
        let limit = known.limit;
        let Seen { rate, size: present, .. } = known.seen[turn];
        let need_cpu = rate.times(controllers, known.profile.time(), cpu.0);
        let need_memory = rate.times(controllers, known.profile.time(), memory.0);

        let (mut have_cpu, mut have_memory) = (0_u64, 0_u64);
        let (mut fits, mut overloaded) = (None::<(u64, Slot)>, None::<(u64, Slot)>);
        let mut new_size = 0;
        let mut steps = 0;
        while steps < self.ring.len() {
            let (_, slot) = self.ring[(home + steps) % self.ring.len()];
            if books.accepts(slot, ask.kind) {
                let left = residual(books, slot);
                let has_room = left.cpu >= i64::from(cpu.0) && left.memory >= i64::from(memory.0);
                if has_room && books.capacity(slot).cpu > limit {
                    have_cpu += left.cpu as u64;
                    have_memory += left.memory as u64;
                    keep_least(&mut fits, (left.score, slot));
                } else if fits.is_none() {
                    keep_least(&mut overloaded, (left.score, slot));
                }
            }
            steps += 1;
            if fits.is_some() && have_cpu >= need_cpu && have_memory >= need_memory {
                if new_size == 0 {
                    new_size = steps; // The smallest run that would do.
                }
                if steps >= present {
                    break; // The present set is always gone through.
                }
            }
        }
        if new_size == 0 {
            new_size = self.ring.len();
        }
        let home = self.ring.get(home).map(|&(id, _)| id);
        self.known(ask.function).seen[turn].resize(now, home, new_size);
        let (_, slot) = fits.or(overloaded).ok_or_else(|| NoHome::of(books, ask))?;
        let warm = books.idle(ask.function, ask.revision, slot) > 0;
        Ok(Choice { vm: books.vm(slot), slot, warm })
    }

    /// Nothing is made beforehand.
    fn next_home(&mut self, _books: &Books, _ask: &Ask) -> Option<Slot> {
        None
    }

    fn forget(&mut self, function: FunctionId) {
        self.functions.remove(&function);
    }

    fn binding(&self) -> Binding {
        Binding::Early
    }

    fn grant(&mut self, _books: &Books, function: &FunctionCard, _grant: Grant) -> Grant {
        let known = self.known(function.id);
        let grant = known.profile.grant(function);
        known.limit = grant.ceiling.cpu;
        grant
    }

    fn arrived(&mut self, now: Moment, function: FunctionId) {
        self.turn = if self.turn >= self.others { 0 } else { self.turn + 1 };
        let turn = self.turn;
        self.known(function).seen[turn].rate.count(now);
    }

    fn ended(&mut self, _now: Moment, ran: &Ran) {
        self.known(ran.function).profile.ended(ran.duration, &ran.usage);
    }
}

impl Seen {
    fn resize(&mut self, now: Moment, home: Option<u16>, new_size: usize) {
        let moved = self.home != home;
        self.home = home;
        if moved || new_size > self.size {
            self.size = new_size;
        } else if new_size < self.size
            && self.shrunk.is_none_or(|shrunk| now.since(shrunk) >= SHRINK_INTERVAL)
        {
            (self.size, self.shrunk) = (new_size, Some(now));
        }
    }
}

fn keep_least(best: &mut Option<(u64, Slot)>, next: (u64, Slot)) {
    // The first of equals stays.
    if best.is_none_or(|best| next.0 < best.0) {
        *best = Some(next);
    }
}

#[cfg(test)]
mod tests;
