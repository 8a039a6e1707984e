//! Callers who call again and again while something happens to the cluster, and what became of every call.
//!
//! **Promises:** whatever was sent is accounted for: answered, refused or broken off, by its own mark.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::StreamExt;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::{Cluster, Http, NatsAnswer, NatsDoor, PATIENCE, eventually};

/// By which door.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Through {
    /// Blocking, by HTTP.
    Http,
    /// Request-reply, by NATS.
    Nats,
    /// A durable submission by NATS, whose answer goes to a subject of ours.
    Durable,
}

/// What became of one call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// Answered with this status text, under this id, with the mark that was sent.
    Answered {
        /// The invocation.
        id: String,
        /// `success`, ...
        status: String,
        /// Whether the result is that of this very call.
        is_own: bool,
    },
    /// A durable submission that JetStream has acknowledged.
    Accepted {
        /// The invocation.
        id: String,
    },
    /// Refused with a reason, before anything was accepted.
    Refused(String),
    /// The connection broke, so that nobody knows.
    Broken(String),
}

/// Callers at work.
pub struct Load {
    stop: Arc<AtomicBool>,
    ended: Arc<AtomicUsize>,
    callers: Vec<JoinHandle<Vec<Fate>>>,
    durable: Arc<Mutex<BTreeMap<String, usize>>>,
    listener: JoinHandle<()>,
    function: String,
}

/// What became of all calls.
#[derive(Debug)]
pub struct Done {
    /// One for each call.
    pub fates: Vec<Fate>,
    /// How many answers came for each durable submission.
    pub durable_answers: BTreeMap<String, usize>,
    function: String,
}

impl Load {
    /// So many callers by each door call `function`, one call after the other. Each call is marked, so that an
    /// answer which is another's is noticed.
    pub async fn start(
        cluster: &Cluster,
        function: &str,
        argument: Value,
        callers: &[(Through, usize)],
    ) -> Self {
        Self::at(cluster, std::slice::from_ref(&cluster.http), function, argument, callers).await
    }

    /// The same, with the HTTP callers spread over several doors.
    pub async fn at(
        cluster: &Cluster,
        doors: &[Http],
        function: &str,
        argument: Value,
        callers: &[(Through, usize)],
    ) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let ended = Arc::new(AtomicUsize::new(0));
        let durable: Arc<Mutex<BTreeMap<String, usize>>> = Arc::default();
        let nats = cluster.nats().await;
        let reply_to = format!("windfall.reply.guest.load-{function}");
        let mut answers = nats.client.subscribe(reply_to.clone()).await.expect("subscribed");
        nats.client.flush().await.expect("flushed");
        let heard = Arc::clone(&durable);
        let listener = tokio::spawn(async move {
            while let Some(message) = answers.next().await {
                let id = NatsAnswer::of(&message).id;
                *heard.lock().expect("nobody panics holding this").entry(id).or_default() += 1;
            }
        });
        let mut tasks = Vec::new();
        for (through, count) in callers {
            for _ in 0..*count {
                let number = tasks.len();
                let caller = Caller {
                    number,
                    http: doors[number % doors.len()].clone(),
                    nats: nats.clone(),
                    function: function.to_owned(),
                    argument: argument.clone(),
                    reply_to: reply_to.clone(),
                };
                let (stop, ended, through) = (Arc::clone(&stop), Arc::clone(&ended), *through);
                tasks.push(tokio::spawn(async move {
                    let mut fates = Vec::new();
                    while !stop.load(Ordering::Relaxed) {
                        let fate = caller.call(through, fates.len()).await;
                        if !matches!(fate, Fate::Answered { .. }) {
                            // Whoever is told to try again later does so later.
                            tokio::time::sleep(Duration::from_millis(200)).await;
                        }
                        fates.push(fate);
                        ended.fetch_add(1, Ordering::Relaxed);
                    }
                    fates
                }));
            }
        }
        Self { stop, ended, callers: tasks, durable, listener, function: function.to_owned() }
    }

    /// Waits until so many more calls have ended.
    pub async fn goes_on(&self, calls: usize) {
        let until = self.ended.load(Ordering::Relaxed) + calls;
        eventually("calls go on", async || self.ended.load(Ordering::Relaxed) >= until).await;
    }

    /// No new calls; waits for those that are open.
    ///
    /// # Panics
    /// When one hangs.
    pub async fn finish(self) -> Done {
        self.stop.store(true, Ordering::Relaxed);
        let mut fates = Vec::new();
        for caller in self.callers {
            let ended = tokio::time::timeout(PATIENCE, caller).await;
            fates.extend(ended.expect("a caller hangs").expect("no panic"));
        }
        // Every durable submission that was accepted is answered, too.
        let accepted = fates.iter().filter(|fate| matches!(fate, Fate::Accepted { .. })).count();
        let until = std::time::Instant::now() + PATIENCE;
        while self.durable.lock().expect("nobody panics holding this").len() < accepted
            && std::time::Instant::now() < until
        {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        self.listener.abort();
        let durable_answers = self.durable.lock().expect("nobody panics holding this").clone();
        Done { fates, durable_answers, function: self.function }
    }
}

struct Caller {
    number: usize,
    http: Http,
    nats: NatsDoor,
    function: String,
    argument: Value,
    reply_to: String,
}

impl Caller {
    async fn call(&self, through: Through, count: usize) -> Fate {
        let mark = json!(format!("{}-{count}", self.number));
        let mut argument = self.argument.clone();
        argument["mark"] = mark.clone();
        match through {
            Through::Http => self.by_http(&argument).await,
            Through::Nats => match self.nats.call(&self.function, &argument).await {
                Ok(answer) if answer.status == "refused" => {
                    Fate::Refused(format!("{}: {}", answer.code, String::from_utf8_lossy(&answer.body)))
                }
                Ok(answer) => Fate::Answered {
                    is_own: answer.json()["mark"] == mark,
                    id: answer.id,
                    status: answer.status,
                },
                Err(error) => Fate::Broken(error.to_string()),
            },
            Through::Durable => self.durably(&argument).await,
        }
    }

    async fn by_http(&self, argument: &Value) -> Fate {
        let path = format!("/api/v1/namespaces/_/actions/{}?blocking=true", self.function);
        let json = [("content-type", "application/json")];
        match self.http.send("POST", &path, &json, argument.to_string()).await {
            Ok(reply) if matches!(reply.status, 429 | 503) => {
                Fate::Refused(format!("{}: {}", reply.status, reply.error()))
            }
            Ok(reply) => {
                let answer = reply.json();
                let response = &answer["response"];
                Fate::Answered {
                    id: answer["activationId"].as_str().unwrap_or_default().to_owned(),
                    status: response["status"].as_str().unwrap_or_default().to_owned(),
                    is_own: response["result"]["mark"] == argument["mark"],
                }
            }
            Err(error) => Fate::Broken(format!("{error:?}")),
        }
    }

    async fn durably(&self, argument: &Value) -> Fate {
        let mut chance = [0; 16];
        getrandom::fill(&mut chance).expect("chance");
        let id = format!("{:032x}", u128::from_be_bytes(chance));
        let headers = [("Windfall-Invocation", id.as_str()), ("Windfall-Reply-To", self.reply_to.as_str())];
        match self.nats.submit(&self.function, &headers, argument).await {
            Ok(()) => Fate::Accepted { id },
            Err(error) => Fate::Broken(error),
        }
    }
}

impl Done {
    /// Ids of everything that was answered or accepted.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.fates.iter().filter_map(|fate| match fate {
            Fate::Answered { id, .. } | Fate::Accepted { id } => Some(id.as_str()),
            _ => None,
        })
    }

    /// How many calls had no answer.
    pub fn broken(&self) -> usize {
        self.fates.iter().filter(|fate| matches!(fate, Fate::Broken(_))).count()
    }

    /// Every call was answered, once, with its own result and success; every accepted submission was answered, too;
    /// and each has one record.
    pub async fn all_were_answered_once_with_success(&self, cluster: &Cluster) {
        for fate in &self.fates {
            let is_fine = match fate {
                Fate::Answered { status, is_own, .. } => status == "success" && *is_own,
                Fate::Accepted { .. } => true,
                Fate::Refused(_) | Fate::Broken(_) => false,
            };
            assert!(is_fine, "{fate:?}");
        }
        self.each_is_accounted_for(cluster).await;
    }

    /// As [`Done::each_has_one_record`], and every accepted submission was answered on its reply subject.
    pub async fn each_is_accounted_for(&self, cluster: &Cluster) {
        for fate in &self.fates {
            if let Fate::Accepted { id } = fate {
                assert!(self.durable_answers.contains_key(id), "accepted and never answered: {id}");
            }
        }
        self.each_has_one_record(cluster).await;
    }

    /// What was answered was answered once, with its own result, and has exactly one record; so has what was accepted.
    pub async fn each_has_one_record(&self, cluster: &Cluster) {
        let ids: BTreeSet<&str> = self.ids().collect();
        assert_eq!(ids.len(), self.ids().count(), "an id was answered twice");
        for fate in &self.fates {
            if let Fate::Answered { status, is_own, .. } = fate {
                assert!(status != "success" || *is_own, "somebody else's result: {fate:?}");
            }
        }
        let known = async || cluster.http.ids_of(&self.function).await;
        eventually("everything that was answered has its record", async || {
            let known: BTreeSet<String> = known().await.into_iter().collect();
            ids.iter().all(|id| known.contains(*id))
        })
        .await;
        let known = known().await;
        let different: BTreeSet<_> = known.iter().collect();
        assert_eq!(different.len(), known.len(), "an invocation has two records");
        println!(
            "{} calls: {} answered or accepted, {} without an answer, {} records",
            self.fates.len(),
            ids.len(),
            self.broken(),
            known.len()
        );
    }
}
