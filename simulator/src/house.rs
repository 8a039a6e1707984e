//! What is rehearsed: the policies with their settings, the functions, those who call, and the machines.
//!
//! **Knows:** everything that makes one run differ from another.
//! **Promises:** two equal houses have equal reports, bit for bit.
//! **Gives up:** reading files; whoever builds a house does.

use policies::allocation::{self, Allocator, fixed::Fixed};
use policies::placement::Placement;
use policies::reliability::{Reliability, expected_loss::ExpectedLoss};
use policies::residency::Lending;
use policies::{dispatch, keep_alive, placement, provisioning, residency};
use vocabulary::{FunctionId, Moment, Span, VmId};

use crate::physics::Quotas;
use crate::plan::{Absence, Calls, FunctionPlan, Machines, Measured, Recall};
use crate::trouble::Trouble;

/// See the module. Build one with [`House::new`] and change what should be otherwise.
pub struct House {
    /// Printed above the report.
    pub name: String,
    /// All chance of the world itself comes from it (that of the calls and machines is theirs).
    pub seed: u64,
    /// How many keep the doors; calls come to each as often.
    pub doors: u32,
    /// How many decide. Those beside the first, and those that come in the place of one that is gone, have the policies of these
    /// names with their default constants.
    pub controllers: u32,
    /// On which VM.
    pub placement: Box<dyn Placement>,
    /// With how much.
    pub allocator: Box<dyn Allocator>,
    /// On which kind of VM.
    pub reliability: Box<dyn Reliability>,
    /// The Controller's settings.
    pub dispatch: dispatch::Settings,
    /// Every Invoker's settings.
    pub residency: residency::Settings,
    /// Every Invoker's rule for idle sandboxes: one of `policies::keep_alive::NAMES`.
    pub keep_alive: String,
    /// The Resource Monitor, where there is one.
    pub fleet: Option<Fleet>,
    /// Its rule, where it does not merely keep up the count of VMs.
    pub fleet_rule: Option<Box<dyn policies::fleet::Fleet>>,
    /// By their numbers in [`Call::function`](crate::plan::Call).
    pub functions: Vec<FunctionPlan>,
    /// How long their sandboxes took to make and what runs used, where that is known.
    pub measured: Option<Box<dyn Measured>>,
    /// Who calls.
    pub calls: Box<dyn Calls>,
    /// Where VMs come from.
    pub machines: Box<dyn Machines>,
    /// Of the given machines, by their numbers counted from 1: when they are cut off or frozen.
    pub absences: Vec<(VmId, Absence)>,
    /// Of the given machines: notices that are called off.
    pub recalls: Vec<(VmId, Recall)>,
    /// Trouble whose victims the moment decides.
    pub troubles: Vec<Trouble>,
    /// How messages travel.
    pub network: Network,
    /// How ceilings of CPU are kept.
    pub quotas: Quotas,
    /// How long a call may wait for a place.
    pub patience: Span,
    /// Calls made before are played but not measured.
    pub measure_from: Moment,
    /// When somebody reads what has been answered by then, as the authors of SOSP'21 do at the end of an experiment; see
    /// [`Report::read`](crate::Report::read).
    pub read_at: Moment,
    /// No calls are made after; what is open then is played to its end.
    pub calls_until: Moment,
    /// How long after the last call the world goes on at most.
    pub aftermath: Span,
    /// Whether it is a violation to book a VM beyond what it has. Placements that bind early and invokers that do not go by bookings
    /// are excused anyway; everything else that must stay true is always checked.
    pub checks_bookings: bool,
    /// Every `Run` is kept, to be compared with those of another run or of a live house.
    pub keeps_decisions: bool,
}

/// A Resource Monitor.
#[derive(Debug, Clone)]
pub struct Fleet {
    /// Its settings.
    pub settings: provisioning::Settings,
    /// How large the fleet should be.
    pub target: provisioning::Target,
    /// What it retires may finish its runs for so long.
    pub retire_grace: Span,
}

/// How messages travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    /// Each message takes so long. 200 us: NATS within one zone, two hops and the wake-ups of both ends.
    pub delay: Span,
    /// And up to so much more, drawn evenly for each.
    pub jitter: Span,
}

impl House {
    /// With the default policies and settings, played until nobody calls any more.
    pub fn new(
        name: impl Into<String>,
        functions: Vec<FunctionPlan>,
        calls: Box<dyn Calls>,
        machines: Box<dyn Machines>,
    ) -> Self {
        Self {
            name: name.into(),
            seed: 0,
            doors: 1,
            controllers: 1,
            placement: Box::new(placement::mws::Mws::new(placement::Settings::default())),
            allocator: Box::new(Fixed),
            reliability: Box::new(ExpectedLoss::default()),
            dispatch: dispatch::Settings {
                // A million functions are remembered where there are as many.
                functions_limit: u32::try_from(functions.len()).unwrap_or(u32::MAX).max(100_000),
                ..dispatch::Settings::default()
            },
            residency: residency::Settings::default(),
            keep_alive: keep_alive::NAMES[0].to_owned(),
            fleet: None,
            fleet_rule: None,
            functions,
            measured: None,
            calls,
            machines,
            absences: Vec::new(),
            recalls: Vec::new(),
            troubles: Vec::new(),
            network: Network { delay: Span::micros(200), jitter: Span::ZERO },
            quotas: Quotas::Flow,
            patience: Span::seconds(60),
            measure_from: Moment::ORIGIN,
            read_at: Moment::NEVER,
            calls_until: Moment::NEVER,
            aftermath: Span::seconds(600),
            checks_bookings: true,
            keeps_decisions: false,
        }
    }

    /// Puts this allocator in charge, with these constants, and has the VMs lend like this; it is told how they do. `None`: there is no
    /// allocator of that name, and nothing was changed.
    pub fn allocate_by(
        &mut self,
        name: &str,
        constants: allocation::Settings,
        lending: Lending,
    ) -> Option<()> {
        self.allocator = allocation::by_name(name, &allocation::Settings { lending, ..constants })?;
        self.residency.lending = lending;
        Some(())
    }

    /// The function with this id. Workloads number theirs from 1; those of a live house have ids of their own, and are
    /// looked for.
    pub(crate) fn function(&self, id: FunctionId) -> &FunctionPlan {
        let numbered = (id.0 as usize).checked_sub(1).and_then(|place| self.functions.get(place));
        numbered
            .filter(|plan| plan.card.id == id)
            .or_else(|| self.functions.iter().find(|plan| plan.card.id == id))
            .expect("only functions of the house are called")
    }
}
