//! What each function takes with each input when nothing else goes on: what slowdowns are measured against, and what the
//! simulator is told.
//!
//! **Knows:** a cluster under `fixed`.
//! **Promises:** means of several runs at the function's own reservation, each begun as soon as the one before had ended; and one look at what it
//! does with a whole VM, which tells how much CPU it can use.
//!
//! Means, and without pauses, because the kernel hands out a quota every 100 ms: a short run that finds a rested quota takes less than
//! its reservation would give it for long, and the next one stops until the period is over. What runs in a row take on average is what the
//! same core, as much slower, would take: the one length that does not hang on where periods began.
//! **Gives up:** what it could use beyond a VM.

use serde::{Deserialize, Serialize};
use vocabulary::{Mebibytes, MilliCores, Span};

use super::functions::{KINDS, SIZES};
use super::play::{Call, Ran, Stage};
use crate::failure::Outcome;

/// From this share of a VM on, in per cent, a function is taken to be able to use more than it.
const ALL_OF_IT: u64 = 85;
/// What is then said of it: more than any VM here has.
const ANY: MilliCores = MilliCores(4_000);

/// Ten periods of a quota: of fewer, the mean is that of wherever they began.
const PERIODS: std::time::Duration = std::time::Duration::from_secs(1);

/// What one function takes with one input.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
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
            let runs = stage.in_a_row(kind.name, call(size), times + 1, PERIODS).await?;
            let runs = &runs[1..];
            sizes.push(Alone {
                duration_us: mean(runs, |run| run.duration.as_micros()),
                cpu_us: mean(runs, |run| run.cpu_time.as_micros()),
                memory: Mebibytes(runs.iter().map(|run| run.memory).max().unwrap_or(0)),
                saturation,
                cold_us: cold.as_micros(),
            });
        }
        needs.push([sizes[0], sizes[1], sizes[2]]);
    }
    Ok(needs)
}

fn mean(runs: &[Ran], of: impl Fn(&Ran) -> u64) -> u64 {
    (runs.iter().map(of).sum::<u64>() / runs.len().max(1) as u64).max(1)
}
