//! Who may use what of another's reservation, from the start of a run to its end.
//!
//! **Knows:** what each running invocation has booked, reserved and wished for, and the pool of what is left.
//! **Promises:** a ceiling is never below what its run has booked, unless the VM itself has less than is booked; then bookings are cut
//! in proportion (`hard`), or weights do it (`elastic`). Loans of CPU are only made of room that nobody has booked: a new
//! booking, a shrink, or a lender that ends or is safeguarded takes them back in the same step, and growth gives them again.
//! Where nobody is stopped at a booking (`elastic`), that of a run of which nothing is known falls to what it is seen to use.
//! **When bookings exceed the VM:** when it shrinks under what runs; and when a safeguard gives a reservation back after the room has
//! been promised to others. Nothing is begun meanwhile, so bookings never exceed the VM by more than what running
//! invocations had left of their reservations, and for no longer than until the last of them ends.
//! **Gives up:** taking memory back from a process that holds it. Borrowed memory stays with its borrower to the end of its run and
//! counts as held, so that nobody else is promised it; it is lent only from memory that is not held.

use std::collections::{BTreeMap, BTreeSet};

use vocabulary::{Mebibytes, MilliCores, Moment, Resources};

use super::runs::Run;
use super::{Lending, Output, Residency, SandboxId};
use crate::allocation::CPU_MIN;
use crate::harvest_pool::HarvestPool;
use crate::safeguard::{Due, Sample, judge};

/// One running invocation.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    pub reserved: Resources,
    pub booked: Resources,
    /// What it would like beyond the larger of the two.
    pub wish: Resources,
    pub borrowed: Resources,
    /// What it had lent and was given back.
    pub restored: Due,
    /// What is booked for it is provisional, and this has been seen so far; `None`: it is not, or no longer.
    pub first: Option<FirstLooks>,
    /// Its booking fell to what it was seen to use.
    pub fell: bool,
}

/// What a run of which nothing is known was seen to use.
#[derive(Debug, Clone, Copy)]
pub(super) struct FirstLooks {
    highest: MilliCores,
    looks: u32,
    /// When it is over at the latest, as far as anybody knows.
    until: Moment,
}

impl Entry {
    fn lends_cpu(&self) -> bool {
        self.booked.cpu < self.reserved.cpu
    }

    fn lends(&self) -> bool {
        self.lends_cpu() || self.booked.memory < self.reserved.memory
    }
}

/// Everything that this file keeps.
#[derive(Debug, Default)]
pub(super) struct Book {
    pub pool: HarvestPool,
    pub entries: BTreeMap<SandboxId, Entry>,
    /// Runs that lend.
    pub watched: BTreeSet<SandboxId>,
    /// Runs that could use more CPU than they could borrow.
    wanting: BTreeSet<SandboxId>,
    /// Runs whose ceiling may be another than the one that was told.
    changed: BTreeSet<SandboxId>,
    told: BTreeMap<SandboxId, (Resources, MilliCores)>,
    /// What the VM had and what was booked when that was too much: ceilings are cut in that proportion.
    cut: Option<(MilliCores, MilliCores)>,
    pub safeguarded: u64,
    /// Bookings that fell to what was seen of their runs...
    pub fell: u64,
    /// ...and those of them that had to rise again.
    pub rose: u64,
}

/// Where something is lent, a sandbox in the making has the weight of a fiftieth of a core: what it uses is in nobody's booking, and on a VM whose
/// cores are all in use it would slow those down who have lent or booked them, by an eighth or a fourth with one or two in the
/// making on eight cores. It takes what is left. Of 10, 20, 40, 100 and 1,000 millicores, on minutes and seeds by which nobody is judged (`docs/figures/lending.md`),
/// 20 is the most with which no run was slowed down by more than two hundredths; the kernel takes no less than 10.
const WEIGHT_IN_MAKING: MilliCores = MilliCores(20);

/// A run of which nothing is known keeps its booking for half a second, 25 looks: what follows shows nearly always what it uses, and those that end
/// sooner keep nobody waiting.
const FIRST_LOOKS: u32 = 25;
/// Of what it was seen to use so many thousandths are booked then...
const WITH_ROOM: u64 = 1_100;
/// ...and at least [`CPU_MIN`], if that is not nearly all of it: less than a tenth would be won.
const WORTHWHILE: u64 = 900;

impl Residency {
    /// The weight of a sandbox until it is ready; `None`: as its ceiling.
    pub(super) fn weight_in_making(&self) -> Option<MilliCores> {
        (self.settings.lending != Lending::Off).then_some(WEIGHT_IN_MAKING)
    }

    /// A run is about to begin: it lends what it leaves, and borrows what it can.
    pub(super) fn begin_lending(&mut self, id: SandboxId, run: &Run, outputs: &mut Vec<Output>) {
        let (reserved, booked) = (run.function.reservation, run.grant.booked);
        let mut wish = run.grant.ceiling - reserved.max(booked);
        if self.settings.lending == Lending::Elastic {
            // What is idle need not be borrowed where it can be had back at once.
            wish.cpu = MilliCores::ZERO;
        }
        let lasts = if run.grant.lasts.as_micros() > 0 { run.grant.lasts } else { run.function.timeout };
        let until = self.now + lasts;
        let may_fall = run.grant.provisional && self.settings.lending == Lending::Elastic;
        let entry = Entry {
            reserved,
            booked,
            wish,
            borrowed: Resources::ZERO,
            restored: Due::default(),
            first: may_fall.then_some(FirstLooks { highest: MilliCores::ZERO, looks: 0, until }),
            fell: false,
        };
        self.book.entries.insert(id, entry);
        if entry.lends() {
            self.book.pool.put(id, reserved - booked, until);
        }
        if entry.lends() || may_fall {
            self.book.watched.insert(id);
        }
        self.recall_what_is_booked();
        self.borrow(id);
        // Whoever loses by it loses it before this one begins.
        self.book.changed.remove(&id);
        self.tell_changes(outputs);
        let told = self.allowed(id);
        self.book.told.insert(id, told);
        self.sandboxes.change(id, |sandbox| sandbox.ceiling = told.0);
    }

    /// A run has ended: what it lent is over, what it had borrowed can be lent again.
    pub(super) fn end_lending(&mut self, id: SandboxId) {
        let Some(_) = self.book.entries.remove(&id) else { return };
        self.book.watched.remove(&id);
        self.book.wanting.remove(&id);
        self.book.changed.remove(&id);
        self.book.told.remove(&id);
        self.book.pool.give_back(id);
        let losses = self.book.pool.take_back(id, true, true);
        self.lose(losses);
    }

    /// What is booked for a run that nobody knew falls to what it was seen to use, when that has been seen for long enough. It is not stopped there: if it
    /// needs more later it has it by its weight, and its booking rises again as with any other that lends.
    fn see_what_it_uses(&mut self, id: SandboxId, sample: &Sample, outputs: &mut Vec<Output>) {
        let Some(entry) = self.book.entries.get_mut(&id) else { return };
        let Some(first) = &mut entry.first else { return };
        first.highest = first.highest.max(sample.cpu);
        first.looks += 1;
        if first.looks < FIRST_LOOKS {
            return;
        }
        let (used, until) = (first.highest.scaled(WITH_ROOM, 1_000).max(CPU_MIN), first.until);
        entry.first = None;
        if used >= entry.booked.cpu.min(entry.reserved.cpu).scaled(WORTHWHILE, 1_000) {
            if !entry.lends() {
                self.book.watched.remove(&id);
            }
            return;
        }
        let left = Resources { cpu: entry.reserved.cpu - used, memory: Mebibytes::ZERO };
        (entry.booked.cpu, entry.fell) = (used, true);
        let booked = entry.booked;
        self.book.fell += 1;
        self.book.pool.put(id, left, until);
        self.book.changed.insert(id);
        self.rebook(id, booked);
        self.tell_changes(outputs);
    }

    /// So much is booked for a run from now on.
    fn rebook(&mut self, id: SandboxId, booked: Resources) {
        let borrowed = self.book.entries.get(&id).map_or(Mebibytes::ZERO, |entry| entry.borrowed.memory);
        self.sandboxes.change(id, |sandbox| {
            sandbox.booked = booked;
            sandbox.held = booked.memory + borrowed;
        });
        if let Some((invocation, _)) = self.sandboxes.serves(id)
            && let Some((on, run)) = self.runs.get_mut(&invocation)
            && *on == id
        {
            run.grant.booked = booked;
        }
    }

    /// A run that lends, or may, was seen to use so much.
    pub(super) fn sampled(&mut self, id: SandboxId, sample: &Sample, outputs: &mut Vec<Output>) {
        self.see_what_it_uses(id, sample, outputs);
        let Some(entry) = self.book.entries.get_mut(&id) else { return };
        let safeguard = &self.settings.safeguard;
        let mut due = judge(safeguard, entry.reserved, entry.booked, sample);
        if self.settings.lending == Lending::Elastic {
            due.cpu = judge(&safeguard.where_nobody_is_stopped(), entry.reserved, entry.booked, sample).cpu;
        }
        if !due.any() {
            return;
        }
        if entry.fell && due.cpu {
            self.book.rose += 1;
        } else if !entry.restored.any() {
            self.book.safeguarded += 1;
        }
        if due.cpu {
            (entry.booked.cpu, entry.restored.cpu) = (entry.reserved.cpu, true);
        }
        if due.memory {
            (entry.booked.memory, entry.restored.memory) = (entry.reserved.memory, true);
        }
        let (booked, still_lends) = (entry.booked, entry.lends());
        if !still_lends {
            self.book.watched.remove(&id);
        }
        self.book.changed.insert(id);
        let losses = self.book.pool.take_back(id, due.cpu, due.memory);
        self.lose(losses);
        self.rebook(id, booked);
        self.free_memory(outputs);
        self.recall_what_is_booked();
        self.tell_changes(outputs);
    }

    /// Idle sandboxes go for memory that was given back, as they go for any run.
    fn free_memory(&mut self, outputs: &mut Vec<Output>) {
        while self.sandboxes.held() > u64::from(self.capacity.memory.0)
            && let Some(least) = self.sandboxes.least_worth(None)
        {
            self.evict(least, outputs);
        }
    }

    fn lose(&mut self, losses: Vec<(SandboxId, Resources)>) {
        for (borrower, lost) in losses {
            let Some(entry) = self.book.entries.get_mut(&borrower) else { continue };
            // Its memory stays with it.
            entry.borrowed.cpu -= lost.cpu;
            self.book.changed.insert(borrower);
            if entry.borrowed.cpu < entry.wish.cpu {
                self.book.wanting.insert(borrower);
            }
        }
    }

    /// CPU that is neither booked nor lent.
    fn room_to_lend(&self) -> MilliCores {
        self.capacity.cpu - self.sandboxes.booked().cpu - self.book.pool.lent().cpu
    }

    fn recall_what_is_booked(&mut self) {
        let lent = self.book.pool.lent().cpu;
        let too_much = lent - (self.capacity.cpu - self.sandboxes.booked().cpu);
        if too_much > MilliCores::ZERO {
            let losses = self.book.pool.recall_cpu(too_much);
            self.lose(losses);
        }
    }

    /// As much of its wish as there is.
    fn borrow(&mut self, id: SandboxId) {
        let room = self.room_to_lend();
        let Some(entry) = self.book.entries.get_mut(&id) else { return };
        let mut wish = entry.wish - entry.borrowed;
        wish.cpu = wish.cpu.min(room);
        // Memory is asked for once, at the start, and from what nobody holds.
        let told = self.book.told.contains_key(&id);
        let free = u64::from(self.capacity.memory.0).saturating_sub(self.sandboxes.held());
        wish.memory = if told { Mebibytes::ZERO } else { wish.memory.min(Mebibytes(free as u32)) };
        let got = self.book.pool.get(self.now, id, wish);
        entry.borrowed += got;
        if entry.borrowed.cpu < entry.wish.cpu {
            self.book.wanting.insert(id);
        } else {
            self.book.wanting.remove(&id);
        }
        if got != Resources::ZERO {
            self.book.changed.insert(id);
        }
        if got.memory > Mebibytes::ZERO {
            let held = entry.booked.memory + entry.borrowed.memory;
            self.sandboxes.change(id, |sandbox| sandbox.held = held);
        }
    }

    /// After every event: loans fit into what is not booked, what is idle goes to those who want it, and whoever may use another
    /// amount than it was told is told.
    pub(super) fn settle(&mut self, outputs: &mut Vec<Output>) {
        if self.book.entries.is_empty() {
            return;
        }
        self.recall_what_is_booked();
        let mut wanting = std::mem::take(&mut self.book.wanting);
        for &id in &wanting {
            if self.room_to_lend() == MilliCores::ZERO || self.book.pool.idle().cpu == MilliCores::ZERO {
                break;
            }
            self.borrow(id);
        }
        wanting
            .retain(|id| self.book.entries.get(id).is_some_and(|entry| entry.borrowed.cpu < entry.wish.cpu));
        self.book.wanting = wanting;
        self.tell_changes(outputs);
    }

    fn tell_changes(&mut self, outputs: &mut Vec<Output>) {
        let (has, booked) = (self.capacity.cpu, self.sandboxes.booked().cpu);
        let cut = (booked > has && self.settings.lending == Lending::Hard).then_some((has, booked));
        if cut != self.book.cut {
            self.book.cut = cut;
            self.book.changed.extend(self.book.told.keys());
        }
        // Those who get less come first, so that ceilings never add up to more than there was before.
        let mut more = Vec::new();
        for id in std::mem::take(&mut self.book.changed) {
            let Some(&told) = self.book.told.get(&id) else { continue };
            let now = self.allowed(id);
            if now == told {
                continue;
            }
            self.book.told.insert(id, now);
            self.sandboxes.change(id, |sandbox| sandbox.ceiling = now.0);
            let output = Output::Resize { sandbox: id, ceiling: now.0, weight: now.1 };
            if now.0.cpu > told.0.cpu { more.push(output) } else { outputs.push(output) }
        }
        outputs.append(&mut more);
    }

    /// Ceiling and weight of a running sandbox.
    pub(super) fn allowed(&self, id: SandboxId) -> (Resources, MilliCores) {
        let Some(entry) = self.book.entries.get(&id) else { return Default::default() };
        let Entry { reserved, booked, borrowed, .. } = *entry;
        let memory = booked.memory + borrowed.memory;
        if self.settings.lending == Lending::Elastic {
            let wish = self.grant_on(id).map_or(reserved, |grant| grant.ceiling);
            let cpu = wish.cpu.max(reserved.cpu).max(booked.cpu);
            let ceiling = Resources { cpu, memory: memory.max(reserved.memory) };
            let protected = entry.lends_cpu() || entry.restored.cpu;
            let weight = if protected {
                reserved.cpu.scaled(self.settings.lender_weight.into(), 100)
            } else {
                booked.cpu
            };
            return (ceiling, weight);
        }
        let cpu = match self.book.cut {
            // The kernel gives nobody less than a hundredth of a core.
            Some((has, all)) => booked.cpu.scaled(has.0.into(), all.0.max(1).into()).max(MilliCores(10)),
            None => booked.cpu + borrowed.cpu,
        };
        (Resources { cpu, memory }, booked.cpu)
    }
}

#[cfg(test)]
mod tests;
