//! What an allocator did in one house, and what came of it.
//!
//! **Knows:** each decision as the network saw it, when it was made, and how the run ended that it was made for.
//! **Promises:** everything is put down to the decision that it follows from: how long the run took, how long its call waited, and
//! a rent for what was booked. The rent is what the delay costs all others: who keeps a share of the fleet's cores for a
//! second delays everybody who waits by that share of a second. So a decision need not be judged by what all that come after
//! it bring, in which its own part is lost. And it is judged against what the same call brought where somebody else decided
//! ([`Watched::brought`]): most of what a run brings is the run's, not the decision's.
//! **Gives up:** runs for which there was nothing to decide. They wait, too, and that counts.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use policies::allocation::learned::{Chooser, Observation};
use policies::allocation::{Allocator, Ended, Request};
use policies::residency::Lending;
use serde::{Deserialize, Serialize};
use vocabulary::{FunctionId, Grant, Moment, Resources, Span};

use crate::Mlp;
use crate::chance::Chance;
use models::features::{Columns, FeatureSet, Shown};

/// What is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Goals {
    /// A run that takes s times what it takes alone with its reservation brings 1 - s; beyond s = 1 it costs so much more.
    pub harm: f32,
    /// A call that waits w and takes d alone costs ln(1 + w / d) times this.
    pub waiting: f32,
    /// Besides, what the decisions after it bring counts for it, those so much later by 1/e; 0: not at all.
    pub horizon_s: f32,
}

impl Default for Goals {
    fn default() -> Self {
        Self { harm: 4.0, waiting: 0.05, horizon_s: 0.0 }
    }
}

/// Slowdowns beyond this are taken for this.
const SLOWEST: f32 = 5.0;

/// One decision.
#[derive(Debug, Clone, Default)]
pub struct Step {
    /// Scaled vectors of all options.
    pub vectors: Vec<f32>,
    /// Which was taken.
    pub action: usize,
    /// The logarithm of how likely that was.
    pub likely: f32,
    /// What the critic thought would follow.
    pub value: f32,
    /// What followed until the next decision.
    pub reward: f32,
    /// How much of what follows the next decision counts here.
    pub keep: f32,
    pub(crate) at: Moment,
    pub(crate) invocation: u128,
}

#[derive(Debug, Default)]
struct Book {
    now: Moment,
    invocation: u128,
    steps: Vec<Step>,
    /// What the run takes alone with its reservation.
    alone: BTreeMap<u128, Span>,
    runs: BTreeMap<u128, Run>,
    /// CPU of the fleet.
    cores: f32,
}

/// How one went.
#[derive(Debug, Clone, Copy)]
struct Run {
    slowdown: f32,
    called: Moment,
    waited: Span,
    /// What it takes alone with its reservation.
    alone: Span,
    begun: Moment,
    ended: Moment,
    /// Cores.
    booked: f32,
}

/// Waiting is summed up in pieces of so much time.
const PIECE: Span = Span::millis(250);

/// What a second costs all who wait at that time: sums from the beginning on, one for each piece.
struct Rent(Vec<f32>);

impl Rent {
    fn of(runs: &BTreeMap<u128, Run>, goals: &Goals) -> Self {
        let last = runs.values().map(|run| run.ended.0 / PIECE.0).max().unwrap_or(0) as usize;
        let mut costs = vec![0.0_f32; last + 2];
        for run in runs.values() {
            let mut before = 0.0;
            let (first, last) = (run.called.0 / PIECE.0, (run.called + run.waited).0 / PIECE.0);
            for piece in first..=last {
                let until = Moment((piece + 1) * PIECE.0).since(run.called).min(run.waited);
                let cost = goals.of_waiting(until, run.alone);
                costs[piece as usize + 1] += cost - before;
                before = cost;
            }
        }
        for piece in 1..costs.len() {
            costs[piece] += costs[piece - 1];
        }
        Self(costs)
    }

    /// From the beginning to then.
    fn until(&self, at: Moment) -> f32 {
        let place = at.0 as f64 / PIECE.0 as f64;
        let (piece, part) = (place as usize, place.fract() as f32);
        let of = |piece: usize| self.0[piece.min(self.0.len() - 1)];
        of(piece) + part * (of(piece + 1) - of(piece))
    }
}

impl Goals {
    /// What a run brings by itself.
    fn of(&self, run: &Run) -> f32 {
        self.of_run(run.slowdown) - self.of_waiting(run.waited, run.alone)
    }

    fn of_run(&self, slowdown: f32) -> f32 {
        1.0 - slowdown - self.harm * (slowdown - 1.0).max(0.0)
    }

    fn of_waiting(&self, waited: Span, alone: Span) -> f32 {
        self.waiting * (1.0 + waited.as_seconds() / alone.as_seconds().max(0.1)).ln() as f32
    }
}

/// Networks that take lessons.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Pupil {
    /// Scores options.
    pub actor: Mlp,
    /// Says what will follow, from the vector of the first option...
    pub critic: Mlp,
    /// ...in units of this.
    pub unit: f32,
}

/// Chooses as a pupil does: by chance while it learns, the best when it is examined.
struct Sampler {
    pupil: Arc<Pupil>,
    set: &'static FeatureSet,
    columns: Columns,
    shown: Shown,
    chance: Option<Chance>,
    watched: Watched,
}

impl Chooser for Sampler {
    fn choose(&mut self, observation: &Observation, options: &[Resources]) -> Option<usize> {
        self.set.show(observation, options, &mut self.shown);
        let vectors = self.columns.scaled(&self.shown);
        let scores = self.pupil.actor.forward(&vectors);
        let Some(chance) = &mut self.chance else { return models::highest(&scores) };
        let shares = shares(&scores);
        let action = drawn(&shares, chance);
        let value = self.pupil.critic.forward(&vectors[..self.set.len()])[0] * self.pupil.unit;
        let likely = shares[action].max(1e-9).ln();
        let mut book = self.watched.book();
        let (at, invocation) = (book.now, book.invocation);
        book.steps.push(Step { vectors, action, likely, value, at, invocation, ..Step::default() });
        Some(action)
    }
}

/// A place by chance, each as likely as its share.
pub(crate) fn drawn(shares: &[f32], chance: &mut Chance) -> usize {
    let mut left = chance.unit();
    for (place, share) in shares.iter().enumerate() {
        if left < *share {
            return place;
        }
        left -= share;
    }
    shares.len() - 1
}

/// Softmax.
pub fn shares(scores: &[f32]) -> Vec<f32> {
    let most = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut shares: Vec<f32> = scores.iter().map(|score| (score - most).exp()).collect();
    let sum: f32 = shares.iter().sum();
    shares.iter_mut().for_each(|share| *share /= sum);
    shares
}

/// Writes down what an allocator is asked and told.
struct Recorder {
    inner: Box<dyn Allocator>,
    watched: Watched,
}

impl Allocator for Recorder {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    fn looks_ahead(&self) -> bool {
        self.inner.looks_ahead()
    }

    fn settles_after(&self) -> Option<u32> {
        self.inner.settles_after()
    }

    fn forget(&mut self, function: FunctionId) {
        self.inner.forget(function);
    }

    fn grant(&mut self, request: &Request<'_>) -> Grant {
        {
            let mut book = self.watched.book();
            (book.now, book.invocation) = (request.now, request.invocation.0);
            let alone = request.truth.map_or(Span::ZERO, |truth| truth.reserved);
            book.alone.insert(request.invocation.0, alone);
            book.cores = request.fleet.capacity.cpu.0 as f32 / 1e3;
        }
        self.inner.grant(request)
    }

    fn ended(&mut self, ended: &Ended<'_>) {
        {
            let mut book = self.watched.book();
            let alone = book.alone.get(&ended.invocation.0).copied().unwrap_or_default();
            if alone > Span::ZERO {
                let slowdown = ended.duration.as_micros() as f32 / alone.as_micros() as f32;
                // A run that was starved has to be done again: as if it had taken so much longer.
                let slowdown = if ended.starved { slowdown + 2.0 } else { slowdown };
                let begun = ended.now - ended.duration - ended.init;
                let booked = if ended.usage.safeguarded {
                    ended.grant.booked.cpu.max(ended.reservation.cpu)
                } else {
                    ended.grant.booked.cpu
                };
                let run = Run {
                    slowdown: slowdown.min(SLOWEST),
                    called: begun - ended.waited,
                    waited: ended.waited + ended.init,
                    alone,
                    begun,
                    ended: ended.now,
                    booked: booked.0 as f32 / 1e3,
                };
                book.runs.insert(ended.invocation.0, run);
            }
        }
        self.inner.ended(ended);
    }
}

/// A kind of allocator that asks a chooser.
pub type Allocators = fn(Box<dyn Chooser>, Lending) -> Box<dyn Allocator>;

/// One that is to be watched in a house: put its allocator in there, play, and then see its [`Watched::score`] and [`Watched::steps`].
#[derive(Clone, Default)]
pub struct Watched(Arc<Mutex<Book>>);

/// What an episode came to.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Score {
    /// Runs.
    pub runs: u32,
    /// What they brought by the goals, all together, nothing discounted.
    pub good: f64,
}

impl Watched {
    /// A pupil that learns, with its own stream of chance; without one it is examined.
    pub fn pupil(
        pupil: Arc<Pupil>,
        set: &'static FeatureSet,
        allocators: Allocators,
        chance: Option<Chance>,
    ) -> (Self, Box<dyn Allocator>) {
        let watched = Self::default();
        let (columns, shown) = (set.columns(), Shown::default());
        let chooser = Sampler { pupil, set, columns, shown, chance, watched: watched.clone() };
        // As the houses of lessons and examinations lend.
        let inner = allocators(Box::new(chooser), Lending::Elastic);
        (watched.clone(), Box::new(Recorder { inner, watched }))
    }

    /// Any other.
    pub fn other(inner: Box<dyn Allocator>) -> (Self, Box<dyn Allocator>) {
        let watched = Self::default();
        (watched.clone(), Box::new(Recorder { inner, watched }))
    }

    /// What each call has brought, less its rent, by the number of the call.
    pub fn brought(&self, goals: &Goals) -> BTreeMap<u64, f32> {
        let book = self.book();
        let rent = Rent::of(&book.runs, goals);
        let cores = book.cores.max(0.1);
        let brought = |run: &Run| {
            let rent = (rent.until(run.ended) - rent.until(run.begun)) * run.booked / cores;
            goals.of(run) - rent
        };
        book.runs.iter().map(|(&invocation, run)| (call_of(invocation), brought(run))).collect()
    }

    /// What all runs together have brought.
    pub fn score(&self, goals: &Goals) -> Score {
        let book = self.book();
        let good = book.runs.values().map(|run| f64::from(goals.of(run))).sum();
        Score { runs: book.runs.len() as u32, good }
    }

    /// The steps, each with what its call has brought beyond what it brought `elsewhere`, in an equal house where others decided.
    pub fn steps(self, goals: &Goals, elsewhere: &BTreeMap<u64, f32>) -> Vec<Step> {
        let mut brought = self.brought(goals);
        let mut steps = std::mem::take(&mut self.book().steps);
        let mut next: Option<Moment> = None;
        for step in steps.iter_mut().rev() {
            let call = call_of(step.invocation);
            let usual = elsewhere.get(&call).copied().unwrap_or_default();
            // Where it was decided again for the same invocation, the last decision was the one that counted.
            step.reward = brought.remove(&call).map_or(0.0, |brought| brought - usual);
            let gap = next.map(|next| next.since(step.at).as_seconds() as f32);
            let keeps = goals.horizon_s > 0.0;
            step.keep = gap.filter(|_| keeps).map_or(0.0, |gap| (-gap / goals.horizon_s).exp());
            next = Some(step.at);
        }
        steps
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.0.lock().expect("nobody panics while holding it")
    }
}

/// The number of the call, which is the same in every house with the same calls; below it stands where the simulator keeps it.
fn call_of(invocation: u128) -> u64 {
    (invocation >> 32) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::school::{self, Kind};
    use crate::{Layer, allocators, course};

    /// Scores by the last feature alone, which says what `profile` would book.
    fn follower(sign: f32) -> Arc<Pupil> {
        let inputs = Kind::Learned.features().len();
        let mut weights = vec![0.0; inputs];
        weights[inputs - 1] = 100.0 * sign;
        let one =
            Mlp::of(vec![Layer { inputs, outputs: 1, weights, biases: vec![0.0] }]).expect("it is whole");
        Arc::new(Pupil { actor: one.clone(), critic: one, unit: 1.0 })
    }

    fn learned_in(house: u64, pupil: Arc<Pupil>) -> Vec<Step> {
        let (usual, allocator) = school::usual("profile").expect("there is one");
        let _ = simulator::play(course::house(house, allocator));
        let chance = Some(Chance::new(1));
        let (watched, allocator) =
            Watched::pupil(pupil, Kind::Learned.features(), allocators::learned, chance);
        let _ = simulator::play(course::house(house, allocator));
        watched.steps(&Goals::default(), &usual.brought(&Goals::default()))
    }

    #[test]
    fn who_decides_as_the_heuristic_brings_what_it_brings() {
        for house in 1..=4 {
            let steps = learned_in(house, follower(1.0));
            assert!(!steps.is_empty(), "house {house} asks nobody");
            assert!(steps.iter().all(|step| step.reward == 0.0), "house {house}");
        }
    }

    #[test]
    fn who_decides_otherwise_brings_more_or_less() {
        let steps = learned_in(1, follower(-1.0));
        assert!(steps.iter().any(|step| step.reward != 0.0), "{} steps", steps.len());
    }
}
