//! From an order to a loaded function: the cold start.
//!
//! **Knows:** the steps and which of them may go on at the same time.
//! **Promises:** a function's code is not loaded before its process is in its group; a start that fails
//! leaves nothing behind.
//! **Gives up:** retrying; whoever ordered decides.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Instant;

use tokio::io::Interest;
use vocabulary::{Mebibytes, MilliCores, Resources, Span};

use crate::birth::{self, Letter, Request, Work};
use crate::catalogue::Runtime;
use crate::cgroup::{Controller, Group, GroupError, Limits as GroupLimits};
use crate::code_cache::CodeInUse;
use crate::hold::{Hold, MemoryDeath, ProcFiles};
use crate::logs::LogBook;
use crate::measure::{Meter, ShortRuns};
use crate::pipes::{self, Tap};
use crate::process::{self, ProcessSandbox};
use crate::register::Register;
use crate::slots::Slot;
use crate::spares::{Spare, Spares};
use crate::talk::{self, Bounds, Ended, Talk};
use crate::wire;
use crate::workshop::Shared;
use crate::{Family, LogLine, Sandbox, StartError, StartOrder, Verdict};

/// The longest variable that Linux takes (`MAX_ARG_STRLEN`), its name included.
const VARIABLE_MAX: usize = 131_072 - 2;
/// A quarter of the default stack, which is what Linux allows all arguments and variables together.
const VARIABLES_MAX: usize = 1 << 20;
/// The longest answer to loading: an error text.
const INIT_ANSWER_MAX: u64 = 65_536;

/// A sandbox on its way.
pub(crate) struct Start<'a> {
    shared: &'a Shared,
    order: &'a StartOrder,
    runtime: &'a Runtime,
    started: Instant,
}

impl<'a> Start<'a> {
    pub(crate) fn new(shared: &'a Shared, order: &'a StartOrder, runtime: &'a Runtime) -> Self {
        Self { shared, order, runtime, started: Instant::now() }
    }

    /// All of it.
    pub(crate) async fn carry_out(self) -> Result<Box<dyn Sandbox>, StartError> {
        self.check()?;
        let limit = self.shared.settings.sandboxes_limit;
        let slot = self.shared.slots.take().ok_or(StartError::Full { limit })?;
        let code = self.code().await?;
        let family = self.runtime.kind.family();
        let by_zygote = family == Family::Python && self.shared.python.is_some();
        let place = self.place(&slot, &code)?;

        let host = |doing: &'static str| move |error| StartError::host(doing, error);
        let nursery = match &self.shared.python {
            Some(zygote) if by_zygote => zygote,
            _ => &self.shared.exec,
        };
        let spare = self.shared.spares.as_ref().filter(|_| by_zygote).and_then(Spares::take);
        let request = Request {
            id: 0,
            name: self.order.name.clone(),
            uid: place.uid,
            code: place.outside.clone(),
            tmp: self.tmp_size().bytes(),
            home: place.home.clone(),
            work: if by_zygote { Work::Python } else { Work::Program },
        };
        // What a spare is told before its letter: who it is to be.
        let mut orders = Vec::new();
        let (born, pipes, group) = match spare {
            Some(Spare { pid, process, pipes, group }) => {
                orders =
                    serde_json::to_vec(&request).map_err(|error| host("write a letter")(error.into()))?;
                orders.push(b'\n');
                (Ok((pid, process)), pipes, self.group_of_spare(group))
            }
            None => {
                let mut pipes = Pipes::make(!by_zygote).map_err(host("make the pipes of a sandbox"))?;
                let theirs = std::mem::take(&mut pipes.theirs);
                let (born, group) = tokio::join!(nursery.birth(request, &theirs), self.group());
                (born, pipes, group)
            }
        };
        let (pid, process) = match born {
            Ok(born) => born,
            Err(error) => {
                if let Ok(Some(group)) = group {
                    let _ = group.remove();
                    self.shared.register.forget(&group);
                }
                return Err(StartError::host("make a process", error));
            }
        };
        let in_group = group.and_then(|group| {
            if let Some(group) = group.as_ref().filter(|_| orders.is_empty()) {
                group.add(u32::try_from(pid).unwrap_or(0))?;
            }
            Ok(group)
        });
        let (group, refused) = match in_group {
            Ok(group) => (group, None),
            Err(error) => (None, Some(error)),
        };
        let dials = group.as_ref().map(Group::dials);
        let counted = dials.as_ref().is_some_and(|dials| dials.has_cpu() && dials.has_memory());
        let hold = Arc::new(Hold {
            name: self.order.name.clone(),
            pid,
            process,
            dials: dials.filter(|_| counted),
            group,
            namespaced: self.shared.enforcement.namespaces,
            scratch: place.scratch.clone(),
            killed: AtomicBool::new(false),
            paused: AtomicBool::new(false),
            gone: AtomicBool::new(false),
            proc_files: ProcFiles::of(pid, !counted),
            cpu_seen: AtomicU64::new(0),
            short_runs: ShortRuns::default(),
            throttled_seen: AtomicU64::new(0),
            borrowed: Mutex::new(Some((slot, code.clone()))),
        });
        let end =
            pipes::watched(hold.clone(), Interest::READABLE).map_err(host("watch a sandbox's process"))?;
        let mut talk = Talk {
            orders: pipes.orders,
            answers: pipes.answers,
            stdout: pipes.stdout,
            stderr: pipes.stderr,
            end,
            answer: Vec::new(),
            in_step: false,
            late_lines: 0,
        };
        let loaded = match refused {
            Some(error) => Err(StartError::host("put a process into its group", io::Error::other(error))),
            None => self.load(&mut talk, &hold, pipes.status, &place, &code, orders).await,
        };
        let talk = Arc::new(tokio::sync::Mutex::new(talk));
        match loaded {
            Ok(init_logs) => {
                self.shared.register.watch(&talk);
                Ok(Box::new(ProcessSandbox {
                    hold,
                    talk,
                    register: self.shared.register.clone(),
                    init_took: self.took(),
                    init_logs,
                    line: Vec::new(),
                    has_answered: false,
                    last_end: Instant::now(),
                }))
            }
            Err(error) => {
                process::stop(hold, &talk, &self.shared.register).await;
                Err(error)
            }
        }
    }

    fn check(&self) -> Result<(), StartError> {
        let name = &self.order.name;
        let legal = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        if name.is_empty() || name.len() > 63 || !name.bytes().all(legal) || name == crate::cgroup::AGENT {
            let message = format!("'{name}' is not 1 to 63 characters of [a-z0-9-], or is taken");
            return Err(StartError::host("name a sandbox", io::Error::other(message)));
        }
        let bad = |message: String| Err(StartError::BadCode { message });
        let mut total = 0;
        for (name, value) in &self.order.env {
            if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
                return bad(format!("The variable {name:?} cannot be put into an environment."));
            }
            if name.len() + value.len() > VARIABLE_MAX {
                return bad(format!("The variable {name:?} is longer than {VARIABLE_MAX} bytes."));
            }
            total += name.len() + value.len() + 2;
        }
        if total > VARIABLES_MAX {
            return bad(format!("The variables are longer than {VARIABLES_MAX} bytes together."));
        }
        Ok(())
    }

    async fn code(&self) -> Result<CodeInUse, StartError> {
        let family = self.runtime.kind.family();
        if let Some(code) = self.shared.code.find(family, &self.order.code) {
            return Ok(code);
        }
        let (cache, code) = (self.shared.code.clone(), self.order.code.clone());
        tokio::task::spawn_blocking(move || cache.unpack(family, &code))
            .await
            .map_err(|error| StartError::host("unpack the code", io::Error::other(error)))?
    }

    /// Where the function will find its code and its scratch space.
    fn place(&self, slot: &Slot, code: &CodeInUse) -> Result<Place, StartError> {
        let settings = &self.shared.settings;
        let uid = self.shared.enforcement.users.then(|| settings.uid_base + slot.number);
        if self.shared.enforcement.namespaces {
            return Ok(Place {
                uid,
                outside: Path::new(birth::CODE).join(&code.name),
                folder: PathBuf::from(birth::FUNCTION),
                runtimes: PathBuf::from(birth::RUNTIMES),
                home: PathBuf::from("/tmp"),
                scratch: None,
            });
        }
        let folder = self.shared.code.folder(code);
        let home = self.shared.folders.tmp.join(&self.order.name);
        std::fs::create_dir(&home)
            .and_then(|()| uid.map_or(Ok(()), |uid| std::os::unix::fs::chown(&home, Some(uid), Some(uid))))
            .map_err(|error| StartError::host("make scratch space", error))?;
        Ok(Place {
            uid,
            outside: folder.clone(),
            folder,
            runtimes: self.shared.folders.runtimes.clone(),
            home: home.clone(),
            scratch: Some(home),
        })
    }

    fn tmp_size(&self) -> Mebibytes {
        let half = Mebibytes(self.order.ceiling.memory.0 / 2).max(Mebibytes(1));
        self.shared.settings.tmp_limit.min(half)
    }

    /// Makes the sandbox's group.
    async fn group(&self) -> Result<Option<Group>, GroupError> {
        let Some(vm) = self.shared.group.clone() else { return Ok(None) };
        let pids = self.shared.settings.pids_limit;
        let (name, register) = (self.order.name.clone(), self.shared.register.clone());
        make_group(vm, register, name, (self.order.ceiling, self.order.weight), pids).await.map(Some)
    }

    /// The group of a spare, with the limits of this sandbox: its process is in it already.
    fn group_of_spare(&self, group: Option<Group>) -> Result<Option<Group>, GroupError> {
        if let Some(group) = &group {
            limit(group, (self.order.ceiling, self.order.weight))?;
        }
        Ok(group)
    }

    /// Tells the process what it is, and waits until it has loaded it.
    async fn load(
        &self,
        talk: &mut Talk,
        hold: &Arc<Hold>,
        status: Option<Tap>,
        place: &Place,
        code: &CodeInUse,
        mut line: Vec<u8>,
    ) -> Result<Vec<LogLine>, StartError> {
        let mut env = Vec::new();
        if place.scratch.is_some() {
            let home = place.home.to_string_lossy().into_owned();
            env.extend([("HOME".to_owned(), home.clone()), ("TMPDIR".to_owned(), home)]);
        }
        env.extend(self.order.env.iter().cloned());
        if let Some(mut status) = status {
            let letter = self.letter(place, code, crate::environment(&env));
            self.become_program(talk, &mut status, &letter).await?;
        }
        if self.runtime.kind.family() == Family::Native {
            talk.in_step = true;
            return Ok(Vec::new());
        }
        let letter = serde_json::to_vec(&serde_json::json!({
            "folder": place.folder,
            "main": self.order.main.as_deref().filter(|main| !main.is_empty()).unwrap_or("main"),
            "archive": code.is_archive,
            "env": env.into_iter().collect::<std::collections::BTreeMap<_, _>>(),
        }))
        .map_err(|error| StartError::host("write a letter", error.into()))?;
        line.extend(letter);
        line.push(b'\n');

        let bounds = Bounds { timeout: self.time_left().into(), answer_limit: INIT_ANSWER_MAX };
        let mut book = LogBook::new(self.order.log_limit);
        let mut meter = Meter::start(hold.clone(), std::time::Duration::ZERO);
        let ended = talk.exchange(&line, &bounds, &mut book, &mut meter).await;
        meter.finish();
        let took = self.took();
        let line = match ended {
            Ended::Line(line) | Ended::TooLong { truncated: line, .. } => line,
            Ended::TimedOut => {
                return Err(StartError::TimedOut { logs: book.finish(), took: self.order.timeout });
            }
            Ended::Gone { .. } => {
                let logs = book.finish();
                return Err(match hold.memory_death() {
                    MemoryDeath::OwnCeiling => StartError::OutOfMemory { logs, took },
                    MemoryDeath::VmFull => {
                        let message = "the VM as a whole ran out of memory";
                        StartError::host("load the code", io::Error::new(io::ErrorKind::OutOfMemory, message))
                    }
                    MemoryDeath::None => StartError::Exited { logs, took },
                });
            }
        };
        if line.first() == Some(&b'?') {
            let message = serde_json::from_slice::<String>(&line[1..]).unwrap_or_default();
            return Err(StartError::host("make a sandbox", io::Error::other(message)));
        }
        match wire::read_answer(line) {
            Verdict::Answered(_) => Ok(book.finish()),
            Verdict::Broke { message } => Err(StartError::Init { message, logs: book.finish(), took }),
            _ => {
                let message = "Something in the code wrote to descriptor 3 while it was loaded.".to_owned();
                Err(StartError::Init { message, logs: book.finish(), took })
            }
        }
    }

    fn letter(&self, place: &Place, code: &CodeInUse, environment: Vec<(String, String)>) -> Letter {
        let interpreter = || self.runtime.program.clone().unwrap_or_default();
        let launcher = |name| place.runtimes.join(name).to_string_lossy().into_owned();
        let (program, arguments) = match self.runtime.kind.family() {
            Family::Native => (place.folder.join("exec"), Vec::new()),
            Family::Nodejs => (interpreter(), vec![launcher(birth::NODE_LAUNCHER)]),
            Family::Python => {
                let flags = birth::PYTHON_FLAGS.map(String::from).into_iter();
                (interpreter(), flags.chain([launcher(birth::PYTHON_LAUNCHER), "single".into()]).collect())
            }
        };
        let is_native_archive = self.runtime.kind.family() == Family::Native && code.is_archive;
        let folder = if is_native_archive { place.folder.clone() } else { place.home.clone() };
        Letter { program, arguments, environment, folder }
    }

    async fn become_program(
        &self,
        talk: &mut Talk,
        status: &mut Tap,
        letter: &Letter,
    ) -> Result<(), StartError> {
        let host = |error| StartError::host("start a program", error);
        let told = talk::tell(&mut talk.orders, letter, status);
        match tokio::time::timeout(self.time_left().into(), told).await {
            Err(_) => Err(StartError::TimedOut { logs: Vec::new(), took: self.order.timeout }),
            Ok(Err(error)) => Err(host(error)),
            Ok(Ok(trouble)) if trouble.is_empty() => Ok(()),
            // An executable for another machine, or a script whose interpreter is not here.
            Ok(Ok(trouble)) if trouble.starts_with("could not execute") => {
                let message = format!("The code could not be started: {trouble}.");
                Err(StartError::Init { message, logs: Vec::new(), took: self.took() })
            }
            Ok(Ok(trouble)) => Err(host(io::Error::other(trouble))),
        }
    }

    fn took(&self) -> Span {
        self.started.elapsed().into()
    }

    fn time_left(&self) -> Span {
        self.order.timeout - self.took()
    }
}

/// Makes a sandbox's group below the VM's, off this thread: the kernel may take milliseconds for it.
pub(crate) async fn make_group(
    vm: Group,
    register: Arc<Register>,
    name: String,
    share: (Resources, MilliCores),
    pids: u32,
) -> Result<Group, GroupError> {
    let group = name.clone();
    let made = tokio::task::spawn_blocking(move || {
        register.remember(vm.child(&name)?);
        let group = vm.create_child(&name)?;
        limit(&group, share)?;
        if group.controls(Controller::Pids) {
            group.set_pids(pids)?;
        }
        Ok(group)
    });
    let failed =
        |error| GroupError::Kernel { doing: "make the folder", group, source: io::Error::other(error) };
    made.await.unwrap_or_else(|error| Err(failed(error)))
}

fn limit(group: &Group, (ceiling, weight): (Resources, MilliCores)) -> Result<(), GroupError> {
    group.set_limits(GroupLimits { cpu: Some(ceiling.cpu), memory: Some(ceiling.memory) })?;
    if group.controls(Controller::Cpu) {
        group.set_weight(weight)?;
    }
    Ok(())
}

/// Where a function finds things.
struct Place {
    uid: Option<u32>,
    /// Its code, as the nursery sees it.
    outside: PathBuf,
    /// Its code, as it sees it.
    folder: PathBuf,
    runtimes: PathBuf,
    home: PathBuf,
    scratch: Option<PathBuf>,
}

/// All pipes of one sandbox.
pub(crate) struct Pipes {
    orders: pipes::Spout,
    stdout: Tap,
    stderr: Tap,
    answers: Tap,
    status: Option<Tap>,
    /// Their ends, in the order of the descriptors they become.
    pub(crate) theirs: Vec<OwnedFd>,
}

impl Pipes {
    pub(crate) fn make(with_status: bool) -> io::Result<Self> {
        let (orders, their_stdin) = pipes::to_sandbox()?;
        let (stdout, their_stdout) = pipes::from_sandbox()?;
        let (stderr, their_stderr) = pipes::from_sandbox()?;
        let (answers, their_answers) = pipes::from_sandbox()?;
        let mut theirs = vec![their_stdin, their_stdout, their_stderr, their_answers];
        let mut status = None;
        if with_status {
            let (ours, their_status) = pipes::from_sandbox()?;
            theirs.push(their_status);
            status = Some(ours);
        }
        Ok(Self { orders, stdout, stderr, answers, status, theirs })
    }
}
