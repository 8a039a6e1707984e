//! The processes that `windfall up` starts: kept alive, and ended in order.
//!
//! **Knows:** nats-server and one process per role; the Resource Monitor starts the VMs.
//! **Promises:** every process stands in a group of its own, so that Ctrl-C in a terminal reaches only `up`, which
//! then ends them in order; they are told to end when `up` is killed; one that dies is started again with a
//! growing pause, and said so. Nothing is ended that was not started here.
//! **Gives up:** VMs and sandboxes: those belong to the Resource Monitor. What it leaves behind is swept up by
//! [`super::leftovers`].

use std::fs::File;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use futures::future::join_all;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::{Child, Command};

use super::data_folder::DataFolder;
use super::disk::{Disk, Found};
use super::orders;
use crate::failure::{Exit, Failure, Outcome};
use crate::output::note;

/// How often the processes are looked at.
const LOOK: Duration = Duration::from_millis(100);
/// The first pause before a restart; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// The longest pause before a restart.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// Who has run this long starts with the first pause again.
const STEADY: Duration = Duration::from_secs(30);
/// Lines of its log that are shown when a process fails to start.
const LOG_LINES: usize = 12;

/// How to start a process.
pub struct Order {
    /// What it is; several may be the same, and end together.
    pub role: &'static str,
    /// What people call it; also the name of its log.
    pub name: String,
    /// The program.
    pub program: PathBuf,
    /// Its arguments. Never a secret: everybody on the machine can read them.
    pub arguments: Vec<String>,
    /// Variables on top of ours.
    pub environment: Vec<(String, String)>,
    /// Variables of ours that it must not see.
    pub hidden: Vec<String>,
    /// How it is told to end.
    pub stop_with: Signal,
    /// How long it may take to end.
    pub patience: Duration,
}

/// All processes, in the order in which they were started.
pub struct House {
    folder: DataFolder,
    members: Vec<Member>,
}

struct Member {
    order: Order,
    child: Option<Child>,
    began: Instant,
    pause: Duration,
    again_at: Instant,
}

impl House {
    /// Nobody yet.
    pub fn new(folder: DataFolder) -> Self {
        Self { folder, members: Vec::new() }
    }

    /// Starts a process.
    pub fn start(&mut self, order: Order) -> Outcome {
        let log = self.folder.log(&order.name)?;
        let child = spawn(&order, log)?;
        let now = Instant::now();
        self.members.push(Member {
            order,
            child: Some(child),
            began: now,
            pause: FIRST_PAUSE,
            again_at: now,
        });
        Ok(())
    }

    /// Comes back when a process has ended: while the house is being started that is a failure, and what the
    /// process wrote last is the reason.
    pub async fn someone_dies(&mut self) -> Failure {
        loop {
            for member in &mut self.members {
                if let Some(status) = member.ended() {
                    let name = &member.order.name;
                    return Failure::new(
                        Exit::Failed,
                        format!(
                            "{name} did not start ({status}). Its last words, from {}:\n{}",
                            self.folder.log_path(name).display(),
                            last_lines(&self.folder.log_path(name))
                        ),
                    );
                }
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Keeps everybody alive; never comes back.
    pub async fn keep(&mut self) -> std::convert::Infallible {
        let store = self.folder.path("jetstream");
        let mut disk = Disk::of(store.clone(), self.folder.log_path(orders::NATS));
        loop {
            for member in &mut self.members {
                member.look_after(&self.folder);
            }
            let server = self.members.iter_mut().find(|member| member.order.role == orders::NATS);
            if let Some(server) = server {
                match disk.look() {
                    Found::Nothing => {}
                    Found::Full => note!(
                        "THE DISK OF {} IS FULL: nothing durable is accepted, and records wait, until there is room",
                        store.display()
                    ),
                    Found::Room(false) => note!("there is room on the disk of {} again", store.display()),
                    Found::Room(true) => {
                        note!(
                            "there is room on the disk of {} again: starting nats-server again",
                            store.display()
                        );
                        server.stop().await;
                    }
                }
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Process ids of everybody who runs.
    pub fn pids(&self) -> Vec<u32> {
        self.members.iter().filter_map(|member| member.child.as_ref()?.id()).collect()
    }

    /// Ends everybody of a role, all at once: one must not take over what another leaves. Each has its own patience.
    pub async fn stop(&mut self, role: &str) {
        let of_role = self.members.iter_mut().filter(|member| member.order.role == role);
        join_all(of_role.map(Member::stop)).await;
        self.members.retain(|member| member.order.role != role);
    }

    /// The roles that there are, the last started first.
    pub fn roles(&self) -> Vec<&'static str> {
        let mut roles: Vec<_> = self.members.iter().rev().map(|member| member.order.role).collect();
        roles.dedup();
        roles
    }
}

impl Member {
    /// How it ended, if it has.
    fn ended(&mut self) -> Option<ExitStatus> {
        let status = self.child.as_mut()?.try_wait().ok()??;
        self.child = None;
        Some(status)
    }

    fn look_after(&mut self, folder: &DataFolder) {
        let name = self.order.name.clone();
        let name = name.as_str();
        if let Some(status) = self.ended() {
            if self.began.elapsed() >= STEADY {
                self.pause = FIRST_PAUSE;
            }
            let log = folder.log_path(name);
            note!("{name} ended ({status}); starting it again in {:?}. See {}", self.pause, log.display());
            self.again_at = Instant::now() + self.pause;
            self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        }
        if self.child.is_none() && Instant::now() >= self.again_at {
            self.began = Instant::now();
            let log = File::options().append(true).create(true).open(folder.log_path(name));
            match log.map_err(Failure::from).and_then(|log| spawn(&self.order, log)) {
                Ok(child) => {
                    note!("{name} runs again");
                    self.child = Some(child);
                }
                Err(error) => {
                    note!("{error}; trying again in {:?}", self.pause);
                    self.again_at = Instant::now() + self.pause;
                    self.pause = (self.pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
    }

    async fn stop(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        let Some(pid) = child.id().and_then(|pid| i32::try_from(pid).ok()) else { return };
        // It is our child and we have not waited for it, so the pid cannot mean anybody else.
        let _ = kill(Pid::from_raw(pid), self.order.stop_with);
        if tokio::time::timeout(self.order.patience, child.wait()).await.is_err() {
            note!("{} did not end within {:?}; killing it", self.order.name, self.order.patience);
            let _ = child.kill().await;
        }
    }
}

fn spawn(order: &Order, log: File) -> Outcome<Child> {
    let mut command = Command::new(&order.program);
    for name in &order.hidden {
        command.env_remove(name);
    }
    command
        .args(&order.arguments)
        .envs(order.environment.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .process_group(0);
    let up = std::process::id();
    // SAFETY: prctl and getppid are async-signal-safe, and nothing is allocated between fork and exec.
    unsafe {
        command.pre_exec(move || {
            nix::sys::prctl::set_pdeathsig(Signal::SIGTERM)?;
            // `up` may have died before the line above.
            if nix::unistd::getppid().as_raw() as u32 != up {
                return Err(std::io::ErrorKind::BrokenPipe.into());
            }
            Ok(())
        });
    }
    command.spawn().map_err(|error| {
        Failure::new(
            Exit::Failed,
            format!("cannot start {} ({}): {error}", order.name, order.program.display()),
        )
    })
}

fn last_lines(path: &std::path::Path) -> String {
    let bytes = std::fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    let from = lines.len().saturating_sub(LOG_LINES);
    lines[from..].iter().map(|line| format!("  {line}\n")).collect()
}
