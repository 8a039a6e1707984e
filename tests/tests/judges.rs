//! The clouds' own clients take our metadata service for the real thing.
//!
//! Opt in: WINDFALL_JUDGES names a folder in which `python3 -m venv .` and `bin/pip install ec2-metadata` were run, and
//! `npm install @aws-sdk/ec2-metadata-service gcp-metadata`. They ask 169.254.169.254, so it needs root, too.
#![allow(missing_docs)]

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use chaos::metadata::{ADDRESS, MetadataServer};
use windfall_tests::is_inside_own_network;

fn judge(folder: &PathBuf, program: &str, text: &str) -> String {
    let flag = if program == "node" { "-e" } else { "-c" };
    let output =
        Command::new(program).args([flag, text]).current_dir(folder).env("NO_GCE_CHECK", "true").output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}"));
    let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    assert!(output.status.success(), "{program}: {said}{}", String::from_utf8_lossy(&output.stderr));
    said
}

#[test]
fn the_clouds_own_clients_are_content() {
    let Some(folder) = std::env::var_os("WINDFALL_JUDGES").map(PathBuf::from) else {
        println!("skipped: WINDFALL_JUDGES names no folder with the clouds' own clients");
        return;
    };
    if !is_inside_own_network("the_clouds_own_clients_are_content") {
        return;
    }
    let server = MetadataServer::start(ADDRESS, "vm-spot").expect("the address is ours here");
    let python = folder.join("bin/python").display().to_string();
    let of_python = "from ec2_metadata import ec2_metadata as m
a = m.spot_instance_action
print(m.instance_id, a and a.action)";
    let of_aws = "const {MetadataService} = require('@aws-sdk/ec2-metadata-service'); const m = new MetadataService({});
        m.request('/latest/meta-data/spot/instance-action', {}).then(text => console.log(JSON.parse(text).action),
            error => console.log('none')).finally(() => process.exit())";
    let of_google = "require('gcp-metadata').instance('preempted').then(text => console.log(text))
            .finally(() => process.exit())";
    assert_eq!(judge(&folder, &python, of_python), "i-0123456789abcdef0 None");
    assert_eq!(judge(&folder, "node", of_aws), "none");
    assert_eq!(judge(&folder, "node", of_google), "FALSE");
    server.evict(Duration::from_secs(120));
    let said = judge(&folder, &python, of_python);
    assert!(said.contains("terminate"), "{said}");
    assert_eq!(judge(&folder, "node", of_aws), "terminate");
    assert_eq!(judge(&folder, "node", of_google), "TRUE");
}
