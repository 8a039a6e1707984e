//! One process of a cluster: started, killed, started again.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// The variable by which everything that a cluster started is found again; `windfall up` uses the same.
const MARK: &str = "WINDFALL_CLUSTER";

/// Whether this test may change control groups.
pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// How to start a process, and the process while it lives.
pub(crate) struct Process {
    pub(crate) name: String,
    program: PathBuf,
    arguments: Vec<String>,
    environment: BTreeMap<String, String>,
    log: PathBuf,
    child: Option<Child>,
}

impl Process {
    /// Not yet started; it will log to `<folder>/<name>.log` and carry the cluster's mark.
    pub(crate) fn new(
        name: &str,
        program: PathBuf,
        arguments: Vec<String>,
        folder: &Path,
        cluster: &str,
    ) -> Self {
        let mut environment: BTreeMap<String, String> =
            ["PATH", "HOME", "WINDFALL_PYTHON", "WINDFALL_ONNXRUNTIME", "TMPDIR"]
                .into_iter()
                .filter_map(|name| Some((name.to_owned(), std::env::var(name).ok()?)))
                .collect();
        environment.insert(MARK.into(), cluster.into());
        let log = folder.join(format!("{name}.log"));
        Self { name: name.into(), program, arguments, environment, log, child: None }
    }

    /// A variable that it will see.
    pub(crate) fn set(&mut self, name: String, value: String) {
        self.environment.insert(name, value);
    }

    /// Starts it; its log goes on where it ended.
    pub(crate) fn start(&mut self) {
        assert!(self.child.is_none(), "{} runs already", self.name);
        let log = OpenOptions::new().append(true).create(true).open(&self.log).expect("a log");
        let mut command = Command::new(&self.program);
        command
            .args(&self.arguments)
            .env_clear()
            .envs(&self.environment)
            .current_dir(self.log.parent().expect("a folder"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log"))
            .stderr(log)
            // Ctrl-C in a terminal ends the test, and the test ends this.
            .process_group(0);
        // SAFETY: prctl is async-signal-safe, and nothing is allocated between fork and exec.
        unsafe {
            command.pre_exec(|| Ok(nix::sys::prctl::set_pdeathsig(Signal::SIGTERM)?));
        }
        let child = command.spawn();
        self.child = Some(child.unwrap_or_else(|error| {
            panic!("cannot start {} ({}): {error}", self.name, self.program.display())
        }));
    }

    /// Its process id, while it lives.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// How it ended, if it has ended by itself.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.as_mut()?.try_wait().ok()?
    }

    /// Waits until it has ended by itself.
    pub(crate) fn wait(&mut self, patience: Duration) -> Option<ExitStatus> {
        let until = Instant::now() + patience;
        loop {
            if let Some(status) = self.ended() {
                self.child = None;
                return Some(status);
            }
            if self.child.is_none() || Instant::now() > until {
                return None;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Tells it something.
    pub(crate) fn signal(&self, signal: Signal) {
        // It is our child and we have not waited for it, so the id cannot mean anybody else.
        if let Some(pid) = self.pid().and_then(|pid| i32::try_from(pid).ok()) {
            let _ = kill(Pid::from_raw(pid), signal);
        }
    }

    /// Ends it without warning, as a crash would.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// The end of what it logged.
    pub(crate) fn last_words(&self, lines: usize) -> String {
        let bytes = fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        let all: Vec<&str> = text.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }

    /// Everything that it logged.
    pub(crate) fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Ends every process that carries the cluster's mark. Only what this test has started, and what that started, can:
/// the cluster's name is random.
pub(crate) fn end_marked(cluster: &str) -> usize {
    let marked = marked(cluster);
    for pid in &marked {
        let _ = kill(*pid, Signal::SIGKILL);
    }
    marked.len()
}

fn marked(cluster: &str) -> Vec<Pid> {
    let mark = format!("{MARK}={cluster}");
    let Ok(processes) = fs::read_dir("/proc") else { return Vec::new() };
    processes
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
        .filter(|pid| {
            let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environment.split(|byte| *byte == 0).any(|variable| variable == mark.as_bytes())
        })
        .map(Pid::from_raw)
        .collect()
}
