//! When a run that lends part of its reservation must have it back.
//!
//! **Knows:** what the run has left, and what it uses right now.
//! **Promises:** a run that comes near to what it has left, or that the kernel has stopped at it, is given back all that it reserved, at
//! the first sample that shows it. Four fifths is where Freyr's authors found the best threshold (0 to 1 in steps of 0.1), and
//! what Libra took over. CPU and memory are judged apart.
//! **Gives up:** seeing what happens between two samples. CPU is measured over one quota period, so that who uses up its quota
//! early is seen before it is stopped for the rest of the period: with one thread on half a core and a sample every 20 ms
//! that is after 40 ms, with more threads earlier. Memory that is asked for faster than that may meet its ceiling first;
//! then the run is killed and goes again (`dispatch`).

use serde::{Deserialize, Serialize};
use vocabulary::{Mebibytes, MilliCores, Resources, Span};

/// What a run was seen to use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sample {
    /// CPU time of the last 100 ms (a quota period) over 100 ms; what was before the run counts as idle.
    pub cpu: MilliCores,
    /// How long the kernel has stopped it at its quota since the last sample.
    pub throttled: Span,
    /// Memory in use.
    pub memory: Mebibytes,
    /// Whether the kernel has lately had to search for memory in it.
    pub memory_pressed: bool,
}

/// Constants of the safeguard. Take what you do not want to set from [`Settings::default`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Who uses so many thousandths of what it has left gets the rest back.
    pub threshold: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self { threshold: 800 }
    }
}

/// Who may use more than it has left, up to its reservation, must have the rest back when it uses so many thousandths of it at least: what
/// it needs can be seen, and need not be guessed from how near it comes. A twentieth is for what a sample is off.
const OVER: u32 = 1_050;

impl Settings {
    /// For those who are not stopped at what they have left.
    pub fn where_nobody_is_stopped(&self) -> Self {
        Self { threshold: self.threshold.max(OVER) }
    }
}

/// What must be given back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Due {
    /// CPU.
    pub cpu: bool,
    /// Memory.
    pub memory: bool,
}

impl Due {
    /// Whether it is anything.
    pub fn any(self) -> bool {
        self.cpu || self.memory
    }
}

/// Whether a run that reserved `reservation` and has `left` must have the rest back.
pub fn judge(settings: &Settings, reservation: Resources, left: Resources, sample: &Sample) -> Due {
    let near =
        |used: u32, left: u32| u64::from(used) * 1_000 >= u64::from(left) * u64::from(settings.threshold);
    Due {
        cpu: left.cpu < reservation.cpu
            && (near(sample.cpu.0, left.cpu.0)
                || (sample.throttled > Span::ZERO && sample.cpu > MilliCores::ZERO)),
        memory: left.memory < reservation.memory
            && (near(sample.memory.0, left.memory.0) || sample.memory_pressed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn due(cpu: u32, throttled: u64, memory: u32, pressed: bool) -> Due {
        let sample = Sample {
            cpu: MilliCores(cpu),
            throttled: Span::millis(throttled),
            memory: Mebibytes(memory),
            memory_pressed: pressed,
        };
        judge(&Settings::default(), Resources::new(4_000, 512), Resources::new(1_000, 100), &sample)
    }

    #[test]
    fn four_fifths_of_what_is_left_is_where_it_goes_back_each_resource_by_itself() {
        assert_eq!(due(799, 0, 79, false), Due { cpu: false, memory: false });
        assert_eq!(due(800, 0, 79, false), Due { cpu: true, memory: false });
        assert_eq!(due(0, 0, 80, false), Due { cpu: false, memory: true });
    }

    #[test]
    fn the_kernels_word_counts_before_any_rate() {
        assert_eq!(due(10, 1, 10, true), Due { cpu: true, memory: true });
    }

    #[test]
    fn who_has_lent_nothing_is_owed_nothing() {
        let all = Resources::new(1_000, 100);
        let sample = Sample { cpu: MilliCores(2_000), memory: Mebibytes(100), ..Sample::default() };
        assert!(!judge(&Settings::default(), all, all, &sample).any());
    }
}
