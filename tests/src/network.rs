//! A network of its own for one test: a namespace in which 169.254.169.254 can be had without anybody noticing.

use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::sched::{CloneFlags, unshare};

use crate::process::is_root;

const INSIDE: &str = "WINDFALL_TEST_NETWORK";

/// Whether the test named `test` runs in a network of its own now. If it does not, the same test is run in one, and
/// there is nothing left to do; where that cannot be, it says why.
///
/// # Panics
/// When the test fails there.
pub fn is_inside_own_network(test: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        for arguments in
            [["link", "set", "lo", "up"].as_slice(), &["addr", "add", "169.254.169.254/32", "dev", "lo"]]
        {
            assert!(ip(arguments), "ip {arguments:?}");
        }
        return true;
    }
    if !is_root() {
        println!("skipped: a network namespace needs root");
        return false;
    }
    if !ip(&["-V"]) {
        println!("skipped: there is no `ip` on PATH (package iproute2)");
        return false;
    }
    let mut command = Command::new(std::env::current_exe().expect("a program"));
    command.args([test, "--exact", "--nocapture"]).env(INSIDE, test);
    // SAFETY: unshare is a system call, and nothing is allocated between fork and exec.
    unsafe { command.pre_exec(|| Ok(unshare(CloneFlags::CLONE_NEWNET)?)) };
    match command.status() {
        Ok(status) => assert!(status.success(), "{test} failed in its own network"),
        Err(error) => println!("skipped: no network namespace: {error}"),
    }
    false
}

fn ip(arguments: &[&str]) -> bool {
    let output = Command::new("ip").args(arguments).output();
    output.is_ok_and(|output| output.status.success())
}
