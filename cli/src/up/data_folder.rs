//! The data folder of one `windfall up`: what outlives it, and what tells others how to reach it.
//!
//! **Promises:** one `up` at a time; what holds a secret is readable by its owner only, from its first byte on.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use actors::store::Credentials;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use super::nats_server;
use crate::client::PROPERTIES;
use crate::failure::{Failure, Outcome};
use crate::operator::SETTINGS;

/// The user of the house's own account at the private nats-server.
pub const HOUSE_USER: &str = "windfall";

/// The namespace that every cluster has from its first start.
pub const FIRST_NAMESPACE: &str = "guest";

/// A data folder.
#[derive(Debug, Clone)]
pub struct DataFolder {
    root: PathBuf,
}

/// What is made at the first start and kept.
#[derive(Clone, Serialize, Deserialize)]
pub struct Secrets {
    /// Marks every process of this cluster in its environment.
    pub cluster: String,
    /// The house's own password at NATS.
    pub nats_password: String,
    /// Namespaces with a user at the private nats-server.
    pub namespaces: BTreeMap<String, Key>,
}

/// A namespace's key.
#[derive(Clone, Serialize, Deserialize)]
pub struct Key {
    /// Its user.
    pub uuid: String,
    /// Its password.
    pub key: String,
}

/// Held as long as this process is the `up` of a folder.
pub struct Lock {
    file: Flock<File>,
}

impl Drop for Lock {
    /// The pid is not ours for ever.
    fn drop(&mut self) {
        let _ = self.file.set_len(0);
    }
}

impl DataFolder {
    /// The folder, made if it is not there.
    pub fn open(path: &Path) -> Outcome<Self> {
        let cannot = |error: io::Error| {
            Failure::usage(format!(
                "cannot use the data folder {}: {error}. Choose another with --data",
                path.display()
            ))
        };
        fs::create_dir_all(path).map_err(cannot)?;
        let root = fs::canonicalize(path).map_err(cannot)?;
        fs::create_dir_all(root.join("log")).map_err(cannot)?;
        Ok(Self { root })
    }

    /// The folder of a cluster that is running with a private nats-server; `None` if there is none at `path`.
    pub fn of_running(path: &Path) -> Option<Self> {
        let root = fs::canonicalize(path).ok()?;
        let folder = Self { root };
        folder.nats_pid().map(|_| folder)
    }

    /// A file or folder in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Keeps other `up`s away.
    pub fn lock(&self) -> Outcome<Lock> {
        let path = self.path("up.lock");
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path)?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(mut lock) => {
                lock.set_len(0)?;
                write!(lock, "{}", std::process::id())?;
                Ok(Lock { file: lock })
            }
            Err((mut file, _)) => {
                let mut pid = String::new();
                file.read_to_string(&mut pid)?;
                Err(Failure::usage(format!(
                    "another `windfall up` (process {}) runs in {}. Stop it first, or choose another folder with --data",
                    pid.trim(),
                    self.root.display()
                )))
            }
        }
    }

    /// The secrets, made at the first start.
    pub fn secrets(&self) -> Outcome<Secrets> {
        let path = self.path("secrets.json");
        match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| {
                Failure::usage(format!(
                    "{} is damaged ({error}). Restore it, or remove the data folder to begin anew",
                    path.display()
                ))
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let guest = Credentials::random();
                let key = Key { uuid: guest.uuid, key: guest.key };
                let secrets = Secrets {
                    cluster: format!("{:032x}", crate::nats_door::chance()?),
                    nats_password: Credentials::random().key,
                    namespaces: BTreeMap::from([(FIRST_NAMESPACE.to_owned(), key)]),
                };
                self.keep(&secrets)?;
                Ok(secrets)
            }
            Err(error) => Err(Failure::usage(format!("cannot read {}: {error}", path.display()))),
        }
    }

    fn keep(&self, secrets: &Secrets) -> Outcome {
        let json = serde_json::to_string_pretty(secrets)?;
        self.write_private("secrets.json", &json)
    }

    /// Writes a file that only its owner can read. It replaces the old one whole or not at all.
    pub fn write_private(&self, name: &str, text: &str) -> Outcome {
        let new = self.path(&format!("{name}.new"));
        // One that was left by a crash may have other permissions.
        let _ = fs::remove_file(&new);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, self.path(name))?;
        Ok(())
    }

    /// Tells clients how to reach the cluster. Returns where.
    pub fn announce(&self, api: &str, nats: &str, guest: &Key) -> Outcome<PathBuf> {
        let text = format!(
            "APIHOST={api}\nAUTH={}:{}\nNAMESPACE={FIRST_NAMESPACE}\nWINDFALL_NATS={nats}\n",
            guest.uuid, guest.key
        );
        self.write_private(PROPERTIES, &text)?;
        Ok(self.path(PROPERTIES))
    }

    /// Gives the roles their settings. Returns where.
    pub fn write_settings(&self, toml: &str) -> Outcome<PathBuf> {
        self.write_private(SETTINGS, toml)?;
        Ok(self.path(SETTINGS))
    }

    /// A log file for a process, begun anew; the one before is kept as `<name>.log.1`.
    pub fn log(&self, name: &str) -> Outcome<File> {
        let path = self.log_path(name);
        if path.exists() {
            fs::rename(&path, path.with_extension("log.1"))?;
        }
        Ok(OpenOptions::new().append(true).create(true).mode(0o600).open(&path)?)
    }

    /// Where a process's log is.
    pub fn log_path(&self, name: &str) -> PathBuf {
        self.path("log").join(format!("{name}.log"))
    }

    /// Gives a namespace a user at the private nats-server, from its next reload on.
    pub fn admit_to_nats(&self, namespace: &str, credentials: &Credentials) -> Outcome {
        let mut secrets = self.secrets()?;
        let key = Key { uuid: credentials.uuid.clone(), key: credentials.key.clone() };
        secrets.namespaces.insert(namespace.to_owned(), key);
        self.keep(&secrets)?;
        self.write_private(nats_server::USERS, &nats_server::users(&secrets))
    }

    /// Has the private nats-server read its configuration again, if it runs.
    pub fn reload_nats(&self) -> Outcome {
        if let Some(pid) = self.nats_pid() {
            kill(pid, Signal::SIGHUP)?;
        }
        Ok(())
    }

    /// The private nats-server, if it runs. A pid that was reused by another program is not it.
    fn nats_pid(&self) -> Option<Pid> {
        let text = fs::read_to_string(self.path(nats_server::PID)).ok()?;
        let pid: i32 = text.trim().parse().ok().filter(|pid| *pid > 1)?;
        let command = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let mine = self.path(nats_server::CONFIGURATION);
        let is_mine =
            command.split(|byte| *byte == 0).any(|part| part == mine.as_os_str().as_encoded_bytes());
        is_mine.then(|| Pid::from_raw(pid))
    }
}
