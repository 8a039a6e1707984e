//! What is on its way.
//!
//! **Knows:** each letter from when it is sent until it arrives.
//! **Promises:** letters stay where they are; only their numbers, which are small, go through the agenda. Places are used again, so
//! that nothing is allocated once there are as many as are ever on their way at once.
//! **Gives up:** order. The agenda has it.

/// See the module.
#[derive(Debug)]
pub(super) struct Mail<T> {
    places: Vec<Option<T>>,
    free: Vec<u32>,
}

impl<T> Mail<T> {
    pub fn new() -> Self {
        Self { places: Vec::new(), free: Vec::new() }
    }

    /// Its number until it is taken out.
    pub fn put(&mut self, letter: T) -> u32 {
        match self.free.pop() {
            Some(number) => {
                self.places[number as usize] = Some(letter);
                number
            }
            None => {
                self.places.push(Some(letter));
                (self.places.len() - 1) as u32
            }
        }
    }

    pub fn take(&mut self, number: u32) -> T {
        self.free.push(number);
        self.places[number as usize].take().expect("a letter arrives once")
    }
}
