//! How large the fleet should be, of which kinds, and who leaves.
//!
//! **Knows:** every VM that is there or on its way, and what the Controllers ask for.
//! **Promises:** orders that are true of what it was shown: who is on its way is not ordered again.
//! **Gives up:** carrying out. [`provisioning`](crate::provisioning) numbers the VMs, waits where a provider refuses, and
//! sees to it that each order is carried out once.

pub mod count;
pub mod load_aware;
pub mod sosp21;

use serde::{Deserialize, Serialize};
use vocabulary::{Demand, Moment, Resources, Span, VmId, VmKind};

/// How far a VM has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Ordered, and not heard of yet.
    Starting,
    /// It takes work.
    Open,
    /// It has been given notice or drains: it finishes what it has.
    Leaving,
}

/// A VM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Member {
    /// Which.
    pub vm: VmId,
    /// Regular or harvest.
    pub kind: VmKind,
    /// What it has, or was ordered with.
    pub size: Resources,
    /// How far it has come.
    pub stage: Stage,
    /// What it runs or holds.
    pub running: u32,
}

/// What a rule may look at.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    /// All VMs, by id.
    pub vms: &'a [Member],
    /// What all Controllers together ask for; `None` while none has said so.
    pub demand: Option<Demand>,
}

impl View<'_> {
    /// What VMs of this kind have that take work or soon will.
    pub fn has(&self, kind: VmKind) -> Resources {
        self.staying().filter(|vm| vm.kind == kind).map(|vm| vm.size).sum()
    }

    /// VMs that take work or soon will.
    pub fn staying(&self) -> impl Iterator<Item = &Member> {
        self.vms.iter().filter(|vm| vm.stage != Stage::Leaving)
    }
}

/// What a rule wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are named by their types")]
pub enum Order {
    /// So many more VMs.
    Launch { kind: VmKind, size: Resources, count: u32 },
    /// This one should finish what it has, and go.
    Drain(VmId),
    /// This one should go now.
    Retire(VmId),
}

/// Decides how large the fleet should be.
pub trait Fleet: Send {
    /// Its name in configuration, metrics and tables.
    fn name(&self) -> &'static str;
    /// Looks at the fleet.
    fn look(&mut self, now: Moment, view: View<'_>, orders: &mut Vec<Order>);
    /// Whether it must know how large every VM is.
    fn needs_sizes(&self) -> bool {
        true
    }
    /// When to look again if nothing happens before.
    fn next_look(&self) -> Option<Moment>;
}

/// Constants of the rules that do not count VMs. Take what you do not want to set from [`Settings::default`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The least that the fleet has, of all kinds together.
    pub least: Resources,
    /// The most.
    pub most: Resources,
    /// A new regular VM.
    pub regular: Resources,
    /// A new harvest VM, as it is expected to be.
    pub harvest: Resources,
    /// Price of a core of a regular and of a harvest VM per hour, in thousandths of a regular core's. SOSP'21's typical
    /// discounts make a harvested core 200 to 300.
    pub price_regular: u32,
    /// See `price_regular`.
    pub price_harvest: u32,
    /// What the fleet may cost per hour, in thousandths of a regular core; 0: whatever is needed within `most`.
    pub budget: u64,
    /// `load-aware`: share of the fleet that is meant to be in use, in thousandths.
    pub target_utilisation: u32,
    /// `load-aware`: a VM that is not needed stays for so long, in case it is...
    pub idle_for: Span,
    /// ...and between two that leave lies so much.
    pub between_drains: Span,
    /// `load-aware`: a VM is not needed if without it there would be so much more than is needed, in thousandths.
    pub hysteresis: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            least: Resources::new(2_000, 2_048),
            most: Resources::new(1_000_000, 4_000_000),
            regular: Resources::new(4_000, 16_384),
            harvest: Resources::new(6_000, 16_384),
            price_regular: 1_000,
            price_harvest: 250,
            budget: 0,
            target_utilisation: 800,
            idle_for: Span::seconds(300),
            between_drains: Span::seconds(30),
            hysteresis: 250,
        }
    }
}

impl Settings {
    /// A new VM of this kind.
    pub fn size(&self, kind: VmKind) -> Resources {
        match kind {
            VmKind::Regular => self.regular,
            VmKind::Harvest => self.harvest,
        }
    }

    /// What a VM costs per hour, in thousandths of a regular core.
    pub fn cost(&self, kind: VmKind, size: Resources) -> u64 {
        let price = match kind {
            VmKind::Regular => self.price_regular,
            VmKind::Harvest => self.price_harvest,
        };
        u64::from(size.cpu.0) * u64::from(price) / 1_000
    }
}

/// The rules that [`by_name`] knows besides the plain count of VMs.
pub const NAMES: [&str; 2] = ["load-aware", "sosp21"];

/// The rule of this name.
pub fn by_name(name: &str, settings: &Settings) -> Option<Box<dyn Fleet>> {
    match name {
        "load-aware" => Some(Box::new(load_aware::LoadAware::new(settings.clone()))),
        "sosp21" => Some(Box::new(sosp21::Sosp21::new(settings.clone()))),
        _ => None,
    }
}

/// So many VMs of this size cover what is missing.
fn covering(missing: Resources, size: Resources) -> u32 {
    missing.cpu.0.div_ceil(size.cpu.0.max(1)).max(missing.memory.0.div_ceil(size.memory.0.max(1)))
}

#[cfg(test)]
mod tests;
