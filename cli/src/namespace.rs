//! `windfall namespace`: who may call.

use std::time::Duration;

use actors::store::{Credentials, NamespaceLimits, Store};
use async_nats::ConnectOptions;
use bytes::Bytes;
use clap::{Args, Subcommand};
use messages::subjects;
use serde_json::{Value, json};

use crate::configuration::{Configuration, Flags};
use crate::failure::{Exit, Failure, Outcome};
use crate::operator::Operator;
use crate::output;
use crate::up::DataFolder;

/// Make namespaces and see those there are.
#[derive(Debug, Subcommand)]
pub enum NamespaceCommand {
    /// Make a namespace with a key, or give one another key
    Create(Create),
    /// List them, without their keys
    #[command(visible_alias = "ls")]
    List(List),
}

/// `namespace create`.
#[derive(Debug, Args)]
#[command(
    after_help = "The key is printed once and kept only as a hash. On a cluster of `windfall up` the namespace \
can use the NATS door at once; elsewhere give NATS a user with the uuid as its name and the key as its password."
)]
pub struct Create {
    /// Its name
    name: String,
    /// The key it gets; a random one unless given
    #[arg(long, value_name = "UUID:KEY")]
    key: Option<String>,
    /// At most so many invocations a minute
    #[arg(long, value_name = "N")]
    per_minute: Option<u64>,
    /// At most so many invocations at once
    #[arg(long, value_name = "N")]
    concurrent: Option<u64>,
    #[command(flatten)]
    operator: Operator,
}

/// `namespace list`.
#[derive(Debug, Args)]
pub struct List {
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    operator: Operator,
}

/// Carries one out.
pub async fn run(command: NamespaceCommand, flags: Flags) -> Outcome {
    match command {
        NamespaceCommand::Create(create) => self::create(create, flags).await,
        NamespaceCommand::List(list) => self::list(list, flags).await,
    }
}

async fn create(create: Create, flags: Flags) -> Outcome {
    check_name(&create.name)?;
    let given: Option<Credentials> =
        create.key.as_deref().map(str::parse).transpose().map_err(Failure::usage)?;
    let configuration = create.operator.configuration(&flags)?;
    let store = open(&create.operator, &configuration).await?;
    let limits = NamespaceLimits {
        invocations_per_minute: create.per_minute,
        concurrent_invocations: create.concurrent,
    };
    let made = store.namespaces().create(&create.name, given, limits).await?;
    if let Some(folder) = DataFolder::of_running(&create.operator.data) {
        folder.admit_to_nats(&create.name, &made)?;
        if !opens(&folder, &configuration.settings.nats.url, &create.name, &made).await? {
            eprintln!(
                "the NATS door does not answer {} yet; if that lasts, restart `windfall up`",
                create.name
            );
        }
    }
    println!("{}", made.as_text());
    eprintln!("namespace {}; this key is not shown again", create.name);
    Ok(())
}

/// Has nats-server reload until the door answers the new namespace; false if it does not.
///
/// Once should be enough, but nats-server (2.15) connects the imports of a new account with the subscriptions of
/// another only at the reload after the one that made it.
async fn opens(folder: &DataFolder, url: &str, namespace: &str, made: &Credentials) -> Outcome<bool> {
    const RELOADS: usize = 6;
    for _ in 0..RELOADS {
        folder.reload_nats()?;
        tokio::time::sleep(Duration::from_millis(300)).await;
        let user = ConnectOptions::with_user_and_password(made.uuid.clone(), made.key.clone());
        let Ok(nats) = user.connect(url).await else { continue };
        let asked = nats.request(subjects::result(namespace), Bytes::new());
        if let Ok(Ok(_)) = tokio::time::timeout(Duration::from_secs(1), asked).await {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Names as OpenWhisk takes them: `[\w@ .&-]`, no space at either end, and not `_`, which means "my own".
fn check_name(name: &str) -> Outcome {
    let legal = |c: char| c.is_alphanumeric() || "_@ .&-".contains(c);
    let fine = !name.is_empty()
        && name.chars().count() <= 256
        && name != "_"
        && name.trim() == name
        && name.chars().all(legal)
        && name.starts_with(|c: char| c.is_alphanumeric() || c == '_');
    if fine {
        return Ok(());
    }
    Err(Failure::usage(format!(
        "'{name}' cannot name a namespace: 1 to 256 letters, digits and any of _@ .&-, beginning with a letter, digit or _"
    )))
}

async fn list(list: List, flags: Flags) -> Outcome {
    let configuration = list.operator.configuration(&flags)?;
    let store = open(&list.operator, &configuration).await?;
    let all = store.namespaces().list();
    if list.json {
        let all: Vec<Value> =
            all.iter().map(|one| json!({ "namespace": one.namespace, "uuid": one.uuid })).collect();
        println!("{}", output::pretty(&Value::from(all)));
        return Ok(());
    }
    let unlimited = |limit: Option<u64>| limit.map_or_else(|| "default".into(), |limit| limit.to_string());
    let rows: Vec<Vec<String>> = all
        .iter()
        .map(|one| {
            vec![
                one.namespace.clone(),
                one.uuid.clone(),
                unlimited(one.limits.invocations_per_minute),
                unlimited(one.limits.concurrent_invocations),
            ]
        })
        .collect();
    print!("{}", output::table(&["namespace", "uuid", "per minute", "concurrent"], &rows));
    Ok(())
}

async fn open(operator: &Operator, configuration: &Configuration) -> Outcome<Store> {
    let bus = operator.bus(configuration, "windfall namespace").await?;
    Store::open(&bus, &configuration.settings.store)
        .await
        .map_err(|error| Failure::new(Exit::Failed, error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_that_openwhisk_takes() {
        for right in ["guest", "a b", "x@y.z", "_x", "日本"] {
            assert!(check_name(right).is_ok(), "{right}");
        }
        for wrong in ["", "_", " a", "a ", "a/b", "-a", "$", &"a".repeat(257)] {
            assert!(check_name(wrong).is_err(), "{wrong}");
        }
    }
}
