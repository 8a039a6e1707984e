//! The one place where time is read.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use vocabulary::Moment;

/// Turns the machine's clocks into the house's moments. Copies share one origin.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    origin: Instant,
    /// What the wall clock said then.
    origin_unix_ms: u64,
}

impl Clock {
    /// A clock whose origin is now.
    pub fn start() -> Self {
        Self { origin: Instant::now(), origin_unix_ms: unix_ms() }
    }

    /// Now, on this process's own time line.
    pub fn now(&self) -> Moment {
        Moment(self.origin.elapsed().as_micros() as u64)
    }

    /// What the wall clock said at the origin, and the time since: it never goes back, whatever becomes of the wall clock
    /// meanwhile. For what must count up as long as this process lives, and if possible beyond it.
    pub fn steady_unix_ms(&self) -> u64 {
        self.origin_unix_ms + self.origin.elapsed().as_millis() as u64
    }

    /// The later one of both clocks: for whoever may believe that it is later than it is, but never earlier.
    pub fn latest_unix_ms(&self) -> u64 {
        self.steady_unix_ms().max(unix_ms())
    }
}

/// Milliseconds since the Unix epoch by this machine's wall clock: for ids and for people, never for decisions.
pub fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_counts_up_goes_on_when_the_wall_clock_is_set_back() {
        let hour = 3_600_000;
        let ahead = Clock { origin: Instant::now(), origin_unix_ms: unix_ms() + hour };
        assert!(ahead.steady_unix_ms() >= ahead.origin_unix_ms);
        assert_eq!(ahead.latest_unix_ms() / hour, ahead.steady_unix_ms() / hour);
        let behind = Clock { origin_unix_ms: unix_ms() - hour, ..ahead };
        assert!(behind.latest_unix_ms() > behind.steady_unix_ms() + hour / 2, "the wall clock was set right");
    }
}
