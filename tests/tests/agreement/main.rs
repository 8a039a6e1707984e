//! The rehearsal and the house decide alike: one trace through both, and the same runs go to the same VMs in the same order.
//!
//! **Knows:** what was decided in the house (`house`), and what is when the simulator plays the same (`rehearsal`).
//! **Promises:** neither chance nor a busy machine decides. What decides by the clock (who has waited for a second, or for a quarter of the
//! longest wait) may fall on one side of a call in the house and on the other in the rehearsal, because when the Controller heard of the call
//! is known only as well as messages are heard. How well that is, is measured, and what is decided must be what the rehearsal decides
//! with the moments as they were heard, or else as they may have been within what was measured; another policy never may.
//! What is booked for a run hangs on what others used, which no simulator foretells; the rehearsal's Controller is told what the house's was,
//! and where a run was given back in the house what it had lent, a sample shows the same VM in the rehearsal that it should be.
//! **Gives up:** saying which of two moments a few milliseconds apart came first, where the house itself is that late; and bookings of
//! first runs, which fall to what samples show: every function is known before the trace begins. What else a busy machine is late with is not measured,
//! so the trace is played up to three times, and once is enough.
#![allow(missing_docs)]

mod house;
mod rehearsal;

use std::collections::BTreeMap;

use house::{Seen, Stage};
use rehearsal::{Lines, rehearse};
use serde_json::json;
use vocabulary::{Span, VmId};
use windfall_tests::functions::{ECHO, python, with};
use windfall_tests::{Cluster, Plan, eventually};

/// Computes for a while, says who it is, and waits with the memory that it has taken until it may end.
const GATED: &str = "\
import socket, time
def main(args):
    held = b'.' * (args['mib'] << 20)
    until = time.process_time() + args['ms'] / 1e3
    while time.process_time() < until:
        pass
    with socket.create_connection(('127.0.0.1', args['port'])) as gate:
        gate.sendall(b'%d\\n' % args['call'])
        gate.recv(1)
    return {}
";
/// What each function reserves, in millicores and MiB; for how many milliseconds it computes, and how many MiB it takes. What that is of
/// a core within 100 ms, and the process itself, is a part of the reservation, and another one of each.
const FUNCTIONS: [(u32, u32, u32, u32); 5] =
    [(200, 128, 5, 60), (250, 128, 12, 20), (300, 256, 5, 120), (450, 128, 1, 10), (600, 512, 30, 200)];
/// This one lends most of what it reserves; but one of its calls in five computes for longer, and must have it back.
const SPARING: usize = 3;
const LONGER_MS: u32 = 80;
/// Together they hold seven to ten runs with their reservations.
const VMS: [(u32, u32); 3] = [(1_000, 1_024), (1_500, 1_536), (700, 768)];
const STEPS: usize = 70;
/// So often the moments are drawn again within what was measured, each time a little wider.
const DRAWS: u64 = 24;

/// So often the house plays it, and in one of them they must decide alike: who decides by another rule does so in each. On a machine with three
/// times as much to do as it has cores, one play in five hung on something that is not among what is measured, such as when a spare sandbox was ready.
const PLAYS: u32 = 3;

/// Who decides.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    pub placement: &'static str,
    pub allocation: &'static str,
    pub lending: &'static str,
}

const MWS: Rules = Rules { placement: "mws", allocation: "fixed", lending: "off" };
const JSQ: Rules = Rules { placement: "jsq", ..MWS };
/// What a cluster does that is told nothing else.
const PROFILE: Rules = Rules { placement: "mws", allocation: "profile", lending: "elastic" };

#[tokio::test(flavor = "multi_thread")]
async fn mws_decides_in_the_house_as_in_the_rehearsal() {
    decide_alike(MWS, JSQ, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn jsq_decides_in_the_house_as_in_the_rehearsal() {
    decide_alike(JSQ, MWS, 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn profile_decides_in_the_house_as_in_the_rehearsal() {
    decide_alike(PROFILE, Rules { placement: "jsq", ..PROFILE }, 3).await;
}

async fn decide_alike(rules: Rules, others: Rules, seed: u64) {
    println!("seed {seed}");
    let mut told = String::new();
    for play in 1..=PLAYS {
        match played_alike(rules, others, seed).await {
            Ok(()) => return,
            Err(apart) => told += &format!("play {play} of {PLAYS}: {apart}\n"),
        }
    }
    panic!("{told}");
}

/// One play; where they part, what was measured there.
async fn played_alike(rules: Rules, others: Rules, seed: u64) -> Result<(), String> {
    let settings = vec![
        ("controller.placement", rules.placement.to_owned()),
        ("controller.allocation", rules.allocation.to_owned()),
        ("vm.lending", rules.lending.to_owned()),
        ("resource_monitor.provider", "none".to_owned()),
    ];
    let mut cluster = Cluster::of(Plan { vms: 0, settings, ..Plan::default() }).await;
    for (number, (cpu, memory)) in VMS.into_iter().enumerate() {
        cluster.launch_vm(VmId(number as u64 + 1), cpu, memory);
    }
    eventually("all VMs take work", async || cluster.open_vms().await.len() == VMS.len()).await;
    let kinds: BTreeMap<_, _> = cluster.open_vms().await.iter().map(|vm| (vm.vm, vm.kind)).collect();
    for (number, (cpu, memory, ..)) in FUNCTIONS.into_iter().enumerate() {
        let limits = json!({ "limits": { "cpu": cpu, "memory": memory, "timeout": 60_000 } });
        cluster.http.deploy(&format!("f{number}"), &with(python(GATED), limits)).await;
    }
    // The first call shows that the Controller knows its fleet; until then calls wait, and in the rehearsal they would not.
    cluster.http.deploy("echo", &python(ECHO)).await;
    assert_eq!(cluster.http.call("echo", &json!({})).await.status, 200);
    let seen = Stage::open(&cluster).await.play(seed).await;
    // What follows needs no house, and what it says should not be followed by everybody's last words.
    drop(cluster);
    assert!(seen.decisions.0.len() > STEPS / 3, "{}", seen.decisions);
    println!("{}\n{}", seen.delays(), seen.decisions);

    let mut parted = Vec::new();
    for draw in 0..=DRAWS {
        let lines = Lines::drawn(&seen, draw);
        let theirs = rehearse(others, &seen, &lines, &kinds);
        assert!(theirs.part_at(&seen.decisions).is_some(), "the trace cannot tell policies apart:\n{theirs}");
        let rehearsed = rehearse(rules, &seen, &lines, &kinds);
        if rehearsed.part_at(&seen.decisions).is_none() {
            println!("alike with moments up to {} from where they were heard", lines.width);
            return Ok(());
        }
        parted.push((lines.width, rehearsed));
    }
    Err(told_apart(&seen, &parted))
}

/// Where they part, and what was measured there.
fn told_apart(seen: &Seen, parted: &[(Span, simulator::Decisions)]) -> String {
    let mut text = format!("no rehearsal decides as the house did\n{}\n", seen.delays());
    let (_, rehearsed) = parted.first().expect("the one with the moments as they were heard");
    let differs = |of: &simulator::Decisions| {
        let longest = of.0.len().max(seen.decisions.0.len());
        let one = |d: &simulator::Decisions, at: usize| {
            simulator::Decisions(d.0.get(at).copied().into_iter().collect())
        };
        (0..longest).find(|&at| one(of, at).part_at(&one(&seen.decisions, at)).is_some()).unwrap_or(longest)
    };
    let at = differs(rehearsed);
    for (who, decisions) in [("the house", &seen.decisions), ("the rehearsal", rehearsed)] {
        text += &format!("{who} decided, around the first difference:\n");
        for (number, decision) in decisions.0.iter().enumerate().skip(at.saturating_sub(6)).take(12) {
            text += &format!("{} {number:>3} {decision}\n", if number == at { ">" } else { " " });
        }
    }
    for decision in [seen.decisions.0.get(at), rehearsed.0.get(at)].into_iter().flatten() {
        text += &format!("{}\n", seen.story(decision.call));
    }
    for (width, decisions) in &parted[1..] {
        text += &format!("with moments up to {width} away they part at {}\n", differs(decisions));
    }
    text += "all calls of the house, and what each waited for:\n";
    (1..=seen.calls.len() as u64).for_each(|call| text += &format!("{}\n", seen.story(call)));
    text + &seen.besides.join("\n")
}
