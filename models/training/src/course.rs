//! What an allocator is trained in: houses that nobody has.
//!
//! **Knows:** a seed. Everything else is drawn from it: how many VMs of which size, whether they shrink; how many functions, what
//! their users reserved, what they need of it and how that follows their input; how often they are called, in bursts or not; and
//! how much all of it asks for, from a fifth of the cores to a fifth more than there are.
//! **Promises:** the same seed, the same house. No function, no minute and no machine of any trace is in it, so that whatever a
//! model is judged on is new to it.
//! **Gives up:** being like anybody's house. The ranges are wide on purpose: [`DRAWN`] names them.

use policies::allocation::Allocator;
use policies::residency::Lending;
use simulator::House;
use simulator::plan::{Call, Calls, FunctionPlan, Machines, VmPlan, Work};
use vocabulary::{
    FunctionCard, FunctionId, Mebibytes, MilliCores, Moment, OnEviction, Resources, Revision, Span, VmKind,
};

use crate::chance::Chance;

/// The ranges, for the model's card.
pub const DRAWN: &str = "1 to 12 VMs of 4 to 32 cores (at most 96 in all) with 1 or 4 GiB per core, three in ten houses \
    with VMs that lose up to half of their cores and regain them; 5 to 20 functions that reserve 0.5 to 8 cores and 128 to 1,024 MiB, \
    can use an eighth to four times the cores they reserve, wait for up to six tenths of their time in four houses of ten, touch 15 to 95 per cent of \
    their memory, take 0.2 to 20 s with their reservation and 0.5 to 2 s to start cold; inputs always the same or log-normal \
    (sigma 0.8), with up to 30 per cent of noise; arrivals even or in bursts, asking for 0.2 to 1.2 times the cores for 90 s";

/// The first calls come when the VMs have reported.
const BEGINS: Span = Span::seconds(2);
/// Calls are made for so long.
const LENGTH_S: f64 = 90.0;
/// Bursts last for so long.
const SLOT_S: f64 = 5.0;
/// More calls than this are thinned out by letting each last longer.
const CALLS_MOST: f64 = 700.0;

struct Kind {
    reserved: Resources,
    saturation: f64,
    /// How the saturation grows with the input's size.
    fold: f64,
    seconds: f64,
    io: f64,
    memory: f64,
    spread: f64,
    noise: f64,
    size_tells: bool,
    weight: f64,
    burst: f64,
    cold: Span,
}

impl Kind {
    fn drawn(chance: &mut Chance, node: Resources, io: bool) -> Self {
        let cores = chance.pick(&[500, 1_000, 1_000, 2_000, 4_000, 4_000, 8_000]);
        let cpu = MilliCores(cores.min(node.cpu.0));
        let memory = Mebibytes(chance.pick(&[128, 256, 512, 512, 1_024]));
        let most = if chance.happens(0.5) { 1.0 } else { 4.0 };
        Self {
            reserved: Resources { cpu, memory },
            saturation: (f64::from(cpu.0) * chance.fold(0.125, most)).max(60.0),
            fold: if chance.happens(0.3) { 0.5 } else { 0.0 },
            seconds: chance.fold(0.2, 20.0),
            io: if io { chance.between(0.0, 0.6) } else { 0.0 },
            memory: f64::from(memory.0) * chance.between(0.15, 0.95),
            spread: if chance.happens(0.5) { 0.8 } else { 0.0 },
            noise: if chance.happens(0.5) { 0.05 } else { 0.3 },
            size_tells: chance.happens(0.8),
            weight: chance.normal().exp(),
            burst: if chance.happens(0.5) { 1.5 } else { 0.3 },
            cold: Span(chance.between(5e5, 2e6) as u64),
        }
    }

    fn work(&self, chance: &mut Chance) -> Work {
        let size = (self.spread * chance.normal()).exp();
        let noise = (self.noise * chance.normal()).exp();
        let saturation = (self.saturation * size.powf(self.fold)).clamp(50.0, 64_000.0);
        let seconds = (self.seconds * size * noise).min(250.0);
        let used = f64::from(self.reserved.cpu.0).min(saturation) / 1e3;
        let memory = self.memory * size.powf(0.3);
        Work {
            io: Span((seconds * self.io * 1e6) as u64),
            cpu: Span(((seconds * (1.0 - self.io) * used * 1e6) as u64).max(1)),
            saturation: MilliCores(saturation as u32),
            memory: Mebibytes((memory as u32).clamp(16, self.reserved.memory.0)),
            input_bytes: if self.size_tells { (1e4 * size) as u32 } else { 10_000 },
        }
    }

    /// Core seconds of a call, on average.
    fn asks(&self) -> f64 {
        let used = f64::from(self.reserved.cpu.0).min(self.saturation) / 1e3;
        self.seconds * (1.0 - self.io) * used * (self.spread * self.spread / 2.0).exp()
    }
}

/// A function of a lesson: what it reserves, and how long its sandbox takes to make.
pub(crate) fn plan(number: u32, reservation: Resources, cold_start: Span) -> FunctionPlan {
    FunctionPlan {
        name: format!("f{number}"),
        app: number,
        card: FunctionCard {
            id: FunctionId(u64::from(number) + 1),
            revision: Revision(1),
            reservation,
            timeout: Span::seconds(3_600),
            on_eviction: OnEviction::default(),
            application: None,
        },
        cold_start,
    }
}

/// The house of a seed, with an allocator that takes its lessons there.
pub fn house(seed: u64, allocator: Box<dyn Allocator>) -> House {
    let mut chance = Chance::one_of_many(seed, 0x636f_7572_7365);
    let cores: u32 = chance.pick(&[4, 8, 8, 16, 32]);
    let gib = chance.pick(&[1, 4]);
    let node = Resources::new(cores * 1_000, cores * gib * 1_024);
    let nodes = (chance.fold(1.0, 13.0) as u32).clamp(1, 96 / cores);
    let io = chance.happens(0.4);
    let count = 5 + chance.below(16);
    let mut kinds: Vec<Kind> = (0..count).map(|_| Kind::drawn(&mut chance, node, io)).collect();
    let load = chance.between(0.2, 1.2);
    let asked = load * f64::from(nodes * cores) * LENGTH_S;
    let mut weights: f64 = kinds.iter().map(|kind| kind.weight).sum();
    let per_call: f64 = kinds.iter().map(|kind| kind.weight / weights * kind.asks()).sum();
    let longer = (asked / per_call / CALLS_MOST).max(1.0);
    kinds.iter_mut().for_each(|kind| kind.seconds *= longer);
    let calls_made = asked / (per_call * longer);
    weights = calls_made / weights;
    let mut calls = Vec::new();
    for (number, kind) in kinds.iter().enumerate() {
        let slots = (LENGTH_S / SLOT_S) as usize;
        let bursts: Vec<f64> = (0..slots).map(|_| (kind.burst * chance.normal()).exp()).collect();
        let sum: f64 = bursts.iter().sum();
        for (slot, burst) in bursts.iter().enumerate() {
            let expected = kind.weight * weights * burst / sum;
            let made = expected.floor() as u32 + u32::from(chance.happens(expected.fract()));
            for _ in 0..made {
                let at = (slot as f64 + f64::from(chance.unit())) * SLOT_S;
                let at = Moment::ORIGIN + BEGINS + Span((at * 1e6) as u64);
                calls.push((at, Call { function: number as u32, work: kind.work(&mut chance), user: 0 }));
            }
        }
    }
    calls.sort_by_key(|&(at, call)| (at, call.function, call.work.cpu));
    let shrinks = chance.happens(0.3);
    let vms = (0..nodes).map(|_| vm(&mut chance, node, shrinks)).collect();
    let functions = kinds
        .iter()
        .enumerate()
        .map(|(number, kind)| plan(number as u32, kind.reserved, kind.cold))
        .collect();
    let calls = Box::new(Listed::new(calls));
    let mut house = House::new(format!("course {seed}"), functions, calls, Box::new(Given(vms)));
    house.seed = seed;
    house.allocator = allocator;
    house.residency.lending = Lending::Elastic;
    house.patience = Span::seconds(7_200);
    house.aftermath = Span::seconds(7_200);
    house
}

fn vm(chance: &mut Chance, node: Resources, shrinks: bool) -> VmPlan {
    let mut changes = Vec::new();
    if shrinks {
        let mut at = chance.between(5.0, 60.0);
        while at < 2.0 * LENGTH_S {
            let left = chance.between(0.5, 1.0);
            let size = Resources { cpu: MilliCores((f64::from(node.cpu.0) * left) as u32), ..node };
            changes.push((Moment::ORIGIN + Span((at * 1e6) as u64), size));
            let back = at + chance.between(5.0, 40.0);
            changes.push((Moment::ORIGIN + Span((back * 1e6) as u64), node));
            at = back + chance.between(5.0, 60.0);
        }
    }
    VmPlan { kind: VmKind::Regular, starts_at: Moment::ORIGIN, size: node, changes, gone: None }
}

/// Calls that are known beforehand, in order.
pub(crate) struct Listed {
    calls: Vec<(Moment, Call)>,
    next: usize,
}

impl Listed {
    pub(crate) fn new(calls: Vec<(Moment, Call)>) -> Self {
        Self { calls, next: 0 }
    }
}

impl Calls for Listed {
    fn next_at(&self) -> Option<Moment> {
        self.calls.get(self.next).map(|&(at, _)| at)
    }

    fn take(&mut self) -> Call {
        self.next += 1;
        self.calls[self.next - 1].1
    }
}

/// VMs that are there from the beginning.
pub(crate) struct Given(pub(crate) Vec<VmPlan>);

impl Machines for Given {
    fn given(&mut self) -> Vec<VmPlan> {
        std::mem::take(&mut self.0)
    }

    fn launch(&mut self, _now: Moment, _kind: VmKind, _size: Resources) -> Option<VmPlan> {
        None
    }
}

#[cfg(test)]
mod tests {
    use policies::allocation::fixed::Fixed;

    use super::*;

    #[test]
    fn a_seed_is_a_house_and_every_call_of_it_ends() {
        for seed in 1..=8 {
            let played = || simulator::play(house(seed, Box::new(Fixed))).0;
            let (first, second) = (played(), played());
            assert_eq!(first, second, "seed {seed}");
            assert_eq!(first.violations, 0, "seed {seed}: {:?}", first.first_violations);
            assert!(first.submitted > 0 && first.answered == first.submitted, "seed {seed}: {first}");
        }
    }

    #[test]
    fn houses_differ() {
        let cores = |seed| simulator::play(house(seed, Box::new(Fixed))).0.cores.capacity;
        assert_ne!(cores(1), cores(2));
    }
}
