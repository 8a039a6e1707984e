//! What a model chooses: ours.
//!
//! **Knows:** what `profile` knows, how full the fleet and the VM are where the invocation would go first, and how much of its
//! CPU that VM tends to lose.
//! **Promises:** `profile`'s answer is always one of the options, and what counts where the model has none; nothing that `profile` would
//! not take is on offer: no CPU soon after a safeguard nor less than half of the runs wanted, no memory below the highest
//! that was seen and a margin, nor of a function that must not run twice. What is booked above the reservation is of use by
//! the profile, and not more than the VM has; who waits for that settles as with `profile`.
//! **Gives up:** knowing the model. It comes from outside ([`Chooser`]): through ONNX Runtime in a live house, by its own network in
//! training. It decides what is *booked*; the ceiling is the wish of `profile`.

use vocabulary::{Grant, Mebibytes, MilliCores, Resources, Span};

use super::options::Grid;
use super::profile::ByProfile;
use super::trial::{Trial, Verdict};
use super::{Allocator, CPU_MIN, Ended, Fleet, Home, Request, Settings};
use crate::profile::Expectation;

/// What a model is shown beside the options.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Observation {
    /// What the user asked for.
    pub reservation: Resources,
    /// Attempts that were sent out and have not ended: of all functions,
    pub in_flight: u32,
    /// and of this one.
    pub in_flight_of_function: u32,
    /// Invocations that wait for a place.
    pub waiting: u32,
    /// All VMs that take work.
    pub fleet: Fleet,
    /// The VM where it would go first.
    pub home: Home,
    /// Invocations of the function per second, in thousandths.
    pub rate_milli_hz: u64,
    /// Size of the argument.
    pub input_bytes: u32,
    /// Mean peak of the function's CPU, whatever the input,
    pub cpu_peak: MilliCores,
    /// of its memory,
    pub memory_peak: Mebibytes,
    /// and mean length of its runs.
    pub duration: Span,
    /// How long it takes with its whole reservation, as far as that was seen; zero: never.
    pub baseline: Span,
    /// What is expected for inputs of this size.
    pub expected: Expectation,
    /// What `profile` would book; zero where nobody asks it.
    pub heuristic: Resources,
}

impl Observation {
    /// What a request shows; `baseline` and `heuristic` are left for whoever knows them.
    pub fn of(request: &Request<'_>, expected: Expectation) -> Self {
        let profile = request.profile;
        Self {
            reservation: request.reservation,
            in_flight: request.in_flight,
            in_flight_of_function: request.in_flight_of_function,
            waiting: request.waiting,
            fleet: request.fleet,
            home: request.home.unwrap_or_default(),
            rate_milli_hz: profile.rate_milli_hz(request.now),
            input_bytes: request.input_bytes,
            cpu_peak: profile.cpu_peak().unwrap_or_default(),
            memory_peak: profile.memory_peak().unwrap_or_default(),
            duration: profile.duration().unwrap_or_default(),
            baseline: Span::ZERO,
            expected,
            heuristic: Resources::ZERO,
        }
    }
}

/// A model, or whoever stands in for one.
pub trait Chooser: Send {
    /// The place of one of the options, of which there are two at least; `None`: it has no answer.
    fn choose(&mut self, observation: &Observation, options: &[Resources]) -> Option<usize>;
}

/// See the module.
pub struct Learned {
    heuristic: ByProfile,
    settings: Settings,
    chooser: Box<dyn Chooser>,
    options: Vec<Resources>,
    unanswered: u64,
    trial: Option<Trial>,
}

impl Learned {
    /// With this model.
    pub fn new(settings: Settings, chooser: Box<dyn Chooser>) -> Self {
        let heuristic = ByProfile::new(settings.clone());
        Self { heuristic, settings, chooser, options: Vec::new(), unanswered: 0, trial: None }
    }

    /// Has this model decide beside the one in force until so many runs have been judged; one that was on trial before is dropped.
    pub fn try_out(&mut self, candidate: Box<dyn Chooser>, runs: u32) {
        self.trial = Some(Trial::new(candidate, runs, self.settings.threshold));
    }

    /// How the trial ended; `None` while it goes on, and where there is none.
    pub fn verdict(&self) -> Option<Verdict> {
        self.trial.as_ref().and_then(Trial::verdict)
    }

    /// Runs that were judged in the trial so far; `None` where there is none.
    pub fn judged(&self) -> Option<u32> {
        self.trial.as_ref().map(Trial::runs)
    }

    /// Ends the trial, and whatever its candidate was, it is the model in force from the next decision on. False where there is none.
    pub fn take_up(&mut self) -> bool {
        let candidate = self.trial.take().map(Trial::into_candidate);
        let is_there = candidate.is_some();
        if let Some(candidate) = candidate {
            self.chooser = candidate;
        }
        is_there
    }

    /// Ends the trial, and leaves the model in force as it is.
    pub fn drop_candidate(&mut self) {
        self.trial = None;
    }

    /// Another model from the next decision on, without a trial: somebody else has tried it.
    pub fn replace(&mut self, chooser: Box<dyn Chooser>) {
        self.chooser = chooser;
    }

    /// How often there was no answer, and `profile`'s was taken.
    pub fn unanswered(&self) -> u64 {
        self.unanswered
    }

    /// `profile`'s answer first, then every allowed step of the grid, the reservation, and what such runs want.
    fn list_options(&mut self, request: &Request<'_>, expected: &Expectation, heuristic: Grant) {
        let (reservation, grid) = (request.reservation, self.settings.grid);
        self.options.clear();
        self.options.push(heuristic.booked);
        let calm = self.heuristic.may_take_cpu(expected);
        let least = Resources {
            cpu: if calm { expected.cpu_median } else { reservation.cpu },
            memory: if self.heuristic.may_take_memory(request, expected) {
                Mebibytes(self.heuristic.memory_with_room(expected))
            } else {
                reservation.memory
            },
        };
        let has = request.home.map_or(reservation.cpu, |home| home.capacity.cpu);
        let most = heuristic.ceiling.cpu.min(has).max(reservation.cpu);
        for cpu in cpu_steps(grid, least.cpu.min(reservation.cpu), most, reservation.cpu) {
            for memory in memory_steps(grid, least.memory.min(reservation.memory), reservation.memory) {
                let option = Resources { cpu, memory };
                if option != heuristic.booked {
                    self.options.push(option);
                }
            }
        }
        if calm {
            // Without a margin: what half of the runs want, and what none wants more of. The safeguard may give the rest back.
            for cpu in [expected.cpu_median, expected.cpu_high] {
                let option = Resources { cpu: cpu.max(CPU_MIN).min(most), ..heuristic.booked };
                if !self.options.contains(&option) {
                    self.options.push(option);
                }
            }
        }
    }
}

/// Every step of the grid from `least` to `most`, the step that holds the reservation being the reservation itself.
fn cpu_steps(
    grid: Grid,
    least: MilliCores,
    most: MilliCores,
    own: MilliCores,
) -> impl Iterator<Item = MilliCores> {
    let (from, to) = (grid.cpu_steps_for(least), most.0 / grid.cpu_step.0.max(1));
    let own_step = grid.cpu_steps_for(own);
    let steps = (from..=to.min(grid.cpu_steps)).filter(move |&step| step != own_step);
    steps.map(move |step| grid.cpu(step)).chain([own])
}

fn memory_steps(grid: Grid, least: Mebibytes, own: Mebibytes) -> impl Iterator<Item = Mebibytes> {
    let (from, own_step) = (grid.memory_steps_for(least), grid.memory_steps_for(own));
    let steps = from..own_step.min(grid.memory_steps + 1);
    steps.map(move |step| grid.memory(step)).chain([own])
}

impl Allocator for Learned {
    fn name(&self) -> &'static str {
        "learned"
    }

    fn looks_ahead(&self) -> bool {
        true
    }

    fn settles_after(&self) -> Option<u32> {
        self.heuristic.settles_after()
    }

    fn grant(&mut self, request: &Request<'_>) -> Grant {
        let heuristic = self.heuristic.grant(request);
        let Some(expected) = self.heuristic.expected(request) else { return heuristic };
        if expected.runs < self.heuristic.known_after() {
            return heuristic;
        }
        self.list_options(request, &expected, heuristic);
        if self.options.len() < 2 {
            return heuristic;
        }
        let observation = Observation { heuristic: heuristic.booked, ..Observation::of(request, expected) };
        let options = &self.options;
        let by = |chooser: &mut dyn Chooser| {
            chooser.choose(&observation, options).and_then(|place| options.get(place)).copied()
        };
        let chosen = by(&mut *self.chooser);
        if let Some(trial) = &mut self.trial {
            let house = (request.waiting, request.fleet.capacity.cpu);
            trial.decided(request.invocation, chosen, heuristic.booked, house, by);
        }
        let Some(booked) = chosen else {
            self.unanswered += 1;
            return heuristic;
        };
        Grant { booked, ceiling: heuristic.ceiling.max(booked), ..heuristic }
    }

    fn ended(&mut self, ended: &Ended<'_>) {
        self.heuristic.ended(ended);
        if let Some(trial) = &mut self.trial {
            trial.ended(ended);
        }
    }

    fn with_model(&mut self) -> Option<&mut Learned> {
        Some(self)
    }
}
