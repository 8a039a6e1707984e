//! What each VM offers, what is booked on it, and what is idle on it.
//!
//! **Knows:** VMs by number ([`Slot`]), so that a decision reads arrays and not trees.
//! **Promises:** every step costs the same however many VMs there are, except [`Books::vms`] and what is said to
//! look at all of them.
//! **Gives up:** knowing who booked what; the Controller does.

mod warm;

use std::collections::BTreeMap;

use vocabulary::{FunctionId, Mebibytes, MilliCores, Moment, Resources, Revision, VmId, VmKind};

use super::Ask;
use crate::hash::Map;

/// A VM's place in the books. Given to another VM after this one was removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Slot(pub(crate) u32);

impl Slot {
    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }
}

/// A VM that is kept free for one function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hold {
    /// Which VM.
    pub slot: Slot,
    /// For whom.
    pub by: FunctionId,
    /// When there should be room for it. Who should have ended by then keeps it from nothing.
    pub until: Moment,
}

/// One VM.
#[derive(Debug, Clone)]
struct Book {
    vm: VmId,
    kind: VmKind,
    capacity: Resources,
    /// The most it has ever had: what it may have again.
    peak: Resources,
    /// Booked by us.
    own: Resources,
    /// Booked by others, as the VM itself reports.
    foreign: Resources,
    /// What it said it uses.
    used: Resources,
    takes_work: bool,
    /// It has handed something back since its last report: what we believe of its room is wrong.
    refusing: bool,
    /// Builds that may have idle sandboxes here, and how many, in order.
    idle: Vec<(FunctionId, Revision, u32)>,
}

/// Idle sandboxes of one build of one function.
#[derive(Debug, Clone, Default)]
struct Warm {
    revision: Revision,
    /// Sorted by slot.
    idle: Vec<(Slot, u32)>,
}

/// What each VM offers, what is booked on it, and what is idle on it.
#[derive(Debug, Default)]
pub struct Books {
    /// `None`: free.
    slots: Vec<Option<Book>>,
    free: Vec<Slot>,
    by_id: Map<VmId, Slot>,
    warm: Map<FunctionId, Warm>,
    warm_limit: usize,
    /// Room for the next list.
    spare: Vec<(FunctionId, Revision, u32)>,
    held: Option<Hold>,
    /// Grows whenever room or an idle sandbox appears anywhere.
    version: u64,
    /// VMs that take work, by kind.
    by_kind: [Sizes; 2],
}

/// How large the VMs of one kind are that take work.
#[derive(Debug, Default)]
struct Sizes {
    open: u32,
    /// Their CPU, and what is booked of it, in millicores.
    cpu: u64,
    cpu_booked: u64,
    /// The same of memory, in MiB.
    memory: u64,
    memory_booked: u64,
    /// How many of them have, or once had, each size; by CPU, then memory.
    counts: BTreeMap<(MilliCores, Mebibytes), u32>,
    /// The sizes that are not smaller than another in both CPU and memory; most CPU first.
    largest: Vec<Resources>,
}

impl Books {
    /// Empty books that remember idle sandboxes of at most `functions_limit` functions.
    pub fn new(functions_limit: u32) -> Self {
        Self { warm_limit: functions_limit as usize, ..Self::default() }
    }

    /// Where a VM stands.
    pub fn slot(&self, vm: VmId) -> Option<Slot> {
        self.by_id.get(&vm).copied()
    }

    /// Which VM stands there. The slot must be in use.
    pub fn vm(&self, slot: Slot) -> VmId {
        self.book(slot).vm
    }

    /// Regular or harvest.
    pub fn kind(&self, slot: Slot) -> VmKind {
        self.book(slot).kind
    }

    /// What it has now.
    pub fn capacity(&self, slot: Slot) -> Resources {
        self.book(slot).capacity
    }

    /// What is booked on it, by us and by others.
    pub fn booked(&self, slot: Slot) -> Resources {
        let book = self.book(slot);
        book.own + book.foreign
    }

    /// What is booked on it by us.
    pub fn booked_by_us(&self, slot: Slot) -> Resources {
        self.book(slot).own
    }

    /// What its sandboxes used at its last report, all together.
    pub fn used(&self, slot: Slot) -> Resources {
        self.book(slot).used
    }

    /// Whether it takes new work.
    pub fn takes_work(&self, slot: Slot) -> bool {
        self.book(slot).takes_work
    }

    /// Whether a VM stands there.
    pub fn exists(&self, slot: Slot) -> bool {
        self.slots.get(slot.index()).is_some_and(Option::is_some)
    }

    /// Whether it is of this kind, takes new work and has not just handed some back. Room is another question.
    pub fn accepts(&self, slot: Slot, kind: VmKind) -> bool {
        let book = self.book(slot);
        book.takes_work && !book.refusing && book.kind == kind
    }

    /// Whether it is of the kind that is asked for, and what is asked for fits there now.
    pub fn has_room(&self, slot: Slot, ask: &Ask) -> bool {
        let book = self.book(slot);
        book.takes_work
            && book.kind == ask.kind
            && !book.refusing
            && (book.own + book.foreign + ask.demand).fits_in(book.capacity)
            && self
                .held
                .is_none_or(|hold| hold.slot != slot || hold.by == ask.function || ask.ends <= hold.until)
    }

    /// All VMs, in the order of their slots. O(VMs).
    pub fn vms(&self) -> impl Iterator<Item = Slot> {
        (0..self.slots.len() as u32).map(Slot).filter(|slot| self.slots[slot.index()].is_some())
    }

    /// One more than the highest slot ever used.
    pub fn slots(&self) -> usize {
        self.slots.len()
    }

    /// VMs that take work.
    pub fn open(&self) -> u32 {
        self.by_kind.iter().map(|sizes| sizes.open).sum()
    }

    /// VMs of this kind that take work.
    pub fn open_of(&self, kind: VmKind) -> u32 {
        self.sizes(kind).open
    }

    /// CPU of all VMs of this kind that take work, and what is booked of it, in millicores.
    pub fn open_cpu(&self, kind: VmKind) -> (u64, u64) {
        (self.sizes(kind).cpu, self.sizes(kind).cpu_booked)
    }

    /// What the VMs that take work have, and what of it is not booked.
    pub fn open_resources(&self) -> (Resources, Resources) {
        let narrow = |sum: u64| u32::try_from(sum).unwrap_or(u32::MAX);
        let sum = |of: fn(&Sizes) -> u64| self.by_kind.iter().map(of).sum::<u64>();
        let (cpu, memory) = (sum(|kind| kind.cpu), sum(|kind| kind.memory));
        let all = Resources::new(narrow(cpu), narrow(memory));
        let free = Resources::new(
            narrow(cpu.saturating_sub(sum(|kind| kind.cpu_booked))),
            narrow(memory.saturating_sub(sum(|kind| kind.memory_booked))),
        );
        (all, free)
    }

    /// All VMs.
    pub fn len(&self) -> u32 {
        (self.slots.len() - self.free.len()) as u32
    }

    /// Whether there is no VM.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Changes whenever a place that was refused may be found now.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Whether some VM of this kind that takes work is, or once was, large enough for this.
    pub fn could_ever_hold(&self, kind: VmKind, demand: Resources) -> bool {
        self.sizes(kind).largest.iter().any(|&size| demand.fits_in(size))
    }

    /// The VM size with the most CPU (then memory) among those of this kind that take work, as they were at their
    /// largest.
    pub fn largest(&self, kind: VmKind) -> Resources {
        self.sizes(kind).largest.first().copied().unwrap_or(Resources::ZERO)
    }

    fn sizes(&self, kind: VmKind) -> &Sizes {
        &self.by_kind[kind as usize]
    }

    // What the Controller writes.

    /// A VM that was not known before; takes no work yet.
    pub fn add(&mut self, vm: VmId, kind: VmKind, capacity: Resources) -> Slot {
        if let Some(slot) = self.slot(vm) {
            return slot;
        }
        let book = Book {
            vm,
            kind,
            capacity,
            peak: capacity,
            own: Resources::ZERO,
            foreign: Resources::ZERO,
            used: Resources::ZERO,
            takes_work: false,
            refusing: false,
            idle: Vec::new(),
        };
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            Slot((self.slots.len() - 1) as u32)
        });
        self.slots[slot.index()] = Some(book);
        self.by_id.insert(vm, slot);
        slot
    }

    /// A VM is gone, with all that was idle and booked on it.
    pub fn remove(&mut self, slot: Slot) {
        self.set_takes_work(slot, false);
        self.clear_idle(slot);
        let Some(book) = self.slots[slot.index()].take() else { return };
        self.by_id.remove(&book.vm);
        self.free.push(slot);
        if self.held.is_some_and(|hold| hold.slot == slot) {
            self.held = None;
        }
    }

    /// What it has now.
    pub fn set_capacity(&mut self, slot: Slot, capacity: Resources) {
        if self.capacity(slot) == capacity {
            return;
        }
        let Book { kind, peak: before, .. } = *self.book(slot);
        self.change(slot, |book| {
            book.capacity = capacity;
            book.peak = before.max(capacity);
        });
        let (peak, takes_work) = (before.max(capacity), self.takes_work(slot));
        self.version += 1;
        if takes_work && peak != before {
            self.by_kind[kind as usize].count(peak, true);
            self.by_kind[kind as usize].count(before, false);
        }
    }

    /// Whether it takes new work.
    pub fn set_takes_work(&mut self, slot: Slot, takes_work: bool) {
        if self.takes_work(slot) == takes_work {
            return;
        }
        self.change(slot, |book| book.takes_work = takes_work);
        let Book { kind, peak, .. } = *self.book(slot);
        self.version += 1;
        let sizes = &mut self.by_kind[kind as usize];
        sizes.open = if takes_work { sizes.open + 1 } else { sizes.open - 1 };
        sizes.count(peak, takes_work);
    }

    /// It handed work back, or (`false`) has reported since.
    pub fn set_refusing(&mut self, slot: Slot, refusing: bool) {
        let book = self.book_mut(slot);
        if book.refusing && !refusing {
            self.version += 1;
        }
        self.book_mut(slot).refusing = refusing;
    }

    /// We send something there.
    pub fn book_own(&mut self, slot: Slot, amount: Resources) {
        self.change(slot, |book| book.own += amount);
    }

    /// It has ended.
    pub fn release_own(&mut self, slot: Slot, amount: Resources) {
        self.change(slot, |book| book.own -= amount);
        self.version += 1;
    }

    /// What others have there.
    pub fn set_foreign(&mut self, slot: Slot, amount: Resources) {
        if self.book(slot).foreign != amount {
            self.change(slot, |book| book.foreign = amount);
            self.version += 1;
        }
    }

    /// What its sandboxes use, by its own last report. Room is counted in bookings, so nothing else follows from it.
    pub fn uses(&mut self, slot: Slot, used: Resources) {
        self.book_mut(slot).used = used;
    }

    /// Keeps a VM free for one function, or none.
    pub fn hold(&mut self, held: Option<Hold>) {
        if self.held != held {
            self.held = held;
            self.version += 1;
        }
    }

    /// Which VM is kept free for which function.
    pub fn held(&self) -> Option<Hold> {
        self.held
    }

    /// Changes a book, and with it the sums over all of its kind that take work.
    fn change(&mut self, slot: Slot, change: impl FnOnce(&mut Book)) {
        let book = self.slots[slot.index()].as_mut().expect("slots are asked for only while they are in use");
        let open = |book: &Book| {
            let (has, booked) = (book.capacity, book.own + book.foreign);
            let all = [has.cpu.0, booked.cpu.0, has.memory.0, booked.memory.0];
            if book.takes_work { all.map(u64::from) } else { [0; 4] }
        };
        let before = open(book);
        change(book);
        let after = open(book);
        let sizes = &mut self.by_kind[book.kind as usize];
        sizes.cpu = sizes.cpu - before[0] + after[0];
        sizes.cpu_booked = sizes.cpu_booked - before[1] + after[1];
        sizes.memory = sizes.memory - before[2] + after[2];
        sizes.memory_booked = sizes.memory_booked - before[3] + after[3];
    }

    fn book(&self, slot: Slot) -> &Book {
        self.slots[slot.index()].as_ref().expect("slots are asked for only while they are in use")
    }

    fn book_mut(&mut self, slot: Slot) -> &mut Book {
        self.slots[slot.index()].as_mut().expect("slots are asked for only while they are in use")
    }
}

impl Sizes {
    /// One VM more, or less, has this size. Only a size that is new or was the last of its kind costs anything.
    fn count(&mut self, size: Resources, more: bool) {
        let count = self.counts.entry((size.cpu, size.memory)).or_insert(0);
        *count = if more { *count + 1 } else { count.saturating_sub(1) };
        match (*count, more) {
            (1, true) => {}
            (0, _) => {
                self.counts.remove(&(size.cpu, size.memory));
            }
            _ => return,
        }
        let mut most = None;
        self.largest.clear();
        for &(cpu, memory) in self.counts.keys().rev() {
            if most.is_none_or(|most| memory > most) {
                self.largest.push(Resources { cpu, memory });
                most = Some(memory);
            }
        }
    }
}

/// How full a VM would be with `more` booked on it, in millionths: three times CPU plus memory, as the SOSP'21
/// authors' JSQ weighs them.
pub(crate) fn fullness(books: &Books, slot: Slot, more: Resources) -> u64 {
    let capacity = books.capacity(slot);
    let booked = books.booked(slot) + more;
    let share = |part: u32, whole: u32| u64::from(part) * 1_000_000 / u64::from(whole.max(1));
    let (MilliCores(cpu), Mebibytes(memory)) = (booked.cpu, booked.memory);
    3 * share(cpu, capacity.cpu.0) + share(memory, capacity.memory.0)
}

#[cfg(test)]
mod tests;
