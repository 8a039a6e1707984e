//! The cluster to measure: the one that runs here, or one of our own.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::{Child, Command};

use crate::failure::{Exit, Failure, Outcome};
use crate::up::{DataFolder, READY};

/// How long a private cluster may take to be ready.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// How long it may take to stop.
const STOP_WITHIN: Duration = Duration::from_secs(30);

/// A cluster that runs.
pub(super) struct Cluster {
    /// Its data folder.
    pub data: PathBuf,
    /// The process whose descendants are the cluster.
    up: u32,
    /// If it is ours.
    child: Option<Child>,
}

impl Cluster {
    /// The one of `data`, unless a private one is wanted or none runs there.
    pub async fn find_or_start(data: &Path, private: bool, together: bool) -> Outcome<Self> {
        if !private && DataFolder::of_running(data).is_some() {
            let lock = data.join("up.lock");
            let up = std::fs::read_to_string(&lock)?
                .trim()
                .parse()
                .map_err(|_| Failure::usage(format!("{} does not name a process", lock.display())))?;
            return Ok(Self { data: data.to_owned(), up, child: None });
        }
        let mut arguments = vec!["--vm-cpu", "2000", "--vm-memory", "4096"];
        if together {
            arguments.push("--together");
        }
        let arguments: Vec<String> = arguments.into_iter().map(str::to_owned).collect();
        Self::start(data, "calls", &arguments).await
    }

    /// One of our own, with these arguments of `windfall up`. `data` is where `deploy/up.sh` has put nats-server; `label` tells
    /// several at once apart.
    pub async fn start(data: &Path, label: &str, arguments: &[String]) -> Outcome<Self> {
        let folder = std::env::temp_dir().join(format!("windfall-bench-{}-{label}", std::process::id()));
        std::fs::create_dir_all(&folder)?;
        let log = std::fs::File::create(folder.join("up.log"))?;
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("up").arg("--data").arg(&folder).args(arguments);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).process_group(0).kill_on_drop(true);
        // The server that `deploy/up.sh` has installed belongs to the usual data folder.
        let server = data.join("bin").join("nats-server");
        if std::env::var_os("WINDFALL_NATS_SERVER").is_none() && server.is_file() {
            command.env("WINDFALL_NATS_SERVER", std::fs::canonicalize(server)?);
        }
        let mut child = command.spawn()?;
        let up = child.id().unwrap_or_default();
        let began = Instant::now();
        loop {
            let said = std::fs::read_to_string(folder.join("up.log")).unwrap_or_default();
            if said.contains(READY) {
                break;
            }
            let ended = child.try_wait()?;
            if ended.is_some() || began.elapsed() > READY_WITHIN {
                return Err(Failure::new(
                    Exit::Failed,
                    format!("the private cluster did not start:\n{said}"),
                ));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(Self { data: folder, up, child: Some(child) })
    }

    /// The processes whose trees are measured: the cluster's and our own.
    pub fn roots(&self) -> [u32; 2] {
        [self.up, std::process::id()]
    }

    /// Ends it, if it is ours.
    pub async fn stop(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        let _ = kill(Pid::from_raw(self.up as i32), Signal::SIGINT);
        if tokio::time::timeout(STOP_WITHIN, child.wait()).await.is_err() {
            eprintln!("the private cluster did not stop in time; its folder is {}", self.data.display());
            return;
        }
        // A leftover folder only costs space.
        let _ = std::fs::remove_dir_all(&self.data);
    }
}
