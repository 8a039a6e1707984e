//! Numbers for sandboxes: each has a user id of its own while it lives.
//!
//! **Knows:** which numbers are taken.
//! **Promises:** the lowest free number, and never more than the limit at a time.
//! **Gives up:** order among those who wait; nobody waits here.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

/// All numbers of one Workshop.
#[derive(Clone)]
pub(crate) struct Slots {
    taken: Arc<Mutex<BTreeSet<u32>>>,
    limit: u32,
}

/// One number, free again when this is dropped.
pub(crate) struct Slot {
    slots: Slots,
    pub(crate) number: u32,
}

impl Slots {
    pub(crate) fn new(limit: u32) -> Self {
        Self { taken: Arc::default(), limit }
    }

    /// The lowest free number; none if all are taken.
    pub(crate) fn take(&self) -> Option<Slot> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let number = (0..self.limit).zip(taken.iter().copied().map(Some).chain(std::iter::repeat(None)));
        let number = number.into_iter().find_map(|(free, taken)| (taken != Some(free)).then_some(free))?;
        taken.insert(number);
        Some(Slot { slots: self.clone(), number })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.slots.taken.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_free_number_is_given_and_no_more_than_the_limit() {
        let slots = Slots::new(3);
        let first = slots.take().unwrap();
        let second = slots.take().unwrap();
        let third = slots.take().unwrap();
        assert_eq!([first.number, second.number, third.number], [0, 1, 2]);
        assert!(slots.take().is_none());
        drop(second);
        assert_eq!(slots.take().unwrap().number, 1);
        drop((first, third));
        assert_eq!(slots.take().unwrap().number, 0);
    }
}
