//! What comes of a strategy: what stays on harvest VMs, and what is lost there.
//!
//! **Knows:** invocations in order, and the true rate of evictions.
//! **Promises:** each invocation is assigned by what was learned before it, first and second run alike, by the strategies of `policies`
//! that run in production. What is counted is linear in the invocations, so that the mean over all choices of which functions must
//! not run twice is exact, without drawing any.
//! **Gives up:** when in its run an invocation is hit: a second run is judged as one that had outlasted the notice.

use std::ops::{AddAssign, Mul};

use policies::dispatch::Settings;
use policies::reliability::{self, Case, GRACE, Hazard, Rate, Reliability, Tails};
use vocabulary::{FunctionCard, FunctionId, OnEviction, Resources, Revision, Span, VmKind};

use super::traffic::{Cost, LONGEST_S, Traffic};

/// A hundred times as many evictions as SOSP'21 measured: a mean life of 61.5 days made 14.76 hours.
const LIFE: Span = Span::seconds(53_136);

/// No run of an application's functions is allowed to take longer.
const TIMEOUT: Span = Span::seconds(3_600);

/// Which functions must not run twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Never {
    /// Those of every tenth application, by its number.
    Tenth,
    /// Those of one application in ten: the mean over all choices.
    OneInTen,
    /// All.
    All,
}

impl Never {
    /// In the order of [`Played::outcomes`].
    pub const EACH: [Self; 3] = [Self::Tenth, Self::OneInTen, Self::All];
}

/// What came of a strategy.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Outcome {
    /// Share of computation that is assigned to harvest VMs, in per cent.
    pub share: f64,
    /// The same, less what second runs take to regular VMs.
    pub kept: f64,
    /// Share of invocations that are lost where nothing is run again.
    pub hit: f64,
    /// Share of invocations that are lost for good where what may run again does, once, on the same kind of VM.
    pub lost: f64,
    /// Share of invocations that this house loses: it runs again what may run again, where the strategy wants it then, until it has lost
    /// as many attempts as a Controller allows.
    pub lost_here: f64,
    /// Share of computation on harvest VMs that is in vain, at most: all of a run that is hit.
    pub wasted: f64,
}

/// What came of some strategies on some invocations.
pub struct Played {
    /// For each strategy, for each of [`Never::EACH`].
    pub outcomes: Vec<[Outcome; 3]>,
    /// Share of computation of the applications that must not run twice under [`Never::Tenth`], in per cent.
    pub tenth: f64,
}

/// Plays the strategies of these names.
pub fn play(names: &[&str], traffic: &Traffic) -> Played {
    let strategies: Vec<_> =
        names.iter().map(|name| reliability::by_name(name).expect("a listed strategy")).collect();
    let mut tails = vec![Tails::default(); traffic.apps as usize];
    let evictions = seen_in_a_while();
    let mut sums = vec![[Sums::default(); 3]; strategies.len()];
    let (mut all, mut tenth, mut calls) = (0.0, 0.0, 0_u64);
    for (at, &(app, seconds)) in traffic.calls.iter().enumerate() {
        if at >= traffic.learned {
            let cost = traffic.cost(app, seconds);
            let of_a_tenth = app.is_multiple_of(10);
            (all, calls) = (all + cost.seconds, calls + 1);
            tenth += if of_a_tenth { cost.seconds } else { 0.0 };
            let cards = [OnEviction::Rerun, OnEviction::Never].map(|on_eviction| card(app, on_eviction));
            let application = &tails[app as usize];
            for (strategy, sums) in strategies.iter().zip(&mut sums) {
                let [may, must_not] = cards.each_ref().map(|function| {
                    let case = Case { function, application, ran: Span::ZERO, evictions };
                    counted(strategy.as_ref(), case, cost)
                });
                sums[0] += if of_a_tenth { must_not } else { may };
                sums[1] += may * 0.9;
                sums[1] += must_not * 0.1;
                sums[2] += must_not;
            }
        }
        tails[app as usize].learn(Span((f64::from(seconds) * 1e6) as u64));
    }
    let (all, calls) = (f64::max(all, 1e-9), calls.max(1) as f64);
    let outcomes = sums.iter().map(|sums| sums.map(|sums| sums.outcome(all, calls))).collect();
    Played { outcomes, tenth: 100.0 * tenth / all }
}

/// The rate of evictions as a fleet has shown it in a while.
fn seen_in_a_while() -> Rate {
    let mut hazard = Hazard::new(Span::seconds(24 * 3_600));
    for _ in 0..200 {
        hazard.watched(Span::ZERO, LIFE);
        hazard.evicted(LIFE);
    }
    hazard.overall()
}

fn card(app: u32, on_eviction: OnEviction) -> FunctionCard {
    FunctionCard {
        id: FunctionId(u64::from(app) + 1),
        revision: Revision(1),
        reservation: Resources::new(1_000, 256),
        timeout: TIMEOUT,
        on_eviction,
        application: None,
    }
}

/// What one invocation adds, in seconds and in invocations.
fn counted(strategy: &dyn Reliability, case: Case<'_>, cost: Cost) -> Sums {
    if strategy.kinds(case).first() != VmKind::Harvest {
        return Sums::default();
    }
    let truth = Rate::once_in(LIFE).0 as f64 / 1e9;
    let hit = truth * cost.excess;
    let in_vain = truth * cost.excess_seconds;
    let once = Sums { on_harvest: cost.seconds, hit, lost: hit, lost_here: hit, in_vain, moved: 0.0 };
    if cost.excess <= 0.0 || case.function.on_eviction == OnEviction::Never {
        return once;
    }
    let twice = Sums { lost: truth * truth * cost.excess_squared, ..once };
    match strategy.kinds(Case { ran: GRACE, ..case }).first() {
        VmKind::Regular => Sums { lost_here: 0.0, moved: in_vain, ..twice },
        // At most: as if each were as long as the longest.
        VmKind::Harvest => {
            let again = Settings::default().attempts_limit - 1;
            Sums { lost_here: hit * (truth * (LONGEST_S - GRACE.as_seconds())).powi(again as i32), ..twice }
        }
    }
}

/// Sums over invocations.
#[derive(Debug, Clone, Copy, Default)]
struct Sums {
    on_harvest: f64,
    hit: f64,
    lost: f64,
    lost_here: f64,
    in_vain: f64,
    /// What second runs take to regular VMs.
    moved: f64,
}

impl Sums {
    fn outcome(&self, all: f64, calls: f64) -> Outcome {
        Outcome {
            share: 100.0 * self.on_harvest / all,
            kept: 100.0 * (self.on_harvest - self.moved) / all,
            hit: self.hit / calls,
            lost: self.lost / calls,
            lost_here: self.lost_here / calls,
            wasted: self.in_vain / f64::max(self.on_harvest, 1e-9),
        }
    }
}

impl AddAssign for Sums {
    fn add_assign(&mut self, other: Self) {
        self.on_harvest += other.on_harvest;
        self.hit += other.hit;
        self.lost += other.lost;
        self.lost_here += other.lost_here;
        self.in_vain += other.in_vain;
        self.moved += other.moved;
    }
}

impl Mul<f64> for Sums {
    type Output = Self;
    fn mul(self, factor: f64) -> Self {
        Self {
            on_harvest: self.on_harvest * factor,
            hit: self.hit * factor,
            lost: self.lost * factor,
            lost_here: self.lost_here * factor,
            in_vain: self.in_vain * factor,
            moved: self.moved * factor,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two applications of which each invocation takes so many seconds.
    fn traffic(seconds: [f32; 2]) -> Traffic {
        let calls = (0..200_u32).map(|call| (call % 2, seconds[(call % 2) as usize])).collect();
        Traffic { apps: 2, calls, learned: 100, note: String::new(), expected: Vec::new() }
    }

    const NAMES: [&str; 4] = ["no-failure", "live-and-let-die", "expected-loss(0.1)", "expected-loss(0)"];

    /// An invocation of 561.36 s is hit in one case of a hundred: its excess is a hundredth of a VM's life.
    const LONG: f32 = 561.36;

    fn about(value: f64, expected: f64) {
        assert!((value - expected).abs() <= expected.abs() * 1e-3 + 1e-12, "{value}, expected {expected}");
    }

    #[test]
    fn what_may_run_twice_is_hit_once_in_a_hundred_and_lost_once_in_ten_thousand_or_never() {
        // Application 0 is a tenth one and short.
        let Played { outcomes, tenth } = play(&NAMES, &traffic([10.0, LONG]));
        about(tenth, 100.0 * 10.0 / 571.36);
        let [none, all, ours, _] = outcomes.as_slice() else { panic!("four") };
        let [none, all, ours] = [none[0], all[0], ours[0]];
        about(none.share, 100.0 * 10.0 / 571.36);
        assert_eq!((none.hit, none.lost_here), (0.0, 0.0));
        about(all.share, 100.0);
        // Of two invocations one is long.
        about(all.hit, 0.5e-2);
        about(all.lost, 0.5e-4);
        assert!(all.lost_here < 1e-12, "ten attempts are not lost: {all:?}");
        about(all.kept, 100.0);
        about(ours.share, 100.0);
        assert_eq!(ours.lost_here, 0.0, "its second run is on a regular VM");
        about(ours.kept, 100.0 - 100.0 * 5.6136 / 571.36);
    }

    #[test]
    fn what_must_not_run_twice_is_lost_or_stays_on_regular_vms_and_one_in_ten_is_the_mean_of_both() {
        let Played { outcomes, .. } = play(&NAMES, &traffic([LONG, 10.0]));
        let [_, all, ours, strict] = outcomes.as_slice() else { panic!("four") };
        about(all[0].lost_here, 0.5e-2);
        about(ours[0].share, 100.0 * 10.0 / 571.36);
        assert_eq!((ours[0].lost_here, strict[2].lost_here), (0.0, 0.0));
        about(strict[1].share, 90.0 + 10.0 * 10.0 / 571.36);
        about(all[1].lost_here, 0.1 * 0.5e-2);
        about(all[1].share, 100.0);
    }
}
