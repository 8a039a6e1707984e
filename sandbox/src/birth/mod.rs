//! The small process that makes sandboxes: the nursery, seen from inside.
//!
//! **Knows:** what [`crate::sandbox_main`] is told on its command line and on its socket.
//! **Promises:** single-threaded from beginning to end, which is what forking into new namespaces needs;
//! whatever it makes dies with it; it holds nothing secret, for its children inherit its memory.
//! **Gives up:** limits. Control groups are the Workshop's business: a child waits for its letter, which is
//! sent when it has been put into its group.
//!
//! One program in two roles. As `exec` it forks, sets up and executes a program per request. As `python` it
//! only prepares the view of the system and then becomes the Python zygote, which forks itself.

mod child;
mod serve;
mod view;

use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use serde::{Deserialize, Serialize};

pub(crate) use child::Letter;
pub(crate) use serve::{Answer, Request, Work, kill, receive, send_bytes};
pub(crate) use view::{CODE, FUNCTION, RUNTIMES};

/// What a nursery is, for its whole life.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Role {
    /// Whether its children get namespaces of their own.
    pub(crate) namespaced: bool,
    /// Unpacked code, one folder per build.
    pub(crate) code: PathBuf,
    /// Our launchers for the interpreters.
    pub(crate) runtimes: PathBuf,
    /// An empty folder to build in; hidden when the view is ready.
    pub(crate) stage: PathBuf,
    /// The most open files of one process.
    pub(crate) open_files: u32,
    /// The Python to become and the modules to import; none to execute programs.
    pub(crate) python: Option<(PathBuf, Vec<String>)>,
}

/// The control socket, handed down as standard input.
pub(crate) const CONTROL: i32 = 0;

pub(crate) fn main(arguments: Vec<OsString>) -> ! {
    let role = arguments
        .last()
        .and_then(|text| text.to_str())
        .and_then(|text| serde_json::from_str::<Role>(text).ok());
    let Some(role) = role else {
        eprintln!("sandbox-init is started by the windfall binary itself; there is nothing to do by hand.");
        std::process::exit(2);
    };
    let Err(error) = live(&role);
    let _ = serve::send(CONTROL, &Answer { error: Some(error.to_string()), ..Answer::default() }, None);
    std::process::exit(1);
}

fn live(role: &Role) -> io::Result<std::convert::Infallible> {
    if role.namespaced {
        view::prepare(role)?;
    }
    let Some((python, modules)) = &role.python else { return serve::serve(role) };
    let launcher = if role.namespaced { PathBuf::from(RUNTIMES) } else { role.runtimes.clone() };
    let mut command = Command::new(python);
    command.args(PYTHON_FLAGS).arg(launcher.join(PYTHON_LAUNCHER)).arg("zygote");
    command.arg(role.open_files.to_string()).args(modules);
    command.env_clear().envs(crate::environment(&[]));
    command.env("WINDFALL_NAMESPACES", if role.namespaced { "1" } else { "0" });
    Err(doing("start Python", command.exec()))
}

/// Isolated from the environment and the current folder, no files written beside the sources, UTF-8.
pub(crate) const PYTHON_FLAGS: [&str; 4] = ["-I", "-B", "-X", "utf8"];

/// Their names in the folder of runtimes.
pub(crate) const PYTHON_LAUNCHER: &str = "launcher.py";
pub(crate) const NODE_LAUNCHER: &str = "launcher.js";

fn doing(what: &str, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("could not {what}: {error}"))
}

/// The result of a system call that answers -1 for failure.
fn checked(what: &str, result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 { Err(doing(what, io::Error::last_os_error())) } else { Ok(result) }
}
