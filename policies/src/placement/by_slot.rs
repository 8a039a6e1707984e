//! One thing for each VM, where the VM stands in the books.
//!
//! **Promises:** what is kept of a VM is found without looking for it.
//! **Gives up:** knowing which VM it is; a slot is given to another when its VM has gone, and what was here must be taken out by then.

use std::ops::{Index, IndexMut};

use super::Slot;

/// See the module.
#[derive(Debug)]
pub(crate) struct BySlot<T>(Vec<Option<T>>);

impl<T> Default for BySlot<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> BySlot<T> {
    pub fn put(&mut self, slot: Slot, new: T) {
        if self.0.len() <= slot.index() {
            self.0.resize_with(slot.index() + 1, || None);
        }
        self.0[slot.index()] = Some(new);
    }

    pub fn take(&mut self, slot: Slot) -> Option<T> {
        self.0.get_mut(slot.index())?.take()
    }

    pub fn get(&self, slot: Slot) -> Option<&T> {
        self.0.get(slot.index())?.as_ref()
    }

    pub fn iter(&self) -> impl Iterator<Item = (Slot, &T)> {
        let all = self.0.iter().enumerate();
        all.filter_map(|(index, one)| Some((Slot(index as u32), one.as_ref()?)))
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.0.iter_mut().flatten()
    }
}

impl<T> Index<Slot> for BySlot<T> {
    type Output = T;

    fn index(&self, slot: Slot) -> &T {
        self.get(slot).expect("a VM in the books has its place here")
    }
}

impl<T> IndexMut<Slot> for BySlot<T> {
    fn index_mut(&mut self, slot: Slot) -> &mut T {
        self.0[slot.index()].as_mut().expect("a VM in the books has its place here")
    }
}
