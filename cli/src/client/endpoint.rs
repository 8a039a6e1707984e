//! Which cluster a client talks to, and with which key.
//!
//! In this order: flags, `WINDFALL_API_HOST` and `WINDFALL_AUTH`, the file named by `WSK_CONFIG_FILE`, the cluster
//! of `windfall up` whose data folder is here, `~/.wskprops`. The nearer wins: a forgotten file in the home
//! folder must not send what was meant for the cluster at hand to another one.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Args;

use crate::failure::{Failure, Outcome};

/// The file in a data folder that says how to reach its cluster, in the format of `.wskprops`.
pub const PROPERTIES: &str = "wskprops";

/// Flags of every client command.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Connection")]
pub struct Connection {
    /// Where the HTTP door is, host:port or http://host:port
    #[arg(long, value_name = "HOST:PORT", env = "WINDFALL_API_HOST")]
    pub api_host: Option<String>,
    /// The namespace's key. Prefer the variable: others on this machine can see flags
    #[arg(long, value_name = "UUID:KEY", env = "WINDFALL_AUTH", hide_env_values = true)]
    pub auth: Option<String>,
    /// Data folder of the `windfall up` to talk to
    #[arg(long, value_name = "DIR", env = "WINDFALL_DATA", default_value = ".windfall")]
    pub data: PathBuf,
}

/// A cluster and a key, and where we know them from.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// `http://host:port`.
    pub base: String,
    /// Who named it.
    pub base_from: String,
    /// `uuid:key`.
    pub auth: String,
    /// Who named it.
    pub auth_from: String,
    /// The namespace of the key, where a file names it.
    pub namespace: Option<String>,
    /// NATS, where a file names it.
    pub nats_url: Option<String>,
}

impl Endpoint {
    /// Finds out whom the user means.
    pub fn find(connection: &Connection) -> Outcome<Self> {
        let (file, properties) = properties(&connection.data)?;
        let named = |key: &str| properties.get(key).filter(|value| !value.is_empty()).cloned();
        let (base, base_from) = match &connection.api_host {
            Some(host) => (host.clone(), "--api-host or WINDFALL_API_HOST".to_owned()),
            None => match named("APIHOST") {
                Some(host) => (host, file.clone()),
                None => ("http://127.0.0.1:3233".to_owned(), "default".to_owned()),
            },
        };
        let (auth, auth_from) = match &connection.auth {
            Some(auth) => (auth.clone(), "--auth or WINDFALL_AUTH".to_owned()),
            None => (named("AUTH").ok_or_else(no_key)?, file),
        };
        if !auth.contains(':') {
            return Err(Failure::usage(format!("the key from {auth_from} is not of the form uuid:key")));
        }
        Ok(Self {
            base: with_scheme(&base)?,
            base_from,
            auth,
            auth_from,
            namespace: named("NAMESPACE").filter(|namespace| namespace != "_"),
            nats_url: named("WINDFALL_NATS"),
        })
    }
}

fn no_key() -> Failure {
    Failure::usage(
        "no key: start a cluster here with `windfall up`, or give its key with WINDFALL_AUTH, --auth, or AUTH=... in ~/.wskprops",
    )
}

fn with_scheme(host: &str) -> Outcome<String> {
    let host = host.trim().trim_end_matches('/');
    if host.starts_with("https://") {
        return Err(Failure::usage(format!(
            "{host}: this client does not speak TLS; name the http:// address behind the proxy"
        )));
    }
    let base = if host.starts_with("http://") { host.to_owned() } else { format!("http://{host}") };
    match reqwest::Url::parse(&base) {
        Ok(url) if url.has_host() => Ok(base),
        _ => Err(Failure::usage(format!("'{host}' is not host:port or http://host:port"))),
    }
}

/// The first properties file there is, and what it says. One that was named must be there.
fn properties(data: &Path) -> Outcome<(String, BTreeMap<String, String>)> {
    if let Some(named) = std::env::var_os("WSK_CONFIG_FILE").map(PathBuf::from) {
        let text = std::fs::read_to_string(&named).map_err(|error| {
            Failure::usage(format!("cannot read {} (from WSK_CONFIG_FILE): {error}", named.display()))
        })?;
        return Ok((named.display().to_string(), parsed(&text)));
    }
    let home = std::env::var_os("HOME").map(|home| Path::new(&home).join(".wskprops"));
    for path in [Some(data.join(PROPERTIES)), home].into_iter().flatten() {
        match std::fs::read_to_string(&path) {
            Ok(text) => return Ok((path.display().to_string(), parsed(&text))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(Failure::usage(format!("cannot read {}: {error}", path.display()))),
        }
    }
    Ok(("default".into(), BTreeMap::new()))
}

fn parsed(text: &str) -> BTreeMap<String, String> {
    text.lines()
        .filter(|line| !line.trim_start().starts_with('#'))
        .filter_map(|line| line.split_once('='))
        .map(|(key, value)| (key.trim().to_owned(), value.trim().trim_matches('"').to_owned()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn properties_are_read_as_wsk_writes_them() {
        let read = parsed("# mine\nAPIHOST=http://h:1\nAUTH = \"a:b=c\"\n\nnonsense\n");
        assert_eq!(read.get("APIHOST").map(String::as_str), Some("http://h:1"));
        assert_eq!(read.get("AUTH").map(String::as_str), Some("a:b=c"));
        assert_eq!(read.len(), 2);
    }

    #[test]
    fn an_address_without_a_scheme_is_http() {
        assert_eq!(with_scheme("h:1").expect("fine"), "http://h:1");
        assert_eq!(with_scheme("http://h:1/").expect("fine"), "http://h:1");
        assert!(with_scheme("https://h").is_err());
        assert!(with_scheme("").is_err());
    }
}
