//! One small trace through the live house and through the rehearsal: the same placements in the same order.
//!
//! The live house plays first, with real processes and real functions, while all that crosses NATS is heard. Then the rehearsal is given
//! the same VMs, the same functions, the calls at the moments at which the Controller was sent them, each lasting as long as
//! it did. So a machine that stumbles changes the trace, not the verdict.
#![allow(missing_docs)]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use futures::StreamExt;
use messages::{Finishes, Run, Submit};
use policies::allocation;
use serde_json::json;
use simulator::machines::{Fleet, Launches};
use simulator::plan::{Call, Calls, FunctionPlan, VmPlan, Work};
use simulator::{Decision, Decisions, House};
use vocabulary::{
    FunctionCard, FunctionId, InvocationId, Mebibytes, MilliCores, Moment, Resources, Span, VmId, VmKind,
};
use windfall_tests::{Cluster, Plan, functions};

/// It sleeps, so that how long it takes does not depend on who else computes on this machine.
const SLEEPER: &str = "
import time
def main(args):
    time.sleep(args['ms'] / 1000)
    return {}
";

/// Sizes that make homes differ: the VM of number n + 1, its millicores and MiB.
const VMS: [(u32, u32); 4] = [(1_000, 1_024), (500, 512), (750, 768), (1_500, 1_536)];

/// (at ms, which function, how long in ms): functions 0 to 2 take an eighth of a GiB and 250 millicores each, 3 and 4 twice that.
/// First one after the other, warm and cold; then more than fits, so that some wait.
const TRACE: [(u64, usize, u64); 40] = [
    (0, 0, 300),
    (200, 1, 1_500),
    (400, 2, 700),
    (600, 3, 2_000),
    (800, 0, 900),
    (1_000, 0, 900),
    (1_200, 4, 1_300),
    (1_400, 1, 400),
    (1_600, 3, 2_500),
    (1_800, 0, 1_000),
    (2_000, 2, 3_000),
    (2_200, 2, 1_900),
    (2_400, 4, 1_100),
    (2_600, 0, 500),
    (2_800, 1, 2_700),
    (3_000, 3, 1_500),
    (3_200, 3, 1_700),
    (3_400, 4, 2_900),
    (3_600, 0, 800),
    (3_800, 1, 1_800),
    (4_000, 2, 2_200),
    (4_200, 4, 1_600),
    (4_300, 3, 2_100),
    (4_400, 0, 1_200),
    (4_500, 1, 1_400),
    (4_600, 2, 900),
    (4_700, 4, 2_000),
    (4_800, 3, 1_300),
    (4_900, 0, 2_600),
    (5_000, 1, 700),
    (5_200, 2, 1_500),
    (5_400, 4, 600),
    (5_600, 0, 1_100),
    (5_800, 3, 400),
    (6_000, 1, 300),
    (8_500, 0, 300),
    (8_700, 3, 600),
    (8_900, 1, 300),
    (9_100, 2, 300),
    (9_300, 4, 300),
];

/// What was heard of one call.
#[derive(Debug, Clone, Copy)]
struct Heard {
    invocation: InvocationId,
    function: FunctionCard,
    at: Moment,
    /// Sent to its VM, and heard of again.
    sent: Moment,
    ended: Moment,
}

/// What the live house did.
#[derive(Default)]
struct Recording {
    calls: Vec<Heard>,
    /// In the order in which they were sent.
    runs: Vec<(VmId, Run)>,
}

impl Recording {
    fn hear(&mut self, now: Moment, subject: &str, payload: &[u8]) {
        match subject.rsplit('.').next() {
            Some("submit") => {
                let Ok(Submit { invocation, function, .. }) = messages::decode(payload) else { return };
                self.calls.push(Heard { invocation, function, at: now, sent: now, ended: now });
            }
            Some("run") => {
                let Ok(run) = messages::decode::<Run>(payload) else { return };
                let vm = subject.split('.').nth(1).and_then(|vm| vm.parse().ok()).expect("a VM's subject");
                self.call(run.invocation).sent = now;
                self.runs.push((vm, run));
            }
            Some("finished") => {
                let Ok(Finishes { endings, .. }) = messages::decode(payload) else { return };
                endings.iter().for_each(|ending| self.call(ending.invocation).ended = now);
            }
            _ => {}
        }
    }

    fn call(&mut self, invocation: InvocationId) -> &mut Heard {
        let call = self.calls.iter_mut().find(|call| call.invocation == invocation);
        call.expect("what is run was submitted before")
    }

    /// As the rehearsal tells its own.
    fn decisions(&self) -> Decisions {
        let number = |of: InvocationId| self.calls.iter().position(|call| call.invocation == of).unwrap() + 1;
        let decision = |(vm, run): &(VmId, Run)| Decision {
            at: self.calls.iter().find(|call| call.invocation == run.invocation).unwrap().sent,
            call: number(run.invocation) as u64,
            attempt: run.attempt,
            function: run.function.id,
            vm: *vm,
            grant: run.grant,
        };
        Decisions(self.runs.iter().map(decision).collect())
    }
}

async fn live() -> Recording {
    let mut cluster = Cluster::of(Plan { vms: 0, ..Plan::default() }).await;
    for (index, (cpu, memory)) in VMS.into_iter().enumerate() {
        cluster.launch_vm(VmId(index as u64 + 1), cpu, memory);
    }
    windfall_tests::eventually("all VMs take work", async || cluster.open_vms().await.len() == VMS.len())
        .await;
    for index in 0..5 {
        let memory = if index < 3 { 128 } else { 256 };
        let sleeper = functions::with(functions::python(SLEEPER), json!({ "limits": { "memory": memory } }));
        cluster.http.deploy(&format!("sleeper-{index}"), &sleeper).await;
    }
    // What a VM reports until then is told to the Controller before the first call.
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let nats = cluster.nats().await;
    let mut ear = nats.client.subscribe("windfall.*.*").await.unwrap();
    nats.client.flush().await.unwrap();
    let began = Instant::now();
    let play = async {
        let calls = TRACE.into_iter().map(|(at, function, ms)| {
            let nats = nats.clone();
            async move {
                tokio::time::sleep_until((began + Duration::from_millis(at)).into()).await;
                nats.call(&format!("sleeper-{function}"), &json!({ "ms": ms })).await.expect("an answer")
            }
        });
        for answer in futures::future::join_all(calls).await {
            assert_eq!(answer.status, "success", "{answer:?}");
        }
        // Endings are told off the reply path.
        tokio::time::sleep(Duration::from_millis(500)).await;
    };
    let mut recording = Recording::default();
    tokio::pin!(play);
    loop {
        tokio::select! {
            Some(message) = ear.next() => {
                let now = Moment(1_000_000 + began.elapsed().as_micros() as u64);
                recording.hear(now, &message.subject, &message.payload);
            }
            () = &mut play => return recording,
        }
    }
}

/// The recorded calls, when they were made.
struct Again {
    calls: std::vec::IntoIter<(Moment, Call)>,
}

impl Calls for Again {
    fn next_at(&self) -> Option<Moment> {
        self.calls.as_slice().first().map(|&(at, _)| at)
    }

    fn take(&mut self) -> Call {
        self.calls.next().expect("whoever takes a call was told when it is made").1
    }
}

fn rehearsed(recording: &Recording) -> Decisions {
    let mut cards: BTreeMap<FunctionId, FunctionCard> = BTreeMap::new();
    recording.calls.iter().for_each(|call| drop(cards.insert(call.function.id, call.function)));
    let function = |card: &FunctionCard| FunctionPlan {
        name: card.id.to_string(),
        app: 0,
        card: *card,
        // What making one took is part of what its call took.
        cold_start: Span::micros(1),
    };
    let call = |heard: &Heard| {
        let number = cards.keys().position(|id| *id == heard.function.id).expect("it was put there");
        let work = Work {
            io: heard.ended.since(heard.sent),
            cpu: Span::micros(1),
            saturation: MilliCores(1_000),
            memory: Mebibytes(32),
            input_bytes: 10,
        };
        (heard.at, Call { function: number as u32, work, user: 0 })
    };
    let calls: Vec<(Moment, Call)> = recording.calls.iter().map(call).collect();
    let vm = |(cpu, memory): (u32, u32)| VmPlan {
        kind: VmKind::Harvest,
        starts_at: Moment::ORIGIN,
        size: Resources::new(cpu, memory),
        changes: Vec::new(),
        gone: None,
    };
    let fleet = Fleet::new(VMS.into_iter().map(vm).collect(), Launches::none(), Vec::new());
    let mut house = House::new(
        "agreement",
        cards.values().map(function).collect(),
        Box::new(Again { calls: calls.into_iter() }),
        Box::new(fleet),
    );
    // As the live Controller is set by default.
    house.allocator = allocation::by_name("fixed", &allocation::Settings::default()).expect("a listed one");
    house.network.delay = Span::micros(1);
    house.keeps_decisions = true;
    let (report, decisions) = simulator::play(house);
    assert_eq!(report.violations, 0, "{:?}", report.first_violations);
    decisions.expect("it was told to keep them")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_live_house_and_the_rehearsal_place_the_same_calls_on_the_same_vms_in_the_same_order() {
    let recording = live().await;
    let (live, rehearsed) = (recording.decisions(), rehearsed(&recording));
    assert_eq!(live.0.len(), TRACE.len(), "{live}");
    let vms = live.0.iter().map(|decision| decision.vm).collect::<std::collections::BTreeSet<_>>();
    assert_eq!(vms.len(), VMS.len(), "a trace that does not use all VMs shows little:\n{live}");
    let waited = recording.runs.iter().filter(|(_, run)| run.waited > Span::millis(20)).count();
    println!("{} calls, of which {waited} waited for a place", TRACE.len());
    assert!(waited > 0, "a trace without waiting shows little:\n{live}");
    if let Some((mine, others)) = live.part_at(&rehearsed) {
        panic!("live {mine:?}, rehearsed {others:?}\n\nlive:\n{live}\nrehearsed:\n{rehearsed}");
    }
}
