//! Time that passes only while we can hear.
//!
//! A VM is silent only while somebody listens: as long as NATS is away, time stands still for whoever judges others
//! by their silence, or a restart of the server would look like the loss of every VM at once.

use async_nats::connection::State;
use vocabulary::{Moment, Span};

use crate::bus::Bus;
use crate::clock::Clock;

/// A clock that stands still while NATS is away. Must be asked often to notice.
pub(crate) struct Listening {
    bus: Bus,
    time: OwnTime,
    clock: Clock,
}

impl Listening {
    pub fn new(bus: Bus, clock: Clock) -> Self {
        Self { bus, time: OwnTime::default(), clock }
    }

    pub fn now(&mut self) -> Moment {
        let connected = self.bus.client().connection_state() == State::Connected;
        self.time.at(self.clock.now(), connected)
    }
}

#[derive(Default)]
struct OwnTime {
    last: Moment,
    deaf: Span,
}

impl OwnTime {
    /// Our time when the world's is `now`; the time since the last question counts only if we hear now.
    fn at(&mut self, now: Moment, connected: bool) -> Moment {
        if !connected {
            self.deaf += now.since(self.last);
        }
        self.last = now;
        now - self.deaf
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_stands_still_while_nats_is_away() {
        let mut time = OwnTime::default();
        assert_eq!(time.at(Moment(10), true), Moment(10));
        assert_eq!(time.at(Moment(15), false), Moment(10));
        assert_eq!(time.at(Moment(99), false), Moment(10));
        assert_eq!(time.at(Moment(100), true), Moment(11));
        assert_eq!(time.at(Moment(110), true), Moment(21));
    }
}
