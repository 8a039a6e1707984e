//! The same sandboxes where nothing may be enforced: as for somebody who is not root.

use sandbox::{Family, Verdict};
use vocabulary::{Resources, Span};

use crate::harness::tests;
use crate::house::*;

tests![
    everything_runs_unenforced_and_says_so_loudly,
    limits_can_be_written_and_change_nothing,
    an_endless_loop_is_ended_without_namespaces_too,
    it_works_for_a_user_who_is_not_root,
];

async fn everything_runs_unenforced_and_says_so_loudly() {
    let house = House::unenforced().await;
    let said = house.workshop.enforcement().to_string();
    assert!(said.contains("NOT") && said.contains("switched off"), "{said}");
    for (code, family) in [
        (
            "import os\ndef main(args):\n    open('mine', 'w').write('x')\n    return {'at_home': os.getcwd() == os.environ['HOME'], 'sid': os.getsid(0) == os.getpid()}\n",
            Family::Python,
        ),
        (
            "function main() { return { at_home: process.cwd() === process.env.HOME, sid: true } }",
            Family::Nodejs,
        ),
        ("#!/bin/sh\nwhile read -r l; do echo '{\"at_home\":true,\"sid\":true}' >&3; done\n", Family::Native),
    ] {
        if house.has(family) {
            let mut sandbox = house.start(order(family, code, false)).await;
            for _ in 0..2 {
                let report = sandbox.run(run("{}")).await;
                assert_eq!(answer(&report), r#"{"at_home":true,"sid":true}"#);
                assert!(report.usage.memory_peak.0 > 0, "{:?}", report.usage);
            }
            sandbox.stop().await;
        }
    }
    house.workshop.close().await;
}

async fn limits_can_be_written_and_change_nothing() {
    let house = House::unenforced().await;
    let mut sandbox =
        house.start(order(Family::Native, "#!/bin/sh\nread -r l; echo {} >&3; read -r l\n", false)).await;
    let limits = sandbox.limits();
    limits.set_ceiling(Resources::new(10, 1)).unwrap();
    assert_eq!(answer(&sandbox.run(run("{}")).await), "{}");
    assert!(limits.sample().unwrap().memory > 0);
    sandbox.pause().unwrap();
    sandbox.resume().unwrap();
    assert!(sandbox.is_alive());
    sandbox.stop().await;
    house.workshop.close().await;
}

async fn an_endless_loop_is_ended_without_namespaces_too() {
    let house = House::unenforced().await;
    let script = "#!/bin/sh\nread -r l\nsleep 999 & wait\n";
    let mut sandbox = house.start(order(Family::Native, script, false)).await;
    let mut order = run("{}");
    order.timeout = Span::millis(300);
    assert_eq!(sandbox.run(order).await.verdict, Verdict::TimedOut);
    sandbox.stop().await;
    house.workshop.close().await;
}

/// Runs this executable again as another user: a Workshop that may nothing.
async fn it_works_for_a_user_who_is_not_root() {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::process::CommandExt;
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    if !status.lines().any(|line| line.starts_with("Uid:\t0\t0")) {
        let house = House::open().await;
        let enforcement = house.workshop.enforcement();
        assert!(!enforcement.users && !enforcement.namespaces && enforcement.to_string().contains("NOT"));
        for family in [Family::Python, Family::Native] {
            let code = match family {
                Family::Python => "def main(args):\n    return {}\n",
                _ => "#!/bin/sh\nread -r l; echo {} >&3\n",
            };
            if house.has(family) {
                let mut sandbox = house.start(order(family, code, false)).await;
                assert_eq!(answer(&sandbox.run(run("{}")).await), "{}");
                sandbox.stop().await;
            }
        }
        house.workshop.close().await;
        return;
    }
    // The executable may lie where only root can reach it.
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    let program = folder.path().join("processes");
    std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    let output = std::process::Command::new(&program)
        .args(["--exact", concat!(module_path!(), "::it_works_for_a_user_who_is_not_root")])
        .current_dir("/")
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .env("TMPDIR", folder.path())
        .uid(65_534)
        .gid(65_534)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("1 passed"), "{text}");
}
