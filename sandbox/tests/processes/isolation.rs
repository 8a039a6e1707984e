//! What a function can see and do of the machine: as little as promised.

use std::time::Duration;

use sandbox::Family;
use vocabulary::Resources;

use crate::harness::tests;
use crate::house::*;

tests![
    a_python_function_is_alone_in_its_namespaces,
    programs_are_isolated_in_the_same_way,
    the_system_is_read_only_and_scratch_space_is_ones_own,
    devices_and_the_hosts_sockets_are_out_of_reach,
    code_of_others_is_out_of_reach,
    the_number_of_open_files_is_limited,
    a_fork_bomb_is_bounded,
    scratch_space_is_bounded,
    what_a_sandbox_leaves_is_removed,
];

const LOOK: &str = r#"
import os, sys, json, socket
def main(args):
    status = dict(line.split(':\t', 1) for line in open('/proc/self/status').read().splitlines() if ':\t' in line)
    fds = sorted(int(fd) for fd in os.listdir('/proc/self/fd'))
    kinds = [os.readlink('/proc/self/fd/%d' % fd).split(':')[0] for fd in range(4)]
    return {
        'pid': os.getpid(), 'sid': os.getsid(0), 'uid': os.getresuid(), 'gid': os.getresgid(),
        'groups': os.getgroups(), 'host': socket.gethostname(),
        'processes': sorted(int(p) for p in os.listdir('/proc') if p.isdigit()),
        'new_privileges': status['NoNewPrivs'].strip(), 'capabilities': status['CapEff'].strip(),
        'ambient': status['CapAmb'].strip(),
        # One more is open while the folder is listed.
        'fds': fds[:-1], 'kinds': kinds, 'cwd': os.getcwd(),
        'namespaces': {n: os.readlink('/proc/self/ns/' + n) for n in ('pid', 'mnt', 'ipc', 'uts')},
    }
"#;

async fn a_python_function_is_alone_in_its_namespaces() {
    let house = House::open().await;
    if !house.is_enforced() || !house.has(Family::Python) {
        return;
    }
    let (mut one, mut two) = (house.python(LOOK).await, house.python(LOOK).await);
    let (seen, other) = (json(&one.run(run("{}")).await), json(&two.run(run("{}")).await));
    assert_eq!(seen["pid"], 1);
    assert_eq!(seen["sid"], 1);
    assert_eq!(seen["processes"], serde_json::json!([1]));
    assert_eq!(seen["new_privileges"], "1");
    assert_eq!(seen["capabilities"], "0000000000000000");
    assert_eq!(seen["ambient"], "0000000000000000");
    assert_eq!(seen["fds"], serde_json::json!([0, 1, 2, 3]));
    assert_eq!(seen["kinds"], serde_json::json!(["pipe", "pipe", "pipe", "pipe"]));
    assert_eq!(seen["host"], one.name());
    assert_eq!(seen["groups"], serde_json::json!([]));
    assert_eq!(seen["cwd"], "/tmp");
    for id in ["uid", "gid"] {
        assert!(seen[id][0].as_u64().unwrap() >= 2_000_000);
        assert!(seen[id][0] == seen[id][1] && seen[id][1] == seen[id][2], "{seen}");
        assert_ne!(seen[id], other[id], "each sandbox is a user of its own");
    }
    for name in ["pid", "mnt", "ipc", "uts"] {
        let ours = std::fs::read_link(format!("/proc/self/ns/{name}")).unwrap();
        assert_ne!(seen["namespaces"][name], ours.to_str().unwrap());
        assert_ne!(seen["namespaces"][name], other["namespaces"][name]);
    }
    one.stop().await;
    two.stop().await;
    house.workshop.close().await;
}

async fn programs_are_isolated_in_the_same_way() {
    let house = House::open().await;
    if !house.is_enforced() {
        return;
    }
    // Without a subshell, which would bring descriptors of its own; the shell keeps its script open above 9.
    let script = r#"#!/bin/sh
fds=
for fd in 0 1 2 3 4 5 6 7 8 9; do if [ -e /proc/$$/fd/$fd ]; then fds="$fds$fd"; fi; done
while read -r line; do
  sid=$(cut -d' ' -f6 /proc/$$/stat)
  privs=$(grep NoNewPrivs /proc/$$/status | cut -f2)
  echo "{\"pid\":$$,\"uid\":$(id -u),\"fds\":\"$fds\",\"sid\":$sid,\"privs\":\"$privs\"}" >&3
done
"#;
    let mut sandbox = house.start(order(Family::Native, script, false)).await;
    let seen = json(&sandbox.run(run("{}")).await);
    assert_eq!((&seen["pid"], &seen["sid"]), (&1.into(), &1.into()));
    assert!(seen["uid"].as_u64().unwrap() >= 2_000_000);
    assert_eq!((&seen["fds"], &seen["privs"]), (&"0123".into(), &"1".into()));
    sandbox.stop().await;
    if house.has(Family::Nodejs) {
        let code = "const fs = require('fs'); function main() { return { pid: process.pid, uid: process.getuid(), status: fs.readFileSync('/proc/self/status', 'utf8') } }";
        let mut sandbox = house.start(node(code)).await;
        let seen = json(&sandbox.run(run("{}")).await);
        assert_eq!(seen["pid"], 1);
        assert!(seen["uid"].as_u64().unwrap() >= 2_000_000);
        assert!(seen["status"].as_str().unwrap().contains("NoNewPrivs:\t1"));
        sandbox.stop().await;
    }
    house.workshop.close().await;
}

async fn the_system_is_read_only_and_scratch_space_is_ones_own() {
    let house = House::open().await;
    if !house.is_enforced() || !house.has(Family::Python) {
        return;
    }
    let code = r#"
import os
def attempt(path):
    try:
        open(path, 'w').write('x')
        return 'written'
    except OSError as error:
        return os.strerror(error.errno)
def main(args):
    places = ['/x', '/etc/x', '/var/tmp/x', '/dev/x', '/run/x', '/run/function/x', '/run/function/__main__.py', '/sys/x', '/proc/x', '/dev/shm/mine', '/tmp/mine']
    before = os.listdir('/tmp')
    return {'before': before, **{path: attempt(path) for path in places}}
"#;
    let (mut one, mut two) = (house.python(code).await, house.python(code).await);
    for sandbox in [&mut one, &mut two] {
        let seen = json(&sandbox.run(run("{}")).await);
        assert_eq!(seen["before"], serde_json::json!([]), "nobody else's files are there");
        for (path, result) in seen.as_object().unwrap() {
            if path.ends_with("/mine") {
                assert_eq!(result, "written", "{path}");
            } else if path != "before" {
                assert_ne!(result, "written", "{path}");
            }
        }
        assert_eq!(seen["/etc/x"], "Read-only file system");
    }
    let seen = json(&one.run(run("{}")).await);
    assert_eq!(seen["before"], serde_json::json!(["mine"]), "its own files are still there");
    one.stop().await;
    two.stop().await;
    house.workshop.close().await;
}

async fn devices_and_the_hosts_sockets_are_out_of_reach() {
    let house = House::open().await;
    if house.is_enforced() && house.has(Family::Python) {
        let code = "import os\ndef main(args):\n    return {'dev': sorted(os.listdir('/dev')), 'run': sorted(os.listdir('/run')), 'random': len(open('/dev/urandom', 'rb').read(8))}\n";
        let mut sandbox = house.python(code).await;
        let seen = json(&sandbox.run(run("{}")).await);
        let harmless =
            ["fd", "full", "null", "random", "shm", "stderr", "stdin", "stdout", "urandom", "zero"];
        assert_eq!(seen["dev"], serde_json::json!(harmless));
        assert_eq!(seen["random"], 8);
        let ours = ["code", "function", "runtimes", "systemd", "resolvconf", "NetworkManager"];
        for name in seen["run"].as_array().unwrap() {
            assert!(ours.contains(&name.as_str().unwrap()), "{name}");
        }
        sandbox.stop().await;
    }
    house.workshop.close().await;
}

async fn code_of_others_is_out_of_reach() {
    let house = House::open().await;
    if house.is_enforced() && house.has(Family::Python) {
        let other = house.python("secret = 1\ndef main(args):\n    return {}\n").await;
        let code = "import os\ndef main(args):\n    try:\n        return {'seen': os.listdir('/run/code')}\n    except OSError as error:\n        return {'refused': os.strerror(error.errno), 'own': os.listdir('/run/function')}\n";
        let mut sandbox = house.python(code).await;
        let seen = json(&sandbox.run(run("{}")).await);
        assert_eq!(seen["refused"], "Permission denied");
        assert_eq!(seen["own"], serde_json::json!(["__main__.py"]));
        other.stop().await;
        sandbox.stop().await;
    }
    house.workshop.close().await;
}

async fn the_number_of_open_files_is_limited() {
    let house = House::open().await;
    if house.has(Family::Python) {
        let code = "def main(args):\n    files = []\n    try:\n        for _ in range(args['n']):\n            files.append(open('/dev/null'))\n    except OSError as error:\n        return {'errno': error.errno, 'opened': len(files)}\n    return {'opened': len(files)}\n";
        let mut sandbox = house.python(code).await;
        assert_eq!(json(&sandbox.run(run(r#"{"n":994}"#)).await)["opened"], 994);
        assert_eq!(json(&sandbox.run(run(r#"{"n":1025}"#)).await)["errno"], 24);
        sandbox.stop().await;
    }
    house.workshop.close().await;
}

async fn a_fork_bomb_is_bounded() {
    let house = House::with(|settings| settings.pids_limit = 32).await;
    if house.is_enforced() && house.has(Family::Python) {
        let code = "import os, time\ndef main(args):\n    n = 0\n    try:\n        while n < 1000:\n            if os.fork() == 0:\n                time.sleep(1000)\n            n += 1\n    except OSError as error:\n        return {'n': n, 'errno': error.errno}\n    return {'n': n}\n";
        let mut sandbox = house.python(code).await;
        let seen = json(&sandbox.run(run("{}")).await);
        assert_eq!(seen["errno"], 11);
        assert!(seen["n"].as_u64().unwrap() < 32, "{seen}");
        sandbox.stop().await;
    }
    house.workshop.close().await;
}

async fn scratch_space_is_bounded() {
    let house = House::with(|settings| settings.tmp_limit = vocabulary::Mebibytes(8)).await;
    if house.is_enforced() && house.has(Family::Python) {
        let code = "def main(args):\n    try:\n        with open('/tmp/big', 'wb') as f:\n            for n in range(1000):\n                f.write(b'x' * (1 << 20))\n                f.flush()\n    except OSError as error:\n        return {'n': n, 'errno': error.errno}\n";
        let mut sandbox = house.python(code).await;
        let seen = json(&sandbox.run(run("{}")).await);
        assert_eq!((seen["errno"].as_i64(), seen["n"].as_i64()), (Some(28), Some(8)));
        sandbox.stop().await;
    }
    house.workshop.close().await;
}

async fn what_a_sandbox_leaves_is_removed() {
    let house = House::open().await;
    if !house.is_enforced() {
        return;
    }
    let mut order =
        order(Family::Native, "#!/bin/sh\nread -r l; (setsid sleep 1000 &); echo {} >&3; read -r l\n", false);
    order.ceiling = Resources::new(500, 64);
    order.name = format!("left-{}", std::process::id());
    let name = order.name.clone();
    let mut sandbox = house.start(order).await;
    assert_eq!(answer(&sandbox.run(run("{}")).await), "{}");
    assert_ne!(groups_named(&name), 0);
    sandbox.stop().await;
    assert_eq!(groups_named(&name), 0);

    // And what was dropped instead of stopped is removed at the end.
    let mut order = crate::house::order(Family::Native, "#!/bin/sh\nread -r l\n", false);
    order.name = name.clone();
    drop(house.start(order).await);
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert_ne!(groups_named(&name), 0);
    house.workshop.close().await;
    assert_eq!(groups_named(&name), 0);
}

/// How many control groups of that name there are, in all hierarchies.
fn groups_named(name: &str) -> usize {
    let mut folders = vec![std::path::PathBuf::from("/sys/fs/cgroup")];
    let mut found = 0;
    while let Some(folder) = folders.pop() {
        let Ok(entries) = std::fs::read_dir(folder) else { continue };
        for entry in entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
            found += usize::from(entry.file_name() == name);
            folders.push(entry.path());
        }
    }
    found
}
