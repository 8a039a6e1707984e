//! Placement, allocation and queues.

use std::path::PathBuf;

use policies::residency::Lending;
use serde::{Deserialize, Serialize};

/// The deciding part.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Controller {
    /// One of `policies::placement::NAMES`; those of other systems are there to be compared with.
    pub placement: String,
    /// How much an invocation gets: one of `policies::allocation::NAMES`, or `learned`, which asks `model`; what they are given
    /// stands in `[allocation]`.
    pub allocation: String,
    /// The model file of `learned`; `models/allocator.md` says how it was made.
    pub model: PathBuf,
    /// An answer of the model that takes longer is not taken, and `profile` decides, in microseconds.
    pub model_answers_within_us: u64,
    /// Runs by which a model that is handed in (`windfall model put`) is judged beside the one in force before it is taken up.
    pub model_trial_runs: u32,
    /// On which kinds of VMs what may run: `expected-loss`, `expected-loss(x)`, `no-failure`, `bounded(x)` or
    /// `live-and-let-die`; x is a percentage.
    pub reliability: String,
    /// Whether what should not end before its VM's eviction is run again elsewhere at the notice, where its function's
    /// annotation `on-eviction` allows it; the first answer wins. Else at the loss.
    pub rerun_at_notice: bool,
    /// How long a harvest VM is expected to live, in hours, until the fleet has been watched for long enough.
    pub harvest_life_hours: u64,
    /// Invocations that may wait, all together.
    pub queue_limit: u32,
    /// Invocations of one function that may wait.
    pub function_queue_limit: u32,
    /// Bytes of arguments that may be held for invocations that have not ended, in MiB; beyond it 429.
    pub held_mib: usize,
    /// Tries of one invocation before it is given up.
    pub attempts_limit: u32,
    /// A VM that has not reported for this long is given up, in ms.
    pub vm_silence_ms: u64,
    /// A durable invocation that no VM is large enough for ends after this long, in ms.
    pub unplaceable_grace_ms: u64,
    /// A durable invocation waits for a place no longer than this, in ms.
    pub durable_patience_ms: u64,
    /// Profiles of functions that are written to the store in a second at most; those that change more often are written later,
    /// as they are then.
    pub profile_writes_per_second: u32,
    /// What the store says of a function counts half as much for each so many hours in which nobody has called it.
    pub profile_half_life_h: u64,
    /// Runs of a second whose usage is kept for training at most; further ones are counted and left out.
    pub usage_records_per_second: u32,
    /// Address of `/metrics`; `127.0.0.1:0` takes a free port, empty means none.
    pub metrics: String,
}

impl Default for Controller {
    fn default() -> Self {
        Self {
            placement: "mws".into(),
            allocation: "profile".into(),
            model: "models/allocator.onnx".into(),
            model_answers_within_us: models::ANSWERS_WITHIN.as_micros() as u64,
            model_trial_runs: 500,
            reliability: "expected-loss".into(),
            rerun_at_notice: true,
            harvest_life_hours: 24,
            queue_limit: 10_000,
            function_queue_limit: 1_000,
            held_mib: 1024,
            attempts_limit: 10,
            vm_silence_ms: 3_000,
            unplaceable_grace_ms: 600_000,
            durable_patience_ms: 86_400_000,
            profile_writes_per_second: 50,
            profile_half_life_h: 7 * 24,
            usage_records_per_second: 500,
            metrics: "127.0.0.1:0".into(),
        }
    }
}

/// The constants of allocation; see `policies::allocation::Settings`, whose defaults these are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Allocation {
    /// A run that uses so many thousandths of what it has needs more. (What gives back while a run goes on is
    /// `vm.safeguard_permille`.)
    pub threshold_permille: u32,
    /// What can be granted: CPU in steps of so many millicores...
    pub cpu_step: u32,
    /// ...up to so many of them.
    pub cpu_steps: u32,
    /// And memory in steps of so many MiB...
    pub memory_step: u32,
    /// ...up to so many of them.
    pub memory_steps: u32,
    /// `profile`: runs of an input size that are seen before anything is taken from the next, and again after one to which its
    /// reservation had to be given back. With elastic lending one run tells enough of CPU.
    pub calibration_runs: u32,
    /// `profile`: what is added to what is expected when nothing is known, in thousandths; less with every run.
    pub doubt_permille: u32,
    /// `profile`: what is taken is at least so many thousandths of a reservation, or nothing.
    pub worthwhile_permille: u32,
    /// `profile`: how a function comes to more CPU than it reserved: `waits` for a VM where all that it can use can be booked, books
    /// what is `free` where it would go first, or is `lent` what lies idle there.
    pub above: String,
    /// `profile` with `waits`: for so many thousandths of the time that more would save it.
    pub patience_permille: u32,
    /// `profile` with elastic lending: what is booked for a function's first run, so many thousandths of the functions that reserve as much CPU did
    /// not exceed. Nothing is taken before enough of them are known (for 950, nineteen), and with 1,000 never.
    pub first_run_permille: u32,
}

impl Default for Allocation {
    fn default() -> Self {
        let policies::allocation::Settings {
            grid,
            threshold,
            calibration_runs,
            doubt,
            worthwhile,
            above,
            patience,
            first_run,
            lending: _,
        } = policies::allocation::Settings::default();
        Self {
            threshold_permille: threshold,
            cpu_step: grid.cpu_step.0,
            cpu_steps: grid.cpu_steps,
            memory_step: grid.memory_step.0,
            memory_steps: grid.memory_steps,
            calibration_runs,
            doubt_permille: doubt,
            worthwhile_permille: worthwhile,
            above: above.name().to_owned(),
            patience_permille: patience,
            first_run_permille: first_run,
        }
    }
}

impl Allocation {
    /// As the policies take them, for VMs that lend like this.
    pub fn constants(&self, lending: Lending) -> policies::allocation::Settings {
        policies::allocation::Settings {
            grid: policies::allocation::options::Grid {
                cpu_step: vocabulary::MilliCores(self.cpu_step),
                cpu_steps: self.cpu_steps,
                memory_step: vocabulary::Mebibytes(self.memory_step),
                memory_steps: self.memory_steps,
            },
            threshold: self.threshold_permille,
            calibration_runs: self.calibration_runs,
            doubt: self.doubt_permille,
            worthwhile: self.worthwhile_permille,
            above: policies::allocation::Above::by_name(&self.above).unwrap_or_default(),
            patience: self.patience_permille,
            first_run: self.first_run_permille,
            lending,
        }
    }
}
