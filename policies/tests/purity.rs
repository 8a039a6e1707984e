//! The deciding crate depends on nothing that could wait, listen or roll dice.

use std::process::Command;

#[test]
fn policies_does_not_depend_on_a_runtime_an_actor_or_a_socket() {
    let tree = Command::new(env!("CARGO"))
        .args(["tree", "-p", "policies", "-e", "normal", "--offline", "--prefix", "none"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs this test, so it can be run by it");
    assert!(tree.status.success(), "{}", String::from_utf8_lossy(&tree.stderr));
    let tree = String::from_utf8(tree.stdout).expect("crate names are text");
    let crates: Vec<&str> = tree.lines().filter_map(|line| line.split(' ').next()).collect();
    assert!(crates.contains(&"hashring"), "this is not the tree of policies:\n{tree}");
    for banned in ["tokio", "ractor", "async-nats", "futures", "mio", "socket2", "rand", "getrandom"] {
        assert!(!crates.contains(&banned), "policies depends on {banned}:\n{tree}");
    }
}
