//! The same time for every sandbox, as OpenWhisk and most platforms do it.
//!
//! **Knows:** that time.
//! **Promises:** a sandbox that nobody calls lives exactly that long; if memory is needed before, the longest idle goes.
//! **Gives up:** telling functions apart.

use vocabulary::{FunctionCard, Moment, Span};

use super::{KeepAlive, Rest};

/// See the module.
#[derive(Debug, Clone, Copy)]
pub struct Fixed {
    keep_alive: Span,
}

impl Fixed {
    /// So long.
    pub fn new(keep_alive: Span) -> Self {
        Self { keep_alive }
    }
}

impl KeepAlive for Fixed {
    fn name(&self) -> &'static str {
        "fixed"
    }

    fn rests(&mut self, now: Moment, _function: &FunctionCard, _unused: bool) -> Rest {
        Rest { until: now + self.keep_alive, worth: 0 }
    }
}
