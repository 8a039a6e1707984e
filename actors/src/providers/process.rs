//! VMs that are processes of this machine: `windfall vm` in a control group whose limits are the VM's capacity.
//!
//! **Knows:** the folder with one subfolder per VM, and the control groups `windfall/<cluster>/<vm>`.
//! **Promises:** a VM is inside its group before it runs its first instruction; when its process ends, however it
//! ends, everything left in the group is killed at once, that is said, and the group is removed. VMs outlive this process: the next one finds
//! them by their folders, and what a crash left behind without a living VM it clears away. Two clusters on one
//! machine never touch each other's VMs, since groups carry the cluster's name and folders are locked.
//! **Gives up:** confinement without root: then a VM has its size by agreement only, which is said loudly, and what
//! ran in it ends when its pipes close instead of being killed.

mod birth;
mod ledger;
mod pidfd;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::{BoxFuture, join_all};
use sandbox::cgroup::Group;
use tokio::sync::{Mutex as AsyncMutex, mpsc, watch};
use vocabulary::{Mebibytes, Resources, VmId, VmKind};

use super::{Provider, ProviderError};
use crate::settings::Settings;
use birth::Cradle;
use ledger::Ledger;
use pidfd::PidFd;

/// How the provider works.
#[derive(Debug, Clone)]
pub struct ProcessSettings {
    /// The program, usually our own.
    pub program: PathBuf,
    /// Its first arguments, usually `vm`.
    pub arguments: Vec<OsString>,
    /// Environment of every VM beside what it inherits and what is set for it alone (`WINDFALL_VM__ID`,
    /// `WINDFALL_VM__KIND`, `WINDFALL_VM__CGROUP` or its fixed size, `WINDFALL_VM__SCRATCH`).
    pub environment: Vec<(String, String)>,
    /// What each VM is told beyond that. One that is started through another process is told so here.
    pub own: Own,
    /// Name of the cluster: 1 to 200 characters of `[A-Za-z0-9_.@:-]`.
    pub cluster: String,
    /// Folder for VMs, made where it is missing; of one cluster.
    pub folder: PathBuf,
    /// Whether a VM writes to a log file of its own (`<folder>/logs/<vm>.log`) instead of our standard error.
    pub log_files: bool,
    /// Whether VMs get control groups where that is possible.
    pub confine: bool,
    /// What a VM keeps for its agent: its group has so much more memory than was asked for.
    pub headroom: Mebibytes,
    /// From SIGTERM to SIGKILL when one VM is retired.
    pub grace: Duration,
    /// The same when all are, because the cluster stops.
    pub last_grace: Duration,
}

/// Variables of one VM alone, by its id.
#[derive(Clone)]
pub struct Own(Option<Arc<OfVm>>);

type OfVm = dyn Fn(VmId) -> Vec<(String, String)> + Send + Sync;

impl Own {
    /// Nothing.
    pub fn none() -> Self {
        Self(None)
    }

    /// What `of` says. The process that is started becomes the VM's host, and puts its agent into the agent's group.
    pub fn with(of: impl Fn(VmId) -> Vec<(String, String)> + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(of)))
    }

    fn of(&self, vm: VmId) -> Vec<(String, String)> {
        self.0.as_ref().map_or_else(Vec::new, |of| of(vm))
    }

    fn is_host(&self) -> bool {
        self.0.is_some()
    }
}

impl std::fmt::Debug for Own {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.is_host() { "Own(..)" } else { "Own(none)" })
    }
}

impl ProcessSettings {
    /// VMs that run this very program's `vm` command against the NATS of `settings`, in `folder`; logs go to files.
    ///
    /// # Errors
    /// The system does not say which program we are.
    pub fn of(settings: &Settings, cluster: &str, folder: &Path) -> io::Result<Self> {
        let nats = &settings.nats;
        let mut environment = vec![("WINDFALL_NATS__URL".to_owned(), nats.url.clone())];
        if !nats.user.is_empty() {
            environment.push(("WINDFALL_NATS__USER".to_owned(), nats.user.clone()));
            environment.push(("WINDFALL_NATS__PASSWORD".to_owned(), nats.password.clone()));
        }
        if let Some(path) = &nats.credentials {
            environment.push(("WINDFALL_NATS__CREDENTIALS".to_owned(), path.display().to_string()));
        }
        Ok(Self {
            program: std::env::current_exe()?,
            arguments: vec!["vm".into()],
            environment,
            own: Own::none(),
            cluster: cluster.to_owned(),
            folder: folder.to_owned(),
            log_files: true,
            confine: settings.vm.enforce != "off",
            headroom: Mebibytes(settings.vm.headroom),
            grace: Duration::from_secs(30),
            last_grace: Duration::from_secs(3),
        })
    }
}

/// VMs of this machine.
pub struct ProcessProvider {
    shared: Arc<Shared>,
    ended: AsyncMutex<mpsc::UnboundedReceiver<VmId>>,
}

struct Shared {
    settings: ProcessSettings,
    ledger: Ledger,
    /// `windfall/<cluster>`, where VMs are confined.
    house: Option<Group>,
    alive: Mutex<BTreeMap<VmId, Alive>>,
    /// Launches go one after the other: two of the same id must not race.
    launching: AsyncMutex<()>,
    /// Unbounded, but holds at most one entry per VM that was alive.
    endings: mpsc::UnboundedSender<VmId>,
}

#[derive(Clone)]
struct Alive {
    process: Arc<PidFd>,
    gone: watch::Receiver<bool>,
    /// Its process has ended, and the rest is being cleared away.
    is_dying: bool,
}

impl ProcessProvider {
    /// Takes over `settings.folder`: adopts the VMs that live, clears away what is left of those that do not.
    /// Must be called on a tokio runtime.
    pub fn open(settings: ProcessSettings) -> Result<Self, ProviderError> {
        let ledger = Ledger::open(&settings.folder, &settings.cluster).map_err(|error| {
            ProviderError::Setup(format!("cannot use {} for VMs: {error}", settings.folder.display()))
        })?;
        let house = match settings.confine {
            true => confinement(&settings.cluster)?,
            false => None,
        };
        let (endings, ended) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared {
            settings,
            ledger,
            house,
            alive: Mutex::default(),
            launching: AsyncMutex::new(()),
            endings,
        });
        shared.adopt();
        Ok(Self { shared, ended: AsyncMutex::new(ended) })
    }

    /// What is enforced on VMs, in a sentence.
    pub fn enforcement(&self) -> String {
        match &self.shared.house {
            Some(group) => format!("VMs are confined by control groups below {}", group.path()),
            None => "VMs are not confined: their size is by agreement only".to_owned(),
        }
    }

    async fn retire(&self, vm: VmId, grace: Duration) -> Result<(), ProviderError> {
        let Some(mut alive) = self.shared.alive(vm) else { return Ok(()) };
        alive.process.signal(libc::SIGTERM);
        if alive.is_gone_within(grace).await {
            return Ok(());
        }
        tracing::info!(%vm, "a VM did not end by itself in time and is killed");
        alive.process.signal(libc::SIGKILL);
        // The kernel takes its time where memory is tight.
        if alive.is_gone_within(Duration::from_secs(10)).await {
            return Ok(());
        }
        Err(ProviderError::Retire { vm, reason: "its process does not die".to_owned() })
    }
}

impl Provider for ProcessProvider {
    fn name(&self) -> &'static str {
        "process"
    }

    fn launch(&self, vm: VmId, kind: VmKind, size: Resources) -> BoxFuture<'_, Result<(), ProviderError>> {
        // In a task of its own: who asked may be gone before the VM is there, and it must be watched all the same.
        let launched = tokio::spawn(self.shared.clone().launch(vm, kind, size));
        Box::pin(async move {
            launched
                .await
                .unwrap_or_else(|error| Err(ProviderError::Launch { vm, reason: error.to_string() }))
        })
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<VmId>, ProviderError>> {
        Box::pin(async {
            let living = self.shared.all().into_iter().filter(|(_, alive)| !alive.is_dying);
            Ok(living.map(|(vm, _)| vm).collect())
        })
    }

    fn retire(&self, vm: VmId) -> BoxFuture<'_, Result<(), ProviderError>> {
        Box::pin(self.retire(vm, self.shared.settings.grace))
    }

    fn next_ended(&self) -> BoxFuture<'_, VmId> {
        Box::pin(async {
            match self.ended.lock().await.recv().await {
                Some(vm) => vm,
                None => std::future::pending().await,
            }
        })
    }

    fn retire_all(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            // Whoever is being started is waited for, and then retired with the others.
            let _one_at_a_time = self.shared.launching.lock().await;
            let grace = self.shared.settings.last_grace;
            let vms = self.shared.all().into_keys();
            for ended in join_all(vms.map(|vm| self.retire(vm, grace))).await {
                if let Err(error) = ended {
                    tracing::error!(%error, "a VM is left behind");
                }
            }
            if let Some(house) = &self.shared.house
                && let Err(error) = house.remove()
            {
                tracing::warn!(%error, "a control group is left behind");
            }
        })
    }
}

impl Alive {
    async fn is_gone_within(&mut self, patience: Duration) -> bool {
        // An error means that the watcher is gone, and it goes last.
        tokio::time::timeout(patience, self.gone.wait_for(|gone| *gone)).await.is_ok()
    }
}

impl Shared {
    fn all(&self) -> BTreeMap<VmId, Alive> {
        self.alive.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn launch(self: Arc<Self>, vm: VmId, kind: VmKind, size: Resources) -> Result<(), ProviderError> {
        let _one_at_a_time = self.launching.lock().await;
        if self.alive(vm).is_some() {
            return Ok(());
        }
        let trouble = |reason: String| ProviderError::Launch { vm, reason };
        let shared = self.clone();
        let born = tokio::task::spawn_blocking(move || {
            let cradle =
                Cradle { settings: &shared.settings, ledger: &shared.ledger, house: shared.house.as_ref() };
            cradle.start(vm, kind, size).inspect_err(|_| shared.clear(vm))
        });
        let born = born.await.map_err(|error| trouble(error.to_string()))?;
        let (mut child, process) = born.map_err(|error| trouble(error.to_string()))?;
        tracing::info!(%vm, pid = child.id(), "started a VM");
        self.watch(vm, process, async move {
            match child.wait().await {
                Ok(status) => tracing::info!(%vm, %status, "a VM has ended"),
                Err(error) => tracing::warn!(%vm, %error, "cannot learn how a VM ended"),
            }
        });
        Ok(())
    }

    fn alive(&self, vm: VmId) -> Option<Alive> {
        self.alive.lock().unwrap_or_else(PoisonError::into_inner).get(&vm).cloned()
    }

    /// VMs of a predecessor: those that live are watched, what is left of the others is cleared away.
    fn adopt(self: &Arc<Self>) {
        for vm in self.ledger.vms() {
            match self.ledger.living(vm) {
                Some(process) => {
                    tracing::info!(%vm, "found a VM that was left running");
                    self.watch(vm, process, std::future::ready(()));
                }
                None => self.clear(vm),
            }
        }
        let Some(house) = &self.house else { return };
        for group in house.children() {
            let name = group.path().rsplit('/').next().unwrap_or_default();
            if let Ok(vm) = name.parse::<VmId>()
                && self.alive(vm).is_none()
            {
                tracing::info!(%vm, "clearing away what a lost VM has left");
                self.clear(vm);
            }
        }
    }

    /// Waits in the background for the end of `process` (and then `reap`), clears away what is left and says so.
    fn watch(self: &Arc<Self>, vm: VmId, process: PidFd, reap: impl Future<Output = ()> + Send + 'static) {
        let (say_gone, gone) = watch::channel(false);
        let process = Arc::new(process);
        let alive = Alive { process: process.clone(), gone, is_dying: false };
        self.alive.lock().unwrap_or_else(PoisonError::into_inner).insert(vm, alive);
        let shared = self.clone();
        tokio::spawn(async move {
            if let Err(error) = process.ended().await {
                tracing::error!(%vm, %error, "cannot watch a VM; it counts as lost");
                process.signal(libc::SIGKILL);
            }
            // Whoever waits for what ran there should not wait for the clearing. Nothing that is left answers anybody: the
            // agent did that.
            let (killing, first) = (shared.clone(), shared.clone());
            if let Err(error) = tokio::task::spawn_blocking(move || killing.kill_once(vm)).await {
                tracing::error!(%vm, %error, "could not kill what is left of a VM");
            }
            first.dying(vm);
            // Nobody listens once the provider is gone.
            let _ = shared.endings.send(vm);
            reap.await;
            let clearing = shared.clone();
            if let Err(error) = tokio::task::spawn_blocking(move || clearing.clear(vm)).await {
                tracing::error!(%vm, %error, "could not clear away what is left of a VM");
            }
            shared.alive.lock().unwrap_or_else(PoisonError::into_inner).remove(&vm);
            // Nobody waits for it once the provider is gone.
            let _ = say_gone.send(true);
        });
    }

    fn dying(&self, vm: VmId) {
        if let Some(alive) = self.alive.lock().unwrap_or_else(PoisonError::into_inner).get_mut(&vm) {
            alive.is_dying = true;
        }
    }

    /// Kills what is in a VM's group, and does not wait.
    fn kill_once(&self, vm: VmId) {
        if let Some(Ok(group)) = self.house.as_ref().map(|house| house.child(&vm.to_string())) {
            group.kill_once();
        }
    }

    /// Kills what is left in a VM's group, removes the group and the VM's folder. Blocks for up to seconds.
    fn clear(&self, vm: VmId) {
        if let Some(house) = &self.house {
            let cleared = house.child(&vm.to_string()).and_then(|group| {
                group.kill_all(Duration::from_secs(5))?;
                group.remove()
            });
            if let Err(error) = cleared {
                tracing::warn!(%vm, %error, "something is left of a VM");
            }
        }
        if let Err(error) = self.ledger.forget(vm) {
            tracing::warn!(%vm, %error, "the folder of a VM is left behind");
        }
    }
}

/// The cluster's group; none, and a loud line, where this machine does not give us any.
fn confinement(cluster: &str) -> Result<Option<Group>, ProviderError> {
    // SAFETY: takes no argument.
    let is_root = unsafe { libc::geteuid() } == 0;
    let path = format!("{}/{cluster}", sandbox::cgroup::HOUSE);
    let group = match Group::create(&path) {
        Ok(group) => group,
        Err(error @ sandbox::cgroup::GroupError::BadPath { .. }) => {
            return Err(ProviderError::Setup(format!("'{cluster}' cannot be a cluster's name: {error}")));
        }
        Err(error) => {
            let cure = if is_root { "" } else { "; run as root, or have a cgroup delegated, to change that" };
            tracing::warn!(%error, "VMS ARE NOT CONFINED: their size is by agreement only{cure}");
            return Ok(None);
        }
    };
    use sandbox::cgroup::Controller::{Cpu, Memory};
    if group.controls(Cpu) && group.controls(Memory) {
        return Ok(Some(group));
    }
    tracing::warn!(
        "VMS ARE NOT FULLY CONFINED: this machine's control groups limit {} only",
        if group.controls(Cpu) { "CPU" } else { "memory" }
    );
    Ok(Some(group))
}
