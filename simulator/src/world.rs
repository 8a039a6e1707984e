//! The world in which the minds are rehearsed: time, messages, VMs and callers.
//!
//! **Knows:** everything, unlike those who live in it.
//! **Promises:** events happen in the order of their moments, then of their causes; equal houses have equal histories. What must
//! stay true is checked after every event. One event costs no allocation once the world has its size.
//! **Gives up:** messages that are lost or come twice (`policies/tests/world/house.rs` has those), but for those to a Controller that is
//! gone, and those that are lost with a connection; and the Frontend's own work.
//!
//! The files beside: `agenda` (what will happen), `mail` (what is on its way), `callers` (who waits for an answer), `doors` (which Controller
//! has a call), `controller`, `vm` and `fleet` (the three machines and what they are told), `reports` (what VMs say of themselves),
//! `watch` (what is seen of runs that lend), `absence` (VMs that are cut off, frozen or heard late), `breaks` (connections that break), `controllers` (what becomes
//! of those), `trouble` (who is hit by what), `tally` (what is counted).

mod absence;
mod agenda;
mod breaks;
mod callers;
mod controller;
mod controllers;
mod decisions;
mod doors;
mod fleet;
mod mail;
mod reports;
mod tally;
mod trouble;
mod vm;
mod watch;

use policies::dispatch::{self, Dispatch, Ending, Submission};
use policies::hash::Map;
use policies::placement::Binding;
use policies::residency::{self, Admission};
use vocabulary::{
    Attempt, FunctionCard, Grant, InvocationId, MilliCores, Moment, Resources, Span, VmId, VmKind, VmStatus,
};

use crate::chance::Chance;
use crate::house::House;
use crate::physics::{Look, Plan};
use crate::plan::VmPlan;
use crate::report::Report;
use agenda::Agenda;
use callers::Callers;
use controllers::{Controller, Seat};
use doors::Doors;
use fleet::Fleet;
use mail::Mail;
use tally::Tally;
use vm::Vm;

pub use decisions::{Decision, Decisions};

const SECOND: Span = Span::seconds(1);

/// A message on its way.
enum Message {
    ToController(Seat, Letter),
    ToVm(VmId, residency::Input),
    ToFleet(policies::provisioning::Input),
    /// An answer reaches its caller.
    Answer {
        invocation: InvocationId,
        attempt: Attempt,
        how: callers::Answered,
        /// Making its sandbox took so long.
        init: Span,
    },
    /// A door hears late whose answers count.
    Fence {
        invocation: InvocationId,
        oldest_valid: Attempt,
        also: Option<Attempt>,
    },
    /// The door looks for what a Controller has forgotten.
    Missed(InvocationId),
}

/// To a Controller.
enum Letter {
    Submitted(InvocationId, Attempt),
    Finished {
        vm: VmId,
        ending: Ending,
    },
    Starved {
        vm: VmId,
        ending: Ending,
    },
    HandedBack {
        vm: VmId,
        invocation: InvocationId,
        attempt: Attempt,
    },
    Bounced {
        vm: VmId,
        invocation: InvocationId,
        attempt: Attempt,
    },
    /// A VM knows an attempt, or a newer one, from somebody else.
    Known {
        vm: VmId,
        invocation: InvocationId,
        attempt: Attempt,
        newest: Attempt,
        runs: bool,
    },
    Noticed {
        vm: VmId,
        deadline: Option<Moment>,
    },
    Lost(VmId),
    /// Of one who hears late: all others read what there is in one place.
    Reported(Box<(VmStatus, Resources)>),
}

/// Something that happens at a moment.
#[derive(Clone, Copy)]
enum Timer {
    WakeController(Seat),
    WakeFleet,
    WakeVm(VmId),
    /// Something may have ended on a VM.
    Look(VmId, Look),
    /// What was killed is gone.
    Buried(VmId, residency::SandboxId),
    /// A VM looks at its runs that lend.
    Samples(VmId),
    /// A VM writes its report, and will in a second.
    Reports(VmId),
    Starts(u32),
    Changes(VmId, Resources),
    Notice(VmId, Moment),
    Gone(VmId),
    /// It will not be gone after all.
    CalledOff(VmId),
    /// It is cut off, or frozen.
    Leaves(VmId, bool),
    /// It is back.
    Returns(VmId),
    /// A connection breaks, or is there again.
    BreaksVm(VmId),
    BreaksController(Seat),
    /// A message, by its number in the mail.
    Arrives(u32),
    /// The same, to somebody who hears late, after all that.
    Comes(u32),
    /// A Controller has not announced itself for too long, or does.
    Silent(Seat),
    Announced(Seat),
    /// Trouble, by its number.
    Trouble(u32, trouble::Turn),
    /// A VM's report, by its number among those that are on their way; to the Controller and the Resource Monitor.
    ReportArrives {
        status: u32,
        used: Resources,
    },
    /// A second has passed.
    Tick,
}

/// See the module.
pub struct World {
    now: Moment,
    house: House,
    names: Names,
    agenda: Agenda<Timer>,
    mail: Mail<Message>,
    jitter: Chance,
    lateness: Chance,
    controllers: Vec<Controller>,
    doors: Doors,
    /// Controllers are several, or do not stay the same: it is kept who sent which run.
    has_trouble: bool,
    senders: Map<(VmId, InvocationId, Attempt), Seat>,
    hits: Vec<trouble::Hit>,
    fleet: Option<Fleet>,
    vms: Vec<Option<Box<Vm>>>,
    /// VMs that will start.
    coming: Vec<Option<(VmId, VmPlan)>>,
    statuses: Vec<VmStatus>,
    statuses_free: Vec<u32>,
    callers: Callers,
    /// As far as is known now.
    next_call: Option<Moment>,
    decisions: Option<Decisions>,
    tally: Tally,
    controller_outputs: Vec<dispatch::Output>,
    vm_outputs: Vec<residency::Output>,
    plans: Vec<Plan>,
}

/// What the policies are called.
#[derive(Debug, Clone, Copy)]
struct Names {
    placement: &'static str,
    allocation: &'static str,
}

/// Plays a house to its end: until every invocation has ended, or for its `aftermath` after the last call. The decisions
/// are there where the house keeps them.
pub fn play(house: House) -> (Report, Option<Decisions>) {
    World::new(house).play()
}

impl World {
    fn new(mut house: House) -> Self {
        let given = house.machines.given();
        let names = Names { placement: house.placement.name(), allocation: house.allocator.name() };
        let placement = std::mem::replace(&mut house.placement, Box::new(policies::placement::jsq::Jsq));
        let allocator = std::mem::replace(&mut house.allocator, Box::new(policies::allocation::fixed::Fixed));
        house.checks_bookings &=
            placement.binding() == Binding::Late && house.residency.admission == Admission::Booked;
        let default = policies::reliability::expected_loss::ExpectedLoss::default();
        let reliability = std::mem::replace(&mut house.reliability, Box::new(default));
        let rule = house.fleet_rule.take();
        let fleet = house.fleet.clone().map(|fleet| Fleet::new(fleet, rule, given.len() as u64 + 1));
        let first = Dispatch::new(house.dispatch.clone(), placement, allocator).with_reliability(reliability);
        let mut world = Self {
            now: Moment::ORIGIN,
            names,
            agenda: Agenda::new(),
            mail: Mail::new(),
            jitter: Chance::new(house.seed, 0x6a69_7474_6572),
            lateness: Chance::new(house.seed, 0x6c61_7465),
            controllers: vec![Controller::new(Seat::FIRST, first, Moment::ORIGIN)],
            doors: Doors::new(&house),
            has_trouble: house.controllers > 1 || !house.troubles.is_empty(),
            senders: Map::default(),
            hits: Vec::new(),
            fleet,
            vms: Vec::new(),
            coming: Vec::new(),
            statuses: Vec::new(),
            statuses_free: Vec::new(),
            callers: Callers::default(),
            next_call: None,
            decisions: house.keeps_decisions.then(Decisions::default),
            tally: Tally::new(&house),
            controller_outputs: Vec::new(),
            vm_outputs: Vec::new(),
            plans: Vec::new(),
            house,
        };
        for (index, plan) in given.into_iter().enumerate() {
            world.plan_vm(VmId(index as u64 + 1), plan);
        }
        world.doors.hears_of(Seat::FIRST);
        world.plan_controllers();
        world.plan_absences();
        world.plan_troubles();
        world.begin_fleet();
        world.agenda.plan(Moment::ORIGIN + SECOND, Timer::Tick);
        world.expect_the_next_call();
        world
    }

    fn play(mut self) -> (Report, Option<Decisions>) {
        let mut last_call = Moment::ORIGIN;
        loop {
            let next = self.agenda.next();
            let call = self.next_call;
            if let Some(at) = call
                && at <= next.at
            {
                self.now = self.now.max(at);
                last_call = self.now;
                self.tally.events += 1;
                self.call();
                continue;
            }
            let is_over =
                call.is_none() && (self.callers.is_empty() || next.at > last_call + self.house.aftermath);
            if is_over {
                break;
            }
            let Some(what) = self.agenda.pop(next) else { break };
            self.now = next.at;
            self.tally.events += 1;
            self.happens(what);
        }
        self.conclude()
    }

    fn send(&mut self, message: Message) {
        let number = self.mail.put(message);
        self.travels(Timer::Arrives(number));
    }

    /// It happens when a message that is sent now arrives.
    fn travels(&mut self, what: Timer) {
        let network = self.house.network;
        if network.jitter == Span::ZERO {
            self.agenda.follow(self.now + network.delay, what);
        } else {
            let longer = Span(self.jitter.below(network.jitter.0 + 1));
            self.agenda.plan(self.now + network.delay + longer, what);
        }
    }

    fn arrives(&mut self, message: Message) {
        match message {
            Message::ToController(seat, letter) => self.controller_hears(seat, letter),
            Message::ToVm(vm, input) => self.vm_hears(vm, input),
            Message::ToFleet(input) => self.tell_fleet(input),
            Message::Answer { invocation, .. } => {
                if let Some(Message::Answer { attempt, how, init, .. }) =
                    self.door_passes_on(invocation, message)
                {
                    self.answered(invocation, attempt, how, init);
                }
            }
            Message::Fence { invocation, oldest_valid, also } => self.fenced(invocation, oldest_valid, also),
            Message::Missed(invocation) => self.asks_after(invocation),
        }
    }

    /// To somebody who hears late, after all that.
    fn comes(&mut self, message: Message) {
        match message {
            Message::ToController(seat, letter) => match self.seated(seat) {
                Some(_) => self.controller_reads(seat, letter),
                None => self.nobody_hears(seat, letter),
            },
            Message::ToVm(vm, input) => self.tell_vm(vm, input),
            other => self.arrives(other),
        }
    }

    fn happens(&mut self, timer: Timer) {
        match timer {
            Timer::WakeController(seat) => self.wake_controller(seat),
            Timer::WakeFleet => self.wake_fleet(),
            Timer::WakeVm(vm) => self.wake_vm(vm),
            Timer::Look(vm, look) => self.look(vm, look),
            Timer::Buried(vm, sandbox) => {
                self.tell_vm(vm, residency::Input::RunEnded { sandbox, kept: false });
            }
            Timer::Samples(vm) => self.samples(vm),
            Timer::Reports(vm) => self.reports(vm, true),
            Timer::Starts(index) => self.vm_starts(index),
            Timer::Changes(vm, size) => self.vm_changes(vm, size),
            Timer::Notice(vm, deadline) => self.vm_noticed(vm, deadline),
            Timer::Gone(vm) => self.vm_gone(vm),
            Timer::CalledOff(vm) => self.vm_may_stay(vm),
            Timer::Leaves(vm, is_frozen) => self.vm_leaves(vm, is_frozen),
            Timer::Returns(vm) => self.vm_returns(vm),
            Timer::BreaksVm(vm) => self.vm_connection_turns(vm),
            Timer::BreaksController(seat) => self.controller_connection_turns(seat),
            Timer::Arrives(number) => {
                let message = self.mail.take(number);
                self.arrives(message);
            }
            Timer::Comes(number) => {
                let message = self.mail.take(number);
                self.comes(message);
            }
            Timer::Silent(seat) => self.door_counts(seat),
            Timer::Announced(seat) => self.door_hears(seat),
            Timer::Trouble(number, turn) => self.trouble(number, turn),
            Timer::ReportArrives { status, used } => self.report_arrives(status, used),
            Timer::Tick => self.tick(),
        }
    }

    fn tick(&mut self) {
        let waiting = self.controllers.iter().map(|controller| u64::from(controller.dispatch.waiting()));
        self.tally.tick(waiting.sum());
        self.ask_of_fleet();
        self.agenda.plan(self.now + SECOND, Timer::Tick);
    }

    fn must(&mut self, holds: bool, otherwise: impl FnOnce() -> String) {
        if !holds {
            self.tally.violated(self.now, otherwise());
        }
    }

    fn conclude(mut self) -> (Report, Option<Decisions>) {
        for unended in self.callers.all() {
            self.tally.violated(self.now, format!("{unended} never ended"));
        }
        for index in 0..self.vms.len() {
            self.close_vm_books(VmId(index as u64));
        }
        let mut report = self.tally.report(self.now, &self.house.functions);
        report.name = self.house.name;
        report.seed = self.house.seed;
        report.placement = self.names.placement.to_owned();
        report.allocation = self.names.allocation.to_owned();
        (report, self.decisions)
    }
}
