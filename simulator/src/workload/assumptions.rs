//! What traces are silent about.
//!
//! **Knows:** published measurements that stand in for it.
//! **Promises:** a call that has a core's worth of its reservation to itself takes exactly as long as the trace says; every
//! assumption can be said in one sentence, and is.
//! **Gives up:** knowing. No public trace tells how much of a duration was CPU, nor how many cores would have helped.

use vocabulary::{FunctionCard, FunctionId, Mebibytes, MilliCores, OnEviction, Resources, Revision, Span};

use crate::chance::Chance;
use crate::plan::{FunctionPlan, Work};
use crate::workload::purpose;
use crate::workload::speedup::{MEASURED, Speedup};

/// A busy loop on one core.
const BUSY_LOOP: Speedup =
    Speedup { function: "busy loop", io_share: 0.0, saturation: MilliCores(1000), per_fold: MilliCores(0) };

/// How much of a measured duration was CPU, and what more cores would have done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CpuNeed {
    /// All of it, on one core: how SOSP'21 replays its traces (a busy loop of the given duration).
    #[default]
    BusyLoop,
    /// Each function behaves as one of the six real functions that were measured at many CPU limits
    /// (`workload::speedup`): four use one core or less, two gain from more.
    SixMeasured,
}

/// What is assumed of functions whose trace does not say it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Assumptions {
    /// What of a duration is CPU.
    pub cpu: CpuNeed,
    /// What each user asked for; durations are what a call takes with that.
    pub reserved: MilliCores,
    /// Where memory is not known: what was asked for...
    pub memory_reserved: Mebibytes,
    /// ...and what is used. 256 MB is what SOSP'21 deploys its replayed functions with.
    pub memory_used: Mebibytes,
    /// Making a sandbox takes at least this...
    pub cold_start_least: Span,
    /// ...and at most this; evenly spread over functions. OpenWhisk's containers take 0.5 to 2 s.
    pub cold_start_most: Span,
    /// The longest run that is allowed; OpenWhisk as the paper set it up: an hour at most.
    pub timeout: Span,
}

impl Default for Assumptions {
    fn default() -> Self {
        Self {
            cpu: CpuNeed::BusyLoop,
            reserved: MilliCores::cores(1),
            memory_reserved: Mebibytes(256),
            memory_used: Mebibytes(128),
            cold_start_least: Span::millis(500),
            cold_start_most: Span::seconds(2),
            timeout: Span::seconds(3600),
        }
    }
}

impl Assumptions {
    /// How this function turns cores into time; `key` tells functions apart whatever else is selected.
    pub(crate) fn behaviour(&self, seed: u64, key: u64) -> Speedup {
        match self.cpu {
            CpuNeed::BusyLoop => BUSY_LOOP,
            CpuNeed::SixMeasured => {
                let mut chance = Chance::one_of_many(seed, purpose::FUNCTION, key);
                MEASURED[chance.below(MEASURED.len() as u64) as usize]
            }
        }
    }

    /// The work of a call that takes `duration` with the reservation to itself.
    pub(crate) fn work(&self, behaviour: Speedup, duration: Span, memory: Mebibytes) -> Work {
        // At one core a share `io_share` is waiting; with more cores it is the same time of a shorter whole.
        let saturation = behaviour.saturation_at(duration.as_seconds());
        let used = f64::from(self.reserved.min(saturation).0.max(1)) / 1000.0;
        let at_one = f64::from(saturation.0.min(1000)) / 1000.0;
        let busy = (1.0 - behaviour.io_share) * at_one / used;
        let io_share = behaviour.io_share / (behaviour.io_share + busy);
        let io = (duration.as_micros() as f64 * io_share).round() as u64;
        let cpu = (duration.as_micros() - io.min(duration.as_micros())) as f64 * used;
        Work { io: Span(io), cpu: Span((cpu.round() as u64).max(1)), saturation, memory, input_bytes: 0 }
    }

    /// The plan of one function.
    pub(crate) fn function(&self, seed: u64, key: u64, at: usize, of: Described<'_>) -> FunctionPlan {
        let mut chance = Chance::one_of_many(seed, purpose::FUNCTION, key ^ (1 << 63));
        let [least, most] = [self.cold_start_least, self.cold_start_most].map(|span| span.as_micros() as f64);
        FunctionPlan {
            name: of.name.to_owned(),
            app: of.app,
            card: FunctionCard {
                id: FunctionId(at as u64 + 1),
                revision: Revision(1),
                reservation: Resources { cpu: self.reserved, memory: of.memory },
                timeout: self.timeout,
                on_eviction: OnEviction::default(),
            },
            cold_start: Span(chance.between(least, most.max(least)) as u64),
        }
    }

    /// In sentences, for the report.
    pub(crate) fn notes(&self) -> Vec<String> {
        let cpu = match self.cpu {
            CpuNeed::BusyLoop => {
                "assumed: a duration is all CPU on one core, as in SOSP'21's replay".to_owned()
            }
            CpuNeed::SixMeasured => {
                "assumed: each function turns cores into time as one of six measured ones does".to_owned()
            }
        };
        vec![
            cpu,
            format!("assumed: every user reserved {}", self.reserved),
            format!(
                "assumed: making a sandbox takes {} to {}, by function",
                self.cold_start_least, self.cold_start_most
            ),
        ]
    }
}

/// What is known of a function.
pub(crate) struct Described<'a> {
    pub name: &'a str,
    pub app: u32,
    pub memory: Mebibytes,
}

/// What a user asks for who knows that `mib` may be needed: the next multiple of 128.
pub(crate) fn asked_for(mib: f64) -> Mebibytes {
    Mebibytes((((mib / 128.0).ceil() as u32).max(1)).saturating_mul(128))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the world computes it.
    fn alone(work: Work, ceiling: MilliCores) -> f64 {
        let cores = f64::from(ceiling.min(work.saturation).0) / 1000.0;
        work.io.as_seconds() + work.cpu.as_seconds() / cores
    }

    #[test]
    fn with_its_reservation_a_call_takes_what_the_trace_says() {
        for cpu in [CpuNeed::BusyLoop, CpuNeed::SixMeasured] {
            for reserved in [500, 1000, 4000] {
                let assumptions =
                    Assumptions { cpu, reserved: MilliCores(reserved), ..Assumptions::default() };
                for key in 0..20 {
                    let work =
                        assumptions.work(assumptions.behaviour(1, key), Span::seconds(3), Mebibytes(1));
                    let took = alone(work, assumptions.reserved);
                    assert!((took - 3.0).abs() < 1e-4, "{took} with {cpu:?} and {reserved}");
                    assert!(alone(work, MilliCores(250)) >= took);
                }
            }
        }
    }

    #[test]
    fn users_ask_in_steps_of_128() {
        let asked: Vec<u32> = [0.0, 1.0, 128.0, 128.5, 700.0].map(|mib| asked_for(mib).0).to_vec();
        assert_eq!(asked, [128, 128, 128, 256, 768]);
    }
}
