//! Where idle sandboxes are.

use vocabulary::{FunctionId, Revision, WarmOnVm};

use super::{Books, Slot, Warm};

impl Books {
    /// Idle sandboxes of this build there.
    pub fn idle(&self, function: FunctionId, revision: Revision, slot: Slot) -> u32 {
        let idle = self.idle_anywhere(function, revision);
        idle.binary_search_by_key(&slot, |&(at, _)| at).map_or(0, |found| idle[found].1)
    }

    /// Where idle sandboxes of this build are, by slot; counts may be 0.
    pub fn idle_anywhere(&self, function: FunctionId, revision: Revision) -> &[(Slot, u32)] {
        self.warm.get(&function).filter(|warm| warm.revision == revision).map_or(&[], |warm| &warm.idle)
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

    /// Whether just what a VM lists is believed to be idle there.
    pub fn shows_what_was_believed(&mut self, slot: Slot, listed: &[WarmOnVm]) -> bool {
        let idle = &self.book(slot).idle;
        let is_same = |(&(function, revision, count), warm): (&(FunctionId, Revision, u32), &WarmOnVm)| {
            count > 0 && (function, revision, count) == (warm.function, warm.revision, warm.idle)
        };
        let all = idle.len() == listed.len() && idle.iter().zip(listed).all(is_same);
        if all && !listed.is_empty() {
            self.version += 1;
        }
        all
    }

    /// Exactly these are idle there, in order of function and build.
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
}
