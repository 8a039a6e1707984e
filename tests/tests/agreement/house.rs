//! The trace, played by the house, and when what happened there.
//!
//! **Knows:** what crosses NATS, in the order in which the server passed it on.
//! **Promises:** which call begins and which ends next is drawn from a seed, and every function waits at a gate until it is told to end, so
//! that no two things happen at once: a step is made when the last one was heard of and nothing has followed from it for a while,
//! and not when somebody who waits is about to count as starving.
//! **Gives up:** the Controller's own clock. When it hears something is taken to be when the test does.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use async_nats::{Message, Subscriber};
use futures::StreamExt;
use messages::{Finished, Finishes, Report, Run, Start, Submit};
use serde_json::{Value, json};
use simulator::{Decision, Decisions};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use vocabulary::{Attempt, FunctionCard, InvocationId, Moment, Outcome, Resources, Span, VmId};
use windfall_tests::{Cluster, NatsDoor};

use super::{FUNCTIONS, LONGER_MS, SPARING, STEPS};

/// Nothing has happened for so long: the house has done what the last step led to...
pub const QUIET: Duration = Duration::from_millis(120);
/// ...and where somebody waits for a place, whom the Controller looks at again each tenth of a second, this.
const QUIET_WHILE_SOME_WAIT: Duration = Duration::from_millis(250);
/// Something must happen, and on a machine with other work to do it may take so long.
const LONG: Duration = Duration::from_secs(60);
/// No step is made so near to the moment from which on somebody starves.
const AWAY: Span = Span::millis(100);

/// What happened in the house, by the clock of the test.
pub struct Seen {
    pub decisions: Decisions,
    pub cards: BTreeMap<usize, FunctionCard>,
    /// In order.
    pub calls: Vec<Called>,
    /// When each had its answer.
    pub ended: BTreeMap<u64, Ended>,
    /// What runs were given back while they went on, in order.
    pub given_back: Vec<GivenBack>,
    /// When each VM was first heard to report.
    pub reports: BTreeMap<VmId, Span>,
    /// Decisions on which nobody had to wait: from the submission to the run, as heard.
    at_once: Vec<Span>,
    /// What should not happen here, or seldom.
    pub besides: Vec<String>,
}

/// A call.
pub struct Called {
    pub function: usize,
    /// When it was made.
    pub made: Span,
    /// When its submission went to the Controller.
    pub heard: Option<Span>,
    /// How large its argument was.
    pub input_bytes: u32,
}

/// What was booked for a run has risen, because it was seen to need more.
pub struct GivenBack {
    pub call: u64,
    /// When its VM was heard to say so.
    pub at: Span,
    pub cpu: bool,
    pub memory: bool,
}

/// The end of a call.
pub struct Ended {
    /// When it was told to end.
    pub told: Span,
    /// When the Controller was told that it had.
    pub at: Span,
    pub finished: Finished,
}

impl Ended {
    /// How long its sandbox took to start, where it had none.
    pub fn init(&self) -> Option<Span> {
        (self.finished.start == Start::Cold).then_some(self.finished.init)
    }
}

impl Seen {
    /// How far from when it was heard something may have happened: no later than the latest answer was, in which the Controller's
    /// lateness is and the test's own; and never so far that two steps could change places.
    pub fn uncertain(&self) -> Span {
        let longest = self.at_once.iter().copied().max().unwrap_or_default();
        longest.min(Span::from(QUIET).scaled(1, 2))
    }

    /// What was measured of messages on their way.
    pub fn delays(&self) -> String {
        let given_back =
            |given: fn(&GivenBack) -> bool| self.given_back.iter().filter(|back| given(back)).count();
        let line = |what: &str, mut spans: Vec<Span>| {
            spans.sort_unstable();
            let at =
                |percent: usize| spans.get((spans.len() * percent / 100).min(spans.len().saturating_sub(1)));
            let [half, most] = [50, 100].map(|percent| at(percent).copied().unwrap_or_default());
            format!("{what}: {half} in the middle, {most} at most, of {}\n", spans.len())
        };
        let called = self.calls.iter().filter_map(|call| Some(call.heard? - call.made)).collect();
        let inits = self.ended.values().filter_map(Ended::init).collect();
        let ends = self.ended.values().map(|ended| ended.at - ended.told).collect();
        line("from a call to its submission", called)
            + &line("from a submission to its run, where none had to wait", self.at_once.clone())
            + &line("from the gate to the ending", ends)
            + &line("cold starts", inits)
            + &format!(
                "given back while they ran: CPU {} times, memory {} times\n",
                given_back(|back| back.cpu),
                given_back(|back| back.memory)
            )
            + &format!("moments are taken to be known to {}", self.uncertain())
    }

    /// All that is known of a call.
    pub fn story(&self, call: u64) -> String {
        let Called { function, made, heard, .. } = &self.calls[call as usize - 1];
        let sent: Vec<_> = self.decisions.0.iter().filter(|decision| decision.call == call).collect();
        let sent: Vec<_> =
            sent.iter().map(|d| format!("sent {} to {}", d.at.since(Moment::ORIGIN), d.vm)).collect();
        let end = self.ended.get(&call).map_or_else(String::new, |ended| {
            let Ended { told, at, finished } = ended;
            let Finished { start, init, duration, .. } = finished;
            format!("told to end {told}, ended {at}, {start:?}, init {init}, took {duration}")
        });
        let heard = heard.unwrap_or_default();
        let back = self.given_back.iter().filter(|back| back.call == call);
        let back: String = back.map(|back| format!(", given back {}", back.at)).collect();
        format!("call {call} of f{function}: made {made}, heard {heard}, {}{back}, {end}", sent.join(", "))
    }
}

/// The house while the trace is played.
pub struct Stage {
    began: Instant,
    nats: NatsDoor,
    messages: Subscriber,
    gate: TcpListener,
    /// At the gate, by number of the call.
    waiting: BTreeMap<u64, TcpStream>,
    by_id: BTreeMap<InvocationId, u64>,
    /// When each was told to end.
    told: BTreeMap<u64, Span>,
    /// What was booked for each, as its VM said last, or its Controller when it was sent there.
    booked: BTreeMap<u64, Resources>,
    seen: Seen,
}

impl Stage {
    pub async fn open(cluster: &Cluster) -> Self {
        let nats = cluster.nats().await;
        // One subscription, so that all is heard in the order in which it was sent.
        let messages = nats.client.subscribe("windfall.*.*").await.expect("a listener");
        nats.client.flush().await.expect("the server knows");
        Self {
            began: Instant::now(),
            nats,
            messages,
            gate: TcpListener::bind("127.0.0.1:0").await.expect("a port"),
            waiting: BTreeMap::new(),
            by_id: BTreeMap::new(),
            told: BTreeMap::new(),
            booked: BTreeMap::new(),
            seen: Seen {
                decisions: Decisions::default(),
                cards: BTreeMap::new(),
                calls: Vec::new(),
                ended: BTreeMap::new(),
                given_back: Vec::new(),
                reports: BTreeMap::new(),
                at_once: Vec::new(),
                besides: Vec::new(),
            },
        }
    }

    fn now(&self) -> Span {
        Span::micros(self.began.elapsed().as_micros() as u64)
    }

    pub async fn play(mut self, seed: u64) -> Seen {
        let mut chance = seed;
        let mut drawn = move |below: usize| {
            // Knuth's linear congruential generator; its upper bits are good enough for a trace.
            chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (chance >> 33) as usize % below
        };
        // Each is known before it decides anything; how the first run of a function is seen while it goes on is by the machine's clock.
        for function in 0..FUNCTIONS.len() {
            self.call(function, None).await;
            self.settle().await;
            self.end(self.seen.calls.len() as u64).await;
            self.settle().await;
        }
        for _ in 0..STEPS {
            // More begin than end until some wait for a place.
            if self.waiting.is_empty() || drawn(100) < 56 {
                let function = drawn(FUNCTIONS.len());
                let is_long = function == SPARING && drawn(5) == 0;
                self.call(function, is_long.then_some(LONGER_MS)).await;
            } else {
                let nth = drawn(self.waiting.len());
                let call = *self.waiting.keys().nth(nth).expect("one of them");
                self.end(call).await;
            }
            self.settle().await;
        }
        while let Some(&call) = self.waiting.keys().next() {
            self.end(call).await;
            self.settle().await;
        }
        assert_eq!(self.seen.ended.len(), self.seen.calls.len(), "every call had its answer");
        self.seen
    }

    /// A call that computes for so long, in milliseconds, or as its function usually does.
    async fn call(&mut self, function: usize, longer: Option<u32>) {
        self.seen.calls.push(Called { function, made: self.now(), heard: None, input_bytes: 0 });
        let call = self.seen.calls.len() as u64;
        let port = self.gate.local_addr().expect("bound").port();
        let (.., ms, mib) = FUNCTIONS[function];
        let argument = json!({ "call": call, "port": port, "ms": longer.unwrap_or(ms), "mib": mib });
        let nats = self.nats.clone();
        tokio::spawn(async move { nats.call(&format!("f{function}"), &argument).await.expect("an answer") });
        while self.seen.calls[call as usize - 1].heard.is_none() {
            assert!(self.hear(LONG).await, "no Controller is told of it");
        }
    }

    async fn end(&mut self, call: u64) {
        let mut gate = self.waiting.remove(&call).expect("it waits there");
        self.told.insert(call, self.now());
        gate.write_all(b".").await.expect("it listens");
        while !self.seen.ended.contains_key(&call) {
            assert!(self.hear(LONG).await, "its end is not told");
        }
    }

    /// Until nothing happens any more, all that has been sent out waits at the gate, and nobody is about to starve.
    async fn settle(&mut self) {
        loop {
            let open = self.seen.decisions.0.len() - self.seen.ended.len();
            let nobody_waits = self.seen.decisions.0.len() == self.seen.calls.len();
            let quiet = if nobody_waits { QUIET } else { QUIET_WHILE_SOME_WAIT };
            let patience = if self.waiting.len() < open { LONG } else { quiet };
            if !self.hear(patience).await {
                assert_eq!(self.waiting.len(), open, "a run that was sent out has not begun");
                if !self.is_somebody_about_to_starve() {
                    return;
                }
            }
        }
    }

    fn is_somebody_about_to_starve(&self) -> bool {
        let (now, after) = (self.now(), policies::dispatch::Settings::default().starvation_after);
        let is_sent = |call: u64| self.seen.decisions.0.iter().any(|decision| decision.call == call);
        let mut waiting = (1..).zip(&self.seen.calls).filter(|&(call, _)| !is_sent(call));
        waiting.any(|(_, called)| {
            let starves = called.heard.unwrap_or(now) + after;
            (starves - AWAY..=starves + AWAY).contains(&now)
        })
    }

    /// One thing that happens; false if nothing does.
    async fn hear(&mut self, patience: Duration) -> bool {
        let until = tokio::time::Instant::now() + patience;
        loop {
            tokio::select! {
                // What was sent before somebody came to the gate is heard before.
                biased;
                Some(message) = self.messages.next() => {
                    if self.heard(&message) {
                        return true;
                    }
                }
                Ok((stream, _)) = self.gate.accept() => {
                    let mut stream = BufReader::new(stream);
                    let mut line = String::new();
                    stream.read_line(&mut line).await.expect("its number");
                    self.waiting.insert(line.trim().parse().expect("a number"), stream.into_inner());
                    return true;
                }
                () = tokio::time::sleep_until(until) => return false,
            }
        }
    }

    /// Whether the trace has gone on.
    fn heard(&mut self, message: &Message) -> bool {
        let mut tokens = message.subject.split('.').skip(1);
        let (Some(first), Some(what)) = (tokens.next(), tokens.next()) else { return false };
        match what {
            "submit" => self.submitted(message),
            "run" => self.sent_out(message, first.parse().expect("a VM")),
            "finished" => self.finished(message),
            vm if first == "report" => return self.reported(message, vm.parse().expect("a VM")),
            "prewarm" | "handback" | "cancel" | "known" | "lost" => {
                self.seen.besides.push(format!("{} {}", self.now(), message.subject));
                return false;
            }
            _ => return false,
        }
        true
    }

    /// Whether it says more of a run than that it goes on.
    fn reported(&mut self, message: &Message, vm: VmId) -> bool {
        let at = self.now();
        self.seen.reports.entry(vm).or_insert(at);
        let report: Report = messages::decode(&message.payload).expect("a report");
        let before = self.seen.given_back.len();
        for running in report.status.running {
            let Some(&call) = self.by_id.get(&running.invocation) else { continue };
            let now = running.grant.booked;
            let was = self.booked.insert(call, now).unwrap_or(now);
            let (cpu, memory) = (now.cpu > was.cpu, now.memory > was.memory);
            if cpu || memory {
                self.seen.given_back.push(GivenBack { call, at, cpu, memory });
            }
        }
        self.seen.given_back.len() > before
    }

    fn submitted(&mut self, message: &Message) {
        let submit: Submit = messages::decode(&message.payload).expect("a submission");
        let argument: Value = serde_json::from_slice(&submit.payload.0).expect("JSON");
        let call = argument["call"].as_u64().expect("its number");
        self.by_id.insert(submit.invocation, call);
        let now = self.now();
        let called = &mut self.seen.calls[call as usize - 1];
        called.heard.get_or_insert(now);
        called.input_bytes = submit.input_bytes();
    }

    fn sent_out(&mut self, message: &Message, vm: VmId) {
        let run: Run = messages::decode(&message.payload).expect("a run");
        let call = self.by_id[&run.invocation];
        let called = &self.seen.calls[call as usize - 1];
        let now = self.now();
        if run.waited == Span::ZERO {
            self.seen.at_once.push(now - called.heard.unwrap_or(now));
        }
        if run.attempt != Attempt(1) {
            self.seen
                .besides
                .push(format!("{now} call {call} is sent out again, to {vm}: {:?}", run.attempt));
        }
        self.booked.insert(call, run.grant.booked);
        self.seen.cards.insert(called.function, run.function);
        self.seen.decisions.0.push(Decision {
            at: Moment::ORIGIN + now,
            call,
            attempt: run.attempt,
            function: run.function.id,
            vm,
            grant: run.grant,
        });
    }

    fn finished(&mut self, message: &Message) {
        let finishes: Finishes = messages::decode(&message.payload).expect("endings");
        for finished in finishes.endings {
            assert_eq!(finished.ended, messages::Ended::Answered(Outcome::Success), "{finished:?}");
            let call = self.by_id[&finished.invocation];
            let at = self.now();
            let told = self.told.get(&call).copied().unwrap_or(at);
            self.seen.ended.insert(call, Ended { told, at, finished });
        }
    }
}
