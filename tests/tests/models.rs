//! Models that are handed in while the cluster runs: tried on its own calls, taken up or refused; and trained on what it recorded.
#![allow(missing_docs)]

use std::path::{Path, PathBuf};
use std::time::Duration;

use actors::store::{Model, Models, Standing};
use models::features::{Columns, OURS};
use serde_json::json;
use training::{Layer, Mlp, model_bytes};
use windfall_tests::functions::{python, with};
use windfall_tests::{Cluster, Plan, eventually};

/// Computes for as long as it is told, and then waits for 60 ms.
const BUSY: &str = "
import time
def main(args):
    end = time.process_time() + args['ms'] / 1000
    while time.process_time() < end:
        pass
    time.sleep(0.06)
    return {}
";

/// Whether there is a library to run models with; the processes are told of it by the same variable.
fn has_onnx_runtime() -> bool {
    let is_named = std::env::var_os("WINDFALL_ONNXRUNTIME").is_some();
    if !is_named {
        println!("skipped: WINDFALL_ONNXRUNTIME names no ONNX Runtime");
    }
    is_named
}

/// Scores one feature with this weight, and nothing else.
fn by(feature: &str, weight: f32) -> Vec<u8> {
    let mut weights = vec![0.0; OURS.len()];
    let place = OURS.columns().names().iter().position(|name| *name == feature).expect("a feature");
    weights[place] = weight;
    let layer = Layer { inputs: OURS.len(), outputs: 1, weights, biases: vec![0.0] };
    model_bytes(&Mlp::of(vec![layer]).expect("one layer"), &OURS.columns())
}

async fn house(folder: &Path, trial: u32) -> Cluster {
    // Decides by what all runs wanted: more CPU is better.
    let file = folder.join("in-force.onnx");
    std::fs::write(&file, by("option_cpu_millicores", 1.0)).expect("written");
    let settings = vec![
        ("controller.allocation", "learned".into()),
        ("controller.model", file.display().to_string()),
        ("controller.model_trial_runs", trial.to_string()),
        // What is compared here is what models choose, and other tests keep the machine busy.
        ("controller.model_answers_within_us", "1000000".into()),
        ("vm.lending", "elastic".into()),
    ];
    Cluster::of(Plan { vms: 1, settings, ..Plan::default() }).await
}

/// Once it needs little CPU and once much, by arguments of one length, which cannot be told apart beforehand.
async fn call_twice(cluster: &Cluster) {
    for ms in [20, 90] {
        cluster.http.result("busy", &json!({ "ms": ms })).await;
    }
}

/// Calls until what is looked for is so.
async fn calls_until(cluster: &Cluster, what: &str, mut is_so: impl FnMut() -> bool) {
    eventually(what, async || {
        call_twice(cluster).await;
        is_so()
    })
    .await;
}

fn standing(models: &Models, number: u64) -> Option<Standing> {
    models.get(number).map(|model: std::sync::Arc<Model>| model.standing.clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_is_tried_beside_the_one_in_force_and_taken_up_only_if_it_is_not_worse() {
    if !has_onnx_runtime() {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str, bytes: &[u8]| -> PathBuf {
        let file = folder.path().join(name);
        std::fs::write(&file, bytes).expect("written");
        file
    };
    let cluster = house(folder.path(), 12).await;
    cluster
        .http
        .deploy("busy", &with(python(BUSY), json!({ "limits": { "cpu": 1000, "memory": 256 } })))
        .await;
    let models = cluster.store().await.models().await.expect("the models");

    // The same by another name: not worse.
    let same = file("same.onnx", &by("option_cpu_of_reserved", 3.0));
    let said = cluster.operate(&["model", "put", same.to_str().expect("a path")]).await;
    assert!(said.contains("model 1 is on trial"), "{said}");
    calls_until(&cluster, "it is taken up", || match standing(&models, 1) {
        Some(Standing::Taken(Some(compared))) => {
            assert_eq!((compared.runs, compared.agreed, compared.unanswered), (12, 12, 0), "{compared:?}");
            true
        }
        Some(Standing::OnTrial) | None => false,
        otherwise => panic!("it is not worse: {otherwise:?}"),
    })
    .await;
    eventually("the Controller has taken it up", async || {
        cluster.log("controller-0").contains("a model has stood its trial")
    })
    .await;

    // As little CPU as half of the runs want is given back late to the other half, which costs something in each of those.
    let worse = file("worse.onnx", &by("option_cpu_millicores", -1.0));
    cluster.operate(&["model", "put", worse.to_str().expect("a path")]).await;
    calls_until(&cluster, "it is refused", || matches!(standing(&models, 2), Some(Standing::Refused { .. })))
        .await;
    let shown = cluster.operate(&["model", "show", "2"]).await;
    assert!(shown.contains("would have cost") && shown.contains("\"candidate\""), "{shown}");
    assert_eq!(models.in_force().expect("the first one").number, 1);

    // Made for something else: the Controllers find out, and go on.
    let of_option = OURS.columns().of_option;
    let others = Columns { of_state: of_option[..1].to_vec(), of_option: of_option[1..3].to_vec() };
    let foreign = model_bytes(&Mlp::seeded(&[3, 4, 1], 1), &others);
    let number = models.put(foreign.into(), "the test", Standing::OnTrial).await.expect("handed in");
    eventually("it is refused with the reason", async || {
        matches!(standing(&models, number), Some(Standing::Refused { why, .. }) if why.contains("not a model for this build"))
    })
    .await;
    let damaged = models.put(vec![7; 100].into(), "the test", Standing::OnTrial).await.expect("handed in");
    eventually("damage is told", async || {
        matches!(standing(&models, damaged), Some(Standing::Refused { why, .. }) if why.contains("damaged"))
    })
    .await;
    let list = cluster.operate(&["model", "list"]).await;
    assert!(list.lines().count() == 5 && list.contains("in force") && list.contains("refused"), "{list}");

    // Taken back: the file's decides again.
    cluster.operate(&["model", "withdraw", "1"]).await;
    // Another process wrote that; the copy here follows its watch.
    eventually("it is taken back", async || models.in_force().is_none()).await;
    eventually("the file's model decides", async || {
        cluster.log("controller-0").contains("another model decides now")
    })
    .await;
    call_twice(&cluster).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_is_trained_further_on_what_its_own_functions_used() {
    if !has_onnx_runtime() {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let cluster = house(folder.path(), 5).await;
    cluster
        .http
        .deploy("busy", &with(python(BUSY), json!({ "limits": { "cpu": 1000, "memory": 256 } })))
        .await;
    let usage = cluster.store().await.usage().await.expect("the stream").expect("it is kept");
    let called = std::time::Instant::now();
    for _ in 0..12 {
        call_twice(&cluster).await;
    }
    eventually("what they used is kept", async || {
        let read = usage.read(1_000).await.expect("the stream is read");
        read.batches.iter().map(|batch| batch.runs.len()).sum::<usize>() >= 24
    })
    .await;
    let read = usage.read(1_000).await.expect("the stream is read");
    let runs: Vec<_> = read.batches.iter().flat_map(|batch| &batch.runs).collect();
    assert!(runs.iter().all(|run| run.answered && run.usage.cpu_time.as_millis() >= 15), "{runs:?}");
    assert!(runs.iter().all(|run| run.ended_before.as_seconds() < called.elapsed().as_secs_f64() + 1.0));
    assert!(read.batches.iter().all(|batch| batch.vms == 1 && batch.skipped == 0));

    let out = folder.path().join("trained.onnx");
    let model = format!("controller.model={}", folder.path().join("in-force.onnx").display());
    let trained = cluster
        .operate(&[
            "train",
            "--from-cluster",
            "--anyway",
            "--iterations",
            "2",
            "--houses",
            "2",
            "--threads",
            "1",
            "--set",
            &model,
            "--out",
            out.to_str().expect("a path"),
        ])
        .await;
    assert!(trained.contains("24 runs of 1 functions") && trained.contains("It is model 1"), "{trained}");
    let models = cluster.store().await.models().await.expect("the models");
    assert_eq!(models.get(1).expect("handed in").bytes.0, std::fs::read(&out).expect("written"));
    // What comes of it depends on what it has learned; that something does is what is promised.
    calls_until(&cluster, "its trial is over", || {
        matches!(standing(&models, 1), Some(Standing::Taken(_) | Standing::Refused { .. }))
    })
    .await;
    tokio::time::timeout(Duration::from_secs(30), call_twice(&cluster)).await.expect("it goes on");
}
