//! What each function takes with each input when nothing else goes on: what slowdowns are measured against, and what the
//! simulator is told.
//!
//! **Knows:** a cluster under `fixed`.
//! **Promises:** medians of several runs, one after the other, at the function's own reservation; and one look at what it does with a
//! whole VM, which tells how much CPU it can use.
//! **Gives up:** what it could use beyond a VM.

use serde::Serialize;
use vocabulary::{Mebibytes, MilliCores, Span};

use super::functions::{KINDS, SIZES};
use super::play::{Call, Ran, Stage};
use crate::failure::Outcome;

/// From this share of a VM on, in per cent, a function is taken to be able to use more than it.
const ALL_OF_IT: u64 = 85;
/// What is then said of it: more than any VM here has.
const ANY: MilliCores = MilliCores(4_000);

/// What one function takes with one input.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Alone {
    /// At its reservation.
    pub duration_us: u64,
    pub cpu_us: u64,
    pub memory: Mebibytes,
    /// It cannot use more CPU than this.
    pub saturation: MilliCores,
    /// Making its sandbox.
    pub cold_us: u64,
}

/// By function and size.
pub(super) type Needs = Vec<[Alone; SIZES]>;

/// Measures all of them.
pub(super) async fn measure(stage: &Stage, vm_cpu: u32, times: usize) -> Outcome<Needs> {
    let mut needs = Needs::new();
    for (function, kind) in KINDS.iter().enumerate() {
        let call = |size| Call { at: std::time::Duration::ZERO, function, size };
        // The first run of a sandbox is slower, and made first of all.
        let cold = stage.once(kind.name, call(0)).await?.init.unwrap_or(Span::ZERO);
        let whole = kind.name_alone();
        stage.once(&whole, call(0)).await?;
        let with_all = stage.once(&whole, call(1)).await?;
        let used = with_all.cpu_time.as_micros() * 1_000 / with_all.duration.as_micros().max(1);
        let saturation = if used * 100 >= u64::from(vm_cpu) * ALL_OF_IT {
            ANY
        } else {
            MilliCores(u32::try_from(used).unwrap_or(u32::MAX).max(1))
        };
        let mut sizes = Vec::new();
        for size in 0..SIZES {
            let mut runs = Vec::new();
            for _ in 0..times {
                runs.push(stage.once(kind.name, call(size)).await?);
            }
            sizes.push(Alone {
                duration_us: median(&runs, |run| run.duration.as_micros()),
                cpu_us: median(&runs, |run| run.cpu_time.as_micros()),
                memory: Mebibytes(runs.iter().map(|run| run.memory).max().unwrap_or(0)),
                saturation,
                cold_us: cold.as_micros(),
            });
        }
        needs.push([sizes[0], sizes[1], sizes[2]]);
    }
    Ok(needs)
}

fn median(runs: &[Ran], of: impl Fn(&Ran) -> u64) -> u64 {
    let mut values: Vec<u64> = runs.iter().map(of).collect();
    values.sort_unstable();
    values.get(values.len() / 2).copied().unwrap_or(0).max(1)
}
