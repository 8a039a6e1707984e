//! Python processes made in advance, which wait to become a sandbox.
//!
//! **Knows:** a few forks of the zygote, in namespaces of their own already, that know no function yet.
//! **Promises:** never more than were asked for; one that has died is not given away; whoever finds none has a
//! process made, as without spares. Each has a control group of its own already: to join one takes the kernel
//! longer than everything else in a cold start.
//! **Gives up:** serving a burst: a new one is made a moment after one was taken, not in the way of the start that
//! took it.

use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use vocabulary::{Mebibytes, MilliCores, Resources};

use crate::birth::{Request, Work};
use crate::cgroup::Group;
use crate::nursery::Nursery;
use crate::register::Register;
use crate::start::{Pipes, make_group};

/// The start that took one shall be through before the next one is made.
const AFTER: Duration = Duration::from_millis(15);

/// One of them.
pub(crate) struct Spare {
    pub(crate) pid: i32,
    pub(crate) process: OwnedFd,
    pub(crate) pipes: Pipes,
    pub(crate) group: Option<Group>,
}

/// Where their groups are made.
pub(crate) struct Groups {
    pub(crate) vm: Option<Group>,
    pub(crate) register: Arc<Register>,
    pub(crate) pids_limit: u32,
}

/// What one may use until it is told what it is.
const CEILING: Resources = Resources { cpu: MilliCores(1_000), memory: Mebibytes(64) };

/// All of one zygote.
pub(crate) struct Spares {
    zygote: Arc<Nursery>,
    wanted: usize,
    groups: Groups,
    made: AtomicU64,
    ready: Mutex<Vec<Spare>>,
    making: AtomicBool,
    closed: AtomicBool,
}

impl Spares {
    /// So many, from now on.
    pub(crate) fn keep(zygote: Arc<Nursery>, wanted: usize, groups: Groups) -> Arc<Self> {
        let (ready, making, closed) = (Mutex::default(), AtomicBool::new(false), AtomicBool::new(false));
        let spares =
            Arc::new(Self { zygote, wanted, groups, made: AtomicU64::new(0), ready, making, closed });
        spares.refill();
        spares
    }

    /// One that lives, if there is one.
    pub(crate) fn take(self: &Arc<Self>) -> Option<Spare> {
        let taken = loop {
            match self.lock().pop() {
                Some(spare) if !spare.has_ended() => break Some(spare),
                Some(spare) => {
                    let register = self.groups.register.clone();
                    tokio::task::spawn_blocking(move || spare.leave_group(&register));
                }
                None => break None,
            }
        };
        self.refill();
        taken
    }

    /// Makes no more, and lets those that wait go. Before the zygote is closed: who asks it afterwards starts it anew.
    pub(crate) async fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        while self.making.load(Ordering::SeqCst) {
            tokio::time::sleep(AFTER / 4).await;
        }
        self.lock().clear();
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Spare>> {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn refill(self: &Arc<Self>) {
        if self.closed.load(Ordering::SeqCst)
            || self.count() >= self.wanted
            || self.making.swap(true, Ordering::SeqCst)
        {
            return;
        }
        let spares = Arc::downgrade(self);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(AFTER).await;
                let Some(spares) = spares.upgrade() else { return };
                let wanted = !spares.closed.load(Ordering::SeqCst) && spares.count() < spares.wanted;
                let made = if wanted { spares.make().await } else { None };
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
        let (pid, process) = self
            .zygote
            .birth(request, &theirs)
            .await
            .inspect_err(|error| tracing::warn!(%error, "could not make a spare process for Python"))
            .ok()?;
        let mut spare = Spare { pid, process, pipes, group: None };
        if let Some(vm) = self.groups.vm.clone() {
            let name = format!("spare-{}", self.made.fetch_add(1, Ordering::Relaxed));
            let (register, pids) = (self.groups.register.clone(), self.groups.pids_limit);
            let joined =
                make_group(vm, register, name, (CEILING, CEILING.cpu), pids).await.and_then(|group| {
                    group.add(u32::try_from(pid).unwrap_or(0))?;
                    Ok(group)
                });
            match joined {
                Ok(group) => spare.group = Some(group),
                Err(error) => {
                    tracing::warn!(%error, "could not make the group of a spare process");
                    crate::birth::kill(&spare.process);
                    return None;
                }
            }
        }
        Some(spare)
    }
}

impl Spare {
    fn has_ended(&self) -> bool {
        let mut polled = libc::pollfd { fd: self.process.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one entry, and no time to wait.
        unsafe { libc::poll(&mut polled, 1, 0) != 0 }
    }

    /// Removes the group of one that has ended.
    fn leave_group(self, register: &Register) {
        if let Some(group) = self.group
            && group.remove().is_ok()
        {
            register.forget(&group);
        }
    }
}

impl Drop for Spares {
    fn drop(&mut self) {
        for spare in self.lock().drain(..) {
            crate::birth::kill(&spare.process);
        }
    }
}
