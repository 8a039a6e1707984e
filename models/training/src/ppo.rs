//! How a pupil becomes better: proximal policy optimisation (Schulman et al., 2017) with generalised advantages (2016).
//!
//! **Knows:** steps with what followed them.
//! **Promises:** equal steps, equal pupils. No single lesson moves a choice by more than the clip allows, and no single step pulls further than
//! [`Method::farthest`]. Choices stay as undecided as is planned: who decides too early takes the same option wherever it is asked.
//! **Gives up:** sharing weights between actor and critic.

use serde::{Deserialize, Serialize};

use crate::adam::Adam;
use crate::chance::Chance;
use crate::episode::{Pupil, Step, shares};
use crate::mlp::Passed;

/// Constants of the method.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Method {
    /// Step width of Adam at the beginning; falls to a tenth at the end.
    pub rate: f32,
    /// How far the likelihood of a choice may move for a lesson to count.
    pub clip: f32,
    /// How undecided choices should be in the first lesson, in nats, and in the last; evenly less in between. What undecidedness is worth
    /// follows that from lesson to lesson.
    pub undecided: (f32, f32),
    /// What undecidedness is worth in the first lesson.
    pub entropy: f32,
    /// Advantages beyond so many standard deviations count as so many: one run that was starved costs as much as hundreds gain.
    pub farthest: f32,
    /// Lambda of the advantages.
    pub lambda: f32,
    /// How often each batch is gone through.
    pub epochs: u32,
    /// Decisions to a step of Adam.
    pub minibatch: usize,
}

impl Default for Method {
    /// Freyr's clip and epochs; the rest by trial in short trainings.
    fn default() -> Self {
        Self {
            rate: 1e-3,
            clip: 0.2,
            undecided: (1.2, 0.3),
            entropy: 0.01,
            farthest: 3.0,
            lambda: 0.95,
            epochs: 4,
            minibatch: 512,
        }
    }
}

/// By how much what undecidedness is worth follows, to the power of e: a nat too few for two lessons makes it worth 2.7 times as much.
const FOLLOWS: f32 = 0.5;
/// It never becomes so little, nor so much, that it could not come back within a few lessons.
const WORTH: (f32, f32) = (1e-4, 1.0);

/// The critic goes in longer steps than the actor: what it says need not stay near to what it said.
const CRITIC: f32 = 3.0;

/// What is to be expected differs by this much, following slowly; at first at once.
fn unit(before: f32, found: &[(f32, f32)]) -> f32 {
    let count = found.len() as f32;
    let mean = found.iter().map(|&(_, expected)| expected).sum::<f32>() / count;
    let square = found.iter().map(|&(_, expected)| (expected - mean).powi(2)).sum::<f32>() / count;
    let now = square.sqrt().max(1e-3);
    if before == 0.0 { now } else { 0.95 * before + 0.05 * now }
}

/// What a lesson showed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Lesson {
    /// Mean undecidedness of the choices, in nats.
    pub entropy: f32,
    /// Mean of how much the critic was off, squared.
    pub critic_error: f32,
    /// Share of choices that moved further than the clip.
    pub clipped: f32,
}

/// What each step has brought beyond what was expected, and what was to be expected, in order; episodes one after another.
pub fn advantages(steps: &[Step], lambda: f32) -> Vec<(f32, f32)> {
    let mut found = vec![(0.0, 0.0); steps.len()];
    let mut ahead = 0.0;
    for index in (0..steps.len()).rev() {
        let step = &steps[index];
        let next = if step.keep > 0.0 { steps.get(index + 1).map_or(0.0, |next| next.value) } else { 0.0 };
        let surprise = step.reward + step.keep * next - step.value;
        ahead = surprise + step.keep * lambda * ahead;
        found[index] = (ahead, ahead + step.value);
    }
    found
}

/// The optimisers of a pupil, and what undecidedness is worth by now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Optimisers {
    actor: Adam,
    critic: Adam,
    entropy: f32,
}

impl Optimisers {
    /// Before the first lesson.
    pub fn new(pupil: &Pupil, method: &Method) -> Self {
        Self { actor: Adam::new(&pupil.actor), critic: Adam::new(&pupil.critic), entropy: method.entropy }
    }
}

/// One batch of steps, of whole episodes one after another. `done`: how far the training is, from 0 to 1.
pub fn learn(
    pupil: &mut Pupil,
    optimisers: &mut Optimisers,
    steps: &[Step],
    method: &Method,
    done: f32,
    chance: &mut Chance,
) -> Lesson {
    if steps.is_empty() {
        return Lesson::default();
    }
    let found = advantages(steps, method.lambda);
    pupil.unit = unit(pupil.unit, &found);
    let unit = pupil.unit;
    let count = found.len() as f32;
    let mean = found.iter().map(|&(advantage, _)| advantage).sum::<f32>() / count;
    let square = found.iter().map(|&(advantage, _)| (advantage - mean).powi(2)).sum::<f32>() / count;
    let deviation = square.sqrt().max(1e-6);
    let done = done.clamp(0.0, 1.0);
    let (rate, entropy) = (method.rate * (1.0 - 0.9 * done), optimisers.entropy);
    let mut order: Vec<usize> = (0..steps.len()).collect();
    let mut lesson = Lesson::default();
    let (mut actor_passed, mut critic_passed) = (Passed::default(), Passed::default());
    for _ in 0..method.epochs {
        for place in (1..order.len()).rev() {
            order.swap(place, chance.below(place + 1));
        }
        for batch in order.chunks(method.minibatch.max(1)) {
            let mut of_actor = pupil.actor.zeros_like();
            let mut of_critic = pupil.critic.zeros_like();
            let part = 1.0 / batch.len() as f32;
            for &index in batch {
                let (step, (advantage, expected)) = (&steps[index], found[index]);
                let advantage = (advantage - mean) / deviation;
                let advantage = advantage.clamp(-method.farthest, method.farthest);
                let scores = pupil.actor.forward_with(&step.vectors, &mut actor_passed);
                let shares = shares(&scores);
                let undecided: f32 = shares.iter().map(|share| -share * share.max(1e-9).ln()).sum();
                let ratio = (shares[step.action].max(1e-9).ln() - step.likely).exp();
                let moves =
                    if advantage > 0.0 { ratio <= 1.0 + method.clip } else { ratio >= 1.0 - method.clip };
                let pull = if moves { advantage * ratio } else { 0.0 };
                let grows: Vec<f32> = shares
                    .iter()
                    .enumerate()
                    .map(|(place, share)| {
                        let chosen = if place == step.action { 1.0 } else { 0.0 };
                        let spread = share * (share.max(1e-9).ln() + undecided);
                        (-pull * (chosen - share) + entropy * spread) * part
                    })
                    .collect();
                pupil.actor.backward(&actor_passed, &grows, &mut of_actor);
                let state = &step.vectors[..pupil.critic.layers()[0].inputs];
                let value = pupil.critic.forward_with(state, &mut critic_passed)[0];
                let off = value - expected / unit;
                // Smooth L1, as the released code: one that is far off does not drown the others.
                pupil.critic.backward(&critic_passed, &[off.clamp(-1.0, 1.0) * part], &mut of_critic);
                lesson.entropy += undecided;
                lesson.critic_error += off * off;
                lesson.clipped += if moves { 0.0 } else { 1.0 };
            }
            optimisers.actor.step(&mut pupil.actor, &of_actor, rate);
            optimisers.critic.step(&mut pupil.critic, &of_critic, rate * CRITIC);
        }
    }
    let all = count * method.epochs.max(1) as f32;
    let lesson = Lesson {
        entropy: lesson.entropy / all,
        critic_error: lesson.critic_error / all,
        clipped: lesson.clipped / all,
    };
    let (first, last) = method.undecided;
    let missing = first + (last - first) * done - lesson.entropy;
    optimisers.entropy = (entropy * (FOLLOWS * missing).exp()).clamp(WORTH.0, WORTH.1);
    lesson
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Mlp;
    use crate::episode::drawn;

    fn step(reward: f32, value: f32, keep: f32) -> Step {
        Step { reward, value, keep, ..Step::default() }
    }

    #[test]
    fn advantages_by_hand() {
        let steps = [step(1.0, 0.5, 0.9), step(2.0, 1.0, 0.0), step(5.0, 1.0, 0.0)];
        let found = advantages(&steps, 0.5);
        assert_eq!(found[2], (4.0, 5.0));
        assert_eq!(found[1], (1.0, 2.0), "an episode ends where nothing is kept");
        let first = 1.0 + 0.9 * 1.0 - 0.5;
        assert!((found[0].0 - (first + 0.9 * 0.5)).abs() < 1e-6);
    }

    #[test]
    fn choices_stay_as_undecided_as_is_planned() {
        let undecided_at_the_end = |planned: f32| {
            let method = Method { rate: 1e-2, undecided: (planned, planned), ..Method::default() };
            let mut pupil =
                Pupil { actor: Mlp::seeded(&[2, 8, 1], 1), critic: Mlp::seeded(&[2, 8, 1], 2), unit: 0.0 };
            let mut optimisers = Optimisers::new(&pupil, &method);
            let mut chance = Chance::new(3);
            let mut lesson = Lesson::default();
            for _ in 0..60 {
                let steps: Vec<Step> = (0..200)
                    .map(|_| {
                        let vectors: Vec<f32> = (0..10).map(|_| chance.unit()).collect();
                        let shares = shares(&pupil.actor.forward(&vectors));
                        let action = drawn(&shares, &mut chance);
                        // What an option pays is in its second feature, and in chance.
                        let reward = 4.0 * vectors[2 * action + 1] + chance.normal() as f32;
                        Step { vectors, action, likely: shares[action].ln(), reward, ..Step::default() }
                    })
                    .collect();
                lesson = learn(&mut pupil, &mut optimisers, &steps, &method, 0.0, &mut chance);
            }
            lesson.entropy
        };
        let (much, little) = (undecided_at_the_end(1.2), undecided_at_the_end(0.3));
        assert!((0.9..=1.5).contains(&much) && little < 0.8, "{much} and {little}");
    }

    #[test]
    fn a_pupil_finds_the_option_that_pays() {
        // Three options, of which the one whose second feature is highest pays; the first feature says nothing.
        let mut pupil = Pupil {
            actor: Mlp::seeded(&[2, 8, 1], 1).with_small_output(),
            critic: Mlp::seeded(&[2, 8, 1], 2),
            unit: 0.0,
        };
        let method = Method { rate: 1e-2, ..Method::default() };
        let mut optimisers = Optimisers::new(&pupil, &method);
        let mut chance = Chance::new(3);
        let mut share = 0.0;
        for round in 0..60 {
            let mut steps = Vec::new();
            share = 0.0;
            for _ in 0..200 {
                let vectors: Vec<f32> = (0..6).map(|_| chance.unit()).collect();
                let shares = shares(&pupil.actor.forward(&vectors));
                let action = drawn(&shares, &mut chance);
                let best = (0..3).max_by(|&a, &b| vectors[2 * a + 1].total_cmp(&vectors[2 * b + 1])).unwrap();
                share += if action == best { 1.0 / 200.0 } else { 0.0 };
                let value = pupil.critic.forward(&vectors[..2])[0];
                let reward = if action == best { 1.0 } else { 0.0 };
                steps.push(Step {
                    vectors,
                    action,
                    likely: shares[action].ln(),
                    value,
                    reward,
                    ..Step::default()
                });
            }
            learn(&mut pupil, &mut optimisers, &steps, &method, round as f32 / 60.0, &mut chance);
        }
        assert!(share > 0.85, "{share}");
    }
}
