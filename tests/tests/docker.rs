//! VMs that are containers of a real Docker Engine, which this test starts in a network of its own.
#![allow(missing_docs)]

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use vocabulary::MilliCores;
use windfall_tests::{Cluster, Plan, binary, eventually, is_inside_own_network};

struct Engine {
    process: Child,
    folder: tempfile::TempDir,
}

impl Engine {
    fn start() -> Self {
        let folder = tempfile::Builder::new().prefix("windfall-docker-").tempdir().unwrap();
        let at = |name: &str| folder.path().join(name).display().to_string();
        let log = std::fs::File::create(at("log")).unwrap();
        let process = Command::new("dockerd")
            .args(["--data-root", &at("root"), "--exec-root", &at("exec"), "--pidfile", &at("pid")])
            .args(["-H", &format!("unix://{}", at("socket"))])
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .expect("dockerd starts");
        let engine = Self { process, folder };
        let until = Instant::now() + Duration::from_secs(60);
        while !engine.docker(&["version"]).0 {
            let log = std::fs::read_to_string(engine.folder.path().join("log")).unwrap_or_default();
            assert!(Instant::now() < until, "dockerd does not answer:\n{log}");
            std::thread::sleep(Duration::from_millis(100));
        }
        engine
    }

    fn socket(&self) -> String {
        self.folder.path().join("socket").display().to_string()
    }

    fn docker(&self, arguments: &[&str]) -> (bool, String) {
        let output = Command::new("docker")
            .arg("-H")
            .arg(format!("unix://{}", self.socket()))
            .args(arguments)
            .output();
        let output = output.expect("the docker client runs");
        let said = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&said).trim().to_owned())
    }

    /// An image of nothing: everything in it is bound from this machine.
    fn make_image(&self, entry: &Path) {
        let root = self.folder.path().join("image");
        for folder in ["usr", "etc", "tmp", "proc", "sys", "dev", "root", "windfall"] {
            std::fs::create_dir_all(root.join(folder)).unwrap();
        }
        for name in ["bin", "sbin", "lib", "lib64"] {
            std::os::unix::fs::symlink(format!("usr/{name}"), root.join(name)).unwrap();
        }
        std::fs::copy(entry, root.join("windfall/windfall")).unwrap();
        let tar = self.folder.path().join("image.tar");
        let packed = Command::new("tar").arg("-C").arg(&root).arg("-cf").arg(&tar).arg(".").status().unwrap();
        assert!(packed.success());
        let (fine, said) = self.docker(&[
            "import",
            "--change",
            "ENTRYPOINT [\"/windfall/windfall\"]",
            &tar.display().to_string(),
            "windfall:test",
        ]);
        assert!(fine, "{said}");
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let pid = nix::unistd::Pid::from_raw(self.process.id() as i32);
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        let until = Instant::now() + Duration::from_secs(20);
        while !matches!(self.process.try_wait(), Ok(Some(_))) && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(50));
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
        // It leaves the namespace of its host network mounted, and then the folder cannot be removed.
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let here = self.folder.path().display().to_string();
        let ours =
            mounts.lines().filter_map(|line| line.split(' ').nth(1)).filter(|at| at.starts_with(&here));
        for mounted in ours.collect::<Vec<_>>().into_iter().rev() {
            let _ = Command::new("umount").args(["--lazy", mounted]).status();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_are_vms_that_their_engine_resizes_and_that_are_replaced() {
    if Command::new("dockerd").arg("--version").output().is_err() {
        println!("skipped: there is no dockerd on PATH (package docker.io)");
        return;
    }
    if !is_inside_own_network("containers_are_vms_that_their_engine_resizes_and_that_are_replaced") {
        return;
    }
    let engine = Engine::start();
    engine.make_image(&binary());
    let setting = |key, value: &str| (key, value.to_owned());
    let settings = vec![
        setting("resource_monitor.provider", "docker"),
        setting("docker.socket", &engine.socket()),
        setting("docker.image", "windfall:test"),
        setting("docker.network", "host"),
        // Docker's own first process is put into /sbin, which is this machine's here.
        setting("docker.init", "false"),
        setting("docker.binds", "/usr:/usr:ro /etc:/etc:ro"),
        setting("vm.notices", "none"),
    ];
    let cluster = Cluster::of(Plan { vms: 1, settings, ..Plan::default() }).await;
    let vm = cluster.open_vms().await.remove(0);
    assert_eq!(vm.capacity.cpu, MilliCores(1000), "{vm:?}");
    eventually("it says what limits it", async || {
        cluster.fleet().await[0].capacity_source.starts_with("cgroup")
    })
    .await;
    let (_, name) = engine.docker(&["ps", "--format", "{{.Names}}"]);
    assert!(name.ends_with(&vm.vm.to_string()), "{name}");
    let (fine, said) = engine.docker(&["update", "--cpus", "0.4", &name]);
    assert!(fine, "{said}");
    let resized = Instant::now();
    eventually("it has shrunk", async || cluster.fleet().await[0].capacity.cpu == MilliCores(400)).await;
    println!("from `docker update` to the list of the fleet: {:?}", resized.elapsed());
    let (fine, said) = engine.docker(&["kill", &name]);
    assert!(fine, "{said}");
    eventually("another is there instead", async || {
        let now = cluster.open_vms().await;
        now.len() == 1 && now[0].vm != vm.vm
    })
    .await;
    drop(cluster);
    assert_eq!(engine.docker(&["ps", "-aq"]), (true, String::new()), "they end with the cluster");
}
