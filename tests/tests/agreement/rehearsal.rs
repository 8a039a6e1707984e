//! The same calls in the simulator.
//!
//! **Knows:** when each call came and ended in the house, how long each sandbox took to make, and when VMs report.
//! **Promises:** each run ends when it did in the house, to ten microseconds, whenever the rehearsal begins it (if it does before): when a run
//! ends, the test has decided, and nobody in the house.
//! **Gives up:** telling apart what a message and what a run took: all of it is the run's.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use policies::chance::SplitMix64;
use policies::residency::Lending;
use policies::safeguard::Sample;
use simulator::plan::{Call, Calls, FunctionPlan, Machines, VmPlan, Work};
use simulator::{Decisions, House, play};
use vocabulary::{
    FunctionCard, FunctionId, Mebibytes, MilliCores, Moment, Resources, Span, Usage, VmId, VmKind,
};

use super::house::{Ended, GivenBack, Seen};
use super::{DRAWS, FUNCTIONS, Rules, VMS};

/// What a message takes in the simulator.
const NETWORK: Span = Span::micros(200);
/// The rehearsal begins with a Controller that does not know its fleet yet; calls come after that.
const FIRST_CALL: Span = Span::seconds(3);
/// One who waits begins when another ends: each time the rehearsal is played one more link of such a chain is where it should be.
const LINKS: usize = 60;
/// A VM in the simulator looks at what runs use every 20 ms.
const LOOK: Span = Span::millis(20);
/// Near enough.
const NEAR: Span = Span::micros(10);

/// When the Controller heard of each call, and of its end.
pub struct Lines {
    /// How far from where they were heard they may be.
    pub width: Span,
    calls: Vec<Moment>,
    ends: Vec<Moment>,
    /// When it is seen in the rehearsal that a run is to be given something back.
    given_back: Vec<Moment>,
}

impl Lines {
    /// As they were heard, or as they may have been: not before what led to them.
    pub fn drawn(seen: &Seen, draw: u64) -> Self {
        let width = seen.uncertain().scaled(draw, DRAWS);
        let mut chance = SplitMix64::of(draw, "agreement");
        let mut chance_of_look = SplitMix64::of(draw, "looks");
        let mut near = |heard: Span, cause: Span| {
            let shifted = FIRST_CALL + heard + Span(chance.below(2 * width.0 + 1)) - width;
            Moment::ORIGIN + shifted.max(FIRST_CALL + cause)
        };
        let calls = seen.calls.iter();
        let calls =
            calls.map(|call| near(call.heard.expect("it was submitted"), call.made + NETWORK)).collect();
        let ends = seen.ended.values().map(|ended| near(ended.at, ended.told + NETWORK)).collect();
        // Half a look before it was heard, or, where moments are drawn, up to one look more before or after that.
        let looks = if draw == 0 { Span::ZERO } else { LOOK };
        let mut shown = |heard: Span| {
            near(heard + Span(chance_of_look.below(2 * looks.0 + 1)), Span::ZERO) - looks - LOOK.scaled(1, 2)
        };
        let given_back = seen.given_back.iter().map(|back| shown(back.at)).collect();
        Self { width, calls, ends, given_back }
    }
}

/// The decisions of a policy.
pub fn rehearse(rules: Rules, seen: &Seen, lines: &Lines, kinds: &BTreeMap<VmId, VmKind>) -> Decisions {
    let mut waits: Vec<Span> = vec![Span::seconds(1); seen.calls.len()];
    let mut decided = Decisions::default();
    for _ in 0..LINKS {
        let (decisions, ends) = once(rules, seen, lines, &waits, kinds);
        decided = decisions;
        let mut is_near = true;
        for (wait, (meant, came)) in waits.iter_mut().zip(lines.ends.iter().zip(ends)) {
            let next = *wait + meant.since(came) - came.since(*meant);
            is_near &= next.0.abs_diff(wait.0) <= NEAR.0;
            *wait = next;
        }
        if is_near {
            break;
        }
    }
    decided
}

/// The same, where each run waits for so long; with the moments of the answers.
fn once(
    rules: Rules,
    seen: &Seen,
    lines: &Lines,
    waits: &[Span],
    kinds: &BTreeMap<VmId, VmKind>,
) -> (Decisions, Vec<Moment>) {
    let ends = Rc::new(RefCell::new(vec![Moment::NEVER; waits.len()]));
    let script = Script { calls: calls(seen, lines, waits), ends: Rc::clone(&ends) };
    let mut house = House::new("agreement", functions(seen), Box::new(script), Box::new(vms(seen, kinds)));
    let settings = policies::placement::Settings::default();
    house.placement = policies::placement::by_name(rules.placement, &settings).expect("a placement");
    let lending = Lending::by_name(rules.lending).expect("a way to lend");
    house.allocate_by(rules.allocation, Default::default(), lending).expect("an allocator");
    house.measured = Some(Box::new(measured(seen, lines)));
    house.keeps_decisions = true;
    let (_, decisions) = play(house);
    let ends = ends.borrow().clone();
    (decisions.expect("they were kept"), ends)
}

fn functions(seen: &Seen) -> Vec<FunctionPlan> {
    let plan = |(number, card): (&usize, &FunctionCard)| FunctionPlan {
        name: format!("f{number}"),
        app: *number as u32,
        card: *card,
        cold_start: cold_start(seen, card.id),
    };
    assert_eq!(seen.cards.len(), FUNCTIONS.len(), "a trace that tells policies apart calls all functions");
    seen.cards.iter().map(plan).collect()
}

/// The mean of those that were seen, for those that were not: of sandboxes that were made before anybody waited for them.
fn cold_start(seen: &Seen, function: FunctionId) -> Span {
    let of_it = seen.ended.values().filter(|ended| ended.finished.function == function);
    let inits: Vec<Span> = of_it.filter_map(Ended::init).collect();
    inits.iter().copied().sum::<Span>().scaled(1, inits.len().max(1) as u64)
}

/// How long each took that somebody waited for, in the order of the runs, and what the Controller was told of each.
fn measured(seen: &Seen, lines: &Lines) -> Measured {
    let mut makings: BTreeMap<_, VecDeque<Span>> = BTreeMap::new();
    for decision in &seen.decisions.0 {
        if let Some(init) = seen.ended.get(&decision.call).and_then(Ended::init) {
            makings.entry((decision.vm, decision.function)).or_default().push_back(init);
        }
    }
    let told = |(&call, ended): (&u64, &Ended)| (call, (ended.finished.duration, ended.finished.usage));
    let runs = seen.ended.iter().map(told).collect();
    let mut given_back: BTreeMap<_, VecDeque<_>> = BTreeMap::new();
    for (&GivenBack { call, cpu, memory, .. }, &shown) in seen.given_back.iter().zip(&lines.given_back) {
        let all_that_there_is = if cpu { MilliCores(u32::MAX) } else { MilliCores::ZERO };
        let sample = Sample { cpu: all_that_there_is, memory_pressed: memory, ..Sample::default() };
        given_back.entry(call).or_default().push_back((shown, sample));
    }
    Measured { makings, runs, given_back }
}

fn calls(seen: &Seen, lines: &Lines, waits: &[Span]) -> VecDeque<(Moment, Call)> {
    let script = (0..).zip(&seen.calls).zip(waits).zip(&lines.calls);
    script
        .map(|(((user, called), &io), &heard)| {
            let (.., mib) = FUNCTIONS[called.function];
            let work = Work {
                io,
                cpu: Span::ZERO,
                saturation: MilliCores(1_000),
                memory: Mebibytes(mib),
                input_bytes: called.input_bytes,
            };
            (heard - NETWORK, Call { function: called.function as u32, work, user })
        })
        .collect()
}

struct Script {
    calls: VecDeque<(Moment, Call)>,
    /// When each was answered.
    ends: Rc<RefCell<Vec<Moment>>>,
}

impl Calls for Script {
    fn next_at(&self) -> Option<Moment> {
        self.calls.front().map(|&(at, _)| at)
    }

    fn take(&mut self) -> Call {
        self.calls.pop_front().expect("asked for when there is one").1
    }

    fn answered(&mut self, user: u32, now: Moment) {
        self.ends.borrow_mut()[user as usize] = now;
    }
}

struct Measured {
    makings: BTreeMap<(VmId, FunctionId), VecDeque<Span>>,
    runs: BTreeMap<u64, (Span, Usage)>,
    /// What has each given back what it was given back in the house, and when it is seen.
    given_back: BTreeMap<u64, VecDeque<(Moment, Sample)>>,
}

impl simulator::plan::Measured for Measured {
    fn making(&mut self, vm: VmId, function: FunctionId) -> Option<Span> {
        self.makings.get_mut(&(vm, function))?.pop_front()
    }

    fn run(&mut self, call: u64) -> Option<(Span, Usage)> {
        self.runs.get(&call).copied()
    }

    /// What has it given back at once, when it was; before that and otherwise, nothing that could.
    fn sample(&mut self, now: Moment, call: u64) -> Option<Sample> {
        let due = self.given_back.get_mut(&call).and_then(|all| all.pop_front_if(|(at, _)| *at <= now));
        Some(due.map_or_else(Sample::default, |(_, sample)| sample))
    }
}

struct Given(Vec<VmPlan>);

/// Each reports when it does in the house.
fn vms(seen: &Seen, kinds: &BTreeMap<VmId, VmKind>) -> Given {
    let plan = |(&(cpu, memory), (vm, &kind)): (&(u32, u32), (&VmId, &VmKind))| {
        let heard = FIRST_CALL + seen.reports.get(vm).copied().unwrap_or(NETWORK);
        VmPlan {
            kind,
            starts_at: Moment::ORIGIN + Span((heard - NETWORK).0 % Span::seconds(1).0),
            size: Resources::new(cpu, memory),
            changes: Vec::new(),
            gone: None,
        }
    };
    Given(VMS.iter().zip(kinds).map(plan).collect())
}

impl Machines for Given {
    fn given(&mut self) -> Vec<VmPlan> {
        std::mem::take(&mut self.0)
    }

    fn launch(&mut self, _: Moment, _: VmKind, _: Resources) -> Option<VmPlan> {
        None
    }
}
