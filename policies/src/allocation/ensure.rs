//! ENSURE (ACSOS'20), as Freyr's authors re-implemented it to compare with (WWW'22; `agent/ensure_rm.py`).
//!
//! **Knows:** the recent latencies of each function, and whether the fleet has CPU to spare.
//! **Promises:** memory is the reservation. Every so many invocations of a function its last three latencies are compared with
//! the best three in a row that it has had: if they are a tenth longer it gets a step more CPU, if the fleet has it; when
//! the fleet is full it gets a step less. Functions that take more than five seconds are judged every five invocations
//! and move by one step, the others every three and by two.
//! **Gives up:** knowing why a run was slow. The original moves CPU shares between neighbours and staffs its Invokers by queueing
//! theory; neither the paper's text nor its code was to be had.
//!
//! `ensure-freyr22` is the released code: its "best" latency begins at zero and can only fall, so that no CPU is ever added; one
//! counter serves all functions; and what was decided for one function is done to every following one until the next
//! decision.

use std::collections::{BTreeMap, VecDeque};

use vocabulary::{FunctionId, Grant, MilliCores, Resources, Span};

use super::options::Grid;
use super::{Allocator, Ended, Request};

/// Latencies that are compared.
const WINDOW: usize = 3;
/// A function that takes longer is "massively parallel" in the words of the original, else "edge-triggered".
const LONG: Span = Span::seconds(5);

/// How often, and by how many steps, a function is moved.
fn pace(mean: Span) -> (u32, u32) {
    if mean > LONG { (5, 1) } else { (3, 2) }
}

#[derive(Debug, Clone, Default)]
struct Function {
    cpu: Option<MilliCores>,
    arrivals: u32,
    /// The last ones, oldest first.
    latencies: VecDeque<Span>,
    best: Option<Span>,
}

impl Function {
    fn ended(&mut self, ended: &Ended<'_>) {
        // Completion time as the authors count it: wait, start and run.
        self.latencies.push_back(ended.waited + ended.init + ended.duration);
        if self.latencies.len() > WINDOW {
            self.latencies.pop_front();
        }
        if self.latencies.len() == WINDOW {
            let window = self.window();
            self.best = Some(self.best.map_or(window, |best| best.min(window)));
        }
    }

    fn window(&self) -> Span {
        let sum: Span = self.latencies.iter().copied().sum();
        sum.scaled(1, self.latencies.len().max(1) as u64)
    }
}

/// As published.
#[derive(Debug, Clone)]
pub struct Ensure {
    grid: Grid,
    functions: BTreeMap<FunctionId, Function>,
}

impl Ensure {
    /// With the steps of a grid.
    pub fn new(grid: Grid) -> Self {
        Self { grid, functions: BTreeMap::new() }
    }
}

impl Allocator for Ensure {
    fn name(&self) -> &'static str {
        "ensure"
    }

    fn grant(&mut self, request: &Request<'_>) -> Grant {
        let function = self.functions.entry(request.function).or_default();
        let mut cpu = function.cpu.unwrap_or(request.reservation.cpu);
        let (every, steps) = pace(request.profile.duration().unwrap_or_default());
        if function.arrivals >= every {
            function.arrivals = 0;
            if let Some(best) = function.best {
                let step = self.grid.cpu(steps);
                let most = self.grid.most(request.reservation).cpu;
                let is_worse = function.window() >= best.scaled(11, 10);
                if request.fleet.free.cpu <= step {
                    cpu = (cpu - step).max(self.grid.cpu_step.min(request.reservation.cpu));
                } else if is_worse {
                    cpu = (cpu + step).min(most);
                }
            }
        } else {
            function.arrivals += 1;
        }
        function.cpu = Some(cpu);
        Grant::fixed(Resources { cpu, memory: request.reservation.memory })
    }

    fn ended(&mut self, ended: &Ended<'_>) {
        self.functions.entry(ended.function).or_default().ended(ended);
    }

    fn forget(&mut self, function: FunctionId) {
        self.functions.remove(&function);
    }
}

/// As released, defects included.
#[derive(Debug, Clone)]
pub struct Freyr22 {
    grid: Grid,
    cpu: BTreeMap<FunctionId, MilliCores>,
    /// CPU of the last run of each function that has ended.
    last: BTreeMap<FunctionId, MilliCores>,
    arrivals: u32,
    /// What was decided last, for whomever.
    action: Option<MilliCores>,
}

impl Freyr22 {
    /// With the steps of a grid.
    pub fn new(grid: Grid) -> Self {
        Self { grid, cpu: BTreeMap::new(), last: BTreeMap::new(), arrivals: 0, action: None }
    }
}

impl Allocator for Freyr22 {
    fn name(&self) -> &'static str {
        "ensure-freyr22"
    }

    fn grant(&mut self, request: &Request<'_>) -> Grant {
        let (every, steps) = pace(request.profile.duration().unwrap_or_default());
        if self.arrivals >= every {
            self.arrivals = 0;
            let step = self.grid.cpu(steps);
            self.action = self
                .last
                .get(&request.function)
                .filter(|_| request.fleet.free.cpu <= step)
                .map(|&last| (last - step).max(self.grid.cpu_step.min(request.reservation.cpu)));
        } else {
            self.arrivals += 1;
        }
        let cpu = self.cpu.entry(request.function).or_insert(request.reservation.cpu);
        *cpu = self.action.unwrap_or(*cpu);
        Grant::fixed(Resources { cpu: *cpu, memory: request.reservation.memory })
    }

    fn ended(&mut self, ended: &Ended<'_>) {
        self.last.insert(ended.function, ended.grant.booked.cpu);
    }

    fn forget(&mut self, function: FunctionId) {
        self.cpu.remove(&function);
        self.last.remove(&function);
    }
}
