//! The model of the allocator `learned`, which can be another while the Controller runs.
//!
//! **Knows:** the models in the store and what became of each; which one decides here, and which one is on trial.
//! **Promises:** a model that is handed in decides beside the one in force for `controller.model_trial_runs` runs, and is taken up only if it
//! would not have cost more ([`policies::allocation::trial`]). The first Controller that has seen as many writes the verdict, and all
//! follow it. One that cannot be loaded is refused with the reason. Each end of a trial is logged and counted.
//! **Gives up:** an answer from the store while a call waits: models are looked at once a second, and loaded beside everything else.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use models::{Counts, ModelChooser, Runtime, Scorer, features};
use policies::allocation::learned::Learned;
use ractor::ActorRef;

use super::ControllerMessage;
use crate::metrics::ControllerMetrics;
use crate::settings;
use crate::store::{Compared, Models, Standing};

/// What a model is loaded for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Trial,
    Force,
}

/// One that was loaded, or why it was not.
pub struct Loaded {
    /// `None`: the file's.
    number: Option<u64>,
    purpose: Purpose,
    made: Result<(ModelChooser, Arc<Counts>), String>,
}

/// See the module.
pub(super) struct ModelInForce {
    store: Models,
    runtime: Runtime,
    file: PathBuf,
    answers_within: Duration,
    trial_runs: u32,
    metrics: Arc<ControllerMetrics>,
    /// The number in the store; `None`: the file's.
    number: Option<u64>,
    counts: Arc<Counts>,
    /// What the ones before it counted.
    past: [u64; 4],
    on_trial: Option<(u64, Arc<Counts>)>,
    loading: bool,
    settling: bool,
    /// Could not be loaded here, and is not tried again.
    unusable: Option<u64>,
}

impl ModelInForce {
    /// Of an allocator that was made with the file's model.
    pub fn new(
        counts: Arc<Counts>,
        runtime: Runtime,
        store: Models,
        settings: &settings::Controller,
        metrics: Arc<ControllerMetrics>,
    ) -> Self {
        Self {
            store,
            runtime,
            file: settings.model.clone(),
            answers_within: Duration::from_micros(settings.model_answers_within_us),
            trial_runs: settings.model_trial_runs,
            metrics,
            number: None,
            counts,
            past: [0; 4],
            on_trial: None,
            loading: false,
            settling: false,
            unusable: None,
        }
    }

    /// What all models that decided here have counted.
    pub fn counted(&self) -> [u64; 4] {
        let now = counted(&self.counts);
        std::array::from_fn(|place| self.past[place] + now[place])
    }

    /// Once a second: what has changed in the store, and whether the trial here is over.
    pub fn look(&mut self, learned: &mut Learned, me: &ActorRef<ControllerMessage>) {
        let store = self.store.clone();
        self.follow_trial(&store, learned, me);
        let in_force = store.in_force().map(|model| model.number);
        if in_force != self.number && !self.loading && (in_force.is_none() || in_force != self.unusable) {
            self.load(&store, in_force, Purpose::Force, me);
        }
        if self.on_trial.is_none()
            && !self.loading
            && !self.settling
            && let Some(candidate) = store.on_trial()
        {
            self.load(&store, Some(candidate.number), Purpose::Trial, me);
        }
        self.metrics.trial(learned.judged().unwrap_or(0));
    }

    fn follow_trial(&mut self, store: &Models, learned: &mut Learned, me: &ActorRef<ControllerMessage>) {
        let Some((number, counts)) = self.on_trial.clone() else { return };
        let standing = store.get(number).map(|model| model.standing.clone());
        match standing {
            Some(Standing::OnTrial) => {
                let Some(verdict) = learned.verdict().filter(|_| !self.settling) else { return };
                let compared = Compared {
                    runs: verdict.runs,
                    agreed: verdict.agreed,
                    unanswered: verdict.unanswered,
                    in_force: verdict.in_force,
                    candidate: verdict.candidate,
                };
                let standing = if verdict.is_not_worse {
                    Standing::Taken(Some(compared))
                } else if !verdict.answers {
                    let why = format!(
                        "it had no answer to {} of {} decisions, and the model in force to {}; the Controller's log says \
                         why, and controller.model_answers_within_us what is too late",
                        verdict.unanswered, verdict.asked, verdict.unanswered_in_force
                    );
                    Standing::Refused { why, compared: Some(compared) }
                } else {
                    let why = format!(
                        "its bookings would have cost {} and those in force {}, in thousandths of a run with its reservation",
                        verdict.candidate, verdict.in_force
                    );
                    Standing::Refused { why, compared: Some(compared) }
                };
                self.settle(number, standing, me);
            }
            Some(Standing::Taken(compared)) => {
                self.on_trial = None;
                if learned.take_up() {
                    self.is_now(Some(number), counts);
                    self.metrics.trial_ended(true);
                    tracing::info!(model = number, ?compared, "a model has stood its trial and decides now");
                }
            }
            ended => {
                self.on_trial = None;
                learned.drop_candidate();
                self.metrics.trial_ended(false);
                tracing::warn!(model = number, ?ended, "a model is not taken up");
            }
        }
    }

    fn settle(&mut self, number: u64, standing: Standing, me: &ActorRef<ControllerMessage>) {
        self.settling = true;
        let (store, me) = (self.store.clone(), me.clone());
        tokio::spawn(async move {
            // Whoever was first is heard; the watch shows what was written.
            if let Err(error) = store.settle(number, standing).await {
                tracing::warn!(%error, model = number, "what became of a model could not be written; trying again");
            }
            let _ = me.cast(ControllerMessage::ModelSettled);
        });
    }

    /// What became of one was written, or could not be: then it is tried again.
    pub fn settled(&mut self) {
        self.settling = false;
    }

    fn load(
        &mut self,
        store: &Models,
        number: Option<u64>,
        purpose: Purpose,
        me: &ActorRef<ControllerMessage>,
    ) {
        let runtime = self.runtime.clone();
        let kept = number.and_then(|number| store.get(number));
        let (file, within, me) = (self.file.clone(), self.answers_within, me.clone());
        self.loading = true;
        tokio::task::spawn_blocking(move || {
            let columns = features::OURS.columns();
            let scorer = match (&kept, number) {
                (Some(model), _) => {
                    let name = PathBuf::from(format!("model {} of the store", model.number));
                    Scorer::of_bytes(&runtime, &name, &model.bytes.0, columns)
                }
                _ => Scorer::load(&runtime, &file, columns),
            };
            let made = scorer.map_err(|error| error.to_string()).map(|scorer| {
                let counts = Arc::new(Counts::default());
                (ModelChooser::new(scorer, &features::OURS, Arc::clone(&counts), within), counts)
            });
            let _ = me.cast(ControllerMessage::ModelLoaded(Box::new(Loaded { number, purpose, made })));
        });
    }

    /// What was asked for has been loaded, or not.
    pub fn loaded(&mut self, learned: &mut Learned, loaded: Loaded, me: &ActorRef<ControllerMessage>) {
        self.loading = false;
        let Loaded { number, purpose, made } = loaded;
        match (purpose, made) {
            (Purpose::Trial, Ok((chooser, counts))) => {
                let Some(number) = number else { return };
                learned.try_out(Box::new(chooser), self.trial_runs);
                self.on_trial = Some((number, counts));
                tracing::info!(
                    model = number,
                    runs = self.trial_runs,
                    "a model decides beside the one in force"
                );
            }
            (Purpose::Trial, Err(why)) => {
                let Some(number) = number else { return };
                tracing::error!(model = number, why, "a model is refused");
                self.metrics.trial_ended(false);
                self.settle(number, Standing::Refused { why, compared: None }, me);
            }
            (Purpose::Force, Ok((chooser, counts))) => {
                learned.replace(Box::new(chooser));
                self.is_now(number, counts);
                tracing::info!(model = ?number, "another model decides now");
            }
            (Purpose::Force, Err(why)) => {
                self.unusable = number;
                tracing::error!(model = ?number, why, "a model that was taken up cannot be loaded here");
            }
        }
    }

    fn is_now(&mut self, number: Option<u64>, counts: Arc<Counts>) {
        self.past = self.counted();
        self.counts = counts;
        self.number = number;
        self.metrics.model_in_force(number.unwrap_or(0));
    }
}

fn counted(counts: &Counts) -> [u64; 4] {
    let Counts { answered, not_a_number, slow, failed } = counts;
    [answered, not_a_number, slow, failed].map(|count| count.load(Ordering::Relaxed))
}
