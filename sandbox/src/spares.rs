//! Python processes made in advance, which wait to become a sandbox.
//!
//! **Knows:** a few forks of the zygote, in namespaces of their own already, that know no function yet.
//! **Promises:** never more than were asked for; one that has died is not given away; whoever finds none has a
//! process made, as without spares.
//! **Gives up:** serving a burst: a new one is made a moment after one was taken, not in the way of the start that
//! took it. Spares are in no sandbox's control group; what they hold is counted with the VM's own processes.

use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::birth::{Request, Work};
use crate::nursery::Nursery;
use crate::start::Pipes;

/// The start that took one shall be through before the next one is made.
const AFTER: Duration = Duration::from_millis(15);

/// One of them.
pub(crate) struct Spare {
    pub(crate) pid: i32,
    pub(crate) process: OwnedFd,
    pub(crate) pipes: Pipes,
}

/// All of one zygote.
pub(crate) struct Spares {
    zygote: Arc<Nursery>,
    wanted: usize,
    ready: Mutex<Vec<Spare>>,
    making: AtomicBool,
}

impl Spares {
    /// So many, from now on.
    pub(crate) fn keep(zygote: Arc<Nursery>, wanted: usize) -> Arc<Self> {
        let spares =
            Arc::new(Self { zygote, wanted, ready: Mutex::default(), making: AtomicBool::new(false) });
        spares.refill();
        spares
    }

    /// One that lives, if there is one.
    pub(crate) fn take(self: &Arc<Self>) -> Option<Spare> {
        let taken = loop {
            match self.lock().pop() {
                Some(spare) if !spare.has_ended() => break Some(spare),
                Some(_) => {}
                None => break None,
            }
        };
        self.refill();
        taken
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Spare>> {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn refill(self: &Arc<Self>) {
        if self.count() >= self.wanted || self.making.swap(true, Ordering::SeqCst) {
            return;
        }
        let spares = Arc::downgrade(self);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(AFTER).await;
                let Some(spares) = spares.upgrade() else { return };
                let made = if spares.count() < spares.wanted { spares.make().await } else { None };
                match made {
                    Some(spare) => spares.lock().push(spare),
                    // There are enough; or it cannot be, and the next start says why.
                    None => return spares.making.store(false, Ordering::SeqCst),
                }
            }
        });
    }

    async fn make(&self) -> Option<Spare> {
        let mut pipes = Pipes::make(false).ok()?;
        let request = Request {
            id: 0,
            name: "spare".to_owned(),
            uid: None,
            code: PathBuf::new(),
            tmp: 0,
            home: PathBuf::from("/"),
            work: Work::Spare,
        };
        let theirs = std::mem::take(&mut pipes.theirs);
        match self.zygote.birth(request, &theirs).await {
            Ok((pid, process)) => Some(Spare { pid, process, pipes }),
            Err(error) => {
                tracing::warn!(%error, "could not make a spare process for Python");
                None
            }
        }
    }
}

impl Spare {
    fn has_ended(&self) -> bool {
        let mut polled = libc::pollfd { fd: self.process.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one entry, and no time to wait.
        unsafe { libc::poll(&mut polled, 1, 0) != 0 }
    }
}

impl Drop for Spares {
    fn drop(&mut self) {
        for spare in self.lock().drain(..) {
            crate::birth::kill(&spare.process);
        }
    }
}
