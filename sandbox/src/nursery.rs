//! The nurseries, seen from the Workshop: asks for processes, restarts what crashed.
//!
//! **Knows:** the socket to one nursery; what is said on it stands in `birth/serve.rs`.
//! **Promises:** a nursery that has died is started anew for the next request, and that is counted.
//! **Gives up:** more than one request at a time per nursery: a fork takes about a millisecond.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::Mutex;

use crate::Launcher;
use crate::birth::{self, Answer, Request, Role};
use crate::pipes;

/// Importing modules on a busy machine takes a while.
const READY_WITHIN: Duration = Duration::from_secs(30);
/// A fork does not.
const BORN_WITHIN: Duration = Duration::from_secs(10);

/// A process that makes processes.
pub(crate) struct Nursery {
    launcher: Launcher,
    role: Role,
    live: Mutex<Option<Live>>,
    restarts: AtomicU64,
    next: AtomicU64,
}

struct Live {
    child: Child,
    socket: AsyncFd<OwnedFd>,
}

impl Drop for Live {
    fn drop(&mut self) {
        // It kills what it has made only when its socket ends; a nursery that is out of step may not.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Nursery {
    /// Starts one and waits until it is ready.
    pub(crate) async fn open(launcher: Launcher, role: Role) -> io::Result<Self> {
        let live = Live::start(&launcher, &role).await?;
        Ok(Self {
            launcher,
            role,
            live: Mutex::new(Some(live)),
            restarts: AtomicU64::new(0),
            next: AtomicU64::new(1),
        })
    }

    /// How often it had to be started anew.
    pub(crate) fn restarts(&self) -> u64 {
        self.restarts.load(Ordering::Relaxed)
    }

    /// Its process, for tests of its crash.
    pub(crate) async fn pid(&self) -> Option<u32> {
        self.live.lock().await.as_ref().map(|live| live.child.id())
    }

    /// Asks for a process with these descriptors; returns its number and its descriptor.
    pub(crate) async fn birth(&self, mut request: Request, fds: &[OwnedFd]) -> io::Result<(i32, OwnedFd)> {
        let fds: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
        let mut live = self.live.lock().await;
        let mut last = None;
        for _ in 0..2 {
            if live.is_none() {
                self.restarts.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(
                    role = self.what(),
                    "a process that makes sandboxes has died; starting it anew"
                );
                *live = Some(Live::start(&self.launcher, &self.role).await?);
            }
            let alive = live.as_ref().expect("it was just started");
            request.id = self.next.fetch_add(1, Ordering::Relaxed);
            match tokio::time::timeout(BORN_WITHIN, alive.ask(&request, &fds)).await {
                Ok(Ok(answer)) => return answer,
                Ok(Err(error)) => last = Some(error),
                Err(_) => last = Some(io::ErrorKind::TimedOut.into()),
            }
            // Dead or out of step.
            *live = None;
        }
        Err(last.expect("the loop ends early without an error"))
    }

    /// Ends it, and with it everything it has made that still lives.
    pub(crate) async fn close(&self) {
        let Some(mut live) = self.live.lock().await.take() else { return };
        // SAFETY: shuts down our own socket; the nursery sees its end, kills its children and exits.
        unsafe { libc::shutdown(live.socket.as_raw_fd(), libc::SHUT_RDWR) };
        for _ in 0..200 {
            if matches!(live.child.try_wait(), Ok(Some(_)) | Err(_)) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    fn what(&self) -> &'static str {
        if self.role.python.is_some() { "python" } else { "exec" }
    }
}

impl Live {
    async fn start(launcher: &Launcher, role: &Role) -> io::Result<Self> {
        let (ours, theirs) = socket_pair()?;
        let role = serde_json::to_string(role).map_err(io::Error::other)?;
        let child = Command::new(&launcher.program)
            .args(&launcher.args)
            .arg(role)
            .env_clear()
            .envs(crate::environment(&[]))
            .current_dir("/")
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::null())
            .spawn()?;
        let live = Self { child, socket: pipes::watched(ours, Interest::READABLE | Interest::WRITABLE)? };
        let ready = tokio::time::timeout(READY_WITHIN, live.receive()).await.map_err(io::Error::from)??;
        match ready {
            Some((Answer { ready: true, .. }, _)) => Ok(live),
            Some((Answer { error, .. }, _)) => Err(io::Error::other(error.unwrap_or_default())),
            None => Err(io::Error::new(io::ErrorKind::BrokenPipe, "it ended at once")),
        }
    }

    /// The outer error is the nursery's, the inner one the child's.
    async fn ask(&self, request: &Request, fds: &[RawFd]) -> io::Result<io::Result<(i32, OwnedFd)>> {
        let text = serde_json::to_vec(request).map_err(io::Error::other)?;
        loop {
            let mut guard = self.socket.writable().await?;
            if let Ok(done) = guard.try_io(|socket| birth::send_bytes(socket.as_raw_fd(), &text, fds)) {
                done?;
                break;
            }
        }
        loop {
            let Some((answer, mut fds)) = self.receive().await? else {
                return Err(io::ErrorKind::BrokenPipe.into());
            };
            if answer.id != request.id {
                // Made for one who gave up.
                fds.iter().for_each(birth::kill);
                continue;
            }
            return Ok(match (answer.error, fds.pop()) {
                (None, Some(process)) => Ok((answer.pid, process)),
                (error, _) => Err(io::Error::other(error.unwrap_or_else(|| "no process came back".into()))),
            });
        }
    }

    async fn receive(&self) -> io::Result<Option<(Answer, Vec<OwnedFd>)>> {
        loop {
            let mut guard = self.socket.readable().await?;
            if let Ok(done) = guard.try_io(|socket| birth::receive(socket.as_raw_fd())) {
                return done;
            }
        }
    }
}

fn socket_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut pair = [-1; 2];
    // SAFETY: the kernel fills in two descriptors, ours from then on.
    let (ours, theirs) = unsafe {
        let kind = libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC;
        if libc::socketpair(libc::AF_UNIX, kind, 0, pair.as_mut_ptr()) < 0 {
            return Err(io::Error::last_os_error());
        }
        (OwnedFd::from_raw_fd(pair[0]), OwnedFd::from_raw_fd(pair[1]))
    };
    pipes::never_block(&ours)?;
    Ok((ours, theirs))
}
