//! By what has been learned of a function and a size of input: ours, and no model.
//!
//! **Knows:** the [`Expectation`] for this size: the highest CPU rate and memory of the recent runs, their saturation point, and
//! how many of them there were.
//! **Promises:** nothing is taken before a size is known (but where nobody is stopped at what is booked: there a first run books what nineteen of twenty
//! functions that reserve as much have needed, see [`super::peers`]), nor soon after a run to which its reservation had to be given back (of CPU only where
//! that run was stopped at what it had left), nor memory from a function that must not run twice or has lately been killed for it. One run tells enough of CPU where nobody is stopped at
//! what is booked for it (elastic lending), three where somebody is, and three of memory, which nobody gives back. What is left is the highest that was
//! seen, so far below the safeguard's threshold that a run like the others does not trip it, and more the less is known; of CPU
//! just the highest, where nobody is stopped at it (elastic lending). A
//! function that would be faster with more than it reserved books its saturation point, as far as a VM has as much, and waits
//! for that no longer than is worth while (and while nothing is known, it may use what lies idle): work done on eight cores in one second keeps others waiting no longer than the same
//! work on four in two. (`profile-lent` books the reservation and borrows the rest.)
//! **Gives up:** weighing one function against another: whoever can use more asks for it, and who comes first goes first.

use vocabulary::{FunctionId, Grant, MilliCores, Resources};

use super::peers::Peers;
use super::{Above, Allocator, CPU_MIN, Ended, Request, Settings};
use crate::profile::{Expectation, wanted_cpu};
use crate::residency::Lending;

/// Nobody is left with less memory, nor with less CPU than [`CPU_MIN`].
const MEMORY_MIN: u32 = 32;

/// See the module.
#[derive(Debug, Clone)]
pub struct ByProfile {
    settings: Settings,
    peers: Peers,
}

impl ByProfile {
    /// With these margins.
    pub fn new(settings: Settings) -> Self {
        Self { settings, peers: Peers::default() }
    }

    /// What must be left of a reservation's memory, if anything is taken from it.
    pub(super) fn memory_with_room(&self, expected: &Expectation) -> u32 {
        self.with_room(expected.memory_high.0, expected).max(MEMORY_MIN)
    }

    /// What is left of a reservation's CPU. Nobody is stopped at it where lending is elastic, and there room above what is used would keep
    /// others out and nobody from harm: a fifth of each VM, which is more than is free where nine tenths are asked for.
    fn cpu_booked(&self, expected: &Expectation) -> u32 {
        if self.settings.lending == Lending::Elastic {
            self.whole(expected.cpu_high).0
        } else {
            self.with_room(expected.cpu_high.0, expected)
        }
    }

    /// What is known of such a run.
    pub(super) fn expected(&self, request: &Request<'_>) -> Option<Expectation> {
        match self.settings.lending {
            Lending::Elastic => request.profile.guess(request.input_bytes),
            Lending::Off | Lending::Hard => request.profile.expect(request.input_bytes),
        }
    }

    /// So many runs are seen before CPU is taken from the next. Where lending is elastic a wrong guess is seen within 20 ms and costs its run
    /// nothing, while each run that keeps all of its reservation for want of being known keeps others waiting: of a thousand functions that are called rarely
    /// those were most.
    pub(super) fn known_after(&self) -> u32 {
        match self.settings.lending {
            Lending::Elastic => self.settings.calibration_runs.min(1),
            Lending::Off | Lending::Hard => self.settings.calibration_runs,
        }
    }

    fn is_calm(&self, expected: &Expectation) -> bool {
        expected.calm_runs >= self.settings.calibration_runs
    }

    /// Whether CPU may be taken from one that is known; where somebody is stopped at what is booked for it, not soon after a run that needed its
    /// reservation. Where nobody is (elastic lending), such a run has shown by its end what the next one needs: what it used was never held back.
    /// Rates of equal runs are a tenth apart on a real machine, so that with one run to go by the next one is often a little above it, and to book
    /// three whole reservations for that kept others waiting.
    pub(super) fn may_take_cpu(&self, expected: &Expectation) -> bool {
        match self.settings.lending {
            Lending::Elastic => expected.runs >= self.known_after(),
            Lending::Off | Lending::Hard => self.is_calm(expected),
        }
    }

    /// The same for memory.
    pub(super) fn may_take_memory(&self, request: &Request<'_>, expected: &Expectation) -> bool {
        self.is_calm(expected) && request.may_rerun && expected.memory_is_safe
    }

    /// Whether what is booked above a reservation would be in use. Who waits for most of its run (for a disk, for another service) reaches its
    /// highest rate in bursts: where lending is elastic it has those by its ceiling, from what is idle, and a booking of that width
    /// would keep others out while nobody uses it. Who is held back at its reservation uses nearly all of that.
    fn keeps_it_busy(&self, reserved: MilliCores, expected: &Expectation) -> bool {
        self.settings.lending != Lending::Elastic || expected.cpu_mean >= reserved.scaled(3, 4)
    }

    /// Where lending is elastic, what a sketch tells within a thirty-second above whole cores is taken for those: so many threads use so many
    /// cores, and four of 2.047 are not booked on eight.
    fn whole(&self, cpu: MilliCores) -> MilliCores {
        let cores = MilliCores::cores(cpu.0 / 1_000);
        let is_whole = (cpu - cores).0 * 32 <= cores.0;
        if self.settings.lending == Lending::Elastic && is_whole && cores > MilliCores::ZERO {
            cores
        } else {
            cpu
        }
    }

    /// What keeps a run that needs `highest` below the safeguard's threshold, with room for doubt.
    fn with_room(&self, highest: u32, expected: &Expectation) -> u32 {
        let doubt = u64::from(self.settings.doubt) * u64::from(expected.uncertainty) / 1_000;
        let room = u64::from(highest) * (1_000 + doubt) / u64::from(self.settings.threshold.max(1));
        u32::try_from(room + 1).unwrap_or(u32::MAX)
    }

    /// What is booked for a run of which nothing is known: where nobody is stopped at it (elastic lending), what nineteen of twenty functions that
    /// reserve as much have needed. The others have the rest back as soon as they are seen to need it.
    /// A function that has needed more with smaller inputs does not count on them.
    fn booked_at_first(&self, function: FunctionId, reservation: Resources) -> Resources {
        let need = match self.settings.lending {
            Lending::Elastic => self.peers.need(reservation.cpu, self.settings.first_run),
            Lending::Off | Lending::Hard => None,
        };
        let own = self.peers.own_need(function, reservation.cpu).unwrap_or_default();
        let needed = need.map_or(reservation.cpu, |need| self.whole(need.max(own)).max(CPU_MIN));
        Resources { cpu: MilliCores(self.left(reservation.cpu.0, needed.0)), ..reservation }
    }

    /// What is left of a reservation; all of it where taking the rest would not be worth while.
    fn left(&self, reserved: u32, needed: u32) -> u32 {
        let left = needed.min(reserved);
        let taken = u64::from(reserved - left);
        if taken * 1_000 >= u64::from(reserved) * u64::from(self.settings.worthwhile) {
            left
        } else {
            reserved
        }
    }
}

impl Allocator for ByProfile {
    fn name(&self) -> &'static str {
        if self.settings.above == Above::Lent { "profile-lent" } else { "profile" }
    }

    fn settles_after(&self) -> Option<u32> {
        (self.settings.above == Above::Waits).then_some(self.settings.patience)
    }

    fn looks_ahead(&self) -> bool {
        self.settings.above != Above::Lent
    }

    fn grant(&mut self, request: &Request<'_>) -> Grant {
        let reservation = request.reservation;
        // Nobody knows yet what it can use: it may use what lies idle, and so it is seen.
        let curious = Resources { cpu: self.settings.grid.most(reservation).cpu, ..reservation };
        let unknown = || {
            let at_first = self.booked_at_first(request.function, reservation);
            Grant { provisional: true, ..Grant::new(at_first, curious) }
        };
        let Some(expected) = self.expected(request) else { return unknown() };
        let lasts = expected.duration;
        if expected.runs < self.known_after() {
            return Grant { lasts, ..unknown() };
        }
        let mut booked = reservation;
        if self.may_take_cpu(&expected) {
            let cpu = self.cpu_booked(&expected).max(CPU_MIN.0);
            booked.cpu.0 = self.left(reservation.cpu.0, cpu);
        }
        if self.may_take_memory(request, &expected) {
            let memory = self.memory_with_room(&expected);
            booked.memory.0 = self.left(reservation.memory.0, memory);
        }
        // A rate is never quite the ceiling; an eighth is what the sketch may be off.
        let saturation = if expected.saturation > reservation.cpu.scaled(9, 8) {
            self.whole(expected.saturation).min(self.settings.grid.most(reservation).cpu)
        } else {
            MilliCores::ZERO
        };
        let above = match (self.settings.above, request.home) {
            (Above::Lent, _) => MilliCores::ZERO,
            (Above::Free, home) => saturation.min(home.map_or(MilliCores::ZERO, |home| home.headroom.cpu)),
            (Above::Waits, home) => saturation.min(home.map_or(saturation, |home| home.capacity.cpu)),
        };
        if above > reservation.cpu && self.keeps_it_busy(reservation.cpu, &expected) {
            booked.cpu = booked.cpu.max(above);
        }
        // What only one run of ten could use is not booked, but that one may use it, too.
        let wish = if saturation > MilliCores::ZERO {
            let grid = self.settings.grid;
            grid.cpu(grid.cpu_steps_for(saturation.scaled(9, 8).max(expected.cpu_high))).min(curious.cpu)
        } else {
            MilliCores::ZERO
        };
        let ceiling =
            Resources { cpu: wish.max(saturation).max(reservation.cpu), memory: reservation.memory };
        Grant { lasts, ..Grant::new(booked, ceiling) }
    }

    fn ended(&mut self, ended: &Ended<'_>) {
        if self.settings.lending == Lending::Elastic && !ended.starved {
            let wanted = wanted_cpu(ended.duration, &ended.usage);
            self.peers.saw(ended.function, ended.reservation.cpu, wanted);
        }
    }
}
