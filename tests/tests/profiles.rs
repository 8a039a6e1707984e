//! What is known of functions outlives the Controller that learned it, and knows large inputs from small ones.
#![allow(missing_docs)]

use messages::FunctionPath;
use policies::profile::Profile;
use serde_json::{Value, json};
use vocabulary::FunctionId;
use windfall_tests::functions::{ECHO, python, with};
use windfall_tests::{Cluster, Plan, annotation, eventually};

/// Waits, so that it needs next to nothing of what it reserves.
const IDLE: &str = "
import time
def main(args):
    time.sleep(0.05)
    return {}
";

async fn id_of(cluster: &Cluster, name: &str) -> FunctionId {
    let path = FunctionPath { namespace: "guest".into(), name: name.into() };
    let store = cluster.store().await;
    store.functions().get(&path).expect("it was made").id
}

async fn kept(cluster: &Cluster, function: FunctionId) -> Option<Profile> {
    let store = cluster.store().await;
    let found = store.profiles().expect("they are kept").get(function).await.expect("the store answers");
    found.map(|(profile, _)| profile)
}

/// CPU that a call of the function was booked, in millicores.
async fn booked(cluster: &Cluster, name: &str) -> u64 {
    let reply = cluster.http.call(name, &json!({})).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    let answer = reply.json();
    let ours = annotation(&answer, "windfall").unwrap_or(&Value::Null);
    ours["grant"]["booked"]["cpu"].as_u64().unwrap_or_else(|| panic!("no grant: {answer}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_controller_that_is_killed_leaves_what_it_knew_to_the_next() {
    let settings = vec![("controller.allocation", "profile".into()), ("vm.lending", "elastic".into())];
    let mut cluster = Cluster::of(Plan { vms: 1, settings, ..Plan::default() }).await;
    let function = with(python(IDLE), json!({ "limits": { "cpu": 800, "memory": 256 } }));
    for name in ["known", "damaged"] {
        cluster.http.deploy(name, &function).await;
        assert_eq!(booked(&cluster, name).await, 800, "nothing is known of it");
    }
    let (known, damaged) = (id_of(&cluster, "known").await, id_of(&cluster, "damaged").await);
    eventually("they are known to need little", async || {
        booked(&cluster, "known").await < 400 && booked(&cluster, "damaged").await < 400
    })
    .await;
    let learned = |profile: Option<Profile>| profile.is_some_and(|profile| profile.runs().0 >= 2);
    eventually("both are kept", async || {
        learned(kept(&cluster, known).await) && learned(kept(&cluster, damaged).await)
    })
    .await;
    cluster.kill("controller-0");
    let jetstream = async_nats::jetstream::new(cluster.nats().await.client);
    let subject = format!("$KV.WINDFALL_PROFILES.{damaged}");
    let written = jetstream.publish(subject, "\u{81}no profile".into()).await.expect("sent").await;
    written.expect("acknowledged");
    cluster.start_again("controller-0");
    // The very first call here is decided by what the dead one knew; what is damaged is refused and learned anew.
    assert!(booked(&cluster, "known").await < 400);
    assert_eq!(booked(&cluster, "damaged").await, 800);
    let log = cluster.log("controller-0");
    assert!(log.contains(&damaged.to_string()) && log.contains("learned anew"), "{log}");
    eventually("what was damaged is known again", async || booked(&cluster, "damaged").await < 400).await;
}

/// Four of five functions are known by their first runs, and the fifth is taken for one of them, if it reserves as much.
#[tokio::test(flavor = "multi_thread")]
async fn a_new_function_is_booked_what_others_needed_that_reserve_as_much() {
    let settings = vec![
        ("controller.allocation", "profile".into()),
        ("vm.lending", "elastic".into()),
        ("allocation.first_run_permille", "800".into()),
    ];
    let cluster = Cluster::of(Plan { vms: 1, settings, ..Plan::default() }).await;
    let function = |cpu: u32| with(python(IDLE), json!({ "limits": { "cpu": cpu, "memory": 128 } }));
    for name in ["one", "two", "three", "four"] {
        cluster.http.deploy(name, &function(800)).await;
        assert_eq!(booked(&cluster, name).await, 800, "{name}: of too few anything is known");
    }
    cluster.http.deploy("five", &function(800)).await;
    let first = booked(&cluster, "five").await;
    println!("the fifth was booked {first} millicores");
    assert!(first < 720, "the others wait for most of their runs");
    cluster.http.deploy("other", &function(700)).await;
    assert_eq!(booked(&cluster, "other").await, 700, "nobody reserves as much");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_field_that_a_function_names_is_the_size_of_its_input_at_every_door() {
    let cluster = Cluster::of(Plan { vms: 1, ..Plan::default() }).await;
    let annotated = |field: Value| {
        with(python(ECHO), json!({ "annotations": [{ "key": "input-size", "value": field }] }))
    };
    cluster.http.deploy("sized", &annotated(json!("job.rows"))).await;
    let sized = id_of(&cluster, "sized").await;
    // By size of the whole argument these would all be alike.
    let nats = cluster.nats().await;
    cluster.http.result("sized", &json!({ "job": { "rows": 3 }, "pad": "xxxxxx" })).await;
    nats.call("sized", &json!({ "job": { "rows": 3_000 }, "pad": "xxx" })).await.expect("an answer");
    nats.submit("sized", &[], &json!({ "job": { "rows": 3_000_000 } })).await.expect("accepted");
    eventually("each is known by its own size", async || {
        kept(&cluster, sized)
            .await
            .is_some_and(|profile| [3, 3_000, 3_000_000].iter().all(|rows| profile.expect(*rows).is_some()))
    })
    .await;
    assert!(kept(&cluster, sized).await.expect("kept").expect(50).is_none(), "the length of the argument");
    let path = "/api/v1/namespaces/_/actions/wrong?overwrite=true";
    for wrong in [json!(7), json!(""), json!("a..b"), json!(null)] {
        let reply = cluster.http.put(path, &annotated(wrong.clone())).await;
        assert_eq!(reply.status, 400, "{wrong}: {reply:?}");
        assert!(reply.error().contains("input-size"), "{}", reply.error());
    }
}
