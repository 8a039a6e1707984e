//! What a scenario file says: how much is called, how long, and which faults come how often.
//!
//! **Knows:** one TOML text.
//! **Promises:** a scenario that was read makes sense; one that does not says which field, what it says, and what was
//! expected there.
//! **Gives up:** moments and victims. Those come from a seed: [`crate::timetable`].

use serde::{Deserialize, Serialize};

use crate::metadata::Temper;

/// What is played.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// What people call it.
    pub name: String,
    /// How many VMs the cluster must have when it begins, and again when it ends.
    pub vms: u32,
    /// How many processes of each role it must have.
    #[serde(default)]
    pub house: Household,
    /// Calls without faults come first for so long: what the storm is compared with.
    pub calm_s: u64,
    /// Faults come during this time; those that last are over when it ends.
    pub storm_s: u64,
    /// How soon after the last fault the fleet must be whole and calls must succeed.
    pub healthy_within_s: u64,
    /// Who calls meanwhile.
    pub load: Load,
    /// What happens.
    #[serde(default)]
    pub faults: Vec<Wave>,
}

/// Processes of a house that are not VMs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Household {
    /// Doors.
    pub frontends: u32,
    /// Those who decide.
    pub controllers: u32,
    /// Candidates for keeping the fleet.
    pub monitors: u32,
    /// Functions of either kind: so many names, so that every Controller has some.
    pub functions: u32,
}

impl Default for Household {
    fn default() -> Self {
        Self { frontends: 1, controllers: 1, monitors: 1, functions: 1 }
    }
}

/// Callers, each of whom calls again as soon as he was answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Load {
    /// Callers of short functions by NATS request-reply.
    pub short: u32,
    /// Callers of long functions by NATS request-reply.
    pub long: u32,
    /// Durable submitters of short functions.
    pub durable_short: u32,
    /// Durable submitters of long functions.
    pub durable_long: u32,
    /// How long a short function runs: from, to.
    pub short_ms: [u64; 2],
    /// How long a long function runs: from, to.
    pub long_ms: [u64; 2],
    /// How long a caller waits between an answer and his next call.
    #[serde(default)]
    pub pause_ms: u64,
}

/// One sort of fault, so many times.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wave {
    /// What.
    pub fault: Kind,
    /// How often.
    pub times: u32,
    /// Of faults with a notice: how long it is, from, to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notice_s: Option<[u64; 2]>,
    /// Of faults that last: how long, from, to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lasts_s: Option<[u64; 2]>,
    /// Of faults that change a VM's size: to how much of what it had, from, to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to_percent: Option<[u64; 2]>,
    /// Of faults that make messages late: by how much, each way, from, to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay_ms: Option<[u64; 2]>,
    /// Of connections that break: how old each becomes, from, to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every_ms: Option<[u64; 2]>,
    /// Of clocks that jump: how far, from, to; the seed decides whether ahead or back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jump_s: Option<[u64; 2]>,
    /// Of faults with a notice: it comes by the VM's metadata service, as a cloud's would, and not by a message.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub by_metadata: bool,
    /// Of metadata services that misbehave: how.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mood: Option<Mood>,
}

/// How a metadata service misbehaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mood {
    /// Every answer takes five seconds.
    Slow,
    /// It hangs up.
    Absent,
    /// It answers 500.
    Refusing,
    /// It answers what nobody can read.
    Garbage,
    /// It goes on answering for ever.
    Endless,
    /// It answers in good form what cannot be.
    Lying,
}

impl Mood {
    /// As the service is told.
    pub fn temper(self) -> Temper {
        match self {
            Self::Slow => Temper::Slow(std::time::Duration::from_secs(5)),
            Self::Absent => Temper::Absent,
            Self::Refusing => Temper::Refusing(500),
            Self::Garbage => Temper::Garbage,
            Self::Endless => Temper::Endless,
            Self::Lying => Temper::Lying,
        }
    }
}

/// The sorts of faults.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A VM is gone without a word.
    Kill,
    /// A VM is told, and gone at the deadline.
    NoticeThenKill,
    /// A VM is told, and gone before the deadline.
    NoticeThenEarlyKill,
    /// A VM is told, and then told that it may stay.
    CancelledNotice,
    /// A VM has less CPU for a while.
    Shrink,
    /// A VM has more CPU for a while.
    Grow,
    /// A VM does nothing for a while, and then goes on as if nothing had been.
    Hang,
    /// A VM lives and works, and is cut off from the house for a while.
    Cut,
    /// What a VM says and hears comes late for a while.
    Delay,
    /// A Frontend is gone without a word; whoever looks after it starts it again.
    KillFrontend,
    /// So is a Controller.
    KillController,
    /// So is the Resource Monitor that leads.
    KillResourceMonitor,
    /// So is nats-server.
    KillNats,
    /// A Frontend does nothing for a while, and then goes on as if nothing had been.
    HangFrontend,
    /// So does a Controller.
    HangController,
    /// So does the Resource Monitor that leads.
    HangResourceMonitor,
    /// A Controller is cut off from NATS for a while.
    CutController,
    /// What a Controller says and hears comes late for a while.
    DelayController,
    /// The connection of a VM breaks again and again for a while, and what is on its way is lost.
    Break,
    /// So does that of a Frontend.
    BreakFrontend,
    /// So does that of a Controller.
    BreakController,
    /// The disk of the store is full for a while.
    FillDisk,
    /// The metadata service of a VM misbehaves for a while.
    IllMetadata,
    /// The metadata service of a VM says for a while that another VM will be evicted.
    NoticeForAnother,
    /// The wall clock of a VM is wrong for a while: it jumps ahead or back, and back to where it should be.
    ClockJump,
    /// So is that of a Frontend.
    ClockJumpFrontend,
    /// So is that of a Controller.
    ClockJumpController,
    /// So is that of the Resource Monitor that leads.
    ClockJumpResourceMonitor,
}

impl Kind {
    /// Whether it is a clock that jumps.
    pub fn is_clock(self) -> bool {
        use Kind as K;
        matches!(
            self,
            K::ClockJump | K::ClockJumpFrontend | K::ClockJumpController | K::ClockJumpResourceMonitor
        )
    }

    /// Whether it is a connection that breaks.
    pub fn breaks(self) -> bool {
        matches!(self, Self::Break | Self::BreakFrontend | Self::BreakController)
    }

    /// Whether it is a length of time and not a moment.
    pub fn lasts(self) -> bool {
        use Kind as K;
        matches!(
            self,
            K::Shrink
                | K::Grow
                | K::Hang
                | K::Cut
                | K::Delay
                | K::HangFrontend
                | K::HangController
                | K::HangResourceMonitor
                | K::CutController
                | K::DelayController
                | K::FillDisk
                | K::IllMetadata
                | K::NoticeForAnother
        ) || self.is_clock()
            || self.breaks()
    }
}

/// Why a scenario cannot be played.
#[derive(Debug, thiserror::Error)]
pub enum ScenarioError {
    /// It is not what a scenario looks like.
    #[error("it is not a scenario: {0}")]
    NotAScenario(#[from] toml::de::Error),
    /// One field makes no sense.
    #[error("{field} is {found}, but expected is {expected}")]
    Wrong {
        /// Which.
        field: String,
        /// What it says.
        found: String,
        /// What it might say.
        expected: &'static str,
    },
}

const HOUR: u64 = 3_600;

impl Scenario {
    /// Whether VMs need metadata services for it.
    pub fn has_metadata(&self) -> bool {
        self.faults.iter().any(Wave::is_of_metadata)
    }

    /// Reads and checks one.
    pub fn from_toml(text: &str) -> Result<Self, ScenarioError> {
        let scenario: Self = toml::from_str(text)?;
        scenario.check()?;
        Ok(scenario)
    }

    /// Whether it makes sense.
    pub fn check(&self) -> Result<(), ScenarioError> {
        let is_plain = |letter: char| letter.is_ascii_alphanumeric() || letter == '-';
        if self.name.is_empty() || self.name.len() > 40 || !self.name.chars().all(is_plain) {
            return wrong("name", &format!("{:?}", self.name), "1 to 40 letters, digits and dashes");
        }
        number("vms", u64::from(self.vms), 1..=1_000, "1 to 1000")?;
        number("calm_s", self.calm_s, 1..=HOUR, "1 to 3600")?;
        number("storm_s", self.storm_s, 1..=24 * HOUR, "1 to 86400")?;
        number("healthy_within_s", self.healthy_within_s, 1..=HOUR, "1 to 3600")?;
        for (field, found) in [
            ("house.frontends", self.house.frontends),
            ("house.controllers", self.house.controllers),
            ("house.monitors", self.house.monitors),
            ("house.functions", self.house.functions),
        ] {
            number(field, u64::from(found), 1..=16, "1 to 16")?;
        }
        self.load.check()?;
        for (index, wave) in self.faults.iter().enumerate() {
            wave.check(&format!("faults[{index}]"), self.storm_s)?;
        }
        Ok(())
    }
}

impl Load {
    fn check(&self) -> Result<(), ScenarioError> {
        let callers = [
            ("load.short", self.short),
            ("load.long", self.long),
            ("load.durable_short", self.durable_short),
            ("load.durable_long", self.durable_long),
        ];
        for (field, count) in callers {
            number(field, u64::from(count), 0..=10_000, "0 to 10000 callers")?;
        }
        if self.short == 0 {
            return wrong("load.short", "0", "at least 1: their answers are what is timed");
        }
        range("load.short_ms", Some(self.short_ms), 0..=60_000, "[from, to] within 0 to 60000")?;
        range("load.long_ms", Some(self.long_ms), 0..=100_000, "[from, to] within 0 to 100000")?;
        number("load.pause_ms", self.pause_ms, 0..=60_000, "0 to 60000")
    }
}

impl Wave {
    /// Whether VMs need a metadata service for it.
    pub fn is_of_metadata(&self) -> bool {
        self.by_metadata || matches!(self.fault, Kind::IllMetadata | Kind::NoticeForAnother)
    }

    fn has_notice(&self) -> bool {
        use Kind as K;
        matches!(self.fault, K::NoticeThenKill | K::NoticeThenEarlyKill | K::CancelledNotice)
    }

    fn check(&self, name: &str, storm_s: u64) -> Result<(), ScenarioError> {
        use Kind as K;
        number(&format!("{name}.times"), u64::from(self.times), 1..=100_000, "1 to 100000")?;
        let (notice, lasts) = (format!("{name}.notice_s"), format!("{name}.lasts_s"));
        let (percent, delay) = (format!("{name}.to_percent"), format!("{name}.delay_ms"));
        let room = 0..=storm_s.saturating_sub(1);
        if self.by_metadata && !self.has_notice() {
            return wrong(&format!("{name}.by_metadata"), "true", "nothing: this fault has no notice");
        }
        let mood = format!("{name}.mood");
        match (self.fault, self.mood) {
            (K::IllMetadata, None) => {
                return wrong(&mood, "not there", "slow, absent, refusing, garbage, endless or lying");
            }
            (K::IllMetadata, Some(_)) | (_, None) => {}
            (_, Some(found)) => {
                return wrong(&mood, &format!("{found:?}"), "nothing: this fault has no such thing");
            }
        }
        if self.has_notice() {
            range(&notice, self.notice_s, room.clone(), "[from, to] in seconds, shorter than storm_s")?;
        } else {
            absent(&notice, self.notice_s)?;
        }
        if self.fault.lasts() {
            range(&lasts, self.lasts_s, room, "[from, to] in seconds, shorter than storm_s")?;
        } else {
            absent(&lasts, self.lasts_s)?;
        }
        if matches!(self.fault, K::Delay | K::DelayController) {
            range(&delay, self.delay_ms, 1..=10_000, "[from, to] within 1 to 10000")?;
        } else {
            absent(&delay, self.delay_ms)?;
        }
        let every = format!("{name}.every_ms");
        if self.fault.breaks() {
            range(&every, self.every_ms, 100..=60_000, "[from, to] within 100 to 60000")?;
        } else {
            absent(&every, self.every_ms)?;
        }
        let jump = format!("{name}.jump_s");
        if self.fault.is_clock() {
            range(&jump, self.jump_s, 1..=10 * 24 * HOUR, "[from, to] within 1 to 864000")?;
        } else {
            absent(&jump, self.jump_s)?;
        }
        match self.fault {
            K::Shrink => range(&percent, self.to_percent, 1..=100, "[from, to] within 1 to 100"),
            K::Grow => range(&percent, self.to_percent, 100..=1_000, "[from, to] within 100 to 1000"),
            _ => absent(&percent, self.to_percent),
        }
    }
}

fn wrong(field: &str, found: &str, expected: &'static str) -> Result<(), ScenarioError> {
    Err(ScenarioError::Wrong { field: field.into(), found: found.into(), expected })
}

fn number(
    field: &str,
    found: u64,
    allowed: std::ops::RangeInclusive<u64>,
    expected: &'static str,
) -> Result<(), ScenarioError> {
    if allowed.contains(&found) { Ok(()) } else { wrong(field, &found.to_string(), expected) }
}

fn range(
    field: &str,
    found: Option<[u64; 2]>,
    allowed: std::ops::RangeInclusive<u64>,
    expected: &'static str,
) -> Result<(), ScenarioError> {
    match found {
        Some([low, high]) if low <= high && allowed.contains(&low) && allowed.contains(&high) => Ok(()),
        Some([low, high]) => wrong(field, &format!("[{low}, {high}]"), expected),
        None => wrong(field, "not there", expected),
    }
}

fn absent(field: &str, found: Option<[u64; 2]>) -> Result<(), ScenarioError> {
    match found {
        Some(found) => wrong(field, &format!("{found:?}"), "nothing: this fault has no such thing"),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
