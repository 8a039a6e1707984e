//! The rehearsal and the house decide alike: one trace through both, and the same runs go to the same VMs in the same order.
//!
//! The trace is made here: which call begins and which ends next is drawn from a seed, and every function waits at a gate until it is
//! told to end, so that no two things happen at once. When each happened in the house is written down, and the simulator
//! plays exactly that.
#![allow(missing_docs)]

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use async_nats::{Message, Subscriber};
use futures::StreamExt;
use messages::{Finishes, Run, Start};
use serde_json::{Value, json};
use simulator::plan::{Call, Calls, FunctionPlan, Machines, VmPlan, Work};
use simulator::{Decision, Decisions, House, play};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use vocabulary::{
    FunctionCard, InvocationId, Mebibytes, MilliCores, Moment, Outcome, Resources, Span, VmId, VmKind,
};
use windfall_tests::functions::{ECHO, python, with};
use windfall_tests::{Cluster, NatsDoor, Plan, eventually};

/// Says who it is and waits until it may end.
const GATED: &str = "\
import socket
def main(args):
    with socket.create_connection(('127.0.0.1', args['port'])) as gate:
        gate.sendall(b'%d\\n' % args['call'])
        gate.recv(1)
    return {}
";
/// What each function reserves: millicores and MiB.
const FUNCTIONS: [(u32, u32); 5] = [(200, 128), (250, 128), (300, 256), (450, 128), (600, 512)];
/// Together they hold seven to ten runs.
const VMS: [(u32, u32); 3] = [(1_000, 1_024), (1_500, 1_536), (700, 768)];
const STEPS: usize = 70;
/// Nothing has happened for so long: the house has done what the last step led to.
const QUIET: Duration = Duration::from_millis(120);
/// Something must happen, and on a machine with other work to do it may take so long.
const LONG: Duration = Duration::from_secs(60);
/// What a message takes in the simulator.
const NETWORK: Span = Span::micros(200);
/// The rehearsal begins with a Controller that does not know its fleet yet; calls come after that.
const FIRST_CALL: Span = Span::seconds(3);

#[tokio::test(flavor = "multi_thread")]
async fn mws_decides_in_the_house_as_in_the_rehearsal() {
    decides_alike("mws", "jsq", 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn jsq_decides_in_the_house_as_in_the_rehearsal() {
    decides_alike("jsq", "mws", 2).await;
}

async fn decides_alike(placement: &str, other: &str, seed: u64) {
    println!("seed {seed}");
    let settings = vec![
        ("controller.placement", placement.to_owned()),
        ("resource_monitor.provider", "none".to_owned()),
    ];
    let mut cluster = Cluster::of(Plan { vms: 0, settings, ..Plan::default() }).await;
    for (number, (cpu, memory)) in VMS.into_iter().enumerate() {
        cluster.launch_vm(VmId(number as u64 + 1), cpu, memory);
    }
    eventually("all VMs take work", async || cluster.open_vms().await.len() == VMS.len()).await;
    let kinds: BTreeMap<_, _> = cluster.open_vms().await.iter().map(|vm| (vm.vm, vm.kind)).collect();
    for (number, (cpu, memory)) in FUNCTIONS.into_iter().enumerate() {
        let limits = json!({ "limits": { "cpu": cpu, "memory": memory, "timeout": 60_000 } });
        cluster.http.deploy(&format!("f{number}"), &with(python(GATED), limits)).await;
    }
    // The first call shows that the Controller knows its fleet; until then calls wait, and in the rehearsal they would not.
    cluster.http.deploy("echo", &python(ECHO)).await;
    assert_eq!(cluster.http.call("echo", &json!({})).await.status, 200);
    let seen = Stage::open(&cluster).await.play(seed).await;
    assert!(seen.decisions.0.len() > STEPS / 3, "{}", seen.decisions);
    let rehearsed = rehearse(placement, &seen, &kinds);
    assert_eq!(
        rehearsed.part_at(&seen.decisions),
        None,
        "the rehearsal decided:\n{rehearsed}\nthe house decided:\n{}",
        seen.decisions
    );
    let other = rehearse(other, &seen, &kinds);
    assert!(other.part_at(&seen.decisions).is_some(), "the trace cannot tell policies apart:\n{other}");
}

/// What happened in the house, by its own clock.
struct Seen {
    decisions: Decisions,
    cards: BTreeMap<usize, FunctionCard>,
    /// When each call was made, and of which function; in order.
    calls: Vec<(Span, usize)>,
    /// When each had its answer.
    ended: BTreeMap<u64, Ended>,
}

/// The end of a call.
struct Ended {
    at: Span,
    /// How long its sandbox took to start, where it had none.
    init: Option<Span>,
}

/// The house while the trace is played.
struct Stage {
    began: Instant,
    nats: NatsDoor,
    runs: Subscriber,
    endings: Subscriber,
    gate: TcpListener,
    /// At the gate, by number of the call.
    waiting: BTreeMap<u64, TcpStream>,
    by_id: BTreeMap<InvocationId, u64>,
    seen: Seen,
}

impl Stage {
    async fn open(cluster: &Cluster) -> Self {
        let nats = cluster.nats().await;
        let runs = nats.client.subscribe("windfall.*.run").await.expect("a listener");
        let endings = nats.client.subscribe("windfall.*.finished").await.expect("a listener");
        nats.client.flush().await.expect("the server knows");
        Self {
            began: Instant::now(),
            nats,
            runs,
            endings,
            gate: TcpListener::bind("127.0.0.1:0").await.expect("a port"),
            waiting: BTreeMap::new(),
            by_id: BTreeMap::new(),
            seen: Seen {
                decisions: Decisions::default(),
                cards: BTreeMap::new(),
                calls: Vec::new(),
                ended: BTreeMap::new(),
            },
        }
    }

    fn now(&self) -> Span {
        Span::micros(self.began.elapsed().as_micros() as u64)
    }

    async fn play(mut self, seed: u64) -> Seen {
        let mut chance = seed;
        let mut drawn = move |below: usize| {
            // Knuth's linear congruential generator; its upper bits are good enough for a trace.
            chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (chance >> 33) as usize % below
        };
        for _ in 0..STEPS {
            // More begin than end until some wait for a place.
            if self.waiting.is_empty() || drawn(100) < 56 {
                self.call(drawn(FUNCTIONS.len())).await;
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

    async fn call(&mut self, function: usize) {
        self.seen.calls.push((self.now(), function));
        let call = self.seen.calls.len() as u64;
        let argument = json!({ "call": call, "port": self.gate.local_addr().expect("bound").port() });
        let nats = self.nats.clone();
        tokio::spawn(async move { nats.call(&format!("f{function}"), &argument).await.expect("an answer") });
    }

    async fn end(&mut self, call: u64) {
        let mut gate = self.waiting.remove(&call).expect("it waits there");
        gate.write_all(b".").await.expect("it listens");
        while !self.seen.ended.contains_key(&call) {
            assert!(self.hear(LONG).await, "its end is not told");
        }
    }

    /// Until nothing happens any more, and all that has been sent out waits at the gate.
    async fn settle(&mut self) {
        loop {
            let open = self.seen.decisions.0.len() - self.seen.ended.len();
            let patience = if self.waiting.len() < open { LONG } else { QUIET };
            if !self.hear(patience).await {
                assert_eq!(self.waiting.len(), open, "a run that was sent out has not begun");
                return;
            }
        }
    }

    /// One thing that happens; false if nothing does.
    async fn hear(&mut self, patience: Duration) -> bool {
        tokio::select! {
            // What was sent first is heard first, where both are there.
            biased;
            Some(run) = self.runs.next() => self.sent_out(&run),
            Some(finishes) = self.endings.next() => self.finished(&finishes),
            Ok((stream, _)) = self.gate.accept() => {
                let mut stream = BufReader::new(stream);
                let mut line = String::new();
                stream.read_line(&mut line).await.expect("its number");
                self.waiting.insert(line.trim().parse().expect("a number"), stream.into_inner());
            }
            () = tokio::time::sleep(patience) => return false,
        }
        true
    }

    fn sent_out(&mut self, message: &Message) {
        let vm = message.subject.split('.').nth(1).and_then(|token| token.parse().ok()).expect("a VM");
        let run: Run = messages::decode(&message.payload).expect("a run");
        let argument: Value = serde_json::from_slice(&run.payload.0).expect("JSON");
        let call = argument["call"].as_u64().expect("its number");
        let function = self.seen.calls[call as usize - 1].1;
        self.seen.cards.insert(function, run.function);
        self.by_id.insert(run.invocation, call);
        self.seen.decisions.0.push(Decision {
            at: Moment::ORIGIN + self.now(),
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
            let ended =
                Ended { at: self.now(), init: (finished.start == Start::Cold).then_some(finished.init) };
            self.seen.ended.insert(self.by_id[&finished.invocation], ended);
        }
    }
}

/// The same calls in the simulator, each of which takes as long as it took in the house.
fn rehearse(placement: &str, seen: &Seen, kinds: &BTreeMap<VmId, VmKind>) -> Decisions {
    let house = House::new("agreement", functions(seen), Box::new(calls(seen)), Box::new(vms(kinds)));
    let settings = policies::placement::Settings::default();
    let (_, decisions) = play(House {
        placement: policies::placement::by_name(placement, &settings).expect("a placement"),
        keeps_decisions: true,
        ..house
    });
    decisions.expect("they were kept")
}

fn functions(seen: &Seen) -> Vec<FunctionPlan> {
    let plan = |(number, card): (&usize, &FunctionCard)| FunctionPlan {
        name: format!("f{number}"),
        app: *number as u32,
        card: *card,
        cold_start: cold_start(seen, *number),
    };
    assert_eq!(seen.cards.len(), FUNCTIONS.len(), "a trace that tells policies apart calls all functions");
    seen.cards.iter().map(plan).collect()
}

/// The shortest that was seen: what others took longer is part of their runs.
fn cold_start(seen: &Seen, function: usize) -> Span {
    let calls = (1..).zip(&seen.calls).filter(|(_, (_, called))| *called == function);
    calls.filter_map(|(call, _)| seen.ended[&call].init).min().expect("the first one was cold")
}

fn calls(seen: &Seen) -> Script {
    let hops = NETWORK.scaled(2, 1);
    let script = (1..).zip(&seen.calls).map(|(call, &(at, function))| {
        let sent_out = seen.decisions.0.iter().find(|decision| decision.call == call).expect("it ran");
        let ended = &seen.ended[&call];
        let cold = ended.init.map_or(Span::ZERO, |_| cold_start(seen, function));
        let work = Work {
            io: (Moment::ORIGIN + ended.at).since(sent_out.at) - hops - cold,
            cpu: Span::ZERO,
            saturation: MilliCores(1_000),
            memory: Mebibytes(20),
            input_bytes: 32,
        };
        (Moment::ORIGIN + FIRST_CALL + at, Call { function: function as u32, work, user: 0 })
    });
    Script(script.collect())
}

struct Script(VecDeque<(Moment, Call)>);

impl Calls for Script {
    fn next_at(&self) -> Option<Moment> {
        self.0.front().map(|&(at, _)| at)
    }

    fn take(&mut self) -> Call {
        self.0.pop_front().expect("asked for when there is one").1
    }
}

struct Given(Vec<VmPlan>);

fn vms(kinds: &BTreeMap<VmId, VmKind>) -> Given {
    let plan = |(&(cpu, memory), &kind)| VmPlan {
        kind,
        starts_at: Moment::ORIGIN,
        size: Resources::new(cpu, memory),
        changes: Vec::new(),
        gone: None,
    };
    Given(VMS.iter().zip(kinds.values()).map(plan).collect())
}

impl Machines for Given {
    fn given(&mut self) -> Vec<VmPlan> {
        std::mem::take(&mut self.0)
    }

    fn launch(&mut self, _: Moment, _: VmKind, _: Resources) -> Option<VmPlan> {
        None
    }
}
