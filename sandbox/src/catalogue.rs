//! Which runtimes this machine has.
//!
//! **Knows:** where Python and Node.js usually are, and asks them which version they are.
//! **Promises:** what it lists was started once and answered.
//! **Gives up:** watching for runtimes that are installed later; open a new Workshop.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::{Family, Kind};

/// One runtime of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Runtime {
    /// Its real kind, such as `python:3`.
    pub kind: Kind,
    /// Other kinds that mean it, such as `python:default`.
    pub aliases: Vec<Kind>,
    /// The full version, such as `3.11.2`; of the protocol for native functions.
    pub version: String,
    /// The interpreter; none for native functions.
    pub program: Option<PathBuf>,
}

/// All runtimes of this machine.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Catalogue {
    /// In the order they are listed for people.
    pub runtimes: Vec<Runtime>,
}

impl Catalogue {
    /// The runtime that `kind` means, an alias or not.
    pub fn resolve(&self, kind: &Kind) -> Option<&Runtime> {
        self.runtimes.iter().find(|runtime| runtime.kind == *kind || runtime.aliases.contains(kind))
    }
}

impl fmt::Display for Catalogue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, runtime) in self.runtimes.iter().enumerate() {
            let separator = if index == 0 { "" } else { ", " };
            write!(f, "{separator}{} ({})", runtime.kind, runtime.version)?;
        }
        Ok(())
    }
}

/// Finds the runtimes of this machine. `python` and `node` name interpreters to use instead of those that
/// are found. Starts each once, which takes some tens of milliseconds: not for a hot path.
pub fn catalogue(python: Option<&Path>, node: Option<&Path>) -> Catalogue {
    find(python, node, None)
}

/// The same, for interpreters that user `uid` can run.
pub(crate) fn find(python: Option<&Path>, node: Option<&Path>, uid: Option<u32>) -> Catalogue {
    let node = candidates(node, "node").iter().find_map(|program| node_at(program, uid));
    let python = candidates(python, "python3").iter().find_map(|program| python_at(program, uid));
    let native = Runtime {
        kind: kind(Family::Native, "1"),
        aliases: vec![kind(Family::Native, "default")],
        version: "1".to_owned(),
        program: None,
    };
    Catalogue { runtimes: node.into_iter().chain(python).chain([native]).collect() }
}

fn kind(family: Family, version: &str) -> Kind {
    Kind::new(family, version).expect("our own versions are well-formed")
}

/// Places to look for a program, the best first.
fn candidates(given: Option<&Path>, name: &str) -> Vec<PathBuf> {
    if let Some(given) = given {
        return vec![given.to_owned()];
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut found: Vec<PathBuf> = std::env::split_paths(&path).map(|folder| folder.join(name)).collect();
    found.extend(["/usr/local/bin", "/usr/bin"].map(|folder| Path::new(folder).join(name)));
    found.retain(|program| program.is_file());
    let mut seen = std::collections::HashSet::new();
    found.retain(|program| seen.insert(program.clone()));
    found
}

fn python_at(program: &Path, uid: Option<u32>) -> Option<Runtime> {
    // Besides its version it names its real executable (a shim may stand in front of it), and shows that
    // it can load what the launcher needs.
    let question =
        "import sys, json, platform, traceback, select; print(sys.executable, platform.python_version())";
    let answer = ask(program, &["-c", question], uid)?;
    let (executable, version) = answer.rsplit_once(' ')?;
    let minor = version.strip_prefix("3.")?.split('.').next()?;
    minor.parse::<u32>().ok().filter(|minor| *minor >= 6)?;
    Some(Runtime {
        kind: kind(Family::Python, "3"),
        aliases: vec![
            kind(Family::Python, "default"),
            Kind::new(Family::Python, &format!("3.{minor}")).ok()?,
        ],
        version: version.to_owned(),
        program: Some(PathBuf::from(executable)),
    })
}

fn node_at(program: &Path, uid: Option<u32>) -> Option<Runtime> {
    let answer = ask(program, &["-p", "process.execPath + ' ' + process.versions.node"], uid)?;
    let (executable, version) = answer.rsplit_once(' ')?;
    let major: u32 = version.split('.').next()?.parse().ok().filter(|major| *major >= 12)?;
    Some(Runtime {
        kind: Kind::new(Family::Nodejs, &major.to_string()).ok()?,
        aliases: vec![kind(Family::Nodejs, "default")],
        version: version.to_owned(),
        program: Some(PathBuf::from(executable)),
    })
}

/// What `program` prints; none if it cannot be run, fails or prints nonsense.
fn ask(program: &Path, arguments: &[&str], uid: Option<u32>) -> Option<String> {
    use std::os::unix::process::CommandExt;
    let mut command = Command::new(program);
    command.args(arguments).env_clear().env("PATH", crate::SAFE_PATH).env("LANG", "C.UTF-8").current_dir("/");
    command.stdin(Stdio::null()).stderr(Stdio::null());
    if let Some(uid) = uid {
        command.uid(uid).gid(uid);
    }
    let output = command.output().ok().filter(|output| output.status.success())?;
    let text = String::from_utf8(output.stdout).ok()?;
    Some(text.trim().to_owned()).filter(|text| !text.is_empty() && text.len() < 4096)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn native_functions_run_everywhere_and_aliases_mean_real_kinds() {
        let catalogue = catalogue(None, None);
        for runtime in &catalogue.runtimes {
            assert_eq!(catalogue.resolve(&runtime.kind), Some(runtime));
            let alias = kind(runtime.kind.family(), "default");
            assert_eq!(catalogue.resolve(&alias), Some(runtime));
        }
        assert!(catalogue.resolve(&kind(Family::Native, "1")).is_some());
        assert!(catalogue.resolve(&kind(Family::Python, "2")).is_none());
    }

    #[test]
    fn an_interpreter_that_is_not_there_is_not_listed() {
        let nowhere = Path::new("/nowhere/at/all");
        let catalogue = catalogue(Some(nowhere), Some(nowhere));
        assert_eq!(catalogue.runtimes.len(), 1);
    }
}
