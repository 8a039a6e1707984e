//! A training, from its first house to its last.
//!
//! **Knows:** what is wanted, the constants, a seed.
//! **Promises:** the same [`Plan`] gives the same pupil, whatever the number of threads and however often it was broken off and
//! resumed; at set intervals the pupil is examined, always in the same houses, which are none of those it learns in.
//! **Gives up:** choosing among seeds; who trains several takes the one that is best in the [final](School::finally) examination.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use models::features::FeatureSet;
use policies::allocation::Allocator;
use policies::residency::Lending;
use serde::{Deserialize, Serialize};
use simulator::House;

use crate::chance::Chance;
use crate::course;
use crate::episode::{Allocators, Goals, Pupil, Score, Step, Watched};
use crate::ppo::{Lesson, Method, Optimisers, learn};
use crate::replay::Recorded;
use crate::{Mlp, allocators};

/// Which allocator is trained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// `policies::allocation::learned` with our features.
    Learned,
    /// `policies::allocation::freyr` with Freyr's eleven features.
    Freyr,
}

impl Kind {
    /// For files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Learned => "learned",
            Self::Freyr => "freyr",
        }
    }

    /// The features that its models are shown.
    pub fn features(self) -> &'static FeatureSet {
        match self {
            Self::Learned => &models::features::OURS,
            Self::Freyr => &models::features::FREYR,
        }
    }

    /// Makes one with a chooser.
    pub fn allocators(self) -> Allocators {
        match self {
            Self::Learned => allocators::learned,
            Self::Freyr => allocators::freyr,
        }
    }
}

/// Everything that makes one training differ from another.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// What is trained.
    pub kind: Kind,
    /// All chance.
    pub seed: u64,
    /// Lessons.
    pub iterations: u32,
    /// Houses to a lesson.
    pub houses: u32,
    /// An examination after so many lessons.
    pub examined_every: u32,
    /// Houses of the examination.
    pub examination: u32,
    /// Houses of the final examination. Who was best in one of twenty examinations in 24 houses was lucky, too: what three pupils were ahead of
    /// `profile` there was gone in 240.
    pub final_examination: u32,
    /// What is wanted.
    pub goals: Goals,
    /// How it is learned.
    pub method: Method,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            kind: Kind::Learned,
            seed: 1,
            iterations: 200,
            houses: 32,
            examined_every: 10,
            examination: 24,
            final_examination: 240,
            goals: Goals::default(),
            method: Method::default(),
        }
    }
}

impl Plan {
    fn to_be_final(&self) -> Self {
        Self { examination: self.final_examination, ..self.clone() }
    }
}

/// A point of the learning curve.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// After so many lessons.
    pub iteration: u32,
    /// What a run brought on average in the houses of the examination, by the goals; see [`Score`].
    pub examined: f64,
    /// What the last lesson showed.
    pub lesson: Lesson,
    /// Decisions learned from so far.
    pub decisions: u64,
}

/// A training as it stands: what is kept to resume it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct School {
    /// What was planned.
    pub plan: Plan,
    /// Lessons that were taken.
    pub iteration: u32,
    /// The pupil as it is,
    pub pupil: Pupil,
    /// and as it was when it was best in an examination.
    pub best: Pupil,
    /// What it had brought then.
    pub best_examined: f64,
    /// The curve so far.
    pub curve: Vec<Point>,
    optimisers: Optimisers,
    decisions: u64,
}

/// Where lessons are taken, and examinations.
#[derive(Debug, Clone)]
pub enum Course {
    /// In houses that nobody has ([`course`]).
    Drawn,
    /// In those of a cluster's record, every second lesson's house a drawn one, so that what was learned before is not forgotten.
    /// Examined is in later parts of the record only.
    Recorded(Arc<Recorded>),
    /// In more drawn houses, which no examination before had: only to be examined in.
    Final,
}

impl Course {
    fn lesson(&self, place: usize, seed: u64, allocator: Box<dyn Allocator>) -> House {
        match self {
            Self::Recorded(recorded) if place.is_multiple_of(2) => recorded.house(seed, false, allocator),
            _ => course::house(seed, allocator),
        }
    }

    fn examination(&self, place: usize, allocator: Box<dyn Allocator>) -> House {
        let seed = EXAMINATION + place as u64;
        match self {
            Self::Recorded(recorded) => recorded.house(seed, true, allocator),
            Self::Drawn => course::house(seed, allocator),
            Self::Final => course::house(seed + FINAL, allocator),
        }
    }
}

/// Every lesson's house is played a second time, by this allocator: a choice is as good as its call fared better than there.
const HEURISTIC: &str = "profile";

/// Far from the seeds of lessons.
const EXAMINATION: u64 = 1 << 60;
/// Far from those of examinations.
const FINAL: u64 = 1 << 59;

impl School {
    /// Before the first lesson.
    pub fn new(plan: Plan) -> Self {
        let width = plan.kind.features().len();
        let pupil = Pupil {
            actor: Mlp::seeded(&[width, 32, 16, 1], plan.seed).with_small_output(),
            critic: Mlp::seeded(&[width, 32, 16, 1], plan.seed ^ (1 << 40)).with_small_output(),
            unit: 0.0,
        };
        Self {
            iteration: 0,
            best: pupil.clone(),
            best_examined: f64::NEG_INFINITY,
            curve: Vec::new(),
            optimisers: Optimisers::new(&pupil, &plan.method),
            pupil,
            decisions: 0,
            plan,
        }
    }

    /// Before the first lesson of a network that has learned before, already examined: whatever follows must be better to be the best.
    pub fn of(plan: Plan, network: Mlp, course: &Course, threads: usize) -> Self {
        let mut school = Self::new(plan);
        school.pupil.actor = network;
        school.best = school.pupil.clone();
        school.optimisers = Optimisers::new(&school.pupil, &school.plan.method);
        school.best_examined = school.examined(&school.pupil, course, threads);
        school
    }

    /// Whether there are no more lessons.
    pub fn is_over(&self) -> bool {
        self.iteration >= self.plan.iterations
    }

    /// One lesson in drawn houses, and an examination where one is due.
    pub fn go_on(&mut self, threads: usize) -> Option<Point> {
        self.go_on_in(&Course::Drawn, threads)
    }

    /// One lesson, and an examination where one is due.
    pub fn go_on_in(&mut self, course: &Course, threads: usize) -> Option<Point> {
        if self.is_over() {
            return None;
        }
        let pupil = Arc::new(self.pupil.clone());
        let plan = &self.plan;
        let episodes = together(plan.houses as usize, threads, |place| {
            let number = u64::from(self.iteration) * u64::from(plan.houses) + place as u64;
            let seed = Chance::one_of_many(plan.seed, number).draw() >> 4;
            let chance = Some(Chance::one_of_many(seed, 7));
            let set = plan.kind.features();
            let (usual, allocator) = usual(HEURISTIC).expect("there is a heuristic");
            let _ = simulator::play(course.lesson(place, seed, allocator));
            let (watched, allocator) = Watched::pupil(pupil.clone(), set, plan.kind.allocators(), chance);
            let _ = simulator::play(course.lesson(place, seed, allocator));
            watched.steps(&plan.goals, &usual.brought(&plan.goals))
        });
        let steps: Vec<Step> = episodes.into_iter().flatten().collect();
        let done = self.iteration as f32 / plan.iterations.max(1) as f32;
        let mut chance = Chance::one_of_many(plan.seed ^ (1 << 50), self.iteration.into());
        let lesson = learn(&mut self.pupil, &mut self.optimisers, &steps, &plan.method, done, &mut chance);
        self.iteration += 1;
        self.decisions += steps.len() as u64;
        let due = self.iteration.is_multiple_of(self.plan.examined_every.max(1)) || self.is_over();
        if !due {
            return None;
        }
        let examined = self.examined(&self.pupil, course, threads);
        if examined > self.best_examined {
            (self.best, self.best_examined) = (self.pupil.clone(), examined);
        }
        let point = Point { iteration: self.iteration, examined, lesson, decisions: self.decisions };
        self.curve.push(point);
        Some(point)
    }

    /// What the best one brings in houses that no examination before had.
    pub fn finally(&self, threads: usize) -> f64 {
        let plan = self.plan.to_be_final();
        Self::examined_by(&plan, &self.best, &Course::Final, threads)
    }

    fn examined(&self, pupil: &Pupil, course: &Course, threads: usize) -> f64 {
        Self::examined_by(&self.plan, pupil, course, threads)
    }

    fn examined_by(plan: &Plan, pupil: &Pupil, course: &Course, threads: usize) -> f64 {
        let pupil = Arc::new(pupil.clone());
        let kind = plan.kind;
        examine_in(course, plan, threads, || {
            Watched::pupil(pupil.clone(), kind.features(), kind.allocators(), None)
        })
    }
}

/// What a run brings on average in drawn houses of the examination, with allocators that are made for each.
pub fn examine(plan: &Plan, threads: usize, make: impl Fn() -> (Watched, Box<dyn Allocator>) + Sync) -> f64 {
    examine_in(&Course::Drawn, plan, threads, make)
}

fn examine_in(
    course: &Course,
    plan: &Plan,
    threads: usize,
    make: impl Fn() -> (Watched, Box<dyn Allocator>) + Sync,
) -> f64 {
    let scores: Vec<Score> = together(plan.examination as usize, threads, |place| {
        let (watched, allocator) = make();
        let _ = simulator::play(course.examination(place, allocator));
        watched.score(&plan.goals)
    });
    // Each house counts alike, or the largest would decide.
    let means = scores.iter().map(|score| score.good / f64::from(score.runs.max(1)));
    means.sum::<f64>() / scores.len().max(1) as f64
}

/// The same for one of `policies::allocation::NAMES`.
pub fn examine_named(plan: &Plan, threads: usize, name: &str) -> Option<f64> {
    examine_named_in(&Course::Drawn, plan, threads, name)
}

/// The same in the final examination.
pub fn examine_named_finally(plan: &Plan, threads: usize, name: &str) -> Option<f64> {
    examine_named_in(&Course::Final, &plan.to_be_final(), threads, name)
}

/// The same where lessons are taken elsewhere.
pub fn examine_named_in(course: &Course, plan: &Plan, threads: usize, name: &str) -> Option<f64> {
    usual(name)?;
    Some(examine_in(course, plan, threads, || usual(name).expect("it was there")))
}

/// One of `policies::allocation::NAMES`, as the houses of lessons and examinations lend.
pub(crate) fn usual(name: &str) -> Option<(Watched, Box<dyn Allocator>)> {
    let settings = policies::allocation::Settings { lending: Lending::Elastic, ..Default::default() };
    policies::allocation::by_name(name, &settings).map(Watched::other)
}

/// `count` results in order, worked out on so many threads.
fn together<T: Send>(count: usize, threads: usize, work: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let next = AtomicUsize::new(0);
    let slots: Vec<Mutex<Option<T>>> = (0..count).map(|_| Mutex::new(None)).collect();
    std::thread::scope(|scope| {
        for _ in 0..threads.clamp(1, count.max(1)) {
            scope.spawn(|| {
                while let place = next.fetch_add(1, Ordering::Relaxed)
                    && place < count
                {
                    *slots[place].lock().expect("nobody panics while holding it") = Some(work(place));
                }
            });
        }
    });
    let filled = slots.into_iter().map(|slot| slot.into_inner().expect("nobody panicked in it"));
    filled.map(|slot| slot.expect("every place was drawn")).collect()
}
