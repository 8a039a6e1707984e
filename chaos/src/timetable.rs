//! When which fault hits whom: a scenario and a seed, worked out.
//!
//! **Knows:** the scenario, the seed.
//! **Promises:** the same two give the same list, on every machine; whatever is begun is ended within the storm; a wave
//! that is changed does not move the others.
//! **Gives up:** names. A victim is drawn among the VMs that are open when its fault begins, so that a list can be
//! played on any cluster, and on one whose VMs are replaced meanwhile.

use std::fmt;

use policies::chance::SplitMix64;
use vocabulary::Span;

use crate::scenario::{Kind, Mood, Scenario, Wave};
use crate::wires::Condition;

/// One thing to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Planned {
    /// Since the storm began.
    pub at: Span,
    /// What.
    pub step: Step,
}

/// What can be done, and to whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// To a VM.
    Vm(Victim, VmStep),
    /// To a process of the house.
    Role(Role, Victim, RoleStep),
    /// The disk of the store is full from now on, or is as it was.
    Disk(Victim, DiskStep),
}

/// One VM, or one process of a role. Whoever hears of a victim for the first time takes, of the open VMs in the order of
/// their ids (of the role's processes in the order of theirs), the one at `draw` modulo their number, and stays with it.
/// Of Resource Monitors it is the one that leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Victim {
    /// Counted from 1 over the whole list.
    pub number: u32,
    /// Which.
    pub draw: u32,
}

/// What can be done to a VM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VmStep {
    /// It is told that it has so much time.
    Notice(Span),
    /// It is told that it may stay.
    CallOff,
    /// It is gone.
    Kill,
    /// It has so many hundredths of the CPU that it had.
    Resize(u32),
    /// It does nothing any more.
    Freeze,
    /// It goes on.
    Thaw,
    /// Its way to the house is as this says.
    Wire(Condition),
    /// Its wall clock is so many seconds ahead, or behind.
    Clock(i64),
    /// Its metadata service does so.
    Cloud(CloudStep),
}

/// What a VM's metadata service can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloudStep {
    /// It says that the VM has so much time.
    Notice(Span),
    /// It says so no more.
    CallOff,
    /// It says that another VM has so much time.
    Another(Span),
    /// It misbehaves.
    Ill(Mood),
    /// It is as it should be.
    Well,
}

/// What can be done to a process of the house.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RoleStep {
    /// It is gone.
    Kill,
    /// It does nothing any more.
    Freeze,
    /// It goes on.
    Thaw,
    /// Its way to NATS is as this says.
    Wire(Condition),
    /// Its wall clock is so many seconds ahead, or behind.
    Clock(i64),
}

/// What can be done to the disk of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskStep {
    /// Nothing more fits.
    Fill,
    /// There is room again.
    Clear,
}

/// Processes of a house that are not VMs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// The door.
    Frontend,
    /// Who decides.
    Controller,
    /// Who keeps the fleet.
    ResourceMonitor,
    /// What carries the messages.
    NatsServer,
}

impl Role {
    /// What its process is called.
    pub fn name(self) -> &'static str {
        match self {
            Self::Frontend => "frontend",
            Self::Controller => "controller",
            Self::ResourceMonitor => "resource-monitor",
            Self::NatsServer => "nats-server",
        }
    }
}

impl fmt::Display for Planned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>8.3} s  ", self.at.as_seconds())?;
        match self.step {
            Step::Role(role, victim, step) => {
                match step {
                    RoleStep::Kill => write!(f, "kill"),
                    RoleStep::Freeze => write!(f, "freeze"),
                    RoleStep::Thaw => write!(f, "thaw"),
                    RoleStep::Wire(condition) => wire(f, condition),
                    RoleStep::Clock(seconds) => clock(f, seconds),
                }?;
                write!(f, " the {} (draw {})", role.name(), victim.draw)
            }
            Step::Disk(_, DiskStep::Fill) => write!(f, "fill the disk of the store"),
            Step::Disk(_, DiskStep::Clear) => write!(f, "clear the disk of the store"),
            Step::Vm(Victim { number, draw }, step) => {
                match step {
                    VmStep::Notice(left) => write!(f, "notice of {:.3} s to", left.as_seconds()),
                    VmStep::CallOff => write!(f, "call off the notice to"),
                    VmStep::Kill => write!(f, "kill"),
                    VmStep::Resize(percent) => write!(f, "{percent} per cent of its CPU to"),
                    VmStep::Freeze => write!(f, "freeze"),
                    VmStep::Thaw => write!(f, "thaw"),
                    VmStep::Wire(condition) => wire(f, condition),
                    VmStep::Clock(seconds) => clock(f, seconds),
                    VmStep::Cloud(CloudStep::Notice(left)) => {
                        write!(f, "notice by metadata of {:.3} s to", left.as_seconds())
                    }
                    VmStep::Cloud(CloudStep::CallOff) => write!(f, "call off by metadata the notice to"),
                    VmStep::Cloud(CloudStep::Another(_)) => write!(f, "another's notice in the metadata of"),
                    VmStep::Cloud(CloudStep::Ill(mood)) => write!(f, "{mood:?} metadata for"),
                    VmStep::Cloud(CloudStep::Well) => write!(f, "true metadata for"),
                }?;
                write!(f, " victim {number} (draw {draw})")
            }
        }
    }
}

fn wire(f: &mut fmt::Formatter<'_>, condition: Condition) -> fmt::Result {
    match condition {
        Condition::Whole => write!(f, "mend the wire of"),
        Condition::Cut => write!(f, "cut the wire of"),
        Condition::Slow { from_ms, to_ms } => write!(f, "{from_ms} to {to_ms} ms on the wire of"),
        Condition::Breaks { from_ms, to_ms } => write!(f, "break each {from_ms} to {to_ms} ms the wire of"),
    }
}

fn clock(f: &mut fmt::Formatter<'_>, seconds: i64) -> fmt::Result {
    match seconds {
        0 => write!(f, "the right time for"),
        _ => write!(f, "{seconds:+} s on the clock of"),
    }
}

/// The list, in the order of its moments.
pub fn timetable(scenario: &Scenario, seed: u64) -> Vec<Planned> {
    let storm = scenario.storm_s * 1_000;
    let mut list = Vec::new();
    let mut number = 0;
    for (index, wave) in scenario.faults.iter().enumerate() {
        let mut chance = SplitMix64::of(seed, &format!("wave {index}"));
        for _ in 0..wave.times {
            number += 1;
            fault(wave, &mut chance, storm, number, &mut list);
        }
    }
    // Stable: what one fault does at one moment stays in its order.
    list.sort_by_key(|planned| planned.at);
    list
}

fn fault(wave: &Wave, chance: &mut SplitMix64, storm: u64, number: u32, list: &mut Vec<Planned>) {
    let victim = Victim { number, draw: chance.between(0, u64::from(u32::MAX)) as u32 };
    let length = |chance: &mut SplitMix64, range: Option<[u64; 2]>| {
        range.map_or(0, |[low, high]| chance.between(low * 1_000, high * 1_000))
    };
    let (notice, lasts) = (length(chance, wave.notice_s), length(chance, wave.lasts_s));
    let at = chance.between(0, storm.saturating_sub(notice.max(lasts)));
    let early = notice * chance.between(100, 900) / 1_000;
    let percent = wave.to_percent.map_or(100, |[low, high]| chance.between(low, high) as u32);
    let slow = wave.delay_ms.map_or(Condition::Whole, |[from_ms, to_ms]| Condition::Slow { from_ms, to_ms });

    let breaks =
        wave.every_ms.map_or(Condition::Whole, |[from_ms, to_ms]| Condition::Breaks { from_ms, to_ms });

    // Drawn last, and only here: what other faults draw stays what it was.
    let jump = wave.jump_s.map_or(0, |[low, high]| {
        let seconds = chance.between(low, high) as i64;
        if chance.between(0, 1) == 0 { seconds } else { -seconds }
    });

    let vm = |step: VmStep| Step::Vm(victim, step);
    let cloud = |step: CloudStep| vm(VmStep::Cloud(step));
    let (warned, called_off) = if wave.by_metadata {
        (cloud(CloudStep::Notice(Span::millis(notice))), cloud(CloudStep::CallOff))
    } else {
        (vm(VmStep::Notice(Span::millis(notice))), vm(VmStep::CallOff))
    };
    let vm_wire = |condition: Condition| vm(VmStep::Wire(condition));
    let kill = |role: Role| vec![(0, Step::Role(role, victim, RoleStep::Kill))];
    let hang = |role: Role| {
        let step = |step: RoleStep| Step::Role(role, victim, step);
        vec![(0, step(RoleStep::Freeze)), (lasts, step(RoleStep::Thaw))]
    };
    let wire = |role: Role, condition: Condition| {
        let step = |condition: Condition| Step::Role(role, victim, RoleStep::Wire(condition));
        vec![(0, step(condition)), (lasts, step(Condition::Whole))]
    };
    let turn = |role: Role| {
        let step = |seconds: i64| Step::Role(role, victim, RoleStep::Clock(seconds));
        vec![(0, step(jump)), (lasts, step(0))]
    };
    let steps = match wave.fault {
        Kind::Kill => vec![(0, vm(VmStep::Kill))],
        Kind::NoticeThenKill => vec![(0, warned), (notice, vm(VmStep::Kill))],
        Kind::NoticeThenEarlyKill => vec![(0, warned), (early, vm(VmStep::Kill))],
        Kind::CancelledNotice => vec![(0, warned), (early, called_off)],
        Kind::IllMetadata => {
            let ill = wave.mood.map_or(CloudStep::Well, CloudStep::Ill);
            vec![(0, cloud(ill)), (lasts, cloud(CloudStep::Well))]
        }
        Kind::NoticeForAnother => {
            let another = CloudStep::Another(Span::millis(lasts));
            vec![(0, cloud(another)), (lasts, cloud(CloudStep::Well))]
        }
        Kind::Shrink | Kind::Grow => vec![(0, vm(VmStep::Resize(percent))), (lasts, vm(VmStep::Resize(100)))],
        Kind::Hang => vec![(0, vm(VmStep::Freeze)), (lasts, vm(VmStep::Thaw))],
        Kind::Cut => vec![(0, vm_wire(Condition::Cut)), (lasts, vm_wire(Condition::Whole))],
        Kind::Delay => vec![(0, vm_wire(slow)), (lasts, vm_wire(Condition::Whole))],
        Kind::KillFrontend => kill(Role::Frontend),
        Kind::KillController => kill(Role::Controller),
        Kind::KillResourceMonitor => kill(Role::ResourceMonitor),
        Kind::KillNats => kill(Role::NatsServer),
        Kind::HangFrontend => hang(Role::Frontend),
        Kind::HangController => hang(Role::Controller),
        Kind::HangResourceMonitor => hang(Role::ResourceMonitor),
        Kind::CutController => wire(Role::Controller, Condition::Cut),
        Kind::DelayController => wire(Role::Controller, slow),
        Kind::Break => vec![(0, vm_wire(breaks)), (lasts, vm_wire(Condition::Whole))],
        Kind::BreakFrontend => wire(Role::Frontend, breaks),
        Kind::BreakController => wire(Role::Controller, breaks),
        Kind::ClockJump => vec![(0, vm(VmStep::Clock(jump))), (lasts, vm(VmStep::Clock(0)))],
        Kind::ClockJumpFrontend => turn(Role::Frontend),
        Kind::ClockJumpController => turn(Role::Controller),
        Kind::ClockJumpResourceMonitor => turn(Role::ResourceMonitor),
        Kind::FillDisk => {
            vec![(0, Step::Disk(victim, DiskStep::Fill)), (lasts, Step::Disk(victim, DiskStep::Clear))]
        }
    };
    list.extend(steps.into_iter().map(|(after, step)| Planned { at: Span::millis(at + after), step }));
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn storm() -> Scenario {
        Scenario::from_toml(include_str!("../scenarios/storm.toml")).unwrap()
    }

    #[test]
    fn the_same_seed_gives_the_same_list_and_another_another() {
        let scenario = storm();
        assert_eq!(timetable(&scenario, 7), timetable(&scenario, 7));
        assert_ne!(timetable(&scenario, 7), timetable(&scenario, 8));
        // For ever: a seed in a report of last year still means the same storm.
        let told: Vec<String> = timetable(&scenario, 7).iter().take(2).map(ToString::to_string).collect();
        assert_eq!(told, FIRST_OF_SEVEN);
    }

    const FIRST_OF_SEVEN: [&str; 2] = [
        "   1.789 s  kill victim 41 (draw 1720855058)",
        "   4.752 s  54 per cent of its CPU to victim 233 (draw 4258370536)",
    ];

    #[test]
    fn every_fault_is_there_as_often_as_was_said_and_in_order() {
        let scenario = storm();
        let list = timetable(&scenario, 1);
        assert!(list.is_sorted_by_key(|planned| planned.at));
        let times: u32 = scenario.faults.iter().map(|wave| wave.times).sum();
        let mut steps: BTreeMap<u32, Vec<VmStep>> = BTreeMap::new();
        let mut roles = 0;
        for planned in &list {
            match planned.step {
                Step::Vm(victim, step) => steps.entry(victim.number).or_default().push(step),
                Step::Role(..) | Step::Disk(..) => roles += 1,
            }
        }
        assert_eq!(steps.len() + roles, times as usize);
        for steps in steps.values() {
            let is_whole = matches!(
                steps[..],
                [VmStep::Kill]
                    | [VmStep::Notice(_), VmStep::Kill | VmStep::CallOff]
                    | [VmStep::Resize(_), VmStep::Resize(100)]
                    | [VmStep::Freeze, VmStep::Thaw]
            );
            assert!(is_whole, "{steps:?}");
        }
    }

    #[test]
    fn clocks_jump_ahead_and_back_and_are_right_again() {
        let scenario = Scenario::from_toml(include_str!("../scenarios/clocks.toml")).unwrap();
        let jumps: Vec<i64> = (0..10)
            .flat_map(|seed| timetable(&scenario, seed))
            .filter_map(|planned| match planned.step {
                Step::Vm(_, VmStep::Clock(by)) | Step::Role(_, _, RoleStep::Clock(by)) => Some(by),
                _ => None,
            })
            .collect();
        let of = |is: fn(&i64) -> bool| jumps.iter().filter(|by| is(by)).count();
        assert_eq!(of(|by| *by == 0) * 2, jumps.len());
        assert!(of(|by| *by >= 120) > 10 && of(|by| *by <= -120) > 10, "{jumps:?}");
    }

    #[test]
    fn whatever_begins_ends_within_the_storm() {
        let scenario = storm();
        for seed in 0..50 {
            let list = timetable(&scenario, seed);
            let last = list.last().unwrap().at;
            assert!(last <= Span::seconds(scenario.storm_s), "seed {seed}: {last}");
        }
    }

    #[test]
    fn a_wave_that_is_changed_moves_no_other() {
        let scenario = storm();
        let mut more = scenario.clone();
        more.faults.last_mut().unwrap().times += 5;
        let (list, longer) = (timetable(&scenario, 3), timetable(&more, 3));
        assert!(longer.len() > list.len());
        assert!(list.iter().all(|planned| longer.contains(planned)));
    }
}
