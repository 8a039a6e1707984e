//! The one place where time is read.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use vocabulary::Moment;

/// Turns the machine's clocks into the house's moments. Copies share one origin.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    origin: Instant,
}

impl Clock {
    /// A clock whose origin is now.
    pub fn start() -> Self {
        Self { origin: Instant::now() }
    }

    /// Now, on this process's own time line.
    pub fn now(&self) -> Moment {
        Moment(self.origin.elapsed().as_micros() as u64)
    }
}

/// Milliseconds since the Unix epoch by this machine's wall clock: for ids and for people, never for decisions.
pub fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}
