//! A model on trial: what it would have booked beside what was booked, both judged by how the run went.
//!
//! **Knows:** for each decision what the model in force and the candidate chose from the same options, how many waited then, and
//! how that run ended.
//! **Promises:** nothing that a candidate says is carried out. Both choices of a decision are judged by one rule and the same run;
//! after as many runs as were asked for there is one [`Verdict`]. A machine that is too busy for answers is not held against the
//! candidate: the model in force is asked on the same one. What is remembered has a bound.
//! **Gives up:** what the other booking would have done to the queue and to its own wait: a rent stands for it, as in training. A
//! run that is never heard of again is not judged.

use std::collections::BTreeMap;

use vocabulary::{InvocationId, MilliCores, Resources, Span, Usage};

use super::Ended;
use super::learned::Chooser;
use crate::profile::wanted_cpu;

/// Decisions whose runs have not ended; beyond it, further ones are not judged.
const OPEN_MOST: usize = 65_536;
/// A lender that needs its CPU has it back when it is next looked at.
const SAMPLE: Span = Span::millis(20);
/// Slower than this is taken for this, in thousandths.
const SLOWEST: u64 = 5_000;
/// A run that dies of lent memory is done again: as if it had taken so much longer, in thousandths.
const STARVED: u64 = 2_000;
/// What a run takes beyond its time with its reservation costs so many times more.
const HARM: u64 = 4;
/// Who waits as long as its run takes alone loses so many thousandths of it, by its logarithm.
const WAITING: u64 = 50;
/// No booking costs the others more than this: one decision in a crowd is not to outweigh all others.
const RENT_MOST: u64 = 10_000;
/// Shorter runs wait as if they took this long.
const SHORTEST: Span = Span::millis(100);

/// What one decision would have been with each.
#[derive(Debug, Clone, Copy)]
struct Pair {
    in_force: Resources,
    candidate: Resources,
    waiting: u32,
    fleet: MilliCores,
}

/// How the two compare, in thousandths of what a run takes with its reservation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Verdict {
    /// Runs that both were judged by.
    pub runs: u32,
    /// Decisions that both were asked for,
    pub asked: u32,
    /// those for which the candidate had no answer,
    pub unanswered: u32,
    /// and those for which the model in force had none.
    pub unanswered_in_force: u32,
    /// Decisions in which both chose the same.
    pub agreed: u32,
    /// What a run cost on average with the bookings of the model in force,
    pub in_force: u64,
    /// and what it would have cost with the candidate's.
    pub candidate: u64,
    /// Whether it had no answer in at most one decision of a hundred (and always in one) more than the model in force.
    pub answers: bool,
    /// Whether the candidate is not worse, and answers.
    pub is_not_worse: bool,
}

/// See the module.
pub struct Trial {
    candidate: Box<dyn Chooser>,
    wanted: u32,
    threshold: u32,
    open: BTreeMap<InvocationId, Pair>,
    asked: u32,
    unanswered: u32,
    unanswered_in_force: u32,
    runs: u32,
    agreed: u32,
    in_force: u64,
    of_candidate: u64,
}

impl Trial {
    /// Over so many runs; one that used so many thousandths of what it kept had it given back.
    pub fn new(candidate: Box<dyn Chooser>, runs: u32, threshold: u32) -> Self {
        Self {
            candidate,
            wanted: runs.max(1),
            threshold,
            open: BTreeMap::new(),
            asked: 0,
            unanswered: 0,
            unanswered_in_force: 0,
            runs: 0,
            agreed: 0,
            in_force: 0,
            of_candidate: 0,
        }
    }

    /// The candidate, when its trial is over.
    pub fn into_candidate(self) -> Box<dyn Chooser> {
        self.candidate
    }

    /// Runs that were judged so far.
    pub fn runs(&self) -> u32 {
        self.runs
    }

    /// A decision was made; `ask` has the candidate decide it, too. `None`: no answer, and `otherwise` is booked.
    pub(super) fn decided(
        &mut self,
        invocation: InvocationId,
        in_force: Option<Resources>,
        otherwise: Resources,
        (waiting, fleet): (u32, MilliCores),
        ask: impl FnOnce(&mut dyn Chooser) -> Option<Resources>,
    ) {
        if self.is_over() || self.open.len() >= OPEN_MOST {
            return;
        }
        self.asked = self.asked.saturating_add(1);
        let candidate = ask(&mut *self.candidate);
        self.unanswered += u32::from(candidate.is_none());
        self.unanswered_in_force += u32::from(in_force.is_none());
        let [in_force, candidate] = [in_force, candidate].map(|chosen| chosen.unwrap_or(otherwise));
        self.open.insert(invocation, Pair { in_force, candidate, waiting, fleet });
    }

    /// A run has ended.
    pub(super) fn ended(&mut self, ended: &Ended<'_>) {
        let Some(pair) = self.open.remove(&ended.invocation) else { return };
        if self.is_over() {
            return;
        }
        self.runs += 1;
        self.agreed += u32::from(pair.in_force == pair.candidate);
        self.in_force += cost(pair.in_force, &pair, ended, self.threshold);
        self.of_candidate += cost(pair.candidate, &pair, ended, self.threshold);
    }

    fn is_over(&self) -> bool {
        self.runs >= self.wanted
    }

    fn answers(&self) -> bool {
        self.unanswered <= self.unanswered_in_force.saturating_add((self.asked / 100).max(1))
    }

    /// How it ended; `None` while it goes on.
    pub fn verdict(&self) -> Option<Verdict> {
        self.is_over().then(|| Verdict {
            runs: self.runs,
            asked: self.asked,
            unanswered: self.unanswered,
            unanswered_in_force: self.unanswered_in_force,
            agreed: self.agreed,
            in_force: self.in_force / u64::from(self.runs),
            candidate: self.of_candidate / u64::from(self.runs),
            answers: self.answers(),
            is_not_worse: self.of_candidate <= self.in_force && self.answers(),
        })
    }
}

/// What a run that went like this one would have cost with this booking, in thousandths of its time with its reservation: what it
/// takes, more than its share where that is longer, and a rent for what is held while others wait.
fn cost(booked: Resources, pair: &Pair, ended: &Ended<'_>, threshold: u32) -> u64 {
    let reserved = ended.reservation;
    let needs = wanted_cpu(ended.duration, &ended.usage).min(reserved.cpu);
    let alone = lasts(ended.duration, &ended.usage, reserved.cpu).max(Span(1));
    // Who left too much has it back by the safeguard, a sample late.
    let mut takes = lasts(ended.duration, &ended.usage, booked.cpu.max(reserved.cpu));
    if booked.cpu < needs {
        takes += SAMPLE.scaled((needs - booked.cpu).0.into(), needs.0.into());
    }
    let mut slow = permille(takes, alone).min(SLOWEST);
    if starves(booked, ended) {
        slow += STARVED;
    }
    let is_given_back = u64::from(needs.0) * 1_000 >= u64::from(booked.cpu.0) * u64::from(threshold);
    let held = if is_given_back { booked.cpu.max(reserved.cpu) } else { booked.cpu };
    let share = takes.scaled(held.0.into(), pair.fleet.0.max(1).into());
    let share = permille(share, alone.max(SHORTEST) + ended.waited).min(1_000_000);
    let rent = (u64::from(pair.waiting) * WAITING * share / 1_000).min(RENT_MOST);
    slow + HARM * slow.saturating_sub(1_000) + rent
}

fn starves(booked: Resources, ended: &Ended<'_>) -> bool {
    let lent = booked.memory < ended.reservation.memory;
    let too_little = booked.memory < ended.usage.memory_peak
        || ended.starved && booked.memory <= ended.grant.booked.memory;
    lent && too_little
}

fn permille(part: Span, whole: Span) -> u64 {
    Span(1_000).scaled(part.as_micros(), whole.as_micros().max(1)).as_micros()
}

/// How long a run takes with this much CPU that went like this: what was not computing stays as it was, and computing is as fast as
/// what it has or can use.
fn lasts(duration: Span, usage: &Usage, has: MilliCores) -> Span {
    let wall = duration.as_micros().max(1);
    let mean = u128::from(usage.cpu_time.as_micros()) * 1_000 / u128::from(wall);
    let reached = usage.cpu_peak.max(MilliCores(u32::try_from(mean).unwrap_or(u32::MAX))).max(MilliCores(1));
    let work = usage.cpu_time;
    let computing = work.scaled(1_000, reached.0.into()).min(duration);
    let speed = wanted_cpu(duration, usage).min(has).max(MilliCores(1));
    duration - computing + work.scaled(1_000, speed.0.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::Profile;
    use vocabulary::{Grant, Mebibytes};

    const PAIR: Pair =
        Pair { in_force: Resources::ZERO, candidate: Resources::ZERO, waiting: 0, fleet: MilliCores(8_000) };

    /// A second of two cores, and a second of waiting for somebody else, with two cores reserved.
    fn ended(profile: &Profile) -> Ended<'_> {
        Ended {
            duration: Span::seconds(2),
            usage: Usage {
                cpu_time: Span::seconds(2),
                cpu_peak: MilliCores(2_000),
                memory_peak: Mebibytes(200),
                ..Usage::default()
            },
            ..Ended::new(Resources::new(2_000, 512), profile)
        }
    }

    fn costs(booked: Resources, waiting: u32, ended: &Ended<'_>) -> u64 {
        cost(booked, &Pair { waiting, ..PAIR }, ended, 800)
    }

    #[test]
    fn a_booking_costs_what_the_run_would_have_taken_and_what_it_keeps_from_others() {
        let profile = Profile::default();
        let ended = ended(&profile);
        assert_eq!(costs(Resources::new(2_000, 512), 0, &ended), 1_000, "its time with its reservation");
        // It could not use more than two cores, so more only costs others.
        assert_eq!(costs(Resources::new(4_000, 512), 0, &ended), 1_000);
        let own = costs(Resources::new(2_000, 512), 10, &ended);
        let wide = costs(Resources::new(4_000, 512), 10, &ended);
        assert!(own > 1_000 && wide > own, "{own}, {wide}");
        // Half of what it needs: given back after a sample, which is a little late, and then held as well.
        let half = costs(Resources::new(1_000, 512), 0, &ended);
        assert!((1_001..1_100).contains(&half), "{half}");
        // Enough memory costs nothing, too little a second run.
        assert_eq!(costs(Resources::new(2_000, 256), 0, &ended), 1_000);
        assert!(costs(Resources::new(2_000, 128), 0, &ended) > 10_000);
    }

    #[test]
    fn one_that_was_held_back_would_have_been_faster_with_more() {
        let profile = Profile::default();
        let mut ended = ended(&profile);
        ended.usage.throttled = Span::seconds(2);
        let wide = costs(Resources::new(4_000, 512), 0, &ended);
        assert!(wide < 1_000, "{wide}");
    }

    #[test]
    fn what_nobody_can_measure_costs_something_all_the_same() {
        let profile = Profile::default();
        for duration in [Span::ZERO, Span::FOREVER] {
            for cpu_time in [Span::ZERO, Span::FOREVER] {
                let mut ended = ended(&profile);
                ended.duration = duration;
                ended.usage = Usage { cpu_time, throttled: Span::FOREVER, ..ended.usage };
                for booked in [Resources::ZERO, Resources::new(u32::MAX, u32::MAX)] {
                    let _ = costs(booked, u32::MAX, &ended);
                }
            }
        }
    }

    #[test]
    fn a_starved_run_starves_whoever_would_have_left_it_no_more() {
        let profile = Profile::default();
        let mut ended = ended(&profile);
        ended.starved = true;
        ended.grant = Grant::fixed(Resources::new(2_000, 256));
        assert!(costs(Resources::new(2_000, 256), 0, &ended) > 10_000);
        assert_eq!(costs(Resources::new(2_000, 512), 0, &ended), 1_000);
    }
}
