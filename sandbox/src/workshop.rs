//! One per VM process: finds what the machine allows, and makes sandboxes.
//!
//! **Knows:** the machine, through trying: what works once at the opening is used from then on.
//! **Promises:** opens on every Linux machine; what could not be had is said by [`Workshop::enforcement`].
//! **Gives up:** gaining rights later; open a new Workshop.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::birth::{self, Letter, Request, Role, Work};
use crate::catalogue::{self, Catalogue};
use crate::cgroup::{Controller, Group, GroupError, HOUSE};
use crate::code_cache::{CodeCache, CodeLimits};
use crate::nursery::Nursery;
use crate::pipes;
use crate::register::Register;
use crate::slots::Slots;
use crate::spares::{Groups, Spares};
use crate::start::Start;
use crate::{Enforce, Enforcement, Family, Kind, Sandbox, StartError, StartOrder, WorkshopSettings};

/// Why there is no Workshop.
#[derive(Debug, thiserror::Error)]
pub enum WorkshopError {
    /// The machine failed us.
    #[error("could not {doing}: {source}")]
    Host {
        /// What we were doing, as the rest of "could not ...".
        doing: String,
        /// What the machine said.
        source: io::Error,
    },
}

/// Makes sandboxes. One per VM process.
pub struct Workshop {
    shared: Shared,
    catalogue: Catalogue,
    kinds: Vec<Kind>,
    watch: tokio::task::JoinHandle<()>,
    /// A group that we made ourselves, because none was given.
    own_group: Option<Group>,
    closing: AtomicBool,
}

/// What every start needs.
pub(crate) struct Shared {
    pub(crate) settings: WorkshopSettings,
    pub(crate) enforcement: Enforcement,
    pub(crate) folders: Folders,
    pub(crate) slots: Slots,
    pub(crate) code: Arc<CodeCache>,
    pub(crate) register: Arc<Register>,
    /// Whose children the sandboxes' groups are.
    pub(crate) group: Option<Group>,
    pub(crate) exec: Nursery,
    /// None where Python cannot fork itself into a sandbox; it is executed then, which takes longer.
    pub(crate) python: Option<Arc<Nursery>>,
    /// Python's forks that are made in advance.
    pub(crate) spares: Option<Arc<Spares>>,
}

/// What is in the scratch folder.
pub(crate) struct Folders {
    root: PathBuf,
    pub(crate) code: PathBuf,
    pub(crate) runtimes: PathBuf,
    pub(crate) tmp: PathBuf,
    stage: PathBuf,
}

impl Workshop {
    /// Finds out what this machine allows and prepares what all sandboxes share; takes some 100 ms. Needs a
    /// tokio runtime with I/O and time.
    pub async fn open(settings: WorkshopSettings) -> Result<Workshop, WorkshopError> {
        let folders = Folders::make(&settings.scratch)
            .map_err(|source| host(format!("prepare {}", settings.scratch.display()), source))?;
        let mut enforcement = Enforcement::default();
        let (group, own_group) = find_group(&settings, &mut enforcement);
        let exec = open_exec(&settings, &folders, &mut enforcement).await?;

        let uid = enforcement.users.then_some(settings.uid_base);
        let (given_python, given_node) = (settings.python.clone(), settings.node.clone());
        let catalogue = tokio::task::spawn_blocking(move || {
            catalogue::find(given_python.as_deref(), given_node.as_deref(), uid)
        })
        .await
        .map_err(|error| host("look for runtimes", io::Error::other(error)))?;
        let python = open_zygote(&settings, &folders, &enforcement, &catalogue).await.map(Arc::new);

        let limits = CodeLimits {
            unpacked: settings.unpacked_limit,
            entries: settings.unpacked_entries_limit,
            kept: settings.code_cache_limit,
        };
        let register = Arc::new(Register::default());
        let watch = tokio::spawn(Register::look_after(Arc::downgrade(&register)));
        let kinds = catalogue.runtimes.iter().flat_map(|r| [&r.kind].into_iter().chain(&r.aliases));
        let kinds = kinds.cloned().collect();
        let spares = python.as_ref().filter(|_| settings.python_spares > 0).map(|zygote| {
            let (register, pids_limit) = (register.clone(), settings.pids_limit);
            let groups = Groups { vm: group.clone(), register, pids_limit };
            Spares::keep(zygote.clone(), settings.python_spares, groups)
        });
        let shared = Shared {
            slots: Slots::new(settings.sandboxes_limit),
            code: Arc::new(CodeCache::new(folders.code.clone(), limits)),
            settings,
            enforcement,
            folders,
            register,
            group,
            exec,
            python,
            spares,
        };
        Ok(Workshop { shared, catalogue, kinds, watch, own_group, closing: AtomicBool::new(false) })
    }

    /// What is enforced, and what is not. Print it where people will see it.
    pub fn enforcement(&self) -> &Enforcement {
        &self.shared.enforcement
    }

    /// The kinds that can be started here, aliases included.
    pub fn kinds(&self) -> &[Kind] {
        &self.kinds
    }

    /// The runtimes of this machine that sandboxes can use.
    pub fn catalogue(&self) -> &Catalogue {
        &self.catalogue
    }

    /// How often a process that makes sandboxes died and was started anew.
    pub fn nursery_restarts(&self) -> u64 {
        self.shared.exec.restarts() + self.shared.python.as_ref().map_or(0, |zygote| zygote.restarts())
    }

    /// The processes that make sandboxes, for those who want to see what happens when one dies.
    pub async fn nursery_pids(&self) -> Vec<u32> {
        let mut pids: Vec<u32> = self.shared.exec.pid().await.into_iter().collect();
        if let Some(python) = &self.shared.python {
            pids.extend(python.pid().await);
        }
        pids
    }

    /// Processes for Python functions that wait to be taken.
    pub fn python_spares(&self) -> usize {
        self.shared.spares.as_ref().map_or(0, |spares| spares.count())
    }

    /// Starts a sandbox: process made and code loaded.
    pub async fn start(&self, order: StartOrder) -> Result<Box<dyn Sandbox>, StartError> {
        let Some(runtime) = self.catalogue.resolve(&order.kind) else {
            return Err(StartError::NoRuntime { kind: order.kind, available: self.catalogue.to_string() });
        };
        Start::new(&self.shared, &order, runtime).carry_out().await
    }

    /// From now on sandboxes may die because the whole VM ends, which is nobody's mistake: whoever watches one asks
    /// [`Workshop::is_closing`] before he blames its function.
    pub fn begin_closing(&self) {
        self.closing.store(true, Ordering::Release);
    }

    /// Whether the end has begun.
    pub fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    /// Ends what all sandboxes share, and removes scratch space and groups. Stop the sandboxes first; what
    /// is left of them is killed.
    pub async fn close(&self) {
        self.begin_closing();
        self.watch.abort();
        if let Some(spares) = &self.shared.spares {
            spares.close().await;
        }
        if let Some(python) = &self.shared.python {
            python.close().await;
        }
        self.shared.exec.close().await;
        let mut groups = self.shared.register.take_groups();
        groups.extend(self.own_group.clone());
        let root = self.shared.folders.root.clone();
        let cleared = tokio::task::spawn_blocking(move || {
            for group in groups {
                if let Err(error) = group.kill_all(Duration::from_secs(2)).and_then(|()| group.remove()) {
                    tracing::warn!(%error, "a control group stays behind");
                }
            }
            Folders::clear(&root)
        });
        match cleared.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "scratch space stays behind"),
            Err(error) => tracing::error!(%error, "clearing up failed"),
        }
    }
}

impl Drop for Workshop {
    fn drop(&mut self) {
        self.watch.abort();
    }
}

impl Folders {
    const ALL: [&'static str; 4] = ["code", "runtimes", "tmp", "stage"];

    fn make(root: &Path) -> io::Result<Self> {
        fs::create_dir_all(root)?;
        let root = fs::canonicalize(root)?;
        Self::clear(&root)?;
        for name in Self::ALL {
            fs::create_dir(root.join(name))?;
            fs::set_permissions(root.join(name), fs::Permissions::from_mode(0o755))?;
        }
        let runtimes = root.join("runtimes");
        for (name, text) in [
            (birth::PYTHON_LAUNCHER, include_str!("../runtimes/python/launcher.py")),
            (birth::NODE_LAUNCHER, include_str!("../runtimes/nodejs/launcher.js")),
        ] {
            fs::write(runtimes.join(name), text)?;
            fs::set_permissions(runtimes.join(name), fs::Permissions::from_mode(0o644))?;
        }
        Ok(Self { code: root.join("code"), runtimes, tmp: root.join("tmp"), stage: root.join("stage"), root })
    }

    /// Removes what is ours, and nothing else: somebody may have named a folder that he also uses.
    fn clear(root: &Path) -> io::Result<()> {
        for name in Self::ALL {
            match fs::remove_dir_all(root.join(name)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}

fn host(doing: impl Into<String>, source: io::Error) -> WorkshopError {
    WorkshopError::Host { doing: doing.into(), source }
}

/// Finds the group whose children the sandboxes' groups will be, by making one.
fn find_group(settings: &WorkshopSettings, enforcement: &mut Enforcement) -> (Option<Group>, Option<Group>) {
    if settings.enforce == Enforce::Off {
        enforcement.reasons.push("enforcement is switched off".to_owned());
        return (None, None);
    }
    let mut attempt = || -> Result<(Group, Option<Group>), GroupError> {
        let (group, own) = match (&settings.cgroup_parent, Group::own_vm()) {
            (Some(path), _) => (Group::create(path)?, None),
            (None, Some(vm)) => (vm, None),
            (None, None) => {
                sweep();
                let name = group_name(&std::process::id().to_string());
                let made = Group::create(&format!("{HOUSE}/{name}"))?;
                (made.clone(), Some(made))
            }
        };
        let trial = group.create_child("trial")?;
        enforcement.cpu = trial.controls(Controller::Cpu) && trial.controls(Controller::CpuAccounting);
        enforcement.memory = trial.controls(Controller::Memory);
        enforcement.pids = trial.controls(Controller::Pids);
        trial.remove()?;
        Ok((group, own))
    };
    match attempt() {
        Ok((group, own)) => {
            for (has, name) in
                [(enforcement.cpu, "cpu"), (enforcement.memory, "memory"), (enforcement.pids, "pids")]
            {
                if !has {
                    enforcement.reasons.push(format!("no control group with '{name}' in reach"));
                }
            }
            (Some(group), own)
        }
        Err(error) => {
            enforcement.reasons.push(error.to_string());
            (None, None)
        }
    }
}

/// The name of a group of our own. With our PID namespace, because another container that sees the same
/// groups counts its processes anew.
fn group_name(pid: &str) -> String {
    let namespace = fs::read_link("/proc/self/ns/pid").unwrap_or_default();
    let digits = |c: &char| c.is_ascii_digit();
    let namespace: String = namespace.to_string_lossy().chars().filter(digits).collect();
    format!("workshop-{namespace}-{pid}")
}

/// Removes the groups of Workshops that were killed before they could.
fn sweep() {
    let Ok(house) = Group::create(HOUSE) else { return };
    let ours = format!("{HOUSE}/{}", group_name(""));
    for group in house.children() {
        let pid = group.path().strip_prefix(&ours).and_then(|pid| pid.parse::<u32>().ok());
        if pid.is_some_and(|pid| !Path::new("/proc").join(pid.to_string()).exists()) {
            let swept = group.kill_all(Duration::from_secs(2)).and_then(|()| group.remove());
            if let Err(error) = swept {
                tracing::debug!(%error, "a control group that nobody owns stays behind");
            }
        }
    }
}

/// Opens the nursery for programs with as much isolation as a trial shows to work.
async fn open_exec(
    settings: &WorkshopSettings,
    folders: &Folders,
    enforcement: &mut Enforcement,
) -> Result<Nursery, WorkshopError> {
    // SAFETY: takes no argument.
    let is_root = unsafe { libc::geteuid() } == 0;
    let ladder: &[(bool, bool)] = match settings.enforce {
        Enforce::Auto if is_root => &[(true, true), (false, true), (false, false)],
        Enforce::Auto => {
            enforcement.reasons.push("not started by root".to_owned());
            &[(false, false)]
        }
        Enforce::Off => &[(false, false)],
    };
    let mut last = None;
    for (namespaced, users) in ladder.iter().copied() {
        // Other users may not look at code from outside of their sandbox; without a view of their own they
        // need to pass.
        let mode = if namespaced { 0o700 } else { 0o711 };
        fs::set_permissions(&folders.code, fs::Permissions::from_mode(mode))
            .map_err(|source| host("guard the code", source))?;
        let role = role(settings, folders, namespaced, None);
        let attempt = async {
            let nursery = Nursery::open(settings.launcher.clone(), role).await?;
            trial(&nursery, settings, folders, namespaced, users).await?;
            Ok::<_, io::Error>(nursery)
        };
        match attempt.await {
            Ok(nursery) => {
                enforcement.namespaces = namespaced;
                enforcement.users = users;
                return Ok(nursery);
            }
            Err(error) => {
                if namespaced || users {
                    enforcement.reasons.push(error.to_string());
                }
                last = Some(error);
            }
        }
    }
    Err(host(
        format!("start sandboxes through {}", settings.launcher.program.display()),
        last.expect("the ladder has at least one rung"),
    ))
}

fn role(
    settings: &WorkshopSettings,
    folders: &Folders,
    namespaced: bool,
    python: Option<(PathBuf, Vec<String>)>,
) -> Role {
    Role {
        namespaced,
        code: folders.code.clone(),
        runtimes: folders.runtimes.clone(),
        stage: folders.stage.clone(),
        open_files: settings.open_files_limit,
        python,
    }
}

/// Makes one process that does nothing, as every sandbox will be made.
async fn trial(
    nursery: &Nursery,
    settings: &WorkshopSettings,
    folders: &Folders,
    namespaced: bool,
    users: bool,
) -> io::Result<()> {
    let (mut orders, their_orders) = pipes::to_sandbox()?;
    let (mut status, their_status) = pipes::from_sandbox()?;
    let null = || fs::OpenOptions::new().read(true).write(true).open("/dev/null").map(Into::into);
    let home = if namespaced { PathBuf::from("/tmp") } else { folders.tmp.clone() };
    let request = Request {
        id: 0,
        name: "trial".to_owned(),
        uid: users.then_some(settings.uid_base),
        code: if namespaced { birth::CODE.into() } else { folders.code.clone() },
        tmp: 1 << 20,
        home: home.clone(),
        work: Work::Program,
    };
    let descriptors = [their_orders, null()?, null()?, null()?, their_status];
    let (_, process) = nursery.birth(request, &descriptors).await?;
    drop(descriptors);
    let letter = Letter {
        program: "/bin/sh".into(),
        arguments: vec!["-c".into(), ":".into()],
        environment: crate::environment(&[]),
        folder: home,
    };
    let told = crate::talk::tell(&mut orders, &letter, &mut status);
    let trouble = tokio::time::timeout(Duration::from_secs(10), told).await;
    birth::kill(&process);
    match trouble {
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
        Ok(Ok(trouble)) if trouble.is_empty() => Ok(()),
        Ok(Ok(trouble)) => Err(io::Error::other(trouble)),
        Ok(Err(error)) => Err(error),
    }
}

/// Opens the Python zygote, if there is a Python that can be one.
async fn open_zygote(
    settings: &WorkshopSettings,
    folders: &Folders,
    enforcement: &Enforcement,
    catalogue: &Catalogue,
) -> Option<Nursery> {
    let runtime = catalogue.runtimes.iter().find(|runtime| runtime.kind.family() == Family::Python)?;
    let python = (runtime.program.clone()?, settings.zygote_preload.clone());
    let role = role(settings, folders, enforcement.namespaces, Some(python));
    match Nursery::open(settings.launcher.clone(), role).await {
        Ok(nursery) => Some(nursery),
        Err(error) => {
            tracing::warn!(%error, "Python cannot fork sandboxes here; cold starts of Python take longer");
            None
        }
    }
}
