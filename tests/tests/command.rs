//! VMs that a program makes: the example that is shipped.
#![allow(missing_docs)]

use std::path::PathBuf;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use windfall_tests::{Cluster, Plan, binary, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn the_example_of_a_program_keeps_the_fleet_and_replaces_what_dies() {
    // With a blank in its name, as everything here may have.
    let folder = tempfile::Builder::new().prefix("windfall processes").tempdir().unwrap();
    let program = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../deploy/providers/processes.py");
    // `env` carries what the program must know.
    let command = [
        "env",
        &format!("WINDFALL_PROCESSES={}", folder.path().display()),
        &format!("WINDFALL_BINARY={}", binary().display()),
        "python3",
        program.to_str().unwrap(),
    ];
    let command = shlex::try_join(command).unwrap();
    let setting = |key, value: String| (key, value);
    let settings = vec![
        setting("resource_monitor.provider", "command".into()),
        setting("resource_monitor.on_stop", "retire".into()),
        setting("command.program", command),
    ];
    let cluster = Cluster::of(Plan { vms: 2, settings, ..Plan::default() }).await;
    let first = cluster.open_vms().await;
    assert!(folder.path().join(first[0].vm.to_string()).exists(), "it was the program that made it");
    kill(Pid::from_raw(first[0].pid as i32), Signal::SIGKILL).unwrap();
    eventually("another is there instead", async || {
        let now = cluster.open_vms().await;
        now.len() == 2 && now.iter().all(|vm| vm.vm != first[0].vm)
    })
    .await;
    let last = cluster.open_vms().await;
    drop(cluster);
    for vm in last {
        eventually("it ends with the cluster", async || !PathBuf::from(format!("/proc/{}", vm.pid)).exists())
            .await;
    }
}
