//! What each VM offers, what is booked on it, and what is idle on it.
//!
//! **Knows:** VMs by number ([`Slot`]), so that a decision reads arrays and not trees.
//! **Promises:** every step costs the same however many VMs there are, except [`Books::vms`] and what is said to
//! look at all of them.
//! **Gives up:** knowing who booked what; the Controller does.

use std::collections::BTreeMap;

use vocabulary::{FunctionId, Mebibytes, MilliCores, Resources, Revision, VmId, VmKind};

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
    /// A VM that is kept free for one function.
    held: Option<(Slot, FunctionId)>,
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
            && self.held.is_none_or(|(held, by)| held != slot || by == ask.function)
    }

    /// Idle sandboxes of this build there.
    pub fn idle(&self, function: FunctionId, revision: Revision, slot: Slot) -> u32 {
        let idle = self.idle_anywhere(function, revision);
        idle.binary_search_by_key(&slot, |&(at, _)| at).map_or(0, |found| idle[found].1)
    }

    /// Where idle sandboxes of this build are, by slot; counts may be 0.
    pub fn idle_anywhere(&self, function: FunctionId, revision: Revision) -> &[(Slot, u32)] {
        self.warm.get(&function).filter(|warm| warm.revision == revision).map_or(&[], |warm| &warm.idle)
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
        if self.held.is_some_and(|(held, _)| held == slot) {
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
    pub fn uses(&mut self, vm: VmId, used: Resources) {
        if let Some(slot) = self.slot(vm) {
            self.book_mut(slot).used = used;
        }
    }

    /// Keeps a VM free for one function, or none.
    pub fn hold(&mut self, held: Option<(Slot, FunctionId)>) {
        if self.held != held {
            self.held = held;
            self.version += 1;
        }
    }

    /// Which VM is kept free for which function.
    pub fn held(&self) -> Option<(Slot, FunctionId)> {
        self.held
    }

    /// So many sandboxes of this build have become idle there. Older builds than the newest known are ignored.
    pub fn put_idle(&mut self, function: FunctionId, revision: Revision, slot: Slot, count: u32) {
        if count == 0 || !self.put_warm(function, revision, slot, count) {
            return;
        }
        let idle = &mut self.book_mut(slot).idle;
        match idle.binary_search_by_key(&(function, revision), |&(of, build, _)| (of, build)) {
            Ok(found) => idle[found].2 = idle[found].2.saturating_add(count),
            Err(place) => idle.insert(place, (function, revision, count)),
        }
        self.version += 1;
    }

    /// More of them, in the list by function; says whether this build is remembered.
    fn put_warm(&mut self, function: FunctionId, revision: Revision, slot: Slot, count: u32) -> bool {
        if self.warm.len() >= self.warm_limit && !self.warm.contains_key(&function) {
            return false;
        }
        let warm = self.warm.entry(function).or_insert_with(|| Warm { revision, idle: Vec::new() });
        if revision < warm.revision {
            return false;
        }
        if revision > warm.revision {
            *warm = Warm { revision, idle: Vec::new() };
        }
        match warm.idle.binary_search_by_key(&slot, |&(at, _)| at) {
            Ok(found) => warm.idle[found].1 = warm.idle[found].1.saturating_add(count),
            Err(place) => warm.idle.insert(place, (slot, count)),
        }
        true
    }

    /// One of them is about to be used.
    pub fn take_idle(&mut self, function: FunctionId, revision: Revision, slot: Slot) {
        if let Some(warm) = self.warm.get_mut(&function).filter(|warm| warm.revision == revision)
            && let Ok(found) = warm.idle.binary_search_by_key(&slot, |&(at, _)| at)
        {
            // The entry stays at 0: most likely the sandbox is back in a moment.
            warm.idle[found].1 = warm.idle[found].1.saturating_sub(1);
            let idle = &mut self.book_mut(slot).idle;
            if let Ok(found) = idle.binary_search_by_key(&(function, revision), |&(of, build, _)| (of, build))
            {
                idle[found].2 = idle[found].2.saturating_sub(1);
            }
        }
    }

    /// Exactly these are idle there, in order of function and build. Where that is what was believed, it costs next to nothing.
    pub fn show_idle(
        &mut self,
        slot: Slot,
        shown: impl Iterator<Item = (FunctionId, Revision, u32)> + Clone,
    ) {
        let shown = shown.filter(|&(.., count)| count > 0);
        if shown.clone().next().is_some() {
            self.version += 1;
        }
        let book = self.book_mut(slot);
        if book.idle.iter().copied().eq(shown.clone()) {
            return;
        }
        let mut before = std::mem::take(&mut book.idle);
        let mut after = std::mem::take(&mut self.spare);
        // First what is no longer so, then what is new: what is remembered of how many functions is limited.
        let mut rest = shown.clone().peekable();
        for &(function, revision, count) in &before {
            while rest.next_if(|&(of, build, _)| (of, build) < (function, revision)).is_some() {}
            if rest.peek() != Some(&(function, revision, count)) {
                self.take_warm(function, revision, slot);
            }
        }
        let mut rest = before.iter().copied().peekable();
        for (function, revision, count) in shown {
            while rest.next_if(|&(of, build, _)| (of, build) < (function, revision)).is_some() {}
            let same = rest.peek() == Some(&(function, revision, count));
            if same || self.put_warm(function, revision, slot, count) {
                after.push((function, revision, count));
            }
        }
        self.book_mut(slot).idle = after;
        before.clear();
        self.spare = before;
    }

    /// Nothing is idle there as far as we know.
    pub fn clear_idle(&mut self, slot: Slot) {
        for (function, revision, _) in std::mem::take(&mut self.book_mut(slot).idle) {
            self.take_warm(function, revision, slot);
        }
    }

    /// None of this build there any more, in the list by function.
    fn take_warm(&mut self, function: FunctionId, revision: Revision, slot: Slot) {
        if let Some(warm) = self.warm.get_mut(&function).filter(|warm| warm.revision == revision)
            && let Ok(found) = warm.idle.binary_search_by_key(&slot, |&(at, _)| at)
        {
            warm.idle.remove(found);
            if warm.idle.is_empty() {
                self.warm.remove(&function);
            }
        }
    }

    /// Functions with idle sandboxes there.
    pub fn functions_idle_at(&self, slot: Slot) -> impl Iterator<Item = FunctionId> {
        self.book(slot).idle.iter().map(|&(function, ..)| function)
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
mod tests {
    use super::*;

    const F: FunctionId = FunctionId(1);
    const R: Revision = Revision(1);

    const HARVEST: VmKind = VmKind::Harvest;

    fn ask(function: FunctionId, demand: Resources) -> Ask {
        Ask { function, revision: R, demand, concurrency_milli: 0, kind: HARVEST }
    }

    fn one_vm() -> (Books, Slot) {
        let mut books = Books::new(10);
        let slot = books.add(VmId(1), VmKind::Harvest, Resources::new(2_000, 1_024));
        books.set_takes_work(slot, true);
        (books, slot)
    }

    #[test]
    fn what_is_booked_by_us_and_by_others_leaves_less_room() {
        let (mut books, slot) = one_vm();
        books.book_own(slot, Resources::new(1_000, 256));
        books.set_foreign(slot, Resources::new(500, 256));
        assert!(books.has_room(slot, &ask(F, Resources::new(500, 512))));
        assert!(!books.has_room(slot, &ask(F, Resources::new(501, 1))));
        books.release_own(slot, Resources::new(1_000, 256));
        assert!(books.has_room(slot, &ask(F, Resources::new(1_500, 512))));
    }

    #[test]
    fn a_vm_that_shrank_is_full_but_not_too_small_for_ever() {
        let (mut books, slot) = one_vm();
        books.set_capacity(slot, Resources::new(500, 1_024));
        assert!(!books.has_room(slot, &ask(F, Resources::new(1_000, 1))));
        assert!(books.could_ever_hold(HARVEST, Resources::new(1_000, 1)));
        assert!(!books.could_ever_hold(HARVEST, Resources::new(2_001, 1)));
    }

    #[test]
    fn only_sandboxes_of_the_newest_build_are_idle() {
        let (mut books, slot) = one_vm();
        books.put_idle(F, R, slot, 2);
        books.put_idle(F, Revision(2), slot, 1);
        books.put_idle(F, R, slot, 5);
        assert_eq!((books.idle(F, R, slot), books.idle(F, Revision(2), slot)), (0, 1));
    }

    #[test]
    fn a_removed_vm_leaves_nothing_warm_to_its_successor_in_the_slot() {
        let (mut books, slot) = one_vm();
        books.put_idle(F, R, slot, 2);
        books.remove(slot);
        assert_eq!(books.add(VmId(2), VmKind::Regular, Resources::new(1, 1)), slot);
        assert_eq!(books.idle(F, R, slot), 0);
        assert_eq!((books.len(), books.open()), (1, 0));
    }

    #[test]
    fn sums_follow_every_change_of_the_vms_that_take_work() {
        let (mut books, slot) = one_vm();
        let other = books.add(VmId(2), VmKind::Regular, Resources::new(1_000, 512));
        assert_eq!(books.open_resources().0, Resources::new(2_000, 1_024));
        books.book_own(other, Resources::new(300, 100));
        books.set_takes_work(other, true);
        books.book_own(slot, Resources::new(500, 200));
        books.set_foreign(slot, Resources::new(50, 20));
        assert_eq!(books.open_resources(), (Resources::new(3_000, 1_536), Resources::new(2_150, 1_216)));
        books.set_capacity(slot, Resources::new(1_000, 1_024));
        books.release_own(slot, Resources::new(500, 200));
        assert_eq!(books.open_resources(), (Resources::new(2_000, 1_536), Resources::new(1_650, 1_416)));
        books.remove(other);
        books.remove(slot);
        assert_eq!(books.open_resources(), (Resources::ZERO, Resources::ZERO));
    }

    #[test]
    fn a_held_vm_has_room_for_nobody_else() {
        let (mut books, slot) = one_vm();
        books.hold(Some((slot, F)));
        assert!(books.has_room(slot, &ask(F, Resources::new(1, 1))));
        assert!(!books.has_room(slot, &ask(FunctionId(2), Resources::new(1, 1))));
    }

    #[test]
    fn sizes_that_neither_contains_the_other_both_count_as_largest() {
        let (mut books, _) = one_vm();
        for (id, cpu, memory) in [(2, 1_000, 4_096), (3, 500, 512)] {
            let slot = books.add(VmId(id), HARVEST, Resources::new(cpu, memory));
            books.set_takes_work(slot, true);
        }
        assert!(books.could_ever_hold(HARVEST, Resources::new(1_000, 4_096)));
        assert!(books.could_ever_hold(HARVEST, Resources::new(2_000, 1_024)));
        assert!(!books.could_ever_hold(HARVEST, Resources::new(2_000, 4_096)));
        assert_eq!(books.largest(HARVEST), Resources::new(2_000, 1_024));
    }

    #[test]
    fn idle_sandboxes_of_too_many_functions_are_not_remembered() {
        let (mut books, slot) = one_vm();
        for id in 0..20 {
            books.put_idle(FunctionId(id), R, slot, 1);
        }
        let remembered = (0..20).filter(|&id| books.idle(FunctionId(id), R, slot) > 0).count();
        assert_eq!(remembered, 10);
    }

    #[test]
    fn only_vms_of_the_kind_that_is_asked_for_have_room() {
        let (books, slot) = one_vm();
        let small = ask(F, Resources::new(1, 1));
        assert!(books.has_room(slot, &small));
        assert!(!books.has_room(slot, &Ask { kind: VmKind::Regular, ..small }));
        assert!(!books.could_ever_hold(VmKind::Regular, small.demand));
        assert_eq!((books.open_of(HARVEST), books.open_of(VmKind::Regular), books.open()), (1, 0, 1));
    }
}
