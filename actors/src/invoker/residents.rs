//! The sandboxes of this VM: which there are, what each may use, what they have used.
//!
//! **Knows:** every sandbox that lives, at rest or lent to a run.
//! **Promises:** a ceiling or a weight is written only where it changes, and a CPU-second is counted once.
//! **Gives up:** deciding; which sandbox runs what, and which one goes, is `policies::residency`'s.

use std::collections::HashMap;
use std::sync::Arc;

use policies::residency::SandboxId;
use sandbox::{Limits, LogLine, Sample, Sandbox};
use vocabulary::{Mebibytes, MilliCores, Resources, Span};

use super::making::Ready;
use crate::store::FunctionDefinition;

/// One of them.
struct Resident {
    /// Away while it runs.
    sandbox: Option<Box<dyn Sandbox>>,
    limits: Arc<dyn Limits>,
    ceiling: Resources,
    /// Its part of the CPU when there is not enough for all.
    weight: MilliCores,
    definition: Arc<FunctionDefinition>,
    /// What making it took, and what loading the code logged; told with its first run.
    init: Span,
    init_logs: Vec<LogLine>,
    cpu_time: Span,
}

/// A sandbox on its way to a run.
pub(super) struct Lent {
    pub sandbox: Box<dyn Sandbox>,
    pub definition: Arc<FunctionDefinition>,
    /// What making it took.
    pub init: Span,
    /// What loading the code logged: belongs to the first run, even where that was not the one it was made for.
    pub init_logs: Vec<LogLine>,
}

/// All of them.
#[derive(Default)]
pub(super) struct Residents(HashMap<SandboxId, Resident>);

impl Residents {
    /// It has been made.
    pub fn move_in(&mut self, id: SandboxId, ready: Ready, (ceiling, weight): (Resources, MilliCores)) {
        let resident = Resident {
            limits: ready.sandbox.limits(),
            sandbox: Some(ready.sandbox),
            // As the workshop has made it.
            ceiling,
            weight,
            definition: ready.definition,
            init: ready.init,
            init_logs: ready.init_logs,
            cpu_time: Span::ZERO,
        };
        self.0.insert(id, resident);
    }

    /// It runs something now.
    pub fn lend(&mut self, id: SandboxId) -> Option<Lent> {
        let resident = self.0.get_mut(&id)?;
        Some(Lent {
            sandbox: resident.sandbox.take()?,
            definition: Arc::clone(&resident.definition),
            init: resident.init,
            init_logs: std::mem::take(&mut resident.init_logs),
        })
    }

    /// It has run and rests.
    pub fn give_back(&mut self, id: SandboxId, sandbox: Box<dyn Sandbox>) {
        if let Some(resident) = self.0.get_mut(&id) {
            resident.sandbox = Some(sandbox);
        }
    }

    /// It goes. One that is lent is stopped by whoever has it.
    pub fn stop(&mut self, id: SandboxId) {
        if let Some(sandbox) = self.0.remove(&id).and_then(|resident| resident.sandbox) {
            tokio::spawn(sandbox.stop());
        }
    }

    /// Ends what it runs, and it.
    pub fn kill(&self, id: SandboxId) {
        if let Some(resident) = self.0.get(&id) {
            resident.limits.kill();
        }
    }

    /// It may use this much from now on, and weighs so much.
    pub fn set_share(&mut self, id: SandboxId, ceiling: Resources, weight: MilliCores) {
        let Some(resident) = self.0.get_mut(&id) else { return };
        if resident.weight != weight {
            match resident.limits.set_weight(weight) {
                Ok(()) => resident.weight = weight,
                Err(error) => tracing::warn!(%error, sandbox = id.0, "could not change a weight"),
            }
        }
        if resident.ceiling == ceiling {
            return;
        }
        match resident.limits.set_ceiling(ceiling) {
            Ok(()) => resident.ceiling = ceiling,
            Err(error) => tracing::warn!(%error, sandbox = id.0, "could not change a ceiling"),
        }
    }

    /// CPU time of one so far.
    pub fn cpu_time(&self, id: SandboxId) -> Option<Span> {
        self.0.get(&id)?.limits.cpu_time()
    }

    /// What one has used so far.
    pub fn sample(&self, id: SandboxId) -> Option<Sample> {
        self.0.get(&id)?.limits.sample()
    }

    /// What all of them have used since they were asked last, that long ago.
    pub fn used(&mut self, since: Span) -> Resources {
        let mut cpu = Span::ZERO;
        let mut memory = 0;
        for resident in self.0.values_mut() {
            if let Some(sample) = resident.limits.sample() {
                cpu += sample.cpu_time - resident.cpu_time;
                resident.cpu_time = sample.cpu_time;
                memory += sample.memory;
            }
        }
        let millicores = u128::from(cpu.as_micros()) * 1_000 / u128::from(since.as_micros().max(1));
        let cpu = MilliCores(u32::try_from(millicores).unwrap_or(u32::MAX));
        Resources { cpu, memory: Mebibytes::holding(memory) }
    }
}
